//! Offers within a call that come to nothing.
//!
//! The phones go on as if nobody had asked (RFC 3261 §14.1, RFC 6337 §3), but an rtpengine acts on an offer as it gets it: a
//! stream that was to move is sent to its new place, one that was to end has ended. It knows no way back but to be told
//! what holds, offer and answer; it then has the same ports and keys as before. (An ICE restart is the exception: it
//! has drawn new credentials for that.)
//!
//! | event | then |
//! |---|---|
//! | an offer within a call is refused, cancelled, not answered, or goes nowhere | the last agreed offer is told |
//! | the same, while another offer of the two is under way | nothing: the end of that one decides |
//! | the rtpengine has taken the offer | the last agreed answer is told |
//! | an offer of the two, or the end of the call | what is under way of this is void |
//! | this node has taken over, with a failure that nobody has acknowledged | the same from the start: it changes nothing if it has happened |

use std::net::SocketAddr;

use super::ng::{Said, Talk, Verb};
use super::sdp;
use crate::engine::{Cx, Engine};
use crate::msg::Message;
use crate::proxy::call::{Call, Phase};
use crate::state::limits::MAX_AGREED_BYTES;
use crate::state::{Agreed, MediaSession, Spoken};

/// The two of a dialog, whoever asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair {
    pub(super) call_id: String,
    tags: (String, String),
}

impl Pair {
    pub(super) fn new(call_id: &str, one: &str, other: &str) -> Self {
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        Self { call_id: call_id.to_owned(), tags: (low.to_owned(), high.to_owned()) }
    }

    /// Not behind any other of this call.
    pub(super) fn first_of(call_id: &str) -> Self {
        Self::new(call_id, "", "")
    }

    fn of(request: &Message<'_>) -> Option<Self> {
        Some(Self::new(request.call_id()?, request.from_tag()?, request.to_tag()?))
    }
}

/// What an rtpengine is told again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Restore {
    pub(super) node: SocketAddr,
    call_id: String,
    offerer: String,
    answerer: String,
    /// What SDP is to be like for each: as it was then.
    to_offerer: String,
    to_answerer: String,
    offer: Spoken,
    answer: Spoken,
    /// The offer has been taken.
    is_offered: bool,
}

impl Restore {
    pub(super) fn pair(&self) -> Pair {
        Pair::new(&self.call_id, &self.offerer, &self.answerer)
    }

    pub(super) fn talk(&self) -> Talk<'_> {
        let (verb, spoken, flags) = match self.is_offered {
            false => (Verb::Offer, &self.offer, &self.to_answerer),
            true => (Verb::Answer, &self.answer, &self.to_offerer),
        };
        Talk {
            verb,
            call_id: &self.call_id,
            offerer: &self.offerer,
            answerer: Some(&self.answerer),
            sdp: &spoken.sdp,
            flags,
            source: spoken.source,
        }
    }
}

impl Engine {
    /// An offer within a call has come to nothing: its rtpengine is told what holds.
    pub(super) fn restore_media(&mut self, cx: Cx<'_>, request: &Message<'_>) {
        let Some(pair) = Pair::of(request) else { return };
        if self.has_offer_under_way(&pair) {
            return;
        }
        let Some(restore) = self.what_holds(cx, request) else { return };
        self.counters.media_restored += 1;
        self.ask_restore(cx, Box::new(restore));
    }

    /// It has taken the offer, or the answer: then all is as it was.
    pub(super) fn on_restore_said(&mut self, cx: Cx<'_>, mut restore: Box<Restore>, said: &Said) {
        match said {
            Said::Done(_) if !restore.is_offered => {
                restore.is_offered = true;
                self.ask_restore(cx, restore);
            }
            Said::Done(_) => {}
            Said::Busy | Said::Error(_) => self.counters.media_failed += 1,
        }
    }

