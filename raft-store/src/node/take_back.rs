//! A transfer of leadership that does not come about: its leader takes the leadership back.
//!
//! openraft ends a term with the transfer: no proposals and no heartbeats in it, and a leader cannot campaign. The only
//! way on is a higher term. Two steps, either of which any voter may take at any time, so that nothing is at risk:
//!
//! | step | why it is safe |
//! |---|---|
//! | this node votes for the chosen node in the next term, as if it had been asked | the chosen node may still win it; this node gives that vote to nobody else |
//! | it campaigns in the term after that, with a round of pre-votes | whoever follows a living leader by now refuses |
//!
//! Voters that have heard of the transfer are bound no more; the others are when their lease is over.

use openraft::async_runtime::WatchReceiver;
use openraft::raft::VoteRequest;

use super::client::Transport;
use super::core::Core;
use super::types::{Place, Vote};

impl<T: Transport> Core<T> {
    /// Takes back the leadership that was transferred to `to` and not taken. Does nothing unless this node still is the
    /// leader that has transferred it.
    pub async fn take_back(&self, to: Place) {
        let me = self.config().id;
        let Some(chosen) = self.voter_at(to).filter(|id| *id != me) else { return };
        let vote = self.raft().metrics().borrow_watched().vote;
        if !vote.committed || vote.leader_id.voted_for != me {
            return;
        }
        let Ok(last_log_id) = self.raft().with_raft_state(|state| state.log_ids.last().cloned()).await else {
            return;
        };
        let next = Vote::new(vote.leader_id.term + 1, chosen);
        tracing::info!(to, term = next.leader_id.term, "leadership was not taken: taking it back");
        // Marked as a transfer, because this leader's own promise to itself must not hold it up.
        let request = VoteRequest { vote: next, last_log_id, leadership_transfer: true };
        match self.raft().vote(request).await {
            Ok(reply) if reply.vote_granted => self.campaign().await,
            Ok(reply) => tracing::info!(vote = %reply.vote, "somebody else is being elected"),
            Err(e) => tracing::warn!(error = %e, "leadership was not taken back"),
        }
    }
}
