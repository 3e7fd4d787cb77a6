//! URIs, Vias and name-addrs.

use proxy_core::msg::{Fault, HeaderName, Host, ListItems, NameAddr, Scheme, Transport, Uri, Via};

fn uri(text: &str) -> Uri<'_> {
    Uri::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn the_parts_of_a_sip_uri_are_told_apart_rfc3261_19_1_1() {
    let u = uri("sips:alice;day=tue:secret@example.com:5061;transport=tcp;lr?subject=x&priority=urgent");
    assert_eq!(u.scheme, Scheme::Sips);
    assert_eq!((u.user, u.password), (Some("alice;day=tue"), Some("secret")));
    assert_eq!((u.host, u.port), (Host::Name("EXAMPLE.com"), Some(5061)));
    assert_eq!((u.transport(), u.is_loose_router()), (Some("tcp"), true));
    assert_eq!(u.headers, Some("subject=x&priority=urgent"));
    let v6 = uri("sip:[2001:db8::1]:5060");
    assert_eq!(v6.host.ip(), "2001:db8::1".parse().ok());
    assert_eq!((v6.port, v6.user), (Some(5060), None));
    let tel = uri("tel:+1-201-555-0123;phone-context=x");
    assert_eq!((tel.scheme, tel.user), (Scheme::Tel, Some("+1-201-555-0123")));
    assert_eq!(uri("urn:service:sos").scheme, Scheme::Other("urn"));
}

#[test]
fn uris_that_two_parsers_might_read_differently_are_refused() {
    let bad = [
        "",
        "sip",
        "sip:",
        "sip:@host",
        "sip:a@b@c",
        "sip:a@h;x=@y",
        "sip:a@h?x=a@b",
        "sip:a b@c",
        "sip:a@",
        "sip:a@[::1",
        "sip:a@[::1]x",
        "sip:a@::1",
        "sip:2001:db8::10",
        "sip:a@h:",
        "sip:a@h:99999",
        "sip:a@h:5a",
        "sip:a@h:+5",
        "sip:a@<h>",
        "sip:a%4@h",
        "sip:a@h\r\n",
        "sip:a@[::1]:",
        "1x:y",
        "tel:",
        "sip:a@h,b",
        "sip:a@h\u{e9}",
        "sip:h:5060:5060",
        "sip:a@[h]",
    ];
    for text in bad {
        assert_eq!(Uri::parse(text), Err(Fault::Uri), "{text}");
    }
}

#[test]
fn equal_uris_are_equal_rfc3261_19_1_4() {
    let pairs = [
        ("sip:%61nna@rome.example;transport=TCP", "sip:anna@ROME.Example;Transport=tcp"),
        ("sip:carl@oslo.example", "sip:carl@oslo.example;newparam=5"),
        ("sip:carl@oslo.example;security=on", "sip:carl@oslo.example;newparam=5"),
        (
            "sip:bert@bonn.example;transport=tcp;method=REGISTER?to=sip:x%40y.example",
            "sip:bert@bonn.example;method=REGISTER;transport=tcp?to=sip:x%40y.example",
        ),
        ("sip:ann@lyon.example?subject=p&priority=urgent", "sip:ann@lyon.example?priority=urgent&subject=p"),
        ("sip:a@[2001:DB8:0::1]", "sip:a@[2001:db8::1]"),
        ("tel:+1-201-555-0123", "tel:+12015550123"),
    ];
    for (a, b) in pairs {
        assert!(uri(a).equivalent(&uri(b)) && uri(b).equivalent(&uri(a)), "{a} {b}");
    }
}

