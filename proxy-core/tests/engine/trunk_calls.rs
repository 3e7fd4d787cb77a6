//! Calls out through a trunk with credentials, and calls in from it.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::io::Refusal;
use proxy_core::msg::HeaderName;
use proxy_core::state::trunk::Account;
use proxy_core::state::{Flow, SipCommand, Transport};

use crate::common::trunk::*;

#[test]
fn a_call_out_is_sent_again_with_credentials_and_its_cseq_is_the_callers_on_his_side() {
    let mut w = calling();
    let (_, ok) = called_out(&mut w);
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    assert_eq!(header(&w.expect(CARRIER, "ACK "), "CSeq").as_deref(), Some("2 ACK"));
    w.send(ALICE, &in_dialog_of_caller("INFO", 2, &ok, ALICE));
    let info = w.expect(CARRIER, "INFO ");
    assert_eq!(cseq(&info), 3);
    w.send(CARRIER, &respond(&info, 200, "k", ""));
    assert_eq!(cseq(&w.expect(ALICE, "SIP/2.0 200 ")), 2);
}

#[test]
fn requests_of_the_trunk_within_the_dialog_keep_their_cseq() {
    let mut w = calling();
    let (at_carrier, _) = talking(&mut w);
    w.send(CARRIER, &in_dialog_of_callee("BYE", 77, &at_carrier, "k", CARRIER));
    let bye = w.expect(ALICE, "BYE ");
    assert_eq!(cseq(&bye), 77);
    w.send(ALICE, &respond(&bye, 200, "a", ""));
    assert_eq!(cseq(&w.expect(CARRIER, "SIP/2.0 200 ")), 77);
    assert_eq!(w.state.counts().dialogs, 0);
}

#[test]
fn a_bye_and_a_reinvite_are_sent_again_with_credentials_also_after_a_takeover() {
    let mut w = calling();
    let (_, ok) = talking(&mut w);
    w.send(ALICE, &in_dialog_of_caller("INVITE", 2, &ok, ALICE));
    w.expect(ALICE, "SIP/2.0 100 ");
    let again = w.expect(CARRIER, "INVITE ");
    assert_eq!(cseq(&again), 3);
    w.send(CARRIER, &challenge(&again, 407));
    let sent = w.take(CARRIER);
    let again = sent.last().expect("the INVITE").clone();
    assert!(is_proved(&again, HeaderName::ProxyAuthorization), "{again}");
    assert_eq!(cseq(&again), 4);
    w.send(CARRIER, &respond(&again, 200, "k", &format!("Contact: <sip:gw@{CARRIER}>\r\n")));
    let ok2 = w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(cseq(&ok2), 2);
    w.send(ALICE, &in_dialog_of_caller("ACK", 2, &ok, ALICE));
    assert_eq!(cseq(&w.expect(CARRIER, "ACK ")), 4);
    w.fail_over(Duration::from_millis(300));
    w.take(CARRIER);
    w.take(ALICE);
    w.send(ALICE, &in_dialog_of_caller("BYE", 3, &ok, ALICE));
    let bye = w.expect(CARRIER, "BYE ");
    assert_eq!(cseq(&bye), 5);
    w.send(CARRIER, &challenge(&bye, 407));
    let bye = w.expect(CARRIER, "BYE ");
    assert!(is_proved(&bye, HeaderName::ProxyAuthorization), "{bye}");
    assert_eq!(cseq(&bye), 6);
    w.send(CARRIER, &respond(&bye, 200, "k", ""));
    assert_eq!(cseq(&w.expect(ALICE, "SIP/2.0 200 ")), 3);
    assert_eq!(w.state.counts().dialogs, 0);
}

#[test]
fn a_takeover_after_the_challenge_sends_the_same_copy_with_credentials() {
    let mut w = calling();
    w.send(ALICE, &invite("sip:0049301234@lab.test", ALICE, "c1"));
    let first = w.expect(CARRIER, "INVITE ");
    w.send(CARRIER, &challenge(&first, 407));
    let second = w.take(CARRIER).pop().expect("with credentials");
    w.fail_over(Duration::from_millis(300));
    let again = w.take(CARRIER);
    assert!(again.contains(&second), "{again:#?}");
    w.take(ALICE);
    w.send(CARRIER, &respond(&second, 200, "k", &format!("Contact: <sip:gw@{CARRIER}>\r\n")));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    assert_eq!(cseq(&w.expect(CARRIER, "ACK ")), 2);
}

