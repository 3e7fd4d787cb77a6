//! The seam between the stores and the file system, so that a simulated disk can lose, tear and fail.
//!
//! Names are relative to the disk's root, one folder deep at most, separated by `/`. Nothing is durable before
//! [`DiskFile::sync_data`] (contents) and [`Disk::sync_dir`] (names).

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

mod real;
pub mod sim;

pub use real::RealDisk;
pub(crate) use real::{FILE_MODE, create_durably, create_private};

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
    /// Where it is, for people.
    fn place(&self) -> String {
        String::from("memory")
    }
}

/// A disk that several parts use.
pub type SharedDisk = Arc<dyn Disk>;

/// Bytes around a place that cannot be read that are given up with it: a sector of most disks, a page of the cache.
const UNREADABLE_PIECE: usize = 4096;
/// What stands for bytes that cannot be read. No record, copy or snapshot verifies with it.
const UNREADABLE_BYTE: u8 = 0xdb;

/// Whether an error of reading tells of damage: a bad sector, or a file system that finds its own records broken. What
/// the system lacks (memory, descriptors, permission) says nothing about the data.
pub fn is_damage(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::EIO | libc::EBADMSG | libc::EUCLEAN | libc::ENODATA | libc::EREMOTEIO)
    )
}

/// Whether an error of writing says that there is no room: on the file system, or in the quota of this user. It says
/// nothing about what was written before, and is over by itself when somebody makes room.
pub fn lacks_room(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Reads as [`DiskFile::read_at`] does, and around what cannot be read: a bad sector is damage at its place, as a
/// flipped bit is, and not the end of all that is readable behind it. Errors of other kinds are given on.
fn read_around(
    file: &Path,
    mut read: impl FnMut(u64, &mut [u8]) -> io::Result<usize>,
    len: u64,
    offset: u64,
    buf: &mut [u8],
) -> io::Result<usize> {
    match read(offset, buf) {
        Err(e) if is_damage(&e) => {}
        result => return result,
    }
    let (mut got, mut lost) = (0, None);
    let buf_len = buf.len();
    while got < buf_len && offset + (got as u64) < len {
        let at = offset + got as u64;
        let to_edge = UNREADABLE_PIECE - usize::try_from(at % UNREADABLE_PIECE as u64).unwrap_or(0);
        let piece = &mut buf[got..buf_len.min(got + to_edge)];
        match read(at, piece) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if is_damage(&e) => {
                let left = usize::try_from(len - at).unwrap_or(usize::MAX);
                let n = piece.len().min(left);
                piece[..n].fill(UNREADABLE_BYTE);
                let end = at + n as u64;
                lost =
                    Some(lost.map_or((at..end, e), |(range, why): (Range<u64>, _)| (range.start..end, why)));
                got += n;
            }
            Err(e) => return Err(e),
        }
    }
    if let Some((range, why)) = lost {
        tracing::error!("{}", unread(file, &range, &why));
    }
    Ok(got)
}

/// What is said of bytes that cannot be read: the kernel's own log says why.
fn unread(file: &Path, bytes: &Range<u64>, why: &io::Error) -> String {
    let Range { start, end } = bytes;
    format!(
        "{} cannot be read between byte {start} and byte {end}: {why}; what is readable around it is used (see dmesg)",
        file.display()
    )
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of `len` sevens whose bytes in `bad` cannot be read, however they are asked for.
    fn read(len: usize, bad: std::ops::Range<usize>, offset: usize, want: usize) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; want];
        let file = |at: u64, buf: &mut [u8]| {
            let at = usize::try_from(at).expect("small");
            let end = (at + buf.len()).min(len);
            if at < bad.end && end > bad.start {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            buf[..end.saturating_sub(at)].fill(7);
            Ok(end.saturating_sub(at))
        };
        let got = read_around(Path::new("log/1"), file, len as u64, offset as u64, &mut buf)?;
        buf.truncate(got);
        Ok(buf)
    }

    #[test]
    fn a_bad_sector_costs_its_page_and_nothing_beside_it() {
        let all = read(20_000, 9000..9001, 0, 30_000).expect("reads");
        assert_eq!(all.len(), 20_000);
        let page = 8192..12_288;
        assert!(
            all.iter().enumerate().all(|(n, b)| *b == if page.contains(&n) { UNREADABLE_BYTE } else { 7 })
        );
        // From the middle of a page, and to the end of the file.
        let part = read(9500, 9000..9001, 8950, 100).expect("reads");
        assert_eq!(part, [UNREADABLE_BYTE; 100]);
        assert_eq!(read(9500, 9000..9001, 8000, 5000).expect("reads").len(), 1500);
        assert_eq!(read(9500, 0..0, 9000, 5000).expect("reads"), [7; 500]);
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_bytes_and_no_guess() {
        let why = io::Error::from_raw_os_error(libc::EIO);
        let said = unread(Path::new("/d/log/7"), &(4096..8192), &why);
        assert!(said.contains("/d/log/7") && said.contains("byte 4096 and byte 8192"), "{said}");
        assert!(said.contains("Input/output error") && !said.contains('?'), "{said}");
    }

    #[test]
    fn what_the_system_lacks_is_no_damage() {
        for code in [libc::EACCES, libc::ENOMEM, libc::EMFILE, libc::ESTALE] {
            let refused = read_around(
                Path::new("x"),
                |_, _| Err(io::Error::from_raw_os_error(code)),
                10,
                0,
                &mut [0; 10],
            );
            assert_eq!(refused.expect_err("refused").raw_os_error(), Some(code));
        }
    }
}
