//! Our own torture messages, in the spirit of RFC 4475.

use proxy_core::msg::{
    Fault, HeaderName, MAX_HEADERS, MAX_MESSAGE_BYTES, Message, Method, ParseError, Refusal, Response,
    SharedMessage, ViaStamp, call_id_of,
};

const GOOD: &str = "OPTIONS sip:bob@relevo.example SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.9:5062;branch=z9hG4bKgood\r\n\
    From: <sip:alice@relevo.example>;tag=a1\r\n\
    To: <sip:bob@relevo.example>\r\n\
    Call-ID: good@192.0.2.9\r\n\
    CSeq: 41 OPTIONS\r\n\
    Max-Forwards: 70\r\n\
    Content-Length: 0\r\n\r\n";

fn check(text: &str) -> Result<(), Refusal> {
    Message::parse(text.as_bytes()).expect("parses").check_request()
}

/// The fault found in [`GOOD`] after `from` was replaced by `to`; it must be one that can be answered.
fn fault(from: &str, to: &str) -> Option<Fault> {
    assert!(GOOD.contains(from), "{from}");
    let refusal = check(&GOOD.replacen(from, to, 1)).err()?;
    assert!(refusal.answer || to.starts_with("ACK"), "{to}");
    Some(refusal.fault)
}

#[test]
fn a_good_request_passes_with_crlf_and_with_lf() {
    assert_eq!(check(GOOD), Ok(()));
    assert_eq!(check(&GOOD.replace("\r\n", "\n")), Ok(()));
    assert_eq!(check(&format!("\r\n\r\n{GOOD}")), Ok(()));
}

#[test]
fn what_is_no_message_is_dropped() {
    let parse = |text: &str| Message::parse(text.as_bytes()).map(drop);
    for text in ["", "\r\n", "\r\n\r\n", "\n"] {
        assert_eq!(parse(text), Err(ParseError::Keepalive));
    }
    for text in [
        "hello",
        "GET / HTTP/1.1\r\n\r\n",
        "INVITE SIP/2.0\r\n\r\n",
        "\0\0\0\0",
        " SIP/2.0",
        "I\rN sip:x SIP/2.0\r\n",
    ] {
        assert_eq!(parse(text), Err(ParseError::NotSip), "{text}");
    }
    let long = format!("INVITE sip:x SIP/2.0\r\nX: {}\r\n\r\n", "y".repeat(MAX_MESSAGE_BYTES));
    assert_eq!(parse(&long), Err(ParseError::TooLong(long.len())));
}

#[test]
fn a_flood_of_via_headers_is_refused_within_bounds() {
    let via = |n: usize| format!("INVITE sip:x SIP/2.0\r\n{}\r\n", "v:x\r\n".repeat(n));
    assert!(Message::parse(via(MAX_HEADERS).as_bytes()).is_ok());
    assert_eq!(Message::parse(via(MAX_HEADERS + 1).as_bytes()).map(drop), Err(ParseError::TooManyHeaders));
    assert!(Message::parse(via(1_000_000).as_bytes()).is_err());
    // In one line they are values, not headers; reading them all is linear work.
    let listed = GOOD.replace("Via: ", &format!("Via: {}", "SIP/2.0/UDP h,".repeat(4000)));
    assert_eq!(Message::parse(listed.as_bytes()).expect("parses").vias().count(), 4001);
}

#[test]
fn thousands_of_parameters_are_refused_and_answered_within_bounds() {
    let text = GOOD.replace(";branch", &format!("{};branch", ";received=9.9.9.9".repeat(3000)));
    let message = Message::parse(text.as_bytes()).expect("parses");
    let refused = Err(Refusal { fault: Fault::Bad(HeaderName::Via), answer: true });
    assert_eq!(message.check_request(), refused);
    let mut out = Vec::new();
    let stamp = ViaStamp { received: Some([1, 2, 3, 4].into()), rport: None };
    Response::new(&message, 400, "").stamp_via(stamp).write(&mut out);
    assert!(out.len() < text.len() + 100);
}

#[test]
fn each_mandatory_header_is_missed_by_name_rfc3261_8_1_1() {
    for name in [HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq] {
        let found = fault(&format!("\r\n{}:", name.as_str()), "\r\nX-Gone:");
        assert_eq!(found, Some(Fault::Missing(name)));
    }
    let without_via = check(&GOOD.replace("Via:", "X:"));
    assert_eq!(without_via, Err(Refusal { fault: Fault::Missing(HeaderName::Via), answer: false }));
}

#[test]
fn single_headers_that_repeat_are_refused_in_compact_form_too_rfc4475_3_3_8() {
    let repeats = [
        (HeaderName::To, "t: <sip:x@y>"),
        (HeaderName::From, "f: <sip:x@y>;tag=1"),
        (HeaderName::CallId, "i: other"),
        (HeaderName::CSeq, "CSEQ: 41 OPTIONS"),
        (HeaderName::MaxForwards, "max-forwards: 70"),
        (HeaderName::ContentLength, "l: 0"),
    ];
    for (name, line) in repeats {
        let found = fault("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"));
        assert_eq!(found, Some(Fault::Repeated(name)), "{line}");
    }
}

