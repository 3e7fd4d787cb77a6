//! The data folder of a node: whose it is, who has it open, and what happens to a store that does not open.
//!
//! ```text
//! DATA/lock                 held while a process uses the folder
//! DATA/store/id             cluster, place, Raft id, format: text, for people too
//! DATA/store/log/           the segment log
//! DATA/store/snap/          snapshots
//! DATA/set-aside-SECONDS/   a store that did not open
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};

use super::types::{Place, RaftId, TypeConfig, place_of};
use crate::disk::{RealDisk, create_durably};
use crate::log::{Durability, Identity, Limits, LogWriter, Mode, OpenError, RaftLog, SegmentLog, Verdict};
use crate::snap::SledSnaps;

/// Layout of the folder.
const FORMAT: &str = "1";

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
}

/// A locked data folder.
pub struct Store {
    data: PathBuf,
    cluster: String,
    place: Place,
    durability: Durability,
    _lock: Flock<File>,
}

/// An open store.
pub struct Opened {
    /// Who the node is.
    pub id: RaftId,
    /// Its log.
    pub log: RaftLog<TypeConfig>,
    /// Its snapshots.
    pub snaps: SledSnaps,
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
        let file = File::options().create(true).append(true).open(&path).map_err(io_error(&path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| match e {
            nix::errno::Errno::EWOULDBLOCK => StoreError::InUse { path: data.to_owned() },
            e => StoreError::Io { path: path.clone(), why: e.into() },
        })?;
        Ok(Self { data: data.to_owned(), cluster: cluster.to_owned(), place, durability, _lock: lock })
    }

    fn root(&self) -> PathBuf {
        self.data.join("store")
    }

    /// Opens what is there. `None`: there is nothing, or it did not open and was set aside.
    pub fn open(&self) -> Result<Option<Opened>, StoreError> {
        let path = self.root().join("id");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if self.root().exists() {
                    self.set_aside("it has no id")?;
                }
                return Ok(None);
            }
            Err(why) => return Err(StoreError::Io { path, why }),
        };
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.unwrap_or_default().to_owned()
        };
        for (what, found, expected) in [
            ("format", field("format"), FORMAT.to_owned()),
            ("cluster", field("cluster"), self.cluster.clone()),
            ("node", field("node"), self.place.to_string()),
        ] {
            if found != expected {
                return Err(self.foreign(what, found, expected));
            }
        }
        let id: RaftId = match field("raft-id").parse() {
            Ok(id) if place_of(id) == self.place => id,
            _ => {
                self.set_aside("its id cannot be read")?;
                return Ok(None);
            }
        };
        if !self.root().join("log").join("META").exists() {
            self.set_aside("its log is missing")?;
            return Ok(None);
        }
        self.open_as(id)
    }

    fn foreign(&self, what: &str, found: String, expected: String) -> StoreError {
        StoreError::Foreign { path: self.data.clone(), what: what.to_owned(), found, expected }
    }

    /// Makes an empty store for `id`. The id is durable before the log can hold a vote.
    pub fn create(&self, id: RaftId) -> Result<Opened, StoreError> {
        let root = self.root();
        let write = || -> io::Result<()> {
            fs::create_dir_all(&root)?;
            File::open(&self.data)?.sync_all()?;
            let text =
                format!("format {FORMAT}\ncluster {}\nnode {}\nraft-id {id}\n", self.cluster, self.place);
            let temporary = root.join("id.tmp");
            let mut file = File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, root.join("id"))?;
            File::open(&root)?.sync_all()
        };
        write().map_err(io_error(&root))?;
        let opened = self.open_as(id)?;
        opened
            .ok_or_else(|| StoreError::Io { path: root, why: io::Error::other("a new store does not open") })
    }

    fn open_as(&self, id: RaftId) -> Result<Option<Opened>, StoreError> {
        let root = self.root();
        let disk = RealDisk::new(root.join("log")).map_err(io_error(&root))?;
        let limits = Limits { durability: self.durability, ..Limits::default() };
        let log = match SegmentLog::open(Arc::new(disk), Identity::new(&self.cluster, id), limits) {
            Ok((log, recovered)) => match recovered.verdict {
                Verdict::Whole => log,
                Verdict::Torn { bytes } => {
                    tracing::warn!(bytes, "the last write to the log was not finished, and was cut off");
                    log
                }
                Verdict::Forgotten(forgotten) => {
                    self.set_aside(&forgotten.to_string())?;
                    return Ok(None);
                }
            },
            Err(OpenError::Io(why)) => return Err(StoreError::Io { path: root, why }),
            Err(OpenError::Foreign { what, found, expected }) => {
                return Err(self.foreign(what, found, expected));
            }
            Err(e @ OpenError::Corrupt { .. }) => {
                self.set_aside(&e.to_string())?;
                return Ok(None);
            }
        };
        let writer = LogWriter::new(log, Mode::Thread).map_err(io_error(&root))?;
        let snaps = SledSnaps::open(root.join("snap")).map_err(io_error(&root))?;
        Ok(Some(Opened { id, log: RaftLog::new(writer), snaps }))
    }

    /// Moves the store out of the way, for whoever wants to look into it; the node rejoins from the others.
    pub fn set_aside(&self, why: &str) -> Result<(), StoreError> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut to = self.data.join(format!("set-aside-{seconds}"));
        let mut n = 1;
        while to.exists() {
            to = self.data.join(format!("set-aside-{seconds}-{n}"));
            n += 1;
        }
        tracing::error!(%why, to = %to.display(), "the store does not open and is set aside");
        fs::rename(self.root(), &to).map_err(io_error(&to))?;
        File::open(&self.data).and_then(|f| f.sync_all()).map_err(io_error(&self.data))
    }
}
