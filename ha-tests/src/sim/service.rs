//! The threads of an agent beside Raft: the control thread, which is the agent's own [`Driver`], round by round, and the
//! SIP engine, which is `proxy-core`'s, one shard.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent::bridge::{Cluster, Store};
use agent::control::{Control, Goal, Place, Resources, Settings};
use agent::run::chronicle::Chronicle;
use agent::run::commits::Commits;
use agent::run::driver::{Driver, Handle, MAX_MESSAGES, Message, Outcome, PetFacts};
use agent::run::live::Picture;
use agent::run::pulse::Pulses;
use agent::run::resources::Steps;
use proxy_core::dns::Question;
use proxy_core::engine::Engine;
use proxy_core::io::{Output, Refusal, Ticket};
use proxy_core::state::{Flow, SipCommand, SipResponse, Transport};
use proxy_core::time::MonoTime;
use raft_store::node::Role;

use super::base::MS;
use super::broken::{self, Mutation};
use super::cluster::SimCluster;
use super::kernel::{Kernel, clock};
use super::process::{Failure, Process};
use super::setup::{self, Site, vip};

/// Pause between two rounds of the control thread, ns: what the agent's own loop makes of this lease.
const ROUND: u64 = 18 * MS;
/// Datagrams in a socket buffer; more are lost.
const SOCKET_ROOM: usize = 256;

/// Where verdicts on proposals wait for the engine.
type Verdicts = Arc<Mutex<VecDeque<(u64, Ticket, Result<SipResponse, Refusal>)>>>;

/// The agent's threads beside Raft.
pub struct Service {
    /// The control thread.
    pub driver: Driver<SimCluster>,
    picture: Picture,
    next_round: u64,
    engine: Engine,
    epoch: u64,
    verdicts: Verdicts,
    socket: VecDeque<(SocketAddr, Vec<u8>)>,
    failed: VecDeque<SocketAddr>,
    media: VecDeque<(SocketAddr, Vec<u8>)>,
    /// What a mutation must not let through twice.
    asked: BTreeSet<Vec<u8>>,
    resolved: VecDeque<Question>,
    mutation: Mutation,
    /// The token that the engine is active under.
    pub active: Option<u64>,
}

/// What a machine did in one tick.
#[derive(Default)]
pub struct Done {
    /// Datagrams that the engine sends.
    pub datagrams: Vec<(SocketAddr, Vec<u8>)>,
    /// What it asks rtpengines.
    pub media: Vec<(SocketAddr, Vec<u8>)>,
    /// What it asks the DNS.
    pub questions: Vec<Question>,
    /// It became active under this token.
    pub activated: Option<u64>,
    /// It is active no more.
    pub deactivated: bool,
    /// Why its agent ended.
    pub failure: Option<Failure>,
    /// What is wrong with the store that it has made.
    pub wrong: Option<String>,
}

/// What the guard was told last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Petted {
    /// When, ns of CLOCK_BOOTTIME.
    pub at: u64,
    /// Raft's term.
    pub term: u64,
    /// The node led in it.
    pub leading: bool,
    /// Who should follow.
    pub heir: Option<Place>,
}

impl Service {
    /// The threads of an agent that starts at `place`; what its guard is told goes to `petted`.
    #[must_use]
    pub fn new(
        place: Place,
        role: Role,
        kernel: &Kernel,
        process: &Process,
        site: &Site,
        petted: Arc<Mutex<Petted>>,
    ) -> Self {
        let (tx, messages) = sync_channel(MAX_MESSAGES);
        let appliances = site.places.iter().filter(|p| p.role == Role::Appliance).map(|p| p.place).collect();
        let lease =
            if site.mutation == Mutation::LongLease { Duration::from_secs(3) } else { site.distance.lease() };
        let address = (role == Role::Appliance).then(|| Box::new(kernel.clone()) as Box<_>);
        let driver = Driver {
            place,
            nodes: site.places.iter().map(|p| p.place).collect(),
            cluster: SimCluster::new(process, site.mutation),
            control: Control::new(Settings { place, appliances, lease }),
            steps: Steps::new(address, None),
            ailing: Arc::default(),
            poison: Arc::default(),
            pulses: Pulses::default(),
            commits: Commits::default(),
            chronicle: Chronicle::new(place),
            reported_at: None,
            live: Arc::default(),
            messages,
            handle: Handle(tx),
            pet: Some(Box::new(move |facts: &PetFacts| {
                *petted.lock().unwrap_or_else(PoisonError::into_inner) =
                    Petted { at: clock().mono.0, term: facts.term, leading: facts.leading, heir: facts.heir };
            })),
            clock,
            lease,
        };
        Self {
            driver,
            picture: Picture::default(),
            next_round: 0,
            engine: Engine::new(setup::engine_config(site.mutation)),
            epoch: 0,
            verdicts: Arc::default(),
            socket: VecDeque::new(),
            failed: VecDeque::new(),
            media: VecDeque::new(),
            asked: BTreeSet::new(),
            resolved: VecDeque::new(),
            mutation: site.mutation,
            active: None,
        }
    }

