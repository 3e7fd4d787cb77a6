//! Trunks: registration by one node after the other as one client, calls out with credentials, calls in.

#[path = "common/story.rs"]
mod story;

use std::time::Duration;

use proxy_core::digest::{Algorithm, Credentials, ha1};
use proxy_core::io::{EngineConfig, Refusal};
use proxy_core::msg::{HeaderName, Message};
use proxy_core::state::trunk::{Account, RegistrationState, TrunkCommand};
use proxy_core::state::{Flow, SipCommand, SipResponse, Transport};
use proxy_core::trunk::TrunkConfig;
use story::*;

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const CARRIER: &str = "10.77.0.220:5060";
const CALL_ID: &str = "trunk-call-id-1";
const CHALLENGE: &str = "Digest realm=\"carrier.test\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"";

fn account() -> Account {
    Account {
        uuid: String::from("carrier"),
        local_user: String::from("bob"),
        local_domain: String::from("lab.test"),
        remote_user: String::from("4930555"),
        remote_domain: String::from("carrier.test"),
        realm: String::from("carrier.test"),
        auth_user: String::from("4930555"),
        ha1: ha1("4930555", "carrier.test", "secret"),
        proxy: format!("sip:{CARRIER}"),
        expires_s: 600,
        contact_user: String::from("carrier"),
        sources: vec![String::from("10.77.0.220")],
        disabled: false,
    }
}

fn command(w: &mut World, command: TrunkCommand) -> SipResponse {
    w.state.apply(&SipCommand::Trunk(command))
}

fn put(w: &mut World, account: Account) {
    let at = w.now.wall;
    let put = TrunkCommand::Put { account: Box::new(account), call_id: CALL_ID.to_owned(), at };
    assert_eq!(command(w, put), SipResponse::Done);
}

fn world(account: Account) -> World {
    let mut w = World::with(EngineConfig {
        trunk: TrunkConfig { pstn: Some(String::from("carrier")), ..TrunkConfig::default() },
        ..config()
    });
    put(&mut w, account);
    w
}

/// A trunk for calls only.
fn calling() -> World {
    world(Account { expires_s: 0, ..account() })
}

fn state(w: &World) -> RegistrationState {
    w.state.trunk("carrier").expect("the trunk").registration.state
}

fn cseq(message: &str) -> u32 {
    Message::parse(message.as_bytes()).expect("a message").cseq().expect("CSeq").number
}

/// Whether the credentials in this header are right for that request.
fn is_proved(request: &str, name: HeaderName) -> bool {
    let message = Message::parse(request.as_bytes()).expect("a message");
    let value = message.header(name).unwrap_or_default();
    let method = request.split(' ').next().unwrap_or_default();
    let secret = Algorithm::Md5.ha1_of(&ha1("4930555", "carrier.test", "secret")).expect("MD5");
    Credentials::read(value).is_some_and(|c| c.uri == uri_of(request) && c.proves(&secret, method))
}

fn challenge(request: &str, status: u16) -> String {
    let name = if status == 401 { "WWW-Authenticate" } else { "Proxy-Authenticate" };
    respond(request, status, "ch", &format!("{name}: {CHALLENGE}\r\n"))
}

/// What a side has got, with retransmissions of it.
fn one(w: &mut World, at: &str, start: &str) -> String {
    let all = w.take(at);
    assert!(!all.is_empty() && all.iter().all(|m| m == &all[0] && m.starts_with(start)), "{all:#?}");
    all[0].clone()
}

/// Plays the registrar: challenge, then 200 with this expiry. Gives the REGISTER with credentials.
fn grant(w: &mut World, expires: u32) -> String {
    let first = one(w, CARRIER, "REGISTER ");
    w.send(CARRIER, &challenge(&first, 401));
    let second = one(w, CARRIER, "REGISTER ");
    let contact = header(&second, "Contact").expect("Contact");
    w.send(CARRIER, &respond(&second, 200, "r", &format!("Contact: {contact};expires={expires}\r\n")));
    second
}

