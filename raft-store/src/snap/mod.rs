//! Snapshots of the materialised state: generations, verified by reading them back before the log may be purged.
//!
//! [`SledSnaps`] keeps them in sled, [`FileSnaps`] as checksummed files over a [`crate::disk::Disk`] (for the
//! simulator). At most [`KEPT`] generations stay; one that does not open or verify is set aside, and the one before
//! it is used.

use std::io;

mod file;
mod sled_store;

pub use file::FileSnaps;
pub use sled_store::SledSnaps;

/// Generations kept.
pub const KEPT: usize = 2;

/// Generations set aside as unreadable that are kept for inspection; older ones are deleted.
pub const KEPT_BAD: usize = 2;

/// Largest snapshot: a frame of the codec, its two framing bytes included (2 GiB and 2 bytes).
pub const MAX_SNAPSHOT_BYTES: u64 = crate::codec::MAX_SNAPSHOT_BYTES as u64 + 2;

/// Most bytes of a generation beside its data (64 KiB): header and metadata.
const MAX_META_BYTES: u64 = 64 << 10;

/// A snapshot: its metadata and its data, both opaque here.
pub type Stored = (Vec<u8>, Vec<u8>);

/// A store of snapshot generations. Errors of `write` leave the earlier generations as they were.
pub trait SnapStore: Send {
    /// Stores a new generation; on return it is durable, read back and verified, so that the log may be purged.
    fn write(&mut self, meta: &[u8], data: &[u8]) -> io::Result<()>;
    /// The newest generation that verifies. Unreadable ones are set aside; `None` when there is no good one.
    fn latest(&mut self) -> io::Result<Option<Stored>>;
}

/// Magic, lengths and CRC-32C in front of the two parts.
fn header(meta: &[u8], data: &[u8]) -> Vec<u8> {
    let mut head = b"RLsnap01".to_vec();
    head.extend_from_slice(&(meta.len() as u64).to_le_bytes());
    head.extend_from_slice(&(data.len() as u64).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&head), meta), data);
    head.extend_from_slice(&crc.to_le_bytes());
    head
}

/// Refuses what `latest` could not read.
fn check_size(meta: &[u8], data: &[u8]) -> io::Result<()> {
    if data.len() as u64 > MAX_SNAPSHOT_BYTES || meta.len() as u64 > MAX_META_BYTES / 2 {
        return Err(bad(format!("a snapshot of {} + {} bytes is too large", meta.len(), data.len())));
    }
    Ok(())
}

fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}
