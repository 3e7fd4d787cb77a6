//! A record that is another on one node and that nobody changes. In a file of its own: a process is taken in again once only.

#![cfg(debug_assertions)]

#[expect(dead_code, reason = "each test file uses a part of it")]
mod common;
mod wire;

use common::register;
use raft_store::node::digest::WINDOW;
use wire::{Cluster, grant};

#[tokio::test(start_paused = true)]
async fn a_node_with_another_record_that_nobody_changes_is_taken_in_again() {
    let cluster = Cluster::started(3).await;
    cluster.commit(register("alice", 1)).await;
    cluster.settled().await;
    let leader = cluster.leader().await;
    let (odd, other) = (1 + leader % 3, 1 + (leader + 1) % 3);
    cluster.core(odd).view().disturb(&register("alice", 2));
    // Too few for a window of answers and changes.
    while cluster.facts(leader).applied < WINDOW - 100 {
        cluster.commit(grant(leader)).await;
    }
    let retired = |place: u16| cluster.core(place).retired().borrow().clone();
    cluster.until("the odd one stops voting", |_| retired(odd).is_some()).await;
    assert!(retired(odd).is_some_and(|r| r.why.contains("its state differs")), "{:?}", retired(odd));
    assert_eq!((retired(leader), retired(other)), (None, None), "the majority goes on");
}
