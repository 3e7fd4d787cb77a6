//! TCP in the lab: real SIPp by connections, and phones whose connections die with the active node. Needs root and the
//! lab's packages; says so without.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ha_tests::lab::cluster::{self, DownGuard, in_path};
use ha_tests::lab::config::{DOMAIN, Options};
use ha_tests::lab::fault::{Fault, inflict};
use ha_tests::lab::state::LabState;
use ha_tests::lab::{net, ns, status};
use ha_tests::phones::sipp::{Connections, Plan, Scenario, Sipp};
use ha_tests::phones::tiny::header;

/// Bound of anything that is waited for; much longer than it takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program that this test was built beside.
fn relevo() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.parent()?.parent()?.join("relevo");
    if beside.is_file() { Some(beside) } else { in_path("relevo") }
}

fn lab() -> Option<(DownGuard, tempfile::TempDir)> {
    if !nix::unistd::geteuid().is_root() || in_path("sipp").is_none() {
        println!("skipped: the lab needs root and sipp");
        return None;
    }
    let Some(relevo) = relevo() else {
        println!("skipped: no relevo; build it with cargo build -p agent");
        return None;
    };
    let options = Options { relevo: Some(relevo), ephemeral: true, ..Options::default() };
    let lab = cluster::up(&options).expect("a lab");
    status::wait_ready(&lab, PATIENCE).expect("one active node");
    Some((DownGuard::new(lab), tempfile::tempdir().expect("a folder")))
}

fn lose_the_active_node(lab: &mut LabState) {
    let active = status::wait_ready(lab, PATIENCE).expect("one active node");
    let index = lab.nodes.iter().position(|n| n.id == active.node).expect("it is of this lab");
    inflict(lab, index, Fault::KillNode).expect("power off");
}

/// A phone on one connection.
struct Line {
    stream: TcpStream,
    buffer: Vec<u8>,
    user: &'static str,
    /// Port of its Contact: of a listener, or of nothing, as behind a firewall.
    port: u16,
    cseq: u32,
}

impl Line {
    /// Connects to the floating IP; after a takeover that may take a moment.
    fn connect(lab: &LabState, user: &'static str, port: u16) -> Self {
        let end = Instant::now() + PATIENCE;
        let stream = loop {
            let stream = ns::inside(lab.client, || {
                let to = format!("{}:{}", net::VIP4, lab.sip_port).parse().expect("an address");
                TcpStream::connect_timeout(&to, Duration::from_millis(200))
            });
            match stream.expect("the namespace") {
                Ok(stream) => break stream,
                Err(e) => assert!(Instant::now() < end, "no connection: {e}"),
            }
        };
        Self::on(user, port, stream)
    }

    fn on(user: &'static str, port: u16, stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        Self { stream, buffer: Vec::new(), user, port, cseq: 0 }
    }

    fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("written");
    }

    fn contact(&self) -> String {
        format!("<sip:{}@{}:{};transport=tcp>", self.user, net::CLIENT4, self.port)
    }

    fn via(&mut self) -> String {
        self.cseq += 1;
        let id = format!("{}{}x{}", self.user, self.stream.local_addr().expect("bound").port(), self.cseq);
        format!(
            "Via: SIP/2.0/TCP {}:{};branch=z9hG4bK{id};rport\r\nMax-Forwards: 70\r\n",
            net::CLIENT4,
            self.port
        )
    }

    fn register(&mut self, cseq: u32) {
        let (via, user, contact) = (self.via(), self.user, self.contact());
        self.send(&format!(
            "REGISTER sip:{DOMAIN} SIP/2.0\r\n{via}From: <sip:{user}@{DOMAIN}>;tag=r\r\nTo: <sip:{user}@{DOMAIN}>\r\n\
             Call-ID: reg-{user}\r\nCSeq: {cseq} REGISTER\r\nContact: {contact}\r\nContent-Length: 0\r\n\r\n"
        ));
        self.expect("SIP/2.0 200");
    }

    fn invite(&mut self, user: &str, call_id: &str) {
        let (via, me, contact) = (self.via(), self.user, self.contact());
        self.send(&format!(
            "INVITE sip:{user}@{DOMAIN} SIP/2.0\r\n{via}From: <sip:{me}@{DOMAIN}>;tag=a\r\nTo: <sip:{user}@{DOMAIN}>\r\n\
             Call-ID: {call_id}\r\nCSeq: 1 INVITE\r\nContact: {contact}\r\nContent-Length: 0\r\n\r\n"
        ));
    }

    /// A request within the dialog that this 2xx made.
    fn in_dialog(&mut self, method: &str, cseq: u32, ok: &str) {
        let via = self.via();
        let one = |name| header(ok, name).expect("a header").to_owned();
        let target = one("Contact").trim_matches(['<', '>']).to_owned();
        let mut routes = all(ok, "Record-Route");
        routes.reverse();
        let routes: String = routes.iter().map(|r| format!("Route: {r}\r\n")).collect();
        self.send(&format!(
            "{method} {target} SIP/2.0\r\n{via}{routes}From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n\
             Content-Length: 0\r\n\r\n",
            one("From"),
            one("To"),
            one("Call-ID"),
        ));
    }

    fn respond(&mut self, request: &str, status: &str) {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for name in ["Via", "Record-Route"] {
            all(request, name).iter().for_each(|v| text += &format!("{name}: {v}\r\n"));
        }
        let to = header(request, "To").expect("To");
        let to = if to.contains("tag=") { to.to_owned() } else { format!("{to};tag=b") };
        text += &format!("To: {to}\r\nContact: {}\r\n", self.contact());
        for name in ["From", "Call-ID", "CSeq"] {
            text += &format!("{name}: {}\r\n", header(request, name).expect("a header"));
        }
        self.send(&(text + "Content-Length: 0\r\n\r\n"));
    }

    /// The next message.
    fn receive(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end + 4]).into_owned();
                let body: usize = header(&head, "Content-Length").and_then(|l| l.parse().ok()).unwrap_or(0);
                if self.buffer.len() >= end + 4 + body {
                    self.buffer.drain(..end + 4 + body);
                    return Ok(head);
                }
            }
            let mut more = [0; 4096];
            match self.stream.read(&mut more)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.buffer.extend_from_slice(&more[..n]),
            }
        }
    }

    fn expect(&mut self, start: &str) -> String {
        loop {
            let message = self.receive().unwrap_or_else(|e| panic!("{} waits for {start}: {e}", self.user));
            if message.starts_with(start) {
                return message;
            }
        }
    }
}

