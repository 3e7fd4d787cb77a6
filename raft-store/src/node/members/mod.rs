//! Who is in the cluster, and how an operator changes that: one node more, one less, one in the place of another.
//!
//! ```text
//! add      hello ─► learner ─► caught up ─► joint change ─► voter
//! replace  hello ─► learner ─► caught up ─► joint change: the new one in, the old one out
//! remove                                    joint change: the old one out
//! ```
//!
//! | what | where |
//! |---|---|
//! | what is refused, and why | `rules`, pure |
//! | the steps, on the leader | `change` |
//! | what is shown | `list` |
//!
//! The membership in the log says who votes. The configuration files say where nodes are and which of them may hold the
//! service; where the two differ, `relevo status` names it. A place that was removed is remembered in the state, so that
//! a machine which somebody starts again there does not come back by itself.

mod change;
mod list;
mod rules;

pub use list::{Listed, Listing, Standing};
pub use rules::Refusal;

use std::time::Duration;

use minicbor::{CborLen, Decode, Encode};

use super::client::{Lane, Transport};
use super::core::{Core, Peer};
use super::inbound::{Rpc, RpcReply};
use super::types::{Member, Place, RaftId, place_of};

/// The format version from which on an operator changes the membership.
pub(crate) const MEMBERS_VERSION: u8 = 4;

/// How long a newcomer may take to catch up where nothing else is said (s).
pub const CATCH_UP_SECS: u32 = 60;
/// The longest time that may be said (s): an hour.
pub const MAX_CATCH_UP_SECS: u32 = 3600;
/// Time that all steps beside catching up may take: three commits, and the answer of the newcomer.
const STEPS_LIMIT: Duration = Duration::from_secs(30);

/// How long a change may take at most.
#[must_use]
pub fn limit(ask: &Ask) -> Duration {
    let wait_s = match ask {
        Ask::Add { wait_s, .. } | Ask::Replace { wait_s, .. } => *wait_s,
        Ask::Remove { .. } => 0,
    };
    Duration::from_secs(wait_s.min(MAX_CATCH_UP_SECS).into()) + STEPS_LIMIT
}

/// A node that is to be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Newcomer {
    /// Its place.
    #[n(0)]
    pub place: Place,
    /// Its address and role.
    #[n(1)]
    pub member: Member,
    /// It may have a place from which a node was removed.
    #[n(2)]
    pub again: bool,
}

/// A change of the membership, as an operator asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room", flat)]
pub enum Ask {
    /// One node more.
    #[n(0)]
    Add {
        /// Which.
        #[n(0)]
        newcomer: Newcomer,
        /// How long it may take to catch up (s).
        #[n(1)]
        wait_s: u32,
    },
    /// One node less.
    #[n(1)]
    Remove {
        /// Which.
        #[n(0)]
        place: Place,
    },
    /// One node in the place of another, in one step.
    #[n(2)]
    Replace {
        /// Which goes.
        #[n(0)]
        place: Place,
        /// Which comes.
        #[n(1)]
        newcomer: Newcomer,
        /// How long it may take to catch up (s).
        #[n(2)]
        wait_s: u32,
    },
}

/// What has become of a change that was made.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Done {
    /// Who votes now.
    #[cbor(n(0), with = "proxy_core::wire::list", has_nil)]
    pub voters: Vec<RaftId>,
    /// Who of them was heard a moment ago.
    #[cbor(n(1), with = "proxy_core::wire::list", has_nil)]
    pub heard: Vec<RaftId>,
}

impl Done {
    /// How many of those that vote and are heard may be lost, and the rest is still a majority.
    #[must_use]
    pub fn losses(&self) -> usize {
        self.heard.len().saturating_sub(rules::majority(self.voters.len()))
    }

    /// Those that vote and are not heard.
    #[must_use]
    pub fn silent(&self) -> Vec<Place> {
        self.voters.iter().filter(|id| !self.heard.contains(id)).map(|id| place_of(*id)).collect()
    }
}

impl<T: Transport> Core<T> {
    /// All nodes that this one knows of, by its configuration or the membership; the address of the configuration counts.
    pub(super) fn known_peers(&self) -> Vec<Peer> {
        use openraft::async_runtime::WatchReceiver;
        let mut peers = self.config().places.clone();
        let metrics = self.raft().metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        for (id, member) in membership.membership().nodes() {
            let place = place_of(*id);
            if !peers.iter().any(|p| p.place == place) {
                peers.push(Peer { place, role: member.role, addr: member.addr });
            }
        }
        peers
    }

    /// Finishes a change that a former leader has left half done; to be called by a leader, now and then.
    pub(super) async fn finish_change(&self) {
        use openraft::async_runtime::WatchReceiver;
        let metrics = self.raft().metrics();
        let is_half_done =
            metrics.borrow_watched().membership_config.membership().get_joint_config().len() > 1;
        if is_half_done {
            change::finish(self).await;
        }
    }

    /// Another node asks, because it takes this one for the leader.
    pub(super) async fn change_members_here(&self, ask: Ask) -> Result<Done, Refusal> {
        change::change(self, ask).await
    }

    /// Has a change made by whoever leads. It takes as long as the newcomer needs to catch up.
    ///
    /// # Errors
    /// What is wrong, and what mends it.
    pub async fn change_members(&self, ask: Ask) -> Result<Done, Refusal> {
        let facts = self.facts();
        if facts.leading {
            return change::change(self, ask).await;
        }
        let leader = facts.leader.ok_or_else(Refusal::leaderless)?;
        let peer = self.known_peers().into_iter().find(|p| p.place == leader);
        let (Some(peer), Some(id)) = (peer, self.voter_at(leader)) else { return Err(Refusal::leaderless()) };
        let transport = self.clients().transport.clone();
        match transport.call(id, peer.into(), Lane::Bulk, Rpc::Members(ask), limit(&ask)).await {
            Ok(RpcReply::Members(result)) => result,
            Ok(RpcReply::Unavailable(why)) => Err(Refusal::unknown(&why)),
            Ok(_) => Err(Refusal::unknown("it answered something else")),
            Err(e) => Err(Refusal::unknown(&e.why)),
        }
    }
}
