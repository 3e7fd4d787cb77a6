//! The floating IP as the resource sequence uses it: gate, address, announcement.

use std::net::IpAddr;
use std::time::Duration;

use proxy_core::time::MonoTime;

use super::OsError;
use super::announce::{Announcer, Schedule};
use super::lease::KernelLease;
use super::vip::{Addresses, Vip};
use crate::clock;
use crate::run::resources::Address;

/// Lifetime of the address on the interface: the kernel counts whole seconds, and takes up to 1.4 s more.
const VALID_FOR: Duration = Duration::from_secs(2);
/// The lifetime is renewed so often.
const VALID_EVERY: Duration = Duration::from_millis(500);

/// Longest time between a look at the clock and the kernel's act, half of the lease's margin. If it took longer, the
/// process was stopped in between (SIGSTOP, no processor), and the kernel counts from a later time than was meant.
pub const HASTE: Duration = Duration::from_millis(5);
/// Renewals tried in a row until they are fast enough.
const TRIES: usize = 4;

/// Has the kernel keep the gate open until `until` and not longer. `renew` gives it a time from now, for one of its two
/// sets in turn, `clear` closes it.
///
/// # Errors
/// The gate is closed then, as far as the kernel obeys: the lease has ended meanwhile, or what the kernel said.
pub fn open_until(
    until: MonoTime,
    clock: impl Fn() -> MonoTime,
    mut renew: impl FnMut(Duration) -> Result<(), String>,
    clear: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let mut wanted = 1;
    for _ in 0..TRIES {
        let begun = clock();
        if begun >= until {
            break;
        }
        let renewed = renew(until.since(begun));
        let late = clock().since(begun) > HASTE;
        if let Err(why) = renewed {
            // An error may be that of an answer, and one set may hold too long by an earlier try: then neither may stay.
            // In time and at the first try, the other set ends as it was meant to.
            if late || wanted > 1 {
                clear()?;
            }
            return Err(why);
        }
        if late {
            // This one is too long now, and the other set's may be: both are made anew.
            wanted = 2;
            continue;
        }
        wanted -= 1;
        if wanted == 0 {
            return Ok(());
        }
    }
    clear()?;
    Err(String::from("this process was stopped for too long in the midst of a renewal"))
}

/// The floating IP of this node.
#[derive(Debug)]
pub struct FloatingIp {
    lease: KernelLease,
    addresses: Addresses,
    announcer: Announcer,
    schedule: Option<Schedule>,
    valid_next: MonoTime,
}

impl FloatingIp {
    /// Installs the gate, closed, and removes what a former process left on the interface.
    ///
    /// # Errors
    /// With their cure.
    pub fn install(vip: &Vip) -> Result<Self, OsError> {
        let ips: Vec<IpAddr> = vip.addresses.iter().map(|(ip, _)| *ip).collect();
        let addresses = Addresses::new(vip)?;
        let announcer = Announcer::new(&vip.interface, &ips)?;
        let lease = KernelLease::install(&ips)?;
        addresses.remove().map_err(super::os_error("removing a left-over floating IP"))?;
        Ok(Self { lease, addresses, announcer, schedule: None, valid_next: MonoTime(0) })
    }
}

impl Address for FloatingIp {
    fn open_gate(&mut self, until: MonoTime) -> Result<(), String> {
        let lease = std::cell::RefCell::new(&mut self.lease);
        open_until(
            until,
            || clock::now().mono,
            |left| lease.borrow_mut().renew(left).map_err(|e| e.to_string()),
            || lease.borrow().clear().map_err(|e| e.to_string()),
        )
    }

    fn close_gate(&mut self) -> Result<(), String> {
        self.lease.clear().map_err(|e| e.to_string())
    }

    fn add(&mut self, now: MonoTime) -> Result<(), String> {
        self.addresses.add(VALID_FOR).map_err(|e| e.to_string())?;
        self.valid_next = now + VALID_EVERY;
        let mut schedule = Schedule::begin(now);
        if schedule.due(now) {
            self.announcer.announce();
        }
        self.schedule = Some(schedule);
        Ok(())
    }

    fn keep(&mut self, now: MonoTime) -> Result<(), String> {
        if now >= self.valid_next {
            self.addresses.add(VALID_FOR).map_err(|e| e.to_string())?;
            self.valid_next = now + VALID_EVERY;
        }
        if self.schedule.as_mut().is_some_and(|s| s.due(now)) {
            self.announcer.announce();
        }
        Ok(())
    }

