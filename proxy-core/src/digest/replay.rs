//! Nonce counts (RFC 7616 §3.4 `nc`, §5.12): each is good once, so that a request that somebody has recorded is of no
//! use to him.
//!
//! | count | then |
//! |---|---|
//! | above the highest | good; the window moves on |
//! | within the window, not used | good: UDP overtakes itself |
//! | the last one, from the same transaction, within 32 s | good: a retransmission whose transaction is forgotten |
//! | used, or below the window | stale: the client is given a new nonce |
//! | of a nonce that is not in the table, made before one that was thrown out for want of room | stale |
//!
//! Only who knows a password gets into the table. All engines of a node share one; a node that takes over starts with
//! an empty one and may take each count once more, for no longer than nonces live.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Nonce;
use crate::time::WallTime;

/// Nonces whose counts are remembered.
pub const MAX_NONCES: usize = 200_000;
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

/// The counts that were used. Clones share what they know.
#[derive(Debug, Clone, Default)]
pub struct Replay(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// By the time of the nonce: the oldest go first.
    nonces: BTreeMap<(WallTime, u64, u32), Window>,
    /// The newest nonce that was thrown out while it lived.
    forgotten: Option<WallTime>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    highest: u32,
    /// Bit `i`: `highest - i` was used.
    used: u64,
    /// Of the highest count: which transaction, and when.
    by: u64,
    at: WallTime,
}

impl Replay {
    /// Takes note that a proven request used `count` of `nonce` at `now`. `transaction` tells requests apart;
    /// nonces that are older than `life` are forgotten.
    pub fn use_count(
        &self,
        nonce: &Nonce,
        count: u32,
        transaction: u64,
        now: WallTime,
        life: Duration,
    ) -> Count {
        // Nothing in there panics halfway; and a table that is a little wrong must not end the service.
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.use_count(nonce, count, transaction, now, life)
    }

    /// Nonces in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).nonces.len()
    }

    /// Whether no count has been used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Table {
    fn use_count(&mut self, nonce: &Nonce, count: u32, by: u64, now: WallTime, life: Duration) -> Count {
        let key = (nonce.made_at, nonce.salt, nonce.key_id);
        if let Some(window) = self.nonces.get_mut(&key) {
            return window.use_count(count, by, now);
        }
        if self.forgotten.is_some_and(|newest| nonce.made_at <= newest) {
            return Count::Used;
        }
        while let Some((oldest, _)) = self.nonces.first_key_value() {
            let (made_at, ..) = *oldest;
            let is_dead = made_at + life <= now;
            if !is_dead && self.nonces.len() < MAX_NONCES {
                break;
            }
            self.nonces.pop_first();
            if !is_dead {
                self.forgotten = self.forgotten.max(Some(made_at));
            }
        }
        if self.forgotten.is_some_and(|newest| nonce.made_at <= newest) {
            return Count::Used;
        }
        self.nonces.insert(key, Window { highest: count, used: 1, by, at: now });
        Count::Fresh
    }
}

impl Window {
    fn use_count(&mut self, count: u32, by: u64, now: WallTime) -> Count {
        if count > self.highest {
            let moved = count - self.highest;
            self.used = if moved >= WINDOW { 0 } else { self.used << moved };
            *self = Self { highest: count, used: self.used | 1, by, at: now };
            return Count::Fresh;
        }
        let below = self.highest - count;
        if below == 0 && by == self.by && now <= self.at + REPEATED_FOR {
            return Count::Repeated;
        }
        if below >= WINDOW || self.used & (1 << below) != 0 {
            return Count::Used;
        }
        self.used |= 1 << below;
        Count::Fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{NonceKey, NonceSecret};

    const LIFE: Duration = Duration::from_secs(300);

    fn nonce(at: u64, salt: u64) -> Nonce {
        let key = NonceKey { id: 1, secret: NonceSecret::new([1; 32]), made_at: WallTime(0) };
        Nonce::read(&Nonce::make(&key, "r", WallTime(at), salt)).expect("reads")
    }

    #[test]
    fn a_count_is_good_once_in_any_order_rfc7616_5_12() {
        let replay = Replay::default();
        let n = nonce(0, 1);
        let take = |count| replay.use_count(&n, count, u64::from(count), WallTime(1), LIFE);
        assert_eq!([take(1), take(4), take(2), take(3)], [Count::Fresh; 4]);
        // The last one from the same transaction is a retransmission, so count 4 is tried by another one below.
        assert_eq!([take(1), take(2), take(3)], [Count::Used; 3]);
        assert_eq!(replay.use_count(&n, 4, 99, WallTime(1), LIFE), Count::Used);
        assert_eq!(take(100), Count::Fresh);
        assert_eq!([take(4), take(36)], [Count::Used; 2]);
        assert_eq!([take(37), take(37)], [Count::Fresh, Count::Used]);
        assert_eq!(take(u32::MAX), Count::Fresh);
        assert_eq!(take(100), Count::Used);
    }

    #[test]
    fn a_retransmission_is_not_a_replay_for_as_long_as_clients_retransmit() {
        let replay = Replay::default();
        let n = nonce(0, 1);
        assert_eq!(replay.use_count(&n, 1, 7, WallTime(0), LIFE), Count::Fresh);
        assert_eq!(replay.use_count(&n, 1, 7, WallTime(32_000), LIFE), Count::Repeated);
        assert_eq!(replay.use_count(&n, 1, 7, WallTime(32_001), LIFE), Count::Used);
        assert_eq!(replay.use_count(&n, 1, 8, WallTime(1), LIFE), Count::Used);
    }

    #[test]
    fn the_table_is_bounded_and_what_it_forgot_is_not_taken_again() {
        let replay = Replay::default();
        for n in 0..MAX_NONCES as u64 {
            assert_eq!(replay.use_count(&nonce(1_000 + n, n), 1, n, WallTime(1_000), LIFE), Count::Fresh);
        }
        assert_eq!(replay.len(), MAX_NONCES);
        let newest = nonce(5_000_000, 0);
        assert_eq!(replay.use_count(&newest, 1, 0, WallTime(1_000), LIFE), Count::Fresh);
        assert_eq!(replay.len(), MAX_NONCES);
        assert_eq!(replay.use_count(&nonce(1_000, 0), 1, 5, WallTime(1_000), LIFE), Count::Used);
        // Dead ones go without leaving a trace: a nonce of the same time would be dead, too.
        let late = WallTime(10_000_000);
        assert_eq!(replay.use_count(&nonce(10_000_000, 0), 1, 0, late, LIFE), Count::Fresh);
        assert_eq!(replay.len(), 1);
    }

    #[test]
    fn engines_share_what_they_know_and_a_new_owner_knows_nothing() {
        let replay = Replay::default();
        let other = replay.clone();
        let n = nonce(0, 1);
        assert_eq!(replay.use_count(&n, 1, 1, WallTime(0), LIFE), Count::Fresh);
        assert_eq!(other.use_count(&n, 1, 2, WallTime(0), LIFE), Count::Used);
        assert_eq!(Replay::default().use_count(&n, 1, 2, WallTime(0), LIFE), Count::Fresh);
    }
}
