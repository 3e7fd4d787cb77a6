//! Every command, every answer and the state they make keep their bytes. `RELEVO_GOLDEN=write` makes a file that is not there.

#[path = "common/golden.rs"]
mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use common::golden;
use openraft::type_config::alias::CommittedLeaderIdOf;
use openraft::{EntryPayload, Membership, SnapshotMeta, StoredMembership};
use proxy_core::state::dispatcher::{Attributes, Destination, DispatcherCommand, flag};
use proxy_core::state::message_store::MessageCommand;
use proxy_core::state::subscriptions::SubscriptionCommand;
use proxy_core::state::trunk::{Account, RegistrationState, TrunkCommand};
use proxy_core::state::trunk_style::{Identity, Plus, Redirects, TrunkStyle};
use proxy_core::state::{
    AccountingCommand, Agreed, Backing, Binding, Branch, BranchState, CallFacts, CallLimit, CountKey,
    CountUse, DialogBacking, DialogId, DialogRecord, EarlyMedia, EndedBy, Ending, Flow, Ha1, InviteState,
    MediaCommand, MediaSession, NextStep, NonceId, PendingInvite, Place, ProvisionCommand, RefusedCall,
    RegisterChange, RegisterCommand, RegisterRefusal, ServerKey, SessionTimer, SipCommand, SipResponse,
    Spoken, Transport, When,
};
use proxy_core::time::{RealTime, WallTime};
use raft_store::codec::Kind;
use raft_store::command::{Batch, Command, GrantReason, Response, Responses, Versions};
use raft_store::node::types::{Entry, LogId, Vote};
use raft_store::node::{Member, Role, TypeConfig, raft_id};
use raft_store::state::{Ailment, ClusterState, Event, EventKind, Fitness};
use raft_store::time::Stamp;

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn flow() -> Flow {
    Flow { transport: Transport::Udp, local: addr("10.77.0.100:5060"), remote: addr("[fd77::9]:5062") }
}

fn binding() -> Binding {
    Binding {
        contact: "sip:alice@10.77.0.50:5070".into(),
        contact_key: "sip:alice@10.77.0.50:5070".into(),
        flow: flow(),
        natted: true,
        path: vec!["<sip:edge.lab.test;lr>".into()],
        q: 700,
        expires_at: WallTime(9_000_000),
        call_id: "reg-1".into(),
        cseq: 7,
        instance: Some("urn:uuid:1".into()),
        reg_id: Some(1),
        user_agent: "phone/1".into(),
        updated_at: WallTime(1_000),
        methods: Some(3),
        outbound: true,
        gruu: Some(9),
    }
}

fn key() -> ServerKey {
    ServerKey { branch: "z9hG4bK1".into(), sent_by: "10.77.0.50:5070".into() }
}

fn place(name: &str) -> Place {
    Place {
        target: format!("sip:{name}@10.77.0.60:5080"),
        route: vec![format!("<sip:{name}@10.77.0.80;lr;ob>")],
        flow: flow(),
    }
}

fn branch(n: u8) -> Branch {
    Branch {
        target: format!("sip:bob{n}@10.77.0.60:5080"),
        route: vec![],
        flow: flow(),
        via_branch: format!("z9hG4bKr{n}"),
        next: vec![Flow { transport: Transport::Tcp, ..flow() }],
        left: vec![(String::from("z9hG4bKleft"), place("left"))],
        others: vec![place("other")],
        state: BranchState::Trying,
        backing: Backing::default(),
        headers: vec![("P-Hint".into(), "outbound".into())],
        round: 0,
    }
}

fn invite() -> PendingInvite {
    PendingInvite {
        key: key(),
        call_id: "call-1".into(),
        request: b"INVITE sip:bob@lab.test SIP/2.0\r\n\r\n".to_vec(),
        flow: flow(),
        received_at: WallTime(2_000),
        timer_c_at: WallTime(182_000),
        local_tag: "rl1".into(),
        branches: vec![branch(1)],
        state: InviteState::Proceeding,
        plan: vec![NextStep {
            when: When { statuses: vec![(486, 486), (500, 599)], timeout: true, unreachable: false },
            branches: vec![branch(3)],
            after: Some(Duration::from_secs(20)),
        }],
        steps_used: 0,
        round: 0,
        no_answer_at: Some(WallTime(22_000)),
        facts: Some(Box::new(facts())),
        media: Some(Box::new(media())),
        ending: None,
        early_media: vec![early()],
    }
}

