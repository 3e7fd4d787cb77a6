//! One call of automatic phones through nodes that die: a network with delay, a cluster with delay, and a node that is
//! lost after any one of its outputs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use proxy_core::dns::{Answer, Question, Record};
use proxy_core::engine::Engine;
use proxy_core::io::{EngineConfig, Output, Refusal, Ticket};
use proxy_core::state::{BranchState, SipCommand, SipResponse, SipState};
use proxy_core::time::{MonoTime, Now, WallTime};

use crate::common::phones::{Callee, Caller};
use crate::common::story::{addr, flow_of, header, register};

/// Milliseconds a datagram takes, and a commit.
const NETWORK: u64 = 1;
const COMMIT: u64 = 3;

/// What becomes of proposals under way when their node is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Committed,
    /// The first half of them.
    Halved,
}

/// When a node is lost.
#[derive(Debug, Clone, Copy)]
pub struct Kill {
    /// After this many outputs of the run (counted from 1), the last one included.
    pub after_output: u64,
    pub fate: Fate,
    /// Milliseconds until the next node is active.
    pub outage: u64,
}

/// Small faults, drawn from a seed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Of 1000 datagrams, so many are lost.
    pub loss: u64,
    /// Of 1000 datagrams, so many come twice.
    pub twice: u64,
    /// Of 1000 proposals, so many are refused; half of these are committed all the same.
    pub refused: u64,
    /// Milliseconds by which a datagram may be late.
    pub jitter: u64,
}

enum Event {
    ToProxy(SocketAddr, String),
    ToPhone(SocketAddr, String),
    Commit(u64, Ticket, SipCommand),
    /// The DNS answers this node.
    Resolved(u64, Question),
    /// An ICMP error comes back to the node.
    Unreachable(SocketAddr),
    Active,
}

pub struct Sim {
    pub state: SipState,
    pub engine: Option<Engine>,
    config: EngineConfig,
    generation: u64,
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    pub outputs: u64,
    kills: Vec<Kill>,
    faults: Faults,
    seed: u64,
    pub caller: Caller,
    pub callees: Vec<Callee>,
    /// What the DNS knows.
    zone: Vec<(Question, Vec<Record>)>,
    pub trace: Vec<String>,
    pub registered: bool,
    pub rebuilt: u64,
    /// Which nodes have heard of each callee, by their number.
    heard: std::collections::BTreeSet<(u64, SocketAddr)>,
    safe: Safe,
    /// The proxy has sent a final response to the INVITE at least once.
    pub final_sent: bool,
    /// Promises that left before they were safe.
    pub broken: Vec<String>,
}

/// What a majority has known at some time.
#[derive(Debug, Default)]
struct Safe {
    admitted: bool,
    cancelled: bool,
    /// Finals for the caller, byte for byte.
    finals: Vec<String>,
    /// A later round of branches is known.
    rounds: bool,
    /// A branch has moved to another address.
    moved: bool,
    /// Branch parameters of the copies that are known.
    branches: Vec<String>,
    /// To tags of branches whose failure is known.
    failed_tags: Vec<String>,
    /// Branch parameters of copies whose branch has ended, or gone on elsewhere, without a word.
    given_up: Vec<String>,
    /// To tags of callees that have answered a BYE of the proxy's own.
    hung_up: Vec<String>,
    decided: bool,
    ended: bool,
}

