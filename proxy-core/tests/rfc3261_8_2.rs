//! RFC 3261 §8.2: how the proxy answers what is for itself. The rules that the other stories do not prove.

#[path = "common/story.rs"]
mod story;

use std::time::Duration;

use proxy_core::blf::PresenceConfig;
use proxy_core::io::EngineConfig;
use story::*;

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB_URI: &str = "sip:bob@lab.test";

#[test]
fn a_405_says_which_methods_the_phones_take_rfc3261_8_2_1() {
    let mut w = World::new();
    w.register_with("bob", BOB, ";methods=\"INVITE,BYE\"");
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "c1", ""));
    let refused = w.expect(ALICE, "SIP/2.0 405 ");
    let allow = header(&refused, "Allow").unwrap_or_default();
    let mut allowed: Vec<&str> = allow.split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["BYE", "INVITE"], "{refused}");
}

#[test]
fn options_for_the_proxy_that_requires_what_is_unknown_is_420_rfc3261_8_2_2_3() {
    let mut w = World::new();
    w.send(ALICE, &request("OPTIONS", "sip:lab.test", ALICE, "c1", "Require: path, teleport\r\n"));
    let refused = w.expect(ALICE, "SIP/2.0 420 ");
    assert_eq!(header(&refused, "Unsupported").as_deref(), Some("teleport"), "what is known is not named");
    w.send(ALICE, &request("OPTIONS", "sip:lab.test", ALICE, "c2", "Require: path\r\n"));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn a_subscription_that_requires_what_is_unknown_is_420_rfc3261_8_2_2_3() {
    let presence = PresenceConfig { enabled: true, ..PresenceConfig::default() };
    let mut w = World::with(EngineConfig { presence, ..config() });
    w.register("bob", BOB);
    let extra = "Event: dialog\r\nRequire: eventlist\r\n";
    w.send(ALICE, &request("SUBSCRIBE", BOB_URI, ALICE, "c1", extra));
    let refused = w.expect(ALICE, "SIP/2.0 420 ");
    assert_eq!(header(&refused, "Unsupported").as_deref(), Some("eventlist"));
}

#[test]
fn what_a_call_requires_is_the_phones_affair_and_in_a_cancel_nobodys_rfc3261_8_2_2_3() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &request("INVITE", BOB_URI, ALICE, "c1", "Require: teleport\r\n"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    assert_eq!(header(&at_bob, "Require").as_deref(), Some("teleport"));
    w.send(BOB, &respond(&at_bob, 180, "b1", ""));
    w.expect(ALICE, "SIP/2.0 180 ");
    let cancel = cancel(BOB_URI, ALICE, "c1").replace("Max-Forwards", "Require: teleport\r\nMax-Forwards");
    w.send(ALICE, &cancel);
    w.expect(ALICE, "SIP/2.0 200 ");
    w.expect(BOB, "CANCEL ");
}

#[test]
fn a_100_repeats_the_timestamp_and_nothing_else_does_rfc3261_8_2_6_1() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &request("INVITE", BOB_URI, ALICE, "c1", "Timestamp: 54.25\r\n"));
    let trying = w.expect(ALICE, "SIP/2.0 100 ");
    assert_eq!(header(&trying, "Timestamp").as_deref(), Some("54.25"));
    w.send(ALICE, &request("INVITE", "sip:nobody@lab.test", ALICE, "c2", "Timestamp: 54.25\r\n"));
    let refused = w.expect(ALICE, "SIP/2.0 404 ");
    assert_eq!(header(&refused, "Timestamp"), None);
}

#[test]
fn nothing_provisional_is_said_to_other_requests_than_invite_rfc3261_8_2_6_1() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "c1", ""));
    w.pass(Duration::from_secs(20));
    w.expect_nothing(ALICE);
}

#[test]
fn a_refusal_made_without_state_is_said_once_and_its_ack_and_cancel_lead_nowhere_rfc3261_8_2_7() {
    let mut w = World::new();
    w.send(ALICE, &invite("sip:nobody@lab.test", ALICE, "c1"));
    let refused = w.expect(ALICE, "SIP/2.0 404 ");
    w.pass(Duration::from_secs(40));
    w.expect_nothing(ALICE);
    let to = header(&refused, "To").expect("To");
    let ack = invite("sip:nobody@lab.test", ALICE, "c1")
        .replace("INVITE sip", "ACK sip")
        .replace("1 INVITE", "1 ACK")
        .replace("To: <sip:nobody@lab.test>", &format!("To: {to}"));
    w.send(ALICE, &ack);
    w.expect_nothing(ALICE);
    w.send(ALICE, &cancel("sip:nobody@lab.test", ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 481 ");
    assert_eq!(w.engine.load(), (0, 0, 0), "nothing is kept of it");
}
