//! What the SIP side asks the cluster to remember, and what the cluster answers.
//!
//! These enums travel in the replicated log: they only grow. A new variant has the next number, a
//! field never changes its meaning; a changed variant is a new variant. Times inside are wall times set by
//! the proposer; `apply` reads no clock.

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::accounting::AccountingCommand;
use super::dispatcher::DispatcherCommand;
use super::limits::MAX_EXPIRED_AT_ONCE;
use super::media::MediaCommand;
use super::message_store::MessageCommand;
use super::nonces::CountUse;
use super::parties::{CountKey, EndedBy, Ending, SessionTimer};
use super::provision::{AclKey, Domain, Ha1, NonceSecret, Subscriber};
use super::subscriptions::SubscriptionCommand;
use super::trunk::TrunkCommand;
use super::types::{
    Binding, Branch, BranchState, CallId, Contact, DialogId, DialogRecord, Flow, PendingInvite, ServerKey,
};
use crate::time::WallTime;

/// A change of the replicated SIP state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", flat)]
pub enum SipCommand {
    /// REGISTER, RFC 3261 §10.3 steps 6-8, judged in `apply` so that two engines cannot both win.
    #[n(0)]
    Register(#[n(0)] RegisterCommand),
    /// Removal by the operator: all contacts of the AOR, or one.
    #[n(1)]
    Unregister {
        /// Address of record, canonical.
        #[n(0)]
        aor: String,
        /// Contact URI, or all.
        #[n(1)]
        contact: Option<Contact>,
    },
    /// An INVITE was accepted for forwarding: before its `100 Trying` leaves and before it is forwarded.
    #[n(2)]
    InviteReceived(#[n(0)] Box<PendingInvite>),
    /// A branch learned something worth surviving (first provisional, its To tag, a later timer C).
    #[n(3)]
    BranchProgress {
        /// Transaction of the caller.
        #[n(0)]
        key: ServerKey,
        /// Index into `PendingInvite::branches`.
        #[n(1)]
        branch: u16,
        /// New state of the branch; a final one is never left again.
        #[n(2)]
        state: BranchState,
        /// New timer C deadline of the call, if it moved.
        #[n(3)]
        timer_c_at: Option<WallTime>,
    },
    /// The next round of branches (serial forking, redirects): appended in order, before any of them is sent.
    #[n(4)]
    BranchesAdded {
        /// Transaction of the caller.
        #[n(0)]
        key: ServerKey,
        /// To be appended; their `round` is that of the command.
        #[cbor(n(1), with = "crate::wire::list", has_nil)]
        branches: Vec<Branch>,
        /// The round they make: one more than the newest of the record, or nothing happens.
        #[n(2)]
        round: u16,
        /// New `PendingInvite::steps_used`.
        #[n(3)]
        steps_used: u16,
        /// When this round is given up.
        #[n(4)]
        no_answer_at: Option<WallTime>,
        /// New timer C deadline of the call; it only ever moves away.
        #[n(5)]
        timer_c_at: WallTime,
    },
    /// The caller hung up: before the 200 to its CANCEL leaves.
    #[n(5)]
    InviteCancelled {
        /// Transaction of the caller.
        #[n(0)]
        key: ServerKey,
    },
    /// A 2xx of a branch: before it is passed to the caller. Creates the dialog.
    #[n(6)]
    InviteAnswered {
        /// Transaction of the caller.
        #[n(0)]
        key: ServerKey,
        /// The branch that answered.
        #[n(1)]
        branch: u16,
        /// The 2xx as it goes to the caller.
        #[cbor(n(2), with = "minicbor::bytes")]
        response: Vec<u8>,
        /// The dialog it makes; `None` for a re-INVITE.
        #[cbor(n(3), with = "crate::wire::opt", has_nil)]
        dialog: Option<Box<DialogRecord>>,
        /// When this entry may be forgotten (64*T1 from now, RFC 6026 timer L).
        #[n(4)]
        forget_at: WallTime,
    },
    /// A non-2xx final for the caller: before it is sent.
    #[n(7)]
    InviteFailed {
        /// Transaction of the caller.
        #[n(0)]
        key: ServerKey,
        /// The response as it goes to the caller.
        #[cbor(n(1), with = "minicbor::bytes")]
        response: Vec<u8>,
        /// To tag of the response, for accounting.
        #[n(2)]
        to_tag: String,
        /// When it was decided.
        #[n(3)]
        at: WallTime,
        /// When this entry may be forgotten (timer H).
        #[n(4)]
        forget_at: WallTime,
    },
    /// The INVITE transaction is over on all sides: the entry is forgotten.
    #[n(8)]
    InviteDone {
        /// Transaction of the caller.
        #[n(0)]
        key: ServerKey,
    },
    /// A re-INVITE or UPDATE changed a target (RFC 3261 §12.2.2), or the CSeq moved.
    #[n(9)]
    DialogUpdated {
        /// Which dialog.
        #[n(0)]
        id: DialogId,
        /// New Contact of the caller side.
        #[n(1)]
        caller_target: Option<String>,
        /// New Contact of the callee side.
        #[n(2)]
        callee_target: Option<String>,
        /// New lifetime end.
        #[n(3)]
        expires_at: Option<WallTime>,
        /// A CSeq number of the caller; only ever upwards.
        #[n(4)]
        caller_cseq: Option<u32>,
        /// A CSeq number of the callee; only ever upwards.
        #[n(5)]
        callee_cseq: Option<u32>,
        /// What the session timer came to: `Some(None)` if there is none any more.
        #[cbor(n(6), with = "crate::wire::change", has_nil)]
        session: Option<Option<SessionTimer>>,
    },
    /// BYE was answered, or the proxy has ended the dialog: before the 2xx to the BYE leaves.
    #[n(10)]
    DialogEnded {
        /// Which dialog.
        #[n(0)]
        id: DialogId,
        /// How.
        #[n(1)]
        ending: Ending,
    },
    /// Everything whose end is at or before `up_to` goes. Only the active node proposes it.
    #[n(11)]
    Expire {
        /// Wall time of the proposer.
        #[n(0)]
        up_to: WallTime,
    },
    /// Destinations, and how they fare.
    #[n(12)]
    Dispatcher(#[n(0)] DispatcherCommand),
    /// Trunks, and their registrations.
    #[n(13)]
    Trunk(#[n(0)] TrunkCommand),
    /// A request within a dialog is sent once more, with credentials and a CSeq of its own: from now on requests to
    /// that side have a CSeq that is higher by `shift`. Before it is sent.
    #[n(14)]
    LegShifted {
        /// Which dialog.
        #[n(0)]
        id: DialogId,
        /// Requests to the caller, or to the callee.
        #[n(1)]
        to_caller: bool,
        /// New [`super::Leg::cseq_shift`].
        #[n(2)]
        shift: u32,
    },
    /// Subscribers, domains, aliases, access lists, the key of nonces.
    #[n(15)]
    Provision(#[n(0)] ProvisionCommand),
    /// A branch goes on at another address of the same target (RFC 3263 §4.3): before it is sent there.
    #[n(16)]
    BranchMoved {
        /// Transaction of the caller.
        #[n(0)]
        key: ServerKey,
        /// Index into `PendingInvite::branches`.
        #[n(1)]
        branch: u16,
        /// The flow it leaves; if the branch is not there (any more), nothing happens.
        #[n(2)]
        from: Flow,
        /// Branch parameter of the new copy. Its flow is the first of `Branch::next`.
        #[n(3)]
        via_branch: String,
    },
    /// The outbox of accounting.
    #[n(17)]
    Accounting(#[n(0)] AccountingCommand),
    /// Somebody wants the proxy to end a dialog: the active node sends BYE to both sides.
    #[n(18)]
    DialogEnding {
        /// Which dialog.
        #[n(0)]
        id: DialogId,
        /// Who wants it.
        #[n(1)]
        by: EndedBy,
    },
    /// Who watches whose calls.
    #[n(19)]
    Subscription(#[n(0)] SubscriptionCommand),
    /// Messages for users who have no phone at the moment.
    #[n(20)]
    Message(#[n(0)] MessageCommand),
    /// Media proxies.
    #[n(21)]
    Media(#[n(0)] MediaCommand),
    /// The caller has acknowledged the 2xx of a dialog: before the ACK goes on to the callee.
    #[n(22)]
    DialogAcked {
        /// Which dialog.
        #[n(0)]
        id: DialogId,
        /// When the ACK came. Too late, and the dialog is being ended already.
        #[n(1)]
        at: WallTime,
    },
    /// Somebody wants the proxy to end a call that is not answered: the active node fails it, with CANCEL to who rings.
    #[n(23)]
    InviteEnding {
        /// Transaction of the caller.
        #[n(0)]
        key: ServerKey,
        /// Who wants it.
        #[n(1)]
        by: EndedBy,
    },
    /// Nonce counts that were used (RFC 7616 §5.12), and the command that they travel with: its answer is the answer.
    #[n(24)]
    Counted {
        /// The counts, in the order of their use.
        #[cbor(n(0), with = "crate::wire::list", has_nil)]
        counts: Vec<CountUse>,
        /// The command; never another one of this kind.
        #[cbor(n(1), with = "crate::wire::nested", has_nil)]
        then: Option<Box<SipCommand>>,
    },
}

impl SipCommand {
    /// The format version from which on it is read (see [`crate::wire`]): more than the first where it says something
    /// that was added later.
    #[must_use]
    pub fn since_version(&self) -> u8 {
        // Each is named, so that a new one, or a new field of one, makes its author say from which version on.
        match self {
            Self::Counted { then, .. } => {
                then.as_ref().map_or(crate::wire::FIRST_VERSION, |then| then.since_version())
            }
            Self::Provision(change) => change.since_version(),
            Self::Register(_)
            | Self::Unregister { .. }
            | Self::InviteReceived(_)
            | Self::BranchProgress { .. }
            | Self::BranchesAdded { .. }
            | Self::InviteCancelled { .. }
            | Self::InviteAnswered { .. }
            | Self::InviteFailed { .. }
            | Self::InviteDone { .. }
            | Self::DialogUpdated { .. }
            | Self::DialogEnded { .. }
            | Self::Expire { .. }
            | Self::Dispatcher(_)
            | Self::Trunk(_)
            | Self::LegShifted { .. }
            | Self::BranchMoved { .. }
            | Self::Accounting(_)
            | Self::DialogEnding { .. }
            | Self::Subscription(_)
            | Self::Message(_)
            | Self::Media(_)
            | Self::DialogAcked { .. }
            | Self::InviteEnding { .. } => crate::wire::FIRST_VERSION,
        }
    }

    /// The command itself, without the nonce counts that travel with it.
    #[must_use]
    pub fn bare(&self) -> &Self {
        match self {
            Self::Counted { then: Some(then), .. } => then,
            command => command,
        }
    }
}

/// A change of what is provisioned. AORs are canonical (`sip:user@domain`), names of domains in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", flat)]
pub enum ProvisionCommand {
    /// A new subscriber.
    #[n(0)]
    SubscriberAdd {
        /// Address of record, with the user escaped as in a URI.
        #[n(0)]
        aor: String,
        /// The account.
        #[n(1)]
        subscriber: Subscriber,
    },
    /// Another password.
    #[n(1)]
    SubscriberPassword {
        /// Address of record.
        #[n(0)]
        aor: String,
        /// Realm of the new HA1.
        #[n(1)]
        realm: String,
        /// What the password leaves behind.
        #[n(2)]
        ha1: Ha1,
    },
    /// A subscriber goes, with its aliases and contacts.
    #[n(2)]
    SubscriberRemove {
        /// Address of record.
        #[n(0)]
        aor: String,
    },
    /// One more local domain.
    #[n(3)]
    DomainAdd(#[n(0)] Domain),
    /// A domain is not local any more. Its subscribers stay.
    #[n(4)]
    DomainRemove {
        /// Its name.
        #[n(0)]
        name: String,
    },
    /// Another name of somebody, here or elsewhere.
    #[n(5)]
    AliasAdd {
        /// The other name.
        #[n(0)]
        alias: String,
        /// Whom it stands for.
        #[n(1)]
        target: String,
    },
    /// A name that goes.
    #[n(6)]
    AliasRemove {
        /// The other name.
        #[n(0)]
        alias: String,
    },
    /// A source for a group.
    #[n(7)]
    AclAdd {
        /// Which.
        #[n(0)]
        key: AclKey,
        /// What the operator calls it.
        #[n(1)]
        tag: Option<String>,
    },
    /// A source that goes.
    #[n(8)]
    AclRemove {
        /// Which.
        #[n(0)]
        key: AclKey,
    },
    /// A new key of nonces; the one before it stays known.
    #[n(9)]
    NonceKey {
        /// Id of the newest key that the proposer has seen.
        #[n(0)]
        replaces: Option<u32>,
        /// Drawn by the proposer.
        #[n(1)]
        secret: NonceSecret,
        /// Wall time of the proposer.
        #[n(2)]
        at: WallTime,
    },
}

impl ProvisionCommand {
    /// The format version from which on it is read.
    #[must_use]
    pub fn since_version(&self) -> u8 {
        match self {
            Self::SubscriberAdd { .. }
            | Self::SubscriberPassword { .. }
            | Self::SubscriberRemove { .. }
            | Self::DomainAdd(_)
            | Self::DomainRemove { .. }
            | Self::AliasAdd { .. }
            | Self::AliasRemove { .. }
            | Self::AclAdd { .. }
            | Self::AclRemove { .. }
            | Self::NonceKey { .. } => crate::wire::FIRST_VERSION,
        }
    }
}

/// One REGISTER, already checked for syntax by the registrar stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct RegisterCommand {
    /// Address of record, canonical (`sip:user@domain`, escapes resolved, domain lower case).
    #[n(0)]
    pub aor: String,
    /// Call-ID of the REGISTER.
    #[n(1)]
    pub call_id: CallId,
    /// CSeq number of the REGISTER.
    #[n(2)]
    pub cseq: u32,
    /// What is asked.
    #[n(3)]
    pub change: RegisterChange,
    /// Limit of contacts per AOR, from the configuration of the proposer.
    #[n(4)]
    pub max_contacts: u16,
    /// Wall time of the proposer.
    #[n(5)]
    pub at: WallTime,
}

/// The Contact part of a REGISTER.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", flat)]
pub enum RegisterChange {
    /// No Contact: only list.
    #[n(0)]
    Query,
    /// `Contact: *` with `Expires: 0`.
    #[n(1)]
    RemoveAll,
    /// Add, refresh, and remove (`expires_at <= at`), all or none (§10.3 step 7).
    #[n(2)]
    Contacts(#[cbor(n(0), with = "crate::wire::list", has_nil)] Vec<Binding>),
}

/// What `apply` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", flat)]
pub enum SipResponse {
    /// Done; nothing more to say.
    #[n(0)]
    Done,
    /// REGISTER accepted: the bindings that are now current.
    #[n(1)]
    Registered(#[cbor(n(0), with = "crate::wire::list", has_nil)] Vec<Binding>),
    /// REGISTER refused.
    #[n(2)]
    RegisterRefused(#[n(0)] RegisterRefusal),
    /// `InviteReceived` for a key that is already there: this node (or its predecessor) has it already.
    #[n(3)]
    Duplicate,
    /// The entry the command speaks of is not there (any more).
    #[n(4)]
    NotFound,
    /// The command came too late: the call is already answered, failed, or the branch is final.
    #[n(5)]
    Superseded,
    /// A named bound of the replicated state is reached.
    #[n(6)]
    Full,
    /// `Expire`: how many records went.
    #[n(7)]
    Expired {
        /// Bindings removed.
        #[n(0)]
        bindings: u32,
        /// Pending INVITEs removed.
        #[n(1)]
        pending: u32,
        /// Dialogs removed.
        #[n(2)]
        dialogs: u32,
    },
    /// Of [`SipCommand::Provision`].
    #[n(8)]
    Provisioned(#[n(0)] ProvisionAnswer),
    /// `InviteReceived`: as many calls as are allowed are counted under this key.
    #[n(9)]
    LimitReached(#[n(0)] CountKey),
}

/// What came of a [`ProvisionCommand`]. Everything but `Done` leaves the state as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", index_only)]
pub enum ProvisionAnswer {
    /// Done.
    #[n(0)]
    Done,
    /// It is there already.
    #[n(1)]
    Exists,
    /// The name of the new subscriber is an alias.
    #[n(2)]
    IsAlias,
    /// The name of the new alias is a subscriber.
    #[n(3)]
    IsSubscriber,
    /// It is not there.
    #[n(4)]
    NotFound,
    /// A named bound of the replicated state is reached.
    #[n(5)]
    Full,
    /// Too long, empty where something must stand, control characters, or an alias of itself.
    #[n(6)]
    Malformed,
    /// Somebody else was first.
    #[n(7)]
    Superseded,
}

/// Why a REGISTER was refused in `apply`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", index_only)]
pub enum RegisterRefusal {
    /// Same Call-ID, CSeq not higher than the stored one, and not the same request again (§10.3 step 7).
    #[n(0)]
    OutOfOrder,
    /// More contacts than the configuration allows (503).
    #[n(1)]
    TooManyContacts,
}

impl SipResponse {
    /// Whether an `Expire` has removed as much as one may: another one would find more.
    #[must_use]
    pub fn has_left_some(&self) -> bool {
        let Self::Expired { bindings, pending, dialogs } = self else { return false };
        [bindings, pending, dialogs].into_iter().any(|n| *n as usize >= MAX_EXPIRED_AT_ONCE)
    }
}
