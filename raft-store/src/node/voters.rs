//! Who votes, and who of them leads next.

use std::sync::atomic::Ordering;

use openraft::async_runtime::WatchReceiver;

use super::client::Transport;
use super::core::Core;
use super::types::{Place, RaftId, place_of};

impl<T: Transport> Core<T> {
    /// The Raft id that `place` votes under.
    #[must_use]
    pub fn voter_at(&self, place: Place) -> Option<RaftId> {
        let metrics = self.0.raft.metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        // While an id is being replaced, both vote; the later one is the one that lives.
        membership.membership().voter_ids().filter(|id| place_of(*id) == place).max()
    }

    /// The places that vote, in order.
    pub(super) fn voter_places(&self) -> Vec<Place> {
        let metrics = self.0.raft.metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        let places: std::collections::BTreeSet<Place> =
            membership.membership().voter_ids().map(place_of).collect();
        places.into_iter().collect()
    }

    /// Whether this node votes, and no change of membership is left half done.
    #[must_use]
    pub fn is_settled_voter(&self) -> bool {
        let metrics = self.0.raft.metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        match &membership.membership().get_joint_config()[..] {
            [voters] => voters.contains(&self.0.config.id),
            _ => false,
        }
    }

    /// Hands leadership to `to`. From this call on, `facts` says that it was tried in this term: the followers are
    /// about to be told that they need not keep their promise.
    pub fn transfer_leadership(&self, to: Place) {
        // Asked to transfer to itself, openraft would stop heartbeats and proposals and wait for an election that
        // nobody calls.
        let Some(target) = self.voter_at(to).filter(|target| *target != self.0.config.id) else {
            tracing::warn!(to, "leadership can only go to another voter");
            return;
        };
        let metrics = self.0.raft.metrics();
        let term = metrics.borrow_watched().current_term;
        self.0.clients.transferred_in.fetch_max(term, Ordering::SeqCst);
        let raft = self.0.raft.clone();
        tokio::spawn(async move {
            if let Err(e) = raft.trigger().transfer_leader(target).await {
                tracing::warn!(to, error = %e, "leadership was not transferred");
            }
        });
    }
}
