//! Stories of commands that cannot be applied, and of a node whose state is another.

#![cfg(debug_assertions)]

#[expect(dead_code, reason = "each test file uses a part of it")]
mod common;
mod wire;

use common::register;
use raft_store::codec::{self, Kind};
use raft_store::command::{Command, Response};
use raft_store::node::digest::WINDOW;
use raft_store::state::DRILL_PLACE;
use wire::{Cluster, grant};

fn bytes(cluster: &Cluster, place: u16) -> Vec<u8> {
    cluster.core(place).view().read(|state| codec::encode(Kind::Snapshot, state)).expect("encodes")
}

#[tokio::test(start_paused = true)]
async fn a_command_that_cannot_be_applied_is_refused_on_every_node_and_leaves_nothing_behind() {
    let cluster = Cluster::started(3).await;
    cluster.commit(register("alice", 1)).await;
    let leader = cluster.leader().await;
    let before = cluster.core(leader).view().read(Clone::clone);
    let poison = Command::Drain { place: DRILL_PLACE, drained: true };
    let answers = cluster.propose(leader, vec![register("bob", 1), poison, register("carol", 1)]).await;
    let answers = answers.expect("committed");
    assert!(common::registered(&answers[0]) && common::registered(&answers[2]), "{answers:?}");
    assert_eq!(answers[1], Response::Poisoned);
    cluster.settled().await;
    let mut expected = before;
    for user in ["bob", "carol"] {
        expected.apply(1, &register(user, 1));
    }
    for place in 1..=3 {
        let core = cluster.core(place);
        core.view().read(|state| {
            assert_eq!((state.sip(), state.marks(DRILL_PLACE)), (expected.sip(), Default::default()));
        });
        assert_eq!(bytes(&cluster, place), bytes(&cluster, leader));
        assert!(!cluster.facts(place).fitness.iter().any(|(place, _)| *place == DRILL_PLACE));
    }
    assert!(cluster.facts(leader).leading, "nobody has ended");
}

#[tokio::test(start_paused = true)]
async fn a_node_with_another_record_is_taken_in_again_when_that_record_is_changed() {
    let cluster = Cluster::started(3).await;
    cluster.commit(register("alice", 1)).await;
    cluster.settled().await;
    let leader = cluster.leader().await;
    let (odd, other) = (1 + leader % 3, 1 + (leader + 1) % 3);
    // Its answers and the number of its records are those of the others.
    cluster.core(odd).view().disturb(&register("alice", 2));
    cluster.commit(register("alice", 3)).await;
    while cluster.facts(leader).applied < 2 * WINDOW {
        cluster.commit(grant(leader)).await;
    }
    let retired = |place: u16| cluster.core(place).retired().borrow().clone();
    cluster.until("the odd one stops voting", |_| retired(odd).is_some()).await;
    assert!(retired(odd).is_some_and(|r| r.why.contains("its state differs")), "{:?}", retired(odd));
    assert_eq!((retired(leader), retired(other)), (None, None), "the majority goes on");
}
