//! What can be done to a node. Each is exactly one thing, and each is undone by `heal`, `cont` or `start`.

use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::net::{self, Cut};
use super::proc::Proc;
use super::state::LabState;
use super::{disk, ns};

/// Bound for a killed process to be gone.
const DEATH_LIMIT: Duration = Duration::from_secs(5);

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// SIGKILL to the agent; its guard lives.
    KillAgent,
    /// Power loss: guard and agent killed, namespace and wire gone, at once.
    KillNode,
    /// SIGSTOP to the agent.
    Stop,
    /// SIGCONT to the agent.
    Cont,
    /// Nothing reaches the node and nothing it sends reaches others.
    Cut,
    /// The node receives but nobody hears it.
    CutOneway,
    /// Undoes `cut`, `cut-oneway` and `disk-full`.
    Heal,
    /// The node's disk has no byte left.
    DiskFull,
}

/// Does it. Returns one line that says what was done.
///
/// # Errors
/// The node is not in a state where this can be done (no agent to kill), or a tool refused.
pub fn inflict(lab: &mut LabState, index: usize, fault: Fault) -> io::Result<String> {
    let id = lab.nodes[index].id;
    let port = net::port_of(id);
    match fault {
        Fault::KillNode => kill_node(lab, index),
        Fault::KillAgent => signal_agent(lab, index, Signal::SIGKILL),
        Fault::Stop => signal_agent(lab, index, Signal::SIGSTOP),
        Fault::Cont => signal_agent(lab, index, Signal::SIGCONT),
        Fault::Cut => {
            net::cut(lab.switch, &port, Cut::Both)?;
            Ok(format!("node {id}: cut off, both directions"))
        }
        Fault::CutOneway => {
            net::cut(lab.switch, &port, Cut::SendOnly)?;
            Ok(format!("node {id}: still receives, nobody hears it"))
        }
        Fault::Heal => {
            net::heal(lab.switch, &port)?;
            disk::unfill(&lab.nodes[index].disk);
            Ok(format!("node {id}: healed"))
        }
        Fault::DiskFull => {
            disk::fill(&lab.nodes[index].disk)?;
            Ok(format!("node {id}: its disk is full"))
        }
    }
}

fn signal_agent(lab: &LabState, index: usize, signal: Signal) -> io::Result<String> {
    let node = &lab.nodes[index];
    let agent = node.agent().ok_or_else(|| io::Error::other(format!("node {} is not running", node.id)))?;
    if !agent.signal(signal) {
        return Err(io::Error::other(format!("node {}: its agent {} is gone already", node.id, agent.pid)));
    }
    Ok(format!("node {}: {signal} to agent {}", node.id, agent.pid))
}

fn kill_node(lab: &mut LabState, index: usize) -> io::Result<String> {
    let switch = lab.switch;
    let blow = Blow::prepare(lab, index)?;
    blow.strike(switch);
    finish_kill_node(lab, index, &blow)
}

/// Everything needed for a power loss, looked up beforehand so that the blow itself is three system calls.
#[derive(Debug, Clone)]
pub struct Blow {
    port: String,
    guard: Option<Proc>,
    agent: Option<Proc>,
}

impl Blow {
    /// Looks up the processes of a node.
    ///
    /// # Errors
    /// The node has no power.
    pub fn prepare(lab: &LabState, index: usize) -> io::Result<Blow> {
        let node = &lab.nodes[index];
        if node.holder.filter(Proc::alive).is_none() {
            return Err(io::Error::other(format!("node {} has no power already", node.id)));
        }
        Ok(Blow { port: net::port_of(node.id), guard: node.guard.filter(Proc::alive), agent: node.agent() })
    }

    /// The power loss: the wire is dead first, so nothing that a dying process or kernel says is heard; the guard
    /// next, so that it cannot tell its peers; then the agent.
    pub fn strike(&self, switch: Proc) {
        let _ = net::port_down(switch, &self.port);
        for process in self.guard.iter().chain(&self.agent) {
            process.signal(Signal::SIGKILL);
        }
    }
}

/// After [`Blow::strike`]: namespace and wire go, and the lab remembers that the node has no power.
///
/// # Errors
/// The state cannot be written.
pub fn finish_kill_node(lab: &mut LabState, index: usize, blow: &Blow) -> io::Result<String> {
    let switch = lab.switch;
    let node = &mut lab.nodes[index];
    if let Some(holder) = node.holder.take() {
        for process in ns::members(holder) {
            process.signal(Signal::SIGKILL);
        }
        holder.wait_gone(DEATH_LIMIT);
    }
    node.guard = None;
    let id = node.id;
    for process in blow.guard.iter().chain(&blow.agent) {
        process.wait_gone(DEATH_LIMIT);
    }
    net::unplug(switch, &blow.port);
    // A unix socket outlives its process as a file; after a power loss the node starts from its disk alone.
    let _ = std::fs::remove_file(&lab.nodes[index].admin);
    lab.save()?;
    let pid = |p: &Option<Proc>| p.map_or_else(|| "-".to_owned(), |p| p.pid.to_string());
    Ok(format!(
        "node {id}: power lost (guard {} and agent {} killed, namespace and wire gone)",
        pid(&blow.guard),
        pid(&blow.agent)
    ))
}