fn media() -> MediaSession {
    MediaSession {
        node: "10.77.0.41:2223".parse().expect("address"),
        set: 1,
        to_caller: "RTP/AVP ICE=remove".into(),
        to_callee: "RTP/SAVPF ICE=force".into(),
        agreed: Some(agreed()),
    }
}

fn agreed() -> Box<Agreed> {
    let offer = Spoken { sdp: b"v=0\r\no=a\r\n".to_vec(), source: None };
    let answer = Spoken { sdp: b"v=0\r\no=b\r\n".to_vec(), source: Some([192, 168, 1, 5].into()) };
    Box::new(Agreed { by_caller: true, offer, answer: Some(answer) })
}

fn early() -> EarlyMedia {
    EarlyMedia { to_tag: "b".into(), settled_by: Some(1), agreed: Some(agreed()) }
}

fn dialog_id() -> DialogId {
    DialogId { call_id: "call-1".into(), from_tag: "a".into(), to_tag: "b".into() }
}

fn dialog() -> DialogRecord {
    DialogRecord {
        id: dialog_id(),
        from_uri: "sip:alice@lab.test".into(),
        to_uri: "sip:bob@lab.test".into(),
        request_uri: "sip:bob@lab.test".into(),
        caller_target: "sip:alice@10.77.0.50:5070".into(),
        callee_target: "sip:bob1@10.77.0.60:5080".into(),
        caller_route: vec![],
        callee_route: vec!["<sip:next.lab.test;lr>".into()],
        caller_cseq: 3,
        callee_cseq: 0,
        invited_at: WallTime(2_000),
        caller_flow: flow(),
        callee_flow: flow(),
        started_at: WallTime(3_000),
        expires_at: WallTime(43_203_000),
        backing: DialogBacking::default(),
        facts: None,
        session: Some(SessionTimer { interval_s: 1800, expires_at: WallTime(1_803_000) }),
        ending: None,
        media: Some(Box::new(media())),
        ack_until: Some(WallTime(63_000)),
    }
}

fn facts() -> CallFacts {
    CallFacts {
        from_tag: "a".into(),
        cseq: 3,
        src_user: "alice".into(),
        src_domain: "lab.test".into(),
        src_ip: flow().remote.ip(),
        dst_ouser: "bob".into(),
        dst_user: "bob".into(),
        dst_domain: "lab.test".into(),
        caller: Some("sip:alice@lab.test".into()),
        from_trunk: Some("carrier".into()),
        counted: vec![
            CallLimit { key: CountKey::Caller("sip:alice@lab.test".into()), most: 2 },
            CallLimit { key: CountKey::Callee("sip:bob@lab.test".into()), most: 1 },
            CallLimit { key: CountKey::Trunk("carrier".into()), most: 30 },
            CallLimit { key: CountKey::Source(flow().remote.ip()), most: 100 },
        ],
    }
}

fn register(change: RegisterChange) -> Command {
    Command::Sip(SipCommand::Register(RegisterCommand {
        aor: "sip:alice@lab.test".into(),
        call_id: "reg-1".into(),
        cseq: 7,
        change,
        max_contacts: 10,
        at: WallTime(1_000),
    }))
}

