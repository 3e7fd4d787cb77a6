//! Random commands about what is provisioned, who watches whom, and messages that are kept. Few names, so that they meet.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proxy_core::digest::ha1;
use proxy_core::state::message_store::{MessageCommand, StoredMessage, Tries};
use proxy_core::state::subscriptions::{CallPhase, Shown, Subscription, SubscriptionCommand};
use proxy_core::state::{
    AclKey, DialogId, Domain, NonceSecret, ProvisionCommand, SipCommand, SipState, Subscriber,
};
use proxy_core::time::WallTime;

use crate::common::state::flow;

const USERS: [&str; 2] = ["x", "y"];
const DOMAINS: [&str; 2] = ["lab.test", "a.test"];
const ALIASES: [&str; 2] = ["sip:100@lab.test", "sip:x@lab.test"];

fn aor() -> impl Strategy<Value = String> {
    prop_oneof![Just("sip:x@lab.test"), Just("sip:y@lab.test")].prop_map(str::to_owned)
}

fn acl_key() -> impl Strategy<Value = AclKey> {
    let net = prop_oneof![Just(("10.0.0.0", 8)), Just(("10.1.0.0", 16)), Just(("10.0.0.1", 8))];
    (0u32..2, net).prop_map(|(group, (net, prefix))| AclKey {
        group,
        address: net.parse().expect("an address"),
        prefix,
        port: 0,
    })
}

/// Subscribers, domains, aliases, sources, keys of nonces.
pub fn provision() -> impl Strategy<Value = ProvisionCommand> {
    let user = (0..USERS.len()).prop_map(|n| USERS[n]);
    let domain = (0..DOMAINS.len()).prop_map(|n| DOMAINS[n].to_owned());
    let alias = (0..ALIASES.len()).prop_map(|n| ALIASES[n].to_owned());
    let tag = option::of(Just(String::from("pbx")));
    prop_oneof![
        3 => (user, any::<bool>()).prop_map(|(user, right)| ProvisionCommand::SubscriberAdd {
            aor: format!("sip:{user}@{}", if right { "lab.test" } else { "A.test" }),
            subscriber: Subscriber {
                username: user.to_owned(),
                domain: String::from("lab.test"),
                realm: String::from("lab.test"),
                ha1: ha1(user, "lab.test", "pw"),
            },
        }),
        1 => (aor(), any::<bool>()).prop_map(|(aor, other)| ProvisionCommand::SubscriberPassword {
            aor,
            realm: String::from("r"),
            ha1: ha1("x", "r", if other { "a" } else { "b" }),
        }),
        1 => aor().prop_map(|aor| ProvisionCommand::SubscriberRemove { aor }),
        2 => (domain.clone(), option::of(Just(String::from("r"))))
            .prop_map(|(name, realm)| ProvisionCommand::DomainAdd(Domain { name, realm })),
        1 => domain.prop_map(|name| ProvisionCommand::DomainRemove { name }),
        2 => (alias.clone(), aor()).prop_map(|(alias, target)| ProvisionCommand::AliasAdd { alias, target }),
        1 => alias.prop_map(|alias| ProvisionCommand::AliasRemove { alias }),
        2 => (acl_key(), tag).prop_map(|(key, tag)| ProvisionCommand::AclAdd { key, tag }),
        1 => acl_key().prop_map(|key| ProvisionCommand::AclRemove { key }),
        1 => (option::of(0u32..3), 0u64..400).prop_map(|(replaces, at)| ProvisionCommand::NonceKey {
            replaces,
            secret: NonceSecret::new([u8::try_from(at % 7).unwrap_or(0); 32]),
            at: WallTime(1_700_000_000_000 + at * 1000),
        }),
    ]
}