#[test]
fn a_trunk_registers_with_digest_and_refreshes_as_the_same_client() {
    let mut w = world(account());
    w.pass(Duration::from_millis(600));
    let second = grant(&mut w, 300);
    assert_eq!(header(&second, "Contact").as_deref(), Some("<sip:carrier@10.77.0.100:5060>"));
    assert_eq!(header(&second, "Expires").as_deref(), Some("600"));
    assert_eq!(uri_of(&second), "sip:carrier.test");
    assert!(is_proved(&second, HeaderName::Authorization), "{second}");
    assert_eq!((cseq(&second), state(&w)), (2, RegistrationState::Registered));
    // Half of what was granted, as that is short.
    w.pass(Duration::from_secs(149));
    w.expect_nothing(CARRIER);
    w.pass(Duration::from_secs(2));
    let refresh = grant(&mut w, 300);
    assert_eq!(cseq(&refresh), 4);
    for name in ["Call-ID", "Contact", "From"] {
        assert_eq!(header(&refresh, name), header(&second, name));
    }
}

#[test]
fn a_cseq_is_replicated_before_it_is_sent() {
    let mut w = world(account());
    w.cluster = Cluster::Waits;
    w.pass(Duration::from_millis(600));
    w.expect_nothing(CARRIER);
    w.pass(Duration::from_secs(5));
    assert_eq!(w.waiting.len(), 1, "one attempt at a time");
    w.commit_all();
    one(&mut w, CARRIER, "REGISTER ");
}

#[test]
fn a_successor_does_not_register_a_second_time_and_refreshes_when_it_is_due() {
    let mut w = world(account());
    w.pass(Duration::from_millis(600));
    let before = grant(&mut w, 600);
    w.fail_over(Duration::from_millis(300));
    w.pass(Duration::from_secs(290));
    w.expect_nothing(CARRIER);
    w.pass(Duration::from_secs(11));
    let after = grant(&mut w, 600);
    assert!(cseq(&after) > cseq(&before));
    for name in ["Call-ID", "Contact", "From"] {
        assert_eq!(header(&after, name), header(&before, name));
    }
}

#[test]
fn a_takeover_in_the_middle_of_a_registration_goes_on_at_once_with_the_next_cseq() {
    let mut w = world(account());
    w.pass(Duration::from_millis(600));
    let lost = one(&mut w, CARRIER, "REGISTER ");
    assert_eq!(state(&w), RegistrationState::Ongoing);
    w.fail_over(Duration::from_millis(300));
    // An answer for the lost one is a stray here.
    w.send(CARRIER, &challenge(&lost, 401));
    w.expect_nothing(CARRIER);
    w.pass(Duration::from_millis(600));
    let next = grant(&mut w, 600);
    assert_eq!((cseq(&lost), cseq(&next)), (1, 3));
    assert_eq!(state(&w), RegistrationState::Registered);
}

#[test]
fn a_proposal_whose_fate_is_unknown_does_not_stop_the_registration() {
    let mut w = world(account());
    w.cluster = Cluster::CommitsUnheard;
    w.pass(Duration::from_millis(600));
    w.expect_nothing(CARRIER);
    assert_eq!(state(&w), RegistrationState::Ongoing);
    w.cluster = Cluster::Refuses(Refusal::Unknown);
    w.pass(Duration::from_secs(2));
    w.expect_nothing(CARRIER);
    w.cluster = Cluster::Commits;
    w.pass(Duration::from_millis(600));
    assert_eq!(cseq(&grant(&mut w, 600)), 3);
}

