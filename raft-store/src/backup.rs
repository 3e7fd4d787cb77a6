//! A copy of the replicated state in a file.
//!
//! | bytes | what |
//! |---|---|
//! | 0–7 | magic |
//! | 8–11 | length of the head, little endian |
//! | head | a frame of kind `Backup`: whose state it is, and from when |
//! | state | a frame of kind `Snapshot` |
//! | last 32 | SHA-256 of all before |

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use minicbor::{CborLen, Decode, Encode};
use proxy_core::time::WallTime;
use sha2::{Digest, Sha256};

use crate::codec::{self, CodecError, Kind, MAX_SNAPSHOT_BYTES};
use crate::command::Versions;
use crate::node::Place;
use crate::state::ClusterState;

const MAGIC: &[u8; 8] = b"RELEVOBK";
const LENGTH: usize = 4;
const DIGEST: usize = 32;
/// Most bytes of a head.
const MAX_HEAD_BYTES: usize = 4096;
/// Most bytes of a file.
const MAX_FILE_BYTES: u64 = (MAGIC.len() + LENGTH + MAX_HEAD_BYTES + MAX_SNAPSHOT_BYTES + 2 + DIGEST) as u64;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Head {
    /// Name of the cluster.
    #[n(0)]
    pub cluster: String,
    /// The node that made it.
    #[n(1)]
    pub place: Place,
    /// When, by its wall clock.
    #[n(2)]
    pub made_at: WallTime,
    /// Raft's term then.
    #[n(3)]
    pub term: u64,
    /// Index of an entry that is applied in it, as all before; later ones may be, too.
    #[n(4)]
    pub applied: u64,
    /// The release that made it.
    #[n(5)]
    pub release: String,
    /// The format versions that this release reads.
    #[n(6)]
    pub reads: Versions,
}

crate::tagged! { Head }

/// A backup that was read and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// What it says of itself.
    pub head: Head,
    /// The state.
    pub state: ClusterState,
}

/// Why there is no backup, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The disk or the permissions.
    #[error("{path}: {why}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// The system's reason.
        why: io::Error,
    },
    /// A file of that name is there.
    #[error("{path} is there already")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Something else.
    #[error("{path} is no backup of relevo")]
    NotOne {
        /// The file.
        path: PathBuf,
    },
    /// It is not as it was written.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It is whole, and this build cannot read it, or cannot write it.
    #[error("{path}: {why}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: CodecError,
    },
}

impl BackupError {
    /// What mends it.
    #[must_use]
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Io { .. } => "look at the path, the permissions and the free space of the disk",
            Self::Exists { .. } => "name another file, or say --force to replace it",
            Self::NotOne { .. } => "name a file that relevo backup has made",
            Self::Damaged { .. } => "take another copy of it, or an older backup",
            Self::Format { .. } => "use a release that reads it (relevo version shows what this one reads)",
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> BackupError + '_ {
    move |why| BackupError::Io { path: path.to_owned(), why }
}

/// Writes a backup of `state` to `path`, for its owner's eyes alone, and says how many bytes it has. On return it is
/// on the disk. A file that is there stays as it is, unless `replace`; one that is replaced goes only when the new one is
/// whole.
///
/// # Errors
/// The file is there, the disk, or a state beyond the bounds of a snapshot.
pub fn write(path: &Path, head: &Head, state: &ClusterState, replace: bool) -> Result<u64, BackupError> {
    if !replace && fs::symlink_metadata(path).is_ok() {
        return Err(BackupError::Exists { path: path.to_owned() });
    }
    let format = |why| BackupError::Format { path: path.to_owned(), why };
    let head = codec::encode(Kind::Backup, head).map_err(format)?;
    let state = codec::encode(Kind::Snapshot, state).map_err(format)?;
    let length = u32::try_from(head.len()).unwrap_or(u32::MAX).to_le_bytes();
    let parts = [&MAGIC[..], &length, &head, &state];
    let mut digest = Sha256::new();
    parts.iter().for_each(|part| digest.update(part));
    let digest = digest.finalize();
    let name = path.file_name().ok_or_else(|| BackupError::Io {
        path: path.to_owned(),
        why: io::Error::new(io::ErrorKind::InvalidInput, "it names no file"),
    })?;
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let put = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        file.write_all(&digest)?;
        file.sync_all()?;
        if replace {
            fs::rename(&temporary, path)?;
        } else {
            // Unlike a rename, a link does not replace what came meanwhile.
            fs::hard_link(&temporary, path)?;
            fs::remove_file(&temporary)?;
        }
        File::open(folder)?.sync_all()
    };
    put().map_err(|why| {
        // What is left of it is of no use; the first error is the one to tell.
        fs::remove_file(&temporary).ok();
        match why.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists { path: path.to_owned() },
            _ => BackupError::Io { path: path.to_owned(), why },
        }
    })?;
    Ok(parts.iter().map(|part| part.len() as u64).sum::<u64>() + DIGEST as u64)
}