impl Safe {
    fn learn(&mut self, command: &SipCommand, response: &SipResponse) {
        if matches!(response, SipResponse::NotFound | SipResponse::Full) {
            return;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match command {
            SipCommand::InviteReceived(record) => {
                self.admitted = true;
                self.branches.extend(record.branches.iter().map(|b| b.via_branch.clone()));
            }
            SipCommand::BranchesAdded { branches, .. } if *response == SipResponse::Done => {
                self.rounds = true;
                self.branches.extend(branches.iter().map(|b| b.via_branch.clone()));
            }
            SipCommand::BranchMoved { branch, via_branch, .. } if *response == SipResponse::Done => {
                // A copy of its own, and the one before is nobody's.
                self.moved = true;
                if let Some(known) = self.branches.get_mut(usize::from(*branch)) {
                    self.given_up.push(std::mem::replace(known, via_branch.clone()));
                }
            }
            SipCommand::InviteCancelled { .. } => self.cancelled = true,
            SipCommand::InviteAnswered { response, .. } | SipCommand::InviteFailed { response, .. } => {
                self.decided = true;
                self.finals.push(text(response));
            }
            SipCommand::BranchProgress { branch, state: BranchState::Final { response, .. }, .. } => {
                let known = text(response);
                if known.is_empty() {
                    self.given_up.extend(self.branches.get(usize::from(*branch)).cloned());
                }
                self.failed_tags.push(to_tag(&known));
            }
            SipCommand::DialogEnded { .. } => self.ended = true,
            _ => {}
        }
    }

    fn is_given_up(&self, text: &str) -> bool {
        let via = header(text, "Via").unwrap_or_default();
        self.given_up.iter().any(|b| via.contains(b.as_str()))
    }

    /// Whether this message of the proxy promises nothing that is not safe.
    fn allows(&self, text: &str) -> bool {
        let first = text.lines().next().unwrap_or_default();
        let cseq = header(text, "CSeq").unwrap_or_default();
        let status =
            first.strip_prefix("SIP/2.0 ").and_then(|r| r.get(..3)).and_then(|s| s.parse::<u16>().ok());
        match (status, cseq.split(' ').nth(1).unwrap_or_default()) {
            (None, "INVITE") if to_tag(text).is_empty() => {
                let via = header(text, "Via").unwrap_or_default();
                // A copy that its branch has left may come again, as long as its sender has not heard of it.
                self.branches.iter().chain(&self.given_up).any(|b| via.contains(b.as_str()))
            }
            (None, "INVITE") | (Some(100..=199), "INVITE") => self.admitted,
            (None, "CANCEL") if self.is_given_up(text) => true,
            (None, "CANCEL") => self.cancelled || self.decided || self.rounds || !self.failed_tags.is_empty(),
            (None, "ACK") if header(text, "Via").unwrap_or_default().matches("SIP/2.0/UDP").count() == 1 => {
                // A 503 that has moved a branch is not kept.
                self.decided
                    || self.moved
                    || self.failed_tags.contains(&to_tag(text))
                    || self.is_given_up(text)
                    || self.hung_up.contains(&to_tag(text))
            }
            (Some(200..=699), "INVITE") => self.finals.iter().any(|f| f == text),
            (Some(200), "CANCEL") => self.cancelled || self.decided,
            (Some(200), "BYE") => self.ended,
            _ => true,
        }
    }
}

fn to_tag(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    header(text, "To").unwrap_or_default().rsplit_once("tag=").map_or(String::new(), |t| t.1.to_owned())
}

impl Sim {
    pub fn new(
        config: EngineConfig,
        caller: (Caller, String),
        callees: Vec<Callee>,
        kills: Vec<Kill>,
        faults: Faults,
        (seed, state, zone): (u64, SipState, Vec<(Question, Vec<Record>)>),
    ) -> Self {
        let mut sim = Self {
            state,
            engine: None,
            config,
            generation: 0,
            now: 0,
            events: BTreeMap::new(),
            sequence: 0,
            outputs: 0,
            kills,
            faults,
            seed: seed | 1,
            caller: caller.0,
            callees,
            zone,
            trace: Vec::new(),
            registered: false,
            rebuilt: 0,
            heard: std::collections::BTreeSet::new(),
            safe: Safe::default(),
            final_sent: false,
            broken: Vec::new(),
        };
        // Registered beforehand, without faults.
        let mut engine = Engine::new(sim.config.clone());
        engine.activate(sim.at(), &sim.state);
        for callee in sim.callees.iter().filter(|c| c.contact.is_some()) {
            let params = callee.contact.unwrap_or_default();
            let place = if params.starts_with('<') {
                params.to_owned()
            } else {
                format!("<sip:bob@{}>{params}", callee.at)
            };
            let text = register("bob", callee.at, 1, &place);
            engine.handle_datagram(sim.at(), flow_of(addr(callee.at)), text.as_bytes(), &sim.state);
            while let Some(output) = engine.poll_output() {
                if let Output::Propose { ticket, command } = output {
                    let response = sim.state.apply(&command);
                    engine.handle_committed(sim.at(), ticket, response, &sim.state);
                }
            }
        }
        engine.activate(sim.at(), &sim.state);
        sim.engine = Some(engine);
        sim.datagram_to_proxy(addr(sim.caller.at), caller.1);
        sim
    }

