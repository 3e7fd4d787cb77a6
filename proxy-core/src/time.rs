//! Time as the pure core sees it: always an argument, never read from a clock.

use std::ops::{Add, Sub};
use std::time::Duration;

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

/// A monotonic instant in nanoseconds. The origin is the shell's choice (CLOCK_BOOTTIME in the agent, so
/// that a suspended machine does not wake up with leases that look valid).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    Encode,
    Decode,
    CborLen,
)]
#[cbor(context_bound = "crate::wire::Room", transparent)]
pub struct MonoTime(#[n(0)] pub u64);

/// The time of the cluster in milliseconds: where a value has to mean the same on every node (expiry of bindings,
/// deadlines of pending INVITEs, beginnings of dialogs).
///
/// It looks like Unix time, because a cluster begins with what a wall clock showed at its first start. From then on it only
/// goes forward, as fast as CLOCK_BOOTTIME, whatever is done to wall clocks. What people read is a [`RealTime`].
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    Encode,
    Decode,
    CborLen,
)]
#[cbor(context_bound = "crate::wire::Room", transparent)]
pub struct WallTime(#[n(0)] pub u64);

/// What a wall clock shows: milliseconds since the Unix epoch, UTC. It may be wrong, and it steps; so it is for people and
/// records, and no deadline or duration is made of it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    Encode,
    Decode,
    CborLen,
)]
#[cbor(context_bound = "crate::wire::Room", transparent)]
pub struct RealTime(#[n(0)] pub u64);

/// By how many milliseconds a wall clock is ahead of the cluster's time; negative: behind.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    Encode,
    Decode,
    CborLen,
)]
#[cbor(context_bound = "crate::wire::Room", transparent)]
pub struct WallOffset(#[n(0)] pub i64);

/// The clocks of one machine, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clocks {
    /// CLOCK_BOOTTIME.
    pub mono: MonoTime,
    /// CLOCK_REALTIME.
    pub real: RealTime,
}

/// What an engine is told of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For timers on this node.
    pub mono: MonoTime,
    /// For anything that is replicated: the time of the cluster.
    pub wall: WallTime,
}

impl MonoTime {
    /// Time since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole milliseconds since the origin.
    #[must_use]
    pub fn millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

impl WallOffset {
    /// How a wall clock that shows `real` stands to a cluster in which it is `time`.
    #[must_use]
    pub fn between(real: RealTime, time: WallTime) -> Self {
        Self(signed(real.0).saturating_sub(signed(time.0)))
    }

    /// What that wall clock shows when it is `time` in the cluster; never before 1970.
    #[must_use]
    pub fn real(self, time: WallTime) -> RealTime {
        RealTime(time.0.saturating_add_signed(self.0))
    }

    /// How far apart the two are, milliseconds.
    #[must_use]
    pub fn distance(self, other: Self) -> u64 {
        self.0.abs_diff(other.0)
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

impl Add<Duration> for MonoTime {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for MonoTime {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl WallTime {
    /// Time until `later`; zero if it has passed.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }

    /// Whole seconds until `later`, rounded up; zero if it has passed.
    #[must_use]
    pub fn secs_until(self, later: Self) -> u32 {
        u32::try_from(later.0.saturating_sub(self.0).div_ceil(1000)).unwrap_or(u32::MAX)
    }
}

impl Add<Duration> for WallTime {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_wall_clock_shows_is_found_again_and_never_lies_before_1970() {
        let time = WallTime(1_000_000);
        for shown in [0, 1, 999_999, 1_000_000, 5_000_000_000] {
            assert_eq!(WallOffset::between(RealTime(shown), time).real(time), RealTime(shown));
        }
        assert_eq!(WallOffset(-2_000_000).real(time), RealTime(0));
        assert_eq!(WallOffset(-5).distance(WallOffset(7)), 12);
    }
}
