//! Registrations of more than a Contact, in the lab: Path and Service-Route, GRUUs, and flows of clients, each found by
//! a node that has only read of it in the log. Needs root and the lab's packages; says so without.

use std::time::Duration;

use crate::common::{lab, lose_and_restart, lose_the_active_node, until};
use crate::phone::{Phone, status};
use ha_tests::lab::config::DOMAIN;
use ha_tests::lab::net;
use ha_tests::phones::tiny::header;

const INSTANCE: &str = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-00000000000a>\"";
const OTHER: &str = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-00000000000b>\"";
/// Time between two sendings of a request without an answer (RFC 3261 §17.1.2.1: T1).
const AGAIN: Duration = Duration::from_millis(500);
/// Where nothing more comes: longer than a takeover and a repetition.
const QUIET: Duration = Duration::from_secs(2);

/// Registers with these parameters of the Contact and these headers. The 200.
fn registered(phone: &mut Phone, cseq: u32, parameters: &str, headers: &str) -> String {
    let headers = format!("From: <{0}>;tag=r\r\nTo: <{0}>\r\nExpires: 3600\r\n{headers}", phone.uri());
    let own = phone.contact();
    let call = format!("reg-{own}");
    let request = phone.request("REGISTER", &format!("sip:{DOMAIN}"), &call, cseq, &headers, "");
    let answer = phone.ask(&request.replace(&format!("<{own}>"), &format!("<{own}>{parameters}")));
    assert_eq!(status(&answer), 200, "{answer}");
    answer
}

/// A message that this phone gets and the other does not.
fn only(alice: &mut Phone, to: &str, call: &str, phone: &mut Phone, other: &mut Phone) -> String {
    let request = alice.first("MESSAGE", to, call, "", "");
    let mut came = None;
    until("the message comes", || {
        alice.send(&request);
        came = phone.within_time(AGAIN, |m| m.starts_with("MESSAGE "));
        came.is_some()
    });
    let came = came.expect("it has come");
    assert_eq!(header(&came, "Call-ID"), Some(call));
    phone.answer(&came, 200, "");
    assert_eq!(status(&alice.answer_to(&request)), 200);
    let more = other.within_time(QUIET, |m| m.starts_with("MESSAGE "));
    assert!(more.is_none(), "{more:?}");
    came
}

fn parameter(answer: &str, name: &str) -> String {
    let contact = header(answer, "Contact").expect("Contact");
    let (_, rest) =
        contact.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("no {name}: {answer}"));
    rest.split('"').next().expect("its end").to_owned()
}

#[test]
fn gruus_that_a_lost_node_has_given_lead_to_their_phone_alone_rfc5627_5_4() {
    let Some((mut guard, _logs)) = lab("\n[registrar]\ngruu = true\n") else { return };
    let lab = &mut guard.lab;
    let mut alice = Phone::open(lab, "alice", 5071);
    let (mut desk, mut mobile) = (Phone::open(lab, "bob", 5072), Phone::open(lab, "bob", 5073));
    let ok = registered(&mut desk, 1, &format!(";{INSTANCE}"), "Supported: gruu\r\n");
    registered(&mut mobile, 1, &format!(";{OTHER}"), "Supported: gruu\r\n");
    let (public, temporary) = (parameter(&ok, "pub-gruu"), parameter(&ok, "temp-gruu"));
    lose_and_restart(lab);
    only(&mut alice, &public, "g1", &mut desk, &mut mobile);
    only(&mut alice, &temporary, "g2", &mut desk, &mut mobile);
    // Refreshed at the second node: the public one is the same, the first temporary one still leads there.
    let again = registered(&mut desk, 2, &format!(";{INSTANCE}"), "Supported: gruu\r\n");
    assert!(again.contains(&format!("pub-gruu=\"{public}\"")), "{again}");
    lose_the_active_node(lab);
    only(&mut alice, &temporary, "g3", &mut desk, &mut mobile);
    only(&mut alice, &public, "g4", &mut desk, &mut mobile);
}

#[test]
fn the_path_of_a_registration_is_taken_and_its_service_route_told_by_every_node_rfc3327_rfc3608() {
    let route = format!("<sip:{}:5060;lr>", net::VIP4);
    let Some((mut guard, _logs)) = lab(&format!("\n[registrar]\nservice_route = [\"{route}\"]\n")) else {
        return;
    };
    let lab = &mut guard.lab;
    let (mut alice, mut bob) = (Phone::open(lab, "alice", 5071), Phone::open(lab, "bob", 5072));
    let mut edge = Phone::open(lab, "edge", 5074);
    let path = format!("<sip:edge@{}:5074;lr>", net::CLIENT4);
    let headers = format!("Supported: path\r\nPath: {path}\r\n");
    for cseq in 1..=2 {
        let ok = registered(&mut bob, cseq, "", &headers);
        assert_eq!(header(&ok, "Service-Route"), Some(route.as_str()), "{ok}");
        assert_eq!(header(&ok, "Path"), Some(path.as_str()), "{ok}");
        lose_and_restart(lab);
        let to = bob.uri();
        let came = only(&mut alice, &to, &format!("p{cseq}"), &mut edge, &mut bob);
        assert!(came.starts_with(&format!("MESSAGE {} ", bob.contact())), "{came}");
        assert_eq!(header(&came, "Route"), Some(path.as_str()), "{came}");
    }
}

#[test]
fn of_the_flows_of_a_phone_one_is_used_by_the_next_node_and_the_other_where_that_one_fails_rfc5626_5_3() {
    let Some((mut guard, _logs)) = lab("\n[registrar]\noutbound = \"supported\"\nflow_timer_s = 30\n") else {
        return;
    };
    let lab = &mut guard.lab;
    let mut alice = Phone::open(lab, "alice", 5071);
    let (mut first, mut second) = (Phone::open(lab, "bob", 5072), Phone::open(lab, "bob", 5073));
    for (phone, id) in [(&mut first, 1), (&mut second, 2)] {
        let ok = registered(phone, 1, &format!(";{INSTANCE};reg-id={id}"), "Supported: outbound, path\r\n");
        assert_eq!(
            (header(&ok, "Require"), header(&ok, "Flow-Timer")),
            (Some("outbound"), Some("30")),
            "{ok}"
        );
    }
    lose_the_active_node(lab);
    let to = second.uri();
    only(&mut alice, &to, "f1", &mut second, &mut first);
}
