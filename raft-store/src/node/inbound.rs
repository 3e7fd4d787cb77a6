//! What nodes say to each other, and who answers it. The transport (TCP, or a simulation) only carries these.

use std::future::Future;

use minicbor::{CborLen, Decode, Encode};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest,
    VoteResponse,
};
use openraft::type_config::alias::SnapshotMetaOf;
use proxy_core::time::{RealTime, WallTime};

use super::client::Lane;
use super::digest::Digest;
use super::doubt::Reach;
use super::members::{self, MEMBERS_VERSION};
use super::types::{Member, Place, RaftId, TypeConfig, Vote};

/// A question of one node to another. Append-only, like everything that is encoded.
#[derive(Debug, Clone, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room", flat)]
pub enum Rpc {
    /// Raft AppendEntries; without entries it is a heartbeat.
    #[n(0)]
    Append(#[cbor(n(0), with = "crate::wire::raft::append")] AppendEntriesRequest<TypeConfig>),
    /// Raft RequestVote.
    #[n(1)]
    Vote(#[cbor(n(0), with = "crate::wire::raft::ask_vote")] VoteRequest<TypeConfig>),
    /// Pre-vote: would you vote for me?
    #[n(2)]
    PreVote(#[cbor(n(0), with = "crate::wire::raft::ask_vote")] VoteRequest<TypeConfig>),
    /// A part of a snapshot. The last one carries `last: true` and is answered with [`RpcReply::Snapshot`].
    #[n(3)]
    Snapshot {
        /// The leader's vote.
        #[cbor(n(0), with = "crate::wire::raft::vote")]
        vote: Vote,
        /// What the snapshot covers.
        #[cbor(n(1), with = "crate::wire::raft::snapshot_meta")]
        meta: SnapshotMetaOf<TypeConfig>,
        /// Names the transfer: parts of another one are thrown away.
        #[n(2)]
        transfer: u64,
        /// Byte offset of `data`.
        #[n(3)]
        offset: u64,
        /// The bytes.
        #[cbor(n(4), with = "minicbor::bytes")]
        data: Vec<u8>,
        /// Whether this was the last part.
        #[n(5)]
        last: bool,
    },
    /// "`to` is to lead from now on."
    #[n(4)]
    TransferLeader(#[cbor(n(0), with = "crate::wire::raft::transfer")] TransferLeaderRequest<TypeConfig>),
    /// Who are you, and are you part of a cluster?
    #[n(5)]
    Hello,
    /// "My store is empty and the cluster goes on without me: take me in under this new id."
    #[n(6)]
    Join {
        /// The new id.
        #[n(0)]
        id: RaftId,
        /// Its address and role.
        #[n(1)]
        member: Member,
    },
    /// Proposals made on a node that does not lead.
    #[n(7)]
    Propose(#[n(0)] crate::command::Batch),
    /// How does your disk do? Asked by a leader whose proposals do not commit.
    #[n(8)]
    Disk,
    /// "It is so late here, and with you?"
    #[n(9)]
    Time(#[n(0)] Told),
    /// "Change who is in the cluster": an operator asked another node than the leader.
    #[n(20)]
    Members(#[n(0)] members::Ask),
}

impl Rpc {
    /// The format version from which on it is read.
    #[must_use]
    pub fn since_version(&self) -> u8 {
        match self {
            Self::Append(append) => crate::wire::raft::append_since(append),
            Self::Propose(batch) => batch.since_version(),
            Self::Time(_) => crate::wire::TIME_VERSION,
            Self::Members(_) => MEMBERS_VERSION,
            Self::Vote(_)
            | Self::PreVote(_)
            | Self::Snapshot { .. }
            | Self::TransferLeader(_)
            | Self::Hello
            | Self::Join { .. }
            | Self::Disk => crate::wire::FIRST_VERSION,
        }
    }
}

/// The format version from which on nodes tell that one has forgotten, or needs a later incarnation.
const FORGETTING_VERSION: u8 = 4;

/// The answer to an [`Rpc`].
#[derive(Debug, Clone, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room", flat)]
pub enum RpcReply {
    /// To [`Rpc::Append`].
    #[n(0)]
    Append(#[cbor(n(0), with = "crate::wire::raft::appended")] AppendEntriesResponse<TypeConfig>),
    /// To [`Rpc::Vote`] and [`Rpc::PreVote`].
    #[n(1)]
    Vote(#[cbor(n(0), with = "crate::wire::raft::voted")] VoteResponse<TypeConfig>),
    /// To a part of a snapshot that is not the last.
    #[n(2)]
    SnapshotPart,
    /// To the last part of a snapshot.
    #[n(3)]
    Snapshot(#[cbor(n(0), with = "crate::wire::raft::snapshot_taken")] SnapshotResponse<TypeConfig>),
    /// To [`Rpc::TransferLeader`]: heard (what comes of it shows in the election).
    #[n(4)]
    TransferLeader,
    /// To [`Rpc::Hello`].
    #[n(5)]
    Hello(#[n(0)] Hello),
    /// To [`Rpc::Join`].
    #[n(6)]
    Join(#[n(0)] JoinReply),
    /// To [`Rpc::Propose`].
    #[n(7)]
    Propose(#[n(0)] Result<crate::command::Responses, ProposeRefused>),
    /// The node cannot answer: it is starting, silent for its first lease, or has failed.
    #[n(8)]
    Unavailable(#[n(0)] String),
    /// To [`Rpc::Append`], by a node that is silent for its first lease: it follows, but neither votes nor stands yet.
    #[n(9)]
    SilentAppend(#[cbor(n(0), with = "crate::wire::raft::appended")] AppendEntriesResponse<TypeConfig>),
    /// To [`Rpc::TransferLeader`]: it cannot lead, and the reason.
    #[n(10)]
    CannotLead(#[n(0)] String),
    /// To [`Rpc::Disk`].
    #[n(11)]
    Disk(#[n(0)] DiskWord),
    /// To [`Rpc::Append`], by a node whose log lacks what it had acknowledged: it neither votes nor acknowledges any
    /// more, and comes back under a new id.
    #[n(12)]
    Forgotten {
        /// Index of the last entry in its log.
        #[n(0)]
        last: u64,
    },
    /// To [`Rpc::Time`].
    #[n(13)]
    Time(#[n(0)] Told),
    /// To [`Rpc::Members`].
    #[n(20)]
    Members(#[n(0)] Result<members::Done, members::Refusal>),
}

/// How a node's disk does, by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct DiskWord {
    /// Whether it writes what it is given, as the node judges it ([`Syncs::go_on`](crate::log::Syncs::go_on)).
    #[n(0)]
    pub goes_on: bool,
    /// The slowest sync of the last minute, microseconds.
    #[n(1)]
    pub slowest_us: u64,
    /// For how long something waits for a sync, microseconds; 0: nothing does.
    #[n(2)]
    pub waiting_us: u64,
}

/// What a node says of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Told {
    /// The time of the cluster, if it has counted that without a break.
    #[n(0)]
    pub time: Option<WallTime>,
    /// What its wall clock shows.
    #[n(1)]
    pub real: RealTime,
    /// In a leader's question: the wall clock of the node asked is wrong by the word of most.
    #[n(2)]
    pub is_odd: bool,
}

impl RpcReply {
    /// The format version from which on it is read.
    #[must_use]
    pub fn since_version(&self) -> u8 {
        match self {
            Self::Forgotten { .. } | Self::Join(JoinReply::UseAtLeast(_)) => FORGETTING_VERSION,
            Self::Time(_) => crate::wire::TIME_VERSION,
            Self::Members(_) => MEMBERS_VERSION,
            Self::Hello(hello) if *hello != hello.plain() => FORGETTING_VERSION,
            _ => crate::wire::FIRST_VERSION,
        }
    }

    /// The same for a node that reads no version beyond `last`.
    #[must_use]
    pub fn for_reader(self, last: u8) -> Self {
        let since = self.since_version();
        match self {
            same if since <= last => same,
            // Who stands where is asked again and again, also by those who need no more than that.
            Self::Hello(hello) => Self::Hello(hello.plain()),
            _ => Self::Unavailable(format!("the answer needs format version {since}")),
        }
    }
}

/// Where a node stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Hello {
    /// Its id; `None` while its store is empty.
    #[n(0)]
    pub id: Option<RaftId>,
    /// Whether its log holds a membership: it is part of a cluster.
    #[n(1)]
    pub initialized: bool,
    /// Whom it takes for the leader.
    #[n(2)]
    pub leader: Option<RaftId>,
    /// Something was in its store, and cannot be used: it may join a cluster and never begin one.
    #[cbor(n(3), with = "proxy_core::wire::added", has_nil)]
    pub damaged: bool,
    /// It leads, and a majority has acknowledged that within its lease.
    #[cbor(n(4), with = "proxy_core::wire::added", has_nil)]
    pub leads: bool,
    /// Term of the newest vote that it knows; the upper half is the birth of its cluster ([`super::rebirth`]).
    #[cbor(n(5), with = "proxy_core::wire::added", has_nil)]
    pub term: u64,
    /// Index of the last entry that it has applied.
    #[cbor(n(6), with = "proxy_core::wire::added", has_nil)]
    pub applied: u64,
    /// The latest incarnation in its membership.
    #[cbor(n(7), with = "proxy_core::wire::added", has_nil)]
    pub incarnation: u64,
    /// What the entries of the newest whole windows did to its state.
    #[cbor(n(8), with = "proxy_core::wire::list", has_nil)]
    pub digests: Vec<Digest>,
    /// How far its log reaches; told by who does not lead, for a majority that is in doubt.
    #[n(9)]
    pub reach: Option<Reach>,
    /// Who is in the cluster; told by who leads it.
    #[cbor(n(20), with = "proxy_core::wire::list", has_nil)]
    pub members: Vec<RaftId>,
}

impl Hello {
    /// What the first format version has words for.
    #[must_use]
    fn plain(&self) -> Self {
        Self { id: self.id, initialized: self.initialized, leader: self.leader, ..Self::default() }
    }
}

/// What comes of a [`Rpc::Join`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room", flat)]
pub enum JoinReply {
    /// Taken in as a voter.
    #[n(0)]
    Joined,
    /// Under way: ask again.
    #[n(1)]
    Wait,
    /// Ask this node, which leads.
    #[n(2)]
    AskLeader(#[n(0)] RaftId),
    /// No: the reason.
    #[n(3)]
    Refused(#[n(0)] String),
    /// This incarnation, or a later one, has been here: come under this one or a later one.
    #[n(4)]
    UseAtLeast(#[n(0)] u64),
}

/// Why a forwarded proposal has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room", index_only)]
pub enum ProposeRefused {
    /// The node asked does not lead.
    #[n(0)]
    NotLeader,
    /// Its queue is full.
    #[n(1)]
    Overloaded,
    /// Nobody knows whether it was committed.
    #[n(2)]
    Unknown,
    /// Not every member of the cluster reads such a command yet.
    #[n(3)]
    Unread,
}

/// Answers for a node.
pub trait Inbound: Send + Sync + 'static {
    /// Answers one question. `from` is the place that the transport has authenticated; `to` is the id that the asker
    /// means: a node that has come back under a new one must not vote, nor acknowledge, for its former self. `lane` is
    /// the connection that it came by.
    fn handle(&self, from: Place, to: RaftId, lane: Lane, rpc: Rpc) -> impl Future<Output = RpcReply> + Send;
}
