//! Looking into a store without changing it: what verifies, up to which entry, and the newest state that does.
//!
//! | newest state | made of |
//! |---|---|
//! | a snapshot that verifies, then entries | the log from its beginning to the damage, or from behind it |
//! | the entries alone | a log that was never purged |
//!
//! Of all of them the one that reaches the highest index is taken.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::type_config::alias::SnapshotMetaOf;
use serde::Serialize;

use super::types::{Entry, LogId, TypeConfig, Vote};
use crate::codec::{self, Kind};
use crate::disk::RealDisk;
use crate::log::{self, Durability, Ground, Identity, Limits, SegmentLog, Verdict};
use crate::snap::{SledSnaps, SnapStore};
use crate::state::ClusterState;

/// One file or folder of a store.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// Where it is.
    pub path: PathBuf,
    /// Whether all of it verifies.
    pub good: bool,
    /// What it holds, or what is wrong with it.
    pub what: String,
}

/// What a store holds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Its files.
    pub parts: Vec<Part>,
    /// Whether a node starts on it without any loss.
    pub good: bool,
    /// What is said of the log.
    pub log: String,
    /// The last entry of the newest state that verifies; `None`: no state does.
    pub newest: Option<u64>,
    /// The entries that are missing after it, if any may be: the first one, and the last if that is known.
    pub missing: Option<(u64, Option<u64>)>,
}

/// The newest state that verifies.
pub struct Newest {
    /// The state.
    pub state: ClusterState,
    /// The term of its newest vote or entry.
    pub term: u64,
    /// Its last entry, or the last one that was perhaps promised, whichever is higher.
    pub beyond: u64,
}

struct Snapshot {
    last: Option<LogId>,
    data: Vec<u8>,
}

/// Looks into the store in `root` (the folder with `log` and `snap`). `state`: whether the newest state is wanted, too.
///
/// # Errors
/// The disk; not what is damaged.
pub fn examine(root: &Path, durability: Durability, state: bool) -> io::Result<(Report, Option<Newest>)> {
    let mut report = Report::default();
    let snapshots = snapshots(&root.join("snap"), &mut report)?;
    let folder = root.join("log");
    if !folder.is_dir() {
        report.log = "there is no log".into();
        let newest = newest_of(&mut report, snapshots, None, state)?;
        return Ok((report, newest));
    }
    let disk = Arc::new(RealDisk::new(&folder)?);
    for file in log::inspect(&*disk)? {
        report.parts.push(Part { path: folder.join(file.name), good: file.good, what: file.what });
    }
    let Some(identity) = log::owner(&*disk) else {
        report.log = "neither META nor its copy verifies".into();
        let newest = newest_of(&mut report, snapshots, None, state)?;
        return Ok((report, newest));
    };
    let open = |snapshot: Option<&Snapshot>| look(&disk, identity, durability, snapshot);
    // From each beginning: the one that reaches furthest counts.
    let alone = match open(None) {
        Ok(alone) => alone,
        Err(e) => {
            report.log = e.to_string();
            let newest = newest_of(&mut report, snapshots, None, state)?;
            return Ok((report, newest));
        }
    };
    report.good = matches!(alone.1, Verdict::Whole | Verdict::Torn { .. });
    report.log = match &alone.1 {
        Verdict::Whole => "everything verifies".into(),
        Verdict::Torn { bytes } => {
            format!("the last write, of {bytes} bytes, was not finished; nobody was promised it")
        }
        Verdict::Mended(lost) | Verdict::Forgotten(lost) => lost.to_string(),
    };
    let newest = newest_of(&mut report, snapshots, Some(&open), state)?;
    Ok((report, newest))
}

type Look<'a> = &'a dyn Fn(Option<&Snapshot>) -> io::Result<(SegmentLog, Verdict)>;

