//! The decision, row by row; and, in `model`, random clusters in which two nodes must never own at once.

mod fitness;
mod hand_over;
mod maintenance;
mod model;
mod stall;

use std::time::Duration;

use proxy_core::time::{MonoTime, WallTime};

use super::*;

const DRAINED: Fitness = Fitness::FIT.with(Ailment::Drained);
const LEASE: Duration = Duration::from_millis(150);

fn at(ms: u64) -> MonoTime {
    MonoTime(1_000_000_000 + ms * 1_000_000)
}

fn control(place: Place) -> Control {
    Control::new(Settings { place, appliances: vec![1, 2], lease: LEASE })
}

/// Facts of a leader in term 5 whose quorum acknowledged at 0 ms and who hears both others.
fn leading(grant: Option<(Place, u64)>) -> Facts {
    Facts {
        term: 5,
        leader: Some(1),
        leading: true,
        applied: 40,
        last_log: 40,
        grant: grant.map(|(holder, token)| Grant { holder, token }),
        quorum_ack_at: Some(at(0)),
        transfer_tried_in: None,
        peers: [2, 3]
            .map(|place| Peer { place, lag: Some(0), last_ack: Some(at(0)), ..Peer::default() })
            .to_vec(),
        ..Facts::default()
    }
}

/// A grant of this term is applied; the others have it.
fn granted(facts: &mut Facts, holder: Place, token: u64) {
    facts.grant = Some(Grant { holder, token });
    (facts.applied, facts.last_log) = (token, token);
}

/// All others answer what was sent at this time.
fn heard(facts: &mut Facts, ms: u64) {
    facts.peers.iter_mut().for_each(|p| p.last_ack = Some(at(ms)));
}

fn up(token: u64) -> Goal {
    Goal::Up { token }
}

#[test]
fn a_leader_named_by_the_newest_grant_with_a_fresh_quorum_is_active_until_the_lease_ends() {
    let mut c = control(1);
    let facts = leading(Some((1, 7)));
    let d = c.decide(at(10), &facts, Resources::Stopped);
    assert_eq!((d.goal, d.lease_until), (up(7), Some(at(140))));
    assert_eq!(d.ask, []);
    assert_eq!(d.heir, Some(2));
    assert_eq!(c.decide(at(139), &facts, Resources::Started).goal, up(7));
    let late = c.decide(at(140), &facts, Resources::Started);
    assert_eq!((late.goal, late.lease_until), (Goal::Down, None));
}

/// A leader that dies in its first milliseconds, too, leaves a successor: the guard tells the peers nothing without one.
#[test]
fn a_leader_names_an_heir_before_any_appliance_has_acknowledged_its_term() {
    let mut facts = leading(Some((1, 7)));
    // The quorum is the witness; the other appliance has answered nothing in this term yet.
    facts.peers[0] = Peer { place: 2, lag: None, last_ack: None, ..Peer::default() };
    assert_eq!(control(1).decide(at(10), &facts, Resources::Stopped).heir, Some(2));
    facts.fitness = vec![(2, DRAINED)];
    assert_eq!(control(1).decide(at(10), &facts, Resources::Stopped).heir, Some(2), "better than none");
    let three = Settings { place: 1, appliances: vec![1, 2, 3], lease: LEASE };
    facts.fitness.clear();
    let heir = Control::new(three).decide(at(10), &facts, Resources::Stopped).heir;
    assert_eq!(heir, Some(3), "one that is ready comes first");
}

