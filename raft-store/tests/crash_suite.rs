//! One suite over the log and both snapshot stores: each scenario is the same for all of them. Every store counts what
//! it acknowledged; after each fault at least that must be there, and nothing that was never written.

use std::path::Path;
use std::sync::Arc;

use raft_store::disk::sim::SimDisk;
use raft_store::disk::{Disk, DiskFile};
use raft_store::log::{Identity, Limits, SegmentLog};
use raft_store::snap::{FileSnaps, SledSnaps, SnapStore};

fn data(n: u64) -> Vec<u8> {
    n.to_le_bytes().repeat(1 + (n % 300) as usize)
}

/// A store that takes the numbers 1, 2, 3 ... and says how far it has got.
trait Store {
    fn write(&mut self, n: u64) -> bool;
}

struct Log(SegmentLog);

impl Store for Log {
    fn write(&mut self, n: u64) -> bool {
        self.0.append(n - 1, &[data(n)]).and_then(|()| self.0.sync()).is_ok()
    }
}

struct Snaps<S>(S);

impl<S: SnapStore> Store for Snaps<S> {
    fn write(&mut self, n: u64) -> bool {
        self.0.write(&n.to_le_bytes(), &data(n)).is_ok()
    }
}

fn newest(store: &mut dyn SnapStore) -> u64 {
    store.latest().expect("readable").map_or(0, |(meta, found)| {
        let n = u64::from_le_bytes(meta.try_into().expect("8 bytes"));
        assert_eq!(found, data(n), "snapshot {n}");
        n
    })
}

/// Opens a store on the disk, and how far it had got.
type Open = fn(&SimDisk) -> (Box<dyn Store>, u64);

fn log(disk: &SimDisk) -> (Box<dyn Store>, u64) {
    let limits = Limits { segment_bytes: 4000, ..Limits::default() };
    let (log, _) = SegmentLog::open(Arc::new(disk.clone()), Identity::new("lab", 1), limits).expect("opens");
    let range = log.entries();
    for (got, n) in log.read(range.clone(), false).expect("readable").iter().zip(range.start + 1..) {
        assert_eq!(got[..], data(n)[..], "entry {n}");
    }
    let end = range.end;
    (Box::new(Log(log)), end)
}

fn files(disk: &SimDisk) -> (Box<dyn Store>, u64) {
    let mut snaps = FileSnaps::new(Arc::new(disk.clone()));
    let n = newest(&mut snaps);
    (Box::new(Snaps(snaps)), n)
}

const SIMULATED: [(&str, Open); 2] = [("log", log), ("files", files)];

/// Writes until `fault` has made a write fail (or `most` are made), cuts the power, opens again.
fn survive(name: &str, open: Open, seed: u64, most: u64, fault: impl Fn(&SimDisk)) {
    let disk = SimDisk::new();
    let (mut store, _) = open(&disk);
    let mut acknowledged = 0;
    while acknowledged < 3 + seed % 5 {
        assert!(store.write(acknowledged + 1), "{name}: a healthy disk");
        acknowledged += 1;
    }
    fault(&disk);
    let mut tried = acknowledged;
    while tried < most {
        tried += 1;
        if !store.write(tried) {
            break;
        }
        acknowledged = tried;
    }
    drop(store);
    disk.fail_sync(None);
    disk.set_capacity(None);
    disk.crash(seed);
    let (mut store, found) = open(&disk);
    assert!(
        (acknowledged..=tried).contains(&found),
        "{name}, seed {seed}: {found}, not {acknowledged}..={tried}"
    );
    assert!(store.write(found + 1), "{name}, seed {seed}: it goes on");
    drop(store);
    disk.crash(seed + 1);
    assert_eq!(open(&disk).1, found + 1, "{name}, seed {seed}: after it went on");
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_acknowledged() {
    for (name, open) in SIMULATED {
        for seed in 0..200 {
            survive(name, open, seed, 3 + seed % 40, |_| {});
        }
    }
}

#[test]
fn a_failing_fsync_acknowledges_nothing_and_loses_nothing() {
    for (name, open) in SIMULATED {
        for seed in 0..200 {
            survive(name, open, seed, 1000, |disk| disk.fail_sync(Some(seed % 7)));
        }
    }
}

#[test]
fn a_full_disk_acknowledges_nothing_and_loses_nothing() {
    for (name, open) in SIMULATED {
        for seed in 0..200 {
            survive(name, open, seed, 1000, |disk| disk.set_capacity(Some(disk.used() + seed * 31)));
        }
    }
}

/// sled writes to the real file system: there, what a write leaves behind when it is cut off at any file stands for
/// the fault (power cut, kill -9 and full disk of a real one are in `crash_both`).
#[test]
fn an_interrupted_generation_in_sled_is_removed_and_the_last_one_stays() {
    let dir = tempfile::tempdir().expect("folder");
    let mut n = 0;
    let leave = |what: &Path| {
        std::fs::create_dir_all(what).expect("folder");
        std::fs::write(what.join("db"), [0; 100]).expect("file");
    };
    for round in 0..6u64 {
        let mut snaps = SledSnaps::open(dir.path()).expect("opens");
        assert_eq!(newest(&mut snaps), n);
        let mut store = Snaps(snaps);
        n += 1;
        assert!(store.write(n));
        leave(&dir.path().join("new"));
        if round % 2 == 0 {
            // One with the same number may have been set aside before.
            for prefix in ["gen", "bad"] {
                leave(&dir.path().join(format!("{prefix}-{:016x}", 0x1000 * (round + 1))));
            }
            assert_eq!(newest(&mut store.0), n, "half a generation does not count");
        }
    }
}

/// The handle type is part of the seam: a file opened before the cut must not write after it.
#[test]
fn a_handle_from_before_the_cut_is_dead() {
    let disk = SimDisk::new();
    let file: Arc<dyn DiskFile> = disk.create("f").expect("creates");
    disk.crash(1);
    file.write_at(0, b"x").expect_err("dead");
}
