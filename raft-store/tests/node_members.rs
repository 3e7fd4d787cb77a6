//! Stories of operators who change who is in the cluster.

mod wire;

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use raft_store::node::core::Peer;
use raft_store::node::members::{Ask, Listing, Newcomer};
use raft_store::node::{Member, Place, Role, join, place_of};
use wire::{Cluster, PATIENCE, grant};

/// Incarnation under which a newcomer starts.
const LATER: u64 = 1_800_000_000_000;
/// Time to catch up that is more than enough (s).
const WAIT_S: u32 = 30;

fn newcomer(place: Place) -> Newcomer {
    let addr = ([127, 0, 0, 1], 7000 + place).into();
    Newcomer { place, member: Member { addr, role: Role::Appliance }, again: false }
}

/// Starts a machine that was never a member: the others do not have it in their configuration.
async fn arrives(cluster: &mut Cluster, place: Place) {
    let Newcomer { member, .. } = newcomer(place);
    cluster.disks.insert(place, raft_store::disk::sim::SimDisk::new());
    cluster.slow.insert(place, raft_store::log::Slowness::default());
    if !cluster.places.iter().any(|p| p.place == place) {
        cluster.places.push(Peer { place, role: member.role, addr: member.addr });
    }
    let core = cluster.start(place, LATER, false).await.expect("starts");
    tokio::spawn(async move { join::enter(&core).await });
}

fn listing(cluster: &Cluster, place: Place) -> Listing {
    cluster.core(place).members()
}

fn voters(cluster: &Cluster, place: Place) -> Vec<Vec<Place>> {
    let places = |set: &BTreeSet<u64>| set.iter().map(|id| place_of(*id)).collect::<BTreeSet<_>>();
    listing(cluster, place).sets.iter().map(|set| places(set).into_iter().collect()).collect()
}

async fn ask(cluster: &Cluster, on: Place, ask: Ask) -> Result<usize, String> {
    let core = cluster.core(on);
    let asked = tokio::time::timeout(PATIENCE, core.change_members(ask));
    asked.await.expect("answered").map(|done| done.losses()).map_err(|refusal| refusal.to_string())
}

/// Two places beside the leader's.
async fn others(cluster: &Cluster) -> (Place, Place, Place) {
    let leader = cluster.leader().await;
    (leader, 1 + leader % 3, 1 + (leader + 1) % 3)
}

