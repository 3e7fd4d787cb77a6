//! Dialogs that the proxy ends itself, session timers (RFC 4028), and limits of concurrent calls; each across the loss of
//! the node.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::dialog::config::{CallLimits, DialogConfig};
use proxy_core::io::EngineConfig;
use proxy_core::state::{AccountRecord, EndedBy, RecordKind, SipCommand};

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB_URI: &str = "sip:bob@lab.test";
const HOUR: Duration = Duration::from_secs(3600);

fn with(dialog: DialogConfig) -> World {
    World::with(EngineConfig { dialog, dialog_lifetime: HOUR, ..config() })
}

fn plain() -> World {
    with(DialogConfig::default())
}

fn limited(limits: CallLimits) -> World {
    with(DialogConfig { limits, ..DialogConfig::default() })
}

/// Alice and Bob talk. Gives the INVITE that Bob got and the 200 that Alice got.
fn talking(w: &mut World, invite: &str, extra: &str) -> (String, String) {
    w.register("bob", BOB);
    w.send(ALICE, invite);
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n{extra}")));
    let ok = w.take(ALICE).into_iter().find(|m| m.starts_with("SIP/2.0 200 ")).expect("200");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(BOB, "ACK ");
    (got, ok)
}

fn talk(w: &mut World) -> (String, String) {
    talking(w, &invite(BOB_URI, ALICE, "c1"), "")
}

fn cdrs(w: &World) -> Vec<&AccountRecord> {
    w.state.outbox().after(0).filter(|r| r.kind == RecordKind::Cdr).collect()
}

fn number(message: &str) -> u32 {
    header(message, "CSeq").expect("CSeq").split(' ').next().expect("a number").parse().expect("a number")
}

fn tag(message: &str, name: &str) -> String {
    header(message, name).expect(name).rsplit("tag=").next().unwrap_or_default().to_owned()
}

/// The BYEs that have come to both, and are the right ones.
fn byes(w: &mut World) -> (String, String) {
    // Unanswered, they have been repeated.
    let mut only = |at: &str| {
        let mut all = w.take(at);
        all.dedup();
        assert!(all.len() == 1 && all[0].starts_with("BYE "), "{at} gets {all:#?}");
        all.remove(0)
    };
    let (to_alice, to_bob) = (only(ALICE), only(BOB));
    assert_eq!(
        (uri_of(&to_alice), uri_of(&to_bob)),
        (format!("sip:alice@{ALICE}"), format!("sip:bob@{BOB}"))
    );
    assert_eq!((tag(&to_alice, "From"), tag(&to_alice, "To")), (String::from("b1"), String::from("ac1")));
    assert_eq!((tag(&to_bob, "From"), tag(&to_bob, "To")), (String::from("ac1"), String::from("b1")));
    (to_alice, to_bob)
}

fn answer(w: &mut World, byes: &(String, String)) {
    w.send(ALICE, &respond(&byes.0, 200, "", ""));
    w.send(BOB, &respond(&byes.1, 200, "", ""));
}

fn ended(w: &World, by: EndedBy) {
    assert_eq!(w.state.counts().dialogs, 0);
    let all = cdrs(w);
    assert_eq!(all.len(), 1, "{all:#?}");
    assert_eq!(all[0].times.map(|t| t.ended_by), Some(by));
}

#[test]
fn the_longest_duration_ends_a_call_with_bye_to_both_sides() {
    let mut w = plain();
    talk(&mut w);
    w.pass(HOUR - Duration::from_secs(2));
    w.expect_nothing(ALICE);
    w.pass(Duration::from_secs(3));
    let byes = byes(&mut w);
    assert!(number(&byes.1) > 1, "above what Bob has seen from Alice");
    assert_eq!(w.state.counts().dialogs, 1, "it is there until both have answered");
    answer(&mut w, &byes);
    ended(&w, EndedBy::Timeout);
    let times = cdrs(&w)[0].times.expect("times");
    assert!((3_600_000..3_602_000).contains(&times.duration_ms()), "{times:?}");
    w.pass(Duration::from_secs(60));
    w.expect_nothing(ALICE);
    w.expect_nothing(BOB);
}