/// Every variant, in the order of the enums; the last ones leave something in the state.
fn commands() -> Vec<Command> {
    let sip = |c| Command::Sip(c);
    vec![
        register(RegisterChange::Query),
        register(RegisterChange::RemoveAll),
        register(RegisterChange::Contacts(vec![binding()])),
        sip(SipCommand::Unregister { aor: "sip:carol@lab.test".into(), contact: None }),
        sip(SipCommand::InviteReceived(Box::new(invite()))),
        sip(SipCommand::BranchProgress {
            key: key(),
            branch: 0,
            state: BranchState::Proceeding { status: 180, to_tag: Some("b".into()) },
            timer_c_at: Some(WallTime(183_000)),
        }),
        sip(SipCommand::BranchesAdded {
            key: key(),
            branches: vec![branch(2)],
            round: 1,
            steps_used: 1,
            no_answer_at: Some(WallTime(42_000)),
            timer_c_at: WallTime(202_000),
        }),
        sip(SipCommand::InviteCancelled { key: ServerKey { branch: "z9hG4bK2".into(), ..key() } }),
        sip(SipCommand::InviteAnswered {
            key: key(),
            branch: 0,
            response: b"SIP/2.0 200 OK\r\n\r\n".to_vec(),
            dialog: Some(Box::new(dialog())),
            forget_at: WallTime(35_000),
        }),
        sip(SipCommand::InviteFailed {
            key: key(),
            response: b"SIP/2.0 486 Busy Here\r\n\r\n".to_vec(),
            to_tag: "c".into(),
            at: WallTime(3_000),
            forget_at: WallTime(35_000),
        }),
        sip(SipCommand::InviteDone { key: ServerKey { branch: "z9hG4bK2".into(), ..key() } }),
        sip(SipCommand::DialogUpdated {
            id: dialog_id(),
            caller_target: Some("sip:alice@10.77.0.51".into()),
            callee_target: None,
            expires_at: None,
            caller_cseq: None,
            callee_cseq: Some(2),
            session: Some(None),
        }),
        sip(SipCommand::DialogEnded {
            id: DialogId { to_tag: "c".into(), ..dialog_id() },
            ending: Ending { at: WallTime(4_000), by: EndedBy::Caller, bye: Some(200) },
        }),
        sip(SipCommand::Expire { up_to: WallTime(500) }),
        Command::Grant { holder: 2, reason: GrantReason::Switchover, at: WallTime(5_000) },
        Command::Drain { place: 1, drained: true },
        Command::Health { place: 3, healthy: false },
        sip(SipCommand::BranchMoved { key: key(), branch: 0, from: flow(), via_branch: "z9hG4bKr3".into() }),
        sip(SipCommand::LegShifted { id: dialog_id(), to_caller: false, shift: 2 }),
        sip(SipCommand::Provision(ProvisionCommand::DomainRemove { name: "nobody.test".into() })),
        dispatcher(DispatcherCommand::Put { set: 1, destination: Box::new(destination()) }),
        dispatcher(DispatcherCommand::Remove { set: 2, uri: None }),
        dispatcher(DispatcherCommand::SetState {
            set: 1,
            uri: None,
            flags: flag::TRYING,
            at: WallTime(6_000),
        }),
        dispatcher(DispatcherCommand::Observed {
            set: 1,
            uri: "sip:10.77.0.61:5060".into(),
            up: false,
            failures: 3,
            successes: 2,
            at: WallTime(7_000),
        }),
        trunk(TrunkCommand::Put { account: Box::new(account()), call_id: "t".into(), at: WallTime(6_000) }),
        trunk(TrunkCommand::Remove { uuid: "other".into() }),
        trunk(TrunkCommand::Enable { uuid: "carrier".into(), enabled: false, at: WallTime(6_000) }),
        trunk(TrunkCommand::Refresh { uuid: "carrier".into(), at: WallTime(6_500) }),
        trunk(TrunkCommand::Registering {
            uuid: "carrier".into(),
            cseq: 1,
            next_at: WallTime(46_000),
            at: WallTime(6_000),
        }),
        trunk(TrunkCommand::Outcome {
            uuid: "carrier".into(),
            cseq: 1,
            state: RegistrationState::Registered,
            next_at: WallTime(300_000),
            expires_at: Some(WallTime(600_000)),
            min_expires_s: None,
            service_route: Some(vec!["<sip:edge.carrier.test;lr>".into()]),
            last: "200 OK".into(),
        }),
        accounting(AccountingCommand::Open { place: 1, itself: true }),
        accounting(AccountingCommand::Close { place: 2 }),
        accounting(AccountingCommand::Forget { place: 3 }),
        accounting(AccountingCommand::Written { place: 1, up_to: 0 }),
        sip(SipCommand::DialogEnding { id: dialog_id(), by: EndedBy::Operator }),
        // All of their variants are in golden_presence.rs.
        sip(SipCommand::Subscription(SubscriptionCommand::Remove { id: dialog_id() })),
        sip(SipCommand::Message(MessageCommand::Remove { aor: "sip:bob@lab.test".into(), number: 0 })),
        sip(SipCommand::Media(MediaCommand::SetDisabled {
            node: media().node,
            disabled: true,
            at: WallTime(6_000),
        })),
        sip(SipCommand::Media(MediaCommand::Agreed {
            id: dialog_id(),
            node: addr("[fd77::41]:2223"),
            agreed: Some(agreed()),
        })),
        trunk(TrunkCommand::Style { uuid: "carrier".into(), style: style() }),
        trunk(TrunkCommand::Probed { uuid: "carrier".into(), up: false }),
        sip(SipCommand::Media(MediaCommand::Health { node: media().node, dead: true, at: WallTime(6_500) })),
        sip(SipCommand::DialogAcked { id: dialog_id(), at: WallTime(4_000) }),
        sip(SipCommand::InviteEnding { key: key(), by: EndedBy::Operator }),
        accounting(AccountingCommand::Refused(Box::new(RefusedCall {
            call_id: "call-2".into(),
            facts: facts(),
            to_tag: "rl2".into(),
            code: 404,
            reason: "Not Found".into(),
            at: WallTime(7_000),
        }))),
        sip(SipCommand::Counted { counts: vec![count_use(1), count_use(3)], then: None }),
        sip(SipCommand::Counted {
            counts: vec![count_use(4)],
            then: Some(Box::new(SipCommand::DialogEnding { id: dialog_id(), by: EndedBy::Operator })),
        }),
        sip(SipCommand::Media(MediaCommand::Early { key: key(), node: media().node, early: early() })),
        Command::Fitness { place: 2, own: Fitness::FIT.with(Ailment::Full) },
        Command::Suspect { fingerprint: 1 << 63, place: 2, moment: 7_000 },
        Command::Reads { place: 3, versions: Versions { first: 3, last: 4 } },
    ]
}

