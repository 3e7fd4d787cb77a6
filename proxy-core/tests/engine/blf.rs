//! Lamps: SUBSCRIBE to the calls of a user, and the NOTIFYs that follow (RFC 6665, RFC 4235), with takeovers.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::blf::{PresenceConfig, Watchers};
use proxy_core::io::{EngineConfig, Refusal};
use proxy_core::msg::Message;
use proxy_core::state::SipCommand;
use proxy_core::state::subscriptions::SubscriptionCommand;

const WATCHER: &str = "10.77.0.70:5070";
const ALICE: &str = "10.77.0.50:5070";
const BOB: &str = "10.77.0.60:5080";
const BOB_AOR: &str = "sip:bob@lab.test";

fn presence() -> EngineConfig {
    EngineConfig { presence: PresenceConfig { enabled: true, ..PresenceConfig::default() }, ..config() }
}

fn world() -> World {
    let mut w = World::with(presence());
    w.register("bob", BOB);
    w
}

fn subscribe_with(uri: &str, cseq: u32, to_tag: &str, headers: &str) -> String {
    let to_tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
    format!(
        "SUBSCRIBE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {WATCHER};branch=z9hG4bKsub{cseq};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:carol@lab.test>;tag=w1\r\nTo: <{BOB_AOR}>{to_tag}\r\nCall-ID: sub-1\r\n\
         CSeq: {cseq} SUBSCRIBE\r\nContact: <sip:carol@{WATCHER}>\r\n{headers}Content-Length: 0\r\n\r\n"
    )
}

fn subscribe(cseq: u32, to_tag: &str, expires: u32) -> String {
    let uri = if to_tag.is_empty() { String::from(BOB_AOR) } else { format!("sip:{VIP}") };
    subscribe_with(&uri, cseq, to_tag, &format!("Event: dialog\r\nExpires: {expires}\r\n"))
}

fn body(message: &str) -> String {
    let message = Message::parse(message.as_bytes()).expect("a message");
    String::from_utf8(message.body().to_vec()).expect("text")
}

fn version(notify: &str) -> u32 {
    let body = body(notify);
    let text = body.split("version=\"").nth(2).and_then(|t| t.split('"').next()).expect("a version");
    text.parse().expect("a number")
}

/// States of the dialogs in a NOTIFY.
fn states(notify: &str) -> Vec<String> {
    let body = body(notify);
    body.split("<state>").skip(1).map(|t| t.split('<').next().expect("a state").to_owned()).collect()
}

fn answer(w: &mut World, notify: &str) {
    w.send(WATCHER, &respond(notify, 200, "w1", ""));
}

/// The only NOTIFY there is, answered with 200.
fn next_notify(w: &mut World) -> String {
    let mut all = w.take(WATCHER);
    // It may have been repeated meanwhile.
    all.dedup();
    let [notify] = all.as_slice() else { panic!("one NOTIFY, not {all:#?}") };
    assert!(notify.starts_with("NOTIFY "), "{notify}");
    answer(w, notify);
    notify.clone()
}

/// Subscribes, and answers the first NOTIFY. The To tag of the 200.
fn watch(w: &mut World, expires: u32) -> String {
    w.send(WATCHER, &subscribe(1, "", expires));
    let all = w.take(WATCHER);
    let [ok, notify] = all.as_slice() else { panic!("{all:#?}") };
    assert!(ok.starts_with("SIP/2.0 200 "), "{ok}");
    answer(w, notify);
    header(ok, "To").and_then(|to| to.split("tag=").nth(1).map(str::to_owned)).expect("a To tag")
}

fn cseq(message: &str) -> u32 {
    Message::parse(message.as_bytes()).expect("a message").cseq().expect("CSeq").number
}

