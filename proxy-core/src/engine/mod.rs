//! The SIP engine: one shard of the proxy, pure. [`crate::io`] is its contract with the shell.
//!
//! Datagrams go through the stages of `route`; what they start lives in `proxy`. Whatever must
//! survive this node is proposed first, and the message that would acknowledge it leaves when the verdict has come:
//!
//! | leaves only after its verdict | proposal |
//! |---|---|
//! | 2xx to REGISTER | `Register` |
//! | 100 to INVITE, and its copies | `InviteReceived` |
//! | 200 to CANCEL, and the CANCELs of the branches | `InviteCancelled` |
//! | 2xx to INVITE, for the caller | `InviteAnswered` |
//! | ACK to a failed branch while the call is undecided | `BranchProgress` (final), or `InviteFailed` |
//! | the INVITEs of a later round (failover, voicemail) | `BranchesAdded` |
//! | failure of an INVITE that was forwarded, for the caller | `InviteFailed` |
//! | the first ACK of a dialog, for the callee | `DialogAcked` |
//! | the answer to a BYE that ends its dialog: 2xx, 408, 481 | `DialogEnded` |
//!
//! A refused proposal leaves silence, so that the peer's retransmission tries again; only an overload is answered,
//! with 503. What nobody retransmits (a decision that timer C made) is tried again here.

pub(crate) mod apart;
mod chores;
mod explain;
mod failure;
pub(crate) mod keys;
pub mod limits;
pub(crate) mod names;
pub(crate) mod settings;
mod tables;
pub(crate) mod ticket;
mod together;

pub use apart::{Drill, Fault};
pub use keys::shard_of;
pub use names::{MAX_PARKED, MAX_QUESTIONS};
pub use together::Together;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::digest::Replay;
use crate::io::{Counters, EngineConfig, Output, Refusal, Ticket};
use crate::msg::{Message, ParseError};
use crate::proxy::call::Call;
use crate::proxy::exchange::{Exchange, ExchangeKey};
use crate::routing::{Bans, Explain};
use crate::state::{CountUse, Flow, ServerKey, SipCommand, SipResponse, SipState};
use crate::time::{MonoTime, Now};
use crate::transaction::TimerQueue;
use crate::uac::Errand;
use limits::{CHORES_INTERVAL, EXPIRE_INTERVAL, MAX_OUTPUTS, MAX_TICKETS};
use settings::Settings;
use ticket::Awaiting;

/// What is true at one moment: the time, and what the cluster remembers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cx<'s> {
    pub(crate) now: Now,
    pub(crate) state: &'s SipState,
}

/// Who has a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Call(u64),
    Exchange(u64),
    Errand(u64),
    Chores,
    Expire,
    /// Questions to the DNS.
    Names,
    /// A question to a media proxy.
    Media(u64),
}

/// Whom a response with a branch of ours belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Client {
    /// A branch of a call, by the INVITE or its CANCEL.
    Call(u64, usize),
    /// A branch of an exchange.
    Exchange(u64, usize),
    /// A request of our own.
    Errand(u64),
}

