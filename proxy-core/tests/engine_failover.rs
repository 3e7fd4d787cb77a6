//! No call is left in the air: servers that say nothing, that say 100 and die, or that answer when nobody waits for them
//! any more.

#[path = "common/story.rs"]
mod story;

use std::time::Duration;

use proxy_core::dialog::config::DialogConfig;
use proxy_core::digest::ha1;
use proxy_core::dispatch::{Algorithm, DispatchConfig};
use proxy_core::dns::{Kind, Question, Record, Srv};
use proxy_core::failover::FailoverConfig;
use proxy_core::io::EngineConfig;
use proxy_core::routing::{Action, Match, Pattern, RoutingConfig, Rule};
use proxy_core::state::dispatcher::{Attributes, Destination, DispatcherCommand};
use proxy_core::state::trunk::{Account, TrunkCommand};
use proxy_core::state::{Flow, SipCommand, Transport};
use proxy_core::time::WallTime;
use story::*;

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const FIRST: &str = "10.77.0.211:5081";
const SECOND: &str = "10.77.0.212:5082";
const NUMBER: &str = "sip:100@lab.test";
const BOB_URI: &str = "sip:bob@lab.test";

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Two backends, the first one first, which are probed.
fn backends(change: impl FnOnce(&mut EngineConfig)) -> World {
    let dispatch = DispatchConfig {
        default_set: Some(1),
        algorithm: Algorithm::Priority,
        probe_interval: seconds(600),
        probe_timeout: seconds(2),
        ..DispatchConfig::default()
    };
    let mut config = EngineConfig { dispatch, ..config() };
    change(&mut config);
    let mut w = World::with(config);
    for (at, priority) in [(FIRST, 9), (SECOND, 1)] {
        let destination = Box::new(Destination {
            uri: format!("sip:{at}"),
            flags: 0,
            priority,
            attrs: Attributes::parse(""),
            description: String::new(),
            count: 0,
            changed_at: WallTime(0),
            seen_at: WallTime(0),
        });
        w.state.apply(&SipCommand::Dispatcher(DispatcherCommand::Put { set: 1, destination }));
    }
    // The first probes find both alive.
    w.pass(Duration::from_millis(600));
    for at in [FIRST, SECOND] {
        for probe in w.take(at) {
            w.send(at, &respond(&probe, 200, "o", ""));
        }
    }
    w
}

/// `bob` has registered at a name with two servers.
fn servers(change: impl FnOnce(&mut EngineConfig)) -> World {
    let mut config = config();
    change(&mut config);
    let mut w = World::with(config);
    let srv =
        |priority, port, target: &str| Record::Srv(Srv { priority, weight: 1, port, target: target.into() });
    let question = |kind, name: &str| Question { kind, name: name.into() };
    let services = vec![srv(20, 5082, "second.test"), srv(10, 5081, "first.test")];
    w.zone.insert(question(Kind::Srv, "_sip._udp.phone.test"), services);
    for (name, at) in [("first.test", FIRST), ("second.test", SECOND)] {
        w.zone.insert(question(Kind::A, name), vec![Record::Address(addr(at).ip())]);
    }
    w.send(BOB, &register("bob", BOB, 1, "<sip:bob@phone.test>"));
    w.take(BOB);
    w
}

fn call(w: &mut World, uri: &str, id: &str) {
    w.send(ALICE, &invite(uri, ALICE, id));
    w.resolve();
    w.expect(ALICE, "SIP/2.0 100 ");
}

fn contact(at: &str) -> String {
    format!("Contact: <sip:pbx@{at}>\r\n")
}

/// How many of each request an address has got.
fn count(messages: &[String], method: &str) -> usize {
    messages.iter().filter(|m| m.starts_with(&format!("{method} "))).count()
}

