//! The node above its transport: openraft with its store, what the agent must know of it, and the answers to peers.
//!
//! Everything here runs inside a tokio runtime that somebody else made: a thread of its own in an agent, or paused
//! time in a simulation.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use openraft::raft::SnapshotResponse;
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{ServerState, SnapshotPolicy};
use proxy_core::time::MonoTime;
use tokio::time::Instant;

use super::batch::{Batcher, Done, Oldest};
use super::client::{Clients, Clock, Lane, Transport};
use super::heartbeat::Early;
use super::inbound::{DiskWord, Hello, Inbound, ProposeRefused, Rpc, RpcReply};
use super::net::Path;
use super::parts::{Part, Parts};
use super::polls::Polls;
use super::purge;
use super::retire::Retired;
use super::schedule::{Schedule, Turn};
use super::sm::{Machine, View};
use super::snapshot::{Data, Threads};
use super::time::Time;
use super::timekeeper;
use super::types::{Member, Place, Raft, RaftId, Role, TypeConfig, Vote, incarnation_of, place_of};
use super::watch::{self, Heard};
use super::word::Words;
use crate::command::Command;
use crate::log::{Gauge, Mode, RaftLog, Syncs};
use crate::snap::SnapStore;
use crate::state::{Fitness, Grant, Suspect};
use crate::time::BootId;
use crate::wire::FIRST_VERSION;

/// Entries in one AppendEntries at most.
const MAX_PAYLOAD_ENTRIES: u64 = 64;

/// Times of a node without others: nobody hears its heartbeats, and nobody else can lead. openraft wakes up at each fifth
/// of a heartbeat, whatever there is to do.
const LONE_HEARTBEAT: Duration = Duration::from_secs(1);
/// See [`LONE_HEARTBEAT`].
const LONE_ELECTION: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(4)];

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

/// What this node knows of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerFacts {
    /// Which.
    pub place: Place,
    /// Its Raft id.
    pub id: RaftId,
    /// Entries by which what it has proved to have is behind this log: by its answers in this term, the newest of which
    /// is of `last_ack`. Known by the leader only.
    pub lag: Option<u64>,
    /// The last entry that it has applied, by its own word, and when it was asked for that.
    pub applied: Option<(u64, MonoTime)>,
    /// When the newest message was sent that it acknowledged; known by the leader only.
    pub last_ack: Option<MonoTime>,
    /// It is silent for its first lease: its acknowledgements count, but it would not hear that it shall lead; known by
    /// the leader only.
    pub silent: bool,
    /// Whether it votes. While a membership change is half done: whether it did before and will after it, too.
    pub voter: bool,
    /// The way between this node and it, as far as it was measured; known by every node.
    pub path: Path,
    /// Since when it has not acknowledged entries that it was sent; known by the leader only.
    pub unanswered: Option<MonoTime>,
    /// The slowest acknowledgement of entries within the last minute; known by the leader only.
    pub acknowledges_in: Option<Duration>,
    /// How its disk does, by its own word; asked by a leader whose proposals do not commit.
    pub disk: Option<DiskWord>,
}

/// What Raft knows at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Who this is.
    pub raft_id: RaftId,
    /// Term of the newest vote seen.
    pub term: u64,
    /// The leader, if known.
    pub leader: Option<Place>,
    /// This node leads in `term`.
    pub leading: bool,
    /// Index of the last applied entry.
    pub applied: u64,
    /// Index of the last entry in the log.
    pub last_log: u64,
    /// The newest applied grant.
    pub grant: Option<Grant>,
    /// When the newest message was sent that a quorum acknowledged in `term`.
    pub quorum_ack_at: Option<MonoTime>,
    /// The last term in which this node asked for a transfer of leadership.
    pub transfer_tried_in: Option<u64>,
    /// Why the node that was to lead after `term` cannot, if it said so.
    pub transfer_refused: Option<String>,
    /// The other nodes of the membership.
    pub peers: Vec<PeerFacts>,
    /// The places that something ails, by their own word or an operator's.
    pub fitness: Vec<(Place, Fitness)>,
    /// The messages that engines have died with.
    pub suspects: Vec<Suspect>,
    /// The proposal of this leader that has waited longest: its number, which changes whenever something is committed
    /// and applied, and for how long it has waited.
    pub oldest: Option<(u64, Duration)>,
    /// How long a commit takes at most, measured within the last minute; `None`: unknown.
    pub commit_takes: Option<Duration>,
    /// How long syncs of the log take here.
    pub syncs: Syncs,
    /// A majority could write what another leader proposes, by their own word.
    pub others_could: bool,
    /// Until when this node has abdicated: it says nothing as a leader or candidate.
    pub mute_until: Option<MonoTime>,
    /// For how long something has been waiting for the thread that applies entries, which does not go on.
    pub apply_waits: Option<Duration>,
    /// By how many ms the wall clock of another node is ahead of this one's; of those that were heard a moment ago.
    pub skew: BTreeMap<Place, i64>,
    /// This node's wall clock is wrong, by the word of most.
    pub is_clock_odd: bool,
}

