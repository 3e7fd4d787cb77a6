//! Calls through one engine, and the rule that nothing is promised before it is safe.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::io::Refusal;
use proxy_core::state::SipCommand;

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB2: &str = "10.77.0.202:5063";
const BOB3: &str = "10.77.0.202:5064";
const BOB_URI: &str = "sip:bob@lab.test";

fn contact(at: &str) -> String {
    format!("Contact: <sip:bob@{at}>\r\n")
}

/// Alice calls Bob at one place, he answers and she acknowledges. Gives the INVITE as he got it, and her 200.
fn answered(w: &mut World) -> (String, String) {
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 200, "b1", &contact(BOB)));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(BOB, "ACK ");
    (at_bob, ok)
}

#[test]
fn a_registration_is_answered_only_when_it_is_committed() {
    let mut w = World::new();
    w.cluster = Cluster::Waits;
    let text = register("bob", BOB, 1, &format!("<sip:bob@{BOB}>"));
    w.send(BOB, &text);
    w.send(BOB, &text);
    w.expect_nothing(BOB);
    assert_eq!(w.waiting.len(), 1, "the retransmission is absorbed");
    w.commit_all();
    let ok = w.expect(BOB, "SIP/2.0 200 ");
    assert!(ok.contains(&format!("Contact: <sip:bob@{BOB}>;expires=3600")), "{ok}");
    w.send(BOB, &text);
    w.expect(BOB, "SIP/2.0 200 ");
}

#[test]
fn a_call_goes_through_from_invite_to_bye() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    assert_eq!(uri_of(&at_bob), format!("sip:bob@{BOB}"));
    assert_eq!(header(&bare(&at_bob), "Record-Route").as_deref(), Some("<sip:10.77.0.100:5060;lr>"));
    assert_eq!(header(&at_bob, "Max-Forwards").as_deref(), Some("69"));
    assert!(at_bob.contains("received=10.77.0.201;rport=5061"), "{at_bob}");
    w.send(BOB, &respond(&at_bob, 180, "b1", ""));
    let ringing = w.expect(ALICE, "SIP/2.0 180 ");
    assert_eq!(ringing.matches("Via:").count(), 1);
    w.send(BOB, &respond(&at_bob, 200, "b1", &contact(BOB)));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(w.state.counts().dialogs, 1);
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    let ack = w.expect(BOB, "ACK ");
    assert_eq!(header(&ack, "Route"), None);
    assert_eq!(w.state.counts().pending_invites, 0, "nothing is left to do for a successor");
    w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    let bye = w.expect(BOB, "BYE ");
    w.send(BOB, &respond(&bye, 200, "b1", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(w.state.counts().dialogs, 0);
    w.pass(Duration::from_secs(120));
    assert_eq!(w.engine.load(), (0, 0, 0));
}

#[test]
fn nothing_of_an_invite_leaves_before_it_is_committed() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.cluster = Cluster::Waits;
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect_nothing(ALICE);
    w.expect_nothing(BOB);
    w.commit_all();
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    // Ringing is passed on at once.
    w.send(BOB, &respond(&at_bob, 180, "b1", ""));
    w.expect(ALICE, "SIP/2.0 180 ");
    w.commit_all();
    w.send(BOB, &respond(&at_bob, 200, "b1", &contact(BOB)));
    w.send(BOB, &respond(&at_bob, 200, "b1", &contact(BOB)));
    w.expect_nothing(ALICE);
    w.commit_all();
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    // A repeated 2xx is passed on again without asking anybody.
    w.send(BOB, &respond(&at_bob, 200, "b1", &contact(BOB)));
    w.expect(ALICE, "SIP/2.0 200 ");
    assert!(w.waiting.is_empty());
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect_nothing(BOB);
    w.commit_all();
    w.expect(BOB, "ACK ");
    w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    let bye = w.expect(BOB, "BYE ");
    w.send(BOB, &respond(&bye, 200, "b1", ""));
    w.expect_nothing(ALICE);
    w.commit_all();
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn a_failure_is_acknowledged_and_passed_on_only_when_it_is_committed() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let at_bob = w.expect(BOB, "INVITE ");
    w.cluster = Cluster::Waits;
    w.send(BOB, &respond(&at_bob, 486, "b1", ""));
    w.send(BOB, &respond(&at_bob, 486, "b1", ""));
    w.expect_nothing(ALICE);
    w.expect_nothing(BOB);
    w.cluster = Cluster::Refuses(Refusal::Unknown);
    w.settle();
    w.expect_nothing(BOB);
    w.cluster = Cluster::Commits;
    // The phone says it again, as nobody acknowledged it.
    w.send(BOB, &respond(&at_bob, 486, "b1", ""));
    let ack = w.expect(BOB, "ACK ");
    assert_eq!(
        header(&ack, "Via").expect("Via"),
        header(&at_bob, "Via").expect("Via").split(", ").next().expect("top")
    );
    let busy = w.expect(ALICE, "SIP/2.0 486 ");
    let ack = invite(BOB_URI, ALICE, "c1")
        .replace("INVITE sip", "ACK sip")
        .replace("1 INVITE", "1 ACK")
        .replace(&format!("To: <{BOB_URI}>"), &format!("To: {}", header(&busy, "To").expect("To")));
    w.send(ALICE, &ack);
    w.expect_nothing(BOB);
    assert_eq!(w.state.counts().pending_invites, 0);
    w.pass(Duration::from_secs(120));
    w.expect_nothing(ALICE);
    assert_eq!(w.engine.load(), (0, 0, 0));
}

