//! Stories of slow disks: answers are slow then, and nothing else; and of the leader that cannot commit.

mod wire;

use std::time::Duration;

use raft_store::node::Place;
use raft_store::node::inbound::ProposeRefused;
use tokio::time::{Instant, sleep};
use wire::{Cluster, LEASE, grant};

const SECOND: Duration = Duration::from_secs(1);

fn slow_down(cluster: &Cluster, places: &[Place], ms: u64) {
    places.iter().for_each(|place| cluster.slow[place].set(ms));
}

/// Proposes one after the other for a while; says how long the slowest took. The leader must stay, and its quorum young.
async fn work(cluster: &Cluster, lasts: Duration) -> Duration {
    let leader = cluster.leader().await;
    let term = cluster.facts(leader).term;
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < lasts {
        let proposed = Instant::now();
        let mut answer = std::pin::pin!(cluster.propose(leader, vec![grant(leader)]));
        loop {
            tokio::select! {
                answer = &mut answer => break drop(answer.expect("committed")),
                () = sleep(LEASE / 10) => {}
            }
            let facts = cluster.facts(leader);
            let now = cluster.begun.elapsed().as_nanos() as u64;
            let age = facts.quorum_ack_at.map(|at| Duration::from_nanos(now - at.0));
            assert!(facts.leading && facts.term == term, "the leader changes");
            assert!(age.is_some_and(|age| age < LEASE), "the lease ends: {age:?}");
        }
        slowest = slowest.max(proposed.elapsed());
    }
    slowest
}

