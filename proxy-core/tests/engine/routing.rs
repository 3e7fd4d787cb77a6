//! Where requests go, and which go nowhere: one test per rule of the route stages.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::engine::{Engine, shard_of};
use proxy_core::io::EngineConfig;
use proxy_core::state::SipCommand;

const ALICE: &str = "10.77.0.201:5061";
const ALICE6: &str = "[fd77::201]:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB2: &str = "10.77.0.202:5063";
const OTHER: &str = "10.99.0.9:5060";
const BOB_URI: &str = "sip:bob@lab.test";
const PRELOADED: &str = "Route: <sip:10.77.0.100:5060;transport=udp;lr>\r\n";

/// Messages of the proxy to itself go round until there are no more.
fn go_round(w: &mut World) {
    loop {
        let mine = w.take(VIP);
        if mine.is_empty() {
            return;
        }
        for message in mine {
            w.send(VIP, &message);
        }
    }
}

/// The status that Alice gets for this request, which must go nowhere.
fn status_of(w: &mut World, text: &str) -> String {
    w.send(ALICE, text);
    let answer = w.expect(ALICE, "SIP/2.0 ");
    assert!(w.inbox.is_empty(), "{:?}", w.inbox);
    answer[8..].lines().next().expect("a line").to_owned()
}

#[test]
fn options_for_the_proxy_is_answered_without_state() {
    let mut w = World::new();
    for uri in ["sip:10.77.0.100", "sip:10.77.0.100:5060;transport=udp", "sip:lab.test", "sip:[fd77::100]"] {
        w.send(ALICE, &request("OPTIONS", uri, ALICE, "o1", PRELOADED));
        let ok = w.expect(ALICE, "SIP/2.0 200 ");
        assert!(header(&ok, "Allow").expect("Allow").contains("INVITE"));
        assert!(header(&ok, "Supported").is_some());
        assert!(header(&ok, "To").expect("To").contains(";tag="));
        assert!(header(&ok, "Via").expect("Via").contains("received=10.77.0.201;rport=5061"));
    }
    assert_eq!(w.engine.load(), (0, 0, 0));
}

#[test]
fn a_preloaded_route_of_ours_is_stripped_from_register_and_invite() {
    let mut w = World::new();
    let register = register("bob", BOB, 1, &format!("<sip:bob@{BOB}>"));
    w.send(BOB, &register.replace("Max-Forwards", &format!("{PRELOADED}Max-Forwards")));
    w.expect(BOB, "SIP/2.0 200 ");
    w.send(ALICE, &request("INVITE", BOB_URI, ALICE, "c1", PRELOADED));
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    assert_eq!(header(&at_bob, "Route"), None);
}

#[test]
fn this_is_no_open_relay() {
    let mut w = World::new();
    let foreign = format!("sip:x@{OTHER}");
    assert_eq!(status_of(&mut w, &invite(&foreign, ALICE, "c1")), "403 Not relaying");
    // Neither through a Route of ours nor to one of others, as long as there is no dialog.
    assert_eq!(status_of(&mut w, &request("INVITE", &foreign, ALICE, "c2", PRELOADED)), "403 Not relaying");
    let two = format!("Route: <sip:{VIP};lr>, <sip:{OTHER};lr>\r\n");
    assert_eq!(status_of(&mut w, &request("MESSAGE", BOB_URI, ALICE, "c3", &two)), "404 Not Found");
    assert_eq!(status_of(&mut w, &invite("sip:bob@lab.test:5070", ALICE, "c4")), "403 Not relaying");
}

