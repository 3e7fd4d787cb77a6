//! From URIs to branches: where a copy goes, by which flow, under which branch parameter.

use std::borrow::Cow;
use std::net::SocketAddr;

use super::passage::Passage;
use super::withindlg::Approach;
use crate::engine::limits::{MAX_FORKS, MAX_NEXT_FLOWS, MAX_OTHER_FLOWS};
use crate::engine::{Cx, Engine};
use crate::location::{Target, hop_of_uri, lookup_some};
use crate::msg::{Message, Method, Uri};
use crate::nat::alias;
use crate::proxy::build;
use crate::registrar::{gruu, method_names, takes};
use crate::state::{Asserted, Backing, Binding, Branch, BranchState, Dress, Flow, Place, Transport};
use crate::trunk::{ASSERTED, wants_id_kept};

/// A response in place of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoTarget(pub(super) u16, pub(super) &'static str);

impl Engine {
    /// Where a user of ours is now.
    pub(super) fn places_of_user(
        &self,
        cx: Cx<'_>,
        local: SocketAddr,
        uri: &Uri<'_>,
        method: Method<'_>,
    ) -> Result<Vec<Target>, NoTarget> {
        if uri.user.is_none() {
            return Err(NoTarget(484, ""));
        }
        let (aor, instance) = self.named_user(cx, local, uri).ok_or(NoTarget(404, ""))?;
        if cx.state.bindings(&aor).is_empty() {
            return Err(NoTarget(404, ""));
        }
        let config = &self.settings.config;
        let is_named = |b: &Binding| {
            let known = b.instance.as_deref();
            instance.as_deref().is_none_or(|named| known.is_some_and(|i| gruu::is_instance(i, named)))
        };
        let filtered = config.registrar.method_filter;
        let is_wanted = |b: &Binding| is_named(b) && (!filtered || takes(b.methods, method));
        let targets = lookup_some(cx.state, &aor, cx.now.wall, &config.listen, is_wanted);
        if !targets.is_empty() {
            return Ok(targets);
        }
        let others = lookup_some(cx.state, &aor, cx.now.wall, &config.listen, is_named);
        // Kamailio's answer where there are contacts, and none of them takes the method.
        Err(if others.is_empty() { NoTarget(480, "") } else { NoTarget(405, "") })
    }

    /// The methods that the contacts of a user take between them, for the Allow of a 405 (RFC 3261 §8.2.1).
    pub(super) fn methods_of_user(&self, cx: Cx<'_>, passage: &Passage<'_, '_>) -> String {
        let named = Uri::parse(&passage.found.uri).ok();
        let named = named.and_then(|uri| self.named_user(cx, passage.flow.local, &uri));
        let bits = named.map_or(0, |(aor, _)| {
            cx.state.bindings(&aor).iter().filter_map(|b| b.methods).fold(0, |all, bits| all | bits)
        });
        method_names(bits).join(", ")
    }

    /// The user that a URI of ours names, and the instance if it is a GRUU (RFC 5627 §5.4).
    pub(super) fn named_user(
        &self,
        cx: Cx<'_>,
        local: SocketAddr,
        uri: &Uri<'_>,
    ) -> Option<(String, Option<String>)> {
        let aor = self.settings.config.aor(uri, Some(local))?;
        let named =
            if self.settings.config.registrar.gruu { gruu::named(self.settings.keys, uri) } else { None };
        match named {
            None => Some((aor, None)),
            Some(gruu::Named::Instance(instance)) => Some((aor, Some(instance))),
            Some(gruu::Named::Registration(name)) => {
                let (aor, binding) = cx.state.registration(name)?;
                Some((aor.to_owned(), binding.instance.as_deref().map(|i| gruu::bare(i).to_owned())))
            }
            Some(gruu::Named::Nobody) => None,
        }
    }

