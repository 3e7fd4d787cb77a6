//! Opening: makes an empty log, or reads what is there, judges it, and cuts off what was torn.

use super::meta::{self, Identity};
use super::record;
use super::scan::{self, Scan};
use super::seal::{self, Sealer};
use super::state::{Segment, State, segment_name};
use super::unwritten::{Unwritten, no_room};
use super::verdict::{Known, decide};
use super::{Ground, Limits, OpenError, Verdict, segment};
use crate::disk::{Disk, DiskFile, SharedDisk};

/// Suffix of a damaged segment that a snapshot has made needless.
const KEPT_SUFFIX: &str = ".damaged";

fn corrupt(file: &str, why: &str) -> OpenError {
    OpenError::Corrupt { file: file.into(), offset: 0, why: why.into() }
}

/// What opening comes to.
pub(super) struct Opening {
    pub state: State,
    pub verdict: Verdict,
    /// `None`: the log takes no writes.
    pub sealer: Option<Sealer>,
}

/// Makes an empty log: seal and segment first, `META` last.
fn create(
    disk: &SharedDisk,
    identity: Identity,
    limits: &Limits,
    ground: &Ground,
) -> Result<Opening, OpenError> {
    for start in scan::starts(&**disk)? {
        disk.remove(&segment_name(start))?;
    }
    if disk.list()?.iter().any(|n| n == seal::NAME) {
        disk.remove(seal::NAME)?;
    }
    let file = segment::make_ready(&**disk, segment::READY_NOW, limits.segment_bytes)?;
    disk.rename(segment::READY_NOW, &segment_name(0))?;
    let mut state = State::default();
    state.segments.push(Segment { start: 0, len: 0, size: limits.segment_bytes, file, max_index: None });
    let mut unwritten = Unwritten::default();
    segment::begin(&mut state, &mut unwritten, identity, 0)?;
    if !unwritten.is_empty() {
        return Err(no_room().into());
    }
    for segment in &state.segments {
        segment.file.sync_data()?;
    }
    let mut sealer = Sealer::open(&**disk, ground.boot)?;
    // Both slots, so that one that cannot be read was damaged.
    for _ in 0..2 {
        sealer.job(segment::mark(&state), false).run()?;
    }
    disk.sync_dir()?;
    meta::create(&**disk, identity)?;
    Ok(Opening { state, verdict: Verdict::Whole, sealer: Some(sealer) })
}

/// Reads and judges; changes nothing.
pub(super) fn judge(
    disk: &SharedDisk,
    identity: Identity,
    limits: &Limits,
    ground: &Ground,
) -> Result<(Scan, Verdict), OpenError> {
    let starts = scan::starts(&**disk)?;
    if starts.is_empty() {
        return Err(corrupt(&segment_name(0), "no segment is left"));
    }
    let found = scan::scan(disk, &starts, identity, true)?;
    let known = Known {
        seal: seal::read(&**disk)?,
        held: ground.held.as_ref().and_then(|h| h.load(identity)),
        boot: ground.boot,
        durability: limits.durability,
    };
    let mut verdict = decide(&found, &known);
    let Verdict::Forgotten(lost) = &mut verdict else { return Ok((found, verdict)) };
    let Some(mut rest) = scan::resume(disk, &starts, identity, &found)? else { return Ok((found, verdict)) };
    // The part behind the damage must meet the same claims.
    if !matches!(decide(&rest, &known), Verdict::Whole | Verdict::Torn { .. }) {
        return Ok((found, verdict));
    }
    lost.resumes = Some(rest.state.first);
    // What was written behind it claims it.
    lost.doubtful = false;
    lost.promised = lost.promised.max(rest.state.last_index());
    let covered = ground.snapshot.as_ref().filter(|(index, _)| rest.state.first <= index.saturating_add(1));
    let Some((index, mark)) = covered else { return Ok((found, verdict)) };
    rest.state.purge(*index, mark);
    let verdict = Verdict::Mended(lost.clone());
    Ok((rest, verdict))
}