fn look(
    disk: &Arc<RealDisk>,
    identity: Identity,
    durability: Durability,
    snapshot: Option<&Snapshot>,
) -> io::Result<(SegmentLog, Verdict)> {
    let last = snapshot.and_then(|s| s.last);
    let snapshot = match last {
        Some(last) => Some((last.index, codec::encode(Kind::LogId, &last)?)),
        None => None,
    };
    // The boot id of another machine start is the careful assumption; it matters in memory mode only.
    let ground = Ground { snapshot, ..Ground::default() };
    let limits = Limits { durability, ..Limits::default() };
    SegmentLog::look(disk.clone(), identity, limits, ground).map_err(io::Error::other)
}

/// Finds the combination that reaches furthest.
fn newest_of(
    report: &mut Report,
    snapshots: Vec<Snapshot>,
    open: Option<Look<'_>>,
    wanted: bool,
) -> io::Result<Option<Newest>> {
    let mut best: Option<(u64, Option<Snapshot>, Option<SegmentLog>)> = None;
    let mut promised = None;
    let mut unbounded = false;
    let mut term = 0;
    // The entries that the log holds, first and last.
    let mut held: Option<(u64, u64)> = None;
    let some = snapshots.into_iter().map(Some).chain([None]);
    for base in some {
        let after = base.as_ref().and_then(|s| s.last).map_or(0, |l| l.index + 1);
        let mut reach = base.as_ref().map(|_| after.saturating_sub(1));
        let mut entries = None;
        if let Some(open) = open {
            let (log, verdict) = open(base.as_ref())?;
            if let Verdict::Forgotten(lost) | Verdict::Mended(lost) = &verdict {
                promised = promised.max(lost.promised);
                unbounded |= lost.promised.is_none();
            }
            if let Some(vote) = log.vote() {
                term = term.max(codec::decode::<Vote>(Kind::Vote, vote)?.leader_id.term);
            }
            let range = log.entries();
            if !range.is_empty() {
                held = held.max(Some((range.start, range.end - 1)));
            }
            if range.start <= after && range.end > after {
                reach = Some(range.end - 1);
                entries = Some(log);
            }
        }
        if let Some(reach) = reach
            && best.as_ref().is_none_or(|(so_far, ..)| reach > *so_far)
        {
            best = Some((reach, base, entries));
        }
    }
    report.newest = best.as_ref().map(|(reach, ..)| *reach);
    if let Some((start, last)) = held.filter(|(_, last)| report.newest < Some(*last)) {
        report.good = false;
        report.log +=
            &format!("; it begins with entry {start}, and no snapshot that verifies reaches up to there");
        promised = promised.max(Some(last));
    }
    let first = report.newest.map_or(0, |n| n + 1);
    report.missing = match (unbounded, promised) {
        _ if report.good => None,
        (true, _) | (false, None) => Some((first, None)),
        (false, Some(last)) => (last >= first).then_some((first, Some(last))),
    };
    let Some((reach, base, log)) = best.filter(|_| wanted) else { return Ok(None) };
    let (mut state, last) = match base {
        Some(base) => (codec::decode(Kind::Snapshot, &base.data)?, base.last),
        None => (ClusterState::default(), None),
    };
    term = term.max(last.map_or(0, |l| l.leader_id.term));
    if let Some(log) = log {
        let from = last.map_or(0, |l| l.index + 1);
        for index in from..=reach {
            let Some(bytes) = log.read(index..index + 1, false)?.pop() else { continue };
            let entry: Entry = codec::decode(Kind::Entry, &bytes)?;
            term = term.max(entry.log_id_parts().0.term);
            if let EntryPayload::Normal(batch) = &entry.payload {
                for command in &batch.0 {
                    // The answers were given long ago.
                    let _ = state.apply(index, command);
                }
            }
        }
    }
    Ok(Some(Newest { state, term, beyond: reach.max(promised.unwrap_or(0)) }))
}

