//! The three resources of the service, in their order: Lease → Vip → SipListen up, the reverse down.
//!
//! The order is kept by `drbd_hooks::sequence`; this file knows how each step is done here. Lease and address are the
//! kernel's matter and done at once; the engines confirm on their own threads, so SipListen is polled.

use std::sync::Arc;
use std::time::Duration;

use proxy_core::time::MonoTime;

use crate::control::{Goal, Resources};
use crate::net::sip::Sip;

/// The floating IP of this node, as the kernel sees it. All of it is quick: no process, no network.
pub trait Address: Send {
    /// Opens the kernel's gate for `left`; calling it again extends it.
    ///
    /// # Errors
    /// What the kernel said.
    fn open_gate(&mut self, left: Duration) -> Result<(), String>;
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
    /// Takes it away.
    ///
    /// # Errors
    /// What the kernel said.
    fn remove(&mut self) -> Result<(), String>;
}

/// Pause before a step that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// A resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Lease,
    Vip,
    SipListen,
}

const ORDER: [Step; 3] = [Step::Lease, Step::Vip, Step::SipListen];

/// An order to the engines that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    number: u64,
    activate: bool,
}

/// The resources of this node.
pub struct Steps {
    address: Option<Box<dyn Address>>,
    sip: Option<Arc<Sip>>,
    /// How many steps are up, from the front of [`ORDER`].
    up: usize,
    /// What the engines were told last and have to confirm.
    told: Option<Told>,
    trouble: Option<String>,
    not_before: MonoTime,
}

impl std::fmt::Debug for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steps").field("up", &self.up).field("trouble", &self.trouble).finish_non_exhaustive()
    }
}

impl Steps {
    /// All down. Without an address (no floating IP) those steps have nothing to do; without SIP (a witness) likewise.
    #[must_use]
    pub fn new(address: Option<Box<dyn Address>>, sip: Option<Arc<Sip>>) -> Self {
        Self { address, sip, up: 0, told: None, trouble: None, not_before: MonoTime(0) }
    }

    /// How far they are.
    #[must_use]
    pub fn state(&self) -> Resources {
        match (self.up, self.told) {
            (0, None) => Resources::Stopped,
            (n, None) if n == ORDER.len() => Resources::Started,
            _ => Resources::Moving,
        }
    }

    /// What went wrong last, until it goes right.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    /// Goes as far towards the goal as is possible now, and keeps up what is up.
    pub fn reach(&mut self, now: MonoTime, goal: Goal, lease_until: Option<MonoTime>) {
        let left = lease_until.map_or(Duration::ZERO, |end| end.since(now));
        match goal {
            // A newer grant to the same node renews what is up: nobody else can have owned anything in between.
            Goal::Up { token } => {
                if self.told.take_if(|t| !t.activate).is_some() {
                    // The engines were told to stop and shall go on: told again, they begin anew.
                    self.up = self.up.min(Step::SipListen as usize);
                }
                self.renew(now, left);
                while self.up < ORDER.len() && now >= self.not_before {
                    if !self.advance(now, left, token) {
                        break;
                    }
                }
            }
            Goal::Down => {
                if self.told.take_if(|t| t.activate).is_some() {
                    // Told to begin and not confirmed: taken down as if they had.
                    self.up = ORDER.len();
                }
                while self.up > 0 {
                    if !self.retreat() {
                        break;
                    }
                }
            }
        }
    }

    fn renew(&mut self, now: MonoTime, left: Duration) {
        let Some(address) = &mut self.address else { return };
        let mut outcome = Ok(());
        if self.up > Step::Lease as usize {
            outcome = address.open_gate(left);
        }
        if outcome.is_ok() && self.up > Step::Vip as usize {
            outcome = address.keep(now);
        }
        if let Err(why) = outcome {
            self.fail(now, "keeping the floating IP", &why);
        }
    }

