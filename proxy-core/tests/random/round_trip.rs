//! Properties over many messages: nothing panics, nothing unedited changes, edits keep messages readable.

use proptest::collection::vec;
use proptest::prelude::*;
use proxy_core::msg::{
    Forward, HeaderName, Message, NameAddr, Response, Uri, Via, ViaStamp, build_ack_for_failure,
    build_cancel, call_id_of,
};

const SEEDS: [&str; 3] = [
    "INVITE sip:bob;x=y@[2001:db8::1]:5061;transport=tcp SIP/2.0\r\n\
     Via: SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa;rport , SIP/2.0/TCP h.example;received=1.2.3.4;branch=z9hG4bKb\r\n\
     v : SIP / 2.0 / TLS\r\n  h2 : 5061 ; branch = z9hG4bKc\r\n\
     Route: <sip:p1;lr>, <sip:p2;lr>\r\nRoute: <sip:p3>\r\n\
     From: \"A \\\" , <\" <sip:alice%40x@example.com>;tag=1\r\nt: <sip:bob@example.com>\r\n\
     i: abc@10.0.0.1\r\nCSeq: 7 INVITE\r\nMax-Forwards: 70\r\n\
     m: <sip:a@h;lr>;q=0.5;+sip.instance=\"<urn:uuid:1>\", sip:b@h;expires=5\r\nl: 5\r\n\r\nv=0\r\n",
    "REGISTER sip:example.com SIP/2.0\nVia: SIP/2.0/WSS x.invalid;branch=z9hG4bKz\nFrom: sip:a@example.com;tag=9\n\
     To: sip:a@example.com\nCall-ID: q\nCSeq: 1 REGISTER\nContact: *\nExpires: 0\nRequire: path, gruu\n\n",
    "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP p;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP h;rport=5;received=::1\r\n\
     Record-Route: <sip:p;lr>\r\nf: <sip:a@b>;tag=1\r\nt: <sip:c@d>;tag=2\r\ni: x\r\nCSeq: 3 BYE\r\n\r\n",
];

/// Bytes that matter to a SIP parser more than others.
const SPICE: &[u8] = b"\r\n\t ,;:<>\"\\@?=%[]/*.\0\xff\xc3 0129aZ";

