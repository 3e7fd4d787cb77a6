//! The time of the cluster: one clock that all nodes share, that only goes forward, and that no wall clock moves.
//!
//! The leader puts a [`Stamp`] into every entry. Between stamps each node counts on its own CLOCK_BOOTTIME:
//!
//! | what the newest stamp is | time of the cluster |
//! |---|---|
//! | none: the cluster starts for the first time | what the wall clock of the first leader shows |
//! | made under this kernel's boot, by whichever process | the stamp's, and CLOCK_BOOTTIME since it was made: exact |
//! | of another node, of this term, heard while this process runs | the stamp's, and CLOCK_BOOTTIME since it was applied here: late by its way |
//! | of another node, found on the own disk or of an earlier term, and no node that has counted answers | the stamp's, and the difference of the wall clocks, at most [`MAX_OUTAGE`] |
//!
//! A takeover therefore only lengthens what is under way, by the time that a stamp takes to the other node. Only the last row
//! asks a wall clock: all nodes were down, and no clock was left running.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use minicbor::{CborLen, Decode, Encode};
use proxy_core::time::{Clocks, MonoTime, RealTime, WallOffset, WallTime};
use serde::{Deserialize, Serialize};

/// Most that an outage of the whole cluster takes from what is under way: as long as an ordinary registration. A clock that
/// is wrong after a power cut is commoner than calls or messages that should have ended in a longer outage.
pub const MAX_OUTAGE: Duration = Duration::from_secs(3600);

/// Names a run of one kernel: equal for two readings of CLOCK_BOOTTIME that count from the same origin.
pub type BootId = u64;

/// What a leader says of the time, in every entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Stamp {
    /// Time of the cluster when the entry was made.
    #[n(0)]
    pub time: WallTime,
    /// What the leader's wall clock showed.
    #[n(1)]
    pub real: RealTime,
    /// Which boot its CLOCK_BOOTTIME counts from.
    #[n(2)]
    pub boot: BootId,
    /// Its CLOCK_BOOTTIME, whole milliseconds.
    #[n(3)]
    pub mono_ms: u64,
    /// By how many milliseconds it went forward at once, for an outage of the whole cluster; told until a stamp of this leader
    /// is applied.
    #[n(4)]
    pub skipped_ms: u64,
}

/// What a leader that takes up the time found, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// The wall clock says that nobody counted for so long; so much was added.
    Added {
        /// Difference of the wall clocks.
        difference: Duration,
        /// What was added of it.
        added: Duration,
    },
    /// The wall clock shows an earlier time than at the last stamp: nothing was added.
    Backwards {
        /// By how much it is earlier.
        by: Duration,
    },
}

/// How it is known what time it is.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// Nobody has said.
    Nothing,
    /// A stamp of an earlier process, from the own disk.
    Stored(Stamp),
    /// Counted without a break.
    Counted,
}

#[derive(Debug)]
struct Inner {
    source: Source,
    leading: bool,
    skipped_ms: u64,
    newest: Option<Stamp>,
}

/// This node's reading of the cluster's time.
#[derive(Debug)]
pub struct ClusterClock {
    boot: BootId,
    /// Entries up to here were on the disk when the process started.
    stored_until: u64,
    /// Time of the cluster minus CLOCK_BOOTTIME, ms. Read by every engine at every turn.
    ahead_ms: AtomicI64,
    inner: Mutex<Inner>,
}

