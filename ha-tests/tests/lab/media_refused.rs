//! Offers within a call that are refused, with a real rtpengine: what comes out of it reaches the phones as before, also
//! when the active node is lost before the refusal. Needs root and the lab's packages; says so without.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::common::{PATIENCE, lab, lose_the_active_node};
use ha_tests::lab::cluster::in_path;
use ha_tests::lab::net::{CLIENT4, VIP4};
use ha_tests::lab::ns;
use ha_tests::lab::state::LabState;
use ha_tests::phones::rtpengine::Rtpengine;
use ha_tests::phones::tiny::header;

/// Packets that each phone sends to say that media flow.
const PACKETS: usize = 25;
/// Time between two of them.
const PACE: Duration = Duration::from_millis(10);

/// A phone that is written down here, with a port for media.
struct Phone {
    name: &'static str,
    port: u16,
    sip: UdpSocket,
    rtp: UdpSocket,
    /// Where its media go.
    peer: u16,
    sequence: u16,
}

fn socket(lab: &LabState, port: u16) -> UdpSocket {
    let socket =
        ns::inside(lab.client, || UdpSocket::bind((CLIENT4, port))).expect("inside").expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    socket
}

/// The SDP of a phone: one stream of audio on this port.
fn sdp(name: &str, version: u32, port: u16) -> String {
    format!(
        "v=0\r\no={name} 1 {version} IN IP4 {CLIENT4}\r\ns=-\r\nc=IN IP4 {CLIENT4}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\n"
    )
}

fn with_sdp(head: &str, sdp: &str) -> String {
    format!("{head}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len())
}

fn empty(head: &str) -> String {
    format!("{head}Content-Length: 0\r\n\r\n")
}

/// Port of the first stream in a message.
fn port_in(message: &str) -> u16 {
    let line = message.lines().find_map(|l| l.strip_prefix("m=audio ")).expect("audio");
    line.split(' ').next().and_then(|p| p.parse().ok()).expect("a port")
}

/// The head of a response.
fn answer(request: &str, status: &str, tag: &str) -> String {
    let mut out = format!("SIP/2.0 {status}\r\n");
    for line in request.lines().take_while(|l| !l.is_empty()) {
        let is = |name: &str| line.starts_with(name);
        if is("To:") && !line.contains("tag=") {
            out.push_str(&format!("{line};tag={tag}\r\n"));
        } else if ["Via:", "From:", "To:", "Call-ID:", "CSeq:", "Record-Route:"].into_iter().any(is) {
            out.push_str(&format!("{line}\r\n"));
        }
    }
    out
}

impl Phone {
    fn new(lab: &LabState, name: &'static str, port: u16) -> Self {
        let (sip, rtp) = (socket(lab, port), socket(lab, port + 10_000));
        Self { name, port, sip, rtp, peer: 0, sequence: 0 }
    }

    fn media_port(&self) -> u16 {
        self.port + 10_000
    }

    fn contact(&self) -> String {
        format!("Contact: <sip:{}@{CLIENT4}:{}>\r\n", self.name, self.port)
    }

    fn send(&self, lab: &LabState, text: &str) {
        self.sip.send_to(text.as_bytes(), (VIP4, lab.sip_port)).expect("sent");
    }

    /// Waits for a message that begins so; others are passed over.
    fn hear(&self, start: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 65_535];
        while Instant::now() < end {
            let Ok((length, _)) = self.sip.recv_from(&mut buffer) else { continue };
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.starts_with(start) {
                return text;
            }
        }
        panic!("{} does not hear {start} within {PATIENCE:?}", self.name);
    }

    fn speak(&mut self) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut packet = vec![0x80, 0];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend((u32::from(self.sequence) * 160).to_be_bytes());
        packet.extend(u32::from(self.port).to_be_bytes());
        packet.resize(172, 0xff);
        self.rtp.send_to(&packet, (CLIENT4, self.peer)).expect("sent");
    }
}

/// Packets that have come to a socket.
fn drain(socket: &UdpSocket) -> usize {
    socket.set_nonblocking(true).expect("set");
    let mut buffer = [0; 2048];
    let count = std::iter::from_fn(|| socket.recv_from(&mut buffer).ok()).count();
    socket.set_nonblocking(false).expect("set");
    count
}

/// Both speak until each has heard enough of the other.
fn flows(one: &mut Phone, other: &mut Phone) {
    drain(&one.rtp);
    drain(&other.rtp);
    let end = Instant::now() + PATIENCE;
    let (mut at_one, mut at_other) = (0, 0);
    while at_one < PACKETS || at_other < PACKETS {
        assert!(Instant::now() < end, "{at_one} packets come to {}, {at_other} to {}", one.name, other.name);
        one.speak();
        other.speak();
        std::thread::sleep(PACE);
        at_one += drain(&one.rtp);
        at_other += drain(&other.rtp);
    }
}

