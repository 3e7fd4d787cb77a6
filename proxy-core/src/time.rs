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

/// Wall-clock time in milliseconds since the Unix epoch. Used where a value has to mean the same on every
/// node: expiry of bindings, deadlines of pending INVITEs, start of dialogs.
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

/// Both clocks, read together by the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For timers on this node.
    pub mono: MonoTime,
    /// For anything that is replicated.
    pub wall: WallTime,
}

impl MonoTime {
    /// Time since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
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
