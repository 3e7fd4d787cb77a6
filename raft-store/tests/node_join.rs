//! Stories of nodes that have lost their store, and of changes of membership that were interrupted.

mod wire;

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use raft_store::disk::Disk;
use raft_store::node::core::CoreError;
use raft_store::node::join::{self, Entered};
use raft_store::node::raft_id;
use tokio::time::sleep;
use wire::{Cluster, LEASE, PATIENCE, grant};

/// Incarnation under which a wiped node comes back.
const LATER: u64 = 1_800_000_000_000;

#[tokio::test(start_paused = true)]
async fn a_wiped_node_does_not_count_as_what_it_was_before() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    cluster.commit(grant(1)).await;
    let (wiped, gone) = (1 + leader % 3, 1 + (leader + 1) % 3);
    cluster.kill(wiped).await;
    cluster.kill(gone).await;
    cluster.wipe(wiped);
    // It answers at the same address, under a new id, and nobody has taken it in: the leader stands alone.
    cluster.start(wiped, LATER, false).await.expect("starts");
    let answer = cluster.propose(leader, vec![grant(2)]).await;
    assert!(answer.is_err(), "an entry was committed by a node that has lost its store");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(cluster.facts(wiped).last_log, 0, "it took entries that were meant for its predecessor");
}

