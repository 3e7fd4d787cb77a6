//! Which refused connections are worth a line in the log: a node with a wrong key or another lease tries ten times a
//! second, for ever, and a stranger as often as it likes. Neither may fill the disk of the log.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// The same refusal is logged again after this time.
const REPEAT_AFTER: Duration = Duration::from_secs(60);
/// Refusals that are logged within that time, of all senders together.
const MAX_LOGGED: usize = 32;

/// What was logged lately.
#[derive(Debug, Default)]
pub(super) struct Complaints(Vec<(IpAddr, String, Instant)>);

impl Complaints {
    /// Whether to log that a connection of `from` was refused for this reason.
    pub(super) fn is_news(&mut self, from: IpAddr, why: &str, now: Instant) -> bool {
        self.0.retain(|(_, _, at)| now.saturating_duration_since(*at) < REPEAT_AFTER);
        if self.0.len() >= MAX_LOGGED || self.0.iter().any(|(ip, said, _)| *ip == from && said == why) {
            return false;
        }
        self.0.push((from, why.to_owned(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_refusal_is_news_once_a_minute() {
        let (mut complaints, start) = (Complaints::default(), Instant::now());
        let (one, other) = (IpAddr::from([10, 77, 0, 1]), IpAddr::from([10, 77, 0, 2]));
        assert!(complaints.is_news(one, "another key", start));
        assert!(complaints.is_news(one, "another lease", start));
        assert!(complaints.is_news(other, "another key", start));
        assert!(!complaints.is_news(one, "another key", start + REPEAT_AFTER - Duration::from_millis(1)));
        assert!(complaints.is_news(one, "another key", start + REPEAT_AFTER));
    }

    #[test]
    fn strangers_however_many_write_a_bounded_number_of_lines() {
        let (mut complaints, start) = (Complaints::default(), Instant::now());
        let news = (0..10_000u32).filter(|n| complaints.is_news(IpAddr::from(n.to_be_bytes()), "no", start));
        assert_eq!(news.count(), MAX_LOGGED);
    }
}
