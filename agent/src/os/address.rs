//! The floating IP as the resource sequence uses it: gate, address, announcement.

use std::net::IpAddr;
use std::time::Duration;

use proxy_core::time::MonoTime;

use super::OsError;
use super::announce::{Announcer, Schedule};
use super::lease::KernelLease;
use super::vip::{Addresses, Vip};
use crate::run::resources::Address;

/// Lifetime of the address on the interface: the kernel counts whole seconds, and takes up to 1.4 s more.
const VALID_FOR: Duration = Duration::from_secs(2);
/// The lifetime is renewed so often.
const VALID_EVERY: Duration = Duration::from_millis(500);

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
    fn open_gate(&mut self, left: Duration) -> Result<(), String> {
        self.lease.renew(left).map_err(|e| e.to_string())
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

    fn remove(&mut self) -> Result<(), String> {
        self.schedule = None;
        self.addresses.remove().map_err(|e| e.to_string())
    }
}
