//! NOTIFYs that are refused: what ends a subscription, what is said again and when (RFC 6665 §4.2.2), with takeovers.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::blf::{PresenceConfig, REPEAT_AFTER};
use proxy_core::io::EngineConfig;

const WATCHER: &str = "10.77.0.70:5070";
const ALICE: &str = "10.77.0.50:5070";
const BOB: &str = "10.77.0.60:5080";
const BOB_URI: &str = "sip:bob@lab.test";

fn subscribe(cseq: u32, to_tag: &str, expires: u32) -> String {
    let (uri, to_tag) = match to_tag {
        "" => (String::from(BOB_URI), String::new()),
        tag => (format!("sip:{VIP}"), format!(";tag={tag}")),
    };
    format!(
        "SUBSCRIBE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {WATCHER};branch=z9hG4bKsub{cseq};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:carol@lab.test>;tag=w1\r\nTo: <{BOB_URI}>{to_tag}\r\nCall-ID: sub-1\r\n\
         CSeq: {cseq} SUBSCRIBE\r\nContact: <sip:carol@{WATCHER}>\r\nEvent: dialog\r\nExpires: {expires}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// The NOTIFY that was sent, however often.
fn notify(w: &mut World) -> String {
    let mut all = w.take(WATCHER);
    all.dedup();
    let [notify] = all.as_slice() else { panic!("one NOTIFY, not {all:#?}") };
    assert!(notify.starts_with("NOTIFY "), "{notify}");
    notify.clone()
}

/// A watcher who has been told, and bob, who rings now: the NOTIFY of that, our tag, and the INVITE that bob has.
fn ringing(expires: u32) -> (World, String, String, String) {
    let presence = PresenceConfig { enabled: true, ..PresenceConfig::default() };
    let mut w = World::with(EngineConfig { presence, ..config() });
    w.register("bob", BOB);
    w.send(WATCHER, &subscribe(1, "", expires));
    let all = w.take(WATCHER);
    let [ok, notify] = all.as_slice() else { panic!("{all:#?}") };
    let tag = header(ok, "To").and_then(|to| to.split("tag=").nth(1).map(str::to_owned)).expect("a To tag");
    w.send(WATCHER, &respond(notify, 200, "w1", ""));
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let trying = self::notify(&mut w);
    w.send(WATCHER, &respond(&trying, 200, "w1", ""));
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 180, "b", ""));
    let early = self::notify(&mut w);
    assert!(early.contains("<state>early</state>"), "{early}");
    (w, early, tag, got)
}

fn refuse(w: &mut World, notify: &str, status: u16, retry_after: &str) {
    w.send(WATCHER, &respond(notify, status, "w1", retry_after));
}

#[test]
fn a_notify_refused_with_retry_after_is_said_again_then_and_not_before_rfc6665_4_2_2() {
    for status in [500, 503, 486] {
        let (mut w, refused, _, got) = ringing(600);
        refuse(&mut w, &refused, status, "Retry-After: 7 (busy);duration=60\r\n");
        // Also what happens meanwhile waits until then.
        w.send(BOB, &respond(&got, 200, "b", "Contact: <sip:bob@10.77.0.60:5080>\r\n"));
        w.pass(Duration::from_secs(6));
        w.expect_nothing(WATCHER);
        w.pass(Duration::from_secs(2));
        let again = notify(&mut w);
        assert!(again.contains("<state>confirmed</state>"), "it shows what is now: {again}");
        assert_ne!(header(&again, "CSeq"), header(&refused, "CSeq"));
        refuse(&mut w, &again, 200, "");
        w.pass(Duration::from_secs(30));
        w.expect_nothing(WATCHER);
        assert_eq!(w.state.counts().subscriptions, 1);
    }
}

#[test]
fn one_refused_without_retry_after_is_said_again_a_few_times_and_then_with_the_next_change() {
    let (mut w, mut last, _, got) = ringing(3600);
    let mut said = 1;
    loop {
        refuse(&mut w, &last, 503, "");
        w.pass(REPEAT_AFTER - Duration::from_secs(1));
        w.expect_nothing(WATCHER);
        w.pass(Duration::from_secs(2));
        let Some(again) = w.take(WATCHER).into_iter().next() else { break };
        (last, said) = (again, said + 1);
        assert!(said < 10, "it comes to an end");
    }
    assert_eq!(said, 4, "three times more");
    w.send(BOB, &respond(&got, 200, "b", "Contact: <sip:bob@10.77.0.60:5080>\r\n"));
    let change = notify(&mut w);
    refuse(&mut w, &change, 200, "");
    assert_eq!(w.state.counts().subscriptions, 1);
}

