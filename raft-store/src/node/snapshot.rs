//! Building, keeping and reading snapshots beside the Raft thread and the one that applies.
//!
//! Who builds one captures the state between two entries; encoding and writing it is done at leisure on a thread of its
//! own, which the agent gives the lowest priority. What somebody waits for (a snapshot to be installed or sent) is done on
//! a thread of ordinary priority.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::channel::oneshot;
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{RaftSnapshotBuilder, SnapshotMeta};
use tokio::sync::watch;

use super::sm::{View, Worker};
use super::types::{LogId, TypeConfig};
use crate::codec::{self, Kind};
use crate::disk::lacks_room;
use crate::log::Mode;
use crate::snap::{Fill, Generation, Haste, Image, Incoming, SnapStore};
use crate::state::ClusterState;

/// The data of a snapshot as openraft carries it: a handle, not the bytes.
pub type Data = Arc<dyn Image>;

/// Entries that are applied between two notes of how far it has got.
pub(super) const NOTE_EVERY: u64 = 64;

/// A disk without room for a snapshot that somebody waits for is asked again after this time (1 s).
const ROOM_PAUSE: Duration = Duration::from_secs(1);

/// Where the work of a state machine is done.
#[derive(Debug, Clone, Copy)]
pub struct Threads {
    /// On threads, or all of it in place.
    pub mode: Mode,
    /// Called first on the thread that applies entries.
    pub on_apply: Option<fn()>,
    /// Called first on each thread that writes a snapshot nobody waits for: the place to step back.
    pub on_background: Option<fn()>,
}

/// The newest snapshot of this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Newest {
    /// The last entry in it.
    pub(super) last: Option<LogId>,
    /// Bytes that it takes on the disk.
    pub(super) bytes: u64,
}

/// The snapshots of a node, and how far it has applied.
pub(super) struct Snapshots {
    store: Box<dyn SnapStore>,
    threads: Threads,
    newest: Mutex<Newest>,
    /// Snapshots of others that were installed: what was captured before is older than what is stored.
    installed: AtomicU64,
    applied: watch::Sender<u64>,
}

impl Snapshots {
    pub(super) fn new(store: Box<dyn SnapStore>, threads: Threads, last: Option<LogId>, bytes: u64) -> Self {
        Self {
            store,
            threads,
            newest: Mutex::new(Newest { last, bytes }),
            installed: AtomicU64::new(0),
            applied: watch::Sender::new(last.map_or(0, |l| l.index)),
        }
    }

