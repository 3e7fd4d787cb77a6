//! What a large state costs: registrations are made until there are so many, then calls and refreshes go on beside
//! them, the active node is lost, and nodes come back with their disk and without it.

use std::fs;
use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::calls;
use super::gaps::{self, How};
use super::percentile;
use super::servers::{Kind, Server};
use crate::lab::proc::wait_until;
use crate::lab::state::{LabState, Role};
use crate::lab::{cluster, disk, interrupt, net, ns, status};
use crate::observe::Observer;
use crate::observe::timeline;

/// Size of each node's disk (6 GiB, as far as it is used): the state of a million bindings, twice, and the log.
pub(super) const DISK_BYTES: u64 = 6 << 30;
/// Registrations under way while the state is filled.
const WINDOW: usize = 256;
/// A registration that was not answered by then is sent again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Refreshes whose delay and bytes are measured.
const REFRESHES: u64 = 2_000;
/// Time between two of them.
const REFRESH_EVERY: Duration = Duration::from_millis(5);
/// Bound for a node to have caught up.
const REJOIN_LIMIT: Duration = Duration::from_secs(180);
/// Bound for a cluster that was without power to answer.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Time between two probes of the floating IP: rarer than elsewhere, because it runs beside the load.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// What a node's log says when it has lost the service without handing it over.
const LOST: &str = "not active any more";

/// How large the state is made, and how it is used.
#[derive(Debug, Clone)]
pub struct Size {
    /// Bindings, in rising order.
    pub bindings: Vec<u64>,
    /// Calls per second.
    pub rate: u32,
    /// How long they are made, s.
    pub seconds: u32,
}

/// Measures and prints.
pub(super) fn measure(lab: &mut LabState, size: &Size) -> io::Result<Value> {
    let mut rows = Vec::new();
    let mut there = 0;
    for &bindings in &size.bindings {
        interrupt::check()?;
        status::wait_ready(lab, REJOIN_LIMIT)?;
        let took = Instant::now();
        Phones::new(lab)?.register(there..bindings.max(there), WINDOW, Duration::ZERO)?;
        there = bindings.max(there);
        say!("with {there} bindings (registered in {:.1} s):", took.elapsed().as_secs_f64());
        rows.push(json!({
            "bindings": there, "used": used(lab, size)?, "refreshed": refreshed(lab, there)?,
            "rss_mb": memory(lab), "lost": lost(lab)?, "started_s": started(lab)?,
            "own_disk_s": rejoined(lab, false)?, "empty_disk_s": rejoined(lab, true)?,
        }));
    }
    Ok(Value::Array(rows))
}

fn delays(ms: &[f64]) -> Value {
    json!({"p50": percentile(ms, 0.5), "p99": percentile(ms, 0.99), "max": percentile(ms, 1.0), "count": ms.len()})
}

fn times_lost(lab: &LabState) -> usize {
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    lab.nodes.iter().map(|n| text(&n.log).matches(LOST).count()).sum()
}

/// Calls at the given rate; how long the address was silent meanwhile, and how often the holder lost its lease.
fn used(lab: &LabState, size: &Size) -> io::Result<Value> {
    let server = Server::start(lab, Kind::Cluster)?;
    let before = times_lost(lab);
    let observer = Observer::start(lab, LOOK_EVERY)?;
    let from = observer.now();
    let load = calls::offer(lab, &server, size.rate, size.seconds)?;
    let silent = observer.timeline().longest_gap(timeline::Kind::Arp, from, observer.now()) as f64 / 1e6;
    drop(observer);
    let leases = times_lost(lab) - before;
    say!(
        "  {} calls/s: INVITE to 200 p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms; {} of {} failed; longest silence {silent:.0} \
         ms; leases lost {leases}",
        size.rate,
        percentile(&load.setup, 0.5),
        percentile(&load.setup, 0.99),
        percentile(&load.setup, 1.0),
        load.failed,
        size.rate * size.seconds
    );
    Ok(json!({"ms": delays(&load.setup), "failed": load.failed, "silent_ms": silent, "leases_lost": leases}))
}

/// Refreshes of what is registered: their delay, and the bytes that the devices of the nodes write for each.
fn refreshed(lab: &LabState, bindings: u64) -> io::Result<Value> {
    let count = REFRESHES.min(bindings);
    if count == 0 {
        return Ok(Value::Null);
    }
    let written = || lab.nodes.iter().map(|n| disk::written(&n.data)).collect::<Option<Vec<_>>>();
    let before = written();
    let ms = Phones::new(lab)?.register(0..count, WINDOW, REFRESH_EVERY)?;
    let each = before.zip(written()).map(|(before, after)| {
        let bytes = before.iter().zip(&after).map(|(b, a)| a.saturating_sub(*b));
        bytes.max().unwrap_or(0) as f64 / count as f64
    });
    say!(
        "  refreshes, one each {REFRESH_EVERY:?}: p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms; bytes on the busiest disk for \
         each: {}",
        percentile(&ms, 0.5),
        percentile(&ms, 0.99),
        percentile(&ms, 1.0),
        each.map_or_else(|| "-".to_owned(), |b| format!("{b:.0}"))
    );
    Ok(json!({"ms": delays(&ms), "device_bytes": each}))
}

