//! Properties of the replicated state over random logs: equal logs give equal bytes, nothing is beyond its bounds,
//! a repeated command changes nothing, and nothing panics.

use crate::common::{drawn, state};
use std::net::SocketAddr;

use crate::common::state::{at, contact, flow, invite, key, ok, refused, ringing};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proxy_core::state::dispatcher::{Attributes, Destination, DispatcherCommand};
use proxy_core::state::limits::{DIALOG_GRACE_MS, MAX_AGREED_BYTES};
use proxy_core::state::trunk::{Account, RegistrationState, TrunkCommand};
use proxy_core::state::trunk_style::TrunkStyle;
use proxy_core::state::{
    AccountingCommand, Agreed, Asserted, Backend, Binding, BranchState, CountUse, DialogBacking, DialogId,
    DialogRecord, Dress, EarlyMedia, EndedBy, Ending, InviteState, MediaCommand, MediaSession, NonceId,
    ProvisionAnswer, RegisterChange, RegisterCommand, Renamed, SipCommand, SipResponse, SipState, Spoken,
    Swap,
};
use proxy_core::time::WallTime;
use proxy_core::wire::Memory;

fn bytes(state: &SipState) -> Vec<u8> {
    minicbor::to_vec_with(state, &mut Memory::endless()).expect("a state is serialised")
}

/// Few names, so that commands meet.
fn moment() -> impl Strategy<Value = WallTime> {
    prop_oneof![8 => (0u64..400).prop_map(at), 1 => Just(WallTime(0)), 1 => Just(WallTime(u64::MAX))]
}

fn binding() -> impl Strategy<Value = Binding> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c"), Just("d"), Just("e")];
    let instance = option::of(prop_oneof![Just("<i1>"), Just("<i2>")]);
    (name, moment(), 0u16..1200, instance, option::of(1u32..3), 1u8..3).prop_map(
        |(name, expires_at, q, instance, reg_id, source)| Binding {
            expires_at,
            q,
            instance: instance.map(str::to_owned),
            reg_id,
            flow: flow(source),
            ..contact(name, 0, 60)
        },
    )
}

fn register() -> impl Strategy<Value = SipCommand> {
    let change = prop_oneof![
        1 => Just(RegisterChange::Query),
        1 => Just(RegisterChange::RemoveAll),
        6 => vec(binding(), 0..4).prop_map(RegisterChange::Contacts),
    ];
    let aor = prop_oneof![Just("sip:x@lab.test"), Just("sip:y@lab.test")];
    let call_id = prop_oneof![Just("r1"), Just("r2")];
    (aor, call_id, 0u32..6, change, 0u16..5, moment()).prop_map(
        |(aor, call_id, cseq, change, max_contacts, at)| {
            SipCommand::Register(RegisterCommand {
                aor: aor.to_owned(),
                call_id: call_id.to_owned(),
                cseq,
                change,
                max_contacts,
                at,
            })
        },
    )
}

fn dialog_id() -> impl Strategy<Value = DialogId> {
    (0u32..3, 0u8..3).prop_map(|(n, tag)| state::dialog(n, &format!("t{tag}")).id)
}

fn media_node() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![Just(flow(41).remote), Just(flow(42).remote)]
}

fn session(node: SocketAddr) -> MediaSession {
    MediaSession {
        node,
        set: 0,
        to_caller: String::from("RTP/AVP"),
        to_callee: String::from("RTP/SAVPF"),
        agreed: None,
    }
}

/// Also larger than what is kept.
fn agreed() -> impl Strategy<Value = Option<Box<Agreed>>> {
    let spoken = |length: usize| Spoken { sdp: vec![b'x'; length], source: None };
    let sizes = prop_oneof![Just(0), Just(7), Just(MAX_AGREED_BYTES)];
    option::of((any::<bool>(), sizes, option::of(0usize..9)).prop_map(move |(by_caller, offer, answer)| {
        Box::new(Agreed { by_caller, offer: spoken(offer), answer: answer.map(spoken) })
    }))
}

