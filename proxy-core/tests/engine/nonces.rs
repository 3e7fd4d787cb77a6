//! Nonces: their counts, their age, and their key, over takeovers.

use crate::common::story;
use std::time::Duration;

use crate::common::auth::*;
use crate::common::story::*;
use proxy_core::auth::AuthConfig;
use proxy_core::digest::Replay;
use proxy_core::engine::Engine;
use proxy_core::io::{EngineConfig, Refusal};
use proxy_core::state::SipCommand;

#[test]
fn a_nonce_given_before_a_takeover_is_good_after_it() {
    let mut w = world();
    let asked = challenge(&mut w, ALICE, &reg());
    w.fail_over(Duration::from_millis(300));
    w.send(ALICE, &answered(&reg(), &asked, "alice", "secret-a"));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn a_nonce_count_is_good_once_and_a_replay_gets_a_fresh_nonce_rfc7616_5_12() {
    let mut w = world();
    let asked = challenge(&mut w, ALICE, &reg());
    w.send(ALICE, &answered_with(&reg(), &asked, "alice", "secret-a", 1));
    w.expect(ALICE, "SIP/2.0 200 ");
    // The phone goes on with the same nonce and the next count.
    w.send(ALICE, &answered_with(&reg(), &asked, "alice", "secret-a", 2));
    w.expect(ALICE, "SIP/2.0 200 ");
    // Somebody has recorded it, and sends it from elsewhere in another call.
    let recorded = answered_with(&reg(), &asked, "alice", "secret-a", 2);
    let replayed = recorded.replace("Call-ID: reg-", "Call-ID: thief-").replace(ALICE, OTHER);
    let answer = challenge(&mut w, OTHER, &replayed);
    assert!(stale(&answer), "{answer}");
    assert_eq!(w.state.bindings("sip:alice@lab.test").len(), 1);
}

#[test]
fn engines_of_one_node_share_the_counts_so_that_a_replay_cannot_go_to_another_one() {
    let mut w = world();
    let asked = challenge(&mut w, ALICE, &reg());
    let replay = Replay::default();
    let mut engines: Vec<Engine> =
        (0..2).map(|_| Engine::sharing(w.config.clone(), replay.clone())).collect();
    let text = answered(&reg(), &asked, "alice", "secret-a");
    let other_call = text.replace("Call-ID: reg-", "Call-ID: thief-");
    let mut statuses = Vec::new();
    for (engine, text) in engines.iter_mut().zip([text, other_call]) {
        engine.activate(w.now, &w.state);
        w.engine = std::mem::replace(engine, Engine::new(w.config.clone()));
        w.send(ALICE, &text);
        statuses.push(first_line(&mut w, ALICE));
    }
    assert_eq!(statuses, ["200 OK", "401 Unauthorized"]);
}

#[test]
fn a_retransmission_of_a_request_that_was_refused_statelessly_gets_the_same_answer_rfc3261_17_2() {
    let mut w = world();
    let call = invite("sip:carol@lab.test", ALICE, "c1");
    let asked = challenge(&mut w, ALICE, &call);
    let again = answered(&call, &asked, "alice", "secret-a");
    for _ in 0..3 {
        w.send(ALICE, &again);
        w.expect(ALICE, "SIP/2.0 404 ");
        w.tick(Duration::from_millis(500));
    }
}

#[test]
fn an_old_nonce_is_stale_only_for_who_knows_the_password_rfc7616_3_3() {
    let mut w = world();
    let asked = challenge(&mut w, ALICE, &reg());
    w.pass(Duration::from_secs(301));
    let right = challenge(&mut w, ALICE, &answered(&reg(), &asked, "alice", "secret-a"));
    assert!(stale(&right), "{right}");
    let wrong = challenge(&mut w, ALICE, &answered(&reg(), &asked, "alice", "guess"));
    assert!(!stale(&wrong), "{wrong}");
    w.send(ALICE, &answered(&reg(), &right, "alice", "secret-a"));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn a_nonce_that_nobody_of_ours_made_is_stale() {
    let mut w = world();
    let asked = challenge(&mut w, ALICE, &reg());
    let at = asked.find("nonce=\"").expect("nonce") + 7;
    for forged in ["dcd98b7102dd2f0e8b11d0f600bfb0c093", &"0".repeat(74)] {
        let other = format!("{}{forged}{}", &asked[..at], &asked[asked[at..].find('"').expect("end") + at..]);
        let answer = challenge(&mut w, ALICE, &answered(&reg(), &other, "alice", "secret-a"));
        assert!(stale(&answer), "{answer}");
    }
}

#[test]
fn the_key_of_nonces_is_drawn_once_kept_over_a_takeover_and_rotated_with_the_old_one_still_known() {
    let config =
        EngineConfig { auth: AuthConfig { key_life: Duration::from_secs(600), ..asking().auth }, ..asking() };
    let mut w = World::with(config);
    w.settle();
    subscribe(&mut w.state, "alice", "lab.test", "lab.test", "secret-a");
    let first = *w.state.provision().nonce_key().expect("drawn at the start");
    w.pass(Duration::from_secs(100));
    w.fail_over(Duration::from_millis(300));
    assert_eq!(w.state.provision().nonce_key(), Some(&first));
    w.pass(Duration::from_secs(498));
    let asked = challenge(&mut w, ALICE, &reg());
    w.pass(Duration::from_secs(10));
    let second = *w.state.provision().nonce_key().expect("there");
    assert_eq!(second.id, first.id + 1);
    assert_ne!(second.secret, first.secret);
    w.send(ALICE, &answered(&reg(), &asked, "alice", "secret-a"));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn only_the_first_engine_proposes_a_key_and_goes_on_trying_until_there_is_one() {
    let mut w = World::with(EngineConfig { shard: 1, shards: 2, ..asking() });
    w.settle();
    w.pass(Duration::from_secs(5));
    assert!(w.state.provision().nonce_key().is_none());
    let mut w = World::with(asking());
    w.cluster = story::Cluster::Refuses(Refusal::Unknown);
    w.settle();
    // Without a key a request cannot be judged: it comes again by itself.
    w.send(ALICE, &reg());
    w.expect_nothing(ALICE);
    w.cluster = story::Cluster::Commits;
    w.pass(Duration::from_millis(500));
    w.send(ALICE, &reg());
    w.expect(ALICE, "SIP/2.0 401 ");
    let drawn = w.log.iter().filter(|c| matches!(c, SipCommand::Provision(_))).count();
    assert_eq!(drawn, 1);
}

#[test]
fn recorded_credentials_are_worth_nothing_but_for_the_same_request_from_the_same_place() {
    let mut w = world();
    let asked = challenge(&mut w, ALICE, &reg());
    let mine = answered(&reg(), &asked, "alice", "secret-a");
    w.send(ALICE, &mine);
    w.expect(ALICE, "SIP/2.0 200 ");
    // A connection keeps no transaction: the next node has none at all.
    w.fail_over(Duration::from_millis(300));
    let theirs = mine.replace(&format!("<sip:alice@{ALICE}>"), &format!("<sip:eve@{OTHER}>"));
    for (from, text) in [(OTHER, &theirs), (OTHER, &mine), (ALICE, &theirs)] {
        let answer = challenge(&mut w, from, text);
        assert!(stale(&answer), "{answer}");
    }
    assert!(w.state.bindings("sip:alice@lab.test").iter().all(|b| b.contact.contains(ALICE)));
    w.send(ALICE, &mine);
    w.expect(ALICE, "SIP/2.0 200 ");
}
