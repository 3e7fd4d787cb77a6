//! The resources of the service: Lease → Vip → SipListen up, the reverse down.
//!
//! The order is kept by `drbd_hooks::sequence`; this file knows how each step is done here. Lease and address are the
//! kernel's matter and done at once; the engines confirm on their own threads, so SipListen is polled.

use std::sync::Arc;
use std::time::Duration;

use drbd_hooks::sequence::{self, Action, Outcome, RunStep, Sequence, State, Todo};
use drbd_hooks::steps::Step;
use proxy_core::time::MonoTime;

use super::amends::{Amended, Amends};
use crate::control::{Goal, Resources};
use crate::net::sip::Sip;

/// The floating IP of this node, as the kernel sees it. All of it is quick: no process, no network.
pub trait Address: Send {
    /// Opens the kernel's gate until `until` and not longer; calling it again extends it. The process may be stopped
    /// between two instructions, for any time: whoever does this looks at the clock again when the kernel has acted,
    /// and closes the gate where it was opened for a time that is over.
    ///
    /// # Errors
    /// What the kernel said.
    fn open_gate(&mut self, until: MonoTime) -> Result<(), String>;
    /// Closes the gate now.
    ///
    /// # Errors
    /// What the kernel said.
    fn close_gate(&mut self) -> Result<(), String>;
    /// Puts the address on the interface and announces it.
    ///
    /// # Errors
    /// What the kernel said.
    fn add(&mut self, now: MonoTime) -> Result<(), String>;
    /// Keeps it there for some more time, and announces it where an announcement is due.
    ///
    /// # Errors
    /// What the kernel said.
    fn keep(&mut self, now: MonoTime) -> Result<(), String>;
    /// Puts right what others have changed of the gate (which is open or not) and the address (which is there or not),
    /// and says what that was. A gate that was made anew is closed until it is opened again.
    ///
    /// # Errors
    /// What the kernel said.
    fn put_right(&mut self, _now: MonoTime, _open: bool, _there: bool) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
    /// Takes it away.
    ///
    /// # Errors
    /// What the kernel said.
    fn remove(&mut self) -> Result<(), String>;
}

/// What others may have changed is looked at so often; at once when the kernel says that an address has changed.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Pause before a sequence that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// Failures in a row after which this node does not look able to serve.
const FAILURES_UNFIT: u32 = 3;

/// An order to the engines that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    /// Of the step in the sequence.
    id: u64,
    /// Of the order.
    number: u64,
}

/// The resources of this node.
pub struct Steps {
    sequence: Sequence,
    address: Option<Box<dyn Address>>,
    sip: Option<Arc<Sip>>,
    told: Option<Told>,
    /// What is up and has to be kept up: the gate, the address.
    gate_open: bool,
    address_there: bool,
    trouble: Option<String>,
    failures: u32,
    not_before: MonoTime,
    stuck: Option<String>,
    /// When to look next for what others have changed.
    look_next: MonoTime,
    amends: Amends,
}

impl std::fmt::Debug for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steps").field("sequence", &self.sequence.state()).finish_non_exhaustive()
    }
}

impl Steps {
    /// All down. Without an address (no floating IP) those steps have nothing to do; without SIP (a witness) likewise.
    #[must_use]
    pub fn new(address: Option<Box<dyn Address>>, sip: Option<Arc<Sip>>) -> Self {
        Self {
            sequence: Sequence::default(),
            address,
            sip,
            told: None,
            gate_open: false,
            address_there: false,
            trouble: None,
            failures: 0,
            not_before: MonoTime(0),
            stuck: None,
            look_next: MonoTime(0),
            amends: Amends::default(),
        }
    }

    /// Something was changed on this machine: look at once.
    pub fn disturbed(&mut self) {
        self.look_next = MonoTime(0);
    }

    /// What others have changed of gate and address, and this node has put right.
    #[must_use]
    pub fn amended(&self) -> Vec<Amended> {
        self.amends.all()
    }