#[test]
fn a_request_before_the_answer_has_the_shifted_cseq_too_and_rack_with_it() {
    let mut w = calling();
    w.send(ALICE, &invite("sip:0049301234@lab.test", ALICE, "c1"));
    let first = w.expect(CARRIER, "INVITE ");
    w.send(CARRIER, &challenge(&first, 407));
    let second = w.take(CARRIER).pop().expect("with credentials");
    let contact = format!("Contact: <sip:gw@{CARRIER}>\r\n");
    w.take(ALICE);
    w.send(CARRIER, &respond(&second, 183, "k", &format!("{contact}RSeq: 9\r\nRequire: 100rel\r\n")));
    let progress = w.expect(ALICE, "SIP/2.0 183 ");
    let prack = in_dialog_of_caller("PRACK", 2, &progress, ALICE)
        .replace("Content-Length", "RAck: 9 1 INVITE\r\nContent-Length");
    w.send(ALICE, &prack);
    let prack = w.expect(CARRIER, "PRACK ");
    assert_eq!((cseq(&prack), header(&prack, "RAck").as_deref()), (3, Some("9 2 INVITE")));
    w.send(CARRIER, &respond(&prack, 200, "k", ""));
    assert_eq!(cseq(&w.expect(ALICE, "SIP/2.0 200 ")), 2);
    w.send(ALICE, &cancel("sip:0049301234@lab.test", ALICE, "c1"));
    assert_eq!(cseq(&w.expect(CARRIER, "CANCEL ")), 2);
}

