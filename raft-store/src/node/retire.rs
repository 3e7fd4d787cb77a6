//! When a node must not go on under its id.
//!
//! Raft's proof needs that no voter forgets what it has acknowledged. A node that finds out that it has forgotten
//! neither votes nor acknowledges from that moment on; its store is set aside, and it comes back as a learner under a new
//! id, of which nothing has been heard (ADR 4).
//!
//! | what proves it | where |
//! |---|---|
//! | a heartbeat of the present leader names an entry that this log lacks | `Core::has_forgotten` |
//! | a later birth of the cluster | `watch` |
//! | the leader knows a later incarnation of this place | [`super::join`] |
//! | nothing: a majority is in doubt, and this node begins anew with its own state | [`super::doubt`] |
//!
//! **Why a heartbeat is a proof.** openraft's heartbeat names as `prev_log_id` what *this* follower has acknowledged to
//! *this* leader in its term (`core/heartbeat/worker.rs`; nothing in a new term). It was acknowledged before the heartbeat
//! was made, so that no order of messages on two connections can make the log lack it. Within a term a leader never
//! truncates what it has itself, and a heartbeat of an earlier leader is refused for its vote before its position is looked
//! at. What a snapshot covers counts as present. So only a log that has lost its end can differ. Were this wrong in some
//! case, the price is one rejoin.

use std::fmt;

use super::client::Transport;
use super::core::Core;
use super::doubt::Begins;
use super::inbound::RpcReply;
use super::types::{LogId, Vote, place_of};

/// Why a node comes back under a new id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retired {
    /// In words, with positions.
    pub why: String,
    /// The new incarnation must be later than this one.
    pub incarnation: u64,
    /// It begins the cluster anew with its own state: see [`super::doubt`].
    pub begins: Option<Begins>,
}

/// An index, or the beginning.
struct Index(Option<u64>);

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(index) => write!(f, "entry {index}"),
            None => f.write_str("its beginning"),
        }
    }
}

impl<T: Transport> Core<T> {
    /// The leader that `vote` elected named `acknowledged` in a heartbeat, and the log here lacks it.
    pub(super) async fn has_forgotten(&self, vote: Vote, acknowledged: Option<LogId>) -> RpcReply {
        let last = self.raft().with_raft_state(|state| state.log_ids.last().cloned()).await.ok().flatten();
        let last = last.map(|id| id.index);
        let leader = place_of(vote.leader_id.voted_for);
        let named = Index(acknowledged.map(|id| id.index));
        self.retire(Retired {
            why: format!(
                "this node has forgotten what it acknowledged: node {leader}, which leads in term {}, has its word \
                 for {named}, and the log here ends at {}",
                vote.leader_id.term,
                Index(last)
            ),
            incarnation: super::types::incarnation_of(self.config().id),
            begins: None,
        });
        RpcReply::Forgotten { last: last.unwrap_or(0) }
    }
}
