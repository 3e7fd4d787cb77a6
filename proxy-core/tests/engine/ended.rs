//! A call that rings and that an operator ends, across the loss of the node.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::state::{AccountRecord, EndedBy, RecordKind, SipCommand, SipResponse};

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB_URI: &str = "sip:bob@lab.test";

/// Bob rings. Gives the INVITE that he got.
fn ringing() -> (World, String) {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 180, "b1", ""));
    w.take(ALICE);
    (w, got)
}

fn mark(w: &mut World) -> SipResponse {
    let key = w.state.pending_invites().next().expect("a pending INVITE").key.clone();
    w.state.apply(&SipCommand::InviteEnding { key, by: EndedBy::Operator })
}

fn records(w: &World, kind: RecordKind) -> Vec<AccountRecord> {
    w.state.outbox().after(0).filter(|r| r.kind == kind).cloned().collect()
}

fn ended_once(w: &World) {
    let failed = records(w, RecordKind::Failed);
    assert_eq!(failed.iter().map(|r| r.code).collect::<Vec<_>>(), [480]);
    assert_eq!(records(w, RecordKind::Missed).len(), 1, "Bob has missed a call");
    let cdrs = records(w, RecordKind::Cdr);
    assert_eq!(cdrs.len(), 1);
    assert_eq!(cdrs[0].times.expect("times").ended_by, EndedBy::Operator);
}

#[test]
fn an_operator_ends_a_call_that_rings_with_480_and_cancel() {
    let (mut w, got) = ringing();
    assert_eq!(mark(&mut w), SipResponse::Done);
    w.pass(Duration::from_secs(1));
    let all = w.take(ALICE);
    assert!(all.iter().all(|m| m.starts_with("SIP/2.0 480 ")) && !all.is_empty(), "{all:#?}");
    let cancel = w.take(BOB).remove(0);
    assert!(cancel.starts_with("CANCEL "));
    w.send(BOB, &respond(&cancel, 200, "b1", ""));
    w.send(BOB, &respond(&got, 487, "b1", ""));
    w.expect(BOB, "ACK ");
    ended_once(&w);
    assert!(w.state.index_is_right());
}

#[test]
fn a_call_that_is_to_be_ended_is_ended_by_the_next_node() {
    let (mut w, _) = ringing();
    mark(&mut w);
    w.fail_over(Duration::from_millis(300));
    w.pass(Duration::from_secs(1));
    assert!(w.take(ALICE).iter().any(|m| m.starts_with("SIP/2.0 480 ")));
    assert!(w.take(BOB).iter().any(|m| m.starts_with("INVITE ")), "the phone repeats its last answer");
    ended_once(&w);
}

#[test]
fn a_call_whose_end_crosses_its_answer_is_ended_with_bye() {
    let (mut w, got) = ringing();
    mark(&mut w);
    w.send(BOB, &respond(&got, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    assert!(w.take(ALICE).iter().any(|m| m.starts_with("SIP/2.0 200 ")));
    w.pass(Duration::from_secs(1));
    for at in [ALICE, BOB] {
        let bye = w.take(at).into_iter().find(|m| m.starts_with("BYE ")).expect("BYE");
        w.send(at, &respond(&bye, 200, "", ""));
    }
    assert_eq!(w.state.counts().dialogs, 0);
    let cdrs = records(&w, RecordKind::Cdr);
    assert_eq!(cdrs.len(), 1);
    assert_eq!(cdrs[0].times.expect("times").ended_by, EndedBy::Operator);
}

#[test]
fn who_has_hung_up_gets_the_487_that_is_due_and_a_decided_call_cannot_be_ended() {
    let (mut w, _) = ringing();
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    assert_eq!(mark(&mut w), SipResponse::Done);
    w.pass(Duration::from_secs(1));
    assert!(w.take(ALICE).iter().any(|m| m.starts_with("SIP/2.0 487 ")));
    assert_eq!(records(&w, RecordKind::Cdr)[0].times.expect("times").ended_by, EndedBy::Caller);
    assert_eq!(mark(&mut w), SipResponse::Superseded);
}
