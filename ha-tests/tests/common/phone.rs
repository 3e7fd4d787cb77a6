//! A phone whose every word the test chooses: UDP in the client namespace. It does by itself only what any phone does, so
//! that a takeover is what it is for a real one: a request goes out until it is answered, and a request that comes again
//! is answered as it was the first time.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, VecDeque};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ha_tests::lab::config::DOMAIN;
use ha_tests::lab::state::LabState;
use ha_tests::lab::{net, ns};
use ha_tests::phones::tiny::header;

use crate::common::PATIENCE;

/// Longest datagram.
const DATAGRAM_MAX: usize = 65_535;
/// How long one look at the socket waits.
const LOOK: Duration = Duration::from_millis(20);
/// Time between two sendings of a request without an answer (RFC 3261 §17.1.2.1: T1).
const AGAIN: Duration = Duration::from_millis(500);

/// A phone.
pub struct Phone {
    line: Arc<Line>,
    /// Who it is.
    pub user: String,
    port: u16,
    branches: AtomicU32,
    listener: Option<JoinHandle<()>>,
}

/// What a phone shares with the thread that listens for it.
struct Line {
    socket: UdpSocket,
    vip: String,
    memory: Mutex<Memory>,
    news: Condvar,
    over: AtomicBool,
}

#[derive(Default)]
struct Memory {
    /// What has come and was not asked for yet: each request once.
    inbox: VecDeque<String>,
    /// Requests that have come, by branch, CSeq and Call-ID, with what was answered to them last.
    known: BTreeMap<String, Option<String>>,
}

/// What names the transaction of a request.
fn transaction(message: &str) -> String {
    let via = header(message, "Via").unwrap_or_default();
    let branch = via.split(';').find(|p| p.trim().starts_with("branch=")).unwrap_or_default();
    let (cseq, call) = (header(message, "CSeq"), header(message, "Call-ID"));
    format!("{branch} {} {}", cseq.unwrap_or_default(), call.unwrap_or_default())
}

/// Status of a response; 0 for a request.
pub fn status(message: &str) -> u16 {
    message.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0)
}

/// Number in CSeq.
pub fn cseq(message: &str) -> u32 {
    let value = header(message, "CSeq").expect("CSeq");
    value.split(' ').next().and_then(|n| n.parse().ok()).expect("a number")
}

