//! Messages that wait for an rtpengine.
//!
//! | what came of it | offer in a request | answer in ACK or PRACK | response |
//! |---|---|---|---|
//! | SDP | goes on with it | goes on with it | goes on with it |
//! | no answer, or "load limit" | the next rtpengine | as it is | an offer: the next rtpengine; else as it is |
//! | a refusal, or there is no other | as it is, or 488 / 503 | as it is | as it is |

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::config::OnFailure;
use super::ng::{Said, Talk, Verb};
use super::restore::Pair;
use super::{choice, sdp};
use crate::engine::limits::{MAX_HELD_BYTES, TRANSACTION_BYTES};
use crate::engine::{Client, Cx, Engine};
use crate::msg::{Message, Method};
use crate::route::passage::{Found, MediaStep, Passage};
use crate::state::{Flow, MediaSession, ServerKey};

/// Messages of one engine that wait; the next one is treated as if no rtpengine had answered.
pub const MAX_WAITING: usize = 4096;

/// SDP that an rtpengine has taken, so that it need not be asked again when the message repeats itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Treated {
    pub(crate) to_tag: String,
    pub(crate) asked: Vec<u8>,
    /// Where it came from, if the address in it could not be reached.
    pub(crate) source: Option<IpAddr>,
    pub(crate) given: Vec<u8>,
}

/// Which response waits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReplyKey {
    pub(super) client: Option<Client>,
    pub(super) status: u16,
    pub(super) call_id: String,
    pub(super) to_tag: String,
}

/// Who waits.
#[derive(Debug)]
pub(super) enum Who {
    /// A request, with what the stages have found, and the number of the stage where it goes on.
    Request { key: ServerKey, method: String, found: Box<Found>, stage: usize },
    /// A response.
    Reply(ReplyKey),
}

/// What the rtpengine is asked.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) verb: Verb,
    pub(super) call_id: String,
    pub(super) offerer: String,
    pub(super) answerer: Option<String>,
    pub(super) flags: String,
    pub(super) source: Option<IpAddr>,
}

/// A message that waits.
#[derive(Debug)]
struct Waiter {
    who: Who,
    flow: Flow,
    bytes: Vec<u8>,
    ask: Ask,
    session: MediaSession,
    /// Those that have not taken it.
    tried: Vec<SocketAddr>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    all: BTreeMap<u64, Waiter>,
    requests: BTreeMap<(ServerKey, String), u64>,
    replies: BTreeMap<ReplyKey, u64>,
}

/// Why there is no SDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The rtpengine does not want it.
    Refused,
    /// There is none that would answer.
    Nobody,
}

impl super::Memory {
    /// Whether this request waits.
    pub(crate) fn has_request(&self, key: &ServerKey, method: &str) -> bool {
        !self.waiting.requests.is_empty()
            && self.waiting.requests.contains_key(&(key.clone(), method.to_owned()))
    }

    /// Whether this response waits.
    pub(super) fn has_reply(&self, key: &ReplyKey) -> bool {
        self.waiting.replies.contains_key(key)
    }

    /// Whether an offer of the two waits.
    pub(super) fn has_open_offer(&self, pair: &Pair) -> bool {
        self.waiting.all.values().any(|waiter| {
            let Ask { verb, call_id, offerer, answerer, .. } = &waiter.ask;
            let answerer = answerer.as_deref().filter(|_| *verb == Verb::Offer && *call_id == pair.call_id);
            answerer.is_some_and(|answerer| Pair::new(call_id, offerer, answerer) == *pair)
        })
    }

    /// Whether a 2xx to this call waits that is not of `to_tag`.
    pub(super) fn has_other_answer(&self, call: u64, to_tag: &str) -> bool {
        let first = ReplyKey {
            client: Some(Client::Call(call, 0)),
            status: 0,
            call_id: String::new(),
            to_tag: String::new(),
        };
        let of_call = self.waiting.replies.range(first..);
        let mut of_call =
            of_call.take_while(|(k, _)| matches!(k.client, Some(Client::Call(id, _)) if id == call));
        of_call.any(|(k, _)| k.status >= 200 && k.to_tag != to_tag)
    }
}

impl Engine {
    /// Puts a message aside and asks. `false` if there is no room: then nothing has happened.
    pub(super) fn wait_for_media(
        &mut self,
        cx: Cx<'_>,
        who: Who,
        flow: Flow,
        message: &Message<'_>,
        (ask, session): (Ask, MediaSession),
    ) -> bool {
        let cost = message.raw().len() + TRANSACTION_BYTES;
        let full = self.media.waiting.all.len() >= MAX_WAITING || self.held_bytes() + cost > MAX_HELD_BYTES;
        if full {
            self.counters.dropped_overload += 1;
            return false;
        }
        let id = self.new_id();
        let waiter = Waiter { who, flow, bytes: message.raw().to_vec(), ask, session, tried: Vec::new() };
        if !self.ask_for(cx, id, &waiter) {
            return false;
        }
        match &waiter.who {
            Who::Request { key, method, .. } => {
                self.media.waiting.requests.insert((key.clone(), method.clone()), id);
            }
            Who::Reply(key) => {
                self.media.waiting.replies.insert(key.clone(), id);
            }
        }
        self.hold(cost);
        self.media.waiting.all.insert(id, waiter);
        true
    }

    fn ask_for(&mut self, cx: Cx<'_>, id: u64, waiter: &Waiter) -> bool {
        let Ok(message) = Message::parse(&waiter.bytes) else { return false };
        let Some(sdp) = sdp::of(&message) else { return false };
        let talk = Talk {
            verb: waiter.ask.verb,
            call_id: &waiter.ask.call_id,
            offerer: &waiter.ask.offerer,
            answerer: waiter.ask.answerer.as_deref(),
            sdp,
            flags: &waiter.ask.flags,
            source: waiter.ask.source,
        };
        self.ask_media(cx, waiter.session.node, talk, id)
    }

