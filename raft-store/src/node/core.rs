//! The node above its transport: openraft with its store, and what runs beside it. What the agent must know of it is in
//! `facts`, the answers to peers are in `answer`.
//!
//! Everything here runs inside a tokio runtime that somebody else made: a thread of its own in an agent, or paused
//! time in a simulation.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use openraft::{ServerState, SnapshotPolicy};
use proxy_core::time::MonoTime;
use tokio::time::Instant;

use super::batch::{Batcher, Done, Oldest};
use super::client::{Clients, Clock, Transport};
use super::heartbeat::Early;
use super::inbound::ProposeRefused;
use super::pace::{self, Pace};
use super::parts::Parts;
use super::polls::Polls;
use super::purge;
use super::retire::Retired;
use super::schedule::{Schedule, Turn};
use super::sm::{Machine, View};
use super::snapshot::Threads;
use super::time::Time;
use super::timekeeper;
use super::types::{Member, Place, Raft, RaftId, Role, TypeConfig, place_of};
use super::watch::{self, Heard};
use super::word::Words;
use crate::command::Command;
use crate::log::{Gauge, Mode, RaftLog};
use crate::snap::SnapStore;
use crate::time::BootId;
use crate::wire::FIRST_VERSION;

/// Entries in one AppendEntries at most.
const MAX_PAYLOAD_ENTRIES: u64 = 64;

/// Times of a node without others: nobody hears its heartbeats, and nobody else can lead. openraft wakes up at each fifth
/// of a heartbeat, whatever there is to do.
const LONE_HEARTBEAT: Duration = Duration::from_secs(2);
/// See [`LONE_HEARTBEAT`].
const LONE_ELECTION: [Duration; 2] = [Duration::from_secs(6), Duration::from_secs(8)];

/// One node of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its place.
    pub place: Place,
    /// What it may do.
    pub role: Role,
    /// Address of its Raft RPC.
    pub addr: SocketAddr,
}

/// What does not change while a node runs.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// Who this is.
    pub id: RaftId,
    /// All nodes of the configuration, this one too.
    pub places: Vec<Peer>,
    /// Interval of heartbeats.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout; also the lease.
    pub election_max: Duration,
    /// The store was there before: stay silent for one lease, because a promise not to vote may be among what the
    /// former process gave.
    pub silent: bool,
    /// Threads beside the runtime, or none.
    pub mode: Mode,
    /// Called first on the thread that applies entries.
    pub on_apply_thread: Option<fn()>,
    /// Called first on each thread that writes a snapshot.
    pub on_background_thread: Option<fn()>,
    /// When snapshots are written.
    pub snapshots: Schedule,
    /// Which boot CLOCK_BOOTTIME counts from.
    pub boot: BootId,
}

pub(super) struct Inner<T> {
    pub(super) config: CoreConfig,
    pub(super) raft: Raft,
    pub(super) view: Arc<View>,
    pub(super) clients: Clients<T>,
    pub(super) batcher: Batcher,
    pub(super) time: Arc<Time>,
    silent_until: Instant,
    pub(super) parts: Parts,
    joining: tokio::sync::Mutex<()>,
    early: Early,
    pace: Pace,
    pub(super) gauge: Arc<Gauge>,
    pub(super) words: Words,
    /// Set once: from then on nothing is voted nor acknowledged.
    pub(super) retired: tokio::sync::watch::Sender<Option<Retired>>,
    pub(super) heard: Mutex<BTreeMap<Place, Heard>>,
    /// When another node was heard last that led, ns of the monotonic clock; 0: never.
    pub(super) led_at: AtomicU64,
    /// Whose agent has died by the word of its guard, and when that was heard.
    pub(super) told_dead: Mutex<Option<(Place, MonoTime)>>,
    leaderless: tokio::sync::watch::Sender<Option<String>>,
    /// Why this node is no part of its cluster, though it runs.
    outside: Mutex<Option<String>>,
}

/// A running node; clones share it.
pub struct Core<T>(pub(super) Arc<Inner<T>>);