/// What follows the headers.
pub fn body(message: &str) -> &str {
    message.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// The tag in From or To.
pub fn tag(message: &str, name: &str) -> String {
    let value = header(message, name).expect("the header");
    value.split(";tag=").nth(1).unwrap_or_default().to_owned()
}

fn lines<'m>(message: &'m str, name: &'m str) -> impl Iterator<Item = &'m str> {
    message
        .lines()
        .take_while(|l| !l.is_empty())
        .filter(move |l| l.split_once(':').is_some_and(|(n, _)| n.trim().eq_ignore_ascii_case(name)))
}

impl Line {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("nobody has failed in it")
    }

    fn send(&self, text: &str) {
        self.socket.send_to(text.as_bytes(), &self.vip).expect("sent");
    }

    fn listen(&self) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        while !self.over.load(Ordering::Relaxed) {
            let Ok((n, _)) = self.socket.recv_from(&mut buffer) else { continue };
            self.heard(String::from_utf8_lossy(&buffer[..n]).into_owned());
        }
    }

    fn heard(&self, text: String) {
        let mut memory = self.memory();
        if status(&text) == 0 {
            match memory.known.get(&transaction(&text)) {
                Some(Some(answer)) => return self.send(answer),
                Some(None) => return,
                None => drop(memory.known.insert(transaction(&text), None)),
            }
        }
        memory.inbox.push_back(text);
        self.news.notify_all();
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.line.over.store(true, Ordering::Relaxed);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Phone {
    pub fn open(lab: &LabState, user: &str, port: u16) -> Self {
        let socket = ns::inside(lab.client, || UdpSocket::bind((net::CLIENT4, port)));
        let socket = socket.expect("the namespace").expect("its port");
        socket.set_read_timeout(Some(LOOK)).expect("a timeout");
        let line = Arc::new(Line {
            socket,
            vip: format!("{}:{}", net::VIP4, lab.sip_port),
            memory: Mutex::default(),
            news: Condvar::new(),
            over: AtomicBool::new(false),
        });
        let listener = std::thread::spawn({
            let line = Arc::clone(&line);
            move || line.listen()
        });
        Self { line, user: user.to_owned(), port, branches: AtomicU32::new(0), listener: Some(listener) }
    }

    /// Takes the first message that is such, or waits for `news` until `end` and says that there was none.
    fn take(&self, end: Instant, is_it: impl Fn(&str) -> bool) -> Option<String> {
        let mut memory = self.line.memory();
        loop {
            if let Some(at) = memory.inbox.iter().position(|m| is_it(m)) {
                return memory.inbox.remove(at);
            }
            let left = end.checked_duration_since(Instant::now())?;
            memory = self.line.news.wait_timeout(memory, left).expect("nobody has failed in it").0;
        }
    }

    pub fn uri(&self) -> String {
        format!("sip:{}@{DOMAIN}", self.user)
    }

    pub fn contact(&self) -> String {
        format!("sip:{}@{}:{}", self.user, net::CLIENT4, self.port)
    }

    /// A request with these headers (`From`, `To` and whatever else), with a new branch.
    pub fn request(
        &self,
        method: &str,
        uri: &str,
        call: &str,
        cseq: u32,
        headers: &str,
        body: &str,
    ) -> String {
        let n = self.branches.fetch_add(1, Ordering::Relaxed);
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own}:{port};branch=z9hG4bK{user}{port}x{n};rport\r\n\
             Max-Forwards: 70\r\nCall-ID: {call}\r\nCSeq: {cseq} {method}\r\nContact: <{contact}>\r\n{headers}\
             Content-Length: {length}\r\n\r\n{body}",
            own = net::CLIENT4,
            port = self.port,
            user = self.user,
            contact = self.contact(),
            length = body.len(),
        )
    }

    /// A request that begins something.
    pub fn first(&self, method: &str, to: &str, call: &str, headers: &str, body: &str) -> String {
        let headers = format!("From: <{}>;tag=f{}\r\nTo: <{to}>\r\n{headers}", self.uri(), self.user);
        self.request(method, to, call, 1, &headers, body)
    }

    /// A request within the dialog that this 2xx has made for its caller.
    pub fn within(&self, method: &str, ok: &str, cseq: u32, headers: &str) -> String {
        let mut routes: Vec<&str> = lines(ok, "Record-Route").collect();
        routes.reverse();
        let routes: String = routes
            .iter()
            .filter_map(|l| Some(format!("Route: {}\r\n", l.split_once(':')?.1.trim())))
            .collect();
        let value = |name| header(ok, name).expect("the header");
        let target = value("Contact").split(['<', '>']).nth(1).expect("a URI");
        let headers = format!("{routes}From: {}\r\nTo: {}\r\n{headers}", value("From"), value("To"));
        self.request(method, target, value("Call-ID"), cseq, &headers, "")
    }

    /// The same for the callee, of the INVITE that has come to him and that he has answered.
    pub fn within_as_callee(&self, method: &str, invite: &str, cseq: u32, headers: &str) -> String {
        let routes: String = lines(invite, "Record-Route")
            .filter_map(|l| Some(format!("Route: {}\r\n", l.split_once(':')?.1.trim())))
            .collect();
        let value = |name| header(invite, name).expect("the header");
        let target = value("Contact").split(['<', '>']).nth(1).expect("a URI");
        let headers =
            format!("{routes}From: {};tag=t{}\r\nTo: {}\r\n{headers}", value("To"), self.user, value("From"));
        self.request(method, target, value("Call-ID"), cseq, &headers, "")
    }

    pub fn send(&self, text: &str) {
        self.line.send(text);
    }

    /// Sends a request until its final response comes.
    pub fn ask(&mut self, request: &str) -> String {
        self.send(request);
        self.answer_to(request)
    }

    /// The final response to a request that was sent just now.
    pub fn answer_to(&mut self, request: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let wanted = transaction(request);
        loop {
            let answer = self.take(Instant::now() + AGAIN, |m| status(m) >= 200 && transaction(m) == wanted);
            if let Some(answer) = answer {
                return answer;
            }
            assert!(Instant::now() < end, "{}: no answer to {request}", self.user);
            self.send(request);
        }
    }

    /// Registers for so many seconds; 0 ends it.
    pub fn register(&mut self, cseq: u32, seconds: u32) {
        let headers = format!("From: <{0}>;tag=r\r\nTo: <{0}>\r\nExpires: {seconds}\r\n", self.uri());
        let call = format!("reg-{}-{}", self.user, self.port);
        let request = self.request("REGISTER", &format!("sip:{DOMAIN}"), &call, cseq, &headers, "");
        let answer = self.ask(&request);
        assert_eq!(status(&answer), 200, "{answer}");
    }

    /// The next message that is such; others stay.
    pub fn wait(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        self.take(Instant::now() + PATIENCE, is_it)
            .unwrap_or_else(|| panic!("{}: no {what}; what came: {:#?}", self.user, self.line.memory().inbox))
    }

    /// The next request with this method.
    pub fn asked(&mut self, method: &str) -> String {
        self.wait(method, |m| m.split(' ').next() == Some(method))
    }

    /// The first message within this time that is such.
    pub fn within_time(&mut self, time: Duration, is_it: impl Fn(&str) -> bool) -> Option<String> {
        self.take(Instant::now() + time, is_it)
    }

    /// Answers a request, and its repetitions with the same.
    pub fn answer(&mut self, request: &str, status: u16, headers: &str) {
        let mut text = format!("SIP/2.0 {status} Word\r\n");
        for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
            for line in lines(request, name) {
                text += line;
                if name == "To" && !line.contains(";tag=") && status > 100 {
                    text += &format!(";tag=t{}", self.user);
                }
                text += "\r\n";
            }
        }
        text += &format!("Contact: <{}>\r\n{headers}Content-Length: 0\r\n\r\n", self.contact());
        self.send(&text);
        self.line.memory().known.insert(transaction(request), Some(text));
    }
}

/// A call from one phone to the other that is answered. Gives the INVITE as it came, and the 200 as it came.
pub fn talk(
    caller: &mut Phone,
    callee: &mut Phone,
    call: &str,
    headers: &str,
    answer: &str,
) -> (String, String) {
    let invite = caller.first("INVITE", &callee.uri(), call, headers, "");
    caller.send(&invite);
    let came = callee.asked("INVITE");
    callee.answer(&came, 180, "");
    callee.answer(&came, 200, answer);
    let ok = caller.wait("200", |m| status(m) == 200 && header(m, "Call-ID") == Some(call));
    caller.send(&caller.within("ACK", &ok, 1, ""));
    callee.asked("ACK");
    (came, ok)
}
