//! Nonce counts on their way to the other nodes.
//!
//! A count that was used goes with the next command that this engine proposes: of a REGISTER or an INVITE with that of
//! the request itself, so that it costs no commit of its own and is safe before the request is acknowledged. Counts of
//! requests that change nothing go by themselves at the next tick, all in one command. One whose command was refused is
//! told again only when its request comes again.

use crate::engine::limits::MAX_COUNTS;
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::state::{Count, CountUse, SipCommand};

impl Engine {
    /// Takes note of a count that was used here, for the other nodes.
    pub(crate) fn count_used(&mut self, cx: Cx<'_>, using: CountUse) {
        if cx.state.nonce_counts().look(&using) != Count::Fresh || self.counts.contains(&using) {
            return;
        }
        self.counts.push(using);
        if self.counts.len() >= MAX_COUNTS {
            self.tell_counts();
        }
    }

    /// A command with the counts that nobody has been told of.
    pub(crate) fn with_counts(&mut self, command: SipCommand) -> SipCommand {
        if self.counts.is_empty() || matches!(command, SipCommand::Counted { .. }) {
            return command;
        }
        SipCommand::Counted { counts: std::mem::take(&mut self.counts), then: Some(Box::new(command)) }
    }

    /// Tells the others of counts that no command has taken along.
    pub(crate) fn tell_counts(&mut self) {
        if !self.counts.is_empty() {
            let counts = std::mem::take(&mut self.counts);
            self.propose(SipCommand::Counted { counts, then: None }, Awaiting::Nothing);
        }
    }
}
