//! The synchronous core: appends records, rolls and deletes segments, reads entries back.
//!
//! Any failed write or sync is final: what the disk holds is then unknown, so that every later call fails with it.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::record::{self, HEADER, RecordKind};
use super::{Durability, Identity, Limits, MAX_RECORD_BYTES, OpenError, Verdict, recover};
use crate::disk::{DiskFile, SharedDisk};

pub(super) fn segment_name(start: u64) -> String {
    format!("{start:016x}.seg")
}

/// A current segment fully purged is replaced once it holds this much (256 KiB), so that space returns.
const ROLL_PURGED_BYTES: u64 = 256 << 10;

pub(super) struct Segment {
    pub start: u64,
    pub len: u64,
    pub file: Arc<dyn DiskFile>,
    pub max_index: Option<u64>,
}

#[derive(Clone, Copy)]
pub(super) struct Loc {
    pos: u64,
    len: u32,
}

/// What the records of the log add up to.
#[derive(Default)]
pub(super) struct State {
    pub segments: Vec<Segment>,
    pub vote: Option<Vec<u8>>,
    pub committed: Option<Vec<u8>>,
    pub purged: Option<(u64, Vec<u8>)>,
    pub first: u64,
    pub index: VecDeque<Loc>,
    pub end: u64,
    max_index: Option<u64>,
}

impl State {
    pub(super) fn next(&self) -> u64 {
        self.first + self.index.len() as u64
    }
    /// Highest index written since the last call: what must be purged before that segment may go.
    pub(super) fn take_max_index(&mut self) -> Option<u64> {
        self.max_index.take()
    }
    /// Index of the last entry, purged ones included.
    pub(super) fn last_index(&self) -> Option<u64> {
        let last = self.next().checked_sub(1).filter(|_| !self.index.is_empty());
        last.or(self.purged.as_ref().map(|(index, _)| *index))
    }
    pub(super) fn push(&mut self, index: u64, pos: u64, len: u32) -> bool {
        if self.index.is_empty() {
            self.first = index;
        } else if index != self.next() {
            return false;
        }
        self.index.push_back(Loc { pos, len });
        self.max_index = self.max_index.max(Some(index));
        true
    }
    pub(super) fn truncate_from(&mut self, index: u64) {
        self.index.truncate(usize::try_from(index.saturating_sub(self.first)).unwrap_or(usize::MAX));
    }
    pub(super) fn purge(&mut self, index: u64, payload: &[u8]) {
        if self.purged.as_ref().is_some_and(|(old, _)| *old > index) {
            return;
        }
        self.purged = Some((index, payload.to_vec()));
        while self.first <= index && self.index.pop_front().is_some() {
            self.first += 1;
        }
    }
}

/// What was found when a log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Newest vote.
    pub vote: Option<Vec<u8>>,
    /// Newest committed mark.
    pub committed: Option<Vec<u8>>,
    /// Last purged index and its mark.
    pub purged: Option<(u64, Vec<u8>)>,
    /// Indexes of the entries present.
    pub entries: Range<u64>,
    /// Whether anything is missing.
    pub verdict: Verdict,
}

/// An open log.
pub struct SegmentLog {
    disk: SharedDisk,
    limits: Limits,
    state: State,
    synced: u64,
    cache: VecDeque<Arc<[u8]>>,
    cached_bytes: usize,
    failed: Option<String>,
}

impl SegmentLog {
    /// Opens the log in `disk`, or makes one in an empty folder. See [`Verdict`] for what the result is good for.
    pub fn open(
        disk: SharedDisk,
        identity: Identity,
        limits: Limits,
    ) -> Result<(Self, Recovered), OpenError> {
        let (state, verdict) = recover::open(&*disk, identity)?;
        let synced = state.end;
        // What was read may still be only in the page cache of a machine whose process died.
        let lossy = matches!(verdict, Verdict::Forgotten(_));
        if let (Durability::Disk, Some(last), false) = (limits.durability, state.segments.last(), lossy) {
            last.file.sync_data()?;
        }
        let failed = lossy.then(|| "it is damaged and takes no writes".to_owned());
        let recovered = Recovered {
            vote: state.vote.clone(),
            committed: state.committed.clone(),
            purged: state.purged.clone(),
            entries: state.first..state.next(),
            verdict,
        };
        let log = Self { disk, limits, state, synced, cache: VecDeque::new(), cached_bytes: 0, failed };
        Ok((log, recovered))
    }

