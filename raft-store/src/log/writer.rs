//! Group commit: records are written at once and in order, one fdatasync acknowledges all that wait. The same thread
//! does what must not keep a commit waiting: the seal, the next segment's file, the removal of what was purged.
//!
//! A full disk keeps all that was written waiting, and everybody who wants to hear that it is durable. The thread asks
//! the disk again at a bounded pace; every other failure of the disk ends the log.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use tokio::sync::watch;

use super::gauge::Gauge;
use super::late::Slowness;
use super::seal::{Job, due_in};
use super::segment::{READY, make_ready, remove_all};
use super::unwritten::{MAX_UNWRITTEN_BYTES, ROOM_RETRY};
use super::{Durability, SegmentLog};
use crate::disk::lacks_room;

/// Most callbacks that wait for a sync; the next caller waits until one is made.
pub const MAX_WAITING: usize = 4096;

/// A disk without room for the next segment's file is asked again after this time (5 s).
const ROOM_PAUSE: Duration = Duration::from_secs(5);

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
    /// When the newest group became durable.
    last_group: Instant,
    /// When the newest seal was made.
    last_seal: Instant,
    /// Since when there is no room for the next segment's file.
    no_room: Option<Instant>,
    /// When the disk was last asked for room for what waits for it.
    asked: Option<Instant>,
    /// It has been told that there is no room.
    pub(super) short: bool,
    /// When there was last no room for the seal.
    unsealable: Option<Instant>,
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

/// A [`LogWriter`] that does not keep the log open.
#[derive(Clone)]
pub struct WeakWriter {
    shared: Weak<Shared>,
    owner: Weak<Owner>,
}

