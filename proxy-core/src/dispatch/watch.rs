//! What calls say about destinations, and what becomes of calls whose destination dies.
//!
//! A call that has been sent to a backend and not answered is in the air. When that backend is found dead, by a probe
//! or by other calls, the branch ends as if nobody had answered, and the plan of the call goes on with the next one.

use super::probe::destination;
use crate::engine::{Cx, Engine};
use crate::state::dispatcher::flag;
use crate::state::{Backend, Branch, BranchState};

impl Engine {
    /// Looks for calls in the air at destinations that are not alive any more. Costs nothing unless a state has changed.
    pub(crate) fn watch_destinations(&mut self, cx: Cx<'_>) {
        let revision = cx.state.dispatcher().revision;
        if std::mem::replace(&mut self.dispatch.watched, revision) == revision {
            return;
        }
        let dead: Vec<(u32, String)> = cx
            .state
            .dispatcher()
            .sets
            .iter()
            .flat_map(|(set, list)| list.iter().map(move |d| (*set, d)))
            .filter(|(_, d)| d.flags & flag::INACTIVE != 0)
            .map(|(set, d)| (set, d.uri.clone()))
            .collect();
        if !dead.is_empty() {
            let too_late = !self.settings.config.failover.ringing;
            self.abandon_branches(cx, |branch| match &branch.backing.backend {
                Some(_) if too_late && matches!(branch.state, BranchState::Proceeding { .. }) => false,
                Some(Backend::Destination { set, uri }) => dead.iter().any(|(s, u)| s == set && u == uri),
                _ => false,
            });
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

    /// A branch has ended without an answer of its own (`status` was made here), or with this failure.
    pub(crate) fn on_backend_failure(&mut self, cx: Cx<'_>, branch: &Branch, status: u16, made: bool) {
        let Some(Backend::Destination { set, uri }) = &branch.backing.backend else { return };
        let config = &self.settings.config.dispatch;
        let counts = made && status == 408 || status == 503;
        if !config.passive || !counts || config.probe_interval.is_zero() {
            return;
        }
        // One that is never probed would never come back.
        let refuses_probes = destination(cx.state, *set, uri).is_none_or(|d| d.flags & flag::NO_PING != 0);
        if !refuses_probes {
            self.observe(cx, *set, uri, false);
        }
    }
}
