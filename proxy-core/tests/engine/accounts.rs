//! Domains, subscribers and aliases, changed while the proxy runs.

use crate::common::auth::*;
use crate::common::story::*;
use proxy_core::auth::AuthConfig;
use proxy_core::io::EngineConfig;
use proxy_core::state::{Domain, ProvisionCommand};

#[test]
fn each_domain_has_its_realm() {
    let mut w = world();
    let own = Domain { name: String::from("two.test"), realm: Some(String::from("Two & Co")) };
    provision(&mut w.state, ProvisionCommand::DomainAdd(own));
    let plain = Domain { name: String::from("three.test"), realm: None };
    provision(&mut w.state, ProvisionCommand::DomainAdd(plain));
    subscribe(&mut w.state, "alice", "two.test", "Two & Co", "pw2");
    for (domain, realm) in [("two.test", "Two & Co"), ("three.test", "three.test")] {
        let text = reg().replace("lab.test", domain);
        let asked = challenge(&mut w, ALICE, &text);
        assert!(asked.contains(&format!("realm=\"{realm}\"")), "{asked}");
    }
    let text = reg().replace("lab.test", "two.test");
    let asked = challenge(&mut w, ALICE, &text);
    // The password of the other domain is for another realm.
    challenge(&mut w, ALICE, &answered(&text, &asked, "alice", "secret-a"));
    w.send(ALICE, &answered(&text, &asked, "alice", "pw2"));
    w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(w.state.bindings("sip:alice@two.test").len(), 1);
    assert!(w.state.bindings("sip:alice@lab.test").is_empty());
}