/// One shard of the proxy. See the module documentation.
#[derive(Debug)]
pub struct Engine {
    pub(crate) settings: Settings,
    active: bool,
    outputs: VecDeque<Output>,
    pub(crate) counters: Counters,
    next_id: u64,
    tickets: BTreeMap<Ticket, Awaiting>,
    calls: BTreeMap<u64, Box<Call>>,
    call_by_key: HashMap<ServerKey, u64>,
    /// For the ACK of a 2xx, whose branch is new.
    call_by_cseq: BTreeMap<(String, u32), u64>,
    pub(crate) exchanges: BTreeMap<u64, Box<Exchange>>,
    exchange_by_key: HashMap<ExchangeKey, u64>,
    /// Answered exchanges, oldest first: they give way when there are too many.
    finished: VecDeque<u64>,
    /// Requests of our own.
    errands: BTreeMap<u64, Box<Errand>>,
    clients: HashMap<String, Client>,
    pub(crate) dispatch: crate::dispatch::Memory,
    pub(crate) trunks: crate::trunk::Memory,
    pub(crate) probes: crate::trunk::Probes,
    pub(crate) ends: crate::dialog::end::Ends,
    pub(crate) confirming: crate::dialog::confirm::Acks,
    pub(crate) refusals: crate::accounting::Refusals,
    pub(crate) blf: crate::blf::Memory,
    pub(crate) offline: crate::offline::Memory,
    pub(crate) media: crate::media::Memory,
    timers: TimerQueue<Timer>,
    /// An `Expire` is under way.
    expiring: bool,
    /// The lap of pings to contacts behind NATs.
    pub(crate) pings: crate::nat::ping::Lap,
    pub(crate) names: names::Names,
    /// Who is told when a flow fails: branches on reliable flows, and those that have somewhere else to go.
    watched: BTreeMap<Flow, BTreeSet<Client>>,
    /// ACKs that may have to go by another flow.
    acks: VecDeque<failure::Ack>,
    /// Requests per source, where there is a limit. Those of the node, not of this engine: a deactivation leaves them.
    pub(crate) bans: Bans,
    /// What the engines of the node know together.
    pub(crate) together: Together,
    /// Where the stages write what they decide; only in an engine made by [`Engine::explained`].
    explain: Option<Explain>,
    /// What this program has failed at.
    apart: apart::Apart,
    /// Sum of the costs of all calls and exchanges, in bytes.
    held_bytes: usize,
    /// Nothing new is taken in: see [`Engine::refuse_new`].
    pub(crate) no_room: bool,
    /// Nonce counts that were used.
    pub(crate) replay: Replay,
    /// Those that the other nodes have not been told of.
    pub(crate) counts: Vec<CountUse>,
}

