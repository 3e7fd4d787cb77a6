//! Names on their way to addresses: questions that are open, and the requests that wait for them.

use super::Engine;
use crate::dns::{Answer, Question};
use crate::state::SipState;
use crate::time::Now;

impl Engine {
    /// The answer to `Output::Resolve`.
    pub fn handle_resolved(&mut self, now: Now, question: Question, answer: Answer, _state: &SipState) {
        if answer == Answer::Failed {
            self.counters.dns_failed += 1;
        }
        self.names.cache.insert(now.mono, &self.settings.config.dns, question, answer);
    }
}

/// What the engine knows of names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) cache: crate::dns::Cache,
}
