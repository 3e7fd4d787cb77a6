//! The dispatcher's sets in the replicated state: states as Kamailio's, loads, bounds.

use crate::common::state::{at, branch, dialog, invite, key};
use proxy_core::state::dispatcher::{Attributes, Destination, DispatcherCommand, flag};
use proxy_core::state::{
    Backend, BranchState, DialogId, EndedBy, Ending, PendingInvite, SipCommand, SipResponse, SipState, limits,
};

const A: &str = "sip:10.0.0.21:5060";
const B: &str = "sip:10.0.0.22:5060";

fn destination(uri: &str, priority: i32) -> Destination {
    Destination {
        uri: uri.to_owned(),
        flags: 0,
        priority,
        attrs: Attributes::parse("weight=50;duid=x;maxload=2;socket=udp:1"),
        description: String::from("a PBX"),
        count: 0,
        changed_at: at(0),
        seen_at: at(0),
    }
}

fn put(state: &mut SipState, set: u32, d: Destination) -> SipResponse {
    state.apply(&SipCommand::Dispatcher(DispatcherCommand::Put { set, destination: Box::new(d) }))
}

fn observe(state: &mut SipState, up: bool, failures: u32, successes: u32, now: u64) -> SipResponse {
    let uri = A.to_owned();
    let command = DispatcherCommand::Observed { set: 1, uri, up, failures, successes, at: at(now) };
    state.apply(&SipCommand::Dispatcher(command))
}

fn set_state(state: &mut SipState, uri: Option<&str>, flags: u32) -> SipResponse {
    let uri = uri.map(str::to_owned);
    state.apply(&SipCommand::Dispatcher(DispatcherCommand::SetState { set: 1, uri, flags, at: at(9) }))
}

fn letters(state: &SipState) -> Vec<&'static str> {
    state.dispatcher().sets.get(&1).expect("a set").iter().map(|d| d.letters(false)).collect()
}

#[test]
fn attributes_are_read_as_kamailio_writes_them_and_kept_as_they_are() {
    let a = Attributes::parse("weight=50;duid=x;maxload=2;socket=udp:1");
    assert_eq!((a.weight, a.max_load, a.duid.as_str()), (50, 2, "x"));
    assert_eq!(a.body, "weight=50;duid=x;maxload=2;socket=udp:1");
    assert_eq!(Attributes::parse("weight=many;;=").weight, 0);
}

#[test]
fn destinations_stand_by_priority_and_then_as_they_were_added() {
    let mut state = SipState::default();
    for (uri, priority) in [("sip:a", 1), ("sip:b", 5), ("sip:c", 1), ("sip:d", 5)] {
        assert_eq!(put(&mut state, 1, destination(uri, priority)), SipResponse::Done);
    }
    let uris: Vec<&str> =
        state.dispatcher().sets.get(&1).expect("a set").iter().map(|d| d.uri.as_str()).collect();
    assert_eq!(uris, ["sip:b", "sip:d", "sip:a", "sip:c"]);
    assert!(state.index_is_right());
}

#[test]
fn a_destination_fails_by_way_of_trying_and_comes_back_by_its_successes() {
    let mut state = SipState::default();
    put(&mut state, 1, destination(A, 0));
    assert_eq!(letters(&state), ["AX"]);
    let revision = state.dispatcher().revision;
    observe(&mut state, false, 3, 2, 1);
    assert_eq!(letters(&state), ["TP"]);
    assert!(state.dispatcher().revision > revision);
    observe(&mut state, true, 3, 2, 2);
    assert_eq!(letters(&state), ["AP"]);
    for n in 0..3 {
        observe(&mut state, false, 3, 2, 3 + n);
    }
    assert_eq!(letters(&state), ["IP"]);
    assert_eq!(state.dispatcher().sets.get(&1).expect("a set")[0].changed_at, at(5));
    observe(&mut state, true, 3, 2, 6);
    assert_eq!(letters(&state), ["IP"]);
    // One failure in between, and it has to prove itself anew.
    observe(&mut state, false, 3, 2, 7);
    observe(&mut state, true, 3, 2, 8);
    assert_eq!(letters(&state), ["IP"]);
    observe(&mut state, true, 3, 2, 9);
    assert_eq!(letters(&state), ["AP"]);
}

#[test]
fn with_a_threshold_of_one_a_single_failure_is_enough_as_in_kamailio() {
    let mut state = SipState::default();
    put(&mut state, 1, destination(A, 0));
    observe(&mut state, false, 1, 1, 1);
    assert_eq!(letters(&state), ["IP"]);
    observe(&mut state, true, 1, 1, 2);
    assert_eq!(letters(&state), ["AP"]);
}

