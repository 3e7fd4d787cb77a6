//! Messages for users who have no phone: kept, delivered in order when they register, over takeovers (RFC 3428).

use std::time::Duration;

use crate::common::story::*;
use proxy_core::io::{EngineConfig, Refusal};
use proxy_core::offline::MessageStoreConfig;
use proxy_core::state::limits::MAX_MESSAGE_BYTES;
use proxy_core::state::message_store::MessageCommand;
use proxy_core::state::{ProvisionCommand, SipCommand, Subscriber};

pub(super) const ALICE: &str = "10.77.0.50:5070";
pub(super) const BOB: &str = "10.77.0.60:5080";
const BOB_AOR: &str = "sip:bob@lab.test";

fn store() -> MessageStoreConfig {
    MessageStoreConfig { enabled: true, max_per_user: 3, ..MessageStoreConfig::default() }
}

pub(super) fn world() -> World {
    World::with(EngineConfig { message_store: store(), ..config() })
}

pub(super) fn message(call: &str, text: &str) -> String {
    let head = format!("Subject: s-{call}\r\nContent-Type: text/plain\r\n");
    request("MESSAGE", BOB_AOR, ALICE, call, &head)
        .replace("Content-Length: 0\r\n\r\n", &format!("Content-Length: {}\r\n\r\n{text}", text.len()))
}

pub(super) fn keep(w: &mut World, call: &str, text: &str) {
    w.send(ALICE, &message(call, text));
    w.expect(ALICE, "SIP/2.0 202 ");
}

pub(super) fn register_bob(w: &mut World, cseq: u32) {
    w.send(BOB, &register("bob", BOB, cseq, &format!("<sip:bob@{BOB}>")));
}

/// What the phone got besides the answer to its REGISTER.
pub(super) fn at_bob(w: &mut World) -> Vec<String> {
    w.take(BOB).into_iter().filter(|m| !m.starts_with("SIP/2.0 200 ")).collect()
}

/// Bob registers, and gets the first message.
pub(super) fn first_try(w: &mut World) -> String {
    register_bob(w, 1);
    w.pass(Duration::from_millis(600));
    at_bob(w).pop().expect("a message")
}