#[test]
fn unknown_users_are_404_users_without_a_current_contact_480_no_user_484() {
    let mut w = World::new();
    assert_eq!(status_of(&mut w, &invite(BOB_URI, ALICE, "c1")), "404 Not Found");
    assert_eq!(status_of(&mut w, &invite("sip:lab.test", ALICE, "c2")), "484 Address Incomplete");
    w.register_with("bob", BOB, ";expires=60");
    // Past its end, but not yet removed.
    w.tick(Duration::from_secs(61));
    assert_eq!(status_of(&mut w, &invite(BOB_URI, ALICE, "c3")), "480 Temporarily Unavailable");
    w.pass(Duration::from_secs(1));
    assert!(w.log.iter().any(|c| matches!(c, SipCommand::Expire { .. })));
    assert_eq!(status_of(&mut w, &invite(BOB_URI, ALICE, "c4")), "404 Not Found");
    // A contact whose name nobody knows.
    w.send(BOB, &register("bob", BOB, 2, "<sip:bob@phone.example>"));
    w.take(BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c5"));
    w.expect_nothing(ALICE);
    w.resolve();
    w.expect(ALICE, "SIP/2.0 480 Temporarily Unavailable");
}

#[test]
fn expire_is_proposed_only_when_something_is_due_and_by_shard_0_only() {
    let mut w = World::new();
    w.register_with("bob", BOB, ";expires=60");
    w.log.clear();
    w.pass(Duration::from_secs(59));
    assert!(w.log.is_empty());
    w.pass(Duration::from_secs(3));
    assert_eq!(w.log.len(), 1);
    w.register_with("bob", BOB, ";expires=60");
    let mut other = Engine::new(EngineConfig { shard: 1, shards: 2, ..config() });
    other.activate(w.now, &w.state);
    // The new binding is soon past its end, and still this engine asks for nothing.
    let mut now = w.now;
    for _ in 0..10 {
        now.mono = other.poll_timeout().expect("chores");
        now.wall = now.wall + Duration::from_secs(3600);
        other.handle_timeout(now, &w.state);
    }
    assert_eq!(other.poll_output(), None);
}

#[test]
fn a_register_for_others_is_refused() {
    let mut w = World::new();
    let text = register("bob", ALICE, 1, "<sip:bob@10.77.0.201>");
    assert_eq!(
        status_of(&mut w, &text.replace("REGISTER sip:lab.test", "REGISTER sip:other.test")),
        "403 Not relaying"
    );
    assert_eq!(
        status_of(&mut w, &text.replace("To: <sip:bob@lab.test>", "To: <sip:bob@other.test>")),
        "404 Not Found"
    );
    assert_eq!(w.state.counts().bindings, 0);
}

#[test]
fn any_domain_makes_every_domain_ours_and_still_relays_to_nobody() {
    let mut w = World::with(EngineConfig { any_domain: true, domains: Vec::new(), ..config() });
    w.register("bob", BOB);
    assert_eq!(status_of(&mut w, &invite(&format!("sip:x@{OTHER}"), ALICE, "c1")), "404 Not Found");
    w.send(ALICE, &invite(BOB_URI, ALICE, "c2"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(BOB, "ACK ");
    w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    w.expect(BOB, "BYE ");
}

#[test]
fn the_addresses_of_the_proxy_are_other_names_of_its_domain() {
    let mut w = World::new();
    w.register("bob", BOB);
    for (n, host) in ["10.77.0.100", "10.77.0.100:5060", "[fd77::100]", "LAB.test"].iter().enumerate() {
        w.send(ALICE, &request("MESSAGE", &format!("sip:bob@{host}"), ALICE, &format!("m{n}"), ""));
        w.expect(BOB, "MESSAGE ");
    }
    let text = register("carol", BOB2, 1, &format!("<sip:carol@{BOB2}>"));
    w.send(BOB2, &text.replace("lab.test", "10.77.0.100"));
    w.expect(BOB2, "SIP/2.0 200 ");
    assert_eq!(w.state.bindings("sip:carol@lab.test").len(), 1);
}

#[test]
fn max_forwards_0_is_483_and_none_becomes_70_rfc3261_16_3_16_6() {
    let mut w = World::new();
    w.register("bob", BOB);
    let text = request("MESSAGE", BOB_URI, ALICE, "m1", "");
    assert_eq!(status_of(&mut w, &text.replace("Max-Forwards: 70", "Max-Forwards: 0")), "483 Too Many Hops");
    w.send(ALICE, &text.replace("Max-Forwards: 70\r\n", ""));
    assert_eq!(header(&w.expect(BOB, "MESSAGE "), "Max-Forwards").as_deref(), Some("70"));
}

#[test]
fn proxy_require_is_420_and_names_what_is_unsupported_rfc3261_16_3() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &request("INVITE", BOB_URI, ALICE, "c1", "Proxy-Require: foo, bar\r\n"));
    let bad = w.expect(ALICE, "SIP/2.0 420 ");
    assert_eq!(header(&bad, "Unsupported").as_deref(), Some("foo, bar"));
    w.expect_nothing(BOB);
}

#[test]
fn broken_requests_are_answered_or_dropped_and_counted() {
    let mut w = World::new();
    let text = invite(BOB_URI, ALICE, "c1");
    assert!(status_of(&mut w, &text.replace("CSeq: 1 INVITE", "CSeq: 1 BYE")).starts_with("400 "));
    assert!(status_of(&mut w, &text.replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia")).starts_with("505 "));
    assert!(
        status_of(&mut w, &text.replace("INVITE sip:bob@lab.test", "INVITE http://x")).starts_with("416 ")
    );
    assert!(
        status_of(&mut w, &text.replace("Call-ID: c1", &format!("Call-ID: {}", "x".repeat(300))))
            .starts_with("400 ")
    );
    assert!(
        status_of(&mut w, &text.replace("Max-", &format!("X: {}\r\nMax-", "x".repeat(17_000))))
            .starts_with("513 ")
    );
    let long = format!("INVITE sip:{}@lab.test", "x".repeat(600));
    assert!(status_of(&mut w, &text.replace("INVITE sip:bob@lab.test", &long)).starts_with("414 "));
    for junk in ["", "\r\n\r\n", "hello", "SIP/2.0 200 OK\r\n\r\n", "ACK sip:x SIP/2.0\r\n\r\n"] {
        w.send(ALICE, junk);
        w.expect_nothing(ALICE);
    }
    assert_eq!(w.engine.counters().dropped_malformed, 3);
    assert_eq!(w.engine.counters().rejected, 6);
}

#[test]
fn a_loop_is_482_and_the_caller_hears_of_it_rfc3261_16_3_rfc5393() {
    let mut w = World::new();
    // Bob is at Bob's.
    w.send(BOB, &register("bob", BOB, 1, &format!("<sip:bob@{VIP}>")));
    w.take(BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    go_round(&mut w);
    let got = w.take(ALICE);
    assert!(got.first().is_some_and(|m| m.starts_with("SIP/2.0 100 ")));
    assert!(got.last().is_some_and(|m| m.starts_with("SIP/2.0 482 ")), "{got:#?}");
    assert!(w.sent.len() < 20);
    // And one that gets longer each time.
    for n in 0..8 {
        let (user, next) = (format!("u{n}"), format!("u{}", (n + 1) % 8));
        w.send(BOB, &register(&user, BOB, 1, &format!("<sip:{next}@{VIP};hop={n}>")));
    }
    w.take(BOB);
    w.send(ALICE, &request("MESSAGE", "sip:u0@lab.test", ALICE, "m1", ""));
    go_round(&mut w);
    w.expect(ALICE, "SIP/2.0 482 ");
}

#[test]
fn a_spiral_to_another_user_is_no_loop() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(BOB2, &register("office", BOB2, 1, &format!("<sip:bob@{VIP}>")));
    w.take(BOB2);
    w.send(ALICE, &invite("sip:office@lab.test", ALICE, "c1"));
    go_round(&mut w);
    let at_bob = w.expect(BOB, "INVITE ");
    assert_eq!(at_bob.matches("Record-Route:").count(), 2);
    w.send(BOB, &respond(&at_bob, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    go_round(&mut w);
    let ok = w.take(ALICE).pop().expect("an answer");
    assert!(ok.starts_with("SIP/2.0 200 "));
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    go_round(&mut w);
    w.expect(BOB, "ACK ");
}

#[test]
fn responses_go_back_through_vias_in_one_comma_line() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "m1", ""));
    let at_bob = w.expect(BOB, "MESSAGE ");
    let vias = header(&at_bob, "Via").expect("Via");
    let mut answer = respond(&at_bob, 200, "b", "");
    let lines: String =
        answer.lines().filter(|l| !l.starts_with("Via:")).map(|l| format!("{l}\r\n")).collect();
    answer = lines.replacen("\r\n", &format!("\r\nVia: {vias}\r\n"), 1);
    assert_eq!(answer.matches("Via:").count(), 1);
    w.send(BOB, &answer);
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    assert!(!header(&ok, "Via").expect("Via").contains("10.77.0.100"));
}

#[test]
fn a_call_between_families_has_two_record_routes_and_each_side_finds_its_own() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE6, &invite(BOB_URI, ALICE6, "c1"));
    w.expect(ALICE6, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    assert_eq!(
        header(&bare(&at_bob), "Record-Route").as_deref(),
        Some("<sip:10.77.0.100:5060;lr>, <sip:[fd77::100]:5060;lr>")
    );
    assert!(header(&at_bob, "Via").expect("Via").starts_with("SIP/2.0/UDP 10.77.0.100:5060;"));
    w.send(BOB, &respond(&at_bob, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.expect(ALICE6, "SIP/2.0 200 ");
    w.send(ALICE6, &in_dialog_of_caller("ACK", 1, &ok, ALICE6));
    let ack = w.expect(BOB, "ACK ");
    assert_eq!(header(&ack, "Route"), None);
    w.send(BOB, &in_dialog_of_callee("BYE", 1, &at_bob, "b1", BOB));
    let bye = w.expect(ALICE6, "BYE ");
    assert_eq!(header(&bye, "Route"), None);
    assert!(header(&bye, "Via").expect("Via").starts_with("SIP/2.0/UDP [fd77::100]:5060;"));
    w.send(ALICE6, &respond(&bye, 200, "x", ""));
    w.expect(BOB, "SIP/2.0 200 ");
}

/// A call to a callee behind other proxies, which have put these values above ours. What the caller hears.
fn call_beyond(w: &mut World, call: &str, routes: &str) -> String {
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, call));
    w.take(ALICE);
    let at_bob = w.expect(BOB, "INVITE ");
    let ok = respond(&at_bob, 200, "b1", "Contact: <sip:bob@10.99.0.1:5099>\r\n");
    w.send(BOB, &ok.replace("Record-Route: ", &format!("Record-Route: {routes}")));
    w.expect(ALICE, "SIP/2.0 200 ")
}

#[test]
fn requests_within_a_dialog_follow_the_rest_of_the_route_rfc3261_16_12() {
    let mut w = World::new();
    // Loose: to the next Route, Request-URI untouched.
    let ok = call_beyond(&mut w, "c1", &format!("<sip:{OTHER};lr>, "));
    w.send(ALICE, &in_dialog_of_caller("INFO", 2, &ok, ALICE));
    let info = w.expect(OTHER, "INFO sip:bob@10.99.0.1:5099 ");
    assert_eq!(header(&info, "Route"), Some(format!("<sip:{OTHER};lr>")));
    // The next one is a strict router (§16.6 step 6).
    let ok = call_beyond(&mut w, "c2", &format!("<sip:z@10.99.0.7;lr>, <sip:{OTHER}>, "));
    w.send(ALICE, &in_dialog_of_caller("INFO", 2, &ok, ALICE).replace("z9hG4bK", "z9hG4bK2"));
    let info = w.expect(OTHER, &format!("INFO sip:{OTHER} "));
    assert_eq!(header(&info, "Route").as_deref(), Some("<sip:z@10.99.0.7;lr>, <sip:bob@10.99.0.1:5099>"));
    // The last one was (§16.4): our Record-Route value is the Request-URI.
    let ok = call_beyond(&mut w, "c3", "");
    let info = in_dialog_of_caller("INFO", 2, &ok, ALICE).replace("z9hG4bK", "z9hG4bK3");
    let own = header(&info, "Route").expect("ours");
    let info = info
        .replace("INFO sip:bob@10.99.0.1:5099 ", &format!("INFO {} ", own.trim_matches(['<', '>'])))
        .replace(&own, "<sip:bob@10.99.0.1:5099>");
    w.send(ALICE, &info);
    let info = w.expect("10.99.0.1:5099", "INFO sip:bob@10.99.0.1:5099 ");
    assert_eq!(header(&info, "Route"), None);
    assert_eq!(w.engine.counters().straightened, 0);
}

#[test]
fn a_to_tag_without_our_route_is_404_not_here_and_its_ack_dropped() {
    let mut w = World::new();
    w.register("bob", BOB);
    for (method, branch) in [("BYE", "1"), ("INFO", "2"), ("INVITE", "3"), ("FOO", "4")] {
        let text = request(method, BOB_URI, ALICE, branch, "")
            .replace(&format!("To: <{BOB_URI}>"), &format!("To: <{BOB_URI}>;tag=t"));
        assert_eq!(status_of(&mut w, &text), "404 Not here");
        w.send(ALICE, &text.replace(method, "ACK"));
        w.expect_nothing(ALICE);
        w.expect_nothing(BOB);
    }
}

#[test]
fn all_methods_pass_and_come_back_and_repetitions_are_absorbed() {
    let mut w = World::new();
    w.register("bob", BOB);
    for method in ["OPTIONS", "MESSAGE", "INFO", "UPDATE", "NOTIFY", "REFER", "SUBSCRIBE", "PRACK", "F-o.o"] {
        let text = request(method, BOB_URI, ALICE, &format!("x{method}"), "X-Odd:  as it is\r\n");
        w.send(ALICE, &text);
        w.send(ALICE, &text);
        w.expect_nothing(ALICE);
        let at_bob = w.expect(BOB, method);
        assert!(at_bob.contains("X-Odd:  as it is\r\n"));
        let answer = respond(&at_bob, 202, "b", "");
        w.send(BOB, &answer);
        w.send(BOB, &answer);
        let ok = w.expect(ALICE, "SIP/2.0 202 ");
        w.send(ALICE, &text);
        assert_eq!(w.expect(ALICE, "SIP/2.0 202 "), ok);
        w.expect_nothing(BOB);
    }
    w.pass(Duration::from_secs(40));
    assert_eq!(w.engine.load(), (0, 0, 0));
}

#[test]
fn a_message_is_forked_and_the_first_success_or_the_best_failure_goes_back() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.register("bob", BOB2);
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "m1", ""));
    let (m1, m2) = (w.expect(BOB, "MESSAGE "), w.expect(BOB2, "MESSAGE "));
    w.send(BOB, &respond(&m1, 500, "b", ""));
    w.expect_nothing(ALICE);
    w.send(BOB2, &respond(&m2, 488, "b", ""));
    w.expect(ALICE, "SIP/2.0 488 ");
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "m2", ""));
    let (m1, m2) = (w.expect(BOB, "MESSAGE "), w.expect(BOB2, "MESSAGE "));
    w.send(BOB, &respond(&m1, 200, "b", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.send(BOB2, &respond(&m2, 200, "b", ""));
    w.expect_nothing(ALICE);
}

#[test]
fn an_unanswered_request_ends_in_silence_rfc4320_4_2() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "m1", ""));
    w.pass(Duration::from_secs(33));
    assert_eq!(w.take(BOB).len(), 11, "timer E: 0, 0.5, 1.5, 3.5, 7.5, 11.5 … 31.5");
    w.expect_nothing(ALICE);
    assert_eq!(w.engine.load().0, 0);
}

