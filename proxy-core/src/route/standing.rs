//! Who may speak within a dialog, and where to: what Kamailio's `loose_route()` believes of everybody who writes a To tag
//! and a Route of ours.
//!
//! | what is known of the dialog | its sender is shown by | where it may go |
//! |---|---|---|
//! | a replicated record: an answered call | a token, or his address, or his password | to the other side as the record has it |
//! | no record: a subscription, a REFER, a call that rings | a token | where the other side was when the token was written, is registered, or is called |
//! | no record, and a re-INVITE | nothing: there is no call | nowhere; in stateless mode as the row above |
//! | a call that rings here and began under a version without tokens | his address | where its INVITE came from or went to |
//!
//! | who speaks in a dialog with a record, and | then |
//! |---|---|
//! | goes where the dialog goes | passes |
//! | goes anywhere else, by Request-URI or Route | goes where the dialog goes all the same (OpenSIPS: `fix_route_dialog`) |
//! | has a CSeq below that of his side | 500 (RFC 3261 §12.2.2) |
//!
//! | nobody shows who it is | then |
//! |---|---|
//! | ACK | dropped and counted |
//! | any other request | loses its Routes and is judged as one outside of dialogs: challenge, rules, limits |
//! | the same, of a side that then gives its password | is in its dialog after all |
//! | the same, of anybody else, with the tags of a recorded dialog or of a call that rings | 404 Not here |
//! | the same, of somebody who is neither a subscriber nor trusted | 404 Not here, as Kamailio says to To tags without Route |

use super::passage::{Passage, Step};
use super::withindlg::Approach;
use crate::dialog::token::{self, Proof, place_of};
use crate::engine::{Cx, Engine};
use crate::msg::{Forward, Message, Method, NameAddr, Uri};
use crate::proxy::build::record_route_value;
use crate::state::{Binding, DialogRecord, Flow};

/// What a request that says it is within a dialog is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is.
    Member,
    /// It is, and here is what it looks like when it goes where the dialog goes.
    Astray(Vec<u8>),
    /// Nothing shows it.
    Foreign,
}

impl Engine {
    /// Judges a request with a To tag and a Route of ours.
    pub(super) fn standing(
        &self,
        cx: Cx<'_>,
        flow: Flow,
        message: &Message<'_>,
        approach: &Approach<'_>,
        admitted: bool,
    ) -> Standing {
        let proof = token::proof(&self.settings, message, approach);
        let Some((dialog, from_caller)) = crate::dialog::of(cx.state, message) else {
            return match self.has_standing_without_record(cx, flow, message, approach, proof) {
                true => Standing::Member,
                false => Standing::Foreign,
            };
        };
        if !admitted && !proof.dialog && !self.is_at_side(cx, flow, message, dialog, from_caller) {
            return Standing::Foreign;
        }
        if admitted || self.goes_right(cx, flow, message, approach, (dialog, from_caller), proof) {
            return Standing::Member;
        }
        Standing::Astray(straightened(message, approach, flow, dialog, from_caller))
    }

    /// What follows from it, but for an ACK. `None`: it goes on as it is.
    pub(super) fn look_at_standing(
        &mut self,
        cx: Cx<'_>,
        passage: &mut Passage<'_, '_>,
        approach: &Approach<'_>,
    ) -> Option<Step> {
        let message = passage.message;
        match self.standing(cx, passage.flow, message, approach, passage.found.admitted) {
            Standing::Member => {}
            Standing::Astray(bytes) => {
                self.counters.straightened += 1;
                self.explain("straightens it", || {
                    String::from("it goes where its dialog goes, not elsewhere")
                });
                passage.found.admitted = true;
                return Some(Step::Again(bytes));
            }
            Standing::Foreign => {
                self.counters.foreign += 1;
                self.explain("does not believe it", || {
                    String::from("nothing shows that it belongs to the dialog that it names: it is judged as one outside")
                });
                passage.found.in_dialog = false;
                passage.found.foreign = true;
                if approach.from_strict {
                    passage.found.uri = message.request_uri_str().to_owned();
                }
                let mut bytes = Vec::with_capacity(message.raw().len());
                Forward::new(message).remove_header("Route").write(&mut bytes);
                return Some(Step::Rewritten(bytes));
            }
        }
        let (dialog, from_caller) = crate::dialog::of(cx.state, message)?;
        let known = if from_caller { dialog.caller_cseq } else { dialog.callee_cseq };
        let number = message.cseq().map_or(0, |c| c.number);
        (number < known && !matches!(passage.method, Method::Ack | Method::Cancel))
            .then_some(Step::Reject(500, "CSeq Out Of Order"))
    }

