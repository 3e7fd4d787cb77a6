//! Calls and registrations per second through one engine, with a cluster that commits at once.
//!
//! `cargo bench -p proxy-core --bench engine`. A call is INVITE, 100, 180, 200, ACK, BYE, 200 with its five proposals
//! applied to the state: what one core can do when neither disk nor network count.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proxy_core::engine::Engine;
use proxy_core::io::{EngineConfig, Output};
use proxy_core::msg::Message;
use proxy_core::state::{Flow, SipState, Transport};
use proxy_core::time::{MonoTime, Now, WallTime};

const VIP: &str = "10.77.0.100:5060";
const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const ROUNDS: usize = 5;
const CALLS: u32 = 4_000;
const SDP: &str = "v=0\r\no=alice 2890844526 2890844526 IN IP4 192.0.2.33\r\ns=-\r\nc=IN IP4 192.0.2.33\r\nt=0 0\r\n\
    m=audio 49170 RTP/AVP 0 8 97\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=sendrecv\r\n";

struct Bench {
    engine: Engine,
    state: SipState,
    now: Now,
    last: Vec<(SocketAddr, Vec<u8>)>,
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

impl Bench {
    fn new() -> Self {
        let config = EngineConfig {
            listen: vec![addr(VIP)],
            domains: vec![String::from("lab.test")],
            ..EngineConfig::default()
        };
        let now = Now { mono: MonoTime(1_000_000_000), wall: WallTime(1_700_000_000_000) };
        let mut engine = Engine::new(config);
        let state = SipState::default();
        engine.activate(now, &state);
        Self { engine, state, now, last: Vec::new() }
    }

    fn send(&mut self, from: &str, bytes: &[u8]) {
        let flow = Flow { transport: Transport::Udp, local: addr(VIP), remote: addr(from) };
        self.engine.handle_datagram(self.now, flow, bytes, &self.state);
        self.last.clear();
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Transmit { flow, bytes } => self.last.push((flow.remote, bytes)),
                Output::Resolve { .. } | Output::Media { .. } => {}
                Output::Propose { ticket, command } => {
                    let response = self.state.apply(&command);
                    self.engine.handle_committed(self.now, ticket, response, &self.state);
                }
            }
        }
    }

    fn sent_to(&self, to: &str) -> &[u8] {
        let to = addr(to);
        self.last.iter().rev().find(|(a, _)| *a == to).map(|(_, b)| b.as_slice()).expect("sent")
    }

    fn pass(&mut self, d: Duration) {
        self.now.mono = self.now.mono + d;
        self.now.wall = self.now.wall + d;
        self.engine.handle_timeout(self.now, &self.state);
        while let Some(output) = self.engine.poll_output() {
            if let Output::Propose { ticket, command } = output {
                let response = self.state.apply(&command);
                self.engine.handle_committed(self.now, ticket, response, &self.state);
            }
        }
    }
}

fn answer(request: &[u8], status: &str) -> Vec<u8> {
    let message = Message::parse(request).expect("parses");
    let mut out = format!("SIP/2.0 {status}\r\n").into_bytes();
    for line in message.header_lines() {
        if matches!(line.raw_name, b"Via" | b"From" | b"To" | b"Call-ID" | b"CSeq" | b"Record-Route") {
            out.extend_from_slice(line.raw_name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(line.value);
            if line.raw_name == b"To" && message.to_tag().is_none() {
                out.extend_from_slice(b";tag=bob");
            }
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(format!("Contact: <sip:bob@{BOB}>\r\nContent-Length: 0\r\n\r\n").as_bytes());
    out
}

fn request(method: &str, n: u32, uri: &str, cseq: u32, to_tag: &str, route: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {ALICE};branch=z9hG4bK-{n}-{method};rport\r\n{route}\
         Max-Forwards: 70\r\nContact: <sip:alice@{ALICE};transport=udp>\r\nTo: \"Bob\" <sip:bob@lab.test>{to_tag}\r\n\
         From: \"Alice\" <sip:alice@lab.test>;tag=a{n}\r\nCall-ID: {n}-3848276298220188511@10.77.0.201\r\n\
         CSeq: {cseq} {method}\r\nAllow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, MESSAGE\r\n\
         User-Agent: some phone 4.5.6 build 78901\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn register(n: u32, cseq: u32) -> Vec<u8> {
    format!(
        "REGISTER sip:lab.test SIP/2.0\r\nVia: SIP/2.0/UDP {BOB};branch=z9hG4bK-r{n}-{cseq};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:u{n}@lab.test>;tag=f{n}\r\nTo: <sip:u{n}@lab.test>\r\n\
         Call-ID: r{n}@10.77.0.202\r\nCSeq: {cseq} REGISTER\r\nContact: <sip:u{n}@{BOB}>\r\n\
         User-Agent: some phone 4.5.6 build 78901\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

fn call(b: &mut Bench, n: u32) {
    let route = format!("Route: <sip:{VIP};lr>\r\n");
    let contact = format!("sip:bob@{BOB}");
    b.send(ALICE, &request("INVITE", n, "sip:bob@lab.test", 1, "", "", SDP));
    let invite = b.sent_to(BOB).to_vec();
    b.send(BOB, &answer(&invite, "180 Ringing"));
    b.send(BOB, &answer(&invite, "200 OK"));
    black_box(b.sent_to(ALICE));
    b.send(ALICE, &request("ACK", n, &contact, 1, ";tag=bob", &route, ""));
    b.send(ALICE, &request("BYE", n, &contact, 2, ";tag=bob", &route, ""));
    let bye = b.sent_to(BOB).to_vec();
    b.send(BOB, &answer(&bye, "200 OK"));
    black_box(b.sent_to(ALICE));
}

/// Best seconds for `CALLS` rounds of `f`.
fn best(mut f: impl FnMut(u32)) -> f64 {
    let mut n = 0;
    (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..CALLS {
                n += 1;
                f(n);
            }
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

fn main() {
    let mut b = Bench::new();
    b.send(BOB, &String::from_utf8(register(0, 1)).expect("text").replace("u0@", "bob@").into_bytes());
    let calls = best(|n| {
        call(&mut b, n);
        if n % 100 == 0 {
            b.pass(Duration::from_millis(100));
        }
    });
    let per_second = f64::from(CALLS) / calls;
    println!("calls:          {per_second:>9.0} per second and core ({:.1} µs each)", 1e6 / per_second);
    let (open_calls, exchanges, _) = b.engine.load();
    println!("                {open_calls} calls and {exchanges} exchanges lingered at the end");

    let mut b = Bench::new();
    let registers = best(|n| {
        b.send(BOB, &register(n % 1000, n));
        black_box(b.sent_to(BOB));
        if n % 100 == 0 {
            b.pass(Duration::from_millis(10));
        }
    });
    println!("registrations:  {:>9.0} per second and core", f64::from(CALLS) / registers);

    let mut b = Bench::new();
    let options = best(|n| b.send(ALICE, &request("OPTIONS", n, "sip:10.77.0.100", 1, "", "", "")));
    println!("OPTIONS pings:  {:>9.0} per second and core", f64::from(CALLS) / options);
}
