//! Pulses: whether each thread that a call needs gets on with its work. Heartbeats say nothing of them: they are answered
//! while an engine hangs. A node whose pulse stops is not the holder while another one could be (`control`).
//!
//! | part | has work while | has stopped when it has got no further for |
//! |---|---|---|
//! | `relevo-sip-N` | its mailbox is not empty, or a turn is under way | [`PULSE_BOUND`] |
//! | `relevo-udp` | the kernel holds datagrams for it | [`PULSE_BOUND`] |
//! | `relevo-apply` | entries or a snapshot wait to be applied | [`PULSE_BOUND`] |
//! | the disk (`relevo-log`) | a sync is under way, or waits | [`DISK_BOUND`], and 4 times its slowest sync |
//!
//! `relevo-raft` needs none here: without it no heartbeat is sent or answered. `relevo-control` is the guard's matter.

use std::time::Duration;

use super::ailing::Ailing;
use crate::control::{Ailment, COMMIT_SYNCS, Facts};

/// A thread that has work and has got no further for so long has stopped.
pub const PULSE_BOUND: Duration = Duration::from_secs(1);
/// A disk that has synced nothing for so long hangs, unless it is known to be slow.
pub const DISK_BOUND: Duration = Duration::from_secs(2);

/// For how long a part has had work and has got no further; `None`: it has none.
pub type Waits = Box<dyn Fn() -> Option<Duration> + Send>;

struct Part {
    name: String,
    waits: Waits,
    stopped: bool,
}

/// The parts of this node that are watched.
#[derive(Default)]
pub struct Pulses {
    parts: Vec<Part>,
    apply_stopped: bool,
    disk_stopped: bool,
}

/// One part, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Name of the thread.
    pub name: String,
    /// For how long it has had work and has got no further; `None`: it has none.
    pub waits: Option<Duration>,
    /// That is too long.
    pub stopped: bool,
}

/// Says in the log what has changed.
fn tell(name: &str, waits: Option<Duration>, was: &mut bool, is: bool) {
    if is && !*was {
        let ms = waits.unwrap_or_default().as_millis();
        tracing::error!(
            "{name} has work and has got no further for {ms} ms: another node should serve (see relevo status)"
        );
    } else if *was && !is {
        tracing::info!("{name} goes on");
    }
    *was = is;
}

impl Pulses {
    /// Watches one more part.
    pub fn watch(&mut self, name: impl Into<String>, waits: Waits) {
        self.parts.push(Part { name: name.into(), waits, stopped: false });
    }

    /// Looks at all of them; what has stopped ails this node until it goes on. To be called in each round of the
    /// control thread.
    pub fn look(&mut self, facts: &Facts, ailing: &Ailing) -> Vec<Shown> {
        let mut all = Vec::new();
        for part in &mut self.parts {
            let waits = (part.waits)();
            tell(&part.name, waits, &mut part.stopped, waits.is_some_and(|waits| waits > PULSE_BOUND));
            all.push(Shown { name: part.name.clone(), waits, stopped: part.stopped });
        }
        let waits = facts.apply_waits;
        tell("relevo-apply", waits, &mut self.apply_stopped, waits.is_some_and(|waits| waits > PULSE_BOUND));
        all.push(Shown { name: "relevo-apply".into(), waits, stopped: self.apply_stopped });
        ailing.set(Ailment::Pulse, all.iter().any(|part| part.stopped));
        let waits = facts.syncs.waiting;
        let bound = DISK_BOUND.max(facts.syncs.slowest * COMMIT_SYNCS);
        tell(
            "relevo-log (the disk)",
            waits,
            &mut self.disk_stopped,
            waits.is_some_and(|waits| waits > bound),
        );
        all.push(Shown { name: "relevo-log".into(), waits, stopped: self.disk_stopped });
        ailing.set(Ailment::Disk, self.disk_stopped);
        all
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use proxy_core::time::MonoTime;

    use super::*;
    use crate::control::Fitness;

    #[test]
    fn a_thread_that_stops_with_work_ails_the_node_until_it_goes_on() {
        let (mut pulses, ailing, waits) = (Pulses::default(), Ailing::default(), Arc::new(AtomicU64::new(0)));
        let read = waits.clone();
        let ms = move || Some(read.load(Ordering::SeqCst)).filter(|ms| *ms > 0).map(Duration::from_millis);
        pulses.watch("relevo-sip-0", Box::new(ms));
        let fitness = |ailing: &Ailing| ailing.fitness(MonoTime(0));
        for (ms, ails) in [(0, false), (1_000, false), (1_001, true), (2_000, true), (5, false)] {
            waits.store(ms, Ordering::SeqCst);
            let shown = pulses.look(&Facts::default(), &ailing);
            assert_eq!(shown[0].stopped, ails);
            assert_eq!(fitness(&ailing).has(Ailment::Pulse), ails, "{ms} ms");
        }
        assert_eq!(fitness(&ailing), Fitness::FIT);
    }

    #[test]
    fn a_disk_hangs_after_two_seconds_or_four_of_its_slowest_syncs() {
        let (mut pulses, ailing) = (Pulses::default(), Ailing::default());
        let mut hangs = |waiting, slowest| {
            let mut facts = Facts::default();
            facts.syncs.waiting = Some(Duration::from_millis(waiting));
            facts.syncs.slowest = Duration::from_millis(slowest);
            pulses.look(&facts, &ailing);
            ailing.fitness(MonoTime(0)).has(Ailment::Disk)
        };
        assert!(!hangs(2_000, 1) && hangs(2_001, 1));
        assert!(!hangs(4_000, 1_000) && hangs(4_001, 1_000));
    }
}
