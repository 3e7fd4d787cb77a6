//! The dispatcher: choice, failover while a call is in the air, probes, takeover.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::dispatch::{Algorithm, DispatchConfig};
use proxy_core::engine::Engine;
use proxy_core::io::EngineConfig;
use proxy_core::routing::{Action, Match, RoutingConfig, Rule, Stage, Voicemail};
use proxy_core::state::SipCommand;
use proxy_core::state::dispatcher::{Attributes, Destination, DispatcherCommand, flag};
use proxy_core::time::WallTime;

const ALICE: &str = "10.77.0.201:5061";
const PBX1: &str = "10.77.0.211:5060";
const PBX2: &str = "10.77.0.212:5060";
const PBX3: &str = "10.77.0.213:5060";
const VOICEMAIL: &str = "10.77.0.230:5060";
const NUMBER: &str = "sip:100@lab.test";

fn configured(change: impl FnOnce(&mut DispatchConfig)) -> EngineConfig {
    let mut dispatch = DispatchConfig { default_set: Some(1), ..DispatchConfig::default() };
    // Calls first: what probes do has its own tests.
    dispatch.probe_interval = Duration::ZERO;
    change(&mut dispatch);
    EngineConfig { dispatch, ..config() }
}

fn add(w: &mut World, at: &str, attrs: &str) {
    let destination = Box::new(Destination {
        uri: format!("sip:{at}"),
        flags: 0,
        priority: 0,
        attrs: Attributes::parse(attrs),
        description: String::new(),
        count: 0,
        changed_at: WallTime(0),
        seen_at: WallTime(0),
    });
    w.state.apply(&SipCommand::Dispatcher(DispatcherCommand::Put { set: 1, destination }));
}

fn world(change: impl FnOnce(&mut DispatchConfig)) -> World {
    let mut w = World::with(configured(change));
    add(&mut w, PBX1, "weight=70");
    add(&mut w, PBX2, "weight=30");
    w
}

/// What `relevo route explain` says of a call that the set has nobody for.
fn why_nobody(w: &World) -> String {
    let text = invite(NUMBER, ALICE, "explain");
    let flow = flow_of(addr(ALICE));
    let lines = Engine::explained(w.config.clone(), w.now, flow, None, text.as_bytes(), &w.state);
    let of_stage = lines.iter().filter(|l| l.stage == Stage::Dispatch);
    of_stage.map(|l| format!("{} {}", l.decision, l.why)).collect()
}

fn letters(w: &World) -> Vec<&'static str> {
    w.state.dispatcher().sets.get(&1).expect("a set").iter().map(|d| d.letters(false)).collect()
}

fn call(w: &mut World, id: &str) {
    w.send(ALICE, &invite(NUMBER, ALICE, id));
    w.expect(ALICE, "SIP/2.0 100 ");
}

fn contact(at: &str) -> String {
    format!("Contact: <sip:pbx@{at}>\r\n")
}

/// The first backend stops as it was told to.
fn stops(w: &mut World, cancel: &str, invite: &str) {
    w.send(PBX1, &respond(cancel, 200, "p1", ""));
    w.send(PBX1, &respond(invite, 487, "p1", ""));
    w.expect(PBX1, "ACK ");
}

#[test]
fn round_robin_takes_turns_and_the_request_uri_stays_as_it_was_dialled() {
    let mut w = world(|_| {});
    for (id, at) in [("c1", PBX1), ("c2", PBX2), ("c3", PBX1)] {
        call(&mut w, id);
        let invite = w.expect(at, "INVITE ");
        assert_eq!(uri_of(&invite), NUMBER);
    }
}

#[test]
fn a_registered_user_is_not_dispatched_and_a_foreign_domain_neither() {
    let mut w = world(|_| {});
    w.register("100", "10.77.0.202:5062");
    call(&mut w, "c1");
    w.expect("10.77.0.202:5062", "INVITE ");
    w.send(ALICE, &invite("sip:100@other.test", ALICE, "c2"));
    w.expect(ALICE, "SIP/2.0 403 ");
    w.expect_nothing(PBX1);
}

