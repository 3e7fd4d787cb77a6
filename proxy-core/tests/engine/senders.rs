//! Who sends a request, judged in one place: what From says and what proves it decide alike at the challenge, at trunks, at
//! lamps, at mailboxes, at the default set, in limits and records.

use crate::common::auth::*;
use crate::common::failover::put_backend;
use crate::common::story::*;
use crate::common::trunk::{self, CARRIER, account, invite_of_carrier};
use proxy_core::blf::PresenceConfig;
use proxy_core::dispatch::DispatchConfig;
use proxy_core::io::EngineConfig;
use proxy_core::routing::{Action, Match, Mode, RoutingConfig, Rule, Voicemail};
use proxy_core::state::trunk::Account;
use proxy_core::state::{CountKey, ProvisionCommand};
use proxy_core::trunk::TrunkConfig;

const STRANGER: &str = "10.99.0.66:5070";
const PBX: &str = "10.77.0.211:5060";
const MAILBOXES: &str = "10.77.0.230:5060";
const NUMBER: &str = "sip:+49301234@lab.test";

/// What phones show, or could, as a user of ours.
const OURS: [&str; 12] = [
    "<sip:alice@lab.test>",
    "<sip:alice@lab.test:9999>",
    "<sips:alice@lab.test>",
    "<SIP:alice@LAB.Test.>",
    "<sip:%61lice@lab.test;user=phone>",
    "<sip:alice;x=y@lab.test>",
    "<sip:alice:secret@lab.test>",
    "<sip:+4930;phone-context=x@lab.test:5061;transport=tcp>",
    "<sip:alice@10.77.0.100:9999>",
    "<sip:alice@[::ffff:10.77.0.100]>",
    "\"sip:eve@evil.test\" <sip:alice@lab.test>",
    "sip:alice@lab.test",
];

/// Who is nobody of ours.
const OTHERS: [&str; 6] = [
    "<tel:+4930555>",
    "<tel:alice>",
    "<tel:1;phone-context=lab.test>",
    "<sip:alice@evil.test>",
    "\"alice\" <sip:lab.test@evil.test>",
    "<urn:service:alice>",
];

/// Who could be read as two.
const TWO: [&str; 5] = [
    "<sip:eve@evil.test>;tag=1\r\nFrom: <sip:alice@lab.test>",
    "<sip:eve@evil.test>;tag=1\r\nf: <sip:alice@lab.test>",
    "<sip:eve@evil.test>, <sip:alice@lab.test>",
    "<sip:alice@lab.test@evil.test>",
    "<sip:alice@lab%2Etest>",
];

fn from(text: &str, value: &str) -> String {
    text.replace("From: <sip:alice@lab.test>", &format!("From: {value}"))
}

fn settings() -> EngineConfig {
    EngineConfig {
        trunk: TrunkConfig { pstn: Some(String::from("carrier")), ..TrunkConfig::default() },
        presence: PresenceConfig { enabled: true, ..PresenceConfig::default() },
        ..asking()
    }
}

/// A world that asks, with alice, bob, whose phone is there, and a trunk.
fn world_of(config: EngineConfig) -> World {
    let mut w = world_with(config);
    trunk::put(&mut w, Account { expires_s: 0, ..account() });
    register_bob(&mut w);
    w
}

fn subscribe_to(uri: &str, at: &str, call: &str, event: &str) -> String {
    request("SUBSCRIBE", uri, at, call, &format!("Event: {event}\r\nExpires: 600\r\n"))
}

/// The request goes out again with alice's password.
fn proved(w: &mut World, text: &str) {
    let asked = challenge(w, ALICE, text);
    w.send(ALICE, &answered(text, &asked, "alice", "secret-a"));
}

fn rule(action: Action, require_auth: bool) -> Rule {
    Rule {
        name: String::from("out"),
        matching: Match::default(),
        strip: 0,
        prefix: String::new(),
        require_auth,
        action,
        voicemail: None,
        ring: None,
        media: None,
    }
}

