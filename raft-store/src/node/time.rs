//! The cluster's time on a node: its clock, and whether this node leads, which decides who sets whose.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use openraft::{RaftMetrics, ServerState};
use proxy_core::time::{Clocks, MonoTime, RealTime, WallOffset, WallTime};

use super::client::Clock;
use super::inbound::Told;
use super::types::{Place, TypeConfig, place_of};
use crate::time::{BootId, ClusterClock, MAX_OUTAGE, Outage, Stamp};

/// What a node says of its wall clock counts for so long.
const SKEW_LASTS: Duration = Duration::from_secs(10);
/// An answer that takes longer says nothing about a wall clock.
const SLOW_ANSWER: Duration = Duration::from_millis(500);
/// Wall clocks that differ by more are warned of.
const SKEW_SAID: Duration = Duration::from_secs(2);
/// Wall clocks that differ by less are right again.
const SKEW_RIGHT: Duration = Duration::from_secs(1);
/// A wall clock that moves by more between two looks has been set.
const STEP_SAID: Duration = Duration::from_secs(1);
/// A wall clock that has moved by more since the newest stamp is told to all: their records are read by it.
const MOVED: Duration = Duration::from_millis(500);

/// This node's reading of the cluster's time, and what it knows of wall clocks.
pub struct Time {
    clock: ClusterClock,
    read: Clock,
    walls: Mutex<Walls>,
    /// Every member reads stamps.
    is_read: AtomicBool,
    /// The term that is going on, as soon as Raft is there.
    term: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>,
}

/// Wall clocks.
#[derive(Debug, Default)]
struct Walls {
    /// By how many ms another node's is ahead of this one's, and when it said so.
    skew: BTreeMap<Place, (i64, MonoTime)>,
    /// Those that were warned of.
    warned: BTreeSet<Place>,
    /// The own one is wrong, by the word of most.
    is_odd: bool,
    /// How the own one stood to CLOCK_BOOTTIME at the last look.
    last: Option<WallOffset>,
}

impl Time {
    /// Of a process that starts now; `stored_until` is the last entry of its log.
    #[must_use]
    pub fn new(boot: BootId, stored_until: u64, read: Clock) -> Self {
        Self {
            clock: ClusterClock::new(boot, stored_until, read()),
            read,
            walls: Mutex::default(),
            is_read: AtomicBool::new(false),
            term: OnceLock::new(),
        }
    }

    /// What time it is when CLOCK_BOOTTIME shows this. Never waits.
    #[must_use]
    pub fn at(&self, mono: MonoTime) -> WallTime {
        self.clock.at(mono)
    }

    /// The stamp of a snapshot is here.
    pub(super) fn stored(&self, stamp: Stamp) {
        self.clock.applied(0, false, stamp, (self.read)().mono);
    }

    /// The stamp of the entry at `index`, of the term `term`, is applied here.
    pub(super) fn applied(&self, index: u64, term: u64, stamp: Stamp) {
        let is_present = self.term.get().is_some_and(|now| now() <= term);
        self.clock.applied(index, is_present, stamp, (self.read)().mono);
    }

    /// Raft is there, and says in which term it is.
    pub(super) fn count_terms(&self, now: impl Fn() -> u64 + Send + Sync + 'static) {
        // Set once, at the start.
        drop(self.term.set(Box::new(now)));
    }

    /// Whether this node leads, by what openraft says. A leader that finds no time that was counted on without a break takes
    /// the wall clock's word, within a bound, and says so.
    pub(super) fn look(&self, metrics: &RaftMetrics<TypeConfig>) -> bool {
        if metrics.state != ServerState::Leader || !metrics.vote.committed {
            self.clock.follow();
            return false;
        }
        let has_all =
            metrics.last_applied.is_some_and(|log_id| log_id.leader_id.term == metrics.current_term);
        match self.clock.lead(has_all, (self.read)()) {
            None => {}
            Some(Outage::Added { difference, added }) if added < difference => tracing::warn!(
                "no node has counted the time since the last entry: {} s ago by the wall clock, of which {} s count for what \
                 is under way (at most {} s)",
                difference.as_secs(),
                added.as_secs(),
                MAX_OUTAGE.as_secs()
            ),
            Some(Outage::Added { added, .. }) => {
                tracing::info!(
                    "no node has counted the time since the last entry: {} s by the wall clock",
                    added.as_secs()
                );
            }
            Some(Outage::Backwards { by }) => tracing::warn!(
                "no node has counted the time since the last entry, and the wall clock shows {} s before it: nothing is added; \
                 set the clock",
                by.as_secs()
            ),
        }
        true
    }

