//! The stages one by one: what each lets in, sends where, or answers, and that it can be tuned and switched off. In
//! Kamailio's order of blocks.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::story::*;
use proxy_core::engine::Engine;
use proxy_core::io::EngineConfig;
use proxy_core::routing::{
    Action, FloodLimit, Line, Match, Mode, Pattern, RoutingConfig, Rule, Screen, Stage, Voicemail,
};

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB2: &str = "10.77.0.202:5063";
const PBX: &str = "10.77.0.230:5060";
const BOB_URI: &str = "sip:bob@lab.test";

fn with(routing: RoutingConfig) -> World {
    World::with(EngineConfig { routing, ..config() })
}

fn with_screen(screen: Screen) -> World {
    with(RoutingConfig { screen, ..RoutingConfig::default() })
}

fn with_rules(rules: Vec<Rule>) -> World {
    with(RoutingConfig { rules, ..RoutingConfig::default() })
}

fn without(stage: Stage) -> World {
    with(RoutingConfig { off: BTreeSet::from([stage]), ..RoutingConfig::default() })
}

fn rule(action: Action) -> Rule {
    Rule {
        name: String::from("r"),
        matching: Match::default(),
        strip: 0,
        prefix: String::new(),
        require_auth: false,
        action,
        voicemail: None,
        ring: None,
        media: None,
    }
}

fn users(globs: &[&str]) -> Match {
    let users = globs.iter().map(|g| Pattern::glob(g).expect("a glob")).collect();
    Match { users, ..Match::default() }
}

fn call(uri: &str, n: u32) -> String {
    invite(uri, ALICE, &format!("c{n}"))
}

fn explain(w: &World, text: &str, from: &str) -> Vec<Line> {
    Engine::explained(w.config.clone(), w.now, flow_of(addr(from)), None, text.as_bytes(), &w.state)
}

// REQINIT

