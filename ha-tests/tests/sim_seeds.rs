//! The simulator over many seeds: every invariant holds in every world, and a world is a function of its seed.

use ha_tests::sim::{Distance, Mutation, Options, run, sweep};

/// First seed and number of seeds of each run; `RELEVO_SIM_SEED` and `RELEVO_SIM_SEEDS` name others.
const FIRST: u64 = 1;
const COUNT: u64 = 200;

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn every_invariant_holds_in_two_hundred_worlds() {
    let (first, count) = (from_env("RELEVO_SIM_SEED", FIRST), from_env("RELEVO_SIM_SEEDS", COUNT));
    let summary = sweep::sweep(first, count, Mutation::None, Distance::Lan);
    println!("{}", summary.tell());
    for outcome in &summary.failed {
        println!("last lines of seed {}:", outcome.seed);
        outcome.tail.iter().for_each(|line| println!("{line}"));
    }
    assert!(summary.failed.is_empty(), "{}", summary.tell());
    assert_eq!(summary.worlds, count);
    // A simulator that injects nothing, or a cluster that does nothing, would hold every invariant.
    let total = &summary.total;
    if count >= COUNT {
        assert!(total.faults.values().sum::<u64>() > 10 * count, "{:?}", total.faults);
        assert!(total.faults.len() >= 20, "every kind of fault: {:?}", total.faults);
        assert!(total.elections > 3 * count && total.moves > count, "{}", summary.tell());
        assert!(total.calls_answered > count && total.promises > 100 * count, "{}", summary.tell());
        assert!(total.kept > count / 2 && total.notified > 5 * count, "{}", summary.tell());
        let media = &total.media;
        assert!(media.given > 5 * count && media.deleted > count && media.excused < count / 10, "{media:?}");
        assert!(total.changes > count / 5, "{}", summary.tell());
        assert!(total.failovers > 0 && total.moved > 0 && total.registered > 0, "{}", summary.tell());
    }
}

#[test]
fn every_invariant_holds_between_two_cities_and_between_two_continents_with_the_times_of_that_name() {
    for distance in [Distance::Metro, Distance::Wan] {
        let summary = sweep::sweep(1, 20, Mutation::None, distance);
        assert!(summary.failed.is_empty(), "{}", summary.tell());
        assert!(summary.total.moves > 0 && summary.total.calls_answered > 0, "{}", summary.tell());
    }
}

#[test]
fn the_same_seed_twice_gives_the_same_trace() {
    for seed in 1..=12 {
        let options = Options { seed, ..Options::default() };
        // Once on this thread and once on a fresh one: nothing may come from the thread.
        let here = run(options);
        let there = std::thread::spawn(move || run(options)).join().expect("runs");
        assert_eq!((here.hash, here.lines), (there.hash, there.lines), "seed {seed}");
        assert!(here.lines > 100, "seed {seed} has {} lines", here.lines);
    }
}

#[test]
fn different_seeds_give_different_traces() {
    let hash = |seed| run(Options { seed, ..Options::default() }).hash;
    assert_ne!(hash(1), hash(2));
}
