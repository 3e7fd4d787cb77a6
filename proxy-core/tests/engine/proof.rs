//! Dialogs prove themselves: what comes of it when somebody makes a dialog up, knows one of others, or cheats in his own. One
//! test per row of the security page.

use std::time::Duration;

use crate::common::auth::{self, answered, challenge, register_bob, subscribe};
use crate::common::dialogs::*;
use crate::common::story::*;
use proxy_core::state::EndedBy;

const METHODS: [&str; 13] = [
    "INVITE",
    "MESSAGE",
    "OPTIONS",
    "NOTIFY",
    "REFER",
    "INFO",
    "BYE",
    "UPDATE",
    "SUBSCRIBE",
    "PUBLISH",
    "ACK",
    "PRACK",
    "FOO",
];

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
                let others: Vec<_> =
                    w.inbox.iter().filter(|(at, all)| **at != addr(EVE) && !all.is_empty()).collect();
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
    let ask = request("SUBSCRIBE", BOB_URI, EVE, "s1", "Event: presence\r\n")
        .replace("alice@lab.test", "eve@evil.test");
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
        let forged =
            forged.replace("SUBSCRIBE", method).replace("branch=z9hG4bK", &format!("branch=z9hG4bKf{n}"));
        w.send(EVE, &forged);
        w.expect_nothing(BOB);
        w.expect_nothing(GATEWAY);
        w.expect(EVE, "SIP/2.0 40");
    }
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
fn a_contact_at_another_port_of_our_machine_leads_nowhere() {
    for place in
        ["10.77.0.100:6379;transport=tcp", "127.0.0.1:6379;transport=tcp", "[::1]:53", "[fd77::100]:22"]
    {
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
fn a_failure_that_repeats_record_route_hands_nobody_a_token_rfc3261_16_7() {
    let mut w = World::new();
    w.register("bob", BOB);
    for (n, method) in ["INVITE", "SUBSCRIBE", "REFER"].into_iter().enumerate() {
        for status in [302, 420, 486, 603] {
            let ask = request(method, BOB_URI, EVE, &format!("f{n}{status}"), "Refer-To: <sip:x@y.test>\r\n")
                .replace("alice@lab.test", "eve@evil.test");
            w.send(EVE, &ask);
            let got =
                w.take(BOB).into_iter().rfind(|m| m.starts_with(&format!("{method} "))).expect("the request");
            assert!(got.contains(";rlv="));
            w.send(BOB, &respond(&got, status, "b1", "Record-Route: <sip:10.9.9.9;lr>\r\n"));
            let all = w.take(EVE);
            let heard = all.iter().find(|m| m.starts_with(&format!("SIP/2.0 {status} "))).expect("it");
            assert!(!heard.contains("rlv"), "{heard}");
            assert_eq!(header(heard, "Record-Route"), Some(String::from("<sip:10.9.9.9;lr>")));
        }
    }
}