#[test]
fn a_wrong_password_is_not_tried_for_ever() {
    let mut w = world(account());
    w.pass(Duration::from_millis(600));
    for _ in 0..3 {
        let request = one(&mut w, CARRIER, "REGISTER ");
        w.send(CARRIER, &challenge(&request, 401));
    }
    w.expect_nothing(CARRIER);
    assert_eq!(state(&w), RegistrationState::Failed);
    // 10 s, then 20 s.
    w.pass(Duration::from_secs(9));
    w.expect_nothing(CARRIER);
    w.pass(Duration::from_secs(2));
    let request = one(&mut w, CARRIER, "REGISTER ");
    w.send(CARRIER, &respond(&request, 403, "r", ""));
    assert_eq!(w.state.trunk("carrier").expect("it").registration.last, "403 Forbidden");
    w.pass(Duration::from_secs(19));
    w.expect_nothing(CARRIER);
    w.pass(Duration::from_secs(2));
    one(&mut w, CARRIER, "REGISTER ");
}

#[test]
fn a_challenge_of_another_realm_says_so() {
    let mut w = world(Account { realm: String::from("elsewhere"), ..account() });
    w.pass(Duration::from_millis(600));
    let request = one(&mut w, CARRIER, "REGISTER ");
    w.send(CARRIER, &challenge(&request, 401));
    w.expect_nothing(CARRIER);
    let last = w.state.trunk("carrier").expect("it").registration.last.clone();
    assert!(last.contains("elsewhere") && last.contains("carrier.test"), "{last}");
}

#[test]
fn retry_after_of_the_registrar_is_respected_and_423_asks_for_more() {
    let mut w = world(account());
    w.pass(Duration::from_millis(600));
    let request = one(&mut w, CARRIER, "REGISTER ");
    w.send(CARRIER, &respond(&request, 503, "r", "Retry-After: 120 (later)\r\n"));
    w.pass(Duration::from_secs(118));
    w.expect_nothing(CARRIER);
    w.pass(Duration::from_secs(3));
    let request = one(&mut w, CARRIER, "REGISTER ");
    w.send(CARRIER, &respond(&request, 423, "r", "Min-Expires: 1800\r\n"));
    w.pass(Duration::from_millis(600));
    let request = one(&mut w, CARRIER, "REGISTER ");
    assert_eq!(header(&request, "Expires").as_deref(), Some("1800"));
    w.send(CARRIER, &respond(&request, 200, "r", ""));
    assert_eq!(state(&w), RegistrationState::Registered);
    // Ten minutes before the end, as that is long.
    w.pass(Duration::from_secs(1198));
    w.expect_nothing(CARRIER);
    w.pass(Duration::from_secs(3));
    one(&mut w, CARRIER, "REGISTER ");
}

#[test]
fn a_registrar_that_does_not_answer_is_tried_again_later() {
    let mut w = world(account());
    w.pass(Duration::from_secs(34));
    let all = w.take(CARRIER);
    assert!(all.len() > 5 && all.iter().all(|m| m == &all[0]), "retransmissions of one REGISTER");
    assert_eq!(state(&w), RegistrationState::Failed);
    assert_eq!(w.state.trunk("carrier").expect("it").registration.last, "no answer");
    w.pass(Duration::from_secs(10));
    assert!(cseq(&w.take(CARRIER)[0]) == 2);
}

#[test]
fn switching_a_trunk_off_ends_its_registration_once_and_on_again_registers() {
    let mut w = world(account());
    w.pass(Duration::from_millis(600));
    grant(&mut w, 600);
    let at = w.now.wall;
    command(&mut w, TrunkCommand::Enable { uuid: String::from("carrier"), enabled: false, at });
    w.pass(Duration::from_millis(600));
    let end = grant(&mut w, 0);
    assert_eq!(header(&end, "Expires").as_deref(), Some("0"));
    assert_eq!(state(&w), RegistrationState::Idle);
    w.pass(Duration::from_secs(3600));
    w.expect_nothing(CARRIER);
    let at = w.now.wall;
    command(&mut w, TrunkCommand::Enable { uuid: String::from("carrier"), enabled: true, at });
    w.pass(Duration::from_millis(600));
    grant(&mut w, 600);
    assert_eq!(state(&w), RegistrationState::Registered);
}

