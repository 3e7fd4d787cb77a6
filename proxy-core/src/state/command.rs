//! What the SIP side asks the cluster to remember, and what the cluster answers.
//!
//! These enums travel in the replicated log: they are **append-only**. A new variant goes to the end, a
//! field never changes its meaning; a changed variant is a new variant. Times inside are wall times set by
//! the proposer; `apply` reads no clock.

use serde::{Deserialize, Serialize};

use super::accounting::AccountingCommand;
use super::dispatcher::DispatcherCommand;
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SipCommand {
    /// REGISTER, RFC 3261 §10.3 steps 6-8, judged in `apply` so that two engines cannot both win.
    Register(RegisterCommand),
    /// Removal by the operator: all contacts of the AOR, or one.
    Unregister {
        /// Address of record, canonical.
        aor: String,
        /// Contact URI, or all.
        contact: Option<Contact>,
    },
    /// An INVITE was accepted for forwarding: before its `100 Trying` leaves and before it is forwarded.
    InviteReceived(Box<PendingInvite>),
    /// A branch learned something worth surviving (first provisional, its To tag, a later timer C).
    BranchProgress {
        /// Transaction of the caller.
        key: ServerKey,
        /// Index into `PendingInvite::branches`.
        branch: u16,
        /// New state of the branch; a final one is never left again.
        state: BranchState,
        /// New timer C deadline of the call, if it moved.
        timer_c_at: Option<WallTime>,
    },
    /// The next round of branches (serial forking, redirects): appended in order, before any of them is sent.
    BranchesAdded {
        /// Transaction of the caller.
        key: ServerKey,
        /// To be appended; their `round` is that of the command.
        branches: Vec<Branch>,
        /// The round they make: one more than the newest of the record, or nothing happens.
        round: u16,
        /// New `PendingInvite::steps_used`.
        steps_used: u16,
        /// When this round is given up.
        no_answer_at: Option<WallTime>,
        /// New timer C deadline of the call; it only ever moves away.
        timer_c_at: WallTime,
    },
    /// The caller hung up: before the 200 to its CANCEL leaves.
    InviteCancelled {
        /// Transaction of the caller.
        key: ServerKey,
    },
    /// A 2xx of a branch: before it is passed to the caller. Creates the dialog.
    InviteAnswered {
        /// Transaction of the caller.
        key: ServerKey,
        /// The branch that answered.
        branch: u16,
        /// The 2xx as it goes to the caller.
        response: Vec<u8>,
        /// The dialog it makes; `None` for a re-INVITE.
        dialog: Option<Box<DialogRecord>>,
        /// When this entry may be forgotten (64*T1 from now, RFC 6026 timer L).
        forget_at: WallTime,
    },
    /// A non-2xx final for the caller: before it is sent.
    InviteFailed {
        /// Transaction of the caller.
        key: ServerKey,
        /// The response as it goes to the caller.
        response: Vec<u8>,
        /// To tag of the response, for accounting.
        to_tag: String,
        /// When it was decided.
        at: WallTime,
        /// When this entry may be forgotten (timer H).
        forget_at: WallTime,
    },
    /// The INVITE transaction is over on all sides: the entry is forgotten.
    InviteDone {
        /// Transaction of the caller.
        key: ServerKey,
    },
    /// A re-INVITE or UPDATE changed a target (RFC 3261 §12.2.2), or the CSeq moved.
    DialogUpdated {
        /// Which dialog.
        id: DialogId,
        /// New Contact of the caller side.
        caller_target: Option<String>,
        /// New Contact of the callee side.
        callee_target: Option<String>,
        /// New lifetime end.
        expires_at: Option<WallTime>,
        /// A CSeq number of the caller; only ever upwards.
        caller_cseq: Option<u32>,
        /// A CSeq number of the callee; only ever upwards.
        callee_cseq: Option<u32>,
        /// What the session timer came to: `Some(None)` if there is none any more.
        session: Option<Option<SessionTimer>>,
    },
    /// BYE was answered, or the proxy has ended the dialog: before the 2xx to the BYE leaves.
    DialogEnded {
        /// Which dialog.
        id: DialogId,
        /// How.
        ending: Ending,
    },
    /// Everything whose end is at or before `up_to` goes. Only the active node proposes it.
    Expire {
        /// Wall time of the proposer.
        up_to: WallTime,
    },
    /// Destinations, and how they fare.
    Dispatcher(DispatcherCommand),
    /// Trunks, and their registrations.
    Trunk(TrunkCommand),
    /// A request within a dialog is sent once more, with credentials and a CSeq of its own: from now on requests to
    /// that side have a CSeq that is higher by `shift`. Before it is sent.
    LegShifted {
        /// Which dialog.
        id: DialogId,
        /// Requests to the caller, or to the callee.
        to_caller: bool,
        /// New [`super::Leg::cseq_shift`].
        shift: u32,
    },
    /// Subscribers, domains, aliases, access lists, the key of nonces.
    Provision(ProvisionCommand),
    /// A branch goes on at another address of the same target (RFC 3263 §4.3): before it is sent there.
    BranchMoved {
        /// Transaction of the caller.
        key: ServerKey,
        /// Index into `PendingInvite::branches`.
        branch: u16,
        /// The flow it leaves; if the branch is not there (any more), nothing happens.
        from: Flow,
        /// Branch parameter of the new copy. Its flow is the first of `Branch::next`.
        via_branch: String,
    },
    /// The outbox of accounting.
    Accounting(AccountingCommand),
    /// Somebody wants the proxy to end a dialog: the active node sends BYE to both sides.
    DialogEnding {
        /// Which dialog.
        id: DialogId,
        /// Who wants it.
        by: EndedBy,
    },
    /// Who watches whose calls.
    Subscription(SubscriptionCommand),
    /// Messages for users who have no phone at the moment.
    Message(MessageCommand),
    /// Media proxies.
    Media(MediaCommand),
    /// The caller has acknowledged the 2xx of a dialog: before the ACK goes on to the callee.
    DialogAcked {
        /// Which dialog.
        id: DialogId,
        /// When the ACK came. Too late, and the dialog is being ended already.
        at: WallTime,
    },
    /// Somebody wants the proxy to end a call that is not answered: the active node fails it, with CANCEL to who rings.
    InviteEnding {
        /// Transaction of the caller.
        key: ServerKey,
        /// Who wants it.
        by: EndedBy,
    },
    /// Nonce counts that were used (RFC 7616 §5.12), and the command that they travel with: its answer is the answer.
    Counted {
        /// The counts, in the order of their use.
        counts: Vec<CountUse>,
        /// The command; never another one of this kind.
        then: Option<Box<SipCommand>>,
    },
}