    /// How far they are.
    #[must_use]
    pub fn state(&self) -> Resources {
        match self.sequence.state() {
            State::Stopped | State::Failed(_) => Resources::Stopped,
            State::Started(_) => Resources::Started,
            State::Moving | State::Stuck => Resources::Moving,
        }
    }

    /// What went wrong last, until it goes right.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    /// Whether it has gone wrong so often that another node should try.
    #[must_use]
    pub fn unfit(&self) -> bool {
        self.failures >= FAILURES_UNFIT
    }

    /// Why this process cannot take the service down: somebody stronger has to.
    #[must_use]
    pub fn stuck(&self) -> Option<String> {
        self.stuck.clone()
    }

    /// Whether the engines take in nothing new, for there is no room to remember it.
    pub fn refuse_new(&self, refuse: bool) {
        if let Some(sip) = &self.sip {
            sip.refuse_new(refuse);
        }
    }

    /// Goes as far towards the goal as is possible now, and keeps up what is up.
    pub fn reach(&mut self, now: MonoTime, goal: Goal, lease_until: Option<MonoTime>) {
        let until = lease_until.unwrap_or(now);
        if let Some(sip) = &self.sip {
            sip.lease(lease_until.filter(|_| goal != Goal::Down));
        }
        match goal {
            Goal::Up { token } => self.aim(now, token),
            // Never stale: it has no token.
            Goal::Down => drop(self.sequence.set_goal(sequence::Goal::Down)),
        }
        // Before the renewal, which opens a gate that was made anew.
        self.put_right(now);
        if goal != Goal::Down {
            self.keep(now, until);
        }
        loop {
            self.hear_engines();
            let Some(todo) = self.sequence.poll_step(Duration::from_nanos(now.0)) else { break };
            match todo {
                Todo::Run(run) => self.run(now, run, until),
                Todo::Escalate { step, why } => {
                    let text = format!("{step:?} cannot be stopped: {why}");
                    tracing::error!("{text}");
                    self.stuck = Some(text);
                }
            }
        }
        self.note_outcome(now);
    }

    fn aim(&mut self, now: MonoTime, token: u64) {
        if matches!(self.sequence.state(), State::Failed(_)) && now >= self.not_before {
            self.sequence.retry();
        }
        // A newer grant to the same node renews what is up: nobody else can have owned anything in between, or else the
        // goal would have been down first (see `control`).
        let taken = match self.sequence.renew(token) {
            Ok(false) => self.sequence.set_goal(sequence::Goal::Up { token }),
            Ok(true) => Ok(()),
            Err(stale) => Err(stale),
        };
        if let Err(stale) = taken {
            // Grants are applied in the order of their tokens.
            tracing::error!("{stale}");
        }
    }

    /// Renews what ends by itself.
    fn keep(&mut self, now: MonoTime, until: MonoTime) {
        let Some(address) = &mut self.address else { return };
        let mut outcome = Ok(());
        if self.gate_open {
            outcome = address.open_gate(until);
        }
        if outcome.is_ok() && self.address_there {
            outcome = address.keep(now);
        }
        match outcome {
            Err(why) => self.note_trouble(&format!("keeping the floating IP: {why}")),
            Ok(()) if self.state() == Resources::Started => self.trouble = None,
            Ok(()) => {}
        }
    }

    /// Looks for what others have changed, while nothing is on its way up or down here.
    fn put_right(&mut self, now: MonoTime) {
        let is_at_rest = self.stuck.is_none() && self.state() != Resources::Moving;
        let Some(address) = self.address.as_mut().filter(|_| is_at_rest && now >= self.look_next) else {
            return;
        };
        self.look_next = now + LOOK_EVERY;
        match address.put_right(now, self.gate_open, self.address_there) {
            Ok(amended) => {
                for line in amended.into_iter().filter_map(|what| self.amends.note(now, what)) {
                    tracing::error!("{line}");
                }
            }
            Err(why) => self.note_trouble(&format!("looking after the floating IP: {why}")),
        }
    }

