//! A fault of this program stays with what it came of: with one call, one dialog, one contact. That is left out, here and on
//! each node that takes over after this one; everything else goes on, and the process does not end.
//!
//! | what fails | what is left out |
//! |---|---|
//! | the rebuilding of a call at takeover | that call: nothing is sent for it, and nobody waits for its timers |
//! | whatever is done with a call, an exchange or a request of our own, but for a message | that one: it is forgotten here |
//! | a chore for a dialog, a contact, a subscription, a trunk, … | that one, until the next takeover |
//! | a chore before it comes to any of them, a verdict, a look at the news | this one time |
//! | a message | nothing here: the shell lets the engine begin anew, and knows the message again |

use std::collections::{BTreeSet, VecDeque};

use super::Engine;
use crate::contain::contained;
use crate::msg::Message;
use crate::proxy::exchange::ExchangeKey;
use crate::state::PendingInvite;

/// Most names of what is left out that are remembered, and most faults that wait to be told.
const MAX_LEFT_OUT: usize = 1024;

/// Something that this program has failed at, and therefore leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What it was, with its Call-ID or address of record.
    pub what: String,
    /// What the panic said.
    pub why: String,
}

/// Dies on order, to try out what comes of it: gets the name of what is about to be done.
pub type Drill = fn(&str);

/// What was left out since the last takeover.
#[derive(Debug, Default)]
pub(super) struct Apart {
    /// A message is being handled: a fault is the message's.
    pub(super) is_message: bool,
    left_out: BTreeSet<String>,
    untold: VecDeque<Fault>,
    drill: Option<Drill>,
}

impl Apart {
    /// What was left out gets another chance.
    pub(super) fn forget(&mut self) {
        self.left_out.clear();
        self.is_message = false;
    }
}

/// How a call is called.
pub(crate) fn name_of(record: &PendingInvite) -> String {
    name_of_call(&record.call_id, &record.key.branch)
}

/// The same, of a call in memory.
pub(super) fn name_of_call(call_id: &str, branch: &str) -> String {
    format!("the call with Call-ID {call_id} (branch {branch})")
}

/// How a request is called that is neither INVITE nor ACK.
pub(super) fn name_of_exchange(key: &ExchangeKey, request: Option<&[u8]>) -> String {
    let parsed = request.and_then(|bytes| Message::parse(bytes).ok());
    let call_id = parsed.as_ref().and_then(|m| m.call_id()).unwrap_or("of an answered request");
    format!("the {} with Call-ID {call_id} (branch {})", key.method, key.key.branch)
}

impl Engine {
    /// With somebody who dies on order. For tests and drills.
    #[must_use]
    pub fn drilled(mut self, drill: Option<Drill>) -> Self {
        self.apart.drill = drill;
        self
    }

    /// The next of what was left out; each is told once between two takeovers.
    pub fn poll_fault(&mut self) -> Option<Fault> {
        self.apart.untold.pop_front()
    }

    /// A place to die at, in builds for tests.
    pub(crate) fn drill(&self, _what: &str, _name: &str) {
        #[cfg(debug_assertions)]
        if let Some(drill) = self.apart.drill {
            drill(&format!("{_what} {_name}"));
        }
    }

    /// Does it. If that fails, `what` is left out; `None` then.
    pub(crate) fn contain<R>(
        &mut self,
        what: impl FnOnce() -> String,
        f: impl FnOnce(&mut Self) -> R,
    ) -> Option<R> {
        if self.apart.is_message {
            return Some(f(self));
        }
        match contained(|| f(self)) {
            Ok(result) => Some(result),
            Err(why) => {
                self.leave_out(what(), why);
                None
            }
        }
    }

    /// The same with one of many: if it is left out already, nothing is done.
    pub(crate) fn contain_each<R>(
        &mut self,
        what: impl Fn() -> String,
        f: impl FnOnce(&mut Self) -> R,
    ) -> Option<R> {
        if self.is_left_out(&what) { None } else { self.contain(what, f) }
    }

    /// Whether it is left out. Costs nothing while nothing is.
    pub(crate) fn is_left_out(&self, what: impl Fn() -> String) -> bool {
        !self.apart.left_out.is_empty() && self.apart.left_out.contains(&what())
    }

    fn leave_out(&mut self, what: String, why: String) {
        self.counters.left_out += 1;
        if self.apart.left_out.len() < MAX_LEFT_OUT && self.apart.left_out.insert(what.clone()) {
            if self.apart.untold.len() >= MAX_LEFT_OUT {
                self.apart.untold.pop_front();
            }
            self.apart.untold.push_back(Fault { what, why });
        }
    }
}
