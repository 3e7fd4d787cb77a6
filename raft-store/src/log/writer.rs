//! Group commit: records are written at once and in order, one fdatasync acknowledges all that wait.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use futures::channel::oneshot;
use tokio::sync::watch;

use super::gauge::Gauge;
use super::late::Slowness;
use super::{Durability, SegmentLog};

/// Most callbacks that wait for a sync; the next caller waits until one is made.
pub const MAX_WAITING: usize = 4096;

/// Called once, when what was written before it is durable or never will be. Calls come in the order of the writes.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Who makes the syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An OS thread of its own.
    Thread,
    /// The caller, in place: for a simulator, where nothing may run beside it.
    Inline,
}

pub(super) struct Inner {
    pub(super) log: SegmentLog,
    pub(super) waiting: VecDeque<Done>,
    /// In a simulation: how long a sync takes, and whether one is under way.
    pub(super) slowness: Option<Slowness>,
    pub(super) late: bool,
    /// Called on the thread before it does anything else.
    first: Option<fn()>,
    closed: bool,
}

pub(super) struct Shared {
    inner: Mutex<Inner>,
    pub(super) gauge: Arc<Gauge>,
    work: Condvar,
    room: Condvar,
    mode: Mode,
    fatal: watch::Sender<Option<String>>,
}

struct Owner {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
        // A callback may own the last clone: its thread cannot wait for itself. It ends by `closed` after this group.
        if let Some(thread) = self.thread.take().filter(|t| t.thread().id() != std::thread::current().id()) {
            // A panic there has already been reported; waiting makes sure that the files are free again.
            drop(thread.join());
        }
    }
}

/// The log of a running node; clones share it. The thread ends with the last clone.
#[derive(Clone)]
pub struct LogWriter {
    shared: Arc<Shared>,
    _owner: Arc<Owner>,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_failure(&self, inner: &Inner) {
        if let Some(why) = inner.log.failure() {
            self.fatal.send_if_modified(|f| {
                let first = f.is_none();
                f.get_or_insert_with(|| why.to_owned());
                first
            });
        }
    }

    fn run(&self) {
        let mut inner = self.lock();
        loop {
            while inner.waiting.is_empty() {
                if let Some(f) = inner.first.take() {
                    drop(inner);
                    f();
                    inner = self.lock();
                    continue;
                }
                if inner.closed {
                    return;
                }
                inner = self.work.wait(inner).unwrap_or_else(PoisonError::into_inner);
            }
            let group = std::mem::take(&mut inner.waiting);
            self.gauge.begins();
            self.room.notify_all();
            let result = match (inner.log.failure(), inner.log.sync_target()) {
                (Some(why), _) => Err(io::Error::other(why.to_owned())),
                (None, Some((file, end))) => {
                    let durability = inner.log.durability();
                    drop(inner);
                    // Without the lock: appends go on while the disk works, and make the next group.
                    let result = if durability == Durability::Disk { file.sync_data() } else { Ok(()) };
                    inner = self.lock();
                    match result {
                        Ok(()) => {
                            inner.log.mark_synced(end);
                            Ok(())
                        }
                        Err(e) => Err(inner.log.fail(e)),
                    }
                }
                (None, None) => Ok(()),
            };
            self.gauge.ends(!inner.waiting.is_empty());
            self.note_failure(&inner);
            drop(inner);
            complete(group, result);
            inner = self.lock();
        }
    }
}

pub(super) fn complete(group: impl IntoIterator<Item = Done>, result: io::Result<()>) {
    let result = result.map_err(|e| (e.kind(), e.to_string()));
    for done in group {
        done(result.clone().map_err(|(kind, why)| io::Error::new(kind, why)));
    }
}

