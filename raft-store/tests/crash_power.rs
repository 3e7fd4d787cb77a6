//! Power cuts and full disks on real file systems, over the log and the sled snapshots together. Needs root and a loop
//! device; without them each test says so and ends.
//!
//! The cut: a child writes to an ext4 in an image file and notes (outside of it) what was acknowledged. It is stopped,
//! the image is copied, and the copy is mounted: what only the page cache of the mounted file system held is missing
//! there. What the cache of a real drive would lose is not shown by this.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use raft_store::disk::RealDisk;
use raft_store::log::{Durability, Identity, Limits, LogWriter, Mode, SegmentLog};
use raft_store::snap::{SledSnaps, SnapStore};

const CHILD: &str = "RELEVO_TEST_POWER_CHILD";
/// Entries between two snapshots of the child.
const SNAPSHOT_EVERY: u64 = 40;
/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_secs(60);

fn identity() -> Identity {
    Identity::new("lab", 1)
}

fn payload(index: u64) -> Vec<u8> {
    index.to_le_bytes().repeat(1 + (index % 60) as usize)
}

fn state(index: u64) -> Vec<u8> {
    index.to_be_bytes().repeat(40_000)
}

fn open_log(dir: &Path, durability: Durability) -> SegmentLog {
    let disk = Arc::new(RealDisk::new(dir.join("deep/log")).expect("folder"));
    let limits = Limits { segment_bytes: 64 << 10, durability, ..Limits::default() };
    SegmentLog::open(disk, identity(), limits).expect("the log opens").0
}

fn open_snaps(dir: &Path) -> SledSnaps {
    SledSnaps::open(dir.join("deep/snap")).expect("the snapshots open")
}

fn write_one(writer: &LogWriter, index: u64) -> bool {
    let (tx, rx) = mpsc::channel();
    let done = move |r: std::io::Result<()>| {
        tx.send(r.is_ok()).ok();
    };
    writer.write(|log| log.append(index, &[payload(index)]), Box::new(done));
    rx.recv().expect("an answer")
}

/// Not a test of its own: the writer that the others stop or kill. It notes in the file `acknowledged` the end of the
/// log and of the newest snapshot.
#[test]
fn child_that_writes_until_it_is_stopped() {
    let Ok(args) = std::env::var(CHILD) else { return };
    let [dir, notes, durability] = args.split('|').collect::<Vec<_>>()[..] else { panic!("{args}") };
    let durability = if durability == "disk" { Durability::Disk } else { Durability::Memory };
    let notes = fs::OpenOptions::new().write(true).create(true).truncate(false).open(notes).expect("notes");
    let log = open_log(Path::new(dir), durability);
    let mut next = log.entries().end;
    let writer = LogWriter::new(log, Mode::Thread).expect("writer");
    let mut snaps = open_snaps(Path::new(dir));
    loop {
        assert!(write_one(&writer, next));
        next += 1;
        notes.write_all_at(&next.to_le_bytes(), 0).expect("note");
        if next.is_multiple_of(SNAPSHOT_EVERY) {
            snaps.write(&next.to_le_bytes(), &state(next)).expect("snapshot");
            notes.write_all_at(&next.to_le_bytes(), 8).expect("note");
            writer.with(|log| log.purge(next - SNAPSHOT_EVERY, b"mark")).expect("purge");
        }
    }
}

/// The child; killed with the test if that fails.
struct Writer(Child);

