//! Elections on slow disks. A vote counts when it is on the voter's disk, which may take longer than any election timeout:
//! then openraft has given up the question before its answer comes, and whoever has waited for a disk meanwhile finds its own
//! election timer run out, and stands against the node that it has just voted for. So nobody would ever win.
//!
//! | who | does | because |
//! |---|---|---|
//! | a candidate | waits for votes up to [`VOTE_PATIENCE`], and asks again where an answer was lost | the answer is on its way to the disk |
//! | a candidate | makes no pre-vote of a node whose vote it waits for | it would stand again, and the vote would be for nothing |
//! | a candidate that has waited for its own disk, for twice that time | answers no pre-votes of others | the votes for it are on their way to a disk; not once all have answered, or said that they cannot vote now |
//! | a voter that writes a vote, and as long again, an election timeout at most | makes no pre-votes | it has just elected somebody, and its timer has run out meanwhile |
//! | whoever is told who leads | saves that without waiting for the disk, if the vote itself is there | see `RaftLog` |
//!
//! None of it is about safety: what is asked, and who may vote, stays as openraft has it. An election takes two syncs then,
//! the candidate's and the slowest needed voter's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::types::RaftId;

/// Time that a vote may take: two syncs of five seconds each.
pub(super) const VOTE_PATIENCE: Duration = Duration::from_secs(10);

/// A disk whose syncs take less is fast.
const FAST_SYNC: Duration = Duration::from_millis(5);
/// A vote that takes longer waits for a disk.
const FAST_VOTE: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
struct Inner {
    /// The newest term in which this node has asked for votes, unless it is decided who leads in it.
    stands_in: Option<u64>,
    /// Since when it has.
    stands_since: Option<Instant>,
    /// Questions for votes under way, by whom they are asked of.
    asked: BTreeMap<RaftId, Asked>,
    /// Who has said since this node began to ask that it cannot vote now: its vote is on its way to no disk.
    cannot: BTreeSet<RaftId>,
    /// Votes of this node that are being written.
    writing: u32,
    /// Until when it gives the node that it has voted for time to lead, and in which term.
    bound: Option<(u64, Instant)>,
}

/// Questions to one voter.
#[derive(Debug, Clone, Copy)]
struct Asked {
    count: u32,
    /// When the oldest of them was asked.
    since: Instant,
}

/// Votes that this node asks for and gives.
#[derive(Debug)]
pub(super) struct Polls {
    inner: Mutex<Inner>,
    /// Longest election timeout.
    election: Duration,
}

/// A question for a vote; it ends when this is dropped.
pub(super) struct Asking {
    polls: Arc<Polls>,
    term: u64,
    of: RaftId,
    begun: Instant,
}

/// A vote that is being written.
pub(super) struct Writing<'a> {
    polls: &'a Polls,
    begun: Instant,
}

impl Polls {
    pub(super) fn new(election: Duration) -> Self {
        Self { inner: Mutex::default(), election }
    }

    /// Longest election timeout, and the lease.
    pub(super) fn election(&self) -> Duration {
        self.election
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The vote of `of` is asked for in `term`.
    pub(super) fn ask(self: &Arc<Self>, term: u64, of: RaftId) -> Asking {
        let mut inner = self.lock();
        if inner.stands_in < Some(term) {
            inner.stands_in = Some(term);
            inner.stands_since = Some(Instant::now());
            inner.cannot.clear();
        }
        let fresh = Asked { count: 0, since: Instant::now() };
        inner.asked.entry(of).or_insert(fresh).count += 1;
        drop(inner);
        Asking { polls: self.clone(), term, of, begun: Instant::now() }
    }

    /// `of` says that it cannot vote now: it is starting, or not sure of what it has.
    pub(super) fn cannot(&self, of: RaftId) {
        self.lock().cannot.insert(of);
    }

    /// A leader of `term` is known, or the vote of this node has gone to another one in it: nobody is waited for.
    pub(super) fn decided(&self, term: u64) {
        let mut inner = self.lock();
        if inner.stands_in.is_some_and(|stands| stands <= term) {
            inner.stands_in = None;
        }
        inner.bound.take_if(|(voted, _)| *voted <= term);
    }

    /// Whether this node waits for votes that may be on their way to disks as slow as its own: `sync` is how long its
    /// newest one took.
    pub(super) fn waits(&self, sync: Duration, now: Instant) -> bool {
        let inner = self.lock();
        let is_open = inner.asked.keys().any(|of| !inner.cannot.contains(of));
        let since = inner.stands_since.filter(|_| inner.stands_in.is_some() && is_open);
        since.is_some_and(|since| now.saturating_duration_since(since) < 2 * sync)
    }

    /// A vote is about to be written, perhaps.
    pub(super) fn write(&self) -> Writing<'_> {
        self.lock().writing += 1;
        Writing { polls: self, begun: Instant::now() }
    }

