//! A fault of the program at one record: it is left out, named and counted, on each node; all others go on.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::engine::Drill;
use proxy_core::io::EngineConfig;
use proxy_core::state::Transport;

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const CAROL: &str = "10.77.0.202:5063";
const OUTAGE: Duration = Duration::from_millis(300);

fn dies_at(name: &str, poison: &str) {
    assert!(name != poison, "a death on order at {name}");
}

/// Alice calls somebody, whose phone rings. Gives its INVITE.
fn ringing(w: &mut World, user: &str, at: &str, call: &str) -> String {
    w.register(user, at);
    w.send(ALICE, &invite(&format!("sip:{user}@lab.test"), ALICE, call));
    let got = w.expect(at, "INVITE ");
    w.send(at, &respond(&got, 180, "r", ""));
    w.take(ALICE);
    got
}

fn answer(w: &mut World, user: &str, at: &str, got: &str) -> String {
    w.send(at, &respond(got, 200, "r", &format!("Contact: <sip:{user}@{at}>\r\n")));
    w.expect(ALICE, "SIP/2.0 200 ")
}

/// What has been left out, and nothing else has.
fn left_out(w: &mut World, name: &str) {
    let fault = w.engine.poll_fault().expect("a fault");
    assert!(fault.what.contains(name) && fault.why.contains("a death on order"), "{fault:?}");
    assert_eq!(w.engine.poll_fault(), None, "once");
}

#[test]
fn a_call_that_cannot_be_rebuilt_is_left_out_by_each_node_and_the_others_go_on() {
    let mut w = World::new();
    ringing(&mut w, "bob", BOB, "poison");
    let fine = ringing(&mut w, "carol", CAROL, "fine");
    w.drill = Some(|name| dies_at(name, "rebuild poison"));
    for _ in 0..3 {
        w.fail_over(OUTAGE);
        assert_eq!((w.engine.counters().rebuilt, w.engine.counters().left_out), (1, 1));
        left_out(&mut w, "poison");
        assert_eq!(w.expect(CAROL, "INVITE "), fine);
        w.expect_nothing(BOB);
        assert_eq!(w.engine.load().0, 1, "no part of the other one stays");
    }
    // Nor does a retransmission try it again here.
    w.send(ALICE, &invite("sip:bob@lab.test", ALICE, "poison"));
    assert_eq!(w.engine.counters().left_out, 1);
    w.take(ALICE);
    answer(&mut w, "carol", CAROL, &fine);
}

#[test]
fn a_call_whose_timer_cannot_be_fired_is_left_out_and_the_others_keep_theirs() {
    let mut w = World::with(EngineConfig { timer_c: Duration::from_secs(14), ..config() });
    w.drill = Some(|name| dies_at(name, "timer poison"));
    w.fail_over(OUTAGE);
    ringing(&mut w, "bob", BOB, "poison");
    let fine = ringing(&mut w, "carol", CAROL, "fine");
    let held = w.engine.held_bytes();
    w.pass(Duration::from_secs(13));
    for node in 0..20 {
        // The timer of a rebuilt call fires at once, on each node.
        w.fail_over(Duration::from_millis(1));
        w.pass(Duration::from_millis(600));
        if node < 1 {
            left_out(&mut w, "poison");
            assert_eq!(w.engine.counters().left_out, 1, "its timers are dropped with it");
            assert_eq!(w.engine.load().0, 1);
            assert!(w.engine.held_bytes() < held, "and so are its bytes");
        }
    }
    let _ = fine;
    w.pass(Duration::from_secs(1));
    assert!(w.take(ALICE).iter().any(|m| m.starts_with("SIP/2.0 408 ") && m.contains("fine")));
}

#[test]
fn a_request_whose_timer_cannot_be_fired_is_left_out_and_the_next_one_is_served() {
    let mut w = World::new();
    w.drill = Some(|name| assert!(!name.starts_with("exchange "), "a death on order at {name}"));
    w.fail_over(OUTAGE);
    w.register("bob", BOB);
    for n in 0..20 {
        w.send(ALICE, &request("MESSAGE", "sip:bob@lab.test", ALICE, &format!("m{n}"), ""));
        w.expect(BOB, "MESSAGE ");
        w.pass(Duration::from_secs(1));
        let fault = w.engine.poll_fault().expect("a fault");
        assert!(fault.what.contains(&format!("m{n}")), "{fault:?}");
        while w.engine.poll_fault().is_some() {}
    }
    assert_eq!(w.engine.load(), (0, 1, 0), "the registration, which was answered");
}

#[test]
fn a_dialog_that_cannot_be_ended_is_left_out_and_the_others_end_in_time() {
    let mut w = World::with(EngineConfig { dialog_lifetime: Duration::from_secs(60), ..config() });
    for (user, at, call) in [("bob", BOB, "poison"), ("carol", CAROL, "fine")] {
        let got = ringing(&mut w, user, at, call);
        let ok = answer(&mut w, user, at, &got);
        w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
        w.expect(at, "ACK ");
    }
    w.drill = Some(|name| dies_at(name, "dialog poison"));
    for _ in 0..2 {
        w.fail_over(OUTAGE);
        w.pass(Duration::from_secs(61));
        left_out(&mut w, "poison");
        assert_eq!(w.engine.counters().left_out, 1, "it is not tried twice a second");
        w.expect_nothing(BOB);
        w.take(CAROL);
    }
    assert!(w.sent.iter().any(|(to, m)| *to == addr(CAROL) && m.starts_with("BYE ")));
}

#[test]
fn a_contact_that_cannot_be_pinged_is_left_out_and_the_others_are_pinged() {
    let mut w = World::new();
    // All of them as if behind a NAT.
    w.config.nat.ping_all = true;
    w.register("bob", BOB);
    w.register("carol", CAROL);
    w.drill = Some(|name| assert!(!name.starts_with("ping sip:bob@"), "a death on order at {name}"));
    w.fail_over(OUTAGE);
    w.pass(Duration::from_secs(61));
    left_out(&mut w, "bob@lab.test");
    assert!(w.keepalives.contains(&addr(CAROL)) && !w.keepalives.contains(&addr(BOB)));
}

#[test]
fn a_flow_that_fails_is_told_to_all_though_one_of_them_fails_at_it() {
    let drill: Drill = |name| dies_at(name, "unreachable poison");
    let mut w = World::new();
    w.drill = Some(drill);
    w.fail_over(OUTAGE);
    w.send(BOB, &register("bob", BOB, 1, &format!("<sip:bob@{BOB};transport=tcp>")));
    for call in ["poison", "fine"] {
        w.send(ALICE, &invite("sip:bob@lab.test", ALICE, call));
    }
    w.take(ALICE);
    let flow = *w.flows.iter().rfind(|f| f.transport == Transport::Tcp).expect("by TCP");
    w.engine.handle_transport_failure(w.now, flow, &w.state);
    w.settle();
    left_out(&mut w, "poison");
    let told = w.take(ALICE);
    assert!(told.iter().any(|m| m.starts_with("SIP/2.0 5") && m.contains("fine")), "{told:#?}");
}
