//! openraft's own storage suite over the segment log, with the simplest state machine beside it.

use std::io;
use std::sync::{Arc, Mutex};

use futures::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, SnapshotMeta, StorageError, StoredMembership,
};
use raft_store::disk::RealDisk;
use raft_store::disk::sim::SimDisk;
use raft_store::log::{Forms, Identity, Limits, LogWriter, Mode, RaftLog, SegmentLog};
use serde::Serialize;
use serde::de::DeserializeOwned;

openraft::declare_raft_types!(
    /// Types of this test.
    pub Config: D = u64, R = (), NodeId = u64, Node = openraft::EmptyNode
);

fn write<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).map_err(io::Error::other)
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let read = bincode::serde::decode_from_slice(bytes, bincode::config::standard());
    read.map(|(value, _)| value).map_err(io::Error::other)
}

impl Forms for Config {
    fn write_entry(entry: &Self::Entry) -> io::Result<Vec<u8>> {
        write(entry)
    }

    fn read_entry(bytes: &[u8]) -> io::Result<Self::Entry> {
        read(bytes)
    }

    fn write_vote(vote: &VoteOf<Self>) -> io::Result<Vec<u8>> {
        write(vote)
    }

    fn read_vote(bytes: &[u8]) -> io::Result<VoteOf<Self>> {
        read(bytes)
    }

    fn write_log_id(id: &LogIdOf<Self>) -> io::Result<Vec<u8>> {
        write(id)
    }

    fn read_log_id(bytes: &[u8]) -> io::Result<LogIdOf<Self>> {
        read(bytes)
    }
}

#[derive(Clone, Default)]
struct Machine {
    applied: Option<LogIdOf<Config>>,
    membership: StoredMembershipOf<Config>,
    // Shared, because what a builder builds becomes the machine's current snapshot.
    snapshot: Arc<Mutex<Option<SnapshotMetaOf<Config>>>>,
}

impl RaftSnapshotBuilder<Config> for Machine {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Config, Vec<u8>>, io::Error> {
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        *self.snapshot.lock().expect("lock") = Some(meta.clone());
        Ok(SnapshotOf::<Config, Vec<u8>> { meta, snapshot: Vec::new() })
    }
}

impl RaftStateMachine<Config> for Machine {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<Config>>, StoredMembershipOf<Config>), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Config>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(members) = entry.payload {
                self.membership = StoredMembership::new(Some(entry.log_id), members);
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<Config>,
        _data: Vec<u8>,
    ) -> Result<(), io::Error> {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        *self.snapshot.lock().expect("lock") = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Config, Vec<u8>>>, io::Error> {
        Ok(self
            .snapshot
            .lock()
            .expect("lock")
            .clone()
            .map(|meta| SnapshotOf::<Config, Vec<u8>> { meta, snapshot: Vec::new() }))
    }
}

struct Builder(Mode);

impl StoreBuilder<Config, RaftLog<Config>, Machine, Option<tempfile::TempDir>> for Builder {
    async fn build(
        &self,
    ) -> Result<(Option<tempfile::TempDir>, RaftLog<Config>, Machine), StorageError<Config>> {
        let limits = Limits { segment_bytes: 400, cache_bytes: 100, ..Limits::default() };
        let identity = Identity::new("lab", 1);
        let (guard, opened) = match self.0 {
            Mode::Inline => (None, SegmentLog::open(Arc::new(SimDisk::new()), identity, limits)),
            Mode::Thread => {
                let dir = tempfile::tempdir().expect("folder");
                let disk = RealDisk::new(dir.path()).expect("disk");
                (Some(dir), SegmentLog::open(Arc::new(disk), identity, limits))
            }
        };
        let writer = LogWriter::new(opened.expect("open").0, self.0).expect("writer");
        Ok((guard, RaftLog::new(writer), Machine::default()))
    }
}

#[tokio::test]
async fn segment_log_on_a_real_disk_passes_openrafts_suite() {
    Suite::test_all(Builder(Mode::Thread)).await.expect("suite");
}

#[tokio::test]
async fn segment_log_on_a_simulated_disk_passes_openrafts_suite() {
    Suite::test_all(Builder(Mode::Inline)).await.expect("suite");
}