#[test]
fn different_uris_are_different_rfc3261_19_1_4() {
    let pairs = [
        ("SIP:ANNA@rome.example", "sip:anna@rome.example"),
        ("sip:bob@oslo.example", "sip:bob@oslo.example:5060"),
        ("sip:bob@oslo.example", "sip:bob@oslo.example;transport=udp"),
        ("sip:bob@oslo.example", "sip:bob@oslo.example:6000;transport=tcp"),
        ("sip:carl@oslo.example", "sip:carl@oslo.example?Subject=next"),
        ("sip:bob@phone.example", "sip:bob@192.0.2.4"),
        ("sip:carl@oslo.example;security=on", "sip:carl@oslo.example;security=off"),
        ("sip:a@h;maddr=1.2.3.4", "sip:a@h"),
        ("sip:a%40@h", "sip:a@h"),
        ("sip:a:p@h", "sip:a@h"),
        ("sip:a@h", "sips:a@h"),
        ("sip:a@h", "sip:h"),
        ("tel:+1201", "tel:1201"),
        ("tel:1;phone-context=x", "tel:1"),
        ("sip:a@h?x=1&x=1", "sip:a@h?x=1&y=1"),
    ];
    for (a, b) in pairs {
        assert!(!uri(a).equivalent(&uri(b)) && !uri(b).equivalent(&uri(a)), "{a} {b}");
    }
}

#[test]
fn the_key_of_an_aor_leaves_out_what_does_not_count_rfc3261_10_3() {
    let keys = [
        ("sip:%61lice:pw@EXAMPLE.com:5080;x=y?h=v", "alice@example.com"),
        ("sips:alice@example.com", "alice@example.com"),
        ("sip:Alice@example.com", "Alice@example.com"),
        ("sip:a%40b%3b@h", "a%40b%3B@h"),
        ("sip:null-%00@h", "null-%00@h"),
        ("sip:%c3%a9@h", "%C3%A9@h"),
        ("sip:é@h", "%C3%A9@h"),
        ("sip:a%25b@h", "a%25b@h"),
        ("sip:[2001:DB8::0:1]", "[2001:db8::1]"),
        ("tel:+1-(201)-5", "+12015"),
        ("isbn:2983792873", "isbn:2983792873"),
    ];
    for (text, key) in keys {
        assert_eq!(uri(text).aor_key(), key, "{text}");
    }
}

#[test]
fn vias_are_read_with_odd_spacing_ipv6_and_unknown_transports() {
    let via = Via::parse(b"SIP  /   2.0\r\n /UDP\r\n    [2001:db8::9:1] : 6050 ; Branch = z9hG4bKx;rport")
        .expect("via");
    assert_eq!((via.transport, via.port), (Transport::Udp, Some(6050)));
    assert_eq!(via.host.ip(), "2001:db8::9:1".parse().ok());
    assert_eq!((via.branch(), via.rport()), (Some("z9hG4bKx"), Some(None)));
    let via = Via::parse(b"SIP/2.0/UNKNOWN t4.example.com;received=[2001:db8::1];rport=70").expect("via");
    assert_eq!(via.transport, Transport::Other("UNKNOWN"));
    assert_eq!((via.received(), via.rport()), ("2001:db8::1".parse().ok(), Some(Some(70))));
    assert_eq!(Via::parse(b"SIP/2.0/UDP h;branch=z9hG4bK").expect("via").rfc3261_branch(), None);
    for bad in
        ["", "SIP/2.0/UDP", "SIP/2.0/UDP ;x", "SIP//UDP h", "HTTP/2.0/UDP h", "SIP/2.0/ h", "SIP/2.0/UDP a b"]
    {
        assert_eq!(Via::parse(bad.as_bytes()), Err(Fault::Bad(HeaderName::Via)), "{bad}");
    }
}

