//! RFC 3261 §8.2: how the proxy answers what is for itself. The rules that the other stories do not prove.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::blf::PresenceConfig;
use proxy_core::io::EngineConfig;

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

/// The request with a body of a type that means nothing here.
fn with_body(text: &str, headers: &str) -> String {
    let body = "<x/>";
    text.replace(
        "Content-Length: 0\r\n\r\n",
        &format!(
            "{headers}Content-Type: application/x-unknown\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
}

#[test]
fn a_register_with_a_body_that_nobody_understands_is_415_where_that_is_wanted_rfc3261_8_2_3() {
    let mut config = config();
    config.registrar.refuse_content = true;
    let mut w = World::with(config);
    let text = register("bob", BOB, 1, &format!("<sip:bob@{BOB}>"));
    w.send(BOB, &with_body(&text, ""));
    let refused = w.expect(BOB, "SIP/2.0 415 ");
    assert_eq!(header(&refused, "Accept").as_deref(), Some(""), "no type at all is taken: {refused}");
    assert!(w.state.bindings("sip:bob@lab.test").is_empty());
    w.send(BOB, &with_body(&text, "Content-Disposition: x;handling=optional\r\n"));
    w.expect(BOB, "SIP/2.0 200 ");
}

#[test]
fn a_body_does_not_keep_a_phone_from_registering_unless_that_is_wanted_rfc3261_8_2_3() {
    let mut w = World::new();
    let text = register("bob", BOB, 1, &format!("<sip:bob@{BOB}>"));
    w.send(BOB, &with_body(&text, "Content-Disposition: session;handling=required\r\n"));
    w.expect(BOB, "SIP/2.0 200 ");
}

#[test]
fn a_proxy_passes_on_bodies_that_it_does_not_understand_rfc3261_8_2_3() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &with_body(&request("MESSAGE", BOB_URI, ALICE, "c1", ""), "Content-Encoding: odd\r\n"));
    let got = w.expect(BOB, "MESSAGE ");
    assert!(got.contains("Content-Encoding: odd\r\n") && got.ends_with("<x/>"), "{got}");
    // The phone says it, with what it takes instead, and the caller hears both.
    w.send(BOB, &respond(&got, 415, "b1", "Accept: text/plain\r\n"));
    let refused = w.expect(ALICE, "SIP/2.0 415 ");
    assert_eq!(header(&refused, "Accept").as_deref(), Some("text/plain"));
}

#[test]
fn a_subscription_with_a_filter_is_415_and_one_that_takes_another_type_406_rfc3261_8_2_3() {
    let mut config = config();
    config.presence.enabled = true;
    let mut w = World::with(config);
    w.register("bob", BOB);
    let subscribe = |call: &str, headers: &str| {
        request("SUBSCRIBE", BOB_URI, ALICE, call, &format!("Event: dialog\r\nExpires: 600\r\n{headers}"))
    };
    w.send(ALICE, &with_body(&subscribe("s1", ""), ""));
    let refused = w.expect(ALICE, "SIP/2.0 415 ");
    assert_eq!(header(&refused, "Accept").as_deref(), Some(""));
    w.send(ALICE, &subscribe("s2", "Accept: application/pidf+xml\r\n"));
    w.expect(ALICE, "SIP/2.0 406 ");
    w.send(ALICE, &subscribe("s3", "Accept: application/pidf+xml, application/dialog-info+xml\r\n"));
    assert!(w.take(ALICE)[0].starts_with("SIP/2.0 200 "));
}

#[test]
fn a_kept_message_may_have_a_type_that_only_its_receiver_knows_rfc3261_8_2_3_rfc3428() {
    let mut config = config();
    config.message_store.enabled = true;
    let mut w = World::with(config);
    w.send(ALICE, &with_body(&request("MESSAGE", BOB_URI, ALICE, "c1", ""), ""));
    w.expect(ALICE, "SIP/2.0 202 ");
    w.send(BOB, &register("bob", BOB, 1, &format!("<sip:bob@{BOB}>")));
    w.pass(Duration::from_secs(2));
    let all = w.take(BOB);
    let got = all.iter().find(|m| m.starts_with("MESSAGE ")).expect("the message");
    assert_eq!(header(got, "Content-Type").as_deref(), Some("application/x-unknown"));
    // He does not know it either: it is not brought again.
    w.send(BOB, &respond(got, 415, "b1", ""));
    w.pass(Duration::from_secs(7200));
    assert!(w.take(BOB).iter().all(|m| !m.starts_with("MESSAGE ")));
}
