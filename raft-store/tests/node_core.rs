//! Stories of the node above its transport: elections, transfers, the notice of death, restarts.

mod wire;

use std::time::Duration;

use openraft::raft::VoteRequest;
use proxy_core::time::MonoTime;
use raft_store::codec::{self, Kind};
use raft_store::command::Response;
use raft_store::node::batch::{ANSWER_LIMIT, MAX_ENTRY_COMMANDS, MAX_WAITING};
use raft_store::node::client::Lane;
use raft_store::node::inbound::{Inbound, ProposeRefused, Rpc};
use raft_store::node::types::Vote;
use tokio::time::Instant;
use wire::{Cluster, LEASE, WALL_START, grant};

#[tokio::test(start_paused = true)]
async fn three_nodes_elect_one_leader_and_equal_logs_are_equal_bytes() {
    let cluster = Cluster::started(3).await;
    for n in 0..50 {
        cluster.commit(grant(1 + n % 3)).await;
    }
    cluster.settled().await;
    let leaders = (1..=3).filter(|p| cluster.facts(*p).leading).count();
    assert_eq!(leaders, 1);
    let bytes = |place| {
        cluster.core(place).view().read(|state| codec::encode(Kind::Snapshot, state)).expect("encodes")
    };
    assert_eq!(bytes(1), bytes(2));
    assert_eq!(bytes(2), bytes(3));
}

#[tokio::test(start_paused = true)]
async fn a_node_alone_leads_at_once_and_its_quorum_is_itself_now() {
    let cluster = Cluster::new(1);
    let begun = Instant::now();
    let core = cluster.start(1, 0, false).await.expect("starts");
    raft_store::node::join::enter(&core).await;
    assert_eq!(cluster.leader().await, 1);
    assert!(begun.elapsed() < LEASE, "{:?}", begun.elapsed());
    let answer = cluster.commit(grant(1)).await;
    let token = cluster.facts(1).grant.expect("granted").token;
    assert_eq!(answer, [Response::Granted { token }]);
    cluster.kill(1).await;
    let restarted = Instant::now();
    cluster.start(1, 0, true).await.expect("starts again");
    assert_eq!(cluster.leader().await, 1);
    assert!(restarted.elapsed() < LEASE, "{:?}", restarted.elapsed());
    cluster.until("the grant is back", |c| c.facts(1).grant.is_some_and(|g| g.token == token)).await;
}

#[tokio::test(start_paused = true)]
async fn a_proposal_on_a_node_that_does_not_lead_is_refused() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let other = 1 + leader % 3;
    assert_eq!(cluster.propose(other, vec![grant(1)]).await, Err(ProposeRefused::NotLeader));
}

#[tokio::test(start_paused = true)]
async fn every_proposal_is_answered_when_the_leader_loses_its_peers() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    cluster.cut_off(leader, true);
    // More than is on its way at once: what waits behind must not wait for one limit after the other.
    let answers: Vec<_> =
        (0..MAX_WAITING).map(|_| cluster.propose(leader, vec![grant(1), grant(2)])).collect();
    let begun = Instant::now();
    let answers = futures::future::join_all(answers).await;
    assert!(answers.iter().all(Result::is_err));
    assert!(begun.elapsed() <= ANSWER_LIMIT + Duration::from_millis(50), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_into_the_queue_is_refused_at_once() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let answers: Vec<_> = (0..=MAX_WAITING).map(|_| cluster.propose(leader, vec![grant(1)])).collect();
    let answers = futures::future::join_all(answers).await;
    let refused = answers.iter().filter(|a| **a == Err(ProposeRefused::Overloaded)).count();
    assert_eq!((refused, answers.iter().filter(|a| a.is_ok()).count()), (1, MAX_WAITING));
}

#[tokio::test(start_paused = true)]
async fn proposals_are_committed_in_their_order() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    // Each one an entry of its own, so that the order of entries is what is seen.
    let many = |_| vec![grant(1); MAX_ENTRY_COMMANDS];
    let answers: Vec<_> = (0..40).map(|n| cluster.propose(leader, many(n))).collect();
    let tokens: Vec<_> = futures::future::join_all(answers)
        .await
        .into_iter()
        .map(|a| match a.expect("committed")[..] {
            [Response::Granted { token }, ..] => token,
            ref other => panic!("{other:?}"),
        })
        .collect();
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
}

