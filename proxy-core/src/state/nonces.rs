//! Which counts of which nonces were used (RFC 7616 §3.4 `nc`, §5.12).
//!
//! | count | then |
//! |---|---|
//! | above the highest | good; the window moves on |
//! | within the window, not used | good: UDP overtakes itself |
//! | the last one, from the same transaction, within 32 s | good: a retransmission whose transaction is forgotten |
//! | used, or below the window | used |
//! | of a nonce that is not in the table, made before one that was thrown out for want of room | used |
//!
//! Each node has one such table of its own for what it has taken ([`crate::digest::Replay`]) and the replicated one for
//! what any node has taken. A count travels with the command of the request that used it (`SipCommand::Counted`): what
//! was acknowledged to somebody after a commit is not taken a second time by the next node.

use std::time::Duration;

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::limits::{MAX_EXPIRED_AT_ONCE, MAX_NONCES};
use super::pmap::PMap;
use crate::time::WallTime;

/// Counts below the highest that may still come.
const WINDOW: u32 = 64;
/// How long a request may be repeated by its client (RFC 3261 §17.1: 64*T1).
const REPEATED_FOR: Duration = Duration::from_secs(32);

/// What a count is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Not used before.
    Fresh,
    /// By the same request, a moment ago.
    Repeated,
    /// Used, too old, or of a nonce that was forgotten.
    Used,
}

/// What names a nonce of ours.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Encode, Decode, CborLen,
)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct NonceId {
    /// When it was made: the oldest go first.
    #[n(0)]
    pub made_at: WallTime,
    /// Tells apart nonces of one millisecond.
    #[n(1)]
    pub salt: u64,
    /// Which key made it.
    #[n(2)]
    pub key_id: u32,
}

/// One use of a nonce, by a request that was proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct CountUse {
    /// Which nonce.
    #[n(0)]
    pub nonce: NonceId,
    /// Value of `nc`.
    #[n(1)]
    pub count: u32,
    /// Digest of the request and its source: tells requests apart, and is the same for the retransmissions of one.
    #[n(2)]
    pub by: u64,
    /// When.
    #[n(3)]
    pub at: WallTime,
    /// When the nonce is of no use any more, so that nothing need be known of it.
    #[n(4)]
    pub ends: WallTime,
}

/// The counts that were used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct NonceCounts {
    #[cbor(n(0), with = "crate::wire::map", has_nil)]
    pub(super) windows: PMap<NonceId, Window>,
    /// The newest nonce that was thrown out while it lived.
    #[n(1)]
    pub(super) forgotten: Option<WallTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub(super) struct Window {
    #[n(0)]
    highest: u32,
    /// Bit `i`: `highest - i` was used.
    #[n(1)]
    used: u64,
    /// Of the highest count: which transaction, and when.
    #[n(2)]
    by: u64,
    #[n(3)]
    at: WallTime,
    #[n(4)]
    ends: WallTime,
}

impl NonceCounts {
    /// What a count is worth; takes no note of it.
    #[must_use]
    pub fn look(&self, using: &CountUse) -> Count {
        match self.windows.get(&using.nonce) {
            Some(window) => window.look(using),
            None if self.is_forgotten(using.nonce) => Count::Used,
            None => Count::Fresh,
        }
    }

    /// Whether a count is not to be taken.
    #[must_use]
    pub fn is_used(&self, using: &CountUse) -> bool {
        self.look(using) == Count::Used
    }

    /// Takes note of a count, and says what it is worth. Nonces that are of no use any more at `using.at` go, the
    /// oldest ones first, and where there is no room the oldest one.
    pub fn take(&mut self, using: &CountUse) -> Count {
        let worth = self.look(using);
        if worth != Count::Fresh {
            return worth;
        }
        if let Some(window) = self.windows.get_mut(&using.nonce) {
            window.take(using);
            return worth;
        }
        self.forget_dead(using.at);
        while self.windows.len() >= MAX_NONCES
            && let Some((oldest, _)) = self.windows.pop_first()
        {
            self.forgotten = self.forgotten.max(Some(oldest.made_at));
        }
        if self.is_forgotten(using.nonce) {
            return Count::Used;
        }
        let CountUse { count, by, at, ends, .. } = *using;
        self.windows.insert(using.nonce, Window { highest: count, used: 1, by, at, ends });
        worth
    }

    /// The oldest nonces go as far as they are of no use any more, some at once. They leave no trace: another one of that time would
    /// be of no use either.
    pub(super) fn forget_dead(&mut self, now: WallTime) {
        for _ in 0..MAX_EXPIRED_AT_ONCE {
            if self.windows.first_key_value().is_none_or(|(_, window)| window.ends > now) {
                return;
            }
            self.windows.pop_first();
        }
    }

    /// When the oldest nonce is of no use any more.
    pub(super) fn next_end(&self) -> Option<WallTime> {
        self.windows.first_key_value().map(|(_, window)| window.ends)
    }

    /// Nonces of which something is known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether no count has been used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    fn is_forgotten(&self, nonce: NonceId) -> bool {
        self.forgotten.is_some_and(|newest| nonce.made_at <= newest)
    }
}

impl Window {
    fn look(&self, using: &CountUse) -> Count {
        let Some(below) = self.highest.checked_sub(using.count) else { return Count::Fresh };
        if below == 0 && using.by == self.by && using.at <= self.at + REPEATED_FOR {
            return Count::Repeated;
        }
        if below >= WINDOW || self.used & (1 << below) != 0 { Count::Used } else { Count::Fresh }
    }

    /// Takes note of a count that is fresh.
    fn take(&mut self, using: &CountUse) {
        match using.count.checked_sub(self.highest) {
            Some(moved) => {
                let before = if moved >= WINDOW { 0 } else { self.used << moved };
                self.used = before | 1;
                (self.highest, self.by, self.at) = (using.count, using.by, using.at);
            }
            None => self.used |= 1 << (self.highest - using.count),
        }
    }
}
