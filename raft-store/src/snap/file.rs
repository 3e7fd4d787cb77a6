//! Generations as plain checksummed files: `NNNNNNNNNNNNNNNN.snap`.

use std::io;

use super::{KEPT, KEPT_BAD, MAX_META_BYTES, MAX_SNAPSHOT_BYTES, SnapStore, Stored, bad, check_size, header};
use crate::disk::{SharedDisk, read_all};

const HEADER: usize = 28;
const TEMPORARY: &str = "new.snap-tmp";

/// Snapshots as files of a disk.
pub struct FileSnaps {
    disk: SharedDisk,
}

impl FileSnaps {
    /// Uses `disk`; other files in it are left alone.
    pub fn new(disk: SharedDisk) -> Self {
        Self { disk }
    }

    fn with_suffix(&self, suffix: &str) -> io::Result<Vec<u64>> {
        let names = self.disk.list()?;
        let number = |n: &String| u64::from_str_radix(n.strip_suffix(suffix)?, 16).ok();
        Ok(names.iter().filter_map(number).collect())
    }

    fn keep(&self, suffix: &str, count: usize) -> io::Result<()> {
        let all = self.with_suffix(suffix)?;
        for number in &all[..all.len().saturating_sub(count)] {
            self.disk.remove(&format!("{number:016x}{suffix}"))?;
        }
        Ok(())
    }

    fn read(&self, name: &str) -> io::Result<Stored> {
        let bytes = read_all(&*self.disk.open(name)?, MAX_SNAPSHOT_BYTES + MAX_META_BYTES)?;
        let (head, body) = bytes.split_at_checked(HEADER).ok_or_else(|| bad("too short"))?;
        let meta_len = head[8..16].try_into().map_or(0, u64::from_le_bytes);
        let meta_len = usize::try_from(meta_len).map_err(io::Error::other)?;
        let (meta, data) = body.split_at_checked(meta_len).ok_or_else(|| bad("metadata cut off"))?;
        if header(meta, data) != head {
            return Err(bad("the checksum differs"));
        }
        Ok((meta.to_vec(), data.to_vec()))
    }
}

impl SnapStore for FileSnaps {
    fn write(&mut self, meta: &[u8], data: &[u8]) -> io::Result<()> {
        check_size(meta, data)?;
        let number = self.with_suffix(".snap")?.last().map_or(0, |n| n + 1);
        if self.disk.list()?.iter().any(|n| n == TEMPORARY) {
            self.disk.remove(TEMPORARY)?;
        }
        let file = self.disk.create(TEMPORARY)?;
        file.write_at(0, &[&header(meta, data), meta, data].concat())?;
        file.sync_data()?;
        let back = self.read(TEMPORARY)?;
        if back.0 != meta || back.1 != data {
            return Err(bad("the snapshot reads back differently"));
        }
        self.disk.rename(TEMPORARY, &format!("{number:016x}.snap"))?;
        self.disk.sync_dir()?;
        self.keep(".snap", KEPT)
    }

    fn latest(&mut self) -> io::Result<Option<Stored>> {
        for number in self.with_suffix(".snap")?.into_iter().rev() {
            let name = format!("{number:016x}.snap");
            match self.read(&name) {
                Ok(stored) => return Ok(Some(stored)),
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    tracing::error!(%name, error = %e, "a snapshot is set aside");
                    self.disk.rename(&name, &format!("{number:016x}.bad"))?;
                    self.keep(".bad", KEPT_BAD)?;
                    self.disk.sync_dir()?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }
}
