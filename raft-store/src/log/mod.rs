//! The checksummed, append-only segment log that holds vote, entries and marks.
//!
//! `record` frames, `meta` names the owner of the folder, `segment` writes, `recover` reads back what a crash left,
//! `writer` makes commits durable in groups, `raft_log` is openraft's view of it.

use std::io;

mod gauge;
mod late;
mod meta;
pub mod raft_log;
mod record;
mod recover;
mod segment;
mod verdict;
mod writer;

pub use gauge::{Gauge, Syncs};
pub use late::Slowness;
pub use meta::{Identity, owner};
pub use raft_log::{Forms, RaftLog};
pub use segment::{Recovered, SegmentLog};
pub use verdict::{Forgotten, Verdict};
pub use writer::{LogWriter, Mode};

/// Largest payload of one record (32 MiB).
pub const MAX_RECORD_BYTES: usize = 32 << 20;

/// Whether an acknowledged record survives a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// fdatasync before anything is acknowledged.
    #[default]
    Disk,
    /// Chosen by the operator: the fdatasync is skipped, and nothing else.
    Memory,
}

/// Bounds of a log.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A new segment is begun before one grows beyond this many bytes.
    pub segment_bytes: u64,
    /// Bytes of the newest entries kept in memory for readers.
    pub cache_bytes: usize,
    /// Bytes of entries returned by one bounded read (at least one entry is).
    pub read_bytes: usize,
    /// Whether syncs are made.
    pub durability: Durability,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            cache_bytes: 16 << 20,
            read_bytes: 512 << 10,
            durability: Durability::Disk,
        }
    }
}

/// Why a log does not open. Nothing in the folder was changed, except for [`OpenError::Io`].
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error("the log cannot be read: {0}")]
    Io(#[from] io::Error),
    /// No usable beginning of the log is left. Damage behind a usable one is [`Verdict::Forgotten`].
    #[error("the log does not verify: {file} at byte {offset}: {why}")]
    Corrupt {
        /// File name.
        file: String,
        /// Byte in the file.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
    /// The folder was made by another version, cluster or node.
    #[error("the data folder has another owner: {what} is {found}, expected {expected}")]
    Foreign {
        /// Which property differs.
        what: &'static str,
        /// Value in the folder.
        found: String,
        /// Value configured.
        expected: String,
    },
}
