//! How long a guard waits before it starts its agent again. Nobody is served by a pause, so that there is one only while
//! another appliance serves:
//!
//! | the guard knows | then |
//! |---|---|
//! | this was the first death | started at once |
//! | nothing of another | started after [`FLOOR`] |
//! | the agent said before its death that another is fit, heard and caught up | that one gets [`GRACE`] to take over |
//! | another says now that it serves | the [`LADDER`], as long as it goes on to say so |
//!
//! The guard asks the others all the time ([`super::question`]). So a pause ends when the other one dies, too, by whatever
//! death, and pauses never add up to a time in which nobody serves.

use std::time::Duration;

/// Pauses between deaths and restarts while another appliance serves. The first restart is made at once.
pub const LADDER: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];
/// After a second death in a row: an agent that dies at once does not take a whole core.
pub const FLOOR: Duration = Duration::from_millis(100);
/// A successor that was ready when the agent died gets so long to say that it serves.
pub const GRACE: Duration = Duration::from_millis(300);
/// So long counts an answer that another serves.
pub const FRESH: Duration = Duration::from_millis(250);

/// What a guard knows at one moment between two lives of its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Deaths in a row, this one too.
    pub deaths: u32,
    /// Time since the death.
    pub since: Duration,
    /// The agent said last that another appliance could take over.
    pub told: bool,
    /// Age of the newest answer of another that it serves.
    pub serving: Option<Duration>,
}

/// How much longer to wait as far as is known now. Zero: start.
#[must_use]
pub fn left(known: &Known) -> Duration {
    let step = usize::try_from(known.deaths.saturating_sub(1)).unwrap_or(usize::MAX);
    let wanted = LADDER[step.min(LADDER.len() - 1)].saturating_sub(known.since);
    if known.deaths <= 1 || wanted.is_zero() {
        return Duration::ZERO;
    }
    let floor = FLOOR.saturating_sub(known.since);
    let expected = if known.told { GRACE.saturating_sub(known.since) } else { Duration::ZERO };
    let heard = known.serving.map_or(Duration::ZERO, |age| FRESH.saturating_sub(age));
    wanted.min(floor.max(expected).max(heard))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn each_row_of_the_table() {
        let rows = [
            // deaths, since, told, serving, left
            (1, 0, true, Some(0), 0),
            (2, 0, false, None, 100),
            (2, 100, false, None, 0),
            (9, 100, false, None, 0),
            (2, 0, true, None, 200),
            (4, 0, true, None, 300),
            (4, 299, true, None, 1),
            (4, 300, true, None, 0),
            (4, 100, false, Some(0), 250),
            (4, 500, true, Some(50), 200),
            (4, 900, true, Some(0), 100),
            (4, 1000, true, Some(0), 0),
            (4, 500, true, Some(250), 0),
            (99, 9_999, false, Some(0), 1),
            (99, 10_000, false, Some(0), 0),
        ];
        for (deaths, since, told, serving, expected) in rows {
            let known = Known { deaths, since: ms(since), told, serving: serving.map(ms) };
            assert_eq!(left(&known), ms(expected), "{known:?}");
        }
    }

    #[test]
    fn while_nobody_serves_no_number_of_deaths_makes_a_pause_longer_than_the_grace() {
        for deaths in 0..1000 {
            let known = Known { deaths, since: GRACE, told: true, serving: None };
            assert_eq!(left(&known), Duration::ZERO);
        }
    }
}
