//! One engine thread: takes a turn from its mailbox, lets the pure engine handle it under one read of the state,
//! and carries out what the engine wants.

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proxy_core::digest::Replay;
use proxy_core::engine::{Engine, Together};
use proxy_core::io::{Counters, EngineConfig, Output};
use proxy_core::media::Health;
use proxy_core::msg::{bare_refusal, fingerprint_of};
use proxy_core::routing::Bans;
use proxy_core::state::{Flow, SipState, Transport};
use proxy_core::time::{Clocks, MonoTime, Now, RealTime};
use raft_store::contain::contained;

use crate::admin::ban;
use crate::bridge::Store;
use crate::capture::{Direction, Tap};

use super::dns::Dns;
use super::mailbox::{Arrival, Mailbox, Order, Turn};
use super::media::Media;
use super::poison::Poison;
use super::stream::Streams;
use super::{NetError, batch};

/// How long an engine with nothing to do sleeps at most.
const IDLE: Duration = Duration::from_secs(1);
/// An engine that fails so often within [`FAILURES_WITHIN`] ends the process: beginning anew is no help.
const MAX_FAILURES: usize = 16;
/// See [`MAX_FAILURES`].
const FAILURES_WITHIN: Duration = Duration::from_secs(60);
/// Value of [`Shared::active`] while the engine is not active. Tokens are log indexes, from 1.
pub const INACTIVE: u64 = 0;

/// What others see of an engine thread.
#[derive(Debug, Default)]
pub struct Shared {
    /// The fence token it is active under, or [`INACTIVE`].
    pub active: AtomicU64,
    /// Number of the last order to activate or deactivate that has been carried out.
    pub obeyed: AtomicU64,
    counters: Mutex<Counters>,
    media: Mutex<Vec<(SocketAddr, Health)>>,
    /// Datagrams the kernel would not take, and questions to rtpengines that came after the end of the lease.
    pub send_failed: AtomicU64,
}

impl Shared {
    /// The engine's counters as of its last turn.
    #[must_use]
    pub fn counters(&self) -> Counters {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the media proxies fare, as the engine sees it.
    #[must_use]
    pub fn media(&self) -> Vec<(SocketAddr, Health)> {
        self.media.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The sockets by their local address, to send from.
pub type Sockets = Arc<BTreeMap<SocketAddr, Arc<UdpSocket>>>;

/// Everything an engine thread needs.
pub struct Parts<S> {
    /// For the pure engine.
    pub config: EngineConfig,
    /// Its queue.
    pub mailbox: Arc<Mailbox>,
    /// What others see.
    pub shared: Arc<Shared>,
    /// The replicated state.
    pub store: S,
    /// For what it sends.
    pub sockets: Sockets,
    /// For what it sends by TCP, if there is TCP.
    pub streams: Option<Streams>,
    /// For what it says to media proxies, if there are any.
    pub media: Option<Media>,
    /// For what it has to ask.
    pub dns: Arc<Dns>,
    /// Both clocks.
    pub clock: fn() -> Clocks,
    /// Called when an order has been obeyed.
    pub changed: Arc<dyn Fn() + Send + Sync>,
    /// Nonce counts that any engine has seen.
    pub replay: Replay,
    /// Who sends too much, over all engines.
    pub bans: Bans,
    /// What all engines know together.
    pub together: Together,
    /// Sees what is heard and said.
    pub tap: Tap,
    /// Messages that no engine survives.
    pub poison: Arc<Poison>,
    /// Nothing new is taken in.
    pub no_room: Arc<AtomicBool>,
}

impl<S> std::fmt::Debug for Parts<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("shard", &self.config.shard).finish_non_exhaustive()
    }
}

/// Starts the thread; [`Order::Stop`] ends it.
///
/// # Errors
/// The thread cannot be started.
pub fn start<S: Store>(parts: Parts<S>) -> Result<std::thread::JoinHandle<()>, NetError> {
    std::thread::Builder::new()
        .name(format!("relevo-sip-{}", parts.config.shard))
        .spawn(move || {
            let engine = engine_of(&parts);
            let (outbox, failures) = (BTreeMap::new(), VecDeque::new());
            Runner { parts, engine, epoch: 0, active: INACTIVE, obeyed: 0, outbox, failures }.run();
        })
        .map_err(NetError::Thread)
}

/// One that has not begun.
fn engine_of<S>(parts: &Parts<S>) -> Engine {
    let Parts { config, replay, bans, together, .. } = parts;
    let engine = Engine::sharing(config.clone(), replay.clone()).with_bans(bans.clone());
    let engine = engine.with_together(together.clone());
    #[cfg(debug_assertions)]
    let engine = engine.drilled(Some(|name| super::drill::die_of(name.as_bytes())));
    engine
}

struct Runner<S> {
    parts: Parts<S>,
    engine: Engine,
    epoch: u64,
    active: u64,
    obeyed: u64,
    outbox: BTreeMap<SocketAddr, Vec<(SocketAddr, Vec<u8>)>>,
    /// When this engine has failed lately.
    failures: VecDeque<MonoTime>,
}

impl<S: Store> Runner<S> {
    /// Who is banned is in the log: an operator whose phones are silent looks there.
    fn tell_bans(&self, now: Now) {
        let Some(limit) = &self.parts.config.routing.screen.flood else { return };
        let Some(news) = self.parts.bans.news(now.mono) else { return };
        let names: Vec<String> = news.sources.iter().map(|source| ban::name(*source)).collect();
        let others = if news.others > 0 { format!(" and {} more", news.others) } else { String::new() };
        tracing::warn!(
            "banned {}{others}: more than {} requests in {} s; ignored for {} s (see relevo ban list)",
            names.join(", "),
            limit.requests,
            limit.window.as_secs(),
            limit.ban.as_secs(),
        );
    }

