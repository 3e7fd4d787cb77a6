//! All nodes lose their power at once, and none can prove that it has all it acknowledged.

#[expect(dead_code, reason = "each test file uses a part of it")]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Cluster, register, throughout, until};
use raft_store::log::{BootId, Durability, Ground};
use raft_store::node::{Node, NodeConfig, Place};

const USERS: u64 = 30;

fn filled() -> Cluster {
    let cluster = Cluster::start(3);
    for n in 0..USERS {
        cluster.commit(&register(&format!("user{n}"), 1));
    }
    cluster.settle();
    cluster
}

fn seal(cluster: &Cluster, place: Place) -> PathBuf {
    cluster.data(place).join("store/log/SEAL")
}

/// Nobody can prove any more where the log ends.
fn doubt(cluster: &Cluster, place: Place) {
    fs::write(seal(cluster, place), [0_u8; 8192]).expect("written");
}

/// A claim beyond the end: the last records are gone, and the seal says that they were there.
fn prove_a_loss(cluster: &Cluster, place: Place) {
    let path = cluster.data(place).join("store/log/0000000000000000.seg");
    let mut bytes = fs::read(&path).expect("a segment");
    let end = bytes.iter().rposition(|b| *b != 0).expect("records") + 1;
    bytes[end - 400..end].fill(0);
    fs::write(&path, bytes).expect("written");
}

fn all_have(cluster: &Cluster, users: u64) {
    until("every node has all of it", || {
        cluster.running().all(|n| n.read(|s| s.counts().bindings == users)).then_some(())
    });
}

fn down(cluster: &mut Cluster) {
    for place in 1..=3 {
        cluster.down(place);
    }
}

#[test]
fn a_majority_in_doubt_begins_with_the_newest_state_that_verifies() {
    let mut cluster = filled();
    // Node 3 lacks the last ones.
    cluster.down(3);
    cluster.commit(&register("another", 1));
    cluster.settle();
    down(&mut cluster);
    for place in 1..=3 {
        doubt(&cluster, place);
        cluster.up(place);
    }
    all_have(&cluster, USERS + 1);
    cluster.commit(&register("afterwards", 1));
    all_have(&cluster, USERS + 2);
    let kept = |place| {
        let names = fs::read_dir(cluster.data(place)).expect("a folder");
        names.flatten().any(|e| e.file_name().to_string_lossy().starts_with("set-aside-"))
    };
    assert!((1..=3).all(kept), "what was there is kept");
}

#[test]
fn a_node_that_is_whole_begins_where_the_others_are_in_doubt() {
    let mut cluster = filled();
    down(&mut cluster);
    doubt(&cluster, 1);
    doubt(&cluster, 2);
    for place in 1..=3 {
        cluster.up(place);
    }
    // The others begin as empty learners: that they have it shows that they have joined.
    all_have(&cluster, USERS);
    cluster.commit(&register("afterwards", 1));
    all_have(&cluster, USERS + 1);
}

#[test]
fn after_a_power_cut_in_memory_mode_the_newest_state_goes_on() {
    let mut cluster = Cluster::prepare(3);
    let start = |cluster: &mut Cluster, place: Place, boot| {
        let config = NodeConfig {
            durability: Durability::Memory,
            ground: Ground { boot: BootId([boot; 16]), ..Ground::default() },
            ..cluster.config(place)
        };
        cluster.nodes[usize::from(place) - 1] = Some(Node::start(config).expect("starts"));
    };
    for place in 1..=3 {
        start(&mut cluster, place, 1);
    }
    for n in 0..USERS {
        cluster.commit(&register(&format!("user{n}"), 1));
    }
    cluster.settle();
    // What is on the disks at this moment is what a power cut leaves.
    let cut = |cluster: &Cluster, place| cluster.data(place).with_extension("cut");
    for place in 1..=3 {
        copy_folder(&cluster.data(place), &cut(&cluster, place));
    }
    down(&mut cluster);
    for place in 1..=3 {
        fs::remove_dir_all(cluster.data(place)).expect("removed");
        fs::rename(cut(&cluster, place), cluster.data(place)).expect("put in its place");
        start(&mut cluster, place, 2);
    }
    all_have(&cluster, USERS);
    cluster.commit(&register("afterwards", 1));
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[test]
fn the_others_wait_for_the_one_that_has_most_while_it_cannot_begin() {
    for is_whole in [false, true] {
        let mut cluster = filled();
        down(&mut cluster);
        for place in 1..=3 {
            if !(is_whole && place == 3) {
                doubt(&cluster, place);
            }
        }
        // As a disk without room: the new store cannot be made.
        let in_the_way = cluster.data(3).join("store.new.tmp");
        fs::write(&in_the_way, "no folder").expect("written");
        for place in 1..=3 {
            cluster.up(place);
        }
        let leads = || cluster.running().any(|n| n.facts().leading);
        throughout(Duration::from_secs(8), "nobody begins with less", || !leads());
        fs::remove_file(&in_the_way).expect("removed");
        all_have(&cluster, USERS);
        cluster.commit(&register("afterwards", 1));
    }
}

#[test]
fn with_a_proven_loss_on_a_majority_or_a_node_that_is_silent_they_wait() {
    let long = Duration::from_secs(6);
    let leads = |c: &Cluster| c.running().any(|n| n.facts().leading);
    let mut cluster = filled();
    down(&mut cluster);
    doubt(&cluster, 1);
    prove_a_loss(&cluster, 2);
    prove_a_loss(&cluster, 3);
    for place in 1..=3 {
        cluster.up(place);
    }
    throughout(long, "nobody begins with less than was proved", || !leads(&cluster));
    drop(cluster);
    let mut cluster = filled();
    down(&mut cluster);
    for place in 1..=2 {
        doubt(&cluster, place);
        cluster.up(place);
    }
    throughout(long, "they wait for the third", || !leads(&cluster));
    cluster.up(3);
    all_have(&cluster, USERS);
}
