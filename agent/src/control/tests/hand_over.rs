//! Planned hand-overs to a node that does not take over: refused before anything has changed, or taken back.

use super::*;

/// A holder that was asked to hand over to node 2 at 1 ms.
fn asked() -> (Control, Facts) {
    let mut c = control(1);
    let facts = leading(Some((1, 7)));
    c.decide(at(1), &facts, Resources::Started);
    c.switchover(at(1), Some(2), &facts).expect("it seems ready");
    (c, facts)
}

#[test]
fn a_frozen_standby_is_refused_and_the_service_stays_up_all_the_time() {
    let (mut c, mut facts) = asked();
    // It answered just before it was frozen; the witness goes on.
    for ms in (2..1001).step_by(20) {
        facts.quorum_ack_at = Some(at(ms));
        let d = c.decide(at(ms), &facts, Resources::Started);
        assert_eq!((d.goal, d.ask, d.news), (up(7), vec![], None), "at {ms} ms");
    }
    facts.quorum_ack_at = Some(at(1001));
    let d = c.decide(at(1001), &facts, Resources::Started);
    assert_eq!(d.news, Some(News::NotBegun { to: 2, why: NotReady::OutOfReach }));
    assert_eq!((d.goal, d.ask), (up(7), vec![]));
    heard(&mut facts, 1002);
    assert_eq!(c.switchover(at(1003), Some(2), &facts), Ok(2), "it may be tried again");
}

#[test]
fn a_standby_that_lacks_entries_gets_the_service_when_it_has_them_or_not_at_all() {
    let (mut c, mut facts) = asked();
    heard(&mut facts, 2);
    facts.peers[0].lag = Some(65);
    facts.last_log = 105;
    assert_eq!(c.decide(at(3), &facts, Resources::Started).ask, []);
    facts.peers[0].lag = Some(64);
    assert_eq!(c.decide(at(4), &facts, Resources::Started).ask, [Ask::Grant { holder: 2 }]);

    let (mut c, mut facts) = asked();
    heard(&mut facts, 1000);
    facts.peers[0].lag = Some(300);
    facts.quorum_ack_at = Some(at(1001));
    let d = c.decide(at(1001), &facts, Resources::Started);
    assert_eq!((d.goal, d.news), (up(7), Some(News::NotBegun { to: 2, why: NotReady::Behind(300) })));
}

#[test]
fn a_standby_that_large_messages_do_not_reach_is_refused() {
    let (mut c, mut facts) = asked();
    heard(&mut facts, 1000);
    facts.quorum_ack_at = Some(at(1000));
    let toward = Way::Blocked { lost: 460, age: Duration::ZERO };
    facts.paths = vec![(2, Path { toward, from: Way::Unknown })];
    assert_eq!(c.decide(at(500), &facts, Resources::Started).ask, []);
    let d = c.decide(at(1001), &facts, Resources::Started);
    assert_eq!(d.news, Some(News::NotBegun { to: 2, why: NotReady::PathBlocked }));
    // In small packets they pass: that is no reason.
    let (mut c, mut facts) = asked();
    heard(&mut facts, 2);
    let toward = Way::Narrow { bytes: 1240, lost: 1400, age: Duration::ZERO };
    facts.paths = vec![(2, Path { toward, from: Way::Unknown })];
    assert_eq!(c.decide(at(3), &facts, Resources::Started).ask, [Ask::Grant { holder: 2 }]);
}

#[test]
fn a_target_that_does_not_get_the_grant_itself_gives_the_service_back_within_a_lease_in_the_same_term() {
    let (mut c, mut facts) = asked();
    granted(&mut facts, 2, 41);
    heard(&mut facts, 3);
    // The others have committed it; the last that it has acknowledged is entry 40.
    facts.peers[0].lag = Some(1);
    assert_eq!(c.decide(at(4), &facts, Resources::Stopped).ask, [], "its answer may be on its way");
    facts.quorum_ack_at = Some(at(154));
    facts.peers[1].last_ack = Some(at(154));
    assert_eq!(c.decide(at(155), &facts, Resources::Stopped).ask, [Ask::Grant { holder: 1 }]);
    granted(&mut facts, 1, 42);
    let d = c.decide(at(156), &facts, Resources::Stopped);
    assert_eq!(d.goal, up(42));
    assert_eq!(d.news, Some(News::SwitchoverFailed { to: 2, holder: Some(1) }));
}

/// It was transferred to again and again, each time in a new term, while nobody served.
#[test]
fn a_witness_does_not_give_leadership_to_a_node_that_cannot_win_it() {
    let mut c = control(3);
    let mut facts = leading(Some((2, 7)));
    facts.leader = Some(3);
    facts.peers =
        [1, 2].map(|place| Peer { place, lag: Some(0), last_ack: Some(at(0)), ..Peer::default() }).to_vec();
    // Known by what it acknowledged to former leaders alone.
    facts.peers[1].lag = Some(40);
    assert_eq!(c.decide(at(1), &facts, Resources::Stopped).ask, []);
    facts.quorum_ack_at = Some(at(151));
    heard(&mut facts, 151);
    assert_eq!(c.decide(at(152), &facts, Resources::Stopped).ask, [Ask::Grant { holder: 1 }]);
}

#[test]
fn leadership_that_is_not_taken_is_taken_back_in_time_or_at_once_if_the_target_says_that_it_cannot() {
    for refused in [false, true] {
        let (mut c, mut facts) = asked();
        granted(&mut facts, 2, 41);
        heard(&mut facts, 3);
        assert_eq!(c.decide(at(4), &facts, Resources::Stopped).ask, [Ask::Transfer { to: 2 }]);
        facts.transfer_tried_in = Some(5);
        assert_eq!(c.decide(at(100), &facts, Resources::Stopped).ask, []);
        let when = if refused { 101 } else { 304 };
        facts.transfer_refused = refused.then(|| String::from("its log is not flushed"));
        assert_eq!(c.decide(at(when), &facts, Resources::Stopped).ask, [Ask::TakeBack { from: 2 }]);
        assert_eq!(c.decide(at(when + 1), &facts, Resources::Stopped).ask, [], "once in a term");
        // Elected again: what was granted to the other is decided anew.
        let again = Facts { term: 7, quorum_ack_at: None, transfer_refused: None, ..facts };
        assert_eq!(c.decide(at(when + 9), &again, Resources::Stopped).ask, [Ask::Grant { holder: 1 }]);
    }
}

#[test]
fn asked_on_a_standby_a_node_that_is_silent_or_behind_by_its_own_word_is_refused() {
    let now = at(10_000);
    let words = [(1, 500, at(9_500)), (2, 500, at(9_500)), (3, 430, at(9_500))];
    assert_eq!(unproved_by_word(now, 2, &words), None);
    assert_eq!(unproved_by_word(now, 3, &words), Some(NotReady::Behind(70)));
    assert_eq!(unproved_by_word(now, 4, &words), Some(NotReady::OutOfReach), "it has never answered");
    assert_eq!(unproved_by_word(at(12_501), 2, &words), Some(NotReady::OutOfReach), "nor of late");
    // This node itself: what it has is known, the words of the others are a second old.
    assert_eq!(unproved_by_word(now, 5, &[(1, 500, at(9_000)), (5, 900, now)]), None);
    assert_eq!(unproved_by_word(now, 5, &[(1, 500, at(9_000)), (5, 400, now)]), Some(NotReady::Behind(100)));
}