/// Every generation that verifies, newest first. Each is read from a copy, because opening one writes to it.
fn snapshots(folder: &Path, report: &mut Report) -> io::Result<Vec<Snapshot>> {
    let mut names = Vec::new();
    if folder.is_dir() {
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with("gen-") {
                names.push(name);
            } else if name.starts_with("bad-") {
                let what = "a snapshot that did not verify, set aside by a start".into();
                report.parts.push(Part { path: folder.join(name), good: false, what });
            }
        }
    }
    names.sort_unstable();
    let mut good = Vec::new();
    for name in names.iter().rev() {
        let path = folder.join(name);
        let copy = Copy::of(&path, name)?;
        let found = SledSnaps::open(&copy.0).and_then(|snaps| snaps.latest());
        let decoded = found.and_then(|stored| {
            let (meta, data) = stored.ok_or_else(|| io::Error::other("it does not verify"))?;
            let meta: SnapshotMetaOf<TypeConfig> = codec::decode(Kind::SnapshotMeta, &meta)?;
            Ok(Snapshot { last: meta.last_log_id, data })
        });
        let (is_good, what) = match &decoded {
            Ok(s) => {
                let last = s.last.map_or(0, |l| l.index);
                (true, format!("a snapshot up to entry {last}, {} bytes", s.data.len()))
            }
            Err(e) => (false, format!("a snapshot: {e}")),
        };
        report.parts.push(Part { path, good: is_good, what });
        good.extend(decoded.ok());
    }
    Ok(good)
}

/// A copy of a folder without folders in it, removed when dropped.
struct Copy(PathBuf);

/// Random bytes in the name of a copy, and tries to find one that is free.
const NAME_BYTES: usize = 16;
const NAME_TRIES: u32 = 8;

impl Copy {
    /// Not beside the original: a disk that may be failing, or full, is only read.
    fn of(from: &Path, name: &str) -> io::Result<Self> {
        // From here on it goes whatever happens.
        let copy = Self(private_folder(&std::env::temp_dir())?);
        copy_folder(from, &copy.0.join(name))?;
        Ok(copy)
    }
}

/// Makes a folder that only its owner can look into, under a name that nobody knows before.
fn private_folder(within: &Path) -> io::Result<PathBuf> {
    let mut tries = 0;
    loop {
        let mut random = [0; NAME_BYTES];
        fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let path = within.join(format!("relevo-check-{:032x}", u128::from_le_bytes(random)));
        // Not recursive: what is there already, a link of somebody else's for one, is an error.
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && tries < NAME_TRIES => tries += 1,
            Err(e) => return Err(e),
        }
    }
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), error = %e, "a copy of a snapshot stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_copy_is_its_owners_alone_under_a_name_that_nobody_knows_before_and_goes_in_every_case() {
        let from = tempfile::tempdir().expect("tempdir");
        fs::create_dir(from.path().join("blobs")).expect("made");
        fs::write(from.path().join("db"), "secrets").expect("written");
        let made = [(); 2].map(|()| Copy::of(from.path(), "gen-1").expect("copied"));
        for copy in &made {
            let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
            assert_eq!(mode(&copy.0), 0o700);
            assert!(copy.0.join("gen-1/db").is_file() && copy.0.join("gen-1/blobs").is_dir());
            let name = copy.0.file_name().expect("a name").to_string_lossy().into_owned();
            assert!(!name.contains(&std::process::id().to_string()), "{name}");
        }
        assert_ne!(made[0].0, made[1].0);
        let paths = made.each_ref().map(|copy| copy.0.clone());
        drop(made);
        assert!(paths.iter().all(|path| !path.exists()));
        let copies = || {
            let all = fs::read_dir(std::env::temp_dir()).expect("there").flatten();
            all.filter(|e| e.path().join("gen-not-there").exists()).count()
        };
        assert!(Copy::of(&from.path().join("not-there"), "gen-not-there").is_err());
        assert_eq!(copies(), 0, "half a copy stays nowhere");
    }
}
