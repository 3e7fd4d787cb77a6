//! Nonce counts that this node has taken (RFC 7616 §3.4 `nc`, §5.12): each is good once, so that a request that somebody
//! has recorded is of no use to him. What each is worth: [`crate::state::NonceCounts`].
//!
//! Only who knows a password gets into the table. All engines of a node share one; what nodes before this one have taken
//! stands in the replicated state.

use std::sync::{Arc, Mutex, PoisonError};

use crate::state::{Count, CountUse, NonceCounts};

/// The counts that were used. Clones share what they know.
#[derive(Debug, Clone, Default)]
pub struct Replay(Arc<Mutex<NonceCounts>>);

impl Replay {
    /// Takes note that a proven request used a count, and says what it is worth.
    pub fn take(&self, using: &CountUse) -> Count {
        // Nothing in there panics halfway; and a table that is a little wrong must not end the service.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(using)
    }

    /// Nonces in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether no count has been used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::NonceId;
    use crate::state::limits::{MAX_EXPIRED_AT_ONCE, MAX_NONCES};
    use crate::time::WallTime;

    const LIFE_MS: u64 = 300_000;

    fn nonce(at: u64, salt: u64) -> NonceId {
        NonceId { made_at: WallTime(at), salt, key_id: 1 }
    }

    fn used(replay: &Replay, nonce: NonceId, count: u32, by: u64, at: WallTime) -> Count {
        let ends = WallTime(nonce.made_at.0 + LIFE_MS);
        replay.take(&CountUse { nonce, count, by, at, ends })
    }

    #[test]
    fn a_count_is_good_once_in_any_order_rfc7616_5_12() {
        let replay = Replay::default();
        let n = nonce(0, 1);
        let take = |count| used(&replay, n, count, u64::from(count), WallTime(1));
        assert_eq!([take(1), take(4), take(2), take(3)], [Count::Fresh; 4]);
        // The last one from the same transaction is a retransmission, so count 4 is tried by another one below.
        assert_eq!([take(1), take(2), take(3)], [Count::Used; 3]);
        assert_eq!(used(&replay, n, 4, 99, WallTime(1)), Count::Used);
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
        assert_eq!(used(&replay, n, 1, 7, WallTime(0)), Count::Fresh);
        assert_eq!(used(&replay, n, 1, 7, WallTime(32_000)), Count::Repeated);
        assert_eq!(used(&replay, n, 1, 7, WallTime(32_001)), Count::Used);
        assert_eq!(used(&replay, n, 1, 8, WallTime(1)), Count::Used);
    }

    #[test]
    fn the_table_is_bounded_and_what_it_forgot_is_not_taken_again() {
        let replay = Replay::default();
        for n in 0..MAX_NONCES as u64 {
            assert_eq!(used(&replay, nonce(1_000 + n, n), 1, n, WallTime(1_000)), Count::Fresh);
        }
        assert_eq!(replay.len(), MAX_NONCES);
        let newest = nonce(5_000_000, 0);
        assert_eq!(used(&replay, newest, 1, 0, WallTime(1_000)), Count::Fresh);
        assert_eq!(replay.len(), MAX_NONCES);
        assert_eq!(used(&replay, nonce(1_000, 0), 1, 5, WallTime(1_000)), Count::Used);
        // Dead ones go, some at a time, without leaving a trace: a nonce of the same time would be dead, too.
        let late = WallTime(10_000_000);
        let rounds = MAX_NONCES.div_ceil(MAX_EXPIRED_AT_ONCE);
        for n in 0..rounds as u64 {
            assert_eq!(used(&replay, nonce(10_000_000, n), 1, n, late), Count::Fresh);
        }
        assert_eq!(replay.len(), rounds);
    }

    #[test]
    fn engines_share_what_they_know_and_a_new_owner_knows_nothing() {
        let replay = Replay::default();
        let other = replay.clone();
        let n = nonce(0, 1);
        assert_eq!(used(&replay, n, 1, 1, WallTime(0)), Count::Fresh);
        assert_eq!(used(&other, n, 1, 2, WallTime(0)), Count::Used);
        assert_eq!(used(&Replay::default(), n, 1, 2, WallTime(0)), Count::Fresh);
    }
}