/// Who watches whose calls.
pub fn subscription(
    moment: impl Strategy<Value = WallTime> + Clone,
) -> impl Strategy<Value = SubscriptionCommand> {
    let id = (0u8..3).prop_map(|n| DialogId {
        call_id: format!("watch-{n}"),
        from_tag: String::from("w"),
        to_tag: String::from("p"),
    });
    let phase = prop_oneof![Just(CallPhase::Trying), Just(CallPhase::Confirmed)];
    let shown = vec(
        (0u64..3, phase, any::<bool>()).prop_map(|(name, phase, outgoing)| Shown { name, phase, outgoing }),
        0..3,
    );
    prop_oneof![
        3 => (id.clone(), aor(), 0u32..4, moment).prop_map(|(id, watched, remote_cseq, expires_at)| {
            SubscriptionCommand::Subscribe(Box::new(Subscription {
                id,
                entity: watched.clone(),
                watched,
                event_id: None,
                remote_uri: String::from("sip:w@lab.test"),
                local_uri: String::from("sip:x@lab.test"),
                contact: String::from("sip:w@10.0.0.3"),
                routes: Vec::new(),
                flow: flow(3),
                by_flow: false,
                remote_cseq,
                expires_at,
                notify_cseq: 0,
                shown: Vec::new(),
            }))
        }),
        3 => (id.clone(), 0u32..4, shown)
            .prop_map(|(id, cseq, shown)| SubscriptionCommand::Notifying { id, cseq, shown }),
        1 => id.prop_map(|id| SubscriptionCommand::Remove { id }),
    ]
}

/// Messages for users without a phone.
pub fn message(moment: impl Strategy<Value = WallTime> + Clone) -> impl Strategy<Value = MessageCommand> {
    let number = 0u64..5;
    let registration = "r[1-3]";
    prop_oneof![
        4 => (aor(), 0u8..4, moment.clone(), 0u32..3, 0u64..4).prop_map(
            |(aor, n, expires_at, max_per_user, max_total)| MessageCommand::Keep {
                aor,
                message: Box::new(StoredMessage {
                    receipt: u64::from(n),
                    receipt_ends: expires_at,
                    from: String::from("<sip:w@lab.test>"),
                    to: String::from("sip:x@lab.test"),
                    headers: Vec::new(),
                    content_type: None,
                    body: vec![n; usize::from(n)],
                    received_at: WallTime(1_700_000_000_000),
                    expires_at,
                    cseq: 1,
                    tries: BTreeMap::new(),
                }),
                max_per_user,
                max_total,
            }
        ),
        3 => (aor(), number.clone(), 1u32..4, option::of(moment), registration).prop_map(
            |(aor, number, cseq, next_at, registration)| {
                let failures = u16::try_from(cseq).unwrap_or(0);
                MessageCommand::Failed { aor, number, registration, tries: Tries { failures, cseq, next_at } }
            }
        ),
        1 => (aor(), number.clone(), vec(registration, 0..3)).prop_map(|(aor, number, registrations)| {
            MessageCommand::Forget { aor, number, registrations }
        }),
        2 => (aor(), number).prop_map(|(aor, number)| MessageCommand::Remove { aor, number }),
    ]
}

/// Takes out all that [`provision`] may have put in, but the keys of nonces, which stay.
pub fn take_out(state: &mut SipState) {
    let of_users =
        USERS.iter().map(|u| ProvisionCommand::SubscriberRemove { aor: format!("sip:{u}@lab.test") });
    let of_domains = DOMAINS.iter().map(|d| ProvisionCommand::DomainRemove { name: (*d).to_owned() });
    let of_aliases = ALIASES.iter().map(|a| ProvisionCommand::AliasRemove { alias: (*a).to_owned() });
    let keys: Vec<AclKey> = state.provision().acl().map(|(key, _)| *key).collect();
    let of_sources = keys.into_iter().map(|key| ProvisionCommand::AclRemove { key });
    for command in of_aliases.chain(of_users).chain(of_domains).chain(of_sources).collect::<Vec<_>>() {
        state.apply(&SipCommand::Provision(command));
    }
}
