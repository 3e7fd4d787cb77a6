//! The segment log and the snapshots in sled, side by side on a real file system as a node has them, through the same
//! losses: kill -9, power cut, full disk, failing fsync. What was acknowledged must be there afterwards.
//!
//! The last three need file systems of their own, so they need root and loop devices; without them they print why they
//! were skipped.

mod crash;

use std::fs;
use std::path::Path;

use crash::{Acknowledged, FOLDER, Mount, Stores, Writer, ext4};
use raft_store::disk::RealDisk;
use raft_store::log::{Identity, Limits, LogWriter, Mode, SegmentLog};
use raft_store::snap::{SledSnaps, SnapStore};

/// Not a test of its own: the writer that the others end.
#[test]
fn child_that_writes_both_stores_until_it_is_ended() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let mut stores = Stores::open(Path::new(&folder));
    loop {
        stores.step(|what, index| eprintln!("durable {what} {index}")).expect("a write");
    }
}

#[test]
fn kill_9_in_a_loop_loses_nothing_acknowledged_by_either_store() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut acked = Acknowledged::default();
    for round in 0..12 {
        let mut writer = Writer::start(dir.path(), acked);
        writer.wait_for(5 + round * 7);
        acked = writer.kill();
        Stores::open(dir.path()).check(acked);
    }
    assert!(acked.snapshot.is_some(), "no round reached a snapshot");
}

/// The image of the file system is copied while the writer is stopped: it holds what the file system has handed to the
/// disk, and nothing of what was only in memory. The recovered copy is the disk of the next round.
#[test]
fn power_cuts_lose_nothing_acknowledged_by_either_store() {
    const ROUNDS: u32 = 8;
    let dir = tempfile::tempdir().expect("a folder");
    let image = |n: u32| dir.path().join(format!("image-{n}"));
    let Some(mut disk) = ext4(&image(0), 64 << 20, &dir.path().join("0")) else {
        eprintln!("skipped: no file system of its own can be mounted here");
        return;
    };
    let (mut acked, mut unsynced_lost) = (Acknowledged::default(), 0);
    for round in 0..ROUNDS {
        let mut writer = Writer::start(&disk.0, acked);
        writer.wait_for(7 + round * 13);
        writer.stop();
        // The control: the same cut loses what nobody synced, or it would prove nothing.
        fs::write(disk.0.join(format!("unsynced-{round}")), vec![7; 4096]).expect("a file");
        fs::copy(image(round), image(round + 1)).expect("a copy");
        acked = writer.kill();
        let copy = image(round + 1);
        let from = copy.to_str().expect("a path in UTF-8");
        let next = Mount::new(&dir.path().join((round + 1).to_string()), &["-o", "loop", from]);
        drop(std::mem::replace(&mut disk, next.expect("the copy mounts")));
        fs::remove_file(image(round)).expect("removed");
        let control = fs::read(disk.0.join(format!("unsynced-{round}"))).unwrap_or_default();
        unsynced_lost += u32::from(control != [7; 4096]);
        Stores::open(&disk.0).check(acked);
    }
    assert!(unsynced_lost > 0, "the cut lost nothing at all: it is no power cut");
    assert!(acked.snapshot.is_some(), "no round reached a snapshot");
}

/// Steps until the log has failed for good; notes what was acknowledged before, and says why it failed.
fn until_it_fails(stores: &mut Stores, acked: &mut Acknowledged) -> String {
    for _ in 0..100_000 {
        // A snapshot that fails ends nothing: the log goes on and keeps what the snapshot would have replaced.
        let result = stores.step(|what, index| acked.note(what, index));
        if let Some(why) = stores.writer.fatal().borrow().clone() {
            assert!(result.is_err(), "the write that failed was acknowledged");
            return why;
        }
    }
    panic!("100,000 writes did not fill the disk");
}

#[test]
fn a_full_disk_keeps_the_log_waiting_until_there_is_room_and_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(disk) = Mount::new(&dir.path().join("full"), &["-t", "tmpfs", "-o", "size=24m", "tmpfs"]) else {
        eprintln!("skipped: no file system of its own can be mounted here");
        return;
    };
    let mut acked = Acknowledged::default();
    let mut stores = Stores::open(&disk.0);
    for _ in 0..40 {
        stores.step(|what, index| acked.note(what, index)).expect("there is room");
    }
    // Another program takes what is left.
    let filler = disk.0.join("filler");
    fill(&filler);
    let (gauge, fatal) = (stores.writer.gauge(), stores.writer.fatal());
    let begun = acked.entries;
    let writing = std::thread::spawn(move || {
        // A snapshot that fails ends nothing: the log keeps what it would have replaced.
        while acked.entries < begun + 2_000 {
            if let Err(e) = stores.step(|what, index| acked.note(what, index)) {
                assert!(raft_store::disk::lacks_room(&e), "{e}");
            }
        }
        (stores, acked)
    });
    while gauge.syncs().no_room.is_none() {
        assert!(!writing.is_finished(), "2,000 entries did not fill the disk");
        std::thread::yield_now();
    }
    assert!(fatal.borrow().is_none(), "a full disk ends nothing");
    fs::remove_file(filler).expect("removed");
    let (mut stores, acked) = writing.join().expect("it has gone on by itself");
    stores.check(acked);
    drop(stores);
    Stores::open(&disk.0).check(acked);
}

/// Takes all the space there is.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(path).expect("a file");
    for size in [1 << 20, 4096] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

