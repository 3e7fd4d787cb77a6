//! What a data folder is found to be, and how a store is put in the place of another.

use std::fs;
use std::path::Path;

use super::*;
use crate::codec::{self, Kind};
use crate::node::rebirth::{INDEX_GAP, birth_of};
use crate::node::types::{Role, Vote};
use crate::snap::SnapStore;

fn lock(data: &Path) -> Store {
    Store::lock(data, "lab", 2, Durability::Disk).expect("locked")
}

fn name(found: &Found) -> &'static str {
    match found {
        Found::Empty => "empty",
        Found::Whole(_) => "whole",
        Found::Damaged(_) => "damaged",
    }
}

/// A store that has been used: a vote is in its log.
fn used(data: &Path) {
    let opened = lock(data).create(raft_id(0, 2)).expect("made");
    let vote = codec::encode(Kind::Vote, &Vote::new(3, 2)).expect("encodes");
    opened.log.writer().with(|log| log.save_vote(&vote).and_then(|()| log.sync())).expect("written");
}

/// Both copies of it.
fn flip_meta(data: &Path) {
    for name in ["META", "META.copy"] {
        flip(&data.join("store/log").join(name), 5);
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("read");
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("written");
}

#[test]
fn nothing_and_something_that_does_not_open_are_different() {
    let dir = tempfile::tempdir().expect("a folder");
    assert_eq!(name(&lock(dir.path()).open().expect("opens")), "empty");
    used(dir.path());
    assert_eq!(name(&lock(dir.path()).open().expect("opens")), "whole");
    let store = lock(dir.path());
    store.set_aside("a test").expect("set aside");
    let Found::Damaged(damage) = store.open().expect("opens") else { panic!("it may not begin") };
    assert!(damage.to_string().contains("set-aside-"), "{damage}");
}

#[test]
fn a_damaged_meta_is_named_and_stays_where_it_is() {
    let dir = tempfile::tempdir().expect("a folder");
    used(dir.path());
    let meta = dir.path().join("store/log/META");
    flip_meta(dir.path());
    for _ in 0..2 {
        let Found::Damaged(damage) = lock(dir.path()).open().expect("opens") else { panic!("damaged") };
        assert_eq!(damage.file, meta);
    }
    fs::remove_file(&meta).expect("removed");
    assert_eq!(name(&lock(dir.path()).open().expect("opens")), "damaged", "its log holds a vote");
}

#[test]
fn a_damaged_id_is_written_again_from_meta_and_without_that_it_is_said_in_words() {
    let dir = tempfile::tempdir().expect("a folder");
    used(dir.path());
    let id = dir.path().join("store/id");
    let good = fs::read(&id).expect("read");
    for bad in [&b""[..], b"\xff\xfe", b"format 1\n", &good[..good.len() / 2]] {
        fs::write(&id, bad).expect("written");
        assert_eq!(name(&lock(dir.path()).open().expect("opens")), "whole");
        assert_eq!(fs::read(&id).expect("read"), good);
    }
    fs::write(&id, b"\xff\xfe").expect("written");
    flip_meta(dir.path());
    let Found::Damaged(damage) = lock(dir.path()).open().expect("opens") else { panic!("damaged") };
    assert!(damage.file == id && damage.why.contains("no text"), "{damage}");
}

#[test]
fn a_store_whose_making_was_cut_short_never_was() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(dir.path().join("store/log")).expect("made");
    fs::write(dir.path().join("store/id"), identity::text("lab", 2, 2)).expect("written");
    fs::write(dir.path().join("store/log/0000000000000000.seg"), [0; 64]).expect("written");
    assert_eq!(name(&lock(dir.path()).open().expect("opens")), "empty");
}

