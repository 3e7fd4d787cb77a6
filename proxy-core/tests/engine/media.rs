//! Stories of calls whose media go through rtpengines: what those are asked, and what the phones get.

use std::time::Duration;

use crate::common::media::*;
use crate::common::story::*;
use proxy_core::media::Usage;
use proxy_core::media::bencode::Value;

#[test]
fn offer_answer_and_deletion_of_a_call() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    m.w.expect_nothing(ALICE);
    m.w.expect_nothing(BOB);
    assert_eq!(m.serve(), ["offer ac1> at 10.77.0.41:2223"]);
    m.w.expect(ALICE, "SIP/2.0 100 ");
    let got = m.w.expect(BOB, "INVITE ");
    assert_eq!(sdp(&got), "v=0\r\ns=offer ac1> 10.77.0.41:2223 RTP/SAVPF\r\n");
    assert_eq!(header(&got, "Content-Length"), Some(sdp(&got).len().to_string()));

    // Early media, then the same SDP again in the 2xx: asked once.
    m.w.send(BOB, &with_sdp(&respond(&got, 183, "b", &contact(BOB)), "bob"));
    m.w.expect_nothing(ALICE);
    assert_eq!(m.serve(), ["answer ac1>b at 10.77.0.41:2223"]);
    let early = m.w.expect(ALICE, "SIP/2.0 183 ");
    assert_eq!(sdp(&early), "v=0\r\ns=answer ac1>b 10.77.0.41:2223 RTP/AVP\r\n");
    m.w.send(BOB, &with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob"));
    assert_eq!(m.serve(), Vec::<String>::new());
    let ok = m.w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(sdp(&ok), sdp(&early));
    let dialog = m.w.state.dialogs().next().expect("a dialog");
    assert_eq!(dialog.media.as_ref().map(|s| s.node), Some(addr(ONE)));
    assert_eq!(m.w.state.media_load(addr(ONE)), 1);

    m.w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    m.w.expect(BOB, "ACK ");
    m.w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    let bye = m.w.expect(BOB, "BYE ");
    assert_eq!(m.serve(), Vec::<String>::new());
    m.w.send(BOB, &respond(&bye, 200, "b", ""));
    assert_eq!(m.serve(), ["delete ac1> at 10.77.0.41:2223"]);
    m.w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(m.w.state.media_load(addr(ONE)), 0);
    let c = m.w.engine.counters();
    assert_eq!((c.media_offers, c.media_answers, c.media_deletes, c.media_failed), (1, 1, 1, 0));
    assert!(m.w.state.index_is_right());
}

#[test]
fn what_comes_again_while_it_waits_is_absorbed() {
    let mut m = world();
    m.w.register("bob", BOB);
    let invite = with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice");
    m.w.send(ALICE, &invite);
    m.w.send(ALICE, &invite);
    assert_eq!(m.serve().len(), 1);
    m.w.expect(ALICE, "SIP/2.0 100 ");
    let got = m.w.expect(BOB, "INVITE ");
    let ok = with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob");
    m.w.send(BOB, &ok);
    m.w.send(BOB, &ok);
    assert_eq!(m.serve().len(), 1);
    m.w.expect(ALICE, "SIP/2.0 200 ");
    // The ACK was lost: the answer that is known goes on.
    m.w.send(BOB, &ok);
    assert_eq!(m.serve(), Vec::<String>::new());
    let again = m.w.expect(ALICE, "SIP/2.0 200 ");
    assert!(sdp(&again).contains("s=answer"), "{again}");
}

#[test]
fn only_calls_with_a_side_behind_a_nat_unless_the_configuration_says_otherwise() {
    // Bob has registered from elsewhere than he says.
    const OUTSIDE: &str = "203.0.113.8:4000";
    let natted_bob = |m: &mut Media| {
        m.w.send(OUTSIDE, &register("bob", BOB, 1, "<sip:bob@192.168.1.9:5060>"));
        m.w.expect(OUTSIDE, "SIP/2.0 200 ");
    };
    for (usage, natted, wanted) in [
        (Usage::Natted, false, 0),
        (Usage::Natted, true, 1),
        (Usage::Always, false, 1),
        (Usage::Off, true, 0),
    ] {
        let mut m = with(media(usage));
        match natted {
            true => natted_bob(&mut m),
            false => m.w.register("bob", BOB),
        }
        m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
        assert_eq!(m.serve().len(), wanted, "{usage:?} {natted}");
        m.w.expect(if natted { OUTSIDE } else { BOB }, "INVITE ");
    }
    // The caller counts as well.
    let mut m = with(media(Usage::Natted));
    m.w.register("bob", BOB);
    let invite =
        with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice").replace("alice@10.77.0.50", "alice@192.168.1.5");
    m.w.send("203.0.113.7:4000", &invite);
    assert_eq!(m.serve().len(), 1);
}

