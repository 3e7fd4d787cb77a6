//! Stories of answers to heartbeats that come late: from busy machines, or over long ways.

mod wire;

use std::time::Duration;

use raft_store::command::Response;
use raft_store::node::inbound::ProposeRefused;
use tokio::time::{Instant, sleep};
use wire::{Cluster, HEARTBEAT, LEASE, grant};

/// How late they come: later than the next heartbeat is sent, and well within the lease.
const LATE: Duration = Duration::from_millis(40);

#[tokio::test(start_paused = true)]
async fn heartbeats_that_are_answered_later_than_their_interval_refuse_no_proposals() {
    assert!(LATE > HEARTBEAT && 2 * LATE < LEASE, "{LATE:?}");
    let cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    cluster.delay(LATE);
    let leader = cluster.leader().await;
    let term = cluster.facts(leader).term;
    for _ in 0..20 {
        // Longer than the lease: nothing but heartbeats keeps it.
        sleep(3 * LEASE).await;
        let proposed = Instant::now();
        let answer = cluster.propose(leader, vec![grant(1)]).await;
        assert!(answer.is_ok(), "{answer:?} in spite of {:?}", cluster.facts(leader));
        assert!(proposed.elapsed() < LEASE, "{:?}", proposed.elapsed());
    }
    assert!(cluster.facts(leader).leading && cluster.facts(leader).term == term, "the leader changes");
}

#[tokio::test(start_paused = true)]
async fn what_is_proposed_while_the_lease_is_late_is_committed_in_its_order_when_it_is_renewed() {
    let cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    cluster.settled().await;
    let leader = cluster.leader().await;
    let term = cluster.facts(leader).term;
    for late in [LEASE + HEARTBEAT, 2 * LEASE] {
        // The followers hear the leader all the time; their answers are what is away.
        cluster.delay(late);
        sleep(late).await;
        let mut answers = Vec::new();
        for _ in 0..40 {
            answers.push(cluster.propose(leader, vec![grant(1); 100]));
            sleep(Duration::from_millis(1)).await;
        }
        let answers = futures::future::join_all(answers);
        let (answers, ()) = tokio::join!(answers, async {
            sleep(LEASE).await;
            cluster.delay(Duration::ZERO);
        });
        let tokens: Vec<_> = answers
            .into_iter()
            .map(|answer| match answer.expect("committed")[..] {
                [Response::Granted { token }, ..] => token,
                ref other => panic!("{other:?}"),
            })
            .collect();
        assert!(tokens.is_sorted(), "{tokens:?}");
        assert!(cluster.facts(leader).leading && cluster.facts(leader).term == term, "the leader changes");
        sleep(LEASE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_does_not_come_back_refuses_what_waits_within_a_bound() {
    let cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    cluster.settled().await;
    let leader = cluster.leader().await;
    cluster.cut_off(leader, true);
    sleep(2 * LEASE).await;
    let proposed = Instant::now();
    let answers: Vec<_> = (0..100).map(|_| cluster.propose(leader, vec![grant(1)])).collect();
    let answers = futures::future::join_all(answers).await;
    assert!(answers.iter().all(|a| *a == Err(ProposeRefused::NotLeader)), "nothing of it is in any log");
    assert!(proposed.elapsed() < Duration::from_millis(600), "{:?}", proposed.elapsed());
}