#[test]
fn a_refresh_is_answered_at_once_also_while_a_refused_notify_waits_rfc6665_4_2_1() {
    let (mut w, refused, tag, _) = ringing(600);
    refuse(&mut w, &refused, 503, "Retry-After: 60\r\n");
    w.send(WATCHER, &subscribe(2, &tag, 600));
    let all = w.take(WATCHER);
    let [ok, again] = all.as_slice() else { panic!("{all:#?}") };
    assert!(ok.starts_with("SIP/2.0 200 ") && again.starts_with("NOTIFY "), "{all:#?}");
    refuse(&mut w, again, 200, "");
    w.pass(Duration::from_secs(70));
    w.expect_nothing(WATCHER);
}

#[test]
fn a_refused_notify_that_waits_is_said_by_who_takes_over() {
    let (mut w, refused, ..) = ringing(600);
    refuse(&mut w, &refused, 503, "Retry-After: 60\r\n");
    w.fail_over(Duration::from_millis(300));
    w.pass(Duration::from_secs(1));
    let again = notify(&mut w);
    assert!(again.contains("<state>"), "{again}");
    refuse(&mut w, &again, 503, "Retry-After: 5\r\n");
    w.pass(Duration::from_secs(4));
    w.expect_nothing(WATCHER);
    w.pass(Duration::from_secs(2));
    let again = notify(&mut w);
    refuse(&mut w, &again, 200, "");
    assert_eq!(w.state.counts().subscriptions, 1);
}

#[test]
fn a_subscription_that_ends_while_a_refused_notify_waits_is_told_its_end_alone_rfc6665_4_4_1() {
    let (mut w, refused, ..) = ringing(60);
    refuse(&mut w, &refused, 503, "Retry-After: 300\r\n");
    w.pass(Duration::from_secs(62));
    let last = w.take(WATCHER);
    assert!(last.iter().all(|n| n.contains("terminated;reason=timeout")) && !last.is_empty(), "{last:#?}");
    assert_eq!(w.state.counts().subscriptions, 0);
    refuse(&mut w, &last[0].clone(), 200, "");
    w.pass(Duration::from_secs(300));
    w.expect_nothing(WATCHER);
}

#[test]
fn an_end_with_retry_after_is_an_end_all_the_same_rfc6665_4_2_2() {
    let (mut w, refused, ..) = ringing(600);
    refuse(&mut w, &refused, 481, "Retry-After: 5\r\n");
    w.pass(Duration::from_secs(10));
    w.expect_nothing(WATCHER);
    assert_eq!(w.state.counts().subscriptions, 0);
}

#[test]
fn who_merely_knows_the_tags_of_a_subscription_neither_moves_nor_ends_it() {
    const EVE: &str = "10.99.0.66:5060";
    let (mut w, early, tag, _) = ringing(600);
    w.send(WATCHER, &respond(&early, 200, "w1", ""));
    for (cseq, expires) in [(2, 600), (3, 0)] {
        w.send(EVE, &subscribe(cseq, &tag, expires).replace(WATCHER, EVE));
        w.expect(EVE, "SIP/2.0 481 ");
        w.expect_nothing(WATCHER);
    }
    assert!(w.state.subscriptions().all(|s| s.flow.remote == addr(WATCHER) && s.remote_cseq == 1));
    // The watcher brings our Contact back, wherever he is now.
    w.send(WATCHER, &subscribe(4, &tag, 600));
    let ok = w.take(WATCHER).into_iter().find(|m| m.starts_with("SIP/2.0 200 ")).expect("200");
    let contact = header(&ok, "Contact").expect("ours");
    let moved = subscribe(5, &tag, 600)
        .replace(
            &format!("SUBSCRIBE sip:{VIP} "),
            &format!("SUBSCRIBE {} ", contact.trim_matches(['<', '>'])),
        )
        .replace(WATCHER, "10.77.0.71:5071");
    w.send("10.77.0.71:5071", &moved);
    assert!(w.take("10.77.0.71:5071").iter().any(|m| m.starts_with("SIP/2.0 200 ")));
}
