//! A call that was answered and is never acknowledged (RFC 3261 §13.3.1.4): it is ended, across the loss of the node; and
//! one that was acknowledged is not, whenever the node is lost.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::dialog::config::{CallLimits, DialogConfig};
use proxy_core::io::{EngineConfig, Refusal};
use proxy_core::state::{AccountRecord, EndedBy, RecordKind};

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB_URI: &str = "sip:bob@lab.test";

fn with(dialog: DialogConfig) -> World {
    let mut w = World::with(EngineConfig { dialog, ..config() });
    w.register("bob", BOB);
    w
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Bob answers, Alice gets it. Gives what Bob said and what Alice got.
fn answered(w: &mut World) -> (String, String) {
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let got = w.expect(BOB, "INVITE ");
    let said = respond(&got, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n"));
    w.send(BOB, &said);
    let ok = w.take(ALICE).into_iter().find(|m| m.starts_with("SIP/2.0 200 ")).expect("200");
    (said, ok)
}

fn ack(ok: &str) -> String {
    in_dialog_of_caller("ACK", 1, ok, ALICE)
}

fn cdrs(w: &World) -> Vec<&AccountRecord> {
    w.state.outbox().after(0).filter(|r| r.kind == RecordKind::Cdr).collect()
}

/// The BYE at an address, repeated or not; there is nothing else.
fn bye(w: &mut World, at: &str) -> String {
    let mut all = w.take(at);
    all.dedup();
    assert!(all.len() == 1 && all[0].starts_with("BYE "), "{at} gets {all:#?}");
    all.remove(0)
}

#[test]
fn a_call_that_nobody_acknowledges_ends_with_bye_to_both_rfc3261_13_3_1_4() {
    let limits = CallLimits { caller: Some(1), ..CallLimits::default() };
    let mut w = with(DialogConfig { limits, ..DialogConfig::default() });
    answered(&mut w);
    w.pass(secs(58));
    w.expect_nothing(ALICE);
    w.expect_nothing(BOB);
    w.pass(secs(3));
    let (to_alice, to_bob) = (bye(&mut w, ALICE), bye(&mut w, BOB));
    w.send(ALICE, &respond(&to_alice, 481, "", ""));
    w.send(BOB, &respond(&to_bob, 200, "", ""));
    assert_eq!(w.state.counts().dialogs, 0);
    let all = cdrs(&w);
    assert_eq!(all.len(), 1, "{all:#?}");
    let times = all[0].times.expect("times");
    assert_eq!(times.ended_by, EndedBy::NoAck);
    assert!((60_000..62_000).contains(&times.duration_ms()), "{times:?}");
    // Its place is free again.
    w.send(ALICE, &invite(BOB_URI, ALICE, "c2"));
    w.expect(BOB, "INVITE ");
}

#[test]
fn a_call_that_nobody_acknowledges_ends_at_the_same_time_after_a_takeover() {
    let mut w = with(DialogConfig::default());
    answered(&mut w);
    w.pass(secs(40));
    w.fail_over(Duration::from_millis(300));
    w.take(ALICE);
    w.take(BOB);
    w.pass(secs(18));
    w.expect_nothing(BOB);
    w.pass(secs(3));
    let first = (bye(&mut w, ALICE), bye(&mut w, BOB));
    // And the node that sends the BYEs may be lost, too.
    w.fail_over(Duration::from_millis(300));
    w.pass(secs(1));
    assert_eq!((bye(&mut w, ALICE), bye(&mut w, BOB)), first);
    w.send(ALICE, &respond(&first.0, 200, "", ""));
    w.send(BOB, &respond(&first.1, 200, "", ""));
    assert_eq!(w.state.counts().dialogs, 0);
    assert_eq!(cdrs(&w)[0].times.expect("times").ended_by, EndedBy::NoAck);
}

#[test]
fn a_call_that_was_acknowledged_lasts_on_whichever_node_serves() {
    for lost in [false, true] {
        let mut w = with(DialogConfig::default());
        let (_, ok) = answered(&mut w);
        w.send(ALICE, &ack(&ok));
        w.expect(BOB, "ACK ");
        if lost {
            w.fail_over(Duration::from_millis(300));
        }
        w.pass(secs(3600));
        assert_eq!(w.state.counts().dialogs, 1);
        w.expect_nothing(ALICE);
        w.expect_nothing(BOB);
    }
}

#[test]
fn an_ack_goes_on_when_it_is_safe_so_that_no_takeover_can_forget_it() {
    let mut w = with(DialogConfig::default());
    let (said, ok) = answered(&mut w);
    w.cluster = Cluster::Waits;
    w.send(ALICE, &ack(&ok));
    w.expect_nothing(BOB);
    // The node is lost before the commit: Bob repeats his 200, and Alice her ACK.
    w.cluster = Cluster::Commits;
    w.fail_over(Duration::from_millis(300));
    w.take(ALICE);
    w.send(BOB, &said);
    let again = w.take(ALICE);
    assert!(again.iter().any(|m| m.starts_with("SIP/2.0 200 ")), "{again:#?}");
    w.send(ALICE, &ack(&ok));
    w.expect(BOB, "ACK ");
    // The repetition of an ACK goes on at once.
    w.cluster = Cluster::Waits;
    w.send(ALICE, &ack(&ok));
    w.expect(BOB, "ACK ");
    w.cluster = Cluster::Commits;
    w.pass(secs(120));
    w.expect_nothing(BOB);
    assert_eq!(w.state.counts().dialogs, 1);
}

#[test]
fn an_ack_that_the_cluster_refuses_is_asked_for_again_by_the_2xx() {
    for why in [Refusal::NotActive, Refusal::Unknown, Refusal::Overloaded] {
        let mut w = with(DialogConfig::default());
        let (said, ok) = answered(&mut w);
        w.cluster = Cluster::Refuses(why);
        w.send(ALICE, &ack(&ok));
        w.expect_nothing(BOB);
        w.cluster = Cluster::Commits;
        w.send(BOB, &said);
        w.expect(ALICE, "SIP/2.0 200 ");
        w.send(ALICE, &ack(&ok));
        w.expect(BOB, "ACK ");
    }
}

#[test]
fn each_dialog_of_a_forked_call_wants_an_ack_of_its_own_rfc3261_13_2_2_4() {
    let mut w = with(DialogConfig::default());
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let got = w.expect(BOB, "INVITE ");
    for tag in ["b1", "b2"] {
        w.send(BOB, &respond(&got, 200, tag, &format!("Contact: <sip:bob@{BOB}>\r\n")));
    }
    let all = w.take(ALICE);
    let ok = all.iter().find(|m| m.contains("tag=b1")).expect("the first 200");
    w.send(ALICE, &ack(ok));
    w.expect(BOB, "ACK ");
    w.pass(secs(62));
    let to_bob = bye(&mut w, BOB);
    assert!(header(&to_bob, "To").is_some_and(|to| to.contains("b2")));
    let open: Vec<bool> = w.state.dialogs().map(|d| d.ack_until.is_some()).collect();
    assert_eq!(open, [false, true], "the call that was acknowledged is left alone");
}

#[test]
fn an_ack_that_comes_too_late_does_not_revive_a_call_that_is_being_ended() {
    let mut w = with(DialogConfig::default());
    let (_, ok) = answered(&mut w);
    w.pass(secs(61));
    bye(&mut w, BOB);
    w.send(ALICE, &ack(&ok));
    w.fail_over(Duration::from_millis(300));
    w.pass(secs(1));
    let all = w.take(BOB);
    assert!(all.iter().any(|m| m.starts_with("BYE ")), "{all:#?}");
}

#[test]
fn the_wait_for_an_ack_can_be_set_and_switched_off() {
    let mut w = with(DialogConfig { no_ack: Some(secs(40)), ..DialogConfig::default() });
    answered(&mut w);
    w.pass(secs(41));
    bye(&mut w, BOB);
    let mut w = with(DialogConfig { no_ack: None, ..DialogConfig::default() });
    let (_, ok) = answered(&mut w);
    w.cluster = Cluster::Waits;
    w.send(ALICE, &ack(&ok));
    w.expect(BOB, "ACK ");
    w.cluster = Cluster::Commits;
    w.pass(secs(3600));
    w.expect_nothing(BOB);
}

#[test]
fn a_request_that_comes_right_after_the_first_ack_does_not_overtake_it() {
    let mut w = with(DialogConfig::default());
    let (_, ok) = answered(&mut w);
    w.cluster = Cluster::Waits;
    let bye = in_dialog_of_caller("BYE", 2, &ok, ALICE);
    w.send(ALICE, &ack(&ok));
    w.send(ALICE, &bye);
    w.send(ALICE, &ack(&ok));
    w.send(ALICE, &bye);
    w.expect_nothing(BOB);
    w.cluster = Cluster::Commits;
    w.commit_all();
    let all = w.take(BOB);
    let methods: Vec<_> = all.iter().filter_map(|m| m.split(' ').next()).collect();
    assert_eq!(methods, ["ACK", "BYE"]);
    w.send(BOB, &respond(&all[1], 200, "b1", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(w.state.counts().dialogs, 0);
}

#[test]
fn an_ack_that_waits_and_what_waits_behind_it_are_counted_until_they_go_on() {
    for end in [Cluster::Commits, Cluster::Refuses(Refusal::Unknown), Cluster::Waits] {
        let mut w = with(DialogConfig::default());
        let (_, ok) = answered(&mut w);
        let before = w.engine.held_bytes();
        w.cluster = Cluster::Waits;
        let (ack, info) = (ack(&ok), in_dialog_of_caller("INFO", 2, &ok, ALICE));
        w.send(ALICE, &ack);
        let with_ack = w.engine.held_bytes();
        assert!(with_ack >= before + ack.len(), "{before} {with_ack}");
        w.send(ALICE, &ack);
        assert_eq!(w.engine.held_bytes(), with_ack, "the same one is held once");
        w.send(ALICE, &info);
        w.send(ALICE, &info);
        let with_both = w.engine.held_bytes();
        assert!(with_both >= with_ack + info.len() && with_both < with_ack + 2 * (info.len() + 1024));
        w.cluster = end;
        if w.cluster == Cluster::Waits {
            // The node gives the service up.
            w.waiting.clear();
            w.engine.deactivate();
            assert_eq!(w.engine.held_bytes(), 0);
            continue;
        }
        w.commit_all();
        w.settle();
        w.take(BOB);
        // Every transaction ends; the INFO that went on, too.
        w.pass(secs(200));
        assert_eq!(w.engine.held_bytes(), 0);
    }
}

#[test]
fn a_request_behind_an_ack_that_the_cluster_refuses_has_its_own_answer() {
    let mut w = with(DialogConfig::default());
    let (_, ok) = answered(&mut w);
    w.cluster = Cluster::Waits;
    w.send(ALICE, &ack(&ok));
    w.send(ALICE, &in_dialog_of_caller("INFO", 2, &ok, ALICE));
    w.expect_nothing(BOB);
    w.cluster = Cluster::Refuses(Refusal::Unknown);
    w.commit_all();
    w.expect(BOB, "INFO ");
    w.expect_nothing(BOB);
}
