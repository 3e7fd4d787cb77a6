//! The synchronous core: appends records, rolls and deletes segments, reads entries back.
//!
//! A write for which there is no room waits ([`super::unwritten`]). Any other failed write or sync is final: what the
//! disk holds is then unknown, so that every later call fails with it.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::record::{self, BEFORE, RecordKind};
use super::recover::{self, Opening};
use super::scan::begin_payload;
use super::seal::{Job, Mark, Sealer};
use super::state::{Segment, State, segment_name};
use super::unwritten::{Unwritten, no_room};
use super::{Durability, Ground, Identity, Limits, MAX_RECORD_BYTES, OpenError, Verdict};
use crate::disk::{Disk, DiskFile, SharedDisk, lacks_room};

/// A file that becomes the next segment: as long as it shall be, and durably so.
pub(super) const READY: &str = "ready";
/// The file that a writer makes for itself because [`READY`] is not there yet. The log's thread may be making that one at the
/// same time, without the lock: under one name, each would take the other's.
pub(super) const READY_NOW: &str = "ready.now";
/// Sizes of segments are multiples of this.
const BLOCK: u64 = 4096;

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
    identity: Identity,
    limits: Limits,
    ground: Ground,
    sealer: Option<Sealer>,
    state: State,
    synced: Mark,
    unwritten: Unwritten,
    /// The next segment's file, and its size.
    ready: Option<(Arc<dyn DiskFile>, u64)>,
    /// Start of the newest segment whose name is not durable yet.
    unnamed: Option<u64>,
    /// Segments to remove once the log is durable up to the position beside them.
    doomed: Vec<(u64, u64)>,
    /// Segments that could not be removed for want of room.
    still_there: Vec<String>,
    cache: VecDeque<Arc<[u8]>>,
    cached_bytes: usize,
    failed: Option<String>,
}

/// Syncs to be made, outside of any lock; [`SegmentLog::mark_synced`] follows.
pub(super) struct SyncTarget {
    files: Vec<Arc<dyn DiskFile>>,
    names: Option<SharedDisk>,
    mark: Mark,
}

impl SyncTarget {
    pub(super) fn run(&self) -> io::Result<()> {
        for file in &self.files {
            file.sync_data()?;
        }
        self.names.as_ref().map_or(Ok(()), |disk| disk.sync_dir())
    }
}

/// Up to where `state` reaches.
pub(super) fn mark(state: &State) -> Mark {
    Mark { end: state.end, next: state.last_index().map_or(0, |i| i.saturating_add(1)) }
}

/// Makes the file `name`, `size` bytes of zeros. Its length is durable on return, so that a shorter file is a damaged one.
pub(super) fn make_ready(disk: &dyn Disk, name: &str, size: u64) -> io::Result<Arc<dyn DiskFile>> {
    if disk.list()?.iter().any(|n| n == name) {
        disk.remove(name)?;
    }
    let file = disk.create(name)?;
    match file.allocate(size).and_then(|()| file.sync_data()) {
        Ok(()) => Ok(file),
        Err(e) => {
            // What it got is of use to others. A disk that fails says so again.
            drop(disk.remove(name));
            Err(e)
        }
    }
}

/// Writes what the last segment begins with, so that it stands alone when the older ones are deleted.
pub(super) fn begin(
    state: &mut State,
    unwritten: &mut Unwritten,
    identity: Identity,
    synced: u64,
) -> io::Result<()> {
    let size = state.segments.last().map_or(0, |s| s.size);
    let begin = begin_payload(size, identity);
    let (vote, committed, purged) = (state.vote.clone(), state.committed.clone(), state.purged.clone());
    let mut records: Vec<(RecordKind, u64, &[u8])> = vec![(RecordKind::Begin, 0, &begin)];
    records.extend(vote.as_deref().map(|p| (RecordKind::Vote, 0, p)));
    records.extend(committed.as_deref().map(|p| (RecordKind::Committed, 0, p)));
    records.extend(purged.as_ref().map(|(i, p)| (RecordKind::Purge, *i, &p[..])));
    write_here(state, unwritten, synced, &records).map(drop)
}