#[test]
fn reading_the_snapshots_on_a_full_disk_sets_no_good_one_aside() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(disk) = Mount::new(&dir.path().join("full"), &["-t", "tmpfs", "-o", "size=16m", "tmpfs"]) else {
        eprintln!("skipped: no file system of its own can be mounted here");
        return;
    };
    let mut stores = Stores::open(&disk.0);
    let mut acked = Acknowledged::default();
    stores.step(|what, index| acked.note(what, index)).expect("there is room");
    fill(&disk.0.join("filler"));
    // An error is a good answer here; taking the generation for a damaged one is not.
    if let Ok(found) = stores.snaps.latest() {
        assert_eq!(found.map(|(meta, _)| meta), Some(0u64.to_le_bytes().to_vec()));
    }
    fs::remove_file(disk.0.join("filler")).expect("removed");
    stores.check(acked);
}

/// A process that is being started shares every open file, and with it sled's lock, until it runs its own program.
#[test]
fn a_generation_that_is_locked_for_a_moment_is_not_taken_for_a_damaged_one() {
    use nix::fcntl::{Flock, FlockArg};
    let dir = tempfile::tempdir().expect("a folder");
    let snaps = SledSnaps::open(dir.path()).expect("opens");
    snaps.write(b"meta", b"data").expect("writes");
    let db = fs::File::open(dir.path().join("gen-0000000000000000/db")).expect("its file");
    let lock = Flock::lock(db, FlockArg::LockExclusive).expect("the lock");
    let e = snaps.latest().expect_err("it is locked");
    assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock, "{e}");
    drop(lock);
    assert_eq!(snaps.latest().expect("reads"), Some((b"meta".to_vec(), b"data".to_vec())));
}

/// A disk under the file system that takes no more writes: its image lies on another file system that is full.
#[test]
fn a_failing_fsync_is_fatal_and_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("a folder");
    let below = dir.path().join("below");
    let Some(below) = Mount::new(&below, &["-t", "tmpfs", "-o", "size=80m", "tmpfs"]) else {
        eprintln!("skipped: no file system of its own can be mounted here");
        return;
    };
    let (image, folder) = (below.0.join("image"), dir.path().join("above"));
    let Some(disk) = ext4(&image, 64 << 20, &folder) else {
        eprintln!("skipped: no loop device can be mounted here");
        return;
    };
    let mut acked = Acknowledged::default();
    let mut stores = Stores::open(&disk.0);
    for _ in 0..20 {
        stores.step(|what, index| acked.note(what, index)).expect("the disk works");
    }
    fill(&below.0.join("filler"));
    let why = until_it_fails(&mut stores, &mut acked);
    assert!(why.contains("Input/output error"), "{why}");
    drop(stores);
    drop(disk);
    fs::remove_file(below.0.join("filler")).expect("removed");
    let image = image.to_str().expect("a path in UTF-8");
    let disk = Mount::new(&dir.path().join("again"), &["-o", "loop", image]).expect("the image mounts again");
    Stores::open(&disk.0).check(acked);
    drop(disk);
}

/// Sectors of 512 bytes that the device below `folder` has written.
fn sectors_written(folder: &Path) -> Option<u64> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let mount = mounts.lines().find(|l| l.split(' ').nth(1) == folder.to_str())?;
    let device = mount.split(' ').next()?.strip_prefix("/dev/")?;
    let stats = fs::read_to_string("/proc/diskstats").ok()?;
    let line = stats.lines().find(|l| l.split_whitespace().nth(2) == Some(device))?;
    line.split_whitespace().nth(9)?.parse().ok()
}

/// On ext4 with a journal, as customers have it: a file that grows costs four times as much.
#[test]
fn a_commit_costs_the_disk_no_more_than_a_page_and_a_half() {
    const COMMITS: u64 = 2_000;
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("0");
    let Some(disk) = ext4(&dir.path().join("image"), 64 << 20, &folder) else {
        eprintln!("skipped: no file system of its own can be mounted here");
        return;
    };
    let real = std::sync::Arc::new(RealDisk::new(disk.0.join("log")).expect("the log's folder"));
    let (log, _) = SegmentLog::open(real, Identity::new("lab", 1), Limits::default()).expect("a log");
    let writer = LogWriter::new(log, Mode::Thread).expect("a writer");
    let (tx, rx) = std::sync::mpsc::channel();
    let before = sectors_written(&disk.0);
    let mut times = Vec::new();
    for index in 0..COMMITS {
        let tx = tx.clone();
        let begun = std::time::Instant::now();
        let write = |log: &mut SegmentLog| {
            // The mark of the entry before, which nobody waits for.
            log.save_committed(&index.to_le_bytes())?;
            log.append(index, &[vec![b'x'; 360]])
        };
        writer.write(write, Box::new(move |r| tx.send(r.is_ok()).expect("the test waits")));
        assert!(rx.recv().expect("an answer"));
        times.push(begun.elapsed());
    }
    let (Some(before), Some(after)) = (before, sectors_written(&disk.0)) else {
        eprintln!("skipped: the device says nothing of what it writes");
        return;
    };
    times.sort_unstable();
    let bytes = (after - before) * 512 / COMMITS;
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    eprintln!("{bytes} bytes a commit, p50 {p50:?}, p99 {p99:?}");
    assert!(bytes <= 6_144, "{bytes} bytes a commit");
}
