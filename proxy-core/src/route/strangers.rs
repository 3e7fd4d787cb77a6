//! How much is kept for those who have proved nothing: who they are, nobody knows, and what they send costs nothing to
//! send. Pure: it counts by the time it is given. All engines of a node share one table.
//!
//! What a request makes a node keep (its transaction in memory, its record in the log and in the state of every node, the
//! record of the call) is counted in bytes against its source, and against all strangers together. Both are buckets that
//! run dry with time.
//!
//! | who | then |
//! |---|---|
//! | has proved a password, or comes from an address that the operator has named | not counted |
//! | a stranger, and both buckets have room | counted |
//! | a stranger, and one is full | 503 with Retry-After, nothing is kept |
//! | within a dialog | counted against the source alone |
//! | ACK and CANCEL; the first BYE of a side of an answered call | not counted: they end things |
//!
//! So strangers who forge their addresses can keep out other strangers, and nobody else: subscribers, trunks, backends and
//! calls that exist are served beside them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::flood::counted_as;
use super::passage::Passage;
use crate::engine::limits::STRANGER_RETRY_AFTER_S;
use crate::engine::{Cx, Engine};
use crate::msg::{Method, Uri};
use crate::routing::Cidr;
use crate::state::Flow;
use crate::time::MonoTime;

/// Bytes that one source may make the cluster keep at once: some hundred ordinary calls, sixty of the largest.
const SOURCE_BYTES: u64 = 2 << 20;
/// Bytes a second by which its bucket runs dry: 25 ordinary calls a second, four of the largest.
const SOURCE_BYTES_PER_S: u64 = 128 << 10;
/// The same for all strangers together.
const ALL_BYTES: u64 = 8 << 20;
/// Bytes a second by which the bucket of all runs dry: 100 ordinary calls a second, 16 of the largest.
const ALL_BYTES_PER_S: u64 = 512 << 10;
/// Times that a request is kept: in the entry of the log, and in what follows from it (its progress, its end, its record).
const TIMES_KEPT: u64 = 2;
/// Bytes kept of each request besides itself.
const BESIDES: u64 = 2 << 10;
/// Sources counted at once. When all of them are still counted, further ones are held against the bucket of all alone.
const MAX_SOURCES: usize = 65_536;
/// A BYE that was not counted is known for this long: as long as its transaction may last.
const BYE_KEPT: Duration = Duration::from_secs(64);
/// BYEs that are known so at once. When there are more, a BYE is counted like any other request.
const MAX_BYES: usize = 65_536;
/// Call-ID, the callee's tag, and whether it is the caller who hangs up.
type ByeName = (String, String, bool);
/// Time from one line of the log to the next.
const NEWS_INTERVAL: Duration = Duration::from_secs(10);

/// Strangers that were refused since somebody was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The source of the first of them; of IPv6 the first address of its /64.
    pub source: IpAddr,
    /// Requests.
    pub requests: u64,
}

/// The strangers of one node. Clones share what they know.
#[derive(Debug, Clone, Default)]
pub struct Strangers(Arc<Mutex<Table>>);

impl Strangers {
    /// Bytes that one source may make the cluster keep at once.
    pub const SOURCE_BYTES: u64 = SOURCE_BYTES;
    /// The same for all strangers together.
    pub const ALL_BYTES: u64 = ALL_BYTES;

    // Nothing in there panics halfway; and a table that is a little wrong must not end the service.
    fn with<R>(&self, f: impl FnOnce(&mut Table) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is room for a request of so many bytes; it is counted then. `in_dialog`: against its source alone.
    pub(crate) fn admit(&self, now: MonoTime, source: IpAddr, bytes: usize, in_dialog: bool) -> bool {
        self.with(|table| table.admit(now, counted_as(source), cost(bytes), in_dialog))
    }

    /// Whether this side of a call has sent no other BYE lately; it is noted then.
    fn is_first_bye(&self, now: MonoTime, name: ByeName) -> bool {
        self.with(|table| {
            if table.byes.len() >= MAX_BYES {
                table.byes.retain(|_, until| *until > now);
            }
            let is_first =
                table.byes.len() < MAX_BYES && table.byes.get(&name).is_none_or(|until| *until <= now);
            if is_first {
                table.byes.insert(name, now + BYE_KEPT);
            }
            is_first
        })
    }

    /// Who has been refused since this was asked last; at most every ten seconds.
    #[must_use]
    pub fn news(&self, now: MonoTime) -> Option<Refused> {
        self.with(|table| {
            if table.told_at.is_some_and(|at| at + NEWS_INTERVAL > now) {
                return None;
            }
            let news = table.refused.take()?;
            table.told_at = Some(now);
            Some(news)
        })
    }
}

/// Bytes that a request makes the cluster keep.
fn cost(bytes: usize) -> u64 {
    (bytes as u64).saturating_mul(TIMES_KEPT).saturating_add(BESIDES)
}

/// What is in it runs out with time.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    bytes: u64,
    at: MonoTime,
}

