//! The data of a generation on its way to the disk: cut into pieces, summed up, and made durable piece by piece.
//!
//! What is not durable yet is bounded, because the log's next fdatasync has to wait for all of it: with a snapshot of
//! 100 MB written in one go, that was 216 ms.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::{Haste, MAX_SNAPSHOT_BYTES, bad};

/// Bytes per piece (256 KiB): sled keeps larger values in files of their own, which it does not sync either.
pub(super) const PIECE_BYTES: usize = 256 << 10;

/// Bytes that are written before they are made durable (1 MiB).
const DIRTY_BYTES: usize = 1 << 20;

/// Longest rest between two rounds to the disk (1 s): whatever a slow disk takes, at least half of its time is the log's.
const MAX_REST: Duration = Duration::from_secs(1);

/// Where pieces go.
pub(super) trait Sink {
    /// Takes piece number `n`; all but the last are [`PIECE_BYTES`] long.
    fn piece(&mut self, n: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was taken durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// Cuts what is written into pieces.
pub(super) struct Pieces<S> {
    sink: S,
    haste: Haste,
    piece: Vec<u8>,
    next: u64,
    bytes: u64,
    crc: u32,
    dirty: usize,
    /// How long the disk has taken for what is dirty.
    spent: Duration,
    /// All rests so far.
    rested: Duration,
}

impl<S: Sink> Pieces<S> {
    pub(super) fn new(sink: S, haste: Haste) -> Self {
        Self {
            sink,
            haste,
            piece: Vec::with_capacity(PIECE_BYTES),
            next: 0,
            bytes: 0,
            crc: 0,
            dirty: 0,
            spent: Duration::ZERO,
            rested: Duration::ZERO,
        }
    }

    fn hand_on(&mut self) -> io::Result<()> {
        let began = Instant::now();
        self.crc = crc32c::crc32c_append(self.crc, &self.piece);
        self.sink.piece(self.next, &self.piece)?;
        self.next += 1;
        self.dirty += self.piece.len();
        self.piece.clear();
        if self.dirty >= DIRTY_BYTES {
            self.dirty = 0;
            self.sink.sync()?;
        }
        self.spent += began.elapsed();
        if self.dirty == 0 {
            let rest = std::mem::take(&mut self.spent).min(MAX_REST);
            if self.haste == Haste::Background {
                self.rested += rest;
                std::thread::sleep(rest);
            }
        }
        Ok(())
    }

    /// Hands on what is left. Gives the sink, how many bytes there were, and their sum.
    pub(super) fn finish(mut self) -> io::Result<(S, u64, u32)> {
        if !self.piece.is_empty() {
            self.hand_on()?;
        }
        Ok((self.sink, self.bytes, self.crc))
    }
}

impl<S: Sink> Write for Pieces<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        self.bytes += taken as u64;
        if self.bytes > MAX_SNAPSHOT_BYTES {
            return Err(bad(format!("a snapshot of more than {MAX_SNAPSHOT_BYTES} bytes is too large")));
        }
        if self.piece.len() == PIECE_BYTES {
            self.hand_on()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Memory {
        pieces: Vec<Vec<u8>>,
        synced: usize,
        most_dirty: usize,
        /// How long each call takes.
        slow: Duration,
    }

    impl Sink for Memory {
        fn piece(&mut self, n: u64, bytes: &[u8]) -> io::Result<()> {
            assert_eq!(n, self.pieces.len() as u64);
            std::thread::sleep(self.slow);
            self.pieces.push(bytes.to_vec());
            self.most_dirty = self.most_dirty.max(self.pieces.len() - self.synced);
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            std::thread::sleep(self.slow);
            self.synced = self.pieces.len();
            Ok(())
        }
    }

    #[test]
    fn what_is_not_durable_is_bounded_and_nothing_is_lost() {
        let data: Vec<u8> = (0..3_000_001u32).map(|n| (n % 251) as u8).collect();
        let mut pieces = Pieces::new(Memory::default(), Haste::Background);
        for part in data.chunks(77_777) {
            pieces.write_all(part).expect("takes it");
        }
        let (memory, bytes, crc) = pieces.finish().expect("finishes");
        assert_eq!((bytes, crc), (data.len() as u64, crc32c::crc32c(&data)));
        assert!(memory.pieces.concat() == data);
        assert!(memory.most_dirty * PIECE_BYTES <= DIRTY_BYTES, "{} pieces", memory.most_dirty);
    }

    #[test]
    fn a_slow_disk_rests_for_as_long_as_all_pieces_and_their_sync_took_and_only_in_the_background() {
        let rested = |haste| {
            let sink = Memory { slow: Duration::from_millis(20), ..Memory::default() };
            let mut pieces = Pieces::new(sink, haste);
            pieces.write_all(&vec![7; DIRTY_BYTES]).expect("takes it");
            pieces.rested
        };
        let calls = (DIRTY_BYTES / PIECE_BYTES) as u32 + 1;
        assert!(rested(Haste::Background) >= Duration::from_millis(20) * calls);
        assert_eq!(rested(Haste::Now), Duration::ZERO);
    }
}
