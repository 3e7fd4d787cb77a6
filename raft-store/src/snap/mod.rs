//! Snapshots of the materialised state: generations, verified by reading them back before the log may be purged.
//!
//! [`SledSnaps`] keeps them in sled, [`FileSnaps`] as checksummed files over a [`crate::disk::Disk`] (for the
//! simulator). At most [`KEPT`] generations stay; one that does not open or verify is set aside, and the one before
//! it is used. A generation is written and read in pieces: none of them is in memory as a whole for it.

use std::io::{self, Write};
use std::sync::Arc;

mod file;
mod incoming;
mod pieces;
mod sled_store;
mod verify;

pub use file::FileSnaps;
pub use incoming::Incoming;
pub use sled_store::{SledSnaps, newest_bytes};

/// Generations kept.
pub const KEPT: usize = 2;

/// Generations set aside as unreadable that are kept for inspection; older ones are deleted.
pub const KEPT_BAD: usize = 2;

/// Largest snapshot: a frame of the codec, its two framing bytes included (2 GiB and 2 bytes).
pub const MAX_SNAPSHOT_BYTES: u64 = crate::codec::MAX_SNAPSHOT_BYTES as u64 + 2;

/// Most bytes of a generation beside its data (64 KiB): header and metadata.
const MAX_META_BYTES: u64 = 64 << 10;

/// A snapshot in memory: its metadata and its data, both opaque here.
pub type Stored = (Vec<u8>, Vec<u8>);

/// Writes the data of a snapshot, in order.
pub type Fill<'a> = &'a mut dyn FnMut(&mut dyn Write) -> io::Result<()>;

/// How a generation is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// Somebody waits for it.
    Now,
    /// Nobody does: the disk is left alone between two pieces for as long as a piece took.
    Background,
}

/// The data of a snapshot, read in pieces.
pub trait Image: Send + Sync {
    /// How many bytes there are.
    fn bytes(&self) -> u64;
    /// Those from `offset` on, `most` of them unless the end comes before.
    ///
    /// # Errors
    /// The disk, or nothing is there.
    fn read(&self, offset: u64, most: usize) -> io::Result<Vec<u8>>;
}

impl Image for Vec<u8> {
    fn bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let rest = usize::try_from(offset).ok().and_then(|o| self.get(o..));
        let rest = rest.ok_or_else(|| bad("read beyond the end"))?;
        Ok(rest[..most.min(rest.len())].to_vec())
    }
}

/// All the data of a snapshot, in memory.
///
/// # Errors
/// The disk.
pub fn read_whole(image: &dyn Image) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(usize::try_from(image.bytes()).map_err(io::Error::other)?);
    write_whole(image, &mut out)?;
    Ok(out)
}

/// Copies the data of a snapshot, piece by piece.
///
/// # Errors
/// The disk, or those of `to`.
pub fn write_whole(image: &dyn Image, to: &mut dyn Write) -> io::Result<()> {
    let (mut at, end) = (0, image.bytes());
    while at < end {
        let piece = image.read(at, pieces::PIECE_BYTES)?;
        if piece.is_empty() {
            return Err(bad("it ends too early"));
        }
        to.write_all(&piece)?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// A generation that verifies.
#[derive(Clone)]
pub struct Generation {
    /// The metadata, opaque here.
    pub meta: Vec<u8>,
    /// The data.
    pub data: Arc<dyn Image>,
}

/// A store of snapshot generations. Errors of a write leave the earlier generations as they were. One write goes on at
/// a time, others wait; reading waits for no write.
pub trait SnapStore: Send + Sync {
    /// Stores a new generation whose data `fill` writes. On return it is durable, read back and verified, so that the
    /// log may be purged. Gives the bytes that it takes on the disk.
    ///
    /// # Errors
    /// The disk, too many bytes, or those of `fill`.
    fn put(&self, meta: &[u8], haste: Haste, fill: Fill<'_>) -> io::Result<u64>;

    /// The newest generation that verifies. Unreadable ones are set aside; `None` when there is no good one.
    ///
    /// # Errors
    /// The disk.
    fn newest(&self) -> io::Result<Option<Generation>>;

    /// How many generations were set aside since this was opened. Whoever remembers an older generation looks whether it
    /// may be one of them.
    fn lost(&self) -> u64;

    /// A place for the data of a snapshot that arrives in parts. What is put there is gone with the process.
    ///
    /// # Errors
    /// The disk.
    fn receive(&self) -> io::Result<Box<dyn Incoming>> {
        Ok(Box::new(Vec::new()))
    }

    /// Like [`SnapStore::put`], with data that is in memory.
    ///
    /// # Errors
    /// The disk, or too many bytes.
    fn write(&self, meta: &[u8], data: &[u8]) -> io::Result<u64> {
        self.put(meta, Haste::Now, &mut |to| to.write_all(data))
    }

    /// Like [`SnapStore::newest`], with its data in memory.
    ///
    /// # Errors
    /// The disk.
    fn latest(&self) -> io::Result<Option<Stored>> {
        let Some(found) = self.newest()? else { return Ok(None) };
        Ok(Some((found.meta, read_whole(&*found.data)?)))
    }
}

impl<S: SnapStore + ?Sized> SnapStore for Arc<S> {
    fn put(&self, meta: &[u8], haste: Haste, fill: Fill<'_>) -> io::Result<u64> {
        (**self).put(meta, haste, fill)
    }

    fn newest(&self) -> io::Result<Option<Generation>> {
        (**self).newest()
    }

    fn lost(&self) -> u64 {
        (**self).lost()
    }

    fn receive(&self) -> io::Result<Box<dyn Incoming>> {
        (**self).receive()
    }
}

/// Magic, lengths and CRC-32C in front of the two parts: of these bytes, of `meta`, and of the data, whose sum is known
/// only when it was written.
fn header(meta: &[u8], data_bytes: u64, data_crc: u32) -> Vec<u8> {
    let mut head = b"RLsnap01".to_vec();
    head.extend_from_slice(&(meta.len() as u64).to_le_bytes());
    head.extend_from_slice(&data_bytes.to_le_bytes());
    let front = crc32c::crc32c_append(crc32c::crc32c(&head), meta);
    // Lengths beyond the address space are refused before.
    let bytes = usize::try_from(data_bytes).unwrap_or(usize::MAX);
    head.extend_from_slice(&crc32c::crc32c_combine(front, data_crc, bytes).to_le_bytes());
    head
}

/// Refuses what `newest` could not read.
fn check_meta(meta: &[u8]) -> io::Result<()> {
    if meta.len() as u64 > MAX_META_BYTES / 2 {
        return Err(bad(format!("metadata of {} bytes is too large", meta.len())));
    }
    Ok(())
}

fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_pieces_is_the_sum_of_the_whole() {
        let (meta, data) = (b"meta".to_vec(), (0..100_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
        let head = header(&meta, data.len() as u64, crc32c::crc32c(&data));
        let (front, sum) = head.split_at(24);
        let whole = crc32c::crc32c(&[front, &meta, &data].concat());
        assert_eq!(sum, whole.to_le_bytes());
    }

    #[test]
    fn an_image_is_read_to_its_end_and_not_beyond() {
        let image: Vec<u8> = (0..=255).collect();
        assert_eq!(image.read(250, 100).expect("reads"), [250, 251, 252, 253, 254, 255]);
        assert_eq!(image.read(256, 1).expect("the end"), Vec::<u8>::new());
        image.read(257, 1).expect_err("beyond");
        assert_eq!(read_whole(&image).expect("reads"), image);
    }
}
