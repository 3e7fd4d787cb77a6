//! Reading the log without changing anything: what verifies, where that ends, and what the records behind it claim.

use super::record::{self, Behind, RecordKind};
use super::state::{Segment, State, segment_name};
use super::{Identity, MAX_RECORD_BYTES, OpenError};
use crate::disk::{Disk, DiskFile, SharedDisk, read_all};

/// Most bytes a segment file may have (1 GiB): an operator's large `segment_bytes` must still open.
const MAX_SEGMENT: u64 = 1 << 30;

/// What the bytes at a place that does not verify look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// A write that was cut off: a sector of it is still zero.
    Unfinished,
    /// Every sector of it was written.
    Written,
    /// The file is shorter than it was made, or a file is not there.
    Missing,
    /// It verifies, but what came before it is not there.
    Headless,
}

/// The first place that does not verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub file: String,
    pub offset: u64,
    pub why: &'static str,
    pub nature: Nature,
    /// Bytes behind it that are not zero, or may not have been.
    pub bytes: u64,
}

/// What was read.
#[derive(Default)]
pub(super) struct Scan {
    pub state: State,
    /// `None`: everything verifies, and only zeros follow.
    pub bad: Option<Bad>,
    /// What any record says, before or behind the bad place.
    pub claims: Behind,
    /// The last file is shorter than it was made, and lacks nothing but zeros.
    pub short: bool,
    /// Starts of the segments behind the bad place, or of one that was never begun.
    pub rest: Vec<u64>,
}

/// Starts of all segments, in order.
pub(super) fn starts(disk: &dyn Disk) -> Result<Vec<u64>, OpenError> {
    let mut starts: Vec<u64> = disk
        .list()?
        .iter()
        .filter_map(|n| n.strip_suffix(".seg").and_then(|hex| u64::from_str_radix(hex, 16).ok()))
        .collect();
    starts.sort_unstable();
    Ok(starts)
}

/// Bytes of [`begin_payload`].
pub(super) const BEGIN_BYTES: usize = 24;

/// Payload of the record that begins a segment.
pub(super) fn begin_payload(size: u64, identity: Identity) -> Vec<u8> {
    [size, identity.cluster, identity.node].map(u64::to_le_bytes).concat()
}

pub(super) fn read_file(file: &dyn DiskFile) -> Result<Vec<u8>, OpenError> {
    Ok(read_all(file, MAX_SEGMENT + MAX_RECORD_BYTES as u64)?)
}

/// Where the records of a segment end.
struct Stop {
    at: usize,
    size: Option<u64>,
    why: Option<&'static str>,
}

/// Reads `segments`, which follow each other. `whole`: what was purged before them must be known; else they may begin
/// anywhere.
pub(super) fn scan(
    disk: &SharedDisk,
    segments: &[u64],
    identity: Identity,
    whole: bool,
) -> Result<Scan, OpenError> {
    let mut scan = Scan::default();
    for (n, &start) in segments.iter().enumerate() {
        let next = segments.get(n + 1).copied();
        let file = disk.open(&segment_name(start))?;
        let bytes = read_file(&*file)?;
        if next.is_none() && n > 0 && record::is_zero(&bytes) {
            // Made ready, and no record of it has reached the disk.
            scan.rest = vec![start];
            break;
        }
        let Stop { at, size, why } = replay(&mut scan, start, &bytes, identity);
        let (len, end) = (bytes.len(), start + at as u64);
        let size = size.unwrap_or(len as u64);
        let lacking = size.saturating_sub(len as u64);
        let written = bytes.iter().rposition(|b| *b != 0).map_or(0, |p| p + 1).saturating_sub(at) as u64;
        let max_index = scan.state.take_max_index();
        scan.state.end = end;
        scan.state.segments.push(Segment { start, len: at as u64, size, file, max_index });
        let found = if let Some(why) = why {
            match record::unfinished(&bytes[at..], at, end) {
                _ if lacking > 0 && at + record::SMALLEST > len => Some((why, Nature::Missing)),
                true => Some((why, Nature::Unfinished)),
                false => Some((why, Nature::Written)),
            }
        } else if next == Some(end) {
            None
        } else if next.is_some() {
            let nature = if at < len { Nature::Unfinished } else { Nature::Missing };
            Some(("the end of this file and the beginning of the next do not meet", nature))
        } else if written > 0 {
            Some(("a record lacks its beginning", Nature::Unfinished))
        } else if lacking > 0 && at + 4 > len {
            Some(("the file is cut off", Nature::Missing))
        } else {
            scan.short = lacking > 0;
            None
        };
        if let Some((why, nature)) = found {
            let (file, offset) = (segment_name(start), at as u64);
            scan.bad = Some(Bad { file, offset, why, nature, bytes: written.saturating_add(lacking) });
            scan.claims = scan.claims.and(record::behind(&bytes, start, at));
            scan.rest = segments[n + 1..].to_vec();
            for &later in &scan.rest {
                let bytes = read_file(&*disk.open(&segment_name(later))?)?;
                scan.claims = scan.claims.and(record::behind(&bytes, later, 0));
            }
            break;
        }
    }
    if whole && !scan.state.follows_what_was_purged(segments.first() == Some(&0)) {
        let first = scan.state.segments.first().map_or(0, |s| s.start);
        scan.claims.last_index = scan.claims.last_index.max(scan.state.last_index());
        scan.state.index.clear();
        scan.bad = Some(Bad {
            file: segment_name(first),
            offset: 0,
            why: "the entries before those in this file are missing",
            nature: Nature::Headless,
            bytes: 0,
        });
    }
    Ok(scan)
}