/// The former holder starts again, and silent for a lease, while the grant to its successor is on its way: a transfer to
/// it would be no help, and end this term in which the successor could have led.
#[test]
fn a_witness_that_has_proposed_a_grant_waits_for_it_though_the_former_holder_is_back() {
    let mut witness = control(3);
    let mut facts = leading(Some((1, 7)));
    facts.leader = Some(3);
    facts.peers = vec![
        Peer { place: 1, lag: None, last_ack: None, ..Peer::default() },
        Peer { place: 2, lag: Some(0), last_ack: Some(at(0)), ..Peer::default() },
    ];
    assert_eq!(witness.decide(at(10), &facts, Resources::Stopped).ask, [Ask::Grant { holder: 2 }]);
    facts.peers[0] = Peer { place: 1, lag: Some(0), last_ack: Some(at(20)), ..Peer::default() };
    facts.quorum_ack_at = Some(at(20));
    assert_eq!(witness.decide(at(30), &facts, Resources::Stopped).ask, []);
    granted(&mut facts, 2, 41);
    assert_eq!(witness.decide(at(40), &facts, Resources::Stopped).ask, [Ask::Transfer { to: 2 }]);
}

#[test]
fn each_missing_condition_alone_keeps_a_node_from_owning() {
    let good = leading(Some((1, 7)));
    assert_eq!(control(1).decide(at(10), &good, Resources::Stopped).goal, up(7), "the base case owns");
    let broken: [(&str, Facts); 7] = [
        ("not leading", Facts { leading: false, ..good.clone() }),
        ("no grant", Facts { grant: None, ..good.clone() }),
        ("grant of another", leading(Some((2, 7)))),
        ("no quorum yet", Facts { quorum_ack_at: None, ..good.clone() }),
        ("quorum too old", Facts { quorum_ack_at: Some(MonoTime(0)), ..good.clone() }),
        ("transfer tried in this term", Facts { transfer_tried_in: Some(5), ..good.clone() }),
        ("own log not applied", Facts { applied: 39, ..good.clone() }),
    ];
    for (what, facts) in broken {
        assert_eq!(control(1).decide(at(10), &facts, Resources::Stopped).goal, Goal::Down, "{what}");
    }
}

#[test]
fn a_new_leader_that_has_to_wait_looks_again_soon_but_not_for_ever() {
    let mut c = control(1);
    let waiting = |now: u64| Facts { applied: 30, quorum_ack_at: Some(at(now)), ..leading(Some((1, 7))) };
    assert!(c.decide(at(1), &waiting(1), Resources::Stopped).soon);
    assert!(!c.decide(at(700), &waiting(700), Resources::Stopped).soon);
    assert!(
        !control(1).decide(at(1), &leading(Some((1, 7))), Resources::Started).soon,
        "nothing to wait for"
    );
    let standby = Facts { leading: false, ..waiting(1) };
    assert!(!control(1).decide(at(1), &standby, Resources::Stopped).soon);
}

#[test]
fn a_transfer_tried_in_an_earlier_term_does_not_matter() {
    let facts = Facts { transfer_tried_in: Some(4), ..leading(Some((1, 7))) };
    assert_eq!(control(1).decide(at(10), &facts, Resources::Stopped).goal, up(7));
}

#[test]
fn a_new_leader_waits_for_its_log_to_be_applied_before_it_judges_the_grant() {
    let mut c = control(1);
    let mut facts = Facts { applied: 30, ..leading(Some((1, 7))) };
    let d = c.decide(at(1), &facts, Resources::Stopped);
    assert_eq!((d.goal, d.ask), (Goal::Down, vec![]));
    // The log grows meanwhile; what counts is where it ended when leadership began.
    facts.last_log = 50;
    facts.applied = 40;
    assert_eq!(c.decide(at(2), &facts, Resources::Stopped).goal, up(7));
}

#[test]
fn a_new_leader_grants_to_itself_and_is_active_when_the_grant_is_applied() {
    let mut c = control(1);
    let mut facts = leading(Some((2, 7)));
    let d = c.decide(at(1), &facts, Resources::Stopped);
    assert_eq!((d.goal, d.ask), (Goal::Down, vec![Ask::Grant { holder: 1 }]));
    assert_eq!(c.decide(at(2), &facts, Resources::Stopped).ask, [], "not asked twice");
    granted(&mut facts, 1, 41);
    let d = c.decide(at(3), &facts, Resources::Stopped);
    assert_eq!((d.goal, d.ask), (up(41), vec![]));
}

