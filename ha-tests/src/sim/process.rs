//! The Raft side of one simulated agent process: openraft and its real store in a tokio runtime of its own, whose time
//! stands still unless the world lets it go on. A crash drops the runtime, with every task in it; a process that is
//! stopped is a runtime that is not run; when it goes on, its clock jumps, as it does after SIGCONT.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use proxy_core::time::{Clocks, MonoTime};
use raft_store::command::Command;
use raft_store::disk::sim::SimDisk;
use raft_store::log::{
    Durability, Identity, Limits, LogWriter, Mode, OpenError, RaftLog, Recovered, SEAL_AFTER, SegmentLog,
    Slowness, Verdict,
};
use raft_store::node::client::{Lane, NoAnswer, Transport};
use raft_store::node::core::{Core, CoreConfig, CoreError, start_core};
use raft_store::node::inbound::{Hello, Inbound, Rpc, RpcReply};
use raft_store::node::join::{self, Beginning, Entered};
use raft_store::node::runtime::seed_thread;
use raft_store::node::schedule::Schedule;
use raft_store::node::{Damage, Member, Peer, Place, RaftId, TypeConfig, place_of, raft_id};
use raft_store::snap::FileSnaps;
use tokio::sync::oneshot;
use tokio::time::Instant;

use agent::control::times::Times;

use super::base::{MS, Rng};
use super::broken::Mutation;
use super::kernel::clock;
use super::net::{Body, Letter};

/// When a process changes what no other one does, if it is broken so, ms after its start.
const ODD_AT_MS: u64 = 4_000;
/// Bytes of a segment: small, so that some begin and end in every run.
const SEGMENT_BYTES: u64 = 32 << 10;
/// Small, so that worlds of a minute have snapshots in them.
const SNAPSHOTS: Schedule = Schedule { floor_bytes: 64 << 10, slot_entries: 32, compare_entries: 64 };

/// The disks of one machine.
#[derive(Clone, Default)]
pub struct Disks {
    /// For the log.
    pub log: SimDisk,
    /// For snapshots.
    pub snaps: SimDisk,
    /// How long each sync of the log takes.
    pub slow: Slowness,
}

/// Why a process ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The disk failed: as it must, the process ends.
    Disk(String),
    /// openraft ended.
    Raft(String),
    /// openraft ended without a word: one of its assertions failed.
    Panicked,
    /// It has lost what it had acknowledged: it comes back under a new id.
    Forgotten(String),
}

/// What tasks and the world say to each other.
#[derive(Default)]
pub struct Shared {
    /// To be sent.
    pub outbox: Vec<Letter>,
    calls: BTreeMap<u64, oneshot::Sender<Option<RpcReply>>>,
    next_call: BTreeMap<Place, u64>,
    /// The id that an empty store was given.
    pub new_id: Option<RaftId>,
    /// What peers are told before there is a core; nothing while a store is being opened.
    blank: Option<Hello>,
    /// Something changed that the control thread should look at.
    pub kicked: bool,
    /// The process ends.
    pub failure: Option<Failure>,
}

/// Shared by tasks and world; all on one thread.
pub type Desk = Arc<Mutex<Shared>>;

fn lock(desk: &Desk) -> MutexGuard<'_, Shared> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The wire of one process.
#[derive(Clone)]
pub struct Wire {
    me: Place,
    run: u32,
    desk: Desk,
}

impl Transport for Wire {
    async fn call(
        &self,
        target: RaftId,
        _member: Member,
        lane: Lane,
        rpc: Rpc,
        limit: Duration,
    ) -> Result<RpcReply, NoAnswer> {
        let to = place_of(target);
        let (tx, rx) = oneshot::channel();
        let call = {
            let mut desk = lock(&self.desk);
            let next = desk.next_call.entry(to).or_default();
            *next += 1;
            let call = u64::from(to) << 48 | *next;
            desk.calls.insert(call, tx);
            let body = Body::Ask { call, run: self.run, target, lane, rpc };
            desk.outbox.push(Letter { from: self.me, to, body });
            call
        };
        let no = |why: &str| NoAnswer { target, why: why.into() };
        match tokio::time::timeout(limit, rx).await {
            Ok(Ok(Some(reply))) => Ok(reply),
            Ok(_) => Err(no("connection refused")),
            Err(_) => {
                lock(&self.desk).calls.remove(&call);
                Err(no("no answer in time"))
            }
        }
    }
}

/// A core and the log below it.
pub struct Running {
    /// openraft and its surroundings.
    pub core: Core<Wire>,
    /// The log, for the judge.
    pub log: LogWriter,
}