fn media() -> impl Strategy<Value = MediaCommand> {
    prop_oneof![
        1 => (media_node(), any::<bool>(), moment())
            .prop_map(|(node, disabled, at)| MediaCommand::SetDisabled { node, disabled, at }),
        1 => (media_node(), any::<bool>(), moment())
            .prop_map(|(node, dead, at)| MediaCommand::Health { node, dead, at }),
        1 => (dialog_id(), media_node(), agreed())
            .prop_map(|(id, node, agreed)| MediaCommand::Agreed { id, node, agreed }),
        1 => (0u32..3, media_node(), 0u8..3, agreed()).prop_map(|(n, node, tag, agreed)| MediaCommand::Early {
            key: key(n),
            node,
            early: EarlyMedia { to_tag: format!("t{tag}"), settled_by: Some(1), agreed },
        }),
    ]
}

fn dialog() -> impl Strategy<Value = DialogRecord> {
    (dialog_id(), moment(), option::of(media_node())).prop_map(|(id, expires_at, node)| DialogRecord {
        id,
        expires_at,
        media: node.map(|node| Box::new(session(node))),
        backing: DialogBacking {
            renamed: node.map(|_| Box::new(Renamed { from: Some(Swap::default()), to: None })),
            ..DialogBacking::default()
        },
        ..state::dialog(0, "t")
    })
}

fn branch_state() -> impl Strategy<Value = BranchState> {
    prop_oneof![Just(BranchState::Trying), Just(ringing("x")), Just(ringing("y")), Just(refused(486))]
}

fn command() -> impl Strategy<Value = SipCommand> {
    let n = 0u32..3;
    let targets = vec(prop_oneof![Just("b"), Just("c"), Just("d")], 0..3);
    prop_oneof![
        6 => register(),
        1 => option::of(Just("sip:a@10.0.0.1")).prop_map(|contact| SipCommand::Unregister {
            aor: String::from("sip:x@lab.test"),
            contact: contact.map(str::to_owned),
        }),
        3 => (n.clone(), targets.clone(), moment()).prop_map(|(n, targets, timer_c_at)| {
            let mut record = invite(n, &targets);
            record.timer_c_at = timer_c_at;
            for branch in record.branches.iter_mut().skip(1) {
                let uri = String::from("sip:10.0.0.21");
                branch.backing.backend = Some(Backend::Destination { set: 1, uri });
                branch.next = vec![flow(3), flow(1)];
                let swap = Swap { came: String::from("<sip:a@lab.test>"), goes: String::from("<sip:1@t>") };
                let renamed = Renamed { from: Some(swap), to: None };
                let asserted = Asserted::Set(String::from("<sip:a@lab.test>"));
                branch.backing.dress = Some(Box::new(Dress { renamed, asserted, private: true }));
            }
            record.media = Some(Box::new(session(flow(41).remote)));
            record.facts = Some(Box::new(state::facts("sip:a@lab.test", Some(2))));
            SipCommand::InviteReceived(Box::new(record))
        }),
        3 => (n.clone(), 0u16..4, branch_state(), option::of(moment())).prop_map(
            |(n, branch, state, timer_c_at)| SipCommand::BranchProgress {
                key: key(n), branch, state, timer_c_at
            }
        ),
        1 => (n.clone(), targets, 0u16..4).prop_map(|(n, targets, round)| state::added(n, round, &targets)),
        1 => n.clone().prop_map(|n| SipCommand::InviteCancelled { key: key(n) }),
        3 => (n.clone(), 0u16..4, 0u8..3, option::of(dialog()), moment()).prop_map(
            |(n, branch, tag, dialog, forget_at)| SipCommand::InviteAnswered {
                key: key(n),
                branch,
                response: ok(&tag.to_string()),
                dialog: dialog.map(Box::new),
                forget_at,
            }
        ),
        1 => (n.clone(), moment()).prop_map(|(n, forget_at)| SipCommand::InviteFailed {
            key: key(n), response: b"SIP/2.0 408".to_vec(), to_tag: String::from("x"), at: forget_at, forget_at,
        }),
        1 => n.prop_map(|n| SipCommand::InviteDone { key: key(n) }),
        1 => (dialog_id(), option::of(Just(String::from("sip:moved"))), option::of(moment())).prop_map(
            |(id, target, expires_at)| SipCommand::DialogUpdated {
                id, caller_target: target.clone(), callee_target: target, expires_at,
                caller_cseq: None, callee_cseq: Some(7), session: None,
            }
        ),
        1 => (dialog_id(), moment()).prop_map(|(id, at)| SipCommand::DialogEnded {
            id, ending: Ending { at, by: EndedBy::Callee, bye: Some(200) },
        }),
        1 => dialog_id().prop_map(|id| SipCommand::DialogEnding { id, by: EndedBy::Operator }),
        1 => (dialog_id(), moment()).prop_map(|(id, at)| SipCommand::DialogAcked { id, at }),
        1 => (0u32..3).prop_map(|n| SipCommand::InviteEnding { key: key(n), by: EndedBy::Operator }),
        1 => accounting().prop_map(SipCommand::Accounting),
        1 => media().prop_map(SipCommand::Media),
        1 => counted(),
        1 => moment().prop_map(|up_to| SipCommand::Expire { up_to }),
    ]
}

