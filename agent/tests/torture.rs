//! The torture messages of RFC 4475 and RFC 5118 against the program itself, over its own sockets: our own messages
//! always, the RFCs' where their folder is there.

mod common;
#[path = "../../proxy-core/tests/common/corpus.rs"]
mod corpus;
#[path = "../../proxy-core/tests/common/torture.rs"]
mod torture;

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use common::lone::{Node, knock};
use common::ua::{Message, Ua};
use common::{PATIENCE, until};
use torture::Expected;

/// A client sends again what is not answered.
const RETRANSMISSION: Duration = Duration::from_millis(500);

/// A client that hears everything the node has to say to it.
struct Probe {
    socket: UdpSocket,
    proxy: SocketAddr,
}

impl Probe {
    fn new(proxy: SocketAddr) -> Self {
        Self { socket: UdpSocket::bind("127.0.0.1:0").expect("bind"), proxy }
    }

    fn knock(&self, number: usize) {
        let text = knock(&self.socket, self.proxy, number);
        self.socket.send_to(text.as_bytes(), self.proxy).expect("send");
    }

    fn heard(&self, patience: Duration) -> Option<Message> {
        self.socket.set_read_timeout(Some(patience)).expect("timeout");
        let mut buffer = vec![0; 65_535];
        let n = self.socket.recv(&mut buffer).ok()?;
        Some(Message { text: String::from_utf8_lossy(&buffer[..n]).into_owned() })
    }

    /// What waits for a commit is answered after later requests.
    fn ask(&self, number: usize, bytes: &[u8], committed: bool) {
        self.socket.send_to(bytes, self.proxy).expect("send");
        if !committed {
            self.knock(number);
        }
    }

    /// The status of the answer to a message; 0 if the answer to a later request comes and none before it.
    fn status_of(&self, number: usize, what: &str, bytes: &[u8], committed: bool) -> u16 {
        let knock = format!("knock-{number}");
        let end = Instant::now() + PATIENCE;
        let mut heard = VecDeque::new();
        self.ask(number, bytes, committed);
        loop {
            let Some(message) = self.heard(RETRANSMISSION) else {
                assert!(Instant::now() < end, "{what}: no answer; heard {heard:?}");
                // UDP: a node that was not sure of itself has said nothing.
                heard.clear();
                self.ask(number, bytes, committed);
                continue;
            };
            if message.all("Call-ID").contains(&knock) {
                assert_eq!(message.status(), 200);
                assert!(heard.len() <= 1, "{heard:?}");
                return heard.pop_front().unwrap_or(0);
            }
            if message.status() == 100 {
                continue;
            }
            heard.push_back(message.status());
            if committed {
                self.knock(number);
            }
        }
    }
}

#[test]
fn the_program_does_with_every_torture_message_what_the_engine_does_over_udp() {
    let node = Node::start(&["lab.test"], "");
    let mut bob = Ua::new("bob", node.proxy);
    assert_eq!(bob.register(300).status(), 200);
    for (number, case) in torture::cases().into_iter().enumerate() {
        let probe = Probe::new(node.proxy);
        match case.expected {
            Expected::Status(status) => {
                let heard = probe.status_of(number, case.section, &case.bytes, status == 200);
                assert_eq!(heard, status, "{}", case.section);
            }
            Expected::Silence => {
                assert_eq!(probe.status_of(number, case.section, &case.bytes, false), 0, "{}", case.section)
            }
            Expected::Reaches => {
                probe.socket.send_to(&case.bytes, node.proxy).expect("send");
                let id = call_id(&case.bytes);
                // Requests of former cases are sent again, as nobody answers them.
                let request = until("the phone gets it", || {
                    let message = bob.receive();
                    let mine = message.all("Call-ID").contains(&id) || message.all("i").contains(&id);
                    (mine || message.all("I").contains(&id)).then_some(message)
                });
                assert!(!request.first_line().starts_with("SIP/2.0"), "{}", request.text);
            }
        }
    }
}

