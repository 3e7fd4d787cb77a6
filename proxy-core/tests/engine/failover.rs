//! Servers of a name that are silent, and answers that come after the call has moved on.

use std::time::Duration;

use crate::common::failover::*;
use crate::common::story::*;
use proxy_core::failover::FailoverConfig;
use proxy_core::io::EngineConfig;

#[test]
fn a_silent_server_of_a_name_is_followed_by_the_next_one_after_next_address_and_cancelled_when_it_wakes() {
    let mut w = servers(|_| {});
    call(&mut w, BOB_URI, "c1");
    let first = w.expect(FIRST, "INVITE ");
    w.pass(Duration::from_millis(2900));
    w.expect_nothing(SECOND);
    w.pass(Duration::from_millis(200));
    let second = w.expect(SECOND, "INVITE ");
    w.take(FIRST);
    w.send(FIRST, &respond(&first, 180, "late", ""));
    let cancel = w.expect(FIRST, "CANCEL ");
    assert_eq!(
        header(&cancel, "Via"),
        header(&first, "Via").map(|v| v.split(", ").next().unwrap().to_owned())
    );
    w.expect_nothing(ALICE);
    w.send(FIRST, &respond(&cancel, 200, "late", ""));
    w.send(FIRST, &respond(&first, 487, "late", ""));
    w.expect(FIRST, "ACK ");
    w.send(FIRST, &respond(&first, 487, "late", ""));
    w.expect(FIRST, "ACK ");
    w.send(SECOND, &respond(&second, 180, "b", ""));
    w.expect(ALICE, "SIP/2.0 180 ");
    w.send(SECOND, &respond(&second, 200, "b", &contact(SECOND)));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.pass(seconds(70));
    assert_eq!((w.engine.load(), w.engine.held_bytes()), ((0, 0, 0), 0));
    assert_eq!(w.state.counts().pending_invites, 0);
}

#[test]
fn a_late_2xx_of_a_server_that_was_left_gets_bye_and_then_ack_and_the_call_goes_on_elsewhere() {
    let mut w = servers(|_| {});
    call(&mut w, BOB_URI, "c1");
    let first = w.expect(FIRST, "INVITE ");
    w.pass(Duration::from_millis(3100));
    let second = w.expect(SECOND, "INVITE ");
    w.take(FIRST);
    let answer = respond(&first, 200, "late", &contact(FIRST));
    w.send(FIRST, &answer);
    let bye = w.expect(FIRST, "BYE sip:pbx@10.77.0.211:5081 ");
    assert_eq!(header(&bye, "To").as_deref(), Some("<sip:bob@lab.test>;tag=late"));
    assert_eq!(header(&bye, "From").as_deref(), Some("<sip:alice@lab.test>;tag=ac1"));
    // Its repetitions are not acknowledged before the BYE is over.
    w.send(FIRST, &answer);
    w.expect_nothing(FIRST);
    w.send(FIRST, &respond(&bye, 200, "late", ""));
    let ack = w.expect(FIRST, "ACK sip:pbx@10.77.0.211:5081 ");
    assert_eq!(header(&ack, "CSeq").as_deref(), Some("1 ACK"));
    w.send(FIRST, &answer);
    w.expect(FIRST, "ACK ");
    w.expect_nothing(ALICE);
    assert_eq!(w.engine.counters().late_answers, 1);
    w.send(SECOND, &respond(&second, 200, "b", &contact(SECOND)));
    w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(w.state.counts().dialogs, 1);
}

#[test]
fn a_takeover_listens_for_the_server_that_was_left_and_hangs_up_on_it_too() {
    let mut w = servers(|_| {});
    call(&mut w, BOB_URI, "c1");
    let first = w.expect(FIRST, "INVITE ");
    w.pass(Duration::from_millis(3100));
    let second = w.expect(SECOND, "INVITE ");
    w.take(FIRST);
    w.fail_over(Duration::from_millis(300));
    w.expect(FIRST, "CANCEL ");
    assert_eq!(w.expect(SECOND, "INVITE "), second);
    w.send(FIRST, &respond(&first, 200, "late", &contact(FIRST)));
    let bye = w.expect(FIRST, "BYE ");
    w.fail_over(Duration::from_millis(300));
    w.expect(FIRST, "CANCEL ");
    w.take(SECOND);
    w.send(FIRST, &respond(&first, 200, "late", &contact(FIRST)));
    assert_eq!(header(&w.expect(FIRST, "BYE "), "CSeq"), header(&bye, "CSeq"));
    w.send(SECOND, &respond(&second, 200, "b", &contact(SECOND)));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn an_answer_that_comes_while_the_move_is_under_way_is_taken_and_nobody_else_is_called() {
    let mut w = servers(|_| {});
    call(&mut w, BOB_URI, "c1");
    let first = w.expect(FIRST, "INVITE ");
    w.cluster = Cluster::Waits;
    w.pass(Duration::from_millis(3100));
    w.send(FIRST, &respond(&first, 200, "b", &contact(FIRST)));
    while w.verdict() {
        w.settle();
    }
    w.expect_nothing(SECOND);
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    assert!(ok.contains("tag=b"));
}

#[test]
fn an_answer_after_the_caller_was_told_408_is_hung_up_rfc3261_15() {
    let mut w = World::with(EngineConfig { timer_c: seconds(20), ..config() });
    w.register("bob", BOB);
    call(&mut w, BOB_URI, "c1");
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 180, "b", ""));
    w.take(ALICE);
    w.pass(seconds(21));
    assert!(w.take(ALICE)[0].starts_with("SIP/2.0 408 "));
    assert_eq!(count(&w.take(BOB), "CANCEL"), 2);
    w.send(BOB, &respond(&at_bob, 200, "b", &contact(BOB)));
    let bye = w.expect(BOB, "BYE ");
    w.send(BOB, &respond(&bye, 200, "b", ""));
    w.expect(BOB, "ACK ");
    assert_eq!(w.state.counts().dialogs, 0);
}

