//! REGISTER in the replicated state: RFC 3261 §10.3 steps 6 to 8, RFC 5626 §6.

use crate::common::state::{at, contact, contacts, flow, register};
use proxy_core::state::{
    Binding, RegisterChange, RegisterRefusal, SipCommand, SipResponse, SipState, limits,
};

const AOR: &str = "sip:alice@lab.test";
const OUT_OF_ORDER: SipResponse = SipResponse::RegisterRefused(RegisterRefusal::OutOfOrder);

fn names(list: &[Binding]) -> Vec<&str> {
    list.iter().map(|b| b.contact.trim_start_matches("sip:").split('@').next().unwrap_or_default()).collect()
}

fn registered(response: &SipResponse) -> Vec<&str> {
    match response {
        SipResponse::Registered(list) => names(list),
        other => panic!("not registered: {other:?}"),
    }
}

#[test]
fn a_contact_is_added_refreshed_and_removed_rfc3261_10_3() {
    let mut state = SipState::default();
    let response = state.apply(&contacts("a", 1, 0, &[contact("desk", 0, 60)]));
    assert_eq!(registered(&response), ["desk"]);
    assert_eq!((state.bindings(AOR)[0].cseq, state.bindings(AOR)[0].call_id.as_str()), (1, "a"));
    assert_eq!(registered(&state.apply(&contacts("a", 2, 30, &[contact("desk", 30, 60)]))), ["desk"]);
    assert_eq!(state.bindings(AOR)[0].expires_at, at(90));
    assert_eq!(registered(&state.apply(&contacts("a", 3, 40, &[contact("desk", 40, 0)]))), [""; 0]);
    assert_eq!(state, SipState::default(), "an AOR without contacts leaves nothing behind");
}

#[test]
fn bindings_are_listed_highest_q_first_then_newest() {
    let mut state = SipState::default();
    let low = Binding { q: 300, ..contact("low", 0, 600) };
    state.apply(&contacts("a", 1, 0, &[low, contact("old", 0, 600)]));
    state.apply(&contacts("b", 1, 5, &[contact("new", 5, 600)]));
    assert_eq!(names(state.bindings(AOR)), ["new", "old", "low"]);
    let query = state.apply(&register("q", 1, 6, RegisterChange::Query));
    assert_eq!(registered(&query), ["new", "old", "low"]);
}

#[test]
fn register_with_lower_cseq_same_call_id_is_refused_rfc3261_10_3() {
    let mut state = SipState::default();
    state.apply(&contacts("a", 5, 0, &[contact("desk", 0, 60)]));
    let before = state.clone();
    assert_eq!(state.apply(&contacts("a", 4, 1, &[contact("desk", 1, 60)])), OUT_OF_ORDER);
    assert_eq!(state.apply(&contacts("a", 4, 1, &[contact("desk", 1, 0)])), OUT_OF_ORDER);
    assert_eq!(state.apply(&register("a", 4, 1, RegisterChange::RemoveAll)), OUT_OF_ORDER);
    assert_eq!(state, before);
}

#[test]
fn register_with_another_call_id_wins_whatever_its_cseq_rfc3261_10_3() {
    let mut state = SipState::default();
    state.apply(&contacts("a", 500, 0, &[contact("desk", 0, 60)]));
    assert_eq!(registered(&state.apply(&contacts("rebooted", 1, 1, &[contact("desk", 1, 90)]))), ["desk"]);
    assert_eq!(state.bindings(AOR)[0].expires_at, at(91));
    assert_eq!(registered(&state.apply(&register("operator", 1, 2, RegisterChange::RemoveAll))), [""; 0]);
}

#[test]
fn a_retransmission_gets_the_same_answer_and_changes_nothing() {
    let mut state = SipState::default();
    let first = state.apply(&contacts("a", 1, 0, &[contact("desk", 0, 60), contact("cell", 0, 60)]));
    let before = state.clone();
    // It comes two seconds later, so its absolute end is later, too.
    let again = state.apply(&contacts("a", 1, 2, &[contact("desk", 2, 60), contact("cell", 2, 60)]));
    assert_eq!(first, again);
    assert_eq!(state, before);
}

