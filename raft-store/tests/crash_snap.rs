//! Snapshot generations: both stores keep the newest good one, whatever happens to the newest.

use std::fs;
use std::sync::Arc;

use raft_store::disk::Disk;
use raft_store::disk::sim::SimDisk;
use raft_store::snap::{FileSnaps, SledSnaps, SnapStore};

fn data(n: u8) -> Vec<u8> {
    (0..700_000u32).map(|i| (i % 251) as u8 ^ n).collect()
}

fn newest_wins(store: &mut dyn SnapStore) {
    assert_eq!(store.latest().expect("empty"), None);
    for n in 0..5 {
        store.write(&[n], &data(n)).expect("write");
        assert_eq!(store.latest().expect("latest"), Some((vec![n], data(n))));
    }
}

#[test]
fn newest_generation_wins_in_files() {
    let disk = SimDisk::new();
    newest_wins(&mut FileSnaps::new(Arc::new(disk.clone())));
    assert_eq!(disk.list().expect("list").len(), 2);
}

#[test]
fn newest_generation_wins_in_sled() {
    let dir = tempfile::tempdir().expect("folder");
    newest_wins(&mut SledSnaps::open(dir.path()).expect("open"));
    assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 2);
}

#[test]
fn a_damaged_generation_is_set_aside_and_the_older_one_is_used_in_sled() {
    let dir = tempfile::tempdir().expect("folder");
    let store = SledSnaps::open(dir.path()).expect("open");
    store.write(b"a", b"old").expect("write");
    store.write(b"b", b"new").expect("write");
    fs::write(dir.path().join("gen-0000000000000001/db"), vec![7; 4096]).expect("damage");
    assert_eq!(store.latest().expect("latest"), Some((b"a".to_vec(), b"old".to_vec())));
    assert!(dir.path().join("bad-0000000000000001").exists());
}

#[test]
fn a_generation_that_another_holds_for_a_moment_is_not_set_aside() {
    let dir = tempfile::tempdir().expect("folder");
    let store = SledSnaps::open(dir.path()).expect("open");
    store.write(b"a", b"good").expect("write");
    let path = dir.path().join("gen-0000000000000000");
    let holder = fs::File::open(path.join("db")).expect("open");
    holder.lock().expect("lock");
    let (begun, wait) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        begun.send(()).expect("the test waits");
        store.latest()
    });
    wait.recv().expect("begun");
    assert!(path.exists(), "it stays where it is");
    drop(holder);
    let found = reader.join().expect("no panic").expect("readable");
    assert_eq!(found, Some((b"a".to_vec(), b"good".to_vec())));
}

#[test]
fn a_power_cut_during_a_write_leaves_the_older_or_the_newer_snapshot() {
    for seed in 0..100 {
        let disk = SimDisk::new();
        let store = FileSnaps::new(Arc::new(disk.clone()));
        store.write(b"a", b"old").expect("write");
        disk.fail_sync(Some(seed % 2));
        assert!(store.write(b"b", &data(1)[..5000]).is_err());
        disk.fail_sync(None);
        disk.crash(seed);
        let got = store.latest().expect("latest").expect("a snapshot");
        assert!(got.0 == b"a" || got.1 == data(1)[..5000]);
    }
}