#[test]
fn a_silent_server_of_a_name_is_followed_by_the_next_one_after_next_address_and_cancelled_when_it_wakes() {
    let mut w = servers(|_| {});
    call(&mut w, BOB_URI, "c1");
    let first = w.expect(FIRST, "INVITE ");
    w.pass(Duration::from_millis(2900));
    w.expect_nothing(SECOND);
    w.pass(Duration::from_millis(200));
    let second = w.expect(SECOND, "INVITE ");
    w.take(FIRST);
    w.send(FIRST, &respond(&first, 180, "late", ""));
    let cancel = w.expect(FIRST, "CANCEL ");
    assert_eq!(
        header(&cancel, "Via"),
        header(&first, "Via").map(|v| v.split(", ").next().unwrap().to_owned())
    );
    w.expect_nothing(ALICE);
    w.send(FIRST, &respond(&cancel, 200, "late", ""));
    w.send(FIRST, &respond(&first, 487, "late", ""));
    w.expect(FIRST, "ACK ");
    w.send(FIRST, &respond(&first, 487, "late", ""));
    w.expect(FIRST, "ACK ");
    w.send(SECOND, &respond(&second, 180, "b", ""));
    w.expect(ALICE, "SIP/2.0 180 ");
    w.send(SECOND, &respond(&second, 200, "b", &contact(SECOND)));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.pass(seconds(70));
    assert_eq!((w.engine.load(), w.engine.held_bytes()), ((0, 0, 0), 0));
    assert_eq!(w.state.counts().pending_invites, 0);
}

#[test]
fn a_late_2xx_of_a_server_that_was_left_gets_bye_and_then_ack_and_the_call_goes_on_elsewhere() {
    let mut w = servers(|_| {});
    call(&mut w, BOB_URI, "c1");
    let first = w.expect(FIRST, "INVITE ");
    w.pass(Duration::from_millis(3100));
    let second = w.expect(SECOND, "INVITE ");
    w.take(FIRST);
    let answer = respond(&first, 200, "late", &contact(FIRST));
    w.send(FIRST, &answer);
    let bye = w.expect(FIRST, "BYE sip:pbx@10.77.0.211:5081 ");
    assert_eq!(header(&bye, "To").as_deref(), Some("<sip:bob@lab.test>;tag=late"));
    assert_eq!(header(&bye, "From").as_deref(), Some("<sip:alice@lab.test>;tag=ac1"));
    // Its repetitions are not acknowledged before the BYE is over.
    w.send(FIRST, &answer);
    w.expect_nothing(FIRST);
    w.send(FIRST, &respond(&bye, 200, "late", ""));
    let ack = w.expect(FIRST, "ACK sip:pbx@10.77.0.211:5081 ");
    assert_eq!(header(&ack, "CSeq").as_deref(), Some("1 ACK"));
    w.send(FIRST, &answer);
    w.expect(FIRST, "ACK ");
    w.expect_nothing(ALICE);
    assert_eq!(w.engine.counters().late_answers, 1);
    w.send(SECOND, &respond(&second, 200, "b", &contact(SECOND)));
    w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(w.state.counts().dialogs, 1);
}

#[test]
fn a_takeover_listens_for_the_server_that_was_left_and_hangs_up_on_it_too() {
    let mut w = servers(|_| {});
    call(&mut w, BOB_URI, "c1");
    let first = w.expect(FIRST, "INVITE ");
    w.pass(Duration::from_millis(3100));
    let second = w.expect(SECOND, "INVITE ");
    w.take(FIRST);
    w.fail_over(Duration::from_millis(300));
    w.expect(FIRST, "CANCEL ");
    assert_eq!(w.expect(SECOND, "INVITE "), second);
    w.send(FIRST, &respond(&first, 200, "late", &contact(FIRST)));
    let bye = w.expect(FIRST, "BYE ");
    w.fail_over(Duration::from_millis(300));
    w.expect(FIRST, "CANCEL ");
    w.take(SECOND);
    w.send(FIRST, &respond(&first, 200, "late", &contact(FIRST)));
    assert_eq!(header(&w.expect(FIRST, "BYE "), "CSeq"), header(&bye, "CSeq"));
    w.send(SECOND, &respond(&second, 200, "b", &contact(SECOND)));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn an_answer_that_comes_while_the_move_is_under_way_is_taken_and_nobody_else_is_called() {
    let mut w = servers(|_| {});
    call(&mut w, BOB_URI, "c1");
    let first = w.expect(FIRST, "INVITE ");
    w.cluster = Cluster::Waits;
    w.pass(Duration::from_millis(3100));
    w.send(FIRST, &respond(&first, 200, "b", &contact(FIRST)));
    while w.verdict() {
        w.settle();
    }
    w.expect_nothing(SECOND);
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    assert!(ok.contains("tag=b"));
}

#[test]
fn an_answer_after_the_caller_was_told_408_is_hung_up_rfc3261_15() {
    let mut w = World::with(EngineConfig { timer_c: seconds(20), ..config() });
    w.register("bob", BOB);
    call(&mut w, BOB_URI, "c1");
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 180, "b", ""));
    w.take(ALICE);
    w.pass(seconds(21));
    assert!(w.take(ALICE)[0].starts_with("SIP/2.0 408 "));
    assert_eq!(count(&w.take(BOB), "CANCEL"), 2);
    w.send(BOB, &respond(&at_bob, 200, "b", &contact(BOB)));
    let bye = w.expect(BOB, "BYE ");
    w.send(BOB, &respond(&bye, 200, "b", ""));
    w.expect(BOB, "ACK ");
    assert_eq!(w.state.counts().dialogs, 0);
}