#[test]
fn a_subscription_is_replicated_before_its_200_leaves_and_a_full_document_follows_rfc6665_4_2_1() {
    let mut w = world();
    w.cluster = Cluster::Waits;
    w.send(WATCHER, &subscribe(1, "", 600));
    w.expect_nothing(WATCHER);
    assert!(w.verdict(), "the subscription is proposed");
    w.settle();
    assert_eq!(w.state.counts().subscriptions, 1);
    let ok = w.expect(WATCHER, "SIP/2.0 200 ");
    assert_eq!(header(&ok, "Expires").as_deref(), Some("600"));
    assert_eq!(header(&bare(&ok), "Contact").as_deref(), Some("<sip:10.77.0.100:5060>"));
    w.commit_all();
    let notify = w.expect(WATCHER, "NOTIFY sip:carol@10.77.0.70:5070 ");
    assert_eq!(header(&notify, "Event").as_deref(), Some("dialog"));
    assert_eq!(header(&notify, "Subscription-State").as_deref(), Some("active;expires=600"));
    assert_eq!(header(&notify, "From"), header(&ok, "To"));
    assert_eq!(header(&notify, "To").as_deref(), Some("<sip:carol@lab.test>;tag=w1"));
    assert_eq!(header(&notify, "Content-Type").as_deref(), Some("application/dialog-info+xml"));
    let document = body(&notify);
    assert!(document.contains("state=\"full\" entity=\"sip:bob@lab.test\""), "{document}");
    assert_eq!((version(&notify), states(&notify).len()), (0, 0));
}