/// What a process starts with.
#[derive(Clone)]
pub struct Start {
    /// Place.
    pub place: Place,
    /// All places.
    pub places: Vec<Peer>,
    /// Number of this run of the process on its machine.
    pub run: u32,
    /// The id in the store; `None`: the store is empty.
    pub id: Option<RaftId>,
    /// A store of this machine was set aside: without another one it may join, and never begin.
    pub aside: bool,
    /// What is broken on purpose.
    pub mutation: Mutation,
    /// The disks.
    pub disks: Disks,
    /// Whether commits wait for the disk.
    pub durability: Durability,
    /// A voter that was there before stays silent for one lease.
    pub silent: bool,
    /// Wall time, ms: the incarnation of an empty store.
    pub wall_ms: u64,
    /// CLOCK_BOOTTIME now, ns.
    pub boot: u64,
    /// Names the run of its kernel.
    pub boot_id: u64,
    /// Seed of the world.
    pub seed: u64,
    /// The times of the cluster.
    pub times: Times,
}

/// A running process.
pub struct Process {
    runtime: Option<tokio::runtime::Runtime>,
    handle: tokio::runtime::Handle,
    begun: Instant,
    start: Start,
    elapsed_ms: u64,
    desk: Desk,
    door: Arc<OnceLock<Running>>,
    inbox: Vec<(Place, Body)>,
}

async fn live(start: Start, begun: Instant, desk: Desk, door: Arc<OnceLock<Running>>) -> Result<(), Failure> {
    let wire = Wire { me: start.place, run: start.run, desk: desk.clone() };
    let id = match start.id {
        Some(id) => id,
        None if start.aside && start.mutation != Mutation::Emptiness => {
            let damage = Damage::new("store".into(), 0, "it was set aside");
            match join::find_way(&wire, start.place, &start.places, &damage).await {
                join::Way::Rejoin { incarnation } => raft_id(start.wall_ms.max(incarnation + 1), start.place),
                join::Way::Begin(begins) => {
                    return Err(Failure::Raft(format!("it would begin anew without a state: {begins:?}")));
                }
            }
        }
        None => match join::find_beginning(&wire, start.place, &start.places).await {
            Beginning::First => raft_id(0, start.place),
            Beginning::Exists { incarnation } => raft_id(start.wall_ms.max(incarnation + 1), start.place),
        },
    };
    lock(&desk).new_id = Some(id);
    let limits = Limits { segment_bytes: SEGMENT_BYTES, ..Limits::default() };
    start.disks.log.lie(false);
    let disk = Arc::new(start.disks.log.clone());
    let log = match SegmentLog::open(disk, Identity::new("sim", id), limits) {
        Ok((_, Recovered { verdict: Verdict::Forgotten(lost), .. })) => {
            return Err(Failure::Forgotten(lost.to_string()));
        }
        Ok((log, _)) => log,
        Err(OpenError::Io(e)) => return Err(Failure::Disk(e.to_string())),
        Err(e) => return Err(Failure::Forgotten(e.to_string())),
    };
    // Nothing is synced: a drive that says so without doing it is all that a node can hear of that.
    start.disks.log.lie(start.durability == Durability::Memory);
    let writer = LogWriter::new(log, Mode::Inline).map_err(|e| Failure::Disk(e.to_string()))?;
    writer.slow_down(start.disks.slow.clone());
    let sealing = writer.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(SEAL_AFTER).await;
            sealing.seal();
        }
    });
    let config = CoreConfig {
        id,
        places: start.places.clone(),
        heartbeat: start.times.heartbeat,
        election_min: start.times.election_min,
        election_max: start.times.election_max,
        silent: start.silent && start.id.is_some(),
        mode: Mode::Inline,
        on_apply_thread: None,
        on_background_thread: None,
        snapshots: SNAPSHOTS,
        boot: start.boot_id,
    };
    let boot = start.boot;
    let clock = Arc::new(move || {
        let mono = MonoTime(boot + u64::try_from(begun.elapsed().as_nanos()).unwrap_or(0));
        Clocks { mono, ..clock() }
    });
    let snaps = Box::new(FileSnaps::new(Arc::new(start.disks.snaps.clone())));
    let core = match start_core(config, wire, clock, RaftLog::new(writer.clone()), snaps).await {
        Ok(core) => core,
        Err(e @ CoreError::Incomplete(_)) => return Err(Failure::Forgotten(e.to_string())),
        Err(CoreError::Snapshots(e)) => return Err(Failure::Disk(e.to_string())),
        Err(e) => return Err(Failure::Raft(e.to_string())),
    };
    let (entering, at_entry) = (core.clone(), desk.clone());
    tokio::spawn(async move {
        if let Entered::Renumber(retired) = join::enter(&entering).await {
            lock(&at_entry).failure.get_or_insert(Failure::Forgotten(retired.why));
        }
    });
    let mut retired = core.retired();
    let mut metrics = core.raft().metrics();
    let mut grant = core.view().grant();
    let mut disk = writer.fatal();
    // Set once, here.
    drop(door.set(Running { core, log: writer }));
    let mut last = None;
    loop {
        let now = {
            let m = metrics.borrow_watched();
            if let Err(e) = &m.running_state {
                return Err(Failure::Raft(e.to_string()));
            }
            (m.current_term, m.current_leader, m.state, m.last_quorum_acked.is_some())
        };
        if last.as_ref() != Some(&now) {
            last = Some(now);
            lock(&desk).kicked = true;
        }
        tokio::select! {
            biased;
            Ok(()) = disk.changed() => {
                if let Some(why) = disk.borrow_and_update().clone() {
                    return Err(Failure::Disk(why));
                }
            }
            changed = metrics.changed() => {
                if changed.is_err() {
                    return Err(Failure::Panicked);
                }
            }
            Ok(()) = retired.changed() => {
                if let Some(retired) = retired.borrow_and_update().clone() {
                    return Err(Failure::Forgotten(retired.why));
                }
            }
            changed = grant.changed() => {
                if changed.is_ok() {
                    lock(&desk).kicked = true;
                }
            }
        }
    }
}

