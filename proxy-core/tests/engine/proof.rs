//! Dialogs prove themselves: what somebody can do who makes a dialog up, and what goes on as it did. One test per row of
//! `docs/security.md`.

use std::time::Duration;

use crate::common::auth::{self, answered, challenge, register_bob, subscribe};
use crate::common::story::*;
use crate::common::trunk;
use proxy_core::io::EngineConfig;
use proxy_core::routing::{Mode, RoutingConfig};
use proxy_core::state::EndedBy;
use proxy_core::state::trunk::Account;

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB_URI: &str = "sip:bob@lab.test";
/// A stranger.
const EVE: &str = "10.99.0.66:5060";
/// Whom he wants to reach.
const GATEWAY: &str = "10.77.0.9:5060";

const METHODS: [&str; 13] = [
    "INVITE", "MESSAGE", "OPTIONS", "NOTIFY", "REFER", "INFO", "BYE", "UPDATE", "SUBSCRIBE", "PUBLISH", "ACK",
    "PRACK", "FOO",
];

/// A request with a To tag, by these routes, from a stranger.
fn made_up(method: &str, uri: &str, routes: &str, n: usize) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {EVE};branch=z9hG4bKeve{method}{n};rport\r\n{routes}\
         Max-Forwards: 70\r\nFrom: <sip:eve@evil.test>;tag=e\r\nTo: <sip:x@y.test>;tag=made-up\r\nCall-ID: eve{n}\r\n\
         CSeq: 1 {method}\r\nContact: <sip:eve@{EVE}>\r\nContent-Length: 0\r\n\r\n"
    )
}

/// From somewhere else, in another transaction.
fn moved(text: &str, from: &str, to: &str) -> String {
    text.replace(&format!("Via: SIP/2.0/UDP {from};branch=z9hG4bK"), &format!("Via: SIP/2.0/UDP {to};branch=z9hG4bKm"))
}

/// With another Request-URI.
fn aimed(text: &str, uri: &str) -> String {
    text.replacen(&uri_of(text), uri, 1)
}

fn with_call(mut w: World) -> (World, String, String) {
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.take(ALICE).into_iter().find(|m| m.starts_with("SIP/2.0 200 ")).expect("200");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(BOB, "ACK ");
    (w, got, ok)
}

/// Alice and Bob talk. The INVITE that Bob got and the 200 that Alice got.
fn talking() -> (World, String, String) {
    with_call(World::new())
}

/// The same, with passwords.
fn talking_with_passwords() -> (World, String, String) {
    let mut w = auth::world();
    register_bob(&mut w);
    let call = invite(BOB_URI, ALICE, "c1");
    let asked = challenge(&mut w, ALICE, &call);
    w.send(ALICE, &answered(&call, &asked, "alice", "secret-a"));
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.take(ALICE).into_iter().find(|m| m.starts_with("SIP/2.0 200 ")).expect("200");
    w.send(ALICE, &in_dialog_of_caller("ACK", 2, &ok, ALICE));
    w.expect(BOB, "ACK ");
    (w, got, ok)
}

fn still_talks(w: &mut World) {
    w.pass(Duration::from_secs(40));
    assert_eq!(w.state.counts().dialogs, 1);
    assert!(w.state.dialogs().all(|d| d.ending.is_none()));
    w.expect_nothing(BOB);
    w.expect_nothing(GATEWAY);
}

