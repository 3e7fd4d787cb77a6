//! openraft's view of the replicated state: applies entries and installs snapshots; `snapshot` builds them.
//!
//! In production entries are applied on a thread of their own ("relevo-apply"), because the state is shared with
//! the SIP engines behind a lock, and an engine that holds it must never stall the Raft thread. What takes as long as
//! the state is large (reading, decoding, dropping one) is done on yet another thread. In a simulation everything
//! happens in place.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::time::Duration;

use futures::channel::oneshot;
use futures::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{EntryPayload, OptionalSend, SnapshotMeta};
use tokio::sync::watch;

use super::backlog::Backlog;
use super::digest::{self, Digest, Digests};
use super::schedule::Schedule;
use super::snapshot::{Builder, Data, Snapshots, Threads};
use super::time::Time;
use super::types::{Entry, LogId, Place, StoredMembership, TypeConfig};
use crate::codec::{self, Kind};
use crate::command::{Batch, Command, Responses};
use crate::contain;
use crate::log::Mode;
use crate::snap::{Haste, SnapStore, read_whole, write_whole};
use crate::state::{Applied, ClusterState, Fitness, Grant, Pause, Planned, Poisoned, Suspect};

/// Entries handed to the apply thread at once.
const APPLY_CHUNK: usize = 64;
/// Jobs that wait for the apply thread. openraft has one chunk, one snapshot and one installation under way at most, so
/// that this is never reached; more than it foresees is an error, not a longer queue.
const MAX_JOBS: usize = 16;

/// The state that engines and operators read; only the machine writes it.
pub struct View {
    state: RwLock<ClusterState>,
    grant: watch::Sender<Option<Grant>>,
    decided: Mutex<Decided>,
    /// What the thread that applies has to do.
    backlog: Arc<Backlog>,
    digests: Mutex<Digests>,
    /// The state behind an entry that is to be hashed as a whole.
    captured: Mutex<Option<(u64, ClusterState)>>,
    time: Arc<Time>,
}

/// What the state says about who shall serve. It has a lock of its own, because the control thread asks for it in every
/// round, and an engine holds the state's lock for as long as it works.
#[derive(Debug, Clone, Default)]
pub(super) struct Decided {
    /// The newest applied grant.
    pub(super) grant: Option<Grant>,
    /// The places that something ails.
    pub(super) fitness: Vec<(Place, Fitness)>,
    /// The messages that engines have died with.
    pub(super) suspects: Vec<Suspect>,
    /// No automatic takeover.
    pub(super) pause: Option<Pause>,
    /// The switchover that is to come.
    pub(super) planned: Option<Planned>,
}

impl From<&ClusterState> for Decided {
    fn from(state: &ClusterState) -> Self {
        Self {
            grant: state.grant(),
            fitness: state.fitness(),
            suspects: state.suspects().to_vec(),
            pause: state.pause().cloned(),
            planned: state.planned(),
        }
    }
}

impl View {
    fn new(state: ClusterState, time: Arc<Time>) -> Self {
        if let Some(stamp) = state.stamp() {
            time.stored(stamp);
        }
        let grant = watch::Sender::new(state.grant());
        let decided = Mutex::new(Decided::from(&state));
        let backlog = Arc::default();
        Self {
            state: RwLock::new(state),
            grant,
            decided,
            backlog,
            digests: Mutex::default(),
            captured: Mutex::default(),
            time,
        }
    }

