//! Pending INVITEs and dialogs in the replicated state: states only move on, the first answer wins, late commands
//! say so.

use crate::common::state::{
    added, answered, at, branch, dialog, ended, failed, invite, key, ok, progress, received, refused, ringing,
};
use proxy_core::state::{
    BranchState, DialogRecord, InviteState, NextStep, SipCommand, SipResponse, SipState, When, limits,
};

const DONE: SipResponse = SipResponse::Done;

fn state_with(n: u32, targets: &[&str]) -> SipState {
    let mut state = SipState::default();
    assert_eq!(state.apply(&received(n, targets)), DONE);
    state
}

fn cancelled(n: u32) -> SipCommand {
    SipCommand::InviteCancelled { key: key(n) }
}

fn invite_state(state: &SipState, n: u32) -> InviteState {
    state.pending(&key(n)).expect("a pending INVITE").state.clone()
}

fn branch_states(state: &SipState, n: u32) -> Vec<BranchState> {
    state.pending(&key(n)).expect("a pending INVITE").branches.iter().map(|b| b.state.clone()).collect()
}

#[test]
fn an_invite_seen_by_two_nodes_is_received_once() {
    let mut state = state_with(1, &["b"]);
    assert_eq!(state.apply(&received(1, &["other"])), SipResponse::Duplicate);
    assert_eq!(state.pending(&key(1)), Some(&invite(1, &["b"])));
}

#[test]
fn every_command_for_an_unknown_invite_says_not_found() {
    let mut state = SipState::default();
    let done = SipCommand::InviteDone { key: key(1) };
    let added = added(1, 1, &["b"]);
    for command in
        [progress(1, 0, refused(486)), added, cancelled(1), answered(1, 0, "t"), failed(1, 486), done]
    {
        assert_eq!(state.apply(&command), SipResponse::NotFound, "{command:?}");
    }
    assert_eq!(state, SipState::default(), "a 2xx for a forgotten INVITE makes no dialog");
    let mut state = state_with(1, &["b"]);
    assert_eq!(state.apply(&progress(1, 1, refused(486))), SipResponse::NotFound, "no such branch");
    assert_eq!(state.apply(&answered(1, 9, "t")), SipResponse::NotFound);
}

#[test]
fn a_branch_never_goes_back() {
    let mut state = state_with(1, &["b"]);
    assert_eq!(state.apply(&progress(1, 0, ringing("x"))), DONE);
    assert_eq!(state.apply(&progress(1, 0, BranchState::Trying)), SipResponse::Superseded);
    assert_eq!(state.apply(&progress(1, 0, ringing("y"))), DONE, "another early dialog");
    assert_eq!(state.apply(&progress(1, 0, refused(486))), DONE);
    assert_eq!(state.apply(&progress(1, 0, refused(486))), DONE, "said again");
    for late in [ringing("z"), BranchState::Trying, refused(404)] {
        assert_eq!(state.apply(&progress(1, 0, late)), SipResponse::Superseded);
    }
    assert_eq!(branch_states(&state, 1), [refused(486)]);
}

#[test]
fn timer_c_only_moves_away_rfc3261_16_7() {
    let mut state = state_with(1, &["b"]);
    let move_to = |seconds| SipCommand::BranchProgress {
        key: key(1),
        branch: 0,
        state: ringing("x"),
        timer_c_at: Some(at(seconds)),
    };
    for (seconds, expected) in [(200, 200), (190, 200), (300, 300)] {
        assert_eq!(state.apply(&move_to(seconds)), DONE);
        assert_eq!(state.pending(&key(1)).map(|p| p.timer_c_at), Some(at(expected)));
    }
}

#[test]
fn further_branches_are_appended_once_and_only_while_the_call_is_open() {
    let mut state = state_with(1, &["b"]);
    let size = |state: &SipState| state.pending(&key(1)).map(|p| (p.branches.len(), p.round));
    assert_eq!(state.apply(&added(1, 1, &["c", "d"])), DONE);
    assert_eq!(state.apply(&added(1, 1, &["c", "d"])), DONE, "said again");
    assert_eq!(size(&state), Some((3, 1)));
    for late in [added(1, 1, &["e"]), added(1, 0, &["e"]), added(1, 3, &["e"])] {
        assert_eq!(
            state.apply(&late),
            SipResponse::Superseded,
            "another has taken that round, or it is none"
        );
    }
    let crowd: Vec<String> = (0..limits::MAX_BRANCHES).map(|n| format!("x{n}")).collect();
    let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    assert_eq!(state.apply(&added(1, 2, &crowd)), SipResponse::Full);
    assert_eq!(size(&state), Some((3, 1)), "all or none");
    let long = "x".repeat(limits::MAX_PENDING_BYTES);
    assert_eq!(state.apply(&added(1, 2, &[&long])), SipResponse::Full);
    assert_eq!(size(&state), Some((3, 1)), "all or none");
    assert_eq!(state.apply(&cancelled(1)), DONE);
    assert_eq!(state.apply(&added(1, 2, &["e"])), SipResponse::Superseded);
}