#[test]
fn equal_cseq_with_other_content_is_refused() {
    let mut state = SipState::default();
    state.apply(&contacts("a", 1, 0, &[contact("desk", 0, 60)]));
    let before = state.clone();
    let other_flow = Binding { flow: flow(66), ..contact("desk", 1, 60) };
    for change in [contact("desk", 1, 61), contact("desk", 1, 0), other_flow] {
        assert_eq!(state.apply(&contacts("a", 1, 1, &[change])), OUT_OF_ORDER);
    }
    assert_eq!(state.apply(&register("a", 1, 1, RegisterChange::RemoveAll)), OUT_OF_ORDER);
    assert_eq!(state, before);
}

#[test]
fn a_removal_may_be_repeated() {
    let mut state = SipState::default();
    state.apply(&contacts("a", 1, 0, &[contact("desk", 0, 60)]));
    for _ in 0..2 {
        assert_eq!(registered(&state.apply(&contacts("a", 2, 1, &[contact("desk", 1, 0)]))), [""; 0]);
    }
    for _ in 0..2 {
        assert_eq!(registered(&state.apply(&register("a", 3, 1, RegisterChange::RemoveAll))), [""; 0]);
    }
}

#[test]
fn one_contact_out_of_order_fails_the_whole_request_rfc3261_10_3_step_7() {
    let mut state = SipState::default();
    state.apply(&contacts("a", 5, 0, &[contact("desk", 0, 60)]));
    state.apply(&contacts("b", 1, 0, &[contact("cell", 0, 60)]));
    let before = state.clone();
    let mixed = [contact("new", 1, 60), contact("cell", 1, 0), contact("desk", 1, 60)];
    assert_eq!(state.apply(&contacts("a", 4, 1, &mixed)), OUT_OF_ORDER);
    assert_eq!(state, before);
}

#[test]
fn star_removes_all_only_if_none_is_newer_rfc3261_10_3_step_6() {
    let mut state = SipState::default();
    state.apply(&contacts("a", 2, 0, &[contact("desk", 0, 60)]));
    state.apply(&contacts("b", 9, 0, &[contact("cell", 0, 60)]));
    assert_eq!(state.apply(&register("b", 8, 1, RegisterChange::RemoveAll)), OUT_OF_ORDER);
    assert_eq!(state.counts().bindings, 2);
    assert_eq!(registered(&state.apply(&register("b", 10, 1, RegisterChange::RemoveAll))), [""; 0]);
}

#[test]
fn more_contacts_than_configured_are_refused_but_changes_among_them_are_not() {
    let mut state = SipState::default();
    let three = ["a", "b", "c"].map(|n| contact(n, 0, 60));
    assert_eq!(registered(&state.apply(&contacts("x", 1, 0, &three))).len(), 3);
    let too_many = SipResponse::RegisterRefused(RegisterRefusal::TooManyContacts);
    assert_eq!(state.apply(&contacts("y", 1, 0, &[contact("d", 0, 60)])), too_many);
    let swap = [contact("a", 1, 0), contact("d", 1, 60)];
    assert_eq!(registered(&state.apply(&contacts("x", 2, 1, &swap))).len(), 3);
    // A limit that was lowered since throws nobody out.
    let SipCommand::Register(mut refresh) = contacts("y", 1, 2, &[contact("b", 2, 60)]) else {
        unreachable!()
    };
    refresh.max_contacts = 1;
    assert_eq!(registered(&state.apply(&SipCommand::Register(refresh))).len(), 3);
    // Expired ones take no place, though no Expire has come by.
    assert_eq!(registered(&state.apply(&contacts("z", 1, 3600, &[contact("e", 3600, 60)]))), ["e"]);
}

#[test]
fn a_phone_that_moved_is_known_by_instance_and_reg_id_rfc5626_6() {
    let mut state = SipState::default();
    let phone = |name: &str, reg_id, now| Binding {
        instance: Some(String::from("<urn:uuid:1>")),
        reg_id: Some(reg_id),
        ..contact(name, now, 60)
    };
    state.apply(&contacts("a", 1, 0, &[phone("old", 1, 0)]));
    assert_eq!(registered(&state.apply(&contacts("b", 1, 1, &[phone("new", 1, 1)]))), ["new"]);
    // The same contact over a second flow is a second binding.
    assert_eq!(registered(&state.apply(&contacts("b", 2, 2, &[phone("new", 2, 2)]))), ["new", "new"]);
    // Without the pair it is the contact that counts.
    assert_eq!(registered(&state.apply(&contacts("c", 1, 3, &[contact("new", 3, 60)]))), ["new"]);
    assert_eq!(registered(&state.apply(&contacts("d", 1, 4, &[phone("new", 1, 4)]))), ["new"]);
    assert_eq!(state.bindings(AOR)[0].reg_id, Some(1));
}

