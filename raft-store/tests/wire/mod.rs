//! A cluster in one thread: real nodes, simulated disks, and wires that a test can cut. Time is tokio's paused clock.
#![allow(dead_code, reason = "every test file uses its part of the cluster")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::oneshot;
use proxy_core::time::{Clocks, MonoTime, RealTime, WallTime};
use raft_store::command::{Command, GrantReason, Response};
use raft_store::disk::sim::SimDisk;
use raft_store::log::{Durability, Identity, Limits, LogWriter, Mode, RaftLog, SegmentLog, Slowness};
use raft_store::node::client::{Lane, NoAnswer, Transport};
use raft_store::node::core::{Core, CoreConfig, CoreError, Peer, start_core};
use raft_store::node::inbound::{Hello, Inbound, ProposeRefused, Rpc, RpcReply};
use raft_store::node::schedule::Schedule;
use raft_store::node::{Facts, Member, Place, RaftId, Role, join, place_of, raft_id};
use raft_store::snap::FileSnaps;
use tokio::time::{Instant, sleep, timeout};

/// Interval of heartbeats.
pub const HEARTBEAT: Duration = Duration::from_millis(30);
/// Shortest election timeout.
pub const ELECTION_MIN: Duration = Duration::from_millis(75);
/// Longest election timeout, and the lease.
pub const LEASE: Duration = Duration::from_millis(150);
/// Time of a message on the wire.
const LATENCY: Duration = Duration::from_micros(200);
/// Longer than anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub enum Host {
    /// The process runs, its store is empty, and it has not decided yet.
    Blank,
    Runs(Core<Wire>),
}

#[derive(Default)]
pub struct Net {
    pub hosts: BTreeMap<Place, Host>,
    /// Directions in which nothing arrives.
    pub cut: BTreeSet<(Place, Place)>,
    /// By how much answers on the lane of heartbeats come later than others: the machine is busy, or the way is long.
    pub late: Duration,
}

/// The wire of one node.
#[derive(Clone)]
pub struct Wire {
    me: Place,
    net: Arc<Mutex<Net>>,
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
        let no = |why: &str| NoAnswer { target, why: why.into() };
        sleep(LATENCY).await;
        let host = {
            let net = lock(&self.net);
            if net.cut.contains(&(self.me, to)) {
                None
            } else {
                match net.hosts.get(&to) {
                    None => return Err(no("connection refused")),
                    Some(Host::Blank) => {
                        let hello = Hello::default();
                        return match rpc {
                            Rpc::Hello => Ok(RpcReply::Hello(hello)),
                            _ => Err(no("it is blank")),
                        };
                    }
                    Some(Host::Runs(core)) => Some(core.clone()),
                }
            }
        };
        let Some(core) = host else {
            sleep(limit).await;
            return Err(no("lost on the way"));
        };
        let reply =
            timeout(limit, core.handle(self.me, target, lane, rpc)).await.map_err(|_| no("too late"))?;
        let late = if lane == Lane::Control { lock(&self.net).late } else { Duration::ZERO };
        sleep(LATENCY + late).await;
        if lock(&self.net).cut.contains(&(to, self.me)) {
            sleep(limit).await;
            return Err(no("the answer was lost on the way"));
        }
        Ok(reply)
    }
}

fn lock(net: &Mutex<Net>) -> MutexGuard<'_, Net> {
    net.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What right wall clocks show at the beginning, ms.
pub const WALL_START: u64 = 1_800_000_000_000;

/// A cluster of places 1 to n.
pub struct Cluster {
    pub net: Arc<Mutex<Net>>,
    pub disks: BTreeMap<Place, SimDisk>,
    /// How long their syncs take.
    pub slow: BTreeMap<Place, Slowness>,
    pub places: Vec<Peer>,
    pub begun: Instant,
    /// How many times all machines have been booted.
    pub boots: u64,
    /// By how many ms wall clocks are wrong.
    pub wrong: BTreeMap<Place, i64>,
}

impl Cluster {
    /// Empty disks; nothing runs.
    pub fn new(size: Place) -> Self {
        let peer = |place| Peer { place, role: Role::Appliance, addr: ([127, 0, 0, 1], 7000 + place).into() };
        Self {
            net: Arc::default(),
            disks: (1..=size).map(|p| (p, SimDisk::new())).collect(),
            slow: (1..=size).map(|p| (p, Slowness::default())).collect(),
            places: (1..=size).map(peer).collect(),
            begun: Instant::now(),
            boots: 0,
            wrong: BTreeMap::new(),
        }
    }

    /// All started for the first time, with a leader.
    pub async fn started(size: Place) -> Self {
        let cluster = Self::new(size);
        for place in 1..=size {
            cluster.start(place, 0, false).await.expect("starts");
        }
        for place in 1..=size {
            let core = cluster.core(place);
            tokio::spawn(async move { join::enter(&core).await });
        }
        cluster.leader().await;
        cluster
    }

