//! What an operator has ordered for a time: no automatic takeover (a pause), and a switchover at a given time.
//!
//! Both are bounded by the cluster's time, so that they end or come whatever happens to the node that was asked.
//! [`Pause`] is a rule of the state itself: while it holds, a grant that nobody ordered changes nothing on any node.

use minicbor::{CborLen, Decode, Encode};
use proxy_core::time::WallTime;
use serde::{Deserialize, Serialize};

use crate::command::GrantReason;
use crate::node::Place;

/// Bytes of a reason that are kept.
pub const MAX_REASON_BYTES: usize = 200;
/// Longest pause, ms: a day. One that is forgotten must not be found in the next failure.
pub const MAX_PAUSE_MS: u64 = 24 * 3_600_000;
/// A switchover can be planned so far ahead, ms: a week.
pub const MAX_AHEAD_MS: u64 = 7 * 24 * 3_600_000;

/// No automatic takeover for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Pause {
    /// When it began.
    #[n(0)]
    pub at: WallTime,
    /// When it ends.
    #[n(1)]
    pub until: WallTime,
    /// Why, in the words of the operator; may be empty.
    #[n(2)]
    pub reason: String,
}

impl Pause {
    /// Within all bounds; `None` if it would be over at once.
    pub(super) fn bounded(&self) -> Option<Self> {
        let until = WallTime(self.until.0.min(self.at.0.saturating_add(MAX_PAUSE_MS)));
        let mut reason = self.reason.clone();
        let mut end = reason.len().min(MAX_REASON_BYTES);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        (until > self.at).then_some(Self { at: self.at, until, reason })
    }

    /// Whether it holds at this time.
    #[must_use]
    pub fn holds(&self, now: WallTime) -> bool {
        now < self.until
    }

    /// Whether it forbids to give the service of `holder` to `to` at this time: an operator's order it does not.
    pub(super) fn forbids(&self, holder: Place, to: Place, reason: GrantReason, now: WallTime) -> bool {
        holder != to && reason != GrantReason::Switchover && self.holds(now)
    }
}

/// A switchover at a given time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Planned {
    /// Log index of the order: another one is another plan.
    #[n(0)]
    pub id: u64,
    /// Who shall hold the service from then on.
    #[n(1)]
    pub to: Place,
    /// When.
    #[n(2)]
    pub at: WallTime,
}