#[test]
fn a_made_up_dialog_reaches_nobody_by_any_method_and_any_route_rfc3261_16_4() {
    let gateway = format!("sip:+49900@{GATEWAY}");
    let ways = [
        (gateway.clone(), format!("Route: <sip:{VIP};lr>\r\n")),
        (gateway.clone(), format!("Route: <sip:{VIP};lr>, <sip:{VIP6};lr>\r\n")),
        (gateway.clone(), String::from("Route: <sip:lab.test;lr>\r\n")),
        (gateway.clone(), format!("Route: <sip:{VIP};lr;rlv=AAAAAAAAAAAAAAAAAAAAAAAA>\r\n")),
        (gateway.clone(), format!("Route: <sip:{VIP};lr;rlv>\r\n")),
        (String::from("sip:x@carrier.test"), format!("Route: <sip:{VIP};lr>, <sip:{GATEWAY};lr>\r\n")),
        (String::from("sip:x@carrier.test"), format!("Route: <sip:{VIP};lr>, <sip:{GATEWAY}>\r\n")),
        // A strict router before us (§16.4).
        (format!("sip:{VIP};lr"), format!("Route: <{gateway}>\r\n")),
        // Names, connections, our own machine.
        (String::from("sip:x@names.evil.test"), format!("Route: <sip:{VIP};lr>\r\n")),
        (format!("sip:x@{GATEWAY};transport=tcp"), format!("Route: <sip:{VIP};lr>\r\n")),
        (String::from("sip:x@10.77.0.100:6379;transport=tcp"), format!("Route: <sip:{VIP};lr>\r\n")),
        (String::from("sip:x@y.test;maddr=10.77.0.9"), format!("Route: <sip:{VIP};lr>\r\n")),
        (String::from("sip:x@1.2.3.4;alias=10.77.0.9~5060~1"), format!("Route: <sip:{VIP};lr>\r\n")),
    ];
    for config in [config(), auth::asking()] {
        let mut w = World::with(config);
        w.settle();
        for (number, (uri, routes)) in ways.iter().enumerate() {
            for method in METHODS {
                w.send(EVE, &made_up(method, uri, routes, number));
                let others: Vec<_> = w.inbox.iter().filter(|(at, all)| **at != addr(EVE) && !all.is_empty()).collect();
                assert!(others.is_empty(), "{method} {uri} {routes}: {others:#?}");
                assert!(w.asked.is_empty(), "{method} {uri}: no name is asked for");
                let answers = w.take(EVE);
                assert_eq!(answers.len(), usize::from(method != "ACK"), "{method} {uri}: {answers:#?}");
                let is_for_us = method == "OPTIONS" && uri.ends_with(";lr");
                let answer = if is_for_us { "SIP/2.0 200 Keepalive" } else { "SIP/2.0 4" };
                assert!(answers.iter().all(|a| a.starts_with(answer)), "{method} {uri}: {answers:#?}");
            }
        }
        w.pass(Duration::from_secs(40));
        assert!(w.inbox.values().all(|all| all.is_empty()), "nothing is repeated: {:#?}", w.inbox);
    }
}

#[test]
fn a_foreign_ack_is_dropped_and_counted_and_never_challenged_rfc3261_22_1() {
    let (mut w, ..) = talking_with_passwords();
    w.take(ALICE);
    let before = w.engine.counters();
    let ack = made_up("ACK", &format!("sip:bob@{BOB}"), &format!("Route: <sip:{VIP};lr>\r\n"), 1);
    w.send(EVE, &ack);
    let named = ack.replace("eve1", "c1").replace("tag=e\r", "tag=ac1\r").replace("tag=made-up", "tag=b1");
    w.send(EVE, &named.replace("branch=z9hG4bK", "branch=z9hG4bK2"));
    w.expect_nothing(EVE);
    w.expect_nothing(BOB);
    let after = w.engine.counters();
    assert_eq!((after.foreign, after.dropped_stray), (before.foreign + 2, before.dropped_stray + 2));
}

#[test]
fn a_foreign_ack_does_not_confirm_a_call() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.take(ALICE).into_iter().find(|m| m.starts_with("SIP/2.0 200 ")).expect("200");
    let ack = in_dialog_of_caller("ACK", 1, &ok, ALICE);
    w.send(EVE, &moved(&bare(&ack), ALICE, EVE));
    w.expect_nothing(BOB);
    assert!(w.state.dialogs().all(|d| d.ack_until.is_some()));
    w.send(ALICE, &ack);
    w.expect(BOB, "ACK ");
    assert!(w.state.dialogs().all(|d| d.ack_until.is_none()));
}

