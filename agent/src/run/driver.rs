//! The control thread: a few times per lease it asks Raft for facts, lets [`Control`] decide, and carries the decision
//! out: resources, kernel lease, grants, transfer, and the petting of the guard. It has real-time priority where that
//! is allowed, holds no lock of the SIP side, and never waits for the network or a disk.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::Duration;

use proxy_core::time::{Clocks, MonoTime};
use raft_store::command::{Command, GrantReason};

use super::ailing::Ailing;
use super::backend::refusal;
use super::chronicle::Chronicle;
use super::commits::Commits;
use super::live::{Live, Picture};
use super::pulse::Pulses;
use super::resources::Steps;
use crate::admin::Reply;
use crate::bridge::Cluster;
use crate::control::{
    APPOINTMENT_GRACE, Ailment, Ask, CannotSwitch, Control, Decision, Facts, Fitness, Goal, News, Place,
    Resources, SOON, Turn,
};
use crate::net::poison::Poison;

/// Messages that wait for the control thread; more kicks are of no use, more requests are refused.
pub const MAX_MESSAGES: usize = 64;
/// Rounds per lease of a node that leads.
const ROUNDS_PER_LEASE: u32 = 4;
/// Longest pause between two rounds while the service is new here: the announcements after a takeover need it.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// So long the service is new.
const BUSY_FOR: Duration = Duration::from_secs(3);
/// Longest pause of a node that does not lead. It has nothing to renew, and hears at once of what changes.
const STANDBY_PAUSE: Duration = Duration::from_millis(200);
/// What ails this node is told the cluster at most so often.
const REPORT_PAUSE: Duration = Duration::from_millis(500);
/// Time the resources get to stop at the end before the process ends regardless.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// What the control thread is told.
pub enum Message {
    /// Something changed: look now.
    Kick,
    /// An operator asks for a hand-over.
    Switchover {
        /// To whom.
        target: Option<Place>,
        /// Where the outcome goes.
        reply: SyncSender<Outcome>,
    },
    /// Somebody has changed something about the floating IP on this machine.
    Disturbed,
    /// A grant this node proposed was refused.
    GrantRefused,
    /// The process shall end cleanly.
    Shutdown,
    /// The node cannot go on, for this reason: it gives up the service and ends.
    Fatal(String),
}

/// How a request for a hand-over ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It could not begin.
    Cannot(CannotSwitch),
    /// It began, and ended so.
    Ended(News),
}

/// The sending side.
#[derive(Clone)]
pub struct Handle(pub SyncSender<Message>);

impl Handle {
    /// Has the control thread look now.
    pub fn kick(&self) {
        // Full means that it is about to look anyway.
        let _ = self.0.try_send(Message::Kick);
    }

    /// Says something; `false` if the queue is full or the thread is gone.
    #[must_use]
    pub fn tell(&self, message: Message) -> bool {
        self.0.try_send(message).is_ok()
    }
}

/// Told the guard in each round.
pub type Pet = Box<dyn FnMut(&PetFacts) + Send>;

/// What the guard has to know to act for a dead agent.
#[derive(Debug, Clone, Copy)]
pub struct PetFacts {
    /// Raft's term.
    pub term: u64,
    /// This node leads.
    pub leading: bool,
    /// Who should follow.
    pub heir: Option<Place>,
    /// End of the lease, while the service is here.
    pub lease_until: Option<MonoTime>,
    /// Another appliance holds the service, or is fit, heard and caught up.
    pub elsewhere: bool,
}

/// How the control thread ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// As asked, after a hand-over where one was possible.
    Clean,
    /// The store failed.
    Fatal(String),
    /// A resource cannot be stopped by this process: the guard has to.
    Stuck(String),
}

/// The control thread's own.
pub struct Driver<C> {
    /// This node.
    pub place: Place,
    /// All nodes, this one too.
    pub nodes: Vec<Place>,
    /// The cluster.
    pub cluster: C,
    /// The decisions.
    pub control: Control,
    /// The resources.
    pub steps: Steps,
    /// What ails this node.
    pub ailing: Arc<Ailing>,
    /// The messages that engines have died with.
    pub poison: Arc<Poison>,
    /// The threads that calls need.
    pub pulses: Pulses,
    /// Who does not acknowledge.
    pub commits: Commits,
    /// What is told of moves of the service.
    pub chronicle: Chronicle,
    /// When the cluster was told of either last.
    pub reported_at: Option<MonoTime>,
    /// For the admin socket.
    pub live: Arc<Live>,
    /// What it is told.
    pub messages: Receiver<Message>,
    /// For verdicts on its grants.
    pub handle: Handle,
    /// Told in each round.
    pub pet: Option<Pet>,
    /// The clocks.
    pub clock: fn() -> Clocks,
    /// The lease.
    pub lease: Duration,
}