#[test]
fn a_registration_with_path_gets_its_requests_through_it_rfc3327() {
    let mut w = World::new();
    let text = register("bob", BOB, 1, &format!("<sip:bob@{BOB}>"));
    w.send(BOB, &text.replace("Max-", &format!("Path: <sip:{OTHER};lr>\r\nSupported: path\r\nMax-")));
    w.expect(BOB, "SIP/2.0 200 ");
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "m1", ""));
    let at_edge = w.expect(OTHER, "MESSAGE ");
    assert_eq!(header(&at_edge, "Route"), Some(format!("<sip:{OTHER};lr>")));
}

#[test]
fn a_strange_response_is_dropped_and_counted() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let at_bob = w.expect(BOB, "INVITE ");
    let before = w.engine.counters().dropped_stray;
    let answer = respond(&at_bob, 486, "b", "");
    w.send(BOB, &answer.replace("z9hG4bK", "z9hG4bKno"));
    w.send(BOB, &answer.replace("UDP 10.77.0.100:5060", "UDP 10.77.0.77:5060"));
    w.send(BOB, &answer.replace("1 INVITE", "1 MESSAGE"));
    w.expect_nothing(ALICE);
    w.expect_nothing(BOB);
    assert_eq!(w.engine.counters().dropped_stray, before + 3);
}

