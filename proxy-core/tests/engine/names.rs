//! Names through one engine: requests wait for the DNS and go on from where they were.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::dns::{Answer, Kind, Question, Record, Srv};
use proxy_core::io::EngineConfig;
use proxy_core::routing::RoutingConfig;
use proxy_core::state::{Flow, SipCommand, Transport};

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const FIRST: &str = "10.77.0.211:5081";
const SECOND: &str = "10.77.0.212:5082";
const BOB_URI: &str = "sip:bob@lab.test";

fn question(kind: Kind, name: &str) -> Question {
    Question { kind, name: name.to_owned() }
}

/// `phone.test`: two servers by UDP, one before the other.
fn world() -> World {
    let mut w = World::new();
    let srv =
        |priority, port, target: &str| Record::Srv(Srv { priority, weight: 1, port, target: target.into() });
    let a = |ip: &str| Record::Address(ip.parse().expect("an address"));
    w.zone.insert(
        question(Kind::Srv, "_sip._udp.phone.test"),
        vec![srv(20, 5082, "second.test"), srv(10, 5081, "first.test")],
    );
    w.zone.insert(question(Kind::A, "first.test"), vec![a("10.77.0.211")]);
    w.zone.insert(question(Kind::A, "second.test"), vec![a("10.77.0.212")]);
    w.send(BOB, &register("bob", BOB, 1, "<sip:bob@Phone.test>"));
    w.take(BOB);
    w
}

fn fail(w: &mut World, at: &str) {
    w.engine.handle_transport_failure(w.now, flow_of(addr(at)), &w.state);
    w.settle();
}

#[test]
fn an_invite_to_a_name_waits_for_the_dns_and_promises_nothing_meanwhile() {
    let mut w = world();
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect_nothing(ALICE);
    assert!(!w.log.iter().any(|c| matches!(c, SipCommand::InviteReceived(_))));
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect_nothing(ALICE);
    let asked = w.resolve();
    assert_eq!(asked.iter().filter(|q| q.kind == Kind::Naptr).count(), 1, "each question once: {asked:?}");
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_bob = w.expect(FIRST, "INVITE sip:bob@Phone.test ");
    w.expect_nothing(SECOND);
    // The next one needs no question.
    w.send(FIRST, &respond(&at_bob, 486, "b", ""));
    w.take(ALICE);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c2"));
    assert_eq!(w.asked, []);
    w.take(FIRST);
    assert_eq!(w.engine.held_bytes() > 0, w.engine.load().0 > 0);
}

#[test]
fn a_server_that_is_not_there_gives_way_to_the_next_one_of_its_name_rfc3263_4_3() {
    let mut w = world();
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.resolve();
    w.take(ALICE);
    w.expect(FIRST, "INVITE ");
    fail(&mut w, FIRST);
    let second = w.expect(SECOND, "INVITE ");
    w.send(SECOND, &respond(&second, 200, "b", &format!("Contact: <sip:bob@{SECOND}>\r\n")));
    w.expect(ALICE, "SIP/2.0 200 ");
    // One that says nothing at all takes three copies of the INVITE, and not 64*T1.
    w.send(ALICE, &invite(BOB_URI, ALICE, "c2"));
    w.take(ALICE);
    w.pass(Duration::from_millis(2900));
    w.expect_nothing(SECOND);
    w.pass(Duration::from_millis(200));
    assert_eq!(w.take(FIRST).len(), 3, "at 0, 0.5 and 1.5 s");
    w.expect(SECOND, "INVITE ");
    w.pass(Duration::from_secs(30));
    w.expect_nothing(FIRST);
    w.take(SECOND);
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "m1", ""));
    let message = w.expect(FIRST, "MESSAGE ");
    w.send(FIRST, &respond(&message, 503, "b", ""));
    w.expect(SECOND, "MESSAGE ");
}

#[test]
fn what_a_silent_server_says_after_its_branch_has_moved_on_is_for_nobody() {
    let mut w = world();
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.resolve();
    w.take(ALICE);
    let first = w.expect(FIRST, "INVITE ");
    fail(&mut w, FIRST);
    let second = w.expect(SECOND, "INVITE ");
    let stray = w.engine.counters().dropped_stray;
    w.send(FIRST, &respond(&first, 180, "late", ""));
    w.send(FIRST, &respond(&first, 486, "late", ""));
    w.expect_nothing(ALICE);
    w.expect_nothing(FIRST);
    assert_eq!(w.engine.counters().dropped_stray, stray + 2);
    w.send(SECOND, &respond(&second, 180, "b", ""));
    w.expect(ALICE, "SIP/2.0 180 ");
}

#[test]
fn a_takeover_in_the_middle_of_a_failover_goes_on_with_the_next_server() {
    let mut w = world();
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.resolve();
    w.take(ALICE);
    let first = w.expect(FIRST, "INVITE ");
    w.fail_over(Duration::from_millis(500));
    let again = w.expect(FIRST, "INVITE ");
    assert_eq!(header(&first, "Via"), header(&again, "Via"));
    fail(&mut w, FIRST);
    w.expect(SECOND, "INVITE ");
    assert_eq!(w.asked, [], "the addresses are in the record of the call");
}

