//! What is known of the ways to the other nodes: how large a packet may be.
//!
//! A way with a black hole (a tunnel or a VPN with a wrong MTU) drops large packets without a word while small ones
//! pass: heartbeats go on, and nothing commits. So each node sends full packets to each other one now and then
//! ([`super::probe`]), and a connection that makes no progress is made anew with smaller ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::node::types::Place;

/// Segment sizes (TCP_MAXSEG, bytes) that are tried where full ones do not pass, largest first.
pub(super) const SEGMENTS: [u32; 5] = [1360, 1200, 1000, 536, SMALLEST_SEGMENT];
/// The smallest segment size: it passes wherever a packet of 576 bytes does, in both families, with options and in a
/// tunnel.
pub(super) const SMALLEST_SEGMENT: u32 = 400;
/// After a connection was stuck, segments stay small for this time, whatever a probe says: it may have had luck.
const SUSPECT_FOR: Duration = Duration::from_secs(30);

/// What is known of one direction of a way. Sizes are those of packets, in bytes, with their IP and TCP headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// Nothing yet.
    #[default]
    Unknown,
    /// Packets as large as the route's MTU allows pass.
    Whole {
        /// Their size.
        bytes: u32,
        /// Time since that was seen.
        age: Duration,
    },
    /// Only smaller packets pass.
    Narrow {
        /// The largest size that passed.
        bytes: u32,
        /// The smallest size that did not.
        lost: u32,
        /// Time since that was seen.
        age: Duration,
    },
    /// Connections are made, and no message passes, however small its packets.
    Blocked {
        /// The smallest size that did not pass.
        lost: u32,
        /// Time since that was seen.
        age: Duration,
    },
}

impl Way {
    /// Packets of full size are known not to pass.
    #[must_use]
    pub const fn is_narrow(&self) -> bool {
        matches!(self, Self::Narrow { .. } | Self::Blocked { .. })
    }

    /// Nothing passes but what is very small.
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        matches!(self, Self::Blocked { .. })
    }
}

/// What is known of the way between this node and another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Path {
    /// From here to there.
    pub toward: Way,
    /// From there to here.
    pub from: Way,
}

impl Path {
    /// Packets of full size pass in both directions, or nothing else is known yet.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        !self.toward.is_narrow() && !self.from.is_narrow()
    }

    /// In one direction or the other nothing passes but what is very small.
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        self.toward.is_blocked() || self.from.is_blocked()
    }
}

/// One direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Toward,
    From,
}

/// What a measurement has found of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Whole { bytes: u32 },
    Narrow { bytes: u32, lost: u32, segment: u32 },
    Blocked { lost: u32 },
}

#[derive(Debug, Default)]
struct Known {
    toward: Option<(Found, Instant)>,
    from: Option<(Found, Instant)>,
    /// When a connection to it was last stuck although small packets passed.
    stuck: Option<Instant>,
    /// When it last answered on the lane of small messages.
    heard: Option<Instant>,
    /// Wakes the task that measures.
    look: Arc<Notify>,
}

/// What one node knows of all its ways; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Paths(Arc<Mutex<BTreeMap<Place, Known>>>);

impl Paths {
    fn with<R>(&self, place: Place, f: impl FnOnce(&mut Known) -> R) -> R {
        f(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(place).or_default())
    }

    /// The way to and from `place`, as it was measured last.
    pub(super) fn of(&self, place: Place, now: Instant) -> Path {
        let way = |known: Option<(Found, Instant)>| {
            let Some((found, at)) = known else { return Way::Unknown };
            let age = now.saturating_duration_since(at);
            match found {
                Found::Whole { bytes } => Way::Whole { bytes, age },
                Found::Narrow { bytes, lost, .. } => Way::Narrow { bytes, lost, age },
                Found::Blocked { lost } => Way::Blocked { lost, age },
            }
        };
        self.with(place, |known| Path { toward: way(known.toward), from: way(known.from) })
    }

