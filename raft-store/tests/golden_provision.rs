//! Subscribers, domains, aliases, access lists and keys of nonces keep their bytes. `RELEVO_GOLDEN=write` regenerates the
//! file.

#[path = "common/golden.rs"]
mod common;

use std::net::IpAddr;

use common::golden;
use proxy_core::state::{
    AclKey, Domain, Ha1, NonceSecret, ProvisionAnswer, ProvisionCommand, SipCommand, SipResponse, Subscriber,
};
use proxy_core::time::WallTime;
use raft_store::codec::Kind;
use raft_store::command::{Batch, Command, Response, Responses};
use raft_store::state::ClusterState;

fn ha1(byte: u8) -> Ha1 {
    Ha1 { md5: Some([byte; 16]), sha256: Some([byte; 32]) }
}

fn key(port: u16) -> AclKey {
    AclKey { group: 1, address: IpAddr::from([10, 0, 0, 0]), prefix: 8, port }
}

fn alice() -> String {
    String::from("sip:alice@lab.test")
}

/// Every variant, in the order of the enum; something of each kind is left in the state.
fn commands() -> Vec<ProvisionCommand> {
    let subscriber = |name: &str| Subscriber {
        username: name.into(),
        domain: "lab.test".into(),
        realm: "lab.test".into(),
        ha1: ha1(1),
    };
    vec![
        ProvisionCommand::SubscriberAdd { aor: alice(), subscriber: subscriber("alice") },
        ProvisionCommand::SubscriberPassword {
            aor: alice(),
            realm: "r".into(),
            ha1: Ha1 { sha256: None, ..ha1(2) },
        },
        ProvisionCommand::SubscriberRemove { aor: "sip:bob@lab.test".into() },
        ProvisionCommand::DomainAdd(Domain { name: "two.test".into(), realm: Some("Two".into()) }),
        ProvisionCommand::DomainRemove { name: "three.test".into() },
        ProvisionCommand::AliasAdd { alias: "sip:100@lab.test".into(), target: alice() },
        ProvisionCommand::AliasRemove { alias: "sip:101@lab.test".into() },
        ProvisionCommand::AclAdd { key: key(5060), tag: Some("office".into()) },
        ProvisionCommand::AclRemove { key: key(0) },
        ProvisionCommand::NonceKey { replaces: None, secret: NonceSecret::new([7; 32]), at: WallTime(1_000) },
        ProvisionCommand::NonceKey {
            replaces: Some(1),
            secret: NonceSecret::new([8; 32]),
            at: WallTime(2_000),
        },
    ]
}

/// Fails to compile when a variant is added, so that nobody forgets to add it above.
fn number(command: &ProvisionCommand) -> usize {
    match command {
        ProvisionCommand::SubscriberAdd { .. } => 0,
        ProvisionCommand::SubscriberPassword { .. } => 1,
        ProvisionCommand::SubscriberRemove { .. } => 2,
        ProvisionCommand::DomainAdd(_) => 3,
        ProvisionCommand::DomainRemove { .. } => 4,
        ProvisionCommand::AliasAdd { .. } => 5,
        ProvisionCommand::AliasRemove { .. } => 6,
        ProvisionCommand::AclAdd { .. } => 7,
        ProvisionCommand::AclRemove { .. } => 8,
        ProvisionCommand::NonceKey { .. } => 9,
    }
}

fn answers() -> Vec<Response> {
    use ProvisionAnswer::{Done, Exists, Full, IsAlias, IsSubscriber, Malformed, NotFound, Superseded};
    let all = [Done, Exists, IsAlias, IsSubscriber, NotFound, Full, Malformed, Superseded];
    all.into_iter().map(|a| Response::Sip(SipResponse::Provisioned(a))).collect()
}

#[test]
fn what_is_provisioned_keeps_its_bytes() {
    let numbers: Vec<usize> = commands().iter().map(number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]);
    let batch = Batch(commands().into_iter().map(|c| Command::Sip(SipCommand::Provision(c))).collect());
    let mut state = ClusterState::default();
    for (index, command) in (1..).zip(&batch.0) {
        state.apply(index, command);
    }
    let counts = state.counts();
    assert_eq!((counts.subscribers, counts.domains, counts.aliases, counts.acl), (1, 1, 1, 1));
    assert_eq!(state.sip().provision().nonce_key().map(|k| k.id), Some(2));
    golden("provision_commands", Kind::Command, &batch);
    golden("provision_answers", Kind::Command, &Responses(answers()));
    // Of the state only this part: the others have files of their own.
    golden("provision_state", Kind::Snapshot, state.sip().provision());
}
