//! AUTH: who is asked, who is believed, and what is kept of it after a takeover. One test per rule.

use std::time::Duration;

use crate::common::auth::*;
use crate::common::story::*;
use proxy_core::digest::Algorithm;
use proxy_core::io::EngineConfig;
use proxy_core::routing::{Action, Match, Pattern, RoutingConfig, Rule};
use proxy_core::state::SipCommand;
use proxy_core::state::trunk::{Account, TrunkCommand};

#[test]
fn without_authentication_nobody_is_asked() {
    let mut w = World::new();
    subscribe(&mut w.state, "alice", "lab.test", "lab.test", "x");
    w.send(ALICE, &reg());
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn register_is_challenged_with_401_and_accepted_with_the_password_rfc3261_22_2() {
    let mut w = world();
    let asked = challenge(&mut w, ALICE, &reg());
    assert!(asked.starts_with("SIP/2.0 401 Unauthorized"), "{asked}");
    assert!(header(&asked, "To").expect("To").contains(";tag="));
    assert_eq!(header(&asked, "Proxy-Authenticate"), None);
    w.send(ALICE, &answered(&reg(), &asked, "alice", "secret-a"));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    assert!(header(&ok, "Contact").expect("Contact").contains(ALICE));
}

#[test]
fn sha256_is_offered_before_md5_each_in_a_header_of_its_own_and_both_are_taken_rfc8760_2_4() {
    let mut w = world();
    let asked = challenge(&mut w, ALICE, &reg());
    let offers: Vec<&str> = asked.lines().filter(|l| l.starts_with("WWW-Authenticate")).collect();
    assert_eq!(offers.len(), 2, "{asked}");
    assert!(offers[0].contains("algorithm=SHA-256") && offers[1].contains("algorithm=MD5"), "{asked}");
    assert!(offers.iter().all(|o| o.contains("qop=\"auth\"") && o.contains("realm=\"lab.test\"")), "{asked}");
    assert!(!stale(&asked));
    // A phone that knows MD5 only.
    let md5 = asked.replace("algorithm=SHA-256", "algorithm=UNKNOWN");
    w.send(ALICE, &answered(&reg(), &md5, "alice", "secret-a"));
    w.expect(ALICE, "SIP/2.0 200 ");
    let again = register("alice", ALICE, 9, &format!("<sip:alice@{ALICE}>"));
    let asked = challenge(&mut w, ALICE, &again);
    w.send(ALICE, &answered(&again, &asked, "alice", "secret-a"));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn an_old_phone_without_qop_is_accepted_rfc2069() {
    let mut w = world();
    let asked = challenge(&mut w, ALICE, &reg());
    let old = asked.replace("algorithm=SHA-256", "algorithm=UNKNOWN").replace("qop=\"auth\", ", "");
    let request = answered(&reg(), &old, "alice", "secret-a");
    assert!(!request.contains("nc="), "{request}");
    w.send(ALICE, &request);
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn an_algorithm_that_is_not_offered_is_not_taken() {
    let mut only_sha = asking();
    only_sha.auth.algorithms = vec![Algorithm::Sha256];
    let mut w = World::with(only_sha);
    w.settle();
    subscribe(&mut w.state, "alice", "lab.test", "lab.test", "secret-a");
    let asked = challenge(&mut w, ALICE, &reg());
    assert_eq!(asked.matches("WWW-Authenticate").count(), 1);
    let md5 = asked.replace("algorithm=SHA-256", "algorithm=MD5");
    assert!(!stale(&challenge(&mut w, ALICE, &answered(&reg(), &md5, "alice", "secret-a"))));
}

#[test]
fn an_unknown_user_and_a_wrong_password_cannot_be_told_apart() {
    let mut w = world();
    let unknown = reg().replace("alice", "nobody");
    let asked = [challenge(&mut w, ALICE, &reg()), challenge(&mut w, ALICE, &unknown)];
    let wrong = challenge(&mut w, ALICE, &answered(&reg(), &asked[0], "alice", "guess"));
    let nobody = challenge(&mut w, ALICE, &answered(&unknown, &asked[1], "nobody", "guess"));
    let shape = |answer: &str| {
        let lines = answer.lines().map(|l| l.split("nonce=\"").next().unwrap_or_default().to_owned());
        lines.filter(|l| l.starts_with("SIP") || l.starts_with("WWW")).collect::<Vec<_>>()
    };
    assert_eq!(shape(&wrong), shape(&nobody));
    assert_eq!(shape(&wrong), shape(&asked[0]));
    assert!(!stale(&wrong));
}

#[test]
fn a_call_of_a_user_of_ours_is_challenged_with_407_and_the_credentials_go_no_further_rfc3261_22_3() {
    let mut w = world();
    register_bob(&mut w);
    let call = invite(BOB_URI, ALICE, "c1");
    let asked = challenge(&mut w, ALICE, &call);
    assert!(asked.starts_with("SIP/2.0 407 Proxy Authentication Required"), "{asked}");
    assert_eq!(header(&asked, "WWW-Authenticate"), None);
    w.expect_nothing(BOB);
    let ack = call.replace("INVITE sip", "ACK sip").replace("1 INVITE", "1 ACK");
    let tagged = format!("To: {}", header(&asked, "To").expect("To"));
    w.send(ALICE, &ack.replace(&format!("To: <{BOB_URI}>"), &tagged));
    w.expect_nothing(ALICE);
    let theirs = "Proxy-Authorization: Digest username=\"alice\", realm=\"next.test\", nonce=\"n\", \
                  uri=\"sip:x\", response=\"r\"\r\n";
    let again = answered(&call, &asked, "alice", "secret-a").replace("Max-F", &format!("{theirs}Max-F"));
    w.send(ALICE, &again);
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    // Those for another proxy on the way pass.
    let left = header(&at_bob, "Proxy-Authorization").expect("theirs");
    assert!(left.contains("next.test") && !left.contains("lab.test"), "{left}");
}

#[test]
fn what_is_replicated_of_a_call_holds_no_credentials() {
    let mut w = world();
    register_bob(&mut w);
    let call = invite(BOB_URI, ALICE, "c1");
    let asked = challenge(&mut w, ALICE, &call);
    w.send(ALICE, &answered(&call, &asked, "alice", "secret-a"));
    let record = w.state.pending_invites().next().expect("pending");
    assert!(!String::from_utf8_lossy(&record.request).contains("Authorization"));
    w.fail_over(Duration::from_millis(300));
    let at_bob = w.take(BOB);
    assert!(at_bob.iter().all(|m| m.starts_with("INVITE ") && !m.contains("Authorization")), "{at_bob:?}");
    assert_eq!(at_bob.len(), 2);
}

#[test]
fn credentials_of_a_message_go_no_further_either() {
    let mut w = world();
    register_bob(&mut w);
    let text = request("MESSAGE", BOB_URI, ALICE, "m1", "");
    let asked = challenge(&mut w, ALICE, &text);
    w.send(ALICE, &answered(&text, &asked, "alice", "secret-a"));
    let at_bob = w.expect(BOB, "MESSAGE ");
    assert_eq!(header(&at_bob, "Proxy-Authorization"), None);
}

#[test]
fn cancel_and_ack_are_never_challenged_rfc3261_22_1() {
    let mut w = world();
    register_bob(&mut w);
    let call = invite(BOB_URI, ALICE, "c1");
    let asked = challenge(&mut w, ALICE, &call);
    let again = answered(&call, &asked, "alice", "secret-a");
    w.send(ALICE, &again);
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 180, "b", ""));
    w.expect(ALICE, "SIP/2.0 180 ");
    let hang_up = cancel(BOB_URI, ALICE, "c1").replace("CSeq: 1 ", "CSeq: 2 ").replace(";rport", "n2;rport");
    w.send(ALICE, &hang_up);
    w.expect(ALICE, "SIP/2.0 200 ");
    w.expect(BOB, "CANCEL ");
}

#[test]
fn requests_within_a_dialog_are_not_challenged_as_in_kamailio() {
    let mut w = world();
    register_bob(&mut w);
    let call = invite(BOB_URI, ALICE, "c1");
    let asked = challenge(&mut w, ALICE, &call);
    w.send(ALICE, &answered(&call, &asked, "alice", "secret-a"));
    w.take(ALICE);
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 200, "b", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    // A phone repeats the credentials of its INVITE; the other phone must not see them.
    let mine = "Proxy-Authorization: Digest username=\"alice\", realm=\"lab.test\", response=\"x\"\r\n";
    let theirs = mine.replace("lab.test", "next.test");
    for method in ["ACK", "BYE"] {
        let cseq = if method == "ACK" { 2 } else { 3 };
        let text = in_dialog_of_caller(method, cseq, &ok, ALICE);
        w.send(ALICE, &text.replace("Max-F", &format!("{mine}{theirs}Max-F")));
        let at_bob = w.expect(BOB, &format!("{method} "));
        let left = header(&at_bob, "Proxy-Authorization").expect("those for another proxy");
        assert!(left.contains("next.test") && !left.contains("lab.test"), "{left}");
    }
}

fn trunk(w: &mut World, uuid: &str, sources: &[&str]) {
    let account = Account {
        uuid: uuid.to_owned(),
        local_user: String::from("bob"),
        local_domain: String::from("lab.test"),
        remote_user: String::from("4930555"),
        remote_domain: String::from("carrier.test"),
        realm: String::from("carrier.test"),
        auth_user: String::from("4930555"),
        ha1: proxy_core::digest::ha1("4930555", "carrier.test", "x"),
        proxy: String::from("sip:10.77.0.220:5060"),
        expires_s: 0,
        contact_user: uuid.to_owned(),
        sources: sources.iter().map(|s| (*s).to_owned()).collect(),
        disabled: false,
        style: proxy_core::state::trunk_style::TrunkStyle::default(),
    };
    let put = TrunkCommand::Put { account: Box::new(account), call_id: format!("t-{uuid}"), at: w.now.wall };
    w.state.apply(&SipCommand::Trunk(put));
}

#[test]
fn a_trunk_known_by_its_address_is_not_asked_whatever_stands_in_from() {
    let mut w = world();
    register_bob(&mut w);
    trunk(&mut w, "carrier", &["10.99.0.9"]);
    // Providers write the caller's number at our address.
    let call = invite("sip:carrier@10.77.0.100", OTHER, "c1").replace("alice@lab.test", "+49301@10.77.0.100");
    w.send(OTHER, &call);
    w.expect(OTHER, "SIP/2.0 100 ");
    w.expect(BOB, "INVITE ");
    // But it cannot register as one of ours.
    challenge(&mut w, OTHER, &reg().replace(ALICE, OTHER));
}

#[test]
fn the_contact_user_of_a_trunk_opens_no_door_for_who_only_names_it() {
    let mut w = world();
    register_bob(&mut w);
    trunk(&mut w, "carrier", &[]);
    // Speaking for alice.
    challenge(&mut w, OTHER, &invite("sip:carrier@lab.test", OTHER, "c1"));
    // Through us to somebody else.
    let out = invite("sip:carrier@10.99.0.8", OTHER, "c2").replace("alice@lab.test", "x@far.test");
    w.send(OTHER, &out);
    assert_eq!(first_line(&mut w, OTHER), "403 Not relaying");
    // Nor is it the user behind it, whom a stranger may call by his own name.
    for (call, uri) in [("c3", "sip:carrier@10.77.0.100"), ("c4", "sip:carrier@lab.test")] {
        w.send(OTHER, &invite(uri, OTHER, call).replace("alice@lab.test", "x@far.test"));
        assert_eq!(first_line(&mut w, OTHER), "404 Not Found");
    }
    w.expect_nothing(BOB);
}

#[test]
fn who_speaks_for_somebody_else_is_forbidden() {
    let mut w = world();
    // Proven as bob, From is alice.
    let asked = challenge(&mut w, ALICE, &reg());
    w.send(ALICE, &answered(&reg(), &asked, "bob", "secret-b"));
    assert_eq!(first_line(&mut w, ALICE), "403 Forbidden auth ID");
    // Proven as alice, From is alice, but To is bob: a third party.
    let third = reg().replace("To: <sip:alice@", "To: <sip:bob@").replace("z9hG4bKr", "z9hG4bKthird");
    let asked = challenge(&mut w, ALICE, &third);
    w.send(ALICE, &answered(&third, &asked, "alice", "secret-a"));
    assert_eq!(first_line(&mut w, ALICE), "403 Forbidden auth ID");
    let call = invite(BOB_URI, ALICE, "c1");
    let asked = challenge(&mut w, ALICE, &call);
    w.send(ALICE, &answered(&call, &asked, "bob", "secret-b"));
    assert_eq!(first_line(&mut w, ALICE), "403 Forbidden auth ID");
    // PUBLISH is for the own Request-URI.
    let publish = request("PUBLISH", BOB_URI, ALICE, "p1", "");
    let asked = challenge(&mut w, ALICE, &publish);
    w.send(ALICE, &answered(&publish, &asked, "alice", "secret-a"));
    assert_eq!(first_line(&mut w, ALICE), "403 Forbidden auth ID");
}

#[test]
fn a_user_with_characters_that_a_uri_escapes_is_the_same_user() {
    let mut w = world();
    subscribe(&mut w.state, "a b@c", "lab.test", "lab.test", "pw");
    let text = register("a%20b%40c", ALICE, 1, &format!("<sip:x@{ALICE}>"));
    let asked = challenge(&mut w, ALICE, &text);
    w.send(ALICE, &answered(&text, &asked, "a b@c", "pw"));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn strangers_reach_our_users_but_are_not_relayed_to_others() {
    let mut w = world();
    register_bob(&mut w);
    let from_afar = |text: String| text.replace("sip:alice@lab.test", "sip:alice@far.test");
    w.send(OTHER, &from_afar(invite(BOB_URI, OTHER, "c1")));
    w.expect(OTHER, "SIP/2.0 100 ");
    w.expect(BOB, "INVITE ");
    w.send(OTHER, &from_afar(invite("sip:x@10.99.0.8", OTHER, "c2")));
    assert_eq!(first_line(&mut w, OTHER), "403 Not relaying");
}

#[test]
fn who_has_proven_himself_may_call_domains_of_others() {
    let mut w = world();
    let call = invite(&format!("sip:x@{OTHER}"), ALICE, "c1");
    let asked = challenge(&mut w, ALICE, &call);
    w.send(ALICE, &answered(&call, &asked, "alice", "secret-a"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let out = w.expect(OTHER, "INVITE ");
    assert_eq!(header(&out, "Proxy-Authorization"), None);
}

#[test]
fn a_source_of_the_trusted_group_is_not_asked_but_for_register() {
    let mut w = world();
    register_bob(&mut w);
    allow(&mut w.state, 1, "10.77.0.201", 32, 0);
    allow(&mut w.state, 2, "10.99.0.0", 16, 0);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    w.expect(BOB, "INVITE ");
    w.send(ALICE, &invite(&format!("sip:x@{OTHER}"), ALICE, "c2"));
    w.expect(ALICE, "SIP/2.0 100 ");
    w.expect(OTHER, "INVITE ");
    challenge(&mut w, ALICE, &reg());
    // Another group is no trust.
    let call = invite(BOB_URI, OTHER, "c3");
    challenge(&mut w, OTHER, &call);
}

#[test]
fn a_port_in_the_access_list_counts() {
    let mut w = world();
    register_bob(&mut w);
    allow(&mut w.state, 1, "10.77.0.201", 32, 5061);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    challenge(&mut w, "10.77.0.201:5099", &invite(BOB_URI, "10.77.0.201:5099", "c2"));
}

#[test]
fn a_rule_asks_for_a_password_where_nobody_else_is_asked_and_the_credentials_go_no_further() {
    let rule = Rule {
        name: String::from("out"),
        matching: Match { users: vec![Pattern::glob("9*").expect("a pattern")], ..Match::default() },
        strip: 1,
        prefix: String::new(),
        require_auth: true,
        action: Action::Location,
        voicemail: None,
        ring: None,
        media: None,
    };
    let routing = RoutingConfig { rules: vec![rule], ..RoutingConfig::default() };
    let mut w = World::with(EngineConfig { routing, ..config() });
    subscribe(&mut w.state, "alice", "lab.test", "lab.test", "secret-a");
    w.settle();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    w.expect(BOB, "INVITE ");
    let call = invite("sip:9bob@lab.test", ALICE, "c2");
    let asked = challenge(&mut w, ALICE, &call);
    w.send(ALICE, &answered(&call, &asked, "alice", "secret-a"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    assert_eq!(header(&at_bob, "Proxy-Authorization"), None);
    w.send(ALICE, &invite("sip:9bob@lab.test", ALICE, "c3").replace("alice@lab.test", "a@far.test"));
    assert_eq!(first_line(&mut w, ALICE), "403 Not allowed");
}

#[test]
fn broken_credentials_are_no_credentials_and_break_nothing() {
    let mut w = world();
    for value in [
        "Digest",
        "Digest username=\"alice\"",
        "Digest username=\"alice\", realm=\"lab.test\", nonce=\"\", uri=\"\", response=\"\"",
        "Digest username=\"alice, realm=\"lab.test\"",
        "Basic YWxpY2U6c2VjcmV0",
        "Bearer x",
        "Digest username=\"\", realm=\"lab.test\", nonce=\"0\", uri=\"x\", response=\"0\", qop=auth, nc=00000001, cnonce=\"\"",
    ] {
        let text = reg().replace("Max-F", &format!("Authorization: {value}\r\nMax-F"));
        assert!(!stale(&challenge(&mut w, ALICE, &text)), "{value}");
    }
    // Many at once: the right ones are found among them.
    let asked = challenge(&mut w, ALICE, &reg());
    let noise = "Authorization: Digest username=\"alice\", realm=\"lab.test\", nonce=\"x\", uri=\"x\", response=\"x\"\r\n";
    let text =
        answered(&reg(), &asked, "alice", "secret-a").replace("Max-F", &format!("{}Max-F", noise.repeat(5)));
    w.send(ALICE, &text);
    w.expect(ALICE, "SIP/2.0 200 ");
}
