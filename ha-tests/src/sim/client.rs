//! What every simulated phone does: it repeats what is not answered, as RFC 3261 has it for UDP, and registers.

use std::net::SocketAddr;

use super::base::{MS, Rng};
use super::sip;

/// T1 and T2 of RFC 3261 table 4, ns.
const T1: u64 = 500 * MS;
/// See [`T1`].
pub const T2: u64 = 4000 * MS;

/// Something sent again until it is answered.
#[derive(Debug, Clone)]
pub struct Repeated {
    text: String,
    at: u64,
    interval: u64,
    cap: u64,
    end: u64,
}

impl Repeated {
    /// Sent now; the pause between two doubles up to `cap`, ns.
    #[must_use]
    pub fn new(now: u64, text: String, cap: u64) -> Self {
        Self { text, at: now + T1, interval: T1, cap, end: now + 64 * T1 }
    }

    /// Sends again where that is due; `false` when it is over.
    pub fn tick(&mut self, now: u64, out: &mut Vec<String>) -> bool {
        if now >= self.end {
            return false;
        }
        if now >= self.at {
            out.push(self.text.clone());
            self.interval = (self.interval * 2).min(self.cap);
            self.at = now + self.interval;
        }
        true
    }
}

/// Registers one contact again and again.
#[derive(Debug)]
pub struct Registrar {
    /// Where it is.
    pub at: SocketAddr,
    user: String,
    contact: String,
    number: u32,
    next_at: u64,
    asked: Option<Repeated>,
    /// Newest CSeq that was answered with 200.
    pub confirmed: u32,
    /// Pauses between two registrations, ns; none: one registration only.
    every: Option<(u64, u64)>,
}

impl Registrar {
    /// Begins at `from`; `contact` is the whole Contact value.
    #[must_use]
    pub fn new(at: SocketAddr, user: String, contact: String, from: u64, every: Option<(u64, u64)>) -> Self {
        Self { at, user, contact, number: 0, next_at: from, asked: None, confirmed: 0, every }
    }

    /// No new ones any more.
    pub fn stop(&mut self) {
        self.next_at = u64::MAX;
    }

    /// Something has come for its address.
    pub fn on(&mut self, text: &str, now: u64, rng: &mut Rng) {
        let number = sip::cseq(text).map(|(n, _)| n);
        if number != Some(self.number) || self.asked.is_none() {
            return;
        }
        self.asked = None;
        let again = now + rng.between(100, 500) * MS;
        match sip::status(text) {
            Some(200) => {
                self.confirmed = self.number;
                self.next_at = self.every.map_or(u64::MAX, |(low, high)| now + rng.between(low, high));
            }
            // 503 and the like: ask again a little later.
            _ if self.next_at != u64::MAX || self.every.is_none() => self.next_at = again,
            _ => {}
        }
    }

    /// Time goes on.
    pub fn tick(&mut self, now: u64, out: &mut Vec<String>) {
        if self.asked.as_mut().is_some_and(|r| !r.tick(now, out)) {
            self.asked = None;
            self.next_at = now;
        }
        if self.asked.is_none() && now >= self.next_at {
            self.number += 1;
            let text = sip::register(&self.user, self.at, self.number, &self.contact);
            out.push(text.clone());
            self.asked = Some(Repeated::new(now, text, T2));
        }
    }
}
