//! The file system of this machine.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;

use super::{Disk, DiskFile, read_around};

/// Modes of what is made here: what a node remembers is nobody else's business.
const FOLDER_MODE: u32 = 0o700;
pub(crate) const FILE_MODE: u32 = 0o600;

/// A new file, or one that is emptied, for its owner alone whatever the umask.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)
}

/// A folder of this machine.
#[derive(Clone, Debug)]
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// Uses `root`, making it (and making its name durable in its parent) where it is missing.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        create_durably(&root)?;
        Ok(Self { root })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Makes `dir` and every missing folder above it. Each name is made durable in its parent: otherwise the folder itself
/// may be gone after a power cut, with every synced file in it. Returns the folders that were synced, topmost first.
pub(crate) fn create_durably(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|d| !d.as_os_str().is_empty() && !d.is_dir()).collect();
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(dir)?;
    let mut synced = Vec::new();
    for made in missing.into_iter().rev() {
        let parent = match made.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        };
        File::open(parent)?.sync_all()?;
        synced.push(parent.to_owned());
    }
    Ok(synced)
}

struct RealFile {
    file: File,
    /// Under which name it was opened.
    path: PathBuf,
}

impl RealFile {
    fn read_whole(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut got = 0;
        while got < buf.len() {
            match self.file.read_at(&mut buf[got..], offset + got as u64) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(got)
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        read_around(&self.path, |at, buf| self.read_whole(at, buf), self.len()?, offset, buf)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn forget_cached(&self) {
        use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
        // A hint. What is not written yet stays, and so it must.
        let _ = posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        let length = libc::off_t::try_from(len).map_err(io::Error::other)?;
        match nix::fcntl::fallocate(&self.file, nix::fcntl::FallocateFlags::empty(), 0, length) {
            Ok(()) => Ok(()),
            // A file system that cannot: sparse does, it only may run out of room later.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => self.file.set_len(len),
            Err(e) => Err(e.into()),
        }
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

impl Disk for RealDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.root.join(name);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(Arc::new(RealFile { file, path }))
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.root.join(name);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        Ok(Arc::new(RealFile { file, path }))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.root.join(name))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.root)?.sync_all()
    }
    fn place(&self) -> String {
        self.root.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parent_that_is_made_is_synced() {
        let dir = tempfile::tempdir().expect("a folder");
        let base = dir.path().to_owned();
        let synced = create_durably(&base.join("a/b/c")).expect("makes them");
        assert_eq!(synced, [base.clone(), base.join("a"), base.join("a/b")]);
        assert!(base.join("a/b/c").is_dir());
        assert!(create_durably(&base.join("a/b/c")).expect("is there").is_empty());
    }
}
