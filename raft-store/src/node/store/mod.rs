//! The data folder of a node: whose it is, who has it open, and what happens to a store that does not open.
//!
//! ```text
//! DATA/lock                 held while a process uses the folder
//! DATA/begun                a store was in use here: where none is now, it is lost
//! DATA/store/id             cluster, place, Raft id, format: text, for people too
//! DATA/store/log/           the segment log
//! DATA/store/snap/          snapshots
//! DATA/store.new/           a store that is being made from a state (`relevo restore`, `relevo store repair`)
//! DATA/set-aside-NUMBER/    a store that did not open, or that the cluster has gone on without
//! ```
//!
//! "Nothing was ever here" and "something was here" are different beginnings:
//!
//! | what is found | is |
//! |---|---|
//! | no `begun`, and no store or one whose making was cut short | [`Found::Empty`] |
//! | a store that verifies | [`Found::Whole`] |
//! | a store that does not verify | [`Found::Damaged`] |
//! | `begun` or a store that was set aside, and none in its place | [`Found::Damaged`] |
//!
//! `begun` is durable before a store is used, so that a file or folder that is gone is not taken for one that never was.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};
use openraft::type_config::alias::SnapshotMetaOf;

use super::doubt::Reach;
use super::rebirth::{self, Position};
use super::types::{Member, Place, RaftId, TypeConfig, incarnation_of, place_of, raft_id};
use crate::codec::{self, Kind};
use crate::disk::{FILE_MODE, RealDisk, SharedDisk, create_durably, create_private, is_damage};
use crate::log::{
    self, Durability, FORMAT, FORMAT_VERSION, Ground, Identity, Limits, LogWriter, Mode, OpenError, RaftLog,
    Recovered, SegmentLog, Verdict,
};
use crate::snap::{Generation, SledSnaps, SnapStore};
use crate::state::ClusterState;

mod aside;
mod damage;
mod identity;

pub(super) use identity::Kept;

pub use damage::{CURES, Damage};

/// Why a data folder cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk or the permissions.
    #[error("the data folder {path} cannot be used: {why}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// The system's reason.
        why: io::Error,
    },
    /// Another process has it.
    #[error(
        "the data folder {path} is in use by another relevo; stop it first, or give this one its own (node.data)"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// It belongs to another cluster, node or version.
    #[error(
        "the data folder {path} belongs to {what} {found}, this is {what} {expected}; \
         correct the configuration, or move the folder away and let the node join as a new one"
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Which property differs.
        what: String,
        /// Value in the folder.
        found: String,
        /// Value configured.
        expected: String,
    },
    /// An earlier release wrote it, in a form that is not read any more.
    #[error(
        "the data folder {path} is of an earlier release (log format {found}), which this one does not read; with that release \
         write a backup on one node (relevo backup FILE), stop all nodes, move the folder {path} away on each, and begin from the \
         backup with this release (relevo restore FILE on one node, then start all)"
    )]
    Older {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: String,
    },
    /// It is damaged, and there is nobody to rejoin from: a node alone.
    #[error("the store is damaged: {0}; nothing was changed. {cures}", cures = CURES)]
    Damaged(Damage),
}

impl StoreError {
    /// A store made from a state could not be written.
    pub(super) fn newborn(why: io::Error) -> Self {
        Self::Io { path: PathBuf::from(NEW), why }
    }
}

/// Folder of the store, inside the data folder.
const ROOT: &str = "store";
/// Folder of a store that is being made from a state.
const NEW: &str = "store.new";

/// File that says that a store was in use.
const BEGUN: &str = "begun";

/// What is in it, for people.
const BEGUN_TEXT: &str =
    "A store was in use in this folder. Without this file an empty folder would be taken for a new node.\n";

/// Why a node does not begin although it has no store.
const SET_ASIDE: &str = "this store was set aside, and none has taken its place";
/// The same, where none was set aside.
const GONE: &str = "it is gone, and this node has been in use (the file `begun` beside it says so)";

/// Whether a log of this format is of an earlier release.
fn is_older(found: &str) -> bool {
    found.parse::<u32>().is_ok_and(|found| found < FORMAT)
}

/// What a data folder holds.
pub enum Found {
    /// Nothing was ever here.
    Empty,
    /// A store that verifies.
    Whole(Opened),
    /// Something was here, and cannot be used: such a node may join a cluster, and never begin one.
    Damaged(Damage),
}

/// A locked data folder.
pub struct Store {
    data: PathBuf,
    cluster: String,
    place: Place,
    durability: Durability,
    ground: Ground,
    _lock: Flock<File>,
}