fn stamp() -> Stamp {
    Stamp {
        time: WallTime(9_000),
        real: RealTime(1_800_000_009_000),
        boot: 11,
        mono_ms: 4_000,
        skipped_ms: 60_000,
    }
}

fn count_use(count: u32) -> CountUse {
    CountUse {
        nonce: NonceId { made_at: WallTime(5_000), salt: 7, key_id: 1 },
        count,
        by: 11,
        at: WallTime(6_000),
        ends: WallTime(605_000),
    }
}

fn dispatcher(command: DispatcherCommand) -> Command {
    Command::Sip(SipCommand::Dispatcher(command))
}

fn accounting(command: AccountingCommand) -> Command {
    Command::Sip(SipCommand::Accounting(command))
}

fn trunk(command: TrunkCommand) -> Command {
    Command::Sip(SipCommand::Trunk(command))
}

fn destination() -> Destination {
    Destination {
        uri: "sip:10.77.0.61:5060".into(),
        flags: flag::PROBING,
        priority: -1,
        attrs: Attributes::parse("weight=50;duid=a"),
        description: "PBX".into(),
        count: 0,
        changed_at: WallTime(5_000),
        seen_at: WallTime(5_000),
    }
}

fn style() -> TrunkStyle {
    TrunkStyle {
        from: Identity::Account,
        to_number: true,
        asserted: Some(Identity::Uri("sip:+4930{user}@carrier.test".into())),
        strip: 1,
        plus: Plus::Plus,
        prefix: "77".into(),
        probe: true,
        redirects: Redirects::Own,
    }
}

