//! Nodes that are made the whole cluster by an operator, because the others are lost and fenced; and the others' return.

#[expect(dead_code, reason = "each test file uses a part of it")]
mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::{Cluster, register, until};
use raft_store::node::promote::Prospect;
use raft_store::node::{Place, rebirths_of};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

fn promote(cluster: &Cluster, on: Place, fenced: &[Place], sure: bool) -> Result<Prospect, String> {
    let (tx, rx) = mpsc::channel();
    let done = Box::new(move |said: Result<Prospect, raft_store::node::members::Refusal>| {
        drop(tx.send(said.map_err(|refusal| refusal.to_string())));
    });
    cluster.node(on).promote(fenced.to_vec(), sure, done);
    rx.recv_timeout(PATIENCE).expect("an answer")
}

fn leads_anew(cluster: &Cluster, place: Place) {
    until("it leads the cluster that was begun anew", || {
        let facts = cluster.node(place).facts();
        (facts.leading && rebirths_of(facts.term) == 1).then_some(())
    });
}

fn votes(cluster: &Cluster, on: Place) -> usize {
    let listing = cluster.node(on).members();
    if listing.sets.len() == 1 { listing.voters() } else { 0 }
}

#[test]
fn half_of_a_pair_goes_on_alone_with_all_it_has_and_the_other_one_comes_back_as_a_new_member() {
    let mut cluster = Cluster::start(2);
    let leader = cluster.leader();
    cluster.commit(&register("alice", 1));
    cluster.settle();
    let (left, lost) = (3 - leader, leader);
    let lives = promote(&cluster, left, &[lost], true).expect_err("the other one lives");
    assert!(lives.contains("answers on the port of the nodes"), "{lives}");
    cluster.down(lost);
    let slip = promote(&cluster, left, &[], true).expect_err("nobody was named");
    assert!(slip.contains("votes, too, and was not named"), "{slip}");
    let outlook = promote(&cluster, left, &[lost], false).expect("it may be");
    assert!(!outlook.may_miss && outlook.fenced == [lost], "{outlook:?}");
    assert_eq!(rebirths_of(cluster.node(left).facts().term), 0, "only looked at");
    promote(&cluster, left, &[lost], true).expect("promoted");
    leads_anew(&cluster, left);
    assert_eq!(votes(&cluster, left), 1);
    assert_eq!(cluster.node(left).read(|s| s.counts().bindings), 1, "nothing is lost");
    cluster.commit(&register("bob", 1));

    cluster.up(lost);
    until("two voters", || (votes(&cluster, left) == 2 && votes(&cluster, lost) == 2).then_some(()));
    cluster.settle();
    assert_eq!(cluster.node(lost).read(|s| s.counts().bindings), 2);
    let again = promote(&cluster, left, &[lost], true).expect_err("it leads");
    assert!(again.contains("a majority of the nodes follows"), "{again}");
}

#[test]
fn two_fenced_nodes_that_return_together_do_not_outvote_the_one_that_went_on() {
    let mut cluster = Cluster::start(3);
    cluster.leader();
    cluster.commit(&register("alice", 1));
    cluster.settle();
    cluster.down(2);
    cluster.down(3);
    let outlook = promote(&cluster, 1, &[2, 3], true).expect("promoted");
    assert!(outlook.may_miss, "the others may have committed more");
    leads_anew(&cluster, 1);
    cluster.commit(&register("bob", 1));
    cluster.up(2);
    cluster.up(3);
    until("three voters", || (1..=3).all(|p| votes(&cluster, p) == 3).then_some(()));
    cluster.settle();
    for place in 1..=3 {
        let node = cluster.node(place);
        assert_eq!(rebirths_of(node.facts().term), 1, "node {place}");
        assert_eq!(node.read(|s| s.counts().bindings), 2, "node {place}");
    }
}