/// Opens or makes the log.
pub(super) fn open(
    disk: &SharedDisk,
    identity: Identity,
    limits: &Limits,
    ground: &Ground,
) -> Result<Opening, OpenError> {
    let owner = meta::check(&**disk, identity)?;
    match owner {
        meta::Found::Both | meta::Found::One { damaged: meta::COPY } => {}
        // Its copy is made when the first segment is there for good.
        meta::Found::One { .. } if scan::starts(&**disk)?.is_empty() => {}
        _ if !ground.used && !was_used(&**disk)? => return create(disk, identity, limits, ground),
        meta::Found::Nothing => {
            return Err(corrupt(meta::NAME, "it is missing, and so is its copy, and the log was in use"));
        }
        meta::Found::One { .. } => {}
    }
    let (found, verdict) = judge(disk, identity, limits, ground)?;
    if let Verdict::Forgotten(_) = verdict {
        return Ok(Opening { state: found.state, verdict, sealer: None });
    }
    if let meta::Found::One { damaged } = owner {
        tracing::warn!(file = damaged, "a file of the log was damaged; it is made anew from its copy");
        meta::write(&**disk, damaged, identity)?;
    }
    let state = settle(&**disk, found, &verdict)?;
    let mut sealer = Sealer::open(&**disk, ground.boot)?;
    disk.sync_dir()?;
    // From now on it is not closed in order; both slots, because the other one may say that it was.
    for _ in 0..2 {
        sealer.job(segment::mark(&state), false).run()?;
    }
    Ok(Opening { state, verdict, sealer: Some(sealer) })
}

/// Whether anything was ever written to a log whose making may have been interrupted: without `META` and its copy, and
/// without records behind the one that begins the first segment, nobody was promised anything.
pub fn was_used(disk: &dyn Disk) -> Result<bool, OpenError> {
    let starts = scan::starts(disk)?;
    let Some(&first) = starts.first() else {
        // The seal of a log that is being made says no more than that it begins.
        let begins = record::size(scan::BEGIN_BYTES) as u64;
        return Ok(seal::read(disk)?.newest.is_some_and(|seal| seal.mark.end > begins));
    };
    let own = record::size(scan::BEGIN_BYTES);
    let bytes = scan::read_file(&*disk.open(&segment_name(first))?)?;
    Ok(starts.len() > 1 || first != 0 || !record::is_zero(bytes.get(own..).unwrap_or_default()))
}

/// Cuts off what was torn, and removes what does not belong to the log any more.
fn settle(disk: &dyn Disk, mut found: Scan, verdict: &Verdict) -> Result<State, OpenError> {
    for name in disk.list()? {
        if [segment::READY, segment::READY_NOW].contains(&name.as_str()) {
            disk.remove(&name)?;
        }
    }
    if matches!(verdict, Verdict::Mended(_)) {
        let first = found.state.segments.first().map_or(0, |s| s.start);
        for start in scan::starts(disk)?.into_iter().filter(|s| *s < first) {
            let name = segment_name(start);
            disk.rename(&name, &format!("{name}{KEPT_SUFFIX}"))?;
        }
        disk.sync_dir()?;
    }
    for &start in found.rest.iter().rev() {
        disk.remove(&segment_name(start))?;
    }
    if found.state.segments.len() > 1
        && let Some(last) = found.state.segments.pop_if(|s| s.len == 0)
    {
        // Not even its beginning was written.
        disk.remove(&segment_name(last.start))?;
        found.rest.push(last.start);
    } else if let (Some(bad), Some(last)) = (&found.bad, found.state.segments.last_mut()) {
        zero(&*last.file, last.len, bad.bytes.min(last.file.len()?.saturating_sub(last.len)))?;
    }
    if let Some(last) = found.state.segments.last_mut() {
        if last.file.len()? < last.size {
            tracing::warn!(file = segment_name(last.start), "the file was shorter than it was made");
            last.file.allocate(last.size)?;
        }
        // What was read may still be only in the page cache of a machine whose process died.
        last.file.sync_data()?;
    }
    if !found.rest.is_empty() {
        disk.sync_dir()?;
    }
    Ok(found.state)
}

/// Bytes written at once.
const ZEROS: usize = 64 << 10;

fn zero(file: &dyn DiskFile, mut at: u64, mut bytes: u64) -> std::io::Result<()> {
    while bytes > 0 {
        let now = bytes.min(ZEROS as u64);
        file.write_at(at, &vec![0; usize::try_from(now).unwrap_or(ZEROS)])?;
        (at, bytes) = (at + now, bytes - now);
    }
    Ok(())
}