/// An open store.
pub struct Opened {
    /// Who the node is.
    pub id: RaftId,
    /// Its log.
    pub log: RaftLog<TypeConfig>,
    /// Its snapshots.
    pub snaps: Arc<SledSnaps>,
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> StoreError + '_ {
    move |why| StoreError::Io { path: path.to_owned(), why }
}

impl Store {
    /// Locks `data` for this process, making the folder if it is missing.
    pub fn lock(
        data: &Path,
        cluster: &str,
        place: Place,
        durability: Durability,
    ) -> Result<Self, StoreError> {
        // Its own name, too, must be there after a power cut: all that is acknowledged is in it.
        create_durably(data).map_err(io_error(data))?;
        let path = data.join("lock");
        let file =
            File::options().create(true).append(true).mode(FILE_MODE).open(&path).map_err(io_error(&path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| match e {
            nix::errno::Errno::EWOULDBLOCK => StoreError::InUse { path: data.to_owned() },
            e => StoreError::Io { path: path.clone(), why: e.into() },
        })?;
        let ground = Ground::default();
        Ok(Self {
            data: data.to_owned(),
            cluster: cluster.to_owned(),
            place,
            durability,
            ground,
            _lock: lock,
        })
    }

    /// With what this machine can tell about the end of the log.
    #[must_use]
    pub fn on(self, ground: Ground) -> Self {
        Self { ground, ..self }
    }

    fn root(&self) -> PathBuf {
        self.data.join(ROOT)
    }

    /// Whether there is a store, of whatever condition.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.root().exists()
    }

    /// How durable its log is.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Opens what is there. Nothing is thrown away: a store that does not verify stays as it is.
    pub fn open(&self) -> Result<Found, StoreError> {
        self.finish_rebirth()?;
        let root = self.root();
        if !root.exists() {
            return Ok(match self.newest_aside()? {
                None if self.has_begun() => Found::Damaged(Damage::new(root, 0, GONE)),
                None => Found::Empty,
                Some(file) => Found::Damaged(Damage::new(file, 0, SET_ASIDE)),
            });
        }
        let found = self.open_root(root)?;
        if matches!(found, Found::Whole(_)) {
            self.note_begun()?;
        }
        Ok(found)
    }

    /// Whether a store was in use here.
    fn has_begun(&self) -> bool {
        self.data.join(BEGUN).exists()
    }

    /// From now on a store that is not there is lost. Durable on return.
    fn note_begun(&self) -> Result<(), StoreError> {
        if self.has_begun() {
            return Ok(());
        }
        let path = self.data.join(BEGUN);
        let made = create_private(&path)
            .and_then(|mut f| f.write_all(BEGUN_TEXT.as_bytes()).and_then(|()| f.sync_all()));
        made.map_err(io_error(&path))?;
        self.sync()
    }