    /// Copies for the places of a user, in their order.
    pub(super) fn branches_to(
        &self,
        passage: &Passage<'_, '_>,
        places: Vec<Target>,
        round: u16,
    ) -> Vec<Branch> {
        let seed = self.settings.keys.server_seed(&passage.key);
        let reachable = places.into_iter().filter_map(|mut place| {
            let others = std::mem::take(&mut place.others);
            let mut ways = std::iter::once(place).chain(others).filter_map(|place| {
                let mut flows = self.flows_to(&place.hop, seed);
                flows.extend(place.next);
                (!flows.is_empty()).then_some((place, flows))
            });
            let (place, flows) = ways.next()?;
            let mut branch = self.branch_by(passage, place.uri, place.route, flows, round, place.fixed)?;
            let others = ways.filter_map(|(place, flows)| {
                let target = in_request_line(place.uri);
                flows.first().map(|flow| Place { target, route: place.route, flow: *flow })
            });
            branch.others = others.take(MAX_OTHER_FLOWS).collect();
            branch.backing.called.clone_from(&passage.found.called);
            Some(branch)
        });
        reachable.take(MAX_FORKS).collect()
    }

    /// Where a request within a dialog goes: the next Route, or the Request-URI (§16.5, §16.6 step 7).
    pub(super) fn targets_in_dialog(
        &self,
        cx: Cx<'_>,
        passage: &Passage<'_, '_>,
        approach: &Approach<'_>,
    ) -> Result<Vec<Branch>, NoTarget> {
        let listen = &self.settings.config.listen;
        let local = passage.flow.local;
        let asked = Uri::parse(approach.uri).ok();
        let bare = asked.and_then(|uri| self.settings.without_own_maddr(&uri, local));
        let asked = bare.as_deref().unwrap_or(approach.uri);
        let hop_uri = approach.next.unwrap_or(asked);
        let parsed = Uri::parse(hop_uri).map_err(|_| NoTarget(400, "Malformed Route"))?;
        let is_own = self.settings.leads_here(&parsed, local)
            && (self.settings.is_own_hop(&parsed, local)
                || (approach.next.is_none() && self.settings.is_local(&parsed, local)));
        let any = self.settings.is_any() && parsed.host.ip().is_some();
        if approach.next.is_none() && is_own && !any {
            // A contact that is an address of record of ours: where its user is now.
            let places = self.places_of_user(cx, local, &parsed, passage.method)?;
            let branches = self.branches_to(passage, places, 0);
            return if branches.is_empty() { Err(NoTarget(480, "")) } else { Ok(branches) };
        }
        let target = if approach.next_is_strict { hop_uri } else { asked };
        // An alias is for the last proxy before the client, which does not know it.
        let target = match Uri::parse(target) {
            Ok(uri) if approach.next.is_none() => alias::removed(&uri).unwrap_or_else(|| target.to_owned()),
            _ => target.to_owned(),
        };
        let hop = hop_of_uri(&parsed, listen);
        let seed = self.settings.keys.server_seed(&passage.key);
        let mut flows = self.flows_to(&hop, seed);
        if flows.first().is_some_and(|flow| flow.transport.is_reliable())
            && let Ok(uri) = Uri::parse(&target)
            && target != approach.uri
        {
            // The alias is a connection, which may be gone; the client may listen where its Contact says.
            flows.extend(self.flows_to(&hop_of_uri(&uri, listen), seed));
        }
        for flow in &mut flows {
            *flow = leaving_by(*flow, approach.way_out.map(|(local, _)| local), listen);
        }
        let by_stream = approach.way_out.is_some_and(|(_, transport)| transport.is_reliable())
            || flows.first().is_some_and(|flow| flow.transport.is_reliable());
        if approach.next.is_none() && by_stream {
            self.put_connections_first(cx, passage, approach, &mut flows);
        }
        flows.retain(|flow| !self.leads_beside(cx, passage.flow, passage.message, *flow));
        if flows.is_empty() {
            // Nothing that can be reached: the way the dialog was made still leads there.
            let known = crate::dialog::of(cx.state, passage.message).map(|(dialog, from_caller)| {
                if from_caller { dialog.callee_flow } else { dialog.caller_flow }
            });
            flows.extend(known);
        }
        self.branch_by(passage, target, Vec::new(), flows, 0, false)
            .map(|branch| vec![branch])
            .ok_or(NoTarget(478, "Unresolvable destination"))
    }