#[test]
fn a_contact_named_twice_in_one_request_counts_once_and_last() {
    let mut state = SipState::default();
    let twice = [contact("desk", 0, 60), contact("desk", 0, 90)];
    assert_eq!(registered(&state.apply(&contacts("a", 1, 0, &twice))), ["desk"]);
    assert_eq!(state.bindings(AOR)[0].expires_at, at(90));
}

#[test]
fn the_bounds_of_a_binding_and_of_an_aor_hold() {
    let mut state = SipState::default();
    let long = Binding { user_agent: "x".repeat(limits::MAX_BINDING_BYTES), ..contact("desk", 0, 60) };
    assert_eq!(state.apply(&contacts("a", 1, 0, &[long])), SipResponse::Full);
    let crowd: Vec<Binding> =
        (0..=limits::MAX_CHANGES_PER_REGISTER).map(|n| contact(&format!("u{n}"), 0, 60)).collect();
    let SipCommand::Register(mut command) = contacts("a", 1, 0, &crowd) else { unreachable!() };
    command.max_contacts = u16::MAX;
    assert_eq!(state.apply(&SipCommand::Register(command.clone())), SipResponse::Full);
    for (i, part) in crowd.chunks(100).enumerate() {
        command.call_id = format!("part{i}");
        command.change = RegisterChange::Contacts(part.to_vec());
        let response = state.apply(&SipCommand::Register(command.clone()));
        let fits = (i + 1) * 100 <= limits::MAX_BINDINGS_PER_AOR;
        assert_eq!(matches!(response, SipResponse::Registered(_)), fits, "part {i}");
    }
    assert_eq!(state.counts().bindings, 200);
}

#[test]
fn the_operator_removes_one_contact_or_all() {
    let mut state = SipState::default();
    state.apply(&contacts("a", 1, 0, &[contact("desk", 0, 60), contact("cell", 0, 60)]));
    let remove = |contact: Option<&str>| SipCommand::Unregister {
        aor: String::from(AOR),
        contact: contact.map(str::to_owned),
    };
    assert_eq!(state.apply(&remove(Some("sip:desk@10.0.0.1"))), SipResponse::Done);
    assert_eq!(state.apply(&remove(Some("sip:desk@10.0.0.1"))), SipResponse::NotFound);
    assert_eq!(names(state.bindings(AOR)), ["cell"]);
    assert_eq!(state.apply(&remove(None)), SipResponse::Done);
    assert_eq!(state.apply(&remove(None)), SipResponse::NotFound);
}

#[test]
fn expire_removes_exactly_what_has_ended() {
    let mut state = SipState::default();
    state.apply(&contacts("a", 1, 0, &[contact("short", 0, 60), contact("long", 0, 600)]));
    let expire = |seconds| SipCommand::Expire { up_to: at(seconds) };
    let gone = |bindings| SipResponse::Expired { bindings, pending: 0, dialogs: 0 };
    assert_eq!(state.apply(&expire(59)), gone(0));
    assert_eq!(state.apply(&expire(60)), gone(1));
    assert_eq!(names(state.bindings(AOR)), ["long"]);
    assert_eq!(state.apply(&expire(600)), gone(1));
    assert_eq!(state, SipState::default());
}

/// Who restarts a whole site would otherwise wait for one entry that removes everything.
#[test]
fn one_expire_removes_so_much_that_nobody_waits_long_and_says_that_more_is_left() {
    let mut state = SipState::default();
    let users = limits::MAX_EXPIRED_AT_ONCE as u32 + 500;
    for n in 0..users {
        let SipCommand::Register(mut one) = contacts("a", 1, 0, &[contact("desk", 0, 60)]) else {
            panic!("a REGISTER");
        };
        one.aor = format!("sip:{n}@lab.test");
        state.apply(&SipCommand::Register(one));
    }
    let expire = SipCommand::Expire { up_to: at(60) };
    let first = state.apply(&expire);
    assert!(first.has_left_some(), "{first:?}");
    let second = state.apply(&expire);
    assert_eq!(second, SipResponse::Expired { bindings: 500, pending: 0, dialogs: 0 });
    assert!(!second.has_left_some());
    assert_eq!(state, SipState::default());
}
