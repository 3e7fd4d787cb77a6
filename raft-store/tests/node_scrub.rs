//! Damage to the disk of a running node is found and replaced from what the node has applied.

#[expect(dead_code, reason = "each test file uses a part of it")]
mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Cluster, register, until};
use raft_store::disk::RealDisk;
use raft_store::log::Durability;
use raft_store::node::examine::examine;
use raft_store::node::schedule::Schedule;
use raft_store::node::scrub::Pace;
use raft_store::node::{Node, NodeConfig};
use raft_store::snap::SledSnaps;

const USERS: u64 = 30;

#[test]
fn a_flipped_bit_in_the_log_of_a_running_node_is_replaced_from_its_own_state() {
    let mut cluster = Cluster::prepare(1);
    let scrub = Pace { every: Duration::from_millis(50), bytes_per_second: 100 << 20 };
    let config = NodeConfig { scrub, ..cluster.config(1) };
    cluster.nodes[0] = Some(Node::start(config).expect("the node starts"));
    for n in 0..USERS {
        cluster.commit(&register(&format!("user{n}"), 1));
    }
    let path = cluster.data(1).join("store/log/0000000000000000.seg");
    let bytes = std::fs::read(&path).expect("a segment");
    let at = bytes.iter().rposition(|b| *b != 0).expect("records") / 2;
    let file = std::fs::File::options().write(true).open(&path).expect("opens");
    file.write_all_at(&[bytes[at] ^ 0x10], at as u64).expect("damaged");
    until("the damaged file has gone", || (!path.exists()).then_some(()));
    cluster.commit(&register("another", 1));
    // What is left is whole.
    cluster.down(1);
    cluster.up(1);
    until("everything", || cluster.node(1).read(|s| (s.counts().bindings == USERS + 1).then_some(())));
}

/// The files of a store, without what is only made ready or locked.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with("bad-") {
                out.extend(files(&path));
            }
        } else if !name.starts_with("ready") {
            out.push(path);
        }
    }
    out.sort();
    out
}

#[test]
fn a_byte_flipped_in_each_file_of_a_running_node_in_turn_is_replaced_and_nothing_is_lost() {
    let mut cluster = Cluster::prepare(1);
    let scrub = Pace { every: Duration::from_millis(50), bytes_per_second: 100 << 20 };
    // So that there are two snapshots, and a log behind them.
    let snapshots = Schedule { floor_bytes: 16 << 10, slot_entries: 1, ..Schedule::default() };
    let config = NodeConfig { scrub, snapshots, ..cluster.config(1) };
    cluster.nodes[0] = Some(Node::start(config).expect("the node starts"));
    let root = cluster.data(1).join("store");
    let generations = || {
        let folder = std::fs::read_dir(root.join("snap")).into_iter().flatten().flatten();
        folder.filter(|e| e.file_name().to_string_lossy().starts_with("gen-")).count()
    };
    let mut users = 0;
    while generations() < 2 {
        cluster.commit(&register(&format!("user{users}"), 1));
        users += 1;
    }
    // One of each kind; what is there changes with each that is replaced.
    let mut tried = BTreeSet::new();
    while let Some(path) = files(&root).into_iter().find(|path| !tried.contains(&kind(path))) {
        // A snapshot in whose place another has come is not there any more.
        let Ok(bytes) = std::fs::read(&path) else { continue };
        tried.insert(kind(&path));
        let Some(last) = bytes.iter().rposition(|b| *b != 0) else { continue };
        // Between the two copies of the seal there is nothing.
        let at = if path.ends_with("SEAL") { last - 5 } else { last / 2 };
        let file = std::fs::File::options().write(true).open(&path).expect("opens");
        file.write_all_at(&[bytes[at] ^ 0x10], at as u64).expect("damaged");
        drop(file);
        let name = path.strip_prefix(&root).expect("in the store").display().to_string();
        until(&format!("{name} at byte {at} is mended or gone"), || {
            let now = std::fs::read(&path).ok();
            let is_mended = now.as_ref().is_none_or(|now| now.get(at) == Some(&bytes[at]));
            // The seal goes on meanwhile: what counts is that both of its copies verify.
            let is_sealed = name.ends_with("SEAL") && whole(&root, "SEAL");
            let is_replaced = is_mended && generations() > 0;
            (is_replaced || is_sealed || harmless(&path, &bytes, at)).then_some(())
        });
        cluster.commit(&register(&format!("user{users}"), 1));
        users += 1;
    }
    for expected in ["id", "META", "META.copy", "SEAL", "seg", "conf", "db"] {
        assert!(tried.contains(expected), "{expected} is not among {tried:?}");
    }
    cluster.down(1);
    let (report, _) = examine(&root, Durability::Disk, false).expect("readable");
    assert!(report.good, "{report:?}");
    cluster.up(1);
    until("everything", || cluster.node(1).read(|s| (s.counts().bindings == users).then_some(())));
}

/// What a file is: its name, or what it has in common with others of its kind.
fn kind(path: &Path) -> String {
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    if path.parent().is_some_and(|parent| parent.ends_with("blobs")) {
        return "blob".into();
    }
    match name.split_once('.') {
        Some((_, "seg")) => "seg".into(),
        Some(("snap", _)) => "snap".into(),
        _ => name,
    }
}

/// Whether the file `name` of the log verifies now.
fn whole(root: &Path, name: &str) -> bool {
    let disk = RealDisk::new(root.join("log")).expect("the log");
    let all = raft_store::log::inspect(&disk).expect("readable");
    all.iter().any(|file| file.name == name && file.good)
}

/// Whether this byte of a snapshot's database means nothing: a copy of the folder with it verifies.
fn harmless(path: &Path, bytes: &[u8], at: usize) -> bool {
    let folder = path.parent().expect("a folder");
    let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
    if !name.starts_with("gen-") {
        return false;
    }
    let copy = tempfile::tempdir().expect("a folder");
    let to = copy.path().join(&name);
    std::fs::create_dir(&to).expect("made");
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let _ = std::fs::copy(entry.path(), to.join(entry.file_name()));
    }
    let mut damaged = bytes.to_vec();
    damaged[at] ^= 0x10;
    std::fs::write(to.join(path.file_name().expect("a name")), damaged).expect("written");
    let snaps = SledSnaps::open(copy.path()).expect("opens");
    snaps.verify().expect("reads").is_empty()
}
