//! Stories: engines over one replicated state, a cluster that commits or refuses, a network, and time moved by hand.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use proxy_core::dns::{Answer, Question, Record};
use proxy_core::engine::{Drill, Engine};
use proxy_core::io::{EngineConfig, Output, Refusal, Ticket};
use proxy_core::msg::Message;
use proxy_core::state::{Flow, SipCommand, SipState, Transport};
use proxy_core::time::{MonoTime, Now, WallTime};

pub const VIP: &str = "10.77.0.100:5060";
pub const VIP6: &str = "[fd77::100]:5060";

/// What the cluster does with proposals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cluster {
    /// Commits them at once.
    Commits,
    /// Keeps them until told.
    Waits,
    /// Refuses them.
    Refuses(Refusal),
    /// Commits them, but nobody learns of it.
    CommitsUnheard,
}

pub struct World {
    pub state: SipState,
    pub engine: Engine,
    pub config: EngineConfig,
    pub now: Now,
    pub cluster: Cluster,
    pub waiting: VecDeque<(Ticket, SipCommand)>,
    /// Messages that nobody has taken, by the address they were sent to.
    pub inbox: BTreeMap<SocketAddr, VecDeque<String>>,
    /// All commands that were applied.
    pub log: Vec<SipCommand>,
    /// Every message sent, in order.
    pub sent: Vec<(SocketAddr, String)>,
    /// The flow of each of them.
    pub flows: Vec<Flow>,
    /// Where keepalives went.
    pub keepalives: Vec<SocketAddr>,
    /// What went to media proxies and nobody has looked at.
    pub media: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Questions to the DNS that nobody has answered.
    pub asked: Vec<Question>,
    /// What the DNS knows.
    pub zone: BTreeMap<Question, Vec<Record>>,
    /// Who dies on order in each engine from the next takeover on.
    pub drill: Option<Drill>,
}

pub fn config() -> EngineConfig {
    EngineConfig {
        listen: vec![addr(VIP), addr(VIP6)],
        domains: vec![String::from("lab.test")],
        key: [7; 16],
        ..EngineConfig::default()
    }
}

pub fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub fn flow_of(remote: SocketAddr) -> Flow {
    let local = if remote.is_ipv4() { addr(VIP) } else { addr(VIP6) };
    Flow { transport: Transport::Udp, local, remote }
}

impl World {
    pub fn new() -> Self {
        Self::with(config())
    }

    pub fn with(config: EngineConfig) -> Self {
        let now = Now { mono: MonoTime(1_000_000_000_000), wall: WallTime(1_700_000_000_000) };
        let mut engine = Engine::new(config.clone());
        let state = SipState::default();
        engine.activate(now, &state);
        Self {
            state,
            engine,
            config,
            now,
            cluster: Cluster::Commits,
            waiting: VecDeque::new(),
            inbox: BTreeMap::new(),
            log: Vec::new(),
            sent: Vec::new(),
            flows: Vec::new(),
            keepalives: Vec::new(),
            media: VecDeque::new(),
            asked: Vec::new(),
            zone: BTreeMap::new(),
            drill: None,
        }
    }

    /// A message from a phone, and all that follows at once.
    pub fn send(&mut self, from: &str, text: &str) {
        self.deliver(addr(from), text);
        self.settle();
    }

    pub fn deliver(&mut self, from: SocketAddr, text: &str) {
        self.engine.handle_datagram(self.now, flow_of(from), text.as_bytes(), &self.state);
    }

