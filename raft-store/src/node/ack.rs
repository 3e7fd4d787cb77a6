//! The quorum acknowledgement: when the newest message was *sent* that a majority has answered as followers.
//!
//! A follower that answers AppendEntries under the leader's own vote has renewed its promise not to vote for anybody
//! else, whether the log matched or not; the promise began after the send, so that counting from the send is safe.
//! Times are of the caller's clock (CLOCK_BOOTTIME in an agent, simulated time in a simulation).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use proxy_core::time::MonoTime;

use super::types::RaftId;

/// Acknowledgements of one leader's term. Shared by the clients of all peers.
#[derive(Debug, Default)]
pub struct Acks(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    term: u64,
    sent: BTreeMap<RaftId, MonoTime>,
    /// Whose newest acknowledgement said that it neither votes nor stands yet.
    silent: BTreeSet<RaftId>,
    /// The last entry that each has proved to have, and when the question was sent to which that was the answer.
    has: BTreeMap<RaftId, (u64, MonoTime)>,
    /// Who has gone backwards.
    lost: BTreeSet<RaftId>,
}

impl Acks {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `from` answered, as a follower in `term`, what was sent at `sent`. A newer term forgets the older ones; replies
    /// out of order keep the newest send time. `silent`: it has just started, and neither votes nor stands yet.
    pub fn record(&self, term: u64, from: RaftId, sent: MonoTime, silent: bool) {
        let mut inner = self.inner();
        if term > inner.term {
            *inner = Inner { term, ..Inner::default() };
        }
        if term == inner.term && !inner.lost.contains(&from) {
            let newest = inner.sent.entry(from).or_insert(sent);
            if sent < *newest {
                return;
            }
            *newest = sent;
            if silent {
                inner.silent.insert(from);
            } else {
                inner.silent.remove(&from);
            }
        }
    }

    /// `from` has everything up to entry `index`, says its answer in `term` to what was sent at `sent`.
    pub fn has(&self, term: u64, from: RaftId, index: u64, sent: MonoTime) {
        let mut inner = self.inner();
        if inner.term != term || inner.lost.contains(&from) {
            return;
        }
        let (known, at) = inner.has.entry(from).or_insert((index, sent));
        *known = index.max(*known);
        *at = sent.max(*at);
    }

    /// The last entry that `peer` has proved in `term` to have, and when it was asked.
    pub fn proof(&self, term: u64, peer: RaftId) -> Option<(u64, MonoTime)> {
        let inner = self.inner();
        (inner.term == term).then(|| inner.has.get(&peer).copied()).flatten()
    }

    /// Its index alone.
    pub(super) fn index(&self, term: u64, peer: RaftId) -> Option<u64> {
        self.proof(term, peer).map(|(index, _)| index)
    }

    /// `peer` lacks what it had acknowledged in `term`. Whether that is news.
    pub(super) fn lost(&self, term: u64, peer: RaftId) -> bool {
        let mut inner = self.inner();
        if inner.term != term {
            return false;
        }
        // What it has is not known any more, and it does not count.
        inner.has.remove(&peer);
        inner.sent.remove(&peer);
        inner.lost.insert(peer)
    }

    /// Whether it has gone backwards in `term`: it lacks what it had acknowledged, and counts for nothing.
    pub(super) fn is_lost(&self, term: u64, peer: RaftId) -> bool {
        let inner = self.inner();
        inner.term == term && inner.lost.contains(&peer)
    }

    /// When the newest message was sent that `peer` acknowledged in `term`.
    pub fn of(&self, term: u64, peer: RaftId) -> Option<MonoTime> {
        let inner = self.inner();
        (inner.term == term).then(|| inner.sent.get(&peer).copied()).flatten()
    }

    /// Whether `peer` said with its newest acknowledgement in `term` that it neither votes nor stands yet.
    pub fn silent(&self, term: u64, peer: RaftId) -> bool {
        let inner = self.inner();
        inner.term == term && inner.silent.contains(&peer)
    }

    /// The newest time by which a quorum of every voter set (two while the membership changes) had acknowledged the
    /// leadership of `me` in `term`. This node counts as having acknowledged `now`.
    pub fn quorum(
        &self,
        term: u64,
        me: RaftId,
        voters: &[BTreeSet<RaftId>],
        now: MonoTime,
    ) -> Option<MonoTime> {
        let inner = self.inner();
        let of = |id: &RaftId| match *id {
            id if id == me => Some(now),
            _ if inner.term != term => None,
            id => inner.sent.get(&id).copied(),
        };
        let of_set = |set: &BTreeSet<RaftId>| {
            let mut times: Vec<_> = set.iter().map(of).collect();
            times.sort_unstable_by(|a, b| b.cmp(a));
            times.get(set.len() / 2).copied().flatten()
        };
        voters.iter().map(of_set).min().flatten()
    }
}

/// What it means that a follower lacks the entry that a question named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conflict {
    /// That it has to be sent.
    Lacks,
    /// Nothing any more: it has acknowledged the entry to a later question, whose answer came first.
    Overtaken,
    /// That it has lost what it had acknowledged before it was asked.
    Backwards,
}