#[test]
fn a_cancel_is_answered_and_sent_on_only_when_it_is_committed() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 180, "b1", ""));
    w.take(ALICE);
    w.cluster = Cluster::Waits;
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    w.expect_nothing(ALICE);
    w.expect_nothing(BOB);
    w.cluster = Cluster::Commits;
    w.settle();
    w.expect(ALICE, "SIP/2.0 200 ");
    let at_bob2 = w.expect(BOB, "CANCEL ");
    assert_eq!(
        header(&at_bob2, "Via").expect("Via"),
        header(&at_bob, "Via").expect("Via").split(", ").next().expect("top")
    );
    w.send(BOB, &respond(&at_bob2, 200, "b1", ""));
    w.send(BOB, &respond(&at_bob, 487, "b1", ""));
    w.expect(BOB, "ACK ");
    w.expect(ALICE, "SIP/2.0 487 ");
}

#[test]
fn a_cancel_waits_for_a_provisional_response_of_the_branch_rfc3261_9_1() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.expect_nothing(BOB);
    w.send(BOB, &respond(&at_bob, 100, "", ""));
    w.expect(BOB, "CANCEL ");
}

#[test]
fn a_cancel_before_the_invite_is_committed_rings_nobody() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.cluster = Cluster::Waits;
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    w.expect_nothing(ALICE);
    w.cluster = Cluster::Commits;
    w.settle();
    let got = w.take(ALICE);
    let starts: Vec<&str> = got.iter().map(|m| &m[8..11]).collect();
    assert_eq!(starts, ["100", "200", "487"]);
    w.expect_nothing(BOB);
}

#[test]
fn an_unknown_cancel_is_481_rfc3261_9_2() {
    let mut w = World::new();
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 481 ");
}

