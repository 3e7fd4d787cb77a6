//! The registrar beyond RFC 3261: Path (RFC 3327), Service-Route (RFC 3608), outbound (RFC 5626), GRUU (RFC 5627), and the
//! methods of contacts (RFC 3840).

use std::time::Duration;

use crate::common::story::*;
use proxy_core::io::EngineConfig;
use proxy_core::registrar::{OutboundMode, PathMode, RegistrarConfig};

const ALICE: &str = "10.77.0.50:5070";
const BOB: &str = "10.77.0.60:5080";
const BOB2: &str = "10.77.0.61:5080";
const EDGE: &str = "10.77.0.80:5060";
const BOB_AOR: &str = "sip:bob@lab.test";
const INSTANCE: &str = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000000000001>\"";
const OTHER_INSTANCE: &str = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000000000002>\"";

fn world(registrar: RegistrarConfig) -> World {
    World::with(EngineConfig { registrar, ..config() })
}

fn outbound(mode: OutboundMode) -> RegistrarConfig {
    RegistrarConfig { outbound: mode, ..RegistrarConfig::default() }
}

/// A REGISTER of bob at `at` with further headers.
fn bob(at: &str, cseq: u32, params: &str, headers: &str) -> String {
    register("bob", at, cseq, &format!("<sip:bob@{at}>{params}"))
        .replace("Content-Length", &format!("{headers}Content-Length"))
}

fn registered(w: &mut World, at: &str, text: &str) -> String {
    w.send(at, text);
    w.expect(at, "SIP/2.0 200 ")
}

#[test]
fn path_is_kept_and_said_back_as_configured_rfc3327_5_3() {
    let path = format!("Path: <sip:{EDGE};lr>\r\n");
    let knows = format!("Supported: path\r\n{path}");
    for (mode, plain, supported) in [
        (PathMode::Silent, Some(None), Some(None)),
        (PathMode::Lazy, Some(None), Some(Some(format!("<sip:{EDGE};lr>")))),
        (PathMode::Strict, None, Some(Some(format!("<sip:{EDGE};lr>")))),
    ] {
        for (headers, expected) in [(&path, &plain), (&knows, &supported)] {
            let mut w = world(RegistrarConfig { path: mode, ..RegistrarConfig::default() });
            w.send(EDGE, &bob(BOB, 1, "", headers));
            match expected {
                Some(said) => {
                    let ok = w.expect(EDGE, "SIP/2.0 200 ");
                    assert_eq!(&header(&ok, "Path"), said, "{mode:?}");
                    w.send(ALICE, &invite(BOB_AOR, ALICE, "c1"));
                    let copy = w.expect(EDGE, &format!("INVITE sip:bob@{BOB} "));
                    assert_eq!(header(&copy, "Route"), Some(format!("<sip:{EDGE};lr>")));
                }
                None => {
                    let refusal = w.expect(EDGE, "SIP/2.0 420 ");
                    assert_eq!(header(&refusal, "Unsupported").as_deref(), Some("path"));
                }
            }
        }
    }
}

#[test]
fn service_route_is_told_in_order_rfc3608_6_1() {
    let routes = vec![String::from("<sip:10.77.0.100;lr>"), String::from("<sip:core.lab.test;lr>")];
    let mut w = world(RegistrarConfig { service_route: routes, ..RegistrarConfig::default() });
    let ok = registered(&mut w, BOB, &bob(BOB, 1, "", ""));
    assert_eq!(header(&ok, "Service-Route").as_deref(), Some("<sip:10.77.0.100;lr>, <sip:core.lab.test;lr>"));
}

#[test]
fn outbound_is_refused_where_it_is_off_and_demanded_where_it_is_required_rfc5626_6() {
    let mut w = world(outbound(OutboundMode::Off));
    w.send(BOB, &bob(BOB, 1, &format!(";{INSTANCE};reg-id=1"), "Require: outbound\r\n"));
    assert_eq!(header(&w.expect(BOB, "SIP/2.0 420 "), "Unsupported").as_deref(), Some("outbound"));
    let mut w = world(outbound(OutboundMode::Required));
    w.send(BOB, &bob(BOB, 1, "", ""));
    assert_eq!(header(&w.expect(BOB, "SIP/2.0 421 "), "Require").as_deref(), Some("outbound"));
}

