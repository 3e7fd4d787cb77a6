//! SDP in responses to INVITE, UPDATE and PRACK, before they reach their branch: so that what is replicated and passed on has
//! the SDP of the rtpengine, also where the node that asked for it is gone.

use std::net::{IpAddr, SocketAddr};

use super::ng::Verb;
use super::park::{Ask, ReplyKey, Treated, Who};
use super::restore::kept;
use super::sdp;
use crate::engine::limits::MAX_ANSWERS_PER_BRANCH;
use crate::engine::{Client, Cx, Engine};
use crate::msg::{Message, Method};
use crate::proxy::call::Phase;
use crate::state::{Agreed, Flow, MediaSession, Spoken};

/// What is known of the transaction that a response belongs to.
struct Context {
    session: MediaSession,
    /// Tag of who sent the request.
    from_tag: String,
    /// The request had SDP, so that this is the answer.
    offered: bool,
    /// Nobody is between the sender and the proxy.
    direct: bool,
}

/// Another 2xx of the same call.
enum Rival {
    /// It waits for the rtpengine.
    Waits,
    /// It has gone on.
    Answered,
}

impl Engine {
    /// A response came. `true` if it is dealt with: it waits, or has gone on.
    pub(crate) fn answer_of_response(
        &mut self,
        cx: Cx<'_>,
        client: Option<Client>,
        flow: Flow,
        response: &Message<'_>,
        status: u16,
    ) -> bool {
        if self.settings.config.media.nodes.is_empty() || !(101..300).contains(&status) {
            return false;
        }
        let Some(sdp) = sdp::of(response) else { return false };
        let to_tag = response.to_tag().unwrap_or_default();
        let context = match (client, response.method()) {
            (Some(Client::Call(id, index)), Some(Method::Invite)) => {
                match self.rival(id, to_tag) {
                    // It comes again (RFC 3261 §13.3.1.4), when the other one has gone on.
                    Some(Rival::Waits) => return true,
                    Some(Rival::Answered) if status < 200 => return true,
                    // The caller hangs up on it (§13.2.2.4), so that it must not get the media: it goes on as it is.
                    Some(Rival::Answered) => return false,
                    None => {}
                }
                if let Some(given) = self.treated(id, index, to_tag, sdp, status) {
                    if let Ok(response) = Message::parse(&sdp::replaced(response, &given)) {
                        self.take_response(cx, flow, &response, true);
                    }
                    return true;
                }
                self.context_of_call(id, index, to_tag, status)
            }
            (Some(Client::Exchange(id, index)), Some(Method::Update | Method::Prack)) => {
                self.context_of_exchange(id, index)
            }
            (None, Some(Method::Invite)) if status >= 200 => context_of_stray(cx, response, sdp),
            _ => None,
        };
        let Some(context) = context else { return false };
        let key = ReplyKey {
            client,
            status,
            call_id: response.call_id().unwrap_or_default().to_owned(),
            to_tag: to_tag.to_owned(),
        };
        if self.media.has_reply(&key) {
            self.counters.retransmissions_in += 1;
            return true;
        }
        let (verb, offerer, answerer) = if context.offered {
            (Verb::Answer, context.from_tag.as_str(), to_tag)
        } else {
            (Verb::Offer, to_tag, context.from_tag.as_str())
        };
        let private = context.direct && sdp::is_private_sdp(sdp);
        let ask = Ask {
            verb,
            call_id: key.call_id.clone(),
            offerer: offerer.to_owned(),
            answerer: Some(answerer.to_owned()),
            flags: context.session.to_caller.clone(),
            source: private.then(|| flow.remote.ip()),
        };
        if self.wait_for_media(cx, Who::Reply(key), flow, response, (ask, context.session)) {
            if let Some(Client::Call(id, index)) = client {
                let to_tag = to_tag.to_owned();
                self.with_call(cx, id, |_, call| call.spoke_last = Some((index, to_tag)));
            }
            return true;
        }
        self.counters.media_failed += 1;
        false
    }

    /// Media go to whoever has answered last: with one 2xx on its way that must stay the one who sent it.
    fn rival(&self, id: u64, to_tag: &str) -> Option<Rival> {
        if self.media.has_other_answer(id, to_tag) {
            return Some(Rival::Waits);
        }
        let mut answers = self.call(id)?.branches.iter().flat_map(|b| &b.answers);
        answers.any(|a| a.to_tag != to_tag).then_some(Rival::Answered)
    }

