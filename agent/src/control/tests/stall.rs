//! The leader that cannot commit.

use super::super::stall::{COMMIT_FLOOR, FIRST_PAUSE, SILENCE_FLOOR};
use super::*;

/// Facts at `now`: active under token 7, its oldest proposal is number 3, and node 2 could do better.
fn stuck(now: u64) -> Facts {
    let mut facts = leading(Some((1, 7)));
    facts.quorum_ack_at = Some(at(now));
    facts.oldest = Some(3);
    facts.commit_takes = Some(Duration::from_millis(2));
    facts.others_could = true;
    for peer in &mut facts.peers {
        peer.last_ack = Some(at(now));
        peer.writes = true;
    }
    facts
}

/// Rounds of 20 ms from `from` until `until`; the first decision that is not to be up, and when.
fn run(c: &mut Control, from: u64, until: u64, facts: impl Fn(u64) -> Facts) -> Option<(u64, Decision)> {
    (from..until).step_by(20).find_map(|now| {
        let decision = c.decide(at(now), &facts(now), Resources::Started);
        (decision.goal == Goal::Down).then_some((now, decision))
    })
}

const FLOOR: u64 = COMMIT_FLOOR.as_millis() as u64;

/// The facts of a moment, ms.
type Later = fn(u64) -> Facts;

#[test]
fn a_leader_that_cannot_commit_stops_its_service_then_falls_silent_and_serves_on_where_nobody_else_does() {
    let mut c = control(1);
    let (down, decision) = run(&mut c, 0, 10_000, stuck).expect("goes down");
    assert!(down > FLOOR && down <= FLOOR + 60, "{down}");
    assert_eq!((decision.lease_until, decision.ask), (None, vec![]), "not before all is down");
    let asked = c.decide(at(down + 20), &stuck(down + 20), Resources::Stopped).ask;
    assert_eq!(asked, [Ask::Abdicate { lasts: SILENCE_FLOOR }]);
    let mute = |now| Facts { mute_until: Some(at(9_000)), ..stuck(now) };
    for now in [down + 40, down + 500] {
        let decision = c.decide(at(now), &mute(now), Resources::Stopped);
        assert_eq!((decision.goal, decision.ask), (Goal::Down, vec![]));
    }
    // Nobody was elected: up again at once, and no second time before the pause is over.
    assert_eq!(c.decide(at(9_000), &stuck(9_000), Resources::Stopped).goal, up(7));
    let pause = FIRST_PAUSE.as_millis() as u64;
    let (again, _) = run(&mut c, 9_020, 60_000, stuck).expect("tries again");
    assert!(again >= 9_000 + pause && again < 9_000 + pause + FLOOR, "{again}");
}

#[test]
fn each_doubt_alone_keeps_a_leader_that_cannot_commit_where_it_is() {
    let stays: [(&str, Later); 8] = [
        ("nothing is proposed", |now| Facts { oldest: None, ..stuck(now) }),
        ("something commits each second", |now| Facts { oldest: Some(now / 1_000), ..stuck(now) }),
        ("no majority could", |now| Facts { others_could: false, ..stuck(now) }),
        ("the disk of the other appliance hangs, too", |now| {
            let mut facts = stuck(now);
            facts.peers[0].writes = false;
            facts
        }),
        ("the other appliance has just started", |now| {
            let mut facts = stuck(now);
            facts.peers[0].silent = true;
            facts
        }),
        ("nobody could be elected without this node, whose log is longer", |now| {
            let mut facts = stuck(now);
            facts.peers[0].lag = None;
            facts.peers[1].last_ack = None;
            facts
        }),
        ("the other appliance is being taken in again, and has everything", |now| {
            let mut facts = stuck(now);
            let back = Peer { learns: true, ..facts.peers[0] };
            facts.peers[0] = Peer { last_ack: None, lag: None, writes: false, ..facts.peers[0] };
            facts.peers.push(back);
            facts
        }),
        ("all disks are slow", |now| Facts { commit_takes: Some(Duration::from_secs(3)), ..stuck(now) }),
    ];
    for (why, facts) in stays {
        assert_eq!(run(&mut control(1), 0, 8_000, facts), None, "{why}");
    }
    let with_this_vote = |now| {
        let mut facts = stuck(now);
        facts.peers[1].last_ack = None;
        facts
    };
    assert!(run(&mut control(1), 0, 8_000, with_this_vote).is_some(), "the other one has everything");
    let slow = |now| Facts { commit_takes: Some(Duration::from_secs(3)), ..stuck(now) };
    let (down, _) = run(&mut control(1), 0, 60_000, slow).expect("four syncs are enough");
    assert!(down > 12_000 && down <= 12_060, "{down}");
}

#[test]
fn a_pause_of_this_thread_does_not_make_a_proposal_old() {
    let mut c = control(1);
    c.decide(at(0), &stuck(0), Resources::Started);
    assert_eq!(c.decide(at(8_000), &stuck(8_000), Resources::Started).goal, up(7));
}

#[test]
fn proposals_of_a_time_without_a_majority_are_not_late_when_it_is_back() {
    let mut c = control(1);
    let deaf = |now| Facts { quorum_ack_at: Some(at(0)), ..stuck(now) };
    for now in (0..8_000).step_by(20) {
        c.decide(at(now), &deaf(now), Resources::Stopped);
    }
    let (down, _) = run(&mut c, 8_000, 20_000, stuck).expect("late when a majority has answered for so long");
    assert!(down > 8_000 + FLOOR - 200 && down <= 8_000 + FLOOR + 60, "{down}");
}

#[test]
fn what_commits_after_all_keeps_the_service_and_ends_the_pauses() {
    let mut c = control(1);
    let (down, _) = run(&mut c, 0, 10_000, stuck).expect("goes down");
    let now = down + 20;
    let done = Facts { oldest: None, ..stuck(now) };
    assert_eq!(c.decide(at(now), &done, Resources::Moving).goal, up(7));
}

#[test]
fn a_witness_that_leads_and_cannot_commit_its_grant_abdicates_too() {
    let mut witness = control(3);
    let facts = |now| Facts { leader: Some(3), grant: None, ..stuck(now) };
    let asked = (0..5_000).step_by(20).find(|now| {
        let ask = witness.decide(at(*now), &facts(*now), Resources::Stopped).ask;
        ask.contains(&Ask::Abdicate { lasts: SILENCE_FLOOR })
    });
    assert!(asked.is_some_and(|now| now > FLOOR && now <= FLOOR + 60), "{asked:?}");
}