#[test]
fn who_says_that_he_is_a_user_of_ours_has_to_prove_it_however_he_writes_it_rfc3261_19_1() {
    let mut w = world_of(settings());
    for (n, value) in OURS.into_iter().enumerate() {
        for (uri, way) in [(BOB_URI, "r"), (NUMBER, "p"), ("sip:x@far.test", "f")] {
            w.send(STRANGER, &from(&invite(uri, STRANGER, &format!("{way}{n}")), value));
            let answer = first_line(&mut w, STRANGER);
            assert_eq!(answer, "407 Proxy Authentication Required", "{value} to {uri}");
        }
        w.send(STRANGER, &from(&subscribe_to(BOB_URI, STRANGER, &format!("s{n}"), "dialog"), value));
        assert_eq!(first_line(&mut w, STRANGER), "407 Proxy Authentication Required", "{value} watches");
    }
    for at in [BOB, CARRIER] {
        w.expect_nothing(at);
    }
}

#[test]
fn who_does_not_is_a_stranger_everywhere_and_calls_our_users_and_nobody_else() {
    let mut w = world_of(settings());
    for (n, value) in OTHERS.into_iter().enumerate() {
        w.send(STRANGER, &from(&invite(NUMBER, STRANGER, &format!("p{n}")), value));
        assert_eq!(first_line(&mut w, STRANGER), "403 Not Allowed", "{value} calls out");
        w.send(STRANGER, &from(&invite("sip:x@far.test", STRANGER, &format!("f{n}")), value));
        assert_eq!(first_line(&mut w, STRANGER), "403 Not relaying", "{value} calls others");
        w.send(STRANGER, &from(&subscribe_to(BOB_URI, STRANGER, &format!("s{n}"), "dialog"), value));
        assert_eq!(first_line(&mut w, STRANGER), "403 Forbidden", "{value} watches");
        w.send(STRANGER, &from(&invite(BOB_URI, STRANGER, &format!("r{n}")), value));
        assert_eq!(first_line(&mut w, STRANGER), "100 Trying", "{value} calls bob");
        w.expect(BOB, "INVITE ");
        w.expect_nothing(CARRIER);
    }
    assert_eq!(w.state.counts().subscriptions, 0);
}

#[test]
fn a_number_in_from_calls_out_by_no_trunk_though_nobody_is_asked_who_he_is() {
    let mut w = trunk::calling();
    w.send(STRANGER, &from(&invite(NUMBER, STRANGER, "c1"), "<tel:+4930555>"));
    assert_eq!(first_line(&mut w, STRANGER), "403 Not Allowed", "as Kamailio's from_uri==myself");
    w.send(STRANGER, &from(&invite(NUMBER, STRANGER, "c2"), "<sip:alice@lab.test:9999>"));
    w.expect(STRANGER, "SIP/2.0 100 ");
    w.expect(CARRIER, "INVITE ");
}

#[test]
fn a_from_that_can_be_read_in_two_ways_is_refused_rfc3261_20_20() {
    let mut w = world_of(settings());
    for (n, value) in TWO.into_iter().enumerate() {
        w.send(STRANGER, &from(&invite(BOB_URI, STRANGER, &format!("c{n}")), value));
        assert!(first_line(&mut w, STRANGER).starts_with("400 "), "{value}");
        w.expect_nothing(BOB);
    }
}

#[test]
fn without_state_a_stranger_reaches_no_trunk_by_any_method_either_rfc3261_16_11() {
    let routing = RoutingConfig {
        mode: Mode::Stateless,
        rules: vec![rule(Action::Trunk(vec![String::from("carrier")]), true)],
        ..RoutingConfig::default()
    };
    let mut w = world_with(EngineConfig { routing, ..settings() });
    trunk::put(&mut w, Account { expires_s: 0, ..account() });
    for (n, method) in ["INVITE", "MESSAGE", "SUBSCRIBE", "REFER", "OPTIONS", "XYZ"].into_iter().enumerate() {
        w.send(STRANGER, &from(&request(method, NUMBER, STRANGER, &format!("m{n}"), ""), "<tel:1>"));
        assert_eq!(first_line(&mut w, STRANGER), "403 Not allowed", "{method}");
        w.expect_nothing(CARRIER);
    }
    proved(&mut w, &invite(NUMBER, ALICE, "c1"));
    w.expect(CARRIER, "INVITE ");
}

