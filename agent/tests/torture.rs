//! The torture messages of RFC 4475 and RFC 5118 against the program itself, over its own sockets: our own messages
//! always, the RFCs' where their folder is there.

mod common;
#[path = "../../proxy-core/tests/common/corpus.rs"]
mod corpus;
#[path = "../../proxy-core/tests/common/torture.rs"]
mod torture;

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::ua::{Message, Ua};
use common::{PATIENCE, free_port, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use torture::Expected;

/// A client sends again what is not answered.
const RETRANSMISSION: Duration = Duration::from_millis(500);

/// A single node in a folder of its own; killed when dropped.
struct Node {
    dir: tempfile::TempDir,
    proxy: SocketAddr,
    child: Child,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

impl Node {
    /// One engine: then what comes first is answered first, and the answer to a later request shows that an earlier
    /// one got none.
    fn start(domains: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let port = free_port();
        let file = dir.path().join("r.toml");
        let text = format!(
            "[sip]\nport = {port}\nlisten = [\"127.0.0.1\"]\nengines = 1\ndomains = {domains:?}\n[node]\ndata = \"{}\"\n",
            dir.path().join("data").display(),
        );
        std::fs::write(&file, text).expect("write");
        let log = std::fs::File::create(dir.path().join("log")).expect("log");
        let child = Command::new(env!("CARGO_BIN_EXE_relevo"))
            .args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("relevo starts");
        let mut node = Self { dir, proxy: SocketAddr::from(([127, 0, 0, 1], port)), child };
        let probe = Probe::new(node.proxy);
        until("the node answers", || {
            let ended = node.child.try_wait().expect("wait");
            assert!(
                ended.is_none(),
                "{}",
                std::fs::read_to_string(node.dir.path().join("log")).unwrap_or_default()
            );
            probe.knock(0);
            probe.heard(Duration::from_millis(100)).map(drop)
        });
        node
    }
}

/// A client that hears everything the node has to say to it.
struct Probe {
    socket: UdpSocket,
    proxy: SocketAddr,
}

impl Probe {
    fn new(proxy: SocketAddr) -> Self {
        Self { socket: UdpSocket::bind("127.0.0.1:0").expect("bind"), proxy }
    }

    /// Asks the proxy for itself; the answer bears the number.
    fn knock(&self, number: usize) {
        let (from, host) = (self.socket.local_addr().expect("bound"), self.proxy);
        let text = format!(
            "OPTIONS sip:{host} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKknock{number};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:probe@{host}>;tag=p\r\nTo: <sip:{host}>\r\nCall-ID: knock-{number}\r\nCSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n"
        );
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
    let node = Node::start(&["lab.test"]);
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
    let node = Node::start(&corpus::DOMAINS);
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