    fn put_right(&mut self, now: MonoTime, open: bool, there: bool) -> Result<Vec<String>, String> {
        let mut amended = Vec::new();
        if !self.lease.is_whole().map_err(|e| format!("reading the gate of the floating IP: {e}"))? {
            self.lease.make_anew().map_err(|e| e.to_string())?;
            amended.push(String::from(
                "the gate of the floating IP was changed by another program (nft flush ruleset?): made anew",
            ));
        } else if !open {
            // Whoever has filled a set by hand has opened it.
            self.close_gate()?;
        }
        let standing = self.addresses.standing().map_err(|e| e.to_string())?;
        for found in standing.iter().filter(|found| !(there && self.addresses.is_own(found))) {
            self.addresses.remove_found(found).map_err(|e| e.to_string())?;
            let whose = if there { "of another interface" } else { "of a node that does not hold it" };
            amended.push(format!("the floating IP {} was put on an interface {whose}: removed", found.ip));
        }
        let missing: Vec<IpAddr> = self.addresses.missing(&standing).filter(|_| there).collect();
        if !missing.is_empty() {
            self.addresses.add(VALID_FOR).map_err(|e| e.to_string())?;
            self.valid_next = now + VALID_EVERY;
            self.announcer.announce();
            let put_back = |ip| format!("the floating IP {ip} was removed by another program: put back");
            amended.extend(missing.into_iter().map(put_back));
        }
        Ok(amended)
    }

    fn remove(&mut self) -> Result<(), String> {
        self.schedule = None;
        self.addresses.remove().map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// Opens until 150 ms at 10 ms; the n-th renewal takes `took[n]` ms. What the kernel was told, and what came of it.
    fn told(took: &[u64]) -> (Vec<u64>, bool) {
        let now = Cell::new(MonoTime(10_000_000));
        let left = RefCell::new(Vec::new());
        let renew = |d: Duration| {
            let ms = took.get(left.borrow().len()).copied().unwrap_or(0);
            left.borrow_mut().push(d.as_millis() as u64);
            now.set(now.get() + Duration::from_millis(ms));
            Ok(())
        };
        let closed = Cell::new(false);
        let clear = || {
            closed.set(true);
            Ok(())
        };
        let outcome = open_until(MonoTime(150_000_000), || now.get(), renew, clear);
        assert_eq!(outcome.is_err(), closed.get());
        (left.into_inner(), closed.get())
    }

    /// The n-th renewal takes `took[n]` ms, the last one fails; whether the gate was closed.
    fn closed_after_failure(took: &[u64]) -> bool {
        let now = Cell::new(MonoTime(10_000_000));
        let tries = Cell::new(0);
        let renew = |_: Duration| {
            now.set(now.get() + Duration::from_millis(took[tries.get()]));
            tries.set(tries.get() + 1);
            if tries.get() == took.len() { Err(String::from("no")) } else { Ok(()) }
        };
        let closed = Cell::new(false);
        let clear = || {
            closed.set(true);
            Ok(())
        };
        assert!(open_until(MonoTime(150_000_000), || now.get(), renew, clear).is_err());
        closed.get()
    }

    #[test]
    fn a_renewal_that_fails_in_time_leaves_the_gate_to_the_lease_that_it_has() {
        assert!(!closed_after_failure(&[1]));
    }

    #[test]
    fn a_renewal_that_fails_after_a_late_one_closes_the_gate() {
        assert!(closed_after_failure(&[100, 1]));
        assert!(closed_after_failure(&[100]), "late and failed: what the kernel did is unknown");
    }

    #[test]
    fn a_quick_renewal_is_one_renewal() {
        assert_eq!(told(&[1]), (vec![140], false));
    }

    #[test]
    fn a_process_stopped_in_the_midst_renews_both_sets_for_what_is_left() {
        assert_eq!(told(&[100]), (vec![140, 40, 40], false));
    }

    #[test]
    fn a_process_stopped_past_its_lease_closes_the_gate() {
        assert_eq!(told(&[10_000]), (vec![140], true));
    }

    #[test]
    fn a_process_that_is_always_late_does_not_hold_the_gate() {
        assert_eq!(told(&[20, 20, 20, 20]), (vec![140, 120, 100, 80], true));
    }
}