    fn hear_engines(&mut self) {
        let obeyed = |told: &mut Told| self.sip.as_ref().is_none_or(|sip| sip.obeyed(told.number));
        if let Some(told) = self.told.take_if(obeyed) {
            self.sequence.handle_reported(told.id, Outcome::Done);
        }
    }

    fn run(&mut self, now: MonoTime, run: RunStep<Step>, until: MonoTime) {
        let outcome = match (run.step, &mut self.address, &self.sip) {
            (Step::Lease, Some(address), _) => {
                self.gate_open = run.action == Action::Start;
                match run.action {
                    Action::Start => address.open_gate(until),
                    Action::Stop => address.close_gate(),
                }
            }
            (Step::Vip, Some(address), _) => {
                self.address_there = run.action == Action::Start;
                match run.action {
                    Action::Start => address.add(now),
                    Action::Stop => address.remove(),
                }
            }
            (Step::SipListen, _, Some(sip)) => {
                let number = match run.action {
                    Action::Start => sip.activate(run.token),
                    Action::Stop => sip.deactivate(),
                };
                // Takes the place of an order to start that was not confirmed: engines obey in order.
                self.told = Some(Told { id: run.id, number });
                return;
            }
            (Step::Lease | Step::Vip, None, _) | (Step::SipListen, _, None) => Ok(()),
        };
        let outcome = outcome.map_or_else(Outcome::Failed, |()| Outcome::Done);
        self.sequence.handle_reported(run.id, outcome);
    }

    fn note_outcome(&mut self, now: MonoTime) {
        match self.sequence.state() {
            State::Started(_) if self.failures > 0 => {
                self.failures = 0;
                self.trouble = None;
            }
            // Noted once: until the pause is over the state stays as it is.
            State::Failed(why) if now >= self.not_before => {
                self.failures = self.failures.saturating_add(1);
                self.not_before = now + RETRY;
                self.note_trouble(&why);
            }
            _ => {}
        }
    }