impl Engine {
    /// An engine that is not active.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        Self {
            settings: Settings::new(config),
            active: false,
            outputs: VecDeque::new(),
            counters: Counters::default(),
            next_id: 0,
            tickets: BTreeMap::new(),
            calls: BTreeMap::new(),
            call_by_key: HashMap::new(),
            call_by_cseq: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            exchange_by_key: HashMap::new(),
            finished: VecDeque::new(),
            errands: BTreeMap::new(),
            clients: HashMap::new(),
            dispatch: crate::dispatch::Memory::default(),
            trunks: crate::trunk::Memory::default(),
            probes: crate::trunk::Probes::default(),
            ends: crate::dialog::end::Ends::default(),
            confirming: crate::dialog::confirm::Acks::default(),
            refusals: crate::accounting::Refusals::default(),
            blf: crate::blf::Memory::default(),
            offline: crate::offline::Memory::default(),
            media: crate::media::Memory::default(),
            timers: TimerQueue::new(),
            expiring: false,
            pings: crate::nat::ping::Lap::default(),
            names: names::Names::default(),
            watched: BTreeMap::new(),
            acks: VecDeque::new(),
            bans: Bans::default(),
            together: Together::default(),
            explain: None,
            apart: apart::Apart::default(),
            held_bytes: 0,
            no_room: false,
            replay: Replay::default(),
            counts: Vec::new(),
        }
    }

    /// The same, with a memory of nonce counts that all engines of a node share: or a request that was recorded could
    /// be played back once to each of them.
    #[must_use]
    pub fn sharing(config: EngineConfig, replay: Replay) -> Self {
        Self { replay, ..Self::new(config) }
    }

    /// The same, with the requests per source and the bans that all engines of a node share.
    #[must_use]
    pub fn with_bans(self, bans: Bans) -> Self {
        Self { bans, ..self }
    }

    /// The same, with what all engines of a node know together.
    #[must_use]
    pub fn with_together(self, together: Together) -> Self {
        Self { together, ..self }
    }

    /// This node is now the one that answers: the pending INVITEs of the shard are rebuilt from `state`, and what the
    /// last owner may have left unsaid is said. What was remembered here is forgotten before.
    pub fn activate(&mut self, now: Now, state: &SipState) {
        self.forget();
        self.active = true;
        self.settings.look_at(state.provision());
        let cx = Cx { now, state };
        for record in state.pending_invites() {
            if shard_of(record.call_id.as_bytes(), self.settings.config.shards) == self.settings.config.shard
                && self.rebuild(cx, record)
            {
                self.counters.rebuilt += 1;
            }
        }
        self.contain(|| "the beginning with media proxies".into(), |engine| engine.media_begins(cx));
        self.contain(|| "the end of media of failed calls".into(), |engine| engine.delete_media_again(cx));
        // Nobody can be challenged without it.
        self.contain(|| "the key of challenges".into(), |engine| engine.auth_tick(cx));
        self.timers.set(Timer::Chores, Some(now.mono + CHORES_INTERVAL));
        if self.settings.config.shard == 0 {
            self.timers.set(Timer::Expire, Some(now.mono + EXPIRE_INTERVAL));
        }
    }

    /// This node answers no more: transactions and queued outputs are forgotten, verdicts to come are ignored.
    pub fn deactivate(&mut self) {
        self.forget();
        // Another node probes now.
        self.together.voices.clear();
        self.active = false;
    }

    /// Whether new calls, registrations and stored messages get a 503, because there is no room left to remember them.
    /// What exists goes on: refreshes, requests within dialogs, CANCEL. Stays as it is through deactivations.
    pub fn refuse_new(&mut self, refuse: bool) {
        self.no_room = refuse;
    }

    /// Goes by another configuration from the next message on; see [`EngineConfig::kept_from`] for what stays. Calls go on:
    /// what they have begun with, they keep.
    pub fn handle_settings(&mut self, config: EngineConfig) {
        self.settings.change(config);
    }

    /// Between [`Engine::activate`] and [`Engine::deactivate`].
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Takes a datagram that came on `flow`. When the engine is not active it is dropped and counted.
    pub fn handle_datagram(&mut self, now: Now, flow: Flow, bytes: &[u8], state: &SipState) {
        self.counters.received += 1;
        if !self.active {
            self.counters.dropped_inactive += 1;
            return;
        }
        self.settings.look_at(state.provision());
        let cx = Cx { now, state };
        self.names.at(now.mono);
        match Message::parse(bytes) {
            Ok(message) => {
                self.apart.is_message = true;
                match message.is_request() {
                    true => self.on_request(cx, flow, &message),
                    false => self.on_response(cx, flow, &message),
                }
                self.apart.is_message = false;
            }
            // A keepalive is as it should be (RFC 5626 §4.4.1 asks for no answer over UDP).
            Err(ParseError::Keepalive) => {}
            Err(_) => self.counters.dropped_malformed += 1,
        }
        self.read_news(cx);
    }

    /// The proposal was committed and `response` is what came of it; `state` includes it.
    pub fn handle_committed(&mut self, now: Now, ticket: Ticket, response: SipResponse, state: &SipState) {
        let Some(awaiting) = self.tickets.remove(&ticket) else { return };
        self.settings.look_at(state.provision());
        let cx = Cx { now, state };
        let name = || format!("what follows from a commit ({awaiting:?})");
        self.contain(name, |engine| engine.on_verdict(cx, awaiting, &response));
        self.read_news(cx);
    }

    fn on_verdict(&mut self, cx: Cx<'_>, awaiting: Awaiting, response: &SipResponse) {
        match awaiting {
            Awaiting::Register { exchange } => self.on_registered(cx, exchange, response),
            Awaiting::Invite { call } => self.on_admitted(cx, call, response),
            Awaiting::Cancel { call, exchange } => self.on_cancel_safe(cx, call, exchange, response),
            Awaiting::Answer { call, branch, answer } => {
                self.on_answer_safe(cx, call, branch, answer, response);
            }
            Awaiting::BranchFinal { call, branch } => self.on_final_safe(cx, call, branch),
            Awaiting::Failed { call } => self.on_failure_safe(cx, call, response),
            Awaiting::Step { call } => self.on_step_safe(cx, call, response),
            Awaiting::Moved { call, branch } => self.on_move_safe(cx, call, branch, response),
            Awaiting::Bye { exchange } => self.on_bye_safe(cx, exchange),
            Awaiting::Credentials { exchange, branch } => self.on_credentials_safe(cx, exchange, branch),
            Awaiting::Trunk { attempt } => self.on_trunk_numbered(cx, attempt, response),
            Awaiting::Subscribe { exchange } => self.on_subscribed(cx, exchange, response),
            Awaiting::Notify { attempt } => self.on_notify_numbered(cx, attempt, response),
            Awaiting::SubscriptionEnd { attempt } => self.on_subscription_ended(cx, attempt, true),
            Awaiting::Keep { exchange } => self.on_kept(cx, exchange, response),
            Awaiting::Delivered { attempt } => self.on_delivered(cx, attempt, true),
            Awaiting::Ack { ack } => self.on_ack_safe(cx, ack),
            Awaiting::Refused => self.on_refused_recorded(Some(response)),
            Awaiting::Expire => {
                self.expiring = false;
                if response.has_left_some() {
                    self.timers.set(Timer::Expire, Some(cx.now.mono));
                }
            }
            Awaiting::Nothing => {}
        }
    }

    /// The proposal was not committed, or nobody knows.
    pub fn handle_refused(&mut self, now: Now, ticket: Ticket, why: Refusal, state: &SipState) {
        let Some(awaiting) = self.tickets.remove(&ticket) else { return };
        self.settings.look_at(state.provision());
        let cx = Cx { now, state };
        let name = || format!("what follows from a proposal that was refused ({awaiting:?})");
        self.contain(name, |engine| engine.on_no_verdict(cx, awaiting, why));
    }

    fn on_no_verdict(&mut self, cx: Cx<'_>, awaiting: Awaiting, why: Refusal) {
        match awaiting {
            Awaiting::Register { exchange }
            | Awaiting::Bye { exchange }
            | Awaiting::Subscribe { exchange }
            | Awaiting::Keep { exchange } => {
                self.on_exchange_refused(cx, exchange, why);
            }
            Awaiting::Invite { call } => self.on_invite_refused(cx, call, why),
            Awaiting::Cancel { exchange, .. } => self.on_exchange_refused(cx, exchange, why),
            Awaiting::Answer { call, branch, answer } => self.on_answer_refused(cx, call, branch, answer),
            Awaiting::BranchFinal { call, branch } => self.on_final_refused(cx, call, branch),
            Awaiting::Failed { call } => self.on_failure_refused(cx, call),
            Awaiting::Step { call } => self.on_step_refused(cx, call),
            Awaiting::Moved { call, branch } => self.on_move_refused(cx, call, branch),
            Awaiting::Credentials { exchange, branch } => self.on_credentials_refused(cx, exchange, branch),
            Awaiting::Trunk { attempt } => self.on_trunk_refused(attempt),
            Awaiting::Notify { attempt } => self.on_notify_refused(attempt),
            Awaiting::SubscriptionEnd { attempt } => self.on_subscription_ended(cx, attempt, false),
            Awaiting::Delivered { attempt } => self.on_delivered(cx, attempt, false),
            Awaiting::Ack { ack } => self.on_ack_refused(cx, ack),
            Awaiting::Refused => self.on_refused_recorded(None),
            Awaiting::Expire => self.expiring = false,
            Awaiting::Nothing => {}
        }
    }

    /// Fires all timers that are due.
    pub fn handle_timeout(&mut self, now: Now, state: &SipState) {
        self.settings.look_at(state.provision());
        let cx = Cx { now, state };
        while let Some(timer) = self.timers.pop_due(now.mono) {
            self.contain(|| format!("a timer ({timer:?})"), |engine| engine.fire(cx, timer));
        }
        self.read_news(cx);
    }

    fn fire(&mut self, cx: Cx<'_>, timer: Timer) {
        match timer {
            Timer::Call(id) => self.on_call_timeout(cx, id),
            Timer::Exchange(id) => self.on_exchange_timeout(cx, id),
            Timer::Names => self.on_names_timeout(cx),
            Timer::Errand(id) => self.on_errand_timeout(cx, id),
            Timer::Media(id) => self.on_media_timeout(cx, id),
            Timer::Chores => self.on_chores(cx),
            Timer::Expire => {
                if !self.expiring && cx.state.next_end().is_some_and(|end| end <= cx.now.wall) {
                    self.expiring = self.propose(SipCommand::Expire { up_to: cx.now.wall }, Awaiting::Expire);
                }
                self.timers.set(Timer::Expire, Some(cx.now.mono + EXPIRE_INTERVAL));
            }
        }
    }

    /// What others have changed, for those who wait for it. Costs a comparison or two if there is nothing.
    pub(crate) fn read_news(&mut self, cx: Cx<'_>) {
        self.contain(|| "the look at destinations".into(), |engine| engine.watch_destinations(cx));
        self.contain(|| "the look at media that are over".into(), |engine| engine.media_look(cx));
        self.contain(|| "the look at watchers".into(), |engine| engine.presence_look(cx));
        self.contain(|| "the look at stored messages".into(), |engine| engine.messages_look(cx));
    }

    /// What is to be done next; `None` when all is done.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front()?;
        if matches!(output, Output::Transmit { .. }) {
            self.counters.sent += 1;
        }
        Some(output)
    }

    /// When [`Engine::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        self.timers.next()
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Transactions and proposals in memory: calls, other exchanges, tickets. For `status` and the tests.
    #[must_use]
    pub fn load(&self) -> (usize, usize, usize) {
        (self.calls.len(), self.exchanges.len(), self.tickets.len())
    }

    /// Bytes of messages that transactions and what waits keep in memory, as bounded by [`limits::MAX_HELD_BYTES`].
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Sends a question to a media proxy. `false` when the queue is full.
    pub(crate) fn send_to_media(&mut self, to: std::net::SocketAddr, bytes: &[u8]) -> bool {
        let fits = self.outputs.len() < MAX_OUTPUTS;
        if fits {
            self.outputs.push_back(Output::Media { to, bytes: bytes.to_vec() });
        }
        fits
    }

    /// When the question to a media proxy is looked at again; never if `None`.
    pub(crate) fn set_media_timer(&mut self, id: u64, at: Option<MonoTime>) {
        self.timers.set(Timer::Media(id), at);
    }

    /// Whether there is room for so many bytes more.
    pub(crate) fn may_hold(&self, bytes: usize) -> bool {
        self.held_bytes + bytes <= limits::MAX_HELD_BYTES
    }

    /// Adds to, or takes from, what is held.
    pub(crate) fn hold(&mut self, bytes: usize) {
        self.held_bytes += bytes;
    }

    /// The opposite.
    pub(crate) fn let_go(&mut self, bytes: usize) {
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
    }

    /// How far it has come with what it says.
    pub(crate) fn mark(&self) -> (usize, u64) {
        (self.outputs.len(), self.next_id)
    }

    /// What was said and asked since then stays unsaid.
    pub(crate) fn go_back(&mut self, (outputs, id): (usize, u64)) {
        self.outputs.truncate(outputs);
        self.tickets.split_off(&Ticket(id + 1));
    }

    fn forget(&mut self) {
        self.apart.forget();
        self.outputs.clear();
        self.tickets.clear();
        self.calls.clear();
        self.call_by_key.clear();
        self.call_by_cseq.clear();
        self.exchanges.clear();
        self.exchange_by_key.clear();
        self.finished.clear();
        self.errands.clear();
        self.clients.clear();
        self.dispatch = crate::dispatch::Memory::default();
        self.trunks = crate::trunk::Memory::default();
        self.ends = crate::dialog::end::Ends::default();
        self.confirming = crate::dialog::confirm::Acks::default();
        self.blf = crate::blf::Memory::default();
        self.offline = crate::offline::Memory::default();
        self.media = crate::media::Memory::default();
        self.timers.clear();
        self.names.forget();
        self.watched.clear();
        self.acks.clear();
        self.expiring = false;
        self.pings = crate::nat::ping::Lap::default();
        self.held_bytes = 0;
        self.counts.clear();
    }

    /// A number that this engine has not used before, also not before a deactivation.
    pub(crate) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn transmit(&mut self, flow: Flow, bytes: &[u8]) {
        if self.outputs.len() >= MAX_OUTPUTS {
            self.counters.dropped_overload += 1;
            return;
        }
        self.outputs.push_back(Output::Transmit { flow, bytes: bytes.to_vec() });
    }

    /// Asks for a commit. `false` when there are too many proposals under way: then nothing was asked.
    pub(crate) fn propose(&mut self, command: SipCommand, awaiting: Awaiting) -> bool {
        if self.tickets.len() >= MAX_TICKETS || self.outputs.len() >= MAX_OUTPUTS {
            self.counters.dropped_overload += 1;
            return false;
        }
        let command = self.with_counts(command);
        let ticket = Ticket(self.new_id());
        self.tickets.insert(ticket, awaiting);
        self.outputs.push_back(Output::Propose { ticket, command });
        true
    }
}
