//! Clients behind a NAT: Contact gets the way back, requests in the dialog take it, and pings keep it open, before and
//! after the loss of a node. Kamailio's NATDETECT, `add_contact_alias` and `handle_ruri_alias`; RFC 3581.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::io::EngineConfig;
use proxy_core::nat::{NatConfig, Ping};

/// Inside, and what it looks like from here.
const ALICE_IN: &str = "192.168.1.5:5060";
const ALICE: &str = "198.51.100.7:31000";
const BOB_IN: &str = "192.168.9.9:5060";
const BOB: &str = "203.0.113.9:42000";
const BOB_URI: &str = "sip:bob@lab.test";
const OUTAGE: Duration = Duration::from_millis(300);

fn register_behind_nat(w: &mut World, user: &str, inside: &str, outside: &str) {
    w.send(outside, &register(user, inside, 1, &format!("<sip:{user}@{inside}>")));
    w.expect(outside, "SIP/2.0 200 ");
}

/// Alice calls Bob, both behind NATs of their own. Gives Bob's INVITE and Alice's 200.
fn answered(w: &mut World) -> (String, String) {
    register_behind_nat(w, "bob", BOB_IN, BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE_IN, "c1"));
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 200, "b1", &format!("Contact: <sip:bob@{BOB_IN}>\r\n")));
    let ok = w.take(ALICE).into_iter().find(|m| m.starts_with("SIP/2.0 200 ")).expect("a 200");
    (got, ok)
}

#[test]
fn both_sides_of_a_call_learn_the_way_back_through_the_nat_of_the_other() {
    let mut w = World::new();
    let (got, ok) = answered(&mut w);
    assert_eq!(uri_of(&got), format!("sip:bob@{BOB_IN}"), "the phone sees the contact it registered");
    assert_eq!(
        header(&got, "Contact").as_deref(),
        Some("<sip:alice@192.168.1.5:5060;alias=198.51.100.7~31000~1>")
    );
    assert_eq!(
        header(&ok, "Contact").as_deref(),
        Some("<sip:bob@192.168.9.9:5060;alias=203.0.113.9~42000~1>")
    );
}

#[test]
fn requests_in_the_dialog_go_through_both_nats_and_the_phones_see_their_own_contacts() {
    for lost in [false, true] {
        let mut w = World::new();
        let (got, ok) = answered(&mut w);
        if lost {
            w.fail_over(OUTAGE);
            w.take(ALICE);
            w.take(BOB);
        }
        w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE_IN));
        assert_eq!(uri_of(&w.expect(BOB, "ACK ")), format!("sip:bob@{BOB_IN}"));
        w.send(BOB, &in_dialog_of_callee("UPDATE", 1, &got, "b1", BOB_IN));
        let update = w.expect(ALICE, "UPDATE ");
        assert_eq!(uri_of(&update), format!("sip:alice@{ALICE_IN}"));
        assert_eq!(
            header(&update, "Contact").as_deref(),
            Some("<sip:bob@192.168.9.9:5060;alias=203.0.113.9~42000~1>"),
            "its target refresh has the way back, too"
        );
        w.send(ALICE, &respond(&update, 200, "x", &format!("Contact: <sip:alice@{ALICE_IN}>\r\n")));
        let answer = w.expect(BOB, "SIP/2.0 200 ");
        assert_eq!(
            header(&answer, "Contact").as_deref(),
            Some("<sip:alice@192.168.1.5:5060;alias=198.51.100.7~31000~1>")
        );
        w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE_IN));
        let bye = w.expect(BOB, "BYE ");
        w.send(BOB, &respond(&bye, 200, "x", ""));
        w.expect(ALICE, "SIP/2.0 200 ");
        assert_eq!(w.state.counts().dialogs, 0);
    }
}

#[test]
fn an_early_request_to_the_caller_finds_back_while_the_phone_rings_rfc3311() {
    let mut w = World::new();
    register_behind_nat(&mut w, "bob", BOB_IN, BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE_IN, "c1"));
    let got = w.expect(BOB, "INVITE ");
    let contact = format!("Contact: <sip:bob@{BOB_IN}>\r\n");
    w.send(BOB, &respond(&got, 183, "b1", &contact));
    let progress = w.take(ALICE).into_iter().find(|m| m.starts_with("SIP/2.0 183 ")).expect("a 183");
    assert!(header(&progress, "Contact").is_some_and(|c| c.contains(";alias=203.0.113.9~42000~1")));
    w.send(BOB, &in_dialog_of_callee("UPDATE", 1, &got, "b1", BOB_IN));
    assert_eq!(uri_of(&w.expect(ALICE, "UPDATE ")), format!("sip:alice@{ALICE_IN}"));
}

#[test]
fn a_repeated_invite_gets_no_second_call_though_its_copy_was_changed() {
    let mut w = World::new();
    register_behind_nat(&mut w, "bob", BOB_IN, BOB);
    let text = invite(BOB_URI, ALICE_IN, "c1");
    w.send(ALICE, &text);
    w.expect(BOB, "INVITE ");
    w.send(ALICE, &text);
    w.fail_over(OUTAGE);
    w.send(ALICE, &text);
    assert_eq!(w.state.counts().pending_invites, 1);
    let again: Vec<String> = w.take(BOB);
    let first = w.sent.iter().find(|(_, m)| m.starts_with("INVITE ")).map(|(_, m)| m.clone()).expect("sent");
    assert!(again.iter().all(|m| *m == first), "the successor repeats the very same bytes");
}

