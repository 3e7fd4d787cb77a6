//! Subscribers, domains, aliases and access lists in the replicated state.

use std::net::IpAddr;

use proptest::prelude::*;
use proxy_core::digest::ha1;
use proxy_core::location::aor_of;
use proxy_core::state::limits::{MAX_ACL, MAX_DOMAINS, MAX_PROVISION_TEXT};
use proxy_core::state::{
    AclKey, Domain, Ha1, NonceSecret, ProvisionAnswer, ProvisionCommand, SipCommand, SipResponse, SipState,
    Subscriber,
};
use proxy_core::time::WallTime;
use proxy_core::wire::Memory;

use ProvisionAnswer::{Done, Exists, Full, IsAlias, IsSubscriber, Malformed, NotFound, Superseded};

fn apply(state: &mut SipState, command: ProvisionCommand) -> ProvisionAnswer {
    let before = state.clone();
    let SipResponse::Provisioned(answer) = state.apply(&SipCommand::Provision(command)) else {
        panic!("another kind of answer");
    };
    assert!(state.index_is_right());
    assert_eq!(answer == Done, *state != before, "{answer:?}");
    answer
}

fn subscriber(username: &str, domain: &str) -> Subscriber {
    Subscriber {
        username: username.into(),
        domain: domain.into(),
        realm: domain.into(),
        ha1: ha1(username, domain, "pw"),
    }
}

fn add(username: &str, domain: &str) -> ProvisionCommand {
    let aor = aor_of(username, domain).expect("a name");
    ProvisionCommand::SubscriberAdd { aor, subscriber: subscriber(username, domain) }
}

fn alias(alias: &str, target: &str) -> ProvisionCommand {
    ProvisionCommand::AliasAdd { alias: alias.into(), target: target.into() }
}

fn domain(name: &str) -> ProvisionCommand {
    ProvisionCommand::DomainAdd(Domain { name: name.into(), realm: None })
}