#[test]
fn a_backend_that_says_nothing_is_followed_by_the_next_within_its_patience() {
    let mut w = world(|_| {});
    call(&mut w, "c1");
    let at_first = w.expect(PBX1, "INVITE ");
    w.pass(Duration::from_millis(2900));
    w.expect_nothing(PBX2);
    w.pass(Duration::from_millis(200));
    let at_second = w.expect(PBX2, "INVITE ");
    assert_eq!(header(&at_second, "Call-ID"), header(&at_first, "Call-ID"));
    assert_ne!(header(&at_second, "Via"), header(&at_first, "Via"));
    w.take(PBX1);
    w.send(PBX2, &respond(&at_second, 200, "p2", &contact(PBX2)));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(PBX2, "ACK ");
    // The dead one hears nothing more: no INVITE again for a call that is elsewhere.
    w.pass(Duration::from_secs(40));
    w.expect_nothing(PBX1);
    assert_eq!(w.engine.counters().abandoned, 1);
    assert_eq!(w.engine.load(), (0, 0, 0));
}

#[test]
fn a_backend_that_wakes_up_after_it_was_given_up_is_told_to_stop() {
    let mut w = world(|_| {});
    call(&mut w, "c1");
    let at_first = w.expect(PBX1, "INVITE ");
    w.pass(Duration::from_millis(3100));
    let at_second = w.expect(PBX2, "INVITE ");
    w.take(PBX1);
    w.send(PBX1, &respond(&at_first, 180, "p1", ""));
    let cancel = w.expect(PBX1, "CANCEL ");
    w.expect_nothing(ALICE);
    stops(&mut w, &cancel, &at_first);
    w.send(PBX2, &respond(&at_second, 180, "p2", ""));
    w.expect(ALICE, "SIP/2.0 180 ");
}

