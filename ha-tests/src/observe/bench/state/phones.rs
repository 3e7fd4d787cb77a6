//! The phones of a large state: many users that register, and calls that are answered and go on.

use std::collections::BTreeMap;
use std::io;
use std::net::UdpSocket;
use std::ops::Range;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::REJOIN_LIMIT;
use crate::lab::config::DOMAIN;
use crate::lab::state::LabState;
use crate::lab::{interrupt, net, ns};
use crate::phones::tiny::header;

/// What was not answered by then is sent again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Pause of the phones of [`hold_calls`] when nothing has come.
const LOOK: Duration = Duration::from_micros(100);
/// Receive buffer of an end of many calls, in bytes.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Largest message, in bytes.
const MESSAGE_MAX: usize = 4096;

/// Phones that register through the floating IP.
pub(super) struct Phones {
    socket: UdpSocket,
    run: u32,
}

impl Phones {
    pub(super) fn new(lab: &LabState) -> io::Result<Self> {
        let socket = ns::inside(lab.client, || UdpSocket::bind((net::CLIENT4, 0)))??;
        socket.connect((net::VIP4, lab.sip_port))?;
        socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        Ok(Self { socket, run: rand::random() })
    }

    /// Whether an OPTIONS is answered within a moment.
    pub(super) fn is_answered(&self, n: u64) -> bool {
        let (own, at) = (net::CLIENT4, net::VIP4);
        let knock = format!(
            "OPTIONS sip:{at} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKstart{n};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:bench@{at}>;tag=s\r\nTo: <sip:{at}>\r\nCall-ID: start-{n}\r\nCSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n"
        );
        self.socket.send(knock.as_bytes()).is_ok() && self.socket.recv(&mut [0; MESSAGE_MAX]).is_ok()
    }

    /// Registers users until each was answered with 200, `window` at once, a new one each `every`; gives the delays, ms.
    pub(super) fn register(&self, users: Range<u64>, window: usize, every: Duration) -> io::Result<Vec<f64>> {
        let mut waiting: BTreeMap<u64, (Instant, Instant)> = BTreeMap::new();
        let (mut next, mut delays) = (users.start, Vec::new());
        let mut due = Instant::now();
        let mut buffer = [0u8; MESSAGE_MAX];
        let mut progress = Instant::now();
        while next < users.end || !waiting.is_empty() {
            interrupt::check()?;
            let now = Instant::now();
            if now - progress > REJOIN_LIMIT {
                return Err(io::Error::other(format!("no registration was answered for {REJOIN_LIMIT:?}")));
            }
            while next < users.end && waiting.len() < window && now >= due {
                due += every;
                waiting.insert(next, (now, now));
                // What is dropped is sent again.
                let _ = self.socket.send(self.text(next).as_bytes());
                next += 1;
            }
            for (user, (_, sent)) in waiting.iter_mut().filter(|(_, (_, sent))| now - *sent > AGAIN_AFTER) {
                *sent = now;
                let _ = self.socket.send(self.text(*user).as_bytes());
            }
            while let Ok(n) = self.socket.recv(&mut buffer) {
                if let Some((first, _)) = self.answered(&buffer[..n]).and_then(|user| waiting.remove(&user)) {
                    delays.push(first.elapsed().as_secs_f64() * 1000.0);
                    progress = Instant::now();
                    if every.is_zero() {
                        break;
                    }
                }
            }
        }
        Ok(delays)
    }

    fn text(&self, user: u64) -> String {
        let (own, domain, run) = (net::CLIENT4, DOMAIN, self.run);
        // Usual lengths, as phones write them.
        format!(
            "REGISTER sip:{domain} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {own}:5080;branch=z9hG4bK-{run:08x}x{user}x;rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:user{user:07}@{domain}>;tag={run:08x}\r\n\
             To: <sip:user{user:07}@{domain}>\r\n\
             Call-ID: {run:08x}-{user:07}@{own}\r\n\
             CSeq: 1 REGISTER\r\n\
             Contact: <sip:user{user:07}@{own}:5080;transport=udp>\r\n\
             User-Agent: Bench phone 1.0\r\n\
             Expires: 3600\r\n\
             Content-Length: 0\r\n\r\n"
        )
    }

    /// The user whose registration this 200 answers.
    fn answered(&self, datagram: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(datagram).ok()?;
        let (_, rest) =
            text.strip_prefix("SIP/2.0 200")?.split_once(&format!("z9hG4bK-{:08x}x", self.run))?;
        rest.split('x').next()?.parse().ok()
    }
}

