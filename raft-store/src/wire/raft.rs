//! Mirrors of what belongs to openraft, with the ways there and back.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{CborLen, Decode, Encode};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest,
    VoteResponse,
};
use openraft::type_config::alias::{CommittedLeaderIdOf, LeaderIdOf, SnapshotMetaOf};
use openraft::{EntryPayload, SnapshotMeta};
use proxy_core::wire::Room;

use super::Wire;
use crate::command::Batch;
use crate::node::types::{Entry, LogId, Member, RaftId, StoredMembership, TypeConfig, Vote};

type Membership = openraft::Membership<RaftId, Member>;

/// Position in the log.
#[derive(Clone, Copy, Encode, Decode, CborLen)]
#[cbor(context_bound = "Room")]
struct LogIdForm {
    #[n(0)]
    term: u64,
    #[n(1)]
    index: u64,
}

/// A vote.
#[derive(Clone, Copy, Encode, Decode, CborLen)]
#[cbor(context_bound = "Room")]
struct VoteForm {
    #[n(0)]
    term: u64,
    #[n(1)]
    node: u64,
    #[n(2)]
    committed: bool,
}

/// Who votes: one of two sets while the membership changes.
#[derive(Encode, Decode, CborLen)]
#[cbor(context_bound = "Room", transparent)]
struct VotersForm(#[cbor(n(0), with = "proxy_core::wire::list")] Vec<u64>);

/// Who is in the cluster.
#[derive(Encode, Decode, CborLen)]
#[cbor(context_bound = "Room")]
struct MembershipForm {
    #[cbor(n(0), with = "proxy_core::wire::list", has_nil)]
    configs: Vec<VotersForm>,
    #[cbor(n(1), with = "proxy_core::wire::map", has_nil)]
    nodes: BTreeMap<u64, Member>,
}

/// What a snapshot covers.
#[derive(Encode, Decode, CborLen)]
#[cbor(context_bound = "Room")]
struct SnapshotMetaForm {
    #[n(0)]
    last: Option<LogIdForm>,
    #[n(1)]
    members_at: Option<LogIdForm>,
    #[n(2)]
    members: MembershipForm,
}

/// What an entry says.
#[derive(Encode, Decode, CborLen)]
#[cbor(context_bound = "Room", flat)]
enum PayloadForm<'a> {
    #[n(0)]
    Blank,
    #[n(1)]
    Normal(#[n(0)] Cow<'a, Batch>),
    #[n(2)]
    Membership(#[n(0)] MembershipForm),
}

/// An entry of the log.
#[derive(Encode, Decode, CborLen)]
#[cbor(context_bound = "Room")]
struct EntryForm<'a> {
    #[n(0)]
    id: LogIdForm,
    #[n(1)]
    payload: PayloadForm<'a>,
}

/// AppendEntries.
#[derive(Encode, Decode, CborLen)]
#[cbor(context_bound = "Room")]
struct AppendForm<'a> {
    #[n(0)]
    vote: VoteForm,
    #[n(1)]
    prev: Option<LogIdForm>,
    #[n(2)]
    commit: Option<LogIdForm>,
    #[cbor(n(3), with = "proxy_core::wire::list", has_nil)]
    entries: Vec<EntryForm<'a>>,
}