#[test]
fn a_leader_of_this_moment_asks_for_its_grant_with_its_first_entry_and_once() {
    let mut c = control(1);
    let new = Facts { quorum_ack_at: None, applied: 30, ..leading(Some((2, 7))) };
    assert_eq!(c.decide(at(1), &new, Resources::Stopped).ask, [Ask::Grant { holder: 1 }]);
    c.grant_refused();
    assert_eq!(
        c.decide(at(2), &new, Resources::Stopped).ask,
        [],
        "without a quorum it would only fill the log"
    );
    let mut witness = control(3);
    assert_eq!(witness.decide(at(1), &new, Resources::Stopped).ask, [], "whom to choose is in the log");
    let mut named = control(1);
    let facts = Facts { grant: Some(Grant { holder: 1, token: 7 }), ..new };
    assert_eq!(named.decide(at(1), &facts, Resources::Stopped).ask, []);
}

#[test]
fn a_grant_that_is_refused_is_proposed_again_at_once_and_a_silent_one_after_its_time() {
    let mut c = control(1);
    let facts = |now: u64| Facts { quorum_ack_at: Some(at(now)), ..leading(None) };
    assert_eq!(c.decide(at(0), &facts(0), Resources::Stopped).ask.len(), 1);
    c.grant_refused();
    assert_eq!(c.decide(at(1), &facts(1), Resources::Stopped).ask.len(), 1);
    assert_eq!(c.decide(at(500), &facts(500), Resources::Stopped).ask.len(), 0);
    assert_eq!(c.decide(at(501), &facts(501), Resources::Stopped).ask.len(), 1);
}

#[test]
fn a_witness_that_leads_grants_to_the_best_appliance_within_reach_and_transfers() {
    let mut c = control(3);
    let peers = |heard: [Option<MonoTime>; 2]| {
        [1, 2]
            .map(|p| Peer { place: p, lag: Some(0), last_ack: heard[usize::from(p) - 1], ..Peer::default() })
            .to_vec()
    };
    // The old holder, 1, is lost.
    let mut facts = Facts { peers: peers([None, Some(at(0))]), ..leading(Some((1, 7))) };
    assert_eq!(c.decide(at(1), &facts, Resources::Stopped).ask, [Ask::Grant { holder: 2 }]);
    granted(&mut facts, 2, 41);
    let d = c.decide(at(2), &facts, Resources::Stopped);
    assert_eq!((d.goal, d.ask), (Goal::Down, vec![Ask::Transfer { to: 2 }]));
    assert_eq!(c.decide(at(3), &facts, Resources::Stopped).ask, [], "one transfer per term");
    // Elected again in a higher term, it tries again.
    facts.term = 6;
    assert_eq!(c.decide(at(4), &facts, Resources::Stopped).ask, [Ask::Transfer { to: 2 }]);
}

#[test]
fn a_witness_keeps_the_holder_that_is_still_there() {
    let mut c = control(3);
    let peers =
        [1, 2].map(|p| Peer { place: p, lag: Some(0), last_ack: Some(at(0)), ..Peer::default() }).to_vec();
    let facts = Facts { peers, ..leading(Some((2, 7))) };
    assert_eq!(c.decide(at(1), &facts, Resources::Stopped).ask, [Ask::Transfer { to: 2 }]);
}