#[test]
fn an_end_that_the_node_did_not_live_to_see_is_the_same_from_the_next_one() {
    let mut w = plain();
    talk(&mut w);
    w.pass(HOUR + Duration::from_secs(1));
    let first = byes(&mut w);
    w.send(ALICE, &respond(&first.0, 200, "", ""));
    w.fail_over(Duration::from_millis(300));
    w.pass(Duration::from_secs(1));
    let again = byes(&mut w);
    // The same branch and CSeq: a retransmission for both phones.
    assert_eq!(again, first);
    answer(&mut w, &again);
    ended(&w, EndedBy::Timeout);
}

#[test]
fn a_phone_that_does_not_answer_or_knows_no_such_call_does_not_keep_it_alive() {
    let mut w = plain();
    talk(&mut w);
    w.pass(HOUR + Duration::from_secs(1));
    let byes = byes(&mut w);
    w.send(BOB, &respond(&byes.1, 481, "", ""));
    assert_eq!(w.state.counts().dialogs, 1);
    w.pass(Duration::from_secs(33));
    ended(&w, EndedBy::Timeout);
}

#[test]
fn an_operator_ends_a_call_and_the_node_may_be_lost_before_it_does() {
    let mut w = plain();
    talk(&mut w);
    let id = w.state.dialogs().next().expect("a dialog").id.clone();
    w.state.apply(&SipCommand::DialogEnding { id, by: EndedBy::Operator });
    w.fail_over(Duration::from_millis(300));
    w.pass(Duration::from_secs(1));
    let byes = byes(&mut w);
    answer(&mut w, &byes);
    ended(&w, EndedBy::Operator);
}

#[test]
fn the_cseq_of_a_bye_is_above_what_the_callee_has_used_rfc3261_12_2_1_1() {
    let mut w = plain();
    let (got, _) = talk(&mut w);
    let info = in_dialog_of_callee("INFO", 70_000, &got, "b1", BOB);
    w.send(BOB, &info);
    w.expect(ALICE, "INFO ");
    w.fail_over(Duration::from_millis(300));
    w.pass(HOUR + Duration::from_secs(1));
    let to_alice = w.take(ALICE).into_iter().find(|m| m.starts_with("BYE ")).expect("BYE");
    assert!(number(&to_alice) > 70_000);
}

#[test]
fn a_call_that_hangs_up_while_the_proxy_ends_it_has_one_cdr() {
    let mut w = plain();
    let (_, ok) = talk(&mut w);
    w.pass(HOUR + Duration::from_secs(1));
    let both = byes(&mut w);
    w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    let bye = w.expect(BOB, "BYE ");
    w.send(BOB, &respond(&bye, 200, "", ""));
    answer(&mut w, &both);
    w.pass(Duration::from_secs(40));
    ended(&w, EndedBy::Caller);
}

#[test]
fn a_bye_that_the_other_side_refuses_ends_the_call_but_a_challenge_does_not_rfc3261_15_1_1() {
    for status in [400, 403, 486, 500, 503, 603] {
        let mut w = plain();
        let (_, ok) = talk(&mut w);
        w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
        let bye = w.expect(BOB, "BYE ");
        w.send(BOB, &respond(&bye, status, "", ""));
        w.expect(ALICE, "SIP/2.0 ");
        // Who sends BYE has hung up, whatever is said to it: the call must not last for twelve hours more. The other side
        // may not have understood that, so that it hears it from the proxy.
        w.pass(Duration::from_secs(2));
        let byes = byes(&mut w);
        answer(&mut w, &byes);
        ended(&w, EndedBy::Caller);
    }
    for status in [401, 407] {
        let mut w = plain();
        let (_, ok) = talk(&mut w);
        w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
        let bye = w.expect(BOB, "BYE ");
        w.send(BOB, &respond(&bye, status, "", "WWW-Authenticate: Digest realm=\"b\", nonce=\"n\"\r\n"));
        assert_eq!(w.state.counts().dialogs, 1, "the next BYE has the password");
        w.send(ALICE, &in_dialog_of_caller("BYE", 3, &ok, ALICE));
        let all = w.take(BOB);
        let bye = all.iter().find(|m| header(m, "CSeq").as_deref() == Some("3 BYE")).expect("the second BYE");
        w.send(BOB, &respond(bye, 200, "", ""));
        ended(&w, EndedBy::Caller);
    }
}

