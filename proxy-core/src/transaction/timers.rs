//! Timer values (RFC 3261 Table 4, RFC 6026 §7) and a queue of deadlines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::io::EngineConfig;
use crate::time::MonoTime;

/// T1, T2 and T4, and what follows from them.
///
/// | timer | value | unreliable | reliable |
/// |---|---|---|---|
/// | A | INVITE request retransmission | T1, doubles | none |
/// | B | INVITE transaction timeout | 64*T1 | 64*T1 |
/// | D | wait for response retransmissions | 64*T1 (32 s) | 0 |
/// | E | non-INVITE request retransmission | T1, doubles up to T2 | none |
/// | F | non-INVITE transaction timeout | 64*T1 | 64*T1 |
/// | G | INVITE response retransmission | T1, doubles up to T2 | none |
/// | H | wait for ACK | 64*T1 | 64*T1 |
/// | I | wait for ACK retransmissions | T4 | 0 |
/// | J | wait for non-INVITE request retransmissions | 64*T1 | 0 |
/// | K | wait for response retransmissions | T4 | 0 |
/// | L | wait for accepted INVITE request retransmissions | 64*T1 | 64*T1 |
/// | M | wait for retransmissions of 2xx, or further 2xx | 64*T1 | 64*T1 |
///
/// Timer C belongs to the proxy, not to a transaction (§16.6 step 11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerConfig {
    t1: Duration,
    t2: Duration,
    t4: Duration,
}

/// Shortest T1 and T2: with zero a retransmission timer would fire for ever in one instant.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

impl TimerConfig {
    /// Takes T1, T2 and T4. T1 is at least 1 ms, T2 at least T1.
    #[must_use]
    pub fn new(t1: Duration, t2: Duration, t4: Duration) -> Self {
        let t1 = t1.max(MIN_INTERVAL);
        Self { t1, t2: t2.max(t1), t4 }
    }

    /// T1: estimate of the round-trip time.
    #[must_use]
    pub fn t1(&self) -> Duration {
        self.t1
    }

    /// T2: longest interval between retransmissions of a non-INVITE request or an INVITE response.
    #[must_use]
    pub fn t2(&self) -> Duration {
        self.t2
    }

    /// T4: longest time that a message stays in the network.
    #[must_use]
    pub fn t4(&self) -> Duration {
        self.t4
    }

    /// 64*T1: timers B, D, F, H, J, L and M.
    #[must_use]
    pub fn t1_64(&self) -> Duration {
        self.t1.saturating_mul(64)
    }

    /// The interval after `interval` for timers E and G.
    pub(crate) fn doubled_up_to_t2(&self, interval: Duration) -> Duration {
        interval.saturating_mul(2).min(self.t2)
    }
}

impl Default for TimerConfig {
    /// 500 ms, 4 s, 5 s (RFC 3261 Table 4).
    fn default() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(4), Duration::from_secs(5))
    }
}

impl From<&EngineConfig> for TimerConfig {
    fn from(config: &EngineConfig) -> Self {
        Self::new(config.t1, config.t2, config.t4)
    }
}

/// Deadlines of many owners, one per owner, ordered by time and then by owner, so that two engines with the
/// same history fire in the same order.
#[derive(Debug, Clone)]
pub struct TimerQueue<Id> {
    by_time: BTreeSet<(MonoTime, Id)>,
    by_id: BTreeMap<Id, MonoTime>,
}

impl<Id: Ord + Clone> TimerQueue<Id> {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self { by_time: BTreeSet::new(), by_id: BTreeMap::new() }
    }

    /// Sets, moves or (with `None`) removes the deadline of `id`.
    pub fn set(&mut self, id: Id, at: Option<MonoTime>) {
        let old = match at {
            Some(at) => self.by_id.insert(id.clone(), at),
            None => self.by_id.remove(&id),
        };
        if old == at {
            return;
        }
        match (old, at) {
            (Some(old), Some(at)) => {
                let mut key = (old, id);
                self.by_time.remove(&key);
                key.0 = at;
                self.by_time.insert(key);
            }
            (Some(old), None) => {
                self.by_time.remove(&(old, id));
            }
            (None, Some(at)) => {
                self.by_time.insert((at, id));
            }
            (None, None) => {}
        }
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next(&self) -> Option<MonoTime> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out the owner of the earliest deadline if that is due.
    pub fn pop_due(&mut self, now: MonoTime) -> Option<Id> {
        if self.next()? > now {
            return None;
        }
        let (_, id) = self.by_time.pop_first()?;
        self.by_id.remove(&id);
        Some(id)
    }

    /// The deadline of `id`.
    #[must_use]
    pub fn get(&self, id: &Id) -> Option<MonoTime> {
        self.by_id.get(id).copied()
    }

    /// Number of deadlines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.by_time.clear();
        self.by_id.clear();
    }
}

impl<Id: Ord + Clone> Default for TimerQueue<Id> {
    fn default() -> Self {
        Self::new()
    }
}