/// What an operator has said of the default set.
type Said = fn(&mut DispatchConfig);

#[test]
fn the_default_set_is_for_those_who_are_known_unless_it_is_open() {
    let config = |change: Said| {
        let mut dispatch = DispatchConfig { default_set: Some(1), ..DispatchConfig::default() };
        dispatch.probe_interval = std::time::Duration::ZERO;
        change(&mut dispatch);
        EngineConfig { dispatch, ..settings() }
    };
    let cases: [(Said, bool); 4] = [
        (|_| {}, false),
        (|d| d.default_open = true, true),
        (|d| d.default_sources = vec!["10.99.0.0/24".parse().expect("a block")], true),
        (|d| d.default_sources = vec!["10.98.0.0/24".parse().expect("a block")], false),
    ];
    for (change, enters) in cases {
        let mut w = world_of(config(change));
        put_backend(&mut w, &format!("sip:{PBX}"), 0);
        for value in ["<sip:eve@evil.test>", "<tel:1>"] {
            w.send(
                STRANGER,
                &from(&invite("sip:100@lab.test", STRANGER, &format!("c{}", value.len())), value),
            );
            let answer = first_line(&mut w, STRANGER);
            assert_eq!(answer, if enters { "100 Trying" } else { "404 Not Found" }, "{value}");
            assert_eq!(w.take(PBX).len(), usize::from(enters));
        }
        proved(&mut w, &invite("sip:100@lab.test", ALICE, "c9"));
        w.expect(PBX, "INVITE ");
        w.take(ALICE);
        w.send(CARRIER, &invite_of_carrier("sip:100@lab.test", CARRIER, "c10"));
        w.expect(CARRIER, "SIP/2.0 100 ");
        w.expect(PBX, "INVITE ");
    }
}

#[test]
fn a_stranger_leaves_word_for_our_users_and_dials_no_number_of_the_voicemail_server() {
    let voicemail = Voicemail { server: format!("sip:{MAILBOXES}"), after: None, on: vec![486, 408, 404] };
    let routing = RoutingConfig { voicemail: Some(voicemail), ..RoutingConfig::default() };
    let mut w = world_of(EngineConfig { routing, trunk: TrunkConfig::default(), ..settings() });
    w.send(STRANGER, &from(&invite("sip:00491234@lab.test", STRANGER, "c1"), "<sip:eve@evil.test>"));
    assert_eq!(first_line(&mut w, STRANGER), "404 Not Found");
    w.expect_nothing(MAILBOXES);
    w.send(STRANGER, &from(&invite("sip:alice@lab.test", STRANGER, "c2"), "<sip:eve@evil.test>"));
    w.expect(STRANGER, "SIP/2.0 100 ");
    w.expect(MAILBOXES, "INVITE sip:alice@");
    proved(&mut w, &invite("sip:00491234@lab.test", ALICE, "c3"));
    w.expect(MAILBOXES, "INVITE sip:00491234@");
}