fn with_timer(value: &str) -> String {
    request("INVITE", BOB_URI, ALICE, "c1", &format!("Supported: timer\r\nSession-Expires: {value}\r\n"))
}

#[test]
fn a_session_timer_that_is_too_small_gets_422_with_min_se_rfc4028_8_1() {
    let mut w = with(DialogConfig { min_se_s: 120, ..DialogConfig::default() });
    w.register("bob", BOB);
    w.send(ALICE, &with_timer("100"));
    let refused = w.expect(ALICE, "SIP/2.0 422 Session Interval Too Small\r\n");
    assert_eq!(header(&refused, "Min-SE").as_deref(), Some("120"));
    w.expect_nothing(BOB);
    // Who does not know timers may not be refused for one.
    w.send(ALICE, &with_timer("100").replace("Supported: timer\r\n", "").replace("c1", "c2"));
    assert!(w.expect(BOB, "INVITE ").contains("Session-Expires: 100\r\n"));
}

#[test]
fn a_session_that_nobody_refreshes_is_ended_and_one_that_is_goes_on_rfc4028_8_3() {
    let mut w = plain();
    let (_, ok) = talking(&mut w, &with_timer("600"), "Session-Expires: 600;refresher=uac\r\n");
    w.pass(Duration::from_secs(300));
    let update = in_dialog_of_caller("UPDATE", 2, &ok, ALICE)
        .replace("Max-Forwards", "Supported: timer\r\nSession-Expires: 600\r\nMax-Forwards");
    w.send(ALICE, &update);
    let got = w.expect(BOB, "UPDATE ");
    w.send(BOB, &respond(&got, 200, "", &format!("Contact: <sip:bob@{BOB}>\r\nSession-Expires: 600\r\n")));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.fail_over(Duration::from_millis(300));
    w.pass(Duration::from_secs(590));
    w.expect_nothing(ALICE);
    w.pass(Duration::from_secs(12));
    let byes = byes(&mut w);
    answer(&mut w, &byes);
    ended(&w, EndedBy::SessionTimer);
}