    /// A datagram has come for the floating IP.
    pub fn datagram(&mut self, from: SocketAddr, bytes: Vec<u8>) {
        if self.socket.len() < SOCKET_ROOM {
            self.socket.push_back((from, bytes));
        }
    }

    /// An ICMP error has come for the floating IP.
    pub fn unreachable(&mut self, at: SocketAddr) {
        if self.failed.len() < SOCKET_ROOM {
            self.failed.push_back(at);
        }
    }

    /// An rtpengine has answered.
    pub fn media(&mut self, from: SocketAddr, bytes: Vec<u8>) {
        if self.media.len() < SOCKET_ROOM {
            self.media.push_back((from, bytes));
        }
    }

    /// The DNS has answered.
    pub fn resolved(&mut self, question: Question) {
        self.resolved.push_back(question);
    }

    /// Whether nothing that it proposes has been committed for too long.
    #[must_use]
    pub fn is_late(&self, now: MonoTime) -> bool {
        self.driver.control.late(now, &self.driver.cluster.facts()).is_some()
    }

    /// An operator changes what is provisioned; he looks later whether that was done.
    pub fn operate(&self, command: SipCommand) {
        self.driver.cluster.propose(command, Box::new(|_| {}));
    }

    /// The control thread's turn. `Some`: the engine began (under a token) or ended.
    pub fn control_turn(&mut self, kicked: bool, mutation: Mutation) -> Option<Option<u64>> {
        let now = clock();
        let mut look = kicked || now.mono.0 >= self.next_round;
        while let Ok(message) = self.driver.messages.try_recv() {
            look = true;
            match message {
                Message::GrantRefused => self.driver.control.grant_refused(),
                Message::Switchover { target, reply } => {
                    let facts = self.driver.cluster.facts();
                    if let Err(why) = self.driver.control.switchover(now.mono, target, &facts) {
                        // Nobody waits for the answer here.
                        let _ = reply.try_send(Outcome::Cannot(why));
                    }
                }
                // Nobody ends a process here but the world.
                _ => {}
            }
        }
        if !look {
            return None;
        }
        let before = self.driver.steps.state();
        let decision = self.driver.round(now.mono, &mut self.picture);
        let pause = if decision.soon || self.driver.steps.state() != before { 0 } else { ROUND };
        // From the end of the round on, as in the agent's loop: it may have been stopped in its midst.
        self.next_round = clock().mono.0 + pause;
        let up = match self.picture.goal {
            Goal::Up { token } if self.picture.resources == Resources::Started => Some(token),
            _ => None,
        };
        if up.is_none() && mutation == Mutation::NoStop && self.active.is_some() {
            return None;
        }
        if up.is_some() == self.active.is_some() {
            self.active = up;
            return None;
        }
        self.active = up;
        self.epoch += 1;
        if up.is_some() {
            let engine = &mut self.engine;
            let now = self.driver.cluster.now(now);
            self.driver.cluster.read(|state| engine.activate(now, state));
        } else {
            self.engine.deactivate();
        }
        Some(up)
    }

    /// One turn of the engine's thread.
    pub fn engine_turn(&mut self, process: &Process, done: &mut Done) {
        let now = self.driver.cluster.now(clock());
        let verdicts: Vec<_> =
            self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        let (engine, socket, epoch) = (&mut self.engine, &mut self.socket, self.epoch);
        let (failed, resolved, media) = (&mut self.failed, &mut self.resolved, &mut self.media);
        self.driver.cluster.read(|state| {
            for (of, ticket, outcome) in verdicts {
                match outcome {
                    _ if of != epoch => {}
                    Ok(response) => engine.handle_committed(now, ticket, response, state),
                    Err(why) => engine.handle_refused(now, ticket, why, state),
                }
            }
            let flow_of = |remote| Flow { transport: Transport::Udp, local: vip(), remote };
            for (remote, bytes) in socket.drain(..) {
                engine.handle_datagram(now, flow_of(remote), &bytes, state);
            }
            for remote in failed.drain(..) {
                engine.handle_transport_failure(now, flow_of(remote), state);
            }
            for (from, bytes) in media.drain(..) {
                engine.handle_media(now, from, &bytes, state);
            }
            for question in resolved.drain(..) {
                let answer = setup::zone(&question);
                engine.handle_resolved(now, question, answer, state);
            }
            if engine.poll_timeout().is_some_and(|at| at <= now.mono) {
                engine.handle_timeout(now, state);
            }
        });
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Transmit { flow, bytes } => {
                    broken::send(self.mutation, flow.remote, bytes, &mut done.datagrams)
                }
                Output::Resolve { question } => done.questions.push(question),
                Output::Media { to, bytes } => {
                    if !broken::is_lost(self.mutation, &bytes, &mut self.asked) {
                        done.media.push((to, bytes));
                    }
                }
                Output::Propose { ticket, command } => {
                    let (verdicts, epoch) = (self.verdicts.clone(), self.epoch);
                    let verdict = Box::new(move |outcome| {
                        verdicts
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push_back((epoch, ticket, outcome));
                    });
                    process.inside(|| self.driver.cluster.propose(command, verdict));
                }
            }
        }
    }
}