impl<C: Cluster> Driver<C> {
    /// Runs until the process is to end.
    #[must_use]
    pub fn run(mut self) -> End {
        let mut up_since: Option<MonoTime> = None;
        let mut waiting: Option<SyncSender<Outcome>> = None;
        let mut picture = Picture::default();
        let mut last_round = (self.clock)().mono;
        loop {
            if let Some(why) = self.cluster.fatal() {
                return self.end(End::Fatal(why), picture);
            }
            if let Some(why) = self.steps.stuck() {
                return self.end(End::Stuck(why), picture);
            }
            let now = (self.clock)().mono;
            picture.longest_round = picture.longest_round.max(now.since(last_round));
            last_round = now;
            let before = self.steps.state();
            let decision = self.round(now, &mut picture);
            if let (Some(news), Some(reply)) = (decision.news, waiting.take_if(|_| decision.news.is_some())) {
                // Whoever asked may have gone away.
                let _ = reply.try_send(Outcome::Ended(news));
            }
            if decision.may_exit {
                return self.end(End::Clean, picture);
            }
            // Something came up or down in this round: what follows from that is decided now, not a pause later.
            let pause = match self.steps.state() == before {
                false => Duration::ZERO,
                true if decision.soon => SOON,
                true => self.pause(now, &decision, &mut up_since),
            };
            let mut next = self.messages.recv_timeout(pause);
            // All that is waiting, then one round.
            loop {
                match next {
                    Ok(Message::Kick) => {}
                    Ok(Message::Disturbed) => self.steps.disturbed(),
                    Ok(Message::GrantRefused) => self.control.grant_refused(),
                    Ok(Message::Fatal(why)) => return self.end(End::Fatal(why), picture),
                    Ok(Message::Shutdown) => self.control.shutdown((self.clock)().mono),
                    Ok(Message::Switchover { target, reply }) => {
                        let facts = self.cluster.facts();
                        match self.control.switchover((self.clock)().mono, target, &facts) {
                            Ok(to) => {
                                tracing::info!("switchover to node {to} asked for");
                                waiting = Some(reply);
                            }
                            Err(why) => {
                                let _ = reply.try_send(Outcome::Cannot(why));
                            }
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => break,
                    // Nobody is left to tell anything: the process is ending.
                    Err(RecvTimeoutError::Disconnected) => return self.end(End::Clean, picture),
                }
                next = self.messages.try_recv().map_err(|_| RecvTimeoutError::Timeout);
            }
        }
    }

    /// How long nothing has to be done unless something changes, which is told.
    fn pause(&self, now: MonoTime, decision: &Decision, up_since: &mut Option<MonoTime>) -> Duration {
        let Some(end) = decision.lease_until else {
            *up_since = None;
            let led = decision.heir.is_some() || self.steps.state() != Resources::Stopped;
            return if led { BUSY_PAUSE } else { STANDBY_PAUSE };
        };
        let since = *up_since.get_or_insert(now);
        let usual = self.lease / ROUNDS_PER_LEASE;
        let pause = if now.since(since) < BUSY_FOR { usual.min(BUSY_PAUSE) } else { usual };
        // The end of the lease is not overslept.
        pause.min(end.since(now).max(SOON))
    }

    /// One look at the facts, and all that follows from it. `run` calls it again and again; a simulation does so, too.
    pub fn round(&mut self, now: MonoTime, picture: &mut Picture) -> Decision {
        let mut facts = self.cluster.facts();
        picture.pulses = self.pulses.look(&facts, &self.ailing);
        self.commits.look(now, &facts).iter().for_each(|line| tracing::warn!("{line}"));
        self.look_at_myself(now, &mut facts);
        let decision = self.control.decide(now, &facts, self.steps.state());
        if decision.goal != picture.goal {
            match decision.goal {
                Goal::Up { token } => {
                    picture.takeovers += 1;
                    tracing::info!("active under token {token} in term {}", facts.term);
                }
                Goal::Down => tracing::info!("not active any more (term {})", facts.term),
            }
        }
        self.steps.reach(now, decision.goal, decision.lease_until);
        let up = match decision.goal {
            Goal::Up { token } if self.steps.state() == Resources::Started => Some(token),
            _ => None,
        };
        self.chronicle.look((self.clock)(), &facts, up, &self.cluster);
        for ask in &decision.ask {
            match *ask {
                Ask::Grant { holder } => {
                    tracing::info!("proposing to grant the service to node {holder}");
                    if decision.goal != Goal::Down {
                        self.chronicle.gives(holder, self.control.cause(&facts));
                    }
                    let handle = self.handle.clone();
                    let why = match decision.goal {
                        Goal::Up { .. } => GrantReason::Switchover,
                        Goal::Down if facts.leader == Some(holder) => GrantReason::Elected,
                        Goal::Down => GrantReason::Unfit,
                    };
                    self.cluster.grant(
                        holder,
                        why,
                        Box::new(move |ok| {
                            if ok {
                                handle.kick();
                            } else {
                                // Lost if the queue is full: the grant is then repeated after its time.
                                let _ = handle.tell(Message::GrantRefused);
                            }
                        }),
                    );
                }
                Ask::TakeBack { from } => {
                    let why = facts.transfer_refused.as_deref().unwrap_or("it does not say why");
                    tracing::warn!(
                        "node {from} has not taken leadership after term {}: {why}; taking it back",
                        facts.term
                    );
                    picture.refused.clone_from(&facts.transfer_refused);
                    self.cluster.take_back(from);
                }
                Ask::Transfer { to } => {
                    picture.refused = None;
                    tracing::info!("transferring leadership of term {} to node {to}", facts.term);
                    self.cluster.transfer(to);
                }
                Ask::Abdicate { lasts } => {
                    let s = lasts.as_secs_f64();
                    tracing::error!(
                        "abdicating in term {}: nothing commits here, and others could do it; silent for {s:.1} s",
                        facts.term
                    );
                    self.cluster.abdicate(lasts);
                }
            }
        }
        if let Some(turn) = self.control.appointment(now, &facts, decision.goal) {
            self.keep_appointment(turn, &facts);
        }
        if let Some(pet) = &mut self.pet {
            pet(&PetFacts {
                term: facts.term,
                leading: facts.leading,
                heir: decision.heir,
                lease_until: decision.lease_until,
                elsewhere: decision.elsewhere,
            });
        }
        picture.fitness = facts.fitness;
        picture.goal = decision.goal;
        picture.lease_until = decision.lease_until;
        picture.heir = decision.heir;
        picture.resources = self.steps.state();
        picture.trouble = self.steps.trouble();
        picture.amended = self.steps.amended();
        self.live.show(picture.clone());
        decision
    }

    /// What has come of a planned switchover.
    fn keep_appointment(&self, turn: Turn, facts: &Facts) {
        match turn {
            Turn::Begun { to } => tracing::info!("the planned switchover to node {to} begins"),
            Turn::NotYet { why } => {
                if let Reply::Error { error, .. } = refusal(&why) {
                    let s = APPOINTMENT_GRACE.as_secs();
                    tracing::warn!(
                        "the planned switchover cannot begin, and is tried again for {s} s: {error}"
                    );
                }
            }
            Turn::Over { id, kept } => {
                let to = facts.planned.map_or(0, |p| p.to);
                if kept {
                    tracing::info!("the planned switchover to node {to} has come true");
                } else {
                    tracing::error!(
                        "the planned switchover to node {to} has not come true within {} s and is given up: \
                         see relevo status for what ails that node, then relevo switchover {to}",
                        APPOINTMENT_GRACE.as_secs()
                    );
                }
                // One that is lost is told again.
                self.cluster.order(Command::Unplan { id }, Box::new(|_| ()));
            }
        }
    }

    /// What ails this node counts here at once. The others hear of it through the log.
    fn look_at_myself(&mut self, now: MonoTime, facts: &mut Facts) {
        self.ailing.set(Ailment::Clock, facts.is_clock_odd);
        let found = self.ailing.fitness(now);
        let own = if self.steps.unfit() { found.with(Ailment::Resources) } else { found };
        let own = if facts.path_is_narrow { own.with(Ailment::Path) } else { own };
        let known = facts.fitness_of(self.place);
        let by_others = [Ailment::Unhealthy, Ailment::Drained].into_iter().filter(|a| known.has(*a));
        let fitness = by_others.fold(own, Fitness::with);
        let is_due = self.reported_at.is_none_or(|at| now.since(at) >= REPORT_PAUSE);
        if facts.leader.is_some() && is_due {
            if fitness != known {
                self.reported_at = Some(now);
                self.cluster.report(self.place, own);
            }
            if let Some((fingerprint, moment)) = self.poison.untold(self.place, &facts.suspects) {
                self.reported_at = Some(now);
                self.cluster.suspect(fingerprint, self.place, moment);
            }
        }
        if !facts.suspects.is_empty() {
            let proven = facts.suspects.iter().filter(|s| s.is_proven()).map(|s| s.fingerprint);
            self.poison.refuse(&proven.collect::<Vec<_>>());
        }
        facts.fitness.retain(|(place, _)| *place != self.place);
        facts.ail(self.place, fitness);
        self.steps.refuse_new(!facts.has_room(self.place, &self.nodes));
    }

    /// Takes the service down, waits for it within a bound, and says how it ended.
    fn end(mut self, end: End, mut picture: Picture) -> End {
        let since = (self.clock)().mono;
        picture.ending = true;
        picture.goal = Goal::Down;
        loop {
            let now = (self.clock)().mono;
            self.steps.reach(now, Goal::Down, None);
            picture.resources = self.steps.state();
            self.live.show(picture.clone());
            // Before it is over, too: the guard ends an agent that leads and hangs up, and its exit code is lost then.
            if let Some(pet) = &mut self.pet {
                pet(&PetFacts { term: 0, leading: false, heir: None, lease_until: None, elsewhere: false });
            }
            let over = picture.resources == Resources::Stopped || self.steps.stuck().is_some();
            if over || now.since(since) > STOP_LIMIT {
                return end;
            }
            // A kick comes when an engine has stopped.
            let _ = self.messages.recv_timeout(Duration::from_millis(2));
        }
    }
}

/// Sends a message that must not be lost, waiting for room.
pub fn insist(handle: &Handle, mut message: Message) {
    const PAUSE: Duration = Duration::from_millis(5);
    while let Err(TrySendError::Full(back)) = handle.0.try_send(message) {
        message = back;
        std::thread::sleep(PAUSE);
    }
}