#[derive(Debug, Clone)]
enum Mutation {
    Put(usize, u8),
    Insert(usize, u8),
    Cut(usize, usize),
    Double(usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let spice = || prop_oneof![3 => prop::sample::select(SPICE), 1 => any::<u8>()];
    prop_oneof![
        (any::<usize>(), spice()).prop_map(|(at, b)| Mutation::Put(at, b)),
        (any::<usize>(), spice()).prop_map(|(at, b)| Mutation::Insert(at, b)),
        (any::<usize>(), 1..20usize).prop_map(|(at, n)| Mutation::Cut(at, n)),
        (any::<usize>(), 1..60usize).prop_map(|(at, n)| Mutation::Double(at, n)),
    ]
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(&SEEDS[..]), vec(mutation(), 0..6)).prop_map(|(seed, mutations)| {
        let mut bytes = seed.as_bytes().to_vec();
        for m in mutations {
            let len = bytes.len().max(1);
            match m {
                Mutation::Put(at, b) => {
                    if let Some(slot) = bytes.get_mut(at % len) {
                        *slot = b;
                    }
                }
                Mutation::Insert(at, b) => bytes.insert((at % len).min(bytes.len()), b),
                Mutation::Cut(at, n) => {
                    let at = (at % len).min(bytes.len());
                    let end = (at + n).min(bytes.len());
                    bytes.drain(at..end);
                }
                Mutation::Double(at, n) => {
                    let at = (at % len).min(bytes.len());
                    let part = bytes[at..(at + n).min(bytes.len())].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
        bytes
    })
}

/// Reads everything that can be read of a message.
fn read_all(message: &Message<'_>) {
    let _ = (message.check_request(), message.check_response());
    let _ = (message.max_forwards(), message.expires(), message.cseq(), message.from_tag(), message.to_tag());
    message.vias().flatten().for_each(|v| {
        let _ = (v.branch(), v.received(), v.rport(), v.params.is_well_formed());
    });
    let uris = message.contacts().chain(message.routes()).flatten().filter_map(|n| {
        let _ = (n.q(), n.expires(), n.instance(), n.reg_id(), n.tag());
        n.parse_uri().ok()
    });
    for uri in uris.chain(message.request_uri()) {
        let _ = uri.aor_key();
        assert!(uri.equivalent(&uri), "{uri:?}");
    }
    assert_eq!(message.tokens(HeaderName::Require).count(), message.values(HeaderName::Require).count());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(bytes in vec(any::<u8>(), 0..300)) {
        let _ = call_id_of(&bytes);
        if let Ok(message) = Message::parse(&bytes) {
            read_all(&message);
        }
        let _ = (Via::parse(&bytes), NameAddr::parse(&bytes).map(|n| n.q()));
        let _ = Uri::parse(&String::from_utf8_lossy(&bytes)).map(|u| u.aor_key());
    }

    #[test]
    fn mutated_messages_never_panic_and_come_back_byte_for_byte(bytes in mutated()) {
        let Ok(message) = Message::parse(&bytes) else { return Ok(()) };
        read_all(&message);
        let mut out = Vec::new();
        Forward::new(&message).write(&mut out);
        let headers: Vec<_> = message.header_lines().collect();
        let again = Message::parse(&out).expect("what was written can be read");
        prop_assert_eq!(&headers, &again.header_lines().collect::<Vec<_>>());
        prop_assert_eq!(message.start_line(), again.start_line());
        prop_assert_eq!(message.body(), again.body());
        // With CRLF at the end of the headers, as everywhere in practice, it is a prefix of what came.
        if message.check_request().is_ok() && !bytes.windows(2).any(|w| w[1] == b'\n' && w[0] != b'\r') {
            prop_assert!(message.raw().starts_with(&out));
        }
    }

    #[test]
    fn a_good_message_stays_good_whatever_a_proxy_edits(bytes in mutated(), routes in 0..4usize, last in any::<bool>()) {
        let Ok(message) = Message::parse(&bytes) else { return Ok(()) };
        let good = message.check_request();
        let mut out = b"in front".to_vec();
        let mut forward = Forward::new(&message);
        forward
            .request_uri("sip:bob@192.0.2.1:5070")
            .push_via("SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKours")
            .record_route("<sip:192.0.2.7;lr>")
            .stamp_via(ViaStamp { received: Some([1, 2, 3, 4].into()), rport: Some(5) })
            .max_forwards(9)
            .set_header("P-Hint", "x");
        (0..routes).for_each(|_| {
 forward.remove_first_route();
});
        if last {
            forward.remove_last_route();
        }
        forward.write(&mut out);
        let out = &out[8..];
        let again = Message::parse(out).expect("readable");
        if good.is_ok() {
            prop_assert_eq!(again.check_request(), Ok(()));
            prop_assert_eq!(again.vias().count(), message.vias().count() + 1);
            let left = message.routes().count().saturating_sub(routes + usize::from(last));
            prop_assert_eq!(again.routes().count(), left);
            prop_assert_eq!(again.max_forwards(), Ok(Some(9)));
            prop_assert_eq!(again.call_id(), message.call_id());
            let below = again.vias().nth(1).expect("second").expect("readable");
            prop_assert_eq!(below.received(), Some([1, 2, 3, 4].into()));
            prop_assert_eq!(below.rport(), Some(Some(5)));
            prop_assert_eq!(below.branch(), message.top_via().expect("top").branch());
        }
        let mut popped = Vec::new();
        Forward::new(&again).pop_via().write(&mut popped);
        if good.is_ok() {
            let popped = Message::parse(&popped).expect("readable");
            prop_assert_eq!(popped.vias().count(), message.vias().count());
        }
    }

    #[test]
    fn answers_cancels_and_acks_of_a_good_invite_are_good(bytes in mutated()) {
        let Ok(message) = Message::parse(&bytes) else { return Ok(()) };
        let mut response = Vec::new();
        Response::new(&message, 486, "").to_tag("t").write(&mut response);
        let (mut cancel, mut ack) = (Vec::new(), Vec::new());
        let cancelled = build_cancel(&bytes, &[], &mut cancel);
        let acked = build_ack_for_failure(&bytes, &response, &mut ack);
        if message.check_request().is_ok() {
            let response = Message::parse(&response).expect("readable");
            prop_assert_eq!(response.check_response(), Ok(()));
            prop_assert!(response.to_tag().is_some());
            prop_assert_eq!(response.vias().count(), message.vias().count());
            if cancelled.is_ok() {
                prop_assert!(acked.is_ok());
                for made in [&cancel, &ack] {
                    prop_assert_eq!(Message::parse(made).expect("readable").check_request(), Ok(()));
                }
            }
        }
    }

    #[test]
    fn the_cheap_call_id_agrees_with_the_parser_on_good_messages(bytes in mutated()) {
        if let Ok(message) = Message::parse(&bytes)
            && message.check_request().is_ok()
        {
            prop_assert_eq!(call_id_of(&bytes), message.call_id().map(str::as_bytes));
        }
    }
}
