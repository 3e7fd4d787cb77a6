//! RFC 3261 §16: the proxy. The rules that the other stories do not prove.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::story::*;
use proxy_core::io::EngineConfig;
use proxy_core::routing::{Mode, RoutingConfig};

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB2: &str = "10.77.0.202:5063";
const BOB3: &str = "10.77.0.202:5064";
const BOB_URI: &str = "sip:bob@lab.test";

fn contact(at: &str) -> String {
    format!("Contact: <sip:bob@{at}>\r\n")
}

/// Alice calls Bob at some places. What each of them got.
fn calls(w: &mut World, places: &[&str]) -> Vec<String> {
    for place in places {
        w.register("bob", place);
    }
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    places.iter().map(|place| w.expect(place, "INVITE ")).collect()
}

/// The caller hears it, and hears it again while she does not acknowledge it.
fn expect_408(w: &mut World) {
    let heard = w.take(ALICE);
    assert!(!heard.is_empty() && heard.iter().all(|m| m.starts_with("SIP/2.0 408 ")), "{heard:#?}");
}

#[test]
fn a_maddr_of_ours_does_not_keep_a_request_from_its_user_rfc3261_16_4() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite("sip:bob@lab.test:5060;maddr=10.77.0.100;transport=udp", ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    assert_eq!(uri_of(&at_bob), format!("sip:bob@{BOB}"));
}

#[test]
fn a_contact_is_called_without_what_a_request_uri_may_not_have_rfc3261_16_6_2() {
    let mut w = World::new();
    let odd = format!("<sip:bob@{BOB};method=INVITE;line=7?Subject=free%20money&Route=%3Csip:evil%3E>");
    w.send(BOB, &register("bob", BOB, 1, &odd));
    w.expect(BOB, "SIP/2.0 200 ");
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "c1", ""));
    let at_bob = w.expect(BOB, "MESSAGE ");
    assert_eq!(uri_of(&at_bob), format!("sip:bob@{BOB};line=7"), "{at_bob}");
    assert_eq!((header(&at_bob, "Subject"), header(&at_bob, "Route")), (None, None));
}

