//! Counts of nonces that were used, and the command that they came with.

use crate::state::{CountUse, SipCommand, SipResponse, SipState};

impl SipState {
    /// The counts first: whatever comes of the command, its request has had its answer.
    pub(super) fn counted(&mut self, counts: &[CountUse], then: Option<&SipCommand>) -> SipResponse {
        for using in counts {
            self.take_count(using);
        }
        then.map_or(SipResponse::Done, |command| self.apply(command))
    }
}
