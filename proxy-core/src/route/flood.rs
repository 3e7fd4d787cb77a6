//! How many requests each source has sent lately (Kamailio's `pike` and `ipban`). Pure: it counts by the time it is
//! given.
//!
//! | source | request | then |
//! |---|---|---|
//! | unknown, or its window is over | comes | counted in a new window |
//! | within its window | below the limit | counted |
//! | within its window | beyond the limit | banned, dropped |
//! | banned | comes before the ban ends | dropped |

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use crate::routing::FloodLimit;
use crate::time::MonoTime;

/// Most sources counted at once. When it is full of sources that are still counted, further ones pass uncounted:
/// who forges his address must not lock out others.
const MAX_SOURCES: usize = 65_536;

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// End of the window, or of the ban.
    until: MonoTime,
    count: u32,
    banned: bool,
}

/// The table of one engine.
#[derive(Debug, Default)]
pub(crate) struct Flood {
    sources: BTreeMap<IpAddr, Entry>,
    /// When the table was last swept because it was full.
    swept_at: Option<MonoTime>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    /// This request was the one too many.
    BannedNow,
    Banned,
}

impl Flood {
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Counts a request of `source`.
    pub(crate) fn count(&mut self, limit: &FloodLimit, now: MonoTime, source: IpAddr) -> Verdict {
        if limit.exempt.iter().any(|c| c.contains(source)) {
            return Verdict::Pass;
        }
        let source = counted_as(source);
        let fresh = Entry { until: now + limit.window, count: 0, banned: false };
        if !self.sources.contains_key(&source) {
            if self.sources.len() >= MAX_SOURCES && !self.sweep(now, limit) {
                return Verdict::Pass;
            }
            self.sources.insert(source, fresh);
        }
        let Some(entry) = self.sources.get_mut(&source) else { return Verdict::Pass };
        if entry.until <= now {
            *entry = fresh;
        }
        if entry.banned {
            return Verdict::Banned;
        }
        entry.count += 1;
        if entry.count <= limit.requests {
            return Verdict::Pass;
        }
        *entry = Entry { until: now + limit.ban, count: 0, banned: true };
        Verdict::BannedNow
    }

    /// Removes what has ended; at most once per window, as it walks over everything. Whether there is room now.
    fn sweep(&mut self, now: MonoTime, limit: &FloodLimit) -> bool {
        if self.swept_at.is_some_and(|at| at + limit.window > now) {
            return false;
        }
        self.swept_at = Some(now);
        self.sources.retain(|_, entry| entry.until > now);
        self.sources.len() < MAX_SOURCES
    }
}

/// One customer has a whole /64 of IPv6.
fn counted_as(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(ms: u64) -> MonoTime {
        MonoTime::default() + Duration::from_millis(ms)
    }

    fn limit() -> FloodLimit {
        FloodLimit { requests: 3, ..FloodLimit::default() }
    }

    #[test]
    fn the_request_beyond_the_limit_bans_its_source_until_the_ban_ends() {
        let (mut flood, limit) = (Flood::default(), limit());
        let (bad, good) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for _ in 0..3 {
            assert_eq!(flood.count(&limit, at(0), bad), Verdict::Pass);
        }
        assert_eq!(flood.count(&limit, at(10), bad), Verdict::BannedNow);
        assert_eq!(flood.count(&limit, at(20), bad), Verdict::Banned);
        assert_eq!(flood.count(&limit, at(20), good), Verdict::Pass, "others are not concerned");
        assert_eq!(flood.count(&limit, at(300_009), bad), Verdict::Banned);
        assert_eq!(flood.count(&limit, at(300_010), bad), Verdict::Pass);
    }

    #[test]
    fn a_new_window_counts_anew() {
        let (mut flood, limit) = (Flood::default(), limit());
        let source = IpAddr::from([192, 0, 2, 1]);
        for ms in (0..60_000).step_by(700) {
            assert_eq!(flood.count(&limit, at(ms), source), Verdict::Pass, "{ms}");
        }
    }

    #[test]
    fn an_exempt_block_is_never_counted() {
        let limit = FloodLimit { exempt: vec!["192.0.2.0/24".parse().expect("a block")], ..limit() };
        let mut flood = Flood::default();
        for _ in 0..100 {
            assert_eq!(flood.count(&limit, at(0), IpAddr::from([192, 0, 2, 1])), Verdict::Pass);
        }
        assert!(flood.sources.is_empty());
    }

    #[test]
    fn one_customer_of_ipv6_is_one_source() {
        let (mut flood, limit) = (Flood::default(), limit());
        let source = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, n]);
        for n in 0..3 {
            assert_eq!(flood.count(&limit, at(0), source(n)), Verdict::Pass);
        }
        assert_eq!(flood.count(&limit, at(0), source(9)), Verdict::BannedNow);
    }

    #[test]
    fn the_table_is_bounded_and_lets_newcomers_pass_when_it_is_full() {
        let (mut flood, limit) = (Flood::default(), limit());
        let source = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..70_000 {
            assert_eq!(flood.count(&limit, at(0), source(n)), Verdict::Pass);
        }
        assert_eq!(flood.sources.len(), MAX_SOURCES);
        assert_eq!(flood.count(&limit, at(5000), source(80_000)), Verdict::Pass);
        assert_eq!(flood.sources.len(), 1, "what has ended went");
    }
}