/// Resident memory of each node's agent, MB.
fn memory(lab: &LabState) -> Value {
    let rss = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let all: Vec<_> =
        lab.nodes.iter().map(|n| n.agent().and_then(|a| rss(a.pid)).map(|kb| kb / 1000)).collect();
    say!("  resident memory of the nodes, MB: {all:?}");
    json!(all)
}

/// The active node's agent is killed once: how long the address and SIP are silent.
fn lost(lab: &mut LabState) -> io::Result<Value> {
    let series = gaps::measure(lab, How::KillAgent, 1)?;
    say!("  agent killed: the address is silent for {:.1?} ms, SIP for {:.1?} ms", series.arp, series.sip);
    Ok(series.json())
}

/// All nodes lose power and get it back: seconds until the floating IP answers SIP.
fn started(lab: &mut LabState) -> io::Result<f64> {
    status::wait_ready(lab, REJOIN_LIMIT)?;
    for node in &lab.nodes {
        for process in node.guard.into_iter().chain(node.agent()) {
            process.signal(Signal::SIGKILL);
            process.wait_gone(START_LIMIT);
        }
    }
    let began = Instant::now();
    for index in 0..lab.nodes.len() {
        cluster::power_on(lab, index)?;
    }
    let phones = Phones::new(lab)?;
    let mut tries = 0;
    let answered = wait_until(START_LIMIT, || {
        tries += 1;
        phones.is_answered(tries) || interrupt::requested()
    });
    interrupt::check()?;
    if !answered {
        return Err(io::Error::other(format!("no answer within {START_LIMIT:?} after a start")));
    }
    let seconds = began.elapsed().as_secs_f64();
    say!("  all nodes started: first answer after {seconds:.2} s");
    Ok(seconds)
}

/// The standby is killed and comes back, with its disk or with an empty one: seconds until it has caught up.
fn rejoined(lab: &mut LabState, empty: bool) -> io::Result<f64> {
    let active = status::wait_ready(lab, REJOIN_LIMIT)?.node;
    let index = lab.nodes.iter().position(|n| n.role == Role::Appliance && n.id != active);
    let index = index.ok_or_else(|| io::Error::other("there is no standby"))?;
    let node = &lab.nodes[index];
    for process in node.guard.into_iter().chain(node.agent()) {
        process.signal(Signal::SIGKILL);
        process.wait_gone(START_LIMIT);
    }
    if empty {
        for entry in fs::read_dir(&node.data)? {
            let path = entry?.path();
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
    }
    // Something to catch up with.
    Phones::new(lab)?.register(0..100, WINDOW, Duration::ZERO)?;
    let began = Instant::now();
    cluster::power_on(lab, index)?;
    status::wait_ready(lab, REJOIN_LIMIT)?;
    let seconds = began.elapsed().as_secs_f64();
    say!("  standby back {}: {seconds:.2} s", if empty { "with an empty disk" } else { "with its disk" });
    Ok(seconds)
}

/// Phones that register through the floating IP.
struct Phones {
    socket: UdpSocket,
    run: u32,
}

impl Phones {
    fn new(lab: &LabState) -> io::Result<Self> {
        let socket = ns::inside(lab.client, || UdpSocket::bind((net::CLIENT4, 0)))??;
        socket.connect((net::VIP4, lab.sip_port))?;
        socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        Ok(Self { socket, run: rand::random() })
    }

    /// Whether an OPTIONS is answered within a moment.
    fn is_answered(&self, n: u64) -> bool {
        let (own, at) = (net::CLIENT4, net::VIP4);
        let knock = format!(
            "OPTIONS sip:{at} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKstart{n};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:bench@{at}>;tag=s\r\nTo: <sip:{at}>\r\nCall-ID: start-{n}\r\nCSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n"
        );
        self.socket.send(knock.as_bytes()).is_ok() && self.socket.recv(&mut [0; 4096]).is_ok()
    }

    /// Registers users until each was answered with 200, `window` at once, a new one each `every`; gives the delays, ms.
    fn register(&self, users: std::ops::Range<u64>, window: usize, every: Duration) -> io::Result<Vec<f64>> {
        let mut waiting: std::collections::BTreeMap<u64, (Instant, Instant)> =
            std::collections::BTreeMap::new();
        let (mut next, mut delays) = (users.start, Vec::new());
        let mut due = Instant::now();
        let mut buffer = [0u8; 4096];
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
        let (own, domain, run) = (net::CLIENT4, crate::lab::config::DOMAIN, self.run);
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