#[test]
fn a_source_beyond_the_flood_limit_is_ignored_without_a_word_until_its_ban_ends() {
    let limit = FloodLimit { requests: 5, ..FloodLimit::default() };
    let mut w = with_screen(Screen { flood: Some(limit), ..Screen::default() });
    for n in 0..20 {
        w.send(ALICE, &request("OPTIONS", "sip:lab.test", ALICE, &format!("o{n}"), ""));
    }
    assert_eq!(w.take(ALICE).len(), 5);
    assert_eq!(w.engine.counters().dropped_flood, 15);
    w.send(BOB, &request("OPTIONS", "sip:lab.test", BOB, "o1", ""));
    w.expect(BOB, "SIP/2.0 200 ");
    w.pass(Duration::from_secs(299));
    w.send(ALICE, &request("OPTIONS", "sip:lab.test", ALICE, "late", ""));
    w.expect_nothing(ALICE);
    w.pass(Duration::from_secs(2));
    w.send(ALICE, &request("OPTIONS", "sip:lab.test", ALICE, "later", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn without_a_flood_limit_nothing_is_counted() {
    let mut w = World::new();
    for n in 0..200 {
        w.send(ALICE, &request("OPTIONS", "sip:lab.test", ALICE, &format!("o{n}"), ""));
    }
    assert_eq!(w.take(ALICE).len(), 200);
}

#[test]
fn a_scanner_gets_no_answer_and_is_counted() {
    let mut w = World::new();
    for (n, agent) in
        ["friendly-scanner", "sipcli/v1.8", "SIPVicious", "VaxSIPUserAgent/3", "pplsip"].iter().enumerate()
    {
        let extra = format!("User-Agent: {agent}\r\n");
        w.send(ALICE, &request("OPTIONS", "sip:lab.test", ALICE, &format!("s{n}"), &extra));
        w.expect_nothing(ALICE);
    }
    assert_eq!(w.engine.counters().dropped_scanner, 5);
    w.send(ALICE, &request("OPTIONS", "sip:lab.test", ALICE, "ok", "User-Agent: baresip v3\r\n"));
    w.expect(ALICE, "SIP/2.0 200 ");
    let mut w = with_screen(Screen { scanners: Vec::new(), ..Screen::default() });
    w.send(ALICE, &request("OPTIONS", "sip:lab.test", ALICE, "s", "User-Agent: friendly-scanner\r\n"));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn sizes_can_be_tuned_rfc3261_21_4_11_and_21_5_7() {
    let mut w = with_screen(Screen { max_bytes: 1000, max_uri_bytes: 100, ..Screen::default() });
    let large = format!("Subject: {}\r\n", "x".repeat(900));
    w.send(ALICE, &request("OPTIONS", "sip:lab.test", ALICE, "a", &large));
    w.expect(ALICE, "SIP/2.0 513 ");
    w.send(ALICE, &request("OPTIONS", &format!("sip:{}@lab.test", "x".repeat(100)), ALICE, "b", ""));
    w.expect(ALICE, "SIP/2.0 414 ");
}

#[test]
fn a_request_without_max_forwards_gets_the_configured_one_rfc3261_16_6_3() {
    let mut w = with_screen(Screen { max_forwards: 10, ..Screen::default() });
    w.register("bob", BOB);
    w.send(ALICE, &call(BOB_URI, 1).replace("Max-Forwards: 70\r\n", ""));
    let got = w.expect(BOB, "INVITE ");
    assert_eq!(header(&got, "Max-Forwards").as_deref(), Some("10"));
}

#[test]
fn options_to_the_proxy_is_a_keepalive_that_can_be_switched_off() {
    let mut w = World::new();
    w.send(ALICE, &request("OPTIONS", "sip:lab.test", ALICE, "o", ""));
    w.expect(ALICE, "SIP/2.0 200 Keepalive\r\n");
    let mut w = with_screen(Screen { keepalive: false, ..Screen::default() });
    w.send(ALICE, &request("OPTIONS", "sip:lab.test", ALICE, "o", ""));
    w.expect(ALICE, "SIP/2.0 484 ");
}

// The [[route]] tables

#[test]
fn the_first_route_that_fits_decides() {
    let mut w = with_rules(vec![
        Rule { matching: users(&["1*"]), ..rule(Action::Reject { status: 486, reason: "Not now".into() }) },
        Rule { matching: users(&["12*"]), ..rule(Action::Reject { status: 480, reason: String::new() }) },
    ]);
    w.register("bob", BOB);
    w.send(ALICE, &call("sip:123@lab.test", 1));
    w.expect(ALICE, "SIP/2.0 486 Not now\r\n");
    w.send(ALICE, &call(BOB_URI, 2));
    w.expect(BOB, "INVITE ");
}

#[test]
fn a_route_that_continues_changes_what_the_next_ones_see() {
    let mut w = with_rules(vec![
        Rule { matching: users(&["00*"]), strip: 2, prefix: "+".into(), ..rule(Action::Continue) },
        Rule { matching: users(&["+49*"]), strip: 3, ..rule(Action::Location) },
        Rule { matching: users(&["+*"]), ..rule(Action::Reject { status: 403, reason: "Too far".into() }) },
    ]);
    w.register("30", BOB);
    w.send(ALICE, &call("sip:004930@lab.test", 1));
    w.expect(BOB, "INVITE ");
    w.take(ALICE);
    w.send(ALICE, &call("sip:00330@lab.test", 2));
    w.expect(ALICE, "SIP/2.0 403 Too far");
}

#[test]
fn a_number_that_is_stripped_to_nothing_is_incomplete() {
    let mut w = with_rules(vec![Rule { strip: 5, ..rule(Action::Location) }]);
    w.send(ALICE, &call("sip:12345@lab.test", 1));
    w.expect(ALICE, "SIP/2.0 484 ");
}

#[test]
fn each_condition_of_a_route_has_to_fit() {
    let glob = |text: &str| Pattern::glob(text).expect("a glob");
    let all = Match {
        methods: vec!["MESSAGE".into(), "INVITE".into()],
        domains: vec!["lab.test".into()],
        users: vec![glob("12"), Pattern::regex("^b.b$").expect("a regex")],
        sources: vec!["10.77.0.0/24".parse().expect("a block")],
        headers: vec![("Subject".into(), glob("*urgent*"))],
    };
    let mut w = with_rules(vec![Rule {
        matching: all,
        ..rule(Action::Reject { status: 488, reason: String::new() })
    }]);
    let send = |w: &mut World, method: &str, uri: &str, from: &str, extra: &str, n: u32| {
        w.send(from, &request(method, uri, from, &format!("m{n}"), extra));
        w.take(from).first().expect("an answer")[8..11].to_owned()
    };
    let subject = "Subject: very urgent\r\n";
    assert_eq!(send(&mut w, "INVITE", BOB_URI, ALICE, subject, 1), "488");
    assert_eq!(
        send(&mut w, "MESSAGE", "sip:12@LAB.test", ALICE, "s: urgent\r\n", 2),
        "488",
        "the compact name, too"
    );
    assert_eq!(send(&mut w, "INFO", BOB_URI, ALICE, subject, 3), "404");
    assert_eq!(send(&mut w, "INVITE", "sip:bob@10.77.0.100", ALICE, subject, 4), "404");
    assert_eq!(send(&mut w, "INVITE", "sip:carol@lab.test", ALICE, subject, 5), "404");
    assert_eq!(send(&mut w, "INVITE", BOB_URI, "10.77.1.1:5060", subject, 6), "404");
    assert_eq!(send(&mut w, "INVITE", BOB_URI, ALICE, "Subject: later\r\n", 7), "404");
    assert_eq!(send(&mut w, "INVITE", BOB_URI, ALICE, "", 8), "404");
}

#[test]
fn a_route_redirects_with_its_contacts_rfc3261_8_3() {
    let contacts = vec![String::from("sip:{user}@192.0.2.5"), String::from("tel:+4930")];
    let mut w = with_rules(vec![rule(Action::Redirect { contacts, permanent: true })]);
    w.send(ALICE, &call("sip:99@lab.test", 1));
    let moved = w.expect(ALICE, "SIP/2.0 301 ");
    assert_eq!(header(&moved, "Contact").as_deref(), Some("<sip:99@192.0.2.5>, <tel:+4930>"));
    let ack = call("sip:99@lab.test", 1).replace("INVITE sip", "ACK sip").replace("1 INVITE", "1 ACK");
    let ack = ack.replace("To: <sip:99@lab.test>", &format!("To: {}", header(&moved, "To").expect("To")));
    w.send(ALICE, &ack);
    w.expect_nothing(ALICE);
    assert_eq!(w.engine.load(), (0, 0, 0));
}

#[test]
fn a_route_limits_how_long_phones_ring() {
    let mut w = with_rules(vec![Rule { ring: Some(Duration::from_secs(12)), ..rule(Action::Location) }]);
    w.register("bob", BOB);
    w.send(ALICE, &call(BOB_URI, 1));
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 180, "b", ""));
    w.take(ALICE);
    w.pass(Duration::from_secs(12));
    w.expect(ALICE, "SIP/2.0 408 ");
    w.expect(BOB, "CANCEL ");
}

#[test]
fn a_route_without_subscribers_that_requires_authentication_lets_nobody_in() {
    let mut w =
        with_rules(vec![Rule { matching: users(&["bob"]), require_auth: true, ..rule(Action::Location) }]);
    w.pass(Duration::from_secs(1));
    w.send(ALICE, &call(BOB_URI, 1));
    let all = w.take(ALICE);
    assert!(all.iter().all(|m| m.starts_with("SIP/2.0 4")), "{all:#?}");
    assert!(w.state.counts().pending_invites == 0);
}

#[test]
fn the_routes_can_be_switched_off() {
    let mut w = with(RoutingConfig {
        rules: vec![rule(Action::Reject { status: 403, reason: String::new() })],
        off: BTreeSet::from([Stage::Policy]),
        ..RoutingConfig::default()
    });
    w.register("bob", BOB);
    w.send(ALICE, &call(BOB_URI, 1));
    w.expect(BOB, "INVITE ");
}

// SIPOUT

#[test]
fn nobody_calls_foreign_domains_by_default() {
    let mut w = World::new();
    for uri in ["sip:bob@192.0.2.9", "sip:bob@elsewhere.test", "sips:bob@192.0.2.9"] {
        w.send(ALICE, &call(uri, 1));
        w.expect(ALICE, "SIP/2.0 403 Not relaying");
    }
    // Nor by a preloaded Route.
    w.send(
        ALICE,
        &request("INVITE", BOB_URI, ALICE, "c2", "Route: <sip:10.77.0.100;lr>, <sip:192.0.2.9;lr>\r\n"),
    );
    w.expect(ALICE, "SIP/2.0 404 ");
    assert!(w.sent.iter().all(|(to, _)| *to == addr(ALICE)), "nothing left for anybody else");
}

#[test]
fn sources_of_relay_from_may_and_get_a_p_hint() {
    for p_hint in [true, false] {
        let relay_from = vec!["10.77.0.201".parse().expect("an address")];
        let mut w = with(RoutingConfig { relay_from, p_hint, ..RoutingConfig::default() });
        w.send(ALICE, &call("sip:x@10.77.0.230", 1));
        let got = w.expect(PBX, "INVITE sip:x@10.77.0.230 ");
        assert_eq!(header(&got, "P-Hint").as_deref(), p_hint.then_some("outbound"));
        assert!(header(&got, "Record-Route").is_some());
        w.send(BOB, &invite("sip:x@10.77.0.230", BOB, "c2"));
        w.expect(BOB, "SIP/2.0 403 ");
    }
}

#[test]
fn a_route_relays_what_its_conditions_cover_and_nothing_else() {
    let matching = Match { sources: vec!["10.77.0.201".parse().expect("an address")], ..Match::default() };
    let mut w = with_rules(vec![Rule { matching, ..rule(Action::Relay) }]);
    w.send(ALICE, &call("sip:x@10.77.0.230", 1));
    w.expect(PBX, "INVITE ");
    w.send(BOB, &invite("sip:x@10.77.0.230", BOB, "c2"));
    w.expect(BOB, "SIP/2.0 403 ");
}

#[test]
fn a_foreign_name_that_nobody_can_resolve_is_said_so() {
    let relay_from = vec!["10.77.0.201".parse().expect("an address")];
    let w = with(RoutingConfig { relay_from, ..RoutingConfig::default() });
    let lines = explain(&w, &call("sip:x@elsewhere.test", 1), ALICE);
    assert!(lines.iter().any(|l| l.stage == Stage::Sipout && l.decision != "next"), "{lines:#?}");
}

// REGISTRAR, LOCATION, TOVOICEMAIL

#[test]
fn a_registrar_that_is_switched_off_registers_nobody() {
    let mut w = without(Stage::Registrar);
    w.send(BOB, &register("bob", BOB, 1, &format!("<sip:bob@{BOB}>")));
    let all = w.take(BOB);
    assert!(all.iter().all(|m| m.starts_with("SIP/2.0 4")) && all.len() == 1, "{all:#?}");
    assert_eq!(w.state.counts().bindings, 0);
}

#[test]
fn a_location_that_is_switched_off_finds_nobody() {
    let mut w = without(Stage::Location);
    w.register("bob", BOB);
    w.send(ALICE, &call(BOB_URI, 1));
    w.expect(ALICE, "SIP/2.0 404 ");
    w.expect_nothing(BOB);
}

#[test]
fn a_short_number_is_who_it_stands_for_and_so_is_the_mailbox() {
    let voicemail = Voicemail { server: format!("sip:{PBX}"), after: None, on: vec![486] };
    let mut w = with(RoutingConfig {
        speed_dial: [("12".into(), BOB_URI.into()), ("13".into(), "sip:x@192.0.2.9".into())].into(),
        voicemail: Some(voicemail),
        ..RoutingConfig::default()
    });
    w.register("bob", BOB);
    w.send(ALICE, &call("sip:12@lab.test", 1));
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 486, "b", ""));
    w.expect(PBX, "INVITE sip:bob@10.77.0.230:5060 ");
    w.take(ALICE);
    // A short number is no way around SIPOUT.
    w.send(ALICE, &call("sip:13@lab.test", 2));
    w.expect(ALICE, "SIP/2.0 403 Not relaying");
}