#[test]
fn a_refresh_without_session_expires_ends_the_timer_rfc4028_8_2() {
    let mut w = plain();
    let (_, ok) = talking(&mut w, &with_timer("600"), "Session-Expires: 600;refresher=uac\r\n");
    w.send(ALICE, &in_dialog_of_caller("UPDATE", 2, &ok, ALICE));
    let got = w.expect(BOB, "UPDATE ");
    w.send(BOB, &respond(&got, 200, "", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.pass(Duration::from_secs(700));
    w.expect_nothing(ALICE);
    assert_eq!(w.state.counts().dialogs, 1);
}

#[test]
fn a_timer_is_asked_for_where_nobody_asks_and_the_caller_is_told_to_refresh_rfc4028_8_2() {
    let mut w = with(DialogConfig { session_expires_s: 1800, ..DialogConfig::default() });
    let knows = request("INVITE", BOB_URI, ALICE, "c1", "Supported: timer\r\nMin-SE: 2000\r\n");
    let (got, ok) = talking(&mut w, &knows, "");
    assert_eq!(header(&got, "Session-Expires").as_deref(), Some("2000"), "not below Min-SE");
    assert_eq!(header(&ok, "Session-Expires").as_deref(), Some("2000;refresher=uac"));
    assert_eq!(header(&ok, "Require").as_deref(), Some("timer"));
    assert!(w.state.dialogs().all(|d| d.session.is_some_and(|s| s.interval_s == 2000)));
}

#[test]
fn a_min_se_that_no_call_comes_to_has_no_timer_put_in_rfc4028_8_1() {
    let mut w = with(DialogConfig { session_expires_s: 1800, ..DialogConfig::default() });
    for least in ["4294967295", "86401"] {
        let call = format!("c{least}");
        w.register("bob", BOB);
        w.send(ALICE, &request("INVITE", BOB_URI, ALICE, &call, &format!("Min-SE: {least}\r\n")));
        w.take(ALICE);
        let got = w.take(BOB).into_iter().find(|m| m.starts_with("INVITE ")).expect("the call");
        assert_eq!(header(&got, "Session-Expires"), None, "{least}");
    }
}

#[test]
fn nobody_is_told_to_refresh_who_does_not_know_timers() {
    let mut w = with(DialogConfig { session_expires_s: 1800, ..DialogConfig::default() });
    let (got, ok) = talk(&mut w);
    assert_eq!(header(&got, "Session-Expires").as_deref(), Some("1800"));
    assert_eq!((header(&ok, "Session-Expires"), header(&ok, "Require")), (None, None));
    assert!(w.state.dialogs().all(|d| d.session.is_none()));
}

#[test]
fn one_call_too_many_is_refused_and_there_is_room_again_when_one_ends() {
    let mut w = limited(CallLimits { caller: Some(1), ..CallLimits::default() });
    let (_, ok) = talk(&mut w);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c2"));
    w.expect(ALICE, "SIP/2.0 403 ");
    w.expect_nothing(BOB);
    // The next node counts the same.
    w.fail_over(Duration::from_millis(300));
    w.send(ALICE, &invite(BOB_URI, ALICE, "c3"));
    w.take(ALICE).iter().find(|m| m.starts_with("SIP/2.0 403 ")).expect("403");
    w.take(BOB);
    w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    let bye = w.expect(BOB, "BYE ");
    w.send(BOB, &respond(&bye, 200, "", ""));
    w.take(ALICE);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c4"));
    w.expect(BOB, "INVITE ");
    assert_eq!(w.engine.counters().limited, 1, "counted by the node that refused it");
}

#[test]
fn two_calls_for_the_last_place_cannot_both_have_it() {
    let mut w = limited(CallLimits { callee: Some(1), ..CallLimits::default() });
    w.register("bob", BOB);
    w.cluster = Cluster::Waits;
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.send("10.77.0.203:5060", &invite(BOB_URI, "10.77.0.203:5060", "c2"));
    assert_eq!(w.waiting.len(), 2, "both have seen a free place");
    w.commit_all();
    w.expect(BOB, "INVITE ");
    w.expect(ALICE, "SIP/2.0 100 ");
    w.expect("10.77.0.203:5060", "SIP/2.0 486 ");
}

#[test]
fn a_source_has_its_limit_and_a_call_that_fails_gives_its_place_back() {
    let mut w = limited(CallLimits { source: Some(1), source_status: 480, ..CallLimits::default() });
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let got = w.expect(BOB, "INVITE ");
    w.take(ALICE);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c2"));
    w.expect(ALICE, "SIP/2.0 480 ");
    w.send(BOB, &respond(&got, 486, "b1", ""));
    w.take(ALICE);
    w.take(BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c3"));
    w.expect(BOB, "INVITE ");
}

#[test]
fn a_missed_call_is_recorded_with_what_the_phone_said() {
    for status in [404, 480, 486, 500, 603] {
        let mut w = plain();
        w.register("bob", BOB);
        w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
        let got = w.expect(BOB, "INVITE ");
        w.send(BOB, &respond(&got, status, "b1", ""));
        w.expect(BOB, "ACK ");
        let missed: Vec<u16> =
            w.state.outbox().after(0).filter(|r| r.kind == RecordKind::Missed).map(|r| r.code).collect();
        assert_eq!(missed, [status]);
    }
}