#[test]
fn a_redirect_to_a_name_is_followed_when_the_dns_has_answered() {
    let mut w = World::with(EngineConfig {
        routing: RoutingConfig { follow_redirects: true, ..RoutingConfig::default() },
        ..config()
    });
    let a = |ip: &str| Record::Address(ip.parse().expect("an address"));
    w.zone.insert(question(Kind::A, "elsewhere.test"), vec![a("10.77.0.212")]);
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 302, "b", "Contact: <sip:x@elsewhere.test:5082>\r\n"));
    // Somebody else's request has nothing to do with it.
    w.send(ALICE, &request("OPTIONS", "sip:lab.test", ALICE, "o1", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
    assert!(!w.resolve().is_empty());
    w.pass(Duration::from_millis(600));
    w.expect(BOB, "ACK ");
    let moved = w.expect(SECOND, "INVITE sip:x@elsewhere.test:5082 ");
    w.expect_nothing(ALICE);
    w.send(SECOND, &respond(&moved, 200, "e", &format!("Contact: <sip:x@{SECOND}>\r\n")));
    w.expect(ALICE, "SIP/2.0 200 ");
    // One that nobody knows is not waited for: the caller may know better.
    w.send(ALICE, &invite(BOB_URI, ALICE, "c2"));
    w.take(ALICE);
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 302, "b", "Contact: <sip:x@nowhere.test:5082>\r\n"));
    w.resolve();
    w.pass(Duration::from_millis(600));
    w.expect(ALICE, "SIP/2.0 302 ");
}

#[test]
fn a_name_without_answer_in_time_counts_as_unknown() {
    let mut w = world();
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let silent = std::mem::take(&mut w.asked);
    assert_eq!(silent, [question(Kind::Naptr, "phone.test")]);
    w.pass(Duration::from_secs(4));
    // A NAPTR question that fails is not the end.
    w.resolve();
    w.expect(ALICE, "SIP/2.0 100 ");
    let mut w = world();
    w.pass(Duration::from_secs(40));
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    for _ in 0..4 {
        w.asked.clear();
        w.pass(Duration::from_secs(4));
    }
    w.expect(ALICE, "SIP/2.0 480 ");
    assert_eq!((w.engine.load(), w.engine.held_bytes()), ((0, 0, 0), 0));
    assert!(w.engine.counters().dns_failed >= 3);
    // An answer that comes too late is for nobody.
    w.engine.handle_resolved(w.now, question(Kind::A, "phone.test"), Answer::Failed, &w.state);
}

#[test]
fn a_cancel_finds_the_invite_that_waits_for_the_dns() {
    let mut w = world();
    w.pass(Duration::from_secs(40));
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    let all = w.take(ALICE);
    assert!(
        all.len() == 2 && all[0].starts_with("SIP/2.0 200 ") && all[1].starts_with("SIP/2.0 487 "),
        "{all:#?}"
    );
    w.resolve();
    w.expect_nothing(FIRST);
    assert_eq!(w.engine.held_bytes(), 0);
}

#[test]
fn a_request_within_a_dialog_to_a_contact_that_is_a_name_is_resolved_and_so_is_its_ack() {
    let mut w = world();
    w.register("carol", BOB);
    w.send(ALICE, &invite("sip:carol@lab.test", ALICE, "c1"));
    w.take(ALICE);
    let at_carol = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_carol, 200, "b1", "Contact: <sip:carol@phone.test>\r\n"));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect_nothing(FIRST);
    w.resolve();
    w.expect(FIRST, "ACK sip:carol@phone.test ");
    w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    let bye = w.expect(FIRST, "BYE ");
    w.send(FIRST, &respond(&bye, 200, "", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn a_path_that_is_a_name_and_a_transport_in_it_are_followed() {
    let mut w = world();
    w.zone.insert(
        question(Kind::A, "edge.test"),
        vec![Record::Address("10.77.0.220".parse().expect("an address"))],
    );
    let text = register("dave", BOB, 1, &format!("<sip:dave@{BOB}>"));
    w.send(
        BOB,
        &text.replace("Max-", "Path: <sip:edge.test:5099;transport=tcp;lr>\r\nSupported: path\r\nMax-"),
    );
    w.take(BOB);
    w.send(ALICE, &request("MESSAGE", "sip:dave@lab.test", ALICE, "m1", ""));
    assert_eq!(w.resolve().len(), 2, "a port means addresses only: A and AAAA");
    w.expect("10.77.0.220:5099", "MESSAGE ");
    let flow = Flow { transport: Transport::Tcp, ..flow_of(addr("10.77.0.220:5099")) };
    assert_eq!(w.flows.last(), Some(&flow));
}

#[test]
fn a_deactivated_engine_forgets_who_waits() {
    let mut w = world();
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.engine.deactivate();
    w.resolve();
    w.expect_nothing(ALICE);
    assert_eq!(w.engine.held_bytes(), 0);
    w.engine.activate(w.now, &w.state);
    w.settle();
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.resolve();
    w.expect(FIRST, "INVITE ");
}

#[test]
fn the_number_of_waiting_requests_is_bounded() {
    let mut w = world();
    let most = proxy_core::engine::MAX_PARKED;
    for n in 0..=most {
        w.deliver(addr(ALICE), &request("MESSAGE", BOB_URI, ALICE, &format!("m{n}"), ""));
    }
    while w.step() {}
    w.expect(ALICE, "SIP/2.0 503 ");
    w.resolve();
    assert_eq!(w.take(FIRST).len(), most);
}