    fn open_root(&self, root: PathBuf) -> Result<Found, StoreError> {
        let path = root.join("id");
        let bytes = match fs::read(&path) {
            Ok(bytes) => Ok(bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err("it is missing".to_owned()),
            Err(e) if is_damage(&e) => Err(format!("it cannot be read ({e})")),
            Err(why) => return Err(StoreError::Io { path, why }),
        };
        let meta = |name| root.join("log").join(name).exists();
        if !meta("META") && !meta("META.copy") {
            return self.without_meta();
        }
        let parsed = match &bytes {
            Ok(bytes) => identity::parse(bytes),
            Err(why) => Err((0, format!("{why}; {} were expected", identity::LINES))),
        };
        let owner = self.owner(&root)?;
        match (parsed, owner) {
            (Ok(file), owner) => {
                if let Some((what, found, expected)) = file.difference(&self.cluster, self.place) {
                    return Err(self.foreign(what, found, expected));
                }
                match owner {
                    Some(id) if id != file.id => self.identify_again(id, "it names another Raft id")?,
                    _ if !file.is_consistent() => {
                        let why = format!("its raft-id {} is none of node {}", file.id, self.place);
                        return Ok(Found::Damaged(Damage::new(path, 0, why)));
                    }
                    _ => {}
                }
                self.open_as(&root, owner.unwrap_or(file.id), self.has_begun())
            }
            (Err((_, why)), Some(id)) => {
                self.identify_again(id, &why)?;
                self.open_as(&root, id, self.has_begun())
            }
            (Err((offset, why)), None) => Ok(Found::Damaged(Damage::new(path, offset, why))),
        }
    }

    /// The id that the log's `META` names, if that verifies and is of this node and cluster.
    fn owner(&self, root: &Path) -> Result<Option<RaftId>, StoreError> {
        let dir = root.join("log");
        let disk = RealDisk::new(&dir).map_err(io_error(&dir))?;
        let owner = log::owner(&disk);
        let ours = |owner: &Identity| {
            place_of(owner.node) == self.place && *owner == Identity::new(&self.cluster, owner.node)
        };
        Ok(owner.filter(ours).map(|owner| owner.node))
    }

    /// `store/id` is not to be read, and `META` says whose the store is.
    fn identify_again(&self, id: RaftId, why: &str) -> Result<(), StoreError> {
        let root = self.root();
        tracing::warn!(file = %root.join("id").display(), %why, id, "the file is damaged: written again from META");
        self.write_id(&root, id)
    }

    /// `META` is made last: without it the making of the store was cut short before anything was promised, or it is lost.
    fn without_meta(&self) -> Result<Found, StoreError> {
        let root = self.root();
        let file = root.join("log").join("META");
        let lost = |why: &str| Ok(Found::Damaged(Damage::new(file.clone(), 0, why)));
        if holds_folder(&root.join("snap"), "gen-").map_err(io_error(&root))? {
            return lost("it is missing, and there are snapshots");
        }
        if holds_records(&root.join("log")).map_err(io_error(&root))? {
            return lost("it is missing, and the log holds records");
        }
        if self.has_begun() {
            return lost("it is missing, and this node has been in use");
        }
        fs::remove_dir_all(&root).map_err(io_error(&root))?;
        self.sync()?;
        Ok(match self.newest_aside()? {
            None => Found::Empty,
            Some(file) => Found::Damaged(Damage::new(file, 0, SET_ASIDE)),
        })
    }

    fn foreign(&self, what: &str, found: String, expected: String) -> StoreError {
        StoreError::Foreign { path: self.data.clone(), what: what.to_owned(), found, expected }
    }

    /// Makes an empty store for `id`. The id is durable before the log can hold a vote.
    pub fn create(&self, id: RaftId) -> Result<Opened, StoreError> {
        self.create_at(&self.root(), id)
    }

    fn create_at(&self, root: &Path, id: RaftId) -> Result<Opened, StoreError> {
        create_durably(root).map_err(io_error(root))?;
        self.write_id(root, id)?;
        match self.open_as(root, id, false)? {
            Found::Whole(opened) => {
                self.note_begun()?;
                Ok(opened)
            }
            Found::Empty => Err(StoreError::newborn(io::Error::other("a new store is not there"))),
            Found::Damaged(damage) => Err(StoreError::newborn(io::Error::other(damage.to_string()))),
        }
    }

    fn write_id(&self, root: &Path, id: RaftId) -> Result<(), StoreError> {
        identity::write(root, &identity::text(&self.cluster, self.place, id)).map_err(io_error(root))
    }

    /// What `store/id` must say while the node runs as `id`.
    pub(crate) fn kept_id(&self, id: RaftId) -> identity::Kept {
        identity::Kept { root: self.root(), text: identity::text(&self.cluster, self.place, id) }
    }

    /// `used`: the store was in use before, so that what is missing in it is lost.
    fn open_as(&self, root: &Path, id: RaftId, used: bool) -> Result<Found, StoreError> {
        let disk: SharedDisk = Arc::new(RealDisk::new(root.join("log")).map_err(io_error(root))?);
        let limits = Limits { durability: self.durability, ..Limits::default() };
        let identity = Identity::new(&self.cluster, id);
        let snaps = SledSnaps::open(root.join("snap")).map_err(io_error(root))?;
        let ground = Ground { used, ..self.ground.clone() };
        let mut opened = SegmentLog::open_on(disk.clone(), identity, limits, ground.clone());
        if let Ok((_, Recovered { verdict: Verdict::Forgotten(lost), .. })) = &opened
            && lost.resumes.is_some()
            && let Some(newest) = newest_snapshot(&snaps).map_err(io_error(root))?
        {
            // Perhaps the snapshot holds all that is damaged.
            let ground = Ground { snapshot: Some(newest), ..ground };
            opened = SegmentLog::open_on(disk, identity, limits, ground);
        }
        let log = match opened {
            Ok((log, recovered)) => match recovered.verdict {
                Verdict::Whole => log,
                Verdict::Torn { bytes } => {
                    tracing::warn!(bytes, "the last write to the log was not finished, and was cut off");
                    log
                }
                Verdict::Mended(damage) => {
                    tracing::warn!(%damage, "the log was damaged where a snapshot has all there was: nothing is lost");
                    log
                }
                Verdict::Forgotten(forgotten) => {
                    let reach = Reach::of(&log, &forgotten).map_err(io_error(root))?;
                    return Ok(Found::Damaged(Damage::of_log(&root.join("log"), forgotten, reach)));
                }
            },
            Err(OpenError::Io(why)) => return Err(StoreError::Io { path: root.to_owned(), why }),
            Err(OpenError::Foreign { what: FORMAT_VERSION, found, .. }) if is_older(&found) => {
                return Err(StoreError::Older { path: self.data.clone(), found });
            }
            Err(OpenError::Foreign { what, found, expected }) => {
                return Err(self.foreign(what, found, expected));
            }
            Err(OpenError::Corrupt { file, offset, why }) => {
                return Ok(Found::Damaged(Damage::new(root.join("log").join(file), offset, why)));
            }
        };
        let writer = LogWriter::new(log, Mode::Thread).map_err(io_error(root))?;
        Ok(Found::Whole(Opened { id, log: RaftLog::new(writer), snaps: Arc::new(snaps) }))
    }

    /// Makes a store from which this node begins the cluster anew with `state`, as its only voter: see
    /// [`super::rebirth`]. `beyond` is the newest position that is known of the former cluster (of the backup, or of the
    /// store that is replaced). What is here is set aside. On return all of it is durable; after a power cut in between,
    /// either the former store is here or the new one.
    pub fn begin_from(
        &self,
        state: &ClusterState,
        beyond: Position,
        own: Member,
    ) -> Result<RaftId, StoreError> {
        let new = self.data.join(NEW);
        if new.exists() {
            fs::remove_dir_all(&new).map_err(io_error(&new))?;
        }
        let before = fs::read(self.root().join("id")).ok().and_then(|bytes| identity::parse(&bytes).ok());
        let id = raft_id(later_than(before.map_or(0, |file| incarnation_of(file.id))), self.place);
        let mut salt = [0; 2];
        rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut salt)
            .map_err(|e| StoreError::newborn(io::Error::other(e)))?;
        // Its name comes last: a folder of the final name is whole.
        let making = self.data.join(format!("{NEW}.tmp"));
        if making.exists() {
            fs::remove_dir_all(&making).map_err(io_error(&making))?;
        }
        let made = self
            .create_at(&making, id)
            .and_then(|opened| rebirth::fill(opened, state, beyond.reborn(u16::from_le_bytes(salt)), own));
        if made.is_err() {
            // A disk without room needs what half a store takes.
            drop(fs::remove_dir_all(&making));
        }
        made?;
        fs::rename(&making, &new).map_err(io_error(&new))?;
        self.sync()?;
        if self.root().exists() {
            self.set_aside("a state is put in its place")?;
        }
        self.finish_rebirth()?;
        Ok(id)
    }

