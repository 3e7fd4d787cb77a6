//! Nonce counts over a takeover: what was used is used up, and what was not is good without another question
//! (RFC 7616 §5.12, §3.4).

use std::time::Duration;

use crate::common::auth::*;
use crate::common::story::*;
use proxy_core::io::Refusal;
use proxy_core::state::limits::MAX_NONCES;
use proxy_core::state::{CountUse, NonceId, SipCommand};
use proxy_core::time::WallTime;

const TAKEOVER: Duration = Duration::from_millis(300);

/// What somebody has recorded, sent by him from elsewhere in a transaction of his own.
fn replayed(recorded: &str) -> String {
    recorded.replace("branch=z9hG4bK", "branch=z9hG4bKthief").replace(ALICE, OTHER)
}

fn accepted(w: &mut World, request: &str) {
    w.send(ALICE, request);
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn a_register_that_was_recorded_is_stale_after_a_takeover_and_the_next_count_is_good() {
    let mut w = world();
    let asked = challenge(&mut w, ALICE, &reg());
    let recorded = answered_with(&reg(), &asked, "alice", "secret-a", 1);
    accepted(&mut w, &recorded);
    w.fail_over(TAKEOVER);
    let answer = challenge(&mut w, OTHER, &replayed(&recorded).replace("Call-ID: reg-", "Call-ID: thief-"));
    assert!(stale(&answer), "{answer}");
    assert_eq!(w.state.bindings("sip:alice@lab.test").len(), 1);
    accepted(&mut w, &answered_with(&reg(), &asked, "alice", "secret-a", 2));
}

#[test]
fn an_invite_that_was_recorded_is_stale_after_a_takeover_also_with_another_nonce_count_between() {
    let mut w = world();
    register_bob(&mut w);
    let call = invite(BOB_URI, ALICE, "c1");
    let asked = challenge(&mut w, ALICE, &call);
    let recorded = answered_with(&call, &asked, "alice", "secret-a", 1);
    w.send(ALICE, &recorded);
    w.expect(ALICE, "SIP/2.0 100 ");
    w.expect(BOB, "INVITE ");
    w.fail_over(TAKEOVER);
    w.take(BOB);
    w.take(ALICE);
    let thief = replayed(&recorded).replace("Call-ID: c1", "Call-ID: thief");
    w.send(OTHER, &thief);
    let answer = w.expect(OTHER, "SIP/2.0 407 ");
    assert!(stale(&answer), "{answer}");
    assert!(!w.take(BOB).iter().any(|m| m.contains("thief")));
    // Her own next call goes on with the nonce, over a second takeover, too.
    w.fail_over(TAKEOVER);
    w.take(BOB);
    w.take(ALICE);
    w.send(ALICE, &answered_with(&invite(BOB_URI, ALICE, "c2"), &asked, "alice", "secret-a", 2));
    w.expect(ALICE, "SIP/2.0 100 ");
}

#[test]
fn a_retransmission_after_the_takeover_of_a_register_whose_200_was_lost_is_no_replay() {
    let mut w = world();
    let asked = challenge(&mut w, ALICE, &reg());
    let once = answered(&reg(), &asked, "alice", "secret-a");
    accepted(&mut w, &once);
    w.fail_over(TAKEOVER);
    accepted(&mut w, &once);
    w.fail_over(TAKEOVER);
    accepted(&mut w, &once);
    w.tick(Duration::from_secs(33));
    w.fail_over(TAKEOVER);
    let answer = challenge(&mut w, ALICE, &once);
    assert!(stale(&answer), "{answer}");
}

#[test]
fn the_count_of_a_request_that_changes_nothing_is_replicated_within_a_moment() {
    let mut w = world();
    // Nobody is there: nothing of the call is remembered.
    let call = invite("sip:carol@lab.test", ALICE, "c1");
    let asked = challenge(&mut w, ALICE, &call);
    let recorded = answered(&call, &asked, "alice", "secret-a");
    w.send(ALICE, &recorded);
    w.expect(ALICE, "SIP/2.0 404 ");
    w.pass(Duration::from_secs(1));
    w.fail_over(TAKEOVER);
    w.send(OTHER, &replayed(&recorded));
    let answer = w.expect(OTHER, "SIP/2.0 407 ");
    assert!(stale(&answer), "{answer}");
}

#[test]
fn counts_travel_with_the_commit_that_the_request_needs_anyway() {
    let mut w = world();
    w.pass(Duration::from_secs(1));
    let asked = challenge(&mut w, ALICE, &reg());
    let before = w.log.len();
    accepted(&mut w, &answered(&reg(), &asked, "alice", "secret-a"));
    w.pass(Duration::from_millis(900));
    let since = &w.log[before..];
    assert_eq!(since.len(), 1, "{since:#?}");
    assert!(matches!(&since[0], SipCommand::Counted { counts, then: Some(then) }
        if counts.len() == 1 && matches!(**then, SipCommand::Register(_))));
}

#[test]
fn a_register_whose_commit_failed_comes_again_with_the_same_count() {
    let mut w = world();
    let asked = challenge(&mut w, ALICE, &reg());
    let once = answered(&reg(), &asked, "alice", "secret-a");
    w.cluster = Cluster::Refuses(Refusal::Unknown);
    w.send(ALICE, &once);
    w.expect_nothing(ALICE);
    w.cluster = Cluster::Commits;
    accepted(&mut w, &once);
    w.fail_over(TAKEOVER);
    let answer = challenge(&mut w, OTHER, &replayed(&once).replace("Call-ID: reg-", "Call-ID: thief-"));
    assert!(stale(&answer), "{answer}");
}

#[test]
fn replicated_counts_go_with_their_nonces() {
    let mut w = world();
    let asked = challenge(&mut w, ALICE, &reg());
    accepted(&mut w, &answered(&reg(), &asked, "alice", "secret-a"));
    assert_eq!(w.state.nonce_counts().len(), 1);
    w.pass(Duration::from_secs(700));
    let asked = challenge(&mut w, ALICE, &register("alice", ALICE, 5, &format!("<sip:alice@{ALICE}>")));
    accepted(
        &mut w,
        &answered(&register("alice", ALICE, 5, &format!("<sip:alice@{ALICE}>")), &asked, "alice", "secret-a"),
    );
    assert_eq!(w.state.nonce_counts().len(), 1, "the first one has had its time");
    assert!(w.state.index_is_right());
}

#[test]
fn replicated_counts_are_bounded_and_what_was_forgotten_is_not_taken_again() {
    let mut w = world();
    let at = w.now.wall;
    let using = |n: u64, count: u32, by: u64| CountUse {
        nonce: NonceId { made_at: WallTime(at.0 + n), salt: n, key_id: 1 },
        count,
        by,
        at,
        ends: WallTime(at.0 + n + 600_000),
    };
    for n in 0..=MAX_NONCES as u64 {
        w.state.apply(&SipCommand::Counted { counts: vec![using(n, 1, n)], then: None });
    }
    let counts = w.state.nonce_counts();
    assert_eq!(counts.len(), MAX_NONCES);
    assert!(counts.is_used(&using(0, 2, 9)), "forgotten");
    assert!(counts.is_used(&using(1, 1, 9)) && !counts.is_used(&using(1, 2, 9)));
    assert!(w.state.index_is_right());
}
