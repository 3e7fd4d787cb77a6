//! Clusters of real nodes over TCP on loopback: beginning, commit, restart, loss of a store, transfer, notice of death.

mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::{Cluster, clock, grant, propose, register, registered, throughout, until};
use raft_store::command::{Command, Response};
use raft_store::node::{
    Node, Place, Position, Refused, StartError, Store, StoreError, incarnation_of, rebirths_of,
};

#[test]
fn a_cluster_that_begins_takes_every_node_in_under_its_first_id() {
    let cluster = Cluster::start(3);
    cluster.leader();
    until("all are voters of incarnation 0", || {
        cluster
            .running()
            .all(|n| n.facts().raft_id > 0 && incarnation_of(n.facts().raft_id) == 0)
            .then_some(())
    });
}

#[test]
fn one_node_alone_leads_at_once_and_keeps_what_it_committed_over_a_restart() {
    let mut cluster = Cluster::start(1);
    assert!(registered(&cluster.commit(&register("alice", 1))));
    cluster.down(1);
    cluster.up(1);
    cluster.leader();
    until("the binding", || cluster.node(1).read(|s| (s.counts().bindings == 1).then_some(())));
}

#[test]
fn what_is_committed_is_on_every_node_and_the_grant_has_its_index_as_token() {
    let cluster = Cluster::start(3);
    let Response::Granted { token } = cluster.commit(&grant(2)) else { panic!("a grant") };
    for n in 0..50 {
        assert!(registered(&cluster.commit(&register(&format!("user{n}"), 1))));
    }
    cluster.settle();
    for node in cluster.running() {
        let facts = node.facts();
        assert_eq!(facts.grant.map(|g| (g.holder, g.token)), Some((2, token)));
        assert_eq!(node.read(|s| s.counts().bindings), 50);
    }
}

#[test]
fn a_node_that_does_not_lead_refuses_and_passes_on_what_an_operator_asks() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let other = (1..=3).find(|p| *p != leader).expect("another");
    assert_eq!(propose(cluster.node(other), &grant(1)), Err(Refused::NotLeader));
    let (tx, rx) = mpsc::channel();
    cluster.node(other).propose_anywhere(vec![grant(3)], Box::new(move |r| drop(tx.send(r))));
    let answer = rx.recv_timeout(Duration::from_secs(20)).expect("answered").expect("committed");
    assert!(matches!(answer[..], [Response::Granted { .. }]));
}

#[test]
fn no_single_node_is_missed_and_it_catches_up_when_it_is_back() {
    let mut cluster = Cluster::start(3);
    for round in 0..3 {
        let leader = cluster.leader();
        cluster.commit(&register("before", 1 + 2 * round));
        cluster.down(leader);
        let next = cluster.leader();
        assert_ne!(next, leader);
        assert!(registered(&cluster.commit(&register("after", 2 + 2 * round))));
        cluster.up(leader);
        cluster.settle();
        until("the node that is back has applied all", || {
            let applied: Vec<_> = cluster.running().map(|n| n.facts().applied).collect();
            applied.windows(2).all(|w| w[0] == w[1]).then_some(())
        });
    }
}

#[test]
fn a_cluster_does_not_begin_before_every_node_has_said_that_it_knows_none() {
    let mut cluster = Cluster::prepare(3);
    cluster.up(1);
    cluster.up(2);
    // Measured: three of the longest election timeouts, in which a cluster of two of three would have got a leader.
    throughout(Duration::from_secs(3), "no leader", || cluster.running().all(|n| n.facts().leader.is_none()));
    cluster.up(3);
    cluster.leader();
}