    /// A store made from a state takes its place where no other one is; a power cut may have come between.
    fn finish_rebirth(&self) -> Result<(), StoreError> {
        let new = self.data.join(NEW);
        if !new.exists() {
            return Ok(());
        }
        if self.root().exists() {
            // The former store was not yet set aside: the command had not come to its end, and is to be given again.
            fs::remove_dir_all(&new).map_err(io_error(&new))?;
        } else {
            fs::rename(&new, self.root()).map_err(io_error(&new))?;
        }
        self.sync()
    }

    fn sync(&self) -> Result<(), StoreError> {
        File::open(&self.data).and_then(|f| f.sync_all()).map_err(io_error(&self.data))
    }
}

/// An incarnation later than `seen`: the wall time in ms, unless the clock is behind.
pub(super) fn later_than(seen: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    u64::try_from(now).unwrap_or(0).max(seen.saturating_add(1))
}

/// The last index in the newest snapshot that verifies, and its mark as the log takes it.
fn newest_snapshot(snaps: &SledSnaps) -> io::Result<Option<(u64, Vec<u8>)>> {
    let Some(Generation { meta, .. }) = snaps.newest()? else { return Ok(None) };
    let meta: SnapshotMetaOf<TypeConfig> = codec::decode(Kind::SnapshotMeta, &meta)?;
    meta.last_log_id.map(|last| Ok((last.index, codec::encode(Kind::LogId, &last)?))).transpose()
}

/// Whether `dir` holds a folder whose name begins so.
fn holds_folder(dir: &Path, prefix: &str) -> io::Result<bool> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    for entry in entries {
        if entry?.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the log in `dir` holds any record beside the one that its first segment begins with.
fn holds_records(dir: &Path) -> io::Result<bool> {
    if !dir.exists() {
        return Ok(false);
    }
    log::was_used(&RealDisk::new(dir)?).map_err(|e| match e {
        OpenError::Io(e) => e,
        other => io::Error::other(other),
    })
}

#[cfg(test)]
mod tests;