    /// What the two of a request have agreed on, answered call or not.
    fn what_holds(&self, cx: Cx<'_>, request: &Message<'_>) -> Option<Restore> {
        let (session, agreed, caller, callee) = match crate::dialog::of(cx.state, request) {
            Some((dialog, _)) => {
                let session = dialog.media.as_deref()?;
                (session, session.agreed.clone()?, dialog.id.from_tag.clone(), dialog.id.to_tag.clone())
            }
            None => {
                let (_, call) = self.early_call(request)?;
                let (caller, callee) = sides_of_early(call, request)?;
                (call.media.as_deref()?, agreed_of(call, &callee)?, caller, callee)
            }
        };
        let MediaSession { node, to_caller, to_callee, .. } = session.clone();
        let Agreed { by_caller, offer, answer } = *agreed;
        let answer = answer?;
        let call_id = request.call_id()?.to_owned();
        let (offerer, answerer, to_offerer, to_answerer) = match by_caller {
            true => (caller, callee, to_caller, to_callee),
            false => (callee, caller, to_callee, to_caller),
        };
        Some(Restore {
            node,
            call_id,
            offerer,
            answerer,
            to_offerer,
            to_answerer,
            offer,
            answer,
            is_offered: false,
        })
    }

    /// Whether the two have another offer without an end.
    fn has_offer_under_way(&self, pair: &Pair) -> bool {
        let is_of = |bytes: &[u8]| {
            Message::parse(bytes).is_ok_and(|m| sdp::of(&m).is_some() && Pair::of(&m).as_ref() == Some(pair))
        };
        let invites = self.calls_of(&pair.call_id).any(|(_, call)| {
            call.in_dialog
                && call.media.is_some()
                && !matches!(call.phase, Phase::Answered | Phase::Failed)
                && is_of(&call.request)
        });
        invites
            || self.media.has_open_offer(pair)
            || self.media.offering_of(&pair.call_id).any(|id| {
                let exchange = self.exchange(id);
                exchange.and_then(|e| e.request.as_deref()).is_some_and(is_of)
            })
    }
}

/// Tags of the caller and of the callee whom a request before the 2xx comes from, or goes to.
pub(super) fn sides_of_early(call: &Call, request: &Message<'_>) -> Option<(String, String)> {
    let invite = Message::parse(&call.request).ok()?;
    let caller = invite.from_tag()?;
    let (from, to) = (request.from_tag()?, request.to_tag()?);
    let callee = if from == caller { to } else { from };
    Some((caller.to_owned(), callee.to_owned()))
}

/// What the caller of an INVITE has agreed on with a callee, as far as it is known here. Seen from the caller.
pub(crate) fn agreed_of(call: &Call, to_tag: &str) -> Option<Box<Agreed>> {
    if let Some(early) = call.early_media.iter().find(|early| early.to_tag == to_tag) {
        return early.agreed.clone();
    }
    let treated = call.branches.iter().flat_map(|b| &b.treated).rfind(|t| t.to_tag == to_tag)?;
    let spoken = Spoken { sdp: treated.asked.clone(), source: treated.source };
    let invite = Message::parse(&call.request).ok()?;
    let agreed = if sdp::of(&invite).is_none() {
        // An answer to it comes in an ACK or PRACK.
        Agreed { by_caller: false, offer: spoken, answer: None }
    } else {
        Agreed { answer: Some(spoken), ..*call.media.as_ref()?.agreed.clone()? }
    };
    kept(agreed)
}

/// The same, as a 2xx to the INVITE settles it: nothing, if its SDP has gone on without an rtpengine, whatever its sender
/// has said before.
pub(crate) fn agreed_by(call: &Call, answer: &Message<'_>) -> Option<Box<Agreed>> {
    let to_tag = answer.to_tag().unwrap_or_default();
    // Among other bodies its last line break is that of the boundary.
    let is_given = |sdp: &[u8]| {
        let mut treated = call.branches.iter().flat_map(|b| &b.treated);
        treated.any(|t| t.to_tag == to_tag && t.given.trim_ascii_end() == sdp.trim_ascii_end())
    };
    if sdp::of(answer).is_some_and(|sdp| !is_given(sdp)) {
        return None;
    }
    agreed_of(call, to_tag)
}

/// `None` if it is too large.
pub(super) fn kept(agreed: Agreed) -> Option<Box<Agreed>> {
    (agreed.bytes() <= MAX_AGREED_BYTES).then(|| Box::new(agreed))
}