    /// Whether this node knows the time without asking a wall clock.
    pub(super) fn counts(&self) -> bool {
        self.clock.counts()
    }

    /// What this node says of the time now.
    pub(super) fn tell(&self) -> (Told, Clocks) {
        let clocks = (self.read)();
        let time = self.clock.tell(clocks.mono);
        (Told { time, real: clocks.real, is_odd: false }, clocks)
    }

    /// What a leader asks `place`.
    pub(super) fn ask(&self, place: Place) -> (Told, Clocks) {
        let is_odd = odd(&self.skew()).contains(&Some(place));
        let (told, clocks) = self.tell();
        (Told { is_odd, ..told }, clocks)
    }

    /// Whether the own wall clock is wrong, by the word of most.
    pub(super) fn is_odd(&self) -> bool {
        self.walls().is_odd
    }

    /// Answers the question of `from`, and takes in what it says.
    pub(super) fn answer(&self, from: Place, told: Told, metrics: &RaftMetrics<TypeConfig>) -> Told {
        let (mine, clocks) = self.tell();
        let is_of_leader = metrics.current_leader.map(place_of) == Some(from);
        if let Some(time) = told.time
            && (is_of_leader || mine.time.is_none())
        {
            self.clock.heard(time, clocks.mono);
        }
        if is_of_leader {
            self.walls().is_odd = told.is_odd;
        }
        self.note(from, told.real, clocks);
        mine
    }

    /// The answer of `from` to a question that was asked at `asked`.
    pub(super) fn answered(&self, from: Place, told: Told, asked: Clocks) {
        let now = (self.read)();
        let took = now.mono.since(asked.mono);
        if took > SLOW_ANSWER {
            return;
        }
        if let Some(time) = told.time
            && !self.clock.counts()
        {
            self.clock.heard(time, now.mono);
        }
        // It was read somewhere between question and answer.
        let middle = RealTime(now.real.0.saturating_sub(millis(took / 2)));
        self.note(from, told.real, Clocks { real: middle, ..now });
    }

    fn walls(&self) -> MutexGuard<'_, Walls> {
        self.walls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, from: Place, real: RealTime, here: Clocks) {
        let skew = WallOffset::between(real, WallTime(here.real.0)).0;
        self.walls().skew.insert(from, (skew, here.mono));
    }

    /// By how many ms the wall clocks of others are ahead of this one's, of those that have said so a moment ago.
    pub(super) fn skew(&self) -> BTreeMap<Place, i64> {
        let now = (self.read)().mono;
        let walls = self.walls();
        let fresh = walls.skew.iter().filter(|(_, (_, at))| now.since(*at) < SKEW_LASTS);
        fresh.map(|(place, (skew, _))| (*place, *skew)).collect()
    }

    /// Warns, once, of wall clocks that differ from this one's, and says when that is over: the leader's work.
    pub(super) fn compare(&self) {
        let skews = self.skew();
        self.walls().is_odd = odd(&skews).contains(&None);
        for (place, skew) in skews {
            let by = Duration::from_millis(skew.unsigned_abs());
            let mut walls = self.walls();
            if by > SKEW_SAID && walls.warned.insert(place) {
                let way = if skew > 0 { "ahead of" } else { "behind" };
                tracing::warn!(
                    "the wall clock of node {place} is {:.1} s {way} this node's: set the one that is wrong (NTP); calls and \
                     registrations do not depend on it, records and the Date of responses do",
                    by.as_secs_f64()
                );
            } else if by < SKEW_RIGHT && walls.warned.remove(&place) {
                tracing::info!("the wall clock of node {place} agrees with this node's again");
            }
        }
    }

    /// Says that the own wall clock was set.
    pub(super) fn watch_own(&self) {
        let now = (self.read)();
        let stands = WallOffset::between(now.real, WallTime(now.mono.millis()));
        let Some(last) = self.walls().last.replace(stands) else { return };
        if stands.distance(last) > millis(STEP_SAID) {
            #[expect(clippy::cast_precision_loss, reason = "a clock is wrong by far less than 2^52 ms")]
            let by = stands.0.saturating_sub(last.0) as f64 / 1000.0;
            tracing::warn!(
                "the wall clock of this node was set by {by:+.1} s: calls and registrations go on as if it had not been; records \
                 and the Date of responses follow it"
            );
        }
    }

    /// Whether the own wall clock has moved since the newest stamp.
    pub(super) fn has_moved(&self) -> bool {
        let now = (self.read)();
        let stands = WallOffset::between(now.real, self.clock.at(now.mono));
        self.clock.newest().is_some_and(|stamp| stamp.wall_offset().distance(stands) > millis(MOVED))
    }

    /// What a leader puts into the entry that it makes now; nothing as long as it does not know the time, or a member could not
    /// read it.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        if self.is_read.load(Ordering::Acquire) { self.clock.stamp((self.read)()) } else { None }
    }

    /// Whether every member reads stamps. As long as one does not, there are none: each node then goes on by itself.
    pub(super) fn set_read(&self, is_read: bool) {
        self.is_read.store(is_read, Ordering::Release);
    }
}

