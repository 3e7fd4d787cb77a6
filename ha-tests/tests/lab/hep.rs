//! Copies for a collector and `relevo trace` in the lab, over the loss of the active node. Needs root and the lab's
//! packages; says so without.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::common::{PATIENCE, active, all_agree, lab, lose_and_restart, until};
use crate::phone::{Phone, status as code, talk};
use ha_tests::lab::state::{LabState, Node, Role};
use ha_tests::lab::{net, ns, status};
use ha_tests::phones::tiny::header;

const PORT: u16 = 9060;

/// A collector that reads what a Homer would.
struct Collector(UdpSocket);

/// One copy.
#[derive(Debug)]
struct Copy {
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    at: u64,
    capture_id: u32,
    name: String,
    password: String,
    correlation: String,
    payload: String,
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// Reads a packet as HEPv3 has it, and nothing more lenient.
fn decode(packet: &[u8]) -> Copy {
    assert_eq!(&packet[..4], b"HEP3");
    assert_eq!(number(&packet[4..6]), packet.len() as u64, "the length of the whole");
    let mut chunks: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut rest = &packet[6..];
    while !rest.is_empty() {
        let (vendor, kind, length) = (number(&rest[..2]), number(&rest[2..4]), number(&rest[4..6]));
        let (chunk, after) = rest.split_at(usize::try_from(length).expect("a length"));
        assert_eq!(vendor, 0, "generic");
        assert!(chunks.insert(kind, chunk[6..].to_vec()).is_none(), "chunk {kind} twice");
        rest = after;
    }
    let mut take = |kind: u64| chunks.remove(&kind).unwrap_or_else(|| panic!("no chunk {kind}"));
    assert_eq!((take(1), take(2), take(11)), (vec![2], vec![17], vec![1]), "IPv4, UDP, SIP");
    let address =
        |bytes: Vec<u8>| IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).expect("four bytes")));
    let port = |bytes: Vec<u8>| u16::from_be_bytes(bytes.try_into().expect("two bytes"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let copy = Copy {
        source: (address(take(3)), port(take(7))),
        destination: (address(take(4)), port(take(8))),
        at: number(&take(9)) * 1000 + number(&take(10)) / 1000,
        capture_id: u32::try_from(number(&take(12))).expect("four bytes"),
        name: text(take(19)),
        password: text(take(14)),
        correlation: text(take(17)),
        payload: text(take(15)),
    };
    assert!(chunks.is_empty(), "chunks that nobody knows: {chunks:?}");
    copy
}

impl Collector {
    fn open(lab: &LabState) -> Self {
        let socket = ns::inside(lab.client, || UdpSocket::bind((net::CLIENT4, PORT)));
        let socket = socket.expect("the namespace").expect("its port");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        Self(socket)
    }

    /// Copies of a call, until `enough`.
    fn take(&self, call: &str, all: &mut Vec<Copy>, enough: impl Fn(&[Copy]) -> bool) {
        let end = Instant::now() + PATIENCE;
        let mut buffer = vec![0; 65_535];
        while !enough(all) {
            assert!(Instant::now() < end, "not enough copies: {all:#?}");
            let Ok((n, _)) = self.0.recv_from(&mut buffer) else { continue };
            let copy = decode(&buffer[..n]);
            if copy.correlation == call {
                all.push(copy);
            }
        }
    }
}

/// First lines of the copies that came to or went from this port, with `>` for those that the node has heard.
fn seen_at(copies: &[Copy], port: u16) -> Vec<String> {
    let line = |c: &Copy| c.payload.lines().next().unwrap_or_default().to_owned();
    let word = |c: &Copy| {
        let line = line(c);
        let word = line.strip_prefix("SIP/2.0 ").unwrap_or(&line).split(' ').next().unwrap_or_default();
        word.to_owned()
    };
    let of_port = |c: &&Copy| c.source.1 == port || c.destination.1 == port;
    copies
        .iter()
        .filter(of_port)
        .map(|c| format!("{}{}", if c.source.1 == port { ">" } else { "<" }, word(c)))
        .collect()
}

fn trace(lab: &LabState, node: &Node, call: &str) -> Result<String, String> {
    let text = status::admin(lab, node, &["trace", "--call-id", call, "--json"], PATIENCE);
    text.map_err(|e| e.to_string())
}

/// First lines in a trace.
fn lines(trace: &str) -> Vec<String> {
    let v: serde_json::Value = serde_json::from_str(trace).expect("JSON");
    let all = v["messages"].as_array().expect("a list");
    all.iter().map(|m| m["first_line"].as_str().expect("a line").to_owned()).collect()
}

#[test]
fn every_message_of_a_call_is_copied_by_the_node_that_has_it_and_traced_there() {
    let extra = format!("\n[hep]\ncollector = \"{}:{PORT}\"\npassword = \"secret\"\n", net::CLIENT4);
    let Some((mut guard, _logs)) = lab(&extra) else { return };
    let lab = &mut guard.lab;
    let collector = Collector::open(lab);
    let (mut alice, mut bob) = (Phone::open(lab, "alice", 5071), Phone::open(lab, "bob", 5072));
    bob.register(1, 3600);
    let first = active(lab);
    let (_, ok) = talk(&mut alice, &mut bob, "c1", "", "");
    let mut copies = Vec::new();
    // INVITE, 100, INVITE, 180, 180, 200, 200, ACK, ACK.
    collector.take("c1", &mut copies, |all| all.len() >= 9);
    assert_eq!(seen_at(&copies, 5071), [">INVITE", "<100", "<180", "<200", ">ACK"]);
    assert_eq!(seen_at(&copies, 5072), ["<INVITE", ">180", ">200", "<ACK"]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let (vip, phones): (IpAddr, IpAddr) =
        (net::VIP4.parse().expect("it is one"), net::CLIENT4.parse().expect("it is one"));
    for copy in &copies {
        let ends = [copy.source, copy.destination];
        assert!(ends.contains(&(vip, 5060)) && ends.iter().any(|(ip, _)| *ip == phones), "{copy:?}");
        assert_eq!(
            (u64::from(copy.capture_id), copy.name.as_str()),
            (first.id, format!("lab-{}", first.id).as_str())
        );
        assert_eq!(copy.password, "secret");
        assert_eq!(header(&copy.payload, "Call-ID"), Some("c1"));
        assert!(now.abs_diff(u128::from(copy.at)) < 30_000, "{copy:?}");
    }
    let told = trace(lab, &first, "c1").expect("the active node remembers");
    assert_eq!(lines(&told).len(), 9);
    let standby = lab
        .nodes
        .iter()
        .find(|n| n.role == Role::Appliance && n.id != first.id)
        .expect("another one")
        .clone();
    let refused = trace(lab, &standby, "c1").expect_err("a standby has seen nothing");
    assert!(refused.contains("standby") && refused.contains(&format!("node {}", first.id)), "{refused}");
    let witness = lab.nodes.iter().find(|n| n.role == Role::Witness).expect("there is one").clone();
    let refused = trace(lab, &witness, "c1").expect_err("a witness has seen nothing");
    assert!(refused.contains("witness") && refused.contains("holder"), "{refused}");

    lose_and_restart(lab);
    until("all nodes are the same", || all_agree(lab));
    let bye = alice.within("BYE", &ok, 2, "");
    alice.send(&bye);
    let end = bob.asked("BYE");
    bob.answer(&end, 200, "");
    assert_eq!(code(&alice.answer_to(&bye)), 200);
    let mut copies = Vec::new();
    collector.take("c1", &mut copies, |all| all.len() >= 4);
    assert_eq!(seen_at(&copies, 5071), [">BYE", "<200"]);
    assert_eq!(seen_at(&copies, 5072), ["<BYE", ">200"]);
    assert!(copies.iter().all(|c| u64::from(c.capture_id) == standby.id), "{copies:#?}");
    assert_eq!(active(lab).id, standby.id);
    let told = trace(lab, &standby, "c1").expect("it is active now");
    assert_eq!(lines(&told).len(), 4, "what it has seen itself: {told}");
    let back = lab.nodes.iter().find(|n| n.id == first.id).expect("it is back");
    let refused = trace(lab, back, "c1").expect_err("it remembers nothing of its life before");
    assert!(refused.contains("standby") && refused.contains(&format!("node {}", standby.id)), "{refused}");
    let nothing = trace(lab, &standby, "no-such-call").expect("an answer, and nothing in it");
    assert!(lines(&nothing).is_empty());
}
