//! What travels in the replicated log.
//!
//! [`Command`] only grows: a new variant has the next number, a field never changes its meaning. One log entry
//! carries a [`Batch`] of them, so that one fsync and one round trip pay for many proposals. Times inside are set by
//! the proposer; `apply` reads no clock.

use std::fmt;

use minicbor::{CborLen, Decode, Encode};
use proxy_core::state::{SipCommand, SipResponse};
use proxy_core::time::WallTime;
use serde::{Deserialize, Serialize};

use crate::node::Place;
use crate::node::members::MEMBERS_VERSION;
use crate::state::{Event, Fitness, Pause};
use crate::time::Stamp;
use crate::wire::{FIRST_VERSION, HISTORY_VERSION, TIME_VERSION};

/// A change of the replicated state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room", flat)]
pub enum Command {
    /// Location, pending INVITEs, dialogs.
    #[n(0)]
    Sip(#[n(0)] SipCommand),
    /// The service belongs to `holder` from here on; the log index of the entry is the fence token.
    #[n(1)]
    Grant {
        /// Who is to hold the floating IP.
        #[n(0)]
        holder: Place,
        /// Why, for the operator.
        #[n(1)]
        reason: GrantReason,
        /// When it was decided.
        #[n(2)]
        at: WallTime,
    },
    /// The operator wants a node to hold nothing (`true`), or allows it again.
    #[n(2)]
    Drain {
        /// Which node.
        #[n(0)]
        place: Place,
        /// Drained or not.
        #[n(1)]
        drained: bool,
    },
    /// What a node says of its own ability to serve.
    #[n(3)]
    Health {
        /// Which node.
        #[n(0)]
        place: Place,
        /// Whether it could hold the service.
        #[n(1)]
        healthy: bool,
    },
    /// What a node says ails it: takes the place of what it said before.
    #[n(4)]
    Fitness {
        /// Which node.
        #[n(0)]
        place: Place,
        /// Its ailments by its own word.
        #[n(1)]
        own: Fitness,
    },
    /// An engine has died with a message in hand.
    #[n(5)]
    Suspect {
        /// Of the message.
        #[n(0)]
        fingerprint: u64,
        /// Where.
        #[n(1)]
        place: Place,
        /// Names the death: ms since 1970 on that node's wall clock.
        #[n(2)]
        moment: u64,
    },
    /// Which format versions a node reads: nothing is written that a member cannot read.
    #[n(6)]
    Reads {
        /// Which node.
        #[n(0)]
        place: Place,
        /// The oldest and the newest version.
        #[n(1)]
        versions: Versions,
    },
    /// The time, by the leader's word: the first command of every entry.
    #[n(7)]
    Stamp(#[n(0)] Stamp),
    /// What a node knows of something that has happened to the service.
    #[n(20)]
    Event(#[n(0)] Event),
    /// An operator has removed the node of a place (`true`), or takes in another one there.
    #[n(8)]
    Removed {
        /// Which place.
        #[n(0)]
        place: Place,
        /// Removed or not.
        #[n(1)]
        removed: bool,
    },
    /// No automatic takeover for a time.
    #[n(12)]
    Pause(#[n(0)] Pause),
    /// Automatic takeover again.
    #[n(13)]
    Resume,
    /// A switchover at a given time: takes the place of one that was planned before.
    #[n(14)]
    Plan {
        /// Who shall hold the service from then on.
        #[n(0)]
        to: Place,
        /// When.
        #[n(1)]
        at: WallTime,
    },
    /// The planned switchover is over, or not wanted any more.
    #[n(15)]
    Unplan {
        /// The one that is meant.
        #[n(0)]
        id: u64,
    },
}

impl Command {
    /// The format version from which on it is read. A command of a newer version is proposed only when every member
    /// reads it.
    #[must_use]
    pub fn since_version(&self) -> u8 {
        match self {
            Self::Sip(command) => command.since_version(),
            Self::Grant { .. }
            | Self::Drain { .. }
            | Self::Health { .. }
            | Self::Fitness { .. }
            | Self::Suspect { .. }
            | Self::Reads { .. } => FIRST_VERSION,
            Self::Event(_) => HISTORY_VERSION,
            Self::Removed { .. } => MEMBERS_VERSION,
            Self::Stamp(_) | Self::Pause(_) | Self::Resume | Self::Plan { .. } | Self::Unplan { .. } => {
                TIME_VERSION
            }
        }
    }
}

/// Some format versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Versions {
    /// The oldest one.
    #[n(0)]
    pub first: u8,
    /// The newest one.
    #[n(1)]
    pub last: u8,
}

impl Versions {
    /// Those that this build reads.
    pub const OURS: Self = Self { first: *crate::codec::READS.start(), last: *crate::codec::READS.end() };

    /// Those of the first build with this form.
    pub const FIRST: Self = Self { first: FIRST_VERSION, last: FIRST_VERSION };

    /// Whether two builds have a version in common.
    #[must_use]
    pub fn meet(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::codec::versions(&(self.first..=self.last)))
    }
}

/// Why a grant was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room", index_only)]
pub enum GrantReason {
    /// A leader was elected and found itself the best.
    #[n(0)]
    Elected,
    /// The operator asked for it.
    #[n(1)]
    Switchover,
    /// The node that held it may not any more (drained, unhealthy, a witness, shutting down).
    #[n(2)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room", flat)]
pub enum Response {
    /// Of [`Command::Sip`].
    #[n(0)]
    Sip(#[n(0)] SipResponse),
    /// Of [`Command::Grant`]: its fence token.
    #[n(1)]
    Granted {
        /// Log index of the grant.
        #[n(0)]
        token: u64,
    },
    /// Done; nothing more to say.
    #[n(2)]
    Done,
    /// It cannot be applied, and has changed nothing: a fault of this program, the same on every node.
    #[n(3)]
    Poisoned,
}

/// The commands of one log entry, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Batch(#[cbor(n(0), with = "proxy_core::wire::list", has_nil)] pub Vec<Command>);

impl Batch {
    /// The format version from which on all of it is read.
    #[must_use]
    pub fn since_version(&self) -> u8 {
        self.0.iter().map(Command::since_version).max().unwrap_or(FIRST_VERSION)
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands", self.0.len())
    }
}

/// The answers to a [`Batch`], in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Responses(#[cbor(n(0), with = "proxy_core::wire::list", has_nil)] pub Vec<Response>);

impl fmt::Display for Responses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} responses", self.0.len())
    }
}