#[test]
fn outbound_is_confirmed_with_require_and_flow_timer_rfc5626_6() {
    let config = RegistrarConfig { flow_timer_s: Some(120), ..outbound(OutboundMode::Supported) };
    let mut w = world(config);
    let ok = registered(
        &mut w,
        BOB,
        &bob(BOB, 1, &format!(";{INSTANCE};reg-id=1"), "Supported: outbound, path\r\n"),
    );
    assert_eq!(header(&ok, "Require").as_deref(), Some("outbound"));
    assert_eq!(header(&ok, "Flow-Timer").as_deref(), Some("120"));
    assert!(header(&ok, "Contact").is_some_and(|c| c.contains(";reg-id=1")), "{ok}");
    // Who does not support it is registered as ever.
    let ok = registered(&mut w, BOB2, &bob(BOB2, 1, "", ""));
    assert_eq!((header(&ok, "Require"), header(&ok, "Flow-Timer")), (None, None));
}

#[test]
fn a_first_hop_without_outbound_is_a_439_rfc5626_6() {
    let via = |text: String| {
        text.replacen("Via:", &format!("Via: SIP/2.0/UDP {EDGE};branch=z9hG4bKedge\r\nVia:"), 1)
    };
    let headers = |path: &str| format!("Supported: outbound, path\r\n{path}");
    let flow = format!(";{INSTANCE};reg-id=1");
    let mut w = world(outbound(OutboundMode::Supported));
    w.send(EDGE, &via(bob(BOB, 1, &flow, &headers(""))));
    w.expect(EDGE, "SIP/2.0 439 First Hop Lacks Outbound Support");
    let wrong = format!("Path: <sip:{EDGE};lr;ob>, <sip:first.test;lr>\r\n");
    w.send(EDGE, &via(bob(BOB, 2, &flow, &headers(&wrong))));
    w.expect(EDGE, "SIP/2.0 439 ");
    let right = format!("Path: <sip:{EDGE};lr>, <sip:first.test;lr;ob>\r\n");
    w.send(EDGE, &via(bob(BOB, 3, &flow, &headers(&right))));
    w.expect(EDGE, "SIP/2.0 200 ");
}

#[test]
fn one_register_makes_one_flow_rfc5626_6() {
    let mut w = world(outbound(OutboundMode::Supported));
    let two = format!(";{INSTANCE};reg-id=1, <sip:bob@{BOB2}>;{INSTANCE};reg-id=2");
    w.send(BOB, &bob(BOB, 1, &two, "Supported: outbound\r\n"));
    w.expect(BOB, "SIP/2.0 400 More Than One reg-id");
}

#[test]
fn a_flow_is_used_whatever_the_contact_says_and_one_of_several_is_called_rfc5626_7() {
    let mut w = world(outbound(OutboundMode::Supported));
    let first = "198.51.100.7:31000";
    let second = "198.51.100.7:31001";
    for (at, id) in [(first, 1), (second, 2)] {
        let text = bob(BOB, 1, &format!(";{INSTANCE};reg-id={id}"), "Supported: outbound\r\n")
            .replace("Call-ID: ", &format!("Call-ID: {id}-"))
            .replace("z9hG4bKr", &format!("z9hG4bK{id}r"));
        registered(&mut w, at, &text);
        w.tick(Duration::from_secs(1));
    }
    w.send(ALICE, &invite(BOB_AOR, ALICE, "c1"));
    w.expect(second, &format!("INVITE sip:bob@{BOB} "));
    w.expect_nothing(first);
    w.expect_nothing(BOB);
}

#[test]
fn gruus_are_given_to_who_wants_them_rfc5627_5_3() {
    let mut w = world(RegistrarConfig { gruu: true, ..RegistrarConfig::default() });
    let ok = registered(&mut w, BOB, &bob(BOB, 1, &format!(";{INSTANCE}"), ""));
    assert!(!ok.contains("gruu="), "{ok}");
    let ok = registered(&mut w, BOB, &bob(BOB, 2, &format!(";{INSTANCE}"), "Supported: gruu\r\n"));
    let contact = header(&ok, "Contact").expect("a contact");
    assert!(
        contact.contains(";pub-gruu=\"sip:bob@lab.test;gr=urn:uuid:00000000-0000-1000-8000-000000000001\""),
        "{contact}"
    );
    assert!(contact.contains(";temp-gruu=\"sip:tgruu.") && contact.contains("@lab.test;gr\""), "{contact}");
    assert_eq!(header(&ok, "Supported").as_deref(), Some("path, gruu"));
    // Off by default, as in Kamailio.
    let mut w = world(RegistrarConfig::default());
    let ok = registered(&mut w, BOB, &bob(BOB, 1, &format!(";{INSTANCE}"), "Supported: gruu\r\n"));
    assert!(!ok.contains("gruu="), "{ok}");
}