#[test]
fn leadership_is_not_handed_to_a_node_that_has_just_started_and_would_not_hear_it() {
    let peers = |silent| {
        [1, 2]
            .map(|p| Peer {
                place: p,
                lag: Some(0),
                last_ack: Some(at(0)),
                silent: p == 1 && silent,
                ..Peer::default()
            })
            .to_vec()
    };
    // The old holder, 1, died and is back.
    let mut facts = Facts { peers: peers(true), ..leading(Some((1, 7))) };
    let mut c = control(3);
    let d = c.decide(at(1), &facts, Resources::Stopped);
    assert_eq!((d.ask, d.heir), (vec![Ask::Grant { holder: 2 }], Some(2)));
    let mut active = control(2);
    let served = Facts { grant: Some(Grant { holder: 2, token: 7 }), ..facts.clone() };
    assert_eq!(active.decide(at(1), &served, Resources::Started).goal, up(7));
    let why = vec![(1, NotReady::JustStarted)];
    assert_eq!(active.switchover(at(1), Some(1), &served), Err(CannotSwitch::NotReady { why }));
    // What was decided for it a moment ago stands.
    facts.grant = Some(Grant { holder: 1, token: 41 });
    for who in [2, 3] {
        let mut c = control(who);
        assert_eq!(c.decide(at(2), &facts, Resources::Stopped).ask, [], "node {who} waits");
        let heard = Facts { peers: peers(false), applied: 41, last_log: 41, ..facts.clone() };
        assert_eq!(c.decide(at(3), &heard, Resources::Stopped).ask, [Ask::Transfer { to: 1 }]);
    }
}

#[test]
fn a_node_that_is_being_taken_in_again_is_no_candidate_and_no_target() {
    let mut facts = leading(Some((1, 7)));
    let back = Peer { learns: true, ..facts.peers[0] };
    facts.peers[0] = Peer { last_ack: None, lag: None, ..facts.peers[0] };
    facts.peers.push(back);
    let mut c = control(1);
    assert_eq!(c.decide(at(1), &facts, Resources::Started).goal, up(7));
    let why = vec![(2, NotReady::Learner)];
    assert_eq!(c.switchover(at(1), Some(2), &facts), Err(CannotSwitch::NotReady { why }));
}

#[test]
fn a_switchover_is_grant_then_stop_then_transfer() {
    let mut c = control(1);
    let mut facts = leading(Some((1, 7)));
    assert_eq!(c.decide(at(1), &facts, Resources::Started).ask, []);
    assert_eq!(c.switchover(at(1), None, &facts), Ok(2));
    assert_eq!(c.switchover(at(1), None, &facts), Err(CannotSwitch::Busy));
    heard(&mut facts, 1);
    let d = c.decide(at(2), &facts, Resources::Started);
    assert_eq!((d.goal, d.ask), (up(7), vec![Ask::Grant { holder: 2 }]), "serves until the grant is applied");
    granted(&mut facts, 2, 41);
    let d = c.decide(at(3), &facts, Resources::Started);
    assert_eq!((d.goal, d.ask), (Goal::Down, vec![]), "stops first");
    assert_eq!(c.decide(at(4), &facts, Resources::Moving).ask, [], "nothing before all is down");
    let d = c.decide(at(5), &facts, Resources::Stopped);
    assert_eq!(d.ask, [Ask::Transfer { to: 2 }]);
    // Nothing is granted or owned in this term any more, however long it lasts; leadership that is not taken is taken
    // back.
    facts.quorum_ack_at = Some(at(800));
    facts.peers = Vec::new();
    let d = c.decide(at(801), &facts, Resources::Stopped);
    assert_eq!((d.goal, d.ask, d.news), (Goal::Down, vec![Ask::TakeBack { from: 2 }], None));
    let over = Facts { leading: false, leader: Some(2), term: 6, ..facts };
    assert_eq!(c.decide(at(802), &over, Resources::Stopped).news, Some(News::SwitchedOver { to: 2 }));
    assert_eq!(c.decide(at(803), &over, Resources::Stopped).news, None, "told once");
}

#[test]
fn a_grant_that_another_node_proposed_in_this_term_is_obeyed() {
    // `relevo switchover` asked on the standby: the grant comes through the log, nobody told this node.
    let mut c = control(1);
    let mut facts = leading(Some((1, 7)));
    c.decide(at(1), &facts, Resources::Started);
    granted(&mut facts, 2, 41);
    let d = c.decide(at(2), &facts, Resources::Started);
    assert_eq!((d.goal, d.ask), (Goal::Down, vec![]));
    assert_eq!(c.decide(at(3), &facts, Resources::Stopped).ask, [Ask::Transfer { to: 2 }]);
}

