//! The checksummed, append-only segment log that holds vote, entries and marks.
//!
//! `record` frames, `meta` names the owner of the folder, `segment` writes, `writer` makes commits durable in groups and
//! seals them, `raft_log` is openraft's view of it. What a crash left is read back by `scan`, judged by `verdict`, and
//! put in order by `recover`.
//!
//! ```text
//! META, META.copy           whose folder this is
//! SEAL                      up to where the log is durable
//! NNNNNNNNNNNNNNNN.seg      records, then zeros; the name is the position of its first byte
//! ready, ready.now          the next segment's file
//! NNNNNNNNNNNNNNNN.seg.damaged   a damaged segment that a snapshot made needless
//! ```

use std::io;
use std::sync::Arc;

mod copies;
mod gauge;
mod held;
mod inspect;
mod late;
mod meta;
pub mod raft_log;
mod record;
mod recover;
mod scan;
mod scrub;
mod seal;
mod segment;
mod state;
mod unwritten;
mod verdict;
mod writer;

pub use copies::{Renewed, renew};
pub use gauge::{Gauge, Syncs};
pub use held::{HELD_BYTES, Held, SharedPage};
pub use inspect::{FileReport, inspect};
pub use late::Slowness;
pub use meta::{FORMAT, FORMAT_VERSION, Identity, owner};
pub use raft_log::{Forms, RaftLog};
pub use recover::was_used;
pub use scrub::{Rot, Stretch};
pub use seal::{BootId, Mark, SEAL_AFTER, SEAL_EVERY_IN_MEMORY};
pub use segment::{Recovered, SegmentLog};
pub use unwritten::{MAX_UNWRITTEN_BYTES, ROOM_RETRY};
pub use verdict::{Forgotten, Verdict};
pub use writer::{LogWriter, Mode, WeakWriter};

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
    /// Bytes of a segment's file, which is made at once. One that must hold a larger record is larger.
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
            segment_bytes: 4 << 20,
            cache_bytes: 16 << 20,
            read_bytes: 512 << 10,
            durability: Durability::Disk,
        }
    }
}

/// What this machine can tell about the end of a log, beside the log itself.
#[derive(Clone, Default)]
pub struct Ground {
    /// The present start of the machine.
    pub boot: BootId,
    /// The claim that the guard holds, if there is a guard.
    pub held: Option<Arc<dyn Held>>,
    /// The last index in the newest snapshot that verifies, and its mark as [`SegmentLog::purge`] takes it: what is
    /// damaged before it may be given up.
    pub snapshot: Option<(u64, Vec<u8>)>,
    /// The log was in use before: what is missing of it is lost, and not yet to be made.
    pub used: bool,
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