impl Facts {
    /// Packets of full size are known not to pass between this node and so many voters that the rest, with this node,
    /// is no majority.
    #[must_use]
    pub fn is_path_narrow(&self) -> bool {
        let voters = self.peers.iter().filter(|p| p.voter).count() + 1;
        let narrow = self.peers.iter().filter(|p| p.voter && !p.path.is_whole()).count();
        (voters - narrow) * 2 <= voters
    }
}

pub(super) struct Inner<T> {
    config: CoreConfig,
    raft: Raft,
    view: Arc<View>,
    clients: Clients<T>,
    pub(super) batcher: Batcher,
    time: Arc<Time>,
    silent_until: Instant,
    parts: Parts,
    joining: tokio::sync::Mutex<()>,
    early: Early,
    gauge: Arc<Gauge>,
    words: Words,
    /// Set once: from then on nothing is voted nor acknowledged.
    retired: tokio::sync::watch::Sender<Option<Retired>>,
    heard: Mutex<BTreeMap<Place, Heard>>,
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
    let purged = log.writer().with(|log| log.purged().map(|(index, _)| index));
    let snapshot = machine.applied().map(|log_id| log_id.index);
    if purged > snapshot {
        let why =
            format!("the log begins behind entry {purged:?}, the newest good snapshot ends at {snapshot:?}");
        return Err(CoreError::Incomplete(why));
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
    // Set once, here.
    drop(clients.vote.set(Box::new(move || metrics.borrow_watched().vote)));
    let silent_for =
        if config.silent && config.places.len() > 1 { config.election_max } else { Duration::ZERO };
    let silent_until = Instant::now() + silent_for;
    let is_lone = config.places.len() <= 1;
    tokio::spawn(purge::keep_back(raft.clone()));
    let batcher = Batcher::default();
    tokio::spawn(batcher.clone().run(raft.clone(), time.clone()));
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
        gauge,
        words: Words::default(),
        retired: tokio::sync::watch::Sender::default(),
        heard: Mutex::default(),
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
    tokio::spawn(core.clone().ask_for_words());
    if core.config().places.len() > 1 {
        tokio::spawn(watch::watch(core.clone()));
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

    /// Notes what peers have said.
    pub(super) fn note(&self, heard: impl Iterator<Item = (Place, Heard)>) {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner).extend(heard);
    }

    /// What this node says of itself.
    pub(super) fn own_words(&self) -> Hello {
        let metrics = self.0.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let facts = self.facts();
        let young = |at: MonoTime| self.now().since(at) < self.0.config.election_max;
        Hello {
            id: Some(self.0.config.id),
            initialized: membership.voter_ids().next().is_some(),
            leader: metrics.current_leader,
            damaged: self.is_retired(),
            leads: facts.leading && facts.quorum_ack_at.is_some_and(young) && !self.is_retired(),
            term: metrics.current_term,
            applied: facts.applied,
            incarnation: membership.nodes().map(|(id, _)| incarnation_of(*id)).max().unwrap_or(0),
            digests: self.0.view.digests(),
        }
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

    /// A member that does not read `version` of the stored and sent form; what it has said last counts.
    #[must_use]
    pub fn unread_by(&self, version: u8) -> Option<Place> {
        if version <= FIRST_VERSION {
            return None;
        }
        let metrics = self.0.raft.metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        let mut others =
            membership.nodes().map(|(id, _)| place_of(*id)).filter(|p| *p != place_of(self.0.config.id));
        others.find(|place| {
            let said = self.0.clients.transport.reads(*place);
            said.unwrap_or_else(|| self.0.view.read(|state| state.reads(*place))).last < version
        })
    }

    /// What Raft knows now.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let now = (self.0.clients.clock)().mono;
        let id = self.0.config.id;
        // A copy, so that openraft never waits for a reader of the state; and first, so that the grant is at least as new
        // as `applied`: an old grant beside a new `applied` would look like the newest.
        let metrics = self.0.raft.metrics().borrow_watched().clone();
        let decided = self.0.view.decided();
        let leading = metrics.state == ServerState::Leader
            && metrics.current_leader == Some(id)
            && metrics.vote.committed;
        self.0.time.look(&metrics);
        let term = metrics.current_term;
        let membership = metrics.membership_config.membership();
        let acks = &self.0.clients.acks;
        let entries = &self.0.clients.entries;
        let last_log = metrics.last_log_index.unwrap_or(0);
        let voter_sets = membership.get_joint_config();
        let heard = self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let said = |peer: RaftId| heard.get(&place_of(peer)).filter(|h| h.hello.id == Some(peer));
        let peers = membership.nodes().filter(|(peer, _)| **peer != id).map(|(&peer, _)| PeerFacts {
            place: place_of(peer),
            id: peer,
            lag: acks.proof(term, peer).filter(|_| leading).map(|(index, _)| last_log.saturating_sub(index)),
            applied: said(peer).map(|h| (h.hello.applied, h.at)),
            last_ack: acks.of(term, peer),
            silent: acks.silent(term, peer),
            voter: voter_sets.iter().all(|voters| voters.contains(&peer)),
            path: self.0.clients.transport.path(place_of(peer)),
            unanswered: entries.unanswered(term, peer),
            acknowledges_in: entries.slowest(term, peer, now),
            disk: self.0.words.of(peer, now),
        });
        let syncs = self.0.gauge.syncs();
        let said = |peer| Some(Duration::from_micros(self.0.words.of(peer, now)?.slowest_us));
        let oldest = leading.then(|| self.0.batcher.oldest(term)).flatten();
        Facts {
            raft_id: id,
            term,
            leader: metrics.current_leader.map(place_of),
            leading,
            applied: metrics.last_applied.as_ref().map_or(0, |log_id| log_id.index),
            last_log,
            grant: decided.grant,
            quorum_ack_at: leading
                .then(|| acks.quorum(term, id, membership.get_joint_config(), now))
                .flatten(),
            transfer_tried_in: match self.0.clients.transferred_in.load(Ordering::SeqCst) {
                0 => None,
                // What was tried in a term that the metrics do not show yet counts for the one they show.
                tried => Some(tried.min(term)),
            },
            transfer_refused: self.0.clients.refused.of(term),
            peers: peers.collect(),
            fitness: decided.fitness,
            suspects: decided.suspects,
            oldest: oldest.map(|oldest| (oldest.number, oldest.since.elapsed())),
            commit_takes: entries.commit_takes(term, id, syncs.slowest, said, voter_sets, now),
            others_could: self.0.words.majority(id, syncs.go_on(), voter_sets, now),
            syncs,
            mute_until: self.mute_until(now),
            apply_waits: self.0.view.waits(),
            skew: self.0.time.skew(),
            is_clock_odd: self.0.time.is_odd(),
        }
    }

    /// The Raft id that `place` votes under.
    #[must_use]
    pub fn voter_at(&self, place: Place) -> Option<RaftId> {
        let metrics = self.0.raft.metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        // While an id is being replaced, both vote; the later one is the one that lives.
        membership.membership().voter_ids().filter(|id| place_of(*id) == place).max()
    }

    /// Whether this node votes, and no change of membership is left half done.
    #[must_use]
    pub fn is_settled_voter(&self) -> bool {
        let metrics = self.0.raft.metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        match &membership.membership().get_joint_config()[..] {
            [voters] => voters.contains(&self.0.config.id),
            _ => false,
        }
    }

    /// Hands leadership to `to`. From this call on, `facts` says that it was tried in this term: the followers are
    /// about to be told that they need not keep their promise.
    pub fn transfer_leadership(&self, to: Place) {
        // Asked to transfer to itself, openraft would stop heartbeats and proposals and wait for an election that
        // nobody calls.
        let Some(target) = self.voter_at(to).filter(|target| *target != self.0.config.id) else {
            tracing::warn!(to, "leadership can only go to another voter");
            return;
        };
        let metrics = self.0.raft.metrics();
        let term = metrics.borrow_watched().current_term;
        self.0.clients.transferred_in.fetch_max(term, Ordering::SeqCst);
        let raft = self.0.raft.clone();
        tokio::spawn(async move {
            if let Err(e) = raft.trigger().transfer_leader(target).await {
                tracing::warn!(to, error = %e, "leadership was not transferred");
            }
        });
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

    async fn snapshot_part(
        &self,
        from: Place,
        vote: Vote,
        meta: SnapshotMetaOf<TypeConfig>,
        part: Part,
    ) -> Result<RpcReply, String> {
        let Some(snapshot) = self.0.parts.take(from, part).await? else { return Ok(RpcReply::SnapshotPart) };
        let snapshot = SnapshotOf::<TypeConfig, Data> { meta, snapshot };
        let reply: SnapshotResponse<TypeConfig> =
            self.0.raft.install_full_snapshot(vote, snapshot).await.map_err(|e| e.to_string())?;
        Ok(RpcReply::Snapshot(reply))
    }

    async fn answer(&self, from: Place, lane: Lane, rpc: Rpc) -> Result<RpcReply, String> {
        let raft = &self.0.raft;
        if self.is_retired() && !matches!(rpc, Rpc::Hello) {
            return Err("it has retired, and comes back as a new member".into());
        }
        Ok(match rpc {
            Rpc::Append(rpc) => {
                // A node that has abdicated would not lead either, though it is heard.
                let silent = self.silent() || self.mute_until((self.0.clients.clock)().mono).is_some();
                self.0.clients.polls.decided(rpc.vote.leader_id.term);
                let heartbeat =
                    (lane == Lane::Control && rpc.entries.is_empty()).then_some((rpc.vote, rpc.prev_log_id));
                let reply = self.append(lane, rpc).await?;
                match heartbeat {
                    Some((vote, acknowledged)) if reply.is_conflict() => {
                        self.has_forgotten(vote, acknowledged).await
                    }
                    _ if silent => RpcReply::SilentAppend(reply),
                    _ => RpcReply::Append(reply),
                }
            }
            Rpc::Vote(_) | Rpc::PreVote(_) | Rpc::TransferLeader(_) if self.silent() => {
                return Err("silent for one lease after its start".into());
            }
            Rpc::Vote(rpc) => {
                let writing = self.0.clients.polls.write();
                let reply = raft.vote(rpc.clone()).await.map_err(|e| e.to_string())?;
                writing.done(rpc.vote.leader_id.term, reply.vote_granted, Instant::now());
                self.stand_instead(&rpc, &reply);
                RpcReply::Vote(reply)
            }
            Rpc::PreVote(_) if self.0.clients.polls.waits(self.0.gauge.syncs().newest, Instant::now()) => {
                return Err("it waits for votes itself".into());
            }
            Rpc::PreVote(rpc) => RpcReply::Vote(raft.pre_vote(rpc).await.map_err(|e| e.to_string())?),
            Rpc::Snapshot { vote, meta, transfer, offset, data, last } => {
                self.snapshot_part(from, vote, meta, Part { transfer, offset, data, last }).await?
            }
            Rpc::TransferLeader(request) => match self.lead_after(request).await? {
                None => RpcReply::TransferLeader,
                Some(why) => RpcReply::CannotLead(why),
            },
            Rpc::Hello => {
                let initialized = raft.is_initialized().await.map_err(|e| e.to_string())?;
                RpcReply::Hello(Hello { initialized, ..self.own_words() })
            }
            Rpc::Disk => RpcReply::Disk(self.0.gauge.syncs().into()),
            Rpc::Join { id, member } => RpcReply::Join(super::join::take_in(self, from, id, member).await),
            Rpc::Time(told) => {
                RpcReply::Time(self.0.time.answer(from, told, &raft.metrics().borrow_watched()))
            }
            Rpc::Propose(batch) => {
                let (tx, rx) = futures::channel::oneshot::channel();
                // The asker may have gone; the proposal stands.
                self.propose(batch.0, Box::new(move |result| drop(tx.send(result))));
                let unknown = Err(ProposeRefused::Unknown);
                RpcReply::Propose(rx.await.unwrap_or(unknown).map(crate::command::Responses))
            }
        })
    }
}

impl<T: Transport> Inbound for Core<T> {
    async fn handle(&self, from: Place, to: RaftId, lane: Lane, rpc: Rpc) -> RpcReply {
        let me = self.0.config.id;
        if to != me && !matches!(rpc, Rpc::Hello) {
            return RpcReply::Unavailable(format!("node id {to} is no more, this is {me}"));
        }
        self.answer(from, lane, rpc).await.unwrap_or_else(RpcReply::Unavailable)
    }
}

impl From<Peer> for Member {
    fn from(peer: Peer) -> Self {
        Self { addr: peer.addr, role: peer.role }
    }
}
