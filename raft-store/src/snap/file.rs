//! Generations as plain checksummed files: `NNNNNNNNNNNNNNNN.snap`.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::pieces::{PIECE_BYTES, Pieces, Sink};
use super::{
    Fill, Generation, Haste, KEPT, KEPT_BAD, MAX_META_BYTES, MAX_SNAPSHOT_BYTES, SnapStore, bad, check_meta,
    header,
};
use crate::disk::{DiskFile, SharedDisk, read_all};

const HEADER: usize = 28;
const TEMPORARY: &str = "new.snap-tmp";

/// Snapshots as files of a disk.
pub struct FileSnaps {
    disk: SharedDisk,
    /// Whoever writes a generation holds it.
    writing: Mutex<()>,
    lost: AtomicU64,
}

struct To {
    file: Arc<dyn DiskFile>,
    start: u64,
}

impl Sink for To {
    fn piece(&mut self, n: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(self.start + n * PIECE_BYTES as u64, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl FileSnaps {
    /// Uses `disk`; other files in it are left alone.
    pub fn new(disk: SharedDisk) -> Self {
        Self { disk, writing: Mutex::new(()), lost: AtomicU64::new(0) }
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

    fn read(&self, name: &str) -> io::Result<Generation> {
        let bytes = read_all(&*self.disk.open(name)?, MAX_SNAPSHOT_BYTES + MAX_META_BYTES)?;
        let (head, body) = bytes.split_at_checked(HEADER).ok_or_else(|| bad("too short"))?;
        let meta_len = head[8..16].try_into().map_or(0, u64::from_le_bytes);
        let meta_len = usize::try_from(meta_len).map_err(io::Error::other)?;
        let (meta, data) = body.split_at_checked(meta_len).ok_or_else(|| bad("metadata cut off"))?;
        if header(meta, data.len() as u64, crc32c::crc32c(data)) != head {
            return Err(bad("the checksum differs"));
        }
        Ok(Generation { meta: meta.to_vec(), data: Arc::new(data.to_vec()) })
    }
}

impl SnapStore for FileSnaps {
    fn put(&self, meta: &[u8], haste: Haste, fill: Fill<'_>) -> io::Result<u64> {
        check_meta(meta)?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.disk.list()?.iter().any(|n| n == TEMPORARY) {
            self.disk.remove(TEMPORARY)?;
        }
        let file = self.disk.create(TEMPORARY)?;
        // The header has the sum of the data in it and comes last, to its place in front.
        file.write_at(0, &[&[0; HEADER], meta].concat())?;
        let start = (HEADER + meta.len()) as u64;
        let mut pieces = Pieces::new(To { file, start }, haste);
        fill(&mut pieces)?;
        let (to, bytes, crc) = pieces.finish()?;
        let head = header(meta, bytes, crc);
        to.file.write_at(0, &head)?;
        to.file.sync_data()?;
        // The sum that was read back is the one in the header, so that it is the same data.
        let back = self.read(TEMPORARY)?;
        if back.meta != meta || back.data.bytes() != bytes {
            return Err(bad("the snapshot reads back differently"));
        }
        let number = self.with_suffix(".snap")?.last().map_or(0, |n| n + 1);
        self.disk.rename(TEMPORARY, &format!("{number:016x}.snap"))?;
        self.disk.sync_dir()?;
        self.keep(".snap", KEPT)?;
        Ok(start + bytes)
    }

    fn newest(&self) -> io::Result<Option<Generation>> {
        for number in self.with_suffix(".snap")?.into_iter().rev() {
            let name = format!("{number:016x}.snap");
            match self.read(&name) {
                Ok(found) => return Ok(Some(found)),
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    tracing::error!(%name, error = %e, "a snapshot is set aside");
                    self.disk.rename(&name, &format!("{number:016x}.bad"))?;
                    self.lost.fetch_add(1, Ordering::SeqCst);
                    self.keep(".bad", KEPT_BAD)?;
                    self.disk.sync_dir()?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    fn lost(&self) -> u64 {
        self.lost.load(Ordering::SeqCst)
    }
}