fn source(group: u32, net: &str, prefix: u8, port: u16) -> AclKey {
    AclKey { group, address: net.parse().expect("an address"), prefix, port }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn a_subscriber_is_added_once_changed_and_removed_with_aliases_and_contacts() {
    let mut s = SipState::default();
    let aor = || String::from("sip:alice@a.test");
    assert_eq!(apply(&mut s, add("alice", "a.test")), Done);
    assert_eq!(apply(&mut s, add("alice", "a.test")), Exists);
    assert_eq!(apply(&mut s, add("alice", "b.test")), Done);
    assert_eq!(apply(&mut s, alias("sip:100@a.test", "sip:alice@a.test")), Done);
    assert_eq!(apply(&mut s, alias("sip:101@a.test", "sip:alice@a.test")), Done);
    assert_eq!(apply(&mut s, alias("sip:102@a.test", "sip:alice@b.test")), Done);
    let new = ha1("alice", "r", "other");
    let passwd = ProvisionCommand::SubscriberPassword { aor: aor(), realm: "r".into(), ha1: new };
    assert_eq!(apply(&mut s, passwd), Done);
    let found = s.provision().subscriber("sip:alice@a.test").expect("there");
    assert_eq!((found.realm.as_str(), found.ha1, found.username.as_str()), ("r", new, "alice"));
    assert_eq!(apply(&mut s, ProvisionCommand::SubscriberRemove { aor: aor() }), Done);
    assert_eq!(apply(&mut s, ProvisionCommand::SubscriberRemove { aor: aor() }), NotFound);
    let left: Vec<(&str, &str)> = s.provision().aliases().collect();
    assert_eq!(left, [("sip:102@a.test", "sip:alice@b.test")]);
    assert_eq!(s.counts().subscribers, 1);
    let passwd = ProvisionCommand::SubscriberPassword { aor: aor(), realm: "r".into(), ha1: new };
    assert_eq!(apply(&mut s, passwd), NotFound);
}

#[test]
fn a_name_is_a_subscriber_or_an_alias_but_not_both() {
    let mut s = SipState::default();
    assert_eq!(apply(&mut s, add("alice", "a.test")), Done);
    assert_eq!(apply(&mut s, alias("sip:alice@a.test", "sip:bob@a.test")), IsSubscriber);
    assert_eq!(apply(&mut s, alias("sip:100@a.test", "sip:bob@a.test")), Done);
    assert_eq!(apply(&mut s, alias("sip:100@a.test", "sip:carol@a.test")), Exists);
    assert_eq!(apply(&mut s, add("100", "a.test")), IsAlias);
    assert_eq!(apply(&mut s, alias("sip:x@a.test", "sip:x@a.test")), Malformed);
}

#[test]
fn what_is_malformed_is_not_taken() {
    let mut s = SipState::default();
    let long = "x".repeat(MAX_PROVISION_TEXT);
    assert_eq!(apply(&mut s, add(&long, "a.test")), Malformed);
    let with = |change: fn(&mut Subscriber)| {
        let mut subscriber = subscriber("alice", "a.test");
        change(&mut subscriber);
        ProvisionCommand::SubscriberAdd { aor: "sip:alice@a.test".into(), subscriber }
    };
    assert_eq!(apply(&mut s, with(|s| s.ha1 = Ha1::default())), Malformed);
    assert_eq!(apply(&mut s, with(|s| s.domain = "b.test".into())), Malformed);
    assert_eq!(apply(&mut s, with(|s| s.realm = "a\r\nb".into())), Malformed);
    assert_eq!(apply(&mut s, with(|s| s.username = String::new())), Malformed);
    for aor in ["alice@a.test", "sip:a.test", "sip:@a.test", "sip:alice@"] {
        let subscriber = subscriber("alice", "a.test");
        assert_eq!(
            apply(&mut s, ProvisionCommand::SubscriberAdd { aor: aor.into(), subscriber }),
            Malformed,
            "{aor}"
        );
    }
    for name in [String::new(), "a\0b".into(), "x".repeat(MAX_PROVISION_TEXT + 1)] {
        assert_eq!(apply(&mut s, ProvisionCommand::DomainAdd(Domain { name, realm: None })), Malformed);
    }
    assert_eq!(apply(&mut s, alias("100", "sip:b@a.test")), Malformed);
    assert_eq!(
        apply(&mut s, ProvisionCommand::AclAdd { key: source(1, "10.0.0.1", 33, 0), tag: None }),
        Malformed
    );
    assert_eq!(s, SipState::default());
}

#[test]
fn domains_are_counted_and_each_change_is_seen() {
    let mut s = SipState::default();
    let mut seen = s.provision().domains_revision();
    for (command, answer) in [
        (domain("a.test"), Done),
        (domain("a.test"), Exists),
        (domain("b.test"), Done),
        (ProvisionCommand::DomainRemove { name: "a.test".into() }, Done),
        (ProvisionCommand::DomainRemove { name: "a.test".into() }, NotFound),
    ] {
        assert_eq!(apply(&mut s, command), answer);
        assert_eq!(s.provision().domains_revision() != seen, answer == Done);
        seen = s.provision().domains_revision();
    }
    assert_eq!(s.provision().domains().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["b.test"]);
    assert_eq!(s.counts().domains, 1);
}

#[test]
fn the_longest_prefix_and_the_own_port_of_a_group_decide() {
    let mut s = SipState::default();
    for (key, tag) in [
        (source(1, "10.0.0.0", 8, 0), "wide"),
        (source(1, "10.1.2.3", 16, 0), "middle"),
        (source(1, "10.1.2.3", 32, 5060), "port"),
        (source(2, "0.0.0.0", 0, 0), "all4"),
        (source(2, "fd00::1", 8, 0), "v6"),
        (source(3, "::ffff:192.0.2.1", 32, 0), "mapped"),
    ] {
        assert_eq!(apply(&mut s, ProvisionCommand::AclAdd { key, tag: Some(tag.into()) }), Done);
        assert_eq!(apply(&mut s, ProvisionCommand::AclAdd { key, tag: None }), Exists);
    }
    let tag = |group, address: &str, port| {
        s.acl_match(group, ip(address), port).and_then(|(_, tag)| tag.map(str::to_owned)).unwrap_or_default()
    };
    assert_eq!(tag(1, "10.9.9.9", 1), "wide");
    assert_eq!(tag(1, "10.1.9.9", 1), "middle");
    assert_eq!(tag(1, "10.1.2.3", 5060), "port");
    assert_eq!(tag(1, "10.1.2.3", 5061), "middle");
    assert_eq!(tag(1, "11.0.0.1", 5060), "");
    assert_eq!(tag(1, "fd00::2", 1), "");
    assert_eq!(tag(2, "203.0.113.1", 1), "all4");
    assert_eq!(tag(2, "fdff::2", 1), "v6");
    assert_eq!(tag(2, "fe80::2", 1), "");
    assert_eq!(tag(2, "::ffff:203.0.113.1", 1), "all4");
    assert_eq!(tag(3, "192.0.2.1", 1), "mapped");
    assert_eq!(tag(4, "10.1.2.3", 1), "");
    // Whichever host of the network is named.
    assert_eq!(apply(&mut s, ProvisionCommand::AclRemove { key: source(1, "10.1.77.77", 16, 0) }), Done);
    assert_eq!(apply(&mut s, ProvisionCommand::AclRemove { key: source(1, "10.1.77.77", 16, 0) }), NotFound);
    assert_eq!(s.acl_match(1, ip("10.1.9.9"), 1).and_then(|(_, t)| t), Some("wide"));
}

#[test]
fn of_two_new_keys_for_one_old_one_the_first_wins() {
    let mut s = SipState::default();
    let key = |replaces, byte| ProvisionCommand::NonceKey {
        replaces,
        secret: NonceSecret::new([byte; 32]),
        at: WallTime(u64::from(byte)),
    };
    assert_eq!(apply(&mut s, key(Some(1), 9)), Superseded);
    assert_eq!(apply(&mut s, key(None, 1)), Done);
    assert_eq!(apply(&mut s, key(None, 2)), Superseded);
    assert_eq!(apply(&mut s, key(Some(1), 3)), Done);
    assert_eq!(apply(&mut s, key(Some(1), 4)), Superseded);
    let secret = |id| s.provision().nonce_key_of(id).map(|k| k.secret);
    assert_eq!((secret(1), secret(2)), (Some(NonceSecret::new([1; 32])), Some(NonceSecret::new([3; 32]))));
    assert_eq!(secret(3), None);
    assert_eq!(s.provision().nonce_key().map(|k| k.id), Some(2));
}

#[test]
fn domains_and_access_lists_are_bounded() {
    let mut s = SipState::default();
    for n in 0..MAX_DOMAINS {
        s.apply(&SipCommand::Provision(domain(&format!("d{n}.test"))));
    }
    assert_eq!(apply(&mut s, domain("one-more.test")), Full);
    let mut s = SipState::default();
    for n in 0..u32::try_from(MAX_ACL).expect("fits") {
        let key = AclKey { group: 1, address: IpAddr::V4(n.into()), prefix: 32, port: 0 };
        s.apply(&SipCommand::Provision(ProvisionCommand::AclAdd { key, tag: None }));
    }
    assert_eq!(apply(&mut s, ProvisionCommand::AclAdd { key: source(1, "10.0.0.0", 8, 0), tag: None }), Full);
    assert_eq!(apply(&mut s, ProvisionCommand::AclRemove { key: source(1, "0.0.0.1", 32, 0) }), Done);
    assert_eq!(apply(&mut s, ProvisionCommand::AclAdd { key: source(1, "10.0.0.0", 8, 0), tag: None }), Done);
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let mut s = SipState::default();
    apply(&mut s, add("alice", "a.test"));
    let command =
        ProvisionCommand::NonceKey { replaces: None, secret: NonceSecret::new([171; 32]), at: WallTime(1) };
    let text = format!("{command:?}");
    apply(&mut s, command);
    let all = format!("{text}{s:?}{:?}", add("alice", "a.test"));
    assert!(!all.contains("171, 171"), "{all}");
    let md5 = ha1("alice", "a.test", "pw").md5.expect("md5");
    assert!(!all.contains(&format!("{}, {}, {}", md5[0], md5[1], md5[2])), "{all}");
}

fn any_command() -> impl Strategy<Value = ProvisionCommand> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let domain_name = prop::sample::select(vec!["x.test", "y.test"]);
    let aor = (name, domain_name).prop_map(|(n, d)| (n, d, format!("sip:{n}@{d}")));
    let key = (1u32..3, 0u8..=32, 0u16..2).prop_map(|(group, prefix, port)| AclKey {
        group,
        address: ip("10.1.2.3"),
        prefix,
        port,
    });
    prop_oneof![
        aor.clone().prop_map(|(n, d, _)| add(n, d)),
        aor.clone().prop_map(|(n, d, aor)| ProvisionCommand::SubscriberPassword {
            aor,
            realm: "r".into(),
            ha1: ha1(n, d, "new"),
        }),
        aor.clone().prop_map(|(_, _, aor)| ProvisionCommand::SubscriberRemove { aor }),
        (aor.clone(), aor.clone()).prop_map(|(a, b)| alias(&a.2, &b.2)),
        aor.clone().prop_map(|(_, _, alias)| ProvisionCommand::AliasRemove { alias }),
        aor.clone().prop_map(|(_, d, _)| domain(d)),
        aor.prop_map(|(_, d, _)| ProvisionCommand::DomainRemove { name: d.into() }),
        key.clone().prop_map(|key| ProvisionCommand::AclAdd { key, tag: Some("t".into()) }),
        key.prop_map(|key| ProvisionCommand::AclRemove { key }),
        (prop::option::of(1u32..4), any::<u8>()).prop_map(|(replaces, b)| ProvisionCommand::NonceKey {
            replaces,
            secret: NonceSecret::new([b; 32]),
            at: WallTime(u64::from(b)),
        }),
    ]
}

proptest! {
    #[test]
    fn any_history_keeps_the_index_right_and_gives_the_same_bytes_again(
        history in prop::collection::vec(any_command(), 0..60)
    ) {
        let mut one = SipState::default();
        let mut two = SipState::default();
        for (n, command) in history.iter().enumerate() {
            let command = SipCommand::Provision(command.clone());
            let answer = one.apply(&command);
            prop_assert_eq!(&two.apply(&command), &answer);
            prop_assert!(one.index_is_right(), "after {} {:?}", n, command);
            // Who does not know whether it went through may say it again.
            let mut again = one.clone();
            again.apply(&command);
            prop_assert_eq!(&again, &one);
        }
        let bytes = minicbor::to_vec_with(&one, &mut Memory::endless()).expect("encodes");
        prop_assert_eq!(&bytes, &minicbor::to_vec_with(&two, &mut Memory::endless()).expect("encodes"));
        let back: SipState = minicbor::decode_with(&bytes, &mut Memory::bytes(1 << 26)).expect("decodes");
        prop_assert_eq!(back.bytes(), one.bytes());
        prop_assert_eq!(back, one);
    }
}