#[test]
fn a_node_with_an_empty_store_comes_back_under_a_new_id_and_votes_again() {
    let mut cluster = Cluster::start(3);
    cluster.commit(&register("alice", 1));
    let lost: Place = (1..=3).find(|p| *p != cluster.leader()).expect("a follower");
    cluster.down(lost);
    std::fs::remove_dir_all(cluster.data(lost)).expect("wiped");
    cluster.commit(&register("bob", 1));
    cluster.up(lost);
    let id = until("a voter again", || {
        let facts = cluster.node(cluster.leader()).facts();
        facts.peers.iter().find(|p| p.place == lost && p.voter && incarnation_of(p.id) > 0).map(|p| p.id)
    });
    cluster.settle();
    until("all have heard the end of the membership change, without which the old id still counts", || {
        let ids = |n: &Node| n.facts().peers.into_iter().filter(|p| p.place == lost).map(|p| (p.id, p.voter));
        let one = |n: &Node| n.facts().raft_id == id || ids(n).eq([(id, true)]);
        let own = cluster.node(lost);
        (own.facts().raft_id == id && ids(own).next().is_none() && cluster.running().all(one)).then_some(())
    });
    assert_eq!(cluster.node(lost).read(|s| s.counts().bindings), 2);
    // Its vote counts: with it, one of the others may be lost.
    let other = (1..=3).find(|p| *p != lost).expect("another");
    cluster.down(other);
    assert!(registered(&cluster.commit(&register("carol", 1))));
}

#[test]
fn a_store_that_does_not_verify_is_set_aside_and_the_node_rejoins() {
    let mut cluster = Cluster::start(3);
    for n in 0..20 {
        cluster.commit(&register(&format!("user{n}"), 1));
    }
    let hurt: Place = (1..=3).find(|p| *p != cluster.leader()).expect("a follower");
    cluster.settle();
    cluster.down(hurt);
    let log = cluster.data(hurt).join("store/log");
    let segment = std::fs::read_dir(&log).expect("log").flatten().map(|e| e.path());
    let segment = segment.into_iter().find(|p| p.extension().is_some_and(|e| e == "seg")).expect("a segment");
    let mut bytes = std::fs::read(&segment).expect("read");
    // Behind the records there are only zeros.
    let at = bytes.iter().rposition(|b| *b != 0).expect("records") / 4;
    bytes[at] ^= 0x55;
    std::fs::write(&segment, bytes).expect("written");
    cluster.up(hurt);
    until("a voter again", || {
        let facts = cluster.node(cluster.leader()).facts();
        facts.peers.iter().find(|p| p.place == hurt && p.voter && incarnation_of(p.id) > 0).map(drop)
    });
    cluster.settle();
    let names = std::fs::read_dir(cluster.data(hurt)).expect("data").flatten();
    assert!(names.into_iter().any(|e| e.file_name().to_string_lossy().starts_with("set-aside-")));
}

/// Flips a bit in a file of a node that is down.
fn flip(cluster: &Cluster, place: Place, file: &str) {
    // What has a copy is damaged there, too.
    for path in [file.to_owned(), format!("{file}.copy")].map(|f| cluster.data(place).join(f)) {
        let Ok(mut bytes) = std::fs::read(&path) else { continue };
        bytes[8] ^= 0x10;
        std::fs::write(&path, bytes).expect("written");
    }
}

#[test]
fn three_damaged_stores_are_never_the_beginning_of_an_empty_cluster() {
    let mut cluster = Cluster::start(3);
    cluster.commit(&register("alice", 1));
    cluster.settle();
    for place in 1..=3 {
        cluster.down(place);
        flip(&cluster, place, "store/log/META");
    }
    for place in 1..=3 {
        cluster.up(place);
    }
    until("each names the file and a command", || {
        let told =
            |n: &Node| n.waits().is_some_and(|w| w.contains("META") && w.contains("relevo store check"));
        cluster.running().all(told).then_some(())
    });
    throughout(Duration::from_secs(3), "nobody leads", || {
        cluster.running().all(|n| n.facts().leader.is_none())
    });
    for place in 1..=3 {
        cluster.down(place);
        // Mended by hand: nothing was thrown away.
        flip(&cluster, place, "store/log/META");
    }
    for place in 1..=3 {
        cluster.up(place);
    }
    cluster.leader();
    until("the binding", || cluster.node(1).read(|s| (s.counts().bindings == 1).then_some(())));
}

