//! A node of the cluster: openraft, its store, its peers.

pub mod inbound;
pub mod runtime;
pub mod sm;
pub mod types;

pub use types::{Member, Place, RaftId, Role, TypeConfig, incarnation_of, place_of, raft_id};