    /// What an rtpengine has made of this SDP of a branch before. Media go to whoever has answered last: a 2xx has to say
    /// again who that is, if another fork has spoken since.
    fn treated(&self, id: u64, index: usize, to_tag: &str, sdp: &[u8], status: u16) -> Option<Vec<u8>> {
        let call = self.call(id)?;
        let is_last = call.spoke_last.as_ref().is_some_and(|(i, tag)| *i == index && tag == to_tag);
        let branch = call.branches.get(index).filter(|_| is_last || status < 200)?;
        branch.treated.iter().find(|t| t.to_tag == to_tag && t.asked == sdp).map(|t| t.given.clone())
    }

    /// `None` for a response that is not going anywhere, or repeats an answer that is known.
    fn context_of_call(&self, id: u64, index: usize, to_tag: &str, status: u16) -> Option<Context> {
        let call = self.call(id)?;
        let branch = call.branches.get(index)?;
        let session = call.media.as_deref()?.clone();
        let known = branch.answers.iter().any(|a| a.to_tag == to_tag);
        let useless = match call.phase {
            Phase::Admitting | Phase::Failed => true,
            Phase::Answered => status < 200,
            Phase::Open | Phase::Cancelled => status < 200 && branch.cancel_wanted,
        };
        if known || useless {
            return None;
        }
        let invite = Message::parse(&call.request).ok()?;
        Some(Context {
            session,
            from_tag: invite.from_tag().unwrap_or_default().to_owned(),
            offered: sdp::of(&invite).is_some(),
            direct: branch.record.route.is_empty(),
        })
    }

    fn context_of_exchange(&self, id: u64, index: usize) -> Option<Context> {
        let exchange = self.exchange(id)?;
        let branch = exchange.branches.get(index)?;
        let session = exchange.media.as_deref()?.clone();
        let bytes = exchange.request.clone()?;
        let request = Message::parse(&bytes).ok()?;
        Some(Context {
            session,
            from_tag: request.from_tag().unwrap_or_default().to_owned(),
            offered: sdp::of(&request).is_some(),
            direct: branch.record.route.is_empty(),
        })
    }

    /// Keeps what came of the SDP of a branch, and where the offer in a response has found its rtpengine.
    pub(super) fn note_treated(
        &mut self,
        cx: Cx<'_>,
        (id, index): (u64, usize),
        node: SocketAddr,
        response: &Message<'_>,
        treated: impl FnOnce(Vec<u8>) -> Treated,
    ) {
        let Some(asked) = sdp::of(response).map(<[u8]>::to_vec) else { return };
        let treated = treated(asked);
        self.with_call(cx, id, |_, call| {
            if let Some(known) = call.media.as_deref_mut() {
                known.node = node;
            }
            let Some(branch) = call.branches.get_mut(index) else { return };
            branch.treated.retain(|t| t.to_tag != treated.to_tag || t.asked != treated.asked);
            if branch.treated.len() >= MAX_ANSWERS_PER_BRANCH {
                branch.treated.remove(0);
            }
            branch.treated.push(treated);
        });
    }

    /// Keeps the answer to the offer of an exchange.
    pub(super) fn note_answer(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        response: &Message<'_>,
        source: Option<IpAddr>,
    ) {
        let Some(sdp) = sdp::of(response).map(<[u8]>::to_vec) else { return };
        self.with_exchange(cx, id, |_, exchange| {
            let Some(session) = exchange.media.as_deref_mut() else { return };
            if let Some(agreed) = session.agreed.take() {
                let answer = Some(Spoken { sdp, source });
                session.agreed = kept(Agreed { answer, ..*agreed });
            }
        });
    }
}

/// A 2xx that is passed on as its dialog is known ([`Engine::on_response`]): the ACK was lost with the last owner. It goes
/// through the rtpengine if it has been there before. Any other goes on as it did then: the loser of a fork would get the
/// media of who has won. Nobody remembers what the INVITE was like; most have SDP.
fn context_of_stray(cx: Cx<'_>, response: &Message<'_>, sdp: &[u8]) -> Option<Context> {
    let (dialog, from_caller) = crate::dialog::of(cx.state, response)?;
    let session = dialog.media.as_deref()?;
    let session = if from_caller { session.clone() } else { session.turned() };
    let agreed = session.agreed.as_deref()?;
    let said = if agreed.by_caller { agreed.answer.as_ref() } else { Some(&agreed.offer) };
    if said.is_none_or(|said| said.sdp != sdp) {
        return None;
    }
    let from_tag = response.from_tag().unwrap_or_default().to_owned();
    Some(Context { session, from_tag, offered: true, direct: true })
}