impl<T> Clone for Core<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The timing makes no sense to openraft.
    #[error("timing: {0}")]
    Timing(String),
    /// The newest snapshot cannot be read.
    #[error("the snapshots cannot be read: {0}")]
    Snapshots(#[source] io::Error),
    /// The log begins behind the newest snapshot that verifies: what lies between is lost here.
    #[error("the store is not whole: {0}")]
    Incomplete(String),
    /// openraft does not start.
    #[error("Raft does not start: {0}")]
    Raft(#[from] Fatal<TypeConfig>),
}

fn raft_config(config: &CoreConfig) -> Result<Arc<openraft::Config>, CoreError> {
    let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let (heartbeat, [election_min, election_max]) = match config.places.len() {
        ..=1 => (LONE_HEARTBEAT, LONE_ELECTION),
        _ => (config.heartbeat, [config.election_min, config.election_max]),
    };
    let config = openraft::Config {
        cluster_name: "relevo".into(),
        heartbeat_interval: ms(heartbeat),
        election_timeout_min: ms(election_min),
        election_timeout_max: ms(election_max),
        max_payload_entries: MAX_PAYLOAD_ENTRIES,
        // `Schedule` asks for them.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: purge::KEPT_ENTRIES,
        enable_elect: false,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        ..openraft::Config::default()
    };
    config.validate().map(Arc::new).map_err(|e| CoreError::Timing(e.to_string()))
}

fn turn(config: &CoreConfig) -> Turn {
    let place = place_of(config.id);
    let rank = config.places.iter().filter(|p| p.place < place).count() as u64;
    Turn { rank, nodes: config.places.len() as u64 }
}

/// Reads the newest snapshot, which takes as long as the state is large: not on the thread that answers the other nodes.
async fn open_machine(snaps: Box<dyn SnapStore>, threads: Threads, time: Arc<Time>) -> io::Result<Machine> {
    let open = move || Machine::open(snaps, threads, time);
    match threads.mode {
        Mode::Inline => open(),
        Mode::Thread => tokio::task::spawn_blocking(open).await.map_err(io::Error::other)?,
    }
}

/// Starts a node in the current runtime.
pub async fn start_core<T: Transport>(
    config: CoreConfig,
    transport: T,
    clock: Clock,
    log: RaftLog<TypeConfig>,
    snaps: Box<dyn SnapStore>,
) -> Result<Core<T>, CoreError> {
    let gauge = log.writer().gauge();
    let stored_until = log.writer().with(|log| log.entries().end.saturating_sub(1));
    let time = Arc::new(Time::new(config.boot, stored_until, clock.clone()));
    let threads = Threads {
        mode: config.mode,
        on_apply: config.on_apply_thread,
        on_background: config.on_background_thread,
    };
    let machine = open_machine(snaps, threads, time.clone()).await.map_err(CoreError::Snapshots)?;
    let machine = machine.comparing_every(config.snapshots.compare_entries);
    let purged = log.writer().with(|log| log.purged().map(|(index, _)| index));
    let snapshot = machine.applied().map(|log_id| log_id.index);
    if purged > snapshot {
        let before = purged.unwrap_or_default();
        let newest =
            snapshot.map_or("there is none".into(), |last| format!("the newest ends with entry {last}"));
        return Err(CoreError::Incomplete(format!(
            "the log begins behind entry {before}, and no snapshot that verifies reaches up to there ({newest})"
        )));
    }
    let view = machine.view();
    let (snapshots, writer) = (machine.snapshots(), log.writer().clone());
    let clients = Clients {
        transport,
        acks: Arc::default(),
        entries: Arc::default(),
        polls: Arc::new(Polls::new(config.election_max)),
        gauge: gauge.clone(),
        vote: Arc::default(),
        mute_until: Arc::default(),
        clock,
        transferred_in: Arc::default(),
        refused: Arc::default(),
        mode: config.mode,
    };
    let raft = Raft::new(config.id, raft_config(&config)?, clients.clone(), log, machine).await?;
    let metrics = raft.metrics();
    let of_raft = raft.metrics();
    time.count_terms(move || of_raft.borrow_watched().current_term);
    // Set once, here.
    drop(clients.vote.set(Box::new(move || metrics.borrow_watched().vote)));
    let silent_for =
        if config.silent && config.places.len() > 1 { config.election_max } else { Duration::ZERO };
    let silent_until = Instant::now() + silent_for;
    let is_lone = config.places.len() <= 1;
    let kept = snapshots.clone();
    tokio::spawn(purge::keep_back(raft.clone(), move || kept.lost()));
    let batcher = Batcher::default();
    tokio::spawn(batcher.clone().run(raft.clone(), time.clone(), config.election_max));
    let parts = Parts::new(&snapshots);
    tokio::spawn(config.snapshots.run(turn(&config), raft.clone(), writer, snapshots));
    let inner = Inner {
        config,
        raft: raft.clone(),
        view,
        clients,
        batcher,
        time,
        silent_until,
        parts,
        joining: tokio::sync::Mutex::new(()),
        early: Early::default(),
        pace: Pace::default(),
        gauge,
        words: Words::default(),
        retired: tokio::sync::watch::Sender::default(),
        heard: Mutex::default(),
        led_at: AtomicU64::new(0),
        told_dead: Mutex::default(),
        leaderless: tokio::sync::watch::Sender::default(),
        outside: Mutex::default(),
    };
    let core = Core(Arc::new(inner));
    let electing = core.clone();
    tokio::spawn(async move {
        tokio::time::sleep_until(silent_until).await;
        if electing.is_retired() {
            return;
        }
        raft.runtime_config().elect(true);
        // Nobody to wait for; before it is a member of anything this does nothing.
        if is_lone && let Err(e) = raft.trigger().elect(false).await {
            tracing::warn!(error = %e, "not standing at once");
        }
    });
    if core.config().places.len() > 1 {
        tokio::spawn(core.clone().ask_for_words());
        tokio::spawn(watch::watch(core.clone()));
        tokio::spawn(pace::keep(core.clone()));
    }
    tokio::spawn(timekeeper::keep(core.clone()));
    Ok(core)
}

impl<T: Transport> Core<T> {
    /// openraft itself, for tests and the membership.
    #[must_use]
    pub fn raft(&self) -> &Raft {
        &self.0.raft
    }

    /// What it was started with.
    #[must_use]
    pub fn config(&self) -> &CoreConfig {
        &self.0.config
    }

    /// The replicated state.
    #[must_use]
    pub fn view(&self) -> &Arc<View> {
        &self.0.view
    }

    pub(super) fn clients(&self) -> &Clients<T> {
        &self.0.clients
    }

    pub(super) fn words(&self) -> &Words {
        &self.0.words
    }

    /// The proposal that has waited longest, if this node leads.
    pub(super) fn oldest(&self) -> Option<Oldest> {
        let metrics = self.0.raft.metrics();
        let (state, term) = {
            let m = metrics.borrow_watched();
            (m.state, m.current_term)
        };
        (state == ServerState::Leader).then(|| self.0.batcher.oldest(term)).flatten()
    }

    pub(super) fn early(&self) -> &Early {
        &self.0.early
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.0.pace
    }

    /// The time on the clock that acknowledgements are counted on.
    pub(super) fn now(&self) -> MonoTime {
        (self.0.clients.clock)().mono
    }

    /// Ends this node's part under its id: from here on it neither votes nor acknowledges. Only the first reason counts.
    pub(super) fn retire(&self, why: Retired) {
        self.0.retired.send_if_modified(|retired| {
            let first = retired.is_none();
            if first {
                tracing::error!(why = %why.why, "this node stops voting, and comes back as a new member");
                *retired = Some(why);
            }
            first
        });
        self.0.raft.runtime_config().elect(false);
    }

    /// Told once, if this node must come back under a new id.
    #[must_use]
    pub fn retired(&self) -> tokio::sync::watch::Receiver<Option<Retired>> {
        self.0.retired.subscribe()
    }

    pub(super) fn is_retired(&self) -> bool {
        self.0.retired.borrow().is_some()
    }

    /// Notes why nobody leads, or that somebody does. Returns whether that is news.
    pub(super) fn note_leaderless(&self, why: Option<String>) -> bool {
        self.0.leaderless.send_if_modified(|known| {
            let is_news = *known != why;
            *known = why;
            is_news
        })
    }

    /// Notes why this node is no part of its cluster, or that it is. Returns whether that is news.
    pub(super) fn note_outside(&self, why: Option<String>) -> bool {
        let mut known = self.0.outside.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = *known != why;
        *known = why;
        is_news
    }

    /// Why this node is no part of its cluster, if that is known.
    pub(super) fn outside(&self) -> Option<String> {
        self.0.outside.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why nobody leads; `None`: somebody does, or did a moment ago.
    pub(super) fn leaderless(&self) -> tokio::sync::watch::Receiver<Option<String>> {
        self.0.leaderless.subscribe()
    }

    /// Notes what peers have said.
    pub(super) fn note(&self, heard: impl Iterator<Item = (Place, Heard)>) {
        let mut known = self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, mut new) in heard {
            // What was slow once is forgotten bit by bit: an eighth with every answer.
            let before = known.get(&place).map_or(Duration::ZERO, |old| old.slowest);
            new.slowest = new.took.max(before - before / 8);
            known.insert(place, new);
        }
    }

    /// What the others said last that they have applied, and when they were asked.
    pub(super) fn last_words(&self) -> Vec<(Place, u64, MonoTime)> {
        let heard = self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().map(|(place, heard)| (*place, heard.hello.applied, heard.at)).collect()
    }

    /// This node's reading of the cluster's time.
    #[must_use]
    pub fn time(&self) -> &Arc<Time> {
        &self.0.time
    }

    pub(super) fn joining(&self) -> &tokio::sync::Mutex<()> {
        &self.0.joining
    }

    /// Has commands committed. Never blocks; `done` is called once. What a member cannot read is refused.
    pub fn propose(&self, commands: Vec<Command>, done: Done) {
        let since = commands.iter().map(Command::since_version).max().unwrap_or(FIRST_VERSION);
        match self.unread_by(since) {
            Some(place) => {
                tracing::info!(place, version = since, "refused: a node of an older version cannot read it");
                done(Err(ProposeRefused::Unread));
            }
            None => {
                if since > FIRST_VERSION {
                    // Before the first thing that an older version could not read.
                    self.note_versions();
                }
                self.0.batcher.propose(commands, done);
            }
        }
    }

    /// Stops openraft and refuses what waits.
    pub async fn shutdown(&self) {
        self.0.batcher.close();
        if let Err(e) = self.0.raft.shutdown().await {
            tracing::warn!(error = %e, "Raft did not end well");
        }
    }

    /// A promise of the former process may still hold: no vote is given, and none asked for.
    pub(super) fn silent(&self) -> bool {
        Instant::now() < self.0.silent_until
    }
}

impl From<Peer> for Member {
    fn from(peer: Peer) -> Self {
        Self { addr: peer.addr, role: peer.role }
    }
}