/// The nodes (`None`: this one) whose wall clocks are far from the middle one. Of two clocks nobody knows which is wrong.
fn odd(skews: &BTreeMap<Place, i64>) -> Vec<Option<Place>> {
    let mut all: Vec<(i64, Option<Place>)> =
        skews.iter().map(|(place, skew)| (*skew, Some(*place))).collect();
    all.push((0, None));
    all.sort_unstable();
    let Some((middle, _)) = all.get(all.len() / 2).copied().filter(|_| all.len() > 2) else {
        return Vec::new();
    };
    let is_far = |skew: i64| skew.abs_diff(middle) > millis(SKEW_SAID);
    all.into_iter().filter(|(skew, _)| is_far(*skew)).map(|(_, place)| place).collect()
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A node whose clocks show what the test says.
    fn node() -> (Arc<Mutex<Clocks>>, Time) {
        let shown = Arc::new(Mutex::new(Clocks { mono: MonoTime(5_000_000_000), real: RealTime(1_000_000) }));
        let read = shown.clone();
        (shown, Time::new(1, 0, Arc::new(move || *read.lock().expect("not poisoned"))))
    }

    #[test]
    fn the_wall_clock_of_another_node_is_compared_with_the_middle_of_question_and_answer() {
        let (shown, time) = node();
        let (_, asked) = time.tell();
        *shown.lock().expect("not poisoned") =
            Clocks { mono: MonoTime(5_200_000_000), real: RealTime(1_000_200) };
        time.answered(2, Told { time: None, real: RealTime(1_003_100), is_odd: false }, asked);
        assert_eq!(time.skew(), BTreeMap::from([(2, 3_000)]));
        // Too long ago to say anything.
        shown.lock().expect("not poisoned").mono = MonoTime(20_000_000_000);
        assert_eq!(time.skew(), BTreeMap::new());
    }

    #[test]
    fn of_three_clocks_the_one_that_two_contradict_is_wrong_and_of_two_none() {
        assert_eq!(odd(&BTreeMap::from([(2, 100), (3, 3_600_000)])), [Some(3)]);
        assert_eq!(odd(&BTreeMap::from([(2, -3_600_000), (3, -3_600_100)])), [None], "this one");
        assert_eq!(odd(&BTreeMap::from([(2, 100), (3, -100)])), []);
        assert_eq!(odd(&BTreeMap::from([(2, 3_600_000)])), []);
    }

    #[test]
    fn a_node_that_knows_no_time_takes_the_time_of_one_that_counts() {
        let (_, time) = node();
        let (mine, asked) = time.tell();
        assert_eq!(mine.time, None);
        time.answered(2, Told { time: Some(WallTime(77)), real: RealTime(9), is_odd: false }, asked);
        assert_eq!(time.tell().0.time, Some(WallTime(77)));
        time.answered(3, Told { time: Some(WallTime(5)), real: RealTime(9), is_odd: false }, asked);
        assert_eq!(time.tell().0.time, Some(WallTime(77)), "it counts by itself now");
    }
}