#[test]
fn media_flow_as_before_when_an_offer_within_the_call_is_refused_also_by_the_next_node() {
    if in_path("rtpengine").is_none() {
        println!("skipped: no rtpengine; apt-get install rtpengine-daemon");
        return;
    }
    let extra = format!(
        "\n[rtpengine]\nuse = \"always\"\ntimeout_ms = 400\nping_s = 1\n[[rtpengine.node]]\naddr = \"{CLIENT4}:2223\"\n"
    );
    let Some((mut guard, logs)) = lab(&extra) else { return };
    let lab = &mut guard.lab;
    let _engine = Rtpengine::start(lab, logs.path(), 2223, 30_000).expect("rtpengine");
    let mut alice = Phone::new(lab, "alice", 5061);
    let mut bob = Phone::new(lab, "bob", 5071);
    // Where refused offers say that her media are to go.
    let elsewhere = socket(lab, 25_061);

    let via = |phone: &Phone, branch: &str| {
        format!(
            "Via: SIP/2.0/UDP {CLIENT4}:{};branch=z9hG4bK{branch};rport\r\nMax-Forwards: 70\r\n",
            phone.port
        )
    };
    let register = format!(
        "REGISTER sip:lab.test SIP/2.0\r\n{}From: <sip:bob@lab.test>;tag=r\r\nTo: <sip:bob@lab.test>\r\n\
         Call-ID: reg-refused\r\nCSeq: 1 REGISTER\r\nExpires: 600\r\n{}",
        via(&bob, "reg"),
        bob.contact()
    );
    bob.send(lab, &empty(&register));
    bob.hear("SIP/2.0 200");
    let names = "From: <sip:alice@lab.test>;tag=a\r\n";
    let head = format!(
        "INVITE sip:bob@lab.test SIP/2.0\r\n{}{names}To: <sip:bob@lab.test>\r\nCall-ID: refused-1\r\n\
         CSeq: 1 INVITE\r\n{}",
        via(&alice, "i1"),
        alice.contact()
    );
    alice.send(lab, &with_sdp(&head, &sdp("alice", 1, alice.media_port())));
    let invite = bob.hear("INVITE ");
    bob.peer = port_in(&invite);
    let ok = format!("{}{}", answer(&invite, "200 OK", "b"), bob.contact());
    bob.send(lab, &with_sdp(&ok, &sdp("bob", 1, bob.media_port())));
    let ok = alice.hear("SIP/2.0 200");
    alice.peer = port_in(&ok);
    let route = format!("Route: {}\r\n", header(&ok, "Record-Route").expect("Record-Route"));
    let within = |method: &str, cseq: u32, branch: &str, phone: &Phone| {
        format!(
            "{method} sip:bob@{CLIENT4}:5071 SIP/2.0\r\n{}{route}{names}To: <sip:bob@lab.test>;tag=b\r\n\
             Call-ID: refused-1\r\nCSeq: {cseq} {method}\r\n",
            via(phone, branch)
        )
    };
    alice.send(lab, &empty(&within("ACK", 1, "a1", &alice)));
    bob.hear("ACK ");
    flows(&mut alice, &mut bob);

    // To move, to end, to end while the active node is lost.
    for (cseq, port, lost) in [(2, 25_061, false), (3, 0, false), (4, 0, true)] {
        let branch = format!("i{cseq}");
        drain(&alice.sip);
        drain(&bob.sip);
        let head = format!("{}{}", within("INVITE", cseq, &branch, &alice), alice.contact());
        alice.send(lab, &with_sdp(&head, &sdp("alice", cseq, port)));
        let again = bob.hear("INVITE ");
        assert_eq!(port_in(&again) == 0, port == 0, "rtpengine has made it what alice wants: {again}");
        if lost {
            lose_the_active_node(lab);
            drain(&bob.sip);
            // From the next one, the same to the byte.
            assert_eq!(bob.hear("INVITE "), again);
        }
        bob.send(lab, &empty(&answer(&again, "488 Not Acceptable Here", "b")));
        alice.hear("SIP/2.0 488");
        alice.send(lab, &empty(&within("ACK", cseq, &branch, &alice)));
        flows(&mut alice, &mut bob);
        drain(&elsewhere);
        flows(&mut alice, &mut bob);
        assert_eq!(drain(&elsewhere), 0, "nothing goes where the refused offer wanted it");
    }
}