fn counted() -> impl Strategy<Value = SipCommand> {
    let counts = vec((0u64..4, 1u32..9, (0u64..400).prop_map(at)), 1..3);
    (counts, option::of(dialog_id())).prop_map(|(counts, id)| {
        let using = |(salt, count, at): (u64, u32, WallTime)| CountUse {
            nonce: NonceId { made_at: at, salt, key_id: 1 },
            count,
            by: salt,
            at,
            ends: WallTime(u64::MAX),
        };
        let then = id.map(|id| Box::new(SipCommand::DialogEnding { id, by: EndedBy::Operator }));
        SipCommand::Counted { counts: counts.into_iter().map(using).collect(), then }
    })
}

fn accounting() -> impl Strategy<Value = AccountingCommand> {
    let place = 1u16..4;
    prop_oneof![
        2 => (place.clone(), any::<bool>()).prop_map(|(place, itself)| AccountingCommand::Open { place, itself }),
        1 => place.clone().prop_map(|place| AccountingCommand::Close { place }),
        1 => place.clone().prop_map(|place| AccountingCommand::Forget { place }),
        4 => (place, 0u64..20).prop_map(|(place, up_to)| AccountingCommand::Written { place, up_to }),
    ]
}

fn dispatcher() -> impl Strategy<Value = DispatcherCommand> {
    let uri = prop_oneof![Just("sip:10.0.0.21"), Just("sip:10.0.0.22")].prop_map(str::to_owned);
    let set = 1u32..3;
    prop_oneof![
        3 => (set.clone(), uri.clone(), 0u32..64, -1i32..2).prop_map(|(set, uri, flags, priority)| {
            let destination = Box::new(Destination {
                uri,
                flags,
                priority,
                attrs: Attributes::parse("weight=1"),
                description: String::new(),
                count: 0,
                changed_at: WallTime(0),
                seen_at: WallTime(0),
            });
            DispatcherCommand::Put { set, destination }
        }),
        1 => (set.clone(), option::of(uri.clone())).prop_map(|(set, uri)| DispatcherCommand::Remove { set, uri }),
        1 => (set.clone(), option::of(uri.clone()), 0u32..16, moment())
            .prop_map(|(set, uri, flags, at)| DispatcherCommand::SetState { set, uri, flags, at }),
        4 => (set, uri, any::<bool>(), 1u32..3, 1u32..3, moment()).prop_map(
            |(set, uri, up, failures, successes, at)| DispatcherCommand::Observed {
                set, uri, up, failures, successes, at
            }
        ),
    ]
}