    pub fn at(&self) -> Now {
        Now {
            mono: MonoTime(5_000_000_000_000 + self.now * 1_000_000),
            wall: WallTime(1_700_000_000_000 + self.now),
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        // xorshift64*
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        (self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below.max(1)
    }

    fn push(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + delay, self.sequence), event);
    }

    fn copies(&mut self) -> u64 {
        let dice = self.random(1000);
        if dice < self.faults.loss {
            0
        } else if dice < self.faults.loss + self.faults.twice {
            2
        } else {
            1
        }
    }

    fn datagram_to_proxy(&mut self, from: SocketAddr, text: String) {
        for _ in 0..self.copies() {
            let late = self.random(self.faults.jitter + 1);
            self.push(NETWORK + late, Event::ToProxy(from, text.clone()));
        }
    }

    fn note(&mut self, what: &str, text: &str) {
        let first = text.lines().next().unwrap_or_default();
        let cseq = text.lines().find(|l| l.starts_with("CSeq")).unwrap_or_default();
        self.trace.push(format!("{:>7} {what} {first} | {cseq}", self.now));
    }

    /// Takes the engine's outputs, until it is lost.
    fn drain(&mut self) {
        while let Some(output) = self.engine.as_mut().and_then(Engine::poll_output) {
            self.outputs += 1;
            match output {
                Output::Transmit { flow, bytes } => {
                    let text = String::from_utf8(bytes).expect("text");
                    self.note(&format!("proxy -> {}", flow.remote), &text);
                    if !self.safe.allows(&text) {
                        self.note("BROKEN RULE", &text);
                        self.broken.push(text.clone());
                    }
                    let is_final = text.starts_with("SIP/2.0") && !text.starts_with("SIP/2.0 1");
                    self.final_sent |= is_final && text.contains(" INVITE\r\n");
                    for _ in 0..self.copies() {
                        let late = self.random(self.faults.jitter + 1);
                        self.push(NETWORK + late, Event::ToPhone(flow.remote, text.clone()));
                    }
                }
                Output::Media { .. } => {}
                Output::Resolve { question } => {
                    self.push(NETWORK, Event::Resolved(self.generation, question));
                }
                Output::Propose { ticket, command } => {
                    self.note("proposes", &format!("{command:?}").chars().take(40).collect::<String>());
                    self.push(COMMIT, Event::Commit(self.generation, ticket, command));
                }
            }
            if let Some(n) = self.kills.iter().position(|k| k.after_output == self.outputs) {
                let kill = self.kills.remove(n);
                self.kill(kill);
            }
        }
    }

    fn kill(&mut self, kill: Kill) {
        self.note("LOST", &format!("{kill:?}"));
        self.engine = None;
        let keys: Vec<(u64, u64)> = self
            .events
            .iter()
            .filter(|(_, e)| matches!(e, Event::Commit(generation, ..) if *generation == self.generation))
            .map(|(k, _)| *k)
            .collect();
        let kept = match kill.fate {
            Fate::Lost => 0,
            Fate::Committed => keys.len(),
            Fate::Halved => keys.len() / 2,
        };
        for (n, key) in keys.into_iter().enumerate() {
            if let Some(Event::Commit(_, _, command)) = self.events.remove(&key)
                && n < kept
            {
                let response = self.state.apply(&command);
                self.safe.learn(&command, &response);
            }
        }
        self.generation += 1;
        self.push(kill.outage, Event::Active);
    }

    fn phones_say(&mut self, from: &'static str, out: Vec<String>) {
        for text in out {
            self.note(&format!("{from} -> proxy"), &text);
            self.datagram_to_proxy(addr(from), text);
        }
    }

    /// The next moment at which something happens.
    fn next(&self) -> Option<u64> {
        let base = 5_000_000_000_000;
        let engine = self
            .engine
            .as_ref()
            .and_then(Engine::poll_timeout)
            .map(|at| (at.0.saturating_sub(base)).div_ceil(1_000_000));
        let phones = self.callees.iter().filter_map(Callee::next).min();
        let event = self.events.keys().next().map(|(at, _)| *at);
        [engine, phones, event, self.caller.next()].into_iter().flatten().min()
    }