#[test]
fn three_forks_one_answers_and_two_get_cancel() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.register("bob", BOB2);
    w.register("bob", BOB3);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let i1 = w.expect(BOB, "INVITE ");
    let i2 = w.expect(BOB2, "INVITE ");
    let i3 = w.expect(BOB3, "INVITE ");
    w.send(BOB, &respond(&i1, 180, "b1", ""));
    w.send(BOB2, &respond(&i2, 180, "b2", ""));
    assert_eq!(w.take(ALICE).len(), 2);
    w.send(BOB2, &respond(&i2, 200, "b2", &contact(BOB2)));
    w.expect(ALICE, "SIP/2.0 200 ");
    let c1 = w.expect(BOB, "CANCEL ");
    assert!(header(&c1, "Reason").expect("Reason").contains("cause=200"), "RFC 3326: no missed call");
    w.expect_nothing(BOB3);
    w.send(BOB3, &respond(&i3, 180, "b3", ""));
    w.expect(BOB3, "CANCEL ");
    w.expect_nothing(ALICE);
    w.send(BOB, &respond(&c1, 200, "b1", ""));
    w.send(BOB, &respond(&i1, 487, "b1", ""));
    w.expect(BOB, "ACK ");
    // A 2xx that crossed the CANCEL is passed on, too (§16.7 step 10).
    w.send(BOB3, &respond(&i3, 200, "b3", &contact(BOB3)));
    let second = w.expect(ALICE, "SIP/2.0 200 ");
    assert!(second.contains("tag=b3"));
    assert_eq!(w.state.counts().dialogs, 2);
}

#[test]
fn the_best_failure_of_all_forks_goes_back_and_a_6xx_cancels_the_others() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.register("bob", BOB2);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let i1 = w.expect(BOB, "INVITE ");
    let i2 = w.expect(BOB2, "INVITE ");
    w.send(BOB, &respond(&i1, 180, "b1", ""));
    w.take(ALICE);
    w.send(BOB2, &respond(&i2, 603, "b2", ""));
    w.expect(BOB2, "ACK ");
    w.expect_nothing(ALICE);
    w.expect(BOB, "CANCEL ");
    w.send(BOB, &respond(&i1, 487, "b1", ""));
    w.expect(BOB, "ACK ");
    w.expect(ALICE, "SIP/2.0 603 ");
}

#[test]
fn timer_c_gives_the_caller_408_and_the_phone_cancel() {
    let mut w = World::with(proxy_core::io::EngineConfig { timer_c: Duration::from_secs(14), ..config() });
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 180, "b1", ""));
    w.take(ALICE);
    w.pass(Duration::from_millis(13_900));
    w.expect_nothing(ALICE);
    w.pass(Duration::from_millis(100));
    w.expect(ALICE, "SIP/2.0 408 ");
    w.expect(BOB, "CANCEL ");
    w.send(BOB, &respond(&at_bob, 487, "b1", ""));
    w.expect(BOB, "ACK ");
}

#[test]
fn a_phone_that_never_answers_is_a_408_after_timer_b() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    w.pass(Duration::from_secs(32));
    assert_eq!(w.take(BOB).len(), 7, "one INVITE and six retransmissions");
    w.expect(ALICE, "SIP/2.0 408 ");
    w.pass(Duration::from_secs(200));
    assert_eq!(w.engine.load(), (0, 0, 0));
    assert_eq!(w.state.counts().pending_invites, 0);
}

#[test]
fn a_reinvite_holds_to_the_same_rule_and_moves_the_targets() {
    let mut w = World::new();
    let (_, ok) = answered(&mut w);
    w.cluster = Cluster::Waits;
    let again = in_dialog_of_caller("INVITE", 2, &ok, ALICE)
        .replace("<sip:alice@10.77.0.201:5061>\r\nContent", "<sip:new@10.77.0.201:5099>\r\nContent");
    w.send(ALICE, &again);
    w.expect_nothing(BOB);
    w.commit_all();
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    assert_eq!(header(&at_bob, "Route"), None);
    w.send(BOB, &respond(&at_bob, 200, "b1", &contact(BOB)));
    w.expect_nothing(ALICE);
    w.commit_all();
    let ok2 = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 2, &ok2, ALICE));
    w.expect(BOB, "ACK ");
    assert_eq!(w.state.counts().dialogs, 1);
    assert_eq!(w.state.dialogs().next().expect("one").caller_target, "sip:new@10.77.0.201:5099");
}

