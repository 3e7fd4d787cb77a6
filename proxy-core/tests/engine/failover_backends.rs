//! Backends that die while a call is in the air.

use std::time::Duration;

use crate::common::failover::*;
use crate::common::story::*;
use proxy_core::io::EngineConfig;
use proxy_core::routing::{Action, Match, Pattern, Rule};
use proxy_core::state::dispatcher::DispatcherCommand;
use proxy_core::state::{Flow, SipCommand, Transport};

#[test]
fn a_backend_that_says_100_and_dies_is_asked_and_the_call_moves_on_within_seconds() {
    let mut w = backends(|_| {});
    call(&mut w, NUMBER, "c1");
    let first = w.expect(FIRST, "INVITE ");
    w.send(FIRST, &respond(&first, 100, "", ""));
    w.pass(Duration::from_millis(1900));
    w.expect_nothing(FIRST);
    w.pass(Duration::from_millis(200));
    w.expect(FIRST, "OPTIONS ");
    w.pass(Duration::from_millis(2100));
    let second = w.expect(SECOND, "INVITE ");
    assert_eq!(count(&w.take(FIRST), "CANCEL"), 1);
    w.send(SECOND, &respond(&second, 200, "p2", &contact(SECOND)));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn a_backend_that_is_asked_and_lives_keeps_the_call_and_one_that_rings_is_not_asked() {
    let mut w = backends(|_| {});
    call(&mut w, NUMBER, "c1");
    let first = w.expect(FIRST, "INVITE ");
    w.send(FIRST, &respond(&first, 100, "", ""));
    w.pass(Duration::from_millis(2100));
    let probe = w.expect(FIRST, "OPTIONS ");
    w.send(FIRST, &respond(&probe, 200, "o", ""));
    // As long as it says no more it is asked again; two calls are one reason.
    call(&mut w, NUMBER, "c2");
    let other = w.expect(FIRST, "INVITE ");
    w.send(FIRST, &respond(&other, 100, "", ""));
    w.pass(Duration::from_millis(2500));
    let mut probes = w.take(FIRST);
    probes.dedup();
    assert_eq!(count(&probes, "OPTIONS"), 1, "{probes:#?}");
    w.send(FIRST, &respond(&probes[0], 200, "o", ""));
    for invite in [&first, &other] {
        w.send(FIRST, &respond(invite, 180, "p1", ""));
    }
    w.take(ALICE);
    w.pass(seconds(30));
    w.expect_nothing(FIRST);
    w.expect_nothing(SECOND);
}

#[test]
fn a_takeover_doubts_a_backend_anew() {
    let mut w = backends(|_| {});
    call(&mut w, NUMBER, "c1");
    let first = w.expect(FIRST, "INVITE ");
    w.send(FIRST, &respond(&first, 100, "", ""));
    w.fail_over(Duration::from_millis(300));
    w.expect(FIRST, "INVITE ");
    w.send(FIRST, &respond(&first, 100, "", ""));
    w.pass(Duration::from_millis(2500));
    assert!(count(&w.take(FIRST), "OPTIONS") >= 1);
    w.pass(Duration::from_millis(2000));
    let moved = w.take(SECOND);
    assert!(count(&moved, "INVITE") > 0, "{moved:#?}");
}

#[test]
fn with_ringing_off_a_call_that_rings_at_a_dead_backend_stays_and_one_that_does_not_moves_on() {
    let mut w = backends(|c| c.failover.ringing = false);
    call(&mut w, NUMBER, "c1");
    let rings = w.expect(FIRST, "INVITE ");
    w.send(FIRST, &respond(&rings, 180, "p1", ""));
    w.take(ALICE);
    call(&mut w, NUMBER, "c2");
    let waits = w.expect(FIRST, "INVITE ");
    w.send(FIRST, &respond(&waits, 100, "", ""));
    w.pass(Duration::from_millis(4300));
    let moved = w.expect(SECOND, "INVITE ");
    assert_eq!(header(&moved, "Call-ID").as_deref(), Some("c2"));
}

#[test]
fn calls_in_the_air_move_on_the_moment_a_probe_for_another_call_finds_their_backend_dead() {
    let mut w = backends(|_| {});
    call(&mut w, NUMBER, "c1");
    let rings = w.expect(FIRST, "INVITE ");
    w.send(FIRST, &respond(&rings, 180, "p1", ""));
    w.take(ALICE);
    call(&mut w, NUMBER, "c2");
    w.expect(FIRST, "INVITE ");
    // An ICMP error on the second INVITE, and on the probe that is sent for it.
    let mut moved = Vec::new();
    for calls in [1, 2] {
        w.pass(Duration::from_millis(10));
        w.engine.handle_transport_failure(w.now, flow_of(addr(FIRST)), &w.state);
        w.settle();
        moved.extend(w.take(SECOND));
        assert_eq!(moved.len(), calls, "the call that failed alone says nothing of the others");
    }
    let mut ids: Vec<String> = moved.iter().filter_map(|m| header(m, "Call-ID")).collect();
    ids.sort();
    assert_eq!(ids, ["c1", "c2"], "without a tick of the chores");
    assert_eq!(count(&w.take(FIRST), "CANCEL"), 1, "who rang is told to stop");
}

#[test]
fn a_connection_that_breaks_while_a_call_rings_has_its_backend_asked_at_once() {
    let mut w = backends(|_| {});
    let uri = format!("sip:{FIRST}");
    let command = DispatcherCommand::Remove { set: 1, uri: Some(uri.clone()) };
    w.state.apply(&SipCommand::Dispatcher(command));
    put_backend(&mut w, &format!("{uri};transport=tcp"), 9);
    let flow = Flow { transport: Transport::Tcp, ..flow_of(addr(FIRST)) };
    w.pass(Duration::from_millis(600));
    let say = |w: &mut World, text: &str| {
        w.engine.handle_datagram(w.now, flow, text.as_bytes(), &w.state);
        w.settle();
    };
    for probe in w.take(FIRST) {
        say(&mut w, &respond(&probe, 200, "o", ""));
    }
    call(&mut w, NUMBER, "c1");
    let first = w.expect(FIRST, "INVITE ");
    say(&mut w, &respond(&first, 180, "p1", ""));
    w.take(ALICE);
    w.engine.handle_transport_failure(w.now, flow, &w.state);
    w.settle();
    w.expect(FIRST, "OPTIONS ");
    w.expect_nothing(SECOND);
    // Nobody takes the new connection either.
    w.pass(Duration::from_millis(10));
    w.engine.handle_transport_failure(w.now, flow, &w.state);
    w.settle();
    w.expect(SECOND, "INVITE ");
}

#[test]
fn without_probes_nobody_is_asked() {
    let mut w = backends(|c| c.dispatch.probe_interval = Duration::ZERO);
    call(&mut w, NUMBER, "c1");
    let first = w.expect(FIRST, "INVITE ");
    w.send(FIRST, &respond(&first, 100, "", ""));
    w.pass(seconds(20));
    w.expect_nothing(FIRST);
}

#[test]
fn a_request_reaches_the_second_backend_when_the_first_is_silent_and_no_408_is_made_rfc4320() {
    // The default set takes calls alone; a rule sends what it likes.
    let rule = Rule {
        name: String::from("all"),
        matching: Match { users: vec![Pattern::glob("*").expect("a pattern")], ..Match::default() },
        strip: 0,
        prefix: String::new(),
        require_auth: false,
        action: Action::Dispatcher(1),
        voicemail: None,
        ring: None,
        media: None,
    };
    let mut w = backends(|c| c.routing.rules.push(rule));
    w.send(ALICE, &request("OPTIONS", NUMBER, ALICE, "o1", ""));
    w.expect(FIRST, "OPTIONS ");
    w.pass(Duration::from_millis(3100));
    assert_eq!(count(&w.take(SECOND), "OPTIONS"), 1);
    w.pass(seconds(60));
    w.expect_nothing(ALICE);
    assert_eq!(w.engine.load(), (0, 0, 0));
}

#[test]
fn limits_of_the_same_length_end_and_each_has_its_turn() {
    let same = |c: &mut EngineConfig| {
        c.failover.fr_timer = Some(seconds(3));
        c.dispatch.patience = seconds(3);
    };
    // The next address, and with nobody left the 408.
    let mut w = servers(same);
    call(&mut w, BOB_URI, "c1");
    w.pass(Duration::from_millis(3100));
    w.expect(SECOND, "INVITE ");
    w.pass(Duration::from_millis(3100));
    w.expect(ALICE, "SIP/2.0 408 ");
    // Hung up before anybody has said a word: nobody else is called.
    let mut w = servers(same);
    call(&mut w, BOB_URI, "c1");
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.pass(Duration::from_millis(3100));
    w.expect(ALICE, "SIP/2.0 487 ");
    w.expect_nothing(SECOND);
    // The next backend, and with nobody left the 408.
    let mut w = backends(same);
    call(&mut w, NUMBER, "c1");
    w.pass(Duration::from_millis(3100));
    w.expect(SECOND, "INVITE ");
    w.pass(Duration::from_millis(3100));
    w.expect(ALICE, "SIP/2.0 408 ");
}