#[tokio::test(start_paused = true)]
async fn on_disks_slower_than_the_lease_everything_is_committed_at_their_speed_and_the_leader_stays() {
    let cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    for ms in [100, 200, 1_000] {
        slow_down(&cluster, &[1, 2, 3], ms);
        let slowest = work(&cluster, 8 * SECOND).await;
        assert!(slowest <= 3 * Duration::from_millis(ms), "{slowest:?} with {ms} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn one_slow_disk_is_not_felt_whosever_it_is() {
    let cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    for place in 1..=3 {
        slow_down(&cluster, &[place], 1_000);
        let slowest = work(&cluster, 5 * SECOND).await;
        assert!(slowest < LEASE, "{slowest:?} with the slow disk of node {place}");
        slow_down(&cluster, &[place], 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_flush_acknowledges_no_entry_and_a_late_commit_is_told() {
    let cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    cluster.settled().await;
    let leader = cluster.leader().await;
    let others: Vec<Place> = (1..=3).filter(|p| *p != leader).collect();
    slow_down(&cluster, &others, u64::MAX);
    let before = cluster.facts(leader);
    let mut answer = std::pin::pin!(cluster.propose(leader, vec![grant(leader)]));
    tokio::select! {
        answer = &mut answer => panic!("{answer:?} though no other disk has it"),
        () = sleep(8 * SECOND) => {}
    }
    let facts = cluster.facts(leader);
    assert!(facts.leading && facts.term == before.term, "it is heard all the time");
    assert_eq!(facts.applied, before.applied);
    assert!(facts.oldest.is_some_and(|(_, age)| age >= 7 * SECOND), "{:?}", facts.oldest);
    assert!(facts.peers.iter().all(|p| p.unanswered.is_some()), "it is named who does not acknowledge");
    assert!(!facts.others_could, "no majority has a disk that goes on");
    slow_down(&cluster, &others, 0);
    assert!(answer.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_is_elected_on_disks_slower_than_any_election_timeout() {
    for slow in [&[1, 2, 3][..], &[1], &[2], &[3], &[1, 2], &[2, 3], &[1, 3]] {
        for died in 1..=3 {
            let cluster = Cluster::started(3).await;
            cluster.commit(grant(1)).await;
            cluster.settled().await;
            while cluster.leader().await != died {
                let leader = cluster.leader().await;
                cluster.core(leader).transfer_leadership(died);
                cluster.until("the next leads", |c| c.facts(died).leading).await;
            }
            slow_down(&cluster, slow, 1_000);
            cluster.kill(died).await;
            let killed = Instant::now();
            cluster.commit(grant(2)).await;
            let took = killed.elapsed();
            println!("{took:?} after node {died}, slow: {slow:?}");
            // Two syncs for the votes, three for the first entries (the leader's own, what members read, the grant), one
            // that may be under way on each of the two; and two more whose cause is not traced yet.
            // Measured over 147 cases: 0.2 to 6.3 s, in 8 of them 7.3 s, in one 9.4 s.
            assert!(took < 9 * SECOND + 4 * LEASE, "{took:?} after node {died}, slow: {slow:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn leadership_is_transferred_on_slow_disks() {
    let cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    slow_down(&cluster, &[1, 2, 3], 1_000);
    let old = cluster.leader().await;
    let target = 1 + old % 3;
    cluster.commit(grant(target)).await;
    // As `control` does it: leadership goes only to a node that has acknowledged the grant.
    cluster.settled().await;
    cluster.core(old).transfer_leadership(target);
    let asked = Instant::now();
    cluster.until("the target leads", |c| c.facts(target).leading).await;
    assert!(asked.elapsed() < 4 * SECOND, "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn whoever_abdicates_follows_and_does_not_stand_and_leads_on_where_nobody_else_does() {
    let cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    cluster.settled().await;
    let old = cluster.leader().await;
    let term = cluster.facts(old).term;
    let lasts = 2 * SECOND;
    cluster.core(old).abdicate(lasts);
    let begun = Instant::now();
    let others: Vec<Place> = (1..=3).filter(|p| *p != old).collect();
    cluster.until("another leads", |c| others.iter().any(|p| c.facts(*p).leading)).await;
    assert!(begun.elapsed() >= LEASE / 2 && begun.elapsed() < 4 * LEASE, "{:?}", begun.elapsed());
    let heard = |c: &Cluster| {
        let leader = others.iter().find(|p| c.facts(**p).leading).expect("leads");
        c.facts(*leader).peers.into_iter().find(|p| p.place == old).expect("a peer")
    };
    cluster
        .until("it is heard, and would not lead", |c| heard(c).last_ack.is_some() && heard(c).silent)
        .await;
    cluster.commit(grant(1)).await;
    sleep(lasts).await;
    cluster.until("it would lead again", |c| !heard(c).silent).await;

    // With one other node that is gone, and one that does not elect anybody alone.
    let leader = cluster.leader().await;
    let (gone, left) = (1 + leader % 3, 1 + (leader + 1) % 3);
    cluster.kill(gone).await;
    let before = cluster.facts(leader);
    cluster.slow[&left].set(u64::MAX);
    cluster.core(leader).abdicate(lasts);
    sleep(lasts / 2).await;
    let now = cluster.begun.elapsed().as_nanos() as u64;
    let ack = cluster.facts(leader).quorum_ack_at;
    assert!(ack.is_none_or(|at| now - at.0 > LEASE.as_nanos() as u64), "its lease is over");
    cluster.slow[&left].set(0);
    let leads = cluster.leader().await;
    assert!(cluster.facts(leads).term >= before.term.max(term), "terms do not go back");
}

#[tokio::test(start_paused = true)]
async fn entries_left_by_an_earlier_term_keep_nobody_waiting() {
    let cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    let leader = cluster.leader().await;
    cluster.cut_off(leader, true);
    let left: Vec<_> = (0..8).map(|_| cluster.propose(leader, vec![grant(1); 512])).collect();
    let mut left = std::pin::pin!(futures::future::join_all(left));
    tokio::select! {
        _ = &mut left => {}
        () = sleep(4 * LEASE) => {}
    }
    cluster.cut_off(leader, false);
    let begun = Instant::now();
    cluster.commit(grant(2)).await;
    assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    let answers = left.await;
    assert!(
        answers.iter().all(|a| matches!(a, Ok(_) | Err(ProposeRefused::NotLeader | ProposeRefused::Unknown)))
    );
}
