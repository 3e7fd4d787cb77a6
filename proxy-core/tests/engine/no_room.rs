//! A disk that is nearly full: what is new is refused and told when to come again, what exists goes on to its end.

use std::time::Duration;

use crate::common::story::*;

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB2: &str = "10.77.0.202:5063";
const CARL: &str = "10.77.0.203:5064";
const BOB_URI: &str = "sip:bob@lab.test";

fn contact(at: &str) -> String {
    format!("Contact: <sip:bob@{at}>\r\n")
}

/// What is refused for want of room says when to ask again.
fn refused(w: &mut World, at: &str) {
    let answer = w.expect(at, "SIP/2.0 503 ");
    let seconds = header(&answer, "Retry-After").expect("Retry-After");
    assert!(seconds.parse::<u32>().expect("seconds") >= 10, "{answer}");
}

/// Bob is registered, and there is no room from now on.
fn full() -> World {
    let mut w = World::new();
    w.register("bob", BOB);
    w.engine.refuse_new(true);
    w
}

/// Alice talks to Bob, and then there is no room any more. Gives the INVITE as he got it, and her 200.
fn talking() -> (World, String, String) {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 200, "b1", &contact(BOB)));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(BOB, "ACK ");
    w.engine.refuse_new(true);
    (w, at_bob, ok)
}

#[test]
fn without_room_a_new_call_gets_503_with_retry_after_and_nothing_is_remembered_of_it() {
    let mut w = full();
    let commands = w.log.len();
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    refused(&mut w, ALICE);
    w.expect_nothing(BOB);
    assert_eq!((w.log.len(), w.state.counts().pending_invites), (commands, 0));
}

#[test]
fn without_room_a_new_registration_gets_503_with_retry_after_and_a_new_phone_of_a_known_user_too() {
    let mut w = full();
    let bindings = w.state.counts().bindings;
    w.send(CARL, &register("carl", CARL, 1, &format!("<sip:carl@{CARL}>")));
    refused(&mut w, CARL);
    w.send(BOB2, &register("bob", BOB2, 1, &format!("<sip:bob@{BOB2}>")));
    refused(&mut w, BOB2);
    assert_eq!(w.state.counts().bindings, bindings);
}

#[test]
fn without_room_a_refresh_is_acknowledged_and_keeps_the_phone_reachable() {
    let mut w = full();
    // Two refreshes, beyond the end of the first registration.
    for (cseq, passed) in [(2, 3_000), (3, 3_000)] {
        w.pass(Duration::from_secs(passed));
        w.send(BOB, &register("bob", BOB, cseq, &format!("<sip:bob@{BOB}>")));
        w.expect(BOB, "SIP/2.0 200 ");
    }
    assert_eq!(w.state.counts().bindings, 1);
}

#[test]
fn without_room_a_phone_that_signs_off_is_forgotten() {
    let mut w = full();
    w.send(BOB, &register("bob", BOB, 2, &format!("<sip:bob@{BOB}>;expires=0")));
    w.expect(BOB, "SIP/2.0 200 ");
    assert_eq!(w.state.counts().bindings, 0);
    // What signs off was perhaps never there; that adds nothing either.
    w.send(CARL, &register("carl", CARL, 1, &format!("<sip:carl@{CARL}>;expires=0")));
    w.expect(CARL, "SIP/2.0 200 ");
}

#[test]
fn without_room_a_call_can_be_changed_by_both_sides_and_ended() {
    let (mut w, at_bob, ok) = talking();
    w.send(ALICE, &in_dialog_of_caller("INVITE", 2, &ok, ALICE));
    w.take(ALICE);
    let again = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&again, 200, "b1", &contact(BOB)));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 2, &ok, ALICE));
    w.expect(BOB, "ACK ");
    w.send(BOB, &in_dialog_of_callee("INVITE", 7, &at_bob, "b1", BOB));
    w.take(BOB);
    let held = w.expect(ALICE, "INVITE ");
    w.send(ALICE, &respond(&held, 200, "", &format!("Contact: <sip:alice@{ALICE}>\r\n")));
    w.expect(BOB, "SIP/2.0 200 ");
    w.send(BOB, &in_dialog_of_callee("ACK", 7, &at_bob, "b1", BOB));
    w.expect(ALICE, "ACK ");
    w.send(ALICE, &in_dialog_of_caller("BYE", 3, &ok, ALICE));
    let bye = w.expect(BOB, "BYE ");
    w.send(BOB, &respond(&bye, 200, "b1", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(w.state.counts().dialogs, 0);
}

#[test]
fn without_room_a_call_that_rings_can_be_answered() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let at_bob = w.expect(BOB, "INVITE ");
    w.engine.refuse_new(true);
    // The caller says it once more: that is the same call.
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    assert!(w.take(ALICE).iter().all(|m| m.starts_with("SIP/2.0 1")));
    w.send(BOB, &respond(&at_bob, 180, "b1", ""));
    w.expect(ALICE, "SIP/2.0 180 ");
    w.send(BOB, &respond(&at_bob, 200, "b1", &contact(BOB)));
    w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(w.state.counts().dialogs, 1);
}

#[test]
fn without_room_a_call_that_rings_can_be_cancelled() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 180, "b1", ""));
    w.take(ALICE);
    w.engine.refuse_new(true);
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    let cancelled = w.expect(BOB, "CANCEL ");
    w.send(BOB, &respond(&cancelled, 200, "b1", ""));
    w.send(BOB, &respond(&at_bob, 487, "b1", ""));
    w.expect(BOB, "ACK ");
    let finals = w.take(ALICE);
    assert!(finals.iter().any(|m| m.starts_with("SIP/2.0 487 ")), "{finals:#?}");
    // Alice does not acknowledge it: it is forgotten when she has had the time to.
    w.pass(Duration::from_secs(200));
    assert_eq!(w.state.counts().pending_invites, 0);
}

#[test]
fn when_there_is_room_again_what_is_new_is_taken_without_a_restart() {
    let mut w = full();
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    refused(&mut w, ALICE);
    w.engine.refuse_new(false);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c2"));
    w.expect(ALICE, "SIP/2.0 100 ");
    w.expect(BOB, "INVITE ");
    w.send(CARL, &register("carl", CARL, 1, &format!("<sip:carl@{CARL}>")));
    w.expect(CARL, "SIP/2.0 200 ");
}