/// Writes records behind the last one, or has them wait for room; returns the position of the first.
fn write_here(
    state: &mut State,
    unwritten: &mut Unwritten,
    synced: u64,
    records: &[(RecordKind, u64, &[u8])],
) -> io::Result<u64> {
    let first = state.end;
    let mut out = Vec::new();
    for (kind, index, payload) in records {
        let pos = first + out.len() as u64;
        record::write(&mut out, *kind, pos, *index, synced, payload);
    }
    let bytes = out.len() as u64;
    let segment = state.segments.last_mut().ok_or_else(|| io::Error::other("no segment"))?;
    unwritten.write(first, segment.file.clone(), segment.len, out)?;
    segment.len += bytes;
    state.end += bytes;
    Ok(first)
}

impl SegmentLog {
    /// Opens the log in `disk`, or makes one in an empty folder. See [`Verdict`] for what the result is good for.
    pub fn open(
        disk: SharedDisk,
        identity: Identity,
        limits: Limits,
    ) -> Result<(Self, Recovered), OpenError> {
        Self::open_on(disk, identity, limits, Ground::default())
    }

    /// Like [`SegmentLog::open`], with what this machine can tell about the end of the log.
    pub fn open_on(
        disk: SharedDisk,
        identity: Identity,
        limits: Limits,
        ground: Ground,
    ) -> Result<(Self, Recovered), OpenError> {
        let opening = recover::open(&disk, identity, &limits, &ground)?;
        Self::opened(disk, identity, limits, ground, opening)
    }

    /// Reads the log as [`SegmentLog::open_on`] would, and changes nothing: it takes no writes.
    pub fn look(
        disk: SharedDisk,
        identity: Identity,
        limits: Limits,
        ground: Ground,
    ) -> Result<(Self, Verdict), OpenError> {
        let (found, verdict) = recover::judge(&disk, identity, &limits, &ground)?;
        let opening = Opening { state: found.state, verdict: verdict.clone(), sealer: None };
        Self::opened(disk, identity, limits, ground, opening).map(|(log, _)| (log, verdict))
    }

