//! What a large state costs: registrations are made until there are so many, then calls and refreshes go on beside
//! them, the active node is lost, and nodes come back with their disk and without it. The last row has answered calls
//! that go on beside the most registrations.

mod phones;

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::calls;
use super::gaps::{self, How};
use super::percentile;
use super::servers::{Kind, Server};
use crate::lab::proc::wait_until;
use crate::lab::state::{LabState, Node, Role};
use crate::lab::{cluster, disk, interrupt, ns, status};
use crate::observe::Observer;
use crate::observe::timeline;
use phones::Phones;

/// Size of each node's disk (6 GiB, as far as it is used): the state of a million bindings, twice, and the log.
pub(super) const DISK_BYTES: u64 = 6 << 30;
/// Bindings that are not filled in: those of the users who are called ([`calls`] and [`phones`]). The state takes a million,
/// and they are part of it.
const CALLED: u64 = 2;
/// Registrations and calls under way while the state is filled.
const WINDOW: usize = 256;
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
    /// Answered calls of a last row, beside the most bindings; none: no such row.
    pub dialogs: u64,
    /// Calls per second, one after the other.
    pub rates: Vec<u32>,
    /// How long they are made at each rate, s.
    pub seconds: u32,
}

/// What the state holds in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    bindings: u64,
    dialogs: u64,
}

/// The rows to measure, each larger than the one before.
fn plan(size: &Size) -> Vec<Row> {
    let mut rows: Vec<Row> = size.bindings.iter().map(|&bindings| Row { bindings, dialogs: 0 }).collect();
    rows.sort_by_key(|row| row.bindings);
    if size.dialogs > 0 {
        rows.push(Row { bindings: rows.last().map_or(0, |row| row.bindings), dialogs: size.dialogs });
    }
    rows
}

/// Measures and prints.
pub(super) fn measure(lab: &mut LabState, size: &Size) -> io::Result<Value> {
    let mut rows = Vec::new();
    let mut there = 0;
    for Row { bindings, dialogs } in plan(size) {
        interrupt::check()?;
        status::wait_ready(lab, REJOIN_LIMIT)?;
        let took = Instant::now();
        let phones = Phones::new(lab)?;
        let filled = bindings.saturating_sub(CALLED);
        let new = there..filled.max(there);
        let added = new.end - new.start;
        // So many that the snapshots of the meantime count as they do in the long run.
        let (_, bytes) = written(lab, || phones.register(new, WINDOW, Duration::ZERO))?;
        let filling = each(bytes, added).filter(|_| added > 0);
        there = filled.max(there);
        if dialogs > 0 {
            phones::hold_calls(lab, dialogs, WINDOW)?;
        }
        let holds = status::wait_ready(lab, REJOIN_LIMIT)?;
        let (seconds, count, calls) = (took.elapsed().as_secs_f64(), holds.bindings, holds.dialogs);
        say!("with {count} bindings and {calls} answered calls (made in {seconds:.1} s):");
        if added > 0 {
            say!(
                "  bytes on the busiest disk for each new binding, snapshots among them: {}",
                shown(filling)
            );
        }
        let idle = memory(lab);
        let mut used_at = Vec::new();
        for &rate in &size.rates {
            used_at.push(used(lab, rate, size.seconds)?);
        }
        rows.push(json!({
            "bindings": count, "dialogs": calls, "filling_device_bytes": filling, "used": used_at, "refreshed": refreshed(lab, there)?,
            "rss_mb": idle, "rss_after_load_mb": memory(lab), "lost": lost(lab)?, "started_s": started(lab)?,
            "rss_after_start_mb": memory(lab), "own_disk_s": rejoined(lab, false)?,
            "empty_disk_s": rejoined(lab, true)?,
        }));
    }
    Ok(Value::Array(rows))
}

/// Bytes that the busiest of the nodes' devices writes while `work` goes on; `None` where nobody counts them.
fn written<R>(lab: &LabState, work: impl FnOnce() -> io::Result<R>) -> io::Result<(R, Option<u64>)> {
    let all = || lab.nodes.iter().map(|n| disk::written(&n.data)).collect::<Option<Vec<_>>>();
    let before = all();
    let result = work()?;
    let bytes = before.zip(all()).and_then(|(before, after)| {
        before.iter().zip(&after).map(|(before, after)| after.saturating_sub(*before)).max()
    });
    Ok((result, bytes))
}

