//! What calls say about destinations, and what becomes of calls whose destination dies.
//!
//! A call that has been sent to a backend and not answered is in the air. When that backend is found dead by a probe, the
//! branch ends as if nobody had answered, and the plan of the call goes on with the next one. Other calls that fail there
//! have it probed at once.

use super::probe::destination;
use super::voices::Whose;
use crate::engine::{Cx, Engine};
use crate::state::dispatcher::{Destination, flag};
use crate::state::{Backend, Branch, BranchState};

/// What is lost of the calls at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// Those that have said nothing yet: whether it is there will be known when it is probed.
    Waiting,
    /// Those that ring, too.
    All,
}

impl Engine {
    /// Looks for calls in the air at destinations that are not alive any more. Costs nothing unless a state has changed.
    pub(crate) fn watch_destinations(&mut self, cx: Cx<'_>) {
        let seen = (cx.state.dispatcher().revision, self.together.voices.revision());
        if std::mem::replace(&mut self.dispatch.watched, seen) == seen {
            return;
        }
        let sets = cx.state.dispatcher().sets.iter();
        let lost: Vec<(u32, String, Lost)> = sets
            .flat_map(|(set, list)| list.iter().map(move |d| (*set, d)))
            .filter_map(|(set, d)| Some((set, d.uri.clone(), self.what_is_lost(set, d)?)))
            .collect();
        if !lost.is_empty() {
            let too_late = !self.settings.config.failover.ringing;
            self.abandon_branches(cx, |branch| {
                let Some(Backend::Destination { set, uri }) = &branch.backing.backend else { return false };
                let rings = matches!(branch.state, BranchState::Proceeding { .. });
                let lost = lost.iter().find(|(s, u, _)| s == set && u == uri);
                lost.is_some_and(|(_, _, lost)| !rings || (!too_late && *lost == Lost::All))
            });
        }
    }

    /// What is lost of the calls at a destination; `None`: nothing. One that answers its probes is there, even if it says
    /// that it takes no more (RFC 3261 §21.5.4 speaks of new requests): it gets none, and keeps what it has.
    fn what_is_lost(&self, set: u32, d: &Destination) -> Option<Lost> {
        let config = &self.settings.config.dispatch;
        if d.flags & flag::INACTIVE == 0 {
            return None;
        }
        if config.probe_interval.is_zero() || !d.is_probed(config.probe_all) {
            return Some(Lost::All);
        }
        match self.together.voices.of(&Whose::Destination(set, d.uri.clone())) {
            Some(true) => None,
            Some(false) => Some(Lost::All),
            None => Some(Lost::Waiting),
        }
    }

    /// A call waits for this branch, and there is reason to ask whether its backend is alive: now, not at the next turn
    /// of the probes. Each engine asks a destination at most once in the time that a probe has.
    pub(crate) fn doubt(&mut self, cx: Cx<'_>, branch: &Branch) {
        if let Some(Backend::Trunk { uuid }) = &branch.backing.backend {
            self.doubt_trunk(cx, uuid);
            return;
        }
        let Some(Backend::Destination { set, uri }) = &branch.backing.backend else { return };
        let config = &self.settings.config.dispatch;
        let is_probed = !config.probe_interval.is_zero()
            && destination(cx.state, *set, uri)
                .is_some_and(|d| d.is_eligible() && d.flags & flag::NO_PING == 0);
        let key = (*set, uri.clone());
        if is_probed && self.dispatch.may_doubt(&key, cx.now.mono, config.probe_timeout) {
            self.probe(cx, key);
        }
    }

    /// A branch has ended without an answer of its own (`status` was made here), or with this failure. That is a reason to
    /// ask, and no more: a 503 may be about one caller, one number or one trunk behind the backend (RFC 3261 §21.5.4), and
    /// a caller must not be able to take a backend away from all others. One that is never probed cannot be asked.
    pub(crate) fn on_backend_failure(&mut self, cx: Cx<'_>, branch: &Branch, status: u16, made: bool) {
        let counts = made && status == 408 || status == 503;
        let is_destination = matches!(branch.backing.backend, Some(Backend::Destination { .. }));
        if self.settings.config.dispatch.passive && counts && is_destination {
            self.doubt(cx, branch);
        }
    }
}
