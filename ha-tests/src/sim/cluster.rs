//! The replicated store as the agent's control thread and engine use it, over a simulated process. What is asked, and
//! what the answers and facts are taken for, is the agent's own code: `agent::cluster` and `raft_store::node`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use agent::bridge::{Cluster, Store, Verdict};
use agent::cluster::answer;
use agent::control::{Facts, Fitness, Place};
use proxy_core::io::Refusal;
use proxy_core::state::message_store::MessageCommand;
use proxy_core::state::subscriptions::SubscriptionCommand;
use proxy_core::state::{SipCommand, SipState};
use proxy_core::time::{Clocks, Now, WallTime};
use raft_store::command::{Command, GrantReason};
use raft_store::state::Event;

use super::broken::{Mutation, spoilt};
use super::kernel::clock;
use super::process::{Process, Running};

/// One process's part of the cluster.
#[derive(Clone)]
pub struct SimCluster {
    door: Arc<OnceLock<Running>>,
    runtime: tokio::runtime::Handle,
    empty: Arc<SipState>,
    mutation: Mutation,
}

impl SimCluster {
    /// The part that `process` has, and what is broken in it on purpose.
    #[must_use]
    pub fn new(process: &Process, mutation: Mutation) -> Self {
        let (door, runtime) = process.parts();
        Self { door, runtime, empty: Arc::default(), mutation }
    }
}

impl Store for SimCluster {
    fn read<R>(&self, f: impl FnOnce(&SipState) -> R) -> R {
        match self.door.get() {
            Some(running) => running.core.view().read(|state| f(state.sip())),
            None => f(&self.empty),
        }
    }

    fn now(&self, clocks: Clocks) -> Now {
        let wall = WallTime(clocks.real.0);
        let wall = match self.door.get() {
            Some(running) if self.mutation != Mutation::WallClock => running.core.time().at(clocks.mono),
            _ => wall,
        };
        Now { mono: clocks.mono, wall }
    }

    fn propose(&self, command: SipCommand, done: Verdict) {
        let Some(running) = self.door.get() else { return done(Err(Refusal::NotActive)) };
        if is_early(self.mutation, &command) {
            let mut state = self.read(SipState::clone);
            done(Ok(state.apply(&command)));
            running.core.propose(vec![Command::Sip(command)], Box::new(|_| {}));
            return;
        }
        let now = self.now(clock()).wall;
        let commands = self.read(|state| spoilt(self.mutation, command, state, now));
        running.core.propose(commands.into_iter().map(Command::Sip).collect(), answer(done));
    }
}

/// Whether a broken store says that this is committed as soon as it is asked.
fn is_early(mutation: Mutation, command: &SipCommand) -> bool {
    match mutation {
        Mutation::EarlyVerdict => true,
        Mutation::EarlyNote => matches!(command, SipCommand::Message(MessageCommand::Keep { .. })),
        Mutation::EarlyLamp => {
            matches!(command, SipCommand::Subscription(SubscriptionCommand::Subscribe(_)))
        }
        _ => false,
    }
}

impl Cluster for SimCluster {
    fn facts(&self) -> Facts {
        let mut facts: Facts = self.door.get().map(|running| running.core.facts().into()).unwrap_or_default();
        if self.mutation == Mutation::BlindTransfer {
            for peer in &mut facts.peers {
                (peer.lag, peer.last_ack) = (Some(0), Some(clock().mono));
            }
        }
        facts.others_could &= self.mutation != Mutation::NoAbdication;
        facts
    }

    fn grant(&self, holder: Place, reason: GrantReason, done: Box<dyn FnOnce(bool) + Send>) {
        let command = Command::Grant { holder, reason, at: self.now(clock()).wall };
        let Some(running) = self.door.get() else { return done(false) };
        if self.mutation == Mutation::NoLastChoice && self.facts().fitness_of(holder).is_grave() {
            return done(false);
        }
        let _inside = self.runtime.enter();
        running.core.propose_anywhere(vec![command], Box::new(move |outcome| done(outcome.is_ok())));
    }

    fn report(&self, place: Place, own: Fitness) {
        let Some(running) = self.door.get() else { return };
        let _inside = self.runtime.enter();
        running.core.propose_anywhere(vec![Command::Fitness { place, own }], Box::new(|_| ()));
    }

    fn tell(&self, event: Event) {
        let Some(running) = self.door.get() else { return };
        let _inside = self.runtime.enter();
        running.core.propose_anywhere(vec![Command::Event(event)], Box::new(|_| ()));
    }

    fn history(&self) -> Vec<Event> {
        let read = |running: &Running| running.core.view().read(|state| state.history().to_vec());
        self.door.get().map(read).unwrap_or_default()
    }

    fn transfer(&self, to: Place) {
        if let Some(running) = self.door.get() {
            running.core.transfer_leadership(to);
        }
    }

    fn take_back(&self, from: Place) {
        if let Some(core) = self.door.get().map(|running| running.core.clone()) {
            self.runtime.spawn(async move { core.take_back(from).await });
        }
    }

    fn abdicate(&self, lasts: Duration) {
        let Some(running) = self.door.get() else { return };
        let _inside = self.runtime.enter();
        running.core.abdicate(lasts);
    }
}