#[test]
fn a_token_is_worth_nothing_in_another_dialog_or_for_another_place() {
    let mut w = World::with(auth::asking());
    w.settle();
    subscribe(&mut w.state, "bob", "lab.test", "lab.test", "secret-b");
    register_bob(&mut w);
    // A stranger may ask a phone of ours, and hears its token.
    let ask = request("SUBSCRIBE", BOB_URI, EVE, "s1", "Event: presence\r\n").replace("alice@lab.test", "eve@evil.test");
    w.send(EVE, &ask);
    let got = w.expect(BOB, "SUBSCRIBE ");
    w.send(BOB, &respond(&got, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.expect(EVE, "SIP/2.0 200 ");
    let good = in_dialog_of_caller("SUBSCRIBE", 2, &ok, EVE);
    w.send(EVE, &good);
    w.expect(BOB, "SUBSCRIBE ");
    for (n, (method, forged)) in [
        ("MESSAGE", aimed(&good, &format!("sip:+49900@{GATEWAY}"))),
        ("SUBSCRIBE", good.replace("Call-ID: s1", "Call-ID: s2")),
        ("SUBSCRIBE", good.replace(";tag=b1", ";tag=b2")),
        ("SUBSCRIBE", good.replace("Max-Forwards", &format!("Route: <sip:{GATEWAY};lr>\r\nMax-Forwards"))),
        ("INFO", aimed(&good, &format!("sip:bob@{BOB};transport=tcp"))),
        // A call is no part of a subscription.
        ("INVITE", good.clone()),
        ("INVITE", aimed(&good, BOB_URI)),
    ]
    .into_iter()
    .enumerate()
    {
        let forged = forged.replace("SUBSCRIBE", method).replace("branch=z9hG4bK", &format!("branch=z9hG4bKf{n}"));
        w.send(EVE, &forged);
        w.expect_nothing(BOB);
        w.expect_nothing(GATEWAY);
        w.expect(EVE, "SIP/2.0 40");
    }
}

/// A subscription by a server behind us: SUBSCRIBE out to it, NOTIFY in. What the server got, and what the watcher.
fn subscribed(w: &mut World) -> (String, String) {
    w.send(ALICE, &request("SUBSCRIBE", BOB_URI, ALICE, "s1", "Event: dialog\r\n"));
    let got = w.expect(BOB, "SUBSCRIBE ");
    // The NOTIFY comes before the 200 (RFC 6665 §4.4.1).
    w.send(BOB, &in_dialog_of_callee("NOTIFY", 1, &got, "b1", BOB));
    let told = w.expect(ALICE, "NOTIFY ");
    w.send(ALICE, &respond(&told, 200, "", ""));
    w.expect(BOB, "SIP/2.0 200 ");
    w.send(BOB, &respond(&got, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    (got, ok)
}

#[test]
fn a_subscription_that_passes_goes_on_in_both_directions_and_after_a_takeover_rfc6665_4_4_1() {
    let mut w = World::new();
    w.register("bob", BOB);
    let (got, ok) = subscribed(&mut w);
    w.fail_over(Duration::from_millis(300));
    w.send(BOB, &in_dialog_of_callee("NOTIFY", 2, &got, "b1", BOB));
    let told = w.expect(ALICE, "NOTIFY ");
    w.send(ALICE, &respond(&told, 200, "", ""));
    w.expect(BOB, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("SUBSCRIBE", 2, &ok, ALICE));
    w.expect(BOB, "SUBSCRIBE ");
    assert_eq!(w.engine.counters().foreign, 0);
}

#[test]
fn who_has_learned_his_route_from_the_notify_of_a_fork_refreshes_by_it_rfc6665_4_4_1() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &request("SUBSCRIBE", BOB_URI, ALICE, "s1", "Event: dialog\r\n"));
    let got = w.expect(BOB, "SUBSCRIBE ");
    w.send(BOB, &in_dialog_of_callee("NOTIFY", 1, &got, "b1", BOB));
    let told = w.expect(ALICE, "NOTIFY ");
    // The watcher's own request, from what the NOTIFY says.
    let again = in_dialog_of_callee("SUBSCRIBE", 2, &told, "ac1", ALICE).replace(";tag=ac1\r\nTo", "\r\nTo");
    w.send(ALICE, &again);
    w.expect(BOB, "SUBSCRIBE ");
    assert_eq!(w.engine.counters().foreign, 0);
}

#[test]
fn a_watcher_who_has_registered_elsewhere_is_told_there() {
    let mut w = World::new();
    w.register("bob", BOB);
    let (got, _) = subscribed(&mut w);
    let elsewhere = "10.77.0.209:5099";
    w.register("alice", elsewhere);
    let notify = in_dialog_of_callee("NOTIFY", 2, &got, "b1", BOB);
    w.send(BOB, &aimed(&notify, &format!("sip:alice@{elsewhere}")));
    w.expect(elsewhere, "NOTIFY ");
    let third = in_dialog_of_callee("NOTIFY", 3, &got, "b1", BOB);
    w.send(BOB, &aimed(&third, &format!("sip:alice@{GATEWAY}")));
    w.expect_nothing(GATEWAY);
}

#[test]
fn the_notify_of_a_transfer_comes_after_the_bye_of_its_call_rfc3515_2_4() {
    let (mut w, got, ok) = talking();
    w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    let bye = w.expect(BOB, "BYE ");
    w.send(BOB, &respond(&bye, 200, "", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(w.state.counts().dialogs, 0);
    w.send(BOB, &in_dialog_of_callee("NOTIFY", 2, &got, "b1", BOB));
    w.expect(ALICE, "NOTIFY ");
    // But there is no call any more that could be changed.
    w.send(BOB, &in_dialog_of_callee("INVITE", 3, &got, "b1", BOB));
    w.expect(BOB, "SIP/2.0 404 ");
    w.expect_nothing(ALICE);
}

#[test]
fn early_dialogs_of_a_fork_have_each_their_own_token_also_after_a_takeover_rfc3262() {
    const BOB2: &str = "10.77.0.203:5063";
    for takeover in [false, true] {
        let mut w = World::new();
        w.register("bob", BOB);
        w.register("bob", BOB2);
        w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
        w.take(ALICE);
        let mut early = Vec::new();
        for (at, tag) in [(BOB, "b1"), (BOB2, "b2")] {
            let got = w.expect(at, "INVITE ");
            w.send(at, &respond(&got, 183, tag, &format!("Contact: <sip:bob@{at}>\r\nRSeq: 1\r\nRequire: 100rel\r\n")));
            early.push((at, tag, got, w.expect(ALICE, "SIP/2.0 183 ")));
        }
        if takeover {
            w.fail_over(Duration::from_millis(300));
            for at in [BOB, BOB2] {
                w.take(at);
            }
        }
        for (n, (at, tag, got, ringing)) in early.iter().enumerate() {
            w.send(ALICE, &in_dialog_of_caller("PRACK", 2 + n as u32, ringing, ALICE));
            let prack = w.expect(at, "PRACK ");
            w.send(at, &respond(&prack, 200, "", ""));
            w.expect(ALICE, "SIP/2.0 200 ");
            w.send(at, &in_dialog_of_callee("UPDATE", 1, got, tag, at));
            w.expect(ALICE, "UPDATE ");
            // Elsewhere it does not lead.
            let elsewhere = in_dialog_of_caller("UPDATE", 9, ringing, ALICE);
            w.send(ALICE, &aimed(&elsewhere, &format!("sip:+49900@{GATEWAY}")));
            w.expect_nothing(GATEWAY);
            w.take(ALICE);
        }
        assert_eq!(w.engine.counters().foreign, 2);
    }
}

#[test]
fn a_proxy_between_stays_on_the_way_in_both_directions_rfc3261_16_12() {
    const NEAR: &str = "10.77.0.80:5060";
    let mut w = World::new();
    w.register("bob", BOB);
    let by_proxy = invite(BOB_URI, ALICE, "c1").replace(
        "Via",
        &format!("Record-Route: <sip:{NEAR};lr>\r\nVia: SIP/2.0/UDP {NEAR};branch=z9hG4bKnear\r\nVia"),
    );
    w.send(NEAR, &by_proxy);
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.take(NEAR).into_iter().find(|m| m.starts_with("SIP/2.0 200 ")).expect("200");
    // The proxy has taken its own Route away.
    let own = format!("Route: <sip:{NEAR};lr>\r\n");
    let from_alice = |method: &str, cseq| in_dialog_of_caller(method, cseq, &ok, NEAR).replace(&own, "");
    w.send(NEAR, &from_alice("ACK", 1));
    w.expect(BOB, "ACK ");
    w.send(NEAR, &from_alice("INFO", 2));
    w.expect(BOB, "INFO ");
    w.send(BOB, &in_dialog_of_callee("INFO", 1, &got, "b1", BOB));
    let info = w.expect(NEAR, "INFO sip:alice@10.77.0.201:5061 ");
    assert_eq!(header(&info, "Route"), Some(format!("<sip:{NEAR};lr>")));
    let counters = w.engine.counters();
    assert_eq!((counters.foreign, counters.straightened), (0, 0));
}

#[test]
fn who_merely_knows_call_id_and_tags_ends_and_moves_nothing() {
    for (mut w, _, ok) in [talking(), talking_with_passwords()] {
        w.take(ALICE);
        let mut n = 0;
        for method in ["BYE", "INVITE", "UPDATE", "INFO", "REFER", "NOTIFY", "MESSAGE", "PRACK", "FOO"] {
            let text = moved(&bare(&in_dialog_of_caller(method, 9, &ok, ALICE)), ALICE, EVE);
            let route = format!("Route: <sip:{VIP};lr>\r\n");
            for forged in [
                text.clone(),
                // As somebody of elsewhere, whom nobody would ask for a password.
                text.replace("<sip:alice@lab.test>", "<sip:eve@evil.test>"),
                // By the address of record, by name.
                aimed(&text, BOB_URI),
                aimed(&text, BOB_URI).replace("<sip:alice@lab.test>", "<sip:eve@evil.test>"),
                text.replace(&route, ""),
                // As the other side.
                text.replace("tag=ac1", "tag=x").replace("tag=b1", "tag=ac1").replace("tag=x", "tag=b1"),
            ] {
                n += 1;
                w.send(EVE, &forged.replace("branch=z9hG4bK", &format!("branch=z9hG4bK{n}")));
                let all = w.take(EVE);
                assert!(all.len() == 1 && all[0].starts_with("SIP/2.0 40"), "{forged}\n{all:#?}");
                w.expect_nothing(BOB);
                w.expect_nothing(ALICE);
            }
        }
        still_talks(&mut w);
    }
}

#[test]
fn another_subscriber_ends_no_call_with_his_own_password() {
    let (mut w, _, ok) = talking_with_passwords();
    subscribe(&mut w.state, "carol", "lab.test", "lab.test", "secret-c");
    w.take(ALICE);
    let bye = moved(&bare(&in_dialog_of_caller("BYE", 9, &ok, ALICE)), ALICE, EVE)
        .replace("<sip:alice@lab.test>", "<sip:carol@lab.test>");
    let asked = challenge(&mut w, EVE, &bye);
    w.send(EVE, &answered(&bye, &asked, "carol", "secret-c"));
    w.expect(EVE, "SIP/2.0 404 ");
    still_talks(&mut w);
}

#[test]
fn another_subscriber_ends_no_ringing_call_with_his_own_password() {
    let mut w = auth::world();
    subscribe(&mut w.state, "carol", "lab.test", "lab.test", "secret-c");
    register_bob(&mut w);
    let call = invite(BOB_URI, ALICE, "c1");
    let asked = challenge(&mut w, ALICE, &call);
    w.send(ALICE, &answered(&call, &asked, "alice", "secret-a"));
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 180, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ringing = w.take(ALICE).into_iter().find(|m| m.starts_with("SIP/2.0 180 ")).expect("180");
    for method in ["BYE", "UPDATE", "PRACK"] {
        let text = moved(&bare(&in_dialog_of_caller(method, 9, &ringing, ALICE)), ALICE, EVE)
            .replace("<sip:alice@lab.test>", "<sip:carol@lab.test>");
        let asked = challenge(&mut w, EVE, &text);
        w.send(EVE, &answered(&text, &asked, "carol", "secret-c"));
        w.expect(EVE, "SIP/2.0 404 ");
        w.expect_nothing(BOB);
    }
    // From where the caller is it may come without a token: the call began under a version that had none.
    w.send(ALICE, &bare(&in_dialog_of_caller("UPDATE", 9, &ringing, ALICE)));
    w.expect(BOB, "UPDATE ");
}

#[test]
fn a_phone_whose_nat_gives_it_another_port_hangs_up_by_its_token() {
    for (mut w, _, ok) in [talking(), talking_with_passwords()] {
        let elsewhere = "10.77.0.201:40001";
        w.send(elsewhere, &moved(&in_dialog_of_caller("BYE", 9, &ok, ALICE), ALICE, elsewhere));
        let bye = w.expect(BOB, "BYE ");
        w.send(BOB, &respond(&bye, 200, "", ""));
        assert_eq!(w.state.counts().dialogs, 0);
    }
}

#[test]
fn a_call_that_began_without_tokens_goes_on_from_where_its_sides_are() {
    let (mut w, got, ok) = talking();
    w.fail_over(Duration::from_millis(300));
    w.send(ALICE, &bare(&in_dialog_of_caller("INFO", 2, &ok, ALICE)));
    w.expect(BOB, "INFO ");
    w.send(BOB, &bare(&in_dialog_of_callee("BYE", 1, &got, "b1", BOB)));
    let bye = w.expect(ALICE, "BYE ");
    w.send(ALICE, &respond(&bye, 200, "", ""));
    assert_eq!(w.state.counts().dialogs, 0);
    assert_eq!(w.engine.counters().foreign, 0);
}

#[test]
fn a_call_that_began_without_tokens_is_ended_from_elsewhere_with_the_password_of_its_side() {
    let (mut w, _, ok) = talking_with_passwords();
    w.take(ALICE);
    let elsewhere = "10.77.0.201:40001";
    let bye = moved(&bare(&in_dialog_of_caller("BYE", 9, &ok, ALICE)), ALICE, elsewhere);
    let asked = challenge(&mut w, elsewhere, &bye);
    w.expect_nothing(BOB);
    w.send(elsewhere, &answered(&bye, &asked, "alice", "secret-a"));
    let at_bob = w.expect(BOB, &format!("BYE sip:bob@{BOB} "));
    assert_eq!(header(&at_bob, "Proxy-Authorization"), None);
    w.send(BOB, &respond(&at_bob, 200, "", ""));
    w.expect(elsewhere, "SIP/2.0 200 ");
    assert_eq!(w.state.counts().dialogs, 0);
}

#[test]
fn a_subscription_that_began_without_tokens_is_judged_as_one_outside_of_dialogs() {
    let mut w = auth::world();
    register_bob(&mut w);
    let refresh = request("SUBSCRIBE", &format!("sip:bob@{BOB}"), ALICE, "s1", &format!("Route: <sip:{VIP};lr>\r\n"));
    let refresh = refresh.replace(&format!("To: <sip:bob@{BOB}>"), &format!("To: <{BOB_URI}>;tag=b1"));
    let asked = challenge(&mut w, ALICE, &refresh);
    w.send(ALICE, &answered(&refresh, &asked, "alice", "secret-a"));
    assert_eq!(header(&w.expect(BOB, "SUBSCRIBE "), "Route"), None);
    // Who is nobody of ours is not asked, and does not get through.
    w.send(EVE, &made_up("NOTIFY", BOB_URI, &format!("Route: <sip:{VIP};lr>\r\n"), 1));
    w.expect(EVE, "SIP/2.0 404 ");
    w.expect_nothing(BOB);
}

#[test]
fn a_carrier_hangs_up_from_another_of_its_addresses_with_token_or_without() {
    let second = "10.77.0.221:5060";
    for with_token in [true, false] {
        let sources = vec![String::from("10.77.0.220"), String::from("10.77.0.221")];
        let mut w = trunk::world(Account { expires_s: 0, sources, ..trunk::account() });
        w.send(ALICE, &invite("sip:+4930123@lab.test", ALICE, "c1"));
        let got = w.expect(trunk::CARRIER, "INVITE ");
        w.send(trunk::CARRIER, &respond(&got, 200, "k1", &format!("Contact: <sip:gw@{}>\r\n", trunk::CARRIER)));
        let ok = w.take(ALICE).into_iter().find(|m| m.starts_with("SIP/2.0 200 ")).expect("200");
        w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
        w.expect(trunk::CARRIER, "ACK ");
        let bye = moved(&in_dialog_of_callee("BYE", 1, &got, "k1", trunk::CARRIER), trunk::CARRIER, second);
        w.send(second, &if with_token { bye } else { bare(&bye) });
        let at_alice = w.expect(ALICE, "BYE ");
        w.send(ALICE, &respond(&at_alice, 200, "", ""));
        assert_eq!(w.state.counts().dialogs, 0);
    }
}

#[test]
fn a_bye_to_an_address_of_ones_own_ends_the_call_of_the_other_side() {
    let own = "10.77.0.201:9999";
    for variant in 0..5 {
        let (mut w, _, ok) = talking();
        let bye = in_dialog_of_caller("BYE", 2, &ok, ALICE);
        let bye = match variant {
            0 => aimed(&bye, &format!("sip:x@{own}")),
            1 => bye.replace("Max-Forwards", &format!("Route: <sip:{own};lr>\r\nMax-Forwards")),
            2 => aimed(&bye, &format!("sip:bob@{BOB};maddr=10.77.0.201")),
            3 => bare(&aimed(&bye, &format!("sip:x@{own}"))),
            _ => aimed(&bye, "sip:alice@lab.test"),
        };
        w.send(ALICE, &bye);
        w.expect_nothing(own);
        let at_bob = w.expect(BOB, &format!("BYE sip:bob@{BOB} "));
        assert_eq!(header(&at_bob, "Route"), None);
        assert_eq!(w.engine.counters().straightened, 1, "variant {variant}");
        w.send(BOB, &respond(&at_bob, 200, "", ""));
        w.expect(ALICE, "SIP/2.0 200 ");
        assert_eq!(w.state.counts().dialogs, 0);
    }
}

#[test]
fn a_reinvite_goes_to_the_other_side_and_nowhere_else() {
    let (mut w, got, ok) = talking();
    let change = in_dialog_of_caller("INVITE", 2, &ok, ALICE);
    w.send(ALICE, &aimed(&change, &format!("sip:+49900@{GATEWAY}")));
    w.expect_nothing(GATEWAY);
    w.expect(BOB, &format!("INVITE sip:bob@{BOB} "));
    let change = in_dialog_of_callee("UPDATE", 1, &got, "b1", BOB);
    w.send(BOB, &change.replace("Max-Forwards", &format!("Route: <sip:{GATEWAY};lr>\r\nMax-Forwards")));
    w.expect_nothing(GATEWAY);
    assert!(w.take(ALICE).iter().any(|m| m.starts_with("UPDATE ")));
}

#[test]
fn a_bye_that_the_other_phone_refuses_or_does_not_hear_has_the_proxy_end_the_call_itself() {
    for answer in [Some(420), Some(404), Some(500), None] {
        let (mut w, _, ok) = talking();
        w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
        let first = w.expect(BOB, "BYE ");
        if let Some(status) = answer {
            w.send(BOB, &respond(&first, status, "", ""));
            w.expect(ALICE, "SIP/2.0 ");
        }
        assert_eq!(w.state.counts().dialogs, 1, "{answer:?}: the place is not free while Bob talks");
        w.pass(Duration::from_secs(34));
        let second = w.take(BOB).into_iter().rfind(|m| m.starts_with("BYE ")).expect("a BYE of the proxy");
        assert_ne!(header(&second, "CSeq"), header(&first, "CSeq"), "{answer:?}");
        w.send(BOB, &respond(&second, 200, "", ""));
        let at_alice = w.take(ALICE).into_iter().rfind(|m| m.starts_with("BYE ")).expect("a BYE");
        w.send(ALICE, &respond(&at_alice, 481, "", ""));
        assert_eq!(w.state.counts().dialogs, 0, "{answer:?}");
        let ended: Vec<_> = w.state.outbox().after(0).filter_map(|r| r.times.map(|t| t.ended_by)).collect();
        assert_eq!(ended, [EndedBy::Caller], "{answer:?}");
    }
}

#[test]
fn a_cseq_below_that_of_the_invite_is_refused_rfc3261_12_2_2() {
    let (mut w, _, ok) = talking();
    w.send(ALICE, &in_dialog_of_caller("BYE", 0, &ok, ALICE));
    w.expect(ALICE, "SIP/2.0 500 CSeq Out Of Order");
    still_talks(&mut w);
}

#[test]
fn both_sides_follow_a_phone_that_has_moved_also_before_the_cluster_knows_rfc3261_12_2_1_2() {
    for waits in [false, true] {
        let (mut w, got, ok) = talking();
        let elsewhere = "10.77.0.209:5099";
        let change = in_dialog_of_caller("INVITE", 2, &ok, elsewhere);
        w.send(elsewhere, &change);
        let at_bob = w.expect(BOB, "INVITE ");
        if waits {
            w.cluster = Cluster::Waits;
        }
        w.send(BOB, &respond(&at_bob, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
        let info = in_dialog_of_callee("INFO", 5, &got, "b1", BOB);
        w.send(BOB, &aimed(&info, &format!("sip:alice@{elsewhere}")));
        assert!(w.take(elsewhere).iter().any(|m| m.starts_with("INFO ")), "waits: {waits}");
        assert_eq!(w.engine.counters().straightened, 0);
    }
}

#[test]
fn a_phone_that_has_registered_elsewhere_is_followed_there() {
    let (mut w, _, ok) = talking();
    let elsewhere = "10.77.0.209:5099";
    w.register("bob", elsewhere);
    w.send(ALICE, &aimed(&in_dialog_of_caller("BYE", 2, &ok, ALICE), &format!("sip:bob@{elsewhere}")));
    w.expect(elsewhere, "BYE ");
}

#[test]
fn a_phone_that_drops_the_alias_of_another_is_sent_the_right_way() {
    let mut w = World::new();
    w.register("bob", BOB);
    let private = invite(BOB_URI, ALICE, "c1").replace(&format!("Contact: <sip:alice@{ALICE}>"), "Contact: <sip:alice@192.168.9.9>");
    w.send("198.51.100.7:31000", &private);
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    w.take("198.51.100.7:31000");
    w.send(BOB, &aimed(&in_dialog_of_callee("INFO", 1, &got, "b1", BOB), "sip:alice@192.168.9.9"));
    assert!(w.take("198.51.100.7:31000").iter().any(|m| m.starts_with("INFO ")));
}

#[test]
fn a_contact_at_another_port_of_our_machine_leads_nowhere() {
    for place in ["10.77.0.100:6379;transport=tcp", "127.0.0.1:6379;transport=tcp", "[::1]:53", "[fd77::100]:22"] {
        let mut w = World::new();
        w.register("bob", BOB);
        // Behind a proxy of its own, it says, so that its Contact is not looked at.
        let ask = request("SUBSCRIBE", BOB_URI, EVE, "s1", "Event: presence\r\n")
            .replace(";rport\r\n", ";rport\r\nVia: SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKfar\r\n")
            .replace(&format!("<sip:alice@{EVE}>"), &format!("<sip:x@{place}>"));
        w.send(EVE, &ask);
        let got = w.expect(BOB, "SUBSCRIBE ");
        w.sent.clear();
        w.send(BOB, &in_dialog_of_callee("NOTIFY", 1, &got, "b1", BOB));
        w.expect(BOB, "SIP/2.0 478 ");
        assert_eq!(w.sent.len(), 1, "{place}: {:#?}", w.sent);
    }
}

#[test]
fn without_state_a_token_is_all_there_is_and_holds_rfc3261_16_11() {
    let routing = RoutingConfig { mode: Mode::Stateless, ..RoutingConfig::default() };
    let mut w = World::with(EngineConfig { routing, ..config() });
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    for (method, cseq) in [("ACK", 1), ("INVITE", 2), ("BYE", 3)] {
        let text = in_dialog_of_caller(method, cseq, &ok, ALICE);
        w.send(ALICE, &aimed(&text, &format!("sip:+49900@{GATEWAY}")).replace("branch=z9hG4bK", "branch=z9hG4bKx"));
        w.expect_nothing(GATEWAY);
        w.send(ALICE, &bare(&text).replace("branch=z9hG4bK", "branch=z9hG4bKy"));
        w.expect_nothing(BOB);
        w.send(ALICE, &text);
        w.expect(BOB, method);
    }
    w.send(BOB, &in_dialog_of_callee("BYE", 1, &got, "b1", BOB));
    assert!(w.take(ALICE).iter().any(|m| m.starts_with("BYE ")));
}