/// The answer to AppendEntries.
#[derive(Encode, Decode, CborLen)]
#[cbor(context_bound = "Room", flat)]
enum AppendedForm {
    #[n(0)]
    Success,
    #[n(1)]
    Partial(#[n(0)] Option<LogIdForm>),
    #[n(2)]
    Conflict,
    #[n(3)]
    HigherVote(#[n(0)] VoteForm),
}

/// RequestVote.
#[derive(Encode, Decode, CborLen)]
#[cbor(context_bound = "Room")]
struct AskVoteForm {
    #[n(0)]
    vote: VoteForm,
    #[n(1)]
    last: Option<LogIdForm>,
    #[n(2)]
    transfer: bool,
}

/// The answer to RequestVote.
#[derive(Encode, Decode, CborLen)]
#[cbor(context_bound = "Room")]
struct VotedForm {
    #[n(0)]
    vote: VoteForm,
    #[n(1)]
    granted: bool,
    #[n(2)]
    last: Option<LogIdForm>,
}

/// "Lead from now on."
#[derive(Encode, Decode, CborLen)]
#[cbor(context_bound = "Room")]
struct TransferForm {
    #[n(0)]
    from: VoteForm,
    #[n(1)]
    to: u64,
    #[n(2)]
    last: Option<LogIdForm>,
}

/// The answer to the last part of a snapshot.
#[derive(Encode, Decode, CborLen)]
#[cbor(context_bound = "Room")]
struct SnapshotTakenForm {
    #[n(0)]
    vote: VoteForm,
}

/// The way back from a mirror.
trait Back<T> {
    /// What it mirrors; an error if there is no such thing.
    fn back(self) -> Result<T, decode::Error>;
}

impl From<&LogId> for LogIdForm {
    fn from(v: &LogId) -> Self {
        Self { term: v.leader_id.term, index: v.index }
    }
}

impl From<LogIdForm> for LogId {
    fn from(v: LogIdForm) -> Self {
        Self::new(CommittedLeaderIdOf::<TypeConfig>::new(v.term), v.index)
    }
}

impl From<&Vote> for VoteForm {
    fn from(v: &Vote) -> Self {
        Self { term: v.leader_id.term, node: v.leader_id.voted_for, committed: v.committed }
    }
}

impl From<VoteForm> for Vote {
    fn from(v: VoteForm) -> Self {
        if v.committed { Self::new_committed(v.term, v.node) } else { Self::new(v.term, v.node) }
    }
}

impl From<&Membership> for MembershipForm {
    fn from(v: &Membership) -> Self {
        let voters = |set: &BTreeSet<RaftId>| VotersForm(set.iter().copied().collect());
        Self {
            configs: v.get_joint_config().iter().map(voters).collect(),
            nodes: v.nodes().map(|(id, member)| (*id, *member)).collect(),
        }
    }
}

impl Back<Membership> for MembershipForm {
    fn back(self) -> Result<Membership, decode::Error> {
        let configs = self.configs.into_iter().map(|voters| voters.0.into_iter().collect()).collect();
        Membership::new(configs, self.nodes).map_err(decode::Error::message)
    }
}

impl From<&SnapshotMetaOf<TypeConfig>> for SnapshotMetaForm {
    fn from(v: &SnapshotMetaOf<TypeConfig>) -> Self {
        Self {
            last: v.last_log_id.as_ref().map(Into::into),
            members_at: v.last_membership.log_id().as_ref().map(Into::into),
            members: v.last_membership.membership().into(),
        }
    }
}

impl Back<SnapshotMetaOf<TypeConfig>> for SnapshotMetaForm {
    fn back(self) -> Result<SnapshotMetaOf<TypeConfig>, decode::Error> {
        let members = self.members.back()?;
        Ok(SnapshotMeta {
            last_log_id: self.last.map(Into::into),
            last_membership: StoredMembership::new(self.members_at.map(Into::into), members),
        })
    }
}

impl<'a> From<&'a Entry> for EntryForm<'a> {
    fn from(v: &'a Entry) -> Self {
        let payload = match &v.payload {
            EntryPayload::Blank => PayloadForm::Blank,
            EntryPayload::Normal(batch) => PayloadForm::Normal(Cow::Borrowed(batch)),
            EntryPayload::Membership(members) => PayloadForm::Membership(members.into()),
        };
        Self { id: (&v.log_id).into(), payload }
    }
}

impl Back<Entry> for EntryForm<'_> {
    fn back(self) -> Result<Entry, decode::Error> {
        let payload = match self.payload {
            PayloadForm::Blank => EntryPayload::Blank,
            PayloadForm::Normal(batch) => EntryPayload::Normal(batch.into_owned()),
            PayloadForm::Membership(members) => EntryPayload::Membership(members.back()?),
        };
        Ok(Entry { log_id: self.id.into(), payload })
    }
}

