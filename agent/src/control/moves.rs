//! What an operator is told of each move of the service: from whom to whom, why, and for how long nobody served. Nothing
//! is decided by it.
//!
//! | who | knows |
//! |---|---|
//! | the node that gives the service away as planned | why |
//! | the node that has it then | since when nobody served: the last heartbeat of the old holder, or the end of its own lease |

use std::time::Duration;

use proxy_core::time::MonoTime;

use super::{Ailment, Control, Facts, Fitness, Place};

/// What is known of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// This node has the service now.
    Taken(Taken),
    /// This node has given it away as planned.
    Given {
        /// Fence token of the grant.
        token: u64,
        /// To whom.
        to: Place,
        /// Why.
        why: Cause,
    },
}

/// The service is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Fence token under which it is here.
    pub token: u64,
    /// Who held it before: this node itself where its lease had ended meanwhile; nobody in a new cluster.
    pub from: Option<Place>,
    /// It was up under this token before, and its lease had ended.
    pub again: bool,
    /// Why, as far as it can be seen from here.
    pub why: String,
    /// For how long nobody served; `None` if this node does not know when somebody did.
    pub silent: Option<Duration>,
}

/// Why a node gives the service away as planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// An operator asks for it.
    Operator,
    /// The node ends.
    Shutdown,
    /// Another node is better off.
    Ailing(Fitness),
}

impl Cause {
    /// The same for people; `place` is the node that gives it away.
    #[must_use]
    pub fn words(self, place: Place) -> String {
        match self {
            Self::Operator => String::from("an operator asked for it (relevo switchover)"),
            Self::Shutdown => format!("node {place} was stopped in order"),
            Self::Ailing(fitness) if fitness.has(Ailment::Drained) => {
                format!("an operator has drained node {place}")
            }
            Self::Ailing(fitness) => format!("node {place} is ailing: {}", list(fitness)),
        }
    }
}

fn list(fitness: Fitness) -> String {
    fitness.ailments().map(|a| a.to_string()).collect::<Vec<_>>().join(", ")
}

impl Control {
    /// Why the hand-over under way was begun.
    #[must_use]
    pub fn cause(&self, facts: &Facts) -> Cause {
        match self.hand_over {
            Some(hand_over) if hand_over.operator => Cause::Operator,
            _ if self.shutdown_at.is_some() => Cause::Shutdown,
            _ => Cause::Ailing(facts.fitness_of(self.settings.place)),
        }
    }
}

/// Watches the facts of one node for moves.
#[derive(Debug)]
pub struct Moves {
    place: Place,
    /// When somebody served for certain, as far as this node knows.
    served: Option<MonoTime>,
    /// The newest grant, and who was named before it.
    grant: Option<(u64, Place)>,
    before: Option<Place>,
    /// The token under which the service was here last.
    was_up: Option<u64>,
    is_up: bool,
    /// The grant under way to another node: to whom, and why.
    giving: Option<(Place, Cause)>,
}

