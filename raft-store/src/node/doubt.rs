//! A majority in doubt: after a power cut of all, say, with `durability = "memory"`, or with a last write on each that
//! may have been acknowledged or not. Nobody can say more than they do, so that waiting brings nothing.
//!
//! | the nodes of the configuration | then |
//! |---|---|
//! | one leads, or those that are whole are a majority | the others rejoin from them |
//! | one does not answer | wait for it, and name it: it may have what the others lack |
//! | one begins a cluster anew already | wait for that one |
//! | all answer; those that are whole or in doubt are a majority | the one whose log verifies furthest begins anew with that, even if it is one of the others |
//! | all answer; too many have lost what they are proved to have promised, or are empty | wait for a person, and name the commands |
//!
//! The furthest is the one with the last entry of the latest term, then of the highest index; where two are equal one
//! that is whole comes first, then the higher place. Each node finds the same one. Should two begin all the same (one of
//! them heard late), their births differ, and the later one stays ([`super::rebirth`]).

use minicbor::{CborLen, Decode, Encode};
use openraft::entry::RaftEntry;

use super::inbound::Hello;
use super::rebirth::birth_of;
use super::types::{Entry, LogId, Place};
use crate::codec::{self, Kind};
use crate::log::{Forgotten, SegmentLog};

/// Rounds in a row in which the answers must say the same before a cluster is begun anew: 3 s at the pace of
/// [`super::join`], longer than an election takes.
pub const ROUNDS_IN_DOUBT: u32 = 30;

/// How far the log of a node reaches that leads nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Reach {
    /// Term of the last entry that verifies.
    #[n(0)]
    pub term: u64,
    /// Its index.
    #[n(1)]
    pub index: u64,
    /// Something behind it may have been acknowledged.
    #[n(2)]
    pub doubtful: bool,
    /// The last entry that may have been, if that is known.
    #[n(3)]
    pub promised: Option<u64>,
    /// Something behind it is proved to have been acknowledged: such a node is no part of a majority. What verifies on it
    /// counts all the same.
    #[n(4)]
    pub proven: bool,
}

impl Reach {
    /// Of a whole log that ends with `last`.
    #[must_use]
    pub fn whole(last: LogId) -> Self {
        Self {
            term: last.leader_id.term,
            index: last.index,
            doubtful: false,
            promised: Some(last.index),
            proven: false,
        }
    }

    /// Of a log that has lost something; `None`: no entry verifies.
    ///
    /// # Errors
    /// The disk.
    pub fn of(log: &SegmentLog, lost: &Forgotten) -> std::io::Result<Option<Self>> {
        let range = log.entries();
        let last = match log.read(range.end.saturating_sub(1).max(range.start)..range.end, false)?.pop() {
            Some(bytes) => {
                let entry: Entry = codec::decode(Kind::Entry, &bytes)?;
                let (leader, index) = entry.log_id_parts();
                Some((leader.term, index))
            }
            None => match log.purged() {
                Some((index, mark)) => {
                    Some((codec::decode::<LogId>(Kind::LogId, mark)?.leader_id.term, index))
                }
                None => None,
            },
        };
        let proven = !lost.doubtful;
        Ok(last.map(|(term, index)| Self { term, index, doubtful: true, promised: lost.promised, proven }))
    }
}

/// What the nodes together say of what is missing, if this node is to begin the cluster anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begins {
    /// Index of the last entry of the newest state.
    pub last: u64,
    /// The last entry that may have been acknowledged; `None`: nothing bounds it.
    pub promised: Option<u64>,
    /// How far this node reaches, by its own word.
    pub own: Reach,
    /// An operator says so, who has fenced the others ([`super::promote`]).
    pub by_operator: bool,
}

impl Begins {
    /// Which entries may be missing, in words.
    #[must_use]
    pub fn missing(&self) -> String {
        let first = self.last + 1;
        match self.promised {
            Some(last) if last >= first => format!("entries {first} to {last} may be missing"),
            Some(_) => format!("no entry behind {} is known to be missing", self.last),
            None => format!("whatever was acknowledged from entry {first} on may be missing"),
        }
    }
}

