//! The small files of a running log, read again from the disk: `META`, its copy, and the two slots of the seal. What is in
//! them is known to the process, so that whatever does not verify is written anew.

use std::io;
use std::time::Duration;

use super::meta::{self, Identity};
use super::{LogWriter, OpenError, SegmentLog, WeakWriter, seal};
use crate::disk::SharedDisk;

/// A seal that is being written may be half read: only what is unreadable again after this time is damaged.
const SECOND_LOOK: Duration = Duration::from_millis(50);

/// A small file that was damaged, and was written anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// Name of the file.
    pub file: &'static str,
    /// What was wrong with it.
    pub why: String,
}

impl SegmentLog {
    fn folder(&self) -> (SharedDisk, Identity) {
        (self.disk().clone(), self.identity())
    }
}

/// Reads the small files again, and writes anew what does not verify.
///
/// # Errors
/// The disk.
pub fn renew(log: &WeakWriter) -> io::Result<Vec<Renewed>> {
    let mut renewed = Vec::new();
    let Some((disk, identity)) = log.upgrade().map(|log| log.with(|log| log.folder())) else {
        return Ok(renewed);
    };
    for name in [meta::COPY, meta::NAME] {
        forget_cached(&disk, name);
        let why = match meta::check_one(&*disk, name, identity) {
            Ok(true) => continue,
            Ok(false) => "it is missing".to_owned(),
            Err(OpenError::Io(e)) => return Err(e),
            Err(e) => e.to_string(),
        };
        meta::write(&*disk, name, identity).map_err(io::Error::other)?;
        renewed.push(Renewed { file: name, why });
    }
    forget_cached(&disk, seal::NAME);
    if is_damaged(&disk)? {
        std::thread::sleep(SECOND_LOOK);
        if is_damaged(&disk)?
            && let Some(log) = log.upgrade()
        {
            log.seal_anew()?;
            renewed.push(Renewed { file: seal::NAME, why: "one of its two copies does not verify".into() });
        }
    }
    Ok(renewed)
}

fn is_damaged(disk: &SharedDisk) -> io::Result<bool> {
    Ok(seal::read(&**disk)?.unreadable > 0)
}

/// What the page cache holds says nothing about the disk.
fn forget_cached(disk: &SharedDisk, name: &str) {
    if let Ok(file) = disk.open(name) {
        file.forget_cached();
    }
}

impl LogWriter {
    /// Writes both slots of the seal anew, also where nothing has changed since the last.
    fn seal_anew(&self) -> io::Result<()> {
        for _ in 0..2 {
            let job = self.with(SegmentLog::seal_again);
            if let Some(job) = job {
                job.run()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::Disk;
    use crate::disk::sim::SimDisk;
    use crate::log::{Limits, Mode};

    #[test]
    fn each_small_file_of_a_running_log_is_written_anew_when_it_is_damaged_unreadable_or_gone() {
        let disk = SimDisk::new();
        let identity = Identity::new("lab", 1);
        let open = || SegmentLog::open(Arc::new(disk.clone()), identity, Limits::default()).expect("opens");
        let (mut log, _) = open();
        log.append(0, &[b"one".to_vec()]).expect("append");
        log.sync().expect("sync");
        let writer = LogWriter::new(log, Mode::Inline).expect("a writer");
        writer.seal();
        let renewed = || {
            let names: Vec<_> = renew(&writer.downgrade()).expect("reads").iter().map(|r| r.file).collect();
            assert_eq!(renew(&writer.downgrade()).expect("reads"), [], "once: {names:?}");
            names
        };
        assert_eq!(renewed(), [""; 0]);
        for (name, at) in [("META", 2), ("META.copy", 9), ("SEAL", 20), ("SEAL", 4096 + 20)] {
            let file = disk.open(name).expect("opens");
            let mut byte = [0];
            file.read_at(at, &mut byte).expect("reads");
            file.write_at(at, &[byte[0] ^ 4]).expect("damaged");
            assert_eq!(renewed(), [name]);
            disk.spoil_sector(name, usize::try_from(at).expect("small"));
            assert_eq!(renewed(), [name]);
        }
        for name in ["META", "META.copy"] {
            disk.remove(name).expect("removed");
            assert_eq!(renewed(), [name]);
        }
        for name in ["META", "META.copy"] {
            disk.spoil_sector(name, 0);
        }
        assert_eq!(renewed(), ["META.copy", "META"], "also both at once");
        drop(writer);
        assert_eq!(open().0.entries(), 0..1);
    }
}