#[test]
fn a_node_alone_with_a_damaged_store_does_not_start_and_says_what_and_where() {
    let mut cluster = Cluster::start(1);
    cluster.commit(&register("alice", 1));
    cluster.down(1);
    flip(&cluster, 1, "store/log/META");
    let error = cluster.try_up(1).err().expect("refused");
    assert!(matches!(error, StartError::Store(StoreError::Damaged(_))), "{error}");
    let words = error.to_string();
    assert!(words.contains("META at byte 0") && words.contains("relevo store repair"), "{words}");
    flip(&cluster, 1, "store/log/META");
    cluster.up(1);
    until("the binding", || cluster.node(1).read(|s| (s.counts().bindings == 1).then_some(())));
}

#[test]
fn a_cluster_begun_anew_from_a_state_takes_in_the_nodes_of_the_former_one() {
    let mut cluster = Cluster::start(3);
    cluster.commit(&register("alice", 1));
    cluster.settle();
    let facts = cluster.node(1).facts();
    let (state, token) = cluster.node(1).read(|s| (s.clone(), s.grant().map(|g| g.token)));
    for place in 1..=3 {
        cluster.down(place);
    }
    let config = cluster.config(1);
    let store = Store::lock(&config.data, &config.cluster, 1, config.durability).expect("locked");
    let beyond = Position { term: facts.term, index: facts.last_log };
    let id = store.begin_from(&state, beyond, config.places[0].into()).expect("begun");
    drop(store);
    // The majority of the former cluster is back first, and has a leader: the newborn waits.
    cluster.up(2);
    cluster.up(3);
    let former = cluster.leader();
    cluster.up(1);
    throughout(Duration::from_secs(2), "the newborn waits", || cluster.node(1).facts().leader.is_none());
    cluster.down(former);
    // The one that is left has no majority: it gives the former cluster up.
    until("the newborn leads", || cluster.node(1).facts().leading.then_some(()));
    cluster.up(former);
    until("all are voters of the newborn cluster", || {
        let facts = cluster.node(1).facts();
        (facts.peers.len() == 2 && facts.peers.iter().all(|p| p.voter && incarnation_of(p.id) > 0))
            .then_some(())
    });
    let Response::Granted { token: new } = cluster.commit(&grant(2)) else { panic!("a grant") };
    assert!(Some(new) > token && cluster.node(1).facts().raft_id == id);
    cluster.settle();
    for node in cluster.running() {
        assert_eq!(rebirths_of(node.facts().term), 1);
        assert_eq!(node.read(|s| s.counts().bindings), 1);
    }
}

#[test]
fn leadership_goes_where_it_is_sent_and_the_sender_remembers_that_it_tried() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let to = (1..=3).find(|p| *p != leader).expect("another");
    cluster.settle();
    let term = cluster.node(leader).facts().term;
    cluster.node(leader).transfer_leadership(to);
    assert_eq!(cluster.node(leader).facts().transfer_tried_in, Some(term));
    until("the other leads", || (cluster.leader() == to).then_some(()));
    assert!(cluster.node(to).facts().term > term);
}

#[test]
fn a_notice_of_death_replaces_the_leader_without_waiting_for_the_lease() {
    let mut cluster = Cluster::start(3);
    cluster.commit(&register("alice", 1));
    let leader = cluster.leader();
    let term = cluster.node(leader).facts().term;
    cluster.settle();
    cluster.down(leader);
    let heir = (1..=3).find(|p| *p != leader).expect("another");
    for node in cluster.running() {
        node.leader_is_dead(leader, term, heir);
    }
    until("the heir leads", || (cluster.leader() == heir).then_some(()));
}

