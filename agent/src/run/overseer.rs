//! Judges once in a second how the service does, says so in the log when that changes, and remembers since when it is so.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proxy_core::time::{Clocks, MonoTime, RealTime};

use super::live::Live;
use crate::bridge::Cluster;
use crate::config::{Config, Role};
use crate::control::times::{Times, misfit};
use crate::control::{Facts, Level, Place, Sight, Verdict, Word};

/// How often it is judged.
const INTERVAL: Duration = Duration::from_secs(1);
/// A node that starts is judged from then on (3 s): before, it says of others that it has not heard them.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// A verdict other than fine is repeated in the log after this time (10 min): one who reads the newest lines sees it.
const REPEAT: Duration = Duration::from_secs(600);

/// A verdict, and since when its level has been the same.
#[derive(Debug, Clone)]
pub struct Standing {
    /// What is judged.
    pub verdict: Verdict,
    /// For how long the level has been this one, as this node has seen it.
    pub lasts: Duration,
    /// Since when, by this node's wall clock.
    pub since: RealTime,
}

/// Decides what is to be said. Pure.
#[derive(Debug, Default)]
struct Teller {
    known: Option<(Verdict, MonoTime, RealTime)>,
    said_at: Option<MonoTime>,
    /// Who served last.
    server: Option<Place>,
}

/// One line of the log.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Error(String),
    Warn(String),
    Info(String),
}

impl Teller {
    fn standing(&self, now: Clocks, verdict: Verdict) -> Standing {
        let same = self.known.as_ref().filter(|(known, _, _)| known.level == verdict.level);
        let (at, since) = same.map_or((now.mono, now.real), |(_, at, since)| (*at, *since));
        Standing { verdict, lasts: now.mono.since(at), since }
    }

    fn look(&mut self, now: Clocks, verdict: Verdict) -> Option<Line> {
        let standing = self.standing(now, verdict.clone());
        let before = self.known.replace((
            verdict.clone(),
            MonoTime(now.mono.0 - dur_ns(standing.lasts)),
            standing.since,
        ));
        let changed = before.as_ref().is_none_or(|(known, _, _)| known.level != verdict.level);
        let moved = verdict.server.is_some() && self.server.is_some() && self.server != verdict.server;
        let was = self.server;
        self.server = verdict.server.or(was);
        let again =
            verdict.level != Level::Fine && self.said_at.is_none_or(|at| now.mono.since(at) >= REPEAT);
        if !(changed || moved || again) {
            return None;
        }
        self.said_at = Some(now.mono);
        let words = format!("{}: {}", verdict.level.word(), verdict.words());
        let took = before
            .filter(|(known, _, _)| changed && known.level != Level::Fine)
            .map_or_else(String::new, |b| {
                format!(" (before that {} for {} s)", b.0.level.word(), now.mono.since(b.1).as_secs())
            });
        let from =
            was.filter(|_| moved).map_or_else(String::new, |was| format!(" (node {was} served before)"));
        let since = if changed || moved || standing.lasts < INTERVAL {
            String::new()
        } else {
            format!(" (for {} s now)", standing.lasts.as_secs())
        };
        let text = format!("{words}{from}{took}{since}");
        Some(match verdict.level {
            Level::Fine if moved => Line::Warn(text),
            Level::Fine => Line::Info(text),
            Level::Degraded => Line::Warn(text),
            Level::NoService | Level::Unknown => Line::Error(format!("{text}; see relevo status")),
        })
    }
}

fn dur_ns(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// Judges for one node.
pub struct Overseer<C> {
    cluster: C,
    live: Arc<Live>,
    nodes: Vec<(Place, bool)>,
    me: Place,
    lease: Duration,
    times: Times,
    clock: fn() -> Clocks,
    teller: Mutex<Teller>,
}

impl<C> std::fmt::Debug for Overseer<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overseer").field("me", &self.me).finish_non_exhaustive()
    }
}

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    _stop: SyncSender<()>,
}

impl<C: Cluster> Overseer<C> {
    /// For the node of `config`.
    #[must_use]
    pub fn new(
        config: &Config,
        lease: Duration,
        cluster: C,
        live: Arc<Live>,
        clock: fn() -> Clocks,
    ) -> Arc<Self> {
        let nodes = config.nodes.iter().map(|m| (m.id, m.role == Role::Appliance)).collect();
        let times = Times {
            heartbeat: config.heartbeat,
            election_min: config.election_min,
            election_max: config.election_max,
        };
        Arc::new(Self { cluster, live, nodes, me: config.id, lease, times, clock, teller: Mutex::default() })
    }