#[test]
fn a_call_to_the_watched_is_shown_from_ringing_to_its_end_rfc4235_3_7() {
    let mut w = world();
    watch(&mut w, 600);
    w.send(ALICE, &invite(BOB_AOR, ALICE, "c1"));
    let trying = next_notify(&mut w);
    assert_eq!((states(&trying), version(&trying)), (vec!["trying".into()], 1));
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 180, "b1", ""));
    let early = next_notify(&mut w);
    assert_eq!((states(&early), version(&early)), (vec!["early".into()], 2));
    let document = body(&early);
    assert!(
        document.contains("call-id=\"c1\" local-tag=\"b1\" remote-tag=\"ac1\" direction=\"recipient\""),
        "{document}"
    );
    assert!(document.contains("<identity>sip:alice@lab.test</identity>"), "{document}");
    w.take(ALICE);
    w.send(BOB, &respond(&at_bob, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.take(ALICE).pop().expect("a 200");
    let confirmed = next_notify(&mut w);
    assert_eq!((states(&confirmed), version(&confirmed)), (vec!["confirmed".into()], 3));
    let name = |n: &str| body(n).split("<dialog id=\"").nth(1).map(|t| t[..16].to_owned());
    assert_eq!(name(&confirmed), name(&early), "it is the same call");
    w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    let bye = w.take(BOB).pop().expect("a BYE");
    w.send(BOB, &respond(&bye, 200, "b1", ""));
    let ended = next_notify(&mut w);
    assert_eq!((states(&ended), version(&ended)), (vec!["terminated".into()], 4));
    assert_eq!(name(&ended), name(&early));
    w.pass(Duration::from_secs(5));
    w.expect_nothing(WATCHER);
}

#[test]
fn a_call_of_the_watched_and_one_that_fails_are_shown_too_rfc4235_3_7() {
    let mut w = world();
    w.register("alice", ALICE);
    watch(&mut w, 600);
    let from_bob =
        invite("sip:alice@lab.test", BOB, "c2").replace("<sip:alice@lab.test>;tag", "<sip:bob@lab.test>;tag");
    w.send(BOB, &from_bob);
    let trying = next_notify(&mut w);
    assert!(body(&trying).contains("direction=\"initiator\""), "{trying}");
    let at_alice = w.expect(ALICE, "INVITE ");
    w.send(ALICE, &respond(&at_alice, 486, "x", ""));
    assert_eq!(states(&next_notify(&mut w)), ["terminated"]);
}

#[test]
fn changes_while_a_notify_is_under_way_are_told_after_it_in_one() {
    let mut w = world();
    watch(&mut w, 600);
    w.send(ALICE, &invite(BOB_AOR, ALICE, "c1"));
    let trying = w.expect(WATCHER, "NOTIFY ");
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 180, "b1", ""));
    w.send(BOB, &respond(&at_bob, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    w.expect_nothing(WATCHER);
    answer(&mut w, &trying);
    assert_eq!(states(&next_notify(&mut w)), ["confirmed"]);
}

#[test]
fn the_watcher_sees_early_confirmed_terminated_with_the_holder_killed_between_each() {
    let mut w = world();
    watch(&mut w, 600);
    w.send(ALICE, &invite(BOB_AOR, ALICE, "c1"));
    let mut last = version(&next_notify(&mut w));
    let mut numbers = vec![last];
    let at_bob = w.expect(BOB, "INVITE ");
    // The phone rings, the cluster knows, and the node dies before it can tell.
    w.deliver(addr(BOB), &respond(&at_bob, 180, "b1", ""));
    while w.step() {}
    w.cluster = Cluster::CommitsUnheard;
    w.verdict();
    w.cluster = Cluster::Commits;
    w.fail_over(Duration::from_millis(300));
    w.take(BOB);
    w.pass(Duration::from_secs(1));
    let early = next_notify(&mut w);
    assert_eq!(states(&early), ["early"]);
    numbers.push(version(&early));
    w.fail_over(Duration::from_millis(300));
    w.pass(Duration::from_secs(1));
    let again = next_notify(&mut w);
    assert_eq!(states(&again), ["early"], "after a takeover all are told once");
    numbers.push(version(&again));
    w.take(ALICE);
    let at_bob = w.take(BOB).pop().expect("the INVITE again");
    w.send(BOB, &respond(&at_bob, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.take(ALICE).pop().expect("a 200");
    let confirmed = next_notify(&mut w);
    assert_eq!(states(&confirmed), ["confirmed"]);
    numbers.push(version(&confirmed));
    // The call ends, and the node dies before it can tell.
    w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    let bye = w.take(BOB).pop().expect("a BYE");
    w.deliver(addr(BOB), &respond(&bye, 200, "b1", ""));
    while w.step() {}
    w.cluster = Cluster::CommitsUnheard;
    w.verdict();
    w.cluster = Cluster::Commits;
    w.fail_over(Duration::from_millis(300));
    w.pass(Duration::from_secs(1));
    let ended = next_notify(&mut w);
    assert_eq!(states(&ended), ["terminated"]);
    numbers.push(version(&ended));
    for n in numbers.drain(1..) {
        assert!(n > last, "versions only ever grow: {n} after {last}");
        last = n;
    }
}

#[test]
fn a_notify_that_was_numbered_and_never_left_is_made_up_for_after_a_takeover() {
    let mut w = world();
    watch(&mut w, 600);
    w.send(ALICE, &invite(BOB_AOR, ALICE, "c1"));
    next_notify(&mut w);
    let at_bob = w.expect(BOB, "INVITE ");
    w.cluster = Cluster::Waits;
    w.send(BOB, &respond(&at_bob, 486, "b1", ""));
    // The failure is committed, then the number of the NOTIFY that tells it, and the node dies.
    while w.state.subscriptions().all(|s| s.notify_cseq < 3) {
        w.cluster = Cluster::Commits;
        if !w.verdict() {
            assert!(w.engine.poll_timeout().is_some());
        }
        while let Some(output) = w.engine.poll_output() {
            if let proxy_core::io::Output::Propose { ticket, command } = output {
                w.waiting.push_back((ticket, command));
            }
        }
        if w.waiting.is_empty() {
            break;
        }
        if matches!(w.waiting.front(), Some((_, proxy_core::state::SipCommand::Subscription(_)))) {
            w.cluster = Cluster::CommitsUnheard;
            w.verdict();
        }
    }
    w.cluster = Cluster::Commits;
    assert_eq!(w.state.subscriptions().next().map(|s| s.notify_cseq), Some(3));
    w.fail_over(Duration::from_millis(300));
    w.pass(Duration::from_secs(1));
    let notify = next_notify(&mut w);
    assert_eq!((states(&notify), cseq(&notify)), (vec!["terminated".into()], 4));
}

#[test]
fn a_notify_whose_number_was_taken_by_one_that_never_left_is_made_up_for() {
    let mut w = world();
    watch(&mut w, 600);
    w.send(ALICE, &invite(BOB_AOR, ALICE, "c1"));
    next_notify(&mut w);
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 180, "b1", ""));
    next_notify(&mut w);
    w.cluster = Cluster::Waits;
    w.send(BOB, &respond(&at_bob, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let is_notifying = |command: &SipCommand| {
        matches!(command, SipCommand::Subscription(SubscriptionCommand::Notifying { .. }))
    };
    while !w.waiting.front().is_some_and(|(_, command)| is_notifying(command)) {
        assert!(w.verdict(), "nothing waits");
        while w.step() {}
    }
    // The service is lost for a moment, and what was asked for before comes into the log after all.
    let (_, late) = w.waiting.pop_front().expect("the number");
    w.waiting.clear();
    w.fail_over(Duration::from_millis(300));
    w.pass(Duration::from_secs(1));
    assert!(w.waiting.iter().any(|(_, command)| is_notifying(command)), "it is proposed anew");
    w.state.apply(&late);
    w.cluster = Cluster::Commits;
    w.commit_all();
    w.pass(Duration::from_secs(1));
    let notify = next_notify(&mut w);
    assert_eq!(states(&notify), ["confirmed"]);
}

#[test]
fn the_end_of_a_subscription_is_told_when_it_is_safe_rfc6665_4_4_1() {
    let mut w = world();
    watch(&mut w, 100);
    w.cluster = Cluster::Waits;
    w.pass(Duration::from_secs(102));
    assert_eq!(w.take(WATCHER), Vec::<String>::new(), "another node may go on with it yet");
    w.cluster = Cluster::Refuses(Refusal::NotActive);
    w.commit_all();
    assert_eq!(w.take(WATCHER), Vec::<String>::new());
    w.cluster = Cluster::Commits;
    w.pass(Duration::from_secs(1));
    let mut all = w.take(WATCHER);
    all.dedup();
    let [last] = all.as_slice() else { panic!("{all:#?}") };
    assert!(header(last, "Subscription-State").is_some_and(|s| s.starts_with("terminated")), "{last}");
    answer(&mut w, last);
    w.pass(Duration::from_secs(60));
    assert_eq!((w.take(WATCHER), w.state.subscriptions().count()), (Vec::new(), 0), "once");
}

#[test]
fn a_refresh_that_waits_for_its_commit_when_the_time_is_over_keeps_the_subscription() {
    let mut w = world();
    let tag = watch(&mut w, 100);
    w.pass(Duration::from_secs(99));
    w.cluster = Cluster::Waits;
    w.send(WATCHER, &subscribe(2, &tag, 100));
    w.pass(Duration::from_secs(3));
    w.cluster = Cluster::Commits;
    w.commit_all();
    let all = w.take(WATCHER);
    assert!(all.iter().any(|m| m.starts_with("SIP/2.0 200 ")), "{all:#?}");
    let told = all.iter().filter_map(|m| header(m, "Subscription-State"));
    assert!(told.into_iter().all(|state| state.starts_with("active")), "{all:#?}");
    assert_eq!(w.state.counts().subscriptions, 1);
}

#[test]
fn a_refresh_that_comes_when_the_end_waits_for_its_commit_is_481_and_the_end_is_told() {
    let mut w = world();
    let tag = watch(&mut w, 100);
    w.cluster = Cluster::Waits;
    w.pass(Duration::from_secs(102));
    w.send(WATCHER, &subscribe(2, &tag, 100));
    w.cluster = Cluster::Commits;
    w.commit_all();
    let all = w.take(WATCHER);
    assert!(all.iter().any(|m| m.starts_with("SIP/2.0 481 ")), "{all:#?}");
    let last = all.into_iter().find(|m| m.starts_with("NOTIFY ")).expect("the end is told");
    assert_eq!(header(&last, "Subscription-State").as_deref(), Some("terminated;reason=timeout"));
    assert_eq!(w.state.counts().subscriptions, 0);
}

#[test]
fn a_refresh_moves_the_end_and_is_told_at_once_rfc6665_4_2_1() {
    let mut w = world();
    let tag = watch(&mut w, 100);
    w.pass(Duration::from_secs(90));
    w.expect_nothing(WATCHER);
    w.send(WATCHER, &subscribe(2, &tag, 100));
    let all = w.take(WATCHER);
    assert!(all.len() == 2 && all[0].starts_with("SIP/2.0 200 "), "{all:#?}");
    assert_eq!(header(&all[1], "Subscription-State").as_deref(), Some("active;expires=100"));
    answer(&mut w, &all[1]);
    w.pass(Duration::from_secs(90));
    w.expect_nothing(WATCHER);
    w.pass(Duration::from_secs(20));
    let last = next_notify(&mut w);
    assert_eq!(header(&last, "Subscription-State").as_deref(), Some("terminated;reason=timeout"));
    assert_eq!(w.state.counts().subscriptions, 0);
}

#[test]
fn a_refresh_whose_answer_the_watcher_never_saw_is_answered_when_it_comes_again() {
    for lost in [false, true] {
        let mut w = world();
        let tag = watch(&mut w, 600);
        // It is committed, but the node does not live to say so, or does not hear of it.
        w.cluster = Cluster::CommitsUnheard;
        w.send(WATCHER, &subscribe(2, &tag, 900));
        w.expect_nothing(WATCHER);
        w.cluster = Cluster::Commits;
        if lost {
            w.fail_over(Duration::from_millis(300));
            w.pass(Duration::from_millis(600));
            next_notify(&mut w);
        }
        w.send(WATCHER, &subscribe(2, &tag, 900));
        let all = w.take(WATCHER);
        assert!(all[0].starts_with("SIP/2.0 200 "), "{all:#?}");
        assert!(all[1].starts_with("NOTIFY "), "{all:#?}");
        answer(&mut w, &all[1]);
        // One that was overtaken is refused as ever (RFC 3261 §12.2.2).
        w.send(WATCHER, &subscribe(3, &tag, 900));
        let all = w.take(WATCHER);
        answer(&mut w, &all[1]);
        w.send(WATCHER, &subscribe(2, &tag, 100).replace("sub2", "sub2late"));
        w.expect(WATCHER, "SIP/2.0 500 ");
    }
}

#[test]
fn an_end_with_expires_0_is_confirmed_by_a_last_notify_rfc6665_4_1_2_3() {
    let mut w = world();
    let tag = watch(&mut w, 600);
    w.send(WATCHER, &subscribe(2, &tag, 0));
    let all = w.take(WATCHER);
    assert!(all.len() == 2 && all[0].starts_with("SIP/2.0 200 "), "{all:#?}");
    assert_eq!(header(&all[0], "Expires").as_deref(), Some("0"));
    assert_eq!(header(&all[1], "Subscription-State").as_deref(), Some("terminated;reason=timeout"));
    assert_eq!(w.state.counts().subscriptions, 0);
    w.send(WATCHER, &subscribe(3, &tag, 600));
    w.expect(WATCHER, "SIP/2.0 481 ");
}

#[test]
fn who_asks_once_is_told_once_and_nothing_is_kept_rfc6665_4_4_3() {
    let mut w = world();
    w.send(WATCHER, &subscribe(1, "", 0));
    let all = w.take(WATCHER);
    assert!(all.len() == 2 && all[1].starts_with("NOTIFY "), "{all:#?}");
    assert_eq!(header(&all[1], "Subscription-State").as_deref(), Some("terminated;reason=timeout"));
    assert_eq!(w.state.counts().subscriptions, 0);
    assert!(w.log.iter().all(|c| !matches!(c, proxy_core::state::SipCommand::Subscription(_))));
}

#[test]
fn the_first_subscribe_repeated_at_another_node_is_the_same_subscription() {
    let mut w = world();
    w.send(WATCHER, &subscribe(1, "", 600));
    let first = w.take(WATCHER);
    w.fail_over(Duration::from_millis(300));
    w.take(WATCHER);
    w.send(WATCHER, &subscribe(1, "", 600));
    let again = w.take(WATCHER);
    assert_eq!(header(&first[0], "To"), header(&again[0], "To"));
    assert!(again[0].starts_with("SIP/2.0 200 "), "{again:#?}");
    assert_eq!(w.state.counts().subscriptions, 1);
}

#[test]
fn a_watcher_who_does_not_know_it_any_more_ends_it_rfc6665_4_2_2() {
    let mut w = world();
    watch(&mut w, 600);
    w.send(ALICE, &invite(BOB_AOR, ALICE, "c1"));
    let notify = w.expect(WATCHER, "NOTIFY ");
    w.send(WATCHER, &respond(&notify, 481, "w1", ""));
    assert_eq!(w.state.counts().subscriptions, 0);
}

#[test]
fn a_watcher_who_is_silent_is_told_no_more_rfc6665_4_2_2() {
    let mut w = world();
    watch(&mut w, 600);
    w.send(ALICE, &invite(BOB_AOR, ALICE, "c1"));
    w.pass(Duration::from_secs(33));
    assert!(w.take(WATCHER).len() > 5, "it is repeated");
    assert_eq!(w.state.counts().subscriptions, 0);
}

#[test]
fn an_answer_that_is_no_end_leaves_the_subscription_rfc6665_4_2_2() {
    let mut w = world();
    watch(&mut w, 600);
    w.send(ALICE, &invite(BOB_AOR, ALICE, "c1"));
    let notify = w.expect(WATCHER, "NOTIFY ");
    w.send(WATCHER, &respond(&notify, 503, "w1", ""));
    assert_eq!(w.state.counts().subscriptions, 1);
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 180, "b1", ""));
    assert_eq!(states(&next_notify(&mut w)), ["early"]);
}

#[test]
fn what_cannot_be_watched_is_refused_rfc6665_4_2_1_1() {
    let mut w = world();
    let with = |headers: &str| subscribe_with(BOB_AOR, 1, "", headers);
    let foreign = subscribe(1, "", 600).replace("<sip:carol@lab.test>", "<sip:carol@else.test>");
    let nobody = subscribe_with("sip:lab.test", 1, "", "Event: dialog\r\n");
    let cases = [
        (with("Event: dialog\r\nExpires: 10\r\n"), "423", "Min-Expires", "60"),
        (with("Event: presence\r\n"), "489", "Allow-Events", "dialog, message-summary"),
        (with(""), "489", "Allow-Events", "dialog, message-summary"),
        (with("Event: message-summary\r\n"), "404 No voicemail service", "CSeq", "1 SUBSCRIBE"),
        (
            with("o: dialog\r\n").replace("Contact: <sip:carol@10.77.0.70:5070>\r\n", ""),
            "400",
            "CSeq",
            "1 SUBSCRIBE",
        ),
        (foreign, "403", "CSeq", "1 SUBSCRIBE"),
        (nobody, "404 Not here", "CSeq", "1 SUBSCRIBE"),
        (subscribe(2, "unknown", 600), "481", "CSeq", "2 SUBSCRIBE"),
    ];
    for (n, (request, status, name, value)) in cases.into_iter().enumerate() {
        let request = request.replace("z9hG4bKsub", &format!("z9hG4bKcase{n}x"));
        w.send(WATCHER, &request);
        let refusal = w.expect(WATCHER, &format!("SIP/2.0 {status}"));
        assert_eq!(header(&refusal, name).as_deref(), Some(value), "{refusal}");
    }
    assert_eq!(w.state.counts().subscriptions, 0);
}

#[test]
fn anyone_may_watch_where_that_is_configured() {
    let mut w = World::with(EngineConfig {
        presence: PresenceConfig { enabled: true, watchers: Watchers::Anyone, ..PresenceConfig::default() },
        ..config()
    });
    w.send(WATCHER, &subscribe(1, "", 600).replace("<sip:carol@lab.test>", "<sip:carol@else.test>"));
    let all = w.take(WATCHER);
    assert!(all[0].starts_with("SIP/2.0 200 "), "also of a user without a phone: {all:#?}");
}

#[test]
fn publish_is_refused_as_by_kamailio() {
    let publish = |call: &str| request("PUBLISH", BOB_AOR, ALICE, call, "Event: presence\r\n");
    let mut w = World::new();
    w.send(ALICE, &publish("p1"));
    w.expect(ALICE, "SIP/2.0 404 Not here");
    let mut w = world();
    w.send(ALICE, &publish("p2"));
    let refusal = w.expect(ALICE, "SIP/2.0 489 ");
    assert_eq!(header(&refusal, "Allow-Events").as_deref(), Some("dialog, message-summary"));
}

#[test]
fn without_presence_a_subscribe_goes_to_the_phone_as_with_kamailio() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(WATCHER, &subscribe(1, "", 600));
    let at_bob = w.expect(BOB, "SUBSCRIBE ");
    assert!(header(&at_bob, "Record-Route").is_some());
}

