//! Who could hold the service beside this node, the best first. Whoever does not answer or is behind is no candidate now;
//! whoever is ill is one, after the others.

use std::time::Duration;

use proxy_core::time::MonoTime;

use super::{Control, Facts, MAX_HAND_OVER_LAG, NotReady, Place, REACH_LEASES};

impl Control {
    pub(super) fn others(&self) -> impl Iterator<Item = Place> + '_ {
        self.settings.appliances.iter().copied().filter(|p| *p != self.settings.place)
    }

    fn candidates(&self, now: MonoTime, facts: &Facts) -> impl Iterator<Item = Place> {
        self.others().filter(move |p| self.not_ready(now, *p, facts).is_none())
    }

    /// The fittest appliance beside this one that could take over now; of equals the most preferred.
    pub(super) fn best_other(&self, now: MonoTime, facts: &Facts) -> Option<Place> {
        // `min_by_key` gives the first of equals.
        self.candidates(now, facts).min_by_key(|p| facts.fitness_of(*p))
    }

    /// The same, but not `place`.
    pub(super) fn best_but(&self, now: MonoTime, place: Option<Place>, facts: &Facts) -> Option<Place> {
        self.candidates(now, facts).filter(|p| Some(*p) != place).min_by_key(|p| facts.fitness_of(*p))
    }

    /// The fittest other one, if it is so much better off than this one that it should have the service. Nobody is, while
    /// automatic takeover is paused.
    pub(super) fn better_other(&self, now: MonoTime, facts: &Facts) -> Option<Place> {
        if facts.pause.is_some() {
            return None;
        }
        let own = facts.fitness_of(self.settings.place);
        self.best_other(now, facts).filter(|p| own.yields_to(facts.fitness_of(*p)))
    }

    /// Whether a candidate is so much better off than `place` that it should have the service.
    pub(super) fn is_worse_off(&self, now: MonoTime, place: Place, facts: &Facts) -> bool {
        let fitness = facts.fitness_of(place);
        facts.pause.is_none() && self.candidates(now, facts).any(|p| fitness.yields_to(facts.fitness_of(p)))
    }

    /// Who should lead if this node dies now. One that has not answered in this term yet is better than none, of whom
    /// the guard could tell the peers nothing: where it cannot, the others campaign soon after.
    pub(super) fn heir(&self, now: MonoTime, facts: &Facts) -> Option<Place> {
        self.best_other(now, facts).or_else(|| self.others().min_by_key(|p| facts.fitness_of(*p)))
    }

    /// Whether another appliance holds the service as far as is known here, or is fit and could take it over now.
    pub(super) fn elsewhere(&self, now: MonoTime, facts: &Facts) -> bool {
        if facts.leading {
            return self.best_other(now, facts).is_some_and(|p| !facts.fitness_of(p).is_grave());
        }
        let holder = facts.grant.map(|g| g.holder);
        facts.leader.is_some() && facts.leader == holder && holder != Some(self.settings.place)
    }

    /// What keeps a node from being the target of a switchover now; `None` if nothing does.
    pub(super) fn no_target(&self, now: MonoTime, place: Place, facts: &Facts) -> Option<NotReady> {
        let fitness = facts.fitness_of(place);
        let is_worse = fitness.yields_to(facts.fitness_of(self.settings.place));
        self.not_ready(now, place, facts).or(is_worse.then_some(NotReady::Unfit(fitness)))
    }

    /// What keeps a node from taking over now; `None` if nothing does.
    pub(super) fn not_ready(&self, now: MonoTime, place: Place, facts: &Facts) -> Option<NotReady> {
        if facts.is_learner(place) {
            return Some(NotReady::Learner);
        }
        let peer = facts.voter(place);
        let heard = peer.and_then(|p| p.last_ack).map(|at| now.since(at));
        let reach: Duration = self.settings.lease * REACH_LEASES;
        if heard.is_none_or(|age| age > reach) {
            return Some(NotReady::OutOfReach);
        }
        if peer.is_some_and(|p| p.silent) {
            return Some(NotReady::JustStarted);
        }
        match peer.and_then(|p| p.lag) {
            Some(lag) if lag <= MAX_HAND_OVER_LAG => None,
            Some(lag) => Some(NotReady::Behind(lag)),
            None => Some(NotReady::OutOfReach),
        }
    }
}