    /// Brings the next step up; `false` if it has to be waited for.
    fn advance(&mut self, now: MonoTime, left: Duration, token: u64) -> bool {
        let Some(step) = ORDER.get(self.up) else { return false };
        let outcome = match (step, &mut self.address, &self.sip) {
            (Step::Lease, Some(address), _) => address.open_gate(left),
            (Step::Vip, Some(address), _) => address.add(now),
            (Step::Lease | Step::Vip, None, _) | (Step::SipListen, _, None) => Ok(()),
            (Step::SipListen, _, Some(sip)) => {
                let told =
                    *self.told.get_or_insert_with(|| Told { number: sip.activate(token), activate: true });
                if !sip.obeyed(told.number) {
                    return false;
                }
                self.told = None;
                Ok(())
            }
        };
        match outcome {
            Ok(()) => {
                self.up += 1;
                self.trouble = None;
                true
            }
            Err(why) => {
                self.fail(now, &format!("starting {step:?}"), &why);
                false
            }
        }
    }

    /// Takes the last step down; `false` if it has to be waited for.
    fn retreat(&mut self) -> bool {
        let Some(step) = self.up.checked_sub(1).and_then(|i| ORDER.get(i)) else { return false };
        match (step, &mut self.address, &self.sip) {
            (Step::SipListen, _, Some(sip)) => {
                let told =
                    *self.told.get_or_insert_with(|| Told { number: sip.deactivate(), activate: false });
                if !sip.obeyed(told.number) {
                    return false;
                }
                self.told = None;
            }
            // A step down that fails is not repeated: the kernel's timeouts end it, and going down must not stall.
            (Step::Vip, Some(address), _) => note(address.remove(), "removing the floating IP"),
            (Step::Lease, Some(address), _) => note(address.close_gate(), "closing the kernel's gate"),
            (Step::Vip | Step::Lease, None, _) | (Step::SipListen, _, None) => {}
        }
        self.up -= 1;
        true
    }

    fn fail(&mut self, now: MonoTime, what: &str, why: &str) {
        let text = format!("{what}: {why}");
        if self.trouble.as_ref() != Some(&text) {
            tracing::error!("{text}");
        }
        self.trouble = Some(text);
        self.not_before = now + RETRY;
    }
}

fn note(outcome: Result<(), String>, what: &str) {
    if let Err(why) = outcome {
        tracing::error!("{what}: {why}; the kernel ends it by its own timeout");
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
        fn open_gate(&mut self, left: Duration) -> Result<(), String> {
            self.note(&format!("open {}", left.as_millis()))
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
        assert_eq!((fake.said(), steps.state()), (vec!["open 140".into(), "add".into()], Resources::Started));
        steps.reach(at(30), UP, Some(at(170)));
        assert_eq!(fake.said(), ["open 140", "keep"], "what is up is kept up until the lease ends");
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
        assert_eq!(steps.state(), Resources::Moving);
        assert!(steps.trouble().is_some_and(|t| t.contains("Vip")));
        fake.break_at(None);
        fake.said();
        steps.reach(at(100), UP, Some(at(250)));
        assert_eq!(fake.said(), ["open 150"], "the gate is kept, the step waits");
        steps.reach(at(200), UP, Some(at(350)));
        assert_eq!((steps.state(), steps.trouble()), (Resources::Started, None));
    }

    #[test]
    fn a_newer_grant_to_the_same_node_interrupts_nothing() {
        let (fake, mut steps) = steps();
        steps.reach(at(0), UP, Some(at(100)));
        fake.said();
        steps.reach(at(1), Goal::Up { token: 9 }, Some(at(101)));
        assert_eq!(
            (fake.said(), steps.state()),
            (vec!["open 100".into(), "keep".into()], Resources::Started)
        );
    }

    #[test]
    fn going_down_does_not_stall_at_an_address_that_cannot_be_removed() {
        let (fake, mut steps) = steps();
        steps.reach(at(0), UP, Some(at(100)));
        fake.break_at(Some("keep"));
        steps.reach(at(1), UP, Some(at(100)));
        assert!(steps.trouble().is_some(), "the pause after a fault is for going up only");
        fake.break_at(Some("remove"));
        fake.said();
        steps.reach(at(2), Goal::Down, None);
        assert_eq!((fake.said(), steps.state()), (vec!["close".into()], Resources::Stopped));
    }
}
