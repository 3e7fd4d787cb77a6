//! Names on their way to addresses (RFC 3263): questions that are open, and the requests that wait for them.
//!
//! A stage that meets a name whose address is not known notes what it would have to ask ([`Engine::flows_to`]) and says
//! whatever it likes: the request is put aside with what the stages before had found, and goes on from there when the
//! answers have come. Nothing has been promised to its sender by then, so that a takeover forgets it; its
//! retransmission starts anew.
//!
//! | event | then |
//! |---|---|
//! | all answers have come | the request goes on |
//! | no answer within `DnsConfig::patience` | counts as a failure of the question |
//! | the same request again | absorbed |
//! | its CANCEL | 487 to the request, 200 to the CANCEL |
//! | a bound is reached | 503 |

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::limits::{MAX_HELD_BYTES, TRANSACTION_BYTES};
use super::{Cx, Engine, Timer};
use crate::dns::{Answer, Cache, Located, Question, Reach, Wanted, locate};
use crate::io::Output;
use crate::location::{Hop, hop_by};
use crate::msg::{Message, Method};
use crate::route::passage::{Found, Passage};
use crate::state::{Flow, ServerKey, SipState, Transport};
use crate::time::{MonoTime, Now};

/// Requests that wait for an answer of the DNS; more get a 503.
pub const MAX_PARKED: usize = 4096;
/// Questions that are open at once; a request that needs one more gets a 503.
pub const MAX_QUESTIONS: usize = 1024;
/// How often one request may be put aside: NAPTR, SRV, addresses, and as often again when answers end meanwhile.
const MAX_ROUNDS: u8 = 8;

/// A request that waits.
#[derive(Debug)]
struct Parked {
    flow: Flow,
    key: ServerKey,
    method: String,
    bytes: Vec<u8>,
    found: Found,
    /// Number of the stage where it goes on.
    stage: usize,
    open: BTreeSet<Question>,
    rounds: u8,
}

/// What the engine knows of names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    cache: Cache,
    /// The moment at hand, for those that only look.
    now: MonoTime,
    /// What the stage at work would have to know. Behind a cell, because targets are derived by functions that
    /// change nothing else.
    missing: RefCell<Vec<Question>>,
    /// Open questions, and until when they are waited for.
    asked: BTreeMap<Question, MonoTime>,
    parked: BTreeMap<u64, Parked>,
    /// All of these but ACKs, which nobody repeats on purpose.
    parked_by_key: BTreeMap<(ServerKey, String), u64>,
    /// How often the request at work has been put aside.
    rounds: u8,
    /// Hosts that refused TCP for a large request, until when UDP is used at once.
    pub(super) without_tcp: BTreeMap<SocketAddr, MonoTime>,
}

impl Names {
    /// Whether the stage at work lacks an answer.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.missing.borrow().is_empty()
    }

    /// Notes the time for what follows.
    pub(crate) fn at(&mut self, now: MonoTime) {
        self.now = now;
    }

    /// The moment at hand.
    pub(super) fn now(&self) -> MonoTime {
        self.now
    }

    fn next_deadline(&self) -> Option<MonoTime> {
        self.asked.values().min().copied()
    }

    fn parked_id(&self, key: &ServerKey, method: &str) -> Option<u64> {
        if self.parked.is_empty() {
            return None;
        }
        self.parked_by_key.get(&(key.clone(), method.to_owned())).copied()
    }

    /// What was learned stays true after a deactivation; who waits is forgotten.
    pub(super) fn forget(&mut self) {
        self.parked.clear();
        self.parked_by_key.clear();
        self.asked.clear();
        self.missing.borrow_mut().clear();
    }
}

