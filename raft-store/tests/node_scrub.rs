//! Damage to the disk of a running node is found and replaced from what the node has applied.

#[expect(dead_code, reason = "each test file uses a part of it")]
mod common;

use std::os::unix::fs::FileExt;
use std::time::Duration;

use common::{Cluster, register, until};
use raft_store::node::scrub::Pace;
use raft_store::node::{Node, NodeConfig};

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