fn account() -> Account {
    Account {
        uuid: "carrier".into(),
        local_user: "bob".into(),
        remote_user: "4930".into(),
        remote_domain: "carrier.test".into(),
        ha1: Ha1 { md5: Some([7; 16]), sha256: None },
        expires_s: 600,
        sources: vec!["10.77.0.0/24".into()],
        ..Account::default()
    }
}

fn responses() -> Vec<Response> {
    let sip = Response::Sip;
    vec![
        sip(SipResponse::Done),
        sip(SipResponse::Registered(vec![binding()])),
        sip(SipResponse::RegisterRefused(RegisterRefusal::OutOfOrder)),
        sip(SipResponse::RegisterRefused(RegisterRefusal::TooManyContacts)),
        sip(SipResponse::Duplicate),
        sip(SipResponse::NotFound),
        sip(SipResponse::Superseded),
        sip(SipResponse::Full),
        sip(SipResponse::Expired { bindings: 1, pending: 2, dialogs: 300 }),
        sip(SipResponse::LimitReached(CountKey::Source(flow().remote.ip()))),
        Response::Granted { token: 1 << 40 },
        Response::Done,
        Response::Poisoned,
    ]
}

/// What nodes tell of the service.
fn events() -> Vec<Command> {
    let moved = Event {
        token: 9,
        kind: EventKind::Moved,
        at: WallTime(1_800_000_000_000),
        from: Some(1),
        to: Some(2),
        why: Some("node 1 did not lead any more".into()),
        silent_ms: Some(312),
        invites: Some(3),
        dialogs: Some(12),
        bindings: Some(250),
    };
    let kinds = [EventKind::Resumed, EventKind::Refused, EventKind::Operator];
    let others = kinds.map(|kind| Event { kind, at: WallTime(1_800_000_000_001), ..Event::default() });
    std::iter::once(moved).chain(others).map(Command::Event).collect()
}

fn state() -> ClusterState {
    let mut state = ClusterState::default();
    for (index, command) in (1..).zip(commands()) {
        state.apply(index, &command);
    }
    state
}

#[test]
fn commands_keep_their_bytes() {
    golden("commands", Kind::Command, &Batch(commands()));
    golden("time", Kind::Command, &Batch(vec![Command::Stamp(stamp())]));
    golden("history", Kind::Command, &Batch(events()));
    let mut told = ClusterState::default();
    for (index, command) in (1..).zip(events()) {
        told.apply(index, &command);
    }
    golden("history_state", Kind::Snapshot, &told);
    golden("removed", Kind::Command, &Batch(vec![Command::Removed { place: 3, removed: true }]));
}

#[test]
fn answers_keep_their_bytes() {
    golden("responses", Kind::Command, &Responses(responses()));
}

#[test]
fn the_state_keeps_its_bytes_and_holds_something_of_every_kind() {
    let state = state();
    let counts = state.counts();
    assert_eq!((counts.bindings, counts.dialogs), (1, 1), "{counts:?}");
    assert!(state.sip().outbox().after(0).count() > 0 && state.sip().calls_by_key().count() > 0);
    assert!(state.grant().is_some() && state.marks(1).drained && !state.marks(3).healthy);
    golden("state", Kind::Snapshot, &state);
}

#[test]
fn the_types_of_openraft_keep_their_bytes() {
    let leader = raft_id(1_800_000_000_000, 2);
    let vote = Vote::new_committed(7, leader);
    let log_id = LogId::new(CommittedLeaderIdOf::<TypeConfig>::new(7), 300);
    let member =
        |place| Member { addr: addr("10.77.0.11:7400"), role: [Role::Appliance, Role::Witness][place] };
    let members = Membership::new(
        vec![[1, leader].into(), [1, 3].into()],
        BTreeMap::from([(1, member(0)), (3, member(1)), (leader, member(0))]),
    )
    .expect("a membership");
    golden("vote", Kind::Vote, &vote);
    golden("log_id", Kind::LogId, &log_id);
    golden("entry_blank", Kind::Entry, &Entry { log_id, payload: EntryPayload::Blank });
    golden("entry_batch", Kind::Entry, &Entry { log_id, payload: EntryPayload::Normal(Batch(commands())) });
    golden(
        "entry_members",
        Kind::Entry,
        &Entry { log_id, payload: EntryPayload::Membership(members.clone()) },
    );
    let meta = SnapshotMeta {
        last_log_id: Some(log_id),
        last_membership: StoredMembership::new(Some(log_id), members),
    };
    golden("snapshot_meta", Kind::SnapshotMeta, &meta);
}