#[tokio::test(start_paused = true)]
async fn every_proposal_is_answered_when_the_node_ends() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    cluster.cut_off(leader, true);
    let core = cluster.core(leader);
    let answers: Vec<_> = (0..100).map(|_| cluster.propose(leader, vec![grant(1)])).collect();
    let (answers, ()) = tokio::join!(futures::future::join_all(answers), core.shutdown());
    assert!(answers.iter().all(Result::is_err));
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_peers_has_no_young_quorum_and_another_takes_over() {
    let cluster = Cluster::started(3).await;
    let old = cluster.leader().await;
    cluster.cut_off(old, true);
    let cut = Instant::now();
    let others: Vec<_> = (1..=3).filter(|p| *p != old).collect();
    cluster.until("another leads", |c| others.iter().any(|p| c.facts(*p).leading)).await;
    assert!(cut.elapsed() >= LEASE, "a leader within the lease of another: {:?}", cut.elapsed());
    let now = cluster.begun.elapsed().as_nanos() as u64;
    let facts = cluster.facts(old);
    let age = facts.quorum_ack_at.map(|at| now - at.0);
    assert!(age.is_none_or(|age| age >= LEASE.as_nanos() as u64), "{age:?}");
}

#[tokio::test(start_paused = true)]
async fn a_transfer_is_recorded_before_it_is_asked_and_the_target_leads() {
    let cluster = Cluster::started(3).await;
    let old = cluster.leader().await;
    let target = 1 + old % 3;
    cluster.commit(grant(target)).await;
    let before = cluster.facts(old);
    assert_ne!(before.transfer_tried_in, Some(before.term));
    cluster.core(old).transfer_leadership(target);
    assert_eq!(cluster.facts(old).transfer_tried_in, Some(before.term));
    let asked = Instant::now();
    cluster.until("the target leads", |c| c.facts(target).leading).await;
    assert!(asked.elapsed() < LEASE, "{:?}", asked.elapsed());
    assert!(cluster.facts(target).term > before.term);
    assert_ne!(cluster.facts(target).transfer_tried_in, Some(cluster.facts(target).term));
}

