//! What a change of the membership is refused for. Pure: who is a member and who is heard goes in, a refusal in words or
//! the voters that there will be come out.
//!
//! | refused | why |
//! |---|---|
//! | a place that is no member, or one that is | nothing to do |
//! | a place that was removed before | an old machine there may still run; `--again` says that it does not |
//! | an address that another member has | one of the two is a slip of the pen |
//! | the holder | calls would break; a switchover goes first |
//! | the leader that is no holder | it hands leadership over in a moment by itself |
//! | the last voter | there would be no cluster |
//! | a change while another is under way | Raft makes one at a time |
//! | voters of whom too few are heard now to be a majority | the service would end at once |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use minicbor::{CborLen, Decode, Encode};

use super::Newcomer;
use crate::node::types::{Member, Place, RaftId, place_of};
use crate::state::MAX_PLACES;

/// Most voters: more make every commit slower and none safer.
pub(super) const MAX_VOTERS: usize = 7;

/// Why a change is not made, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Refusal {
    /// What is wrong, and why.
    #[n(0)]
    pub error: String,
    /// What mends it.
    #[n(1)]
    pub cure: String,
}

impl Refusal {
    pub(super) fn new(error: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { error: error.into(), cure: cure.into() }
    }

    pub(in crate::node) fn leaderless() -> Self {
        Self::new(
            "no node leads, so that nobody can change the membership; nothing was changed",
            "relevo status names who is missing: start them, or mend the way to them",
        )
    }

    pub(super) fn busy() -> Self {
        Self::new(
            "another change of the membership is under way; nothing was changed",
            "wait for its end (relevo members list), then say it again",
        )
    }

    pub(super) fn unknown(why: &str) -> Self {
        Self::new(
            format!("nobody knows what became of the change: {why}"),
            "look with relevo members list; to say the same again is safe",
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.error, self.cure)
    }
}

/// The cluster at one moment, as its leader knows it.
#[derive(Debug, Clone, Default)]
pub(super) struct Picture {
    /// The leader.
    pub(super) me: RaftId,
    /// Who holds the service.
    pub(super) holder: Option<Place>,
    /// Who votes: two sets while a change is half done.
    pub(super) sets: Vec<BTreeSet<RaftId>>,
    /// All members, learners too.
    pub(super) members: BTreeMap<RaftId, Member>,
    /// Places that nodes were removed from.
    pub(super) removed: BTreeSet<Place>,
    /// Who answered a moment ago, the leader included.
    pub(super) heard: BTreeSet<RaftId>,
}

/// How many of so many voters are a majority.
#[must_use]
pub(super) fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// Places in words: `node 3`, `nodes 1 and 3`.
pub(super) fn nodes(places: &[Place]) -> String {
    let names: Vec<String> = places.iter().map(Place::to_string).collect();
    match &names[..] {
        [] => "no node".into(),
        [one] => format!("node {one}"),
        [first @ .., last] => format!("nodes {} and {last}", first.join(", ")),
    }
}

impl Picture {
    fn places(&self) -> BTreeSet<Place> {
        self.members.keys().map(|id| place_of(*id)).collect()
    }

    fn ids_of(&self, place: Place) -> BTreeSet<RaftId> {
        self.members.keys().copied().filter(|id| place_of(*id) == place).collect()
    }

    /// The voters, if no change is half done.
    fn voters(&self) -> Result<BTreeSet<RaftId>, Refusal> {
        match &self.sets[..] {
            [voters] => Ok(voters.clone()),
            _ => Err(Refusal::new(
                "a change of the membership is half done; nothing was changed",
                "it is finished as soon as a majority of the voters before and after it is heard: relevo members list \
                 names them",
            )),
        }
    }

    /// Refuses while a node is being taken in, unless it is the one that is asked for.
    fn is_free(&self, but: &[Place]) -> Result<BTreeSet<RaftId>, Refusal> {
        let voters = self.voters()?;
        let learner = self.members.keys().find(|id| !voters.contains(id) && !but.contains(&place_of(**id)));
        match learner.map(|id| place_of(*id)) {
            None => Ok(voters),
            Some(place) => Err(Refusal::new(
                format!("node {place} is being taken in; nothing was changed"),
                format!("wait until it votes (relevo members list), or relevo members remove {place}"),
            )),
        }
    }

    fn known(&self, place: Place) -> Result<(), Refusal> {
        let members: Vec<Place> = self.places().into_iter().collect();
        if members.contains(&place) {
            return Ok(());
        }
        let was = if self.removed.contains(&place) { "; it was removed before" } else { "" };
        Err(Refusal::new(
            format!("node {place} is no member of this cluster{was}"),
            format!("the members are {}: relevo members list", nodes(&members)),
        ))
    }

