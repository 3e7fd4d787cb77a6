//! A disk that takes its time, in a simulation: syncs end later, in the time of the runtime, one after the other and each
//! for all that waits by then, as on the thread of a real log.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::unwritten::ROOM_RETRY;
use super::writer::{Done, Inner, Shared, complete};

/// How often a sync that is under way looks whether the disk has become faster.
const LOOK: Duration = Duration::from_millis(5);

/// How long each sync of a simulated disk takes; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Slowness(Arc<AtomicU64>);

impl Slowness {
    /// From now on each sync takes this many milliseconds, also one that is under way; 0: none at all.
    pub fn set(&self, ms: u64) {
        self.0.store(ms, Ordering::SeqCst);
    }

    /// Milliseconds that each sync takes.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Inner {
    /// Whether a sync takes time now.
    pub(super) fn is_slow(&self) -> bool {
        self.late || self.slowness.as_ref().is_some_and(|slowness| slowness.get() > 0)
    }
}

impl Shared {
    /// Has `done` called after a sync that takes its time.
    pub(super) fn sync_later(self: Arc<Self>, mut inner: MutexGuard<'_, Inner>, done: Done) {
        inner.waiting.push_back(done);
        self.gauge.waits();
        let runs = std::mem::replace(&mut inner.late, true);
        drop(inner);
        if !runs {
            tokio::spawn(self.run_late());
        }
    }

    async fn run_late(self: Arc<Self>) {
        loop {
            let (group, slowness) = {
                let mut inner = self.lock();
                if inner.waiting.is_empty() {
                    inner.late = false;
                    return;
                }
                (std::mem::take(&mut inner.waiting), inner.slowness.clone().unwrap_or_default())
            };
            self.gauge.begins();
            let begun = Instant::now();
            loop {
                let left = Duration::from_millis(slowness.get()).saturating_sub(begun.elapsed());
                if left.is_zero() {
                    break;
                }
                sleep(left.min(LOOK)).await;
            }
            let result = loop {
                if let Some(result) = self.sync_if_room() {
                    break result;
                }
                sleep(ROOM_RETRY).await;
            };
            complete(group, result);
        }
    }

    /// What a sync comes to; `None`: something waits for room.
    fn sync_if_room(&self) -> Option<io::Result<()>> {
        let mut inner = self.lock();
        let waited = inner.short;
        let result = inner.log.sync();
        self.tell_room(&mut inner);
        if inner.log.waits_for_room().is_some() {
            return None;
        }
        if waited {
            // The time without room says nothing about how quick the disk is.
            self.gauge.begins();
        }
        self.gauge.ends(!inner.waiting.is_empty());
        self.note_failure(&inner);
        Some(result)
    }
}
