//! One machine of the simulated cluster: its disks, clocks and kernel, the agent on it and the guard.

use std::net::SocketAddr;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent::bridge::Store;
use agent::control::{AILMENTS, Fitness, Goal, Place};
use agent::run::driver::{Message, Outcome};
use proxy_core::dns::Question;
use proxy_core::state::SipCommand;
use proxy_core::time::WallTime;
use raft_store::log::Durability;
use raft_store::node::{Peer, RaftId, Role};

use super::base::{MS, Rng};
use super::broken::Mutation;
use super::kernel::{Clocks, Kernel, clock, set_clock};
use super::laws;
use super::net::Body;
use super::process::{Disks, Process, Start};
use super::service::{Done, Petted, Service};
use super::setup::Site;

/// Silence of the agent after which the guard kills it, ns.
const GUARD_PATIENCE: u64 = 300 * MS;

/// One agent process.
pub struct Agent {
    /// Its Raft side.
    pub process: Process,
    service: Option<Service>,
    petted: Arc<Mutex<Petted>>,
    /// Next index that the judge looks at.
    pub judged: u64,
}

/// One machine.
pub struct Machine {
    /// Its place.
    pub place: Place,
    /// What it may do.
    pub role: Role,
    /// How its clocks go.
    pub clocks: Clocks,
    /// Its disks.
    pub disks: Disks,
    /// The id in its store.
    pub id: Option<RaftId>,
    /// A store was set aside here.
    pub aside: bool,
    /// Its disks have lost or changed what was synced, since it was a voter last.
    pub hurt: bool,
    /// Its kernel.
    pub kernel: Kernel,
    /// Whether it has power.
    pub power: bool,
    /// The agent, while it runs.
    pub agent: Option<Agent>,
    /// Whether the guard runs.
    pub guard: bool,
    /// The agent was killed, and the guard acts at this time.
    pub guard_at: Option<u64>,
    /// When the agent is started (again).
    pub start_at: Option<u64>,
    /// The agent is stopped (SIGSTOP) until then.
    pub stopped_until: u64,
    /// Its Raft thread does not run until then.
    pub raft_stalled_until: u64,
    /// Its control thread does not run until then.
    pub control_stalled_until: u64,
    /// A failing sync is the moment of a power cut.
    pub cut_at_sync: bool,
    /// The next vote that it gives is the moment of a power cut.
    pub cut_at_vote: bool,
    /// What its agents find ails them.
    pub fitness: Fitness,
    lease: Duration,
    runs: u32,
    last_petted: Petted,
}

impl Machine {
    /// A machine that was never started.
    #[must_use]
    pub fn new(seed: u64, peer: Peer, lease: Duration) -> Self {
        let mut rng = Rng::of(seed, 0x6d61_6300 + u64::from(peer.place));
        let drift = i64::try_from(rng.between(0, 10_000)).unwrap_or(0) - 5_000;
        Self {
            place: peer.place,
            role: peer.role,
            clocks: Clocks {
                origin: rng.between(1, 1_000_000) * MS,
                drift_ppm: drift,
                wall_off: i64::try_from(rng.between(0, 2_000)).unwrap_or(0),
                boot_id: u64::from(peer.place) << 32,
            },
            disks: Disks::default(),
            id: None,
            aside: false,
            hurt: false,
            kernel: Kernel::default(),
            power: true,
            agent: None,
            guard: true,
            guard_at: None,
            start_at: Some(rng.between(0, 200) * MS),
            stopped_until: 0,
            raft_stalled_until: 0,
            control_stalled_until: 0,
            cut_at_sync: false,
            cut_at_vote: false,
            fitness: Fitness::FIT,
            lease,
            runs: 0,
            last_petted: Petted::default(),
        }
    }

    /// Whether packets of the floating IP pass here now.
    #[must_use]
    pub fn answers(&self, now: u64) -> bool {
        self.power && self.kernel.gate().passes(self.clocks.boot(now))
    }

    /// Whether its agent runs and is not stopped.
    #[must_use]
    pub fn lively(&self, now: u64) -> bool {
        self.agent.is_some() && now >= self.stopped_until
    }

    /// Whether it could take part in everything now: its agent has run for two leases, and nothing stops it.
    #[must_use]
    pub fn is_able(&self, now: u64) -> bool {
        let settled = 2 * self.lease.as_nanos() as u64;
        let has_run = |a: &Agent| self.clocks.boot(now).saturating_sub(a.process.started_at()) > settled;
        self.lively(now)
            && self.disks.slow.get() == 0
            && now >= self.raft_stalled_until
            && now >= self.control_stalled_until
            && !self.kernel.gate().defers()
            && self.agent.as_ref().is_some_and(has_run)
    }