impl Bucket {
    fn level(&self, now: MonoTime, per_s: u64) -> u64 {
        let ms = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.bytes.saturating_sub(ms.saturating_mul(per_s) / 1000)
    }

    fn put(&mut self, now: MonoTime, per_s: u64, bytes: u64) {
        *self = Self { bytes: self.level(now, per_s).saturating_add(bytes), at: now };
    }
}

#[derive(Debug, Default)]
struct Table {
    all: Bucket,
    sources: BTreeMap<IpAddr, Bucket>,
    /// When the table was last swept because it was full.
    swept_at: Option<MonoTime>,
    refused: Option<Refused>,
    told_at: Option<MonoTime>,
    /// BYEs that were let through without being counted, and until when that is known.
    byes: BTreeMap<ByeName, MonoTime>,
}

impl Table {
    fn admit(&mut self, now: MonoTime, source: IpAddr, bytes: u64, in_dialog: bool) -> bool {
        let fits = |bucket: &Bucket, per_s, most| bucket.level(now, per_s).saturating_add(bytes) <= most;
        let known = self.sources.get(&source).copied();
        let has_room = known.is_none_or(|bucket| fits(&bucket, SOURCE_BYTES_PER_S, SOURCE_BYTES))
            && (in_dialog || fits(&self.all, ALL_BYTES_PER_S, ALL_BYTES));
        if !has_room {
            self.refused.get_or_insert(Refused { source, requests: 0 }).requests += 1;
            return false;
        }
        if !in_dialog {
            self.all.put(now, ALL_BYTES_PER_S, bytes);
        }
        if known.is_some() || self.sources.len() < MAX_SOURCES || self.sweep(now) {
            self.sources.entry(source).or_default().put(now, SOURCE_BYTES_PER_S, bytes);
        }
        true
    }

    /// Removes whose bucket is dry; at most once a second, as it walks over everything. Whether there is room now.
    fn sweep(&mut self, now: MonoTime) -> bool {
        if self.swept_at.is_some_and(|at| at + Duration::from_secs(1) > now) {
            return false;
        }
        self.swept_at = Some(now);
        self.sources.retain(|_, bucket| bucket.level(now, SOURCE_BYTES_PER_S) > 0);
        self.sources.len() < MAX_SOURCES
    }
}

impl Engine {
    /// Whether what this request makes the cluster keep has room, if it comes from a stranger; it is counted then. If not, it
    /// has been answered.
    pub(crate) fn has_room_for_stranger(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>) -> bool {
        let in_dialog = passage.found.in_dialog;
        let ends = matches!(passage.method, Method::Ack | Method::Cancel)
            || (in_dialog && passage.method == Method::Bye && self.is_first_bye(cx, passage));
        if ends || self.keeps_for_stranger(cx, passage, passage.message.raw().len()) {
            return true;
        }
        self.counters.strangers_refused += 1;
        let retry_after = [("Retry-After", STRANGER_RETRY_AFTER_S)];
        self.reject_with(passage.flow, passage.message, 503, "", &retry_after);
        false
    }

    /// Whether this is the first BYE of its side in a call that there is a record of: for one there is always room.
    fn is_first_bye(&self, cx: Cx<'_>, passage: &Passage<'_, '_>) -> bool {
        let dialog = crate::dialog::of(cx.state, passage.message).filter(|(d, _)| d.ending.is_none());
        dialog.is_some_and(|(dialog, from_caller)| {
            let name = (dialog.id.call_id.clone(), dialog.id.to_tag.clone(), from_caller);
            self.is_explaining() || self.together.strangers.is_first_bye(cx.now.mono, name)
        })
    }

    /// The same of something that needs no answer, and keeps so many bytes.
    pub(crate) fn keeps_for_stranger(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>, bytes: usize) -> bool {
        if self.is_explaining() || !self.is_charged(cx, passage) {
            return true;
        }
        let (now, source) = (cx.now.mono, passage.flow.remote.ip());
        self.together.strangers.admit(now, source, bytes, passage.found.in_dialog)
    }

