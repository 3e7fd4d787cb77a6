//! RFC 3263, section by section: finding servers (§4) on a zone that stands in a table, and what follows for requests and
//! responses (§4.3, §5) through one engine. More of §4 is in `dns_locate.rs` and `engine_names.rs`; a real DNS server is
//! asked in `agent/tests/names.rs`.

use crate::common::zone;
use std::time::Duration;

use crate::common::story::*;
use crate::common::zone::{REACH, Zone, question};
use proxy_core::dns::{Kind, Located, Reach, Record, Srv, Wanted};
use proxy_core::io::EngineConfig;
use proxy_core::routing::{Mode, RoutingConfig};
use proxy_core::state::Transport;

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB_URI: &str = "sip:bob@lab.test";

/// §4.1's own example: example.com with NAPTR for TLS, TCP and UDP.
fn example() -> Zone {
    Zone::default()
        .naptr("example.com", 50, "SIPS+D2T", "_sips._tcp.example.com")
        .naptr("example.com", 90, "SIP+D2T", "_sip._tcp.example.com")
        .naptr("example.com", 100, "SIP+D2U", "_sip._udp.example.com")
        .srv("_sips._tcp.example.com", 0, 1, 5061, "tls.example.com")
        .srv("_sip._tcp.example.com", 0, 1, 5060, "server1.example.com")
        .srv("_sip._tcp.example.com", 1, 2, 5062, "server2.example.com")
        .srv("_sip._udp.example.com", 0, 1, 5060, "server3.example.com")
        .a("tls.example.com", "192.0.2.9")
        .a("server1.example.com", "192.0.2.1")
        .a("server2.example.com", "192.0.2.2")
        .a("server3.example.com", "192.0.2.3")
        .a("example.com", "192.0.2.7")
}

#[test]
fn the_best_naptr_whose_transport_we_have_is_taken_and_those_of_tls_are_passed_over_rfc3263_4_1() {
    let list = example().list("example.com", None, None);
    assert_eq!(list, ["tcp:192.0.2.1:5060", "tcp:192.0.2.2:5062"]);
}

#[test]
fn a_naptr_of_a_transport_that_is_switched_off_is_passed_over_rfc3263_4_1() {
    let without_tcp = Reach { tcp: false, ..REACH };
    let wanted = Wanted { host: "example.com", port: None, transport: None };
    let Located::Found(list) = example().find(wanted, without_tcp, 1) else { panic!("there is one by UDP") };
    let list: Vec<_> = list.iter().map(zone::text).collect();
    assert_eq!(list, ["udp:192.0.2.3:5060"]);
}

#[test]
fn a_transport_in_the_uri_asks_for_no_naptr_rfc3263_4_1() {
    let mut zone = example();
    assert_eq!(zone.list("example.com", None, Some(Transport::Udp)), ["udp:192.0.2.3:5060"]);
    assert!(zone.rounds.iter().flatten().all(|q| q.kind != Kind::Naptr), "{:?}", zone.rounds);
}

#[test]
fn an_explicit_port_asks_for_neither_naptr_nor_srv_and_means_udp_rfc3263_4_1_4_2() {
    let mut zone = example();
    assert_eq!(zone.list("example.com", Some(5070), None), ["udp:192.0.2.7:5070"]);
    assert_eq!(zone.list("example.com", Some(5070), Some(Transport::Tcp)), ["tcp:192.0.2.7:5070"]);
    assert!(zone.rounds.iter().flatten().all(|q| q.kind == Kind::A), "{:?}", zone.rounds);
}

#[test]
fn a_domain_without_naptr_is_asked_for_the_srv_of_each_transport_rfc3263_4_1() {
    let mut zone = Zone::default()
        .srv("_sip._tcp.only.test", 0, 1, 5066, "h.only.test")
        .a("h.only.test", "192.0.2.4")
        .a("only.test", "192.0.2.5");
    assert_eq!(zone.list("only.test", None, None), ["tcp:192.0.2.4:5066"]);
}

#[test]
fn a_domain_with_nothing_but_an_address_is_asked_there_by_udp_at_5060_rfc3263_4_2() {
    let mut zone = Zone::default().a("bare.test", "192.0.2.6");
    assert_eq!(zone.list("bare.test", None, None), ["udp:192.0.2.6:5060"]);
    assert_eq!(zone.list("bare.test", None, Some(Transport::Tcp)), ["tcp:192.0.2.6:5060"]);
}

#[test]
fn the_port_of_an_srv_record_counts_and_each_of_its_addresses_is_tried_rfc3263_4_2() {
    let mut zone = Zone::default()
        .srv("_sip._udp.many.test", 0, 1, 5099, "h.many.test")
        .a("h.many.test", "192.0.2.11")
        .a("h.many.test", "192.0.2.12");
    let mut list = zone.list("many.test", None, Some(Transport::Udp));
    list.sort();
    assert_eq!(list, ["udp:192.0.2.11:5099", "udp:192.0.2.12:5099"]);
}

