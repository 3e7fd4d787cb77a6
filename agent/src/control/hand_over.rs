//! Planned hand-overs: what the chosen node must have proved before the service goes to it, and how the old holder comes
//! to have it again if the chosen node does not take over.
//!
//! | when | what must be true of the chosen node | and if it does not come true |
//! |---|---|---|
//! | before the grant, the service is up | it has answered what was sent after the command, and lacks at most [`IN_FLIGHT`] entries | refused after [`PROVE_LIMIT`], nothing has changed |
//! | after the grant, before leadership is transferred | it has the entry of the grant on its disk | granted back after a lease, in the same term |
//! | after the transfer | it leads | leadership is taken back after [`TAKE_BACK_LEASES`], or at once if it says that it cannot lead |
//!
//! To a lease and to [`TAKE_BACK_LEASES`] four of this node's usual syncs are added: on slow disks all of it takes longer.
//!
//! Asked on a node that does not lead, the first row goes by what the nodes have said of themselves a moment ago
//! ([`unproved_by_word`]); the others hold as above, at the node that has the service.
//!
//! An entry of this term that a node has acknowledged proves that it has everything before it, too. What was known of it
//! under an earlier leader, or before it lost a part of its log, proves nothing.

use std::time::Duration;

use proxy_core::time::MonoTime;

use super::{COMMIT_SYNCS, Control, Facts, HandOver, NotReady, Place};

/// Entries that may be on their way to a node that is to take over: it has them before its first vote is counted.
pub const IN_FLIGHT: u64 = 64;
/// Time in which the chosen node of a planned hand-over must prove itself. The service stays where it is meanwhile.
pub const PROVE_LIMIT: Duration = Duration::from_secs(1);
/// Leadership that was not taken within this many leases is taken back.
pub const TAKE_BACK_LEASES: u32 = 2;

/// A node that was asked is heard at least this often: once in a second, and a round may be late.
pub const WORD_AGE: Duration = Duration::from_secs(3);

/// What a node says that it has applied, and when it was asked.
pub type Word = (Place, u64, MonoTime);

/// What keeps `to` from taking over by what all nodes have said; for a node that does not lead, and has acknowledgements
/// of nobody. `None`: it has answered a moment ago, and lacks at most 64 entries of what anybody has applied.
#[must_use]
pub fn unproved_by_word(now: MonoTime, to: Place, words: &[Word]) -> Option<NotReady> {
    let newest = words.iter().map(|(_, applied, _)| *applied).max().unwrap_or(0);
    let word = words.iter().find(|(place, _, at)| *place == to && now.since(*at) <= WORD_AGE);
    match word.map(|(_, applied, _)| newest - applied) {
        None => Some(NotReady::OutOfReach),
        Some(lag) if lag > IN_FLIGHT => Some(NotReady::Behind(lag)),
        Some(_) => None,
    }
}

impl Control {
    /// What a node that was chosen at `since` has not proved yet; `None` if it has proved everything.
    pub(super) fn unproved(&self, since: MonoTime, place: Place, facts: &Facts) -> Option<NotReady> {
        let peer = facts.voter(place);
        if peer.and_then(|p| p.last_ack).is_none_or(|at| at < since) {
            return Some(NotReady::OutOfReach);
        }
        if facts.paths.iter().any(|(p, path)| *p == place && path.is_blocked()) {
            return Some(NotReady::PathBlocked);
        }
        match peer.and_then(|p| p.lag) {
            Some(lag) if lag <= IN_FLIGHT => None,
            Some(lag) => Some(NotReady::Behind(lag)),
            None => Some(NotReady::OutOfReach),
        }
    }

    /// Why a planned hand-over that nothing was granted for yet is given up.
    pub(super) fn not_begun(&self, now: MonoTime, hand_over: HandOver, facts: &Facts) -> Option<NotReady> {
        let granted = facts.grant.map(|g| g.token) != hand_over.token
            || self.led.is_some_and(|led| led.proposed.is_some());
        if granted || now.since(hand_over.since) < PROVE_LIMIT {
            return None;
        }
        self.unproved(hand_over.since, hand_over.to, facts)
    }

    /// Whether `place` could lead at once: it answers now, and has everything up to entry `needed` and hardly less than
    /// this node.
    pub(super) fn can_follow(&self, now: MonoTime, place: Place, needed: u64, facts: &Facts) -> bool {
        let Some(peer) = facts.voter(place) else { return false };
        let answers = peer.last_ack.is_some_and(|at| now.since(at) < self.settings.lease);
        let has =
            peer.lag.is_some_and(|lag| lag <= IN_FLIGHT && facts.last_log.saturating_sub(lag) >= needed);
        answers && has && !peer.silent
    }

    /// Time that is added for disks that are slow: those of an election, and of what is committed first.
    pub(super) fn for_disks(facts: &Facts) -> Duration {
        facts.syncs.typical * COMMIT_SYNCS
    }

    /// From whom leadership is to be taken back: it was chosen, does not lead, and either says that it cannot or has had
    /// its time.
    pub(super) fn overdue(&self, now: MonoTime, facts: &Facts) -> Option<Place> {
        let led = self.led.filter(|led| !led.took_back)?;
        let (to, at) = led.transferred_to?;
        let late = now.since(at) >= self.settings.lease * TAKE_BACK_LEASES + Self::for_disks(facts);
        (late || facts.transfer_refused.is_some()).then_some(to)
    }
}