    fn note_trouble(&mut self, text: &str) {
        if self.trouble.as_deref() != Some(text) {
            tracing::error!("{text}");
            self.trouble = Some(text.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Fake(Arc<Mutex<(Vec<String>, Option<&'static str>)>>);

    impl Fake {
        fn note(&self, what: &str) -> Result<(), String> {
            let mut inner = self.0.lock().expect("one thread");
            if inner.1 == Some(what.split(' ').next().unwrap_or_default()) {
                return Err(String::from("no"));
            }
            inner.0.push(what.to_owned());
            Ok(())
        }

        fn break_at(&self, what: Option<&'static str>) {
            self.0.lock().expect("one thread").1 = what;
        }

        fn said(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().expect("one thread").0)
        }
    }

    impl Address for Fake {
        fn open_gate(&mut self, until: MonoTime) -> Result<(), String> {
            self.note(&format!("open until {}", until.0 / 1_000_000))
        }
        fn close_gate(&mut self) -> Result<(), String> {
            self.note("close")
        }
        fn add(&mut self, _: MonoTime) -> Result<(), String> {
            self.note("add")
        }
        fn keep(&mut self, _: MonoTime) -> Result<(), String> {
            self.note("keep")
        }
        fn remove(&mut self) -> Result<(), String> {
            self.note("remove")
        }
        fn put_right(&mut self, _: MonoTime, open: bool, there: bool) -> Result<Vec<String>, String> {
            let meddled = self.0.lock().expect("one thread").1 == Some("meddled");
            Ok(if meddled { vec![format!("open {open}, there {there}")] } else { Vec::new() })
        }
    }

    fn at(ms: u64) -> MonoTime {
        MonoTime(ms * 1_000_000)
    }

    fn steps() -> (Fake, Steps) {
        let fake = Fake::default();
        (fake.clone(), Steps::new(Some(Box::new(fake)), None))
    }

    const UP: Goal = Goal::Up { token: 7 };

    #[test]
    fn up_is_gate_then_address_and_down_is_the_reverse() {
        let (fake, mut steps) = steps();
        assert_eq!(steps.state(), Resources::Stopped);
        steps.reach(at(10), UP, Some(at(150)));
        assert_eq!(
            (fake.said(), steps.state()),
            (vec!["open until 150".into(), "add".into()], Resources::Started)
        );
        steps.reach(at(30), UP, Some(at(170)));
        assert_eq!(fake.said(), ["open until 170", "keep"], "what is up is kept up until the lease ends");
        steps.reach(at(40), Goal::Down, None);
        assert_eq!((fake.said(), steps.state()), (vec!["remove".into(), "close".into()], Resources::Stopped));
        steps.reach(at(50), Goal::Down, None);
        assert_eq!(fake.said(), Vec::<String>::new(), "down is down");
    }

    #[test]
    fn an_address_that_cannot_be_added_is_trouble_and_is_tried_again_later() {
        let (fake, mut steps) = steps();
        fake.break_at(Some("add"));
        steps.reach(at(0), UP, Some(at(150)));
        assert_eq!(fake.said(), ["open until 150", "remove", "close"], "half up goes down again");
        assert_eq!(steps.state(), Resources::Stopped);
        assert!(steps.trouble().is_some_and(|t| t.contains("Vip")));
        steps.reach(at(100), UP, Some(at(250)));
        assert_eq!(fake.said(), Vec::<String>::new(), "not before the pause is over");
        for ms in [200, 400] {
            assert!(!steps.unfit());
            steps.reach(at(ms), UP, Some(at(ms + 150)));
        }
        assert!(steps.unfit(), "three failures: another node should try");
        fake.break_at(None);
        steps.reach(at(600), UP, Some(at(750)));
        assert_eq!((steps.state(), steps.trouble(), steps.unfit()), (Resources::Started, None, false));
    }

    #[test]
    fn a_newer_grant_to_the_same_node_interrupts_nothing() {
        let (fake, mut steps) = steps();
        steps.reach(at(0), UP, Some(at(100)));
        fake.said();
        steps.reach(at(1), Goal::Up { token: 9 }, Some(at(101)));
        assert_eq!(
            (fake.said(), steps.state()),
            (vec!["open until 101".into(), "keep".into()], Resources::Started)
        );
    }

    #[test]
    fn an_address_that_cannot_be_removed_is_a_matter_for_the_guard_and_the_gate_is_closed_all_the_same() {
        let (fake, mut steps) = steps();
        steps.reach(at(0), UP, Some(at(100)));
        fake.break_at(Some("keep"));
        steps.reach(at(1), UP, Some(at(100)));
        assert!(steps.trouble().is_some_and(|t| t.contains("keeping")));
        fake.break_at(Some("remove"));
        fake.said();
        steps.reach(at(2), Goal::Down, None);
        assert_eq!(fake.said(), ["close"]);
        assert!(steps.stuck().is_some_and(|why| why.contains("Vip")));
        assert_ne!(steps.state(), Resources::Stopped);
    }

    #[test]
    fn what_others_change_is_put_right_up_and_down_and_said() {
        let (fake, mut steps) = steps();
        fake.break_at(Some("meddled"));
        steps.reach(at(1000), Goal::Down, None);
        let amended =
            |steps: &Steps| steps.amended().into_iter().map(|a| (a.what, a.times)).collect::<Vec<_>>();
        assert_eq!(amended(&steps), [(String::from("open false, there false"), 1)]);
        steps.reach(at(1010), UP, Some(at(1150)));
        assert_eq!(amended(&steps).len(), 1, "not in every round");
        steps.disturbed();
        steps.reach(at(1020), UP, Some(at(1160)));
        assert_eq!(amended(&steps)[1], (String::from("open true, there true"), 1), "at once when it is told");
        assert_eq!(steps.state(), Resources::Started);
    }

    #[test]
    fn going_down_and_up_again_ends_up_whatever_is_under_way() {
        let (_, mut steps) = steps();
        for round in 0..20 {
            steps.reach(at(round), UP, Some(at(round + 100)));
            assert_eq!(steps.state(), Resources::Started);
            steps.reach(at(round), Goal::Down, None);
            assert_eq!(steps.state(), Resources::Stopped);
        }
    }
}