pub(super) fn text_of(message: &str) -> &str {
    message.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[test]
fn a_message_is_accepted_only_when_it_is_committed_rfc3428_7() {
    let mut w = world();
    w.cluster = Cluster::Waits;
    w.send(ALICE, &message("m1", "hello"));
    w.expect_nothing(ALICE);
    w.commit_all();
    w.expect(ALICE, "SIP/2.0 202 Accepted");
    assert_eq!(w.state.counts().messages, 1);
    w.send(ALICE, &message("m1", "hello"));
    w.expect(ALICE, "SIP/2.0 202 ");
    assert_eq!(w.state.counts().messages, 1, "the retransmission is no second one");
}

#[test]
fn the_messages_come_in_order_one_by_one_when_the_user_registers() {
    let mut w = world();
    for (call, text) in [("m1", "one"), ("m2", "two"), ("m3", "three")] {
        keep(&mut w, call, text);
    }
    w.cluster = Cluster::Waits;
    register_bob(&mut w, 1);
    assert!(w.take(BOB).is_empty(), "nothing leaves before the registration is committed");
    w.cluster = Cluster::Commits;
    w.settle();
    for (call, text) in [("m1", "one"), ("m2", "two"), ("m3", "three")] {
        let all = at_bob(&mut w);
        let [got] = all.as_slice() else { panic!("one at a time: {all:#?}") };
        assert!(got.starts_with(&format!("MESSAGE sip:bob@{BOB} ")), "{got}");
        assert_eq!(text_of(got), text);
        assert_eq!(header(got, "Subject"), Some(format!("s-{call}")));
        assert_eq!(header(got, "Date").as_deref(), Some("Tue, 14 Nov 2023 22:13:20 GMT"), "when it came");
        assert!(header(got, "From").is_some_and(|f| f.starts_with("<sip:alice@lab.test>;tag=rlv")), "{got}");
        w.send(BOB, &respond(got, 200, "b", ""));
    }
    w.pass(Duration::from_secs(60));
    assert!(at_bob(&mut w).is_empty());
    assert_eq!(w.state.counts().messages, 0);
}

#[test]
fn a_takeover_in_the_middle_of_a_delivery_sends_the_very_same_request_again() {
    let mut w = world();
    keep(&mut w, "m1", "one");
    keep(&mut w, "m2", "two");
    register_bob(&mut w, 1);
    w.pass(Duration::from_millis(600));
    let mut first = at_bob(&mut w);
    first.dedup();
    w.fail_over(Duration::from_millis(300));
    w.pass(Duration::from_millis(600));
    let mut again = at_bob(&mut w);
    again.dedup();
    assert_eq!(first, again, "same Call-ID, CSeq and branch: the phone knows it");
    w.send(BOB, &respond(&again[0], 200, "b", ""));
    w.fail_over(Duration::from_millis(300));
    w.pass(Duration::from_millis(600));
    assert_eq!(text_of(&at_bob(&mut w)[0]), "two");
}

#[test]
fn a_message_that_crosses_the_registration_of_its_user_is_delivered_at_once() {
    let mut w = world();
    w.cluster = Cluster::Waits;
    register_bob(&mut w, 1);
    // His registration is not committed yet, so that nobody can find him.
    w.send(ALICE, &message("m1", "one"));
    w.cluster = Cluster::Commits;
    w.commit_all();
    w.expect(ALICE, "SIP/2.0 202 ");
    w.pass(Duration::from_millis(600));
    let got = at_bob(&mut w);
    assert_eq!(got.first().map(|m| text_of(m)), Some("one"), "not at his next refresh: {got:#?}");
}

#[test]
fn a_refusal_that_crosses_a_refresh_of_the_registration_does_not_stop_the_messages_of_the_user() {
    let mut w = world();
    keep(&mut w, "m1", "one");
    keep(&mut w, "m2", "two");
    let first = first_try(&mut w);
    w.cluster = Cluster::Waits;
    register_bob(&mut w, 2);
    w.send(BOB, &respond(&first, 486, "b", ""));
    // The refresh is committed while nobody knows yet what came of the message.
    assert!(w.verdict());
    w.cluster = Cluster::Commits;
    w.commit_all();
    w.pass(Duration::from_secs(16));
    let again = at_bob(&mut w).pop().expect("tried again");
    assert_eq!((text_of(&again), header(&again, "CSeq").as_deref()), ("one", Some("2 MESSAGE")));
    w.send(BOB, &respond(&again, 200, "b", ""));
    w.pass(Duration::from_millis(600));
    assert_eq!(text_of(&at_bob(&mut w)[0]), "two");
}

#[test]
fn a_refusal_that_could_not_be_remembered_is_remembered_later() {
    let mut w = world();
    keep(&mut w, "m1", "one");
    let first = first_try(&mut w);
    w.cluster = Cluster::Refuses(Refusal::Unknown);
    w.send(BOB, &respond(&first, 486, "b", ""));
    w.cluster = Cluster::Commits;
    w.pass(Duration::from_secs(17));
    let again = at_bob(&mut w).pop().expect("tried again");
    assert_eq!((text_of(&again), header(&again, "CSeq").as_deref()), ("one", Some("2 MESSAGE")));
}

#[test]
fn a_message_kept_before_the_node_is_lost_is_delivered_after_it() {
    let mut w = world();
    keep(&mut w, "m1", "one");
    w.fail_over(Duration::from_millis(300));
    register_bob(&mut w, 1);
    w.pass(Duration::from_millis(600));
    assert_eq!(text_of(&at_bob(&mut w)[0]), "one");
}

#[test]
fn a_refusal_for_now_is_tried_again_with_the_next_cseq_and_one_for_good_is_not() {
    let mut w = world();
    keep(&mut w, "m1", "one");
    keep(&mut w, "m2", "two");
    let first = first_try(&mut w);
    w.send(BOB, &respond(&first, 486, "b", ""));
    register_bob(&mut w, 2);
    w.pass(Duration::from_secs(10));
    assert!(at_bob(&mut w).is_empty(), "a refresh is no reason to come back earlier");
    w.pass(Duration::from_secs(6));
    let mut second = at_bob(&mut w);
    second.dedup();
    assert_eq!((text_of(&second[0]), header(&second[0], "CSeq").as_deref()), ("one", Some("2 MESSAGE")));
    assert_eq!(header(&second[0], "Call-ID"), header(&first, "Call-ID"));
    w.send(BOB, &respond(&second[0], 415, "b", ""));
    w.pass(Duration::from_millis(600));
    assert_eq!(text_of(&at_bob(&mut w)[0]), "two");
    assert_eq!(w.state.counts().messages, 1);
}

#[test]
fn silence_is_tried_again_with_the_same_cseq_a_bounded_number_of_times_and_anew_when_the_phone_is() {
    let mut w = world();
    keep(&mut w, "m1", "one");
    register_bob(&mut w, 1);
    let mut tries = 0;
    let mut quiet = 0;
    while quiet < 600 {
        w.pass(Duration::from_secs(1));
        let copies = at_bob(&mut w);
        assert!(copies.iter().all(|m| header(m, "CSeq").as_deref() == Some("1 MESSAGE")));
        tries += copies.len();
        quiet = if copies.is_empty() { quiet + 1 } else { 0 };
    }
    // 11 copies in 32 s (timers E and F), six times.
    assert_eq!(tries, 6 * 11);
    register_bob(&mut w, 2);
    w.pass(Duration::from_secs(5));
    assert!(at_bob(&mut w).is_empty(), "a refresh is nothing new");
    assert_eq!(w.state.counts().messages, 1);
    let anew = register("bob", BOB, 1, &format!("<sip:bob@{BOB}>"))
        .replace("reg-bob", "reg-new-bob")
        .replace("z9hG4bKr", "z9hG4bKn");
    w.send(BOB, &anew);
    w.pass(Duration::from_millis(600));
    assert_eq!(text_of(&at_bob(&mut w)[0]), "one");
}

#[test]
fn a_phone_that_was_out_of_reach_for_long_under_one_registration_gets_its_message_all_the_same() {
    let mut w = world();
    keep(&mut w, "m1", "one");
    register_bob(&mut w, 1);
    let mut cseq = 1;
    // Its network is gone for half an hour, or it refreshes and hears nothing.
    for minute in 0..30 {
        if minute % 10 == 9 {
            cseq += 1;
            register_bob(&mut w, cseq);
        }
        w.pass(Duration::from_secs(60));
        at_bob(&mut w);
    }
    let mut got = None;
    for minute in 0..120 {
        if minute % 10 == 9 {
            cseq += 1;
            register_bob(&mut w, cseq);
        }
        w.pass(Duration::from_secs(60));
        if let Some(message) = at_bob(&mut w).first() {
            got = Some(message.clone());
            break;
        }
    }
    // Phones keep the Call-ID of their registration until they are started again, which may take months.
    let got = got.expect("it is tried again");
    assert_eq!(text_of(&got), "one");
    w.send(BOB, &respond(&got, 200, "b", ""));
    w.pass(Duration::from_secs(1));
    assert_eq!(w.state.counts().messages, 0);
}

#[test]
fn users_who_have_gone_do_not_keep_others_from_their_messages() {
    let mut w = world();
    // More of them than are looked at between two ticks, and all before him in order of time.
    for n in 0..200 {
        let (user, at) = (format!("u{n}"), format!("10.77.1.{}:{}", n % 250, 6000 + n));
        w.send(ALICE, &message(&format!("g{n}"), "x").replace("bob", &user));
        w.expect(ALICE, "SIP/2.0 202 ");
        w.send(&at, &register(&user, &at, 1, &format!("<sip:{user}@{at}>")));
        w.pass(Duration::from_millis(600));
        let got = w.take(&at).into_iter().find(|m| m.starts_with("MESSAGE ")).expect("tried");
        w.send(&at, &respond(&got, 486, "b", ""));
        w.send(&at, &register(&user, &at, 2, &format!("<sip:{user}@{at}>;expires=0")));
        w.take(&at);
    }
    keep(&mut w, "m1", "one");
    let first = first_try(&mut w);
    w.send(BOB, &respond(&first, 486, "b", ""));
    w.pass(Duration::from_secs(20));
    let again = at_bob(&mut w).pop().expect("tried again after its pause");
    assert_eq!((text_of(&again), header(&again, "CSeq").as_deref()), ("one", Some("2 MESSAGE")));
    // And who comes back with the same registration is not forgotten.
    let at = "10.77.1.7:6007";
    w.send(at, &register("u7", at, 3, &format!("<sip:u7@{at}>")));
    w.pass(Duration::from_secs(2));
    assert!(w.take(at).iter().any(|m| m.starts_with("MESSAGE ")));
}

#[test]
fn a_message_goes_when_its_time_is_over() {
    let life = Duration::from_secs(100);
    let mut w =
        World::with(EngineConfig { message_store: MessageStoreConfig { life, ..store() }, ..config() });
    keep(&mut w, "m1", "one");
    w.pass(Duration::from_secs(99));
    assert_eq!(w.state.counts().messages, 1);
    w.pass(Duration::from_secs(3));
    assert_eq!(w.state.counts().messages, 0);
    register_bob(&mut w, 1);
    w.pass(Duration::from_secs(2));
    assert!(at_bob(&mut w).is_empty());
}

#[test]
fn a_message_that_its_sender_lets_expire_goes_then_and_says_so_to_the_phone_rfc3428_7() {
    let expiring = |call: &str, seconds: &str| {
        message(call, call).replace("Subject", &format!("Expires: {seconds}\r\nSubject"))
    };
    let mut w = world();
    w.send(ALICE, &expiring("m1", "100"));
    w.expect(ALICE, "SIP/2.0 202 ");
    // Nobody is to read it later: it cannot wait.
    w.send(ALICE, &expiring("m2", "0"));
    w.expect(ALICE, "SIP/2.0 404 ");
    // No longer than any other.
    w.send(ALICE, &expiring("m3", "4294967295"));
    w.expect(ALICE, "SIP/2.0 202 ");
    w.pass(Duration::from_secs(90));
    let got = first_try(&mut w);
    assert_eq!(
        (text_of(&got), header(&got, "Expires").as_deref()),
        ("m1", Some("100")),
        "Date says since when"
    );
    w.pass(Duration::from_secs(12));
    assert_eq!(w.state.counts().messages, 1);
    w.pass(store().life);
    assert_eq!(w.state.counts().messages, 0);
}

#[test]
fn what_there_is_no_room_for_is_refused_as_without_a_store() {
    let mut w = world();
    for call in ["m1", "m2", "m3"] {
        keep(&mut w, call, "x");
    }
    w.send(ALICE, &message("m4", "x"));
    w.expect(ALICE, "SIP/2.0 480 ");
    let total = MessageStoreConfig { max_total: 1, ..store() };
    let mut w = World::with(EngineConfig { message_store: total, ..config() });
    keep(&mut w, "m1", "x");
    w.send(ALICE, &message("m2", "x").replace("bob", "ben"));
    w.expect(ALICE, "SIP/2.0 480 ");
    let mut w = world();
    w.send(ALICE, &message("m1", &"x".repeat(9000)));
    w.expect(ALICE, "SIP/2.0 404 ");
    assert!(store().max_bytes < MAX_MESSAGE_BYTES);
}

#[test]
fn only_users_are_kept_messages_for_where_users_are_known() {
    let mut w = world();
    let subscriber = Subscriber {
        username: "bob".into(),
        domain: "lab.test".into(),
        realm: "lab.test".into(),
        ha1: proxy_core::state::Ha1 { md5: Some([1; 16]), sha256: None },
    };
    let add = ProvisionCommand::SubscriberAdd { aor: BOB_AOR.into(), subscriber };
    w.state.apply(&SipCommand::Provision(add));
    keep(&mut w, "m1", "x");
    w.send(ALICE, &message("m2", "x").replace("bob", "nobody"));
    w.expect(ALICE, "SIP/2.0 404 ");
}

#[test]
fn without_a_store_and_for_other_methods_nothing_is_kept() {
    let mut w = World::new();
    w.send(ALICE, &message("m1", "x"));
    w.expect(ALICE, "SIP/2.0 404 ");
    let mut w = world();
    w.send(ALICE, &request("INFO", BOB_AOR, ALICE, "i1", ""));
    w.expect(ALICE, "SIP/2.0 404 ");
    w.register("bob", BOB);
    w.send(ALICE, &message("m2", "x"));
    w.expect(BOB, "MESSAGE ");
}

#[test]
fn a_message_that_could_not_be_remembered_is_not_accepted() {
    let mut w = world();
    w.cluster = Cluster::Refuses(Refusal::Unknown);
    w.send(ALICE, &message("m1", "x"));
    w.expect_nothing(ALICE);
    w.cluster = Cluster::Refuses(Refusal::Overloaded);
    w.send(ALICE, &message("m1", "x"));
    w.expect(ALICE, "SIP/2.0 503 ");
}

#[test]
fn a_delivery_whose_end_could_not_be_remembered_is_not_repeated_by_this_node() {
    let mut w = world();
    keep(&mut w, "m1", "one");
    register_bob(&mut w, 1);
    w.pass(Duration::from_millis(600));
    let got = at_bob(&mut w).pop().expect("a message");
    w.cluster = Cluster::Refuses(Refusal::Unknown);
    w.send(BOB, &respond(&got, 200, "b", ""));
    w.pass(Duration::from_millis(1200));
    assert!(at_bob(&mut w).is_empty());
    w.cluster = Cluster::Commits;
    w.pass(Duration::from_millis(600));
    assert_eq!(w.state.counts().messages, 0);
    let removals =
        w.log.iter().filter(|c| matches!(c, SipCommand::Message(MessageCommand::Remove { .. }))).count();
    assert_eq!(removals, 1);
}
