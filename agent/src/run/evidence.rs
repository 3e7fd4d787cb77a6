//! Signs that a node lives that is said to be fenced: whatever answers, on any path that is known of it.
//!
//! | path | what counts |
//! |---|---|
//! | TCP to its port for the nodes | a connection is made (a stopped process has one, too) |
//! | UDP to the same port | its agent answers whether it serves |
//! | SIP OPTIONS to the floating IP, while this node does not serve | any answer |
//!
//! A port that refuses is no sign of the agent: the machine runs, and Relevo does not. That is said, and not refused.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::guard::question::{self, Word};

/// How long each path is listened on.
const LISTEN: Duration = Duration::from_millis(700);
/// Questions on a path that loses datagrams.
const TRIES: u32 = 2;
/// Longest answer that is read, bytes.
const MAX_ANSWER_BYTES: usize = 2048;

/// A node to look at.
#[derive(Debug, Clone, Copy)]
pub struct Suspect {
    /// Its id.
    pub node: u16,
    /// Where it listens for the other nodes.
    pub addr: SocketAddr,
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// What shows that one of them lives.
    pub alive: Vec<String>,
    /// What else was seen, for the operator.
    pub notes: Vec<String>,
}

/// Looks on all paths at once. `floating`: where the service is to be had; empty where this node serves.
#[must_use]
pub fn gather(suspects: &[Suspect], floating: &[SocketAddr], me: u16, key: &[u8; 32]) -> Seen {
    let mut seen = Seen::default();
    thread::scope(|scope| {
        let mut looks = Vec::new();
        for suspect in suspects {
            looks.push(scope.spawn(move || port(*suspect)));
            looks.push(scope.spawn(move || serves(*suspect, me, key)));
        }
        for address in floating {
            looks.push(scope.spawn(move || options(*address)));
        }
        for look in looks {
            // A look that ended in a panic has seen nothing.
            match look.join() {
                Ok(Sign::Alive(what)) => seen.alive.push(what),
                Ok(Sign::Note(what)) => seen.notes.push(what),
                Ok(Sign::None) | Err(_) => {}
            }
        }
    });
    seen
}

enum Sign {
    None,
    Note(String),
    Alive(String),
}

fn port(suspect: Suspect) -> Sign {
    let Suspect { node, addr } = suspect;
    match TcpStream::connect_timeout(&addr, LISTEN) {
        Ok(_) => {
            Sign::Alive(format!("something listens on {addr}, the port of node {node} for the other nodes"))
        }
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => Sign::Note(format!(
            "the machine of node {node} answers, and Relevo does not listen there ({addr})"
        )),
        Err(_) => Sign::Note(format!("nothing answers on {addr} (node {node})")),
    }
}

/// The first datagram that comes back and that `is` accepts.
fn reply(to: SocketAddr, ask: &[u8], is: impl Fn(&[u8]) -> bool) -> bool {
    let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    let Ok(socket) = UdpSocket::bind((any, 0)) else { return false };
    if socket.connect(to).is_err() {
        return false;
    }
    let mut buffer = [0; MAX_ANSWER_BYTES];
    for _ in 0..TRIES {
        // Where the way is closed there is no answer either.
        let _ = socket.send(ask);
        let until = Instant::now() + LISTEN / TRIES;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
            if socket.set_read_timeout(Some(left)).is_err() {
                return false;
            }
            match socket.recv(&mut buffer) {
                Ok(n) if is(&buffer[..n]) => return true,
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
    false
}

fn serves(suspect: Suspect, me: u16, key: &[u8; 32]) -> Sign {
    let Suspect { node, addr } = suspect;
    let number = u64::from(std::process::id()) << 32 | u64::from(node);
    let ask = question::encode(Word::Question { from: me, number }, key);
    let is = |bytes: &[u8]| matches!(question::verify(bytes, key), Some(Word::Answer { number: of, .. }) if of == number);
    match reply(addr, &ask, is) {
        true => Sign::Alive(format!("the agent of node {node} answers on {addr} (UDP)")),
        false => Sign::None,
    }
}

fn options(to: SocketAddr) -> Sign {
    let ask = format!(
        "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bKfenced{pid}\r\nMax-Forwards: 1\r\n\
         From: <sip:relevo@invalid>;tag=f\r\nTo: <sip:{to}>\r\nCall-ID: fenced-{pid}\r\nCSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n",
        pid = std::process::id()
    );
    match reply(to, ask.as_bytes(), |bytes| bytes.starts_with(b"SIP/2.0 ")) {
        true => Sign::Alive(format!("somebody answers SIP on the floating IP ({to})")),
        false => Sign::None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    #[test]
    fn a_port_that_listens_an_agent_that_answers_and_a_floating_ip_that_serves_are_signs_of_life() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let addr = listener.local_addr().expect("address");
        let agent = UdpSocket::bind(addr).expect("the same port");
        let sip = UdpSocket::bind("127.0.0.1:0").expect("sip");
        let at = sip.local_addr().expect("address");
        thread::spawn(move || {
            let mut buffer = [0; 256];
            let (n, from) = agent.recv_from(&mut buffer).expect("a question");
            let Some(Word::Question { number, .. }) = question::verify(&buffer[..n], &KEY) else {
                panic!("no question")
            };
            let answer = Word::Answer { from: 2, number, serves: false };
            agent.send_to(&question::encode(answer, &KEY), from).expect("answers");
        });
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            let (_, from) = sip.recv_from(&mut buffer).expect("OPTIONS");
            sip.send_to(b"SIP/2.0 200 OK\r\n\r\n", from).expect("answers");
        });
        let seen = gather(&[Suspect { node: 2, addr }], &[at], 1, &KEY);
        assert_eq!(seen.alive.len(), 3, "{seen:?}");
        drop(listener);
    }

    #[test]
    fn a_machine_that_refuses_is_told_from_one_that_is_silent_and_neither_is_a_sign_of_its_agent() {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("an address");
        let seen = gather(&[Suspect { node: 2, addr: free }], &[], 1, &KEY);
        assert_eq!(seen.alive, Vec::<String>::new());
        assert!(seen.notes[0].contains("Relevo does not listen there"), "{seen:?}");
    }
}