#[test]
fn a_private_address_in_sdp_is_told_with_the_one_it_came_from() {
    let mut m = world();
    m.w.register("bob", BOB);
    let invite = with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice").replace("203.0.113.9", "192.168.1.99");
    let invite = invite.replace("Content-Length: 40", "Content-Length: 41");
    m.w.send(ALICE, &invite);
    let (_, bytes) = m.w.media.front().cloned().expect("a question");
    let (_, dict) = dict(&bytes);
    let list = |key: &[u8]| match dict.get(key) {
        Some(Value::List(list)) => list.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(list(b"received-from"), [Value::from("IP4"), Value::from("10.77.0.50")]);
    assert_eq!(list(b"flags"), [Value::from("SIP-source-address")]);
    assert_eq!(word(&dict, "ICE"), "force");
}

#[test]
fn an_explanation_names_the_rtpengine_and_asks_nobody() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    let text = with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice");
    let lines = proxy_core::engine::Engine::explained(
        m.w.config.clone(),
        m.w.now,
        flow_of(addr(ALICE)),
        None,
        text.as_bytes(),
        &m.w.state,
    );
    let said: Vec<String> = lines.iter().map(|l| format!("{l:?}")).collect();
    assert!(said.iter().any(|l| l.contains("by rtpengine 10.77.0.41:2223")), "{said:#?}");
    assert!(said.iter().any(|l| l.contains("INVITE") && l.contains("sends")), "{said:#?}");
}

#[test]
fn a_cancelled_call_is_deleted() {
    let mut m = world();
    m.only(ONE);
    let got = m.call("c1");
    m.w.send(BOB, &respond(&got, 180, "b", ""));
    m.w.take(ALICE);
    m.w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    m.w.take(BOB);
    assert_eq!(m.serve(), Vec::<String>::new());
    m.w.send(BOB, &respond(&got, 487, "b", ""));
    assert_eq!(m.serve(), ["delete ac1> at 10.77.0.41:2223"]);
}

#[test]
fn a_call_that_is_cancelled_while_its_offer_waits_calls_nobody() {
    let mut m = world();
    m.w.register("bob", BOB);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    m.w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    let all = m.w.take(ALICE);
    assert!(
        all.iter().any(|r| r.starts_with("SIP/2.0 200 "))
            && all.iter().any(|r| r.starts_with("SIP/2.0 487 "))
    );
    let asked = m.serve();
    assert!(asked.last().is_some_and(|q| q.starts_with("delete ac1>")), "{asked:?}");
    m.w.expect_nothing(BOB);
}

#[test]
fn a_call_that_fails_is_deleted_and_one_that_is_tried_again_is_not() {
    let mut m = world();
    m.only(ONE);
    let got = m.call("c1");
    m.w.send(BOB, &respond(&got, 486, "b", ""));
    m.w.expect(ALICE, "SIP/2.0 486 ");
    // The answer to the deletion is lost, and the caller tries again with the same Call-ID.
    assert_eq!(m.w.media.pop_front().map(|(to, _)| to), Some(addr(ONE)));
    let again =
        invite(BOB_URI, ALICE, "c1").replace("CSeq: 1 ", "CSeq: 2 ").replace("z9hG4bKc1", "z9hG4bKc1x");
    m.w.send(ALICE, &with_sdp(&again, "alice"));
    let asked = m.pass(Duration::from_secs(2));
    assert_eq!(asked, ["offer ac1> at 10.77.0.41:2223"], "no deletion comes after the offer");
}