#[test]
fn a_new_round_brings_its_own_deadlines_and_uses_up_its_steps() {
    let mut state = state_with(1, &["b"]);
    let round = |round, no_answer_at, timer_c_at| SipCommand::BranchesAdded {
        key: key(1),
        branches: vec![branch(&format!("c{round}"))],
        round,
        steps_used: round,
        no_answer_at,
        timer_c_at,
    };
    assert_eq!(state.apply(&round(1, Some(at(20)), at(200))), DONE);
    let record = state.pending(&key(1)).cloned().expect("pending");
    assert_eq!((record.steps_used, record.no_answer_at, record.timer_c_at), (1, Some(at(20)), at(200)));
    assert_eq!(record.branches.iter().map(|b| b.round).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(state.apply(&round(2, None, at(190))), DONE);
    let record = state.pending(&key(1)).cloned().expect("pending");
    assert_eq!((record.steps_used, record.no_answer_at, record.timer_c_at), (2, None, at(200)));
    assert!(state.index_is_right());
}

#[test]
fn a_plan_is_bounded() {
    let mut state = SipState::default();
    let mut record = invite(1, &["b"]);
    let step = |n| NextStep { when: When::any(), branches: vec![branch(&format!("s{n}"))], after: None };
    record.plan = (0..=limits::MAX_STEPS).map(step).collect();
    let bytes = state.bytes();
    assert_eq!(state.apply(&SipCommand::InviteReceived(Box::new(record.clone()))), SipResponse::Full);
    assert_eq!(state.bytes(), bytes);
    record.plan.pop();
    assert_eq!(state.apply(&SipCommand::InviteReceived(Box::new(record))), DONE);
    assert!(state.bytes() > bytes);
    assert!(state.index_is_right());
}

#[test]
fn cancel_stops_an_open_call_and_comes_too_late_for_an_answered_one() {
    let mut state = state_with(1, &["b"]);
    assert_eq!(state.apply(&cancelled(1)), DONE);
    assert_eq!(state.apply(&cancelled(1)), DONE);
    assert_eq!(invite_state(&state, 1), InviteState::Cancelled);
    assert_eq!(state.apply(&failed(1, 487)), DONE);
    assert_eq!(state.apply(&cancelled(1)), SipResponse::Superseded);
    let mut state = state_with(1, &["b"]);
    state.apply(&answered(1, 0, "t"));
    assert_eq!(state.apply(&cancelled(1)), SipResponse::Superseded);
}

#[test]
fn the_first_answer_makes_the_call_and_its_dialog() {
    let mut state = state_with(1, &["b", "c", "d"]);
    state.apply(&progress(1, 2, refused(486)));
    assert_eq!(state.apply(&answered(1, 1, "t")), DONE);
    let expected = InviteState::Answered { branch: 1, response: ok("t"), forget_at: at(40) };
    assert_eq!(invite_state(&state, 1), expected);
    let no_bytes = |status| BranchState::Final { status, response: Vec::new() };
    assert_eq!(branch_states(&state, 1), [BranchState::Trying, no_bytes(200), no_bytes(486)]);
    let made = DialogRecord { invited_at: at(0), ..dialog(1, "t") };
    assert_eq!(state.dialog(&dialog(1, "t").id), Some(&made));
    assert_eq!(state.apply(&answered(1, 1, "t")), DONE, "the same 2xx again");
    let late_timer_c =
        SipCommand::BranchProgress { key: key(1), branch: 0, state: ringing("x"), timer_c_at: Some(at(999)) };
    assert_eq!(state.apply(&late_timer_c), DONE);
    assert!(state.pending_invites().all(|p| p.timer_c_at == at(180)), "timer C is over");
    // What the losers say to their CANCEL is kept, so that nobody cancels them again after a takeover.
    assert_eq!(state.apply(&progress(1, 0, refused(487))), DONE);
    assert_eq!(branch_states(&state, 1)[0], no_bytes(487));
    assert_eq!(state.apply(&progress(1, 0, refused(487))), DONE, "said again");
    assert_eq!(state.apply(&progress(1, 0, refused(404))), SipResponse::Superseded);
    assert_eq!(
        state.apply(&answered(1, 0, "t")),
        SipResponse::Superseded,
        "another branch, if in the same words"
    );
}

#[test]
fn an_answer_that_crosses_the_cancel_wins_rfc3261_9_1() {
    let mut state = state_with(1, &["b"]);
    state.apply(&cancelled(1));
    assert_eq!(state.apply(&answered(1, 0, "t")), DONE);
    assert!(matches!(invite_state(&state, 1), InviteState::Answered { branch: 0, .. }));
}

#[test]
fn a_second_answer_is_superseded_but_has_its_dialog_rfc3261_16_7_step_5() {
    let mut state = state_with(1, &["b", "c"]);
    state.apply(&answered(1, 0, "t"));
    assert_eq!(state.apply(&answered(1, 1, "u")), SipResponse::Superseded);
    assert!(matches!(invite_state(&state, 1), InviteState::Answered { branch: 0, .. }));
    assert!(state.dialog(&dialog(1, "t").id).is_some() && state.dialog(&dialog(1, "u").id).is_some());
    // The same branch forked further down: one more dialog.
    assert_eq!(state.apply(&answered(1, 0, "v")), SipResponse::Superseded);
    assert_eq!(state.counts().dialogs, 3);
}

#[test]
fn a_repeated_answer_does_not_revive_a_dialog_that_has_ended() {
    let mut state = state_with(1, &["b", "c"]);
    state.apply(&answered(1, 0, "t"));
    state.apply(&answered(1, 1, "u"));
    for tag in ["t", "u"] {
        assert_eq!(state.apply(&ended(1, tag)), DONE);
    }
    assert_eq!(state.apply(&answered(1, 0, "t")), DONE);
    assert_eq!(state.apply(&answered(1, 1, "u")), SipResponse::Superseded);
    assert_eq!(state.counts().dialogs, 0);
}

#[test]
fn the_first_final_for_the_caller_stays() {
    let mut state = state_with(1, &["b"]);
    state.apply(&progress(1, 0, refused(486)));
    assert_eq!(state.apply(&failed(1, 486)), DONE);
    assert_eq!(state.apply(&failed(1, 486)), DONE);
    assert_eq!(state.apply(&failed(1, 408)), SipResponse::Superseded);
    assert_eq!(state.apply(&answered(1, 0, "t")), SipResponse::Superseded);
    assert_eq!(state.counts().dialogs, 0, "the caller was told that there is no call");
    assert!(matches!(invite_state(&state, 1), InviteState::Failed { .. }));
    let mut state = state_with(1, &["b"]);
    state.apply(&answered(1, 0, "t"));
    assert_eq!(state.apply(&failed(1, 408)), SipResponse::Superseded);
}

#[test]
fn a_dialog_that_is_there_is_not_made_anew() {
    let mut state = state_with(1, &["b"]);
    state.apply(&answered(1, 0, "t"));
    let end = SipCommand::DialogUpdated {
        id: dialog(1, "t").id,
        caller_target: None,
        callee_target: Some(String::from("sip:b@10.0.0.66")),
        expires_at: None,
        caller_cseq: None,
        callee_cseq: None,
        session: None,
    };
    state.apply(&end);
    state.apply(&SipCommand::InviteDone { key: key(1) });
    state.apply(&received(1, &["b"]));
    assert_eq!(state.apply(&answered(1, 0, "t")), DONE);
    assert_eq!(state.dialog(&dialog(1, "t").id).map(|d| d.callee_target.as_str()), Some("sip:b@10.0.0.66"));
}

#[test]
fn a_call_is_answered_even_if_its_dialog_is_too_large_to_keep() {
    let mut state = state_with(1, &["b"]);
    let mut large = dialog(1, "t");
    large.callee_route = vec!["x".repeat(limits::MAX_DIALOG_BYTES)];
    let answer = SipCommand::InviteAnswered {
        key: key(1),
        branch: 0,
        response: ok("t"),
        dialog: Some(Box::new(large)),
        forget_at: at(40),
    };
    assert_eq!(state.apply(&answer), DONE);
    assert!(matches!(invite_state(&state, 1), InviteState::Answered { .. }));
    assert_eq!(state.counts().dialogs, 0);
}

#[test]
fn a_reinvite_makes_no_dialog_and_leaves_the_one_it_runs_in() {
    let mut state = state_with(1, &["b"]);
    state.apply(&answered(1, 0, "t"));
    state.apply(&SipCommand::DialogUpdated {
        id: dialog(1, "t").id,
        caller_target: Some(String::from("sip:a@10.0.0.77")),
        callee_target: None,
        expires_at: Some(at(50_000)),
        caller_cseq: None,
        callee_cseq: None,
        session: None,
    });
    let mut again = invite(2, &["b"]);
    again.call_id = String::from("call-1");
    state.apply(&SipCommand::InviteReceived(Box::new(again)));
    let answer = SipCommand::InviteAnswered {
        key: key(2),
        branch: 0,
        response: ok("t"),
        dialog: None,
        forget_at: at(60),
    };
    assert_eq!(state.apply(&answer), DONE);
    let found = state.dialog(&dialog(1, "t").id).expect("the dialog");
    assert_eq!((found.caller_target.as_str(), found.expires_at), ("sip:a@10.0.0.77", at(50_000)));
    assert_eq!((found.callee_target.as_str(), state.counts().dialogs), ("sip:b@10.0.0.2", 1));
}

#[test]
fn a_dialog_is_found_by_its_tags_in_either_order() {
    let mut state = state_with(1, &["b", "c"]);
    state.apply(&answered(1, 0, "t"));
    state.apply(&answered(1, 1, "u"));
    let mut other = state_with(2, &["b"]);
    other.apply(&answered(2, 0, "t"));
    for (a, b) in [("from", "t"), ("t", "from")] {
        assert_eq!(state.dialog_of("call-1", a, b).map(|d| d.id.to_tag.as_str()), Some("t"));
        assert_eq!(state.dialog_of("call-2", a, b), None);
        assert_eq!(state.dialog_of("call-1", a, "nobody"), None);
    }
    let tags: Vec<&str> = state.dialogs_of_call("call-1").map(|d| d.id.to_tag.as_str()).collect();
    assert_eq!(tags, ["t", "u"]);
    assert_eq!(state.dialogs_of_call("call-").count(), 0);
}

#[test]
fn a_dialog_too_large_to_update_stays_as_it_was() {
    let mut state = state_with(1, &["b"]);
    state.apply(&answered(1, 0, "t"));
    let before = state.clone();
    let huge = SipCommand::DialogUpdated {
        id: dialog(1, "t").id,
        caller_target: Some("x".repeat(limits::MAX_DIALOG_BYTES)),
        callee_target: None,
        expires_at: None,
        caller_cseq: None,
        callee_cseq: None,
        session: None,
    };
    assert_eq!(state.apply(&huge), SipResponse::Full);
    assert_eq!(state, before);
    let unknown = SipCommand::DialogUpdated {
        id: dialog(9, "t").id,
        caller_target: None,
        callee_target: None,
        expires_at: None,
        caller_cseq: None,
        callee_cseq: None,
        session: None,
    };
    assert_eq!(state.apply(&unknown), SipResponse::NotFound);
}

#[test]
fn expire_forgets_ended_invites_dialogs_and_calls_that_nobody_ended() {
    let mut state = state_with(1, &["b"]);
    state.apply(&received(2, &["b"]));
    state.apply(&received(3, &["b"]));
    state.apply(&answered(1, 0, "t"));
    state.apply(&failed(2, 404));
    let mut expire = |seconds| state.apply(&SipCommand::Expire { up_to: at(seconds) });
    let gone = |pending, dialogs| SipResponse::Expired { bindings: 0, pending, dialogs };
    assert_eq!(expire(39), gone(0, 0));
    assert_eq!(expire(40), gone(1, 0), "the answered one");
    assert_eq!(expire(50), gone(1, 0), "the refused one");
    // An open call is ended by its engine when timer C fires, long before this.
    let lost = 180 + limits::PENDING_GRACE_MS / 1000;
    assert_eq!(expire(lost - 1), gone(0, 0));
    assert_eq!(expire(lost), gone(1, 0));
    // The proxy says BYE to both sides then; this is for a dialog of which nobody has seen the end.
    let forgotten = 43_200 + limits::DIALOG_GRACE_MS / 1000;
    assert_eq!(expire(forgotten - 1), gone(0, 0));
    assert_eq!(expire(forgotten), gone(0, 1));
    assert_eq!(state, SipState::default());
}

#[test]
fn an_invite_beyond_the_bounds_of_a_record_is_not_admitted() {
    let mut state = SipState::default();
    let mut large = invite(1, &["b"]);
    large.request = vec![b'x'; limits::MAX_PENDING_BYTES];
    assert_eq!(state.apply(&SipCommand::InviteReceived(Box::new(large))), SipResponse::Full);
    let crowd: Vec<String> = (0..=limits::MAX_BRANCHES).map(|n| format!("x{n}")).collect();
    let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    assert_eq!(state.apply(&received(1, &crowd)), SipResponse::Full);
    assert_eq!(state, SipState::default());
    // Finals too large to keep are remembered by their status.
    let mut state = state_with(1, &["b"]);
    let large = BranchState::Final { status: 486, response: vec![b'x'; limits::MAX_PENDING_BYTES] };
    assert_eq!(state.apply(&progress(1, 0, large.clone())), DONE);
    assert_eq!(state.apply(&progress(1, 0, large)), DONE, "said again");
    assert_eq!(branch_states(&state, 1), [BranchState::Final { status: 486, response: Vec::new() }]);
}
