//! Ailments order the candidates and never empty the list.

use super::*;

const CRASHES: Fitness = Fitness::FIT.with(Ailment::Crashes);
const FULL: Fitness = Fitness::FIT.with(Ailment::Full);

fn three(place: Place) -> Control {
    Control::new(Settings { place, appliances: vec![1, 2, 3], lease: LEASE })
}

#[test]
fn the_fittest_takes_over_whatever_the_operator_prefers_and_of_equals_the_preferred() {
    let mut facts = leading(Some((1, 7)));
    let heir = |facts: &Facts| three(1).decide(at(1), facts, Resources::Started).heir;
    assert_eq!(heir(&facts), Some(2));
    facts.fitness = vec![(2, FULL)];
    assert_eq!(heir(&facts), Some(3));
    facts.fitness = vec![(2, FULL), (3, CRASHES)];
    assert_eq!(heir(&facts), Some(2));
    facts.fitness = vec![(2, CRASHES), (3, CRASHES)];
    assert_eq!(heir(&facts), Some(2));
}

#[test]
fn who_is_alone_serves_whatever_ails_it() {
    for fitness in [DRAINED, CRASHES, DRAINED.and(CRASHES)] {
        let mut facts = Facts { fitness: vec![(1, fitness)], ..leading(Some((2, 7))) };
        facts.peers[0].last_ack = None;
        let mut c = control(1);
        assert_eq!(c.decide(at(1), &facts, Resources::Stopped).ask, [Ask::Grant { holder: 1 }]);
        facts.grant = Some(Grant { holder: 1, token: 41 });
        let d = c.decide(at(2), &facts, Resources::Stopped);
        assert_eq!((d.goal, d.ask), (up(41), vec![]));
    }
}

#[test]
fn a_witness_takes_the_only_one_that_answers_though_it_is_ill() {
    let peers = [1, 2].map(|place| Peer {
        place,
        lag: Some(0),
        last_ack: (place == 2).then(|| at(0)),
        ..Peer::default()
    });
    let facts = Facts { peers: peers.to_vec(), fitness: vec![(2, DRAINED)], ..leading(Some((1, 7))) };
    assert_eq!(control(3).decide(at(1), &facts, Resources::Stopped).ask, [Ask::Grant { holder: 2 }]);
}

#[test]
fn a_witness_leaves_a_holder_that_is_worse_off_for_a_better_one_but_obeys_the_decision_of_its_term() {
    let peers =
        [1, 2].map(|p| Peer { place: p, lag: Some(0), last_ack: Some(at(0)), ..Peer::default() }).to_vec();
    let mut facts = Facts { peers, fitness: vec![(2, CRASHES)], ..leading(Some((2, 7))) };
    assert_eq!(control(3).decide(at(1), &facts, Resources::Stopped).ask, [Ask::Grant { holder: 1 }]);
    let mut c = control(3);
    c.decide(at(0), &facts, Resources::Stopped);
    facts.grant = Some(Grant { holder: 2, token: 41 });
    facts.fitness.clear();
    assert_eq!(
        c.decide(at(501), &Facts { quorum_ack_at: Some(at(501)), ..facts }, Resources::Stopped).ask,
        []
    );
}

#[test]
fn only_a_grave_ailment_moves_the_service_and_never_to_one_that_is_as_badly_off() {
    let asked = |own: Fitness, other: Fitness| {
        let mut facts = Facts { fitness: vec![(1, own), (2, other)], ..leading(Some((1, 7))) };
        let mut c = control(1);
        assert_eq!(c.decide(at(1), &facts, Resources::Started).ask, [], "it has to prove itself first");
        heard(&mut facts, 1);
        c.decide(at(2), &facts, Resources::Started).ask
    };
    assert_eq!(asked(CRASHES, Fitness::FIT), [Ask::Grant { holder: 2 }]);
    assert_eq!(asked(CRASHES, FULL), [Ask::Grant { holder: 2 }]);
    assert_eq!(asked(FULL, Fitness::FIT), []);
    assert_eq!(asked(CRASHES, CRASHES), []);
    assert_eq!(asked(DRAINED, DRAINED), []);
    assert_eq!(asked(CRASHES, DRAINED), []);
}

#[test]
fn one_that_is_ill_asks_for_no_grant_before_it_knows_whom_it_hears() {
    let new =
        Facts { quorum_ack_at: None, applied: 30, fitness: vec![(1, CRASHES)], ..leading(Some((2, 7))) };
    assert_eq!(control(1).decide(at(1), &new, Resources::Stopped).ask, []);
    let well = Facts { fitness: vec![(1, FULL)], ..new };
    assert_eq!(control(1).decide(at(1), &well, Resources::Stopped).ask, [Ask::Grant { holder: 1 }]);
}

#[test]
fn there_is_room_where_a_majority_has_some_and_the_active_node_is_one_of_it() {
    let has_room = |full: &[Place]| {
        let fitness = full.iter().map(|p| (*p, FULL)).collect();
        Facts { fitness, ..Facts::default() }.has_room(1, &[1, 2, 3])
    };
    assert!(has_room(&[]) && has_room(&[2]) && has_room(&[3]));
    assert!(!has_room(&[1]) && !has_room(&[2, 3]));
}

#[test]
fn the_guard_hears_whether_another_could_serve() {
    let facts = leading(Some((1, 7)));
    let elsewhere = |facts: &Facts| control(1).decide(at(1), facts, Resources::Started).elsewhere;
    assert!(elsewhere(&facts));
    assert!(!elsewhere(&Facts { fitness: vec![(2, CRASHES)], ..facts.clone() }), "as ill as this one");
    let mut lost = facts.clone();
    lost.peers[0].last_ack = None;
    assert!(!elsewhere(&lost));
    let behind = Peer { lag: Some(MAX_HAND_OVER_LAG + 1), ..facts.peers[0] };
    assert!(!elsewhere(&Facts { peers: vec![behind], ..facts.clone() }));
    let standby = Facts { leading: false, leader: Some(2), ..leading(Some((2, 9))) };
    assert!(elsewhere(&standby));
    assert!(!elsewhere(&Facts { leader: Some(3), ..standby.clone() }), "nobody holds it now");
    assert!(!elsewhere(&Facts { leader: None, ..standby }));
}