fn each(bytes: Option<u64>, count: u64) -> Option<f64> {
    bytes.map(|bytes| bytes as f64 / count.max(1) as f64)
}

fn shown(bytes: Option<f64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.0}"))
}

fn delays(ms: &[f64]) -> Value {
    json!({"p50": percentile(ms, 0.5), "p99": percentile(ms, 0.99), "max": percentile(ms, 1.0), "count": ms.len()})
}

fn times_lost(lab: &LabState) -> usize {
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    lab.nodes.iter().map(|n| text(&n.log).matches(LOST).count()).sum()
}

/// Calls at a rate; how long the address was silent meanwhile, and how often the holder lost its lease.
fn used(lab: &LabState, rate: u32, seconds: u32) -> io::Result<Value> {
    let server = Server::start(lab, Kind::Cluster)?;
    let before = times_lost(lab);
    let observer = Observer::start(lab, LOOK_EVERY)?;
    let from = observer.now();
    let (load, bytes) = written(lab, || calls::offer(lab, &server, rate, seconds))?;
    let silent = observer.timeline().longest_gap(timeline::Kind::Arp, from, observer.now()) as f64 / 1e6;
    drop(observer);
    let leases = times_lost(lab) - before;
    let count = rate * seconds;
    let bytes = each(bytes, u64::from(count));
    say!(
        "  {rate} calls/s: INVITE to 200 p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms; {} of {count} failed; longest silence \
         {silent:.0} ms; leases lost {leases}; bytes on the busiest disk for each call: {}",
        percentile(&load.setup, 0.5),
        percentile(&load.setup, 0.99),
        percentile(&load.setup, 1.0),
        load.failed,
        shown(bytes)
    );
    Ok(json!({
        "per_second": rate, "ms": delays(&load.setup), "failed": load.failed, "silent_ms": silent,
        "leases_lost": leases, "device_bytes": bytes,
    }))
}

/// Refreshes of what is registered: their delay, and the bytes that the devices of the nodes write for each.
fn refreshed(lab: &LabState, bindings: u64) -> io::Result<Value> {
    let count = REFRESHES.min(bindings);
    if count == 0 {
        return Ok(Value::Null);
    }
    let (ms, bytes) = written(lab, || Phones::new(lab)?.register(0..count, WINDOW, REFRESH_EVERY))?;
    let bytes = each(bytes, count);
    say!(
        "  refreshes, one each {REFRESH_EVERY:?}: p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms; bytes on the busiest disk for \
         each: {}",
        percentile(&ms, 0.5),
        percentile(&ms, 0.99),
        percentile(&ms, 1.0),
        shown(bytes)
    );
    Ok(json!({"ms": delays(&ms), "device_bytes": bytes}))
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

/// Ends a node's guard first, which would start another agent, and then all that is left of it: an agent that was just
/// started may be known to nobody yet, and the next guard would find it at its socket.
fn cut_power(node: &Node) {
    // The list is made when the guard is gone. The holder keeps the namespace.
    let rest = node.holder.into_iter().flat_map(ns::members).filter(|process| Some(*process) != node.holder);
    for process in node.guard.into_iter().chain(rest) {
        process.signal(Signal::SIGKILL);
        process.wait_gone(START_LIMIT);
    }
}

/// All nodes lose power and get it back: seconds until the floating IP answers SIP.
fn started(lab: &mut LabState) -> io::Result<f64> {
    status::wait_ready(lab, REJOIN_LIMIT)?;
    lab.nodes.iter().for_each(cut_power);
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
    cut_power(node);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_larger_and_the_calls_come_beside_the_most_bindings() {
        let size = Size { bindings: vec![300, 0], dialogs: 50, rates: vec![200], seconds: 1 };
        let row = |bindings, dialogs| Row { bindings, dialogs };
        assert_eq!(plan(&size), [row(0, 0), row(300, 0), row(300, 50)]);
        assert_eq!(plan(&Size { dialogs: 0, ..size }), [row(0, 0), row(300, 0)]);
    }
}