/// `phone.test` is where Bob is: two servers by UDP.
fn world(config: EngineConfig) -> World {
    let mut w = World::with(config);
    let srv =
        |priority, port, target: &str| Record::Srv(Srv { priority, weight: 1, port, target: target.into() });
    let a = |ip: &str| Record::Address(ip.parse().expect("an address"));
    let udp = question(Kind::Srv, "_sip._udp.phone.test");
    w.zone.insert(udp, vec![srv(10, 5081, "first.test"), srv(20, 5082, "second.test")]);
    w.zone.insert(question(Kind::A, "first.test"), vec![a("10.77.0.211")]);
    w.zone.insert(question(Kind::A, "second.test"), vec![a("10.77.0.212")]);
    w.zone.insert(question(Kind::A, "phone.test"), vec![a("10.77.0.213")]);
    w
}

const FIRST: &str = "10.77.0.211:5081";
const SECOND: &str = "10.77.0.212:5082";

#[test]
fn the_next_server_gets_the_request_with_another_branch_when_the_first_is_not_there_rfc3263_4_3() {
    let mut w = world(config());
    w.register("bob", BOB);
    w.send(BOB, &register("bob", BOB, 2, "<sip:bob@phone.test>"));
    w.take(BOB);
    w.send(BOB, &register("bob", BOB, 3, &format!("<sip:bob@{BOB}>;expires=0")));
    w.take(BOB);
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "c1", ""));
    w.resolve();
    let first = w.expect(FIRST, "MESSAGE ");
    w.engine.handle_transport_failure(w.now, flow_of(addr(FIRST)), &w.state);
    w.settle();
    let second = w.expect(SECOND, "MESSAGE ");
    assert_eq!(uri_of(&first), uri_of(&second));
    let branch = |m: &str| header(m, "Via").expect("Via").split(", ").next().expect("one").to_owned();
    assert_ne!(branch(&first), branch(&second), "another transaction (§4.3)");
}

fn stateless() -> EngineConfig {
    EngineConfig { routing: RoutingConfig { mode: Mode::Stateless, ..RoutingConfig::default() }, ..config() }
}

/// What Bob answers to a MESSAGE of Alice, who calls herself by this name; somebody has taken away what we noted of her
/// address.
fn answer_to(w: &mut World, sent_by: &str) -> String {
    w.register("bob", BOB);
    let text = request("MESSAGE", BOB_URI, ALICE, "c1", "");
    w.send(ALICE, &text.replace(&format!("SIP/2.0/UDP {ALICE};"), &format!("SIP/2.0/UDP {sent_by};")));
    let got = w.expect(BOB, "MESSAGE ");
    let host = ALICE.split(':').next().expect("a host");
    let bare = got.replace(&format!(";received={host}"), "").replace(";rport=5061", "");
    assert!(!bare.contains("received"), "{bare}");
    respond(&bare, 200, "b1", "")
}

#[test]
fn a_response_goes_to_the_servers_of_the_name_in_its_via_rfc3263_5() {
    let mut w = world(stateless());
    let answer = answer_to(&mut w, "phone.test");
    // Nothing is kept in this mode: it is the repetition that finds the address.
    w.send(BOB, &answer);
    let asked = w.resolve();
    assert!(asked.contains(&question(Kind::Srv, "_sip._udp.phone.test")), "{asked:?}");
    assert!(asked.iter().all(|q| q.kind != Kind::Naptr), "the Via says the transport: {asked:?}");
    for _ in 0..6 {
        w.send(BOB, &answer);
        w.resolve();
    }
    let heard = w.take(FIRST);
    assert!(!heard.is_empty() && heard.iter().all(|m| m.starts_with("SIP/2.0 200 ")), "{heard:?}");
    w.expect_nothing(SECOND);
}

#[test]
fn a_response_to_a_name_with_a_port_goes_to_its_address_at_that_port_rfc3263_5() {
    let mut w = world(stateless());
    let answer = answer_to(&mut w, "phone.test:5099");
    w.send(BOB, &answer);
    let asked = w.resolve();
    assert!(asked.iter().all(|q| matches!(q.kind, Kind::A | Kind::Aaaa)), "{asked:?}");
    w.send(BOB, &answer);
    w.expect("10.77.0.213:5099", "SIP/2.0 200 ");
}

#[test]
fn where_received_is_there_no_name_is_looked_up_for_a_response_rfc3263_5_rfc3261_18_2_2() {
    for config in [config(), stateless()] {
        let mut w = world(config);
        w.register("bob", BOB);
        let text = request("MESSAGE", BOB_URI, ALICE, "c1", "");
        w.send(ALICE, &text.replace(&format!("SIP/2.0/UDP {ALICE};"), "SIP/2.0/UDP phone.test;"));
        let got = w.expect(BOB, "MESSAGE ");
        w.send(BOB, &respond(&got, 200, "b1", ""));
        w.expect(ALICE, "SIP/2.0 200 ");
        assert!(w.asked.is_empty(), "{:?}", w.asked);
        w.pass(Duration::from_secs(1));
    }
}