#[test]
fn absurd_numbers_are_refused_rfc4475_3_1_2_4() {
    let cases = [
        ("41 OPTIONS", "4294967296 OPTIONS", HeaderName::CSeq),
        ("41 OPTIONS", "-41 OPTIONS", HeaderName::CSeq),
        ("Max-Forwards: 70", "Max-Forwards: 256", HeaderName::MaxForwards),
        ("Max-Forwards: 70", "Max-Forwards: 7a", HeaderName::MaxForwards),
        ("Max-Forwards: 70", "Expires: 4294967296", HeaderName::Expires),
        ("Max-Forwards: 70", "Expires: soon", HeaderName::Expires),
        ("Length: 0", "Length: -1", HeaderName::ContentLength),
        ("Length: 0", "Length: 99999999999999999999", HeaderName::ContentLength),
        ("Length: 0", "Length:", HeaderName::ContentLength),
        ("9:5062", "9:99999", HeaderName::Via),
    ];
    for (from, to, name) in cases {
        let refusal = check(&GOOD.replacen(from, to, 1)).expect_err(to);
        assert_eq!(refusal.fault, Fault::Bad(name), "{to}");
    }
}

#[test]
fn content_length_cuts_the_body_and_must_not_exceed_it_rfc3261_18_3() {
    let with = |length: &str, body: &str| GOOD.replace("Content-Length: 0", length) + body;
    let body = |text: &str| Message::parse(text.as_bytes()).expect("parses").body().to_vec();
    assert_eq!(body(&with("Content-Length: 2", "abcd")), b"ab");
    assert_eq!(body(&with("X: y", "abcd")), b"abcd");
    assert_eq!(body(&with("Content-Length: 4", "abcd")), b"abcd");
    assert_eq!(check(&with("l: 5", "abcd")).map_err(|r| r.fault), Err(Fault::BodyTooShort));
    let mut binary = with("Content-Length: 4", "").into_bytes();
    binary.extend_from_slice(&[0, 255, 13, 10]);
    assert_eq!(Message::parse(&binary).expect("parses").body(), [0, 255, 13, 10]);
}

#[test]
fn start_lines_with_stray_white_space_are_refused_rfc4475_3_1_2_9() {
    assert_eq!(fault("OPTIONS sip", "OPTIONS  sip"), Some(Fault::StartLine));
    assert_eq!(fault("example SIP/2.0", "example  SIP/2.0"), Some(Fault::StartLine));
    assert_eq!(fault("example SIP/2.0", "example; lr SIP/2.0"), Some(Fault::StartLine));
    assert_eq!(fault("example SIP/2.0", "example SIP/2.0 "), None);
    assert_eq!(fault("SIP/2.0\r\n", "SIP/3.0\r\n"), Some(Fault::Version));
    assert_eq!(Fault::Version.status(), 505);
}

#[test]
fn request_uris_are_judged_by_scheme_and_shape() {
    let uri = "sip:bob@relevo.example";
    assert_eq!(fault(uri, "tel:+34555"), None);
    assert_eq!(fault(uri, "sips:bob@relevo.example"), None);
    assert_eq!(fault(uri, "gopher://x").map(Fault::status), Some(416));
    assert_eq!(fault(uri, "<sip:bob@relevo.example>"), Some(Fault::RequestUri));
    assert_eq!(fault(uri, "sip:bob@relevo.example?Route=x"), Some(Fault::RequestUri));
    assert_eq!(fault(uri, "bob"), Some(Fault::RequestUri));
}

#[test]
fn header_lines_that_are_none_are_refused_but_unknown_ones_pass() {
    assert_eq!(fault("Max-Forwards: 70", "no colon here"), Some(Fault::HeaderLine));
    assert_eq!(fault("Max-Forwards: 70", ": no name"), Some(Fault::HeaderLine));
    assert_eq!(fault("Max-Forwards: 70", "X: a\rTo: b"), Some(Fault::HeaderLine));
    assert_eq!(fault("Max-Forwards: 70", "two words: x"), Some(Fault::HeaderLine));
    assert_eq!(fault("Max-Forwards: 70", "X-%2a.odd!~ : ;;,,\"\u{fffd}"), None);
    assert_eq!(fault("Max-Forwards: 70", "X:"), None);
    assert_eq!(fault("\r\n\r\n", "\r\n"), Some(Fault::Truncated));
    assert_eq!(fault("0\r\n\r\n", "0"), Some(Fault::Truncated));
}

