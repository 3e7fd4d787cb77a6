//! Offers within a call that come to nothing (RFC 3261 §14.1, RFC 6337 §3): the phones go on with what they agreed on
//! before, so the rtpengine, which has taken the offer, is told that again.

use std::time::Duration;

use crate::common::media::*;
use crate::common::story::*;
use proxy_core::media::Usage;
use proxy_core::state::SipCommand;
use proxy_core::state::limits::MAX_AGREED_BYTES;

const TOLD_AGAIN: [&str; 2] = ["offer alice", "answer bob"];

/// What the rtpengines were told since the last look, without deletions.
fn told(m: &mut Media) -> Vec<String> {
    m.serve();
    let mut told = std::mem::take(&mut m.told);
    told.retain(|t| !t.starts_with("delete"));
    told
}

/// A call, the INVITE as bob got it, the 200 as alice got it.
fn talking() -> (Media, String, String) {
    let mut m = world();
    m.only(ONE);
    let (got, ok) = m.answered("c1");
    m.told.clear();
    (m, got, ok)
}

/// Somebody asks for other media: who asked, who is asked, and what he got.
fn asks(m: &mut Media, method: &str, by_callee: bool, got: &str, ok: &str) -> (&'static str, String, String) {
    let (asker, answerer) = if by_callee { (BOB, ALICE) } else { (ALICE, BOB) };
    let text = if by_callee {
        in_dialog_of_callee(method, 7, got, "b", BOB)
    } else {
        in_dialog_of_caller(method, 2, ok, ALICE)
    };
    let text = with_sdp(&text, "refused");
    m.w.send(asker, &text);
    assert_eq!(told(m), ["offer refused"]);
    let heard = m.w.take(answerer).into_iter().find(|r| r.starts_with(method)).expect("the request");
    m.w.take(asker);
    (answerer, heard, text)
}

#[test]
fn the_rtpengine_is_told_the_agreed_session_again_when_an_offer_of_either_side_is_refused_rfc3261_14_1() {
    for method in ["INVITE", "UPDATE"] {
        for by_callee in [false, true] {
            for status in [488, 491, 500] {
                let (mut m, got, ok) = talking();
                let (answerer, heard, _) = asks(&mut m, method, by_callee, &got, &ok);
                m.w.send(answerer, &respond(&heard, status, "x", ""));
                // In the order and with the tags of then, at the rtpengine that has the call.
                let asked = m.serve();
                let wanted = ["offer ac1>b at 10.77.0.41:2223", "answer ac1>b at 10.77.0.41:2223"];
                assert_eq!(asked, wanted, "{method} {by_callee} {status}");
                assert_eq!(told(&mut m), TOLD_AGAIN, "{method} {by_callee} {status}");
                assert_eq!(m.w.engine.counters().media_restored, 1);
            }
        }
    }
}

#[test]
fn an_offer_that_nobody_answers_or_that_is_cancelled_is_taken_back_as_well() {
    for method in ["INVITE", "UPDATE"] {
        let (mut m, got, ok) = talking();
        asks(&mut m, method, false, &got, &ok);
        m.pass(Duration::from_secs(200));
        assert_eq!(told(&mut m), TOLD_AGAIN, "{method}");
    }
    let (mut m, got, ok) = talking();
    let (_, heard, text) = asks(&mut m, "INVITE", false, &got, &ok);
    m.w.send(BOB, &respond(&heard, 180, "b", ""));
    m.w.take(ALICE);
    let cancel = text.split("\r\n\r\n").next().expect("a head");
    let cancel = cancel.replacen("INVITE", "CANCEL", 1).replace("2 INVITE", "2 CANCEL");
    let cancel = cancel.split("\r\n").filter(|l| !l.starts_with("Content-")).collect::<Vec<_>>().join("\r\n");
    m.w.send(ALICE, &format!("{cancel}\r\nContent-Length: 0\r\n\r\n"));
    m.w.take(ALICE);
    m.w.expect(BOB, "CANCEL ");
    m.w.send(BOB, &respond(&heard, 487, "b", ""));
    m.w.expect(ALICE, "SIP/2.0 487 ");
    assert_eq!(told(&mut m), TOLD_AGAIN);

    // The rtpengine may have taken it when it is cancelled before that is known.
    let (mut m, _, ok) = talking();
    m.w.send(ALICE, &text.replace(&header(&text, "To").expect("To"), &header(&ok, "To").expect("To")));
    m.w.send(ALICE, &format!("{cancel}\r\nContent-Length: 0\r\n\r\n"));
    let told = told(&mut m);
    assert!(told.ends_with(&TOLD_AGAIN.map(str::to_owned)), "{told:?}");
    m.w.expect_nothing(BOB);
}