    /// The token it is active under.
    #[must_use]
    pub fn active(&self) -> Option<u64> {
        self.agent.as_ref()?.service.as_ref()?.active
    }

    /// Whether it is active, and nothing that it proposes has been committed for longer than its own bound.
    #[must_use]
    pub fn is_late(&self, now: u64) -> bool {
        let Some(agent) = &self.agent else { return false };
        let Some(service) = agent.service.as_ref().filter(|s| s.active.is_some()) else { return false };
        agent.process.inside(|| service.is_late(self.clocks.now(now).mono))
    }

    /// Whether the membership that it knows has it as a voter, half-way or for good.
    #[must_use]
    pub fn is_member(&self) -> bool {
        use openraft::async_runtime::WatchReceiver;
        let running = self.agent.as_ref().and_then(|a| a.process.running());
        running.is_some_and(|r| {
            let metrics = r.core.raft().metrics();
            let known = metrics.borrow_watched();
            known.membership_config.membership().voter_ids().any(|id| id == known.id)
        })
    }

    /// Whether its agent has been running for so long.
    #[must_use]
    pub fn is_up_for(&self, now: u64, time: Duration) -> bool {
        let up = |a: &Agent| u128::from(self.clocks.boot(now).saturating_sub(a.process.started_at()));
        self.agent.as_ref().is_some_and(|a| up(a) >= time.as_nanos())
    }

    /// Starts the agent (and the guard).
    ///
    /// # Errors
    /// The system refuses a runtime.
    pub fn start(&mut self, now: u64, site: &Site) -> std::io::Result<()> {
        // A store whose log never came to be is set aside; so says the agent's own store.
        let whole =
            raft_store::disk::Disk::list(&self.disks.log).is_ok_and(|l| l.iter().any(|n| n == "META"));
        if !whole {
            self.aside |= self.hurt && self.id.is_some();
            self.id = None;
            self.disks = Disks::default();
        }
        self.runs += 1;
        self.power = true;
        self.guard = true;
        self.guard_at = None;
        self.start_at = None;
        self.kernel.gate().clear();
        self.kernel.gate().slack_ms = if site.mutation == Mutation::LateKernel { 400 } else { 0 };
        let times = self.clocks.now(now);
        set_clock(times);
        let process = Process::new(Start {
            place: self.place,
            places: site.places.clone(),
            run: self.runs,
            id: self.id,
            aside: self.aside,
            disks: self.disks.clone(),
            durability: match site.mutation {
                Mutation::NoFsync => Durability::Memory,
                _ => Durability::Disk,
            },
            mutation: site.mutation,
            silent: site.mutation != Mutation::NoSilence,
            wall_ms: times.real.0,
            boot_id: self.clocks.boot_id,
            boot: times.mono.0,
            seed: site.seed,
            times: site.distance.times(),
        })?;
        let petted = Arc::new(Mutex::new(Petted { at: times.mono.0, ..Petted::default() }));
        let service = Service::new(self.place, self.role, &self.kernel, &process, site, petted.clone());
        self.agent = Some(Agent { process, service: Some(service), petted, judged: 0 });
        self.ail(self.fitness);
        Ok(())
    }

    /// Its agent finds out that this ails it, and nothing else; so do those that follow.
    pub fn ail(&mut self, fitness: Fitness) {
        self.fitness = fitness;
        if let Some(service) = self.agent.as_ref().and_then(|a| a.service.as_ref()) {
            AILMENTS.into_iter().for_each(|a| service.driver.ailing.set(a, fitness.has(a)));
        }
    }

    /// A datagram has come for the floating IP.
    pub fn datagram(&mut self, from: SocketAddr, bytes: Vec<u8>) {
        if let Some(service) = self.agent.as_mut().and_then(|a| a.service.as_mut()) {
            service.datagram(from, bytes);
        }
    }

    /// Nothing listens at that address.
    pub fn unreachable(&mut self, at: SocketAddr) {
        if let Some(service) = self.agent.as_mut().and_then(|a| a.service.as_mut()) {
            service.unreachable(at);
        }
    }

    /// An rtpengine has answered.
    pub fn media(&mut self, from: SocketAddr, bytes: Vec<u8>) {
        if let Some(service) = self.agent.as_mut().and_then(|a| a.service.as_mut()) {
            service.media(from, bytes);
        }
    }

    /// The DNS has answered.
    pub fn resolved(&mut self, question: Question) {
        if let Some(service) = self.agent.as_mut().and_then(|a| a.service.as_mut()) {
            service.resolved(question);
        }
    }