impl SipCommand {
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProvisionCommand {
    /// A new subscriber.
    SubscriberAdd {
        /// Address of record, with the user escaped as in a URI.
        aor: String,
        /// The account.
        subscriber: Subscriber,
    },
    /// Another password.
    SubscriberPassword {
        /// Address of record.
        aor: String,
        /// Realm of the new HA1.
        realm: String,
        /// What the password leaves behind.
        ha1: Ha1,
    },
    /// A subscriber goes, with its aliases and contacts.
    SubscriberRemove {
        /// Address of record.
        aor: String,
    },
    /// One more local domain.
    DomainAdd(Domain),
    /// A domain is not local any more. Its subscribers stay.
    DomainRemove {
        /// Its name.
        name: String,
    },
    /// Another name of somebody, here or elsewhere.
    AliasAdd {
        /// The other name.
        alias: String,
        /// Whom it stands for.
        target: String,
    },
    /// A name that goes.
    AliasRemove {
        /// The other name.
        alias: String,
    },
    /// A source for a group.
    AclAdd {
        /// Which.
        key: AclKey,
        /// What the operator calls it.
        tag: Option<String>,
    },
    /// A source that goes.
    AclRemove {
        /// Which.
        key: AclKey,
    },
    /// A new key of nonces; the one before it stays known.
    NonceKey {
        /// Id of the newest key that the proposer has seen.
        replaces: Option<u32>,
        /// Drawn by the proposer.
        secret: NonceSecret,
        /// Wall time of the proposer.
        at: WallTime,
    },
}

/// One REGISTER, already checked for syntax by the registrar stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterCommand {
    /// Address of record, canonical (`sip:user@domain`, escapes resolved, domain lower case).
    pub aor: String,
    /// Call-ID of the REGISTER.
    pub call_id: CallId,
    /// CSeq number of the REGISTER.
    pub cseq: u32,
    /// What is asked.
    pub change: RegisterChange,
    /// Limit of contacts per AOR, from the configuration of the proposer.
    pub max_contacts: u16,
    /// Wall time of the proposer.
    pub at: WallTime,
}

/// The Contact part of a REGISTER.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegisterChange {
    /// No Contact: only list.
    Query,
    /// `Contact: *` with `Expires: 0`.
    RemoveAll,
    /// Add, refresh, and remove (`expires_at <= at`), all or none (§10.3 step 7).
    Contacts(Vec<Binding>),
}

/// What `apply` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SipResponse {
    /// Done; nothing more to say.
    Done,
    /// REGISTER accepted: the bindings that are now current.
    Registered(Vec<Binding>),
    /// REGISTER refused.
    RegisterRefused(RegisterRefusal),
    /// `InviteReceived` for a key that is already there: this node (or its predecessor) has it already.
    Duplicate,
    /// The entry the command speaks of is not there (any more).
    NotFound,
    /// The command came too late: the call is already answered, failed, or the branch is final.
    Superseded,
    /// A named bound of the replicated state is reached.
    Full,
    /// `Expire`: how many records went.
    Expired {
        /// Bindings removed.
        bindings: u32,
        /// Pending INVITEs removed.
        pending: u32,
        /// Dialogs removed.
        dialogs: u32,
    },
    /// Of [`SipCommand::Provision`].
    Provisioned(ProvisionAnswer),
    /// `InviteReceived`: as many calls as are allowed are counted under this key.
    LimitReached(CountKey),
}

/// What came of a [`ProvisionCommand`]. Everything but `Done` leaves the state as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProvisionAnswer {
    /// Done.
    Done,
    /// It is there already.
    Exists,
    /// The name of the new subscriber is an alias.
    IsAlias,
    /// The name of the new alias is a subscriber.
    IsSubscriber,
    /// It is not there.
    NotFound,
    /// A named bound of the replicated state is reached.
    Full,
    /// Too long, empty where something must stand, control characters, or an alias of itself.
    Malformed,
    /// Somebody else was first.
    Superseded,
}

/// Why a REGISTER was refused in `apply`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegisterRefusal {
    /// Same Call-ID, CSeq not higher than the stored one, and not the same request again (§10.3 step 7).
    OutOfOrder,
    /// More contacts than the configuration allows (503).
    TooManyContacts,
}
