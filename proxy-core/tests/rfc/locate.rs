//! RFC 3263 §4, case by case, on a zone that stands in a table.

use std::net::SocketAddr;

use crate::common::zone::{REACH, Zone, question, text};
use proxy_core::dns::{Destination, Kind, Located, MAX_DESTINATIONS, Reach, Wanted, canonical_name};
use proxy_core::state::Transport;

#[test]
fn a_port_means_addresses_only_rfc3263_4_2() {
    let mut zone = Zone::default()
        .a("h.test", "192.0.2.1")
        .srv("_sip._udp.h.test", 1, 1, 5080, "other.test")
        .a("other.test", "192.0.2.9");
    assert_eq!(zone.list("H.Test.", Some(5070), None), ["udp:192.0.2.1:5070"]);
    assert_eq!(zone.rounds, [vec![question(Kind::A, "h.test")]]);
    assert_eq!(zone.list("h.test", Some(5070), Some(Transport::Tcp)), ["tcp:192.0.2.1:5070"]);
}

#[test]
fn a_transport_without_port_means_its_srv_records_rfc3263_4_2() {
    let mut zone = Zone::default()
        .srv("_sip._tcp.h.test", 1, 1, 5080, "sip.h.test")
        .a("sip.h.test", "192.0.2.5")
        .a("h.test", "192.0.2.1");
    assert_eq!(zone.list("h.test", None, Some(Transport::Tcp)), ["tcp:192.0.2.5:5080"]);
    assert_eq!(zone.list("h.test", None, Some(Transport::Udp)), ["udp:192.0.2.1:5060"]);
}

#[test]
fn naptr_chooses_the_transport_in_its_order_and_others_are_ignored_rfc3263_4_1() {
    let mut zone = Zone::default()
        .naptr("h.test", 50, "SIPS+D2T", "_sips._tcp.h.test")
        .naptr("h.test", 90, "SIP+D2T", "_sip._tcp.h.test")
        .naptr("h.test", 100, "SIP+D2U", "_sip._udp.h.test")
        .srv("_sip._tcp.h.test", 1, 1, 5080, "t.h.test")
        .srv("_sip._udp.h.test", 1, 1, 5090, "u.h.test")
        .a("t.h.test", "192.0.2.5")
        .a("u.h.test", "192.0.2.6");
    assert_eq!(zone.list("h.test", None, None), ["tcp:192.0.2.5:5080"]);
    let without_tcp =
        zone.find(Wanted { host: "h.test", port: None, transport: None }, Reach { tcp: false, ..REACH }, 1);
    let Located::Found(list) = without_tcp else { panic!("{without_tcp:?}") };
    assert_eq!(text(&list[0]), "udp:192.0.2.6:5090");
}

#[test]
fn without_naptr_srv_of_udp_then_tcp_and_without_both_the_address_rfc3263_4_1() {
    let mut zone = Zone::default()
        .srv("_sip._udp.h.test", 1, 1, 5090, "u.h.test")
        .srv("_sip._tcp.h.test", 1, 1, 5080, "t.h.test")
        .a("t.h.test", "192.0.2.5")
        .a("u.h.test", "192.0.2.6");
    assert_eq!(zone.list("h.test", None, None), ["udp:192.0.2.6:5090", "tcp:192.0.2.5:5080"]);
    assert_eq!(zone.rounds.len(), 3, "NAPTR, then both SRV at once, then all addresses: {:?}", zone.rounds);
    let mut zone = Zone::default().a("h.test", "192.0.2.1");
    assert_eq!(zone.list("h.test", None, None), ["udp:192.0.2.1:5060"]);
}

#[test]
fn a_naptr_question_that_fails_does_not_make_the_domain_unreachable() {
    let mut zone = Zone::default().a("h.test", "192.0.2.1");
    zone.broken.push(question(Kind::Naptr, "h.test"));
    zone.broken.push(question(Kind::Srv, "_sip._udp.h.test"));
    assert_eq!(zone.list("h.test", None, None), ["udp:192.0.2.1:5060"]);
}

