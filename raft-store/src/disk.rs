//! The seam between the stores and the file system, so that a simulated disk can lose, tear and fail.
//!
//! Names are relative to the disk's root, one folder deep at most, separated by `/`. Nothing is durable before
//! [`DiskFile::sync_data`] (contents) and [`Disk::sync_dir`] (names).

use std::io;
use std::sync::Arc;

mod real;
pub mod sim;

pub use real::RealDisk;
pub(crate) use real::create_durably;

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Writes all of `bytes` at byte `offset`; the file grows as needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Reads up to `buf.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Makes all contents written so far durable (fdatasync). An error is final: what was written may be lost.
    fn sync_data(&self) -> io::Result<()>;
    /// Has the next reads come from the disk, not from memory, where the system can.
    fn forget_cached(&self) {}
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Makes the file `len` bytes long, its new part zeros, and takes the room for it where the file system can. The
    /// length is durable after [`DiskFile::sync_data`].
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Cuts the file to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// A folder of files.
pub trait Disk: Send + Sync {
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates a file; it is an error if it exists.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes all names durable.
    fn sync_dir(&self) -> io::Result<()>;
}

/// A disk that several parts use.
pub type SharedDisk = Arc<dyn Disk>;

/// Reads a whole file of at most `limit` bytes.
pub fn read_all(file: &dyn DiskFile, limit: u64) -> io::Result<Vec<u8>> {
    let len = file.len()?;
    if len > limit {
        let why = format!("file of {len} bytes, at most {limit} expected");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let mut buf = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let got = file.read_at(0, &mut buf)?;
    buf.truncate(got);
    Ok(buf)
}