#[tokio::test(start_paused = true)]
async fn a_wiped_node_gives_no_vote_under_its_old_id() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    cluster.commit(grant(1)).await;
    cluster.settled().await;
    let (wiped, candidate) = (1 + leader % 3, 1 + (leader + 1) % 3);
    cluster.kill(wiped).await;
    cluster.kill(leader).await;
    cluster.wipe(wiped);
    cluster.start(wiped, LATER, false).await.expect("starts");
    for _ in 0..20 {
        cluster.core(candidate).raft().trigger().elect(false).await.expect("campaigns");
        sleep(Duration::from_millis(100)).await;
        assert!(
            !cluster.facts(candidate).leading,
            "it leads with the vote of a node that has lost its store"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_wiped_node_joins_under_a_new_id_and_replaces_the_old_one() {
    let mut cluster = Cluster::started(3).await;
    for n in 0..20 {
        cluster.commit(grant(1 + n % 3)).await;
    }
    let leader = cluster.leader().await;
    let wiped = 1 + leader % 3;
    cluster.kill(wiped).await;
    cluster.wipe(wiped);
    let core = cluster.start(wiped, LATER, false).await.expect("starts");
    tokio::time::timeout(PATIENCE, join::enter(&core)).await.expect("joins");
    cluster.settled().await;
    let leader = cluster.leader().await;
    let membership = cluster.core(leader).raft().metrics().borrow_watched().membership_config.clone();
    let voters: BTreeSet<_> = membership.membership().voter_ids().collect();
    let expected: BTreeSet<_> =
        (1..=3).map(|p| if p == wiped { raft_id(LATER, p) } else { raft_id(0, p) }).collect();
    assert_eq!(voters, expected);
    assert_eq!(membership.membership().nodes().count(), 3, "the old id is gone");
    assert_eq!(membership.membership().get_joint_config().len(), 1);
    // Its vote counts now: the leader ends, the others go on.
    cluster.kill(leader).await;
    cluster.commit(grant(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_replacement_interrupted_half_way_is_completed_by_the_next_leader() {
    let mut cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    let leader = cluster.leader().await;
    let wiped = 1 + leader % 3;
    cluster.kill(wiped).await;
    cluster.wipe(wiped);
    let core = cluster.start(wiped, LATER, false).await.expect("starts");
    let new = raft_id(LATER, wiped);
    let raft = cluster.core(leader).raft().clone();
    let member = cluster.places.iter().find(|p| p.place == wiped).copied().expect("configured");
    raft.add_learner(new, member.into(), true).await.expect("learner");
    // Only the first, joint step is made: what a leader leaves that ends between the two.
    let voters: BTreeSet<_> = (1..=3).map(|p| if p == wiped { new } else { raft_id(0, p) }).collect();
    let change = ChangeMembers::ReplaceAllVoters(voters.clone());
    let both = tokio::spawn(async move { raft.change_membership(change, false).await });
    cluster
        .until("the joint step is in the log", |c| {
            let core = c.core(leader);
            let joint = core
                .raft()
                .metrics()
                .borrow_watched()
                .membership_config
                .membership()
                .get_joint_config()
                .len();
            joint == 2
        })
        .await;
    cluster.kill(leader).await;
    drop(both.await);
    tokio::spawn(async move { join::enter(&core).await });
    cluster.start(leader, 0, true).await.expect("comes back");
    cluster
        .until("one voter set, without the old id", |c| {
            (1..=3).all(|p| {
                let membership = c.core(p).raft().metrics().borrow_watched().membership_config.clone();
                membership.membership().get_joint_config().len() == 1
                    && membership.membership().voter_ids().collect::<BTreeSet<_>>() == voters
            })
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_replacement_left_half_way_leaves_no_second_id_when_another_place_asks_to_be_taken_in() {
    let mut cluster = Cluster::started(5).await;
    cluster.commit(grant(1)).await;
    cluster.settled().await;
    let leader = cluster.leader().await;
    let (first, second) = (1 + leader % 5, 1 + (leader + 1) % 5);
    cluster.kill(first).await;
    cluster.wipe(first);
    cluster.start(first, LATER, false).await.expect("starts");
    let raft = cluster.core(leader).raft().clone();
    let member = cluster.places.iter().find(|p| p.place == first).copied().expect("configured");
    raft.add_learner(raft_id(LATER, first), member.into(), true).await.expect("learner");
    let with = |later: &[u16]| -> BTreeSet<_> {
        (1..=5).map(|p| if later.contains(&p) { raft_id(LATER, p) } else { raft_id(0, p) }).collect()
    };
    // Whoever asks for the change is gone before its first, joint step is committed: nobody makes the second one.
    let followers: Vec<_> = (1..=5).filter(|p| *p != leader).collect();
    followers.iter().for_each(|p| cluster.slow[p].set(200));
    let change = ChangeMembers::ReplaceAllVoters(with(&[first]));
    let both = tokio::spawn(async move { raft.change_membership(change, false).await });
    let sets = |c: &Cluster, place| {
        let membership = c.core(place).raft().metrics().borrow_watched().membership_config.clone();
        membership.membership().get_joint_config().clone()
    };
    cluster.until("the joint step is on its way", |c| followers.iter().all(|p| sets(c, *p).len() == 2)).await;
    both.abort();
    followers.iter().for_each(|p| cluster.slow[p].set(0));
    cluster.settled().await;
    assert_eq!(sets(&cluster, leader).len(), 2, "it is half done");

    cluster.kill(second).await;
    cluster.wipe(second);
    let core = cluster.start(second, LATER, false).await.expect("starts");
    tokio::time::timeout(PATIENCE, join::enter(&core)).await.expect("joins");
    cluster.settled().await;
    for place in 1..=5 {
        assert_eq!(sets(&cluster, place), [with(&[first, second])], "node {place}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_store_among_silent_peers_waits() {
    let cluster = Cluster::new(3);
    let core = cluster.start(1, 0, false).await.expect("starts");
    let entered = tokio::time::timeout(Duration::from_secs(5), join::enter(&core)).await;
    assert!(entered.is_err(), "two silent nodes may be a cluster that goes on");
    assert_eq!(cluster.facts(1).last_log, 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_snapshots_are_lost_does_not_begin_with_an_empty_state() {
    let cluster = Cluster::started(3).await;
    for n in 0..50 {
        cluster.commit(grant(1 + n % 3)).await;
    }
    cluster.settled().await;
    let leader = cluster.leader().await;
    let raft = cluster.core(leader).raft().clone();
    let upto = cluster.facts(leader).applied;
    raft.trigger().snapshot().await.expect("asked");
    let built = |m: &openraft::RaftMetrics<_>| m.snapshot.is_some_and(|s| s.index >= upto);
    raft.wait(Some(PATIENCE)).metrics(built, "snapshot").await.expect("built");
    raft.trigger().purge_log(upto).await.expect("asked");
    let purged = |m: &openraft::RaftMetrics<_>| m.purged.is_some_and(|s| s.index >= upto);
    raft.wait(Some(PATIENCE)).metrics(purged, "purged").await.expect("purged");
    cluster.kill(leader).await;
    let disk = &cluster.disks[&leader];
    for name in disk.list().expect("names").iter().filter(|n| n.ends_with(".snap")) {
        disk.remove(name).expect("removed");
    }
    let started = cluster.start(leader, 0, true).await;
    assert!(matches!(started, Err(CoreError::Incomplete(_))), "{:?}", started.err());
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_has_forgotten_is_found_out_by_a_heartbeat_and_votes_no_more() {
    let mut cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    cluster.settled().await;
    let leader = cluster.leader().await;
    let (hurt, other) = (1 + leader % 3, 1 + (leader + 1) % 3);
    // What is left of its disk when it loses its power: the syncs from here on were lies.
    let left = cluster.disks[&hurt].fork();
    for n in 0..20 {
        cluster.commit(grant(1 + n % 3)).await;
    }
    cluster.settled().await;
    cluster.kill(hurt).await;
    cluster.disks.insert(hurt, left);
    let core = cluster.start(hurt, 0, true).await.expect("starts");
    let mut retired = core.retired();
    let found = tokio::time::timeout(LEASE, retired.wait_for(Option::is_some)).await;
    let why = found.expect("within its silence").expect("told").clone().expect("why").why;
    assert!(why.contains("forgotten") && why.contains(&format!("node {leader}")), "{why}");
    cluster.kill(leader).await;
    for _ in 0..20 {
        cluster.core(other).raft().trigger().elect(false).await.expect("campaigns");
        sleep(Duration::from_millis(100)).await;
        assert!(!cluster.facts(other).leading, "it leads with the vote of a node that has forgotten");
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_has_forgotten_nothing_is_left_alone_whoever_leads() {
    let cluster = Cluster::started(3).await;
    for round in 0..9 {
        let leader = cluster.leader().await;
        for n in 0..5 {
            cluster.commit(grant(1 + n % 3)).await;
        }
        // A restart of the leader, a short absence of a follower, a snapshot: by turns.
        match round % 3 {
            0 => {
                cluster.kill(leader).await;
                cluster.commit(grant(1)).await;
                cluster.start(leader, 0, true).await.expect("comes back");
            }
            1 => {
                let away = 1 + leader % 3;
                cluster.cut_off(away, true);
                cluster.commit(grant(2)).await;
                cluster.cut_off(away, false);
            }
            _ => cluster.core(leader).raft().trigger().snapshot().await.expect("builds"),
        }
        cluster.settled().await;
    }
    for place in 1..=3 {
        assert_eq!(*cluster.core(place).retired().borrow(), None, "node {place}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_incarnation_that_is_earlier_than_one_that_was_here_is_told_a_later_one() {
    let mut cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    let wiped = 1 + cluster.leader().await % 3;
    cluster.kill(wiped).await;
    cluster.wipe(wiped);
    let core = cluster.start(wiped, LATER, false).await.expect("starts");
    tokio::time::timeout(PATIENCE, join::enter(&core)).await.expect("joins");
    cluster.settled().await;
    cluster.kill(wiped).await;
    cluster.wipe(wiped);
    // Its clock has been put back by years.
    let core = cluster.start(wiped, 7, false).await.expect("starts");
    match tokio::time::timeout(PATIENCE, join::enter(&core)).await.expect("answered") {
        Entered::Renumber(retired) => assert!(retired.incarnation >= LATER, "{retired:?}"),
        Entered::Voter => panic!("a voter under an earlier id than it had"),
    }
}