/// The part of the log behind the damage that `damaged` has found, if that part verifies to its end: the state from a
/// later segment on, each of which begins with the vote and the marks.
pub(super) fn resume(
    disk: &SharedDisk,
    segments: &[u64],
    identity: Identity,
    damaged: &Scan,
) -> Result<Option<Scan>, OpenError> {
    let Some(bad) = &damaged.bad else { return Ok(None) };
    let from = if bad.nature == Nature::Headless { 0 } else { damaged.state.segments.len() };
    for later in from..segments.len() {
        let found = scan(disk, &segments[later..], identity, false)?;
        let finished = found.bad.as_ref().is_none_or(|b| b.nature == Nature::Unfinished);
        if finished && found.claims.claimed <= found.state.end && !found.state.index.is_empty() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// What one segment holds by itself.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// First and last index among its entries.
    pub first: Option<u64>,
    pub last: Option<u64>,
    /// Where its records end.
    pub end: usize,
    /// The file is shorter than it was made.
    pub short: bool,
    /// The first place that does not verify.
    pub bad: Option<(usize, &'static str)>,
}

/// Looks at one segment by itself. `owner`: whose it must be, where that is known.
pub(super) fn records(bytes: &[u8], start: u64, owner: Option<Identity>) -> Records {
    let mut found = Records::default();
    while found.end < bytes.len() {
        let at = found.end;
        let rest = &bytes[at..];
        if at > 0 && record::is_zero(&rest[..record::BEFORE.min(rest.len())]) {
            if !record::is_zero(rest) {
                found.bad = Some((at, "a record lacks its beginning"));
            }
            return found;
        }
        let header = match record::parse(rest, start + at as u64) {
            Ok(header) => header,
            Err(why) => return Records { bad: Some((at, why)), ..found },
        };
        match (header.kind, record::payload(rest, header).split_at_checked(8)) {
            (RecordKind::Begin, Some((size, whose))) => {
                let size = size.try_into().map_or(0, u64::from_le_bytes);
                found.short = (bytes.len() as u64) < size;
                if owner.is_some_and(|owner| *whose != begin_payload(0, owner)[8..]) {
                    return Records { bad: Some((at, "the segment is another log's")), ..found };
                }
            }
            (RecordKind::Entry, _) => {
                found.first = found.first.or(Some(header.index));
                found.last = Some(header.index);
            }
            _ => {}
        }
        found.end += record::size(header.len);
    }
    found
}

/// Applies the records of one segment, up to the first that does not verify, or the zeros behind the last.
fn replay(scan: &mut Scan, start: u64, bytes: &[u8], identity: Identity) -> Stop {
    let mut stop = Stop { at: 0, size: None, why: None };
    while stop.at < bytes.len() {
        let (at, pos) = (stop.at, start + stop.at as u64);
        let rest = &bytes[at..];
        if at > 0 && record::is_zero(&rest[..record::BEFORE.min(rest.len())]) {
            return stop;
        }
        let header = match record::parse(rest, pos) {
            Ok(header) => header,
            Err(why) => return Stop { why: Some(why), ..stop },
        };
        let payload = record::payload(rest, header);
        if (at == 0) != (header.kind == RecordKind::Begin) {
            return Stop { why: Some("a segment must begin with its length"), ..stop };
        }
        let state = &mut scan.state;
        match header.kind {
            RecordKind::Begin => match payload.split_at_checked(8) {
                Some((size, whose)) if *whose == begin_payload(0, identity)[8..] => {
                    stop.size = size.try_into().ok().map(u64::from_le_bytes);
                }
                _ => return Stop { why: Some("the segment is another log's"), ..stop },
            },
            RecordKind::Vote => state.vote = Some(payload.to_vec()),
            RecordKind::Committed => state.committed = Some(payload.to_vec()),
            RecordKind::Truncate => state.truncate_from(header.index),
            RecordKind::Purge => state.purge(header.index, payload),
            RecordKind::Entry => {
                if !state.push(header.index, pos + record::BEFORE as u64, header.len as u32) {
                    return Stop { why: Some("an entry does not follow the one before it"), ..stop };
                }
            }
        }
        scan.claims.claimed = scan.claims.claimed.max(header.synced_upto);
        stop.at += record::size(header.len);
    }
    if stop.at == 0 {
        stop.why = Some("the file is empty");
    }
    stop
}