#[test]
fn fr_timer_ends_a_branch_that_says_nothing_sooner_than_timer_b_as_kamailios_does() {
    let fr_timer = Some(seconds(5));
    let mut w = World::with(EngineConfig {
        failover: FailoverConfig { fr_timer, ..FailoverConfig::default() },
        ..config()
    });
    w.register("bob", BOB);
    call(&mut w, BOB_URI, "c1");
    let at_bob = w.expect(BOB, "INVITE ");
    w.pass(Duration::from_millis(4900));
    w.expect_nothing(ALICE);
    w.pass(Duration::from_millis(200));
    w.expect(ALICE, "SIP/2.0 408 ");
    w.take(BOB);
    // The phone was asleep.
    w.send(BOB, &respond(&at_bob, 180, "b", ""));
    w.expect(BOB, "CANCEL ");
}

#[test]
fn a_message_reaches_the_second_server_of_a_name_when_the_first_is_silent() {
    let mut w = servers(|_| {});
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "m1", ""));
    w.resolve();
    w.expect(FIRST, "MESSAGE ");
    w.pass(Duration::from_millis(3100));
    let second = w.take(SECOND);
    assert_eq!(count(&second, "MESSAGE"), 1);
    w.send(SECOND, &respond(&second[0], 200, "b", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.take(FIRST);
    w.pass(seconds(40));
    w.expect_nothing(FIRST);
    assert_eq!(w.engine.load(), (0, 0, 0));
}

#[test]
fn a_takeover_passes_on_a_2xx_that_crossed_the_move_and_hangs_nobody_up() {
    let mut w = servers(|_| {});
    call(&mut w, BOB_URI, "c1");
    let first = w.expect(FIRST, "INVITE ");
    w.cluster = Cluster::Waits;
    w.pass(Duration::from_millis(3100));
    let answer = respond(&first, 200, "b", &contact(FIRST));
    w.send(FIRST, &answer);
    while w.verdict() {
        w.settle();
    }
    w.cluster = Cluster::Commits;
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.take(FIRST);
    // The caller's ACK was lost with the node: the callee says it again.
    w.fail_over(Duration::from_millis(300));
    w.take(ALICE);
    w.take(FIRST);
    w.send(FIRST, &answer);
    assert_eq!(w.expect(ALICE, "SIP/2.0 200 "), ok);
    w.expect_nothing(FIRST);
    assert_eq!(w.engine.counters().late_answers, 0);
    assert_eq!(w.state.counts().dialogs, 1);
}

#[test]
fn a_late_2xx_to_a_reinvite_never_ends_the_dialog_that_it_belongs_to() {
    let mut w = servers(|c| c.failover.fr_timer = Some(seconds(5)));
    call(&mut w, BOB_URI, "c1");
    let first = w.expect(FIRST, "INVITE ");
    w.send(FIRST, &respond(&first, 200, "b", "Contact: <sip:pbx@phone.test>\r\n"));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(FIRST, "ACK ");
    w.send(ALICE, &in_dialog_of_caller("INVITE", 2, &ok, ALICE));
    w.expect(ALICE, "SIP/2.0 100 ");
    let again = w.expect(FIRST, "INVITE ");
    w.pass(Duration::from_millis(3100));
    let elsewhere = w.expect(SECOND, "INVITE ");
    w.take(FIRST);
    // It is the answer that the caller waits for.
    w.send(FIRST, &respond(&again, 200, "b", "Contact: <sip:pbx@phone.test>\r\n"));
    w.expect_nothing(FIRST);
    w.expect(ALICE, "SIP/2.0 200 ");
    let _ = elsewhere;
    // Another one fails before its answer comes: who is in the dialog knows what to do (RFC 3261 §14.1, §13.3.1.4).
    w.send(ALICE, &in_dialog_of_caller("INVITE", 3, &ok, ALICE));
    w.expect(ALICE, "SIP/2.0 100 ");
    let again = w.expect(FIRST, "INVITE ");
    w.pass(Duration::from_millis(8200));
    w.expect(ALICE, "SIP/2.0 408 ");
    w.take(FIRST);
    w.send(FIRST, &respond(&again, 200, "b", "Contact: <sip:pbx@phone.test>\r\n"));
    w.expect_nothing(FIRST);
    assert_eq!(w.state.counts().dialogs, 1);
}
