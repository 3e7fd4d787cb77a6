//! What the operator chooses for all trunks.

use std::collections::BTreeSet;
use std::time::Duration;

/// What the operator chooses for all trunks. The trunks themselves are replicated: `relevo trunk add`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkConfig {
    /// Trunk for numbers that look like those of the public telephone network (Kamailio's `WITH_PSTN`).
    pub pstn: Option<String>,
    /// Trunks without sources that take calls to their Contact user from anybody, who is a stranger all the same.
    pub by_name: BTreeSet<String>,
    /// Pause after a registration that failed; it doubles with each further failure.
    pub retry: Duration,
    /// Longest such pause.
    pub retry_max: Duration,
    /// A trunk that has not answered a call with anything by then is followed by the next one of the route; zero: only
    /// after timer B. One second more than a backend next door has: by then four copies of the INVITE have left (at 0, 0.5,
    /// 1.5 and 3.5 s), so that a lossy line to the provider does not look like a dead one.
    pub patience: Duration,
    /// Failures of a trunk after which the next one is tried, as ranges of status codes; no answer and no way are always.
    pub failover: Vec<(u16, u16)>,
}

impl Default for TrunkConfig {
    fn default() -> Self {
        Self {
            pstn: None,
            by_name: BTreeSet::new(),
            retry: Duration::from_secs(10),
            retry_max: Duration::from_secs(600),
            patience: Duration::from_secs(4),
            failover: vec![(408, 408), (500, 599)],
        }
    }
}

impl TrunkConfig {
    /// Pause after so many failures in a row, this one included.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let factor = 1u32.checked_shl(failures.saturating_sub(1).min(16)).unwrap_or(u32::MAX);
        self.retry.saturating_mul(factor).min(self.retry_max.max(self.retry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound() {
        let config = TrunkConfig::default();
        let seconds: Vec<u64> = [1, 2, 3, 7, 100, u32::MAX].map(|n| config.pause(n).as_secs()).into();
        assert_eq!(seconds, [10, 20, 40, 600, 600, 600]);
    }
}