#[test]
fn whatever_is_gone_from_a_store_that_was_used_it_is_never_taken_for_a_new_one() {
    let segment = "0000000000000000.seg";
    let gone: [&[&str]; 9] = [
        &["store"],
        &["store/log"],
        &["store/log/META", "store/log/META.copy"],
        &["store/log/META", "store/log/META.copy", "store/log/SEAL"],
        &["store/log/META", "store/log/META.copy", "store/log/0000000000000000.seg"],
        &["store/log/META", "store/log/0000000000000000.seg"],
        &["store/log/META.copy", "store/log/0000000000000000.seg"],
        &["store/log/SEAL", "store/log/0000000000000000.seg", "store/log/META"],
        &["store/log/0000000000000000.seg"],
    ];
    for files in gone {
        let dir = tempfile::tempdir().expect("a folder");
        used(dir.path());
        for file in files {
            let path = dir.path().join(file);
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removed");
        }
        for _ in 0..2 {
            assert_eq!(name(&lock(dir.path()).open().expect("opens")), "damaged", "{files:?}");
        }
    }
    // Zeros in place of all records, too.
    let dir = tempfile::tempdir().expect("a folder");
    used(dir.path());
    let path = dir.path().join("store/log").join(segment);
    let len = fs::read(&path).expect("read").len();
    fs::write(&path, vec![0; len]).expect("written");
    fs::remove_file(dir.path().join("store/log/META")).expect("removed");
    assert_eq!(name(&lock(dir.path()).open().expect("opens")), "damaged");
}

#[test]
fn the_newest_store_that_was_set_aside_is_the_last_one_whatever_the_clock_shows() {
    let dir = tempfile::tempdir().expect("a folder");
    let later = format!("set-aside-{}", u64::from(u32::MAX) * 10);
    for earlier in ["set-aside-1800000000", &later] {
        fs::create_dir_all(dir.path().join(earlier)).expect("made");
    }
    let store = lock(dir.path());
    for n in 0..3 {
        drop(store.create(raft_id(0, 2)).expect("made"));
        let aside = store.set_aside("a test").expect("set aside");
        assert_eq!(store.newest_aside().expect("reads"), Some(aside.clone()), "{n}");
        store.forget_old_asides();
        assert!(aside.exists(), "{n}");
    }
    let left = fs::read_dir(dir.path()).expect("read").flatten();
    let left = left.filter(|e| e.file_name().to_string_lossy().starts_with("set-aside-"));
    assert_eq!(left.count(), aside::KEPT_ASIDE);
}

#[test]
fn a_store_made_from_a_state_begins_beyond_the_former_one_and_keeps_that() {
    let dir = tempfile::tempdir().expect("a folder");
    used(dir.path());
    let store = lock(dir.path());
    let mut state = ClusterState::default();
    state.apply(1, &crate::command::Command::Drain { place: 2, drained: true });
    let member = Member { addr: ([127, 0, 0, 1], 7002).into(), role: Role::Appliance };
    let id = store.begin_from(&state, Position { term: 3, index: 433 }, member).expect("begun");
    assert!(incarnation_of(id) > 0 && place_of(id) == 2);
    let Found::Whole(opened) = store.open().expect("opens") else { panic!("whole") };
    assert_eq!(opened.id, id);
    let (meta, data) = opened.snaps.latest().expect("reads").expect("a snapshot");
    let meta: openraft::type_config::alias::SnapshotMetaOf<TypeConfig> =
        codec::decode(Kind::SnapshotMeta, &meta).expect("decodes");
    let last = meta.last_log_id.expect("a position");
    assert_eq!(last.index, 433 + INDEX_GAP);
    assert!(meta.last_membership.membership().voter_ids().eq([id]));
    assert_eq!(codec::decode::<ClusterState>(Kind::Snapshot, &data).expect("decodes"), state);
    let vote: Vote = opened
        .log
        .writer()
        .with(|log| log.vote().map(|bytes| codec::decode(Kind::Vote, bytes)))
        .expect("a vote")
        .expect("decodes");
    assert!(birth_of(vote.leader_id.term) > 0);
    let asides = fs::read_dir(dir.path()).expect("read").flatten();
    let asides = asides.filter(|e| e.file_name().to_string_lossy().starts_with("set-aside-"));
    assert_eq!(asides.count(), 1, "the former store is kept");
}

#[test]
fn a_power_cut_while_a_store_is_put_in_place_leaves_the_one_or_the_other() {
    let dir = tempfile::tempdir().expect("a folder");
    let whole = dir.path().join("a");
    used(&whole);
    let new = |to: &Path| {
        let other = dir.path().join("b");
        let _ = fs::remove_dir_all(&other);
        used(&other);
        fs::rename(other.join("store"), to).expect("moved");
    };
    // The former store is still there: the command has not come to its end.
    new(&whole.join("store.new"));
    assert_eq!(name(&lock(&whole).open().expect("opens")), "whole");
    assert!(!whole.join("store.new").exists());
    // It was set aside already: the new one takes its place.
    lock(&whole).set_aside("a test").expect("set aside");
    new(&whole.join("store.new"));
    assert_eq!(name(&lock(&whole).open().expect("opens")), "whole");
}