#[test]
fn a_target_that_dies_before_the_transfer_gives_the_service_back() {
    let mut c = control(1);
    let mut facts = leading(Some((1, 7)));
    c.decide(at(1), &facts, Resources::Started);
    c.switchover(at(1), Some(2), &facts).expect("ready");
    c.decide(at(2), &facts, Resources::Started);
    granted(&mut facts, 2, 41);
    facts.quorum_ack_at = Some(at(600));
    let d = c.decide(at(600), &facts, Resources::Moving);
    assert_eq!(d.ask, [Ask::Grant { holder: 1 }]);
    granted(&mut facts, 1, 42);
    let d = c.decide(at(601), &facts, Resources::Stopped);
    assert_eq!(d.goal, up(42));
    assert_eq!(d.news, Some(News::SwitchoverFailed { to: 2, holder: Some(1) }));
}

#[test]
fn a_node_that_transferred_and_is_elected_again_owns_in_the_new_term() {
    let mut c = control(1);
    let mut facts = Facts { applied: 42, last_log: 42, ..leading(Some((2, 41))) };
    facts.transfer_tried_in = Some(5);
    assert_eq!(c.decide(at(1), &facts, Resources::Stopped).ask, []);
    facts.term = 6;
    assert_eq!(c.decide(at(2), &facts, Resources::Stopped).ask, [Ask::Grant { holder: 1 }]);
}

#[test]
fn an_owner_that_did_not_look_for_a_lease_begins_anew_under_a_newer_grant() {
    let mut c = control(1);
    assert_eq!(c.decide(at(1), &leading(Some((1, 7))), Resources::Started).goal, up(7));
    // Another node has served meanwhile and has handed over again.
    let facts = Facts { term: 7, quorum_ack_at: Some(at(400)), ..leading(Some((1, 39))) };
    let d = c.decide(at(401), &facts, Resources::Started);
    assert_eq!((d.goal, d.lease_until, d.ask), (Goal::Down, None, vec![]));
    assert_eq!(c.decide(at(402), &facts, Resources::Stopped).goal, up(39));
    // Within the lease nobody else can have served: what is up stays up.
    let facts = Facts { term: 7, quorum_ack_at: Some(at(500)), ..leading(Some((1, 40))) };
    assert_eq!(c.decide(at(530), &facts, Resources::Started).goal, up(40));
    // Under the same grant nobody else can have, however long it took.
    let facts = Facts { quorum_ack_at: Some(at(900)), ..facts };
    assert_eq!(c.decide(at(901), &facts, Resources::Started).goal, up(40));
}

#[test]
fn a_switchover_that_leads_nowhere_is_reported_after_its_time() {
    let mut c = control(1);
    let facts = leading(Some((1, 7)));
    c.decide(at(1), &facts, Resources::Started);
    c.switchover(at(1), None, &facts).expect("ready");
    let lost = Facts { leading: false, leader: None, ..facts };
    assert_eq!(c.decide(at(2), &lost, Resources::Started).news, None);
    let d = c.decide(at(5001), &lost, Resources::Stopped);
    assert_eq!(d.news, Some(News::SwitchoverFailed { to: 2, holder: Some(1) }));
}