#[test]
fn a_backend_that_was_found_dead_gets_its_cancel_when_that_is_safe_and_its_487_is_not_the_callers() {
    let mut w = world(|_| {});
    call(&mut w, "c1");
    let at_first = w.expect(PBX1, "INVITE ");
    w.send(PBX1, &respond(&at_first, 180, "p1", ""));
    w.take(ALICE);
    let uri = Some(format!("sip:{PBX1}"));
    let dead = DispatcherCommand::SetState { set: 1, uri, flags: flag::INACTIVE, at: w.now.wall };
    w.state.apply(&SipCommand::Dispatcher(dead));
    w.cluster = Cluster::Waits;
    w.pass(Duration::from_millis(600));
    assert!(!w.take(PBX1).iter().any(|m| m.starts_with("CANCEL ")), "nobody knows of it yet");
    // All of that is lost with the node; the next one finds the same.
    w.fail_over(Duration::from_millis(300));
    w.cluster = Cluster::Commits;
    assert_eq!(w.expect(PBX1, "INVITE "), at_first);
    w.send(PBX1, &respond(&at_first, 180, "p1", ""));
    w.pass(Duration::from_millis(600));
    let cancel = w.take(PBX1).into_iter().find(|m| m.starts_with("CANCEL ")).expect("a CANCEL");
    let at_second = w.take(PBX2).into_iter().find(|m| m.starts_with("INVITE ")).expect("the next one");
    stops(&mut w, &cancel, &at_first);
    w.take(ALICE);
    w.send(PBX2, &respond(&at_second, 200, "p2", &contact(PBX2)));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn a_backend_that_wakes_up_after_a_takeover_is_told_to_stop_as_well() {
    let mut w = world(|_| {});
    call(&mut w, "c1");
    let at_first = w.expect(PBX1, "INVITE ");
    w.pass(Duration::from_millis(3100));
    w.take(PBX1);
    let at_second = w.expect(PBX2, "INVITE ");
    w.fail_over(Duration::from_millis(300));
    assert_eq!(w.expect(PBX2, "INVITE "), at_second);
    assert!(w.take(PBX1).iter().all(|m| !m.starts_with("INVITE")), "it has been given up");
    w.send(PBX1, &respond(&at_first, 180, "p1", ""));
    let cancel = w.expect(PBX1, "CANCEL ");
    w.expect_nothing(ALICE);
    stops(&mut w, &cancel, &at_first);
    w.send(PBX2, &respond(&at_second, 200, "p2", &contact(PBX2)));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn failures_of_a_backend_fail_over_and_those_of_a_user_do_not() {
    let mut w = world(|_| {});
    call(&mut w, "c1");
    let at_first = w.expect(PBX1, "INVITE ");
    w.send(PBX1, &respond(&at_first, 500, "p1", ""));
    w.expect(PBX1, "ACK ");
    let at_second = w.expect(PBX2, "INVITE ");
    w.send(PBX2, &respond(&at_second, 486, "p2", ""));
    w.expect(PBX2, "ACK ");
    w.expect(ALICE, "SIP/2.0 486 ");
}

#[test]
fn the_only_backend_is_waited_for_and_when_all_have_failed_the_caller_hears_it() {
    let mut w = World::with(configured(|_| {}));
    add(&mut w, PBX1, "");
    call(&mut w, "c1");
    w.pass(Duration::from_secs(10));
    let all = w.take(PBX1);
    assert!(all.len() > 3 && all.iter().all(|m| m.starts_with("INVITE ")), "{all:#?}");
    w.expect_nothing(ALICE);
    w.send(PBX1, &respond(&all[0], 503, "p1", ""));
    w.take(PBX1);
    w.expect(ALICE, "SIP/2.0 500 ");
}

#[test]
fn a_set_without_anybody_alive_is_said_to_the_caller() {
    let mut w = world(|_| {});
    for at in [PBX1, PBX2] {
        let uri = Some(format!("sip:{at}"));
        let command = DispatcherCommand::SetState { set: 1, uri, flags: flag::DISABLED, at: WallTime(1) };
        w.state.apply(&SipCommand::Dispatcher(command));
    }
    w.send(ALICE, &invite(NUMBER, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 503 No Destination Available");
    assert!(why_nobody(&w).contains("set 1 has no destination that is alive"), "{}", why_nobody(&w));
    w.state.apply(&SipCommand::Dispatcher(DispatcherCommand::Remove { set: 1, uri: None }));
    assert!(why_nobody(&w).contains("there is no set 1: relevo dispatcher add 1 URI"), "{}", why_nobody(&w));
}

#[test]
fn call_load_goes_to_the_one_with_fewest_calls_and_respects_maxload() {
    let mut w = World::with(configured(|d| d.algorithm = Algorithm::CallLoad));
    add(&mut w, PBX1, "maxload=2");
    add(&mut w, PBX2, "maxload=1");
    call(&mut w, "c1");
    w.expect(PBX1, "INVITE ");
    call(&mut w, "c2");
    let at_second = w.expect(PBX2, "INVITE ");
    call(&mut w, "c3");
    w.expect(PBX1, "INVITE ");
    w.send(ALICE, &invite(NUMBER, ALICE, "c4"));
    w.expect(ALICE, "SIP/2.0 503 ");
    assert!(why_nobody(&w).contains("has as many calls as its maxload"), "{}", why_nobody(&w));
    w.send(PBX2, &respond(&at_second, 486, "p2", ""));
    w.take(PBX2);
    w.take(ALICE);
    call(&mut w, "c5");
    w.expect(PBX2, "INVITE ");
}

#[test]
fn the_same_call_id_goes_to_the_same_backend_also_after_a_takeover() {
    let mut w = World::with(configured(|d| d.algorithm = Algorithm::CallId));
    for at in [PBX1, PBX2, PBX3] {
        add(&mut w, at, "");
    }
    let mut chosen = Vec::new();
    for n in 0..12 {
        call(&mut w, &format!("c{n}"));
        chosen.push([PBX1, PBX2, PBX3].into_iter().find(|at| !w.take(at).is_empty()).expect("somebody"));
    }
    assert!([PBX1, PBX2, PBX3].iter().all(|at| chosen.contains(at)), "{chosen:?}");
    w.fail_over(Duration::from_millis(300));
    for (n, at) in chosen.iter().enumerate() {
        // The branch is in the record: the successor sends it again where it was.
        assert!(
            w.inbox
                .get(&addr(at))
                .is_some_and(|m| m.iter().any(|t| t.contains(&format!("Call-ID: c{n}\r\n"))))
        );
    }
}

#[test]
fn a_takeover_between_invite_and_answer_goes_on_with_the_failover() {
    let mut w = world(|_| {});
    call(&mut w, "c1");
    let at_first = w.expect(PBX1, "INVITE ");
    w.pass(Duration::from_secs(2));
    w.take(PBX1);
    w.fail_over(Duration::from_millis(300));
    assert_eq!(w.expect(PBX1, "INVITE "), at_first, "a retransmission");
    w.pass(Duration::from_millis(3100));
    let at_second = w.expect(PBX2, "INVITE ");
    w.fail_over(Duration::from_millis(300));
    assert_eq!(w.expect(PBX2, "INVITE "), at_second);
    w.send(PBX2, &respond(&at_second, 200, "p2", &contact(PBX2)));
    w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(w.state.load_of(1, &format!("sip:{PBX2}")), 1);
    assert_eq!(w.state.load_of(1, &format!("sip:{PBX1}")), 0);
}

#[test]
fn probes_mark_a_dead_backend_and_a_ringing_call_moves_to_the_next() {
    let mut w = world(|d| {
        d.probe_interval = Duration::from_secs(10);
        d.probe_timeout = Duration::from_secs(2);
    });
    call(&mut w, "c1");
    let at_first = w.expect(PBX1, "INVITE ");
    w.send(PBX1, &respond(&at_first, 180, "p1", ""));
    w.expect(ALICE, "SIP/2.0 180 ");
    // The first probes find both alive; by the next one the first has died, with a call ringing.
    w.pass(Duration::from_millis(600));
    for at in [PBX1, PBX2] {
        let probe = w.expect(at, "OPTIONS ");
        assert_eq!(uri_of(&probe), format!("sip:{at}"));
        w.send(at, &respond(&probe, 200, "o", ""));
    }
    assert_eq!(letters(&w), ["AP", "AP"]);
    w.pass(Duration::from_secs(10));
    let probe = w.expect(PBX2, "OPTIONS ");
    w.send(PBX2, &respond(&probe, 200, "o", ""));
    w.take(PBX1);
    w.pass(Duration::from_secs(3));
    assert_eq!(letters(&w), ["IP", "AP"]);
    let at_second = w.take(PBX2).remove(0);
    assert!(at_second.starts_with("INVITE "), "{at_second}");
    let told: Vec<String> = w.take(PBX1);
    assert!(told.iter().any(|m| m.starts_with("CANCEL ")), "{told:#?}");
    w.send(PBX2, &respond(&at_second, 200, "p2", &contact(PBX2)));
    w.expect(ALICE, "SIP/2.0 200 ");
    // New calls go to the living one only, until the other answers its probes again.
    call(&mut w, "c2");
    w.expect(PBX2, "INVITE ");
    w.pass(Duration::from_millis(7500));
    for at in [PBX1, PBX2] {
        let probe = w.take(at).into_iter().rfind(|m| m.starts_with("OPTIONS ")).expect("a probe");
        w.send(at, &respond(&probe, 200, "o", ""));
    }
    assert_eq!(letters(&w), ["AP", "AP"]);
}

/// Two backends that are probed once an hour, and alive.
fn seldom_probed(failures: u32) -> World {
    let mut w = world(|d| {
        d.probe_interval = Duration::from_secs(3600);
        d.probe_timeout = Duration::from_secs(2);
        d.failures = failures;
    });
    w.pass(Duration::from_millis(600));
    for at in [PBX1, PBX2] {
        let probe = w.expect(at, "OPTIONS ");
        w.send(at, &respond(&probe, 200, "o", ""));
    }
    w
}

/// The message of that kind among what a backend has got.
fn got(w: &mut World, at: &str, start: &str) -> Option<String> {
    w.take(at).into_iter().rfind(|m| m.starts_with(start))
}

#[test]
fn a_call_that_gets_no_answer_or_503_has_its_backend_probed_and_ordinary_failures_do_not() {
    let mut w = seldom_probed(2);
    call(&mut w, "c1");
    w.take(PBX1);
    w.pass(Duration::from_millis(3100));
    assert_eq!(letters(&w), ["AP", "AP"], "a call alone says nothing");
    assert!(got(&mut w, PBX1, "OPTIONS ").is_some(), "but it is a reason to ask");
    w.pass(Duration::from_millis(2200));
    assert_eq!(letters(&w), ["TP", "AP"]);
    let at_second = got(&mut w, PBX2, "INVITE ").expect("the call");
    w.send(PBX2, &respond(&at_second, 500, "p2", ""));
    assert_eq!(got(&mut w, PBX2, "OPTIONS "), None, "a 500 is one call's affair");
    w.take(ALICE);
    call(&mut w, "c2");
    let at_second = got(&mut w, PBX2, "INVITE ").expect("the call");
    w.send(PBX2, &respond(&at_second, 503, "p2", ""));
    let probe = got(&mut w, PBX2, "OPTIONS ").expect("a probe");
    w.send(PBX2, &respond(&probe, 200, "o", ""));
    w.take(PBX1);
    w.pass(Duration::from_millis(6000));
    assert_eq!(letters(&w), ["IP", "AP"], "the one that is silent, and not the one that answers");
}

#[test]
fn a_503_from_every_backend_ends_nobody_elses_call_rfc3261_21_5_4() {
    let mut w = seldom_probed(1);
    call(&mut w, "rings");
    let ringing = w.expect(PBX1, "INVITE ");
    w.send(PBX1, &respond(&ringing, 180, "p1", ""));
    w.take(ALICE);
    for n in 0..6 {
        call(&mut w, &format!("busy{n}"));
        for _ in 0..4 {
            for at in [PBX1, PBX2] {
                for message in w.take(at) {
                    match message.split(' ').next() {
                        Some("INVITE") => w.send(at, &respond(&message, 503, "b", "")),
                        Some("OPTIONS") => w.send(at, &respond(&message, 200, "o", "")),
                        Some("CANCEL") => panic!("the call that rings is taken away: {message}"),
                        _ => {}
                    }
                }
            }
        }
        assert!(w.take(ALICE).iter().any(|m| m.starts_with("SIP/2.0 500 ")));
        w.pass(Duration::from_secs(3));
        assert_eq!(letters(&w), ["AP", "AP"]);
        w.take(ALICE);
    }
    w.send(PBX1, &respond(&ringing, 200, "p1", &contact(PBX1)));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn a_backend_that_answers_503_to_probes_gets_no_new_calls_and_keeps_those_that_ring_also_after_a_takeover() {
    let mut w = world(|d| {
        d.probe_interval = Duration::from_secs(10);
        d.probe_timeout = Duration::from_secs(2);
    });
    call(&mut w, "c1");
    let ringing = w.expect(PBX1, "INVITE ");
    w.send(PBX1, &respond(&ringing, 180, "p1", ""));
    w.take(ALICE);
    let probed = |w: &mut World, first: Option<u16>| {
        let mut missing = vec![(PBX1, first), (PBX2, Some(200))];
        for _ in 0..50 {
            if missing.is_empty() {
                break;
            }
            w.pass(Duration::from_millis(250));
            missing.retain(|(at, status)| {
                let messages = w.take(at);
                assert!(messages.iter().all(|m| !m.starts_with("CANCEL ")), "{messages:#?}");
                let Some(probe) = messages.into_iter().rfind(|m| m.starts_with("OPTIONS ")) else {
                    return true;
                };
                if let Some(status) = status {
                    w.send(at, &respond(&probe, *status, "o", ""));
                }
                false
            });
        }
        assert!(missing.is_empty(), "{missing:?}");
    };
    probed(&mut w, Some(503));
    assert_eq!(letters(&w), ["IP", "AP"]);
    call(&mut w, "c2");
    let other = w.expect(PBX2, "INVITE ");
    w.send(PBX2, &respond(&other, 180, "p2", ""));
    w.pass(Duration::from_secs(5));
    assert_eq!(got(&mut w, PBX1, "CANCEL "), None);
    w.fail_over(Duration::from_millis(300));
    let again = got(&mut w, PBX1, "INVITE ").expect("the same INVITE");
    w.send(PBX1, &respond(&again, 180, "p1", ""));
    probed(&mut w, Some(503));
    w.pass(Duration::from_secs(1));
    assert_eq!(got(&mut w, PBX1, "CANCEL "), None, "nor where nobody has heard it yet");
    // Silence is another matter.
    for _ in 0..30 {
        w.pass(Duration::from_millis(500));
        if let Some(probe) = got(&mut w, PBX2, "OPTIONS ") {
            w.send(PBX2, &respond(&probe, 200, "o", ""));
        }
        if w.inbox.get(&addr(PBX1)).is_some_and(|m| m.iter().any(|m| m.starts_with("CANCEL "))) {
            break;
        }
    }
    assert!(got(&mut w, PBX1, "CANCEL ").is_some());
    let of_c1 = |m: &&(std::net::SocketAddr, String)| m.0 == addr(PBX2) && m.1.starts_with("INVITE ");
    assert!(w.sent.iter().filter(of_c1).any(|m| header(&m.1, "Call-ID").as_deref() == Some("c1")));
}

#[test]
fn probes_go_on_after_a_takeover_with_what_was_known() {
    let mut w = world(|d| {
        d.probe_interval = Duration::from_secs(10);
        d.failures = 2;
        d.probe_timeout = Duration::from_secs(2);
    });
    w.pass(Duration::from_secs(3));
    assert_eq!(letters(&w), ["TP", "TP"]);
    w.fail_over(Duration::from_millis(300));
    w.pass(Duration::from_secs(3));
    assert_eq!(letters(&w), ["IP", "IP"], "the first failure was not forgotten");
    w.send(ALICE, &invite(NUMBER, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 503 ");
}

#[test]
fn an_engine_that_is_not_active_sends_no_probe() {
    let mut w = world(|d| d.probe_interval = Duration::from_secs(10));
    w.engine.deactivate();
    w.pass(Duration::from_secs(60));
    w.expect_nothing(PBX1);
    assert_eq!(w.engine.poll_timeout(), None);
}

#[test]
fn a_destination_that_refuses_probes_is_neither_probed_nor_marked_by_calls() {
    let mut w = World::with(configured(|d| d.probe_interval = Duration::from_secs(10)));
    add(&mut w, PBX1, "");
    add(&mut w, PBX2, "");
    for destination in w.state.dispatcher().sets.get(&1).expect("a set").clone() {
        let destination = Box::new(Destination { flags: flag::NO_PING, ..destination });
        w.state.apply(&SipCommand::Dispatcher(DispatcherCommand::Put { set: 1, destination }));
    }
    call(&mut w, "c1");
    w.take(PBX1);
    w.pass(Duration::from_secs(12));
    assert!(w.take(PBX1).iter().all(|m| !m.starts_with("OPTIONS ")));
    assert_eq!(letters(&w), ["AX", "AX"]);
}

#[test]
fn the_default_set_gets_no_request_without_a_user() {
    let mut w = world(|_| {});
    w.send(ALICE, &invite("sip:lab.test", ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 484 ");
    for at in [PBX1, PBX2] {
        w.expect_nothing(at);
    }
}

#[test]
fn with_all_backends_dead_a_call_is_503_and_a_message_hears_that_nobody_is_there() {
    let mut w = World::with(configured(|_| {}));
    w.send(ALICE, &invite(NUMBER, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 503 ");
    w.send(ALICE, &request("MESSAGE", NUMBER, ALICE, "m1", ""));
    w.expect(ALICE, "SIP/2.0 404 ");
}

#[test]
fn the_default_set_gets_calls_and_a_route_sends_it_anything() {
    let mut w = world(|_| {});
    for (n, method) in ["MESSAGE", "OPTIONS", "SUBSCRIBE", "INFO"].into_iter().enumerate() {
        w.send(ALICE, &request(method, NUMBER, ALICE, &format!("m{n}"), ""));
        w.expect(ALICE, "SIP/2.0 404 ");
    }
    let text = request("MESSAGE", NUMBER, ALICE, "m9", "");
    let lines =
        Engine::explained(w.config.clone(), w.now, flow_of(addr(ALICE)), None, text.as_bytes(), &w.state);
    let said = lines.iter().find(|l| l.stage == Stage::Dispatch).expect("a word");
    assert_eq!(said.why, "default_set = 1 is for calls, not for MESSAGE");
    call(&mut w, "c1");
    w.expect(PBX1, "INVITE ");
    w.expect_nothing(PBX2);

    let mut w = world(|d| d.default_set = None);
    w.config.routing.rules = vec![rule_to_set()];
    w.fail_over(Duration::from_millis(300));
    w.send(ALICE, &request("MESSAGE", NUMBER, ALICE, "m1", ""));
    w.expect(PBX1, "MESSAGE ");
}

#[test]
fn voicemail_takes_the_call_whose_backends_are_all_dead_also_after_a_takeover() {
    for (on, takes) in [(vec![404], true), (vec![408, 486], true), (vec![503], true), (vec![486], false)] {
        for by_rule in [false, true] {
            let voicemail = Voicemail { server: format!("sip:{VOICEMAIL}"), after: None, on: on.clone() };
            let rules = by_rule.then(rule_to_set).into_iter().collect();
            let routing = RoutingConfig { voicemail: Some(voicemail), rules, ..RoutingConfig::default() };
            let mut w = World::with(EngineConfig { routing, ..configured(|_| {}) });
            w.send(ALICE, &invite(NUMBER, ALICE, "c1"));
            if !takes {
                w.expect(ALICE, "SIP/2.0 503 No Destination Available");
                continue;
            }
            w.expect(ALICE, "SIP/2.0 100 ");
            let got = w.expect(VOICEMAIL, "INVITE sip:100@");
            assert!(header(&got, "Diversion").is_some_and(|d| d.ends_with(";reason=unavailable")));
            w.fail_over(Duration::from_millis(300));
            assert_eq!(w.expect(VOICEMAIL, "INVITE "), got);
            w.send(VOICEMAIL, &respond(&got, 200, "v", &format!("Contact: <sip:{VOICEMAIL}>\r\n")));
            w.expect(ALICE, "SIP/2.0 200 ");
        }
    }
}

fn rule_to_set() -> Rule {
    Rule {
        name: String::from("pbx"),
        matching: Match::default(),
        strip: 0,
        prefix: String::new(),
        require_auth: false,
        action: Action::Dispatcher(1),
        voicemail: None,
        ring: None,
        media: None,
    }
}

/// An engine of another thread of the same node has taken the same place a moment ago.
fn another_engine_is_faster(w: &mut World, id: &str) {
    let mut other = World::with(w.config.clone());
    other.state = w.state.clone();
    other.cluster = Cluster::Waits;
    other.send(ALICE, &invite(NUMBER, ALICE, id));
    let (_, command) = other.waiting.pop_front().expect("a proposal");
    w.state.apply(&command);
}

#[test]
fn calls_that_wait_for_their_commit_count_for_the_load() {
    let mut w = world(|d| d.algorithm = Algorithm::CallLoad);
    w.cluster = Cluster::Waits;
    for id in ["c1", "c2", "c3", "c4"] {
        w.send(ALICE, &invite(NUMBER, ALICE, id));
    }
    w.commit_all();
    assert_eq!(w.take(PBX1).len(), 2);
    assert_eq!(w.take(PBX2).len(), 2);
}

#[test]
fn a_destination_gets_no_more_than_its_maxload_whoever_asks_at_the_same_moment() {
    let mut w = World::with(configured(|d| d.algorithm = Algorithm::CallLoad));
    for at in [PBX1, PBX2, PBX3] {
        add(&mut w, at, "maxload=1");
    }
    w.cluster = Cluster::Waits;
    w.send(ALICE, &invite(NUMBER, ALICE, "c1"));
    another_engine_is_faster(&mut w, "c2");
    w.commit_all();
    w.expect_nothing(PBX1);
    w.expect(PBX2, "INVITE ");
    w.expect(ALICE, "SIP/2.0 100 ");
    // The last place, and then none: nobody is called, and the caller hears so.
    w.send(ALICE, &invite(NUMBER, ALICE, "c3"));
    another_engine_is_faster(&mut w, "c4");
    w.commit_all();
    for at in [PBX1, PBX2, PBX3] {
        w.expect_nothing(at);
    }
    w.expect(ALICE, "SIP/2.0 503 ");
    assert_eq!(w.state.load_of(1, &format!("sip:{PBX1}")), 1);
    assert_eq!(w.state.load_of(1, &format!("sip:{PBX3}")), 1);
}

#[test]
fn a_call_that_found_its_place_taken_survives_a_takeover_where_it_went_instead() {
    let mut w = World::with(configured(|d| d.algorithm = Algorithm::CallLoad));
    for at in [PBX1, PBX2, PBX3] {
        add(&mut w, at, "maxload=1");
    }
    w.cluster = Cluster::Waits;
    w.send(ALICE, &invite(NUMBER, ALICE, "c1"));
    another_engine_is_faster(&mut w, "c2");
    w.commit_all();
    w.cluster = Cluster::Commits;
    let first = w.expect(PBX2, "INVITE ");
    w.fail_over(Duration::from_millis(300));
    let again = w.expect(PBX2, "INVITE ");
    assert_eq!(header(&again, "Via"), header(&first, "Via"));
    // It fails there: the third is tried, and not the first, which is full.
    w.take(PBX1);
    w.send(PBX2, &respond(&again, 503, "p2", ""));
    w.expect(PBX3, "INVITE ");
    w.expect_nothing(PBX1);
}

#[test]
fn a_caller_who_hangs_up_while_his_call_looks_for_another_place_is_believed() {
    let mut w = World::with(configured(|d| d.algorithm = Algorithm::CallLoad));
    for at in [PBX1, PBX2] {
        add(&mut w, at, "maxload=1");
    }
    w.cluster = Cluster::Waits;
    w.send(ALICE, &invite(NUMBER, ALICE, "c1"));
    another_engine_is_faster(&mut w, "c2");
    w.send(ALICE, &cancel(NUMBER, ALICE, "c1"));
    w.commit_all();
    w.expect_nothing(PBX1);
    w.expect_nothing(PBX2);
    let heard: Vec<String> = w.take(ALICE).iter().map(|m| m[8..11].to_owned()).collect();
    assert_eq!(heard, ["100", "200", "487"]);
}

#[test]
fn engines_of_one_node_do_not_all_begin_their_turns_with_the_same_destination() {
    let firsts: Vec<String> = (0..3)
        .map(|shard| {
            let mut w = World::with(EngineConfig { shard, shards: 3, ..configured(|_| {}) });
            for at in [PBX1, PBX2, PBX3] {
                add(&mut w, at, "");
            }
            w.send(ALICE, &invite(NUMBER, ALICE, "c1"));
            let at = [PBX1, PBX2, PBX3].into_iter().find(|at| !w.take(at).is_empty());
            at.expect("somebody is called").to_owned()
        })
        .collect();
    assert_eq!(firsts, [PBX1, PBX2, PBX3]);
}