/// Makes `count` calls to one user, `window` at once, and leaves all of them answered.
///
/// # Errors
/// No call gets any further for [`REJOIN_LIMIT`].
pub(super) fn hold_calls(lab: &LabState, count: u64, window: usize) -> io::Result<()> {
    let (caller, callee) = (Ends::open(lab)?, Ends::open(lab)?);
    callee.register()?;
    let mut waiting: BTreeMap<u64, Instant> = BTreeMap::new();
    let mut answered: BTreeMap<String, (String, Instant)> = BTreeMap::new();
    let (mut next, mut progress) = (0, Instant::now());
    while next < count || !waiting.is_empty() {
        interrupt::check()?;
        let now = Instant::now();
        if now - progress > REJOIN_LIMIT {
            return Err(io::Error::other(format!("no call was answered for {REJOIN_LIMIT:?}")));
        }
        while next < count && waiting.len() < window {
            caller.invite(next);
            waiting.insert(next, now);
            next += 1;
        }
        for (call, sent) in waiting.iter_mut().filter(|(_, sent)| now - **sent > AGAIN_AFTER) {
            *sent = now;
            caller.invite(*call);
        }
        let mut idle = true;
        while let Some(request) = callee.next() {
            idle = false;
            let Some(id) = header(&request, "Call-ID").map(str::to_owned) else { continue };
            if request.starts_with("INVITE ") {
                callee.answer(&request);
                answered.insert(id, (request, now));
            } else if request.starts_with("ACK ") {
                answered.remove(&id);
            }
        }
        // A 200 is repeated by who gave it, and by nobody else (RFC 3261 §13.3.1.4).
        for (request, sent) in answered.values_mut().filter(|(_, sent)| now - *sent > AGAIN_AFTER) {
            *sent = now;
            callee.answer(request);
        }
        while let Some(answer) = caller.next() {
            idle = false;
            let is_answer = answer.starts_with("SIP/2.0 200") && header(&answer, "CSeq") == Some("1 INVITE");
            if let Some(call) = caller.call_of(&answer).filter(|_| is_answer) {
                caller.acknowledge(call, &answer);
                if waiting.remove(&call).is_some() {
                    progress = Instant::now();
                }
            }
        }
        if idle {
            std::thread::sleep(LOOK);
        }
    }
    Ok(())
}

/// One end of many calls.
struct Ends {
    socket: UdpSocket,
    port: u16,
    run: u32,
}

impl Ends {
    fn open(lab: &LabState) -> io::Result<Self> {
        let socket = ns::inside(lab.client, || UdpSocket::bind((net::CLIENT4, 0)))??;
        // A whole batch comes at once. Without the right to force it, the kernel's limit stays.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES);
        socket.connect((net::VIP4, lab.sip_port))?;
        socket.set_nonblocking(true)?;
        Ok(Self { port: socket.local_addr()?.port(), socket, run: rand::random() })
    }

    fn send(&self, text: &str) {
        // What is dropped is sent again.
        let _ = self.socket.send(text.as_bytes());
    }

    fn next(&self) -> Option<String> {
        let mut buffer = [0u8; MESSAGE_MAX];
        let n = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..n]).into_owned())
    }

    /// A request of the dialog `call`, as far as its CSeq.
    fn request(&self, method: &str, uri: &str, call: u64, to: &str) -> String {
        let Self { port, run, .. } = self;
        let own = net::CLIENT4;
        format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {own}:{port};branch=z9hG4bK-{run:08x}-{method}{call};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:holder{call}@{DOMAIN}>;tag={run:08x}\r\n\
             To: {to}\r\n\
             Call-ID: {run:08x}-{call}@{own}\r\n\
             CSeq: 1 {method}\r\n\
             Contact: <sip:held@{own}:{port}>\r\n"
        )
    }

    fn register(&self) -> io::Result<()> {
        let to = format!("<sip:held@{DOMAIN}>");
        let text = self.request("REGISTER", &format!("sip:{DOMAIN}"), 0, &to);
        let end = Instant::now() + REJOIN_LIMIT;
        while Instant::now() < end {
            interrupt::check()?;
            self.send(&format!("{text}Expires: 3600\r\nContent-Length: 0\r\n\r\n"));
            let again = Instant::now() + AGAIN_AFTER;
            while Instant::now() < again {
                if self.next().is_some_and(|answer| answer.starts_with("SIP/2.0 200")) {
                    return Ok(());
                }
                std::thread::sleep(LOOK);
            }
        }
        Err(io::Error::other(format!("the called user was not registered within {REJOIN_LIMIT:?}")))
    }

    fn invite(&self, call: u64) {
        let uri = format!("sip:held@{DOMAIN}");
        let text = self.request("INVITE", &uri, call, &format!("<{uri}>"));
        self.send(&format!("{text}Content-Length: 0\r\n\r\n"));
    }

    /// Answers a request with 200.
    fn answer(&self, request: &str) {
        let mut text = "SIP/2.0 200 OK\r\n".to_owned();
        for line in request.lines().take_while(|line| !line.is_empty()) {
            let name = line.split(':').next().unwrap_or_default();
            if ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"].contains(&name) {
                let tag = if name == "To" { ";tag=held" } else { "" };
                text += &format!("{line}{tag}\r\n");
            }
        }
        let (own, port) = (net::CLIENT4, self.port);
        self.send(&format!("{text}Contact: <sip:held@{own}:{port}>\r\nContent-Length: 0\r\n\r\n"));
    }

    /// The ACK of a 200, by the way that the 200 names (RFC 3261 §13.2.2.4).
    fn acknowledge(&self, call: u64, answer: &str) {
        let target = header(answer, "Contact").and_then(|c| c.split(['<', '>']).nth(1)).unwrap_or_default();
        let mut text = self.request("ACK", target, call, header(answer, "To").unwrap_or_default());
        let routes: Vec<_> = answer.lines().filter_map(|line| line.strip_prefix("Record-Route:")).collect();
        for route in routes.iter().rev() {
            text += &format!("Route:{route}\r\n");
        }
        self.send(&format!("{text}Content-Length: 0\r\n\r\n"));
    }

    /// Which call of this end a message belongs to.
    fn call_of(&self, message: &str) -> Option<u64> {
        let rest = header(message, "Call-ID")?.strip_prefix(&format!("{:08x}-", self.run))?;
        rest.split('@').next()?.parse().ok()
    }
}