#[test]
fn a_switchover_that_cannot_begin_says_why() {
    let facts = leading(Some((1, 7)));
    let mut c = control(1);
    c.decide(at(1), &facts, Resources::Started);
    assert_eq!(c.switchover(at(1), Some(1), &facts), Err(CannotSwitch::AlreadyThere));
    let no = CannotSwitch::NoAppliance { appliances: vec![1, 2] };
    assert_eq!(c.switchover(at(1), Some(3), &facts), Err(no), "a witness owns nothing");
    let behind = |lag, last_ack| Facts {
        peers: vec![Peer { place: 2, lag, last_ack, ..Peer::default() }],
        ..facts.clone()
    };
    for (facts, why) in [
        (behind(Some(2001), Some(at(0))), NotReady::Behind(2001)),
        (behind(None, Some(at(0))), NotReady::OutOfReach),
        (behind(Some(0), None), NotReady::OutOfReach),
        (Facts { fitness: vec![(2, DRAINED)], ..facts.clone() }, NotReady::Unfit(DRAINED)),
    ] {
        for target in [None, Some(2)] {
            assert_eq!(
                c.switchover(at(1), target, &facts),
                Err(CannotSwitch::NotReady { why: vec![(2, why)] })
            );
        }
    }
    let standby = Facts { leading: false, ..leading(Some((2, 9))) };
    assert_eq!(c.switchover(at(1), Some(1), &standby), Err(CannotSwitch::NotActive { holder: Some(2) }));
}

#[test]
fn a_clean_shutdown_of_the_active_node_hands_over_first() {
    let mut c = control(1);
    let mut facts = leading(Some((1, 7)));
    c.decide(at(1), &facts, Resources::Started);
    c.shutdown(at(1));
    heard(&mut facts, 2);
    let d = c.decide(at(2), &facts, Resources::Started);
    assert_eq!((d.ask, d.may_exit), (vec![Ask::Grant { holder: 2 }], false));
    granted(&mut facts, 2, 41);
    assert!(!c.decide(at(3), &facts, Resources::Started).may_exit);
    let d = c.decide(at(4), &facts, Resources::Stopped);
    assert_eq!((d.ask, d.may_exit), (vec![Ask::Transfer { to: 2 }], false));
    let over = Facts { leading: false, leader: Some(2), term: 6, ..facts };
    let d = c.decide(at(5), &over, Resources::Stopped);
    assert_eq!((d.may_exit, d.news), (true, None), "nobody asked for a switchover");
}

#[test]
fn a_shutdown_does_not_wait_for_what_cannot_come() {
    let mut alone = Control::new(Settings { place: 1, appliances: vec![1], lease: LEASE });
    let facts = Facts { peers: Vec::new(), ..leading(Some((1, 7))) };
    assert_eq!(alone.decide(at(1), &facts, Resources::Started).goal, up(7));
    alone.shutdown(at(1));
    assert!(alone.decide(at(2), &facts, Resources::Started).may_exit, "a single node ends at once");

    let mut standby = control(2);
    let facts = Facts { leading: false, leader: Some(1), ..leading(Some((1, 7))) };
    standby.shutdown(at(1));
    assert!(standby.decide(at(2), &facts, Resources::Stopped).may_exit, "a standby ends at once");

    let mut stuck = control(1);
    let facts = leading(Some((1, 7)));
    stuck.shutdown(at(1));
    assert!(!stuck.decide(at(2), &facts, Resources::Started).may_exit);
    assert!(stuck.decide(at(3001), &facts, Resources::Started).may_exit, "but not for ever");
}

#[test]
fn an_unhealthy_owner_hands_over_and_a_leader_that_shuts_down_does_not_grant_to_itself() {
    let mut c = control(1);
    let mut facts = Facts { fitness: vec![(1, DRAINED)], ..leading(Some((1, 7))) };
    heard(&mut facts, 1);
    assert_eq!(c.decide(at(1), &facts, Resources::Started).ask, [Ask::Grant { holder: 2 }]);

    let mut c = control(1);
    c.shutdown(at(0));
    let facts = leading(None);
    assert_eq!(c.decide(at(1), &facts, Resources::Stopped).ask, [Ask::Grant { holder: 2 }]);
}

#[test]
fn a_leader_without_a_quorum_asks_for_nothing() {
    let mut c = control(1);
    let facts = leading(None);
    assert_eq!(c.decide(at(145), &facts, Resources::Stopped).ask, []);
}
