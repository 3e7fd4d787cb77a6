//! What travels in the replicated log.
//!
//! [`Command`] is **append-only**: a new variant goes to the end, a field never changes its meaning. One log entry
//! carries a [`Batch`] of them, so that one fsync and one round trip pay for many proposals. Times inside are set by
//! the proposer; `apply` reads no clock.

use std::fmt;

use proxy_core::state::{SipCommand, SipResponse};
use proxy_core::time::WallTime;
use serde::{Deserialize, Serialize};

use crate::node::Place;
use crate::state::Fitness;

/// A change of the replicated state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Location, pending INVITEs, dialogs.
    Sip(SipCommand),
    /// The service belongs to `holder` from here on; the log index of the entry is the fence token.
    Grant {
        /// Who is to hold the floating IP.
        holder: Place,
        /// Why, for the operator.
        reason: GrantReason,
        /// When it was decided.
        at: WallTime,
    },
    /// The operator wants a node to hold nothing (`true`), or allows it again.
    Drain {
        /// Which node.
        place: Place,
        /// Drained or not.
        drained: bool,
    },
    /// What a node says of its own ability to serve.
    Health {
        /// Which node.
        place: Place,
        /// Whether it could hold the service.
        healthy: bool,
    },
    /// What a node says ails it: takes the place of what it said before.
    Fitness {
        /// Which node.
        place: Place,
        /// Its ailments by its own word.
        own: Fitness,
    },
    /// An engine has died with a message in hand.
    Suspect {
        /// Of the message.
        fingerprint: u64,
        /// Where.
        place: Place,
        /// Names the death: ms since 1970 on that node's wall clock.
        moment: u64,
    },
}

/// Why a grant was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GrantReason {
    /// A leader was elected and found itself the best.
    Elected,
    /// The operator asked for it.
    Switchover,
    /// The node that held it may not any more (drained, unhealthy, a witness, shutting down).
    Unfit,
}

impl fmt::Display for GrantReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Elected => "elected",
            Self::Switchover => "switchover",
            Self::Unfit => "the former holder may not serve",
        })
    }
}

/// What `apply` answers to a [`Command`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Of [`Command::Sip`].
    Sip(SipResponse),
    /// Of [`Command::Grant`]: its fence token.
    Granted {
        /// Log index of the grant.
        token: u64,
    },
    /// Done; nothing more to say.
    Done,
    /// It cannot be applied, and has changed nothing: a fault of this program, the same on every node.
    Poisoned,
}

/// The commands of one log entry, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch(pub Vec<Command>);

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands", self.0.len())
    }
}

/// The answers to a [`Batch`], in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Responses(pub Vec<Response>);

impl fmt::Display for Responses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} responses", self.0.len())
    }
}
