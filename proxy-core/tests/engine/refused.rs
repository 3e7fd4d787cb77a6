//! Calls that the proxy refuses itself: what leaves a record, once, and how many do.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::accounting::AccountingConfig;
use proxy_core::dialog::config::{CallLimits, DialogConfig};
use proxy_core::io::EngineConfig;
use proxy_core::routing::{Action, Match, RoutingConfig, Rule};
use proxy_core::state::limits::{MAX_OUTBOX_UNCLAIMED, MAX_REFUSED_PER_S};
use proxy_core::state::{AccountRecord, AccountingCommand, RecordKind, SipCommand};

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB_URI: &str = "sip:bob@lab.test";

/// At most so many in a second leave a record.
fn recording(per_s: u32) -> EngineConfig {
    EngineConfig { accounting: AccountingConfig { refused_per_s: per_s }, ..config() }
}

fn records(w: &World) -> Vec<&AccountRecord> {
    w.state.outbox().after(0).collect()
}

fn codes(w: &World) -> Vec<u16> {
    records(w).iter().map(|r| r.code).collect()
}

#[test]
fn a_call_to_nobody_leaves_one_failed_record_however_often_it_is_repeated() {
    let mut w = World::with(recording(20));
    w.send(ALICE, &invite("sip:nobody@lab.test", ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 404 ");
    w.send(ALICE, &invite("sip:nobody@lab.test", ALICE, "c1"));
    w.fail_over(Duration::from_millis(300));
    w.send(ALICE, &invite("sip:nobody@lab.test", ALICE, "c1"));
    let all = w.take(ALICE);
    assert_eq!(all.len(), 2);
    let [record] = records(&w)[..] else { panic!("one record: {:#?}", records(&w)) };
    assert_eq!((record.kind, record.code, record.reason.as_str()), (RecordKind::Failed, 404, "Not Found"));
    assert_eq!((record.src_user.as_str(), record.dst_user.as_str()), ("alice", "nobody"));
    assert_eq!(record.call_id, "c1");
    assert_eq!(Some(record.to_tag.as_str()), header(&all[0], "To").expect("To").rsplit("tag=").next());
    assert!(w.state.index_is_right());
}

#[test]
fn one_call_too_many_leaves_a_failed_record() {
    let limits = CallLimits { caller: Some(1), ..CallLimits::default() };
    let dialog = DialogConfig { limits, ..DialogConfig::default() };
    let mut w = World::with(EngineConfig { dialog, ..recording(20) });
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.send(ALICE, &invite(BOB_URI, ALICE, "c2"));
    assert!(w.take(ALICE).iter().any(|m| m.starts_with("SIP/2.0 403 ")));
    assert_eq!(codes(&w), [403]);
    assert_eq!(records(&w)[0].call_id, "c2");
}

#[test]
fn a_call_that_a_route_refuses_leaves_a_failed_record() {
    let rule = Rule {
        name: String::from("no"),
        matching: Match::default(),
        strip: 0,
        prefix: String::new(),
        require_auth: false,
        action: Action::Reject { status: 403, reason: String::from("Too far") },
        voicemail: None,
        ring: None,
        media: None,
    };
    let routing = RoutingConfig { rules: vec![rule], ..RoutingConfig::default() };
    let mut w = World::with(EngineConfig { routing, ..recording(20) });
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "c2", ""));
    assert!(w.take(ALICE).iter().all(|m| m.starts_with("SIP/2.0 403 Too far\r\n")));
    let [record] = records(&w)[..] else { panic!("one record: {:#?}", records(&w)) };
    assert_eq!((record.code, record.reason.as_str(), record.call_id.as_str()), (403, "Too far", "c1"));
}

#[test]
fn neither_other_requests_nor_those_within_dialogs_nor_challenges_leave_any() {
    let mut w = World::with(recording(20));
    w.send(ALICE, &request("OPTIONS", "sip:nobody@lab.test", ALICE, "c1", ""));
    w.send(ALICE, &request("MESSAGE", "sip:nobody@lab.test", ALICE, "c2", ""));
    let within =
        invite("sip:nobody@lab.test", ALICE, "c3").replace("<sip:nobody@lab.test>", "<sip:x@lab.test>;tag=x");
    w.send(ALICE, &within);
    assert!(!w.take(ALICE).is_empty());
    let auth = proxy_core::auth::AuthConfig { enabled: true, ..Default::default() };
    let mut asked = World::with(EngineConfig { auth, ..recording(20) });
    asked.pass(Duration::from_secs(1));
    asked.send(ALICE, &invite("sip:nobody@lab.test", ALICE, "c4"));
    assert!(asked.take(ALICE).iter().any(|m| m.starts_with("SIP/2.0 407 ")));
    assert!(records(&w).is_empty() && records(&asked).is_empty());
}

#[test]
fn a_flood_of_wrong_numbers_is_counted_and_does_not_fill_the_outbox() {
    let mut w = World::with(recording(3));
    for n in 0..10 {
        w.send(ALICE, &invite("sip:nobody@lab.test", ALICE, &format!("c{n}")));
    }
    assert_eq!(w.take(ALICE).len(), 10, "all of them are answered");
    assert_eq!(records(&w).len(), 3);
    assert_eq!(w.engine.counters().refused_unrecorded, 7);
    w.pass(Duration::from_secs(1));
    w.send(ALICE, &invite("sip:nobody@lab.test", ALICE, "later"));
    assert_eq!(records(&w).len(), 4);
}

#[test]
fn refused_calls_take_half_of_the_room_also_before_anybody_writes_records() {
    let mut w = World::with(recording(1000));
    let (most, half) = (MAX_OUTBOX_UNCLAIMED, MAX_OUTBOX_UNCLAIMED / 2);
    for n in 0..most {
        w.send(ALICE, &invite("sip:nobody@lab.test", ALICE, &format!("c{n}")));
    }
    assert_eq!(records(&w).len(), half);
    assert_eq!(w.engine.counters().refused_unrecorded, (most - half) as u64);
}

#[test]
fn without_a_word_refused_calls_leave_no_record() {
    let mut w = World::new();
    w.send(ALICE, &invite("sip:nobody@lab.test", ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 404 ");
    assert!(records(&w).is_empty() && w.engine.counters().refused_unrecorded == 0);
}

#[test]
fn a_refused_call_is_known_as_long_as_it_may_be_repeated_at_the_highest_rate_rfc3261_17_1_1_2() {
    let most = MAX_REFUSED_PER_S;
    let mut w = World::with(recording(most));
    // Somebody writes them, so that there is room.
    w.state.apply(&SipCommand::Accounting(AccountingCommand::Open { place: 1, itself: true }));
    let call = |n: u32| invite("sip:nobody@lab.test", ALICE, &format!("c{n}"));
    let mut calls = 0;
    for second in 0..31 {
        for _ in 0..if second < 3 { most } else { 1 } {
            w.send(ALICE, &call(calls));
            calls += 1;
        }
        w.take(ALICE);
        w.pass(Duration::from_secs(1));
    }
    let made = w.state.outbox().newest();
    assert_eq!(made, u64::from(calls));
    w.send(ALICE, &call(0));
    w.send(ALICE, &call(most + 1));
    w.take(ALICE);
    assert_eq!(w.state.outbox().newest(), made, "they have theirs");
    assert!(w.state.index_is_right());
}
