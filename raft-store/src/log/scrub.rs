//! Reading a running log again: what was written and synced must still be there.

use std::io;
use std::sync::Arc;

use super::SegmentLog;
use super::record::{self, BEFORE};
use super::state::{Segment, segment_name};
use crate::disk::DiskFile;

/// Bytes read at once (256 KiB), or one record where that is larger.
const CHUNK: usize = 256 << 10;

/// The part of a segment that is durable, and does not change any more.
pub struct Stretch {
    /// Name of the file.
    pub name: String,
    /// Highest index of an entry in the segment: once a snapshot reaches it, the segment may go.
    pub last_index: Option<u64>,
    start: u64,
    len: u64,
    file: Arc<dyn DiskFile>,
}

/// A place that does not verify any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rot {
    /// Name of the file.
    pub file: String,
    /// Byte in it.
    pub offset: u64,
    /// What is wrong there.
    pub why: &'static str,
    /// Highest index of an entry in the segment.
    pub last_index: Option<u64>,
}

impl SegmentLog {
    /// The parts of this log that can be verified while it goes on, oldest first.
    pub fn stretches(&self) -> Vec<Stretch> {
        let durable = self.durable();
        let of = |s: &Segment| Stretch {
            name: segment_name(s.start),
            last_index: s.max_index,
            start: s.start,
            len: s.len.min(durable.saturating_sub(s.start)),
            file: s.file.clone(),
        };
        self.segments().iter().map(of).collect()
    }
}

impl Stretch {
    /// Reads all of it from the disk. `pace` is told of each number of bytes before the next are read, and may wait; it
    /// says whether to go on.
    ///
    /// # Errors
    /// The disk.
    pub fn verify(&self, pace: &mut dyn FnMut(usize) -> bool) -> io::Result<Option<Rot>> {
        let (file, last_index) = (self.name.clone(), self.last_index);
        let rot = |offset, why| Rot { file: file.clone(), offset, why, last_index };
        // What the page cache holds says nothing about the disk.
        self.file.forget_cached();
        let (mut at, mut buffer) = (0_u64, Vec::new());
        let mut wanted = CHUNK;
        while at < self.len {
            let bytes = usize::try_from(self.len - at).unwrap_or(usize::MAX).min(wanted);
            buffer.resize(bytes, 0);
            let got = self.file.read_at(at, &mut buffer)?;
            if !pace(got) {
                return Ok(None);
            }
            let mut used = 0;
            while used < got {
                let rest = &buffer[used..got];
                match record::parse(rest, self.start + at + used as u64) {
                    Ok(header) => used += record::size(header.len),
                    // Perhaps only the rest of it was not read yet.
                    Err(_) if used > 0 && at + (got as u64) < self.len => break,
                    Err(why) => {
                        let whole = record::claimed_size(rest).filter(|n| *n > got && got == wanted);
                        let Some(larger) = whole else { return Ok(Some(rot(at + used as u64, why))) };
                        wanted = larger;
                        break;
                    }
                }
            }
            if got < bytes && used >= got {
                return Ok(Some(rot(at + got as u64, "the file is cut off")));
            }
            if used > 0 {
                wanted = CHUNK.max(BEFORE);
            }
            at += used as u64;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::disk::sim::SimDisk;
    use crate::log::{Identity, Limits};

    #[test]
    fn a_flipped_bit_in_any_file_of_a_running_log_is_found_with_its_place() {
        let disk = SimDisk::new();
        let limits = Limits { segment_bytes: 1 << 20, ..Limits::default() };
        let (mut log, _) =
            SegmentLog::open(Arc::new(disk.clone()), Identity::new("lab", 1), limits).expect("opens");
        // Small ones, one larger than what is read at once, and then more.
        for (index, len) in (0..3_000).map(|i| (i, if i == 1_500 { 400_000 } else { 300 })) {
            log.append(index, &[vec![b'x'; len]]).expect("append");
        }
        log.sync().expect("sync");
        let check = |log: &SegmentLog| -> Vec<Rot> {
            let all = log.stretches();
            assert!(all.len() > 1);
            all.iter().filter_map(|s| s.verify(&mut |_| true).expect("reads")).collect()
        };
        assert_eq!(check(&log), []);
        for name in disk.list().expect("lists").into_iter().filter(|n| n.ends_with(".seg")) {
            for at in [0, 100, 300_000, 600_000] {
                let file = disk.open(&name).expect("opens");
                let mut byte = [0];
                file.read_at(at, &mut byte).expect("reads");
                if byte == [0] {
                    continue;
                }
                file.write_at(at, &[byte[0] ^ 1]).expect("damaged");
                let found = check(&log);
                assert_eq!(found.len(), 1, "{name} at {at}");
                assert!(found[0].file == name && found[0].offset <= at, "{found:?}");
                assert!(at - found[0].offset < 500_000 && found[0].last_index.is_some());
                file.write_at(at, &byte).expect("mended");
            }
        }
        let mut read = 0;
        let stopped = log.stretches()[0].verify(&mut |n| {
            read += n;
            false
        });
        assert!(stopped.expect("reads").is_none() && read <= CHUNK, "it stops when it is told to");
    }
}