    fn judge(&self, now: Clocks) -> Verdict {
        let facts = self.cluster.facts();
        let words: Vec<Word> = self.cluster.said().into_iter().map(|s| (s.place, s.applied, s.at)).collect();
        let waits = self.cluster.waits();
        let sight = Sight {
            now: now.mono,
            me: self.me,
            nodes: &self.nodes,
            lease: self.lease,
            facts: &facts,
            words: &words,
            active: self.live.picture().active(now.mono),
            waits: waits.as_deref(),
        };
        sight.verdict()
    }

    /// What is to be said of the round trips that were measured and the times that are configured.
    #[must_use]
    pub fn misfit(&self, facts: &Facts) -> Option<String> {
        let slowest = facts.peers.iter().filter_map(|p| Some((p.place, p.round_trip?.1)));
        misfit(&self.times, &slowest.collect::<Vec<_>>())
    }

    /// The verdict of this moment.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let now = (self.clock)();
        let verdict = self.judge(now);
        self.teller.lock().unwrap_or_else(PoisonError::into_inner).standing(now, verdict)
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(self: &Arc<Self>) -> io::Result<Running> {
        let (stop, stopped) = sync_channel(1);
        let this = Arc::clone(self);
        std::thread::Builder::new().name(String::from("relevo-overseer")).spawn(move || {
            // Others are not heard at once.
            if stopped.recv_timeout(FIRST_LOOK) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let mut fits = true;
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let now = (this.clock)();
                let verdict = this.judge(now);
                let misfit = this.misfit(&this.cluster.facts());
                if let Some(misfit) = misfit.as_ref().filter(|_| fits) {
                    tracing::warn!("{misfit}");
                }
                fits = misfit.is_none();
                match this.teller.lock().unwrap_or_else(PoisonError::into_inner).look(now, verdict) {
                    Some(Line::Error(text)) => tracing::error!("{text}"),
                    Some(Line::Warn(text)) => tracing::warn!("{text}"),
                    Some(Line::Info(text)) => tracing::info!("{text}"),
                    None => {}
                }
            }
        })?;
        Ok(Running { _stop: stop })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Clocks {
        Clocks { mono: MonoTime(s * 1_000_000_000), real: RealTime(1_800_000_000_000 + s * 1000) }
    }

    fn verdict(level: Level, server: Option<Place>) -> Verdict {
        Verdict { level, server, reasons: Vec::new(), borne: 1 }
    }

    #[test]
    fn what_changes_is_said_once_with_how_long_it_was_otherwise() {
        let mut teller = Teller::default();
        let fine = verdict(Level::Fine, Some(1));
        assert!(matches!(teller.look(at(1), fine.clone()), Some(Line::Info(_))));
        assert_eq!(teller.look(at(2), fine.clone()), None);
        let none = verdict(Level::NoService, None);
        assert!(
            matches!(teller.look(at(10), none.clone()), Some(Line::Error(text)) if text.starts_with("NO SERVICE: "))
        );
        assert_eq!(teller.look(at(20), none), None);
        let standing = teller.standing(at(21), verdict(Level::NoService, None));
        assert_eq!((standing.lasts, standing.since), (Duration::from_secs(11), at(10).real));
        let Some(Line::Warn(text)) = teller.look(at(24), verdict(Level::Fine, Some(2))) else { panic!() };
        assert!(text.contains("(node 1 served before)") && text.contains("NO SERVICE for 14 s"), "{text}");
    }

    #[test]
    fn what_stays_bad_is_said_again_every_ten_minutes_and_what_is_fine_is_not() {
        let mut teller = Teller::default();
        teller.look(at(1), verdict(Level::Degraded, Some(1)));
        let lines: Vec<_> =
            (2..1300).filter_map(|s| teller.look(at(s), verdict(Level::Degraded, Some(1)))).collect();
        assert_eq!(lines.len(), 2);
        assert!(matches!(&lines[1], Line::Warn(text) if text.ends_with("(for 1200 s now)")), "{lines:?}");
        teller.look(at(1300), verdict(Level::Fine, Some(1)));
        assert!((1301..4000).all(|s| teller.look(at(s), verdict(Level::Fine, Some(1))).is_none()));
    }

    #[test]
    fn a_move_that_nobody_saw_as_a_loss_is_said() {
        let mut teller = Teller::default();
        teller.look(at(1), verdict(Level::Fine, Some(1)));
        let Some(Line::Warn(text)) = teller.look(at(2), verdict(Level::Fine, Some(2))) else { panic!() };
        assert!(text.contains("(node 1 served before)"));
    }
}