#[test]
fn what_was_agreed_on_last_is_what_is_told_again() {
    for method in ["INVITE", "UPDATE"] {
        let (mut m, got, ok) = talking();
        // Bob moves his media; alice says yes.
        m.w.send(BOB, &with_sdp(&in_dialog_of_callee(method, 3, &got, "b", BOB), "bob2"));
        m.serve();
        let heard = m.w.expect(ALICE, method);
        m.w.take(BOB);
        let extra = format!("Contact: <sip:alice@{ALICE}>\r\n");
        m.w.send(ALICE, &with_sdp(&respond(&heard, 200, "x", &extra), "alice2"));
        m.serve();
        let yes = m.w.expect(BOB, "SIP/2.0 200 ");
        if method == "INVITE" {
            m.w.send(BOB, &in_dialog_of_callee("ACK", 3, &got, "b", BOB));
            m.w.expect(ALICE, "ACK ");
        }
        assert!(yes.contains("s=answer b>ac1"), "{yes}");
        m.told.clear();
        // With the same SDP again, as session timers do, nothing is written down.
        let logged = m.w.log.len();
        m.w.send(BOB, &with_sdp(&in_dialog_of_callee("UPDATE", 5, &got, "b", BOB), "bob2"));
        m.serve();
        let heard = m.w.expect(ALICE, "UPDATE ");
        m.w.send(ALICE, &with_sdp(&respond(&heard, 200, "x", &extra), "alice2"));
        m.serve();
        m.w.expect(BOB, "SIP/2.0 200 ");
        let media = m.w.log[logged..].iter().filter(|c| matches!(c, SipCommand::Media(_))).count();
        assert_eq!(media, 0);
        m.told.clear();
        let (_, heard, _) = asks(&mut m, "INVITE", false, &got, &ok);
        m.w.send(BOB, &respond(&heard, 488, "b", ""));
        let asked = m.serve();
        assert_eq!(asked, ["offer b>ac1 at 10.77.0.41:2223", "answer b>ac1 at 10.77.0.41:2223"]);
        assert_eq!(told(&mut m), ["offer bob2", "answer alice2"]);
        assert!(m.w.state.index_is_right());
    }
}

#[test]
fn an_offer_in_the_2xx_and_its_answer_in_the_ack_are_what_was_agreed_on() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    m.w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    m.w.take(ALICE);
    let got = m.w.expect(BOB, "INVITE ");
    m.w.send(BOB, &with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob"));
    m.serve();
    let ok = m.w.expect(ALICE, "SIP/2.0 200 ");
    m.w.send(ALICE, &with_sdp(&in_dialog_of_caller("ACK", 1, &ok, ALICE), "alice"));
    m.serve();
    m.w.expect(BOB, "ACK ");
    m.told.clear();
    let (_, heard, _) = asks(&mut m, "INVITE", false, &got, &ok);
    m.w.send(BOB, &respond(&heard, 488, "b", ""));
    assert_eq!(m.serve(), ["offer b>ac1 at 10.77.0.41:2223", "answer b>ac1 at 10.77.0.41:2223"]);
    assert_eq!(told(&mut m), ["offer bob", "answer alice"]);
}

#[test]
fn of_offers_that_cross_only_the_end_of_the_last_one_decides_rfc3261_14_1() {
    for second_succeeds in [false, true] {
        let (mut m, got, ok) = talking();
        let (_, at_bob, _) = asks(&mut m, "INVITE", false, &got, &ok);
        let (_, at_alice, _) = asks(&mut m, "UPDATE", true, &got, &ok);
        m.w.send(BOB, &respond(&at_bob, 491, "b", ""));
        assert_eq!(told(&mut m), Vec::<String>::new(), "alice may still accept what bob offers");
        if second_succeeds {
            m.w.send(ALICE, &with_sdp(&respond(&at_alice, 200, "x", ""), "alice2"));
            assert_eq!(told(&mut m), ["answer alice2"]);
        } else {
            m.w.send(ALICE, &respond(&at_alice, 491, "x", ""));
            assert_eq!(told(&mut m), TOLD_AGAIN);
        }
    }
}

#[test]
fn an_offer_that_comes_while_the_rtpengine_is_told_again_makes_that_void() {
    let (mut m, got, ok) = talking();
    let (_, heard, _) = asks(&mut m, "INVITE", false, &got, &ok);
    m.w.send(BOB, &respond(&heard, 491, "b", ""));
    m.w.take(ALICE);
    // It has not answered yet.
    m.w.send(BOB, &with_sdp(&in_dialog_of_callee("UPDATE", 9, &got, "b", BOB), "bob2"));
    assert_eq!(told(&mut m), ["offer alice", "offer bob2"], "and no answer of before behind it");
    let update = m.w.take(ALICE).into_iter().find(|r| r.starts_with("UPDATE ")).expect("the UPDATE");
    m.w.send(ALICE, &with_sdp(&respond(&update, 200, "x", ""), "alice2"));
    assert_eq!(told(&mut m), ["answer alice2"]);
}