#[test]
fn all_servers_come_in_the_order_of_priority_for_failover_rfc3263_4_3() {
    let mut zone = Zone::default()
        .srv("_sip._udp.h.test", 20, 0, 5062, "b.test")
        .srv("_sip._udp.h.test", 10, 0, 5061, "a.test")
        .a("a.test", "192.0.2.2")
        .a("a.test", "192.0.2.1")
        .a("b.test", "192.0.2.3");
    let list = zone.list("h.test", None, Some(Transport::Udp));
    assert_eq!(list.len(), 3);
    assert_eq!(list[2], "udp:192.0.2.3:5062");
    assert!(list[0].ends_with(":5061") && list[1].ends_with(":5061"));
}

#[test]
fn both_families_are_asked_where_both_are_there_and_ipv4_goes_first() {
    let mut zone = Zone::default().a("h.test", "2001:db8::1").a("h.test", "192.0.2.1");
    let wanted = Wanted { host: "h.test", port: Some(5060), transport: None };
    let Located::Found(both) = zone.find(wanted, Reach { ipv6: true, ..REACH }, 1) else { panic!() };
    assert_eq!(both.iter().map(text).collect::<Vec<_>>(), ["udp:192.0.2.1:5060", "udp:[2001:db8::1]:5060"]);
    assert_eq!(zone.rounds.len(), 1, "both at once");
    let only6 = zone.find(wanted, Reach { ipv4: false, ipv6: true, tcp: true }, 1);
    let address: SocketAddr = "[2001:db8::1]:5060".parse().expect("an address");
    assert_eq!(only6, Located::Found(vec![Destination { transport: Transport::Udp, address }]));
}

#[test]
fn a_root_target_says_that_there_is_no_service_rfc2782() {
    let mut zone = Zone::default().srv("_sip._tcp.h.test", 0, 0, 5060, "").a("h.test", "192.0.2.1");
    let wanted = Wanted { host: "h.test", port: None, transport: Some(Transport::Tcp) };
    assert_eq!(zone.find(wanted, REACH, 1), Located::Nowhere);
}

#[test]
fn nothing_comes_of_unknown_names_bad_names_and_resolution_that_is_off() {
    let wanted = |host| Wanted { host, port: None, transport: None };
    let mut zone = Zone::default();
    assert_eq!(zone.find(wanted("nobody.test"), REACH, 1), Located::Nowhere);
    let long = ["x".repeat(64), "x.".repeat(130)];
    for bad in ["", ".", "a..b", "ümlaut.test"].into_iter().chain(long.iter().map(String::as_str)) {
        assert_eq!(zone.find(wanted(bad), REACH, 1), Located::Nowhere, "{bad}");
        assert!(zone.rounds.is_empty());
    }
    let mut zone = Zone::default().a("h.test", "192.0.2.1");
    zone.config.enabled = false;
    assert_eq!(zone.find(wanted("h.test"), REACH, 1), Located::Nowhere);
}

#[test]
fn the_same_request_finds_the_same_order_on_every_node_and_others_share_the_load() {
    let mut zone = Zone::default();
    for n in 1..=20 {
        let host = format!("h{n}.test");
        zone = zone.srv("_sip._udp.h.test", 1, 10, 5060, &host).a(&host, &format!("192.0.2.{n}"));
    }
    let wanted = Wanted { host: "h.test", port: None, transport: Some(Transport::Udp) };
    let first = zone.find(wanted, REACH, 77);
    assert_eq!(zone.find(wanted, REACH, 77), first);
    let Located::Found(list) = first else { panic!() };
    assert_eq!(list.len(), MAX_DESTINATIONS);
    let firsts: std::collections::BTreeSet<String> = (0..50)
        .filter_map(|seed| match zone.find(wanted, REACH, seed * 1_000_003) {
            Located::Found(list) => list.first().map(text),
            _ => None,
        })
        .collect();
    assert!(firsts.len() > 10, "{firsts:?}");
}

#[test]
fn names_are_compared_in_lower_case_without_their_last_dot() {
    assert_eq!(canonical_name("SIP.Example.ORG.").as_deref(), Some("sip.example.org"));
}
