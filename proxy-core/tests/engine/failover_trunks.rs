//! Lists of trunks: who follows whom, and when.

use std::time::Duration;

use crate::common::failover::*;
use crate::common::story::*;
use proxy_core::dialog::config::DialogConfig;
use proxy_core::io::EngineConfig;
use proxy_core::state::trunk::TrunkCommand;
use proxy_core::state::{CountKey, SipCommand};

#[test]
fn a_silent_trunk_is_followed_by_the_next_one_after_its_patience_also_across_a_takeover() {
    let mut w = trunks(|_| {});
    call(&mut w, OUT, "c1");
    let first = w.expect(FIRST, "INVITE sip:0301234@one.test ");
    w.pass(seconds(2));
    w.take(FIRST);
    w.fail_over(Duration::from_millis(300));
    assert_eq!(w.expect(FIRST, "INVITE "), first);
    w.pass(Duration::from_millis(4100));
    let second = w.expect(SECOND, "INVITE sip:0301234@two.test ");
    w.send(SECOND, &respond(&second, 200, "t", &contact(SECOND)));
    w.expect(ALICE, "SIP/2.0 200 ");
    // The first wakes up.
    w.take(FIRST);
    w.send(FIRST, &respond(&first, 180, "l", ""));
    w.expect(FIRST, "CANCEL ");
}

#[test]
fn failures_of_a_trunk_are_followed_by_the_next_one_and_those_of_the_number_are_not() {
    for (status, moves) in [(503, true), (500, true), (408, true), (486, false), (404, false), (603, false)] {
        let mut w = trunks(|_| {});
        call(&mut w, OUT, "c1");
        let first = w.expect(FIRST, "INVITE ");
        w.send(FIRST, &respond(&first, status, "t", ""));
        w.expect(FIRST, "ACK ");
        assert_eq!(count(&w.take(SECOND), "INVITE") == 1, moves, "{status}");
        assert_eq!(w.take(ALICE).is_empty(), moves, "{status}");
    }
}

#[test]
fn a_trunk_that_takes_no_credentials_is_followed_by_the_next_one() {
    let mut w = trunks(|_| {});
    call(&mut w, OUT, "c1");
    let mut at_first = w.expect(FIRST, "INVITE ");
    let challenge =
        "Proxy-Authenticate: Digest realm=\"one.test\", nonce=\"n\", algorithm=MD5, qop=\"auth\"\r\n";
    for _ in 0..8 {
        w.send(FIRST, &respond(&at_first, 407, "t", challenge));
        let next = w.take(FIRST).into_iter().find(|m| m.starts_with("INVITE "));
        let Some(next) = next else { break };
        at_first = next;
    }
    let second = w.expect(SECOND, "INVITE ");
    assert_eq!(header(&second, "CSeq").as_deref(), Some("1 INVITE"));
    assert_eq!(header(&second, "Proxy-Authorization"), None);
    w.expect_nothing(ALICE);
}

#[test]
fn a_full_trunk_is_left_out_an_unregistered_one_comes_last_and_one_that_is_off_not_at_all() {
    let limits = |c: &mut EngineConfig| {
        let mut dialog = DialogConfig::default();
        dialog.limits.trunks.insert(String::from("one"), 1);
        c.dialog = dialog;
    };
    let mut w = trunks(limits);
    call(&mut w, OUT, "c1");
    w.expect(FIRST, "INVITE ");
    call(&mut w, OUT, "c2");
    w.expect(SECOND, "INVITE ");
    // Its registrar has us not.
    let mut w = trunks(|_| {});
    put_trunk(&mut w, "one", FIRST, 600);
    call(&mut w, OUT, "c1");
    let second = w.expect(SECOND, "INVITE ");
    w.send(SECOND, &respond(&second, 503, "t", ""));
    assert_eq!(count(&w.take(FIRST), "INVITE"), 1);
    let mut w = trunks(|_| {});
    let off = TrunkCommand::Enable { uuid: "one".into(), enabled: false, at: w.now.wall };
    w.state.apply(&SipCommand::Trunk(off));
    call(&mut w, OUT, "c1");
    w.expect(SECOND, "INVITE ");
    w.expect_nothing(FIRST);
}

#[test]
fn a_trunk_that_asks_for_credentials_late_has_its_whole_patience_for_the_copy_with_them() {
    let mut w = trunks(|_| {});
    w.send(ALICE, &request("MESSAGE", OUT, ALICE, "m1", ""));
    let first = w.expect(FIRST, "MESSAGE ");
    w.pass(Duration::from_millis(3900));
    w.take(FIRST);
    let challenge =
        "Proxy-Authenticate: Digest realm=\"one.test\", nonce=\"n\", algorithm=MD5, qop=\"auth\"\r\n";
    w.send(FIRST, &respond(&first, 407, "t", challenge));
    let again = w.expect(FIRST, "MESSAGE ");
    w.pass(Duration::from_millis(400));
    w.expect_nothing(SECOND);
    w.send(FIRST, &respond(&again, 200, "t", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn a_call_whose_trunk_is_filled_by_another_engine_at_that_moment_goes_out_by_the_next_one() {
    let limits = |c: &mut EngineConfig| {
        c.dialog.limits.trunks.insert(String::from("one"), 1);
        c.dialog.limits.trunks.insert(String::from("two"), 1);
    };
    let mut w = trunks(limits);
    w.cluster = Cluster::Waits;
    let another_engine_is_faster = |w: &mut World, id: &str| {
        let mut other = World::with(w.config.clone());
        other.state = w.state.clone();
        other.cluster = Cluster::Waits;
        other.send(ALICE, &invite(OUT, ALICE, id));
        let (_, command) = other.waiting.pop_front().expect("a proposal");
        w.state.apply(&command);
    };
    w.send(ALICE, &invite(OUT, ALICE, "c1"));
    another_engine_is_faster(&mut w, "c2");
    w.commit_all();
    w.expect_nothing(FIRST);
    let second = w.expect(SECOND, "INVITE sip:0301234@two.test ");
    w.expect(ALICE, "SIP/2.0 100 ");
    let calls_of = |w: &World, uuid: &str| w.state.calls_of(&CountKey::Trunk(uuid.into()));
    assert_eq!((calls_of(&w, "one"), calls_of(&w, "two")), (1, 1));
    // It counts under the second until it ends.
    w.cluster = Cluster::Commits;
    w.send(SECOND, &respond(&second, 486, "t", ""));
    w.expect(ALICE, "SIP/2.0 486 ");
    assert_eq!((calls_of(&w, "one"), calls_of(&w, "two")), (1, 0));
}
