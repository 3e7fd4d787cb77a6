//! Silent gaps of Relevo: the active node is lost, or hands over, again and again.

use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{PROBE_EVERY, Series};
use crate::lab::fault::{self, Blow};
use crate::lab::net::Mac;
use crate::lab::proc::wait_until;
use crate::lab::state::LabState;
use crate::lab::{cluster, interrupt, status};
use crate::observe::Observer;
use crate::observe::timeline::Kind;

/// Bound for the hand-over to be seen.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(15);
/// Bound for the cluster to be whole again.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// So long has one node answered before it is lost: the observer knows it, and voters that were restarted before the
/// observer have outlived the lease (150 ms) in which they are silent.
pub(super) const SETTLED: Duration = Duration::from_millis(500);
/// Between two looks at all that was seen, each of which holds the observer up for a moment.
const LOOK: Duration = Duration::from_millis(50);

/// How the active node goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    KillAgent,
    KillNode,
    Stop,
    Switchover,
}

impl How {
    pub(super) const ALL: [How; 4] = [How::KillAgent, How::KillNode, How::Stop, How::Switchover];

    pub(super) fn word(self) -> &'static str {
        match self {
            How::KillAgent => "kill-agent",
            How::KillNode => "kill-node",
            How::Stop => "stop",
            How::Switchover => "switchover",
        }
    }

    fn title(self) -> &'static str {
        match self {
            How::KillAgent => "Relevo, agent killed",
            How::KillNode => "Relevo, node lost",
            How::Stop => "Relevo, agent stopped (SIGSTOP)",
            How::Switchover => "Relevo, switchover",
        }
    }
}

/// Runs one kind of loss.
pub(super) fn measure(lab: &mut LabState, how: How, runs: u32) -> io::Result<Series> {
    let mut series = Series { name: how.title().to_owned(), ..Series::default() };
    for _ in 0..runs {
        interrupt::check()?;
        let active = status::wait_ready(lab, READY_LIMIT)?;
        let index = lab.index_of(&active.node.to_string())?;
        let observer = Observer::start(lab, PROBE_EVERY)?;
        let owner = settled(&observer, 0, SETTLED);
        interrupt::check()?;
        if owner.is_none() {
            series.failed.push(format!("no single owner answered for {SETTLED:?}"));
            continue;
        }
        let before = observer.now();
        lose(lab, index, how)?;
        record(&observer, before, true, &mut series);
        drop(observer);
        if let Some(agent) = lab.nodes[index].agent().filter(|a| a.stopped()) {
            agent.signal(Signal::SIGCONT);
        }
        cluster::power_on(lab, index)?;
        let lab = &*lab;
        wait_until(READY_LIMIT, || status::ask(lab, &lab.nodes[index]).is_ok());
    }
    Ok(series)
}

fn lose(lab: &mut LabState, index: usize, how: How) -> io::Result<()> {
    let signal = match how {
        How::KillNode => {
            let blow = Blow::prepare(lab, index)?;
            blow.strike(lab.switch);
            return fault::finish_kill_node(lab, index, &blow).map(drop);
        }
        How::Switchover => {
            return status::admin(lab, &lab.nodes[index], &["switchover"], HAND_OVER_LIMIT).map(drop);
        }
        How::KillAgent => Signal::SIGKILL,
        How::Stop => Signal::SIGSTOP,
    };
    let agent = lab.nodes[index].agent().ok_or_else(|| io::Error::other("the active node has no agent"))?;
    agent.signal(signal);
    Ok(())
}

/// Waits until one node has answered for `held` since `from` (ns of the observer), and nobody else since; says who.
pub(super) fn settled(observer: &Observer, from: u64, held: Duration) -> Option<Mac> {
    let mut owner = None;
    let settled = wait_until(READY_LIMIT, || {
        std::thread::sleep(LOOK);
        let tenures = observer.timeline().tenures();
        let last = tenures.last().filter(|t| {
            let begun = t.first_sent.max(from);
            u128::from(t.last_sent.saturating_sub(begun)) > held.as_nanos()
        });
        owner = last.map(|t| t.mac);
        owner.is_some() || interrupt::requested()
    });
    owner.filter(|_| settled)
}

/// Waits for the hand-over and notes its length, by ARP and (if it is served) by SIP.
pub(super) fn record(observer: &Observer, before: u64, sip: bool, series: &mut Series) {
    let seen = |kind| observer.timeline().hand_over(kind, before);
    let done = || seen(Kind::Arp).is_some() && (!sip || seen(Kind::Sip).is_some());
    // Looked at now and then only: each look holds the observer up for a moment.
    let mut next = std::time::Instant::now();
    wait_until(HAND_OVER_LIMIT, || {
        if interrupt::requested() {
            return true;
        }
        if std::time::Instant::now() < next {
            return false;
        }
        next = std::time::Instant::now() + Duration::from_millis(100);
        done()
    });
    let ms = |(last, first): (u64, u64)| first.saturating_sub(last) as f64 / 1e6;
    match seen(Kind::Arp) {
        Some(gap) => series.arp.push(ms(gap)),
        None => series.failed.push(format!("no other owner within {HAND_OVER_LIMIT:?}")),
    }
    if sip {
        match seen(Kind::Sip) {
            Some(gap) => series.sip.push(ms(gap)),
            None => series.failed.push(format!("no SIP answer of another owner within {HAND_OVER_LIMIT:?}")),
        }
    }
    let evidence = observer.timeline().two_owners();
    if let Some(first) = evidence.first() {
        series.failed.push(format!("two owners: {}", first.text));
    }
}