    /// A client on a stream is reached by its connection, whatever its Contact says: that of the dialog, or that of its
    /// registration if it is younger (it has come back by another, RFC 5626). The Contact comes after, as it may lead to
    /// a listener when the connection is gone.
    fn put_connections_first(
        &self,
        cx: Cx<'_>,
        passage: &Passage<'_, '_>,
        approach: &Approach<'_>,
        flows: &mut Vec<Flow>,
    ) {
        let Some((dialog, from_caller)) = crate::dialog::of(cx.state, passage.message) else { return };
        let (of_dialog, user) = match from_caller {
            true => (dialog.callee_flow, &dialog.to_uri),
            false => (dialog.caller_flow, &dialog.from_uri),
        };
        // As its phone wrote it.
        let contact = Uri::parse(approach.uri).ok().and_then(|uri| alias::removed(&uri));
        let contact = contact.as_deref().unwrap_or(approach.uri);
        let registered = Uri::parse(user)
            .ok()
            .and_then(|uri| self.settings.config.aor(&uri, Some(passage.flow.local)))
            .and_then(|aor| cx.state.bindings(&aor).iter().find(|b| b.contact == contact));
        let is_younger = registered.is_some_and(|b| b.updated_at > dialog.started_at);
        let of_binding = registered.map(|binding| binding.flow);
        let (last, first) =
            if is_younger { (Some(of_dialog), of_binding) } else { (of_binding, Some(of_dialog)) };
        // The last to be put first is the first to be tried.
        for known in [last, first].into_iter().flatten() {
            if known.transport.is_reliable() {
                flows.retain(|flow| *flow != known);
                flows.insert(0, known);
            }
        }
    }

    /// The copy that goes to a URI itself: to the host it names. `round` as in [`Engine::branch`].
    pub(super) fn branch_to_uri(
        &self,
        passage: &Passage<'_, '_>,
        uri: &str,
        round: u16,
    ) -> Result<Branch, NoTarget> {
        let parsed = Uri::parse(uri).map_err(|_| NoTarget(400, "Malformed Request-URI"))?;
        let hop = hop_of_uri(&parsed, &self.settings.config.listen);
        let flows = self.flows_to(&hop, self.settings.keys.server_seed(&passage.key));
        self.branch_by(passage, uri.to_owned(), Vec::new(), flows, round, false)
            .ok_or(NoTarget(478, "Unresolvable destination"))
    }

    /// The copy that goes by the first of some flows and has the others to fall back on. One that is too large for UDP
    /// has TCP before it (RFC 3261 §18.1.1), unless only the flow itself leads there (`fixed`).
    fn branch_by(
        &self,
        passage: &Passage<'_, '_>,
        target: String,
        route: Vec<String>,
        mut flows: Vec<Flow>,
        round: u16,
        fixed: bool,
    ) -> Option<Branch> {
        let first = *flows.first()?;
        let mut branch = self.branch(passage, target, route, first, round);
        if !fixed && self.is_too_large(passage, &branch) {
            flows = flows
                .into_iter()
                .flat_map(|flow| match flow.transport {
                    Transport::Udp if self.may_switch_to_tcp(flow.remote) => {
                        [Some(Self::by_tcp(flow)), Some(flow)]
                    }
                    _ => [Some(flow), None],
                })
                .flatten()
                .collect();
            let first = *flows.first()?;
            branch = self.branch(passage, branch.target, branch.route, first, round);
        }
        flows.truncate(1 + MAX_NEXT_FLOWS);
        branch.next = flows.split_off(1);
        Some(branch)
    }

    /// Whether the copy goes by UDP and is larger than may be sent so.
    fn is_too_large(&self, passage: &Passage<'_, '_>, branch: &Branch) -> bool {
        let most = self.settings.config.transport.udp_max_bytes;
        // Via and Record-Route make it larger, but not by more than this.
        let perhaps = most > 0 && passage.message.raw().len() + build::GROWTH > most;
        branch.flow.transport == Transport::Udp
            && perhaps
            && build::copy(&self.settings, passage.message, passage.flow, branch).len() > most
    }

