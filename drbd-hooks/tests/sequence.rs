//! The sequence step by step, with the table of today.

use std::time::Duration;

use drbd_hooks::sequence::{Action, Goal, Outcome, RunStep, Sequence, State, Todo, Token};
use drbd_hooks::steps::{Step, TABLE};

const NOW: Duration = Duration::from_secs(100);

fn run(todo: Option<Todo<Step>>) -> RunStep<Step> {
    match todo {
        Some(Todo::Run(step)) => step,
        other => panic!("a step to run, not {other:?}"),
    }
}

/// Runs what is handed out, successfully, until nothing is; returns it.
fn settle(sequence: &mut Sequence) -> Vec<(Action, Step, Token)> {
    let mut done = Vec::new();
    while let Some(Todo::Run(step)) = sequence.poll_step(NOW) {
        done.push((step.action, step.step, step.token));
        sequence.handle_reported(step.id, Outcome::Done);
    }
    done
}

fn up(token: Token) -> (Sequence, Vec<(Action, Step, Token)>) {
    let mut sequence = Sequence::default();
    sequence.set_goal(Goal::Up { token }).expect("the first token");
    let done = settle(&mut sequence);
    (sequence, done)
}

use Action::{Start, Stop};
use Step::{Lease, SipListen, Vip};

#[test]
fn start_is_lease_then_vip_then_sip_and_stop_is_the_reverse() {
    let (mut sequence, done) = up(7);
    assert_eq!(done, [(Start, Lease, 7), (Start, Vip, 7), (Start, SipListen, 7)]);
    assert_eq!(sequence.state(), State::Started(7));
    sequence.set_goal(Goal::Down).expect("always");
    assert_eq!(settle(&mut sequence), [(Stop, SipListen, 7), (Stop, Vip, 7), (Stop, Lease, 7)]);
    assert_eq!(sequence.state(), State::Stopped);
}

#[test]
fn a_step_waits_for_the_report_of_the_one_before() {
    let mut sequence = Sequence::default();
    sequence.set_goal(Goal::Up { token: 1 }).expect("first");
    let lease = run(sequence.poll_step(NOW));
    assert_eq!(sequence.poll_step(NOW), None);
    assert_eq!(sequence.poll_timeout(), Some(NOW + TABLE[0].start_within));
    sequence.handle_reported(lease.id, Outcome::Done);
    assert_eq!(run(sequence.poll_step(NOW)).step, Vip);
}

#[test]
fn a_newer_token_takes_everything_down_before_anything_starts_under_it() {
    let (mut sequence, _) = up(7);
    sequence.set_goal(Goal::Up { token: 9 }).expect("newer");
    assert_eq!(
        settle(&mut sequence),
        [
            (Stop, SipListen, 7),
            (Stop, Vip, 7),
            (Stop, Lease, 7),
            (Start, Lease, 9),
            (Start, Vip, 9),
            (Start, SipListen, 9)
        ]
    );
}

#[test]
fn a_renewed_grant_interrupts_nothing_and_what_is_up_goes_down_under_the_newer_token() {
    let (mut sequence, _) = up(7);
    assert_eq!(sequence.renew(9), Ok(true));
    assert_eq!((settle(&mut sequence), sequence.state()), (vec![], State::Started(9)));
    sequence.set_goal(Goal::Down).expect("always");
    assert_eq!(sequence.renew(10), Ok(false), "what is on its way down is not renewed");
    assert_eq!(settle(&mut sequence)[0], (Stop, SipListen, 9));
}

#[test]
fn an_older_token_is_refused_and_changes_nothing() {
    let (mut sequence, _) = up(7);
    let stale = sequence.set_goal(Goal::Up { token: 6 }).expect_err("older");
    assert_eq!((stale.given, stale.newest), (6, 7));
    sequence.renew(6).expect_err("older");
    assert_eq!((settle(&mut sequence), sequence.state()), (vec![], State::Started(7)));
    sequence.set_goal(Goal::Down).expect("always");
    settle(&mut sequence);
    sequence.set_goal(Goal::Up { token: 6 }).expect_err("older than the one that ended");
    assert_eq!(settle(&mut sequence), []);
}