#[test]
fn each_copy_has_a_branch_of_its_own_with_the_cookie_rfc3261_16_6_8() {
    let mut w = World::new();
    let copies = calls(&mut w, &[BOB, BOB2, BOB3]);
    let branches: BTreeSet<String> = copies
        .iter()
        .map(|copy| {
            let via = header(copy, "Via").unwrap_or_default();
            via.split("branch=")
                .nth(1)
                .and_then(|b| b.split([';', ',']).next())
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    assert_eq!(branches.len(), 3, "{branches:?}");
    assert!(branches.iter().all(|b| b.starts_with("z9hG4bK")), "{branches:?}");
}

#[test]
fn a_100_of_a_phone_is_not_passed_on_and_does_not_move_timer_c_rfc3261_16_7_2_16_7_4() {
    let mut w = World::new();
    let at_bob = calls(&mut w, &[BOB]).remove(0);
    w.send(BOB, &respond(&at_bob, 100, "", ""));
    w.expect_nothing(ALICE);
    w.pass(Duration::from_secs(120));
    w.send(BOB, &respond(&at_bob, 100, "", ""));
    w.pass(Duration::from_secs(59));
    w.expect_nothing(ALICE);
    w.pass(Duration::from_secs(1));
    expect_408(&mut w);
}

#[test]
fn ringing_moves_timer_c_rfc3261_16_7_2() {
    let mut w = World::new();
    let at_bob = calls(&mut w, &[BOB]).remove(0);
    for _ in 0..3 {
        w.send(BOB, &respond(&at_bob, 180, "b1", ""));
        w.expect(ALICE, "SIP/2.0 180 ");
        w.pass(Duration::from_secs(170));
        w.expect_nothing(ALICE);
    }
    w.pass(Duration::from_secs(11));
    expect_408(&mut w);
    assert!(w.take(BOB).iter().all(|m| m.starts_with("CANCEL ")));
}

#[test]
fn after_the_final_response_nothing_provisional_and_no_failure_is_passed_on_rfc3261_16_7_5() {
    let mut w = World::new();
    let copies = calls(&mut w, &[BOB, BOB2]);
    w.send(BOB2, &respond(&copies[1], 180, "b2", ""));
    w.expect(ALICE, "SIP/2.0 180 ");
    w.send(BOB, &respond(&copies[0], 200, "b1", &contact(BOB)));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.expect(BOB2, "CANCEL ");
    w.send(BOB2, &respond(&copies[1], 183, "b2", ""));
    w.send(BOB2, &respond(&copies[1], 487, "b2", ""));
    w.expect_nothing(ALICE);
    w.expect(BOB2, "ACK ");
}

#[test]
fn no_provisional_response_is_passed_on_once_a_6xx_has_come_rfc3261_16_7_5() {
    let mut w = World::new();
    let copies = calls(&mut w, &[BOB, BOB2]);
    w.send(BOB2, &respond(&copies[1], 180, "b2", ""));
    w.expect(ALICE, "SIP/2.0 180 ");
    w.send(BOB, &respond(&copies[0], 603, "b1", ""));
    w.expect(BOB, "ACK ");
    w.expect(BOB2, "CANCEL ");
    w.send(BOB2, &respond(&copies[1], 487, "b2", ""));
    w.expect(ALICE, "SIP/2.0 603 ");
}

#[test]
fn the_challenges_of_all_branches_go_back_together_rfc3261_16_7_7() {
    let mut w = World::new();
    let copies = calls(&mut w, &[BOB, BOB2, BOB3]);
    let challenge = |realm: &str| format!("Digest realm=\"{realm}\", nonce=\"n\"");
    let of_proxy = format!("Proxy-Authenticate: {}\r\n", challenge("one"));
    let of_phone = format!("WWW-Authenticate: {}\r\n", challenge("two"));
    w.send(BOB, &respond(&copies[0], 407, "b1", &of_proxy));
    w.send(BOB2, &respond(&copies[1], 401, "b2", &of_phone));
    w.send(BOB3, &respond(&copies[2], 486, "b3", ""));
    let all = w.take(ALICE);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(header(&all[0], "Proxy-Authenticate"), Some(challenge("one")), "{}", all[0]);
    assert_eq!(header(&all[0], "WWW-Authenticate"), Some(challenge("two")), "{}", all[0]);
}

#[test]
fn a_cancel_after_the_answer_is_confirmed_and_changes_nothing_rfc3261_9_2_16_10() {
    let mut w = World::new();
    let at_bob = calls(&mut w, &[BOB]).remove(0);
    w.send(BOB, &respond(&at_bob, 200, "b1", &contact(BOB)));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    let confirmed = w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(header(&confirmed, "CSeq").as_deref(), Some("1 CANCEL"));
    w.expect_nothing(BOB);
    assert_eq!(w.state.counts().dialogs, 1);
}

#[test]
fn a_cancel_reaches_all_who_ring_and_the_caller_hears_487_rfc3261_16_10() {
    let mut w = World::new();
    let copies = calls(&mut w, &[BOB, BOB2]);
    w.send(BOB, &respond(&copies[0], 180, "b1", ""));
    w.send(BOB2, &respond(&copies[1], 183, "b2", ""));
    w.take(ALICE);
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    let confirmed = w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(header(&confirmed, "CSeq").as_deref(), Some("1 CANCEL"));
    for (place, copy) in [(BOB, &copies[0]), (BOB2, &copies[1])] {
        let cancel = w.expect(place, "CANCEL ");
        w.send(place, &respond(&cancel, 200, "b", ""));
        w.expect_nothing(ALICE);
        w.send(place, &respond(copy, 487, "b", ""));
    }
    w.expect(ALICE, "SIP/2.0 487 ");
}

/// A world that relays for everybody, and one that relays for nobody.
fn relaying() -> World {
    let everywhere = RoutingConfig {
        relay_from: vec!["10.77.0.0/16".parse().expect("a net")],
        ..RoutingConfig::default()
    };
    World::with(EngineConfig { routing: everywhere, ..config() })
}

#[test]
fn a_maddr_of_ours_is_taken_out_of_a_request_for_another_domain_rfc3261_16_4() {
    let mut w = relaying();
    let uri = format!("sip:carol@{BOB};maddr=10.77.0.100;transport=udp");
    // The port of the URI is not ours, so that the request was not meant to come here.
    w.send(ALICE, &request("MESSAGE", &uri, ALICE, "c1", ""));
    w.expect_nothing(BOB);
    let uri = "sip:carol@10.77.0.202:5060;x=y;maddr=10.77.0.100;transport=udp";
    w.send(ALICE, &request("MESSAGE", uri, ALICE, "c2", ""));
    assert_eq!(uri_of(&w.expect("10.77.0.202:5060", "MESSAGE ")), "sip:carol@10.77.0.202;x=y");
}

#[test]
fn a_foreign_maddr_is_the_only_target_also_of_a_user_of_ours_rfc3261_16_5() {
    let mut w = relaying();
    w.register("bob", BOB);
    let uri = format!("sip:bob@lab.test:5064;maddr={}", BOB3.split(':').next().expect("a host"));
    w.send(ALICE, &request("MESSAGE", &uri, ALICE, "c1", ""));
    assert_eq!(uri_of(&w.expect(BOB3, "MESSAGE ")), uri, "the URI itself is not touched (§16.6 step 2)");
    w.expect_nothing(BOB);
}

#[test]
fn a_foreign_maddr_is_no_way_around_the_refusal_to_relay_rfc3261_16_5() {
    let mut w = World::new();
    w.register("bob", BOB);
    let uri = format!("sip:bob@lab.test:5064;maddr={}", BOB3.split(':').next().expect("a host"));
    w.send(ALICE, &request("MESSAGE", &uri, ALICE, "c1", ""));
    w.expect(ALICE, "SIP/2.0 403 ");
    w.expect_nothing(BOB3);
    w.expect_nothing(BOB);
}

#[test]
fn a_response_without_another_via_is_not_passed_on_and_does_not_end_the_call_for_the_caller_rfc3261_16_7_3() {
    let mut w = World::new();
    let at_bob = calls(&mut w, &[BOB]).remove(0);
    let ringing = respond(&at_bob, 180, "b1", "");
    let vias = header(&ringing, "Via").expect("Via");
    let ours = vias.split(", ").next().expect("ours").to_owned();
    let mut lines: Vec<&str> = ringing.split("\r\n").collect();
    lines.retain(|line| !line.starts_with("Via:"));
    let own = format!("Via: {ours}");
    lines.insert(1, &own);
    w.send(BOB, &lines.join("\r\n"));
    w.expect_nothing(ALICE);
    w.send(BOB, &ringing);
    w.expect(ALICE, "SIP/2.0 180 ");
}

#[test]
fn each_provisional_response_of_each_fork_is_passed_on_at_once_rfc3261_16_7_5() {
    let mut w = World::new();
    let copies = calls(&mut w, &[BOB, BOB2]);
    for (place, copy, status, tag) in [
        (BOB, &copies[0], 180, "b1"),
        (BOB2, &copies[1], 183, "b2"),
        (BOB, &copies[0], 181, "b1"),
        (BOB2, &copies[1], 199, "b2"),
    ] {
        w.send(place, &respond(copy, status, tag, ""));
        let heard = w.expect(ALICE, &format!("SIP/2.0 {status} "));
        assert!(header(&heard, "To").expect("To").ends_with(&format!("tag={tag}")), "{heard}");
    }
}

#[test]
fn the_record_route_of_a_response_is_passed_back_as_it_came_rfc3261_16_7_8() {
    let mut w = World::new();
    let at_bob = calls(&mut w, &[BOB]).remove(0);
    let routes = "Record-Route: <sip:edge.test;lr;x=\"1\">,\r\n <sip:10.77.0.100:5060;lr>\r\n";
    w.send(BOB, &respond(&at_bob, 200, "b1", &format!("{}{routes}", contact(BOB))));
    let answered = w.expect(ALICE, "SIP/2.0 200 ");
    assert!(answered.contains(routes), "{answered}");
}

#[test]
fn timer_c_of_a_phone_that_has_said_nothing_counts_as_its_408_rfc3261_16_8() {
    let mut config = config();
    // Timer B would be first.
    config.timer_c = Duration::from_secs(20);
    let mut w = World::with(config);
    let copies = calls(&mut w, &[BOB, BOB2]);
    w.send(BOB2, &respond(&copies[1], 180, "b2", ""));
    w.expect(ALICE, "SIP/2.0 180 ");
    w.take(BOB);
    w.pass(Duration::from_secs(21));
    expect_408(&mut w);
    assert!(w.take(BOB2).iter().any(|m| m.starts_with("CANCEL ")), "who rings is told to stop");
    // Who has not answered at all is not sent a CANCEL before he does (§9.1).
    assert!(w.take(BOB).iter().all(|m| m.starts_with("INVITE ")));
    w.send(BOB, &respond(&copies[0], 180, "b1", ""));
    assert!(w.take(BOB).iter().any(|m| m.starts_with("CANCEL ")));
}

fn stateless() -> World {
    let routing = RoutingConfig { mode: Mode::Stateless, ..RoutingConfig::default() };
    World::with(EngineConfig { routing, ..config() })
}

#[test]
fn a_stateless_proxy_has_one_branch_for_a_request_and_its_retransmissions_and_another_for_others_rfc3261_16_11()
 {
    let mut w = stateless();
    w.register("bob", BOB);
    let branch = |m: &str| {
        let via = header(m, "Via").unwrap_or_default();
        via.split("branch=").nth(1).and_then(|b| b.split([';', ',']).next()).unwrap_or_default().to_owned()
    };
    let mut of = |call: &str| {
        w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, call, ""));
        branch(&w.expect(BOB, "MESSAGE "))
    };
    let (first, again, other) = (of("c1"), of("c1"), of("c2"));
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert!(first.starts_with("z9hG4bK"));
}

#[test]
fn a_stateless_proxy_drops_a_response_whose_top_via_is_not_its_own_rfc3261_16_11() {
    let mut w = stateless();
    w.register("bob", BOB);
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "c1", ""));
    let at_bob = w.expect(BOB, "MESSAGE ");
    let answer = respond(&at_bob, 200, "b1", "");
    w.send(BOB, &answer.replace("SIP/2.0/UDP 10.77.0.100:5060;", "SIP/2.0/UDP 10.77.0.99:5060;"));
    w.expect_nothing(ALICE);
    w.send(BOB, &answer);
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn a_stateless_proxy_makes_no_response_to_a_call_and_forwards_a_cancel_of_it_rfc3261_16_11() {
    let mut w = stateless();
    w.register("bob", BOB);
    w.register("bob", BOB2);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect_nothing(ALICE);
    let got: Vec<_> = [BOB, BOB2].into_iter().filter(|at| !w.take(at).is_empty()).collect();
    assert_eq!(got.len(), 1, "it cannot fork: {got:?}");
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    w.expect(got[0], "CANCEL ");
    w.expect_nothing(ALICE);
}