impl LogWriter {
    /// Takes over an open log.
    pub fn new(log: SegmentLog, mode: Mode) -> io::Result<Self> {
        let inner = Mutex::new(Inner {
            log,
            waiting: VecDeque::new(),
            slowness: None,
            late: false,
            first: None,
            closed: false,
        });
        let fatal = watch::Sender::new(None);
        let gauge = Arc::default();
        let shared = Arc::new(Shared { inner, gauge, work: Condvar::new(), room: Condvar::new(), mode, fatal });
        let thread = match mode {
            Mode::Inline => None,
            Mode::Thread => {
                let shared = shared.clone();
                let run = move || shared.run();
                Some(std::thread::Builder::new().name("relevo-log".into()).spawn(run)?)
            }
        };
        Ok(Self { _owner: Arc::new(Owner { shared: shared.clone(), thread }), shared })
    }

    /// How long its syncs take, and whether one is under way. It may be asked when the log has long been closed.
    #[must_use]
    pub fn gauge(&self) -> Arc<Gauge> {
        self.shared.gauge.clone()
    }

    /// From now on syncs take as long as `slowness` says, in the time of the runtime: for [`Mode::Inline`], in a
    /// simulation.
    pub fn slow_down(&self, slowness: Slowness) {
        self.shared.lock().slowness = Some(slowness);
    }

    /// Becomes `Some(why)` when the disk has failed: the node must give up ownership and exit.
    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.shared.fatal.subscribe()
    }

    /// Calls `f` on the writer's thread, if it has one: the place to ask for priority.
    pub fn on_thread(&self, f: fn()) {
        self.shared.lock().first = Some(f);
        self.shared.work.notify_all();
    }

    /// Reads or writes the log, without waiting for durability.
    pub fn with<T>(&self, f: impl FnOnce(&mut SegmentLog) -> T) -> T {
        let mut inner = self.shared.lock();
        let out = f(&mut inner.log);
        self.shared.note_failure(&inner);
        out
    }

    /// Writes with `f`, then calls `done` once that is durable (or with the error).
    pub fn write(&self, f: impl FnOnce(&mut SegmentLog) -> io::Result<()>, done: Done) {
        let mut inner = self.shared.lock();
        while self.shared.mode == Mode::Thread && inner.waiting.len() >= MAX_WAITING {
            inner = self.shared.room.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let mut result = f(&mut inner.log);
        if result.is_ok() && self.shared.mode == Mode::Thread {
            inner.waiting.push_back(done);
            self.shared.gauge.waits();
            self.shared.work.notify_one();
            return;
        }
        if result.is_ok() && inner.is_slow() {
            return self.shared.clone().sync_later(inner, done);
        }
        if result.is_ok() {
            result = inner.log.sync();
        }
        self.shared.note_failure(&inner);
        drop(inner);
        done(result);
    }

    /// Writes with `f` and waits until that is durable.
    pub async fn write_durably(&self, f: impl FnOnce(&mut SegmentLog) -> io::Result<()>) -> io::Result<()> {
        let (tx, rx) = oneshot::channel();
        // The receiver may be gone with its task; the write stands all the same.
        self.write(f, Box::new(move |r| drop(tx.send(r))));
        rx.await.map_err(|_| io::Error::other("the log writer has ended"))?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::log::{Identity, Limits};

    #[test]
    fn a_callback_may_own_the_last_clone_of_the_writer() {
        let (log, _) = SegmentLog::open(Arc::new(SimDisk::new()), Identity::new("lab", 1), Limits::default())
            .expect("opens");
        let writer = LogWriter::new(log, Mode::Thread).expect("starts");
        let fatal = writer.fatal();
        let (let_go, wait) = mpsc::channel::<()>();
        let (ended, end) = mpsc::channel();
        let last = writer.clone();
        let done: Done = Box::new(move |r| {
            // Waits until the test has dropped its clone, so that `last` is the last one.
            wait.recv().ok();
            drop(last);
            ended.send(r.is_ok()).ok();
        });
        writer.write(|_| Ok(()), done);
        drop(writer);
        drop(let_go);
        assert_eq!(end.recv_timeout(Duration::from_secs(20)), Ok(true), "the callback ran to its end");
        assert!(fatal.borrow().is_none());
    }
}