    fn take_waiter(&mut self, id: u64) -> Option<Waiter> {
        let waiter = self.media.waiting.all.remove(&id)?;
        match &waiter.who {
            Who::Request { key, method, .. } => {
                self.media.waiting.requests.remove(&(key.clone(), method.clone()));
            }
            Who::Reply(key) => {
                self.media.waiting.replies.remove(key);
            }
        }
        self.let_go(waiter.bytes.len() + TRANSACTION_BYTES);
        Some(waiter)
    }

    /// The caller has hung up while its INVITE waits: nobody will be called. What is left is where it came from, and
    /// the INVITE; `None` if it does not wait.
    pub(crate) fn cancel_media_request(&mut self, cx: Cx<'_>, key: &ServerKey) -> Option<(Flow, Vec<u8>)> {
        let id = *self.media.waiting.requests.get(&(key.clone(), String::from("INVITE")))?;
        self.drop_question_of(id);
        let waiter = self.take_waiter(id)?;
        if waiter.ask.answerer.is_none() {
            self.ask_delete(cx, waiter.session.node, &waiter.ask.call_id, &waiter.ask.offerer);
        } else if let Ok(request) = Message::parse(&waiter.bytes) {
            // It may have taken the offer by now.
            self.release_offer(cx, &request, &waiter.session, true);
        }
        Some((waiter.flow, waiter.bytes))
    }

    /// The rtpengine has answered.
    pub(super) fn on_media_said(&mut self, cx: Cx<'_>, id: u64, said: Said) {
        match said {
            Said::Done(Some(sdp)) => self.go_on(cx, id, Ok(sdp)),
            Said::Busy => self.try_next(cx, id, Why::Refused),
            Said::Done(None) | Said::Error(_) => self.go_on(cx, id, Err(Why::Refused)),
        }
    }

    /// It has not answered in time.
    pub(super) fn on_media_silent(&mut self, cx: Cx<'_>, id: u64) {
        self.try_next(cx, id, Why::Nobody);
    }

    /// An offer can go to another rtpengine; an answer only where its offer is.
    fn try_next(&mut self, cx: Cx<'_>, id: u64, why: Why) {
        let Some(waiter) = self.media.waiting.all.get_mut(&id) else { return };
        waiter.tried.push(waiter.session.node);
        let seed = self.settings.keys.own_number("media", &[waiter.ask.call_id.as_bytes()]);
        let nodes = &self.settings.config.media.nodes;
        let next = (waiter.ask.verb == Verb::Offer)
            .then(|| {
                choice::choose(nodes, waiter.session.set, seed, &waiter.tried, &self.media.fares, cx.state)
            })
            .flatten();
        let Some(next) = next else {
            self.go_on(cx, id, Err(why));
            return;
        };
        waiter.session.node = next;
        let Some(waiter) = self.media.waiting.all.remove(&id) else { return };
        let asked = self.ask_for(cx, id, &waiter);
        self.media.waiting.all.insert(id, waiter);
        if !asked {
            self.go_on(cx, id, Err(Why::Nobody));
        }
    }

    /// What waits goes on.
    fn go_on(&mut self, cx: Cx<'_>, id: u64, outcome: Result<Vec<u8>, Why>) {
        let Some(waiter) = self.take_waiter(id) else { return };
        let Ok(message) = Message::parse(&waiter.bytes) else { return };
        let changed = outcome.as_ref().ok().map(|sdp| sdp::replaced(&message, sdp));
        let changed = changed.as_deref().map(Message::parse);
        // With SDP that makes it too large it is no message any more.
        let outcome = if matches!(changed, Some(Err(_))) { Err(Why::Refused) } else { outcome };
        if outcome.is_err() {
            self.counters.media_failed += 1;
        }
        let next = changed.and_then(Result::ok).unwrap_or_else(|| message.clone());
        match waiter.who {
            Who::Request { key, found, stage, .. } => {
                let Some(method) = next.method() else { return };
                let mut found = *found;
                let offers = waiter.ask.verb == Verb::Offer;
                if outcome.is_ok() && method == Method::Ack {
                    self.agree_by_ack(cx, &message, waiter.ask.source);
                }
                let session = (outcome.is_ok() && offers).then(|| Box::new(waiter.session));
                found.media = MediaStep::Settled(session);
                let passage = Passage { message: &next, method, flow: waiter.flow, key, found };
                match outcome {
                    Err(why) if offers && self.refuses_without_media() => {
                        self.refuse_without_media(cx, &passage, why);
                    }
                    _ => self.walk(cx, passage, stage),
                }
            }
            Who::Reply(key) => {
                let source = waiter.ask.source;
                match (key.client, outcome) {
                    (Some(Client::Call(call, index)), Ok(given)) => {
                        let treated = |asked| Treated { to_tag: key.to_tag, asked, source, given };
                        self.note_treated(cx, (call, index), waiter.session.node, &message, treated);
                    }
                    (Some(Client::Exchange(id, _)), Ok(_)) => self.note_answer(cx, id, &message, source),
                    _ => {}
                }
                self.take_response(cx, waiter.flow, &next, true);
            }
        }
    }

    fn refuses_without_media(&self) -> bool {
        self.settings.config.media.on_failure == OnFailure::Reject
    }

    /// A request whose media nobody takes.
    pub(super) fn refuse_without_media(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>, why: Why) {
        let (status, reason) = match why {
            Why::Refused => (488, ""),
            Why::Nobody => (503, "No Media Proxy"),
        };
        self.account_refused(cx, passage, status, reason);
        self.reject(passage, status, reason);
    }
}