    /// Takes one output. `false` if there is none.
    pub fn step(&mut self) -> bool {
        match self.engine.poll_output() {
            None => false,
            Some(Output::Transmit { flow, bytes }) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                // A keepalive is no message (RFC 5626 §3.5.1).
                if bytes == b"\r\n\r\n" {
                    self.keepalives.push(flow.remote);
                    return true;
                }
                Message::parse(&bytes).expect("what is sent can be read");
                assert!(flow.local == addr(VIP) || flow.local == addr(VIP6));
                self.sent.push((flow.remote, text.clone()));
                self.flows.push(flow);
                self.inbox.entry(flow.remote).or_default().push_back(text);
                true
            }
            Some(Output::Media { to, bytes }) => {
                self.media.push_back((to, bytes));
                true
            }
            Some(Output::Resolve { question }) => {
                self.asked.push(question);
                true
            }
            Some(Output::Propose { ticket, command }) => {
                self.waiting.push_back((ticket, command));
                true
            }
        }
    }

    /// Outputs and verdicts until there are no more.
    pub fn settle(&mut self) {
        loop {
            while self.step() {}
            if self.cluster == Cluster::Waits || !self.verdict() {
                return;
            }
        }
    }

    /// The DNS answers what was asked, and what follows from that, until nothing more is asked. Returns the questions.
    pub fn resolve(&mut self) -> Vec<Question> {
        let mut all = Vec::new();
        while let Some(question) = self.asked.pop() {
            let ttl = Duration::from_secs(60);
            let answer = match self.zone.get(&question) {
                Some(records) => Answer::Records { records: records.clone(), ttl },
                None => Answer::Absent { ttl },
            };
            all.push(question.clone());
            self.engine.handle_resolved(self.now, question, answer, &self.state);
            self.settle();
        }
        all
    }

    /// The verdict on the oldest proposal.
    pub fn verdict(&mut self) -> bool {
        let Some((ticket, command)) = self.waiting.pop_front() else { return false };
        match self.cluster {
            Cluster::Commits | Cluster::Waits => {
                let response = self.state.apply(&command);
                self.log.push(command);
                self.engine.handle_committed(self.now, ticket, response, &self.state);
            }
            Cluster::Refuses(why) => self.engine.handle_refused(self.now, ticket, why, &self.state),
            Cluster::CommitsUnheard => {
                self.state.apply(&command);
                self.log.push(command);
                self.engine.handle_refused(self.now, ticket, Refusal::Unknown, &self.state);
            }
        }
        true
    }

    /// Commits what waits, one after the other.
    pub fn commit_all(&mut self) {
        while self.step() {}
        while self.verdict() {
            while self.step() {}
        }
    }

    pub fn tick(&mut self, d: Duration) {
        self.now.mono = self.now.mono + d;
        self.now.wall = self.now.wall + d;
    }

    /// Time passes, and timers fire when they are due.
    pub fn pass(&mut self, d: Duration) {
        let end = self.now.mono + d;
        loop {
            let due = self.engine.poll_timeout().filter(|at| *at <= end);
            let Some(at) = due else { break };
            self.tick(at.since(self.now.mono));
            self.engine.handle_timeout(self.now, &self.state);
            self.settle();
        }
        self.tick(end.since(self.now.mono));
    }

    /// The node is lost: what it had not committed is gone, and another one takes over `after` that.
    pub fn fail_over(&mut self, after: Duration) {
        self.waiting.clear();
        self.media.clear();
        self.tick(after);
        self.engine = Engine::new(self.config.clone()).drilled(self.drill);
        self.engine.activate(self.now, &self.state);
        self.settle();
    }

    /// The node loses its lease and gets it back: it remembers nothing, but what it has proposed is still on its way.
    pub fn regain(&mut self) {
        self.engine.deactivate();
        self.engine.activate(self.now, &self.state);
        self.settle();
    }

    /// All messages for an address.
    pub fn take(&mut self, at: &str) -> Vec<String> {
        self.inbox.remove(&addr(at)).unwrap_or_default().into()
    }

    /// The only message for an address; its first line begins with `start`.
    pub fn expect(&mut self, at: &str, start: &str) -> String {
        let all = self.take(at);
        assert!(
            all.len() == 1 && all.iter().all(|m| m.starts_with(start)),
            "{at} should get {start}, gets {all:#?}"
        );
        all.into_iter().next().expect("one")
    }

    pub fn expect_nothing(&mut self, at: &str) {
        let all = self.take(at);
        assert!(all.is_empty(), "{at} gets {all:#?}");
    }

    pub fn register(&mut self, user: &str, at: &str) {
        self.register_with(user, at, "");
    }

    pub fn register_with(&mut self, user: &str, at: &str, contact_params: &str) {
        self.send(at, &register(user, at, 1, &format!("<sip:{user}@{at}>{contact_params}")));
        self.expect(at, "SIP/2.0 200 ");
    }
}

pub fn register(user: &str, at: &str, cseq: u32, contact: &str) -> String {
    format!(
        "REGISTER sip:lab.test SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bKr{user}{cseq}{};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@lab.test>;tag=f{user}\r\nTo: <sip:{user}@lab.test>\r\n\
         Call-ID: reg-{user}-{at}\r\nCSeq: {cseq} REGISTER\r\nContact: {contact}\r\nContent-Length: 0\r\n\r\n",
        at.replace([':', '[', ']', '.'], "x"),
    )
}

