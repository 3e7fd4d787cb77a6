//! The names under which openraft knows this cluster: node ids, addresses, entries.

use std::fmt;
use std::net::SocketAddr;

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::runtime::Runtime;
use crate::command::{Batch, Responses};

/// Id of a node in the configuration: what people, grants and `relevo status` speak of. Never 0.
pub type Place = u16;

/// Id of a node for openraft: `incarnation << 16 | place`. A node whose store was lost comes back under a new
/// incarnation, because a voter that has forgotten its votes must never vote again under the same id.
pub type RaftId = u64;

/// The place of a Raft id.
#[must_use]
pub const fn place_of(id: RaftId) -> Place {
    (id & 0xffff) as Place
}

/// The incarnation of a Raft id: 0 at the first start of a cluster, later the wall time in ms at which it joined.
#[must_use]
pub const fn incarnation_of(id: RaftId) -> u64 {
    id >> 16
}

/// The Raft id of an incarnation of a place; the incarnation is cut to 48 bits (wall time in ms until year 10889).
#[must_use]
pub const fn raft_id(incarnation: u64, place: Place) -> RaftId {
    (incarnation << 16) | place as u64
}

/// What a node may do.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    Encode,
    Decode,
    CborLen,
)]
#[cbor(context_bound = "proxy_core::wire::Room", index_only)]
pub enum Role {
    /// Votes, and may hold the floating IP.
    #[default]
    #[n(0)]
    Appliance,
    /// Votes, and never holds the floating IP.
    #[n(1)]
    Witness,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Appliance => "appliance",
            Self::Witness => "witness",
        })
    }
}

/// What the membership knows of a node beside its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Member {
    /// Address of its Raft RPC.
    #[cbor(n(0), with = "proxy_core::wire::addr")]
    pub addr: SocketAddr,
    /// What it may do.
    #[n(1)]
    pub role: Role,
}

// openraft wants a default of every node type; nothing here makes one.
impl Default for Member {
    fn default() -> Self {
        Self { addr: SocketAddr::from(([0, 0, 0, 0], 0)), role: Role::Witness }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.role, self.addr)
    }
}

openraft::declare_raft_types!(
    /// The type configuration of every Relevo cluster. One leader per term (`leader_id_std`), so that "has tried to
    /// transfer leadership in this term" names one leader.
    pub TypeConfig:
        D = Batch,
        R = Responses,
        NodeId = RaftId,
        Node = Member,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, RaftId>,
        AsyncRuntime = Runtime,
);

/// openraft's handle of a node.
pub type Raft = openraft::Raft<TypeConfig, super::sm::Machine>;
/// A vote: term, node, committed or not.
pub type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
/// Position in the log.
pub type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
/// One log entry.
pub type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
/// Who is in the cluster, and since when.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raft_id_keeps_place_and_incarnation_apart() {
        let id = raft_id(1_800_000_000_123, 513);
        assert_eq!((place_of(id), incarnation_of(id)), (513, 1_800_000_000_123));
        assert_eq!(raft_id(0, 3), 3);
    }
}