#[test]
fn one_realm_for_all_can_be_configured() {
    let mut w = World::with(EngineConfig {
        auth: AuthConfig { realm: Some(String::from("example")), ..asking().auth },
        ..asking()
    });
    w.settle();
    subscribe(&mut w.state, "alice", "lab.test", "example", "pw");
    let asked = challenge(&mut w, ALICE, &reg());
    assert!(asked.contains("realm=\"example\""));
    w.send(ALICE, &answered(&reg(), &asked, "alice", "pw"));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn an_address_of_the_proxy_in_place_of_the_domain_is_the_same_account() {
    let mut w = world();
    let text = reg().replace("lab.test", "10.77.0.100");
    let asked = challenge(&mut w, ALICE, &text);
    assert!(asked.contains("realm=\"lab.test\""), "{asked}");
    w.send(ALICE, &answered(&text, &asked, "alice", "secret-a"));
    w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(w.state.bindings("sip:alice@lab.test").len(), 1);
}

#[test]
fn a_password_is_changed_and_a_subscriber_removed_while_the_proxy_runs() {
    let mut w = world();
    let asked = challenge(&mut w, ALICE, &reg());
    let aor = String::from("sip:alice@lab.test");
    let realm = String::from("lab.test");
    let ha1 = proxy_core::digest::ha1("alice", "lab.test", "new");
    provision(&mut w.state, ProvisionCommand::SubscriberPassword { aor: aor.clone(), realm, ha1 });
    assert!(!stale(&challenge(&mut w, ALICE, &answered(&reg(), &asked, "alice", "secret-a"))));
    w.send(ALICE, &answered(&reg(), &asked, "alice", "new"));
    w.expect(ALICE, "SIP/2.0 200 ");
    provision(&mut w.state, ProvisionCommand::SubscriberRemove { aor });
    assert!(w.state.bindings("sip:alice@lab.test").is_empty());
    challenge(&mut w, ALICE, &answered_with(&reg(), &asked, "alice", "new", 2));
}

#[test]
fn a_domain_becomes_local_and_foreign_again_while_the_proxy_runs() {
    let mut w = World::new();
    let text = reg().replace("lab.test", "new.test");
    w.send(ALICE, &text);
    assert_eq!(first_line(&mut w, ALICE), "403 Not relaying");
    let name = String::from("new.test");
    provision(&mut w.state, ProvisionCommand::DomainAdd(Domain { name: name.clone(), realm: None }));
    w.send(ALICE, &text);
    w.expect(ALICE, "SIP/2.0 200 ");
    w.send(BOB, &invite("sip:alice@NEW.test.", BOB, "c0"));
    w.expect(BOB, "SIP/2.0 100 ");
    w.take(ALICE);
    provision(&mut w.state, ProvisionCommand::DomainRemove { name });
    w.send(BOB, &invite("sip:alice@new.test", BOB, "c1"));
    assert_eq!(first_line(&mut w, BOB), "403 Not relaying");
}

#[test]
fn where_nobody_named_a_domain_the_first_one_makes_the_others_foreign() {
    let mut w = World::with(EngineConfig { domains: Vec::new(), any_domain: true, ..config() });
    w.send(ALICE, &reg());
    w.expect(ALICE, "SIP/2.0 200 ");
    let domain = Domain { name: String::from("new.test"), realm: None };
    provision(&mut w.state, ProvisionCommand::DomainAdd(domain));
    w.send(ALICE, &reg().replace("CSeq: 1 ", "CSeq: 2 ").replace(";rport", "x;rport"));
    assert_eq!(first_line(&mut w, ALICE), "403 Not relaying");
}

#[test]
fn an_alias_is_called_as_whom_it_stands_for() {
    let mut w = World::new();
    w.register("bob", BOB);
    let alias = ProvisionCommand::AliasAdd {
        alias: String::from("sip:100@lab.test"),
        target: String::from("sip:bob@lab.test"),
    };
    provision(&mut w.state, alias);
    let second = ProvisionCommand::AliasAdd {
        alias: String::from("sip:200@lab.test"),
        target: String::from("sip:100@lab.test"),
    };
    provision(&mut w.state, second);
    w.send(ALICE, &invite("sip:100@lab.test", ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    w.expect(BOB, "INVITE sip:bob@10.77.0.202:5062 ");
    // The proxy's address is another name of its domain.
    w.send(ALICE, &invite("sip:100@10.77.0.100", ALICE, "c2"));
    w.expect(ALICE, "SIP/2.0 100 ");
    w.expect(BOB, "INVITE ");
    // One step, as in Kamailio.
    w.send(ALICE, &invite("sip:200@lab.test", ALICE, "c3"));
    w.expect(ALICE, "SIP/2.0 404 ");
}

#[test]
fn an_alias_of_somebody_elsewhere_is_relayed_only_for_who_may() {
    let mut w = world();
    let alias = ProvisionCommand::AliasAdd {
        alias: String::from("sip:out@lab.test"),
        target: String::from("sip:x@10.99.0.9"),
    };
    provision(&mut w.state, alias);
    let stranger = invite("sip:out@lab.test", BOB, "c1").replace("alice@lab.test", "a@far.test");
    w.send(BOB, &stranger);
    assert_eq!(first_line(&mut w, BOB), "403 Not relaying");
    let call = invite("sip:out@lab.test", ALICE, "c2");
    let asked = challenge(&mut w, ALICE, &call);
    w.send(ALICE, &answered(&call, &asked, "alice", "secret-a"));
    w.expect(ALICE, "SIP/2.0 100 ");
    w.expect(OTHER, "INVITE sip:x@10.99.0.9 ");
}

#[test]
fn an_address_that_is_named_as_a_domain_is_ours_though_this_machine_does_not_have_it() {
    // That of the NAT in front of the proxy: what phones have configured, Kamailio's `alias="203.0.113.7"`.
    let domains = ["lab.test", "203.0.113.7", "[2001:db8::7]"].map(String::from).to_vec();
    let mut w = World::with(EngineConfig { domains, ..config() });
    for (cseq, host, port) in [(1, "203.0.113.7", ""), (2, "[2001:db8::7]", ":5060")] {
        let text = register("alice", ALICE, cseq, &format!("<sip:alice@{ALICE}>"));
        let text = text.replace("lab.test", &format!("{host}{port}"));
        w.send(ALICE, &text);
        w.expect(ALICE, "SIP/2.0 200 ");
        // Another name of the first domain, as the addresses that it has.
        assert_eq!(w.state.bindings("sip:alice@lab.test").len(), 1, "{host}");
        w.send(BOB, &request("MESSAGE", &format!("sip:alice@{host}{port}"), BOB, host, ""));
        w.expect(ALICE, "MESSAGE ");
    }
    // Another port is another server, and another address is somebody else's.
    for uri in ["sip:alice@203.0.113.7:5080", "sip:alice@203.0.113.8"] {
        w.send(BOB, &request("MESSAGE", uri, BOB, uri, ""));
        w.expect(BOB, "SIP/2.0 403 ");
    }
}
