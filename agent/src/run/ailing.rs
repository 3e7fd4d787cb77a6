//! What ails this node by its own word. Whoever finds something out says so here, from any thread; the control thread
//! reads it in each round and tells the cluster.

use proxy_core::time::MonoTime;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::control::{Ailment, Fitness};
use crate::guard::HEALTHY_AFTER;

/// Deaths in a row, each before [`HEALTHY_AFTER`], from which on that is an ailment.
pub const MANY_DEATHS: u32 = 2;

/// The ailments of this node.
#[derive(Debug, Default)]
pub struct Ailing {
    found: AtomicU32,
    /// Until then its former deaths count.
    frail_until: Option<MonoTime>,
}

impl Ailing {
    /// Of an agent that starts now, after so many deaths in a row.
    #[must_use]
    pub fn after_deaths(deaths: u32, now: MonoTime) -> Self {
        let frail_until = (deaths >= MANY_DEATHS).then(|| now + HEALTHY_AFTER);
        Self { frail_until, ..Self::default() }
    }

    /// `ailment` has been found, or is over.
    pub fn set(&self, ailment: Ailment, ails: bool) {
        let change = |bits| Some(Fitness::from_bits(bits).set(ailment, ails).bits());
        // Always taken: the change never refuses.
        let _ = self.found.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
    }

    /// All of them now.
    #[must_use]
    pub fn fitness(&self, now: MonoTime) -> Fitness {
        let frail = self.frail_until.is_some_and(|end| now < end);
        let found = Fitness::from_bits(self.found.load(Ordering::Acquire));
        if frail { found.with(Ailment::Crashes) } else { found }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_found_stays_until_it_is_over_and_deaths_are_forgotten_after_a_while() {
        let start = MonoTime(5_000_000_000);
        let ailing = Ailing::after_deaths(MANY_DEATHS, start);
        ailing.set(Ailment::Clock, true);
        let both = Fitness::FIT.with(Ailment::Clock).with(Ailment::Crashes);
        assert_eq!(ailing.fitness(start + Duration::from_secs(59)), both);
        ailing.set(Ailment::Clock, false);
        assert_eq!(ailing.fitness(start), Fitness::FIT.with(Ailment::Crashes));
        assert_eq!(ailing.fitness(start + HEALTHY_AFTER), Fitness::FIT);
        assert_eq!(Ailing::after_deaths(1, start).fitness(start), Fitness::FIT, "one death is bad luck");
    }
}
