//! SDP in PRACK (RFC 3262), and as one part of several (RFC 5621), on its way through rtpengines.

use std::time::Duration;

use crate::common::media::*;
use crate::common::story::*;

/// A PRACK of alice for bob's provisional response.
fn prack(m: &Media, got: &str, cseq: u32, rseq: u32) -> String {
    let early = respond(got, 183, "b", &contact(BOB));
    let _ = m;
    in_dialog_of_caller("PRACK", cseq, &early, ALICE)
        .replace("Content-Length", &format!("RAck: {rseq} 1 INVITE\r\nContent-Length"))
}

#[test]
fn an_offer_in_a_prack_is_answered_in_its_2xx_rfc3262() {
    let mut m = world();
    m.only(ONE);
    let got = m.call("c1");
    let reliable = format!("{}Require: 100rel\r\nRSeq: 1\r\n", contact(BOB));
    m.w.send(BOB, &with_sdp(&respond(&got, 183, "b", &reliable), "bob"));
    m.serve();
    m.w.take(ALICE);
    let prack = with_sdp(&prack(&m, &got, 2, 1), "more");
    m.w.send(ALICE, &prack);
    m.w.send(ALICE, &prack);
    assert_eq!(m.serve(), ["offer ac1>b at 10.77.0.41:2223"]);
    let prack = m.w.expect(BOB, "PRACK ");
    assert!(sdp(&prack).contains("s=offer ac1>b") && sdp(&prack).contains("RTP/SAVPF"), "{prack}");
    m.w.send(BOB, &with_sdp(&respond(&prack, 200, "b", ""), "bob"));
    assert_eq!(m.serve(), ["answer ac1>b at 10.77.0.41:2223"]);
    let ok = m.w.expect(ALICE, "SIP/2.0 200 ");
    assert!(sdp(&ok).contains("s=answer ac1>b") && sdp(&ok).contains("RTP/AVP\r"), "{ok}");
}

#[test]
fn a_late_offer_in_a_reliable_response_is_answered_by_the_prack_and_the_next_prack_offers_rfc3262() {
    for lost in [false, true] {
        let mut m = world();
        m.only(ONE);
        m.w.register("bob", BOB);
        m.w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
        m.w.expect(ALICE, "SIP/2.0 100 ");
        let got = m.w.expect(BOB, "INVITE ");
        let reliable = format!("{}Require: 100rel\r\nRSeq: 1\r\n", contact(BOB));
        m.w.send(BOB, &with_sdp(&respond(&got, 183, "b", &reliable), "bob"));
        assert_eq!(m.serve(), ["offer b>ac1 at 10.77.0.41:2223"]);
        assert!(sdp(&m.w.expect(ALICE, "SIP/2.0 183 ")).contains("RTP/AVP\r"));
        if lost {
            m.w.fail_over(Duration::from_millis(300));
            m.w.take(BOB);
        }
        m.w.send(ALICE, &with_sdp(&prack(&m, &got, 2, 1), "alice"));
        assert_eq!(m.serve(), ["answer b>ac1 at 10.77.0.41:2223"]);
        let first = m.w.expect(BOB, "PRACK ");
        assert!(sdp(&first).contains("s=answer b>ac1") && sdp(&first).contains("RTP/SAVPF"), "{first}");
        m.w.send(BOB, &respond(&first, 200, "b", ""));
        m.w.expect(ALICE, "SIP/2.0 200 ");
        m.w.send(ALICE, &with_sdp(&prack(&m, &got, 3, 2), "more").replace("c1PRACK", "c1PRACK2"));
        assert_eq!(m.serve(), ["offer ac1>b at 10.77.0.41:2223"]);
        let second = m.w.expect(BOB, "PRACK ");
        m.w.send(BOB, &with_sdp(&respond(&second, 200, "b", ""), "bob"));
        assert_eq!(m.serve(), ["answer ac1>b at 10.77.0.41:2223"]);
        assert!(sdp(&m.w.expect(ALICE, "SIP/2.0 200 ")).contains("RTP/AVP\r"));
    }
}

#[test]
fn a_prack_without_sdp_asks_nobody() {
    let mut m = world();
    let got = m.call("c1");
    m.w.send(BOB, &respond(&got, 183, "b", &contact(BOB)));
    m.w.take(ALICE);
    m.w.send(ALICE, &prack(&m, &got, 2, 1));
    assert_eq!(m.serve(), Vec::<String>::new());
    m.w.expect(BOB, "PRACK ");
}

/// ISUP beside SDP, as gateways write it.
fn mixed(message: &str, name: &str) -> String {
    let head = message.strip_suffix("Content-Length: 0\r\n\r\n").expect("no body");
    let body = format!(
        "--one\r\nContent-Type: application/sdp\r\n\r\nv=0\r\no={name}\r\n\r\n--one\r\n\
         Content-Type: application/isup\r\n\r\n\u{1}--\u{2}\r\n--one--\r\n"
    );
    format!(
        "{head}Content-Type: multipart/mixed;boundary=one\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn of_a_multipart_body_only_the_sdp_goes_through_the_rtpengine_rfc5621() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    m.w.send(ALICE, &mixed(&invite(BOB_URI, ALICE, "c1"), "alice"));
    let (_, question) = m.w.media.front().cloned().expect("a question");
    assert_eq!(word(&dict(&question).1, "sdp"), "v=0\r\no=alice\r\n");
    assert_eq!(m.serve(), ["offer ac1> at 10.77.0.41:2223"]);
    let got = m.w.expect(BOB, "INVITE ");
    let wanted = "--one\r\nContent-Type: application/sdp\r\n\r\nv=0\r\ns=offer ac1> 10.77.0.41:2223 RTP/SAVPF\r\n\
                  \r\n--one\r\nContent-Type: application/isup\r\n\r\n\u{1}--\u{2}\r\n--one--\r\n";
    assert_eq!(sdp(&got), wanted);
    assert_eq!(header(&got, "Content-Length"), Some(wanted.len().to_string()));
    m.w.take(ALICE);
    // What is replicated is what bob has got: who takes over says the same.
    m.w.fail_over(Duration::from_millis(300));
    assert_eq!(sdp(&m.w.expect(BOB, "INVITE ")), wanted);
    m.w.send(BOB, &mixed(&respond(&got, 200, "b", &contact(BOB)), "bob"));
    assert_eq!(m.serve(), ["answer ac1>b at 10.77.0.41:2223"]);
    let ok = m.w.expect(ALICE, "SIP/2.0 200 ");
    assert!(sdp(&ok).contains("s=answer ac1>b") && sdp(&ok).contains("\u{1}--\u{2}"), "{ok}");
}
