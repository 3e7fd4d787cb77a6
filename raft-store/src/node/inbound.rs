//! What nodes say to each other, and who answers it. The transport (TCP, or a simulation) only carries these.

use std::future::Future;

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest,
    VoteResponse,
};
use openraft::type_config::alias::SnapshotMetaOf;
use serde::{Deserialize, Serialize};

use super::client::Lane;
use super::types::{Member, Place, RaftId, TypeConfig, Vote};

/// A question of one node to another. Append-only, like everything that is encoded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Rpc {
    /// Raft AppendEntries; without entries it is a heartbeat.
    Append(AppendEntriesRequest<TypeConfig>),
    /// Raft RequestVote.
    Vote(VoteRequest<TypeConfig>),
    /// Pre-vote: would you vote for me?
    PreVote(VoteRequest<TypeConfig>),
    /// A part of a snapshot. The last one carries `last: true` and is answered with [`RpcReply::Snapshot`].
    Snapshot {
        /// The leader's vote.
        vote: Vote,
        /// What the snapshot covers.
        meta: SnapshotMetaOf<TypeConfig>,
        /// Names the transfer: parts of another one are thrown away.
        transfer: u64,
        /// Byte offset of `data`.
        offset: u64,
        /// The bytes.
        data: Vec<u8>,
        /// Whether this was the last part.
        last: bool,
    },
    /// "`to` is to lead from now on."
    TransferLeader(TransferLeaderRequest<TypeConfig>),
    /// Who are you, and are you part of a cluster?
    Hello,
    /// "My store is empty and the cluster goes on without me: take me in under this new id."
    Join {
        /// The new id.
        id: RaftId,
        /// Its address and role.
        member: Member,
    },
    /// Proposals made on a node that does not lead.
    Propose(crate::command::Batch),
    /// How does your disk do? Asked by a leader whose proposals do not commit.
    Disk,
}

/// The answer to an [`Rpc`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum RpcReply {
    /// To [`Rpc::Append`].
    Append(AppendEntriesResponse<TypeConfig>),
    /// To [`Rpc::Vote`] and [`Rpc::PreVote`].
    Vote(VoteResponse<TypeConfig>),
    /// To a part of a snapshot that is not the last.
    SnapshotPart,
    /// To the last part of a snapshot.
    Snapshot(SnapshotResponse<TypeConfig>),
    /// To [`Rpc::TransferLeader`]: heard (what comes of it shows in the election).
    TransferLeader,
    /// To [`Rpc::Hello`].
    Hello(Hello),
    /// To [`Rpc::Join`].
    Join(JoinReply),
    /// To [`Rpc::Propose`].
    Propose(Result<crate::command::Responses, ProposeRefused>),
    /// The node cannot answer: it is starting, silent for its first lease, or has failed.
    Unavailable(String),
    /// To [`Rpc::Append`], by a node that is silent for its first lease: it follows, but neither votes nor stands yet.
    SilentAppend(AppendEntriesResponse<TypeConfig>),
    /// To [`Rpc::TransferLeader`]: it cannot lead, and the reason.
    CannotLead(String),
    /// To [`Rpc::Disk`].
    Disk(DiskWord),
}

/// How a node's disk does, by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskWord {
    /// Whether it writes what it is given, as the node judges it ([`Syncs::go_on`](crate::log::Syncs::go_on)).
    pub goes_on: bool,
    /// The slowest sync of the last minute, microseconds.
    pub slowest_us: u64,
    /// For how long something waits for a sync, microseconds; 0: nothing does.
    pub waiting_us: u64,
}

/// Where a node stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Its id; `None` while its store is empty.
    pub id: Option<RaftId>,
    /// Whether its log holds a membership: it is part of a cluster.
    pub initialized: bool,
    /// Whom it takes for the leader.
    pub leader: Option<RaftId>,
}

/// What comes of a [`Rpc::Join`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinReply {
    /// Taken in as a voter.
    Joined,
    /// Under way: ask again.
    Wait,
    /// Ask this node, which leads.
    AskLeader(RaftId),
    /// No: the reason.
    Refused(String),
}

/// Why a forwarded proposal has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProposeRefused {
    /// The node asked does not lead.
    NotLeader,
    /// Its queue is full.
    Overloaded,
    /// Nobody knows whether it was committed.
    Unknown,
}

/// Answers for a node.
pub trait Inbound: Send + Sync + 'static {
    /// Answers one question. `from` is the place that the transport has authenticated; `to` is the id that the asker
    /// means: a node that has come back under a new one must not vote, nor acknowledge, for its former self. `lane` is
    /// the connection that it came by.
    fn handle(
        &self,
        from: Place,
        to: RaftId,
        lane: Lane,
        rpc: Rpc,
    ) -> impl Future<Output = RpcReply> + Send;
}
