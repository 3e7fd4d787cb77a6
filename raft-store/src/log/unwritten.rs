//! What there was no room for on the disk. It has its place in the log already; it is written there, in order, as soon
//! as there is room. Nothing in or behind it is acknowledged before.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::segment::{READY_NOW, make_ready};
use super::state::segment_name;
use crate::disk::{Disk, DiskFile, lacks_room};

/// A disk without room is asked again after this time (250 ms).
pub const ROOM_RETRY: Duration = Duration::from_millis(250);

/// From so many bytes on that wait for room (16 MiB), whoever wants to write more waits as well.
pub const MAX_UNWRITTEN_BYTES: u64 = 16 << 20;

pub(super) fn no_room() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "there is no room on the disk; what was written waits for it")
}

/// The file of a segment for which there has been no room yet.
#[derive(Default)]
pub(super) struct LateFile(OnceLock<Arc<dyn DiskFile>>);

impl LateFile {
    fn made(&self) -> io::Result<&dyn DiskFile> {
        self.0.get().map(|file| &**file).ok_or_else(no_room)
    }
}

impl DiskFile for LateFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.made()?.write_at(offset, bytes)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.get().map_or(Ok(0), |file| file.read_at(offset, buf))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.made()?.sync_data()
    }
    fn forget_cached(&self) {
        if let Some(file) = self.0.get() {
            file.forget_cached();
        }
    }
    fn len(&self) -> io::Result<u64> {
        self.0.get().map_or(Ok(0), |file| file.len())
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.made()?.allocate(len)
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.made()?.truncate(len)
    }
}

enum Piece {
    /// The file of the segment that begins at `start`.
    File { start: u64, size: u64, file: Arc<LateFile> },
    /// Records, whose first byte has position `pos` in the log. A part of them may have reached the disk.
    Records { pos: u64, file: Arc<dyn DiskFile>, offset: u64, bytes: Vec<u8> },
}

/// All that waits for room.
#[derive(Default)]
pub(super) struct Unwritten {
    pieces: VecDeque<Piece>,
    bytes: u64,
    why: Option<String>,
}

impl Unwritten {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
    /// Bytes of records.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
    /// What the disk has said last.
    pub(super) fn why(&self) -> &str {
        self.why.as_deref().unwrap_or_default()
    }
    /// Position from which on nothing is on the disk for certain.
    pub(super) fn from(&self) -> Option<u64> {
        self.pieces.front().map(|piece| match piece {
            Piece::File { start, .. } => *start,
            Piece::Records { pos, .. } => *pos,
        })
    }

    /// The segment that begins at `start` is to be made, `size` bytes long: `e` says that there is no room for it.
    pub(super) fn make_later(&mut self, start: u64, size: u64, e: &io::Error) -> Arc<dyn DiskFile> {
        let file = Arc::new(LateFile::default());
        self.why = Some(e.to_string());
        self.pieces.push_back(Piece::File { start, size, file: file.clone() });
        file
    }

    /// Writes `bytes` to `file`, now or behind what waits.
    pub(super) fn write(
        &mut self,
        pos: u64,
        file: Arc<dyn DiskFile>,
        offset: u64,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        if self.pieces.is_empty() {
            match file.write_at(offset, &bytes) {
                Err(e) if lacks_room(&e) => self.why = Some(e.to_string()),
                result => return result,
            }
        }
        self.bytes += bytes.len() as u64;
        self.pieces.push_back(Piece::Records { pos, file, offset, bytes });
        Ok(())
    }

    /// Writes the first piece. Gives the start of the segment that this has made, if it has.
    fn write_first(&mut self, disk: &dyn Disk) -> io::Result<Option<u64>> {
        let named = match self.pieces.front() {
            None => return Ok(None),
            Some(Piece::File { start, size, file }) => {
                let made = make_ready(disk, READY_NOW, *size)?;
                disk.rename(READY_NOW, &segment_name(*start))?;
                // Nobody else sets it, and a piece that was written is gone.
                file.0.get_or_init(|| made);
                Some(*start)
            }
            Some(Piece::Records { file, offset, bytes, .. }) => {
                // All of it, at its place: how much of it got there before is not known.
                file.write_at(*offset, bytes)?;
                self.bytes -= bytes.len() as u64;
                None
            }
        };
        self.pieces.pop_front();
        Ok(named)
    }

    /// Writes as much as there is room for. Gives the start of the newest segment that was made; it is an error if
    /// the disk fails otherwise.
    pub(super) fn write_on(&mut self, disk: &dyn Disk) -> (Option<u64>, io::Result<()>) {
        let mut named = None;
        while !self.pieces.is_empty() {
            match self.write_first(disk) {
                Ok(start) => named = start.or(named),
                Err(e) if lacks_room(&e) => {
                    self.why = Some(e.to_string());
                    break;
                }
                Err(e) => return (named, Err(e)),
            }
        }
        (named, Ok(()))
    }
}
