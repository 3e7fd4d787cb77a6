//! The kernel of a simulated machine: its clock, the gate of the floating IP, the address itself.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent::os::address::open_until;
use agent::run::resources::Address;
use proxy_core::time::{Clocks as Reading, MonoTime, RealTime};

use super::base::MS;

/// Wall time at which every world begins, ms.
const WALL_START: u64 = 1_800_000_000_000;

thread_local! {
    static NOW: Cell<Reading> = const { Cell::new(Reading { mono: MonoTime(0), real: RealTime(0) }) };
}

/// The clocks of the machine that runs just now on this thread.
#[must_use]
pub fn clock() -> Reading {
    NOW.get()
}

/// Makes [`clock`] show these times.
pub fn set_clock(now: Reading) {
    NOW.set(now);
}

/// How a machine's clocks go against the world's.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// CLOCK_BOOTTIME at the beginning of the world, ns.
    pub origin: u64,
    /// Parts per million that it is fast (or slow).
    pub drift_ppm: i64,
    /// Error of the wall clock, ms.
    pub wall_off: i64,
    /// Names the run of the kernel.
    pub boot_id: u64,
}

impl Clocks {
    /// CLOCK_BOOTTIME at a time of the world (ns).
    #[must_use]
    pub fn boot(&self, world: u64) -> u64 {
        let drift = i128::from(world) * i128::from(self.drift_ppm) / 1_000_000;
        let local = i128::from(self.origin) + i128::from(world) + drift;
        u64::try_from(local).unwrap_or_default()
    }

    /// Both clocks.
    #[must_use]
    pub fn now(&self, world: u64) -> Reading {
        let real = (WALL_START + world / MS).saturating_add_signed(self.wall_off);
        Reading { mono: MonoTime(self.boot(world)), real: RealTime(real) }
    }
}

/// What the kernel enforces, in its own time (ns of CLOCK_BOOTTIME).
#[derive(Debug, Default)]
pub struct Gate {
    /// When the elements of the two sets end.
    ends: [u64; 2],
    second: bool,
    address: bool,
    /// Times that the gate was opened while closed.
    pub openings: u64,
    /// Added to every timeout, ms: the kernel that a test breaks.
    pub slack_ms: u64,
    /// The agent is stopped for so long (ns) in the midst of its next renewal: after it looked at the clock, before
    /// the kernel acts.
    pub stop_in_renewal: u64,
    /// What the kernel is asked to do when the agent goes on.
    deferred: Vec<Order>,
}

/// What an agent asks of its kernel.
#[derive(Debug, Clone, Copy)]
enum Order {
    Open(Duration),
    Close,
    Address(bool),
}

impl Gate {
    /// Whether packets of the floating IP pass at this time.
    #[must_use]
    pub fn passes(&self, boot: u64) -> bool {
        self.address && self.ends.iter().any(|end| boot < *end)
    }

    /// The gate is closed and the address is gone: a start of the machine or of the agent, or the guard's work.
    pub fn clear(&mut self) {
        self.ends = [0; 2];
        self.address = false;
    }

    /// The agent, stopped in the midst of a renewal, is no more.
    pub fn forget(&mut self) {
        self.deferred.clear();
        self.stop_in_renewal = 0;
    }

    /// Whether the agent was stopped in the midst of a renewal.
    #[must_use]
    pub fn defers(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// The agent goes on where it was stopped.
    pub fn go_on(&mut self, boot: u64) {
        for order in std::mem::take(&mut self.deferred) {
            self.obey(boot, order);
        }
    }

    fn ask(&mut self, order: Order) {
        if self.deferred.is_empty() {
            self.obey(clock().mono.0, order);
        } else {
            self.deferred.push(order);
        }
    }

    fn obey(&mut self, boot: u64, order: Order) {
        match order {
            Order::Open(left) => {
                if !self.ends.iter().any(|end| boot < *end) {
                    self.openings += 1;
                }
                let side = usize::from(self.second);
                self.second = !self.second;
                self.ends[side] = (MonoTime(boot) + left).0 + self.slack_ms * MS;
            }
            Order::Close => self.ends = [0; 2],
            Order::Address(there) => self.address = there,
        }
    }
}

/// The agent's way to its kernel.
#[derive(Debug, Clone, Default)]
pub struct Kernel(Arc<Mutex<Gate>>);

impl Kernel {
    /// The state of the gate.
    pub fn gate(&self) -> MutexGuard<'_, Gate> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Address for Kernel {
    fn open_gate(&mut self, until: MonoTime) -> Result<(), String> {
        let renew = |left| {
            let mut gate = self.gate();
            let stopped = std::mem::take(&mut gate.stop_in_renewal);
            if stopped > 0 && !gate.defers() {
                gate.deferred.push(Order::Open(left));
                let now = clock();
                let later = Duration::from_nanos(stopped);
                set_clock(Reading { mono: now.mono + later, ..now });
            } else {
                gate.ask(Order::Open(left));
            }
            Ok(())
        };
        let clear = || {
            self.gate().ask(Order::Close);
            Ok(())
        };
        open_until(until, || clock().mono, renew, clear)
    }

    fn close_gate(&mut self) -> Result<(), String> {
        self.gate().ask(Order::Close);
        Ok(())
    }

    fn add(&mut self, _now: MonoTime) -> Result<(), String> {
        self.gate().ask(Order::Address(true));
        Ok(())
    }

    fn keep(&mut self, _now: MonoTime) -> Result<(), String> {
        Ok(())
    }

    fn remove(&mut self) -> Result<(), String> {
        self.gate().ask(Order::Address(false));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_closes_by_itself_whatever_the_agent_does() {
        let mut kernel = Kernel::default();
        set_clock(Reading { mono: MonoTime(1000 * MS), real: RealTime(0) });
        kernel.add(MonoTime(0)).expect("added");
        assert!(!kernel.gate().passes(1000 * MS));
        kernel.open_gate(MonoTime(1100 * MS)).expect("opened");
        assert!(kernel.gate().passes(1099 * MS));
        assert!(!kernel.gate().passes(1100 * MS));
    }

    #[test]
    fn a_shorter_renewal_does_not_shorten_the_other_set() {
        let mut kernel = Kernel::default();
        set_clock(Reading { mono: MonoTime(0), real: RealTime(0) });
        kernel.add(MonoTime(0)).expect("added");
        kernel.open_gate(MonoTime(100 * MS)).expect("opened");
        kernel.open_gate(MonoTime(10 * MS)).expect("opened");
        assert!(kernel.gate().passes(50 * MS));
    }
}