impl ClusterClock {
    /// The clock of a process that starts now. `stored_until` is the last entry of its log.
    #[must_use]
    pub fn new(boot: BootId, stored_until: u64, clocks: Clocks) -> Self {
        let inner = Inner { source: Source::Nothing, leading: false, skipped_ms: 0, newest: None };
        // Until anything is known, the wall clock is as good as any.
        let ahead_ms = AtomicI64::new(ahead(WallTime(clocks.real.0), clocks.mono));
        Self { boot, stored_until, ahead_ms, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What time it is when CLOCK_BOOTTIME shows this. Never waits.
    #[must_use]
    pub fn at(&self, mono: MonoTime) -> WallTime {
        WallTime(mono.millis().saturating_add_signed(self.ahead_ms.load(Ordering::Acquire)))
    }

    /// Whether this node knows the time without asking a wall clock.
    #[must_use]
    pub fn counts(&self) -> bool {
        matches!(self.inner().source, Source::Counted)
    }

    /// What this node may tell others: the time, if it has counted. What it has added for an outage must be committed first:
    /// otherwise another leader would continue from it, and nobody would hear of the outage.
    #[must_use]
    pub fn tell(&self, mono: MonoTime) -> Option<WallTime> {
        let inner = self.inner();
        (matches!(inner.source, Source::Counted) && inner.skipped_ms == 0).then(|| self.at(mono))
    }

    /// The stamp of the entry at `index` is applied here, now. `is_present`: it is of the term that is going on. One of an
    /// earlier term may be as old as the log: a node that catches up applies it as if it had just been made.
    pub fn applied(&self, index: u64, is_present: bool, stamp: Stamp, now: MonoTime) {
        let mut inner = self.inner();
        let known = inner.newest.is_some_and(|newest| newest.time > stamp.time);
        if known {
            return;
        }
        inner.newest = Some(stamp);
        let had_counted = matches!(inner.source, Source::Counted);
        if stamp.boot == self.boot {
            if stamp.skipped_ms == inner.skipped_ms {
                inner.skipped_ms = 0;
            }
            inner.source = Source::Counted;
            return self.set(
                &inner,
                had_counted,
                ahead(stamp.time, MonoTime(stamp.mono_ms.saturating_mul(1_000_000))),
            );
        }
        let is_old = index <= self.stored_until || !is_present;
        match inner.source {
            // Something newer is known.
            Source::Counted if is_old => return,
            Source::Nothing | Source::Stored(_) if is_old => inner.source = Source::Stored(stamp),
            _ => inner.source = Source::Counted,
        }
        self.set(&inner, had_counted, ahead(stamp.time, now));
    }

    /// Another node, which counts, says that it was `time` there when CLOCK_BOOTTIME showed `mono` here, or later.
    pub fn heard(&self, time: WallTime, mono: MonoTime) {
        let mut inner = self.inner();
        let had_counted = matches!(inner.source, Source::Counted);
        let is_refuted = inner.newest.is_some_and(|newest| newest.time > time);
        if inner.leading && had_counted || is_refuted {
            return;
        }
        inner.source = Source::Counted;
        self.set(&inner, had_counted, ahead(time, mono));
    }

    /// This node does not lead (any more): it takes what it is told.
    pub fn follow(&self) {
        self.inner().leading = false;
    }

    /// This node leads. `has_all`: it has applied an entry of its own term, and so every stamp of the leaders before it. Until
    /// then it finds no time by itself: one of them may have begun. What it had to assume is returned, once.
    pub fn lead(&self, has_all: bool, clocks: Clocks) -> Option<Outage> {
        let mut inner = self.inner();
        inner.leading = true;
        if !has_all {
            return None;
        }
        let source = std::mem::replace(&mut inner.source, Source::Counted);
        match source {
            Source::Counted => None,
            Source::Nothing => {
                self.ahead_ms.store(ahead(WallTime(clocks.real.0), clocks.mono), Ordering::Release);
                None
            }
            Source::Stored(stamp) => {
                let counted = self.at(clocks.mono).0.saturating_sub(stamp.time.0);
                let difference = clocks.real.0.saturating_sub(stamp.real.0);
                let added = difference.min(millis(MAX_OUTAGE)).max(counted);
                let time = WallTime(stamp.time.0.saturating_add(added));
                self.set(&inner, false, ahead(time, clocks.mono));
                inner.skipped_ms = added;
                let by = Duration::from_millis(stamp.real.0.saturating_sub(clocks.real.0));
                let (difference, added) = (Duration::from_millis(difference), Duration::from_millis(added));
                Some(if by.is_zero() {
                    Outage::Added { difference, added }
                } else {
                    Outage::Backwards { by }
                })
            }
        }
    }

    /// What a leader puts into the entry that it makes now; nothing as long as it does not know the time.
    #[must_use]
    pub fn stamp(&self, clocks: Clocks) -> Option<Stamp> {
        let inner = self.inner();
        let (time, mono_ms, skipped_ms) = (self.at(clocks.mono), clocks.mono.millis(), inner.skipped_ms);
        matches!(inner.source, Source::Counted).then_some(Stamp {
            time,
            real: clocks.real,
            boot: self.boot,
            mono_ms,
            skipped_ms,
        })
    }

    /// The newest stamp that was applied here.
    #[must_use]
    pub fn newest(&self) -> Option<Stamp> {
        self.inner().newest
    }

    /// A leader that has counted only moves forward. A follower takes what it is told, and so does a leader that has guessed
    /// until now: nobody has heard its guess.
    fn set(&self, inner: &Inner, had_counted: bool, ahead_ms: i64) {
        if inner.leading && had_counted {
            self.ahead_ms.fetch_max(ahead_ms, Ordering::AcqRel);
        } else {
            self.ahead_ms.store(ahead_ms, Ordering::Release);
        }
    }
}

impl Stamp {
    /// How the leader's wall clock stood to the time of the cluster.
    #[must_use]
    pub fn wall_offset(&self) -> WallOffset {
        WallOffset::between(self.real, self.time)
    }
}

fn ahead(time: WallTime, mono: MonoTime) -> i64 {
    WallOffset::between(RealTime(time.0), WallTime(mono.millis())).0
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000_000;
    const HOUR: u64 = 3_600_000;

    /// Readings at so many ms of CLOCK_BOOTTIME, with a wall clock that shows so many ms after [`START`].
    fn clocks(mono_ms: u64, real_ms: i64) -> Clocks {
        Clocks { mono: mono(mono_ms), real: RealTime(START.saturating_add_signed(real_ms)) }
    }

    fn mono(ms: u64) -> MonoTime {
        MonoTime(ms * 1_000_000 + 999_999)
    }

    fn stamp(clock: &ClusterClock, clocks: Clocks) -> Stamp {
        clock.stamp(clocks).expect("it knows the time")
    }

    fn since_start(clock: &ClusterClock, mono_ms: u64) -> i64 {
        i64::try_from(clock.at(mono(mono_ms)).0).expect("fits") - i64::try_from(START).expect("fits")
    }

    /// A leader of the boot 1 that began at the start.
    fn first() -> ClusterClock {
        let clock = ClusterClock::new(1, 0, clocks(50_000, 0));
        assert_eq!(clock.lead(true, clocks(50_000, 0)), None);
        clock
    }

    #[test]
    fn it_begins_with_the_wall_clock_and_goes_on_whatever_that_shows() {
        let clock = first();
        for shown in [0, 3_600_000, -3_600_000, i64::MIN / 2] {
            assert_eq!(
                clock.stamp(clocks(60_000, shown)).map(|s| s.time),
                Some(WallTime(START + 10_000)),
                "{shown}"
            );
        }
        let at_1970 = ClusterClock::new(1, 0, Clocks::default());
        at_1970.lead(true, Clocks::default());
        assert_eq!(at_1970.at(mono(5_000)), WallTime(5_000));
    }

    #[test]
    fn its_own_stamps_do_not_hold_a_leader_back() {
        let clock = first();
        for n in 0..1_000 {
            let stamp = stamp(&clock, clocks(50_000 + n, 0));
            clock.applied(n + 1, true, stamp, mono(50_000 + n + 700));
        }
        assert_eq!(since_start(&clock, 60_000), 10_000);
    }

    #[test]
    fn a_takeover_goes_on_from_the_last_stamp_and_only_lengthens_whatever_the_wall_clock_shows() {
        let old = first();
        for wrong in [0, 3_700_000, -3_600_000, 86_400_000, -315_360_000_000] {
            let new = ClusterClock::new(2, 0, clocks(7_000, wrong));
            new.applied(1, true, stamp(&old, clocks(60_000, 0)), mono(7_500));
            // Two minutes in which nothing was written.
            assert_eq!(new.lead(true, clocks(127_500, wrong)), None);
            assert_eq!(since_start(&new, 127_500), 130_000, "{wrong}");
            assert_eq!(stamp(&new, clocks(127_500, wrong)).skipped_ms, 0);
        }
    }

    #[test]
    fn a_leader_never_goes_back() {
        let (old, new) = (first(), ClusterClock::new(2, 0, clocks(0, 0)));
        new.applied(1, true, stamp(&old, clocks(60_000, 0)), mono(1_000));
        new.lead(true, clocks(1_000, 0));
        let before = new.at(mono(2_000));
        new.applied(2, true, stamp(&old, clocks(60_100, 0)), mono(2_000));
        new.heard(WallTime(START), mono(2_000));
        assert_eq!(new.at(mono(2_000)), before);
        new.applied(3, true, stamp(&old, clocks(65_000, 0)), mono(2_000));
        assert_eq!(since_start(&new, 2_000), 15_000, "but forward");
    }

    #[test]
    fn a_process_that_starts_again_under_the_same_boot_needs_no_wall_clock() {
        let last = stamp(&first(), clocks(60_000, 0));
        for wrong in [0, 3_700_000, -3_600_000] {
            let again = ClusterClock::new(1, 9, clocks(90_000, wrong));
            again.applied(0, true, last, mono(90_000));
            assert_eq!(again.lead(true, clocks(91_000, wrong)), None);
            assert_eq!(since_start(&again, 91_000), 41_000, "{wrong}");
        }
    }

    #[test]
    fn after_an_outage_of_all_nodes_the_wall_clock_is_believed_within_a_bound() {
        let last = stamp(&first(), clocks(60_000, 10_000));
        let after = |shown: i64| {
            let clock = ClusterClock::new(9, 5, clocks(1_000, shown));
            clock.applied(5, true, last, mono(1_200));
            assert!(!clock.counts());
            let said = clock.lead(true, clocks(2_200, shown)).expect("it says so");
            let told = stamp(&clock, clocks(2_200, shown));
            let is_untold = told.skipped_ms == 0;
            assert_eq!(clock.tell(mono(2_200)).is_some(), is_untold, "not before it is committed");
            assert_eq!(told.time.0, last.time.0 + told.skipped_ms);
            clock.applied(6, true, told, mono(2_300));
            assert_eq!(stamp(&clock, clocks(2_400, shown)).skipped_ms, 0, "said once");
            assert!(clock.tell(mono(2_400)).is_some());
            (since_start(&clock, 2_200), said)
        };
        let added = |difference, added| Outage::Added {
            difference: Duration::from_millis(difference),
            added: Duration::from_millis(added),
        };
        assert_eq!(after(70_000), (70_000, added(60_000, 60_000)));
        assert_eq!(after(10_000 + 86_400_000), (10_000 + HOUR as i64, added(86_400_000, HOUR)));
        // It was never shorter than this process has counted.
        let by = Duration::from_secs(3_600);
        assert_eq!(after(10_000 - HOUR as i64), (11_000, Outage::Backwards { by }));
    }

    #[test]
    fn a_leader_that_has_not_applied_its_log_yet_does_not_ask_the_wall_clock() {
        let last = stamp(&first(), clocks(60_000, 0));
        let clock = ClusterClock::new(1, 5, clocks(70_000, -5_000_000));
        assert_eq!(clock.lead(false, clocks(70_100, -5_000_000)), None);
        assert_eq!(clock.stamp(clocks(70_100, -5_000_000)), None);
        clock.applied(5, true, last, mono(70_200));
        assert_eq!(clock.lead(true, clocks(70_300, -5_000_000)), None);
        assert_eq!(since_start(&clock, 70_300), 20_300);
    }

    #[test]
    fn a_new_leader_of_a_new_cluster_does_not_begin_the_time_while_a_stamp_waits_to_be_applied() {
        let clock = ClusterClock::new(2, 0, clocks(7_000, 2_000));
        assert_eq!(clock.lead(false, clocks(7_100, 2_100)), None);
        assert_eq!(clock.stamp(clocks(7_100, 2_100)), None);
        // That of the first leader, which led for a moment only.
        clock.applied(2, true, stamp(&first(), clocks(50_300, 300)), mono(7_200));
        assert_eq!(clock.lead(true, clocks(7_200, 2_200)), None);
        assert_eq!(since_start(&clock, 7_200), 300);
    }

    #[test]
    fn a_leader_that_applies_its_log_late_adds_no_more_for_an_outage_than_the_bound() {
        let last = stamp(&first(), clocks(60_000, 0));
        let year = 365 * 24 * i64::try_from(HOUR).expect("fits");
        let clock = ClusterClock::new(9, 5, clocks(1_000, year));
        assert_eq!(clock.lead(false, clocks(1_000, year)), None);
        clock.applied(5, true, last, mono(1_100));
        clock.lead(true, clocks(1_200, year)).expect("it says so");
        assert_eq!(stamp(&clock, clocks(1_200, year)).skipped_ms, HOUR);
    }

    #[test]
    fn a_node_that_catches_up_does_not_take_the_age_of_the_log_for_the_time() {
        let old = first();
        let new = ClusterClock::new(2, 0, clocks(7_000, 0));
        new.applied(1, false, stamp(&old, clocks(60_000, 0)), mono(7_500));
        assert_eq!(new.tell(mono(7_500)), None, "others would take its word");
        new.applied(2, true, stamp(&old, clocks(66_000, 0)), mono(7_600));
        assert_eq!(new.tell(mono(7_600)), Some(WallTime(START + 16_000)));
    }

    #[test]
    fn what_a_stamp_refutes_is_not_believed() {
        let last = stamp(&first(), clocks(60_000, 0));
        let clock = ClusterClock::new(9, 5, clocks(1_000, 0));
        clock.applied(5, true, last, mono(1_000));
        clock.heard(WallTime(last.time.0 - 1), mono(1_100));
        assert!(!clock.counts());
        clock.heard(WallTime(last.time.0), mono(1_100));
        assert!(clock.counts());
    }

    #[test]
    fn a_node_with_nothing_but_old_stamps_takes_the_time_of_one_that_counts() {
        let last = stamp(&first(), clocks(60_000, 0));
        let clock = ClusterClock::new(9, 5, clocks(1_000, 86_400_000));
        clock.applied(0, true, last, mono(1_000));
        clock.heard(WallTime(START + 30_000), mono(2_000));
        // Older ones from the own log change nothing any more.
        clock.applied(5, true, last, mono(2_500));
        assert_eq!(clock.lead(true, clocks(3_000, 86_400_000)), None);
        assert_eq!(since_start(&clock, 3_000), 31_000);
    }

    #[test]
    fn a_follower_takes_the_newest_stamp_so_that_a_fast_oscillator_does_not_run_away() {
        let (old, new) = (first(), ClusterClock::new(2, 0, clocks(0, 0)));
        new.applied(1, true, stamp(&old, clocks(60_000, 0)), mono(1_000));
        new.applied(2, true, stamp(&old, clocks(160_000, 0)), mono(101_300));
        assert_eq!(since_start(&new, 101_300), 110_000);
    }
}