    /// So many of `next` are heard that they are a majority.
    fn is_borne(&self, next: &BTreeSet<RaftId>) -> Result<(), Refusal> {
        let (heard, silent): (Vec<RaftId>, Vec<RaftId>) = next.iter().partition(|id| self.heard.contains(id));
        let need = majority(next.len());
        if heard.len() >= need {
            return Ok(());
        }
        let names = |ids: &[RaftId]| nodes(&ids.iter().map(|id| place_of(*id)).collect::<Vec<_>>());
        let all: Vec<RaftId> = next.iter().copied().collect();
        Err(Refusal::new(
            format!(
                "the service would end at once: of {} there would have to be {need}, and {} not heard; nothing was \
                 changed",
                names(&all),
                match silent.len() {
                    1 => format!("{} is", names(&silent)),
                    _ => format!("{} are", names(&silent)),
                }
            ),
            format!("start {} first, or remove or replace what is gone for good", names(&silent)),
        ))
    }

    fn may_go(&self, place: Place) -> Result<(), Refusal> {
        if self.holder == Some(place) {
            return Err(Refusal::new(
                format!("node {place} holds the service; nothing was changed"),
                "hand it over first: relevo switchover",
            ));
        }
        if place_of(self.me) == place {
            return Err(Refusal::new(
                format!("node {place} leads the cluster at this moment; nothing was changed"),
                "it hands that over by itself: say it again in a few seconds",
            ));
        }
        Ok(())
    }

    fn may_come(&self, new: &Newcomer, instead_of: Option<Place>) -> Result<(), Refusal> {
        let Newcomer { place, member, again } = *new;
        if place == 0 {
            return Err(Refusal::new("there is no node 0", "node ids are 1 to 65535"));
        }
        if instead_of == Some(place) {
            return Err(Refusal::new(
                format!("node {place} cannot take its own place"),
                format!(
                    "a node whose disk was replaced comes back by itself under its id. For another machine with that \
                     id, stop the old one and start the new one with an empty data folder; else name another id than {place}"
                ),
            ));
        }
        let voters = self.voters()?;
        if self.ids_of(place).iter().any(|id| voters.contains(id)) {
            return Err(Refusal::new(
                format!("node {place} is a member already"),
                "see relevo members list; a new machine takes a new id",
            ));
        }
        if self.removed.contains(&place) && !again {
            return Err(Refusal::new(
                format!("node {place} was a member before and was removed: the old machine may still run"),
                "take another id; or, if the old machine is the one that comes back or is gone for good, move its data \
                 folder away and add --again",
            ));
        }
        let same = self.members.iter().find(|(id, m)| {
            m.addr == member.addr && place_of(**id) != place && Some(place_of(**id)) != instead_of
        });
        if let Some((id, _)) = same {
            return Err(Refusal::new(
                format!("{} is the address of node {}", member.addr, place_of(*id)),
                "name the address at which the new node listens for the others ([[cluster.node]] addr)",
            ));
        }
        let marks = self.places().union(&self.removed).count();
        if voters.len() >= MAX_VOTERS && instead_of.is_none() || marks >= MAX_PLACES {
            return Err(Refusal::new(
                format!("a cluster has at most {MAX_VOTERS} voters, and {MAX_PLACES} node ids in its life"),
                "remove a node first, or replace one",
            ));
        }
        Ok(())
    }

    /// Whether a node may be taken in; `learner` says whether it is one already.
    pub(super) fn add(&self, new: &Newcomer) -> Result<(), Refusal> {
        self.is_free(&[new.place])?;
        self.may_come(new, None)
    }

    /// The voters with the newcomer, which is heard and has caught up.
    pub(super) fn added(&self, id: RaftId) -> Result<BTreeSet<RaftId>, Refusal> {
        let mut next = self.is_free(&[place_of(id)])?;
        next.insert(id);
        self.is_borne(&next)?;
        Ok(next)
    }

    /// Whether one node may take the place of another.
    pub(super) fn replace(&self, place: Place, new: &Newcomer) -> Result<(), Refusal> {
        self.known(place)?;
        self.is_free(&[new.place, place])?;
        self.may_go(place)?;
        self.may_come(new, Some(place))
    }

    /// The voters with the newcomer and without `place`.
    pub(super) fn replaced(&self, place: Place, id: RaftId) -> Result<BTreeSet<RaftId>, Refusal> {
        let mut next = self.is_free(&[place_of(id), place])?;
        self.may_go(place)?;
        next.retain(|id| place_of(*id) != place);
        next.insert(id);
        self.is_borne(&next)?;
        Ok(next)
    }

