//! The data of a snapshot while it arrives.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Image, bad};

/// Takes the data of a snapshot, in order.
pub trait Incoming: Send {
    /// How many bytes have come.
    fn bytes(&self) -> u64;
    /// Takes what follows.
    ///
    /// # Errors
    /// The disk. What was taken is of no use any more.
    fn append(&mut self, data: &[u8]) -> io::Result<()>;
    /// All of it has come.
    fn image(self: Box<Self>) -> Box<dyn Image>;
}

/// In memory.
impl Incoming for Vec<u8> {
    fn bytes(&self) -> u64 {
        self.len() as u64
    }

    fn append(&mut self, data: &[u8]) -> io::Result<()> {
        self.extend_from_slice(data);
        Ok(())
    }

    fn image(self: Box<Self>) -> Box<dyn Image> {
        self
    }
}

/// In a file without a name, which the system removes when the last user is gone. It is not made durable: a transfer
/// that a power cut ends begins again.
pub(super) struct Unnamed {
    file: File,
    bytes: u64,
}

impl Unnamed {
    /// An empty one. For a moment it is called `path`; what was called so before is overwritten.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        fs::remove_file(path)?;
        Ok(Self { file, bytes: 0 })
    }
}

impl Incoming for Unnamed {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn append(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, self.bytes)?;
        self.bytes += data.len() as u64;
        Ok(())
    }

    fn image(self: Box<Self>) -> Box<dyn Image> {
        self
    }
}

impl Image for Unnamed {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let rest = self.bytes.checked_sub(offset).ok_or_else(|| bad("read beyond the end"))?;
        let mut out = vec![0; most.min(usize::try_from(rest).unwrap_or(usize::MAX))];
        self.file.read_exact_at(&mut out, offset)?;
        Ok(out)
    }
}