    /// What AUTH has found out about the sender of a request that nothing else has shown to be in its dialog. `None`: it
    /// goes on as any request outside of dialogs.
    pub(super) fn readmit(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Option<Step> {
        if !passage.found.foreign {
            return None;
        }
        let sender = &passage.found.sender;
        let Some((dialog, from_caller)) = crate::dialog::of(cx.state, passage.message) else {
            let source = passage.flow.remote.ip();
            let relayed = self.settings.config.routing.relay_from.iter().any(|c| c.contains(source));
            let known = sender.user().is_some() || sender.is_trusted() || relayed;
            let is_welcome = known && !self.names_ringing_call(passage.message);
            return (!is_welcome).then_some(Step::Reject(404, "Not here"));
        };
        let party = self.party(dialog, from_caller, passage.flow);
        if !party.is_some_and(|aor| sender.has_proved(&aor)) {
            self.explain("refuses", || String::from("it names a call of others"));
            return Some(Step::Reject(404, "Not here"));
        }
        self.explain("believes it", || String::from("it is a side of its dialog, by password"));
        passage.found.admitted = true;
        passage.found.foreign = false;
        let approach = Approach::of(&self.settings, passage.message, passage.flow.local);
        Some(Step::Again(straightened(passage.message, &approach, passage.flow, dialog, from_caller)))
    }

    /// Whether a request is in a dialog, as far as that can be seen before AUTH.
    pub(super) fn is_within_dialog(&self, cx: Cx<'_>, flow: Flow, message: &Message<'_>) -> bool {
        let approach = Approach::of(&self.settings, message, flow.local);
        approach.in_dialog && self.standing(cx, flow, message, &approach, false) != Standing::Foreign
    }

    fn has_standing_without_record(
        &self,
        cx: Cx<'_>,
        flow: Flow,
        message: &Message<'_>,
        approach: &Approach<'_>,
        proof: Proof,
    ) -> bool {
        if message.method() == Some(Method::Invite) && !self.is_stateless() {
            return false;
        }
        if !proof.dialog {
            return self.is_in_ringing_call(message, approach, Some(flow));
        }
        proof.place
            || self.is_in_ringing_call(message, approach, None)
            || self.is_at_user(cx, flow, message, approach)
    }

    /// Whether a request in a call that is not answered goes between the places of its INVITE, and comes from the right
    /// one, where that is asked.
    fn is_in_ringing_call(&self, message: &Message<'_>, approach: &Approach<'_>, from: Option<Flow>) -> bool {
        let (Some(call_id), Some(from_tag), Some(to_tag)) =
            (message.call_id(), message.from_tag(), message.to_tag())
        else {
            return false;
        };
        let hop = place_of(approach.next.unwrap_or(approach.uri));
        self.calls_of(call_id).filter(|(_, call)| call.is_undecided() && !call.in_dialog).any(|(_, call)| {
            let Ok(invite) = Message::parse(&call.request) else { return false };
            let caller = invite.from_tag().unwrap_or_default();
            let came_from = |flow: Flow| from.is_none_or(|from| from.remote == flow.remote);
            if caller == from_tag {
                let branches = || call.branches.iter();
                return came_from(call.flow)
                    && branches()
                        .any(|b| place_of(&b.record.target) == hop || place_of_flow(b.flow()) == hop);
            }
            let at_invite = || {
                let contact = invite.contacts().flatten().map(|c| c.uri);
                invite.record_routes().flatten().map(|r| r.uri).chain(contact).any(|uri| place_of(uri) == hop)
            };
            caller == to_tag
                && call.branches.iter().any(|b| came_from(b.flow()))
                && (place_of_flow(call.flow) == hop || at_invite())
        })
    }

    /// Whether a request has Call-ID and a tag of a call that is not answered.
    fn names_ringing_call(&self, message: &Message<'_>) -> bool {
        let Some(call_id) = message.call_id() else { return false };
        let tags = [message.from_tag(), message.to_tag()];
        self.calls_of(call_id).filter(|(_, call)| call.is_undecided() && !call.in_dialog).any(|(_, call)| {
            Message::parse(&call.request).is_ok_and(|invite| tags.contains(&invite.from_tag()))
        })
    }

    /// Whether a request goes to where the user in its To is registered, or to a user of ours by name: there anybody may
    /// send anything but an INVITE, which would be a call.
    fn is_at_user(&self, cx: Cx<'_>, flow: Flow, message: &Message<'_>, approach: &Approach<'_>) -> bool {
        let Ok(uri) = Uri::parse(approach.uri) else { return false };
        if approach.next.is_some() || message.method() == Some(Method::Invite) {
            return false;
        }
        let by_address = self.settings.is_any() && uri.host.ip().is_some();
        if !by_address && uri.user.is_some() && self.settings.is_for_us(&uri, flow.local) {
            return true;
        }
        let to = message.to().ok().and_then(|to| Uri::parse(to.uri).ok());
        let aor = to.and_then(|to| self.settings.config.aor(&to, Some(flow.local)));
        aor.is_some_and(|aor| is_registered_at(cx, &aor, &place_of(approach.uri)))
    }

    /// Whether a request comes from where its side of the dialog is. A proxy before that side speaks for many.
    fn is_at_side(
        &self,
        cx: Cx<'_>,
        flow: Flow,
        message: &Message<'_>,
        dialog: &DialogRecord,
        from_caller: bool,
    ) -> bool {
        let backing = &dialog.backing;
        let (known, leg) = match from_caller {
            true => (dialog.caller_flow, &backing.towards_caller),
            false => (dialog.callee_flow, &backing.towards_callee),
        };
        let source = flow.remote.ip();
        // Whoever is on the access list may speak for anybody outside of dialogs, too.
        let group = self.settings.config.auth.trusted_group;
        if group.is_some_and(|group| cx.state.acl_match(group, source, flow.remote.port()).is_some()) {
            return true;
        }
        if let Some(trunk) = &leg.trunk
            && cx.state.trunks_with_source(source).any(|t| t.account.uuid == *trunk)
        {
            return true;
        }
        // A server may send from any of its ports.
        let is_server = leg.trunk.is_some() || (!from_caller && backing.backend.is_some());
        if known.remote.ip() == source && (is_server || self.is_believed(cx, flow)) {
            return true;
        }
        if message.vias().nth(1).is_some() {
            return false;
        }
        let registered_there = |binding: &Binding| {
            binding.expires_at > cx.now.wall && binding.path.is_empty() && is_same_peer(binding.flow, flow)
        };
        is_same_peer(known, flow)
            || self
                .party(dialog, from_caller, flow)
                .is_some_and(|aor| cx.state.bindings(&aor).iter().any(registered_there))
    }

    /// Whether it goes where the other side is: as the record has it, or as is known besides.
    fn goes_right(
        &self,
        cx: Cx<'_>,
        flow: Flow,
        message: &Message<'_>,
        approach: &Approach<'_>,
        (dialog, from_caller): (&DialogRecord, bool),
        proof: Proof,
    ) -> bool {
        let (target, routes) = other_side(dialog, from_caller);
        let beyond = approach.beyond(message);
        let is_own = |uri: &str| Uri::parse(uri).is_ok_and(|u| self.settings.is_own_hop(&u, flow.local));
        if beyond.iter().any(|uri| is_own(uri)) {
            // It comes back to us: the record is that of one of the times that its INVITE was here.
            return proof.place;
        }
        // In a spiral its INVITE had been here before; the way back leaves that out.
        let known = routes.iter().map(|value| uri_in(value)).skip_while(|uri| is_own(uri)).map(place_of);
        if !beyond.iter().map(|uri| place_of(uri)).eq(known) {
            return false;
        }
        if is_same_target(approach.uri, target) {
            return true;
        }
        let place = place_of(approach.uri);
        // A target that both sides know already, and the cluster will in a moment.
        let is_agreed = |request: &[u8]| {
            Message::parse(request).is_ok_and(|invite| {
                invite.from_tag() == message.to_tag()
                    && invite.contacts().flatten().any(|contact| place_of(contact.uri) == place)
            })
        };
        let mut changes = self.calls_of(&dialog.id.call_id).filter(|(_, call)| call.in_dialog);
        if changes.any(|(_, call)| is_agreed(&call.request)) {
            return true;
        }
        let party = self.party(dialog, !from_caller, flow);
        let Some(aor) = party.filter(|_| beyond.is_empty()) else { return false };
        let by_name = Uri::parse(approach.uri).ok().filter(|uri| self.settings.is_local(uri, flow.local));
        let by_name = by_name.and_then(|uri| self.settings.config.aor(&uri, Some(flow.local)));
        by_name.as_deref() == Some(aor.as_str()) || is_registered_at(cx, &aor, &place)
    }

    /// Address of record of one side of a dialog.
    fn party(&self, dialog: &DialogRecord, caller: bool, flow: Flow) -> Option<String> {
        let uri = if caller { &dialog.from_uri } else { &dialog.to_uri };
        let named = || Uri::parse(uri).ok().and_then(|uri| self.settings.config.aor(&uri, Some(flow.local)));
        dialog.backing.called.clone().filter(|_| !caller).or_else(named)
    }
}

/// Target and route set of the side that a request is for.
fn other_side(dialog: &DialogRecord, from_caller: bool) -> (&str, &[String]) {
    match from_caller {
        true => (&dialog.callee_target, &dialog.callee_route),
        false => (&dialog.caller_target, &dialog.caller_route),
    }
}

fn is_same_peer(a: Flow, b: Flow) -> bool {
    let address = |flow: Flow| (flow.transport, flow.remote.ip().to_canonical(), flow.remote.port());
    address(a) == address(b)
}

pub(super) fn place_of_flow(flow: Flow) -> String {
    let ip = flow.remote.ip().to_canonical();
    format!("{ip}:{} {}", flow.remote.port(), flow.transport.uri_name())
}

fn is_same_target(asked: &str, known: &str) -> bool {
    if asked == known {
        return true;
    }
    let (Ok(a), Ok(b)) = (Uri::parse(asked), Uri::parse(known)) else { return false };
    a.equivalent(&b) && place_of(asked) == place_of(known)
}

/// Whether one of the phones of a user is at this place.
pub(super) fn is_registered_at(cx: Cx<'_>, aor: &str, place: &str) -> bool {
    let bindings = cx.state.bindings(aor).iter().filter(|b| b.expires_at > cx.now.wall);
    bindings.into_iter().any(|b| place_of(&b.contact) == place || place_of_flow(b.flow) == place)
}

/// The request as it goes where its dialog goes: to the target of the other side, by its route set. Our own Route stays, as
/// it names the dialog.
fn straightened(
    message: &Message<'_>,
    approach: &Approach<'_>,
    flow: Flow,
    dialog: &DialogRecord,
    from_caller: bool,
) -> Vec<u8> {
    let (target, routes) = other_side(dialog, from_caller);
    let by_flow;
    let target = match Uri::for_request_line(target) {
        fit if !fit.is_empty() => fit,
        // It has named none.
        _ => {
            let peer = if from_caller { dialog.callee_flow } else { dialog.caller_flow };
            by_flow = format!("sip:{};transport={}", peer.remote, peer.transport.uri_name());
            by_flow.as_str().into()
        }
    };
    let mut values: Vec<String> = approach.own(message).into_iter().map(|uri| format!("<{uri}>")).collect();
    if values.is_empty() {
        values.push(record_route_value(flow, ""));
    }
    values.extend(routes.iter().cloned());
    let mut out = Vec::with_capacity(message.raw().len() + 128);
    let mut forward = Forward::new(message);
    forward.request_uri(&target).remove_header("Route");
    for value in &values {
        forward.prepend_route(value);
    }
    forward.write(&mut out);
    out
}

/// The URI of a Route value.
fn uri_in(value: &str) -> &str {
    NameAddr::parse(value.as_bytes()).map_or(value, |name| name.uri)
}