/// Fails to compile when a variant is added, so that nobody forgets to add it to the golden files.
#[test]
fn no_variant_is_missing_from_the_golden_files() {
    let number = |c: &Command| match c {
        Command::Sip(c) => match c {
            SipCommand::Register(r) => match &r.change {
                RegisterChange::Query => 0,
                RegisterChange::RemoveAll => 1,
                RegisterChange::Contacts(_) => 2,
            },
            SipCommand::Unregister { .. } => 3,
            SipCommand::InviteReceived(_) => 4,
            SipCommand::BranchProgress { .. } => 5,
            SipCommand::BranchesAdded { .. } => 6,
            SipCommand::InviteCancelled { .. } => 7,
            SipCommand::InviteAnswered { .. } => 8,
            SipCommand::InviteFailed { .. } => 9,
            SipCommand::InviteDone { .. } => 10,
            SipCommand::DialogUpdated { .. } => 11,
            SipCommand::DialogEnded { .. } => 12,
            SipCommand::Expire { .. } => 13,
            SipCommand::BranchMoved { .. } => 17,
            SipCommand::LegShifted { .. } => 18,
            SipCommand::Provision(_) => 19,
            SipCommand::Dispatcher(d) => match d {
                DispatcherCommand::Put { .. } => 20,
                DispatcherCommand::Remove { .. } => 21,
                DispatcherCommand::SetState { .. } => 22,
                DispatcherCommand::Observed { .. } => 23,
            },
            SipCommand::Trunk(t) => match t {
                TrunkCommand::Put { .. } => 24,
                TrunkCommand::Remove { .. } => 25,
                TrunkCommand::Enable { .. } => 26,
                TrunkCommand::Refresh { .. } => 27,
                TrunkCommand::Registering { .. } => 28,
                TrunkCommand::Outcome { .. } => 29,
                TrunkCommand::Style { .. } => 39,
                TrunkCommand::Probed { .. } => 40,
            },
            SipCommand::Accounting(AccountingCommand::Open { .. }) => 30,
            SipCommand::Accounting(AccountingCommand::Close { .. }) => 31,
            SipCommand::Accounting(AccountingCommand::Forget { .. }) => 32,
            SipCommand::Accounting(AccountingCommand::Written { .. }) => 33,
            SipCommand::DialogEnding { .. } => 34,
            SipCommand::Subscription(_) => 35,
            SipCommand::Message(_) => 36,
            SipCommand::Media(MediaCommand::SetDisabled { .. }) => 37,
            SipCommand::Media(MediaCommand::Agreed { .. }) => 38,
            SipCommand::Media(MediaCommand::Health { .. }) => 41,
            SipCommand::DialogAcked { .. } => 42,
            SipCommand::InviteEnding { .. } => 43,
            SipCommand::Accounting(AccountingCommand::Refused(_)) => 44,
            SipCommand::Counted { then: None, .. } => 45,
            SipCommand::Counted { .. } => 46,
            SipCommand::Media(MediaCommand::Early { .. }) => 47,
        },
        Command::Grant { .. } => 14,
        Command::Drain { .. } => 15,
        Command::Health { .. } => 16,
        Command::Fitness { .. } => 48,
        Command::Suspect { .. } => 49,
        Command::Reads { .. } => 50,
        // In a file of its own: it came later.
        Command::Stamp(_) => 51,
        Command::Event(_) => 56,
        Command::Removed { .. } => 60,
        // Likewise, in another file.
        Command::Pause(_) => 52,
        Command::Resume => 53,
        Command::Plan { .. } => 54,
        Command::Unplan { .. } => 55,
    };
    let numbers: Vec<_> = commands().iter().map(number).collect();
    assert_eq!(numbers, (0..51).collect::<Vec<_>>());
}