/// What a broken node answers before its core has done what the answer promises.
fn too_early(
    mutation: Mutation,
    core: &Core<Wire>,
    lane: Lane,
    append: &AppendEntriesRequest<TypeConfig>,
) -> Option<RpcReply> {
    let is_heartbeat = lane == Lane::Control && append.entries.is_empty();
    let is_bound = core.raft().watch_vote_progress().get() == Some(append.vote);
    let is_early = match mutation {
        Mutation::EarlyPromise => is_heartbeat,
        Mutation::EarlyEntries => !append.entries.is_empty(),
        _ => false,
    };
    (is_early && is_bound).then_some(RpcReply::Append(AppendEntriesResponse::Success))
}

async fn answer(
    door: Arc<OnceLock<Running>>,
    blank: Option<Hello>,
    from: Place,
    target: RaftId,
    lane: Lane,
    rpc: Rpc,
    mutation: Mutation,
) -> RpcReply {
    if let (Some(core), Rpc::Append(append)) = (door.get().map(|r| r.core.clone()), &rpc)
        && let Some(reply) = too_early(mutation, &core, lane, append)
    {
        // The core hears of it all the same.
        tokio::spawn(async move { core.handle(from, target, lane, rpc).await });
        return reply;
    }
    match (door.get().map(|r| r.core.clone()), rpc) {
        (Some(core), rpc) => core.handle(from, target, lane, rpc).await,
        (None, Rpc::Hello) if blank.is_some() => RpcReply::Hello(blank.unwrap_or_default()),
        (None, _) => RpcReply::Unavailable("it is starting".into()),
    }
}