#[test]
fn a_notice_about_an_earlier_term_or_another_node_changes_nothing() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let term = cluster.node(leader).facts().term;
    let other = (1..=3).find(|p| *p != leader).expect("another");
    for node in cluster.running() {
        node.leader_is_dead(other, term, other);
        node.leader_is_dead(leader, term + 1, other);
        node.leader_is_dead(leader, term - 1, other);
    }
    // Proposals pass through the same queue of openraft behind the notices.
    for n in 0..20 {
        cluster.commit(&register("alice", n + 1));
    }
    assert_eq!((cluster.leader(), cluster.node(leader).facts().term), (leader, term));
}

#[test]
fn the_quorum_acknowledgement_stands_still_when_the_peers_are_gone() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let first = cluster.node(leader).facts().quorum_ack_at.expect("acknowledged");
    until("it moves", || cluster.node(leader).facts().quorum_ack_at.filter(|at| *at > first));
    for place in (1..=3).filter(|p| *p != leader) {
        cluster.down(place);
    }
    let gone = clock();
    // Measured: five leases, or fifty heartbeats. An acknowledgement that does not stand still shows within one.
    throughout(Duration::from_secs(5), "no newer acknowledgement", || {
        cluster.node(leader).facts().quorum_ack_at.is_none_or(|at| at <= gone)
    });
    assert!(propose(cluster.node(leader), &register("alice", 1)).is_err());
}

#[test]
fn a_node_that_was_away_too_long_gets_a_snapshot() {
    let mut cluster = Cluster::start(3);
    cluster.commit(&register("alice", 1));
    let away: Place = (1..=3).find(|p| *p != cluster.leader()).expect("a follower");
    cluster.down(away);
    let leader = cluster.leader();
    // More entries than are kept behind a snapshot; each proposal alone, so that each is an entry.
    let (tx, rx) = mpsc::channel();
    let mut sent = 0;
    let mut answered = 0;
    while answered < 9_000 {
        while sent < 9_000 && sent - answered < 2_000 {
            let tx = tx.clone();
            let commands: Vec<Command> = vec![register("alice", sent + 2)];
            cluster.node(leader).propose(commands, Box::new(move |r| assert!(tx.send(r.is_ok()).is_ok())));
            sent += 1;
            if sent % 4 == 0 {
                break;
            }
        }
        assert!(rx.recv_timeout(Duration::from_secs(20)).expect("answered"));
        answered += 1;
    }
    until("a snapshot", || Some(cluster.node(leader).facts().applied).filter(|a| *a > 0));
    cluster.up(away);
    cluster.settle();
    until("caught up", || {
        let applied = |n: &Node| n.facts().applied;
        (applied(cluster.node(away)) == applied(cluster.node(leader))).then_some(())
    });
}

#[test]
fn a_data_folder_is_for_one_process_one_cluster_and_one_node() {
    let mut cluster = Cluster::start(1);
    cluster.commit(&register("alice", 1));
    let error = cluster.try_up(1).err().expect("in use").to_string();
    assert!(error.contains("in use by another relevo"), "{error}");
    cluster.down(1);
    let mut config = cluster.config(1);
    config.cluster = "other".into();
    let error = Node::start(config).err().expect("foreign").to_string();
    assert!(error.contains("cluster test") && error.contains("cluster other"), "{error}");
    cluster.up(1);
    until("all is still there", || cluster.node(1).read(|s| (s.counts().bindings == 1).then_some(())));
}

#[test]
fn a_node_with_another_lease_is_no_member() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let odd = (1..=3).find(|p| *p != leader).expect("a follower");
    cluster.down(odd);
    let mut config = cluster.config(odd);
    config.election_max *= 2;
    cluster.nodes[usize::from(odd) - 1] = Some(Node::start(config).expect("starts"));
    // The two others go on; the odd one gets nothing of it.
    for n in 0..20 {
        assert!(registered(&propose_until(&cluster, leader, n)));
    }
    let last = |place: Place| cluster.node(place).facts().last_log;
    assert!(last(odd) + 20 <= last(leader), "{} {}", last(odd), last(leader));
}

fn propose_until(cluster: &Cluster, leader: Place, n: u32) -> Response {
    until("a commit", || propose(cluster.node(leader), &register("alice", n + 1)).ok())
}
