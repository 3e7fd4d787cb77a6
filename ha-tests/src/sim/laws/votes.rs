//! Invariants 6 and 7: of votes.
//!
//! | what a node says | is right if |
//! |---|---|
//! | a vote for a candidate, or that it is one itself | it has voted for no other in this term, and in no later one |
//! | anything of that kind | its process has run for a lease, or is the first |

use std::collections::BTreeMap;

use raft_store::node::RaftId;
use raft_store::node::inbound::{Rpc, RpcReply};

use crate::sim::net::Body;

/// Term and candidate of the newest vote that each node has given.
#[derive(Debug, Default)]
pub struct Law {
    votes: BTreeMap<RaftId, (u64, RaftId)>,
}

impl Law {
    /// The node `id` says these at once, in whatever order. Whether it gives its vote to another, and what is wrong.
    pub fn voted<'a>(
        &mut self,
        id: RaftId,
        bodies: impl Iterator<Item = &'a Body>,
    ) -> (bool, Option<String>) {
        let said = |body: &Body| match body {
            Body::Answer { reply: Some(RpcReply::Vote(reply)), vote: true, .. } => {
                Some((reply.vote.leader_id.term, reply.vote.leader_id.voted_for, reply.vote_granted))
            }
            // Who campaigns has voted for itself.
            Body::Ask { rpc: Rpc::Vote(ask), .. } => {
                Some((ask.vote.leader_id.term, ask.vote.leader_id.voted_for, true))
            }
            _ => None,
        };
        let mut said: Vec<_> = bodies.filter_map(said).filter(|(.., mine)| *mine).collect();
        said.sort_unstable();
        let mut wrong = None;
        for (term, candidate, _) in &said {
            let before = self.votes.insert(id, (*term, *candidate)).unwrap_or_default();
            if *term < before.0 || (*term == before.0 && *candidate != before.1) {
                wrong.get_or_insert_with(|| format!("votes for {candidate} in term {term} after {before:?}"));
            }
        }
        (said.iter().any(|(_, candidate, _)| *candidate != id), wrong)
    }
}

/// Whether somebody who says this wants to lead, or helps one who does.
#[must_use]
pub fn is_campaign(body: &Body) -> bool {
    match body {
        Body::Ask { rpc, .. } => matches!(rpc, Rpc::Vote(_) | Rpc::PreVote(_)),
        Body::Answer { reply: Some(RpcReply::Vote(vote)), .. } => vote.vote_granted,
        _ => false,
    }
}
