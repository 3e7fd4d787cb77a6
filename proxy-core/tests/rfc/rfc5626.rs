//! RFC 5626: flows of clients. The rules that the other stories do not prove.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::io::EngineConfig;
use proxy_core::registrar::{OutboundMode, RegistrarConfig};
use proxy_core::state::{Flow, Transport};

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB2: &str = "10.77.0.202:5063";
const BOB_URI: &str = "sip:bob@lab.test";
const INSTANCE: &str = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000000000001>\"";

fn world() -> World {
    let registrar = RegistrarConfig { outbound: OutboundMode::Supported, ..RegistrarConfig::default() };
    World::with(EngineConfig { registrar, ..config() })
}

fn bob(at: &str, cseq: u32, params: &str) -> String {
    register("bob", at, cseq, &format!("<sip:bob@{at}>{params}"))
        .replace("Content-Length", "Supported: outbound, path\r\nContent-Length")
}

#[test]
fn a_reg_id_without_instance_makes_an_ordinary_binding_rfc5626_6() {
    let mut w = world();
    w.send(BOB, &bob(BOB, 1, ";reg-id=1"));
    let ok = w.expect(BOB, "SIP/2.0 200 ");
    assert_eq!(header(&ok, "Require"), None, "outbound is not in use");
    w.send(BOB2, &bob(BOB2, 1, ";reg-id=1"));
    w.expect(BOB2, "SIP/2.0 200 ");
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(BOB, "INVITE ");
    w.expect(BOB2, "INVITE ");
}

#[test]
fn a_flow_that_is_made_anew_replaces_the_one_of_its_number_and_another_number_is_another_flow_rfc5626_6() {
    let mut w = world();
    let flow = |number: u32| format!(";{INSTANCE};reg-id={number}");
    w.send(BOB, &bob(BOB, 1, &flow(1)));
    w.expect(BOB, "SIP/2.0 200 ");
    w.send(BOB2, &bob(BOB2, 1, &flow(1)));
    let ok = w.expect(BOB2, "SIP/2.0 200 ");
    let contacts = header(&ok, "Contact").unwrap_or_default();
    assert!(contacts.contains(BOB2) && !contacts.contains(BOB), "{contacts}");
    w.send(BOB, &bob(BOB, 2, &flow(2)));
    let ok = w.expect(BOB, "SIP/2.0 200 ");
    assert_eq!(header(&ok, "Contact").unwrap_or_default().matches("<sip:bob@").count(), 2);
}

#[test]
fn a_binding_without_outbound_is_left_alone_by_flows_rfc5626_6() {
    let mut w = world();
    w.register("bob", BOB);
    w.send(BOB2, &bob(BOB2, 1, &format!(";{INSTANCE};reg-id=1")));
    w.expect(BOB2, "SIP/2.0 200 ");
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(BOB, "INVITE ");
    w.expect(BOB2, "INVITE ");
}

/// Through this proxy Bob's phone has a flow, with a token in its Path for each.
const EDGE: &str = "10.77.0.80:5060";
const OTHER_EDGE: &str = "10.77.0.81:5060";

/// A flow of Bob's phone to this proxy itself, from `at`.
fn direct(w: &mut World, at: &str, number: u32) {
    // The newest flow is tried first.
    w.tick(Duration::from_secs(1));
    w.send(at, &bob(at, number, &format!(";{INSTANCE};reg-id={number}")));
    w.expect(at, "SIP/2.0 200 ");
}

/// A flow of Bob's phone by an edge proxy, which knows it by `token`.
fn by_edge(w: &mut World, edge: &str, token: &str, number: u32) {
    w.tick(Duration::from_secs(1));
    let text = bob(BOB, number, &format!(";{INSTANCE};reg-id={number}")).replacen(
        "Max-Forwards",
        &format!(
            "Via: SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKfar\r\nPath: <sip:{token}@{edge};lr;ob>\r\nMax-Forwards"
        ),
        1,
    );
    w.send(edge, &text);
    w.expect(edge, "SIP/2.0 200 ");
}

fn options(call: &str) -> String {
    request("OPTIONS", BOB_URI, ALICE, call, "")
}