#[test]
fn voicemail_takes_invites_of_new_calls_only() {
    let voicemail = Voicemail { server: format!("sip:{PBX}"), after: None, on: vec![404] };
    let mut w = with(RoutingConfig { voicemail: Some(voicemail), ..RoutingConfig::default() });
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "m1", ""));
    w.expect(ALICE, "SIP/2.0 404 ");
    w.expect_nothing(PBX);
}

#[test]
fn a_route_has_voicemail_of_its_own_or_sends_there_at_once() {
    let own = Voicemail { server: format!("sip:{PBX}"), after: Some(Duration::from_secs(5)), on: vec![] };
    let mut w = with_rules(vec![
        Rule { matching: users(&["*97"]), strip: 3, voicemail: Some(own.clone()), ..rule(Action::Voicemail) },
        Rule {
            matching: users(&["*97?*"]),
            strip: 3,
            voicemail: Some(own.clone()),
            ..rule(Action::Voicemail)
        },
        Rule { matching: users(&["bob"]), voicemail: Some(own), ..rule(Action::Location) },
    ]);
    w.send(ALICE, &call("sip:*97bob@lab.test", 1));
    w.expect(PBX, "INVITE sip:bob@10.77.0.230:5060 ");
    w.register("bob", BOB);
    w.send(ALICE, &call(BOB_URI, 2));
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 180, "b", ""));
    w.take(PBX);
    w.pass(Duration::from_secs(5));
    assert!(w.take(PBX).iter().any(|m| m.contains("Call-ID: c2\r\n")));
}