#[test]
fn phones_without_a_nat_and_those_behind_another_proxy_are_left_alone() {
    let mut w = World::new();
    w.register("bob", "10.77.0.202:5062");
    w.send("10.77.0.201:5061", &invite(BOB_URI, "10.77.0.201:5061", "c1"));
    let got = w.expect("10.77.0.202:5062", "INVITE ");
    assert_eq!(header(&got, "Contact").as_deref(), Some("<sip:alice@10.77.0.201:5061>"));
    let edge = "198.51.100.50:5060";
    let text = invite(BOB_URI, ALICE_IN, "c2");
    let text = text.replacen("Via:", &format!("Via: SIP/2.0/UDP {edge};branch=z9hG4bKedge\r\nVia:"), 1);
    w.send(edge, &text);
    let got = w.expect("10.77.0.202:5062", "INVITE ");
    assert_eq!(header(&got, "Contact").as_deref(), Some("<sip:alice@192.168.1.5:5060>"));
}

#[test]
fn without_alias_contacts_stay_as_they_were() {
    let nat = NatConfig { alias: false, ..NatConfig::default() };
    let mut w = World::with(EngineConfig { nat, ..config() });
    let (got, ok) = answered(&mut w);
    assert_eq!(header(&got, "Contact").as_deref(), Some("<sip:alice@192.168.1.5:5060>"));
    assert_eq!(header(&ok, "Contact").as_deref(), Some("<sip:bob@192.168.9.9:5060>"));
}

#[test]
fn the_contact_of_a_redirect_from_behind_a_nat_names_somebody_else_and_is_left_alone() {
    let mut w = World::new();
    register_behind_nat(&mut w, "bob", BOB_IN, BOB);
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE_IN, "m1", ""));
    let got = w.expect(BOB, "MESSAGE ");
    w.send(BOB, &respond(&got, 302, "b1", "Contact: <sip:carol@192.168.9.10>\r\n"));
    let moved = w.expect(ALICE, "SIP/2.0 302 ");
    assert_eq!(header(&moved, "Contact").as_deref(), Some("<sip:carol@192.168.9.10>"));
}

/// Keepalives since this was last asked, each to `at`.
fn pings(w: &mut World, at: &str) -> usize {
    let all = std::mem::take(&mut w.keepalives);
    assert!(all.iter().all(|to| *to == addr(at)), "{all:?}");
    all.len()
}

#[test]
fn a_contact_behind_a_nat_is_pinged_once_in_each_interval_and_others_are_not() {
    let mut w = World::new();
    register_behind_nat(&mut w, "bob", BOB_IN, BOB);
    w.register("carol", "10.77.0.202:5062");
    w.pass(Duration::from_secs(301));
    let seen = pings(&mut w, BOB);
    assert!((10..=11).contains(&seen), "{seen} pings in ten intervals");
    // Its successor goes on, and nobody else.
    w.fail_over(OUTAGE);
    w.pass(Duration::from_secs(31));
    assert!(pings(&mut w, BOB) >= 1);
}

#[test]
fn pings_end_with_the_registration() {
    let mut w = World::new();
    register_behind_nat(&mut w, "bob", BOB_IN, BOB);
    w.send(BOB, &register("bob", BOB_IN, 2, &format!("<sip:bob@{BOB_IN}>;expires=0")));
    w.take(BOB);
    pings(&mut w, BOB);
    w.pass(Duration::from_secs(61));
    assert_eq!(pings(&mut w, BOB), 0);
}

#[test]
fn options_pings_go_through_the_nat_to_the_contact_and_need_no_answer() {
    let nat = NatConfig { ping: Ping::Options, ..NatConfig::default() };
    let mut w = World::with(EngineConfig { nat, ..config() });
    register_behind_nat(&mut w, "bob", BOB_IN, BOB);
    w.pass(Duration::from_secs(1));
    let ping = w.take(BOB).pop().expect("a ping");
    assert!(ping.starts_with("OPTIONS "), "{ping}");
    assert_eq!(uri_of(&ping), format!("sip:bob@{BOB_IN}"));
    w.send(BOB, &respond(&ping, 200, "p", ""));
    w.expect_nothing(BOB);
    w.pass(Duration::from_secs(60));
    assert!(!w.state.bindings("sip:bob@lab.test").is_empty(), "silence is no reason to forget anybody");
}

#[test]
fn no_contact_waits_much_longer_than_an_interval_for_its_ping_when_its_node_is_lost() {
    let mut w = World::new();
    let outside = |n: u8| addr(&format!("203.0.113.{n}:42000"));
    for n in 1..=60 {
        register_behind_nat(&mut w, &format!("phone{n:02}"), BOB_IN, &outside(n).to_string());
    }
    let interval = NatConfig::default().ping_interval;
    let mut last = vec![w.now.mono; 61];
    // Wherever in the lap it happens.
    for lost_after in [33_u64, 50, 73] {
        for half_seconds in [2 * lost_after, 120] {
            for _ in 0..half_seconds {
                w.pass(Duration::from_millis(500));
                for to in std::mem::take(&mut w.keepalives) {
                    let n = (1..=60).find(|n| outside(*n) == to).expect("one of them");
                    last[usize::from(n)] = w.now.mono;
                }
                for (n, at) in last.iter().enumerate().skip(1) {
                    let silent = w.now.mono.since(*at);
                    assert!(silent <= interval + OUTAGE + Duration::from_secs(1), "phone{n:02}: {silent:?}");
                }
            }
            w.fail_over(OUTAGE);
        }
    }
}