#[test]
fn a_step_that_cannot_start_takes_all_down_itself_too_and_waits_for_a_retry() {
    let mut sequence = Sequence::default();
    sequence.set_goal(Goal::Up { token: 3 }).expect("first");
    let lease = run(sequence.poll_step(NOW));
    sequence.handle_reported(lease.id, Outcome::Done);
    let vip = run(sequence.poll_step(NOW));
    sequence.handle_reported(vip.id, Outcome::Failed("no such device".into()));
    assert_eq!(settle(&mut sequence), [(Stop, Vip, 3), (Stop, Lease, 3)]);
    assert_eq!(sequence.state(), State::Failed("starting Vip: no such device".into()));
    sequence.set_goal(Goal::Up { token: 3 }).expect("the same goal again");
    assert_eq!(settle(&mut sequence), [], "is no retry");
    sequence.retry();
    assert_eq!(settle(&mut sequence).len(), 3);
    assert_eq!(sequence.state(), State::Started(3));
}

#[test]
fn a_newer_token_that_comes_while_a_failed_start_is_taken_down_starts_after_that() {
    let mut sequence = Sequence::default();
    sequence.set_goal(Goal::Up { token: 3 }).expect("first");
    let lease = run(sequence.poll_step(NOW));
    sequence.handle_reported(lease.id, Outcome::Failed("no".into()));
    sequence.set_goal(Goal::Up { token: 4 }).expect("newer");
    let done = settle(&mut sequence);
    assert_eq!(done[..2], [(Stop, Lease, 3), (Start, Lease, 4)]);
    assert_eq!(sequence.state(), State::Started(4));
}

#[test]
fn a_start_that_takes_too_long_has_failed_and_its_late_report_no_longer_counts() {
    let mut sequence = Sequence::default();
    sequence.set_goal(Goal::Up { token: 3 }).expect("first");
    let lease = run(sequence.poll_step(NOW));
    let late = sequence.poll_timeout().expect("a deadline");
    let stop = run(sequence.poll_step(late));
    assert_eq!((stop.action, stop.step), (Stop, Lease));
    sequence.handle_reported(lease.id, Outcome::Done);
    assert_eq!(sequence.state(), State::Moving);
    sequence.handle_reported(stop.id, Outcome::Done);
    assert_eq!(sequence.poll_step(late), None);
    assert!(
        matches!(sequence.state(), State::Failed(why) if why.contains("Lease") && why.contains("in time"))
    );
}

#[test]
fn going_down_does_not_wait_for_a_start_that_is_under_way() {
    let mut sequence = Sequence::default();
    sequence.set_goal(Goal::Up { token: 3 }).expect("first");
    run(sequence.poll_step(NOW));
    sequence.set_goal(Goal::Down).expect("always");
    let stop = run(sequence.poll_step(NOW));
    assert_eq!((stop.action, stop.step), (Stop, Lease));
}

#[test]
fn a_goal_that_turns_round_on_the_way_down_brings_up_again_what_is_down() {
    let (mut sequence, _) = up(7);
    sequence.set_goal(Goal::Down).expect("always");
    let stop = run(sequence.poll_step(NOW));
    sequence.set_goal(Goal::Up { token: 7 }).expect("not older");
    assert_eq!(sequence.poll_step(NOW), None, "the STOP that has begun ends first");
    sequence.handle_reported(stop.id, Outcome::Done);
    assert_eq!(settle(&mut sequence), [(Start, SipListen, 7)]);
}

#[test]
fn a_step_that_cannot_be_stopped_is_escalated_once_the_rest_still_goes_down_and_nothing_starts_again() {
    for overdue in [false, true] {
        let (mut sequence, _) = up(7);
        sequence.set_goal(Goal::Down).expect("always");
        let stop = run(sequence.poll_step(NOW));
        let now = if overdue {
            sequence.poll_timeout().expect("a deadline")
        } else {
            sequence.handle_reported(stop.id, Outcome::Failed("busy".into()));
            NOW
        };
        let why = if overdue { "not finished in time" } else { "busy" };
        assert_eq!(sequence.poll_step(now), Some(Todo::Escalate { step: SipListen, why: why.into() }));
        assert_eq!(settle(&mut sequence), [(Stop, Vip, 7), (Stop, Lease, 7)]);
        sequence.handle_reported(stop.id, Outcome::Done);
        sequence.set_goal(Goal::Up { token: 8 }).expect("newer");
        sequence.retry();
        assert_eq!(sequence.renew(9), Ok(false));
        assert_eq!((sequence.poll_step(now), sequence.state()), (None, State::Stuck));
    }
}
