//! `relevo route explain`: what it says is what the proxy does. The stages one by one are in `engine_stages`.

use crate::common::{auth, trunk};
use std::time::Duration;

use crate::common::auth::*;
use crate::common::story::*;
use proxy_core::engine::Engine;
use proxy_core::io::EngineConfig;
use proxy_core::routing::{Action, Bans, FloodLimit, Line, Match, RoutingConfig, Rule, Screen, Stage};
use proxy_core::state::trunk::Account;

fn explain(w: &World, user: Option<&str>, text: &str) -> Vec<Line> {
    let (flow, user) = (flow_of(addr(ALICE)), user.map(str::to_owned));
    Engine::explained(w.config.clone(), w.now, flow, user, text.as_bytes(), &w.state)
}

fn says(lines: &[Line], stage: Stage, word: &str) -> bool {
    lines.iter().any(|l| l.stage == stage && format!("{} {}", l.decision, l.why).contains(word))
}

fn call() -> String {
    invite(BOB_URI, ALICE, "c1")
}

#[test]
fn who_is_taken_to_be_a_user_passes_only_as_himself() {
    let w = auth::world();
    // From is alice.
    let lines = explain(&w, Some("alice@lab.test"), &call());
    assert!(says(&lines, Stage::Auth, "knows it is sip:alice@lab.test, as asked"), "{lines:#?}");
    let lines = explain(&w, Some("bob@lab.test"), &call());
    assert!(says(&lines, Stage::Auth, "answers 403 Forbidden auth ID"), "{lines:#?}");
    assert!(!lines.iter().any(|l| l.stage == Stage::Relay), "{lines:#?}");
    // Who is no subscriber can prove nothing, nor can nobody.
    for user in [Some("mallory@lab.test"), None] {
        let lines = explain(&w, user, &call());
        assert!(says(&lines, Stage::Auth, "challenges"), "{lines:#?}");
    }
}

#[test]
fn who_is_taken_to_be_a_user_is_not_where_nobody_is_asked() {
    let mut w = World::new();
    subscribe(&mut w.state, "alice", "lab.test", "lab.test", "secret-a");
    let foreign = invite("sip:x@192.0.2.9", ALICE, "c1");
    w.send(ALICE, &foreign);
    w.expect(ALICE, "SIP/2.0 403 Not relaying");
    let lines = explain(&w, Some("alice@lab.test"), &foreign);
    assert!(says(&lines, Stage::Sipout, "answers 403 Not relaying"), "{lines:#?}");
}

#[test]
fn a_banned_source_is_said_to_be_and_asking_counts_for_nothing() {
    let limit = FloodLimit { requests: 3, ..FloodLimit::default() };
    let screen = Screen { flood: Some(limit), ..Screen::default() };
    let routing = RoutingConfig { screen, ..RoutingConfig::default() };
    let config = EngineConfig { routing, ..config() };
    let mut w = World::with(config.clone());
    let bans = Bans::default();
    w.engine = Engine::new(config.clone()).with_bans(bans.clone());
    w.engine.activate(w.now, &w.state);
    let ask = |w: &World, bans: &Bans| {
        let (flow, text) = (flow_of(addr(ALICE)), call());
        Engine::explained_among(config.clone(), bans.clone(), w.now, flow, None, text.as_bytes(), &w.state)
    };
    for _ in 0..50 {
        assert!(says(&ask(&w, &bans), Stage::Relay, "answers 404"));
    }
    for n in 0..5 {
        w.send(ALICE, &request("OPTIONS", "sip:lab.test", ALICE, &format!("o{n}"), ""));
    }
    let c = w.engine.counters();
    assert_eq!((w.take(ALICE).len(), c.banned, c.dropped_flood), (3, 1, 2));
    w.tick(Duration::from_secs(60));
    let lines = ask(&w, &bans);
    assert!(says(&lines, Stage::Reqinit, "10.77.0.201 is banned for 240 s more"), "{lines:#?}");
    assert_eq!(bans.list(w.now.mono).first().map(|b| b.dropped), Some(2), "a question is no request");
    // Another engine of the node knows it, too, until the operator lets it in.
    w.engine = Engine::new(config.clone()).with_bans(bans.clone());
    w.engine.activate(w.now, &w.state);
    w.send(ALICE, &call());
    w.expect_nothing(ALICE);
    assert_eq!(bans.clear(w.now.mono, None), 1);
    w.send(ALICE, &call());
    w.expect(ALICE, "SIP/2.0 404 ");
}

#[test]
fn the_engines_of_a_node_count_together() {
    let limit = FloodLimit { requests: 4, ..FloodLimit::default() };
    let screen = Screen { flood: Some(limit), ..Screen::default() };
    let routing = RoutingConfig { screen, ..RoutingConfig::default() };
    let config = EngineConfig { routing, ..config() };
    let bans = Bans::default();
    let mut w = World::with(config.clone());
    for n in 0..6 {
        w.engine = Engine::new(config.clone()).with_bans(bans.clone());
        w.engine.activate(w.now, &w.state);
        w.send(ALICE, &request("OPTIONS", "sip:lab.test", ALICE, &format!("o{n}"), ""));
        assert_eq!(w.take(ALICE).len(), usize::from(n < 4), "{n}");
    }
}

#[test]
fn a_trunk_that_is_off_or_not_there_is_named() {
    let mut w = World::new();
    let rule = Rule {
        name: String::from("out"),
        matching: Match::default(),
        strip: 0,
        prefix: String::new(),
        require_auth: false,
        action: Action::Trunk(vec![String::from("gone"), String::from("carrier")]),
        voicemail: None,
        ring: None,
        media: None,
    };
    w.config.routing.rules = vec![rule];
    trunk::put(&mut w, Account { disabled: true, ..trunk::account() });
    let lines = explain(&w, None, &call());
    assert!(says(&lines, Stage::Trunk, "there is no trunk \"gone\""), "{lines:#?}");
    assert!(says(&lines, Stage::Trunk, "trunk \"carrier\" is switched off"), "{lines:#?}");
    assert!(!says(&lines, Stage::Trunk, "chooses"), "{lines:#?}");
}

#[test]
fn the_first_ack_of_a_call_waits_once_for_its_commit_and_then_goes_on() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &call());
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.take(ALICE).into_iter().find(|m| m.starts_with("SIP/2.0 200 ")).expect("200");
    let lines = explain(&w, None, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    let waits = lines.iter().filter(|l| l.decision == "waits").count();
    assert_eq!(waits, 1, "of {} lines", lines.len());
    assert!(lines.iter().any(|l| format!("{} {}", l.decision, l.why).contains("ACK sip:bob@")), "{lines:#?}");
}
