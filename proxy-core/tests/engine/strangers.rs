//! Who has proved nothing makes the cluster keep no more than a bound, and keeps nobody else out.

use std::time::Duration;

use crate::common::auth::*;
use crate::common::story::*;
use proxy_core::routing::Strangers;

const EVE: &str = "192.0.2.66:5060";

/// An INVITE as large as they may be, of somebody whom nobody knows.
fn large(call: &str, from: &str) -> String {
    let body = "x".repeat(14_500);
    invite(BOB_URI, from, call)
        .replace("alice@lab.test", "eve@evil.test")
        .replace("Content-Length: 0\r\n\r\n", &format!("Content-Length: {}\r\n\r\n{body}", body.len()))
}

/// Eve calls until she is refused; gives the refusal, and how many calls went out.
fn flood(w: &mut World, from: &str, name: &str) -> (String, usize) {
    for n in 0..2_000 {
        w.send(from, &large(&format!("{name}{n}"), from));
        w.take(BOB);
        let answer = w.take(from).pop().expect("an answer");
        if !answer.starts_with("SIP/2.0 100 ") {
            return (answer, n);
        }
    }
    panic!("she is never refused");
}

fn kept(w: &World) -> usize {
    w.log.iter().map(|command| format!("{command:?}").len()).sum()
}

#[test]
fn a_stranger_makes_the_cluster_keep_a_bounded_number_of_bytes_and_subscribers_call_on() {
    let mut w = world();
    register_bob(&mut w);
    let (refusal, calls) = flood(&mut w, EVE, "e");
    assert!(refusal.starts_with("SIP/2.0 503 "), "{refusal}");
    assert!(header(&refusal, "Retry-After").expect("Retry-After").parse::<u32>().expect("seconds") >= 5);
    assert!((10..=Strangers::SOURCE_BYTES as usize / 15_000).contains(&calls), "{calls}");
    let commands = w.log.len();
    for n in 0..200 {
        w.send(EVE, &large(&format!("more{n}"), EVE));
        w.expect(EVE, "SIP/2.0 503 ");
    }
    assert_eq!(w.log.len(), commands, "nothing is kept of what is refused, not even a record");
    w.expect_nothing(BOB);
    assert_eq!(w.engine.counters().strangers_refused, 201);
    // From her own address, too: who has proved who he is is no stranger.
    let text = invite(BOB_URI, EVE, "alice");
    let asked = challenge(&mut w, EVE, &text);
    w.send(EVE, &answered(&text, &asked, "alice", "secret-a"));
    w.expect(BOB, "INVITE ");
    // And in a while she may call again.
    w.pass(Duration::from_secs(60));
    w.take(EVE);
    w.take(BOB);
    w.send(EVE, &large("later", EVE));
    w.expect(EVE, "SIP/2.0 100 ");
}

#[test]
fn strangers_with_forged_addresses_have_one_bound_together_and_named_sources_none() {
    let mut w = world();
    register_bob(&mut w);
    let mut calls = 0;
    for n in 0..1_200 {
        let from = format!("198.51.{}.{}:5060", n / 250, n % 250);
        w.send(&from, &large(&format!("f{n}"), &from));
        calls += usize::from(w.take(&from).iter().any(|m| m.starts_with("SIP/2.0 100 ")));
        w.take(BOB);
    }
    assert!(calls <= Strangers::ALL_BYTES as usize / 29_000, "{calls}");
    w.send(EVE, &large("another", EVE));
    w.expect(EVE, "SIP/2.0 503 ");
    allow(&mut w.state, 1, "192.0.2.66", 32, 0);
    for n in 0..200 {
        w.send(EVE, &large(&format!("named{n}"), EVE));
        w.expect(EVE, "SIP/2.0 100 ");
        w.take(BOB);
    }
}

#[test]
fn a_stranger_who_is_kept_out_can_end_the_call_that_he_has() {
    let mut w = world();
    register_bob(&mut w);
    w.send(EVE, &invite(BOB_URI, EVE, "c1").replace("alice@lab.test", "eve@evil.test"));
    w.expect(EVE, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 200, "b", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.expect(EVE, "SIP/2.0 200 ");
    w.send(EVE, &in_dialog_of_caller("ACK", 1, &ok, EVE));
    w.expect(BOB, "ACK ");
    flood(&mut w, EVE, "e");
    w.send(EVE, &in_dialog_of_caller("BYE", 2, &ok, EVE));
    let bye = w.take(BOB).into_iter().find(|m| m.starts_with("BYE ")).expect("the BYE");
    w.send(BOB, &respond(&bye, 200, "b", ""));
    w.expect(EVE, "SIP/2.0 200 ");
}

#[test]
fn a_call_that_exists_is_no_way_to_have_more_kept() {
    let mut w = world();
    register_bob(&mut w);
    w.send(EVE, &invite(BOB_URI, EVE, "c1").replace("alice@lab.test", "eve@evil.test"));
    w.take(EVE);
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 200, "b", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.expect(EVE, "SIP/2.0 200 ");
    w.send(EVE, &in_dialog_of_caller("ACK", 1, &ok, EVE));
    w.expect(BOB, "ACK ");
    let body = "x".repeat(14_500);
    let before = kept(&w);
    for cseq in 2..400 {
        let again = in_dialog_of_caller("INVITE", cseq, &ok, EVE)
            .replace("Content-Length: 0\r\n\r\n", &format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        w.send(EVE, &again);
        for message in w.take(BOB) {
            if message.starts_with("INVITE ") {
                w.send(BOB, &respond(&message, 488, "b", ""));
            }
        }
        w.take(BOB);
        w.take(EVE);
    }
    assert!(w.engine.counters().strangers_refused > 200, "{}", w.engine.counters().strangers_refused);
    assert!(kept(&w) > before);
}

#[test]
fn without_authentication_nobody_is_a_stranger() {
    let mut w = World::new();
    w.register("bob", BOB);
    for n in 0..300 {
        w.send(EVE, &large(&format!("e{n}"), EVE));
        w.expect(EVE, "SIP/2.0 100 ");
        w.take(BOB);
    }
}

#[test]
fn neither_prack_nor_a_second_bye_is_a_way_to_have_more_kept() {
    let mut w = world();
    register_bob(&mut w);
    flood(&mut w, EVE, "e");
    let prack = large("p", EVE).replace("INVITE", "PRACK");
    w.send(EVE, &prack);
    w.expect(EVE, "SIP/2.0 503 ");
    // A dialog of her own, of which there is no record.
    w.pass(Duration::from_secs(60));
    w.take(EVE);
    w.take(BOB);
    let ask = request("REFER", BOB_URI, EVE, "r1", "Refer-To: <sip:x@y.test>\r\n");
    w.send(EVE, &ask.replace("alice@lab.test", "eve@evil.test"));
    let got = w.expect(BOB, "REFER ");
    w.send(BOB, &respond(&got, 202, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.expect(EVE, "SIP/2.0 202 ");
    flood(&mut w, EVE, "g");
    // As large as what has just been refused: a small one might still have room.
    let filler = format!("X-Filler: {}\r\nContent-Length", "x".repeat(15_000));
    w.send(EVE, &in_dialog_of_caller("BYE", 9, &ok, EVE).replace("Content-Length", &filler));
    assert!(w.take(EVE).iter().any(|m| m.starts_with("SIP/2.0 503 ")));
}