impl Process {
    /// Starts one; it does nothing before its first [`Process::go_on`].
    ///
    /// # Errors
    /// The system refuses a runtime.
    pub fn new(start: Start) -> std::io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let desk = Desk::default();
        let door = Arc::new(OnceLock::new());
        let begun = {
            let _inside = runtime.enter();
            Instant::now()
        };
        if start.id.is_none() {
            let damaged = start.aside && start.mutation != Mutation::Emptiness;
            lock(&desk).blank = Some(Hello { damaged, ..Hello::default() });
        }
        let (of_task, at_door) = (desk.clone(), door.clone());
        let starting = start.clone();
        runtime.spawn(async move {
            if let Err(failure) = live(starting, begun, of_task.clone(), at_door).await {
                lock(&of_task).failure.get_or_insert(failure);
            }
        });
        let handle = runtime.handle().clone();
        Ok(Self {
            runtime: Some(runtime),
            handle,
            begun,
            start,
            elapsed_ms: 0,
            desk,
            door,
            inbox: Vec::new(),
        })
    }

    /// Number of this run of the process on its machine.
    #[must_use]
    pub fn run(&self) -> u32 {
        self.start.run
    }

    /// Whether it was started on a store that existed.
    #[must_use]
    pub fn restarted(&self) -> bool {
        self.start.id.is_some()
    }

    /// CLOCK_BOOTTIME at its start, ns.
    #[must_use]
    pub fn started_at(&self) -> u64 {
        self.start.boot
    }

    /// The core, once it runs.
    #[must_use]
    pub fn running(&self) -> Option<&Running> {
        self.door.get()
    }

    /// What another thread of the process needs of its Raft side.
    #[must_use]
    pub fn parts(&self) -> (Arc<OnceLock<Running>>, tokio::runtime::Handle) {
        (self.door.clone(), self.handle.clone())
    }

    /// What its tasks say.
    pub fn desk(&self) -> MutexGuard<'_, Shared> {
        lock(&self.desk)
    }

    /// Puts what has arrived into its socket buffers.
    pub fn deliver(&mut self, from: Place, body: Body) {
        self.inbox.push((from, body));
    }

    /// Runs `f` as a thread of the process would: its clock is the process's.
    pub fn inside<R>(&self, f: impl FnOnce() -> R) -> R {
        let _inside = self.runtime.as_ref().map(tokio::runtime::Runtime::enter);
        f()
    }

    /// Lets its time go on until `boot`. Time in which it was stopped passes in one jump.
    pub fn go_on(&mut self, boot: u64) {
        let Some(runtime) = &self.runtime else { return };
        let target = boot.saturating_sub(self.start.boot) / MS;
        if target <= self.elapsed_ms && self.inbox.is_empty() {
            return;
        }
        // What openraft draws depends on nothing but the seed, this process and its time.
        let label = u64::from(self.start.place) << 48 | u64::from(self.start.run) << 32 | target;
        seed_thread(Rng::of(self.start.seed, label).draw());
        let missed = target.saturating_sub(self.elapsed_ms);
        if self.start.mutation == Mutation::OddApply
            && self.start.place == 1
            && (self.elapsed_ms..target).contains(&ODD_AT_MS)
            && let Some(running) = self.running()
        {
            running.core.view().disturb(&Command::Drain { place: Place::MAX - 1, drained: true });
        }
        let inbox = std::mem::take(&mut self.inbox);
        let (begun, door, desk) = (self.begun, self.door.clone(), self.desk.clone());
        let (me, mutation) = (self.start.place, self.start.mutation);
        // Heartbeats look like entries to a node that shall not find out what it has forgotten.
        let deaf = mutation == Mutation::Forgetful;
        runtime.block_on(async move {
            if missed > 1 {
                tokio::time::advance(Duration::from_millis(missed - 1)).await;
            }
            for (from, body) in inbox {
                match body {
                    Body::Ask { call, run, target, lane, rpc } => {
                        let (door, desk) = (door.clone(), desk.clone());
                        let vote = matches!(rpc, Rpc::Vote(_));
                        let blank = lock(&desk).blank.clone();
                        tokio::spawn(async move {
                            let heard = if deaf { Lane::Bulk } else { lane };
                            let reply = Some(answer(door, blank, from, target, heard, rpc, mutation).await);
                            let body = Body::Answer { call, run, lane, reply, vote };
                            lock(&desk).outbox.push(Letter { from: me, to: from, body });
                        });
                    }
                    Body::Answer { call, reply, .. } => {
                        if let Some(asker) = lock(&desk).calls.remove(&call) {
                            // Its asker may have given up.
                            drop(asker.send(reply));
                        }
                    }
                    Body::Notice { term, heir } => {
                        let Some(core) = door.get().map(|r| r.core.clone()) else { continue };
                        tokio::spawn(async move { core.leader_is_dead(from, term, heir).await });
                    }
                }
            }
            tokio::time::sleep_until(begun + Duration::from_millis(target)).await;
        });
        self.elapsed_ms = self.elapsed_ms.max(target);
    }

    /// Has a snapshot built, and the log behind it purged but for `keep` entries.
    pub fn snapshot(&self, keep: u64) {
        let Some(running) = self.running() else { return };
        let raft = running.core.raft().clone();
        self.handle.spawn(async move {
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
            let mut metrics = raft.metrics();
            let built = metrics.borrow_watched().last_applied.map_or(0, |id| id.index);
            let reached =
                |m: &openraft::RaftMetrics<_>| m.snapshot.as_ref().is_some_and(|s| s.index >= built);
            while !reached(&metrics.borrow_watched()) {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
            // A node that ends now purges nothing.
            drop(raft.trigger().purge_log(built.saturating_sub(keep)).await);
        });
    }

    /// What is to be sent, in an order that depends on nothing but what each peer is sent.
    pub fn outgoing(&mut self) -> Vec<Letter> {
        let mut letters = std::mem::take(&mut self.desk().outbox);
        let lane = |l: &Letter| match &l.body {
            Body::Ask { lane, .. } => (0, *lane),
            Body::Answer { lane, .. } => (1, *lane),
            Body::Notice { .. } => (2, Lane::Control),
        };
        letters.sort_by_key(|l| (l.to, lane(l)));
        letters
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Tasks first: they hold the core, and the core must not outlive its clock.
        if let Some(runtime) = self.runtime.take() {
            {
                let _inside = runtime.enter();
                self.door = Arc::default();
            }
            drop(runtime);
        }
    }
}
