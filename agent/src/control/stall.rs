//! Who owns the service must be able to commit. The lease proves that the others are alive, and heartbeats wait for no disk:
//! so a leader also watches its oldest proposal.
//!
//! | a leader that a majority answers, and whose oldest proposal has waited for longer than [`Control::commit_bound`] | does |
//! |---|---|
//! | a majority's disks go on by their own word, and another appliance is among them that is heard and could be elected | abdicates |
//! | otherwise | stays: nobody could do better |
//! | it has abdicated in vain, a short while ago | stays, for a pause that doubles |
//!
//! *Abdicates*: the service goes down in its order, within the lease; then the leader falls silent for
//! [`Control::silence`], and the others elect. Where they do not, it leads and serves on. A planned hand-over would be a
//! proposal, too. Whoever is elected grants to itself, or to a node that is heard and would lead; one that is silent is
//! heard, and would not.

use std::time::Duration;

use proxy_core::time::MonoTime;

use super::{Ask, Control, Facts, Peer, REACH_LEASES, Resources};

/// No proposal that has waited for less than this is late.
pub const COMMIT_FLOOR: Duration = Duration::from_secs(2);
/// A proposal is late when it has waited for this many times the slowest sync, or acknowledgement, of the fastest majority.
pub const COMMIT_SYNCS: u32 = 4;
/// Shortest silence of a leader that has abdicated.
pub const SILENCE_FLOOR: Duration = Duration::from_secs(2);
/// Leases that it lasts at least: one ends, and then there may be several election timeouts.
pub const SILENCE_LEASES: u32 = 12;
/// Syncs that it lasts at least: those of an election.
pub const SILENCE_SYNCS: u32 = 4;
/// Pause after an abdication that came to nothing.
pub const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest such pause.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How far an abdication is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// The service goes down.
    Stopping,
    /// It has been asked for.
    Asked,
}

/// What the leader has seen of its proposals.
#[derive(Debug, Clone, Default)]
pub(super) struct Stall {
    oldest: Option<u64>,
    /// For how long it has been the oldest. Time in which this thread did not run does not count, nor does time in which no
    /// majority was heard: then the proposals wait for the path back, and go on with it.
    waited: Duration,
    looked: MonoTime,
    leaving: Option<Leaving>,
    not_before: MonoTime,
    pause: Duration,
}

impl Control {
    /// A proposal that has waited for longer is late.
    #[must_use]
    pub fn commit_bound(facts: &Facts) -> Duration {
        facts.commit_takes.map_or(COMMIT_FLOOR, |takes| COMMIT_FLOOR.max(takes * COMMIT_SYNCS))
    }

    /// How long a leader that abdicates is silent.
    fn silence(&self, facts: &Facts) -> Duration {
        let syncs = facts.commit_takes.unwrap_or_default() * SILENCE_SYNCS;
        SILENCE_FLOOR.max(self.settings.lease * SILENCE_LEASES).max(syncs)
    }

    /// Looks at the oldest proposal, and decides whether to abdicate.
    pub(super) fn watch_commits(&mut self, now: MonoTime, facts: &Facts) {
        let passed = now.since(self.stall.looked).min(self.settings.lease);
        self.stall.looked = now;
        if self.stall.leaving == Some(Leaving::Asked) && facts.mute_until.is_none() {
            // Over, whatever came of it.
            self.stall.leaving = None;
            self.stall.waited = Duration::ZERO;
            self.stall.not_before = now + self.stall.pause;
        }
        if !facts.leading {
            self.stall.oldest = None;
            self.stall.waited = Duration::ZERO;
            self.stall.leaving.take_if(|leaving| *leaving == Leaving::Stopping);
            return;
        }
        if facts.oldest != self.stall.oldest {
            if self.stall.oldest.is_some() {
                // Something was committed and applied.
                self.stall.pause = Duration::ZERO;
                self.stall.not_before = now;
                self.stall.leaving.take_if(|leaving| *leaving == Leaving::Stopping);
            }
            self.stall.oldest = facts.oldest;
            self.stall.waited = Duration::ZERO;
            return;
        }
        let is_heard = facts.quorum_ack_at.is_some_and(|at| now.since(at) <= self.settings.lease);
        if facts.oldest.is_some() && is_heard {
            self.stall.waited += passed;
        }
        let is_late = self.stall.waited > Self::commit_bound(facts);
        // In a pause nobody else would take the service.
        if is_late
            && facts.pause.is_none()
            && self.stall.leaving.is_none()
            && now >= self.stall.not_before
            && self.has_better(now, facts)
        {
            self.stall.leaving = Some(Leaving::Stopping);
            self.stall.pause = (self.stall.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        }
    }

    /// Whether another node could commit what this one cannot, and would be elected: by the others alone, or with the vote
    /// of this node, which goes to nobody whose log is shorter.
    fn has_better(&self, now: MonoTime, facts: &Facts) -> bool {
        let reach = self.settings.lease * REACH_LEASES;
        let is_heard = |peer: &&Peer| !peer.silent && peer.last_ack.is_some_and(|at| now.since(at) <= reach);
        // Who is being taken in again has two ids: the one that answers cannot be elected.
        let voters = || facts.peers.iter().filter(|peer| !peer.learns);
        let heard = || voters().filter(is_heard);
        let without_this = 2 * heard().count() > voters().count() + 1;
        let may_win = |peer: &Peer| without_this || peer.lag == Some(0);
        facts.others_could
            && heard().any(|p| p.writes && may_win(p) && self.settings.appliances.contains(&p.place))
    }

    /// Whether this node has decided to abdicate, or has.
    pub(super) fn is_leaving(&self, facts: &Facts) -> bool {
        self.stall.leaving.is_some() || facts.mute_until.is_some()
    }

    /// What a leader that abdicates asks for: nothing but that, and only when all is down.
    pub(super) fn leave(&mut self, facts: &Facts, resources: Resources, ask: &mut Vec<Ask>) {
        if self.stall.leaving == Some(Leaving::Stopping) && resources == Resources::Stopped {
            self.stall.leaving = Some(Leaving::Asked);
            ask.push(Ask::Abdicate { lasts: self.silence(facts) });
        }
    }

    /// For how long the oldest proposal of this leader has been the oldest, if it is late, and this node does not abdicate
    /// for it now although it is not in a pause after having done so.
    #[must_use]
    pub fn late(&self, now: MonoTime, facts: &Facts) -> Option<Duration> {
        let waited = self.stall.waited;
        (waited > Self::commit_bound(facts) && now >= self.stall.not_before).then_some(waited)
    }
}
