//! Whether the times of a cluster go with the ways between its nodes. Pure.
//!
//! With a heartbeat every *h*, a round trip of *r* and one message lost, an acknowledgement is *2h + r* old before the next
//! one comes, and a follower hears nothing for *2h + r/2*. The lease has to bear the first, the shortest election timeout
//! the second; and a candidate has to have its votes, a round trip later, before the next one stands.
//!
//! | | heartbeat | election | lease | round trips up to | nobody serves after a loss for about |
//! |---|---|---|---|---|---|
//! | lan | 30 ms | 75 to 150 ms | 150 ms | 15 ms | 0.3 s |
//! | metro | 100 ms | 400 to 800 ms | 800 ms | 200 ms | 1.5 s |
//! | wan | 300 ms | 1.5 to 3 s | 3 s | 0.9 s | 5 s |

use std::time::Duration;

use super::LEASE_MARGIN;

/// The times of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Between two heartbeats of the leader.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout, and the lease.
    pub election_max: Duration,
}

/// Times under a name.
pub const PRESETS: [(&str, Times); 3] = [
    ("lan", Times::of_ms(30, 75, 150)),
    ("metro", Times::of_ms(100, 400, 800)),
    ("wan", Times::of_ms(300, 1_500, 3_000)),
];

impl Times {
    const fn of_ms(heartbeat: u64, election_min: u64, election_max: u64) -> Self {
        Self {
            heartbeat: Duration::from_millis(heartbeat),
            election_min: Duration::from_millis(election_min),
            election_max: Duration::from_millis(election_max),
        }
    }

    /// The preset of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        PRESETS.iter().find(|(known, _)| *known == name).map(|(_, times)| *times)
    }

    /// The longest round trip that these times bear.
    #[must_use]
    pub fn bears(&self) -> Duration {
        let beats = self.heartbeat * 2;
        let by_election = self.election_min.saturating_sub(beats);
        let by_lease = self.election_max.saturating_sub(LEASE_MARGIN).saturating_sub(beats) / 2;
        by_election.min(by_lease)
    }
}

/// What is to be said of round trips and times; `None`: they go together. `slowest` of each node.
#[must_use]
pub fn misfit(times: &Times, slowest: &[(super::Place, Duration)]) -> Option<String> {
    let (place, worst) = *slowest.iter().max_by_key(|(_, took)| *took)?;
    let bears = times.bears();
    if worst <= bears {
        return None;
    }
    let ms = |d: Duration| format!("{} ms", d.as_millis());
    let cure = PRESETS.iter().find(|(_, preset)| worst <= preset.bears()).map_or_else(
        || String::from("no preset bears it: mend the way, or place that node nearer"),
        |(name, _)| format!("set cluster.times = \"{name}\" on every node, and restart all of them"),
    );
    Some(format!(
        "answers of node {place} take up to {}, and a heartbeat of {} with a lease of {} bears {}: the service will flap; {cure}",
        ms(worst),
        ms(times.heartbeat),
        ms(times.election_max),
        ms(bears)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn preset(name: &str) -> Times {
        Times::named(name).expect("a preset")
    }

    #[test]
    fn each_preset_bears_the_ways_that_it_is_named_for() {
        assert_eq!(["lan", "metro", "wan"].map(|name| preset(name).bears()), [ms(15), ms(200), ms(900)]);
        assert!(Times::named("moon").is_none());
    }

    #[test]
    fn fifty_ms_each_way_do_not_go_with_the_default_times_and_metro_is_proposed() {
        assert_eq!(misfit(&preset("lan"), &[(2, ms(1)), (3, ms(14))]), None);
        let said = misfit(&preset("lan"), &[(2, ms(1)), (3, ms(138))]).expect("a misfit");
        assert!(said.contains("node 3 take up to 138 ms") && said.contains("times = \"metro\""), "{said}");
        assert_eq!(misfit(&preset("metro"), &[(3, ms(138))]), None);
        let said = misfit(&preset("metro"), &[(3, ms(450))]).expect("a misfit");
        assert!(said.contains("times = \"wan\""), "{said}");
        let said = misfit(&preset("wan"), &[(3, ms(2_000))]).expect("a misfit");
        assert!(said.contains("no preset bears it"), "{said}");
        assert_eq!(misfit(&preset("lan"), &[]), None, "nobody was heard yet");
    }
}