#[test]
fn an_inactive_engine_drops_everything_and_says_so() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.engine.deactivate();
    assert!(!w.engine.is_active());
    assert_eq!(w.engine.load(), (0, 0, 0));
    assert_eq!(w.engine.poll_timeout(), None);
    w.inbox.clear();
    w.send(ALICE, &request("OPTIONS", "sip:10.77.0.100", ALICE, "o1", ""));
    w.expect_nothing(ALICE);
    assert_eq!(w.engine.counters().dropped_inactive, 1);
}

#[test]
fn two_engines_share_the_calls_by_call_id() {
    let shards: Vec<u16> = (0..64).map(|n| shard_of(format!("call{n}").as_bytes(), 4)).collect();
    for shard in 0..4 {
        assert!(shards.iter().filter(|s| **s == shard).count() > 4, "{shards:?}");
    }
}

#[test]
fn with_several_addresses_each_side_keeps_the_one_it_came_by() {
    let lan = "192.168.1.5:5060";
    let lo = "127.0.0.1:5060";
    let mut w = World::with(EngineConfig {
        listen: vec![addr(lan), addr(lo)],
        any_domain: true,
        ..EngineConfig::default()
    });
    let phone = "127.0.0.1:5080";
    let send = |w: &mut World, local: &str, from: &str, text: &str| {
        let flow = proxy_core::state::Flow { local: addr(local), ..flow_of(addr(from)) };
        w.engine.handle_datagram(w.now, flow, text.as_bytes(), &w.state);
        let mut sent = Vec::new();
        loop {
            match w.engine.poll_output() {
                Some(proxy_core::io::Output::Transmit { flow, bytes }) => {
                    sent.push((flow.local, flow.remote, String::from_utf8(bytes).expect("text")));
                }
                Some(proxy_core::io::Output::Resolve { .. } | proxy_core::io::Output::Media { .. }) => {}
                Some(proxy_core::io::Output::Propose { ticket, command }) => {
                    let response = w.state.apply(&command);
                    w.engine.handle_committed(w.now, ticket, response, &w.state);
                }
                None => return sent,
            }
        }
    };
    send(&mut w, lo, phone, &register("bob", phone, 1, &format!("<sip:bob@{phone}>")));
    let sent = send(&mut w, lan, "192.168.1.77:5060", &invite(BOB_URI, "192.168.1.77:5060", "c1"));
    let (local, remote, at_bob) = sent.last().expect("the INVITE").clone();
    assert_eq!((local, remote), (addr(lo), addr(phone)));
    assert_eq!(header(&bare(&at_bob), "Record-Route"), Some(format!("<sip:{lo};lr>, <sip:{lan};lr>")));
    let ok = respond(&at_bob, 200, "b1", &format!("Contact: <sip:bob@{phone}>\r\n"));
    let sent = send(&mut w, lo, phone, &ok);
    let (local, remote, ok) = sent.first().expect("the 200").clone();
    assert_eq!((local, remote), (addr(lan), addr("192.168.1.77:5060")));
    let sent =
        send(&mut w, lan, "192.168.1.77:5060", &in_dialog_of_caller("BYE", 2, &ok, "192.168.1.77:5060"));
    assert_eq!((sent[0].0, sent[0].1), (addr(lo), addr(phone)));
    let sent = send(&mut w, lo, phone, &in_dialog_of_callee("INFO", 1, &at_bob, "b1", phone));
    assert_eq!((sent[0].0, sent[0].1), (addr(lan), addr("192.168.1.77:5060")));
}

#[test]
fn a_branch_of_another_call_touches_nothing() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 180, "b1", ""));
    w.take(ALICE);
    for after_takeover in [false, true] {
        if after_takeover {
            w.fail_over(Duration::from_millis(300));
            w.take(BOB);
        }
        let other = |text: String| text.replace("Call-ID: c1", "Call-ID: c2");
        assert_eq!(status_of(&mut w, &other(invite(BOB_URI, ALICE, "c1"))), "400 Branch In Use");
        assert!(status_of(&mut w, &other(cancel(BOB_URI, ALICE, "c1"))).starts_with("481 "));
    }
}