#[test]
fn fr_timer_ends_a_branch_that_says_nothing_sooner_than_timer_b_as_kamailios_does() {
    let fr_timer = Some(seconds(5));
    let mut w = World::with(EngineConfig {
        failover: FailoverConfig { fr_timer, ..FailoverConfig::default() },
        ..config()
    });
    w.register("bob", BOB);
    call(&mut w, BOB_URI, "c1");
    let at_bob = w.expect(BOB, "INVITE ");
    w.pass(Duration::from_millis(4900));
    w.expect_nothing(ALICE);
    w.pass(Duration::from_millis(200));
    w.expect(ALICE, "SIP/2.0 408 ");
    w.take(BOB);
    // The phone was asleep.
    w.send(BOB, &respond(&at_bob, 180, "b", ""));
    w.expect(BOB, "CANCEL ");
}

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
fn calls_in_the_air_move_on_the_moment_another_call_finds_their_backend_dead() {
    let mut w = backends(|_| {});
    call(&mut w, NUMBER, "c1");
    let rings = w.expect(FIRST, "INVITE ");
    w.send(FIRST, &respond(&rings, 180, "p1", ""));
    w.take(ALICE);
    call(&mut w, NUMBER, "c2");
    w.expect(FIRST, "INVITE ");
    // An ICMP error on the second INVITE.
    w.pass(Duration::from_millis(10));
    w.engine.handle_transport_failure(w.now, flow_of(addr(FIRST)), &w.state);
    w.settle();
    let moved = w.take(SECOND);
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
    let destination = Box::new(Destination {
        uri: format!("{uri};transport=tcp"),
        flags: 0,
        priority: 9,
        attrs: Attributes::parse(""),
        description: String::new(),
        count: 0,
        changed_at: WallTime(0),
        seen_at: WallTime(0),
    });
    w.state.apply(&SipCommand::Dispatcher(DispatcherCommand::Put { set: 1, destination }));
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

/// Calls to numbers go out by the first of two trunks, which need no registration.
fn trunks(change: impl FnOnce(&mut EngineConfig)) -> World {
    let rule = Rule {
        name: String::from("out"),
        matching: Match { users: vec![Pattern::glob("0*").expect("a pattern")], ..Match::default() },
        strip: 0,
        prefix: String::new(),
        require_auth: false,
        action: Action::Trunk(vec![String::from("one"), String::from("two")]),
        voicemail: None,
        ring: None,
        media: None,
    };
    let mut config =
        EngineConfig { routing: RoutingConfig { rules: vec![rule], ..RoutingConfig::default() }, ..config() };
    change(&mut config);
    let mut w = World::with(config);
    for (uuid, at) in [("one", FIRST), ("two", SECOND)] {
        put_trunk(&mut w, uuid, at, 0);
    }
    w
}

fn put_trunk(w: &mut World, uuid: &str, at: &str, expires_s: u32) {
    let account = Box::new(Account {
        uuid: uuid.into(),
        remote_user: "acc".into(),
        remote_domain: format!("{uuid}.test"),
        realm: format!("{uuid}.test"),
        auth_user: "acc".into(),
        ha1: ha1("acc", &format!("{uuid}.test"), "secret"),
        proxy: format!("sip:{at}"),
        expires_s,
        contact_user: uuid.into(),
        ..Account::default()
    });
    let at = w.now.wall;
    let put = TrunkCommand::Put { account, call_id: format!("reg-{uuid}"), at };
    w.state.apply(&SipCommand::Trunk(put));
}

const OUT: &str = "sip:0301234@lab.test";

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
fn a_message_reaches_the_second_server_of_a_name_when_the_first_is_silent() {
    let mut w = servers(|_| {});
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "m1", ""));
    w.resolve();
    w.expect(FIRST, "MESSAGE ");
    w.pass(Duration::from_millis(3100));
    let second = w.take(SECOND);
    assert_eq!(count(&second, "MESSAGE"), 1);
    w.send(SECOND, &respond(&second[0], 200, "b", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.take(FIRST);
    w.pass(seconds(40));
    w.expect_nothing(FIRST);
    assert_eq!(w.engine.load(), (0, 0, 0));
}

#[test]
fn a_request_reaches_the_second_backend_when_the_first_is_silent_and_no_408_is_made_rfc4320() {
    let mut w = backends(|_| {});
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

#[test]
fn a_takeover_passes_on_a_2xx_that_crossed_the_move_and_hangs_nobody_up() {
    let mut w = servers(|_| {});
    call(&mut w, BOB_URI, "c1");
    let first = w.expect(FIRST, "INVITE ");
    w.cluster = Cluster::Waits;
    w.pass(Duration::from_millis(3100));
    let answer = respond(&first, 200, "b", &contact(FIRST));
    w.send(FIRST, &answer);
    while w.verdict() {
        w.settle();
    }
    w.cluster = Cluster::Commits;
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.take(FIRST);
    // The caller's ACK was lost with the node: the callee says it again.
    w.fail_over(Duration::from_millis(300));
    w.take(ALICE);
    w.take(FIRST);
    w.send(FIRST, &answer);
    assert_eq!(w.expect(ALICE, "SIP/2.0 200 "), ok);
    w.expect_nothing(FIRST);
    assert_eq!(w.engine.counters().late_answers, 0);
    assert_eq!(w.state.counts().dialogs, 1);
}

#[test]
fn a_late_2xx_to_a_reinvite_never_ends_the_dialog_that_it_belongs_to() {
    let mut w = servers(|c| c.failover.fr_timer = Some(seconds(5)));
    call(&mut w, BOB_URI, "c1");
    let first = w.expect(FIRST, "INVITE ");
    w.send(FIRST, &respond(&first, 200, "b", "Contact: <sip:pbx@phone.test>\r\n"));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(FIRST, "ACK ");
    w.send(ALICE, &in_dialog_of_caller("INVITE", 2, &ok, ALICE));
    w.expect(ALICE, "SIP/2.0 100 ");
    let again = w.expect(FIRST, "INVITE ");
    w.pass(Duration::from_millis(3100));
    let elsewhere = w.expect(SECOND, "INVITE ");
    w.take(FIRST);
    // It is the answer that the caller waits for.
    w.send(FIRST, &respond(&again, 200, "b", "Contact: <sip:pbx@phone.test>\r\n"));
    w.expect_nothing(FIRST);
    w.expect(ALICE, "SIP/2.0 200 ");
    let _ = elsewhere;
    // Another one fails before its answer comes: who is in the dialog knows what to do (RFC 3261 §14.1, §13.3.1.4).
    w.send(ALICE, &in_dialog_of_caller("INVITE", 3, &ok, ALICE));
    w.expect(ALICE, "SIP/2.0 100 ");
    let again = w.expect(FIRST, "INVITE ");
    w.pass(Duration::from_millis(8200));
    w.expect(ALICE, "SIP/2.0 408 ");
    w.take(FIRST);
    w.send(FIRST, &respond(&again, 200, "b", "Contact: <sip:pbx@phone.test>\r\n"));
    w.expect_nothing(FIRST);
    assert_eq!(w.state.counts().dialogs, 1);
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