#[test]
fn a_subscription_that_could_not_be_remembered_is_not_confirmed() {
    let mut w = world();
    w.cluster = Cluster::Refuses(Refusal::Unknown);
    w.send(WATCHER, &subscribe(1, "", 600));
    w.expect_nothing(WATCHER);
    w.cluster = Cluster::Refuses(Refusal::Overloaded);
    w.send(WATCHER, &subscribe(1, "", 600));
    w.expect(WATCHER, "SIP/2.0 503 ");
    w.cluster = Cluster::Commits;
    w.send(WATCHER, &subscribe(1, "", 600));
    assert_eq!(w.take(WATCHER).len(), 2);
}

#[test]
fn a_watcher_behind_a_nat_is_told_where_he_asked_from() {
    let mut w = world();
    let behind = "198.51.100.7:31000";
    w.send(behind, &subscribe(1, "", 600));
    let all = w.take(behind);
    assert!(all.len() == 2 && all[1].starts_with("NOTIFY sip:carol@10.77.0.70:5070 "), "{all:#?}");
}

#[test]
fn a_subscription_that_came_by_a_proxy_is_told_by_it_rfc3261_12_1_1() {
    let mut w = world();
    let proxy = "10.77.0.80:5060";
    let routed = subscribe(1, "", 600).replace(
        "Max-Forwards",
        &format!(
            "Via: SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKfar\r\nRecord-Route: <sip:{proxy};lr>\r\nMax-Forwards"
        ),
    );
    w.send(proxy, &routed);
    let all = w.take(proxy);
    assert!(all.len() == 2 && all[1].starts_with("NOTIFY sip:carol@10.77.0.70:5070 "), "{all:#?}");
    assert_eq!(header(&all[1], "Route").as_deref(), Some("<sip:10.77.0.80:5060;lr>"));
    // The watcher learns from the 200 by whom he refreshes it.
    assert_eq!(header(&all[0], "Record-Route").as_deref(), Some("<sip:10.77.0.80:5060;lr>"));
}
