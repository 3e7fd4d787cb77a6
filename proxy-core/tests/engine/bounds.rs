//! The bounds of an engine: what does not fit is said so, and what was held is given back.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::engine::limits::{MAX_FORKS, MAX_HELD_BYTES, MAX_REQUEST_BYTES, MAX_TICKETS};
use proxy_core::io::EngineConfig;

const ALICE: &str = "10.77.0.201:5061";
const BOB_URI: &str = "sip:bob@lab.test";

#[test]
fn large_calls_to_many_places_fill_the_engine_and_the_next_gets_503() {
    let mut w = World::with(EngineConfig { max_contacts: 64, ..config() });
    for n in 0..MAX_FORKS + 4 {
        w.register("bob", &format!("10.77.1.1:{}", 6000 + n));
    }
    w.cluster = Cluster::Waits;
    let filler = format!("X: {}\r\n", "x".repeat(MAX_REQUEST_BYTES - 600));
    let mut admitted = 0;
    for n in 0..2000 {
        w.send(ALICE, &request("INVITE", BOB_URI, ALICE, &format!("c{n}"), &filler));
        if let Some(answer) = w.take(ALICE).first() {
            assert!(answer.starts_with("SIP/2.0 503 ") && header(answer, "Retry-After").is_some());
            break;
        }
        admitted += 1;
    }
    let most = MAX_HELD_BYTES / (MAX_REQUEST_BYTES - 600) / (MAX_FORKS + 1);
    assert!((most / 2..=most).contains(&admitted), "{admitted} of {most}");
    assert!(w.engine.held_bytes() <= MAX_HELD_BYTES);
    assert!(w.engine.counters().dropped_overload > 0);
    // Nobody ever hears of them again.
    w.waiting.clear();
    w.pass(Duration::from_secs(600));
    assert_eq!((w.engine.load().0, w.engine.held_bytes()), (0, 0));
}

#[test]
fn proposals_without_a_verdict_are_bounded() {
    let mut w = World::new();
    w.cluster = Cluster::Waits;
    for n in 0..MAX_TICKETS + 100 {
        let text = register("bob", ALICE, 1, &format!("<sip:bob@{ALICE}>"))
            .replace("z9hG4bKr", &format!("z9hG4bK{n}"));
        w.deliver(addr(ALICE), &text);
        while w.step() {}
    }
    assert!(w.engine.load().2 <= MAX_TICKETS);
    assert!(w.take(ALICE).iter().all(|m| m.starts_with("SIP/2.0 503 ")));
}

#[test]
fn no_more_copies_than_allowed_are_sent() {
    let mut w = World::with(EngineConfig { max_contacts: 64, ..config() });
    for n in 0..MAX_FORKS + 4 {
        w.register("bob", &format!("10.77.1.1:{}", 6000 + n));
    }
    w.sent.clear();
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    assert_eq!(w.sent.iter().filter(|(_, m)| m.starts_with("INVITE ")).count(), MAX_FORKS);
}