    /// Starts a node on what its disk holds.
    pub async fn start(&self, place: Place, incarnation: u64, silent: bool) -> Result<Core<Wire>, CoreError> {
        let disk: Arc<SimDisk> = Arc::new(self.disks[&place].clone());
        let id = raft_id(incarnation, place);
        let limits = Limits { segment_bytes: 64 << 10, durability: Durability::Disk, ..Limits::default() };
        let (log, _) = SegmentLog::open(disk.clone(), Identity::new("lab", id), limits).expect("log opens");
        let writer = LogWriter::new(log, Mode::Inline).expect("writer");
        writer.slow_down(self.slow[&place].clone());
        let log = RaftLog::new(writer);
        let config = CoreConfig {
            id,
            places: self.places.clone(),
            heartbeat: HEARTBEAT,
            election_min: ELECTION_MIN,
            election_max: LEASE,
            silent,
            mode: Mode::Inline,
            on_apply_thread: None,
            on_background_thread: None,
            snapshots: Schedule { floor_bytes: 32 << 10, slot_entries: 16, compare_entries: 256 },
            boot: u64::from(place) << 32 | self.boots,
        };
        let begun = self.begun;
        let wrong = self.wrong.get(&place).copied().unwrap_or(0);
        let clock = Arc::new(move || {
            let mono = MonoTime(begun.elapsed().as_nanos() as u64);
            Clocks { mono, real: RealTime((WALL_START + mono.millis()).saturating_add_signed(wrong)) }
        });
        let wire = Wire { me: place, net: self.net.clone() };
        let core = start_core(config, wire, clock, log, Box::new(FileSnaps::new(disk))).await?;
        lock(&self.net).hosts.insert(place, Host::Runs(core.clone()));
        Ok(core)
    }

    /// The process is killed; its disk stays.
    pub async fn kill(&self, place: Place) {
        let host = lock(&self.net).hosts.remove(&place);
        if let Some(Host::Runs(core)) = host {
            core.shutdown().await;
        }
    }

    /// The disk is replaced by an empty one.
    pub fn wipe(&mut self, place: Place) {
        self.disks.insert(place, SimDisk::new());
    }

    pub fn core(&self, place: Place) -> Core<Wire> {
        match lock(&self.net).hosts.get(&place) {
            Some(Host::Runs(core)) => core.clone(),
            _ => panic!("node {place} does not run"),
        }
    }

    pub fn facts(&self, place: Place) -> Facts {
        self.core(place).facts()
    }

    /// From now on answers to heartbeats, and to all that takes their way, come so much later.
    pub fn delay(&self, late: Duration) {
        lock(&self.net).late = late;
    }

    fn running(&self) -> Vec<Place> {
        lock(&self.net).hosts.iter().filter(|(_, h)| matches!(h, Host::Runs(_))).map(|(p, _)| *p).collect()
    }

    /// Cuts a node off in both directions, or joins it again.
    pub fn cut_off(&self, place: Place, cut: bool) {
        let mut net = lock(&self.net);
        for peer in &self.places {
            for pair in [(peer.place, place), (place, peer.place)] {
                if cut {
                    net.cut.insert(pair);
                } else {
                    net.cut.remove(&pair);
                }
            }
        }
    }

    /// Waits until `what` holds.
    pub async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let waited = timeout(PATIENCE, async {
            while !holds(self) {
                sleep(Duration::from_millis(1)).await;
            }
        });
        assert!(waited.await.is_ok(), "never: {what}");
    }

    /// Waits for a leader that a quorum has acknowledged; says which.
    pub async fn leader(&self) -> Place {
        let leads = |c: &Self| {
            c.running().into_iter().find(|p| {
                let facts = c.facts(*p);
                facts.leading && facts.quorum_ack_at.is_some()
            })
        };
        self.until("a leader", |c| leads(c).is_some()).await;
        leads(self).expect("just seen")
    }

    /// Proposes on `place` and waits for the answer.
    pub async fn propose(
        &self,
        place: Place,
        commands: Vec<Command>,
    ) -> Result<Vec<Response>, ProposeRefused> {
        let (tx, rx) = oneshot::channel();
        self.core(place).propose(commands, Box::new(move |result| drop(tx.send(result))));
        timeout(PATIENCE, rx).await.expect("answered in time").expect("answered")
    }

    /// Proposes on whoever leads until it is committed.
    pub async fn commit(&self, command: Command) -> Vec<Response> {
        for _ in 0..100 {
            let leader = self.leader().await;
            if let Ok(responses) = self.propose(leader, vec![command.clone()]).await {
                return responses;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("never committed");
    }

    /// Waits until all that run have applied what the leader's log holds.
    pub async fn settled(&self) {
        self.until("all have applied the same", |c| {
            let applied: Vec<_> = c.running().iter().map(|p| c.facts(*p)).collect();
            applied
                .iter()
                .all(|f| f.applied == f.last_log && f.applied == applied[0].applied && f.applied > 0)
        })
        .await;
    }
}

pub fn grant(holder: Place) -> Command {
    Command::Grant { holder, reason: GrantReason::Elected, at: WallTime(1) }
}
