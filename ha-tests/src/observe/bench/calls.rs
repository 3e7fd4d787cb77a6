//! What a call costs: real SIPps call each other through each server at the same rates.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use super::percentile;
use super::servers::{Kind, Server};
use crate::lab::state::LabState;
use crate::phones::sipp::{self, Event, Plan, Scenario, Sipp};

/// Calls per second.
const RATES: [u32; 3] = [200, 500, 1000];
/// How long each rate is offered, s.
const LENGTH_S: u32 = 10;
/// Bound for a SIPp's whole life.
const LIMIT: Duration = Duration::from_secs(60);
/// Ports of caller and callee.
const PORTS: (u16, u16) = (5290, 5291);
/// Who is called.
const USER: &str = "load";

/// One rate through one server.
pub(super) struct Load {
    /// Time from the first INVITE to its 200, ms.
    pub(super) setup: Vec<f64>,
    /// Calls without a 200, or that did not end as they should.
    pub(super) failed: usize,
    /// Processor time of the server per call, ms.
    cost_ms: f64,
}

/// Measures and prints.
pub(super) fn measure(lab: &LabState) -> io::Result<Value> {
    say!(
        "{:<38}{:>10}{:>10}{:>10}{:>14}{:>8}",
        "calls (INVITE to BYE)",
        "per s",
        "p50 ms",
        "p99 ms",
        "CPU ms / call",
        "failed"
    );
    let mut rows = Vec::new();
    let mut costs: Vec<(Kind, f64)> = Vec::new();
    for kind in Kind::ALL {
        let server = Server::start(lab, kind)?;
        let mut busiest = f64::NAN;
        for rate in RATES {
            let load = offer(lab, &server, rate, LENGTH_S)?;
            let (p50, p99) = (percentile(&load.setup, 0.5), percentile(&load.setup, 0.99));
            say!(
                "  {:<36}{rate:>10}{p50:>10.2}{p99:>10.2}{:>14.3}{:>8}",
                kind.title(),
                load.cost_ms,
                load.failed
            );
            rows.push(json!({
                "server": kind.title(), "per_second": rate, "p50_ms": p50, "p99_ms": p99,
                "cpu_ms_per_call": load.cost_ms, "failed": load.failed,
            }));
            busiest = load.cost_ms;
        }
        costs.push((kind, busiest));
    }
    if let Some((_, yardstick)) = costs.iter().find(|(kind, _)| *kind == Kind::Kamailio) {
        for (kind, cost) in costs.iter().filter(|(kind, _)| *kind != Kind::Kamailio) {
            say!("  processor time of a call, {}: {:.2} x Kamailio's", kind.title(), cost / yardstick);
        }
    }
    Ok(Value::Array(rows))
}

/// Offers calls at a rate for so many seconds.
pub(super) fn offer(lab: &LabState, server: &Server, rate: u32, seconds: u32) -> io::Result<Load> {
    let logs = lab.dir.join("bench-calls");
    fs::create_dir_all(&logs)?;
    let calls = rate * seconds;
    let plan = |name, scenario, port| {
        let mut plan = Plan::new(name, scenario, port, USER);
        plan.calls = calls;
        plan.rate = rate;
        plan.limit = LIMIT + Duration::from_secs(u64::from(seconds));
        plan.server = Some(&server.asked);
        plan
    };
    let mut register = plan("bench-register", Scenario::Register, PORTS.1);
    (register.calls, register.rate) = (1, 1);
    Sipp::start(lab, &logs, &register)?.finish()?;
    let mut callee = Sipp::start(lab, &logs, &plan("bench-callee", Scenario::LoadCallee, PORTS.1))?;
    callee.wait_bound(PORTS.1)?;
    let before = server.busy();
    let mut caller = Sipp::start(lab, &logs, &plan("bench-caller", Scenario::LoadCaller, PORTS.0))?;
    // A call that failed is a figure here.
    let _ = caller.finish();
    let busy = server.busy().saturating_sub(before);
    drop(callee);
    let events = caller.events();
    let setup = sipp_setup(&events);
    let ended = events.iter().filter(|e| e.got("200", "BYE")).count();
    let failed = usize::try_from(calls).unwrap_or(usize::MAX).saturating_sub(ended.min(setup.len()));
    Ok(Load { setup, failed, cost_ms: busy.as_secs_f64() * 1000.0 / f64::from(calls) })
}

/// From the first INVITE of each call to its first 200, ms.
fn sipp_setup(events: &[sipp::Event]) -> Vec<f64> {
    let mut asked: BTreeMap<&str, f64> = BTreeMap::new();
    let mut out = Vec::new();
    let is_invite = |e: &Event| e.sent && e.first_line.starts_with("INVITE ");
    for event in events {
        if is_invite(event) {
            asked.entry(&event.call_id).or_insert(event.at);
        } else if event.got("200", "INVITE")
            && let Some(at) = asked.get_mut(event.call_id.as_str()).filter(|at| at.is_finite())
        {
            out.push((event.at - *at) * 1000.0);
            // A repeated 200 says nothing more.
            *at = f64::INFINITY;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: f64, sent: bool, call_id: &str, first_line: &str) -> Event {
        let (call_id, first_line) = (call_id.to_owned(), first_line.to_owned());
        Event { at, sent, call_id, cseq: "1 INVITE".to_owned(), first_line }
    }

    #[test]
    fn the_time_counts_from_the_first_invite_to_the_first_200_of_each_call() {
        let events = [
            event(1.0, true, "a", "INVITE sip:load@lab.test SIP/2.0"),
            event(1.5, true, "a", "INVITE sip:load@lab.test SIP/2.0"),
            event(1.6, true, "b", "INVITE sip:load@lab.test SIP/2.0"),
            event(1.75, false, "a", "SIP/2.0 200 OK"),
            event(2.0, false, "a", "SIP/2.0 200 OK"),
            event(2.0, false, "b", "SIP/2.0 486 Busy Here"),
        ];
        assert_eq!(sipp_setup(&events), [750.0]);
    }
}
