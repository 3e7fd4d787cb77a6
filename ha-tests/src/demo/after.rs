//! After a loss: who took over, how long it was silent, whether there ever were two owners, and the way back.

use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::strike::Strike;
use super::teller::{Column, Verdict};
use super::{RETURN_LIMIT, Stage};
use crate::lab::proc::wait_until;
use crate::lab::{cluster, status};
use crate::observe::timeline::KINDS;

/// Bound for another node to be active after the loss.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(10);

/// Waits until another node is active, or the same one with a new agent (which was faster than an election).
pub(super) fn takeover(stage: &Stage, index: usize, before: u64, strike: &Strike) -> io::Result<()> {
    let lab = &stage.guard.lab;
    let lost = lab.nodes[index].id;
    let old_agent = match strike {
        Strike::Power(..) => None,
        Strike::Signal(agent, _) => Some(*agent),
    };
    let mut new = None;
    wait_until(TAKEOVER_LIMIT, || {
        new = status::active(lab).filter(|s| s.node != lost || lab.nodes[index].agent() != old_agent);
        new.is_some() || crate::lab::interrupt::requested()
    });
    crate::lab::interrupt::check()?;
    let new = new.ok_or_else(|| {
        io::Error::other(format!("no node was active {TAKEOVER_LIMIT:?} after the loss of node {lost}"))
    })?;
    // The end of the first silence after the loss, as the client saw it.
    let timeline = stage.observer.timeline();
    let silent = timeline.gaps(before, u64::MAX).iter().filter(|g| !g.open).map(|g| g.to).min();
    drop(timeline);
    let since = silent.map_or(String::new(), |at| {
        format!(
            "; the floating IP answers again {:.0} ms after the loss",
            at.saturating_sub(before) as f64 / 1e6
        )
    });
    stage.teller.say(&format!("node {} is active{since}", new.node));
    Ok(())
}

/// Notes the longest silence since `before`, by kind of probe.
pub(super) fn silence(stage: &Stage, column: &mut Column, before: u64) {
    let timeline = stage.observer.timeline();
    let now = stage.observer.now();
    column.gaps =
        KINDS.iter().map(|k| (k.name(), timeline.longest_gap(*k, before, now) as f64 / 1e6)).collect();
    drop(timeline);
    let text: Vec<String> = column.gaps.iter().map(|(kind, ms)| format!("{kind} {ms:.0} ms")).collect();
    stage.teller.say(&format!("the floating IP was silent for: {}", text.join(", ")));
}

/// Notes whether two owners were seen since `before`.
pub(super) fn owners(stage: &Stage, column: &mut Column, before: u64) {
    let evidence: Vec<String> = stage
        .observer
        .timeline()
        .two_owners()
        .into_iter()
        .filter(|e| e.at >= before)
        .map(|e| {
            let [a, b] = e.macs.map(|m| stage.names.text(&m));
            format!("{a} and {b}: {}", e.text)
        })
        .collect();
    column.one_owner = Some(match evidence.first() {
        None => {
            stage.teller.say("the observer never saw two owners");
            Ok(String::new())
        }
        Some(first) => {
            stage.teller.say(&format!("TWO OWNERS: {first}"));
            Err(first.clone())
        }
    });
}

/// The lost node gets power again (or is woken) and must catch up.
pub(super) fn come_back(stage: &mut Stage, index: usize) -> Verdict {
    let lab = &mut stage.guard.lab;
    let id = lab.nodes[index].id;
    let back = (|| -> io::Result<status::Status> {
        if let Some(agent) = lab.nodes[index].agent()
            && agent.stopped()
        {
            agent.signal(Signal::SIGCONT);
        }
        cluster::power_on(lab, index)?;
        // A guard restarts its agent with a growing pause; the node counts as back when it answers again.
        let lab = &*lab;
        wait_until(RETURN_LIMIT, || status::ask(lab, &lab.nodes[index]).is_ok());
        status::wait_ready(lab, RETURN_LIMIT)
    })();
    match back {
        Ok(ready) => {
            let line = format!(
                "node {id} is back and has caught up (entry {}); node {} stays active",
                ready.applied, ready.node
            );
            stage.teller.say(&line);
            Ok(line)
        }
        Err(e) => {
            stage.teller.say(&format!("node {id} did NOT come back: {e}"));
            Err(e.to_string())
        }
    }
}
