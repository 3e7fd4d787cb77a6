//! A node of the cluster: openraft, its store, its peers.

mod abdicate;
pub mod ack;
mod backlog;
pub mod batch;
pub mod client;
pub mod core;
mod door;
mod entries;
mod polls;
mod forward;
pub mod handle;
mod heartbeat;
pub mod inbound;
pub mod join;
mod life;
pub mod net;
pub mod runtime;
pub mod schedule;
pub mod sm;
pub mod snapshot;
pub mod start;
pub mod store;
mod succeed;
mod take_back;
pub mod types;
mod versions;
mod word;

pub use self::core::{Facts, Peer, PeerFacts};
pub use batch::Done;
pub use client::Clock;
pub use handle::Node;
pub use inbound::{DiskWord, ProposeRefused as Refused};
pub use net::{Path, Way};
pub use start::{NodeConfig, OnThreads, StartError};
pub use types::{Member, Place, RaftId, Role, TypeConfig, incarnation_of, place_of, raft_id};