    fn opened(
        disk: SharedDisk,
        identity: Identity,
        limits: Limits,
        ground: Ground,
        opening: Opening,
    ) -> Result<(Self, Recovered), OpenError> {
        let Opening { state, verdict, sealer } = opening;
        let failed =
            sealer.is_none().then(|| "it takes no writes: it is damaged, or only looked at".to_owned());
        let synced = mark(&state);
        let mut log = Self {
            disk,
            identity,
            limits,
            ground,
            sealer,
            state,
            synced,
            unwritten: Unwritten::default(),
            ready: None,
            unnamed: None,
            doomed: Vec::new(),
            still_there: Vec::new(),
            cache: VecDeque::new(),
            cached_bytes: 0,
            failed,
        };
        if let (Verdict::Mended(_), Some((index, mark)), None) =
            (&verdict, log.state.purged.clone(), &log.failed)
        {
            // In front of the entries, so that it opens without the snapshot's help from now on.
            log.write(&[(RecordKind::Purge, index, &mark)])?;
            log.sync()?;
        }
        if let (Some(held), true) = (&log.ground.held, log.failed.is_none()) {
            held.begin(identity, log.synced);
        }
        let recovered = Recovered {
            vote: log.state.vote.clone(),
            committed: log.state.committed.clone(),
            purged: log.state.purged.clone(),
            entries: log.entries(),
            verdict,
        };
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
        self.state.index.get(at).map_or(0, |loc| (self.state.end + BEFORE as u64).saturating_sub(loc.pos))
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
            self.state.push(index, pos + BEFORE as u64, payload.len() as u32);
            pos += record::size(payload.len()) as u64;
            self.cached_bytes += payload.len();
            self.cache.push_back(payload.as_slice().into());
        }
        if let Some(current) = self.state.segments.last_mut() {
            current.max_index = current.max_index.max(self.state.max_index);
        }
        // What is not on the disk yet can be read nowhere else.
        while self.cached_bytes > self.limits.cache_bytes
            && self.oldest_cached_is_written()
            && let Some(old) = self.cache.pop_front()
        {
            self.cached_bytes -= old.len();
        }
        Ok(())
    }

    fn oldest_cached_is_written(&self) -> bool {
        let Some(from) = self.unwritten.from() else { return true };
        let at = self.state.index.len().saturating_sub(self.cache.len());
        self.state.index.get(at).is_none_or(|oldest| oldest.pos < from)
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

    /// Removes the entries up to `index`, inclusive, whose mark is `mark`; whole segments are deleted by the
    /// [`SegmentLog::sync`] that makes the mark durable.
    pub fn purge(&mut self, index: u64, mark: &[u8]) -> io::Result<()> {
        self.write(&[(RecordKind::Purge, index, mark)])?;
        self.state.purge(index, mark);
        while self.cache.len() > self.state.index.len()
            && let Some(old) = self.cache.pop_front()
        {
            self.cached_bytes -= old.len();
        }
        // The segments go only after the mark that allows it is durable.
        let gone = |s: &Segment| s.max_index.is_none_or(|max| max <= index);
        let deletable = self.state.segments.len().saturating_sub(1);
        let count = self.state.segments[..deletable].iter().take_while(|s| gone(s)).count();
        let end = self.state.end;
        self.doomed.extend(self.state.segments.drain(..count).map(|s| (s.start, end)));
        Ok(())
    }

    /// Makes everything written so far durable, and removes the segments that may go then. While there is no room for
    /// all of it, that is said by an error ([`lacks_room`]), and nothing is lost: it can be called again.
    pub fn sync(&mut self) -> io::Result<()> {
        self.alive()?;
        if !self.write_waiting()? {
            return Err(no_room());
        }
        if let Some(target) = self.sync_target() {
            if self.limits.durability == Durability::Disk {
                target.run().map_err(|e| self.fail(e))?;
            }
            self.mark_synced(&target);
        }
        let names = self.take_doomed();
        match remove_all(&*self.disk, &names) {
            Err(e) if lacks_room(&e) => self.give_back_doomed(names),
            result => result.map_err(|e| self.fail(e))?,
        }
        Ok(())
    }

    /// Like [`SegmentLog::sync`], and onto the disk in every mode: the seal of an orderly end vouches for all of it.
    pub(super) fn sync_at_end(&mut self) -> io::Result<()> {
        self.sync()?;
        if self.limits.durability == Durability::Memory {
            for segment in &self.state.segments {
                segment.file.sync_data()?;
            }
            self.disk.sync_dir()?;
        }
        Ok(())
    }

    /// Bytes for which there is no room yet; `None`: all is on the disk.
    #[must_use]
    pub fn waits_for_room(&self) -> Option<u64> {
        (self.failed.is_none() && !self.unwritten.is_empty()).then(|| self.unwritten.bytes())
    }
    /// What the disk has said when it had no room.
    pub(super) fn why_no_room(&self) -> &str {
        self.unwritten.why()
    }

    /// Writes what waits for room, as far as there is some. `false`: a part of it goes on waiting.
    pub(super) fn write_waiting(&mut self) -> io::Result<bool> {
        let (named, result) = self.unwritten.write_on(&*self.disk);
        self.unnamed = named.or(self.unnamed);
        result.map_err(|e| self.fail(e))?;
        Ok(self.unwritten.is_empty())
    }

    /// The syncs that make durable what was written; `None` when nothing is outstanding.
    pub(super) fn sync_target(&self) -> Option<SyncTarget> {
        let mark = mark(&self.state);
        let behind = |s: &&Segment| s.start + s.len > self.synced.end;
        let files: Vec<_> = self.state.segments.iter().filter(behind).map(|s| s.file.clone()).collect();
        let names = self.unnamed.map(|_| self.disk.clone());
        (!files.is_empty()).then_some(SyncTarget { files, names, mark })
    }

    pub(super) fn mark_synced(&mut self, target: &SyncTarget) {
        let mark = target.mark;
        if mark.end > self.synced.end {
            self.synced = mark;
            if let Some(held) = &self.ground.held {
                held.store(mark);
            }
        }
        self.unnamed = self.unnamed.filter(|start| *start >= mark.end);
    }

    /// Names of the segments that may be removed now.
    pub(super) fn take_doomed(&mut self) -> Vec<String> {
        let now = self.doomed.iter().take_while(|(_, after)| *after <= self.synced.end).count();
        let mut names = std::mem::take(&mut self.still_there);
        names.extend(self.doomed.drain(..now).map(|(start, _)| segment_name(start)));
        names
    }
    /// Those could not be removed now.
    pub(super) fn give_back_doomed(&mut self, names: Vec<String>) {
        self.still_there = names;
    }

    /// A seal that says up to where the log is durable; `None` where the newest one does. `clean`: nothing follows.
    pub(super) fn seal_job(&mut self, clean: bool) -> Option<Job> {
        let (mark, sealer) = (self.synced, self.sealer.as_mut()?);
        (clean || sealer.lags(mark)).then(|| sealer.job(mark, clean))
    }
    /// The same whether or not it says anything new.
    pub(super) fn seal_again(&mut self) -> Option<Job> {
        let mark = self.synced;
        Some(self.sealer.as_mut()?.job(mark, false))
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// The last one could not be written: it is made again, in the same place.
    pub(super) fn take_back_seal(&mut self) {
        if let Some(sealer) = &mut self.sealer {
            sealer.take_back();
        }
    }

    /// Whether the newest seal says less than what is durable.
    pub(super) fn is_unsealed(&self) -> bool {
        self.failed.is_none() && self.sealer.as_ref().is_some_and(|s| s.lags(self.synced))
    }

    /// The size of a file to be made ready for the next segment, once the present one is half full.
    pub(super) fn wants_ready(&self) -> Option<(SharedDisk, u64)> {
        let last = self.state.segments.last()?;
        let could = self.ready.is_none() && self.failed.is_none() && self.unwritten.is_empty();
        let wants = could && last.len > last.size / 2;
        wants.then(|| (self.disk.clone(), self.limits.segment_bytes))
    }
    pub(super) fn take_ready(&mut self, file: Arc<dyn DiskFile>, size: u64) {
        self.ready = Some((file, size));
    }
    /// Position up to which the log is durable.
    pub(super) fn durable(&self) -> u64 {
        self.synced.end
    }
    pub(super) fn segments(&self) -> &[Segment] {
        &self.state.segments
    }
    pub(super) fn durability(&self) -> Durability {
        self.limits.durability
    }
    pub(super) fn disk(&self) -> &SharedDisk {
        &self.disk
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
        let start = loc.pos - BEFORE as u64;
        let mut buf = vec![0; record::size(loc.len as usize)];
        let got = segment.file.read_at(start - segment.start, &mut buf)?;
        let header = record::parse(&buf[..got], start).map_err(|_| damaged())?;
        if header.kind != RecordKind::Entry || header.index != index {
            return Err(damaged());
        }
        Ok(record::payload(&buf, header).into())
    }

    /// Writes records in one piece; returns the position of the first.
    fn write(&mut self, records: &[(RecordKind, u64, &[u8])]) -> io::Result<u64> {
        self.alive()?;
        if let Some((_, index, payload)) = records.iter().find(|r| r.2.len() > MAX_RECORD_BYTES) {
            let why = format!("entry {index} has {} bytes, at most {MAX_RECORD_BYTES} fit", payload.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let bytes: u64 = records.iter().map(|r| record::size(r.2.len()) as u64).sum();
        if self.state.segments.last().is_none_or(|s| s.len + bytes > s.size) {
            self.roll(bytes).map_err(|e| self.fail(e))?;
        }
        let written = write_here(&mut self.state, &mut self.unwritten, self.synced.end, records);
        written.map_err(|e| self.fail(e))
    }

    /// Begins a new segment with room for `bytes` more.
    fn roll(&mut self, bytes: u64) -> io::Result<()> {
        let state = &self.state;
        let marks = [&state.vote, &state.committed, &state.purged.as_ref().map(|p| p.1.clone())];
        let marks: usize = marks.iter().map(|m| m.as_ref().map_or(0, |p| record::size(p.len()))).sum();
        let own = record::size(begin_payload(0, self.identity).len()) + marks;
        let need = (own as u64).saturating_add(bytes).next_multiple_of(BLOCK);
        let start = self.state.end;
        let (file, size) = match self.make_segment(need, start) {
            Err(e) if lacks_room(&e) => {
                let size = need.max(self.limits.segment_bytes);
                (self.unwritten.make_later(start, size, &e), size)
            }
            made => made?,
        };
        self.state.max_index = None;
        self.state.segments.push(Segment { start, len: 0, size, file, max_index: None });
        begin(&mut self.state, &mut self.unwritten, self.identity, self.synced.end)
    }

    /// The file of the segment that begins at `start`, under its name.
    fn make_segment(&mut self, need: u64, start: u64) -> io::Result<(Arc<dyn DiskFile>, u64)> {
        if !self.unwritten.is_empty() {
            return Err(no_room());
        }
        let (name, (file, size)) = match self.ready.take().filter(|(_, size)| *size >= need) {
            Some(ready) => (READY, ready),
            None => (READY_NOW, self.make_room(need)?),
        };
        self.disk.rename(name, &segment_name(start))?;
        self.unnamed = Some(start);
        Ok((file, size))
    }

    /// Goes on in a new segment if the present one is in `file`. Gives the highest index up to which entries must be
    /// purged for that file to go; `None`: there is no such segment.
    pub fn leave(&mut self, file: &str) -> io::Result<Option<u64>> {
        self.alive()?;
        let Some(at) = self.state.segments.iter().position(|s| segment_name(s.start) == file) else {
            return Ok(None);
        };
        if at + 1 == self.state.segments.len() {
            self.roll(0).map_err(|e| self.fail(e))?;
        }
        let of = |s: &Segment| s.max_index;
        let last = self.state.segments[..=at].iter().filter_map(of).max();
        Ok(Some(last.unwrap_or(self.state.purged.as_ref().map_or(0, |(index, _)| *index))))
    }

    /// Whether a segment of that name is still part of the log.
    #[must_use]
    pub fn has(&self, file: &str) -> bool {
        self.state.segments.iter().any(|s| segment_name(s.start) == file)
    }

    /// A file for the next segment: of the usual size, or of just what is needed where the disk has no room for that.
    fn make_room(&self, need: u64) -> io::Result<(Arc<dyn DiskFile>, u64)> {
        let usual = need.max(self.limits.segment_bytes);
        match make_ready(&*self.disk, READY_NOW, usual) {
            Err(e) if lacks_room(&e) && need < usual => Ok((make_ready(&*self.disk, READY_NOW, need)?, need)),
            file => Ok((file?, usual)),
        }
    }
}

/// Removes segments. One that is gone already is no error: the call before may have been cut short.
pub(super) fn remove_all(disk: &dyn Disk, names: &[String]) -> io::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    for name in names {
        match disk.remove(name) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    disk.sync_dir()
}