/// Reads a backup and verifies it.
///
/// # Errors
/// It cannot be read, is none, is damaged, or is of a version that this build does not read.
pub fn read(path: &Path) -> Result<Backup, BackupError> {
    let file = File::open(path).map_err(io_error(path))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io_error(path))?;
    let damaged = |why: &str| BackupError::Damaged { path: path.to_owned(), why: why.to_owned() };
    if !bytes.starts_with(MAGIC) {
        return Err(BackupError::NotOne { path: path.to_owned() });
    }
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(damaged("it is longer than a backup may be"));
    }
    let cut_off = || damaged("it is cut off");
    let (body, digest) = bytes.split_last_chunk::<DIGEST>().ok_or_else(cut_off)?;
    if Sha256::digest(body)[..] != digest[..] {
        return Err(damaged("its checksum differs: it was cut off or changed"));
    }
    let (length, rest) = body[MAGIC.len()..].split_first_chunk::<LENGTH>().ok_or_else(cut_off)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let (head, state) = rest.split_at_checked(length).ok_or_else(cut_off)?;
    let format = |why| BackupError::Format { path: path.to_owned(), why };
    let head = codec::decode(Kind::Backup, head).map_err(format)?;
    let state = codec::decode(Kind::Snapshot, state).map_err(format)?;
    Ok(Backup { head, state })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::command::{Command, GrantReason};

    fn head() -> Head {
        Head {
            cluster: "lab".into(),
            place: 2,
            made_at: WallTime(1_800_000_000_000),
            term: 7,
            applied: 300,
            release: "0.1.0".into(),
            reads: Versions::OURS,
        }
    }

    fn state() -> ClusterState {
        let mut state = ClusterState::default();
        state.apply(9, &Command::Grant { holder: 2, reason: GrantReason::Elected, at: WallTime(5) });
        state
    }

    fn written() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("state.relevo");
        let bytes = write(&path, &head(), &state(), false).expect("writes");
        assert_eq!(fs::metadata(&path).expect("there").len(), bytes);
        (dir, path)
    }

    #[test]
    fn a_backup_is_read_back_and_only_its_owner_may_read_it() {
        let (dir, path) = written();
        assert_eq!(read(&path).expect("reads"), Backup { head: head(), state: state() });
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("folder").count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_is_there_is_replaced_only_when_asked() {
        let (_dir, path) = written();
        let before = fs::read(&path).expect("reads");
        let other = Head { applied: 301, ..head() };
        assert!(matches!(write(&path, &other, &state(), false), Err(BackupError::Exists { .. })));
        assert_eq!(fs::read(&path).expect("reads"), before);
        write(&path, &other, &state(), true).expect("replaced");
        assert_eq!(read(&path).expect("reads").head, other);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_found() {
        let (dir, path) = written();
        let good = fs::read(&path).expect("reads");
        let bad = dir.path().join("bad");
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            fs::write(&bad, &bytes).expect("writes");
            let found = read(&bad).expect_err("refused");
            let is_none = matches!(found, BackupError::NotOne { .. });
            assert!(if at < MAGIC.len() { is_none } else { matches!(found, BackupError::Damaged { .. }) });
            fs::write(&bad, &good[..at]).expect("writes");
            assert!(read(&bad).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_backup_of_a_newer_version_is_named_as_such_and_not_as_damaged() {
        let (dir, path) = written();
        let mut bytes = fs::read(&path).expect("reads");
        bytes[MAGIC.len() + LENGTH] = codec::FORMAT_VERSION + 1;
        let body = bytes.len() - DIGEST;
        let digest = Sha256::digest(&bytes[..body]);
        bytes[body..].copy_from_slice(&digest);
        let newer = dir.path().join("newer");
        fs::write(&newer, &bytes).expect("writes");
        let found = read(&newer).expect_err("refused");
        assert!(matches!(found, BackupError::Format { .. }), "{found}");
        assert!(found.to_string().contains("upgrade this node"), "{found}");
    }
}
