//! Reading the log back: what a crash left is either a torn tail, which nobody was promised, or damage.

use super::meta::{self, Identity};
use super::record::{self, HEADER, RecordKind};
use super::segment::{Segment, State, segment_name};
use super::{Forgotten, MAX_RECORD_BYTES, OpenError, Verdict};
use crate::disk::{Disk, read_all};

/// Most bytes a segment file may have (1 GiB): an operator's large `segment_bytes` must still open.
const MAX_SEGMENT: u64 = 1 << 30;

fn starts(disk: &dyn Disk) -> Result<Vec<u64>, OpenError> {
    let mut starts: Vec<u64> = disk
        .list()?
        .iter()
        .filter_map(|n| n.strip_suffix(".seg").and_then(|hex| u64::from_str_radix(hex, 16).ok()))
        .collect();
    starts.sort_unstable();
    Ok(starts)
}

fn corrupt(start: u64, offset: usize, why: &str) -> OpenError {
    OpenError::Corrupt { file: segment_name(start), offset: offset as u64, why: why.into() }
}

/// Makes an empty log: the segment first, `META` last.
fn create(disk: &dyn Disk, identity: Identity) -> Result<State, OpenError> {
    for start in starts(disk)? {
        disk.remove(&segment_name(start))?;
    }
    let file = disk.create(&segment_name(0))?;
    file.sync_data()?;
    disk.sync_dir()?;
    meta::create(disk, identity)?;
    let mut state = State::default();
    state.segments.push(Segment { start: 0, len: 0, file, max_index: None });
    Ok(state)
}

/// Opens or makes the log; what is torn is cut off.
pub(super) fn open(disk: &dyn Disk, identity: Identity) -> Result<(State, Verdict), OpenError> {
    let starts = starts(disk)?;
    if !disk.list()?.iter().any(|n| n == meta::NAME) {
        for &start in &starts {
            if disk.open(&segment_name(start))?.len()? > 0 {
                return Err(corrupt(start, 0, "the folder has segments but no META"));
            }
        }
        return Ok((create(disk, identity)?, Verdict::Whole));
    }
    meta::check(disk, identity)?;
    let Some(&first) = starts.first() else {
        return Err(corrupt(0, 0, "no segment is left"));
    };
    let mut state = State::default();
    let mut expected = first;
    for (n, &start) in starts.iter().enumerate() {
        let file = disk.open(&segment_name(start))?;
        let bytes = read_all(&*file, MAX_SEGMENT + MAX_RECORD_BYTES as u64)?;
        let (at, why) = if start == expected {
            replay(&mut state, start, &bytes)
        } else {
            (0, Some("a segment is missing before this one"))
        };
        let bad = if start == expected { start + at as u64 } else { expected };
        let Some(why) = why else {
            expected = start + bytes.len() as u64;
            let max_index = state.take_max_index();
            state.segments.push(Segment { start, len: bytes.len() as u64, file, max_index });
            continue;
        };
        // Only what no later record calls durable may be cut off.
        let mut behind = record::behind(&bytes, start, at, bad);
        for &later in &starts[n + 1..] {
            let bytes = read_all(&*disk.open(&segment_name(later))?, MAX_SEGMENT + MAX_RECORD_BYTES as u64)?;
            behind = behind.and(record::behind(&bytes, later, 0, bad));
        }
        verify(&state, first)?;
        let max_index = state.take_max_index();
        if behind.claimed {
            state.segments.push(Segment { start, len: at as u64, file, max_index });
            let verified = state.last_index();
            let forgotten = Forgotten {
                file: segment_name(start),
                offset: at as u64,
                why: why.into(),
                verified,
                promised: verified.max(behind.last_index),
                resumes: None,
            };
            return Ok((finish(state), Verdict::Forgotten(forgotten)));
        }
        let mut torn = bytes.len() as u64 - at as u64;
        if start == expected {
            file.truncate(at as u64)?;
            file.sync_data()?;
            state.segments.push(Segment { start, len: at as u64, file, max_index });
        } else {
            disk.remove(&segment_name(start))?;
        }
        for &later in starts[n + 1..].iter().rev() {
            torn += disk.open(&segment_name(later))?.len()?;
            disk.remove(&segment_name(later))?;
        }
        disk.sync_dir()?;
        return Ok((finish(state), Verdict::Torn { bytes: torn }));
    }
    verify(&state, first)?;
    Ok((finish(state), Verdict::Whole))
}

/// The retained entries must begin right behind what was purged.
fn verify(state: &State, first_segment: u64) -> Result<(), OpenError> {
    let expected = match (&state.purged, first_segment) {
        (Some((index, _)), _) => index + 1,
        (None, 0) => return Ok(()),
        (None, start) => return Err(corrupt(start, 0, "earlier segments are missing")),
    };
    if !state.index.is_empty() && state.first > expected {
        return Err(corrupt(first_segment, 0, "entries behind the purged ones are missing"));
    }
    Ok(())
}

fn finish(mut state: State) -> State {
    let end = state.segments.last().map_or(0, |s| s.start + s.len);
    state.end = end;
    state
}

/// Applies the records of one segment; returns where it stopped and why, if not at the end.
fn replay(state: &mut State, start: u64, bytes: &[u8]) -> (usize, Option<&'static str>) {
    let mut at = 0;
    while at < bytes.len() {
        let header = match record::parse(&bytes[at..], start + at as u64) {
            Ok(header) => header,
            Err(why) => return (at, Some(why)),
        };
        let payload = &bytes[at + HEADER..at + HEADER + header.len];
        match header.kind {
            RecordKind::Vote => state.vote = Some(payload.to_vec()),
            RecordKind::Committed => state.committed = Some(payload.to_vec()),
            RecordKind::Truncate => state.truncate_from(header.index),
            RecordKind::Purge => state.purge(header.index, payload),
            RecordKind::Entry => {
                let pos = start + at as u64 + HEADER as u64;
                if !state.push(header.index, pos, header.len as u32) {
                    return (at, Some("an entry does not follow the one before it"));
                }
            }
        }
        at += HEADER + header.len;
    }
    (at, None)
}