    /// The newest snapshot here.
    pub(super) fn known(&self) -> Newest {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many were set aside because they did not verify.
    pub(super) fn lost(&self) -> u64 {
        self.store.lost()
    }

    /// How far entries are applied, told every [`NOTE_EVERY`] entries. Ends with the state machine.
    pub(super) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    pub(super) fn note_applied(&self, applied: Option<LogId>) {
        let Some(applied) = applied else { return };
        self.applied.send_if_modified(|told| {
            let news = applied.index >= *told + NOTE_EVERY || applied.index < *told;
            if news {
                *told = applied.index;
            }
            news
        });
    }

    /// Stores a snapshot that another node sent.
    pub(super) fn store(
        &self,
        meta: &[u8],
        last: Option<LogId>,
        haste: Haste,
        fill: Fill<'_>,
    ) -> io::Result<()> {
        self.installed.fetch_add(1, Ordering::SeqCst);
        self.put(meta, last, haste, fill)
    }

    fn put(&self, meta: &[u8], last: Option<LogId>, haste: Haste, fill: Fill<'_>) -> io::Result<()> {
        let bytes = self.store.put(meta, haste, fill)?;
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Newest { last, bytes };
        Ok(())
    }

    pub(super) fn newest(&self) -> io::Result<Option<Generation>> {
        self.store.newest()
    }

    /// A place for a snapshot that arrives.
    pub(super) fn receive(&self) -> io::Result<Box<dyn Incoming>> {
        self.store.receive()
    }

    /// Runs what takes long on a thread of ordinary priority (or in place, in a simulation).
    pub(super) async fn aside<R: Send + 'static>(
        &self,
        f: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<R> {
        match self.threads.mode {
            Mode::Inline => Ok(f()),
            Mode::Thread => tokio::task::spawn_blocking(f).await.map_err(io::Error::other),
        }
    }

    /// Does [`Snapshots::aside`] what somebody waits for, again and again while the disk has no room for it: an error
    /// would end the node. Opening a generation writes, too.
    pub(super) async fn when_there_is_room<R, F>(
        self: &Arc<Self>,
        work: impl Fn(Arc<Self>) -> F,
    ) -> io::Result<R>
    where
        R: Send + 'static,
        F: FnOnce() -> io::Result<R> + Send + 'static,
    {
        let mut told = false;
        loop {
            match self.aside(work(self.clone())).await? {
                Err(e) if lacks_room(&e) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(
                            error = %e,
                            "a snapshot that is to be installed or sent has no room on the disk of the data folder; make \
                             room there (df -h), it goes on by itself"
                        );
                    }
                    tokio::time::sleep(ROOM_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    /// Drops it where nobody waits for that.
    pub(super) fn discard<T: Send + 'static>(&self, old: T) {
        if self.threads.mode == Mode::Thread {
            // Not waited for; at a shutdown it goes with the process.
            drop(tokio::task::spawn_blocking(move || drop(old)));
        }
    }

    /// Runs what nobody waits for on a thread of its own, behind everything else.
    pub(super) async fn behind<R: Send + 'static>(
        &self,
        f: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<R> {
        if self.threads.mode == Mode::Inline {
            return Ok(f());
        }
        let (done, result) = oneshot::channel();
        let first = self.threads.on_background;
        std::thread::Builder::new().name("relevo-snap".into()).spawn(move || {
            if let Some(first) = first {
                first();
            }
            // The receiver goes away only with its task.
            drop(done.send(f()));
        })?;
        result.await.map_err(|_| io::Error::other("the thread that writes snapshots has failed"))
    }
}

/// Builds a snapshot of the state as it was when the builder was made.
pub struct Builder {
    snapshots: Arc<Snapshots>,
    meta: SnapshotMetaOf<TypeConfig>,
    /// Snapshots that had been installed by then.
    installed: u64,
    state: Option<io::Result<ClusterState>>,
}

impl Builder {
    /// Takes a copy of the state now, which costs a few pointers: the builder runs beside further applies, which must not
    /// show in it.
    pub(super) async fn capture(
        snapshots: Arc<Snapshots>,
        view: &Arc<View>,
        worker: &Worker,
        meta: SnapshotMetaOf<TypeConfig>,
    ) -> Self {
        let view = view.clone();
        let state = Some(worker.run(move || view.read(ClusterState::frozen)).await);
        let installed = snapshots.installed.load(Ordering::SeqCst);
        Self { snapshots, meta, installed, state }
    }
}

fn nothing() -> SnapshotOf<TypeConfig, Data> {
    SnapshotOf::<TypeConfig, Data> { meta: SnapshotMeta::default(), snapshot: Arc::new(Vec::new()) }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Data;

    /// Gives the metadata of what is stored, and no data: openraft asks for that with `get_current_snapshot`. A snapshot
    /// that cannot be written ends nothing, because the log goes on holding what it would have replaced; the metadata is
    /// empty then, which openraft takes as no news.
    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, Data>, io::Error> {
        let state = self.state.take().ok_or_else(|| io::Error::other("a builder builds once"))??;
        let meta_bytes = codec::encode(Kind::SnapshotMeta, &self.meta)?;
        let (snapshots, last, installed) = (self.snapshots.clone(), self.meta.last_log_id, self.installed);
        let haste = match snapshots.threads.mode {
            Mode::Thread => Haste::Background,
            Mode::Inline => Haste::Now,
        };
        let write = move || {
            snapshots.put(&meta_bytes, last, haste, &mut |to: &mut dyn Write| {
                codec::encode_to(Kind::Snapshot, &state, to)?;
                if snapshots.installed.load(Ordering::SeqCst) == installed {
                    return Ok(());
                }
                Err(io::Error::new(io::ErrorKind::Interrupted, "a newer one was installed meanwhile"))
            })
        };
        // Once written it is durable and was read back: only now may openraft purge the log behind it.
        match self.snapshots.behind(write).await? {
            Ok(()) => Ok(SnapshotOf::<TypeConfig, Data> { meta: self.meta.clone(), ..nothing() }),
            Err(e) => {
                tracing::warn!(error = %e, "no snapshot was written: the log keeps what it would have replaced");
                Ok(nothing())
            }
        }
    }
}