#[test]
fn when_a_flow_is_said_to_be_dead_the_next_one_of_the_phone_is_taken_rfc5626_7() {
    let mut w = world();
    by_edge(&mut w, OTHER_EDGE, "one", 1);
    by_edge(&mut w, EDGE, "two", 2);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let first = w.expect(EDGE, "INVITE ");
    w.expect_nothing(OTHER_EDGE);
    w.send(EDGE, &respond(&first, 430, "e", ""));
    w.expect(EDGE, "ACK ");
    let second = w.expect(OTHER_EDGE, "INVITE ");
    assert_eq!(header(&second, "Route").as_deref(), Some("<sip:one@10.77.0.81:5060;lr;ob>"));
    assert_ne!(header(&first, "Via"), header(&second, "Via"));
    w.send(OTHER_EDGE, &respond(&second, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    w.expect(ALICE, "SIP/2.0 200 ");
    // When there is none left, the caller hears it.
    w.send(ALICE, &invite(BOB_URI, ALICE, "c2"));
    w.expect(ALICE, "SIP/2.0 100 ");
    for edge in [EDGE, OTHER_EDGE] {
        let copy = w.expect(edge, "INVITE ");
        w.send(edge, &respond(&copy, 430, "e", ""));
        w.expect(edge, "ACK ");
    }
    w.expect(ALICE, "SIP/2.0 430 ");
}

#[test]
fn the_same_holds_for_requests_that_are_no_invite_and_flows_by_one_proxy_rfc5626_7() {
    let mut w = world();
    by_edge(&mut w, EDGE, "one", 1);
    by_edge(&mut w, EDGE, "two", 2);
    w.send(ALICE, &options("c1"));
    let first = w.expect(EDGE, "OPTIONS ");
    w.send(EDGE, &respond(&first, 430, "e", ""));
    let second = w.expect(EDGE, "OPTIONS ");
    assert_eq!(header(&second, "Route").as_deref(), Some("<sip:one@10.77.0.80:5060;lr;ob>"));
    w.send(EDGE, &respond(&second, 200, "b", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &invite(BOB_URI, ALICE, "c2"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let first = w.expect(EDGE, "INVITE ");
    w.send(EDGE, &respond(&first, 430, "e", ""));
    let both = w.take(EDGE);
    assert!(both.len() == 2 && both[0].starts_with("ACK ") && both[1].starts_with("INVITE "), "{both:#?}");
    assert_eq!(header(&both[0], "Route").as_deref(), Some("<sip:two@10.77.0.80:5060;lr;ob>"));
    assert_eq!(header(&both[1], "Route").as_deref(), Some("<sip:one@10.77.0.80:5060;lr;ob>"));
}

#[test]
fn a_connection_that_is_gone_gives_way_to_another_one_of_the_phone_rfc5626_7() {
    let mut w = world();
    let tcp = |at: &str| Flow { transport: Transport::Tcp, ..flow_of(addr(at)) };
    for (number, at) in [(1, BOB), (2, BOB2)] {
        w.tick(Duration::from_secs(1));
        let text =
            bob(at, number, &format!(";{INSTANCE};reg-id={number}")).replace("SIP/2.0/UDP", "SIP/2.0/TCP");
        w.engine.handle_datagram(w.now, tcp(at), text.as_bytes(), &w.state);
        w.settle();
        w.expect(at, "SIP/2.0 200 ");
    }
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.send(ALICE, &options("c2"));
    assert_eq!(w.take(BOB2).len(), 2);
    w.expect_nothing(BOB);
    w.engine.handle_transport_failure(w.now, tcp(BOB2), &w.state);
    w.settle();
    let both = w.take(BOB);
    assert!(both.len() == 2, "{both:#?}");
    w.expect(ALICE, "SIP/2.0 100 ");
}

#[test]
fn a_flow_that_says_nothing_gives_way_to_another_one_of_the_phone_also_after_a_takeover_rfc5626_7() {
    let mut w = world();
    direct(&mut w, BOB, 1);
    direct(&mut w, BOB2, 2);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    w.expect(BOB2, "INVITE ");
    w.fail_over(Duration::from_millis(300));
    w.expect(BOB2, "INVITE ");
    w.pass(Duration::from_millis(3100));
    let copy = w.expect(BOB, "INVITE ");
    w.take(BOB2);
    // The move is known to who takes over: the flow that is gone is not asked again, and told to stop.
    w.fail_over(Duration::from_millis(300));
    assert_eq!(w.expect(BOB, "INVITE "), copy);
    assert!(w.take(BOB2).iter().all(|m| m.starts_with("CANCEL ")));
    w.send(BOB, &respond(&copy, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn what_the_phone_has_answered_is_not_asked_again_by_another_flow_rfc5626_7() {
    for status in [404, 486, 500, 503, 603] {
        let mut w = world();
        direct(&mut w, BOB, 1);
        direct(&mut w, BOB2, 2);
        w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
        let copy = w.expect(BOB2, "INVITE ");
        w.send(BOB2, &respond(&copy, status, "b", ""));
        w.send(ALICE, &options("c2"));
        let copy = w.take(BOB2).pop().expect("OPTIONS");
        w.send(BOB2, &respond(&copy, status, "b", ""));
        w.pass(Duration::from_secs(5));
        w.expect_nothing(BOB);
    }
}