    /// Who is kept out, and from where, is in the log as well.
    fn tell_strangers(&self, now: Now) {
        let Some(news) = self.parts.together.strangers.news(now.mono) else { return };
        let (source, requests) = (ban::name(news.source), news.requests);
        tracing::warn!(
            "{requests} request(s) of strangers got 503, the first from {source}: as much as may be is kept for who has \
             proved nothing (strangers_refused in relevo status --json; docs/operating.md, Strangers)"
        );
    }

    fn run(mut self) {
        loop {
            let before = (self.parts.clock)().mono;
            let sleep = self.engine.poll_timeout().map_or(IDLE, |at| at.since(before).min(IDLE));
            let turn = self.parts.mailbox.take(sleep);
            if turn.orders.iter().any(|o| matches!(o, Order::Stop)) {
                return;
            }
            let clocks = (self.parts.clock)();
            let store = self.parts.store.clone();
            let now = store.now(clocks);
            let before = self.obeyed;
            self.engine.refuse_new(self.parts.no_room.load(Ordering::Acquire));
            store.read(|state| self.turn((now, clocks.real), turn, state));
            self.carry_out();
            self.tell_bans(now);
            self.tell_strangers(now);
            if before != self.obeyed {
                self.parts.shared.active.store(self.active, Ordering::Release);
                self.parts.shared.obeyed.store(self.obeyed, Ordering::Release);
                (self.parts.changed)();
            }
        }
    }

    /// Shows others the figures.
    fn show(&self) {
        let shared = &self.parts.shared;
        *shared.counters.lock().unwrap_or_else(PoisonError::into_inner) = self.engine.counters();
        if self.parts.media.is_some() {
            *shared.media.lock().unwrap_or_else(PoisonError::into_inner) = self.engine.media_health();
        }
    }

    fn turn(&mut self, (now, real): (Now, RealTime), turn: Turn, state: &SipState) {
        for order in turn.orders {
            self.survive(now, state, |runner| runner.obey(now, order, state));
        }
        for arrival in turn.arrivals {
            match arrival {
                Arrival::Message(flow, bytes) => self.message((now, real), flow, &bytes, state),
                Arrival::Media(from, bytes) => {
                    self.survive(now, state, |runner| runner.engine.handle_media(now, from, &bytes, state));
                }
                Arrival::Failed(flow) => {
                    self.survive(now, state, |runner| {
                        runner.engine.handle_transport_failure(now, flow, state)
                    });
                }
            }
        }
        if self.engine.poll_timeout().is_some_and(|at| at <= now.mono) {
            self.survive(now, state, |runner| runner.engine.handle_timeout(now, state));
        }
    }

    fn obey(&mut self, now: Now, order: Order, state: &SipState) {
        match order {
            Order::Activate { token, number } => {
                self.epoch += 1;
                // Before: an engine that fails here is active all the same, and begins anew.
                (self.active, self.obeyed) = (token, number);
                self.engine.activate(now, state);
            }
            Order::Deactivate { number } => {
                self.epoch += 1;
                (self.active, self.obeyed) = (INACTIVE, number);
                self.engine.deactivate();
            }
            Order::Verdict { epoch, ticket, outcome } if epoch == self.epoch => match outcome {
                Ok(response) => self.engine.handle_committed(now, ticket, response, state),
                Err(why) => self.engine.handle_refused(now, ticket, why, state),
            },
            Order::Resolved { epoch, question, answer } if epoch == self.epoch => {
                self.engine.handle_resolved(now, question, answer, state);
            }
            Order::Settings(config) => {
                // Also for an engine that begins anew.
                self.parts.config = config.kept_from(&self.parts.config);
                self.engine.handle_settings(self.parts.config.clone());
            }
            Order::Verdict { .. } | Order::Resolved { .. } | Order::Stop => {}
        }
    }

    fn message(&mut self, (now, real): (Now, RealTime), flow: Flow, bytes: &[u8], state: &SipState) {
        if !self.engine.is_active() {
            return self.engine.handle_datagram(now, flow, bytes, state);
        }
        self.parts.tap.see(Direction::In, flow, bytes, real);
        let fingerprint = fingerprint_of(bytes);
        if self.parts.poison.refuses(fingerprint) {
            return self.refuse(flow, fingerprint, bytes);
        }
        let shard = self.parts.config.shard;
        self.parts.poison.note(shard, fingerprint);
        let outcome = contained(|| {
            #[cfg(debug_assertions)]
            super::drill::die_of(bytes);
            self.engine.handle_datagram(now, flow, bytes, state);
        });
        self.parts.poison.note(shard, 0);
        if let Err(why) = outcome {
            // However often: the process would end here, and then the next node's, and the messages would go on to come.
            self.begin_anew(now, state, &why);
            self.parts.poison.has_killed(fingerprint, real.0);
        }
    }