impl Writer {
    fn kill(&mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Already gone, usually.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn spawn(dir: &Path, notes: &Path, durability: &str) -> Writer {
    let child = Command::new(std::env::current_exe().expect("exe"))
        .args(["--exact", "child_that_writes_until_it_is_stopped", "--nocapture"])
        .env(CHILD, format!("{}|{}|{durability}", dir.display(), notes.display()))
        .stdout(Stdio::null())
        .spawn()
        .expect("child");
    Writer(child)
}

/// Ends of log and newest snapshot that were acknowledged.
fn noted(notes: &Path) -> (u64, u64) {
    let mut bytes = fs::read(notes).unwrap_or_default();
    bytes.resize(16, 0);
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    (number(0), number(8))
}

fn until(what: &str, mut f: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !f() {
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether every thread of a process is stopped: none is on its way through an fsync any more.
fn all_stopped(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("tasks");
    tasks.flatten().all(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    })
}

fn signal(child: &Writer, name: &str) {
    assert!(run("kill", &[name, &child.0.id().to_string()]), "kill {name}");
}

fn run(program: &str, args: &[&str]) -> bool {
    let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|s| s.success())
}

/// A mounted file system; unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: PathBuf, args: &[&str]) -> Option<Self> {
        fs::create_dir_all(&at).expect("mount point");
        let at_text = at.to_str().expect("text").to_owned();
        run("mount", &[args, &[&at_text]].concat()).then_some(Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let at = self.0.to_str().expect("text");
        if !run("umount", &[at]) {
            run("umount", &["-l", at]);
        }
    }
}

/// Mounts a fresh ext4 of 64 MiB, or says why it cannot.
fn fresh_ext4(dir: &Path) -> Option<(PathBuf, Mounted)> {
    let image = dir.join("image");
    let file = fs::File::create(&image).expect("image");
    file.set_len(64 << 20).expect("size");
    let text = image.to_str().expect("text");
    let mounted = run("mkfs.ext4", &["-q", "-F", text])
        .then(|| Mounted::new(dir.join("mnt"), &["-o", "loop", text]))
        .flatten();
    if mounted.is_none() {
        eprintln!("skipped: no ext4 on a loop device here (not root, no loop device, or no mkfs.ext4)");
    }
    mounted.map(|m| (image, m))
}

/// Cuts the power once the child has noted `enough`; what was acknowledged, and what the copy holds.
fn cut(dir: &Path, durability: &str, enough: u64) -> Option<((u64, u64), (u64, u64))> {
    let (image, mounted) = fresh_ext4(dir)?;
    // Made whole beforehand: the cut is about what the stores write.
    assert!(run("sync", &["-f", mounted.0.to_str().expect("text")]));
    let notes = dir.join("acknowledged");
    let mut child = spawn(&mounted.0, &notes, durability);
    until("the child writes", || noted(&notes).0 >= enough);
    signal(&child, "-STOP");
    until("the child stands still", || all_stopped(child.0.id()));
    let acknowledged = noted(&notes);
    let copy = dir.join("copy");
    fs::copy(&image, &copy).expect("copy");
    child.kill();
    drop(mounted);
    let after =
        Mounted::new(dir.join("after"), &["-o", "loop", copy.to_str().expect("text")]).expect("mounts");
    let log = open_log(&after.0, Durability::Disk);
    let found = (log.entries().end, check(&log, &after.0));
    drop(log);
    Some((acknowledged, found))
}

/// Checks every entry that is there; the end of the newest snapshot (0: none).
fn check(log: &SegmentLog, dir: &Path) -> u64 {
    let range = log.entries();
    for (got, index) in log.read(range.clone(), false).expect("readable").iter().zip(range.clone()) {
        assert_eq!(got[..], payload(index)[..], "entry {index}");
    }
    let newest = open_snaps(dir).latest().expect("readable").map_or(0, |(meta, data)| {
        let index = u64::from_le_bytes(meta.try_into().expect("8 bytes"));
        assert!(data == state(index), "snapshot {index} differs");
        index
    });
    assert!(newest >= range.start, "entries {newest}..{} are in neither store", range.start);
    newest
}

#[test]
fn a_power_cut_loses_nothing_that_log_or_snapshots_acknowledged() {
    for round in 0..8 {
        let dir = tempfile::tempdir().expect("folder");
        let Some((acknowledged, found)) = cut(dir.path(), "disk", 60 + round * 97) else { return };
        eprintln!("round {round}: acknowledged {acknowledged:?}, found {found:?}");
        assert!(found.0 >= acknowledged.0 && found.1 >= acknowledged.1, "{found:?} of {acknowledged:?}");
    }
}

/// The cut itself is tested: without fdatasync it must take something.
#[test]
fn the_same_cut_takes_entries_that_were_never_synced() {
    let dir = tempfile::tempdir().expect("folder");
    let Some((acknowledged, found)) = cut(dir.path(), "memory", SNAPSHOT_EVERY / 2) else { return };
    eprintln!("without syncs: acknowledged {acknowledged:?}, found {found:?}");
    assert!(found.0 < acknowledged.0, "nothing was lost: this is no power cut");
}

#[test]
fn kill_9_in_a_loop_loses_nothing_of_either_store() {
    let dir = tempfile::tempdir().expect("folder");
    let notes = dir.path().join("acknowledged");
    for round in 0..12 {
        let before = noted(&notes).0;
        let mut child = spawn(dir.path(), &notes, "disk");
        until("the child writes", || noted(&notes).0 >= before + 15 + round * 11);
        child.kill();
        let acknowledged = noted(&notes);
        let log = open_log(dir.path(), Durability::Disk);
        let found = (log.entries().end, check(&log, dir.path()));
        assert!(found.0 >= acknowledged.0 && found.1 >= acknowledged.1, "{found:?} of {acknowledged:?}");
    }
}

#[test]
fn a_full_disk_is_fatal_loses_nothing_and_is_survived_once_there_is_space() {
    let dir = tempfile::tempdir().expect("folder");
    let Some(disk) = Mounted::new(dir.path().join("small"), &["-t", "tmpfs", "-o", "size=6m", "none"]) else {
        eprintln!("skipped: no tmpfs can be mounted here (not root)");
        return;
    };
    let mut snaps = open_snaps(&disk.0);
    snaps.write(&7u64.to_le_bytes(), &state(7)).expect("the first snapshot fits");
    let writer = LogWriter::new(open_log(&disk.0, Durability::Disk), Mode::Thread).expect("writer");
    let mut next = 0;
    while write_one(&writer, next) {
        next += 1;
        assert!(next < 1_000_000, "the disk is never full");
    }
    let why = writer.fatal().borrow().clone().expect("fatal");
    assert!(why.contains("space"), "{why}");
    assert!(!write_one(&writer, next), "a failed log never works again");
    snaps.write(&8u64.to_le_bytes(), &state(8)).expect_err("no space for a snapshot either");
    drop(writer);
    let text = disk.0.to_str().expect("text").to_owned();
    assert!(run("mount", &["-o", "remount,size=64m", &text]), "more space");
    let log = open_log(&disk.0, Durability::Disk);
    assert!(log.entries().end >= next, "{:?} of {next}", log.entries());
    assert_eq!(check(&log, &disk.0), 7);
    let end = log.entries().end;
    let writer = LogWriter::new(log, Mode::Thread).expect("writer");
    assert!(write_one(&writer, end), "writes go on");
    drop(writer);
    let mut snaps = open_snaps(&disk.0);
    snaps.write(&9u64.to_le_bytes(), &state(9)).expect("snapshots go on");
    assert_eq!(check(&open_log(&disk.0, Durability::Disk), &disk.0), 9);
}
