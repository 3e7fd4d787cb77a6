//! SDP in requests: what RELAY asks before an INVITE, UPDATE or PRACK goes on, and WITHINDLG before an ACK does.
//!
//! | request | rtpengine |
//! |---|---|
//! | INVITE that begins a call, by `usage` of its route | the best of the set; also without SDP, for what comes in the 2xx |
//! | INVITE, UPDATE within a call that has one | the same one; the best of the set if that one is dead |
//! | PRACK within such a call | the same: SDP of an INVITE that had some is a new offer, else it answers that of the response |
//! | ACK with SDP of such a call | the same one |

use std::net::{IpAddr, SocketAddr};

use super::config::{OnFailure, RouteMedia, Usage};
use super::ng::Verb;
use super::park::{Ask, Who, Why};
use super::restore::{agreed_of, kept, sides_of_early};
use super::{choice, sdp};
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::msg::{HeaderName, Message, Method};
use crate::nat::detect;
use crate::proxy::call::Call;
use crate::route::passage::{MediaStep, Passage, Step};
use crate::routing::{Mode, Stage};
use crate::state::limits::MAX_EARLY_MEDIA;
use crate::state::{Agreed, EarlyMedia, MediaCommand, MediaSession, SipCommand, Spoken};

impl Engine {
    /// A request with targets. `None`: RELAY goes on with it.
    pub(crate) fn offer_of_request(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Option<Step> {
        let config = &self.settings.config;
        let concerned = !config.media.nodes.is_empty()
            && config.routing.mode == Mode::Proxy
            && passage.found.targets.is_some()
            && passage.found.media == MediaStep::Open
            && matches!(passage.method, Method::Invite | Method::Update | Method::Prack);
        if !concerned {
            return None;
        }
        let sdp = sdp::of(passage.message);
        if sdp.is_none() && passage.method != Method::Invite {
            return None;
        }
        if passage.method == Method::Prack
            && let Some(offered) = self.answered_by_prack(passage.message)
        {
            return self.answer_of_prack(cx, passage, offered);
        }
        let mut session = self.session_for(cx, passage)?;
        let Some(node) = self.node_for(cx, passage, &session) else {
            self.explain("media", || String::from("no rtpengine of its set can be used"));
            return self.go_without_media(cx, passage);
        };
        session.node = node;
        // What holds stays in the record; this is what is to be.
        session.agreed = None;
        let mut session = *session;
        self.explain("media", || {
            format!(
                "by rtpengine {node}, {:?} to the callee, {:?} back",
                session.to_callee, session.to_caller
            )
        });
        let Some(sdp) = sdp.filter(|_| !self.is_explaining()) else {
            // The offer comes with the response.
            passage.found.media = MediaStep::Settled(Some(Box::new(session)));
            return None;
        };
        let message = passage.message;
        let source = source_of(passage, sdp);
        let offer = Spoken { sdp: sdp.to_vec(), source };
        session.agreed = kept(Agreed { by_caller: true, offer, answer: None });
        let ask = Ask {
            verb: Verb::Offer,
            call_id: message.call_id().unwrap_or_default().to_owned(),
            offerer: message.from_tag().unwrap_or_default().to_owned(),
            answerer: message.to_tag().map(str::to_owned),
            flags: session.to_callee.clone(),
            source,
        };
        let stage = Stage::REQUEST.iter().position(|s| *s == Stage::Relay).unwrap_or_default();
        if self.wait_for_media(cx, who(passage, stage), passage.flow, message, (ask, session)) {
            return Some(Step::Answered);
        }
        self.go_without_media(cx, passage)
    }

    /// Nobody can be asked: the request goes on as it is, or is refused, as the configuration says.
    fn go_without_media(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Option<Step> {
        self.counters.media_failed += 1;
        passage.found.media = MediaStep::Settled(None);
        if self.settings.config.media.on_failure == OnFailure::Pass {
            return None;
        }
        self.refuse_without_media(cx, passage, Why::Nobody);
        Some(Step::Answered)
    }

    /// The media of the call that a request begins or belongs to, as the sender sees it. Of a new one the rtpengine is
    /// not chosen yet.
    fn session_for(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>) -> Option<Box<MediaSession>> {
        if passage.found.in_dialog {
            if let Some((dialog, from_caller)) = crate::dialog::of(cx.state, passage.message) {
                let session = dialog.media.clone()?;
                return Some(if from_caller { session } else { Box::new(session.turned()) });
            }
            return self.early_session(passage.message);
        }
        if passage.method != Method::Invite {
            return None;
        }
        if !self.settings.config.routing.has_media() {
            self.explain("media", || {
                String::from("goes its own way: withindlg, manage_branch or manage_reply is switched off")
            });
            return None;
        }
        let rule = passage.found.media_rule.clone().unwrap_or_default();
        let RouteMedia { usage, set, caller, callee } = rule;
        let config = &self.settings.config.media;
        let used = match usage.unwrap_or(config.usage) {
            Usage::Off => false,
            Usage::Always => true,
            Usage::Natted => is_natted(passage),
        };
        let session = used.then(|| {
            Box::new(MediaSession {
                node: ([0, 0, 0, 0], 0).into(),
                set: set.unwrap_or(config.set),
                to_caller: caller.unwrap_or_else(|| config.caller.clone()),
                to_callee: callee.unwrap_or_else(|| config.callee.clone()),
                agreed: None,
            })
        });
        if session.is_none() {
            self.explain("media", || String::from("goes its own way: no rtpengine for this call"));
        }
        session
    }

    /// Of a call that nobody has answered.
    fn early_session(&self, message: &Message<'_>) -> Option<Box<MediaSession>> {
        let (_, call) = self.early_call(message)?;
        let session = call.media.clone()?;
        let from_caller =
            Message::parse(&call.request).is_ok_and(|invite| invite.from_tag() == message.from_tag());
        Some(if from_caller { session } else { Box::new(session.turned()) })
    }

    /// The call that a request belongs to and that nobody has answered.
    pub(super) fn early_call(&self, message: &Message<'_>) -> Option<(u64, &Call)> {
        self.calls_of(message.call_id()?).find(|(_, call)| call.is_undecided() && !call.in_dialog)
    }

    fn node_for(&self, cx: Cx<'_>, passage: &Passage<'_, '_>, session: &MediaSession) -> Option<SocketAddr> {
        let nodes = &self.settings.config.media.nodes;
        let fares = &self.media.fares;
        let dead = choice::is_dead(session.node, fares, cx.state);
        if !dead && nodes.iter().any(|n| n.address == session.node) {
            // Also one that the operator has put aside: it gets no new calls, but has this one.
            return Some(session.node);
        }
        let call_id = passage.message.call_id().unwrap_or_default();
        let seed = self.settings.keys.own_number("media", &[call_id.as_bytes()]);
        choice::choose(nodes, session.set, seed, &[], fares, cx.state)
    }

    /// The call whose offer a PRACK with SDP answers, as its INVITE had none (RFC 3262 §5), its media as the sender sees
    /// them, and the RSeq of that offer. `None` if the SDP is an offer.
    fn answered_by_prack(&self, prack: &Message<'_>) -> Option<(u64, MediaSession, u32)> {
        let mut rack = prack.header_str(HeaderName::RAck)?.split_ascii_whitespace();
        let rseq = rack.next()?.parse().ok()?;
        let id = self.call_of_cseq(prack.call_id()?, rack.next()?.parse().ok()?)?;
        let call = self.call(id)?;
        let invite = Message::parse(&call.request).ok()?;
        let to_tag = prack.to_tag()?;
        let early = call.early_media.iter().find(|early| early.to_tag == to_tag);
        let offered_by_callee = sdp::of(&invite).is_none()
            && invite.from_tag() == prack.from_tag()
            // The same again: who has taken over sees it for the first time.
            && early.and_then(|early| early.settled_by).is_none_or(|by| by == rseq);
        offered_by_callee.then(|| call.media.as_deref().cloned())?.map(|session| (id, session, rseq))
    }

    /// It goes on as it is if nobody can be asked, as an ACK does.
    fn answer_of_prack(
        &mut self,
        cx: Cx<'_>,
        passage: &Passage<'_, '_>,
        (call, session, rseq): (u64, MediaSession, u32),
    ) -> Option<Step> {
        let message = passage.message;
        let sdp = sdp::of(message).filter(|_| !self.is_explaining())?;
        let source = source_of(passage, sdp);
        let ask = Ask {
            verb: Verb::Answer,
            call_id: message.call_id().unwrap_or_default().to_owned(),
            offerer: message.to_tag().unwrap_or_default().to_owned(),
            answerer: message.from_tag().map(str::to_owned),
            flags: session.to_callee.clone(),
            source,
        };
        let stage = Stage::REQUEST.iter().position(|s| *s == Stage::Relay).unwrap_or_default();
        if !self.wait_for_media(cx, who(passage, stage), passage.flow, message, (ask, session)) {
            self.counters.media_failed += 1;
            return None;
        }
        let to_tag = message.to_tag().unwrap_or_default();
        let offered = self.call(call).and_then(|call| agreed_of(call, to_tag));
        let answer = Some(Spoken { sdp: sdp.to_vec(), source });
        let agreed = offered.and_then(|offered| kept(Agreed { answer, ..*offered }));
        let early = EarlyMedia { to_tag: to_tag.to_owned(), settled_by: Some(rseq), agreed };
        self.note_early_media(cx, call, None, early);
        Some(Step::Answered)
    }

    /// An ACK within a dialog. `true` if it waits: its SDP answers what the 2xx has offered.
    pub(crate) fn answer_of_ack(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>) -> bool {
        if self.settings.config.media.nodes.is_empty() || passage.found.media != MediaStep::Open {
            return false;
        }
        let message = passage.message;
        let Some(sdp) = sdp::of(message).filter(|_| !self.is_explaining()) else { return false };
        let Some((dialog, from_caller)) = crate::dialog::of(cx.state, message) else { return false };
        let Some(session) = dialog.media.as_deref() else { return false };
        let session = if from_caller { session.clone() } else { session.turned() };
        let ask = Ask {
            verb: Verb::Answer,
            call_id: dialog.id.call_id.clone(),
            offerer: message.to_tag().unwrap_or_default().to_owned(),
            answerer: message.from_tag().map(str::to_owned),
            flags: session.to_callee.clone(),
            source: source_of(passage, sdp),
        };
        self.wait_for_media(
            cx,
            who(passage, Stage::Withindlg.number()),
            passage.flow,
            message,
            (ask, session),
        )
    }

    /// An rtpengine has taken the answer in an ACK: that is what the two have agreed on.
    pub(super) fn agree_by_ack(&mut self, cx: Cx<'_>, ack: &Message<'_>, source: Option<IpAddr>) {
        let Some((dialog, from_caller)) = crate::dialog::of(cx.state, ack) else { return };
        let Some(session) = dialog.media.as_deref() else { return };
        let offered = session.agreed.as_deref().filter(|a| a.answer.is_none() && a.by_caller != from_caller);
        let (Some(offered), Some(sdp)) = (offered, sdp::of(ack)) else { return };
        let answer = Some(Spoken { sdp: sdp.to_vec(), source });
        let agreed = kept(Agreed { answer, ..offered.clone() });
        let command = MediaCommand::Agreed { id: dialog.id.clone(), node: session.node, agreed };
        self.propose(SipCommand::Media(command), Awaiting::Nothing);
    }

    /// A request within a call was answered: what the two have agreed on is remembered, and if it has brought the media
    /// to another rtpengine, that as well. `agreed` is as the sender sees it.
    pub(crate) fn move_media(
        &mut self,
        cx: Cx<'_>,
        request: &Message<'_>,
        node: SocketAddr,
        agreed: Option<Box<Agreed>>,
    ) {
        let turned =
            |from_caller, agreed: Box<Agreed>| if from_caller { agreed } else { Box::new(agreed.turned()) };
        let Some((dialog, from_caller)) = crate::dialog::of(cx.state, request) else {
            let Some((id, call)) = self.early_call(request) else { return };
            let Some((caller, callee)) = sides_of_early(call, request) else { return };
            let agreed = agreed.map(|agreed| turned(request.from_tag() == Some(caller.as_str()), agreed));
            let settled_by =
                call.early_media.iter().find(|e| e.to_tag == callee).and_then(|early| early.settled_by);
            let early = EarlyMedia { to_tag: callee, settled_by, agreed };
            self.note_early_media(cx, id, Some((node, caller)), early);
            return;
        };
        let Some(known) = dialog.media.as_deref() else { return };
        let agreed = agreed.map(|agreed| turned(from_caller, agreed));
        if known.node == node && known.agreed == agreed {
            return;
        }
        let id = dialog.id.clone();
        if known.node != node {
            self.counters.media_moved += 1;
            self.ask_delete(cx, known.node, &id.call_id, &id.from_tag);
        }
        self.propose(SipCommand::Media(MediaCommand::Agreed { id, node, agreed }), Awaiting::Nothing);
    }

    /// Two have settled or changed their media before the 2xx, perhaps to another rtpengine: who takes over has to know.
    /// With `node` comes the tag of the caller.
    fn note_early_media(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        node: Option<(SocketAddr, String)>,
        early: EarlyMedia,
    ) {
        let noted = self.with_call(cx, id, |_, call| {
            let session = call.media.as_deref_mut()?;
            let old = session.node;
            if let Some((node, _)) = &node {
                session.node = *node;
            }
            let is_known = old == session.node && call.early_media.contains(&early);
            call.early_media.retain(|e| e.to_tag != early.to_tag);
            if call.early_media.len() < MAX_EARLY_MEDIA {
                call.early_media.push(early.clone());
            }
            (!is_known).then(|| (call.key.clone(), call.call_id.clone(), old, session.node))
        });
        let Some((key, call_id, old, new)) = noted.flatten() else { return };
        if let Some((_, caller)) = node.filter(|_| old != new) {
            self.counters.media_moved += 1;
            self.ask_delete(cx, old, &call_id, &caller);
        }
        self.propose(SipCommand::Media(MediaCommand::Early { key, node: new, early }), Awaiting::Nothing);
    }
}

fn who(passage: &Passage<'_, '_>, stage: usize) -> Who {
    Who::Request {
        key: passage.key.clone(),
        method: passage.method.as_str().to_owned(),
        found: Box::new(passage.found.clone()),
        stage,
    }
}

/// Where media come from whose SDP names an address that nobody can reach. With a proxy between, that one knows.
fn source_of(passage: &Passage<'_, '_>, sdp: &[u8]) -> Option<std::net::IpAddr> {
    let first_hop = passage.message.vias().nth(1).is_none();
    (first_hop && sdp::is_private_sdp(sdp)).then(|| passage.flow.remote.ip())
}

/// Whether a side is behind a NAT: the caller by its Contact, the callee as it has registered from elsewhere.
fn is_natted(passage: &Passage<'_, '_>) -> bool {
    let message = passage.message;
    let caller = message.vias().nth(1).is_none()
        && message.top_via().is_ok_and(|via| {
            let contact = message.contacts().next().and_then(Result::ok);
            let uri = contact.as_ref().and_then(|c| c.parse_uri().ok());
            uri.is_some_and(|uri| detect::is_natted(&uri, &via, passage.flow.remote))
        });
    let targets = passage.found.targets.iter();
    let callee =
        targets.flat_map(|t| t.branches.iter().chain(t.plan.iter().flat_map(|s| &s.branches))).any(|b| {
            b.route.is_empty()
                && b.backing.backend.is_none()
                && detect::is_sent_elsewhere(&b.target, b.flow.remote)
        });
    caller || callee
}