impl WeakWriter {
    /// The log, while it is open.
    #[must_use]
    pub fn upgrade(&self) -> Option<LogWriter> {
        Some(LogWriter { shared: self.shared.upgrade()?, _owner: self.owner.upgrade()? })
    }
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
        let begun = Instant::now();
        let mut inner = self.lock();
        loop {
            if let Some(f) = inner.first.take() {
                drop(inner);
                f();
                inner = self.lock();
            } else if inner.log.waits_for_room().is_some() && !inner.closed {
                inner = self.ask_for_room(inner);
            } else if !inner.waiting.is_empty() && inner.log.waits_for_room().is_none() {
                inner = self.keep_house(self.make_durable(inner));
            } else if inner.closed {
                return self.close(inner);
            } else {
                let (now, last) = (begun.elapsed(), |at: Instant| at.saturating_duration_since(begun));
                let (group, seal) = (last(inner.last_group), last(inner.last_seal));
                let log = &inner.log;
                let due = due_in(log.durability(), log.is_unsealed(), now, group, seal);
                let pause =
                    inner.unsealable.map_or(Duration::ZERO, |at| ROOM_PAUSE.saturating_sub(at.elapsed()));
                inner = match due.map(|due| due.max(pause)) {
                    None => self.work.wait(inner).unwrap_or_else(PoisonError::into_inner),
                    Some(Duration::ZERO) => self.seal(inner),
                    Some(d) => self.work.wait_timeout(inner, d).unwrap_or_else(PoisonError::into_inner).0,
                };
            }
        }
    }

    /// Writes what waits for room, if there is some now, or waits until the disk may be asked again.
    fn ask_for_room<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        self.tell_room(&mut inner);
        let since = inner.asked.map_or(ROOM_RETRY, |at| at.elapsed());
        let left = ROOM_RETRY.saturating_sub(since);
        if !left.is_zero() {
            return self.work.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        inner.asked = Some(Instant::now());
        let result = inner.log.write_waiting().map(drop);
        self.note(&mut inner, result);
        self.tell_room(&mut inner);
        self.room.notify_all();
        inner
    }

    /// Says once that there is no room, and once that there is some again.
    pub(super) fn tell_room(&self, inner: &mut Inner) {
        let (log, waits) = (&inner.log, inner.log.waits_for_room());
        self.gauge.note_room(waits);
        let place = log.disk().place();
        match waits {
            Some(bytes) if !inner.short => {
                let why = log.why_no_room();
                tracing::error!(
                    "the log in {place} has no room on its disk ({why}): {bytes} bytes wait to be written, and nothing \
                     is acknowledged before; make room there (df -h {place}, quota), it goes on by itself"
                );
            }
            None if inner.short && log.failure().is_none() => {
                tracing::info!("the log in {place} has room again: all that waited is written");
            }
            _ => {}
        }
        inner.short = waits.is_some();
    }

    /// Makes durable what was written, and answers all that wait.
    fn make_durable<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        let group = std::mem::take(&mut inner.waiting);
        self.gauge.begins();
        self.room.notify_all();
        let result = match (inner.log.failure(), inner.log.sync_target()) {
            (Some(why), _) => Err(io::Error::other(why.to_owned())),
            (None, Some(target)) => {
                let durability = inner.log.durability();
                drop(inner);
                // Without the lock: appends go on while the disk works, and make the next group.
                let result = if durability == Durability::Disk { target.run() } else { Ok(()) };
                inner = self.lock();
                inner.last_group = Instant::now();
                match result {
                    Ok(()) => {
                        inner.log.mark_synced(&target);
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
        self.lock()
    }

    /// Removes what was purged, makes the next segment's file, and seals where groups follow each other without a pause.
    fn keep_house<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        let doomed = inner.log.take_doomed();
        if !doomed.is_empty() {
            let disk = inner.log.disk().clone();
            drop(inner);
            let result = remove_all(&*disk, &doomed);
            inner = self.lock();
            match result {
                // Some file systems need room to remove a file. The next group tries it again.
                Err(e) if lacks_room(&e) => inner.log.give_back_doomed(doomed),
                result => self.note(&mut inner, result),
            }
        }
        let asks = inner.no_room.is_none_or(|since| since.elapsed() >= ROOM_PAUSE);
        if let (Some((disk, size)), true) = (inner.log.wants_ready(), asks) {
            drop(inner);
            let made = make_ready(&*disk, READY, size);
            inner = self.lock();
            match made {
                Ok(file) => {
                    inner.no_room = None;
                    inner.log.take_ready(file, size);
                }
                // The present segment goes on; the next one will be as large as there is room for.
                Err(e) if lacks_room(&e) => inner.no_room = Some(Instant::now()),
                Err(e) => self.note(&mut inner, Err(e)),
            }
        }
        let overdue = inner.last_seal.elapsed() >= super::SEAL_EVERY_IN_MEMORY;
        if inner.log.durability() == Durability::Memory && overdue && inner.log.is_unsealed() {
            inner = self.seal(inner);
        }
        inner
    }

    fn seal<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        let job = inner.log.seal_job(false);
        drop(inner);
        let result = job.as_ref().map_or(Ok(()), Job::run);
        let mut inner = self.lock();
        inner.last_seal = Instant::now();
        inner.unsealable = None;
        match result {
            // The newest seal goes on to count, and says no more than is true.
            Err(e) if lacks_room(&e) => {
                inner.log.take_back_seal();
                inner.unsealable = Some(Instant::now());
            }
            result => self.note(&mut inner, result),
        }
        inner
    }

    /// The orderly end: everything durable, and a seal that says so. What there is no room for has an error.
    fn close(&self, mut inner: MutexGuard<'_, Inner>) {
        let group = std::mem::take(&mut inner.waiting);
        if inner.log.failure().is_some() {
            drop(inner);
            return complete(group, Err(io::Error::other("the log failed before")));
        }
        let result = inner.log.sync_at_end();
        let seal = result.is_ok().then(|| inner.log.seal_job(true)).flatten();
        let sealed = seal.map_or(Ok(()), |job| job.run());
        if let Some(e) = result.as_ref().err().or(sealed.as_ref().err()) {
            tracing::warn!(error = %e, "the log could not be closed in order");
        }
        self.note_failure(&inner);
        drop(inner);
        complete(group, result);
    }

    fn note(&self, inner: &mut Inner, result: io::Result<()>) {
        if let Err(e) = result {
            inner.log.fail(e);
            self.note_failure(inner);
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
        let now = Instant::now();
        let (last_group, last_seal) = (now, now);
        let (waiting, first, closed) = (VecDeque::new(), None, false);
        let inner = Mutex::new(Inner {
            log,
            waiting,
            slowness: None,
            late: false,
            first,
            closed,
            last_group,
            last_seal,
            no_room: None,
            asked: None,
            short: false,
            unsealable: None,
        });
        let fatal = watch::Sender::new(None);
        let gauge = Arc::default();
        let shared =
            Arc::new(Shared { inner, gauge, work: Condvar::new(), room: Condvar::new(), mode, fatal });
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

    /// For whoever must not keep the log open.
    #[must_use]
    pub fn downgrade(&self) -> WeakWriter {
        WeakWriter { shared: Arc::downgrade(&self.shared), owner: Arc::downgrade(&self._owner) }
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

    /// Makes the seal now, if the newest says less than what is durable; for a simulator, which has no thread for it.
    pub fn seal(&self) {
        let inner = self.shared.seal(self.shared.lock());
        drop(inner);
    }

    /// Has what was written made durable, without waiting for it.
    pub fn sync_soon(&self) {
        self.write(|_| Ok(()), Box::new(drop));
    }

    /// Reads or writes the log, without waiting for durability.
    pub fn with<T>(&self, f: impl FnOnce(&mut SegmentLog) -> T) -> T {
        let mut inner = self.shared.lock();
        let out = f(&mut inner.log);
        self.shared.note_failure(&inner);
        if inner.log.waits_for_room().is_some() {
            self.shared.work.notify_one();
        }
        out
    }

    /// Writes with `f`, then calls `done` once that is durable (or with the error).
    pub fn write(&self, f: impl FnOnce(&mut SegmentLog) -> io::Result<()>, done: Done) {
        let mut inner = self.shared.lock();
        let is_too_much = |inner: &Inner| {
            let unwritten = inner.log.waits_for_room().unwrap_or(0);
            inner.waiting.len() >= MAX_WAITING || unwritten >= MAX_UNWRITTEN_BYTES
        };
        while self.shared.mode == Mode::Thread && is_too_much(&inner) {
            inner = self.shared.room.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let mut result = f(&mut inner.log);
        if result.is_ok() && self.shared.mode == Mode::Thread {
            inner.waiting.push_back(done);
            self.shared.gauge.waits();
            self.shared.work.notify_one();
            return;
        }
        if result.is_ok() && (inner.is_slow() || inner.log.waits_for_room().is_some()) {
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
    fn a_segment_begun_while_the_next_file_is_made_without_the_lock_takes_another() {
        let disk = SimDisk::new();
        let limits = Limits { segment_bytes: 4 << 10, ..Limits::default() };
        let open = || SegmentLog::open(Arc::new(disk.clone()), Identity::new("lab", 1), limits);
        let (mut log, _) = open().expect("opens");
        let fill = |log: &mut SegmentLog| {
            for _ in 0..8 {
                let next = log.entries().end.max(1);
                log.append(next, &[vec![7; 1_000]]).expect("there is room");
            }
        };
        log.append(1, &[vec![7; 3_000]]).expect("there is room");
        let (shared, size) = log.wants_ready().expect("more than half is full");
        let made = make_ready(&*shared, READY, size).expect("there is room");
        fill(&mut log);
        log.take_ready(made, size);
        fill(&mut log);
        log.sync().expect("all files are under their names");
        drop(log);
        let (log, _) = open().expect("opens");
        assert_eq!(log.entries(), 1..18);
        assert_eq!(log.read(1..18, false).expect("all is there").len(), 17);
    }

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