#[test]
fn a_mailbox_is_for_its_owner_whatever_a_rule_says() {
    let voicemail = Voicemail { server: format!("sip:{MAILBOXES}"), after: None, on: vec![486] };
    for (by_rule, require_auth) in [(false, false), (true, true), (true, false)] {
        let rules = by_rule.then(|| rule(Action::Dispatcher(1), require_auth)).into_iter().collect();
        let routing = RoutingConfig { voicemail: Some(voicemail.clone()), rules, ..RoutingConfig::default() };
        let mut w = world_with(EngineConfig { routing, ..settings() });
        put_backend(&mut w, &format!("sip:{MAILBOXES}"), 0);
        allow(&mut w.state, 1, "10.77.0.240", 32, 0);
        let (alias, target) = (String::from("sip:6001@lab.test"), String::from("sip:alice@lab.test"));
        provision(&mut w.state, ProvisionCommand::AliasAdd { alias, target });
        let ask = |uri: &str, call: &str| subscribe_to(uri, ALICE, call, "message-summary");
        for (n, uri) in ["sip:alice@lab.test", "sip:6001@lab.test"].into_iter().enumerate() {
            proved(&mut w, &ask(uri, &format!("own{n}")));
            w.expect(MAILBOXES, "SUBSCRIBE ");
        }
        let others = ["sip:bob@lab.test", "sip:bob@10.77.0.100", "sip:bob@far.test", "sip:6002@lab.test"];
        for (n, uri) in others.into_iter().enumerate() {
            w.take(ALICE);
            if !by_rule && uri.contains("far") {
                continue;
            }
            proved(&mut w, &ask(uri, &format!("other{n}")));
            assert!(first_line(&mut w, ALICE).starts_with("403 "), "{uri}, by a rule: {by_rule}");
            w.expect_nothing(MAILBOXES);
        }
        for (n, value) in OTHERS.into_iter().enumerate() {
            let text = subscribe_to(BOB_URI, STRANGER, &format!("s{n}"), "message-summary;x=y");
            w.send(STRANGER, &from(&text, value));
            assert!(first_line(&mut w, STRANGER).starts_with("403 "), "{value}");
            w.expect_nothing(MAILBOXES);
        }
        // Who is on the access list speaks for whom he likes: a PBX for its extensions.
        w.send("10.77.0.240:5060", &subscribe_to(BOB_URI, "10.77.0.240:5060", "t1", "message-summary"));
        w.expect(MAILBOXES, "SUBSCRIBE ");
    }
}

/// A trunk without sources that registers, or not, and limits.
fn sourceless(expires_s: u32, by_name: &[&str]) -> World {
    let mut config = EngineConfig { ..asking() };
    config.trunk.by_name = by_name.iter().map(|name| (*name).to_owned()).collect();
    config.dialog.limits.trunk = Some(2);
    config.dialog.limits.source = Some(1);
    let mut w = world_with(config);
    trunk::put(&mut w, Account { sources: Vec::new(), expires_s, ..account() });
    register_bob(&mut w);
    w.take(CARRIER);
    w
}

fn calls_of_trunk(w: &World) -> u32 {
    w.state.calls_of(&CountKey::Trunk(String::from("carrier")))
}

const CONTACT: &str = "sip:carrier@10.77.0.100:5060";

#[test]
fn who_calls_the_contact_user_of_a_trunk_is_not_that_trunk() {
    let mut w = sourceless(0, &[]);
    for (n, uri) in [CONTACT, CONTACT, "sip:carrier@lab.test"].into_iter().enumerate() {
        w.send(STRANGER, &invite_of_carrier(uri, STRANGER, &format!("c{n}")));
        w.expect(STRANGER, "SIP/2.0 404 ");
    }
    // Not even from where the calls of the trunk go: it does not register, and nobody has said that it calls from there.
    w.send(CARRIER, &invite_of_carrier(CONTACT, CARRIER, "c9"));
    w.expect(CARRIER, "SIP/2.0 404 ");
    assert_eq!(calls_of_trunk(&w), 0);
    w.expect_nothing(BOB);
}

