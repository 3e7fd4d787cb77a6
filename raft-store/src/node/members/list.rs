//! Who is in the cluster, as any node knows it.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::rules::majority;
use crate::node::client::Transport;
use crate::node::core::Core;
use crate::node::types::{Member, Place, RaftId, place_of};

/// A word of another node that is older is no sign of life (it is asked once a second).
const WORD_LIMIT: Duration = Duration::from_secs(3);

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It votes.
    Voter,
    /// It takes what is written, and does not vote yet.
    Learner,
    /// It votes, and will not after the change that is under way.
    Leaving,
    /// It votes after the change that is under way.
    Coming,
}

impl Standing {
    /// As a list shows it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Voter => "voter",
            Self::Learner => "learner",
            Self::Leaving => "leaving",
            Self::Coming => "coming",
        }
    }

    /// Whether its vote counts now.
    #[must_use]
    pub fn votes(self) -> bool {
        self != Self::Learner
    }
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its place.
    pub place: Place,
    /// Its Raft id.
    pub id: RaftId,
    /// Its address and role, as the membership has them.
    pub member: Member,
    /// What it is.
    pub standing: Standing,
    /// How long ago it was heard; `None`: not within this node's memory. Zero for this node itself.
    pub heard: Option<Duration>,
    /// Whether that counts as heard now.
    pub reached: bool,
    /// Entries that it is behind, as far as that is known.
    pub behind: Option<u64>,
}

/// The members at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// By their places.
    pub members: Vec<Listed>,
    /// The voters: two sets while a change is half done.
    pub sets: Vec<BTreeSet<RaftId>>,
    /// Places that nodes were removed from.
    pub removed: BTreeSet<Place>,
    /// Who leads.
    pub leader: Option<Place>,
    /// Why this node is outside, if it is.
    pub outside: Option<String>,
}

impl Listing {
    /// How many voters there are; of two sets the larger one.
    #[must_use]
    pub fn voters(&self) -> usize {
        self.sets.iter().map(BTreeSet::len).max().unwrap_or(0)
    }

    /// How many of them have to agree.
    #[must_use]
    pub fn majority(&self) -> usize {
        majority(self.voters())
    }

    /// How many of those that are heard may be lost, and a majority is left; `None`: there is none now.
    #[must_use]
    pub fn losses(&self) -> Option<usize> {
        let reached: BTreeSet<RaftId> = self.members.iter().filter(|m| m.reached).map(|m| m.id).collect();
        let left =
            |set: &BTreeSet<RaftId>| set.intersection(&reached).count().checked_sub(majority(set.len()));
        let all: Option<Vec<usize>> = self.sets.iter().map(left).collect();
        // Without voters there is no majority either.
        all?.into_iter().min()
    }

    /// The member of a place; of two the later one.
    #[must_use]
    pub fn of(&self, place: Place) -> Option<&Listed> {
        self.members.iter().filter(|m| m.place == place).max_by_key(|m| m.id)
    }
}

fn standing(id: RaftId, sets: &[BTreeSet<RaftId>]) -> Standing {
    let first = sets.first().is_some_and(|set| set.contains(&id));
    let last = sets.last().is_some_and(|set| set.contains(&id));
    match (first, last) {
        (true, true) => Standing::Voter,
        (true, false) => Standing::Leaving,
        (false, true) => Standing::Coming,
        (false, false) => Standing::Learner,
    }
}

impl<T: Transport> Core<T> {
    /// The members as this node knows them.
    #[must_use]
    pub fn members(&self) -> Listing {
        let facts = self.facts();
        let now = self.now();
        let metrics = self.raft().metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        let membership = membership.membership();
        let sets = membership.get_joint_config().clone();
        let lease = self.config().election_max * 3;
        let listed = |(id, member): (&RaftId, &Member)| {
            let peer = facts.peers.iter().find(|p| p.id == *id);
            let acknowledged = peer.and_then(|p| p.last_ack).map(|at| now.since(at));
            let said = peer.and_then(|p| p.applied).map(|(_, at)| now.since(at));
            let own = *id == facts.raft_id;
            let reached = own
                || acknowledged.is_some_and(|age| age <= lease)
                || (!facts.leading && said.is_some_and(|age| age <= WORD_LIMIT));
            let by_word =
                peer.and_then(|p| p.applied).map(|(applied, _)| facts.applied.saturating_sub(applied));
            Listed {
                place: place_of(*id),
                id: *id,
                member: *member,
                standing: standing(*id, &sets),
                heard: if own { Some(Duration::ZERO) } else { acknowledged.into_iter().chain(said).min() },
                reached,
                behind: if own {
                    Some(facts.last_log.saturating_sub(facts.applied))
                } else {
                    peer.and_then(|p| p.lag).or(by_word)
                },
            }
        };
        let mut members: Vec<Listed> = membership.nodes().map(listed).collect();
        members.sort_by_key(|m| (m.place, m.id));
        Listing {
            members,
            sets,
            removed: self.view().read(|state| state.removed()),
            leader: facts.leader,
            outside: self.outside(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::types::Role;

    fn listed(id: RaftId, reached: bool) -> Listed {
        let member = Member { addr: ([10, 77, 0, 1], 7400).into(), role: Role::Appliance };
        let standing = Standing::Voter;
        Listed { place: place_of(id), id, member, standing, heard: None, reached, behind: None }
    }

    fn listing(sets: &[&[RaftId]], reached: &[RaftId]) -> Listing {
        let sets: Vec<BTreeSet<RaftId>> = sets.iter().map(|set| set.iter().copied().collect()).collect();
        let ids: BTreeSet<RaftId> = sets.iter().flatten().copied().collect();
        let members = ids.into_iter().map(|id| listed(id, reached.contains(&id))).collect();
        Listing { members, sets, ..Listing::default() }
    }

    #[test]
    fn the_losses_that_are_borne_count_those_that_are_heard() {
        assert_eq!(listing(&[&[1, 2, 3]], &[1, 2, 3]).losses(), Some(1));
        assert_eq!(listing(&[&[1, 2, 3]], &[1, 2]).losses(), Some(0), "one is lost already");
        assert_eq!(listing(&[&[1, 2, 3]], &[1]).losses(), None);
        assert_eq!(
            listing(&[&[1, 2, 3, 4]], &[1, 2, 3, 4]).losses(),
            Some(1),
            "four bear no more than three"
        );
        assert_eq!(listing(&[&[1, 2, 3, 4]], &[1, 2, 4]).losses(), Some(0));
        assert_eq!(listing(&[&[1]], &[1]).losses(), Some(0));
        assert_eq!(listing(&[], &[]).losses(), None, "nobody is a member yet");
    }

    #[test]
    fn while_a_change_is_half_done_both_sets_count() {
        assert_eq!(listing(&[&[1, 2, 3], &[1, 2, 4]], &[1, 2, 3]).losses(), Some(0));
        let sets = [BTreeSet::from([1, 3]), BTreeSet::from([1, 4])];
        assert_eq!(
            [1, 3, 4, 5].map(|id| standing(id, &sets)),
            [Standing::Voter, Standing::Leaving, Standing::Coming, Standing::Learner]
        );
    }
}