impl Engine {
    /// The flows to a hop, to be tried in order. Empty if there are none, or if answers are missing: then
    /// [`Names::is_waiting`]. `seed` decides the order among equals.
    pub(crate) fn flows_to(&self, hop: &Hop, seed: u64) -> Vec<Flow> {
        let listen = &self.settings.config.listen;
        match hop {
            Hop::None => Vec::new(),
            Hop::Send(flow) if flow.transport.is_reliable() && !self.settings.config.transport.tcp => {
                Vec::new()
            }
            Hop::Send(flow) => vec![*flow],
            Hop::Name { host, port, transport } => {
                let reach = Reach {
                    ipv4: listen.iter().any(SocketAddr::is_ipv4),
                    ipv6: listen.iter().any(SocketAddr::is_ipv6),
                    tcp: self.settings.config.transport.tcp,
                };
                let wanted = Wanted { host, port: *port, transport: *transport };
                let dns = &self.settings.config.dns;
                match locate(&self.names.cache, self.names.now, dns, wanted, reach, seed) {
                    Located::Nowhere => Vec::new(),
                    Located::Ask(questions) => {
                        self.names.missing.borrow_mut().extend(questions);
                        Vec::new()
                    }
                    Located::Found(list) => list
                        .into_iter()
                        .filter_map(|d| match hop_by(d.transport, d.address, listen) {
                            Hop::Send(flow) => Some(flow),
                            _ => None,
                        })
                        .collect(),
                }
            }
        }
    }

    /// The same for what the proxy does of its own accord: `None` when the DNS has been asked first, so that it is
    /// tried again with the next tick.
    pub(crate) fn flows_or_ask(&mut self, cx: Cx<'_>, hop: &Hop, seed: u64) -> Option<Vec<Flow>> {
        self.names.now = cx.now.mono;
        let flows = self.flows_to(hop, seed);
        let missing = std::mem::take(self.names.missing.get_mut());
        if missing.is_empty() {
            return Some(flows);
        }
        self.ask(cx.now.mono, &missing);
        None
    }

    /// Asks what a target that was just derived outside of the stages lacks. `false` if it lacks nothing, or nothing can
    /// be asked.
    pub(crate) fn asks_for_names(&mut self, cx: Cx<'_>) -> bool {
        let missing = std::mem::take(self.names.missing.get_mut());
        !missing.is_empty() && self.ask(cx.now.mono, &missing)
    }

    /// Asks what is not asked already. `false` when there are too many questions.
    fn ask(&mut self, now: MonoTime, questions: &[Question]) -> bool {
        for question in questions {
            if self.names.asked.contains_key(question) {
                continue;
            }
            if self.names.asked.len() >= MAX_QUESTIONS {
                return false;
            }
            self.counters.dns_asked += 1;
            self.names.asked.insert(question.clone(), now + self.settings.config.dns.patience);
            self.outputs.push_back(Output::Resolve { question: question.clone() });
        }
        self.timers.set(Timer::Names, self.names.next_deadline());
        true
    }

    /// Puts a request aside until what it needs is known.
    pub(crate) fn park(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>, found: Found, stage: usize) {
        let missing = std::mem::take(self.names.missing.get_mut());
        let bytes = passage.message.raw().to_vec();
        let cost = bytes.len() + TRANSACTION_BYTES;
        let full = self.names.parked.len() >= MAX_PARKED || self.held_bytes + cost > MAX_HELD_BYTES;
        if full || self.names.rounds >= MAX_ROUNDS || !self.ask(cx.now.mono, &missing) {
            self.reject_overload(passage.flow, passage.message.raw());
            return;
        }
        self.explain("waits", || String::from("for the DNS"));
        self.held_bytes += cost;
        let id = self.new_id();
        let parked = Parked {
            flow: passage.flow,
            key: passage.key.clone(),
            method: passage.method.as_str().to_owned(),
            bytes,
            found,
            stage,
            open: missing.into_iter().collect(),
            rounds: self.names.rounds + 1,
        };
        if passage.method != Method::Ack {
            self.names.parked_by_key.insert((parked.key.clone(), parked.method.clone()), id);
        }
        self.names.parked.insert(id, parked);
    }

