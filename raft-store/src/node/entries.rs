//! How entries fare on their way to the followers: for how long each has not acknowledged any, and how long an
//! acknowledgement takes, disk and way together. Heartbeats say nothing of it: they are small, and wait for no disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proxy_core::time::MonoTime;

use super::types::RaftId;

/// Seconds that a slow acknowledgement is remembered.
const WINDOW: usize = 60;

#[derive(Debug, Default)]
struct OfPeer {
    /// When the oldest entries were sent that it has not acknowledged.
    since: Option<MonoTime>,
    /// The slowest acknowledgement of each second in which one came.
    slowest: VecDeque<(MonoTime, Duration)>,
}

#[derive(Debug, Default)]
struct Inner {
    term: u64,
    peers: BTreeMap<RaftId, OfPeer>,
}

/// What one leader's term has seen. Shared by the clients of all peers.
#[derive(Debug, Default)]
pub(super) struct Entries(Mutex<Inner>);

impl Entries {
    fn of_term(&self, term: u64) -> Option<MutexGuard<'_, Inner>> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if term > inner.term {
            *inner = Inner { term, ..Inner::default() };
        }
        (term == inner.term).then_some(inner)
    }

    /// Entries are sent to `peer`, perhaps once more.
    pub(super) fn sent(&self, term: u64, peer: RaftId, now: MonoTime) {
        if let Some(mut inner) = self.of_term(term) {
            inner.peers.entry(peer).or_default().since.get_or_insert(now);
        }
    }

    /// `peer` has answered them.
    pub(super) fn answered(&self, term: u64, peer: RaftId, now: MonoTime) {
        let Some(mut inner) = self.of_term(term) else { return };
        let of_peer = inner.peers.entry(peer).or_default();
        let Some(since) = of_peer.since.take() else { return };
        let took = now.since(since);
        match of_peer.slowest.back_mut() {
            Some((at, slowest)) if now.since(*at) < Duration::from_secs(1) => *slowest = took.max(*slowest),
            _ => of_peer.slowest.push_back((now, took)),
        }
        if of_peer.slowest.len() > WINDOW {
            of_peer.slowest.pop_front();
        }
    }

    /// Since when `peer` has not acknowledged entries that it was sent in `term`.
    pub(super) fn unanswered(&self, term: u64, peer: RaftId) -> Option<MonoTime> {
        self.of_term(term)?.peers.get(&peer)?.since
    }

    /// The slowest acknowledgement of `peer` within the last minute; `None`: there was none.
    pub(super) fn slowest(&self, term: u64, peer: RaftId, now: MonoTime) -> Option<Duration> {
        let inner = self.of_term(term)?;
        let window = Duration::from_secs(WINDOW as u64);
        let recent = inner.peers.get(&peer)?.slowest.iter().filter(|(at, _)| now.since(*at) < window);
        recent.map(|(_, took)| *took).max()
    }

    /// How long a commit takes at most where the fastest majority of every voter set is enough: `own` is the slowest sync
    /// here, `said` that of another node by its own word. A peer of which nothing is known counts as slower than all
    /// others; without enough of them it is not known.
    pub(super) fn commit_takes(
        &self,
        term: u64,
        me: RaftId,
        own: Duration,
        said: impl Fn(RaftId) -> Option<Duration>,
        voters: &[BTreeSet<RaftId>],
        now: MonoTime,
    ) -> Option<Duration> {
        let of = |id: &RaftId| match *id {
            id if id == me => Some(own),
            id => self.slowest(term, id, now).max(said(id)),
        };
        let of_set = |set: &BTreeSet<RaftId>| {
            let mut known: Vec<_> = set.iter().filter_map(of).collect();
            known.sort_unstable();
            known.get(set.len() / 2).copied()
        };
        voters.iter().map(of_set).collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MonoTime {
        MonoTime(ms * 1_000_000)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn entries_that_are_sent_again_have_been_unanswered_since_they_were_sent_first() {
        let entries = Entries::default();
        entries.sent(3, 2, at(10));
        entries.sent(3, 2, at(500));
        assert_eq!(entries.unanswered(3, 2), Some(at(10)));
        entries.answered(3, 2, at(900));
        assert_eq!((entries.unanswered(3, 2), entries.slowest(3, 2, at(900))), (None, Some(ms(890))));
        entries.sent(3, 2, at(1000));
        assert_eq!(entries.unanswered(4, 2), None, "a later term begins anew");
        entries.answered(3, 2, at(1100));
        assert_eq!(entries.slowest(4, 2, at(1100)), None, "an answer of an old term");
    }

    #[test]
    fn a_slow_acknowledgement_is_forgotten_after_a_minute() {
        let entries = Entries::default();
        for (sent, answered) in [(0, 400), (500, 510), (70_000, 70_020)] {
            entries.sent(1, 2, at(sent));
            entries.answered(1, 2, at(answered));
        }
        assert_eq!(entries.slowest(1, 2, at(60_000)), Some(ms(400)));
        assert_eq!(entries.slowest(1, 2, at(70_020)), Some(ms(20)));
    }

    #[test]
    fn a_commit_takes_as_long_as_the_slowest_of_the_fastest_majority() {
        let entries = Entries::default();
        let three = [BTreeSet::from([1, 2, 3])];
        let nothing = |_| None;
        let takes = |own| entries.commit_takes(1, 1, ms(own), nothing, &three, at(2_000));
        assert_eq!(takes(5), None, "nobody has acknowledged anything yet");
        let said = |id| (id == 3).then_some(ms(3_000));
        assert_eq!(entries.commit_takes(1, 1, ms(5), said, &three, at(0)), Some(ms(3_000)), "by its word");
        for (peer, took) in [(2, 1_000), (3, 30)] {
            entries.sent(1, peer, at(0));
            entries.answered(1, peer, at(took));
        }
        assert_eq!(takes(5), Some(ms(30)), "one slow disk of three is not needed");
        assert_eq!(takes(700), Some(ms(700)));
        assert_eq!(entries.commit_takes(1, 1, ms(5), nothing, &[BTreeSet::from([1])], at(0)), Some(ms(5)));
        let joint = [BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 2])];
        assert_eq!(
            entries.commit_takes(1, 1, ms(5), nothing, &joint, at(2_000)),
            Some(ms(1_000)),
            "both sets"
        );
    }
}