#[test]
fn only_the_engine_that_gets_the_answers_registers() {
    let mut sent = 0;
    for shard in 0..4 {
        let mut w = World::with(EngineConfig { shard, shards: 4, ..config() });
        put(&mut w, account());
        w.pass(Duration::from_secs(2));
        sent += usize::from(!w.take(CARRIER).is_empty());
    }
    assert_eq!(sent, 1);
}

/// Alice calls a number, the carrier asks for credentials and answers. Gives the INVITE it took, and her 200.
fn called_out(w: &mut World) -> (String, String) {
    w.send(ALICE, &invite("sip:0049301234@lab.test", ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let first = w.expect(CARRIER, "INVITE ");
    assert_eq!(uri_of(&first), "sip:+49301234@carrier.test");
    w.send(CARRIER, &challenge(&first, 407));
    let sent = w.take(CARRIER);
    assert!(sent[0].starts_with("ACK ") && sent.len() == 2, "{sent:#?}");
    let second = sent[1].clone();
    assert_eq!((cseq(&first), cseq(&second)), (1, 2));
    assert!(is_proved(&second, HeaderName::ProxyAuthorization), "{second}");
    w.send(CARRIER, &respond(&second, 180, "k", ""));
    assert_eq!(cseq(&w.expect(ALICE, "SIP/2.0 180 ")), 1);
    w.send(CARRIER, &respond(&second, 200, "k", &format!("Contact: <sip:gw@{CARRIER}>\r\n")));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(header(&ok, "CSeq").as_deref(), Some("1 INVITE"));
    (second, ok)
}

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
    let (at_carrier, ok) = called_out(&mut w);
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(CARRIER, "ACK ");
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
    let (_, ok) = called_out(&mut w);
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(CARRIER, "ACK ");
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
    let (_, ok) = called_out(&mut w);
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(CARRIER, "ACK ");
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

fn invite_of_carrier(uri: &str, from: &str, call: &str) -> String {
    invite(uri, from, call).replace("From: <sip:alice@lab.test>", "From: <sip:+4989@carrier.test>")
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

/// Alice and a carrier that act by themselves and repeat what is not answered, over a node that is lost after any one of
/// its outputs.
struct Drive {
    w: World,
    outputs: u64,
    lost_after: Option<u64>,
    /// What the lost node had proposed is committed all the same.
    committed: bool,
    ok: Option<String>,
    bye_done: bool,
    trying: bool,
    /// Branch and CSeq of each INVITE and BYE that the carrier has seen, in order.
    seen: Vec<(String, u32)>,
    acked: bool,
    /// The carrier has answered a BYE.
    over: bool,
    /// The 200 of the carrier, until its ACK.
    answer: Option<String>,
}

impl Drive {
    fn new(lost_after: Option<u64>, committed: bool) -> Self {
        Self {
            w: calling(),
            outputs: 0,
            lost_after,
            committed,
            ok: None,
            bye_done: false,
            trying: false,
            seen: Vec::new(),
            acked: false,
            over: false,
            answer: None,
        }
    }

    /// All that follows at once, output by output.
    fn settle(&mut self) {
        loop {
            while self.w.step() {
                self.outputs += 1;
                if self.lost_after == Some(self.outputs) {
                    self.lose();
                }
            }
            if !self.w.verdict() {
                return;
            }
        }
    }

    fn lose(&mut self) {
        for (_, command) in std::mem::take(&mut self.w.waiting) {
            if self.committed {
                self.w.state.apply(&command);
            }
        }
        self.w.tick(Duration::from_millis(300));
        self.w.engine = proxy_core::engine::Engine::new(self.w.config.clone());
        self.w.engine.activate(self.w.now, &self.w.state);
    }

    fn say(&mut self, from: &str, text: &str) {
        self.w.deliver(addr(from), text);
        self.settle();
    }

    fn carrier_hears(&mut self, text: &str) {
        let method = text.split(' ').next().unwrap_or_default();
        if method == "SIP/2.0" {
            return;
        }
        let branch = header(text, "Via").expect("Via").split(", ").next().unwrap_or_default().to_owned();
        if method == "BYE" && self.over && !self.seen.iter().any(|(b, _)| *b == branch) {
            // The call has ended here: a BYE that comes once more, by a node that has forgotten the call, is none's.
            self.say(CARRIER, &respond(text, 481, "k", ""));
            return;
        }
        if matches!(method, "INVITE" | "BYE") {
            let last = self.seen.last().cloned();
            if !self.seen.iter().any(|(b, c)| *b == branch && *c == cseq(text)) {
                let fits = last.is_none_or(|(_, c)| c < cseq(text));
                assert!(fits, "a new request has a higher CSeq: {text}\nafter {:?}", self.seen);
                self.seen.push((branch, cseq(text)));
            }
        }
        match method {
            "INVITE" if !is_proved(text, HeaderName::ProxyAuthorization) => {
                self.say(CARRIER, &challenge(text, 407));
            }
            "INVITE" => {
                let ok = respond(text, 200, "k", &format!("Contact: <sip:gw@{CARRIER}>\r\n"));
                self.answer.get_or_insert(ok.clone());
                self.say(CARRIER, &ok);
            }
            "ACK" => {
                let of_answer = self.answer.as_ref().is_some_and(|ok| cseq(ok) == cseq(text));
                self.acked |= of_answer;
            }
            "BYE" if !is_proved(text, HeaderName::ProxyAuthorization) => {
                self.say(CARRIER, &challenge(text, 407));
            }
            "BYE" => {
                self.over = true;
                self.say(CARRIER, &respond(text, 200, "k", ""));
            }
            other => panic!("the carrier gets {other}"),
        }
    }

    fn alice_hears(&mut self, text: &str) {
        let of_bye = header(text, "CSeq").is_some_and(|c| c.ends_with("BYE"));
        if text.starts_with("SIP/2.0 100 ") {
            self.trying = true;
        } else if text.starts_with("SIP/2.0 200 ") && !of_bye {
            assert_eq!(cseq(text), 1);
            self.ok = Some(text.to_owned());
            self.say(ALICE, &in_dialog_of_caller("ACK", 1, text, ALICE));
        } else if text.starts_with("SIP/2.0 200 ") || (self.over && text.starts_with("SIP/2.0 481 ")) {
            assert_eq!(cseq(text), 2);
            self.bye_done = true;
        } else {
            panic!("Alice gets {text}");
        }
    }

    fn run(&mut self) -> u64 {
        for round in 0..600 {
            let again = round % 5 == 0;
            if again && !self.trying && self.ok.is_none() {
                self.say(ALICE, &invite("sip:0049301234@lab.test", ALICE, "c1"));
            }
            if let Some(ok) = self.ok.clone().filter(|_| again && self.acked && !self.bye_done) {
                self.say(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
            }
            if let Some(answer) = self.answer.clone().filter(|_| again && !self.acked) {
                self.say(CARRIER, &answer);
            }
            for text in self.w.take(CARRIER) {
                self.carrier_hears(&text);
            }
            for text in self.w.take(ALICE) {
                self.alice_hears(&text);
            }
            self.w.tick(Duration::from_millis(100));
            self.w.engine.handle_timeout(self.w.now, &self.w.state);
            self.settle();
            if self.bye_done {
                break;
            }
        }
        assert!(self.bye_done, "the call ends; the carrier has seen {:?}", self.seen);
        assert_eq!(self.w.state.counts().dialogs, 0);
        self.outputs
    }
}

#[test]
fn a_call_out_with_credentials_survives_the_loss_of_the_node_after_each_of_its_outputs() {
    let outputs = Drive::new(None, false).run();
    assert!(outputs > 15, "{outputs}");
    for lost_after in 1..=outputs {
        for committed in [false, true] {
            println!("lost after {lost_after}, committed: {committed}");
            let mut drive = Drive::new(Some(lost_after), committed);
            drive.run();
            assert!(drive.seen.len() <= 6, "{:?}", drive.seen);
        }
    }
}