impl<'a> From<&'a AppendEntriesRequest<TypeConfig>> for AppendForm<'a> {
    fn from(v: &'a AppendEntriesRequest<TypeConfig>) -> Self {
        Self {
            vote: (&v.vote).into(),
            prev: v.prev_log_id.as_ref().map(Into::into),
            commit: v.leader_commit.as_ref().map(Into::into),
            entries: v.entries.iter().map(Into::into).collect(),
        }
    }
}

impl Back<AppendEntriesRequest<TypeConfig>> for AppendForm<'_> {
    fn back(self) -> Result<AppendEntriesRequest<TypeConfig>, decode::Error> {
        Ok(AppendEntriesRequest {
            vote: self.vote.into(),
            prev_log_id: self.prev.map(Into::into),
            entries: self.entries.into_iter().map(Back::back).collect::<Result<_, _>>()?,
            leader_commit: self.commit.map(Into::into),
        })
    }
}

impl From<&AppendEntriesResponse<TypeConfig>> for AppendedForm {
    fn from(v: &AppendEntriesResponse<TypeConfig>) -> Self {
        match v {
            AppendEntriesResponse::Success => Self::Success,
            AppendEntriesResponse::PartialSuccess(last) => Self::Partial(last.as_ref().map(Into::into)),
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<AppendedForm> for AppendEntriesResponse<TypeConfig> {
    fn from(v: AppendedForm) -> Self {
        match v {
            AppendedForm::Success => Self::Success,
            AppendedForm::Partial(last) => Self::PartialSuccess(last.map(Into::into)),
            AppendedForm::Conflict => Self::Conflict,
            AppendedForm::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<&VoteRequest<TypeConfig>> for AskVoteForm {
    fn from(v: &VoteRequest<TypeConfig>) -> Self {
        Self {
            vote: (&v.vote).into(),
            last: v.last_log_id.as_ref().map(Into::into),
            transfer: v.leadership_transfer,
        }
    }
}

impl From<AskVoteForm> for VoteRequest<TypeConfig> {
    fn from(v: AskVoteForm) -> Self {
        Self { vote: v.vote.into(), last_log_id: v.last.map(Into::into), leadership_transfer: v.transfer }
    }
}

impl From<&VoteResponse<TypeConfig>> for VotedForm {
    fn from(v: &VoteResponse<TypeConfig>) -> Self {
        Self { vote: (&v.vote).into(), granted: v.vote_granted, last: v.last_log_id.as_ref().map(Into::into) }
    }
}

impl From<VotedForm> for VoteResponse<TypeConfig> {
    fn from(v: VotedForm) -> Self {
        Self { vote: v.vote.into(), vote_granted: v.granted, last_log_id: v.last.map(Into::into) }
    }
}

impl From<&TransferLeaderRequest<TypeConfig>> for TransferForm {
    fn from(v: &TransferLeaderRequest<TypeConfig>) -> Self {
        Self { from: v.from_leader().into(), to: *v.to_node_id(), last: v.last_log_id().map(Into::into) }
    }
}

impl From<TransferForm> for TransferLeaderRequest<TypeConfig> {
    fn from(v: TransferForm) -> Self {
        Self::new(v.from.into(), v.to, v.last.map(Into::into))
    }
}

impl From<&SnapshotResponse<TypeConfig>> for SnapshotTakenForm {
    fn from(v: &SnapshotResponse<TypeConfig>) -> Self {
        Self { vote: (&v.vote).into() }
    }
}

impl From<SnapshotTakenForm> for SnapshotResponse<TypeConfig> {
    fn from(v: SnapshotTakenForm) -> Self {
        Self::new(v.vote.into())
    }
}

/// The mirrors that are always whole.
macro_rules! always {
    ($($form:ident => $type:ty),+ $(,)?) => {$(
        impl Back<$type> for $form {
            fn back(self) -> Result<$type, decode::Error> {
                Ok(self.into())
            }
        }
    )+};
}

always! {
    LogIdForm => LogId,
    VoteForm => Vote,
    AppendedForm => AppendEntriesResponse<TypeConfig>,
    AskVoteForm => VoteRequest<TypeConfig>,
    VotedForm => VoteResponse<TypeConfig>,
    TransferForm => TransferLeaderRequest<TypeConfig>,
    SnapshotTakenForm => SnapshotResponse<TypeConfig>,
}

/// A form for fields (`with = "…"`) made of a mirror.
macro_rules! field_form {
    ($(#[$doc:meta])* $module:ident, $type:ty, $form:ident) => {
        $(#[$doc])*
        pub mod $module {
            use super::*;

            /// Writes it.
            pub fn encode<C: Room, W: Write>(
                v: &$type,
                e: &mut Encoder<W>,
                ctx: &mut C,
            ) -> Result<(), encode::Error<W::Error>> {
                $form::from(v).encode(e, ctx)
            }

            /// Reads it.
            pub fn decode<C: Room>(d: &mut Decoder<'_>, ctx: &mut C) -> Result<$type, decode::Error> {
                $form::decode(d, ctx)?.back()
            }

            /// Bytes of it.
            pub fn cbor_len<C: Room>(v: &$type, ctx: &mut C) -> usize {
                $form::from(v).cbor_len(ctx)
            }
        }
    };
}

field_form!(/** A vote. */ vote, Vote, VoteForm);
field_form!(/** AppendEntries. */ append, AppendEntriesRequest<TypeConfig>, AppendForm);
field_form!(/** Its answer. */ appended, AppendEntriesResponse<TypeConfig>, AppendedForm);
field_form!(/** RequestVote. */ ask_vote, VoteRequest<TypeConfig>, AskVoteForm);
field_form!(/** Its answer. */ voted, VoteResponse<TypeConfig>, VotedForm);
field_form!(/** TransferLeader. */ transfer, TransferLeaderRequest<TypeConfig>, TransferForm);
field_form!(/** What a snapshot covers. */ snapshot_meta, SnapshotMetaOf<TypeConfig>, SnapshotMetaForm);
field_form!(
    /** The answer to the last part of a snapshot. */ snapshot_taken, SnapshotResponse<TypeConfig>, SnapshotTakenForm
);

/// Makes what has a mirror [`Wire`].
macro_rules! mirrored {
    ($($type:ty, $form:ident $(, since $since:expr)?);+ $(;)?) => {$(
        impl Wire for $type {
            $(fn since(&self) -> u8 {
                ($since)(self)
            })?

            fn len(&self) -> usize {
                super::len(&$form::from(self))
            }

            fn put(&self, out: &mut Vec<u8>) -> Result<(), encode::Error<Infallible>> {
                super::put(&$form::from(self), out)
            }

            fn get(bytes: &[u8], memory: usize) -> Result<(Self, usize), decode::Error> {
                let (form, used) = super::get::<$form>(bytes, memory)?;
                Ok((form.back()?, used))
            }
        }
    )+};
}

fn entry_since(entry: &Entry) -> u8 {
    match &entry.payload {
        EntryPayload::Normal(batch) => batch.since_version(),
        EntryPayload::Blank | EntryPayload::Membership(_) => super::FIRST_VERSION,
    }
}

/// The lowest format version that can say what this AppendEntries says.
#[must_use]
pub fn append_since(append: &AppendEntriesRequest<TypeConfig>) -> u8 {
    append.entries.iter().map(entry_since).max().unwrap_or(super::FIRST_VERSION)
}

// Not by the names of `types`: other crates could not tell them from types of their own.
mirrored! {
    openraft::Vote<LeaderIdOf<TypeConfig>>, VoteForm;
    openraft::LogId<CommittedLeaderIdOf<TypeConfig>>, LogIdForm;
    SnapshotMetaOf<TypeConfig>, SnapshotMetaForm;
    openraft::Entry<CommittedLeaderIdOf<TypeConfig>, EntryPayload<Batch, RaftId, Member>>, EntryForm, since entry_since;
}