    /// The voters without `place`; the same as now if it does not vote.
    pub(super) fn remove(&self, place: Place) -> Result<BTreeSet<RaftId>, Refusal> {
        self.known(place)?;
        let mut next = self.is_free(&[place])?;
        self.may_go(place)?;
        next.retain(|id| place_of(*id) != place);
        if next.is_empty() {
            return Err(Refusal::new(
                format!("node {place} is the last that votes"),
                "to end a cluster, stop its nodes",
            ));
        }
        self.is_borne(&next)?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::types::{Role, raft_id};

    fn member(place: Place) -> Member {
        Member { addr: ([10, 77, 0, 10 + place as u8], 7400).into(), role: Role::Appliance }
    }

    fn newcomer(place: Place) -> Newcomer {
        Newcomer { place, member: member(place), again: false }
    }

    fn picture(voters: &[Place], heard: &[Place]) -> Picture {
        Picture {
            me: 1,
            holder: Some(1),
            sets: vec![voters.iter().map(|p| raft_id(0, *p)).collect()],
            members: voters.iter().map(|p| (raft_id(0, *p), member(*p))).collect(),
            removed: BTreeSet::new(),
            heard: heard.iter().map(|p| raft_id(0, *p)).collect(),
        }
    }

    fn why<T: fmt::Debug>(result: Result<T, Refusal>) -> String {
        result.expect_err("refused").to_string()
    }

    #[test]
    fn a_lost_witness_is_removed_or_replaced_and_a_healthy_one_beside_it_is_not() {
        let p = picture(&[1, 2, 3], &[1, 2]);
        assert_eq!(p.remove(3), Ok([1, 2].into()));
        p.replace(3, &newcomer(4)).expect("may come");
        let caught_up = Picture { heard: [1, 2, 4].into(), ..p.clone() };
        assert_eq!(caught_up.replaced(3, 4), Ok([1, 2, 4].into()));
        let said = why(p.remove(2));
        assert!(said.contains("service would end") && said.contains("node 3 is not heard"), "{said}");
    }

    #[test]
    fn a_change_that_the_voters_heard_now_would_not_bear_is_refused() {
        let p = picture(&[1, 2, 3, 4, 5], &[1, 2, 3]);
        let said = why(p.remove(2));
        assert!(said.contains("of nodes 1, 3, 4 and 5 there would have to be 3"), "{said}");
        assert!(said.contains("nodes 4 and 5 are not heard"), "{said}");
        p.remove(4).expect("the next loss is borne better");
        let two = picture(&[1, 2], &[1, 2]);
        assert_eq!(two.remove(2), Ok([1].into()), "a pair may be made one");
        let lone = Picture { me: 9, holder: None, ..picture(&[1], &[1]) };
        assert!(why(lone.remove(1)).contains("the last that votes"));
    }

    #[test]
    fn the_holder_goes_only_after_a_switchover_and_the_leader_a_moment_later() {
        let p = picture(&[1, 2, 3], &[1, 2, 3]);
        assert!(why(p.remove(1)).contains("relevo switchover"));
        assert!(why(p.replace(1, &newcomer(4))).contains("relevo switchover"));
        let witness_leads = Picture { me: 3, ..p };
        assert!(why(witness_leads.remove(3)).contains("leads the cluster at this moment"));
    }

    #[test]
    fn an_unknown_id_an_id_used_before_and_a_member_are_told_apart() {
        let mut p = picture(&[1, 2, 4], &[1, 2, 4]);
        p.removed.insert(3);
        assert!(why(p.remove(7)).contains("no member of this cluster (the members are nodes 1, 2 and 4"));
        assert!(why(p.remove(3)).contains("it was removed before"));
        assert!(why(p.add(&newcomer(3))).contains("--again"));
        p.add(&Newcomer { again: true, ..newcomer(3) }).expect("with --again");
        assert!(why(p.add(&newcomer(2))).contains("a member already"));
        assert!(why(p.replace(4, &newcomer(4))).contains("its own place"));
        assert!(why(p.add(&newcomer(0))).contains("no node 0"));
        let slip = Newcomer { member: member(2), ..newcomer(5) };
        assert!(why(p.add(&slip)).contains("the address of node 2"));
        p.replace(2, &slip).expect("the same address as the one that goes");
    }

    #[test]
    fn two_changes_at_once_are_refused_and_a_newcomer_that_was_left_half_way_may_go_on_or_go() {
        let mut p = picture(&[1, 2, 3], &[1, 2, 3]);
        p.members.insert(raft_id(7, 4), member(4));
        assert!(why(p.add(&newcomer(5))).contains("node 4 is being taken in"));
        assert!(why(p.remove(3)).contains("relevo members remove 4"));
        p.add(&newcomer(4)).expect("goes on");
        assert_eq!(p.remove(4), Ok([1, 2, 3].into()), "the voters stay");
        p.sets.push([1, 2].into());
        assert!(why(p.remove(4)).contains("half done"));
    }
}