    /// Runs until `end` milliseconds.
    pub fn run(&mut self, end: u64) {
        let mut rounds = 0u64;
        while let Some(at) = self.next().filter(|at| *at <= end) {
            rounds += 1;
            assert!(
                rounds < 1_000_000,
                "time stands still: {:#?}",
                self.trace.iter().rev().take(20).collect::<Vec<_>>()
            );
            self.now = self.now.max(at);
            let now = self.at();
            if let Some(engine) = &mut self.engine
                && engine.poll_timeout().is_some_and(|t| t <= now.mono)
            {
                engine.handle_timeout(now, &self.state);
                self.drain();
            }
            self.run_events();
            let mut out = Vec::new();
            self.caller.tick(self.now, &mut out);
            self.phones_say(self.caller.at, out);
            for n in 0..self.callees.len() {
                let mut out = Vec::new();
                self.callees[n].tick(self.now, &mut out);
                self.phones_say(self.callees[n].at, out);
            }
        }
    }

    fn run_events(&mut self) {
        while let Some(entry) = self.events.first_entry().filter(|e| e.key().0 <= self.now) {
            let event = entry.remove();
            let now = self.at();
            match event {
                Event::ToProxy(from, text) => {
                    if let Some(engine) = &mut self.engine {
                        self.heard.insert((self.generation, from));
                        if text.starts_with("SIP/2.0") && text.contains("CSeq: 65537 BYE\r\n") {
                            self.safe.hung_up.push(to_tag(&text));
                        }
                        engine.handle_datagram(now, flow_of(from), text.as_bytes(), &self.state);
                        self.drain();
                    }
                }
                Event::ToPhone(to, text) => {
                    let mut out = Vec::new();
                    if to == addr(self.caller.at) {
                        self.caller.on(self.now, &text, &mut out);
                        self.phones_say(self.caller.at, out);
                    } else if self.callees.iter().any(|c| addr(c.at) == to && c.is_absent()) {
                        self.push(NETWORK, Event::Unreachable(to));
                    } else if let Some(n) = self.callees.iter().position(|c| addr(c.at) == to) {
                        self.callees[n].on(self.now, &text, &mut out);
                        self.phones_say(self.callees[n].at, out);
                    }
                }
                Event::Commit(generation, ticket, command) => {
                    assert_eq!(generation, self.generation);
                    let refused = self.random(1000) < self.faults.refused;
                    if refused && self.random(2) == 0 {
                        if let Some(engine) = &mut self.engine {
                            engine.handle_refused(now, ticket, Refusal::Unknown, &self.state);
                        }
                    } else {
                        let response = self.state.apply(&command);
                        self.safe.learn(&command, &response);
                        if let Some(engine) = &mut self.engine {
                            if refused {
                                engine.handle_refused(now, ticket, Refusal::Unknown, &self.state);
                            } else {
                                engine.handle_committed(now, ticket, response, &self.state);
                            }
                        }
                    }
                    self.drain();
                }
                Event::Resolved(generation, question) => {
                    let ttl = Duration::from_secs(60);
                    let known = self.zone.iter().find(|(q, _)| *q == question).map(|(_, r)| r.clone());
                    let answer =
                        known.map_or(Answer::Absent { ttl }, |records| Answer::Records { records, ttl });
                    if let Some(engine) = self.engine.as_mut().filter(|_| generation == self.generation) {
                        engine.handle_resolved(now, question, answer, &self.state);
                        self.drain();
                    }
                }
                Event::Unreachable(at) => {
                    if let Some(engine) = &mut self.engine {
                        engine.handle_transport_failure(now, flow_of(at), &self.state);
                        self.drain();
                    }
                }
                Event::Active => {
                    let mut engine = Engine::new(self.config.clone());
                    engine.activate(now, &self.state);
                    self.rebuilt += engine.counters().rebuilt;
                    self.engine = Some(engine);
                    self.note("ACTIVE", "");
                    self.drain();
                }
            }
        }
    }

    /// Whether the last node has ever heard of this callee: with all that it says lost, nobody can stop its ringing.
    pub fn was_heard(&self, callee: &Callee) -> bool {
        self.faults.loss == 0 || self.heard.contains(&(self.generation, addr(callee.at)))
    }

    /// Whether the caller may know nothing because all that was sent to it was lost.
    pub fn final_was_lost(&self) -> bool {
        self.faults.loss > 0 && self.final_sent
    }

    /// The whole story, for a failing test.
    pub fn tell(&self) -> String {
        self.trace.join("\n")
    }
}

/// How long a run takes until all timers of all parties have ended, also the last resort of the replicated state.
pub fn long() -> u64 {
    u64::try_from(Duration::from_secs(1000).as_millis()).expect("fits")
}
