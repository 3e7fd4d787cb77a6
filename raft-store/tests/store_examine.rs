//! What `relevo store check` sees in the store of a node that is stopped, and the newest state that is left of it.

#[expect(dead_code, reason = "each test file uses a part of it")]
mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Cluster, register};
use raft_store::disk::RealDisk;
use raft_store::log::{Durability, Limits, SegmentLog};
use raft_store::node::examine::examine;

/// Registrations, each of them acknowledged.
const USERS: u64 = 60;

/// A node alone with registrations, stopped in order; and its store.
fn stopped() -> (Cluster, PathBuf) {
    let mut cluster = Cluster::start(1);
    for n in 0..USERS {
        cluster.commit(&register(&format!("user{n}"), 1));
    }
    cluster.down(1);
    let root = cluster.data(1).join("store");
    (cluster, root)
}

fn files(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(root.join("log")).expect("the log").flatten() {
        out.push((entry.path(), std::fs::read(entry.path()).expect("readable")));
    }
    out.sort();
    out
}

#[test]
fn a_store_that_is_whole_is_called_so_and_holds_everything() {
    let (_cluster, root) = stopped();
    let before = files(&root);
    let (report, newest) = examine(&root, Durability::Disk, true).expect("readable");
    assert!(report.good && report.missing.is_none(), "{report:?}");
    assert!(report.parts.iter().all(|p| p.good), "{report:?}");
    assert_eq!(newest.expect("a state").state.counts().bindings, USERS);
    assert_eq!(files(&root), before, "looking changes nothing");
}

#[test]
fn each_third_of_each_file_is_damaged_and_the_newest_state_is_told_with_what_is_missing() {
    let (_cluster, root) = stopped();
    let whole = files(&root);
    for (path, bytes) in &whole {
        let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |p| p + 1);
        for third in [used / 6, used / 2, used * 5 / 6] {
            let mut damaged = bytes.clone();
            damaged[third] ^= 0x10;
            std::fs::write(path, &damaged).expect("damaged");
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let before = files(&root);
            let (report, newest) = examine(&root, Durability::Disk, true).expect("readable");
            assert_eq!(files(&root), before, "{name}: looking changes nothing");
            let part = report.parts.iter().find(|p| p.path == *path).expect("it is named");
            assert!(!part.good || damaged == *bytes || name == "SEAL", "{name} at {third}: {part:?}");
            let newest = newest.expect("a state");
            if name.ends_with(".seg") {
                assert!(!report.good, "{report:?}");
                let (first, last) = report.missing.expect("something is missing");
                assert_eq!((first, last.is_some()), (report.newest.expect("a state") + 1, true));
                assert!(newest.state.counts().bindings < USERS);
                assert!(report.log.contains(&name) && report.log.contains("at byte"), "{}", report.log);
            } else {
                assert!(report.good, "one copy is enough: {report:?}");
                assert_eq!(newest.state.counts().bindings, USERS);
            }
            std::fs::write(path, bytes).expect("mended");
        }
    }
}

#[test]
fn a_log_that_is_cut_to_half_of_what_was_written_names_the_entries_that_are_missing() {
    let (_cluster, root) = stopped();
    let (path, bytes) =
        files(&root).into_iter().find(|(p, _)| p.extension().is_some_and(|e| e == "seg")).expect("one");
    let used = bytes.iter().rposition(|b| *b != 0).expect("records");
    std::fs::write(&path, &bytes[..used / 2]).expect("cut");
    let (report, newest) = examine(&root, Durability::Disk, true).expect("readable");
    let newest = newest.expect("a state");
    let left = newest.state.counts().bindings;
    assert!(!report.good && left > 0 && left < USERS, "{left} of {USERS}: {report:?}");
    let (first, last) = report.missing.expect("a range");
    assert!(first <= USERS && last >= Some(USERS), "{first} to {last:?}");
    assert!(newest.beyond >= last.expect("known"), "what begins from it is beyond all that was promised");
}

#[test]
fn a_log_that_no_snapshot_reaches_up_to_is_not_whole_though_all_of_it_verifies() {
    let (_cluster, root) = stopped();
    let (whole, _) = examine(&root, Durability::Disk, false).expect("readable");
    assert!(whole.good && whole.missing.is_none(), "{whole:?}");
    // As after a snapshot that is not there any more.
    let disk = Arc::new(RealDisk::new(root.join("log")).expect("the log"));
    let owner = raft_store::log::owner(&*disk).expect("META");
    let (mut log, _) = SegmentLog::open(disk, owner, Limits::default()).expect("opens");
    log.purge(USERS / 2, b"mark").expect("purged");
    log.sync().expect("synced");
    drop(log);
    let (report, newest) = examine(&root, Durability::Disk, true).expect("readable");
    assert!(!report.good && report.newest.is_none() && newest.is_none(), "{report:?}");
    assert_eq!(report.missing, Some((0, whole.newest)), "{report:?}");
    assert!(report.log.contains("no snapshot"), "{}", report.log);
}