fn trunk() -> impl Strategy<Value = TrunkCommand> {
    let uuid = prop_oneof![Just("a"), Just("b")].prop_map(str::to_owned);
    let state = prop_oneof![
        Just(RegistrationState::Idle),
        Just(RegistrationState::Registered),
        Just(RegistrationState::Failed)
    ];
    prop_oneof![
        2 => (uuid.clone(), 0u32..2, any::<bool>(), moment()).prop_map(|(uuid, expires_s, disabled, at)| {
            let account = Account {
                contact_user: uuid.clone(),
                uuid,
                expires_s,
                disabled,
                sources: vec![String::from("10.0.0.0/8"), String::from("10.1.0.0/16")],
                ..Account::default()
            };
            TrunkCommand::Put { account: Box::new(account), call_id: String::from("t"), at }
        }),
        1 => uuid.clone().prop_map(|uuid| TrunkCommand::Remove { uuid }),
        1 => (uuid.clone(), 0usize..3).prop_map(|(uuid, digits)| TrunkCommand::Style {
            uuid,
            style: TrunkStyle { prefix: "9".repeat(digits), ..TrunkStyle::default() },
        }),
        1 => (uuid.clone(), any::<bool>(), moment())
            .prop_map(|(uuid, enabled, at)| TrunkCommand::Enable { uuid, enabled, at }),
        1 => (uuid.clone(), moment()).prop_map(|(uuid, at)| TrunkCommand::Refresh { uuid, at }),
        3 => (uuid.clone(), 0u32..5, moment(), moment())
            .prop_map(|(uuid, cseq, next_at, at)| TrunkCommand::Registering { uuid, cseq, next_at, at }),
        3 => (uuid, 0u32..5, state, moment()).prop_map(|(uuid, cseq, state, next_at)| TrunkCommand::Outcome {
            uuid,
            cseq,
            state,
            next_at,
            expires_at: Some(next_at),
            min_expires_s: None,
            service_route: Some(vec!["<sip:edge.carrier.test;lr>".into()]),
            last: String::from("x"),
        }),
    ]
}

fn log() -> impl Strategy<Value = Vec<SipCommand>> {
    vec(
        prop_oneof![
            6 => command().boxed(),
            1 => dispatcher().prop_map(SipCommand::Dispatcher).boxed(),
            1 => trunk().prop_map(SipCommand::Trunk).boxed(),
            1 => (dialog_id(), any::<bool>(), 0u32..4)
                .prop_map(|(id, to_caller, shift)| SipCommand::LegShifted { id, to_caller, shift })
                .boxed(),
            1 => (0u32..3, 0u16..3, 1u8..4)
                .prop_map(|(n, branch, from)| SipCommand::BranchMoved {
                    key: key(n), branch, from: flow(from), via_branch: format!("z9hG4bK-moved{from}"),
                })
                .boxed(),
            1 => drawn::provision().prop_map(SipCommand::Provision).boxed(),
            1 => drawn::subscription(moment().boxed()).prop_map(SipCommand::Subscription).boxed(),
            1 => drawn::message(moment().boxed()).prop_map(SipCommand::Message).boxed(),
        ],
        0..60,
    )
}

/// How far a call is; it never goes back while its entry lives.
fn rank(state: &InviteState) -> u8 {
    match state {
        InviteState::Proceeding => 0,
        InviteState::Cancelled => 1,
        InviteState::Answered { .. } | InviteState::Failed { .. } => 2,
    }
}