impl Conflict {
    /// `named` is the entry, `before` the last one that the follower had proved to have when it was asked, `now` when its
    /// answer comes. openraft must not hear of an answer that was overtaken: it takes it for a log that went back.
    pub(super) fn of(named: u64, before: Option<u64>, now: Option<u64>) -> Self {
        if before.is_some_and(|before| named <= before) {
            Self::Backwards
        } else if now.is_some_and(|now| named <= now) {
            Self::Overtaken
        } else {
            Self::Lacks
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_overtaken_is_no_log_that_went_back() {
        assert_eq!(Conflict::of(137, None, None), Conflict::Lacks);
        assert_eq!(Conflict::of(137, Some(136), Some(136)), Conflict::Lacks);
        assert_eq!(
            Conflict::of(137, None, Some(137)),
            Conflict::Overtaken,
            "a later question was answered first"
        );
        assert_eq!(Conflict::of(137, Some(137), Some(140)), Conflict::Backwards);
        assert_eq!(Conflict::of(137, Some(137), None), Conflict::Backwards);
    }

    fn set(ids: &[RaftId]) -> BTreeSet<RaftId> {
        ids.iter().copied().collect()
    }

    #[test]
    fn one_voter_alone_is_its_own_quorum_now() {
        let acks = Acks::default();
        assert_eq!(acks.quorum(1, 1, &[set(&[1])], MonoTime(9)), Some(MonoTime(9)));
    }

    #[test]
    fn of_three_the_faster_peer_counts_of_five_the_second() {
        let acks = Acks::default();
        for (id, at) in [(2, 5), (3, 7), (4, 6)] {
            acks.record(1, id, MonoTime(at), false);
        }
        assert_eq!(acks.quorum(1, 1, &[set(&[1, 2, 3])], MonoTime(9)), Some(MonoTime(7)));
        assert_eq!(acks.quorum(1, 1, &[set(&[1, 2, 3, 4, 5])], MonoTime(9)), Some(MonoTime(6)));
    }

    #[test]
    fn two_voters_need_both() {
        let acks = Acks::default();
        assert_eq!(acks.quorum(1, 1, &[set(&[1, 2])], MonoTime(9)), None);
        acks.record(1, 2, MonoTime(4), false);
        assert_eq!(acks.quorum(1, 1, &[set(&[1, 2])], MonoTime(9)), Some(MonoTime(4)));
    }

    #[test]
    fn while_the_membership_changes_both_voter_sets_must_have_acknowledged() {
        let acks = Acks::default();
        acks.record(1, 2, MonoTime(8), false);
        let joint = [set(&[1, 2, 3]), set(&[1, 4, 5])];
        assert_eq!(acks.quorum(1, 1, &joint, MonoTime(9)), None);
        acks.record(1, 4, MonoTime(3), false);
        assert_eq!(acks.quorum(1, 1, &joint, MonoTime(9)), Some(MonoTime(3)));
    }

    #[test]
    fn a_leader_that_is_no_voter_does_not_count_itself() {
        let acks = Acks::default();
        acks.record(1, 2, MonoTime(8), false);
        assert_eq!(acks.quorum(1, 1, &[set(&[2, 3])], MonoTime(9)), None);
    }

    #[test]
    fn replies_out_of_order_and_of_old_terms_change_nothing() {
        let acks = Acks::default();
        acks.record(2, 2, MonoTime(8), false);
        acks.record(2, 2, MonoTime(5), false);
        acks.record(1, 2, MonoTime(9), false);
        assert_eq!(acks.of(2, 2), Some(MonoTime(8)));
        acks.record(3, 3, MonoTime(10), false);
        assert_eq!(acks.quorum(2, 1, &[set(&[1, 2, 3])], MonoTime(11)), None, "a newer term is known");
        assert_eq!(acks.quorum(3, 1, &[set(&[1, 2, 3])], MonoTime(11)), Some(MonoTime(10)));
    }

    #[test]
    fn what_a_peer_has_is_known_by_its_answers_until_it_goes_backwards() {
        let acks = Acks::default();
        acks.has(1, 2, 7, MonoTime(5));
        assert_eq!(acks.proof(1, 2), None, "a term in which nothing was acknowledged");
        acks.record(1, 2, MonoTime(5), false);
        acks.has(1, 2, 7, MonoTime(5));
        acks.has(1, 2, 3, MonoTime(6));
        assert_eq!(acks.proof(1, 2), Some((7, MonoTime(6))));
        assert!(acks.lost(1, 2) && !acks.lost(1, 2), "news once");
        assert_eq!((acks.proof(1, 2), acks.of(1, 2)), (None, None));
        acks.record(1, 2, MonoTime(7), false);
        acks.has(1, 2, 7, MonoTime(7));
        assert_eq!((acks.proof(1, 2), acks.of(1, 2)), (None, None), "in this term it counts no more");
        assert!(acks.is_lost(1, 2) && !acks.is_lost(1, 3));
        acks.record(2, 2, MonoTime(9), false);
        assert!(!acks.is_lost(2, 2));
        assert_eq!(acks.proof(2, 2), None, "a new term knows nothing yet");
    }

    #[test]
    fn a_silent_peer_counts_for_the_quorum_and_its_newest_answer_says_that_it_is_silent() {
        let acks = Acks::default();
        acks.record(1, 2, MonoTime(5), true);
        assert!(acks.silent(1, 2) && !acks.silent(2, 2));
        assert_eq!(acks.quorum(1, 1, &[set(&[1, 2])], MonoTime(9)), Some(MonoTime(5)));
        acks.record(1, 2, MonoTime(8), false);
        assert!(!acks.silent(1, 2));
        acks.record(1, 2, MonoTime(6), true);
        assert!(!acks.silent(1, 2), "an old answer that comes late");
        acks.record(1, 2, MonoTime(9), true);
        assert!(acks.silent(1, 2), "it has started again");
    }
}