/// The table above, for node `me` which says `own` of itself: whether it begins.
#[must_use]
pub fn begins(me: Place, own: &Hello, answers: &[(Place, Option<Hello>)]) -> Option<Begins> {
    let mut all = vec![(me, own)];
    for (place, hello) in answers {
        all.push((*place, hello.as_ref()?));
    }
    if all.iter().any(|(_, h)| h.leads) {
        return None;
    }
    let part = |h: &Hello| h.initialized && !h.damaged;
    // Without a reach: newborn, or a build that knows nothing of this.
    if all.iter().any(|(_, h)| part(h) && h.reach.is_none()) {
        return None;
    }
    let whole = all.iter().filter(|(_, h)| part(h)).count();
    let reaches: Vec<_> = all.iter().filter_map(|(place, h)| Some((*place, h.reach?))).collect();
    let able = reaches.iter().filter(|(_, r)| !r.proven).count();
    let birth = birth_of(reaches.first()?.1.term);
    let is_one_cluster = reaches.iter().all(|(_, r)| birth_of(r.term) == birth);
    if 2 * whole > all.len() || 2 * able <= all.len() || !is_one_cluster {
        return None;
    }
    let (place, newest) = reaches.iter().max_by_key(|(place, r)| (r.term, r.index, !r.doubtful, *place))?;
    let unbounded = reaches.iter().any(|(_, r)| r.promised.is_none());
    let promised = reaches.iter().filter_map(|(_, r)| r.promised).max().filter(|_| !unbounded);
    (*place == me).then_some(Begins { last: newest.index, promised, own: *newest, by_operator: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::rebirth::Position;

    fn doubtful(term: u64, index: u64) -> Hello {
        let reach = Reach { term, index, doubtful: true, promised: Some(index + 2), proven: false };
        Hello { damaged: true, reach: Some(reach), ..Hello::default() }
    }

    fn whole(term: u64, index: u64) -> Hello {
        let reach = Reach { term, index, doubtful: false, promised: Some(index), proven: false };
        Hello { id: Some(1), initialized: true, reach: Some(reach), ..Hello::default() }
    }

    /// Proved to have lost what it promised behind `index`.
    fn short(term: u64, index: u64, promised: u64) -> Hello {
        let reach = Reach { term, index, doubtful: true, promised: Some(promised), proven: true };
        Hello { damaged: true, reach: Some(reach), ..Hello::default() }
    }

    fn proven() -> Hello {
        Hello { damaged: true, ..Hello::default() }
    }

    /// Which of them begin.
    fn who(all: &[Option<Hello>]) -> Vec<Place> {
        let place = |n: usize| Place::try_from(n + 1).expect("small");
        let begins = |n: usize| {
            let others = all.iter().enumerate().filter(|(other, _)| *other != n);
            let answers: Vec<_> = others.map(|(other, h)| (place(other), h.clone())).collect();
            all[n].as_ref().is_some_and(|own| begins(place(n), own, &answers).is_some())
        };
        (0..all.len()).filter(|n| begins(*n)).map(place).collect()
    }

    #[test]
    fn of_a_majority_in_doubt_the_one_that_reaches_furthest_begins_and_nobody_else() {
        let is = |all: [Hello; 3], expected: &[Place]| assert_eq!(who(&all.map(Some)), expected);
        is([doubtful(3, 10), doubtful(3, 12), doubtful(3, 11)], &[2]);
        is([doubtful(4, 10), doubtful(3, 12), doubtful(3, 11)], &[1]);
        is([doubtful(3, 12), doubtful(3, 12), doubtful(3, 12)], &[3]);
        is([doubtful(3, 12), whole(3, 12), doubtful(3, 12)], &[2]);
        is([doubtful(3, 12), whole(3, 9), doubtful(3, 10)], &[1]);
        is([doubtful(3, 10), doubtful(3, 12), proven()], &[2]);
        is([doubtful(3, 10), doubtful(3, 12), Hello::default()], &[2]);
        is([doubtful(3, 10), doubtful(3, 12), short(3, 15, 20)], &[3]);
        is([doubtful(3, 10), doubtful(3, 12), short(3, 11, 20)], &[2]);
    }

    #[test]
    fn nobody_begins_while_another_way_is_left_or_the_loss_is_proven() {
        let none = |all: [Option<Hello>; 3]| assert_eq!(who(&all), [0; 0]);
        none([Some(doubtful(3, 10)), Some(doubtful(3, 12)), None]);
        none([Some(doubtful(3, 10)), Some(whole(3, 12)), Some(whole(3, 12))]);
        none([Some(doubtful(3, 10)), Some(proven()), Some(proven())]);
        none([Some(doubtful(3, 10)), Some(short(3, 11, 12)), Some(short(3, 12, 13))]);
        none([Some(doubtful(3, 10)), Some(doubtful(3, 9)), Some(Hello { leads: true, ..whole(3, 12) })]);
        let newborn = Hello { id: Some(1), initialized: true, term: 1 << 50, ..Hello::default() };
        none([Some(doubtful(3, 10)), Some(doubtful(3, 12)), Some(newborn)]);
        let reborn = Position { term: 3, index: 9 }.reborn(1);
        none([Some(doubtful(3, 10)), Some(doubtful(3, 12)), Some(doubtful(reborn.term, reborn.index))]);
    }

    #[test]
    fn the_range_that_may_be_missing_is_that_of_all_of_them() {
        let answers = [(2, Some(doubtful(3, 9))), (3, Some(doubtful(3, 11)))];
        let begins_with = |own: &Hello| begins(1, own, &answers).expect("it begins").missing();
        assert_eq!(begins_with(&doubtful(3, 12)), "entries 13 to 14 may be missing");
        let with_proven = [(2, Some(doubtful(3, 9))), (3, Some(short(3, 11, 20)))];
        let begins = begins(1, &doubtful(3, 12), &with_proven).expect("it begins");
        assert_eq!(begins.missing(), "entries 13 to 20 may be missing");
        let all = Reach { term: 3, index: 12, doubtful: true, promised: None, proven: false };
        let unbounded = Hello { damaged: true, reach: Some(all), ..Hello::default() };
        assert_eq!(begins_with(&unbounded), "whatever was acknowledged from entry 13 on may be missing");
        assert_eq!(begins_with(&whole(3, 20)), "no entry behind 20 is known to be missing");
    }
}
