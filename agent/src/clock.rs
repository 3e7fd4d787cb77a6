//! The clocks of this machine, read together.

use nix::time::{ClockId, clock_gettime};
use proxy_core::time::{MonoTime, Now, WallTime};

/// CLOCK_BOOTTIME for leases and timers (it goes on while the machine sleeps, so that a lease does not look valid
/// after waking up), CLOCK_REALTIME for what is replicated.
#[must_use]
pub fn now() -> Now {
    Now {
        mono: MonoTime(read(ClockId::CLOCK_BOOTTIME)),
        wall: WallTime(read(ClockId::CLOCK_REALTIME) / 1_000_000),
    }
}

/// Nanoseconds of a clock. Both exist on every Linux this runs on, and neither is before its origin.
fn read(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |t| {
        let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(t.tv_nsec()).unwrap_or(0))
    })
}