#[test]
fn the_callee_can_hang_up_too() {
    let mut w = World::new();
    let (at_bob, _) = answered(&mut w);
    w.send(BOB, &in_dialog_of_callee("BYE", 1, &at_bob, "b1", BOB));
    let bye = w.expect(ALICE, "BYE ");
    w.send(ALICE, &respond(&bye, 200, "x", ""));
    w.expect(BOB, "SIP/2.0 200 ");
    assert_eq!(w.state.counts().dialogs, 0);
}

#[test]
fn a_refused_invite_is_forgotten_and_its_retransmission_tries_again() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.cluster = Cluster::Refuses(Refusal::Unknown);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect_nothing(ALICE);
    w.expect_nothing(BOB);
    assert_eq!((w.engine.load().0, w.engine.load().2), (0, 0));
    // It was committed after all, and nobody heard of it.
    w.cluster = Cluster::CommitsUnheard;
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect_nothing(BOB);
    w.cluster = Cluster::Commits;
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    w.expect(BOB, "INVITE ");
    let admitted = w.log.iter().filter(|c| matches!(c, SipCommand::InviteReceived(_))).count();
    assert_eq!(admitted, 1);
}

#[test]
fn an_overload_is_said_with_503_and_retry_after() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.cluster = Cluster::Refuses(Refusal::Overloaded);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let busy = w.expect(ALICE, "SIP/2.0 503 ");
    assert!(header(&busy, "Retry-After").is_some());
    w.send(BOB, &register("bob", BOB, 2, &format!("<sip:bob@{BOB}>")));
    w.expect(BOB, "SIP/2.0 503 ");
    assert_eq!((w.engine.load().0, w.engine.load().2), (0, 0));
}

#[test]
fn a_refused_decision_is_tried_again_without_anybody_asking() {
    let mut w = World::with(proxy_core::io::EngineConfig { timer_c: Duration::from_secs(14), ..config() });
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 180, "b1", ""));
    w.take(ALICE);
    w.cluster = Cluster::Refuses(Refusal::Unknown);
    w.pass(Duration::from_secs(15));
    w.expect_nothing(ALICE);
    w.cluster = Cluster::Commits;
    w.pass(Duration::from_secs(1));
    let got = w.take(ALICE);
    assert!(got.iter().all(|m| m.starts_with("SIP/2.0 408 ")) && !got.is_empty(), "{got:?}");
}

#[test]
fn a_failure_with_the_via_of_the_cancel_is_acknowledged_all_the_same() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 180, "b1", ""));
    w.take(ALICE);
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    let cancel = w.expect(BOB, "CANCEL ");
    w.send(BOB, &respond(&cancel, 200, "b1", ""));
    // SIPp's [last_Via:] in the 487, for one.
    w.send(BOB, &respond(&cancel, 487, "b1", "").replace("1 CANCEL", "1 INVITE"));
    w.expect(BOB, "ACK ");
    let got = w.take(ALICE);
    assert_eq!(got.iter().map(|m| &m[8..11]).collect::<Vec<_>>(), ["200", "487"]);
    assert!(header(&got[1], "Via").expect("Via").contains("z9hG4bKc1INVITE"));
}

#[test]
fn an_answer_whose_commit_nobody_heard_of_is_found_when_the_call_is_decided() {
    let mut w = World::with(proxy_core::io::EngineConfig { timer_c: Duration::from_secs(14), ..config() });
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let at_bob = w.expect(BOB, "INVITE ");
    w.cluster = Cluster::CommitsUnheard;
    w.send(BOB, &respond(&at_bob, 200, "b1", &contact(BOB)));
    w.expect_nothing(ALICE);
    w.cluster = Cluster::Commits;
    w.pass(Duration::from_secs(14));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.expect_nothing(BOB);
}
