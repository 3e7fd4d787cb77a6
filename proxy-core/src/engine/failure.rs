//! Flows that lead nowhere: RFC 3261 §18.4, §17.1.4, §16.9.

use super::Engine;
use crate::state::{Flow, SipState};
use crate::time::Now;

impl Engine {
    /// Nothing can be sent on this flow: the connection could not be made, or broke, or an ICMP error came back. What
    /// waits for a first answer from there fails as with a 503 (§16.9), or goes on at another address.
    pub fn handle_transport_failure(&mut self, _now: Now, _flow: Flow, _state: &SipState) {
        self.counters.transport_failures += 1;
    }
}