/// A request outside of dialogs.
pub fn request(method: &str, uri: &str, from: &str, call: &str, extra: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{call}{method};rport\r\n{extra}\
         Max-Forwards: 70\r\nFrom: <sip:alice@lab.test>;tag=a{call}\r\nTo: <{uri}>\r\nCall-ID: {call}\r\n\
         CSeq: 1 {method}\r\nContact: <sip:alice@{from}>\r\nContent-Length: 0\r\n\r\n"
    )
}

pub fn invite(uri: &str, from: &str, call: &str) -> String {
    request("INVITE", uri, from, call, "")
}

/// The CANCEL of [`invite`].
pub fn cancel(uri: &str, from: &str, call: &str) -> String {
    format!(
        "CANCEL {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{call}INVITE;rport\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@lab.test>;tag=a{call}\r\nTo: <{uri}>\r\nCall-ID: {call}\r\nCSeq: 1 CANCEL\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// First value of a header, or all of a list header joined.
pub fn header(message: &str, name: &str) -> Option<String> {
    let message = Message::parse(message.as_bytes()).expect("a message");
    let all: Vec<String> = message
        .header_lines()
        .filter(|l| l.raw_name.eq_ignore_ascii_case(name.as_bytes()))
        .map(|l| String::from_utf8_lossy(l.value).into_owned())
        .collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// A response of a phone to what it got; `tag` goes to To if there is none.
pub fn respond(request: &str, status: u16, tag: &str, extra: &str) -> String {
    let mut out = format!("SIP/2.0 {status} {}\r\n", proxy_core::msg::reason_phrase(status));
    let message = Message::parse(request.as_bytes()).expect("a message");
    for line in message.header_lines() {
        let name = String::from_utf8_lossy(line.raw_name).into_owned();
        let value = String::from_utf8_lossy(line.value).into_owned();
        match name.as_str() {
            "Via" | "From" | "Call-ID" | "CSeq" | "Record-Route" => {
                out.push_str(&format!("{name}: {value}\r\n"))
            }
            "To" if status > 100 && message.to_tag().is_none() => {
                out.push_str(&format!("To: {value};tag={tag}\r\n"));
            }
            "To" => out.push_str(&format!("To: {value}\r\n")),
            _ => {}
        }
    }
    out.push_str(extra);
    out.push_str("Content-Length: 0\r\n\r\n");
    out
}

/// The message without the tokens of our Record-Route, as a version would have it that knows none.
pub fn bare(text: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    while let Some((front, back)) = rest.split_once(";rlv=") {
        out.push_str(front);
        rest = back.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    }
    out + rest
}

/// The request line's URI.
pub fn uri_of(request: &str) -> String {
    request.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// A request of the caller within the dialog that `response` (2xx at the caller) made.
pub fn in_dialog_of_caller(method: &str, cseq: u32, response: &str, from: &str) -> String {
    let target = header(response, "Contact").expect("a contact");
    let target = target.trim_start_matches('<').split('>').next().expect("a uri").to_owned();
    let routes: Vec<String> = header(response, "Record-Route")
        .map(|all| all.rsplit(", ").map(str::to_owned).collect())
        .unwrap_or_default();
    let routes: String = routes.iter().map(|r| format!("Route: {r}\r\n")).collect();
    format!(
        "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{method}{cseq}{};rport\r\n{routes}\
         Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n\
         Contact: <sip:alice@{from}>\r\nContent-Length: 0\r\n\r\n",
        header(response, "To").unwrap_or_default().rsplit("tag=").next().unwrap_or_default(),
        header(response, "From").expect("From"),
        header(response, "To").expect("To"),
        header(response, "Call-ID").expect("Call-ID"),
    )
}

/// A request of the callee within the dialog that its 2xx `response` to `invite` made.
pub fn in_dialog_of_callee(method: &str, cseq: u32, invite: &str, to_tag: &str, at: &str) -> String {
    let target = header(invite, "Contact").expect("a contact");
    let target = target.trim_start_matches('<').split('>').next().expect("a uri").to_owned();
    let routes: String = header(invite, "Record-Route")
        .map(|all| all.split(", ").map(|r| format!("Route: {r}\r\n")).collect())
        .unwrap_or_default();
    format!(
        "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{method}{cseq}{to_tag};rport\r\n{routes}\
         Max-Forwards: 70\r\nFrom: {};tag={to_tag}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n\
         Contact: <sip:bob@{at}>\r\nContent-Length: 0\r\n\r\n",
        header(invite, "To").expect("To").split(";tag=").next().unwrap_or_default(),
        header(invite, "From").expect("From"),
        header(invite, "Call-ID").expect("Call-ID"),
    )
}