async fn lists(cluster: &Cluster, on: Place, losses: Option<usize>) {
    cluster.until("the list says so", |c| listing(c, on).losses() == losses).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_node_is_replaced_under_a_new_id_and_the_next_loss_is_borne() {
    let mut cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    let (leader, lost, other) = others(&cluster).await;
    cluster.commit(grant(leader)).await;
    lists(&cluster, leader, Some(1)).await;
    cluster.kill(lost).await;
    lists(&cluster, leader, Some(0)).await;
    arrives(&mut cluster, 4).await;
    cluster
        .until("it says what it waits for", |c| {
            listing(c, 4)
                .outside
                .is_some_and(|why| why.contains("relevo members replace OLD 4 127.0.0.1:7004"))
        })
        .await;
    assert_eq!(voters(&cluster, leader).len(), 1, "nobody is taken in by itself");
    // Asked on a follower, which passes it on.
    let replace = Ask::Replace { place: lost, newcomer: newcomer(4), wait_s: WAIT_S };
    assert_eq!(ask(&cluster, other, replace).await, Ok(1));
    let expected: Vec<Place> = (1..=4).filter(|p| *p != lost).collect();
    cluster.until("all know", |c| expected.iter().all(|p| voters(c, *p) == [expected.clone()])).await;
    cluster.until("the newcomer waits for nothing", |c| listing(c, 4).outside.is_none()).await;
    assert!(listing(&cluster, leader).removed.contains(&lost));
    cluster.kill(leader).await;
    cluster.commit(grant(other)).await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_node_hears_of_it_and_comes_back_only_when_an_operator_says_so() {
    let mut cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    let (leader, gone, other) = others(&cluster).await;
    cluster.commit(grant(leader)).await;
    lists(&cluster, leader, Some(1)).await;
    assert_eq!(ask(&cluster, other, Ask::Remove { place: gone }).await, Ok(0), "two voters bear no loss");
    cluster
        .until("it knows", |c| listing(c, gone).outside.is_some_and(|why| why.contains("was removed")))
        .await;
    let removed = ask(&cluster, leader, Ask::Remove { place: gone }).await;
    assert!(removed.clone().is_err_and(|why| why.contains("no member")), "{removed:?}");
    cluster.kill(gone).await;
    cluster.wipe(gone);
    arrives(&mut cluster, gone).await;
    cluster
        .until("it is not taken in", |c| listing(c, gone).outside.is_some_and(|why| why.contains("--again")))
        .await;
    let wait_s = WAIT_S;
    let add = ask(&cluster, leader, Ask::Add { newcomer: newcomer(gone), wait_s }).await;
    assert!(add.clone().is_err_and(|why| why.contains("was a member before")), "{add:?}");
    let again = Newcomer { again: true, ..newcomer(gone) };
    assert_eq!(ask(&cluster, leader, Ask::Add { newcomer: again, wait_s }).await, Ok(1));
    assert!(listing(&cluster, leader).removed.is_empty());
    cluster.kill(leader).await;
    cluster.commit(grant(other)).await;
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_that_does_not_catch_up_is_taken_out_again_and_two_changes_at_once_are_refused() {
    let mut cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    let (leader, other, _) = others(&cluster).await;
    cluster.commit(grant(leader)).await;
    lists(&cluster, leader, Some(1)).await;
    let silent = ask(&cluster, leader, Ask::Add { newcomer: newcomer(4), wait_s: 2 }).await;
    assert!(silent.clone().is_err_and(|why| why.contains("does not answer on 127.0.0.1:7004")), "{silent:?}");
    arrives(&mut cluster, 4).await;
    let core = cluster.core(leader);
    let adding =
        tokio::spawn(async move { core.change_members(Ask::Add { newcomer: newcomer(4), wait_s: 5 }).await });
    // Cut off as soon as it is a learner.
    let nodes = |c: &Cluster| listing(c, leader).members.len();
    cluster.until("it is a learner", |c| nodes(c) == 4).await;
    cluster.cut_off(4, true);
    let second = ask(&cluster, other, Ask::Remove { place: other }).await;
    assert!(second.clone().is_err_and(|why| why.contains("under way")), "{second:?}");
    let failed = adding.await.expect("answers").map_err(|refusal| refusal.to_string());
    assert!(failed.clone().is_err_and(|why| why.contains("taken out again")), "{failed:?}");
    assert_eq!((nodes(&cluster), voters(&cluster, leader)), (3, vec![vec![1, 2, 3]]));
    cluster.cut_off(4, false);
    cluster.kill(leader).await;
    cluster.commit(grant(other)).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_the_nodes_heard_now_would_not_bear_is_refused_and_changes_nothing() {
    let cluster = Cluster::started(3).await;
    cluster.commit(grant(1)).await;
    let (leader, lost, other) = others(&cluster).await;
    cluster.commit(grant(leader)).await;
    let holder = ask(&cluster, other, Ask::Remove { place: leader }).await;
    assert!(holder.clone().is_err_and(|why| why.contains("relevo switchover")), "{holder:?}");
    cluster.kill(lost).await;
    lists(&cluster, leader, Some(0)).await;
    let fatal = ask(&cluster, leader, Ask::Remove { place: other }).await;
    assert!(fatal.clone().is_err_and(|why| why.contains("the service would end")), "{fatal:?}");
    assert_eq!(voters(&cluster, leader), [[1, 2, 3]]);
    assert!(listing(&cluster, leader).removed.is_empty());
    // The lost one goes, and the two that are left agree.
    assert_eq!(ask(&cluster, leader, Ask::Remove { place: lost }).await, Ok(0));
    cluster.commit(grant(other)).await;
}

/// Says it on whoever leads, until it is done, or was done already.
async fn insist(cluster: &mut Cluster, what: Ask, other: Place) {
    let mut said = Vec::new();
    for _ in 0..200 {
        let leader = cluster.leader().await;
        match ask(cluster, leader, what).await {
            Ok(_) => return,
            Err(why) if why.contains("is a member already") || why.contains("is no member") => return,
            Err(why) => {
                if why.contains("leads the cluster at this moment") {
                    // As the control thread does it: leadership follows the holder.
                    cluster.core(leader).transfer_leadership(other);
                }
                if why.contains("move its data folder away") {
                    // It was a learner of the change that went with its leader: the cure, as an operator reads it.
                    cluster.kill(4).await;
                    arrives(cluster, 4).await;
                }
                said.push(why);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    said.dedup();
    panic!("it was never done: {said:#?}");
}

/// A step of a change, as it is seen by whoever looks at the leader.
type Step = fn(&Cluster, Place) -> bool;

#[tokio::test(start_paused = true)]
async fn the_leader_is_lost_at_each_step_and_the_change_is_finished_by_saying_it_again() {
    let steps: [(&str, Step); 4] = [
        ("a learner", |c, on| listing(c, on).members.len() == 4),
        ("the mark", |c, on| !listing(c, on).removed.is_empty()),
        ("the joint step", |c, on| listing(c, on).sets.len() == 2),
        ("the last step", |c, on| listing(c, on).sets.len() == 1 && voters(c, on).concat().contains(&4)),
    ];
    for (name, seen) in steps {
        let mut cluster = Cluster::started(3).await;
        cluster.commit(grant(1)).await;
        let (leader, place, other) = others(&cluster).await;
        cluster.commit(grant(leader)).await;
        lists(&cluster, leader, Some(1)).await;
        arrives(&mut cluster, 4).await;
        let core = cluster.core(leader);
        let what = Ask::Replace { place, newcomer: newcomer(4), wait_s: WAIT_S };
        let changing = tokio::spawn(async move { core.change_members(what).await });
        cluster.until(name, |c| seen(c, leader)).await;
        cluster.kill(leader).await;
        drop(changing.await);
        // With one lost, the other three must go on, whatever step was reached.
        cluster.commit(grant(other)).await;
        cluster.until("nothing is half done", |c| listing(c, other).sets.len() == 1).await;
        cluster.start(leader, 0, true).await.expect("comes back");
        insist(&mut cluster, what, other).await;
        let expected: Vec<Place> = (1..=4).filter(|p| *p != place).collect();
        cluster.until(name, |c| expected.iter().all(|p| voters(c, *p) == [expected.clone()])).await;
        let metrics = cluster.core(4).raft().metrics();
        let nodes = metrics.borrow_watched().membership_config.membership().nodes().count();
        assert_eq!(nodes, 3, "{name}: nobody is left over");
        let leader = cluster.leader().await;
        cluster.kill(leader).await;
        cluster.commit(grant(4)).await;
    }
}
