//! Registrations per second, through the cluster and through others, and what one fsync costs on a node's disk.

use nix::sys::socket::{setsockopt, sockopt};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::percentile;
use super::servers::{Kind, Server};
use crate::lab::state::LabState;
use crate::lab::{interrupt, net, ns, status};
use crate::phones::sipp::Server as Asked;

/// How long each load is offered.
const LENGTH: Duration = Duration::from_secs(5);
/// An answer that has not come by then does not come any more (UDP; the request or the answer was dropped).
const LOST_AFTER: Duration = Duration::from_secs(2);
/// Registrations that are under way at once.
const WINDOWS: [usize; 3] = [1, 32, 256];
/// Receive buffer of the asking end, in bytes.
const ANSWER_BUFFER_BYTES: usize = 4 << 20;
/// Users that register in turn: bindings are replaced, memory stays bounded.
const USERS: u64 = 2_000;
/// Writes for the cost of an fsync.
const SYNCS: u32 = 500;

/// Measures and prints: through each server, and what one fsync costs on the disk of a node.
pub(super) fn measure(lab: &LabState) -> io::Result<Value> {
    let sync = fsync_cost(lab)?;
    say!("one 512-byte write and fdatasync on a node's disk: p50 {:.3} ms, p99 {:.3} ms", sync.0, sync.1);
    say!("{:<38}{:>10}{:>10}{:>10}{:>8}", "registrations under way", "per s", "p50 ms", "p99 ms", "lost");
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        let server = Server::start(lab, kind)?;
        for window in WINDOWS {
            let load = offer(lab, &server.asked, window)?;
            say!(
                "  {:<32}{window:>4}{:>10.0}{:>10.2}{:>10.2}{:>8}",
                kind.title(),
                load.per_second,
                percentile(&load.latencies, 0.5),
                percentile(&load.latencies, 0.99),
                load.lost
            );
            rows.push(json!({
                "server": kind.title(), "window": window, "per_second": load.per_second, "lost": load.lost,
                "p50_ms": percentile(&load.latencies, 0.5), "p99_ms": percentile(&load.latencies, 0.99),
            }));
        }
    }
    Ok(json!({"fdatasync_p50_ms": sync.0, "fdatasync_p99_ms": sync.1, "loads": rows}))
}

struct Load {
    per_second: f64,
    latencies: Vec<f64>,
    lost: u64,
}

fn offer(lab: &LabState, server: &Asked, window: usize) -> io::Result<Load> {
    let socket = ns::inside(lab.client, || UdpSocket::bind((net::CLIENT4, 0)))??;
    // A whole batch of answers comes at once; what this end drops would count as the cluster's loss. Without the right
    // to force it, the kernel's limit stays.
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &ANSWER_BUFFER_BYTES);
    socket.connect(server.at)?;
    socket.set_nonblocking(true)?;
    let port = socket.local_addr()?.port();
    let run: u32 = rand::random();
    let mut under_way: BTreeMap<u64, Instant> = BTreeMap::new();
    let mut load = Load { per_second: 0.0, latencies: Vec::new(), lost: 0 };
    let began = Instant::now();
    let mut number = 0u64;
    let mut buffer = [0u8; 4096];
    loop {
        let now = Instant::now();
        if now - began >= LENGTH && under_way.is_empty() {
            break;
        }
        interrupt::check()?;
        let before = under_way.len();
        under_way.retain(|_, sent| now - *sent < LOST_AFTER);
        load.lost += (before - under_way.len()) as u64;
        while now - began < LENGTH && under_way.len() < window {
            match socket.send(register(&server.domain, run, number, port).as_bytes()) {
                Ok(_) => {
                    under_way.insert(number, Instant::now());
                    number += 1;
                }
                // Full, or refused by a node that is just starting: the next turn tries again.
                Err(_) => break,
            }
        }
        let mut idle = true;
        while let Ok(n) = socket.recv(&mut buffer) {
            idle = false;
            if let Some(sent) = answered(&buffer[..n], run).and_then(|id| under_way.remove(&id)) {
                load.latencies.push(sent.elapsed().as_secs_f64() * 1000.0);
            }
        }
        if idle {
            std::thread::sleep(Duration::from_micros(20));
        }
    }
    load.per_second = load.latencies.len() as f64 / LENGTH.as_secs_f64();
    Ok(load)
}

fn register(domain: &str, run: u32, number: u64, port: u16) -> String {
    let own = net::CLIENT4;
    let user = format!("bench{}", number % USERS);
    // The Call-ID is that of the user, so a later registration replaces the earlier one (RFC 3261 §10.2.4).
    format!(
        "REGISTER sip:{domain} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {own}:{port};branch=z9hG4bK-{run:08x}x{number}x;rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:{user}@{domain}>;tag={run:08x}\r\n\
         To: <sip:{user}@{domain}>\r\n\
         Call-ID: {run:08x}-{user}\r\n\
         CSeq: {cseq} REGISTER\r\n\
         Contact: <sip:{user}@{own}:{port}>\r\n\
         Expires: 600\r\n\
         Content-Length: 0\r\n\r\n",
        cseq = number + 1,
    )
}

/// The number of the registration that a 200 answers.
fn answered(datagram: &[u8], run: u32) -> Option<u64> {
    let text = std::str::from_utf8(datagram).ok()?;
    let (_, rest) = text.strip_prefix("SIP/2.0 200")?.split_once(&format!("z9hG4bK-{run:08x}x"))?;
    rest.split('x').next()?.parse().ok()
}

/// p50 and p99 of one small durable write, ms.
fn fsync_cost(lab: &LabState) -> io::Result<(f64, f64)> {
    let active = status::active(lab).ok_or_else(|| io::Error::other("no node is active"))?;
    let path = lab.nodes[lab.index_of(&active.node.to_string())?].disk.join("fsync-probe");
    let mut file = File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[7; 512])?;
        file.sync_data()?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    std::fs::remove_file(path)?;
    Ok((percentile(&times, 0.5), percentile(&times, 0.99)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_matched_to_its_registration_by_the_branch() {
        let text =
            register("lab.test", 7, 4321, 5070).replace("REGISTER sip:lab.test SIP/2.0", "SIP/2.0 200 OK");
        assert_eq!(answered(text.as_bytes(), 7), Some(4321));
        assert_eq!(answered(text.as_bytes(), 8), None);
        assert_eq!(answered(b"SIP/2.0 503 x\r\n", 7), None);
    }
}