#[test]
fn what_the_operator_has_disabled_stays_so_whatever_is_observed() {
    let mut state = SipState::default();
    put(&mut state, 1, destination(A, 0));
    put(&mut state, 1, destination(B, 0));
    assert_eq!(set_state(&mut state, Some(A), flag::DISABLED), SipResponse::Done);
    observe(&mut state, true, 1, 1, 3);
    observe(&mut state, false, 1, 1, 4);
    assert_eq!(letters(&state), ["DX", "AX"]);
    assert_eq!(set_state(&mut state, None, flag::TRYING | flag::PROBING), SipResponse::Done);
    assert_eq!(letters(&state), ["TP", "TP"]);
    assert_eq!(set_state(&mut state, Some("sip:nobody"), 0), SipResponse::NotFound);
}

#[test]
fn an_observation_that_changes_nothing_is_no_news() {
    let mut d = destination(A, 0);
    d.flags = flag::PROBING;
    assert!(!d.is_news(true, 1, 1));
    assert!(d.is_news(false, 1, 1));
    d.flags |= flag::INACTIVE;
    assert!(!d.is_news(false, 1, 1));
    assert!(d.is_news(true, 5, 5));
    d.flags = flag::DISABLED;
    assert!(!d.is_news(true, 1, 1) && !d.is_news(false, 1, 1));
}

#[test]
fn the_two_letters_are_those_of_dispatcher_list() {
    let with = |flags| Destination { flags, ..destination(A, 0) };
    assert_eq!(with(0).letters(true), "AP");
    assert_eq!(with(flag::NO_PING).letters(true), "AX");
    assert_eq!(with(flag::INACTIVE | flag::PROBING).letters(false), "IP");
    assert_eq!(with(flag::TRYING).letters(false), "TX");
    assert_eq!(with(flag::DISABLED | flag::INACTIVE).letters(false), "DX");
}

#[test]
fn removing_takes_one_or_all_and_says_when_there_is_nothing() {
    let mut state = SipState::default();
    put(&mut state, 1, destination(A, 0));
    put(&mut state, 1, destination(B, 0));
    let remove = |state: &mut SipState, uri: Option<&str>| {
        let uri = uri.map(str::to_owned);
        state.apply(&SipCommand::Dispatcher(DispatcherCommand::Remove { set: 1, uri }))
    };
    assert_eq!(remove(&mut state, Some("sip:x")), SipResponse::NotFound);
    assert_eq!(remove(&mut state, Some(A)), SipResponse::Done);
    assert_eq!(remove(&mut state, None), SipResponse::Done);
    assert_eq!(remove(&mut state, None), SipResponse::NotFound);
    assert_eq!(state.bytes(), 0);
}

#[test]
fn a_destination_that_is_too_long_is_refused() {
    let mut state = SipState::default();
    let long = Destination { description: "x".repeat(limits::MAX_DESTINATION_BYTES), ..destination(A, 0) };
    assert_eq!(put(&mut state, 1, long), SipResponse::Full);
    assert_eq!(state, SipState::default());
}

fn call_at(n: u32, uri: &str) -> PendingInvite {
    let mut record = invite(n, &["x"]);
    record.branches[0].backing.backend = Some(Backend::Destination { set: 1, uri: uri.to_owned() });
    record
}

#[test]
fn the_load_of_a_destination_is_its_calls_under_way_and_answered() {
    let mut state = SipState::default();
    put(&mut state, 1, destination(A, 0));
    for n in 1..=2 {
        state.apply(&SipCommand::InviteReceived(Box::new(call_at(n, A))));
    }
    assert_eq!((state.load_of(1, A), state.load_of(1, B), state.load_of(2, A)), (2, 0, 0));
    // One is answered: the dialog takes over from the INVITE.
    let mut record = dialog(1, "t");
    record.backing = call_at(1, A).branches[0].backing.of_dialog();
    let id: DialogId = record.id.clone();
    state.apply(&SipCommand::InviteAnswered {
        key: key(1),
        branch: 0,
        response: b"SIP/2.0 200 OK\r\n".to_vec(),
        dialog: Some(Box::new(record)),
        forget_at: at(32),
    });
    assert_eq!(state.load_of(1, A), 2);
    // The other one fails over.
    let mut next = branch("y");
    next.backing.backend = Some(Backend::Destination { set: 1, uri: B.to_owned() });
    let over = BranchState::Final { status: 503, response: Vec::new() };
    state.apply(&SipCommand::BranchProgress { key: key(2), branch: 0, state: over, timer_c_at: None });
    assert_eq!(state.load_of(1, A), 1);
    state.apply(&SipCommand::DialogEnded {
        id,
        ending: Ending { at: at(5), by: EndedBy::Callee, bye: Some(200) },
    });
    state.apply(&SipCommand::InviteDone { key: key(1) });
    assert_eq!(state.load_of(1, A), 0);
    assert!(state.index_is_right());
}