// Redirect and stateless mode

#[test]
fn a_redirect_server_tells_the_places_with_their_q_and_keeps_nothing_rfc3261_8_3() {
    let mut w = with(RoutingConfig { mode: Mode::Redirect, ..RoutingConfig::default() });
    w.register_with("bob", BOB, ";q=0.5");
    w.register_with("bob", BOB2, "");
    w.send(ALICE, &call(BOB_URI, 1));
    let moved = w.expect(ALICE, "SIP/2.0 302 ");
    let wanted = format!("<sip:bob@{BOB2}>;q=1.000, <sip:bob@{BOB}>;q=0.500");
    assert_eq!(header(&moved, "Contact"), Some(wanted));
    w.send(ALICE, &call("sip:carol@lab.test", 2));
    w.expect(ALICE, "SIP/2.0 404 ");
    w.expect_nothing(BOB);
    assert_eq!(w.state.counts().pending_invites, 0);
}

#[test]
fn a_stateless_proxy_passes_a_call_without_remembering_it_rfc3261_16_11() {
    let mut w = with(RoutingConfig { mode: Mode::Stateless, ..RoutingConfig::default() });
    w.register("bob", BOB);
    // The registrar is what it is in every mode.
    let registrar = w.engine.load();
    w.send(ALICE, &call(BOB_URI, 1));
    w.expect_nothing(ALICE);
    let first = w.expect(BOB, "INVITE ");
    w.send(ALICE, &call(BOB_URI, 1));
    assert_eq!(w.expect(BOB, "INVITE "), first, "a retransmission is a retransmission");
    // CANCEL and the ACK of a failure take the same way with the same branch (§16.11).
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    let stop = w.expect(BOB, "CANCEL ");
    let branch = |m: &str| header(m, "Via").expect("Via").split(", ").next().expect("one").to_owned();
    assert_eq!(branch(&stop), branch(&first));
    w.send(BOB, &respond(&stop, 200, "b", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.send(BOB, &respond(&first, 487, "b", ""));
    let failed = w.expect(ALICE, "SIP/2.0 487 ");
    let ack = call(BOB_URI, 1).replace("INVITE sip", "ACK sip").replace("1 INVITE", "1 ACK");
    let ack =
        ack.replace(&format!("To: <{BOB_URI}>"), &format!("To: {}", header(&failed, "To").expect("To")));
    w.send(ALICE, &ack);
    assert_eq!(branch(&w.expect(BOB, "ACK ")), branch(&first));
    assert_eq!(w.engine.load(), registrar);
    assert_eq!(w.state.counts().pending_invites, 0);
}

#[test]
fn calls_through_a_stateless_proxy_outlive_it() {
    let mut w = with(RoutingConfig { mode: Mode::Stateless, ..RoutingConfig::default() });
    w.register("bob", BOB);
    w.send(ALICE, &call(BOB_URI, 1));
    let got = w.expect(BOB, "INVITE ");
    w.fail_over(Duration::from_millis(300));
    w.send(BOB, &respond(&got, 200, "b", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(BOB, "ACK ");
    w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    let bye = w.expect(BOB, "BYE ");
    w.send(BOB, &respond(&bye, 200, "b", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn a_redirect_of_a_phone_is_passed_on_unless_it_is_followed_here_rfc3261_16_7_4() {
    let moved = format!("Contact: <sip:x@{PBX}>;q=0.1, <sip:carol@lab.test>\r\n");
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &call(BOB_URI, 1));
    let got = w.expect(BOB, "INVITE ");
    w.take(ALICE);
    w.send(BOB, &respond(&got, 302, "b", &moved));
    assert!(w.expect(ALICE, "SIP/2.0 302 ").contains(&moved));

    let mut w = with(RoutingConfig { follow_redirects: true, ..RoutingConfig::default() });
    w.register("bob", BOB);
    w.register("carol", BOB2);
    w.send(ALICE, &call(BOB_URI, 1));
    let got = w.expect(BOB, "INVITE ");
    w.take(ALICE);
    w.send(BOB, &respond(&got, 302, "b", &moved));
    w.expect(BOB, "ACK ");
    w.expect_nothing(ALICE);
    let to_carol = w.expect(BOB2, "INVITE sip:carol@10.77.0.202:5063 ");
    let to_pbx = w.expect(PBX, "INVITE sip:x@10.77.0.230:5060 ");
    // A redirect back to who was tried already is the end of it.
    w.send(PBX, &respond(&to_pbx, 302, "p", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    w.send(BOB2, &respond(&to_carol, 404, "c", ""));
    assert!(w.take(ALICE).iter().any(|m| m.starts_with("SIP/2.0 302 ")));
    w.take(BOB);
}

#[test]
fn a_followed_redirect_survives_the_loss_of_the_node() {
    let mut w = with(RoutingConfig { follow_redirects: true, ..RoutingConfig::default() });
    w.register("bob", BOB);
    w.send(ALICE, &call(BOB_URI, 1));
    let got = w.expect(BOB, "INVITE ");
    w.take(ALICE);
    w.send(BOB, &respond(&got, 302, "b", &format!("Contact: <sip:x@{PBX}>\r\n")));
    w.take(BOB);
    let moved = w.expect(PBX, "INVITE ");
    w.fail_over(Duration::from_millis(300));
    assert_eq!(w.expect(PBX, "INVITE "), moved);
    w.send(PBX, &respond(&moved, 200, "p", &format!("Contact: <sip:x@{PBX}>\r\n")));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn redirects_in_a_circle_end() {
    let mut w = with(RoutingConfig { follow_redirects: true, ..RoutingConfig::default() });
    w.register("bob", BOB);
    w.send(ALICE, &call(BOB_URI, 1));
    let mut got = w.expect(BOB, "INVITE ");
    w.take(ALICE);
    for n in 0..50 {
        w.send(BOB, &respond(&got, 302, &format!("b{n}"), &format!("Contact: <sip:bob{n}@{BOB}>\r\n")));
        match w.take(BOB).into_iter().find(|m| m.starts_with("INVITE ")) {
            Some(next) => got = next,
            None => {
                w.expect(ALICE, "SIP/2.0 302 ");
                assert!(n < 10, "{n}");
                return;
            }
        }
    }
    panic!("it never ends");
}

// relevo route explain

#[test]
fn an_explanation_names_each_stage_in_kamailios_order_and_changes_nothing() {
    let voicemail =
        Voicemail { server: format!("sip:{PBX}"), after: Some(Duration::from_secs(20)), on: vec![486] };
    let mut w = with(RoutingConfig { voicemail: Some(voicemail), ..RoutingConfig::default() });
    w.register("bob", BOB);
    let before = w.state.clone();
    let lines = explain(&w, &call(BOB_URI, 1), ALICE);
    assert!(w.state == before);
    w.settle();
    w.expect_nothing(BOB);
    let mut stages: Vec<Stage> = lines.iter().map(|l| l.stage).collect();
    stages.dedup();
    assert!(stages.is_sorted(), "{stages:?}");
    assert_eq!((stages.first(), stages.last()), (Some(&Stage::Reqinit), Some(&Stage::Relay)));
    let said = |stage, word: &str| {
        lines.iter().any(|l| l.stage == stage && format!("{} {}", l.decision, l.why).contains(word))
    };
    assert!(said(Stage::Location, BOB), "{lines:#?}");
    assert!(said(Stage::Voicemail, "486"), "{lines:#?}");
    assert!(said(Stage::Relay, "commits"), "{lines:#?}");
}

#[test]
fn every_answer_made_here_is_explained_by_the_stage_that_made_it() {
    let w = without(Stage::Presence);
    let table = [
        (call("sip:bob@192.0.2.9", 1), Stage::Sipout, "answers 403 Not relaying"),
        (call("sip:lab.test", 1), Stage::Voicemail, "answers 484 Address Incomplete"),
        (call("sip:nobody@lab.test", 1), Stage::Relay, "answers 404 Not Found"),
        (
            call(BOB_URI, 1).replace("Max-Forwards: 70", "Max-Forwards: 0"),
            Stage::Reqinit,
            "answers 483 Too Many Hops",
        ),
        (cancel(BOB_URI, ALICE, "c9"), Stage::Cancel, "answers 481 Call/Transaction Does Not Exist"),
        (request("OPTIONS", "sip:lab.test", ALICE, "o", ""), Stage::Reqinit, "answers 200 Keepalive"),
    ];
    for (text, stage, decision) in table {
        let lines = explain(&w, &text, ALICE);
        let answer = lines.iter().find(|l| l.decision.starts_with("answers")).expect("an answer");
        assert_eq!(answer.decision, decision, "{lines:#?}");
        if stage == Stage::Reqinit || stage == Stage::Cancel || stage == Stage::Sipout {
            assert_eq!(answer.stage, stage, "{lines:#?}");
        }
        assert!(lines.iter().all(|l| l.stage != Stage::Presence || l.decision == "off"));
    }
    assert_eq!(explain(&w, "nonsense", ALICE).len(), 1);
}

#[test]
fn more_hops_than_usual_are_not_believed_and_fewer_are_rfc3261_16_6_3() {
    let mut w = World::new();
    w.register("bob", "10.77.0.202:5062");
    for (n, (said, goes_on)) in
        [("255", "70"), ("71", "70"), ("70", "69"), ("2", "1")].into_iter().enumerate()
    {
        let text = request("MESSAGE", "sip:bob@lab.test", ALICE, &format!("m{n}"), "")
            .replace("Max-Forwards: 70", &format!("Max-Forwards: {said}"));
        w.send(ALICE, &text);
        let copy = w.expect("10.77.0.202:5062", "MESSAGE ");
        assert_eq!(header(&copy, "Max-Forwards").as_deref(), Some(goes_on), "{said}");
    }
    // Neither number nor one of a Max-Forwards: nobody guesses.
    for (n, said) in ["256", "4294967295", "-1", "x", "70, 3", "7\r\nMax-Forwards: 8"].into_iter().enumerate()
    {
        let text = request("MESSAGE", "sip:bob@lab.test", ALICE, &format!("n{n}"), "")
            .replace("Max-Forwards: 70", &format!("Max-Forwards: {said}"));
        w.send(ALICE, &text);
        w.expect(ALICE, "SIP/2.0 400 ");
    }
}
