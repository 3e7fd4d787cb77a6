//! Pauses and planned switchovers.

use super::*;

fn paused(facts: Facts) -> Facts {
    let pause = Pause { at: WallTime(0), until: WallTime(60_000), reason: String::new() };
    Facts { pause: Some(pause), ..facts }
}

#[test]
fn in_a_pause_a_new_leader_takes_nothing_and_gives_leadership_back_to_the_holder_when_it_answers() {
    let mut facts = paused(leading(Some((2, 7))));
    facts.peers[0].last_ack = None;
    let mut c = control(1);
    for ms in [1, 50, 100, 135] {
        assert_eq!(c.decide(at(ms), &facts, Resources::Stopped).ask, [], "the holder is dead, and stays so");
    }
    facts.quorum_ack_at = Some(at(2_000));
    assert_eq!(c.decide(at(2_001), &facts, Resources::Stopped).ask, [], "however long it takes");
    heard(&mut facts, 2_000);
    assert_eq!(c.decide(at(2_002), &facts, Resources::Stopped).ask, [Ask::Transfer { to: 2 }]);
    let over = Facts { pause: None, ..leading(Some((2, 7))) };
    let mut dead = over.clone();
    dead.peers[0].last_ack = None;
    assert_eq!(
        control(1).decide(at(1), &dead, Resources::Stopped).ask,
        [Ask::Grant { holder: 1 }],
        "it is over"
    );
}

#[test]
fn in_a_pause_not_even_a_leader_without_a_log_grants_to_itself_and_where_nobody_holds_it_somebody_may() {
    let new = Facts { quorum_ack_at: None, applied: 30, ..paused(leading(Some((2, 7)))) };
    assert_eq!(control(1).decide(at(1), &new, Resources::Stopped).ask, []);
    let nobody = paused(leading(None));
    assert_eq!(control(1).decide(at(1), &nobody, Resources::Stopped).ask, [Ask::Grant { holder: 1 }]);
}

#[test]
fn in_a_pause_a_holder_keeps_the_service_whatever_ails_it_and_goes_on_after_losing_its_quorum() {
    let mut facts = Facts { fitness: vec![(1, DRAINED)], ..paused(leading(Some((1, 7)))) };
    heard(&mut facts, 5);
    let mut c = control(1);
    let d = c.decide(at(10), &facts, Resources::Started);
    assert_eq!((d.goal, d.ask), (up(7), vec![]));
    // The kernel's lease knows no pause.
    assert_eq!(c.decide(at(200), &facts, Resources::Started).goal, Goal::Down);
    facts.quorum_ack_at = Some(at(300));
    assert_eq!(c.decide(at(301), &facts, Resources::Stopped).goal, up(7));
}

#[test]
fn in_a_pause_a_node_that_is_stopped_hands_nothing_over_and_an_operator_may_still_switch() {
    let facts = paused(leading(Some((1, 7))));
    let mut c = control(1);
    c.decide(at(1), &facts, Resources::Started);
    let mut other = c.clone();
    assert_eq!(other.switchover(at(2), Some(2), &facts), Ok(2));
    c.shutdown(at(2));
    let d = c.decide(at(3), &facts, Resources::Started);
    assert!(d.ask.is_empty() && d.may_exit);
}

fn planned(to: Place, time: u64, facts: Facts) -> Facts {
    Facts { planned: Some(Planned { id: 30, to, at: WallTime(10_000) }), time: WallTime(time), ..facts }
}

#[test]
fn a_planned_switchover_begins_at_its_time_and_is_struck_out_by_the_new_holder() {
    let mut c = control(1);
    let facts = leading(Some((1, 7)));
    c.decide(at(1), &facts, Resources::Started);
    assert_eq!(c.appointment(at(1), &planned(2, 9_999, facts.clone()), up(7)), None);
    assert_eq!(
        c.appointment(at(2), &planned(2, 10_000, facts.clone()), Goal::Down),
        None,
        "not by a standby"
    );
    assert_eq!(c.appointment(at(2), &planned(2, 10_000, facts.clone()), up(7)), Some(Turn::Begun { to: 2 }));
    assert_eq!(c.appointment(at(3), &planned(2, 10_001, facts), up(7)), None, "once");
    let mut there = control(2);
    let facts = leading(Some((2, 41)));
    assert_eq!(
        there.appointment(at(4), &planned(2, 10_002, facts), up(41)),
        Some(Turn::Over { id: 30, kept: true })
    );
}

#[test]
fn a_planned_switchover_to_a_node_that_cannot_is_tried_again_and_given_up_after_its_grace() {
    let mut c = control(1);
    let mut facts = leading(Some((1, 7)));
    facts.peers[0].last_ack = None;
    c.decide(at(1), &facts, Resources::Started);
    let why = CannotSwitch::NotReady { why: vec![(2, NotReady::OutOfReach)] };
    assert_eq!(c.appointment(at(2), &planned(2, 10_000, facts.clone()), up(7)), Some(Turn::NotYet { why }));
    assert_eq!(c.appointment(at(500), &planned(2, 10_500, facts.clone()), up(7)), None);
    assert_eq!(c.appointment(at(1_010), &planned(2, 11_000, facts.clone()), up(7)), None, "said once");
    facts.quorum_ack_at = Some(at(2_000));
    heard(&mut facts, 2_000);
    let mut other = c.clone();
    assert_eq!(
        other.appointment(at(2_020), &planned(2, 12_000, facts.clone()), up(7)),
        Some(Turn::Begun { to: 2 })
    );
    assert_eq!(
        c.appointment(at(90_000), &planned(2, 70_001, facts), up(7)),
        Some(Turn::Over { id: 30, kept: false })
    );
}
