//! Edited messages: forwarding, responses, CANCEL and ACK.

use proxy_core::msg::{Forward, Message, Response, ViaStamp, build_ack_for_failure, build_cancel};

const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa;rport , SIP/2.0/UDP 10.0.0.2;branch=z9hG4bKb\r\n\
    X-Odd :\tkeep   this\r\n  folded\r\n\
    Route: <sip:192.0.2.10;lr> ,\r\n <sip:192.0.2.11;lr>\r\n\
    rOUTE: <sip:192.0.2.12;lr>\r\n\
    f: \"A, B\" <sip:alice@example.com>;tag=1\r\n\
    t: <sip:bob@example.com>\r\n\
    i: abc@10.0.0.1\r\n\
    CSeq: 7 INVITE\r\n\
    Max-Forwards: 070\r\n\
    l: 4\r\n\r\nbodytrailing";

fn forwarded(text: &str, change: impl for<'m, 'a> FnOnce(&mut Forward<'m, 'a, 'static>)) -> String {
    let message = Message::parse(text.as_bytes()).expect("parses");
    let mut out = Vec::new();
    let mut forward = Forward::new(&message);
    change(&mut forward);
    forward.write(&mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn nothing_changed_is_byte_for_byte_without_what_follows_the_body() {
    assert_eq!(forwarded(INVITE, |_| {}), INVITE.trim_end_matches("trailing"));
}

#[test]
fn a_proxied_invite_differs_only_where_it_must_rfc3261_16_6() {
    let out = forwarded(INVITE, |f| {
        f.request_uri("sip:bob@10.9.9.9:5062;x=y")
            .push_via("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKours")
            .record_route("<sip:192.0.2.1;lr>")
            .record_route("<sip:[2001:db8::1];lr>")
            .stamp_via(ViaStamp { received: Some([10, 1, 1, 1].into()), rport: Some(40_000) })
            .max_forwards(69)
            .remove_first_route();
    });
    let expected = INVITE
        .trim_end_matches("trailing")
        .replace(
            "INVITE sip:bob@example.com SIP/2.0\r\n",
            "INVITE sip:bob@10.9.9.9:5062;x=y SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKours\r\n\
             Record-Route: <sip:192.0.2.1;lr>\r\nRecord-Route: <sip:[2001:db8::1];lr>\r\n",
        )
        .replace(";branch=z9hG4bKa;rport ,", ";branch=z9hG4bKa;received=10.1.1.1;rport=40000 ,")
        .replace("<sip:192.0.2.10;lr> ,\r\n ", "")
        .replace("Max-Forwards: 070", "Max-Forwards: 69");
    assert_eq!(out, expected);
}

#[test]
fn routes_are_taken_from_both_ends_of_comma_lists_rfc3261_16_4() {
    let routes = |front: usize, back: usize| {
        let out = forwarded(INVITE, |f| {
            (0..front).for_each(|_| {
                f.remove_first_route();
            });
            (0..back).for_each(|_| {
                f.remove_last_route();
            });
        });
        let message = Message::parse(out.as_bytes()).expect("parses");
        assert!(message.check_request().is_ok(), "{out}");
        message
            .routes()
            .map(|r| r.expect("route").uri.trim_start_matches("sip:192.0.2.1").chars().next().expect("digit"))
            .collect::<String>()
    };
    assert_eq!(routes(0, 0), "012");
    assert_eq!(routes(1, 0), "12");
    assert_eq!(routes(2, 0), "2");
    assert_eq!(routes(3, 0), "");
    assert_eq!(routes(0, 1), "01");
    assert_eq!(routes(0, 2), "0");
    assert_eq!(routes(1, 1), "1");
    assert_eq!(routes(2, 2), "");
    assert_eq!(routes(9, 9), "");
}

#[test]
fn prepended_and_appended_routes_stand_around_the_others() {
    let out = forwarded(INVITE, |f| {
        f.prepend_route("<sip:p1;lr>").prepend_route("<sip:p2;lr>").append_route("<sip:last>");
    });
    let message = Message::parse(out.as_bytes()).expect("parses");
    let uris: Vec<_> = message.routes().map(|r| r.expect("route").uri).collect();
    assert_eq!(uris.first(), Some(&"sip:p1;lr"));
    assert_eq!(uris.get(1), Some(&"sip:p2;lr"));
    assert_eq!(uris.last(), Some(&"sip:last"));
    assert_eq!(uris.len(), 6);
}

#[test]
fn the_top_via_is_popped_alone_or_out_of_a_list_rfc3261_16_7() {
    let tail = "\r\nf: <sip:a@b>;tag=1\r\nt: <sip:c@d>;tag=2\r\ni: x\r\nCSeq: 1 INVITE\r\n\r\n";
    let listed = format!("SIP/2.0 180 Ringing\r\nv: SIP/2.0/UDP a;branch=z9hG4bK1 , SIP/2.0/UDP b{tail}");
    assert_eq!(
        forwarded(&listed, |f| {
            f.pop_via();
        }),
        format!("SIP/2.0 180 Ringing\r\nv: SIP/2.0/UDP b{tail}")
    );
    let alone =
        format!("SIP/2.0 180 Ringing\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP b{tail}");
    assert_eq!(
        forwarded(&alone, |f| {
            f.pop_via();
        }),
        format!("SIP/2.0 180 Ringing\r\nVia: SIP/2.0/UDP b{tail}")
    );
}

#[test]
fn a_lying_received_is_replaced_rfc3261_18_2_1() {
    let text =
        "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP h;received=1.1.1.1 ; branch=z9hG4bK1;rport=\"7\"\r\n\r\n";
    let out = forwarded(text, |f| {
        f.stamp_via(ViaStamp { received: Some([2, 2, 2, 2].into()), rport: Some(9) });
    });
    assert_eq!(
        out,
        "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP h ; branch=z9hG4bK1;received=2.2.2.2;rport=9\r\n\r\n"
    );
}

#[test]
fn the_stamp_follows_sent_by_and_rport_rfc3581_4() {
    let stamp = |via: &str, source: &str| {
        let via = proxy_core::msg::Via::parse(via.as_bytes()).expect("via");
        ViaStamp::for_source(&via, source.parse().expect("source"))
    };
    assert!(stamp("SIP/2.0/UDP 10.0.0.1", "10.0.0.1:9").is_empty());
    assert!(stamp("SIP/2.0/UDP 10.0.0.1", "[::ffff:10.0.0.1]:9").is_empty());
    let other = stamp("SIP/2.0/UDP 10.0.0.1", "10.0.0.2:9");
    assert_eq!(other, ViaStamp { received: Some([10, 0, 0, 2].into()), rport: None });
    let asked = stamp("SIP/2.0/UDP 10.0.0.1;rport", "10.0.0.1:9");
    assert_eq!(asked, ViaStamp { received: Some([10, 0, 0, 1].into()), rport: Some(9) });
}

#[test]
fn max_forwards_is_inserted_where_it_is_missing() {
    let out = forwarded("BYE sip:x SIP/2.0\r\nTo: <sip:x>\r\n\r\n", |f| {
        f.max_forwards(70);
    });
    assert_eq!(out, "BYE sip:x SIP/2.0\r\nMax-Forwards: 70\r\nTo: <sip:x>\r\n\r\n");
}

#[test]
fn a_message_without_line_ends_gets_them() {
    let out = forwarded("BYE sip:x SIP/2.0", |f| {
        f.push_via("SIP/2.0/UDP h");
    });
    assert_eq!(out, "BYE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP h\r\n\r\n");
    let out = forwarded("BYE sip:x SIP/2.0\nTo: x", |f| {
        f.add_header("X", "1");
    });
    assert_eq!(out, "BYE sip:x SIP/2.0\nTo: x\r\nX: 1\r\n\r\n");
}

#[test]
fn headers_are_set_added_and_removed_in_any_spelling() {
    let text = "BYE sip:x SIP/2.0\r\nm: <sip:a>\r\nContact: <sip:b>\r\nP-Hint: x\r\np-hint: y\r\n\r\n";
    let out = forwarded(text, |f| {
        f.set_header("Contact", "<sip:c>").remove_header("P-HINT").add_header("X", "1").set_header("Y", "2");
    });
    assert_eq!(out, "BYE sip:x SIP/2.0\r\nm: <sip:c>\r\nX: 1\r\nY: 2\r\n\r\n");
}

#[test]
fn a_new_body_brings_its_content_length() {
    let out = forwarded(INVITE, |f| {
        f.body(b"longer body");
    });
    assert!(out.contains("\r\nl: 11\r\n\r\nlonger body"), "{out}");
    let out = forwarded("BYE sip:x SIP/2.0\r\nTo: <sip:x>\r\n\r\n", |f| {
        f.body(b"z");
    });
    assert!(out.ends_with("\r\nContent-Length: 1\r\n\r\nz"), "{out}");
}

#[test]
fn a_response_copies_what_identifies_the_request_rfc3261_8_2_6() {
    let message = Message::parse(INVITE.as_bytes()).expect("parses");
    let mut out = Vec::new();
    Response::new(&message, 404, "")
        .to_tag("xyz")
        .stamp_via(ViaStamp { received: Some([10, 1, 1, 1].into()), rport: Some(40_000) })
        .header("Server", "relevo")
        .header_number("Retry-After", 5)
        .write(&mut out);
    let text = std::str::from_utf8(&out).expect("text");
    assert_eq!(
        text,
        "SIP/2.0 404 Not Found\r\n\
         Via: SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa;received=10.1.1.1;rport=40000 , SIP/2.0/UDP 10.0.0.2;branch=z9hG4bKb\r\n\
         f: \"A, B\" <sip:alice@example.com>;tag=1\r\n\
         t: <sip:bob@example.com>;tag=xyz\r\n\
         i: abc@10.0.0.1\r\n\
         CSeq: 7 INVITE\r\n\
         Server: relevo\r\n\
         Retry-After: 5\r\n\
         Content-Length: 0\r\n\r\n"
    );
    assert!(Message::parse(&out).expect("parses").check_response().is_ok());
}

#[test]
fn a_to_tag_that_is_there_is_kept_and_record_route_copied_on_demand() {
    let text = "BYE sip:x SIP/2.0\r\nRecord-Route: <sip:p;lr>\r\nTo: <sip:x>;tag=old\r\nTimestamp: 5\r\n\r\n";
    let message = Message::parse(text.as_bytes()).expect("parses");
    let mut out = Vec::new();
    Response::new(&message, 200, "Fine").to_tag("new").copy_record_route().body("a/b", b"xy").write(&mut out);
    assert_eq!(
        String::from_utf8_lossy(&out),
        "SIP/2.0 200 Fine\r\nRecord-Route: <sip:p;lr>\r\nTo: <sip:x>;tag=old\r\n\
         Content-Type: a/b\r\nContent-Length: 2\r\n\r\nxy"
    );
    out.clear();
    Response::new(&message, 100, "").write(&mut out);
    assert!(String::from_utf8_lossy(&out).contains("Timestamp: 5\r\n"));
}

#[test]
fn a_cancel_repeats_the_invite_as_it_was_sent_rfc3261_9_1() {
    let mut out = Vec::new();
    let reason = [("Reason", "SIP;cause=200;text=\"Call completed elsewhere\"")];
    build_cancel(INVITE.as_bytes(), &reason, &mut out).expect("cancel");
    assert_eq!(
        String::from_utf8_lossy(&out),
        "CANCEL sip:bob@example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa;rport\r\n\
         Route: <sip:192.0.2.10;lr> ,\r\n <sip:192.0.2.11;lr>\r\n\
         rOUTE: <sip:192.0.2.12;lr>\r\n\
         Max-Forwards: 70\r\n\
         From: \"A, B\" <sip:alice@example.com>;tag=1\r\n\
         To: <sip:bob@example.com>\r\n\
         Call-ID: abc@10.0.0.1\r\n\
         CSeq: 7 CANCEL\r\n\
         Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\n\
         Content-Length: 0\r\n\r\n"
    );
    assert!(Message::parse(&out).expect("parses").check_request().is_ok());
}

#[test]
fn the_ack_of_a_failure_takes_its_to_from_the_response_rfc3261_17_1_1_3() {
    let invite = Message::parse(INVITE.as_bytes()).expect("parses");
    let (mut busy, mut out) = (Vec::new(), Vec::new());
    Response::new(&invite, 486, "").to_tag("busy").write(&mut busy);
    build_ack_for_failure(INVITE.as_bytes(), &busy, &mut out).expect("ack");
    let ack = Message::parse(&out).expect("parses");
    assert!(ack.check_request().is_ok());
    assert_eq!(ack.to_tag(), Some("busy"));
    assert_eq!(ack.from_tag(), Some("1"));
    assert_eq!(ack.cseq().expect("cseq").number, 7);
    assert_eq!(ack.vias().count(), 1);
    assert_eq!(ack.routes().count(), 3);
    assert_eq!(ack.request_uri_str(), "sip:bob@example.com");
}

#[test]
fn a_cancel_of_something_else_is_refused_and_writes_nothing() {
    let mut out = b"before".to_vec();
    for bad in
        ["BYE sip:x SIP/2.0\r\nCSeq: 1 BYE\r\n\r\n", "INVITE sip:x SIP/2.0\r\nTo: <sip:x>\r\n\r\n", "x"]
    {
        assert!(build_cancel(bad.as_bytes(), &[], &mut out).is_err(), "{bad}");
    }
    assert_eq!(out, b"before");
}