#[test]
fn who_takes_over_tells_the_rtpengine_again_whenever_the_last_owner_was_lost() {
    // Lost while bob thinks, while the rtpengine is told, after its first answer.
    for lost in 0..3 {
        let (mut m, got, ok) = talking();
        let (_, heard, _) = asks(&mut m, "INVITE", false, &got, &ok);
        if lost == 0 {
            m.w.fail_over(Duration::from_millis(300));
            assert_eq!(m.w.expect(BOB, "INVITE "), heard);
        }
        m.w.send(BOB, &respond(&heard, 488, "b", ""));
        m.w.expect(ALICE, "SIP/2.0 488 ");
        if lost > 0 {
            if lost == 2 {
                let rest = m.w.media.split_off(1);
                m.serve_first();
                m.w.media.extend(rest);
            }
            m.w.fail_over(Duration::from_millis(300));
            m.told.clear();
        }
        assert_eq!(told(&mut m), TOLD_AGAIN, "{lost}");
        // Alice acknowledges it: nobody has to know of it any more.
        m.w.send(ALICE, &in_dialog_of_caller("ACK", 2, &ok, ALICE).replace("c1ACK", "c1INVITE"));
        m.w.send(ALICE, &in_dialog_of_caller("BYE", 3, &ok, ALICE));
        let bye = m.w.take(BOB).into_iter().find(|r| r.starts_with("BYE ")).expect("a BYE");
        m.w.send(BOB, &respond(&bye, 200, "b", ""));
        assert!(m.serve().contains(&String::from("delete ac1> at 10.77.0.41:2223")));
    }
}

#[test]
fn where_sdp_that_names_a_private_address_came_from_is_said_again() {
    let private = |text: &str| text.replace("203.0.113.9", "192.168.1.77");
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    m.w.send(ALICE, &private(&with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice")).replace(": 48", ": 49"));
    m.serve();
    m.w.take(ALICE);
    let got = m.w.expect(BOB, "INVITE ");
    m.w.send(BOB, &with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob"));
    m.serve();
    let ok = m.w.expect(ALICE, "SIP/2.0 200 ");
    m.w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    m.w.take(BOB);
    assert_eq!(m.told, ["offer alice from elsewhere", "answer bob"]);
    m.told.clear();
    let (_, heard, _) = asks(&mut m, "INVITE", false, &got, &ok);
    m.w.send(BOB, &respond(&heard, 488, "b", ""));
    assert_eq!(told(&mut m), ["offer alice from elsewhere", "answer bob"]);
}

#[test]
fn sdp_that_is_too_large_to_be_kept_is_not_told_again_and_the_call_goes_on() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    let huge = "h".repeat(MAX_AGREED_BYTES / 2 + 1);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    m.serve();
    m.w.take(ALICE);
    let got = m.w.expect(BOB, "INVITE ");
    m.w.send(BOB, &with_sdp(&respond(&got, 200, "b", &contact(BOB)), &huge.repeat(2)));
    m.serve();
    let ok = m.w.expect(ALICE, "SIP/2.0 200 ");
    m.w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    m.w.take(BOB);
    m.told.clear();
    let dialog = m.w.state.dialogs().next().expect("a dialog");
    assert!(dialog.media.as_ref().is_some_and(|s| s.agreed.is_none()));
    let (_, heard, _) = asks(&mut m, "INVITE", false, &got, &ok);
    m.w.send(BOB, &respond(&heard, 488, "b", ""));
    assert_eq!(told(&mut m), Vec::<String>::new());
}

#[test]
fn an_offer_before_the_answer_that_is_refused_is_taken_back_rfc3311() {
    for agreed_anew in [false, true] {
        let mut m = world();
        m.only(ONE);
        let got = m.call("c1");
        m.w.send(BOB, &with_sdp(&respond(&got, 183, "b", &contact(BOB)), "bob"));
        m.serve();
        m.w.expect(ALICE, "SIP/2.0 183 ");
        if agreed_anew {
            m.w.send(BOB, &with_sdp(&in_dialog_of_callee("UPDATE", 6, &got, "b", BOB), "bob2"));
            m.serve();
            let update = m.w.expect(ALICE, "UPDATE ");
            m.w.send(ALICE, &with_sdp(&respond(&update, 200, "ac1", ""), "alice2"));
            m.serve();
            m.w.expect(BOB, "SIP/2.0 200 ");
            m.w.fail_over(Duration::from_millis(300));
            m.w.take(BOB);
            m.w.take(ALICE);
        }
        m.told.clear();
        m.w.send(BOB, &with_sdp(&in_dialog_of_callee("UPDATE", 7, &got, "b", BOB), "refused"));
        m.serve();
        let update = m.w.expect(ALICE, "UPDATE ");
        m.w.send(ALICE, &respond(&update, 504, "ac1", ""));
        let wanted = if agreed_anew { ["offer bob2", "answer alice2"] } else { TOLD_AGAIN };
        assert_eq!(told(&mut m)[1..], wanted);
        // And it is what the dialog begins with.
        m.w.send(BOB, &respond(&got, 200, "b", &contact(BOB)));
        m.serve();
        let agreed = m.w.state.dialogs().next().and_then(|d| d.media.clone()?.agreed).expect("agreed");
        assert_eq!(agreed.by_caller, !agreed_anew);
    }
}

#[test]
fn a_call_without_rtpengines_keeps_no_sdp() {
    let mut m = with(media(Usage::Off));
    m.w.register("bob", BOB);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    let got = m.w.expect(BOB, "INVITE ");
    m.w.send(BOB, &with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob"));
    assert_eq!(m.w.state.dialogs().next().expect("a dialog").media, None);
}
