//! Many worlds at once, and what came of them.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Distance, Fault, Mutation, Options, Outcome, run};

/// What came of a sweep.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Worlds run.
    pub worlds: u64,
    /// Those in which something was wrong, first seed first.
    pub failed: Vec<Outcome>,
    /// Sums over all worlds; `simulated_ms` is a sum, `heal_ms` the longest.
    pub total: Outcome,
    /// Time it took.
    pub took: Duration,
}

/// The command that runs a world again and shows it.
#[must_use]
pub fn replay(seed: u64, distance: Distance) -> String {
    let way = match distance {
        Distance::Lan => String::new(),
        far => format!(" --times {}", far.name()),
    };
    format!("cargo run -p ha-tests --bin relevo-lab -- sim --seed {seed}{way} --trace")
}

/// Runs the worlds `first..first + count`, one per core at a time.
#[must_use]
pub fn sweep(first: u64, count: u64, mutation: Mutation, distance: Distance) -> Summary {
    let begun = Instant::now();
    let next = AtomicU64::new(first);
    let end = first.saturating_add(count);
    let summary = Mutex::new(Summary::default());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = run(Options { seed, print: false, mutation, distance });
                    add(&mut summary.lock().unwrap_or_else(PoisonError::into_inner), outcome);
                }
            });
        }
    });
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.failed.sort_by_key(|o| o.seed);
    summary.took = begun.elapsed();
    summary
}

fn add(summary: &mut Summary, outcome: Outcome) {
    let total = &mut summary.total;
    summary.worlds += 1;
    total.simulated_ms += outcome.simulated_ms;
    total.elections += outcome.elections;
    total.moves += outcome.moves;
    total.promises += outcome.promises;
    total.entries += outcome.entries;
    total.letters += outcome.letters;
    total.calls += outcome.calls;
    total.calls_answered += outcome.calls_answered;
    total.failovers += outcome.failovers;
    total.moved += outcome.moved;
    total.registered += outcome.registered;
    total.media.given += outcome.media.given;
    total.media.deleted += outcome.media.deleted;
    total.media.excused += outcome.media.excused;
    total.kept += outcome.kept;
    total.changes += outcome.changes;
    total.notified += outcome.notified;
    total.heal_ms = total.heal_ms.max(outcome.heal_ms);
    for (fault, count) in &outcome.faults {
        *total.faults.entry(*fault).or_default() += count;
    }
    if outcome.failure.is_some() {
        summary.failed.push(outcome);
    }
}

impl Summary {
    /// The summary, for people.
    #[must_use]
    pub fn tell(&self) -> String {
        let t = &self.total;
        let seconds = self.took.as_secs_f64().max(0.001);
        let faults: BTreeMap<Fault, u64> = t.faults.clone();
        let all: u64 = faults.values().sum();
        let kinds: Vec<_> = faults.iter().map(|(fault, n)| format!("{fault:?} {n}")).collect();
        let mut out = format!(
            "{} worlds in {seconds:.1} s ({:.1} per second), {} s simulated ({:.0} times real time)\n\
             {all} faults: {}\n\
             {} elections, {} moves of the service, {} entries committed, {} messages between nodes\n\
             {} messages of the proxy judged, {} of {} calls answered and hung up, longest healing {} ms\n\
             {} later rounds of calls, {} moves of branches, {} registrations of the trunk\n\
             {} messages kept, {} NOTIFYs to watchers, {} SDPs of rtpengines, {} calls deleted there, \
             {} left there with their node's loss\n\
             {} changes of the membership\n",
            self.worlds,
            self.worlds as f64 / seconds,
            t.simulated_ms / 1000,
            t.simulated_ms as f64 / 1000.0 / seconds,
            kinds.join(", "),
            t.elections,
            t.moves,
            t.entries,
            t.letters,
            t.promises,
            t.calls_answered,
            t.calls,
            t.heal_ms,
            t.failovers,
            t.moved,
            t.registered,
            t.kept,
            t.notified,
            t.media.given,
            t.media.deleted,
            t.media.excused,
            t.changes,
        );
        for outcome in &self.failed {
            let why = outcome.failure.as_deref().unwrap_or_default();
            out += &format!(
                "FAILED seed {}: {why}\n  replay: {}\n",
                outcome.seed,
                replay(outcome.seed, outcome.distance)
            );
        }
        out += if self.failed.is_empty() { "all invariants held\n" } else { "" };
        out
    }
}

/// `relevo-lab sim`: one world with its trace, or many with a summary.
#[must_use]
pub fn command(seed: u64, seeds: Option<u64>, distance: Distance, trace: bool) -> ExitCode {
    let Some(count) = seeds else {
        let outcome = run(Options { seed, print: trace, distance, ..Options::default() });
        say!(
            "seed {seed}: trace of {} lines, hash {:016x}; {} s simulated, {} elections, {} moves, {} entries, \
             healed in {} ms",
            outcome.lines,
            outcome.hash,
            outcome.simulated_ms / 1000,
            outcome.elections,
            outcome.moves,
            outcome.entries,
            outcome.heal_ms
        );
        return match outcome.failure {
            None => ExitCode::SUCCESS,
            Some(why) => {
                if !trace {
                    outcome.tail.iter().for_each(|line| say!("{line}"));
                }
                say!("FAILED: {why}\nreplay: {}", replay(seed, distance));
                ExitCode::FAILURE
            }
        };
    };
    let summary = sweep(seed, count, Mutation::None, distance);
    say_part!("{}", summary.tell());
    if summary.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