proptest! {
    #[test]
    fn equal_logs_give_equal_answers_and_equal_bytes_also_through_a_snapshot(log in log(), cut: usize) {
        let cut = cut % (log.len() + 1);
        let (mut one, mut other) = (SipState::default(), SipState::default());
        for (i, command) in log.iter().enumerate() {
            if i == cut {
                let snapshot = bytes(&other);
                let mut decoder = minicbor::Decoder::new(&snapshot);
                let loaded: SipState =
                    decoder.decode_with(&mut Memory::bytes(1 << 26)).expect("a snapshot loads");
                prop_assert_eq!(decoder.position(), snapshot.len());
                other = loaded;
            }
            prop_assert_eq!(one.apply(command), other.apply(command));
            prop_assert!(one.index_is_right() && other.index_is_right(), "{:?}", command);
        }
        prop_assert_eq!(bytes(&one), bytes(&other));
        prop_assert!(one == other);
    }

    #[test]
    fn a_command_that_comes_twice_changes_nothing_the_second_time(log in log()) {
        let mut state = SipState::default();
        for command in &log {
            let first = state.apply(command);
            let before = state.clone();
            let second = state.apply(command);
            prop_assert_eq!(&state, &before, "{:?} said {:?}, then {:?}", command, first, second);
        }
    }

    #[test]
    fn a_refused_command_leaves_the_state_as_it_was(log in log()) {
        let mut state = SipState::default();
        for command in &log {
            let mut before = state.clone();
            if let SipCommand::Counted { counts, .. } = command {
                // Its request has used them, whatever comes of the command.
                before.apply(&SipCommand::Counted { counts: counts.clone(), then: None });
            }
            let response = state.apply(command);
            let may_change = match response {
                SipResponse::Done | SipResponse::Registered(_) | SipResponse::Expired { .. } => true,
                SipResponse::Provisioned(answer) => answer == ProvisionAnswer::Done,
                SipResponse::Superseded => matches!(command, SipCommand::InviteAnswered { .. }),
                _ => false,
            };
            prop_assert!(may_change || state == before, "{:?} said {:?}", command, response);
        }
    }

    #[test]
    fn registrations_stay_ordered_current_and_within_bounds(log in log()) {
        let mut state = SipState::default();
        for command in &log {
            let before = state.clone();
            let response = state.apply(command);
            let (SipCommand::Register(register), SipResponse::Registered(list)) = (command, response) else {
                continue;
            };
            let old = before.bindings(&register.aor).iter().filter(|b| b.expires_at > register.at).count();
            prop_assert!(list.len() <= usize::from(register.max_contacts).max(old));
            prop_assert!(list.iter().all(|b| b.expires_at > register.at));
            prop_assert!(list.windows(2).all(|w| (w[0].q, w[0].updated_at) >= (w[1].q, w[1].updated_at)));
            if register.change != RegisterChange::Query {
                prop_assert_eq!(state.bindings(&register.aor), &list[..]);
            }
        }
    }

    #[test]
    fn calls_and_branches_only_move_on(log in log()) {
        let mut state = SipState::default();
        for command in &log {
            let before = state.clone();
            state.apply(command);
            for old in before.pending_invites() {
                let Some(new) = state.pending(&old.key) else { continue };
                prop_assert!(rank(&new.state) >= rank(&old.state));
                prop_assert!(rank(&old.state) < 2 || old.state == new.state, "an end is final");
                prop_assert!(new.branches.len() >= old.branches.len());
                for (was, is) in old.branches.iter().zip(&new.branches) {
                    let status = |s: &BranchState| match s {
                        BranchState::Final { status, .. } => Some(*status),
                        _ => None,
                    };
                    let answered = status(&is.state) == Some(200);
                    prop_assert!(status(&was.state).is_none() || answered || status(&was.state) == status(&is.state));
                }
            }
        }
    }

    #[test]
    fn expire_leaves_nothing_that_has_ended(log in log(), up_to in moment()) {
        let mut state = SipState::default();
        log.iter().for_each(|c| { state.apply(c); });
        let (before, old) = (state.counts(), state.clone());
        let due = state.next_end().is_some_and(|end| end <= up_to);
        let SipResponse::Expired { bindings, pending, dialogs } = state.apply(&SipCommand::Expire { up_to }) else {
            return Err(TestCaseError::fail("Expire is not answered by Expired"));
        };
        let after = state.counts();
        // Of the state, not of the counts: receipts of messages end, too, and are counted nowhere.
        prop_assert_eq!(due, state != old);
        prop_assert_eq!(u64::from(bindings), before.bindings - after.bindings);
        prop_assert_eq!(u64::from(pending), before.pending_invites - after.pending_invites);
        prop_assert_eq!(u64::from(dialogs), before.dialogs - after.dialogs);
        prop_assert!(state.aors().all(|(_, l)| l.iter().all(|b| b.expires_at > up_to)));
        prop_assert!(state.next_end().is_none_or(|end| end > up_to));
        let forgotten = |d: &DialogRecord| d.expires_at.0.saturating_add(DIALOG_GRACE_MS);
        prop_assert!(state.dialogs().all(|d| forgotten(d) > up_to.0));
        let all = SipCommand::Expire { up_to: WallTime(u64::MAX) };
        state.apply(&all);
        // What the operator has put in stays until he takes it out.
        drawn::take_out(&mut state);
        // Of calls only what accounting says of them is left.
        prop_assert_eq!(state.counts(), SipState::default().counts());
        prop_assert_eq!(state.calls_by_key().count(), 0);
        prop_assert_eq!(state.dialogs_ending().count(), 0);
        prop_assert_eq!(state.next_end(), None);
        for set in 1..3 {
            state.apply(&SipCommand::Dispatcher(DispatcherCommand::Remove { set, uri: None }));
        }
        for uuid in ["a", "b"] {
            state.apply(&SipCommand::Trunk(TrunkCommand::Remove { uuid: uuid.to_owned() }));
        }
        prop_assert_eq!(state.bytes(), 0);
    }
}