#[test]
fn a_trunk_that_takes_calls_by_name_has_them_from_strangers_who_fill_their_own_limits() {
    let mut w = sourceless(0, &["carrier"]);
    w.send(STRANGER, &invite_of_carrier(CONTACT, STRANGER, "c1"));
    w.expect(STRANGER, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE sip:bob@");
    assert_eq!(calls_of_trunk(&w), 0);
    assert_eq!(w.state.calls_of(&CountKey::Source("10.99.0.66".parse().expect("an address"))), 1);
    w.send(STRANGER, &invite_of_carrier(CONTACT, STRANGER, "c2"));
    w.expect(STRANGER, "SIP/2.0 503 Too Many Calls");
    // What the trunk's password proves, it does not prove to him.
    w.send(BOB, &respond(&at_bob, 200, "b", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.expect(STRANGER, "SIP/2.0 200 ");
    w.send(STRANGER, &in_dialog_of_caller("ACK", 1, &ok, STRANGER));
    w.take(BOB);
    w.send(BOB, &in_dialog_of_callee("BYE", 5, &at_bob, "b", BOB));
    let bye = w.expect(STRANGER, "BYE ");
    w.send(STRANGER, &trunk::challenge(&bye, 407));
    w.expect_nothing(STRANGER);
}

#[test]
fn the_address_that_a_trunk_registers_at_proves_its_calls_in() {
    let mut w = sourceless(600, &[]);
    w.send(CARRIER, &invite_of_carrier(CONTACT, CARRIER, "c1"));
    w.expect(BOB, "INVITE sip:bob@");
    assert_eq!(calls_of_trunk(&w), 1);
    // What is not for its Contact user is a call of anybody.
    w.send(CARRIER, &invite_of_carrier(BOB_URI, CARRIER, "c2"));
    w.expect(BOB, "INVITE sip:bob@");
    assert_eq!(calls_of_trunk(&w), 1);
    w.send(STRANGER, &invite_of_carrier(CONTACT, STRANGER, "c3"));
    w.expect(STRANGER, "SIP/2.0 404 ");
    // It vouches for nobody: a user of ours proves who he is, wherever he calls from.
    w.take(CARRIER);
    challenge(&mut w, CARRIER, &invite(CONTACT, CARRIER, "c4"));
}

#[test]
fn of_two_trunks_with_one_source_the_one_that_is_called_counts_and_of_two_sources_each_its_own() {
    let mut w = world_with(asking());
    let named = |uuid: &str, source: &str| Account {
        uuid: uuid.to_owned(),
        contact_user: uuid.to_owned(),
        sources: Some(source.to_owned()).filter(|s| !s.is_empty()).into_iter().collect(),
        expires_s: 0,
        ..account()
    };
    for (uuid, source) in [("a", "10.77.0.220"), ("b", "10.77.0.220"), ("c", ""), ("d", "10.98.0.1")] {
        trunk::put(&mut w, named(uuid, source));
    }
    register_bob(&mut w);
    for (n, (user, came_by)) in [("a", "a"), ("b", "b"), ("c", "a"), ("d", "a")].into_iter().enumerate() {
        w.send(CARRIER, &invite_of_carrier(&format!("sip:{user}@10.77.0.100"), CARRIER, &format!("c{n}")));
        let calls: Vec<_> = w.state.pending_invites().filter(|i| i.call_id == format!("c{n}")).collect();
        let said = calls.first().and_then(|i| i.facts.as_ref()?.from_trunk.clone());
        if user == came_by {
            assert_eq!(said.as_deref(), Some(came_by), "to {user}");
        } else {
            assert_eq!(said, None, "there is no user {user}");
        }
        w.take(CARRIER);
    }
}

#[test]
fn records_and_limits_name_who_has_proved_who_he_is_and_nobody_else() {
    let mut config = settings();
    config.dialog.limits.caller = Some(5);
    let mut w = world_of(config);
    allow(&mut w.state, 1, "10.77.0.240", 32, 0);
    let caller = |w: &World, call: &str| {
        let found = w.state.pending_invites().find(|i| i.call_id == call).expect("a call");
        let facts = found.facts.clone().expect("facts");
        (facts.caller, facts.from_trunk)
    };
    let alice = || Some(String::from("sip:alice@lab.test"));
    w.send(STRANGER, &from(&invite(BOB_URI, STRANGER, "c1"), "<tel:1>"));
    assert_eq!(caller(&w, "c1"), (None, None));
    proved(&mut w, &invite(BOB_URI, ALICE, "c2"));
    assert_eq!(caller(&w, "c2"), (alice(), None));
    w.send("10.77.0.240:5060", &invite(BOB_URI, "10.77.0.240:5060", "c3"));
    assert_eq!(caller(&w, "c3"), (alice(), None), "the access list speaks for her");
    w.send(CARRIER, &invite(BOB_URI, CARRIER, "c4"));
    assert_eq!(caller(&w, "c4"), (None, Some(String::from("carrier"))), "a trunk does not");
    assert_eq!(w.state.calls_of(&CountKey::Caller(String::from("sip:alice@lab.test"))), 2);
}