fn gruu_of(ok: &str, name: &str) -> String {
    let contact = header(ok, "Contact").expect("a contact");
    let (_, rest) = contact.split_once(&format!("{name}=\"")).expect("a GRUU");
    rest.split('"').next().expect("its end").to_owned()
}

#[test]
fn gruus_lead_to_their_instance_alone_also_after_a_takeover_rfc5627_5_4() {
    let mut w = world(RegistrarConfig { gruu: true, ..RegistrarConfig::default() });
    let ok = registered(&mut w, BOB, &bob(BOB, 1, &format!(";{INSTANCE}"), "Supported: gruu\r\n"));
    registered(&mut w, BOB2, &bob(BOB2, 1, &format!(";{OTHER_INSTANCE}"), "Supported: gruu\r\n"));
    let refreshed = registered(
        &mut w,
        BOB,
        &bob(BOB, 2, &format!(";{INSTANCE}"), "Supported: gruu\r\n").replace("Expires: 1", ""),
    );
    w.fail_over(Duration::from_millis(300));
    let (public, first) = (gruu_of(&ok, "pub-gruu"), gruu_of(&ok, "temp-gruu"));
    let second = refreshed
        .split("temp-gruu=\"")
        .find(|t| t.starts_with("sip:tgruu.") && !first.starts_with(t.split('"').next().unwrap_or_default()));
    let second = second.and_then(|t| t.split('"').next()).expect("another one").to_owned();
    for (n, gruu) in [public, first.clone(), second].into_iter().enumerate() {
        w.send(ALICE, &invite(&gruu, ALICE, &format!("c{n}")));
        w.expect(BOB, &format!("INVITE sip:bob@{BOB} "));
        w.expect_nothing(BOB2);
        w.take(ALICE);
    }
    // A registration with another Call-ID ends the temporary ones, and not the public one.
    let anew = bob(BOB, 1, &format!(";{INSTANCE}"), "Supported: gruu\r\n")
        .replace("reg-bob", "new-bob")
        .replace("z9hG4bKr", "z9hG4bKn");
    registered(&mut w, BOB, &anew);
    w.send(ALICE, &invite(&first, ALICE, "c8"));
    w.expect(ALICE, "SIP/2.0 404 ");
    let public = gruu_of(&ok, "pub-gruu");
    w.send(ALICE, &invite(&public, ALICE, "c9"));
    w.expect(BOB, "INVITE ");
}

#[test]
fn an_instance_that_is_not_registered_is_unavailable_rfc5627_5_4() {
    let mut w = world(RegistrarConfig { gruu: true, ..RegistrarConfig::default() });
    registered(&mut w, BOB, &bob(BOB, 1, &format!(";{INSTANCE}"), ""));
    w.send(ALICE, &invite("sip:bob@lab.test;gr=urn:uuid:00000000-0000-1000-8000-000000000009", ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 480 ");
    w.expect_nothing(BOB);
}

#[test]
fn requests_go_to_contacts_that_take_their_method_and_otherwise_get_405_as_with_kamailio() {
    let mut w = world(RegistrarConfig::default());
    registered(&mut w, BOB, &bob(BOB, 1, "", "Allow: INVITE, ACK, BYE, CANCEL\r\n"));
    w.send(ALICE, &request("MESSAGE", BOB_AOR, ALICE, "m1", ""));
    w.expect(ALICE, "SIP/2.0 405 ");
    // The contact's own word counts more than Allow.
    registered(&mut w, BOB2, &bob(BOB2, 1, ";methods=\"MESSAGE\"", "Allow: INVITE\r\n"));
    w.send(ALICE, &request("MESSAGE", BOB_AOR, ALICE, "m2", ""));
    w.expect(BOB2, "MESSAGE ");
    w.expect_nothing(BOB);
    w.send(ALICE, &invite(BOB_AOR, ALICE, "c1"));
    w.expect(BOB, "INVITE ");
    w.expect_nothing(BOB2);
    let mut w = world(RegistrarConfig { method_filter: false, ..RegistrarConfig::default() });
    registered(&mut w, BOB, &bob(BOB, 1, "", "Allow: INVITE\r\n"));
    w.send(ALICE, &request("MESSAGE", BOB_AOR, ALICE, "m3", ""));
    w.expect(BOB, "MESSAGE ");
}
