//! The clocks of this machine, read together.

use nix::time::{ClockId, clock_gettime};
use proxy_core::time::{Clocks, MonoTime, RealTime};
use raft_store::time::BootId;
use sha2::{Digest, Sha256};

/// CLOCK_BOOTTIME for leases and timers (it goes on while the machine sleeps, so that a lease does not look valid
/// after waking up), CLOCK_REALTIME for people and records.
#[must_use]
pub fn now() -> Clocks {
    Clocks {
        mono: MonoTime(read(ClockId::CLOCK_BOOTTIME)),
        real: RealTime(read(ClockId::CLOCK_REALTIME) / 1_000_000),
    }
}

/// Names this run of the kernel: equal for all processes whose CLOCK_BOOTTIME counts from the same origin. A container may
/// have an origin of its own (a time namespace), so that goes in, too.
#[must_use]
pub fn boot() -> BootId {
    let read = |path| std::fs::read(path).unwrap_or_default();
    let mut hash = Sha256::new();
    hash.update(read("/proc/sys/kernel/random/boot_id"));
    hash.update(read("/proc/self/timens_offsets"));
    hash.finalize().iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

/// Nanoseconds of a clock. Both exist on every Linux this runs on, and neither is before its origin.
fn read(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |t| {
        let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(t.tv_nsec()).unwrap_or(0))
    })
}