    /// Why `of` must not be asked whether it would vote for this node; `None`: it may be. `sync` is how long the newest
    /// sync here took: where disks are fast, a question that was asked just now is no reason.
    pub(super) fn why_not(&self, of: RaftId, sync: Duration, now: Instant) -> Option<&'static str> {
        let inner = self.lock();
        let is_slow =
            |asked: &Asked| sync >= FAST_SYNC || now.saturating_duration_since(asked.since) >= FAST_VOTE;
        if inner.asked.get(&of).is_some_and(is_slow) {
            return Some("its vote is waited for");
        }
        let is_bound = inner.bound.is_some_and(|(_, end)| now < end);
        (inner.writing > 0 || is_bound).then_some("this node has just voted for another")
    }
}

impl Asking {
    /// Whether the vote would still be of use.
    pub(super) fn stands(&self) -> bool {
        self.polls.lock().stands_in == Some(self.term) && self.begun.elapsed() < VOTE_PATIENCE
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut inner = self.polls.lock();
        if let Some(asked) = inner.asked.get_mut(&self.of) {
            asked.count -= 1;
            if asked.count == 0 {
                inner.asked.remove(&self.of);
            }
        }
    }
}

impl Writing<'_> {
    /// The vote of `term` is written, or was refused.
    pub(super) fn done(self, term: u64, given: bool, now: Instant) {
        if given {
            self.polls.decided(term);
            let took = now.saturating_duration_since(self.begun);
            self.polls.lock().bound = Some((term, now + took.min(self.polls.election)));
        }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let mut inner = self.polls.lock();
        inner.writing = inner.writing.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELECTION: Duration = Duration::from_millis(150);

    #[tokio::test(start_paused = true)]
    async fn a_candidate_asks_nobody_else_s_opinion_of_whom_it_waits_for() {
        let polls = Arc::new(Polls::new(ELECTION));
        let asking = polls.ask(4, 2);
        assert!(asking.stands() && polls.why_not(2, FAST_SYNC, Instant::now()).is_some());
        assert_eq!(
            polls.why_not(2, Duration::ZERO, Instant::now()),
            None,
            "asked just now, and disks are fast"
        );
        assert_eq!(polls.why_not(3, FAST_SYNC, Instant::now()), None);
        polls.decided(3);
        assert!(asking.stands(), "an older term decides nothing");
        polls.decided(4);
        assert!(!asking.stands());
        let again = polls.ask(5, 2);
        drop(asking);
        assert!(polls.why_not(2, FAST_SYNC, Instant::now()).is_some(), "the newer question goes on");
        tokio::time::advance(VOTE_PATIENCE).await;
        assert!(!again.stands());
        drop(again);
        assert_eq!(polls.why_not(2, FAST_SYNC, Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_candidate_with_a_slow_disk_waits_for_others_like_it_and_not_for_ever() {
        let polls = Arc::new(Polls::new(ELECTION));
        let (sync, now) = (10 * ELECTION, Instant::now());
        assert!(!polls.waits(sync, now));
        let asking = polls.ask(4, 2);
        assert!(polls.waits(sync, now) && !polls.waits(Duration::ZERO, now));
        assert!(!polls.waits(sync, now + 2 * sync));
        polls.decided(4);
        assert!(!polls.waits(sync, now) && !asking.stands());
    }

    #[tokio::test(start_paused = true)]
    async fn a_candidate_that_can_hope_for_no_vote_any_more_lets_others_stand() {
        let polls = Arc::new(Polls::new(ELECTION));
        let (sync, now) = (10 * ELECTION, Instant::now());
        let (of_two, _of_three) = (polls.ask(4, 2), polls.ask(4, 3));
        polls.cannot(3);
        assert!(polls.waits(sync, now), "the vote of 2 may be on its way to a disk");
        drop(of_two);
        assert!(!polls.waits(sync, now), "2 has refused, and 3 cannot vote");
        let _later = polls.ask(5, 3);
        assert!(polls.waits(sync, now), "asked anew");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_a_vote_does_not_stand_while_it_is_written_and_as_long_again() {
        let polls = Polls::new(ELECTION);
        let writing = polls.write();
        assert!(polls.why_not(2, FAST_SYNC, Instant::now()).is_some());
        tokio::time::advance(10 * ELECTION).await;
        writing.done(3, true, Instant::now());
        assert!(polls.why_not(2, FAST_SYNC, Instant::now()).is_some());
        tokio::time::advance(ELECTION).await;
        assert_eq!(polls.why_not(2, FAST_SYNC, Instant::now()), None);
        polls.write().done(4, true, Instant::now());
        assert_eq!(polls.why_not(2, FAST_SYNC, Instant::now()), None, "a fast disk needs no time");
        let writing = polls.write();
        tokio::time::advance(ELECTION).await;
        writing.done(5, false, Instant::now());
        assert_eq!(polls.why_not(2, FAST_SYNC, Instant::now()), None, "a vote that was refused binds nobody");
        let writing = polls.write();
        tokio::time::advance(ELECTION).await;
        writing.done(6, true, Instant::now());
        polls.decided(6);
        assert_eq!(polls.why_not(2, FAST_SYNC, Instant::now()), None, "it leads");
    }
}