    /// Newest vote.
    pub fn vote(&self) -> Option<&[u8]> {
        self.state.vote.as_deref()
    }
    /// Newest committed mark.
    pub fn committed(&self) -> Option<&[u8]> {
        self.state.committed.as_deref()
    }
    /// Last purged index and its mark.
    pub fn purged(&self) -> Option<(u64, &[u8])> {
        self.state.purged.as_ref().map(|(i, p)| (*i, &p[..]))
    }
    /// Indexes of the entries present.
    pub fn entries(&self) -> Range<u64> {
        self.state.first..self.state.next()
    }
    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.state.segments.iter().map(|s| s.len).sum()
    }
    /// Bytes in the log from entry `index` on, records between the entries included; from the first that is there if
    /// `index` is gone.
    pub fn bytes_from(&self, index: u64) -> u64 {
        let at = usize::try_from(index.saturating_sub(self.state.first)).unwrap_or(usize::MAX);
        self.state.index.get(at).map_or(0, |loc| (self.state.end + HEADER as u64).saturating_sub(loc.pos))
    }
    /// The error that ended this log, if any.
    pub fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    fn alive(&self) -> io::Result<()> {
        match &self.failed {
            Some(why) => Err(io::Error::other(format!("the log failed before: {why}"))),
            None => Ok(()),
        }
    }

    /// Remembers a failure for good and passes it on.
    pub(super) fn fail(&mut self, e: io::Error) -> io::Error {
        self.failed.get_or_insert_with(|| e.to_string());
        e
    }

    /// Saves a vote; durable after [`SegmentLog::sync`].
    pub fn save_vote(&mut self, vote: &[u8]) -> io::Result<()> {
        self.write(&[(RecordKind::Vote, 0, vote)])?;
        self.state.vote = Some(vote.to_vec());
        Ok(())
    }

    /// Saves the committed mark; never waited for.
    pub fn save_committed(&mut self, mark: &[u8]) -> io::Result<()> {
        self.write(&[(RecordKind::Committed, 0, mark)])?;
        self.state.committed = Some(mark.to_vec());
        Ok(())
    }

    /// Appends consecutive entries that follow the last one (or begin an empty log); durable after
    /// [`SegmentLog::sync`].
    pub fn append(&mut self, first: u64, payloads: &[Vec<u8>]) -> io::Result<()> {
        let after_purge = self.state.purged.as_ref().map(|(i, _)| i + 1);
        let next = if self.state.index.is_empty() { after_purge } else { Some(self.state.next()) };
        if next.is_some_and(|n| n != first) {
            let why = format!("entry {first} does not follow: {next:?} is next");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let records: Vec<_> =
            payloads.iter().zip(first..).map(|(p, i)| (RecordKind::Entry, i, &p[..])).collect();
        let mut pos = self.write(&records)?;
        for (payload, index) in payloads.iter().zip(first..) {
            self.state.push(index, pos + HEADER as u64, payload.len() as u32);
            pos += (HEADER + payload.len()) as u64;
            self.cached_bytes += payload.len();
            self.cache.push_back(payload.as_slice().into());
        }
        if let Some(current) = self.state.segments.last_mut() {
            current.max_index = current.max_index.max(self.state.max_index);
        }
        while self.cached_bytes > self.limits.cache_bytes
            && let Some(old) = self.cache.pop_front()
        {
            self.cached_bytes -= old.len();
        }
        Ok(())
    }

    /// Removes the entries from `index` on.
    pub fn truncate_from(&mut self, index: u64) -> io::Result<()> {
        self.write(&[(RecordKind::Truncate, index, &[])])?;
        while self.state.next() > index && self.state.index.pop_back().is_some() {
            if let Some(payload) = self.cache.pop_back() {
                self.cached_bytes -= payload.len();
            }
        }
        Ok(())
    }

    /// Removes the entries up to `index`, inclusive, whose mark is `mark`; whole segments are deleted once the mark is
    /// durable.
    pub fn purge(&mut self, index: u64, mark: &[u8]) -> io::Result<()> {
        self.write(&[(RecordKind::Purge, index, mark)])?;
        self.state.purge(index, mark);
        while self.cache.len() > self.state.index.len()
            && let Some(old) = self.cache.pop_front()
        {
            self.cached_bytes -= old.len();
        }
        let gone = |s: &Segment| s.max_index.is_none_or(|max| max <= index);
        if self.state.segments.last().is_some_and(|s| gone(s) && s.len >= ROLL_PURGED_BYTES) {
            self.roll()?;
        }
        // The segments go only after the mark that allows it (and the checkpoint of a new one) is durable.
        let deletable = self.state.segments.len().saturating_sub(1);
        let count = self.state.segments[..deletable].iter().take_while(|s| gone(s)).count();
        if count > 0 {
            self.sync()?;
            for segment in self.state.segments.drain(..count).collect::<Vec<_>>() {
                self.disk.remove(&segment_name(segment.start)).map_err(|e| self.fail(e))?;
            }
            self.disk.sync_dir().map_err(|e| self.fail(e))?;
        }
        Ok(())
    }

    /// Makes everything written so far durable.
    pub fn sync(&mut self) -> io::Result<()> {
        self.alive()?;
        if let Some((file, end)) = self.sync_target() {
            if self.limits.durability == Durability::Disk {
                file.sync_data().map_err(|e| self.fail(e))?;
            }
            self.mark_synced(end);
        }
        Ok(())
    }

    /// The file to sync and the position that is durable afterwards; `None` when nothing is outstanding.
    pub(super) fn sync_target(&self) -> Option<(Arc<dyn DiskFile>, u64)> {
        let last = self.state.segments.last().filter(|_| self.synced < self.state.end)?;
        Some((last.file.clone(), self.state.end))
    }
    pub(super) fn mark_synced(&mut self, upto: u64) {
        self.synced = self.synced.max(upto);
    }
    pub(super) fn durability(&self) -> Durability {
        self.limits.durability
    }

    /// Reads entries of `range` that are present, ending early (but after one) at `read_bytes`, if bounded.
    pub fn read(&self, range: Range<u64>, bounded: bool) -> io::Result<Vec<Arc<[u8]>>> {
        let mut out = Vec::new();
        let mut bytes = 0;
        for index in range.start.max(self.state.first)..range.end.min(self.state.next()) {
            let payload = self.read_one(index)?;
            bytes += payload.len();
            if bounded && bytes > self.limits.read_bytes && !out.is_empty() {
                break;
            }
            out.push(payload);
        }
        Ok(out)
    }

    fn read_one(&self, index: u64) -> io::Result<Arc<[u8]>> {
        let from_end = (self.state.next() - index) as usize;
        if let Some(at) = self.cache.len().checked_sub(from_end) {
            return Ok(self.cache[at].clone());
        }
        let damaged = || {
            let why = format!("entry {index} does not verify on disk");
            io::Error::new(io::ErrorKind::InvalidData, why)
        };
        let loc = self.state.index[(index - self.state.first) as usize];
        let at = self.state.segments.partition_point(|s| s.start <= loc.pos);
        let segment = self.state.segments.get(at.wrapping_sub(1)).ok_or_else(damaged)?;
        let start = loc.pos - HEADER as u64;
        let mut buf = vec![0; HEADER + loc.len as usize];
        let got = segment.file.read_at(start - segment.start, &mut buf)?;
        let header = record::parse(&buf[..got], start).map_err(|_| damaged())?;
        if header.kind != RecordKind::Entry || header.index != index {
            return Err(damaged());
        }
        Ok(buf[HEADER..].into())
    }

    /// Writes records in one piece; returns the position of the first.
    fn write(&mut self, records: &[(RecordKind, u64, &[u8])]) -> io::Result<u64> {
        self.alive()?;
        if let Some((_, index, payload)) = records.iter().find(|r| r.2.len() > MAX_RECORD_BYTES) {
            let why = format!("entry {index} has {} bytes, at most {MAX_RECORD_BYTES} fit", payload.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let bytes: u64 = records.iter().map(|r| (HEADER + r.2.len()) as u64).sum();
        let len = self.state.segments.last().map_or(0, |s| s.len);
        if len > 0 && len + bytes > self.limits.segment_bytes {
            self.roll()?;
        }
        self.write_here(records)
    }

    fn write_here(&mut self, records: &[(RecordKind, u64, &[u8])]) -> io::Result<u64> {
        let first = self.state.end;
        let mut out = Vec::new();
        for (kind, index, payload) in records {
            let pos = first + out.len() as u64;
            record::write(&mut out, *kind, pos, *index, self.synced, payload);
        }
        let segment = self.state.segments.last_mut().ok_or_else(|| io::Error::other("no segment"))?;
        if let Err(e) = segment.file.write_at(segment.len, &out) {
            return Err(self.fail(e));
        }
        segment.len += out.len() as u64;
        self.state.end += out.len() as u64;
        Ok(first)
    }

    /// Begins a new segment with vote and marks in front, so that it stands alone when the older ones are deleted.
    fn roll(&mut self) -> io::Result<()> {
        self.sync()?;
        let start = self.state.end;
        let name = segment_name(start);
        let file = self.disk.create(&name).map_err(|e| self.fail(e))?;
        if self.limits.durability == Durability::Disk {
            self.disk.sync_dir().map_err(|e| self.fail(e))?;
        }
        self.state.max_index = None;
        self.state.segments.push(Segment { start, len: 0, file, max_index: None });
        let (vote, committed, purged) =
            (self.state.vote.clone(), self.state.committed.clone(), self.state.purged.clone());
        let mut records: Vec<(RecordKind, u64, &[u8])> = Vec::new();
        records.extend(vote.as_deref().map(|p| (RecordKind::Vote, 0, p)));
        records.extend(committed.as_deref().map(|p| (RecordKind::Committed, 0, p)));
        records.extend(purged.as_ref().map(|(i, p)| (RecordKind::Purge, *i, &p[..])));
        self.write_here(&records).map(|_| ())
    }
}