#[tokio::test(start_paused = true)]
async fn a_transfer_to_itself_or_to_nobody_changes_nothing() {
    for size in [1, 3] {
        let cluster = Cluster::started(size).await;
        let leader = cluster.leader().await;
        let term = cluster.facts(leader).term;
        cluster.core(leader).transfer_leadership(leader);
        cluster.core(leader).transfer_leadership(9);
        tokio::time::sleep(4 * LEASE).await;
        let facts = cluster.facts(leader);
        assert!(facts.leading && facts.term == term && facts.transfer_tried_in != Some(term), "{facts:?}");
        assert!(cluster.propose(leader, vec![grant(leader)]).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_target_of_a_transfer_is_gone_another_node_leads() {
    let cluster = Cluster::started(3).await;
    let old = cluster.leader().await;
    cluster.commit(grant(1)).await;
    let (target, third) = (1 + old % 3, 1 + (old + 1) % 3);
    let term = cluster.facts(old).term;
    cluster.kill(target).await;
    cluster.core(old).transfer_leadership(target);
    cluster
        .until("a leader of a later term", |c| {
            [old, third].iter().any(|p| c.facts(*p).leading && c.facts(*p).term > term)
        })
        .await;
    cluster.commit(grant(third)).await;
}

#[tokio::test(start_paused = true)]
async fn the_notice_of_a_dead_leader_makes_the_heir_lead_before_the_lease_ends() {
    let cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    cluster.settled().await;
    let dead = cluster.leader().await;
    let term = cluster.facts(dead).term;
    cluster.kill(dead).await;
    let killed = Instant::now();
    let heir = 1 + dead % 3;
    for peer in (1..=3).filter(|p| *p != dead) {
        cluster.core(peer).leader_is_dead(dead, term, heir).await;
    }
    cluster.until("the heir leads", |c| c.facts(heir).leading).await;
    assert!(killed.elapsed() < LEASE / 2, "{:?}", killed.elapsed());
}

/// A leader, its heir and a witness, whose log is longer than the heir's: what the leader committed last has not come
/// to the heir. Then the leader dies. Returns leader, heir, witness and the term.
async fn the_heir_lacks_what_was_committed(cluster: &Cluster) -> (u16, u16, u16, u64) {
    cluster.commit(grant(1)).await;
    cluster.settled().await;
    let dead = cluster.leader().await;
    let (heir, witness) = (1 + dead % 3, 1 + (dead + 1) % 3);
    let term = cluster.facts(dead).term;
    cluster.net.lock().expect("net").cut.insert((dead, heir));
    cluster.propose(dead, vec![grant(dead)]).await.expect("committed by two");
    assert!(cluster.facts(heir).last_log < cluster.facts(witness).last_log);
    cluster.kill(dead).await;
    (dead, heir, witness, term)
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_must_refuse_the_heir_for_its_shorter_log_leads_at_once_itself() {
    let cluster = Cluster::started(3).await;
    let (dead, heir, witness, term) = the_heir_lacks_what_was_committed(&cluster).await;
    let killed = Instant::now();
    cluster.core(witness).leader_is_dead(dead, term, heir).await;
    cluster.core(heir).leader_is_dead(dead, term, heir).await;
    cluster.until("the witness leads", |c| c.facts(witness).leading).await;
    assert!(killed.elapsed() < LEASE / 10, "{:?}", killed.elapsed());
    // And hands over as fast.
    cluster.commit(grant(heir)).await;
    cluster.core(witness).transfer_leadership(heir);
    cluster.until("the heir leads", |c| c.facts(heir).leading).await;
    assert!(killed.elapsed() < LEASE / 5, "{:?}", killed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_the_notice_has_not_reached_takes_the_heirs_word_for_it() {
    for longer in [false, true] {
        let cluster = Cluster::started(3).await;
        let (heir, witness);
        let killed;
        if longer {
            let (dead, h, w, term) = the_heir_lacks_what_was_committed(&cluster).await;
            (heir, witness, killed) = (h, w, Instant::now());
            cluster.core(heir).leader_is_dead(dead, term, heir).await;
        } else {
            let dead = cluster.leader().await;
            cluster.settled().await;
            (heir, witness) = (1 + dead % 3, 1 + (dead + 1) % 3);
            let term = cluster.facts(dead).term;
            cluster.kill(dead).await;
            killed = Instant::now();
            cluster.core(heir).leader_is_dead(dead, term, heir).await;
        }
        let expected = if longer { witness } else { heir };
        cluster.until("one of them leads", |c| c.facts(expected).leading).await;
        assert!(killed.elapsed() < LEASE / 10, "{longer}: {:?}", killed.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_notice_ends_the_promise_to_the_dead_leader_even_where_its_heir_cannot_stand() {
    let cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    cluster.settled().await;
    let dead = cluster.leader().await;
    let term = cluster.facts(dead).term;
    cluster.kill(dead).await;
    let killed = Instant::now();
    let left = [1 + dead % 3, 1 + (dead + 1) % 3];
    for peer in left {
        cluster.core(peer).leader_is_dead(dead, term, 9).await;
    }
    cluster.core(left[1]).campaign().await;
    cluster.until("somebody leads", |c| c.facts(left[1]).leading).await;
    assert!(killed.elapsed() < LEASE / 10, "{:?}", killed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_voter_stands_instead_only_of_an_heir_whose_leader_is_its_own_and_gave_up() {
    let cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    cluster.settled().await;
    let leader = cluster.leader().await;
    let (asker, voter) = (1 + leader % 3, 1 + (leader + 1) % 3);
    let term = cluster.facts(leader).term;
    let ask = |term, leadership_transfer| VoteRequest {
        vote: Vote::new(term, asker.into()),
        last_log_id: None,
        leadership_transfer,
    };
    // Of the leader itself, without the mark of a transfer, in another term than the next: nobody stands.
    let asked =
        [(leader, term + 1, true), (voter, term + 1, false), (voter, term + 2, true), (voter, term, true)];
    for (to, term, transfer) in asked {
        cluster.core(to).handle(asker, to.into(), Lane::Control, Rpc::Vote(ask(term, transfer))).await;
    }
    tokio::time::sleep(4 * LEASE).await;
    let terms: Vec<_> = (1..=3).map(|p| cluster.facts(p).term).collect();
    assert!(cluster.facts(leader).leading && terms == [term; 3], "term {term} became {terms:?}");
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_has_just_restarted_is_not_heard_as_one_that_could_lead() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    cluster.commit(grant(leader)).await;
    let other = 1 + leader % 3;
    cluster.kill(other).await;
    let lag = |c: &Cluster| {
        let facts = c.facts(leader);
        facts.peers.into_iter().find(|p| p.place == other).map(|p| (p.lag, p.silent)).expect("a peer")
    };
    cluster.commit(grant(leader)).await;
    cluster.start(other, 0, true).await.expect("starts");
    let begun = Instant::now();
    cluster.until("it has caught up", |c| lag(c).0 == Some(0)).await;
    assert!(begun.elapsed() < LEASE, "{:?}", begun.elapsed());
    assert!(lag(&cluster).1, "silent for one lease");
    cluster.until("it is heard", |c| !lag(c).1).await;
    assert!(begun.elapsed() >= LEASE && begun.elapsed() < 2 * LEASE, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_notice_about_another_term_or_node_changes_nothing() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let (term, other) = (cluster.facts(leader).term, 1 + leader % 3);
    for peer in (1..=3).filter(|p| *p != leader) {
        cluster.core(peer).leader_is_dead(leader, term + 1, other).await;
        cluster.core(peer).leader_is_dead(leader, term.wrapping_sub(1), other).await;
        cluster.core(peer).leader_is_dead(other, term, other).await;
    }
    tokio::time::sleep(4 * LEASE).await;
    let facts = cluster.facts(leader);
    assert!(facts.leading && facts.term == term, "{facts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_told_to_campaign_keeps_its_own_promise_to_a_living_leader() {
    let cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    cluster.settled().await;
    let leader = cluster.leader().await;
    let term = cluster.facts(leader).term;
    for peer in (1..=3).filter(|p| *p != leader) {
        cluster.core(peer).campaign().await;
    }
    tokio::time::sleep(4 * LEASE).await;
    let terms: Vec<_> = (1..=3).map(|p| cluster.facts(p).term).collect();
    assert!(cluster.facts(leader).leading && terms == [term; 3], "term {term} became {terms:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_told_to_campaign_wins_where_nobody_leads_any_more() {
    let cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    cluster.settled().await;
    let dead = cluster.leader().await;
    let term = cluster.facts(dead).term;
    cluster.kill(dead).await;
    let killed = Instant::now();
    // The heir that the notice names is the other one, and does nothing: this is what its slowness looks like.
    let (slow, next) = (1 + dead % 3, 1 + (dead + 1) % 3);
    cluster.core(next).leader_is_dead(dead, term, slow).await;
    cluster.core(slow).leader_is_dead(dead, term, next).await;
    cluster.core(next).campaign().await;
    cluster.until("somebody leads", |c| [slow, next].iter().any(|p| c.facts(*p).leading)).await;
    assert!(killed.elapsed() < LEASE / 2, "{:?}", killed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_restarted_voter_gives_no_vote_within_one_lease() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let (restarted, other) = (1 + leader % 3, 1 + (leader + 1) % 3);
    // `other` would win with the vote of the restarted node, which acknowledged the leader just before it ended.
    cluster.kill(restarted).await;
    cluster.cut_off(leader, true);
    let begun = Instant::now();
    cluster.start(restarted, 0, true).await.expect("starts");
    cluster.core(other).raft().trigger().elect(false).await.expect("campaigns");
    cluster.until("a new leader", |c| [restarted, other].iter().any(|p| c.facts(*p).leading)).await;
    assert!(begun.elapsed() >= LEASE, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_node_far_behind_is_brought_up_by_a_snapshot() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let late = 1 + leader % 3;
    cluster.kill(late).await;
    for n in 0..300 {
        cluster.commit(grant(1 + n % 3)).await;
    }
    let leader = cluster.leader().await;
    let raft = cluster.core(leader).raft().clone();
    let upto = cluster.facts(leader).applied;
    raft.trigger().snapshot().await.expect("asked");
    raft.wait(Some(wire::PATIENCE))
        .metrics(|m| m.snapshot.is_some_and(|s| s.index >= upto), "snapshot")
        .await
        .expect("built");
    raft.trigger().purge_log(upto).await.expect("asked");
    raft.wait(Some(wire::PATIENCE))
        .metrics(|m| m.purged.is_some_and(|s| s.index >= upto), "purged")
        .await
        .expect("purged");
    cluster.start(late, 0, true).await.expect("starts");
    cluster.settled().await;
    let bytes = |place| {
        cluster.core(place).view().read(|state| codec::encode(Kind::Snapshot, state)).expect("encodes")
    };
    assert_eq!(bytes(leader), bytes(late));
    // The same again after a restart of the late node: its own snapshot, then its own log.
    cluster.commit(grant(2)).await;
    cluster.settled().await;
    cluster.kill(late).await;
    cluster.start(late, 0, true).await.expect("starts again");
    cluster.settled().await;
    assert_eq!(bytes(leader), bytes(late));
}

/// Time of the cluster on a node now, ms after the beginning.
fn time_at(cluster: &Cluster, place: u16) -> i64 {
    let now = MonoTime(u64::try_from(cluster.begun.elapsed().as_nanos()).expect("fits"));
    let time = cluster.core(place).time().at(now);
    i64::try_from(time.0).expect("fits") - i64::try_from(WALL_START).expect("fits")
}

fn passed(cluster: &Cluster) -> i64 {
    i64::try_from(cluster.begun.elapsed().as_millis()).expect("fits")
}

const HOUR: i64 = 3_600_000;

#[tokio::test(start_paused = true)]
async fn a_takeover_continues_the_time_whatever_the_wall_clocks_show() {
    let mut cluster = Cluster::new(3);
    for place in 1..=3 {
        cluster.start(place, 0, false).await.expect("starts");
    }
    for place in 1..=3 {
        let core = cluster.core(place);
        tokio::spawn(async move { raft_store::node::join::enter(&core).await });
    }
    let first = cluster.leader().await;
    cluster.commit(grant(first)).await;
    cluster.settled().await;
    // The others are restarted with clocks that are wrong in different directions.
    let others: Vec<_> = (1..=3).filter(|p| *p != first).collect();
    for (place, wrong) in others.iter().zip([HOUR, -10 * 365 * 24 * HOUR]) {
        cluster.kill(*place).await;
        cluster.wrong.insert(*place, wrong);
        cluster.boots += 1;
        cluster.start(*place, 0, true).await.expect("starts again");
        cluster.settled().await;
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    let last = cluster.leader().await;
    let skew = cluster.facts(last).skew;
    assert!(skew.len() == 2 && skew.values().any(|ms| ms.abs() > HOUR / 2), "{skew:?}");
    cluster.kill(last).await;
    let next = cluster.leader().await;
    cluster.commit(grant(next)).await;
    let late = passed(&cluster) - time_at(&cluster, next);
    assert!((0..200).contains(&late), "{late} ms behind");
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_of_all_the_wall_clock_counts_and_a_wrong_one_within_a_bound() {
    for (wrong, least, most) in
        [(0, 600_000, 602_000), (24 * HOUR, HOUR - 1_000, HOUR + 2_000), (-24 * HOUR, -1_000, 2_000)]
    {
        let mut cluster = Cluster::started(3).await;
        let leader = cluster.leader().await;
        cluster.commit(grant(leader)).await;
        cluster.settled().await;
        for place in 1..=3 {
            cluster.kill(place).await;
            cluster.wrong.insert(place, wrong);
        }
        cluster.boots += 1;
        let before = passed(&cluster);
        tokio::time::sleep(Duration::from_secs(600)).await;
        for place in 1..=3 {
            cluster.start(place, 0, true).await.expect("starts again");
        }
        let next = cluster.leader().await;
        cluster.commit(grant(next)).await;
        let grown = time_at(&cluster, next) - before;
        assert!((least..most).contains(&grown), "{wrong}: {grown} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_alone_that_is_restarted_with_a_wrong_clock_counts_on() {
    let mut cluster = Cluster::new(1);
    let core = cluster.start(1, 0, false).await.expect("starts");
    raft_store::node::join::enter(&core).await;
    cluster.commit(grant(1)).await;
    cluster.kill(1).await;
    cluster.wrong.insert(1, 24 * HOUR);
    tokio::time::sleep(Duration::from_secs(60)).await;
    cluster.start(1, 0, true).await.expect("starts again");
    cluster.commit(grant(1)).await;
    assert_eq!(time_at(&cluster, 1), passed(&cluster));
}