#[test]
fn a_trunk_that_does_not_like_the_password_is_not_the_callers_business() {
    let mut w = calling();
    w.send(ALICE, &invite("sip:0049301234@lab.test", ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    for _ in 0..3 {
        let invite = w.take(CARRIER).pop().expect("an INVITE");
        assert!(invite.starts_with("INVITE "), "{invite}");
        w.send(CARRIER, &challenge(&invite, 407));
    }
    assert!(w.take(CARRIER).iter().all(|m| m.starts_with("ACK ")));
    let failed = w.expect(ALICE, "SIP/2.0 503 ");
    assert!(!failed.contains("Digest"), "{failed}");
}

#[test]
fn the_challenge_of_a_trunk_that_says_nothing_more_is_not_for_the_caller() {
    let mut w = calling();
    w.send(ALICE, &invite("sip:0049301234@lab.test", ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let first = w.expect(CARRIER, "INVITE ");
    w.send(CARRIER, &challenge(&first, 407));
    w.take(CARRIER);
    // The copy with credentials gets no answer at all.
    w.pass(Duration::from_secs(33));
    one(&mut w, ALICE, "SIP/2.0 408 ");
}

#[test]
fn a_bye_that_a_trunk_challenges_by_a_stream_is_sent_again_with_credentials() {
    let mut w = world(Account { expires_s: 0, proxy: format!("sip:{CARRIER};transport=tcp"), ..account() });
    let by_stream = Flow { transport: Transport::Tcp, ..flow_of(addr(CARRIER)) };
    let carrier_says = |w: &mut World, text: &str| {
        w.engine.handle_datagram(w.now, by_stream, text.as_bytes(), &w.state);
        w.settle();
    };
    w.send(ALICE, &invite("sip:0049301234@lab.test", ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_carrier = w.expect(CARRIER, "INVITE ");
    let contact = format!("Contact: <sip:gw@{CARRIER};transport=tcp>\r\n");
    carrier_says(&mut w, &respond(&at_carrier, 200, "k", &contact));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(CARRIER, "ACK ");
    w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    let bye = w.expect(CARRIER, "BYE ");
    carrier_says(&mut w, &challenge(&bye, 407));
    let bye = w.expect(CARRIER, "BYE ");
    assert_eq!(cseq(&bye), 3);
    carrier_says(&mut w, &respond(&bye, 200, "k", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(w.state.counts().dialogs, 0);
}

#[test]
fn a_cseq_that_was_moved_within_a_dialog_is_known_when_its_answer_is() {
    let mut w = calling();
    let (_, ok) = talking(&mut w);
    w.send(ALICE, &in_dialog_of_caller("INVITE", 2, &ok, ALICE));
    w.expect(ALICE, "SIP/2.0 100 ");
    let again = w.expect(CARRIER, "INVITE ");
    w.cluster = Cluster::Waits;
    w.deliver(addr(CARRIER), &challenge(&again, 407));
    while w.step() {}
    // Of what is proposed now the new number is lost, and the rest is not.
    while let Some((ticket, command)) = w.waiting.pop_front() {
        if matches!(command, SipCommand::LegShifted { .. }) {
            w.engine.handle_refused(w.now, ticket, Refusal::Overloaded, &w.state);
        } else {
            let response = w.state.apply(&command);
            w.engine.handle_committed(w.now, ticket, response, &w.state);
        }
        while w.step() {}
    }
    w.cluster = Cluster::Commits;
    let again = w.take(CARRIER).pop().expect("with credentials");
    assert_eq!(cseq(&again), 4);
    w.send(CARRIER, &respond(&again, 200, "k", &format!("Contact: <sip:gw@{CARRIER}>\r\n")));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 2, &ok, ALICE));
    assert_eq!(cseq(&w.expect(CARRIER, "ACK ")), 4, "the ACK has the number of its INVITE");
}

#[test]
fn a_number_of_the_public_network_goes_out_only_for_callers_of_ours() {
    let mut w = calling();
    let foreign = invite("sip:0049301234@lab.test", ALICE, "c1")
        .replace("From: <sip:alice@lab.test>", "From: <sip:alice@other.test>");
    w.send(ALICE, &foreign);
    w.expect(ALICE, "SIP/2.0 403 Not Allowed");
    // No number: too short, a second zero, letters.
    for (n, user) in ["+123", "000123456", "+49x30123", "49301234"].into_iter().enumerate() {
        w.send(ALICE, &invite(&format!("sip:{user}@lab.test"), ALICE, &format!("d{n}")));
        w.expect(ALICE, "SIP/2.0 404 ");
    }
    w.expect_nothing(CARRIER);
}

#[test]
fn a_trunk_that_is_switched_off_takes_no_calls() {
    let mut w = world(Account { disabled: true, expires_s: 0, ..account() });
    w.send(ALICE, &invite("sip:0049301234@lab.test", ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 503 Trunk Unavailable");
}

#[test]
fn a_call_to_the_contact_of_the_registration_goes_to_the_local_user() {
    let mut w = calling();
    w.register("bob", BOB);
    w.send(CARRIER, &invite_of_carrier("sip:carrier@10.77.0.100:5060", CARRIER, "c1"));
    let invite = w.expect(BOB, "INVITE ");
    assert_eq!(uri_of(&invite), format!("sip:bob@{BOB}"));
    // Somebody else who knows the name is nobody.
    w.send(ALICE, &invite_of_carrier("sip:carrier@10.77.0.100:5060", ALICE, "c2"));
    w.expect(ALICE, "SIP/2.0 404 ");
}

#[test]
fn a_call_from_a_source_of_the_trunk_goes_to_the_dialled_user_and_its_bye_is_answered_for() {
    let mut w = calling();
    w.register("4711", BOB);
    w.send(CARRIER, &invite_of_carrier("sip:4711@10.77.0.100:5060", CARRIER, "c1"));
    w.expect(CARRIER, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 200, "b", &format!("Contact: <sip:4711@{BOB}>\r\n")));
    let ok = w.expect(CARRIER, "SIP/2.0 200 ");
    w.send(CARRIER, &in_dialog_of_caller("ACK", 1, &ok, CARRIER));
    w.expect(BOB, "ACK ");
    // Bob hangs up, and the carrier wants to know who that is.
    w.send(BOB, &in_dialog_of_callee("BYE", 5, &at_bob, "b", BOB));
    let bye = w.expect(CARRIER, "BYE ");
    w.send(CARRIER, &challenge(&bye, 407));
    let bye = w.expect(CARRIER, "BYE ");
    assert_eq!(cseq(&bye), 6);
    assert!(is_proved(&bye, HeaderName::ProxyAuthorization), "{bye}");
    w.send(CARRIER, &respond(&bye, 200, "x", ""));
    assert_eq!(cseq(&w.expect(BOB, "SIP/2.0 200 ")), 5);
}