    /// An operator changes what is provisioned.
    pub fn operate(&mut self, commands: impl FnOnce(WallTime) -> Vec<SipCommand>) {
        if let Some(agent) = &mut self.agent
            && let Some(service) = &agent.service
        {
            let now = service.driver.cluster.now(clock()).wall;
            agent.process.inside(|| commands(now).into_iter().for_each(|command| service.operate(command)));
        }
    }

    /// An operator asks for a hand-over.
    pub fn switchover(&mut self, reply: SyncSender<Outcome>) {
        if let Some(service) = self.agent.as_ref().and_then(|a| a.service.as_ref()) {
            // Full means busy: the operator will ask again.
            let _ = service.driver.handle.tell(Message::Switchover { target: None, reply });
        }
    }

    /// The agent dies at once (SIGKILL, or its machine).
    pub fn kill(&mut self) {
        if let Some(agent) = self.agent.take() {
            self.last_petted = *agent.petted.lock().unwrap_or_else(PoisonError::into_inner);
        }
        self.stopped_until = 0;
        self.raft_stalled_until = 0;
        self.control_stalled_until = 0;
        self.kernel.gate().forget();
    }

    /// The machine loses its power.
    pub fn power_off(&mut self, seed: u64) {
        self.kill();
        self.power = false;
        self.clocks.boot_id += 1;
        self.guard = false;
        self.guard_at = None;
        self.cut_at_sync = false;
        self.cut_at_vote = false;
        self.kernel.gate().clear();
        self.disks.slow.set(0);
        for (n, disk) in [&self.disks.log, &self.disks.snaps].into_iter().enumerate() {
            disk.fail_sync(None);
            disk.set_capacity(None);
            disk.crash(seed.wrapping_add(n as u64));
        }
    }

    /// The guard's turn: whether the agent is to be killed for its silence, and what the peers are told of a dead one.
    pub fn guard_turn(&mut self, now: u64) -> Option<Body> {
        if !self.guard {
            return None;
        }
        if let Some(agent) = &self.agent {
            let petted = agent.petted.lock().unwrap_or_else(PoisonError::into_inner).at;
            if self.clocks.boot(now).saturating_sub(petted) > GUARD_PATIENCE {
                self.kill();
                self.guard_at = Some(now);
                self.start_at = Some(now + 100 * MS);
            }
        }
        if self.guard_at.is_none_or(|at| now < at) {
            return None;
        }
        self.guard_at = None;
        self.kernel.gate().clear();
        let told = self.last_petted;
        let heir = told.heir.filter(|_| told.leading)?;
        Some(Body::Notice { term: told.term, heir })
    }

    /// One tick of the agent.
    pub fn tick(&mut self, now: u64, rng: &mut Rng, mutation: Mutation) -> Done {
        let mut done = Done::default();
        if !self.lively(now) {
            return done;
        }
        let times = self.clocks.now(now);
        set_clock(times);
        let Some(agent) = &mut self.agent else { return done };
        self.kernel.gate().go_on(times.mono.0);
        // What Raft finds in this millisecond, the control thread hears in the next.
        let kicked = std::mem::take(&mut agent.process.desk().kicked);
        if now >= self.raft_stalled_until {
            agent.process.go_on(times.mono.0);
        }
        if let Some(id) = agent.process.desk().new_id.take() {
            if self.id.is_none() {
                done.wrong = laws::memory::of_new_store(self.place, id, self.aside);
            }
            self.id = Some(id);
        }
        let failure = agent.process.desk().failure.take();
        if let Some(failure) = failure {
            // As the agent's end does it: resources down, then out.
            if let Some(service) = &mut agent.service {
                done.deactivated = service.active.take().is_some();
                service.driver.steps.reach(times.mono, Goal::Down, None);
            }
            done.failure = Some(failure);
            return done;
        }
        let Some(service) = &mut agent.service else { return done };
        let engine_first = rng.chance(50);
        if engine_first {
            service.engine_turn(&agent.process, &mut done);
        }
        if now < self.control_stalled_until {
            agent.process.desk().kicked |= kicked;
        } else {
            let changed = agent.process.inside(|| service.control_turn(kicked, mutation));
            if let Some(active) = changed {
                done.activated = active;
                done.deactivated |= active.is_none();
            }
            if self.kernel.gate().defers() {
                // Stopped in the midst of a renewal: so long as its clock says by now.
                self.stopped_until = now + clock().mono.since(times.mono).as_nanos() as u64;
                return done;
            }
        }
        if !engine_first {
            service.engine_turn(&agent.process, &mut done);
        }
        done
    }
}