    /// Notes what was measured; says whether that is news.
    pub(super) fn found(&self, place: Place, direction: Direction, found: Found, now: Instant) -> bool {
        let is_whole = |known: &Option<(Found, Instant)>| match known {
            Some((found, _)) => *found,
            None => Found::Whole { bytes: 0 },
        };
        self.with(place, |known| {
            let slot = match direction {
                Direction::Toward => &mut known.toward,
                Direction::From => &mut known.from,
            };
            let before = is_whole(slot);
            *slot = Some((found, now));
            match (before, found) {
                (Found::Whole { .. }, Found::Whole { .. }) => false,
                (before, found) => before != found,
            }
        })
    }

    /// The segment size for a new connection to `place`; `None`: the kernel's own.
    pub(super) fn segment(&self, place: Place, now: Instant) -> Option<u32> {
        self.with(place, |known| {
            if known.stuck.is_some_and(|at| now.saturating_duration_since(at) < SUSPECT_FOR) {
                return Some(SMALLEST_SEGMENT);
            }
            let of = |known: Option<(Found, Instant)>| match known {
                Some((Found::Narrow { segment, .. }, _)) => Some(segment),
                Some((Found::Blocked { .. }, _)) => Some(SMALLEST_SEGMENT),
                Some((Found::Whole { .. }, _)) | None => None,
            };
            of(known.toward).into_iter().chain(of(known.from)).min()
        })
    }

    /// It has answered on the lane of small messages.
    pub(super) fn heard(&self, place: Place, now: Instant) {
        self.with(place, |known| known.heard = Some(now));
    }

    /// A connection to `place` makes no progress. Where small messages are answered all the same, the next one has the
    /// smallest segments; in any case the way is measured now.
    pub(super) fn stuck(&self, place: Place, now: Instant, within: Duration) -> bool {
        self.with(place, |known| {
            known.look.notify_one();
            let is_heard = known.heard.is_some_and(|at| now.saturating_duration_since(at) < within);
            if is_heard {
                known.stuck = Some(now);
            }
            is_heard
        })
    }

    /// Wakes whoever measures the way to `place`.
    pub(super) fn look(&self, place: Place) -> Arc<Notify> {
        self.with(place, |known| known.look.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_millis(250);

    const NARROW: Found = Found::Narrow { bytes: 1240, lost: 1400, segment: 1200 };

    #[test]
    fn a_stuck_connection_makes_segments_small_only_while_small_messages_are_answered() {
        let (paths, now) = (Paths::default(), Instant::now());
        assert!(!paths.stuck(2, now, WITHIN), "nothing is heard of it: it may be dead");
        assert_eq!(paths.segment(2, now), None);
        paths.heard(2, now);
        assert!(paths.stuck(2, now, WITHIN));
        assert_eq!(paths.segment(2, now), Some(SMALLEST_SEGMENT));
        assert_eq!(paths.segment(3, now), None, "of another peer nothing is known");
        paths.found(2, Direction::Toward, Found::Whole { bytes: 1500 }, now);
        assert_eq!(paths.segment(2, now), Some(SMALLEST_SEGMENT), "the probe may have had luck");
        assert_eq!(paths.segment(2, now + SUSPECT_FOR), None);
    }

    #[test]
    fn the_narrower_direction_counts_because_one_size_holds_for_both() {
        let (paths, now) = (Paths::default(), Instant::now());
        paths.found(2, Direction::Toward, Found::Whole { bytes: 1500 }, now);
        paths.found(2, Direction::From, NARROW, now);
        assert_eq!(paths.segment(2, now), Some(1200));
        let path = paths.of(2, now + Duration::from_secs(1));
        assert!(!path.is_whole() && !path.is_blocked());
        assert_eq!(path.from, Way::Narrow { bytes: 1240, lost: 1400, age: Duration::from_secs(1) });
    }

    #[test]
    fn only_a_change_is_news() {
        let (paths, now) = (Paths::default(), Instant::now());
        let found = |found| paths.found(2, Direction::Toward, found, now);
        assert!(!found(Found::Whole { bytes: 1500 }));
        assert!(found(NARROW));
        assert!(!found(NARROW));
        assert!(found(Found::Whole { bytes: 1500 }));
    }
}
