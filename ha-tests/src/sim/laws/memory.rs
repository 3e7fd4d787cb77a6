//! Invariants 16 and 18: of what was acknowledged, and is not on the disk any more.
//!
//! | what happens | is right if |
//! |---|---|
//! | a node votes, stands, or acknowledges an append | no leader has told its id before that it lacks what it had acknowledged |
//! | a node makes a store with the id of the first start | nothing was ever on its machine |

use std::collections::BTreeSet;

use openraft::raft::AppendEntriesResponse;
use raft_store::node::inbound::{Rpc, RpcReply};
use raft_store::node::{Place, RaftId, incarnation_of};

use crate::sim::net::Body;

/// Who has been told that it has forgotten.
#[derive(Debug, Default)]
pub struct Law {
    /// Heartbeats under way in a node: who asked (the run of its process), and the number of the question.
    asked: BTreeSet<(RaftId, u32, u64)>,
    told: BTreeSet<RaftId>,
}

impl Law {
    /// A heartbeat of a leader (question `call` of the run `run`) comes to the node `id`, whose log lacks what it names.
    pub fn told(&mut self, id: RaftId, run: u32, call: u64) {
        self.asked.insert((id, run, call));
    }

    /// The node `id` says this: what is wrong with it. It knows what a heartbeat told it when it answers that: others may
    /// be on their way through it before.
    #[must_use]
    pub fn said(&mut self, id: RaftId, body: &Body) -> Option<&'static str> {
        if let Body::Answer { run, call, .. } = body
            && self.asked.remove(&(id, *run, *call))
        {
            self.told.insert(id);
        }
        if !self.told.contains(&id) {
            return None;
        }
        match body {
            Body::Answer { reply: Some(RpcReply::Vote(reply)), vote: true, .. } if reply.vote_granted => {
                Some("votes although it has forgotten what it had acknowledged")
            }
            Body::Answer { reply: Some(RpcReply::Append(reply) | RpcReply::SilentAppend(reply)), .. }
                if matches!(reply, AppendEntriesResponse::Success) =>
            {
                Some("acknowledges although it has forgotten what it had acknowledged")
            }
            Body::Ask { rpc: Rpc::Vote(_), .. } => {
                Some("stands although it has forgotten what it had acknowledged")
            }
            _ => None,
        }
    }
}

/// A machine makes a store for `id`: what is wrong with that.
#[must_use]
pub fn of_new_store(place: Place, id: RaftId, was_here: bool) -> Option<String> {
    (was_here && incarnation_of(id) == 0)
        .then(|| format!("invariant 18: node {place} begins a cluster although something was on its disk"))
}