    /// Whether what is kept for a request counts as a stranger's: nobody has proved who he is, and the operator has named his
    /// address nowhere. That is more than [`crate::auth::Sender::is_stranger`] asks, which knows addresses of trunks and of
    /// the access list only. Without
    /// authentication nobody is told from anybody.
    fn is_charged(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>) -> bool {
        let config = &self.settings.config;
        let sender = &passage.found.sender;
        if !config.auth.enabled || sender.user().is_some() || sender.is_trusted() {
            return false;
        }
        let source = passage.flow.remote.ip();
        let among = |blocks: &[Cidr]| blocks.iter().any(|c| c.contains(source));
        let routing = &config.routing;
        let by_rule = passage.found.rule.and_then(|rule| routing.rules.get(rule));
        let is_named = among(&routing.relay_from)
            || routing.screen.flood.as_ref().is_some_and(|limit| among(&limit.exempt))
            || by_rule.is_some_and(|rule| among(&rule.matching.sources));
        !is_named && !self.is_believed(cx, passage.flow) && !self.is_backend(cx, passage.flow)
    }

    /// Whether a destination of the dispatcher has this address. One that goes by a name has none here.
    fn is_backend(&mut self, cx: Cx<'_>, flow: Flow) -> bool {
        let dispatcher = cx.state.dispatcher();
        let known = &mut self.dispatch.addresses;
        if known.0 != Some(dispatcher.revision) {
            let uris = dispatcher.sets.values().flatten().map(|d| d.uri.as_str());
            let hosts = uris.filter_map(|uri| Uri::parse(uri).ok()?.host.ip());
            *known = (Some(dispatcher.revision), hosts.map(counted_as).collect());
        }
        known.1.contains(&counted_as(flow.remote.ip()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: usize = 15_000;

    fn at(ms: u64) -> MonoTime {
        MonoTime::default() + Duration::from_millis(ms)
    }

    fn source(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    /// How many requests of `bytes` a source gets in, one after the other.
    fn admitted(strangers: &Strangers, now: MonoTime, from: IpAddr, bytes: usize) -> u64 {
        (0..100_000).take_while(|_| strangers.admit(now, from, bytes, false)).count() as u64
    }

    #[test]
    fn one_source_gets_no_more_kept_than_its_bucket_holds_and_runs_dry_with_time() {
        let strangers = Strangers::default();
        let first = admitted(&strangers, at(0), source(1), LARGE);
        assert!(first * cost(LARGE) <= SOURCE_BYTES && (first + 1) * cost(LARGE) > SOURCE_BYTES, "{first}");
        assert!(strangers.admit(at(0), source(2), LARGE, false), "another one is not concerned");
        let later = admitted(&strangers, at(10_000), source(1), LARGE);
        assert!((39..=41).contains(&later), "{later} in ten seconds");
    }

    #[test]
    fn forged_addresses_get_no_more_kept_than_all_strangers_may_have() {
        let strangers = Strangers::default();
        let kept =
            |now| (0..10_000).filter(|n| strangers.admit(now, source(*n), LARGE, false)).count() as u64;
        let first = kept(at(0));
        assert!(first * cost(LARGE) <= ALL_BYTES && first > 200, "{first}");
        let later = kept(at(10_000));
        assert!(later * cost(LARGE) <= 10 * ALL_BYTES_PER_S + cost(LARGE), "{later}");
    }

    #[test]
    fn who_is_within_a_dialog_is_held_against_his_source_alone() {
        let strangers = Strangers::default();
        for n in 0..10_000 {
            strangers.admit(at(0), source(n), LARGE, false);
        }
        assert!(!strangers.admit(at(0), source(20_000), LARGE, false), "all of it is used");
        let inside = |n| (0..100_000).take_while(|_| strangers.admit(at(0), source(n), LARGE, true)).count();
        assert_eq!(inside(30_000) as u64, SOURCE_BYTES / cost(LARGE));
    }

    #[test]
    fn the_table_is_bounded_and_swept_of_those_who_are_quiet() {
        let strangers = Strangers::default();
        for n in 0..70_000 {
            strangers.admit(at(u64::from(n) * 10), source(n), 100, true);
        }
        let known = strangers.with(|table| table.sources.len());
        assert!(known <= MAX_SOURCES, "{known}");
    }

    #[test]
    fn who_was_refused_is_told_once_in_a_while() {
        let strangers = Strangers::default();
        assert_eq!(strangers.news(at(0)), None);
        admitted(&strangers, at(0), source(7), LARGE);
        let news = |now| strangers.news(now).map(|n| (n.source, n.requests));
        assert_eq!(news(at(1)), Some((source(7), 1)));
        assert!(!strangers.admit(at(2), source(7), LARGE, false));
        assert_eq!((news(at(9_000)), news(at(10_001))), (None, Some((source(7), 1))));
    }
}