#[test]
fn quotes_and_brackets_must_close_rfc4475_3_1_2_6() {
    let to = "<sip:bob@relevo.example>\r\n";
    assert_eq!(fault(to, "\"Bob <sip:bob@relevo.example>\r\n"), Some(Fault::Bad(HeaderName::To)));
    assert_eq!(fault(to, "<sip:bob@relevo.example\r\n"), Some(Fault::Bad(HeaderName::To)));
    assert_eq!(fault(to, "<sip:bob@relevo.example>;tag=\"x\r\n"), Some(Fault::Bad(HeaderName::To)));
    assert_eq!(fault(to, "<sip:bob@relevo.example>;;\r\n"), Some(Fault::Bad(HeaderName::To)));
    assert_eq!(fault(to, "\"B \\\" <\" <sip:bob@relevo.example>\r\n"), None);
    assert_eq!(fault("branch=z9hG4bKgood", ";;,"), Some(Fault::Bad(HeaderName::Via)));
}

#[test]
fn a_method_that_differs_from_cseq_is_refused_and_names_are_case_sensitive_rfc3261_7_1() {
    assert_eq!(fault("OPTIONS sip", "INVITE sip"), Some(Fault::CSeqMethod));
    let text = GOOD.replace("OPTIONS", "options");
    let message = Message::parse(text.as_bytes()).expect("parses");
    assert_eq!((message.check_request(), message.method()), (Ok(()), Some(Method::Other("options"))));
}

#[test]
fn a_faulty_ack_is_never_answered_rfc3261_17_1_1_3() {
    let refusal = check(&GOOD.replacen("OPTIONS", "ACK", 1)).expect_err("mismatch");
    assert_eq!(refusal, Refusal { fault: Fault::CSeqMethod, answer: false });
}

#[test]
fn a_register_must_have_readable_contacts_but_others_need_not() {
    let with = |method: &str, contact: &str| {
        check(&GOOD.replace("OPTIONS", method).replace("Max-Forwards: 70", contact)).map_err(|r| r.fault)
    };
    let bad = "Contact: sip:b@h?Route=%3Csip:x%3E";
    assert_eq!(with("REGISTER", bad), Err(Fault::Bad(HeaderName::Contact)));
    assert_eq!(with("OPTIONS", bad), Ok(()));
    assert_eq!(with("REGISTER", "Contact: *"), Ok(()));
    assert_eq!(with("REGISTER", "m: <sip:b@h?Route=x>, sip:c@h;q=0.1"), Ok(()));
}

#[test]
fn responses_with_impossible_codes_or_numbers_are_dropped_rfc4475_3_1_2_19() {
    let response = |first: &str| {
        let text = format!("{first}\r\n{}", GOOD.split_once("\r\n").expect("line").1);
        let message = Message::parse(text.as_bytes()).expect("parses");
        (message.status(), message.check_response().is_ok(), message.reason().to_vec())
    };
    assert_eq!(response("SIP/2.0 200 OK"), (Some(200), true, b"OK".to_vec()));
    assert_eq!(response("SIP/2.0 100 "), (Some(100), true, vec![]));
    assert_eq!(response("SIP/2.0 100"), (Some(100), true, vec![]));
    for bad in [
        "SIP/2.0 99 x",
        "SIP/2.0 700 x",
        "SIP/2.0 4294967301 x",
        "SIP/2.0 0200 x",
        "SIP/7.0 200 x",
        "SIP/2.0 x",
    ] {
        assert!(!response(bad).1, "{bad}");
    }
}

#[test]
fn a_broken_request_can_be_answered_with_what_it_has() {
    let text =
        "INVITE sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nCSeq: 2 INVITE\r\n\r\n";
    let message = Message::parse(text.as_bytes()).expect("parses");
    let refusal = message.check_request().expect_err("no From");
    assert_eq!((refusal.answer, refusal.fault.status()), (true, 400));
    let mut out = Vec::new();
    Response::new(&message, refusal.fault.status(), refusal.fault.reason()).to_tag("t").write(&mut out);
    assert_eq!(
        String::from_utf8_lossy(&out),
        "SIP/2.0 400 Missing From\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nCSeq: 2 INVITE\r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn stars_and_tokens_are_read_from_lists() {
    let text = GOOD
        .replace("Max-Forwards: 70", "Contact: *\r\nProxy-Require: a,\r\n b\r\nproxy-require: c\r\nk: Path");
    let message = Message::parse(text.as_bytes()).expect("parses");
    assert!(message.has_contact_star());
    assert_eq!((message.contact_count(), message.contacts().count()), (1, 0));
    assert_eq!(message.tokens(HeaderName::ProxyRequire).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(message.has_token(HeaderName::Supported, "path"));
    assert_eq!(message.header_named("SUPPORTED"), None);
    assert_eq!(message.header_named("K"), Some(&b"Path"[..]));
}

#[test]
fn the_cheap_call_id_and_the_stored_message_agree_with_the_parser() {
    let stored = SharedMessage::new(GOOD.as_bytes()).expect("parses");
    let view = stored.view().expect("parses");
    assert_eq!(call_id_of(stored.bytes()), view.call_id().map(str::as_bytes));
}
