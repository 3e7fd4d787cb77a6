//! How many requests each source has sent lately (Kamailio's `pike` and `ipban`). Pure: it counts by the time it is
//! given. All engines of a node share one table: what a source sends meets all of them.
//!
//! | source | request | then |
//! |---|---|---|
//! | unknown, or its window is over | comes | counted in a new window |
//! | within its window | below the limit | counted |
//! | within its window | beyond the limit | banned, dropped |
//! | banned | comes before the ban ends | dropped |

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::routing::FloodLimit;
use crate::time::MonoTime;

/// Most sources counted at once. When it is full of sources that are still counted, further ones pass uncounted:
/// who forges his address must not lock out others.
const MAX_SOURCES: usize = 65_536;

/// Banned sources that one line of the log names; of more there is a number.
const MAX_NAMED: usize = 8;
/// Time from one line of the log to the next: who forges many addresses must not fill it.
const NEWS_INTERVAL: Duration = Duration::from_secs(1);

/// A source that is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    /// Its address; of IPv6 the first of its /64.
    pub source: IpAddr,
    /// How long it is ignored yet.
    pub left: Duration,
    /// Requests of it that were dropped, with the one that was too many.
    pub dropped: u64,
}

/// Sources that have been banned since somebody was told last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBans {
    /// The first of them.
    pub sources: Vec<IpAddr>,
    /// How many more.
    pub others: u64,
}

/// The requests and bans of one node. Clones share what they know.
#[derive(Debug, Clone, Default)]
pub struct Bans(Arc<Mutex<Flood>>);

impl Bans {
    // Nothing in there panics halfway; and a table that is a little wrong must not end the service.
    fn with<R>(&self, f: impl FnOnce(&mut Flood) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a request of `source`.
    pub(crate) fn count(&self, limit: &FloodLimit, now: MonoTime, source: IpAddr) -> Verdict {
        self.with(|flood| flood.count(limit, now, source))
    }

    /// Who is banned at `now`, by address.
    #[must_use]
    pub fn list(&self, now: MonoTime) -> Vec<Ban> {
        self.with(|flood| flood.sources.iter().filter_map(|(source, e)| e.ban(*source, now)).collect())
    }

    /// The ban of one address, if there is one.
    #[must_use]
    pub fn of(&self, source: IpAddr, now: MonoTime) -> Option<Ban> {
        let source = counted_as(source);
        self.with(|flood| flood.sources.get(&source).and_then(|e| e.ban(source, now)))
    }

    /// Lets one address in again, or all. Returns how many bans that ends; their requests are counted anew.
    pub fn clear(&self, now: MonoTime, source: Option<IpAddr>) -> usize {
        let source = source.map(counted_as);
        self.with(|flood| {
            let before = flood.sources.len();
            flood.sources.retain(|at, e| source.is_some_and(|s| s != *at) || e.ban(*at, now).is_none());
            before - flood.sources.len()
        })
    }

    /// Who has been banned since this was asked last; at most once a second.
    #[must_use]
    pub fn news(&self, now: MonoTime) -> Option<NewBans> {
        self.with(|flood| {
            let is_due = flood.told_at.is_none_or(|at| at + NEWS_INTERVAL <= now);
            if flood.new.is_empty() || !is_due {
                return None;
            }
            flood.told_at = Some(now);
            Some(NewBans {
                sources: std::mem::take(&mut flood.new),
                others: std::mem::take(&mut flood.others),
            })
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// End of the window, or of the ban.
    until: MonoTime,
    count: u32,
    banned: bool,
    /// Requests dropped in this ban.
    dropped: u64,
}

impl Entry {
    fn ban(&self, source: IpAddr, now: MonoTime) -> Option<Ban> {
        let is_banned = self.banned && self.until > now;
        is_banned.then(|| Ban { source, left: self.until.since(now), dropped: self.dropped })
    }
}

/// The table.
#[derive(Debug, Default)]
struct Flood {
    sources: BTreeMap<IpAddr, Entry>,
    /// Bans that nobody was told of, and how many more.
    new: Vec<IpAddr>,
    others: u64,
    /// When somebody was told.
    told_at: Option<MonoTime>,
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
    fn count(&mut self, limit: &FloodLimit, now: MonoTime, source: IpAddr) -> Verdict {
        if limit.exempt.iter().any(|c| c.contains(source)) {
            return Verdict::Pass;
        }
        let source = counted_as(source);
        let fresh = Entry { until: now + limit.window, count: 0, banned: false, dropped: 0 };
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
            entry.dropped += 1;
            return Verdict::Banned;
        }
        entry.count += 1;
        if entry.count <= limit.requests {
            return Verdict::Pass;
        }
        *entry = Entry { until: now + limit.ban, count: 0, banned: true, dropped: 1 };
        if self.new.len() < MAX_NAMED {
            self.new.push(source);
        } else {
            self.others += 1;
        }
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

/// The source that an address is counted as: one customer has a whole /64 of IPv6.
#[must_use]
pub fn counted_as(source: IpAddr) -> IpAddr {
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
    fn bans_are_listed_with_what_is_left_and_ended_one_by_one_or_all() {
        let (bans, limit) = (Bans::default(), limit());
        let source = |n: u8| IpAddr::from([192, 0, 2, n]);
        for n in [1, 2, 3] {
            for _ in 0..6 {
                // A clone is another engine.
                bans.clone().count(&limit, at(0), source(n));
            }
        }
        bans.count(&limit, at(0), source(9));
        let left = |now| bans.list(at(now)).iter().map(|b| (b.left.as_secs(), b.dropped)).collect::<Vec<_>>();
        assert_eq!(left(100_000), [(200, 3); 3]);
        assert_eq!(bans.of(source(9), at(0)), None);
        assert_eq!(bans.clear(at(0), Some(source(9))), 0);
        assert_eq!(bans.clear(at(0), Some(source(2))), 1);
        assert_eq!(bans.count(&limit, at(0), source(2)), Verdict::Pass);
        assert_eq!(bans.count(&limit, at(0), source(1)), Verdict::Banned);
        assert_eq!(bans.clear(at(0), None), 2);
        assert_eq!(left(0), []);
        assert_eq!(left(300_001), []);
    }

    #[test]
    fn new_bans_are_told_once_a_second_by_name_up_to_a_bound() {
        let (bans, limit) = (Bans::default(), limit());
        let flood = |from: u8, to: u8, now| {
            for n in from..to {
                for _ in 0..4 {
                    bans.count(&limit, at(now), IpAddr::from([192, 0, 2, n]));
                }
            }
        };
        assert_eq!(bans.news(at(0)), None);
        flood(0, 20, 0);
        let news = bans.news(at(0)).expect("news");
        assert_eq!((news.sources.len(), news.others), (MAX_NAMED, 12));
        flood(20, 22, 10);
        assert_eq!(bans.news(at(999)), None);
        let news = bans.news(at(1000)).expect("news");
        assert_eq!((news.sources.len(), news.others), (2, 0));
        assert_eq!(bans.news(at(9000)), None);
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
