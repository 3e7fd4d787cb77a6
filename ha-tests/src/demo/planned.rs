//! Story 7: a planned switchover, there and back, under 200 calls per second.

use std::io;
use std::time::Duration;

use super::busy::Watch;
use super::cast::{CALLER_PORT, LOAD};
use super::teller::{Column, Verdict};
use super::{RETURN_LIMIT, Stage, after};
use crate::lab::proc::wait_until;
use crate::lab::{interrupt, status};
use crate::phones::sipp::{Plan, Scenario, Sipp, most_sendings};

/// Calls per second.
const RATE: u32 = 200;
/// Calls.
const CALLS: u32 = 1600;
/// Calls that are under way or done when each switchover is asked for.
const SWITCH_AT: [usize; 2] = [500, 1100];
/// Bound for a switchover.
const SWITCH_LIMIT: Duration = Duration::from_secs(10);
/// Bound of the whole load.
const LOAD_LIMIT: Duration = Duration::from_secs(40);

/// A thread that was due and waited so long for a processor: a commit takes five such turns, and a phone repeats itself
/// after half a second.
const TOO_BUSY: Duration = Duration::from_millis(100);
/// Tries on a machine that is too busy.
const TRIES: u32 = 3;

/// Plays it.
pub(super) fn play(stage: &mut Stage) -> io::Result<Column> {
    let first = status::wait_ready(&stage.guard.lab, RETURN_LIMIT)?;
    stage
        .teller
        .heading(&format!("switchover: node {} is active, {RATE} calls per second begin", first.node));
    let before = stage.observer.now();
    let mut column = Column { title: "switchover".to_owned(), ..Column::default() };
    let mut tries = 1;
    let verdict = loop {
        let busy = Watch::begin();
        let verdict = load(stage, tries).map_err(|why| match busy.worst() {
            worst if worst >= TOO_BUSY => (
                format!(
                    "{why}; the machine was too busy: a thread that was due waited {} ms",
                    worst.as_millis()
                ),
                true,
            ),
            worst => (
                format!("{why}; no thread that was due waited for more than {} ms", worst.as_millis()),
                false,
            ),
        });
        match verdict {
            Err((why, true)) if tries < TRIES => {
                stage.teller.say(&format!("once more: {why}"));
                tries += 1;
            }
            verdict => break verdict.map_err(|(why, _)| why),
        }
    };
    stage.teller.verdict(7, &verdict);
    column.verdicts.insert(7, verdict);
    after::silence(stage, &mut column, before);
    after::owners(stage, &mut column, before);
    Ok(column)
}

fn load(stage: &Stage, number: u32) -> Verdict {
    let names = ["load-callee", "load-caller"].map(|name| match number {
        1 => name.to_owned(),
        _ => format!("{name}-{number}"),
    });
    let run = || -> io::Result<String> {
        let mut plan = Plan::new(&names[0], Scenario::LoadCallee, LOAD.1, LOAD.0);
        plan.calls = CALLS;
        plan.limit = LOAD_LIMIT;
        let mut callee = Sipp::start(&stage.guard.lab, &stage.logs, &plan)?;
        callee.wait_bound(LOAD.1)?;
        let mut plan = Plan::new(&names[1], Scenario::LoadCaller, CALLER_PORT + 90, LOAD.0);
        plan.calls = CALLS;
        plan.rate = RATE;
        plan.limit = LOAD_LIMIT;
        let mut caller = Sipp::start(&stage.guard.lab, &stage.logs, &plan)?;
        for at in SWITCH_AT {
            caller.wait_for("load", LOAD_LIMIT, |events| {
                events.iter().filter(|e| e.sent && e.first_line.starts_with("INVITE")).count() >= at
            })?;
            switch(stage)?;
        }
        caller.finish()?;
        callee.finish()?;
        let (by_caller, what) = most_sendings(&caller.events());
        let (by_callee, what_callee) = most_sendings(&callee.events());
        let (most, what) = if by_caller >= by_callee { (by_caller, what) } else { (by_callee, what_callee) };
        if most > 2 {
            return Err(io::Error::other(format!("sent {most} times: {what}")));
        }
        let repeated =
            if most == 2 { "some messages were sent twice, none more often" } else { "nothing was repeated" };
        Ok(format!("{CALLS} calls, none failed, {repeated}"))
    };
    run().map_err(|e| e.to_string())
}

fn switch(stage: &Stage) -> io::Result<()> {
    let lab = &stage.guard.lab;
    let from =
        status::active(lab).ok_or_else(|| io::Error::other("no node is active before the switchover"))?;
    let node = &lab.nodes[lab.index_of(&from.node.to_string())?];
    let asked = stage.observer.now();
    status::admin(lab, node, &["switchover"], SWITCH_LIMIT)?;
    let mut to = None;
    wait_until(SWITCH_LIMIT, || {
        to = status::active(lab).filter(|s| s.node != from.node);
        to.is_some() || interrupt::requested()
    });
    let to = to.ok_or_else(|| io::Error::other("the switchover did not happen"))?;
    let at = stage.observer.timeline().tenures().last().map_or(asked, |t| t.first_at);
    stage.teller.say(&format!(
        "node {} handed over to node {} ({:.0} ms after it was asked)",
        from.node,
        to.node,
        at.saturating_sub(asked) as f64 / 1e6
    ));
    Ok(())
}