    /// Never waits for a reader of the state.
    pub(super) fn decided(&self) -> Decided {
        self.decided.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For how long the thread that applies has had something to do without getting any further.
    pub(super) fn waits(&self) -> Option<Duration> {
        self.backlog.waits()
    }

    /// What the entries of the newest whole windows did.
    pub(super) fn digests(&self) -> Vec<Digest> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner).newest()
    }

    /// The entry at `index` was applied, with these answers; `changed` is the hash of what it changed.
    fn digest(&self, index: u64, responses: &Responses, changed: u64) {
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        self.read(|state| digests.note(index, responses, changed, state));
    }

    /// Keeps the state behind the entry at `index`, which costs a few pointers.
    fn capture(&self, index: u64) {
        let state = self.read(ClusterState::frozen);
        *self.captured.lock().unwrap_or_else(PoisonError::into_inner) = Some((index, state));
    }

    fn captured(&self) -> Option<(u64, ClusterState)> {
        self.captured.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note_whole(&self, index: u64, hash: u64) {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner).note_whole(index, hash);
    }

    /// Changes the state of this node and of no other, as bad memory would: to try out what comes of it. Does nothing in a
    /// release build.
    pub fn disturb(&self, command: &Command) {
        if cfg!(debug_assertions) {
            self.state.write().unwrap_or_else(PoisonError::into_inner).apply(0, command);
        }
    }

    /// Reads the state; keep it short, writers wait.
    pub fn read<R>(&self, f: impl FnOnce(&ClusterState) -> R) -> R {
        f(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The newest applied grant, and word of every new one.
    pub fn grant(&self) -> watch::Receiver<Option<Grant>> {
        self.grant.subscribe()
    }

    /// The answers, and the hash of what was changed.
    fn apply(&self, index: u64, term: u64, batch: &Batch) -> (Responses, u64) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let Applied { responses, poisoned, changes } = state.apply_all(index, &batch.0);
        let decided = Decided::from(&*state);
        drop(state);
        let changed = digest::changes(&changes);
        for Poisoned { number, why } in poisoned {
            tracing::error!(
                "entry {index}, command {number}: it cannot be applied and was refused on every node: {why}"
            );
            if let Some(command) = batch.0.get(number) {
                contain::witness(index, &format!("{why}\n{command:#?}\n"));
            }
        }
        for command in &batch.0 {
            if let Command::Stamp(stamp) = command {
                self.time.applied(index, term, *stamp);
            }
        }
        self.note(decided);
        (Responses(responses), changed)
    }

    /// Gives back the former state: dropping a large one takes as long as reading it, and not under a lock.
    fn replace(&self, state: ClusterState) -> ClusterState {
        let decided = Decided::from(&state);
        if let Some(stamp) = state.stamp() {
            self.time.stored(stamp);
        }
        let old = std::mem::replace(&mut *self.state.write().unwrap_or_else(PoisonError::into_inner), state);
        self.note(decided);
        old
    }

    fn note(&self, decided: Decided) {
        let grant = decided.grant;
        *self.decided.lock().unwrap_or_else(PoisonError::into_inner) = decided;
        self.grant.send_if_modified(|known| {
            let news = *known != grant;
            *known = grant;
            news
        });
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Where entries are applied.
#[derive(Clone)]
pub(super) enum Worker {
    Inline,
    Thread(mpsc::SyncSender<Job>, Arc<Backlog>),
}

impl Worker {
    fn new(mode: Mode, first: Option<fn()>, backlog: Arc<Backlog>) -> io::Result<Self> {
        if mode == Mode::Inline {
            return Ok(Self::Inline);
        }
        let (tx, rx) = mpsc::sync_channel::<Job>(MAX_JOBS);
        std::thread::Builder::new().name("relevo-apply".into()).spawn(move || {
            if let Some(f) = first {
                f();
            }
            for job in rx {
                job();
            }
        })?;
        Ok(Self::Thread(tx, backlog))
    }

    pub(super) async fn run<R: Send + 'static>(
        &self,
        f: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<R> {
        match self {
            Self::Inline => Ok(f()),
            Self::Thread(tx, backlog) => {
                let (done, result) = oneshot::channel();
                let work = backlog.begin();
                let job: Job = Box::new(move || {
                    // The receiver goes away only with its task.
                    drop(done.send(f()));
                    drop(work);
                });
                // Not `send`: the Raft thread waits for nobody.
                tx.try_send(job).map_err(|e| match e {
                    mpsc::TrySendError::Full(_) => {
                        io::Error::other("too many jobs wait for the apply thread")
                    }
                    mpsc::TrySendError::Disconnected(_) => io::Error::other("the apply thread has ended"),
                })?;
                result.await.map_err(|_| io::Error::other("the apply thread has failed"))
            }
        }
    }
}

/// The state machine of a node.
pub struct Machine {
    view: Arc<View>,
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshots: Arc<Snapshots>,
    worker: Worker,
    compare_entries: u64,
    /// The whole state is being hashed.
    hashing: Arc<AtomicBool>,
}

fn decode(meta: &[u8], data: &[u8]) -> io::Result<(SnapshotMetaOf<TypeConfig>, ClusterState)> {
    Ok((codec::decode(Kind::SnapshotMeta, meta)?, codec::decode(Kind::Snapshot, data)?))
}

impl Machine {
    /// Opens the newest snapshot that verifies, or begins with nothing.
    pub fn open(snaps: Box<dyn SnapStore>, threads: Threads, time: Arc<Time>) -> io::Result<Self> {
        let (meta, state, bytes) = match snaps.latest()? {
            Some((meta, data)) => {
                let (meta, state) = decode(&meta, &data)?;
                (meta, state, data.len() as u64)
            }
            None => (SnapshotMeta::default(), ClusterState::default(), 0),
        };
        let view = Arc::new(View::new(state, time));
        let worker = Worker::new(threads.mode, threads.on_apply, view.backlog.clone())?;
        Ok(Self {
            view,
            applied: meta.last_log_id,
            membership: meta.last_membership,
            snapshots: Arc::new(Snapshots::new(snaps, threads, meta.last_log_id, bytes)),
            worker,
            compare_entries: Schedule::default().compare_entries,
            hashing: Arc::default(),
        })
    }

    /// Hashes the whole state behind every so many entries.
    #[must_use]
    pub fn comparing_every(self, entries: u64) -> Self {
        Self { compare_entries: entries, ..self }
    }

    /// What readers share.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    /// Position of the newest entry in the state: that of the snapshot right after `open`.
    #[must_use]
    pub fn applied(&self) -> Option<LogId> {
        self.applied
    }

    /// What is known of the snapshots of this node.
    pub(super) fn snapshots(&self) -> Arc<Snapshots> {
        self.snapshots.clone()
    }

    async fn apply_chunk(&mut self, chunk: Vec<Entry>) -> io::Result<Vec<Responses>> {
        if let Some(last) = chunk.last() {
            self.applied = Some(last.log_id);
        }
        for entry in &chunk {
            if let EntryPayload::Membership(members) = &entry.payload {
                self.membership = StoredMembership::new(Some(entry.log_id), members.clone());
            }
        }
        let (view, compare_entries) = (self.view.clone(), self.compare_entries);
        let apply = move |entry: &Entry| {
            let index = entry.log_id.index;
            let (responses, changed) = match &entry.payload {
                EntryPayload::Normal(batch) => view.apply(index, entry.log_id.leader_id.term, batch),
                EntryPayload::Blank | EntryPayload::Membership(_) => Default::default(),
            };
            view.digest(index, &responses, changed);
            if index.is_multiple_of(compare_entries) {
                view.capture(index);
            }
            responses
        };
        let responses = self.worker.run(move || chunk.iter().map(apply).collect()).await?;
        if let Some((index, state)) = self.view.captured() {
            self.hash(index, state);
        }
        Ok(responses)
    }

    /// Hashes a state behind everything else. One at a time: a machine that cannot keep up leaves some out.
    fn hash(&self, index: u64, state: ClusterState) {
        if self.hashing.swap(true, Ordering::SeqCst) {
            return;
        }
        let (view, snapshots, hashing) = (self.view.clone(), self.snapshots.clone(), self.hashing.clone());
        tokio::spawn(async move {
            match snapshots.behind(move || digest::whole(&state)).await {
                Ok(Ok(hash)) => view.note_whole(index, hash),
                Ok(Err(e)) | Err(e) => {
                    tracing::warn!(error = %e, "the state cannot be compared with that of the others");
                }
            }
            hashing.store(false, Ordering::SeqCst);
        });
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Data;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut chunks = entries.try_ready_chunks(APPLY_CHUNK);
        loop {
            let chunk = match chunks.try_next().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(()),
                Err(e) => return Err(e.1),
            };
            let (entries, responders): (Vec<_>, Vec<_>) = chunk.into_iter().unzip();
            let responses = self.apply_chunk(entries).await?;
            self.snapshots.note_applied(self.applied);
            for (responder, response) in responders.into_iter().zip(responses) {
                if let Some(responder) = responder {
                    responder.send(response);
                }
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        Builder::capture(self.snapshots.clone(), &self.view, &self.worker, meta).await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: Data,
    ) -> Result<(), io::Error> {
        let meta_bytes: Arc<[u8]> = codec::encode(Kind::SnapshotMeta, meta)?.into();
        let snapshots = self.snapshots.clone();
        let (image, last) = (snapshot.clone(), meta.last_log_id);
        let read =
            move || Ok::<ClusterState, io::Error>(codec::decode(Kind::Snapshot, &read_whole(&*image)?)?);
        // The bytes are given back before the generation is written.
        let state = snapshots.aside(read).await??;
        snapshots
            .when_there_is_room(|snapshots| {
                let (meta_bytes, image) = (meta_bytes.clone(), snapshot.clone());
                move || snapshots.store(&meta_bytes, last, Haste::Now, &mut |to| write_whole(&*image, to))
            })
            .await?;
        let view = self.view.clone();
        let old = self.worker.run(move || view.replace(state)).await?;
        snapshots.discard(old);
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, Data>>, io::Error> {
        let load = |snapshots: Arc<Snapshots>| move || snapshots.newest();
        let Some(found) = self.snapshots.when_there_is_room(load).await? else { return Ok(None) };
        let meta = codec::decode(Kind::SnapshotMeta, &found.meta)?;
        Ok(Some(SnapshotOf::<TypeConfig, Data> { meta, snapshot: found.data }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proxy_core::time::WallTime;

    use super::*;
    use crate::command::{Command, GrantReason};
    use crate::state::Ailment;

    #[test]
    fn what_was_decided_is_told_at_once_while_the_state_is_locked_and_is_as_new_as_what_was_applied() {
        let time = Arc::new(Time::new(1, 0, Arc::new(proxy_core::time::Clocks::default)));
        let view = Arc::new(View::new(ClusterState::default(), time));
        let grant = Command::Grant { holder: 2, reason: GrantReason::Elected, at: WallTime(1) };
        view.apply(7, 1, &Batch(vec![grant, Command::Health { place: 3, healthy: false }]));
        let locked = view.state.write().expect("not poisoned");
        let (tx, rx) = mpsc::channel();
        let asked = view.clone();
        std::thread::spawn(move || drop(tx.send(asked.decided())));
        let decided = rx.recv_timeout(Duration::from_secs(5)).expect("not behind the state's lock");
        drop(locked);
        assert_eq!(decided.grant.map(|g| (g.holder, g.token)), Some((2, 7)));
        assert_eq!(decided.fitness, [(3, Fitness::FIT.with(Ailment::Unhealthy))]);
        view.replace(ClusterState::default());
        assert_eq!((view.decided().grant, view.decided().fitness), (None, Vec::new()));
    }
}
