//! How long the disk takes: measured at each sync of the log, for whoever must tell a slow disk from one that hangs.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The newest syncs, of which [`Syncs::typical`] is the median.
const KEPT: usize = 128;
/// Seconds that [`Syncs::slowest`] looks back.
const WINDOW: usize = 60;

/// What was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Syncs {
    /// The newest one.
    pub newest: Duration,
    /// The median of the newest ones.
    pub typical: Duration,
    /// The slowest one that ended within the last minute.
    pub slowest: Duration,
    /// For how long something has been waiting for a sync that has not ended (or not even begun).
    pub waiting: Option<Duration>,
    /// Bytes that wait for room on the disk; `None`: there is room.
    pub no_room: Option<u64>,
}

/// A sync that takes no longer than this is never said to hang.
const PATIENCE: Duration = Duration::from_millis(500);

impl Syncs {
    /// Whether the disk writes what it is given: nothing has been waiting for longer than twice the slowest sync.
    #[must_use]
    pub fn go_on(&self) -> bool {
        self.waiting.is_none_or(|waiting| waiting <= PATIENCE.max(2 * self.slowest))
    }
}

#[derive(Debug, Default)]
struct Inner {
    no_room: Option<u64>,
    since: Option<Instant>,
    newest: VecDeque<Duration>,
    /// The slowest sync of each second in which one ended.
    slowest: VecDeque<(Instant, Duration)>,
}

/// Takes the time of syncs.
#[derive(Debug, Default)]
pub struct Gauge(Mutex<Inner>);

impl Gauge {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something waits for a sync.
    pub(super) fn waits(&self) {
        self.lock().since.get_or_insert_with(Instant::now);
    }

    /// So many bytes wait for room, or none any more.
    pub(super) fn note_room(&self, waits: Option<u64>) {
        self.lock().no_room = waits;
    }

    /// A sync begins.
    pub(super) fn begins(&self) {
        self.lock().since = Some(Instant::now());
    }

    /// It has ended. `more`: something waits for the next one.
    pub(super) fn ends(&self, more: bool) {
        let mut inner = self.lock();
        let now = Instant::now();
        let Some(since) = inner.since.take() else { return };
        inner.since = more.then_some(now);
        let took = now - since;
        if inner.newest.len() == KEPT {
            inner.newest.pop_front();
        }
        inner.newest.push_back(took);
        match inner.slowest.back_mut() {
            Some((at, slowest)) if now - *at < Duration::from_secs(1) => *slowest = took.max(*slowest),
            _ => inner.slowest.push_back((now, took)),
        }
        if inner.slowest.len() > WINDOW {
            inner.slowest.pop_front();
        }
    }

    /// What was measured so far.
    pub fn syncs(&self) -> Syncs {
        let inner = self.lock();
        let now = Instant::now();
        let last = inner.newest.back().copied();
        let mut newest: Vec<_> = inner.newest.iter().copied().collect();
        newest.sort_unstable();
        let window = Duration::from_secs(WINDOW as u64);
        let recent = inner.slowest.iter().filter(|(at, _)| now - *at < window);
        Syncs {
            newest: last.unwrap_or_default(),
            typical: newest.get(newest.len() / 2).copied().unwrap_or_default(),
            slowest: recent.map(|(_, took)| *took).max().unwrap_or_default(),
            waiting: inner.since.map(|since| now - since),
            no_room: inner.no_room,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn the_median_is_of_the_newest_and_the_slowest_is_forgotten_after_a_minute() {
        let gauge = Gauge::default();
        for took in [2, 900, 2] {
            gauge.begins();
            advance(took * MS).await;
            gauge.ends(false);
        }
        assert_eq!((gauge.syncs().typical, gauge.syncs().slowest), (2 * MS, 900 * MS));
        advance(Duration::from_secs(61)).await;
        gauge.begins();
        advance(3 * MS).await;
        gauge.ends(false);
        assert_eq!(gauge.syncs().slowest, 3 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_seen_before_its_sync_has_begun_and_until_it_has_ended() {
        let gauge = Gauge::default();
        assert_eq!(gauge.syncs().waiting, None);
        gauge.waits();
        advance(5 * MS).await;
        gauge.waits();
        assert_eq!(gauge.syncs().waiting, Some(5 * MS), "since the first that waits");
        gauge.begins();
        advance(7 * MS).await;
        assert_eq!(gauge.syncs().waiting, Some(7 * MS));
        gauge.ends(true);
        assert_eq!(gauge.syncs().waiting, Some(Duration::ZERO), "the next one waits already");
        gauge.ends(false);
        assert_eq!(gauge.syncs().waiting, None);
    }
}
