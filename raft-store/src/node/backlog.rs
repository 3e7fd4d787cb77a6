//! Whether a thread that has work gets any further with it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug, Default)]
struct Inner {
    jobs: u64,
    /// Since when there is work, or when the last piece of it was done.
    since: Option<Instant>,
}

/// The work of one thread, for whoever watches it.
#[derive(Debug, Default)]
pub(super) struct Backlog(Mutex<Inner>);

/// One piece of work; it is done, or will not be done, when this is dropped.
#[derive(Debug)]
pub(super) struct Work(Arc<Backlog>);

impl Backlog {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One piece more.
    pub(super) fn begin(self: &Arc<Self>) -> Work {
        let mut inner = self.lock();
        inner.jobs += 1;
        inner.since.get_or_insert_with(Instant::now);
        drop(inner);
        Work(self.clone())
    }

    /// For how long there has been work and none of it was done.
    pub(super) fn waits(&self) -> Option<Duration> {
        self.lock().since.map(|since| since.elapsed())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.jobs = inner.jobs.saturating_sub(1);
        inner.since = (inner.jobs > 0).then(Instant::now);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_waits_since_the_last_piece_was_done() {
        let second = Duration::from_secs(1);
        let backlog = Arc::new(Backlog::default());
        assert_eq!(backlog.waits(), None);
        let first = backlog.begin();
        advance(second).await;
        let other = backlog.begin();
        assert_eq!(backlog.waits(), Some(second));
        drop(first);
        advance(2 * second).await;
        assert_eq!(backlog.waits(), Some(2 * second));
        drop(other);
        assert_eq!(backlog.waits(), None);
    }
}