#[test]
fn a_late_offer_is_answered_by_the_ack() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    m.w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    assert_eq!(m.serve(), Vec::<String>::new());
    m.w.expect(ALICE, "SIP/2.0 100 ");
    let got = m.w.expect(BOB, "INVITE ");
    m.w.send(BOB, &with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob"));
    assert_eq!(m.serve(), ["offer b>ac1 at 10.77.0.41:2223"]);
    let ok = m.w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(sdp(&ok), "v=0\r\ns=offer b>ac1 10.77.0.41:2223 RTP/AVP\r\n");
    let ack = with_sdp(&in_dialog_of_caller("ACK", 1, &ok, ALICE), "alice");
    m.w.send(ALICE, &ack);
    m.w.send(ALICE, &ack);
    m.w.expect_nothing(BOB);
    assert_eq!(m.serve(), ["answer b>ac1 at 10.77.0.41:2223"]);
    assert_eq!(sdp(&m.w.expect(BOB, "ACK ")), "v=0\r\ns=answer b>ac1 10.77.0.41:2223 RTP/SAVPF\r\n");
}

#[test]
fn an_update_is_offered_and_answered() {
    let mut m = world();
    m.only(ONE);
    let (_, ok) = m.answered("c1");
    m.w.send(ALICE, &with_sdp(&in_dialog_of_caller("UPDATE", 2, &ok, ALICE), "again"));
    assert_eq!(m.serve(), ["offer ac1>b at 10.77.0.41:2223"]);
    let update = m.w.expect(BOB, "UPDATE ");
    assert!(sdp(&update).contains("s=offer"));
    m.w.send(BOB, &with_sdp(&respond(&update, 200, "b", &contact(BOB)), "bob"));
    assert_eq!(m.serve(), ["answer ac1>b at 10.77.0.41:2223"]);
    assert!(sdp(&m.w.expect(ALICE, "SIP/2.0 200 ")).contains("s=answer"));
    // A session timer's UPDATE has none: nobody is asked.
    m.w.send(ALICE, &in_dialog_of_caller("UPDATE", 3, &ok, ALICE));
    assert_eq!(m.serve(), Vec::<String>::new());
    m.w.expect(BOB, "UPDATE ");
}

#[test]
fn an_update_before_the_answer_goes_where_the_call_is() {
    let mut m = world();
    m.only(ONE);
    let got = m.call("c1");
    m.w.send(BOB, &with_sdp(&respond(&got, 183, "b", &contact(BOB)), "bob"));
    m.serve();
    m.w.take(ALICE);
    m.w.send(BOB, &with_sdp(&in_dialog_of_callee("UPDATE", 7, &got, "b", BOB), "again"));
    assert_eq!(m.serve(), ["offer b>ac1 at 10.77.0.41:2223"]);
    assert!(sdp(&m.w.expect(ALICE, "UPDATE ")).contains("RTP/AVP\r"));
}

#[test]
fn a_call_that_lasts_too_long_is_deleted_with_the_byes() {
    let mut m = world();
    m.w.config.dialog_lifetime = Duration::from_secs(60);
    m.w.fail_over(Duration::ZERO);
    m.only(ONE);
    m.answered("c1");
    let asked = m.pass(Duration::from_secs(62));
    assert_eq!(asked, ["delete ac1> at 10.77.0.41:2223"]);
    assert!(m.w.take(BOB).iter().any(|r| r.starts_with("BYE ")));
}

#[test]
fn a_new_call_that_is_refused_for_a_limit_leaves_nothing_behind() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    m.w.cluster = Cluster::Refuses(proxy_core::io::Refusal::Overloaded);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    assert_eq!(m.serve(), ["offer ac1> at 10.77.0.41:2223", "delete ac1> at 10.77.0.41:2223"]);
    m.w.expect(ALICE, "SIP/2.0 503 ");
}

#[test]
fn an_offer_of_a_request_that_is_refused_afterwards_leaves_nothing_behind_rfc5393() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    m.w.send(BOB2, &register("bob", BOB2, 1, &format!("<sip:bob@{BOB2}>")));
    m.w.take(BOB2);
    let narrow = invite(BOB_URI, ALICE, "c1").replace("Content-Length", "Max-Breadth: 1\r\nContent-Length");
    m.w.send(ALICE, &with_sdp(&narrow, "alice"));
    let asked = m.serve();
    m.w.expect(ALICE, "SIP/2.0 440 ");
    let offers = asked.iter().filter(|q| q.starts_with("offer")).count();
    let deletions = asked.iter().filter(|q| q.starts_with("delete")).count();
    assert_eq!(offers, deletions, "{asked:?}");
}
