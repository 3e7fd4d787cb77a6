//! Kamailio's LOCATION and SIPOUT: where a request that starts something goes, and where one within a dialog goes.
//!
//! | Request-URI of a new request | answer or target |
//! |---|---|
//! | a domain of others | 403: no open relay. Routes of others are ignored, as in Kamailio |
//! | ours, without user | 484 |
//! | ours, no binding | 404: with no list of subscribers there is no other sign of a user |
//! | ours, bindings, but none that is current and can be reached | 480 |
//! | ours | all contacts at once, up to [`MAX_FORKS`] |

use std::net::SocketAddr;

use super::Incoming;
use super::withindlg::Approach;
use crate::engine::limits::MAX_FORKS;
use crate::engine::{Cx, Engine};
use crate::location::{Hop, hop_of_uri, lookup};
use crate::msg::{Method, Uri};
use crate::state::{Branch, BranchState, Flow};

/// A response in place of a target.
pub(super) struct NoTarget(pub(super) u16, pub(super) &'static str);

impl Engine {
    /// A request without a dialog.
    pub(super) fn route_initial(&mut self, cx: Cx<'_>, incoming: &Incoming<'_, '_>, approach: &Approach<'_>) {
        match self.targets_of_user(cx, incoming, approach.uri) {
            Ok(targets) => self.relay(cx, incoming, targets, false),
            Err(NoTarget(status, reason)) => self.reject(incoming, status, reason),
        }
    }

    /// A request within a dialog that goes through us: it may go anywhere.
    pub(super) fn route_in_dialog(
        &mut self,
        cx: Cx<'_>,
        incoming: &Incoming<'_, '_>,
        approach: &Approach<'_>,
    ) {
        match self.targets_in_dialog(cx, incoming, approach) {
            Ok(targets) => self.relay(cx, incoming, targets, true),
            Err(NoTarget(status, reason)) => self.reject(incoming, status, reason),
        }
    }

    fn targets_of_user(
        &self,
        cx: Cx<'_>,
        incoming: &Incoming<'_, '_>,
        uri: &str,
    ) -> Result<Vec<Branch>, NoTarget> {
        let local = incoming.flow.local;
        let uri = Uri::parse(uri).map_err(|_| NoTarget(400, "Malformed Request-URI"))?;
        if !self.settings.is_local(&uri, local) {
            return Err(NoTarget(403, "Not relaying"));
        }
        if uri.user.is_none() {
            return Err(NoTarget(484, ""));
        }
        let aor = self.settings.aor(&uri, local).ok_or(NoTarget(404, ""))?;
        if cx.state.bindings(&aor).is_empty() {
            return Err(NoTarget(404, ""));
        }
        let targets: Vec<Branch> = lookup(cx.state, &aor, cx.now.wall, &self.settings.config.listen)
            .into_iter()
            .filter_map(|target| match target.hop {
                Hop::Send(flow) => Some(self.branch(incoming, target.uri, target.route, flow)),
                Hop::Name { .. } | Hop::None => None,
            })
            .take(MAX_FORKS)
            .collect();
        if targets.is_empty() { Err(NoTarget(480, "")) } else { Ok(targets) }
    }

    /// Where a request within a dialog goes: the next Route, or the Request-URI (§16.5, §16.6 step 7).
    pub(super) fn targets_in_dialog(
        &self,
        cx: Cx<'_>,
        incoming: &Incoming<'_, '_>,
        approach: &Approach<'_>,
    ) -> Result<Vec<Branch>, NoTarget> {
        let listen = &self.settings.config.listen;
        let hop_uri = approach.next.unwrap_or(approach.uri);
        let parsed = Uri::parse(hop_uri).map_err(|_| NoTarget(400, "Malformed Route"))?;
        let is_own = self.settings.is_own_hop(&parsed, incoming.flow.local)
            || (approach.next.is_none() && self.settings.is_local(&parsed, incoming.flow.local));
        let any = self.settings.config.any_domain && parsed.host.ip().is_some();
        if approach.next.is_none() && is_own && !any {
            // A contact that is an address of record of ours: where its user is now.
            return self.targets_of_user(cx, incoming, approach.uri);
        }
        let target = if approach.next_is_strict { hop_uri } else { approach.uri };
        let flow = match hop_of_uri(&parsed, listen) {
            Hop::Send(flow) => leaving_by(flow, approach.way_out, listen),
            // A name that cannot be resolved here: the way the dialog was made still leads there.
            Hop::Name { .. } | Hop::None => crate::dialog::of(cx.state, incoming.message)
                .map(
                    |(dialog, from_caller)| if from_caller { dialog.callee_flow } else { dialog.caller_flow },
                )
                .ok_or(NoTarget(478, "Unresolvable destination"))?,
        };
        Ok(vec![self.branch(incoming, target.to_owned(), Vec::new(), flow)])
    }

    /// The record of one copy, with the branch that every node derives for it.
    fn branch(&self, incoming: &Incoming<'_, '_>, target: String, route: Vec<String>, flow: Flow) -> Branch {
        let class = match incoming.method {
            Method::Cancel => "INVITE",
            method => method.as_str(),
        };
        let remote = flow.remote.to_string();
        let parts =
            [target.as_bytes(), remote.as_bytes()].into_iter().chain(route.iter().map(|r| r.as_bytes()));
        let digest = self.settings.keys.loop_digest(incoming.message);
        let via_branch = self.settings.keys.via_branch(&incoming.key, class, parts, digest);
        Branch { target, route, flow, via_branch, state: BranchState::Trying, next: Vec::new() }
    }
}

/// The flow from the address that our last Route value named, if it is ours and of the right family: with several
/// addresses it is the one by which that side of the dialog knows us.
fn leaving_by(flow: Flow, way_out: Option<SocketAddr>, listen: &[SocketAddr]) -> Flow {
    match way_out {
        Some(local) if local.is_ipv4() == flow.remote.is_ipv4() && listen.contains(&local) => {
            Flow { local, ..flow }
        }
        _ => flow,
    }
}