fn all(text: &str, name: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|l| l.split_once(':'));
    lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned()).collect()
}

#[test]
fn sipp_registers_and_calls_by_one_connection_and_by_one_for_each_call() {
    let Some((guard, logs)) = lab() else { return };
    let (lab, logs) = (&guard.lab, logs.path());
    let mut register = Plan::new("reg", Scenario::Register, 5077, "streams");
    register.tcp = Some(Connections::One);
    Sipp::start(lab, logs, &register).expect("sipp").finish().expect("registered");
    for (name, port, connections) in [("one", 5078, Connections::One), ("each", 5079, Connections::Each)] {
        let callee_name = format!("callee-{name}");
        let mut callee = Plan::new(&callee_name, Scenario::LoadCallee, 5077, "streams");
        (callee.tcp, callee.calls, callee.limit) = (Some(Connections::One), 50, PATIENCE);
        let mut callee = Sipp::start(lab, logs, &callee).expect("sipp");
        callee.wait_bound(5077).expect("its port");
        let mut caller = Plan::new(name, Scenario::LoadCaller, port, "streams");
        (caller.tcp, caller.calls, caller.rate, caller.limit) = (Some(connections), 50, 25, PATIENCE);
        let mut caller = Sipp::start(lab, logs, &caller).expect("sipp");
        caller.finish().expect("every call is answered and ends");
        callee.finish().expect("every call comes and ends");
    }
    // From UDP to TCP.
    let mut callee = Plan::new("callee-udp", Scenario::LoadCallee, 5077, "streams");
    (callee.tcp, callee.calls, callee.limit) = (Some(Connections::One), 20, PATIENCE);
    let mut callee = Sipp::start(lab, logs, &callee).expect("sipp");
    callee.wait_bound(5077).expect("its port");
    let mut caller = Plan::new("udp", Scenario::LoadCaller, 5080, "streams");
    (caller.calls, caller.rate, caller.limit) = (20, 10, PATIENCE);
    Sipp::start(lab, logs, &caller).expect("sipp").finish().expect("every call is answered and ends");
    callee.finish().expect("every call comes and ends");
}

#[test]
fn a_call_between_phones_on_connections_goes_on_after_the_active_node_is_lost_and_they_have_come_back() {
    let Some((mut guard, _logs)) = lab() else { return };
    let lab = &mut guard.lab;
    // Nobody listens at the ports of their Contacts: they are reached by their connections or not at all.
    let (mut alice, mut bob) = (Line::connect(lab, "alice", 5071), Line::connect(lab, "bob", 5072));
    alice.register(1);
    bob.register(1);
    alice.invite("bob", "over-tcp");
    let invite = bob.expect("INVITE");
    bob.respond(&invite, "200 OK");
    let ok = alice.expect("SIP/2.0 200");
    alice.in_dialog("ACK", 1, &ok);
    bob.expect("ACK");
    lose_the_active_node(lab);
    let (mut alice, mut bob) = (Line::connect(lab, "alice", 5071), Line::connect(lab, "bob", 5072));
    alice.register(2);
    bob.register(2);
    alice.in_dialog("INFO", 2, &ok);
    let info = bob.expect("INFO");
    bob.respond(&info, "200 OK");
    alice.expect("SIP/2.0 200");
    alice.in_dialog("BYE", 3, &ok);
    let bye = bob.expect("BYE");
    bob.respond(&bye, "200 OK");
    alice.expect("SIP/2.0 200");
}

#[test]
fn an_invite_that_rings_on_a_connection_is_sent_again_on_a_new_one_by_the_next_owner() {
    let Some((mut guard, logs)) = lab() else { return };
    let lab = &mut guard.lab;
    let listener = ns::inside(lab.client, || TcpListener::bind((net::CLIENT4, 5073)));
    let listener = listener.expect("the namespace").expect("a port");
    Line::connect(lab, "carol", 5073).register(1);
    let mut caller = Plan::new("caller", Scenario::CallerWaits, 5081, "carol");
    caller.limit = PATIENCE;
    let mut caller = Sipp::start(lab, logs.path(), &caller).expect("sipp");
    let mut carol = Line::on("carol", 5073, listener.accept().expect("a connection").0);
    let first = carol.expect("INVITE");
    carol.respond(&first, "180 Ringing");
    caller.wait_for("180", PATIENCE, |e| e.iter().any(|e| e.got("180", "INVITE"))).expect("ringing");
    lose_the_active_node(lab);
    // The new owner connects by itself.
    let mut carol = Line::on("carol", 5073, listener.accept().expect("a new connection").0);
    let again = carol.expect("INVITE");
    assert_eq!(all(&first, "Via"), all(&again, "Via"), "a retransmission");
    carol.respond(&again, "200 OK");
    carol.expect("ACK");
    let bye = carol.expect("BYE");
    carol.respond(&bye, "200 OK");
    caller.finish().expect("the call is answered and ends");
}