    /// The record of one copy, with the branch that every node derives for it. `round` tells apart the copies of one
    /// call that go to the same place one after the other: 0 for what leaves at once, then a number of its own for each
    /// step of the plan.
    pub(super) fn branch(
        &self,
        passage: &Passage<'_, '_>,
        target: String,
        route: Vec<String>,
        flow: Flow,
        round: u16,
    ) -> Branch {
        let target = in_request_line(target);
        let class = match passage.method {
            Method::Cancel => "INVITE",
            // Without state the ACK of a failure cannot be told from that of a 2xx; both take the way of the INVITE.
            Method::Ack if !passage.found.in_dialog => "INVITE",
            method => method.as_str(),
        };
        let remote = flow.remote.to_string();
        let number = round.to_be_bytes();
        let number = (round > 0).then_some(&number[..]);
        // A copy by another transport is another copy; UDP is the one that needs no word.
        let transport = flow.transport.is_reliable().then(|| flow.transport.via_name().as_bytes());
        let parts = [target.as_bytes(), remote.as_bytes()]
            .into_iter()
            .chain(route.iter().map(|r| r.as_bytes()))
            .chain(number)
            .chain(transport);
        let keys = &self.settings.keys;
        let digest = match passage.method {
            Method::Ack if class == "INVITE" => keys.loop_digest_of_invite(passage.message),
            _ => keys.loop_digest(passage.message),
        };
        let via_branch = self.settings.keys.via_branch(&passage.key, class, parts, digest);
        let headers = passage.found.headers.clone();
        Branch {
            target,
            route,
            flow,
            via_branch,
            state: BranchState::Trying,
            headers,
            round: 0,
            next: Vec::new(),
            left: Vec::new(),
            others: Vec::new(),
            backing: Backing {
                from_trunk: passage.found.sender.trunk().map(str::to_owned),
                dress: dress_for_strangers(passage.message),
                ..Backing::default()
            },
        }
    }
}

/// What may stand in a request line of a URI (RFC 3261 §16.6 step 2).
fn in_request_line(uri: String) -> String {
    match Uri::for_request_line(&uri) {
        Cow::Owned(fit) => fit,
        Cow::Borrowed(fit) if fit.len() < uri.len() => fit.to_owned(),
        Cow::Borrowed(_) => uri,
    }
}

/// Who is not trusted does not hear who an anonymous caller is (RFC 3325 §7).
fn dress_for_strangers(message: &Message<'_>) -> Option<Box<Dress>> {
    let hides = wants_id_kept(message) && message.header_named(ASSERTED).is_some();
    hides.then(|| Box::new(Dress { asserted: Asserted::Removed, ..Dress::default() }))
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

/// The URI with another user. `None` if the result would be none.
pub(super) fn with_user(uri: &Uri<'_>, user: &str) -> Option<String> {
    let old = uri.user?;
    // The first thing after the scheme is the user; what follows it stays, byte for byte.
    let (scheme, rest) = uri.raw.split_once(':')?;
    let made = format!("{scheme}:{user}{}", rest.strip_prefix(old)?);
    Uri::parse(&made).ok().filter(|u| u.user == Some(user)).is_some().then_some(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_user_leaves_the_rest_of_the_uri_as_it_is() {
        let swap = |uri: &str, user: &str| with_user(&Uri::parse(uri).expect("a URI"), user);
        assert_eq!(swap("sip:0049@h:5062;a=b?x=y", "+49").as_deref(), Some("sip:+49@h:5062;a=b?x=y"));
        assert_eq!(swap("sips:bob:pw@h", "al").as_deref(), Some("sips:al:pw@h"));
        assert_eq!(swap("tel:112;phone-context=+49", "911").as_deref(), Some("tel:911;phone-context=+49"));
        assert_eq!(swap("sip:bob@h", ""), None, "a user part is never empty");
        assert_eq!(swap("sip:bob@h", "a@b"), None);
        assert_eq!(swap("sip:h", "bob"), None);
    }
}