    /// No engine has survived it: it is kept to be sent in, and who sent it is told so.
    fn refuse(&mut self, flow: Flow, fingerprint: u64, bytes: &[u8]) {
        if let Some(path) = self.parts.poison.keep(fingerprint, bytes) {
            tracing::error!(
                "a message from {} that engines have died with is in {}: please send it in",
                flow.remote,
                path.display()
            );
        }
        let Some(answer) = bare_refusal(bytes) else { return };
        match &self.parts.streams {
            Some(streams) if flow.transport == Transport::Tcp => streams.send(flow, answer),
            _ => self.outbox.entry(flow.local).or_default().push((flow.remote, answer)),
        }
    }

    /// Does it. An engine that fails although it keeps to itself what its records and timers fail at (a fault of this
    /// program) begins anew; the process ends when that is of no use.
    fn survive(&mut self, now: Now, state: &SipState, f: impl FnOnce(&mut Self)) {
        let Err(why) = contained(|| f(self)) else { return };
        self.failures.retain(|at| now.mono.since(*at) < FAILURES_WITHIN);
        self.failures.push_back(now.mono);
        if self.failures.len() > MAX_FAILURES {
            tracing::error!("engine {} fails again and again: this process ends", self.parts.config.shard);
            std::process::abort();
        }
        self.begin_anew(now, state, &why);
    }

    /// The engine forgets what it did, as at a takeover, and begins anew from the replicated state; what it was about to
    /// say is lost, as if the network had lost it.
    fn begin_anew(&mut self, now: Now, state: &SipState, why: &str) {
        tracing::error!("engine {} has failed and begins anew: {why}", self.parts.config.shard);
        self.epoch += 1;
        self.tell_left_out();
        self.engine = engine_of(&self.parts);
        // A record that cannot be taken over is left out; this is about what every call needs.
        if self.active != INACTIVE && contained(|| self.engine.activate(now, state)).is_err() {
            tracing::error!("engine {} cannot begin anew: this process ends", self.parts.config.shard);
            std::process::abort();
        }
    }

    /// What is left out is in the log, once, for whoever is to find out why.
    fn tell_left_out(&mut self) {
        while let Some(fault) = self.engine.poll_fault() {
            tracing::error!(
                "{} is left out, because this program fails at it: {}; everything else goes on; please send this in",
                fault.what,
                fault.why
            );
        }
    }

    /// Sends what is to be sent. The figures are shown before: who has an answer in hand finds it counted.
    fn carry_out(&mut self) {
        self.tell_left_out();
        self.show();
        let mut now = None;
        while let Some(output) = self.engine.poll_output() {
            if let Output::Transmit { flow, bytes } = &output {
                let at = *now.get_or_insert_with(|| (self.parts.clock)().real);
                self.parts.tap.see(Direction::Out, *flow, bytes, at);
            }
            match output {
                Output::Transmit { flow, bytes } if flow.transport == Transport::Tcp => {
                    match &self.parts.streams {
                        Some(streams) => streams.send(flow, bytes),
                        None => self.parts.mailbox.arrivals([Arrival::Failed(flow)]),
                    }
                }
                Output::Transmit { flow, bytes } => {
                    self.outbox.entry(flow.local).or_default().push((flow.remote, bytes));
                }
                Output::Media { to, bytes } => {
                    let at = (self.parts.clock)().mono;
                    if !self.parts.media.as_ref().is_some_and(|media| media.send(at, to, &bytes)) {
                        self.parts.shared.send_failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Output::Resolve { question } => {
                    let mailbox = Arc::clone(&self.parts.mailbox);
                    let epoch = self.epoch;
                    let done = Box::new(move |question, answer| {
                        mailbox.order(Order::Resolved { epoch, question, answer });
                    });
                    self.parts.dns.ask(question, done);
                }
                Output::Propose { ticket, command } => {
                    let mailbox = Arc::clone(&self.parts.mailbox);
                    let epoch = self.epoch;
                    let done =
                        Box::new(move |outcome| mailbox.order(Order::Verdict { epoch, ticket, outcome }));
                    self.parts.store.propose(command, done);
                }
            }
        }
        self.show();
        for (local, datagrams) in &mut self.outbox {
            let socket = self.parts.sockets.get(local).or_else(|| {
                // A flow of a former configuration: any socket of the family is better than none.
                self.parts.sockets.iter().find(|(a, _)| a.is_ipv4() == local.is_ipv4()).map(|(_, s)| s)
            });
            let sent = socket.map_or(0, |socket| batch::send(socket, datagrams));
            let failed = (datagrams.len() - sent) as u64;
            if failed > 0 {
                self.parts.shared.send_failed.fetch_add(failed, Ordering::Relaxed);
            }
            datagrams.clear();
        }
    }
}