    fn unpark(&mut self, id: u64) -> Option<Parked> {
        let parked = self.names.parked.remove(&id)?;
        let by_key = (parked.key.clone(), parked.method.clone());
        if self.names.parked_by_key.get(&by_key) == Some(&id) {
            self.names.parked_by_key.remove(&by_key);
        }
        self.held_bytes = self.held_bytes.saturating_sub(parked.bytes.len() + TRANSACTION_BYTES);
        Some(parked)
    }

    /// Whether this request waits already.
    pub(crate) fn is_parked(&self, key: &ServerKey, method: Method<'_>) -> bool {
        self.names.parked_id(key, method.as_str()).is_some() || self.media.has_request(key, method.as_str())
    }

    /// The INVITE that a CANCEL is for waits for the DNS: nobody will be called. `false` if it does not.
    pub(crate) fn cancel_parked(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>) -> bool {
        if let Some((flow, bytes)) = self.cancel_media_request(cx, &passage.key) {
            self.reject_with(passage.flow, passage.message, 200, "", &[]);
            if let Ok(invite) = Message::parse(&bytes) {
                self.reject_with(flow, &invite, 487, "", &[]);
            }
            return true;
        }
        let Some(parked) = self.names.parked_id(&passage.key, "INVITE").and_then(|id| self.unpark(id)) else {
            return false;
        };
        self.reject_with(passage.flow, passage.message, 200, "", &[]);
        if let Ok(invite) = Message::parse(&parked.bytes) {
            self.reject_with(parked.flow, &invite, 487, "", &[]);
        }
        true
    }

    /// The answer to `Output::Resolve`, also when there is none ([`Answer::Failed`]).
    pub fn handle_resolved(&mut self, now: Now, question: Question, answer: Answer, state: &SipState) {
        if !self.active || self.names.asked.remove(&question).is_none() {
            return;
        }
        self.learn(Cx { now, state }, question, answer);
        self.timers.set(Timer::Names, self.names.next_deadline());
    }

    /// Questions that nobody has answered in time.
    pub(super) fn on_names_timeout(&mut self, cx: Cx<'_>) {
        let late: Vec<Question> =
            self.names.asked.iter().filter(|(_, at)| **at <= cx.now.mono).map(|(q, _)| q.clone()).collect();
        for question in late {
            self.names.asked.remove(&question);
            self.learn(cx, question, Answer::Failed);
        }
        self.timers.set(Timer::Names, self.names.next_deadline());
    }

    fn learn(&mut self, cx: Cx<'_>, question: Question, answer: Answer) {
        self.names.now = cx.now.mono;
        if answer == Answer::Failed {
            self.counters.dns_failed += 1;
        }
        let mut ready = Vec::new();
        for (id, parked) in &mut self.names.parked {
            if parked.open.remove(&question) && parked.open.is_empty() {
                ready.push(*id);
            }
        }
        self.names.cache.insert(cx.now.mono, &self.settings.config.dns, question, answer);
        for id in ready {
            let Some(parked) = self.unpark(id) else { continue };
            let Ok(message) = Message::parse(&parked.bytes) else { continue };
            let Some(method) = message.method() else { continue };
            self.names.rounds = parked.rounds;
            let Parked { flow, key, found, stage, .. } = parked;
            let name =
                || format!("a request that waited for the DNS, Call-ID {}", message.call_id().unwrap_or(""));
            self.contain(name, |engine| {
                engine.walk(cx, Passage { message: &message, method, flow, key, found }, stage);
            });
            self.names.rounds = 0;
        }
    }

    /// Whether a large request to this address is tried by TCP (RFC 3261 §18.1.1).
    pub(crate) fn may_switch_to_tcp(&self, remote: SocketAddr) -> bool {
        self.settings.config.transport.tcp
            && self.names.without_tcp.get(&remote).is_none_or(|until| *until <= self.names.now)
    }

    /// The flow by another transport.
    pub(crate) fn by_tcp(flow: Flow) -> Flow {
        Flow { transport: Transport::Tcp, ..flow }
    }
}