impl Moves {
    /// For this node.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self { place, served: None, grant: None, before: None, was_up: None, is_up: false, giving: None }
    }

    /// This node has asked for a grant to another one, because of this.
    pub fn gives(&mut self, to: Place, why: Cause) {
        self.giving = Some((to, why));
    }

    /// One look. `up`: the token under which the service is up here now.
    pub fn look(&mut self, now: MonoTime, facts: &Facts, up: Option<u64>) -> Vec<Told> {
        let mut told = Vec::new();
        if let Some(grant) = facts.grant.filter(|g| self.grant.is_none_or(|(token, _)| token != g.token)) {
            self.before = self.grant.map(|(_, holder)| holder);
            self.grant = Some((grant.token, grant.holder));
            // The old holder stops when it sees this, whatever is heard of it afterwards.
            if grant.holder == self.place && facts.leader != Some(self.place) && self.before.is_some() {
                self.served = Some(now);
            }
            if let Some((to, why)) = self.giving.take_if(|(to, _)| *to == grant.holder) {
                told.push(Told::Given { token: grant.token, to, why });
            }
        }
        let holder = facts.grant.map(|g| g.holder);
        if up.is_none() && facts.leader.is_some() && facts.leader == holder && holder != Some(self.place) {
            self.served = self.served.max(facts.led_at);
        }
        if let Some(token) = up {
            if !self.is_up {
                told.push(Told::Taken(self.taken(now, facts, token)));
            }
            self.served = Some(now);
            self.was_up = Some(token);
        }
        self.is_up = up.is_some();
        told
    }

    fn taken(&self, now: MonoTime, facts: &Facts, token: u64) -> Taken {
        let again = self.was_up == Some(token);
        let from = if again { Some(self.place) } else { self.before };
        let silent = self.served.map(|at| now.since(at));
        let why = match from {
            _ if again => String::from("its lease had ended: a majority did not acknowledge it in time"),
            None => String::from("nobody held it, as far as this node knows"),
            Some(place) if place == self.place => {
                String::from("it held the service before, and was elected again")
            }
            Some(place) => {
                let fitness = facts.fitness_of(place);
                match facts.told_dead.filter(|(dead, _)| *dead == place) {
                    Some((_, at)) if self.served.is_none_or(|served| at >= served) => {
                        format!("the agent of node {place} had died, said its guard")
                    }
                    _ if fitness.is_grave() => format!("node {place} is ailing: {}", list(fitness)),
                    _ => format!("node {place} did not lead any more"),
                }
            }
        };
        Taken { token, from, again, why, silent }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grant;
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> MonoTime {
        MonoTime(ms * MS)
    }

    /// Node 1 leads and is named; heard at `heard`.
    fn led_by_one(heard: u64) -> Facts {
        Facts {
            leader: Some(1),
            grant: Some(Grant { holder: 1, token: 10 }),
            led_at: Some(at(heard)),
            ..Facts::default()
        }
    }

    fn led_by_two(token: u64) -> Facts {
        Facts {
            leader: Some(2),
            leading: true,
            grant: Some(Grant { holder: 2, token }),
            led_at: Some(at(1_000)),
            ..Facts::default()
        }
    }

    fn taken(told: &[Told]) -> &Taken {
        match told {
            [Told::Taken(taken)] => taken,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_takes_over_counts_from_the_last_heartbeat_of_the_lost_one() {
        let mut moves = Moves::new(2);
        assert!(moves.look(at(980), &led_by_one(975), None).is_empty());
        assert!(moves.look(at(1_100), &led_by_one(1_000), None).is_empty());
        let lost = Facts { leader: None, ..led_by_one(1_000) };
        assert!(moves.look(at(1_200), &lost, None).is_empty());
        assert!(moves.look(at(1_300), &led_by_two(20), None).is_empty(), "named, and not up yet");
        let told = moves.look(at(1_310), &led_by_two(20), Some(20));
        let taken = taken(&told);
        assert_eq!((taken.from, taken.silent), (Some(1), Some(Duration::from_millis(310))));
        assert_eq!(taken.why, "node 1 did not lead any more");
        assert!(moves.look(at(1_320), &led_by_two(20), Some(20)).is_empty(), "once");
    }

    #[test]
    fn the_word_of_a_guard_is_the_reason_where_there_is_one() {
        let mut moves = Moves::new(2);
        moves.look(at(1_000), &led_by_one(1_000), None);
        let facts = Facts { told_dead: Some((1, at(1_003))), ..led_by_two(20) };
        let told = moves.look(at(1_010), &facts, Some(20));
        assert_eq!(taken(&told).why, "the agent of node 1 had died, said its guard");
        // Another death, of which no guard has said anything.
        let mut later = Moves::new(2);
        later.look(at(2_000), &led_by_one(2_000), None);
        let told = later.look(at(2_310), &facts, Some(20));
        assert_eq!(taken(&told).why, "node 1 did not lead any more");
    }

    #[test]
    fn a_planned_move_counts_from_the_grant_and_its_reason_is_told_by_who_gives() {
        let mut gives = Moves::new(1);
        let own = Facts { leader: Some(1), leading: true, ..led_by_one(0) };
        gives.look(at(1_000), &own, Some(10));
        gives.gives(2, Cause::Operator);
        let granted = Facts { grant: Some(Grant { holder: 2, token: 20 }), ..own };
        let told = gives.look(at(1_020), &granted, Some(10));
        assert_eq!(told, [Told::Given { token: 20, to: 2, why: Cause::Operator }]);
        let mut takes = Moves::new(2);
        takes.look(at(1_000), &led_by_one(1_000), None);
        let named = Facts { grant: Some(Grant { holder: 2, token: 20 }), ..led_by_one(1_020) };
        assert!(takes.look(at(1_020), &named, None).is_empty());
        let told = takes.look(at(1_034), &led_by_two(20), Some(20));
        assert_eq!(taken(&told).silent, Some(Duration::from_millis(14)));
    }

    #[test]
    fn a_lease_that_ended_and_came_back_under_the_same_grant_is_told_as_such() {
        let mut moves = Moves::new(2);
        let first = moves.look(at(1_000), &led_by_two(20), Some(20));
        assert_eq!((taken(&first).from, taken(&first).silent), (None, None));
        moves.look(at(1_100), &led_by_two(20), Some(20));
        moves.look(at(1_110), &led_by_two(20), None);
        let told = moves.look(at(1_400), &led_by_two(20), Some(20));
        let taken = taken(&told);
        assert!(taken.again && taken.from == Some(2));
        assert_eq!(taken.silent, Some(Duration::from_millis(300)));
    }

    #[test]
    fn who_was_drained_or_ailing_is_named_so() {
        assert_eq!(
            Cause::Ailing(Fitness::FIT.with(Ailment::Drained)).words(1),
            "an operator has drained node 1"
        );
        assert_eq!(Cause::Ailing(Fitness::FIT.with(Ailment::Disk)).words(3), "node 3 is ailing: disk");
        assert_eq!(Cause::Shutdown.words(1), "node 1 was stopped in order");
    }
}