#[test]
fn responses_go_to_maddr_or_received_or_sent_by_rfc3261_18_2_2() {
    let target =
        |text: &str| Via::parse(text.as_bytes()).expect("via").response_target().map(|a| a.to_string());
    let cases = [
        ("SIP/2.0/UDP 10.0.0.1", Some("10.0.0.1:5060")),
        ("SIP/2.0/UDP 10.0.0.1:70", Some("10.0.0.1:70")),
        ("SIP/2.0/UDP 10.0.0.1:70;rport", Some("10.0.0.1:70")),
        ("SIP/2.0/UDP h:70;received=10.0.0.2", Some("10.0.0.2:70")),
        ("SIP/2.0/UDP h:70;rport=81;received=10.0.0.2", Some("10.0.0.2:81")),
        ("SIP/2.0/UDP [2001:db8::1];received=2001:db8::2", Some("[2001:db8::2]:5060")),
        ("SIP/2.0/UDP 10.0.0.1;maddr=224.2.0.1", Some("224.2.0.1:5060")),
        ("SIP/2.0/UDP h.example", None),
    ];
    for (via, expected) in cases {
        assert_eq!(target(via).as_deref(), expected, "{via}");
    }
}

#[test]
fn name_addr_and_addr_spec_keep_their_parameters_apart_rfc3261_20_10() {
    let bare = NameAddr::parse(b"sip:a@h;unknown;tag=7").expect("bare");
    assert_eq!((bare.uri, bare.tag(), bare.display.len()), ("sip:a@h", Some("7"), 0));
    let full = NameAddr::parse(
        b"\"Q \\\" <x>, \xff\" < sip:a@h;lr?x=y,z > ; q = 0.7;expires=60;reg-id=2;+sip.instance=\"<urn:uuid:1>\"",
    )
    .expect("full");
    assert_eq!((full.uri, full.q(), full.expires()), ("sip:a@h;lr?x=y,z", Ok(700), Some(60)));
    assert_eq!((full.instance(), full.reg_id()), (Some("<urn:uuid:1>"), Some(2)));
    assert_eq!(full.tag(), None);
    let bad = [
        "",
        "\"a <sip:a@h>",
        "<sip:a@h",
        "sip:a@h>",
        "sip:a@h?x=y",
        "A, B <sip:a@h>",
        "<sip:a@h> x",
        "<>",
        "nouri",
        "\"a\" sip:a@h",
        "<sip:a b@h>",
        "<a>",
    ];
    for text in bad {
        assert_eq!(NameAddr::parse(text.as_bytes()), Err(Fault::Uri), "{text}");
    }
}

#[test]
fn q_and_expires_are_taken_only_in_range_rfc3261_20_10() {
    let q = |v: &str| NameAddr::parse(format!("<sip:a>;q={v}").as_bytes()).expect("value").q();
    assert_eq!(
        [q("0"), q("1"), q("0.5"), q("1.000"), q("0.123")],
        [Ok(0), Ok(1000), Ok(500), Ok(1000), Ok(123)]
    );
    for bad in ["1.1", "2", "0.1234", "-1", "x", "", ".", "0.x"] {
        assert!(q(bad).is_err(), "{bad}");
    }
    let expires =
        |v: &str| NameAddr::parse(format!("<sip:a>;expires={v}").as_bytes()).expect("value").expires();
    assert_eq!([expires("0"), expires("280297596632815"), expires("x")], [Some(0), Some(u32::MAX), None]);
}

#[test]
fn lists_part_at_commas_outside_quotes_and_brackets_rfc3261_7_3_1() {
    let items: Vec<_> = ListItems::new(b" , \"a, \\\" b\" <sip:x,y>;p=\"1,2\" ,<sip:z>\r\n ,,*").collect();
    assert_eq!(items, [&b"\"a, \\\" b\" <sip:x,y>;p=\"1,2\""[..], b"<sip:z>", b"*"]);
}

#[test]
fn what_would_end_a_uri_stays_escaped_in_its_key() {
    let key = |text: &str| Uri::parse(text).expect("a URI").aor_key();
    assert_eq!(key("sip:%3cb%3E%22%62@a"), "%3Cb%3E%22b@a");
    let again = format!("sip:{}", key("sip:Route=%3Cx%3E@a"));
    assert_eq!(Uri::parse(&again).map(|uri| uri.aor_key()), Ok(String::from("Route=%3Cx%3E@a")));
}
