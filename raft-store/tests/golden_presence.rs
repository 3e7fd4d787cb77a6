//! Subscriptions and stored messages keep their bytes: every command, and the state they make.
//! `RELEVO_GOLDEN=write` regenerates the files.

#[path = "common/golden.rs"]
mod common;

use common::golden;
use std::collections::BTreeMap;

use proxy_core::state::message_store::{MessageCommand, StoredMessage, Tries};
use proxy_core::state::subscriptions::{CallPhase, Shown, Subscription, SubscriptionCommand};
use proxy_core::state::{DialogId, Flow, SipCommand, Transport};
use proxy_core::time::WallTime;
use raft_store::codec::Kind;
use raft_store::command::{Batch, Command};
use raft_store::state::ClusterState;

fn id(call_id: &str) -> DialogId {
    DialogId { call_id: call_id.into(), from_tag: "w".into(), to_tag: "rlv1".into() }
}

fn subscription(call_id: &str) -> Subscription {
    let address = |text: &str| text.parse().expect("an address");
    Subscription {
        id: id(call_id),
        watched: "sip:bob@lab.test".into(),
        entity: "sip:b@lab.test".into(),
        event_id: Some("7".into()),
        remote_uri: "sip:carol@lab.test".into(),
        local_uri: "sip:b@lab.test".into(),
        contact: "sip:carol@10.77.0.70:5070".into(),
        routes: vec!["<sip:edge.lab.test;lr>".into()],
        flow: Flow {
            transport: Transport::Tcp,
            local: address("10.77.0.100:5060"),
            remote: address("10.77.0.70:5070"),
        },
        by_flow: true,
        remote_cseq: 4,
        expires_at: WallTime(600_000),
        notify_cseq: 0,
        shown: Vec::new(),
    }
}

fn message(cseq: u32) -> StoredMessage {
    StoredMessage {
        receipt: u64::from(cseq),
        receipt_ends: WallTime(65_000),
        from: "\"A\" <sip:alice@lab.test>".into(),
        to: "sip:bob@lab.test".into(),
        headers: vec![("Subject".into(), "hello".into())],
        content_type: Some("text/plain".into()),
        body: b"there".to_vec(),
        received_at: WallTime(1_000),
        expires_at: WallTime(604_801_000),
        cseq: 1,
        tries: BTreeMap::new(),
    }
}

fn commands() -> Vec<Command> {
    let aor = || String::from("sip:bob@lab.test");
    let keep = |cseq| MessageCommand::Keep {
        aor: aor(),
        message: Box::new(message(cseq)),
        max_per_user: 50,
        max_total: 100_000,
    };
    let phases = [
        CallPhase::Trying,
        CallPhase::Proceeding,
        CallPhase::Early,
        CallPhase::Confirmed,
        CallPhase::Terminated,
    ];
    let shown = phases.into_iter().zip(1..).map(|(phase, name)| Shown { name, phase, outgoing: name == 2 });
    let subscriptions = [
        SubscriptionCommand::Subscribe(Box::new(subscription("sub-1"))),
        SubscriptionCommand::Subscribe(Box::new(subscription("sub-2"))),
        SubscriptionCommand::Notifying { id: id("sub-1"), cseq: 1, shown: shown.collect() },
        SubscriptionCommand::Remove { id: id("sub-2") },
    ];
    let failed = |number| MessageCommand::Failed {
        aor: aor(),
        number,
        registration: "reg-1".into(),
        tries: Tries { failures: 1, cseq: 2, next_at: Some(WallTime(16_000)) },
    };
    let forget = MessageCommand::Forget { aor: aor(), number: 1, registrations: vec!["reg-1".into()] };
    let remove = MessageCommand::Remove { aor: aor(), number: 1 };
    let messages = [keep(1), keep(2), failed(0), failed(1), forget, remove];
    let subscriptions = subscriptions.into_iter().map(SipCommand::Subscription);
    subscriptions.chain(messages.into_iter().map(SipCommand::Message)).map(Command::Sip).collect()
}

/// Fails to compile when a variant is added, so that nobody forgets to add it to the golden files.
fn number(command: &Command) -> usize {
    match command {
        Command::Sip(SipCommand::Subscription(s)) => match s {
            SubscriptionCommand::Subscribe(_) => 0,
            SubscriptionCommand::Notifying { .. } => 1,
            SubscriptionCommand::Remove { .. } => 2,
        },
        Command::Sip(SipCommand::Message(m)) => match m {
            MessageCommand::Keep { .. } => 3,
            MessageCommand::Failed { .. } => 4,
            MessageCommand::Forget { .. } => 5,
            MessageCommand::Remove { .. } => 6,
        },
        _ => usize::MAX,
    }
}

#[test]
fn subscriptions_and_messages_keep_their_bytes_in_the_log() {
    golden("presence_commands", Kind::Command, &Batch(commands()));
}

#[test]
fn subscriptions_and_messages_keep_their_bytes_in_the_state() {
    let mut state = ClusterState::default();
    for (index, command) in (1..).zip(commands()) {
        state.apply(index, &command);
    }
    let counts = state.counts();
    assert_eq!((counts.subscriptions, counts.messages), (1, 1), "{counts:?}");
    golden("presence_state", Kind::Snapshot, &state);
}

#[test]
fn no_variant_is_missing_from_the_golden_files() {
    let mut numbers: Vec<_> = commands().iter().map(number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (0..7).collect::<Vec<_>>());
}
