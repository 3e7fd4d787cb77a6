//! Copies for a Homer collector, and `relevo trace`: the collector here reads HEPv3 by its specification and shares no
//! code with the program.

mod common;

use std::collections::BTreeMap;
use std::net::UdpSocket;

use common::lone::Node;
use common::ua::Ua;
use common::{PATIENCE, until};
use serde_json::Value;

/// A collector on the loopback interface.
struct Collector(UdpSocket);

/// Chunks of a packet by their type.
type Chunks = BTreeMap<u16, Vec<u8>>;

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// `HEP3`, length of the whole, then vendor, type, length, value until the end.
fn decode(packet: &[u8]) -> Chunks {
    assert_eq!(&packet[..4], b"HEP3");
    assert_eq!(number(&packet[4..6]), packet.len() as u64, "the length is that of the packet");
    let mut chunks = Chunks::new();
    let mut rest = &packet[6..];
    while !rest.is_empty() {
        assert_eq!(number(&rest[..2]), 0, "generic chunks only");
        let kind = u16::try_from(number(&rest[2..4])).expect("two bytes");
        let length = usize::try_from(number(&rest[4..6])).expect("two bytes");
        assert!((6..=rest.len()).contains(&length), "chunk {kind} of {length} bytes");
        assert!(chunks.insert(kind, rest[6..length].to_vec()).is_none(), "chunk {kind} once");
        rest = &rest[length..];
    }
    chunks
}

impl Collector {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
        Self(socket)
    }

    fn config(&self, more: &str) -> String {
        format!("[hep]\ncollector = \"{}\"\n{more}", self.0.local_addr().expect("bound"))
    }

    fn next(&self) -> Chunks {
        let mut buffer = vec![0; 65_535];
        let n = self.0.recv(&mut buffer).expect("a packet");
        decode(&buffer[..n])
    }

    /// The next packet whose message begins so.
    fn wait(&self, start: &str, call_id: &str) -> Chunks {
        loop {
            let chunks = self.next();
            let payload = String::from_utf8_lossy(&chunks[&15]).into_owned();
            if payload.starts_with(start) && chunks.get(&17).is_some_and(|id| id == call_id.as_bytes()) {
                return chunks;
            }
        }
    }
}

#[test]
fn every_message_of_a_call_is_copied_to_the_collector_with_its_addresses_and_time() {
    let collector = Collector::new();
    let node = Node::start(
        &["lab.test"],
        &collector.config("capture_id = 4711\nname = \"edge\"\npassword = \"s3cret\"\n"),
    );
    let (mut alice, mut bob) = (Ua::new("alice", node.proxy), Ua::new("bob", node.proxy));
    assert_eq!(bob.register(300).status(), 200);
    alice.invite("bob", "hep-call");
    let invite = bob.expect("INVITE");
    bob.respond(&invite, "486 Busy Here", "b");
    alice.expect("486");
    let copied = collector.wait("INVITE sip:bob@", "hep-call");
    let port = |socket: std::net::SocketAddr| socket.port().to_be_bytes().to_vec();
    assert_eq!(copied[&1], [2], "IPv4");
    assert_eq!(copied[&2], [17], "UDP");
    assert_eq!((&copied[&3][..], &copied[&4][..]), (&[127, 0, 0, 1][..], &[127, 0, 0, 1][..]));
    assert_eq!((&copied[&7], &copied[&8]), (&port(alice.addr()), &port(node.proxy)));
    let now = common::memory::clock().real.0 / 1000;
    assert!(number(&copied[&9]).abs_diff(now) < 60 && number(&copied[&10]) < 1_000_000);
    assert_eq!((&copied[&11][..], number(&copied[&12])), (&[1][..], 4711));
    assert_eq!((&copied[&14][..], &copied[&19][..]), (&b"s3cret"[..], &b"edge"[..]));
    // The copy for the phone, and what came of it, in order.
    let forwarded = collector.wait("INVITE sip:bob@", "hep-call");
    assert_eq!((&forwarded[&7], &forwarded[&8]), (&port(node.proxy), &port(bob.addr())));
    let answered = collector.wait("SIP/2.0 486", "hep-call");
    assert_eq!((&answered[&7], &answered[&8]), (&port(bob.addr()), &port(node.proxy)));
    let passed = collector.wait("SIP/2.0 486", "hep-call");
    assert_eq!((&passed[&7], &passed[&8]), (&port(node.proxy), &port(alice.addr())));
}

#[test]
fn only_what_is_asked_for_is_copied_and_a_collector_that_is_away_delays_nothing() {
    let collector = Collector::new();
    let node = Node::start(&["lab.test"], &collector.config("methods = [\"INVITE\"]\n"));
    let (mut alice, mut bob) = (Ua::new("alice", node.proxy), Ua::new("bob", node.proxy));
    assert_eq!(bob.register(300).status(), 200);
    alice.invite("nobody", "filtered");
    alice.expect("404");
    let first = collector.next();
    assert!(first[&15].starts_with(b"INVITE "), "REGISTER and OPTIONS are not copied");
    drop((collector, node));
    // Nobody listens on that port now; the kernel says so after the first packet.
    let nobody = UdpSocket::bind("127.0.0.1:0").expect("bind").local_addr().expect("bound");
    let node = Node::start(&["lab.test"], &format!("[hep]\ncollector = \"{nobody}\"\n"));
    let mut carol = Ua::new("carol", node.proxy);
    for _ in 0..50 {
        assert_eq!(carol.register(300).status(), 200);
    }
}

#[test]
fn relevo_trace_shows_the_messages_of_one_call_as_lines_whole_and_as_json() {
    let node = Node::start(&["lab.test"], "");
    let (mut alice, mut bob) = (Ua::new("alice", node.proxy), Ua::new("bob", node.proxy));
    assert_eq!(bob.register(300).status(), 200);
    alice.invite("bob", "traced");
    let invite = bob.expect("INVITE");
    bob.respond(&invite, "486 Busy Here", "b");
    alice.expect("486");
    let said = |args: &[&str]| {
        let out = node.say(&[&["trace", "--call-id", "traced"], args].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    // The ACK to the phone may still be on its way out.
    let lines = until("the call is complete", || {
        let text = said(&[]);
        (text.lines().count() >= 6).then_some(text)
    });
    let order =
        ["INVITE sip:bob@", "100 Trying", "INVITE sip:bob@", "486 Busy Here", "ACK sip:", "486 Busy Here"];
    for what in order {
        assert!(lines.contains(what), "{what} in\n{lines}");
    }
    assert!(!lines.contains("REGISTER"), "another call:\n{lines}");
    assert!(said(&["-v"]).contains("    Call-ID: traced"));
    let json: Value = serde_json::from_str(&said(&["--json"])).expect("JSON");
    let messages = json["messages"].as_array().expect("a list");
    assert!(messages.len() >= 6 && json["active"] == true);
    assert_eq!(
        (messages[0]["direction"].as_str(), messages[0]["transport"].as_str()),
        (Some("in"), Some("udp"))
    );
    assert_eq!(messages[0]["remote"], alice.addr().to_string());
    let numbers: Vec<u64> = messages.iter().filter_map(|m| m["number"].as_u64()).collect();
    assert!(numbers.is_sorted() && numbers.len() == messages.len());
    let nothing = node.say(&["trace", "--call-id", "never"]);
    assert!(String::from_utf8_lossy(&nothing.stdout).contains("no message of it is remembered"));
}