/// The value of Call-ID, found without the code under test.
fn call_id(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let line = text.lines().find(|l| {
        l.split_once(':')
            .is_some_and(|(n, _)| n.eq_ignore_ascii_case("call-id") || n.eq_ignore_ascii_case("i"))
    });
    line.and_then(|l| l.split_once(':')).map(|(_, v)| v.trim().to_owned()).expect("a Call-ID")
}

#[test]
fn the_program_answers_every_message_of_rfc4475_and_rfc5118_over_udp() {
    let mut wrong = Vec::new();
    let folders = ["rfc4475", "rfc5118"].into_iter().filter_map(corpus::corpus);
    let rows: Vec<_> =
        folders.flat_map(|(path, table)| table.iter().map(move |row| (path.clone(), row))).collect();
    if rows.is_empty() {
        return;
    }
    let node = Node::start(&corpus::DOMAINS, "");
    // One socket for all: cparam02 bears branch and sent-by of cparam01, so that its answer goes to who sent that one.
    let probe = Probe::new(node.proxy);
    for (number, (path, (name, _, expected))) in rows.into_iter().enumerate() {
        let heard = probe.status_of(number, name, &corpus::message(&path, name), *expected == 200);
        if heard != *expected {
            wrong.push(format!("{name}: expected {expected}, heard {heard}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The status of the first final response on a connection that carries only this message; 0 if it ends without one.
/// Where none is expected the client ends its side, as it has nothing more to say.
fn status_over_tcp(proxy: SocketAddr, what: &str, bytes: &[u8], expected: u16) -> u16 {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(proxy).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.write_all(bytes).expect("written");
    if expected == 0 {
        stream.shutdown(std::net::Shutdown::Write).expect("closed for writing");
    }
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    let id = String::from_utf8_lossy(bytes).into_owned();
    let id = id.lines().filter_map(|l| l.split_once(':')).find(|(n, _)| {
        let n = n.trim();
        n.eq_ignore_ascii_case("call-id") || n.eq_ignore_ascii_case("i")
    });
    let id = id.map(|(_, v)| v.trim().to_owned()).unwrap_or_default();
    loop {
        let text = String::from_utf8_lossy(&heard).into_owned();
        // None of them has a body. dblreq is two requests, the second of which is answered first.
        let status = text
            .split_inclusive("\r\n\r\n")
            .filter(|r| r.ends_with("\r\n\r\n") && r.contains(&id))
            .filter_map(|r| r.strip_prefix("SIP/2.0 ")?.get(..3)?.parse::<u16>().ok())
            .find(|s| *s >= 200);
        if let Some(status) = status {
            return status;
        }
        match stream.read(&mut buffer) {
            Ok(0) => return 0,
            Ok(n) => heard.extend_from_slice(&buffer[..n]),
            // A reset: closed without an answer.
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return 0,
            Err(e) => panic!("{what}: neither an answer nor an end: {e}"),
        }
    }
}

#[test]
fn the_program_answers_every_message_of_rfc4475_and_rfc5118_over_tcp() {
    let folders = ["rfc4475", "rfc5118"].into_iter().filter_map(corpus::corpus);
    let rows: Vec<_> =
        folders.flat_map(|(path, table)| table.iter().map(move |row| (path.clone(), row))).collect();
    if rows.is_empty() {
        return;
    }
    // Whoever registers does so elsewhere: the users of the others stay unknown.
    let [node, registrar] = [(); 2].map(|()| Node::start(&corpus::DOMAINS, ""));
    let mut wrong = Vec::new();
    for (path, (name, _, expected)) in rows {
        // Longer than said: a datagram is answered, a stream waits for the rest, and there is none (§3.1.2.2).
        let expected = match *name {
            "clerr" | "baddn" => 0,
            // Without Content-Length nobody knows where it ends (RFC 3261 §18.3).
            "inv2543" => 400,
            _ => *expected,
        };
        let at = if expected == 200 { &registrar } else { &node };
        let heard = status_over_tcp(at.proxy, name, &corpus::message(&path, name), expected);
        if heard != expected {
            wrong.push(format!("{name}: expected {expected}, heard {heard}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
