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

/// The resources of this node.
pub struct Steps {
    address: Option<Box<dyn Address>>,
    sip: Option<Arc<Sip>>,
    /// How many steps are up, from the front of [`ORDER`].
    up: usize,
    /// The token the steps are up under.
    token: u64,
    /// The step at hand was begun and has to confirm.
    begun: bool,
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
        Self { address, sip, up: 0, token: 0, begun: false, trouble: None, not_before: MonoTime(0) }
    }

    /// How far they are.
    #[must_use]
    pub fn state(&self) -> Resources {
        match (self.up, self.begun) {
            (0, false) => Resources::Stopped,
            (n, false) if n == ORDER.len() => Resources::Started,
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
            Goal::Up { token } if self.up == 0 || token == self.token => {
                self.token = token;
                self.renew(now, left);
                while self.up < ORDER.len() && now >= self.not_before {
                    if !self.advance(now, left) {
                        break;
                    }
                }
            }
            // Up under an older token, or not wanted: down first.
            _ => {
                while (self.up > 0 || self.begun) && now >= self.not_before {
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
    fn advance(&mut self, now: MonoTime, left: Duration) -> bool {
        let Some(step) = ORDER.get(self.up) else { return false };
        let outcome = match (step, &mut self.address) {
            (Step::Lease, Some(address)) => address.open_gate(left),
            (Step::Vip, Some(address)) => address.add(now),
            (Step::Lease | Step::Vip, None) => Ok(()),
            (Step::SipListen, _) => {
                let Some(sip) = &self.sip else {
                    self.up += 1;
                    return true;
                };
                if !self.begun {
                    sip.activate(self.token);
                    self.begun = true;
                }
                if !sip.active_under(self.token) {
                    return false;
                }
                Ok(())
            }
        };
        self.begun = false;
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
        if self.begun && self.up < ORDER.len() {
            // The step above was begun and never confirmed: it is taken down as if it were up.
            if ORDER.get(self.up) == Some(&Step::SipListen) {
                self.up += 1;
                self.begun = false;
            }
        }
        let Some(step) = self.up.checked_sub(1).and_then(|i| ORDER.get(i)) else {
            self.begun = false;
            return false;
        };
        match (step, &mut self.address) {
            (Step::SipListen, _) => {
                if let Some(sip) = &self.sip {
                    if !self.begun {
                        sip.deactivate();
                        self.begun = true;
                    }
                    if !sip.is_inactive() {
                        return false;
                    }
                }
            }
            // A step down that fails is not repeated: the kernel's timeouts end it, and going down must not stall.
            (Step::Vip, Some(address)) => note(address.remove(), "removing the floating IP"),
            (Step::Lease, Some(address)) => note(address.close_gate(), "closing the kernel's gate"),
            (Step::Vip | Step::Lease, None) => {}
        }
        self.begun = false;
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
