//! Snapshots read again while the node runs: one that does not verify is set aside before it is needed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, Weak};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::sled_store::{SledSnaps, read};

impl SledSnaps {
    /// Reads every generation again, newest first, and sets aside what does not verify. Names those folders, with what is
    /// wrong. Writers and readers of snapshots wait meanwhile.
    ///
    /// # Errors
    /// The disk.
    pub fn verify(&self) -> io::Result<Vec<(PathBuf, String)>> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for number in self.numbers("gen-")?.into_iter().rev() {
            // Somebody is reading it, and it has verified just now.
            if reading.as_ref().is_some_and(|r| r.number == number && Weak::strong_count(&r.data) > 0) {
                continue;
            }
            let path = self.path("gen-", number);
            forget_cached(&path);
            match read(&path) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    self.set_aside(number)?;
                    found.push((path, e.to_string()));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }

    /// The number of the newest generation.
    ///
    /// # Errors
    /// The disk.
    pub fn newest_number(&self) -> io::Result<Option<u64>> {
        Ok(self.numbers("gen-")?.last().copied())
    }
}

/// What the page cache holds says nothing about the disk. A hint.
fn forget_cached(folder: &Path) {
    let Ok(files) = fs::read_dir(folder) else { return };
    for file in files.flatten().filter_map(|entry| File::open(entry.path()).ok()) {
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snap::SnapStore;

    #[test]
    fn a_damaged_generation_is_set_aside_and_the_others_stay() {
        let dir = tempfile::tempdir().expect("tempdir");
        let snaps = SledSnaps::open(dir.path()).expect("opens");
        for n in 0..2_u8 {
            snaps.write(&[n], &[n; 70_000]).expect("written");
        }
        assert_eq!(snaps.verify().expect("reads"), []);
        let held = snaps.newest().expect("reads").expect("one");
        assert_eq!(snaps.verify().expect("reads"), [], "one that is being read is let be");
        drop(held);
        let newest = dir.path().join("gen-0000000000000001");
        let db = newest.join("db");
        let mut bytes = fs::read(&db).expect("there");
        let at = bytes.windows(64).position(|w| w == [1; 64]).expect("its data");
        bytes[at] ^= 4;
        fs::write(&db, bytes).expect("damaged");
        let found = snaps.verify().expect("reads");
        assert_eq!(found.iter().map(|(path, _)| path).collect::<Vec<_>>(), [&newest]);
        assert_eq!(snaps.newest_number().expect("reads"), Some(0));
        assert_eq!(snaps.latest().expect("reads").expect("the other").0, [0]);
        snaps.write(&[2], b"anew").expect("written");
        assert!(snaps.newest_number().expect("reads") > Some(1), "a number is given once");
    }
}
