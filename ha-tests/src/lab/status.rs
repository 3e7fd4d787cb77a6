//! What the nodes say about themselves (`relevo status --json` over the admin socket).

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::proc::{POLL, run_bounded};
use super::state::{LabState, Node, Role};

/// A node that does not answer within this time is not up.
const ASK_LIMIT: Duration = Duration::from_secs(3);

/// The part of the status the lab decides on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Node id.
    pub node: u64,
    /// It owns the floating IP now.
    pub active: bool,
    /// Raft leader it knows, if any.
    pub leader: Option<u64>,
    /// Node named in the newest grant it applied.
    pub holder: Option<u64>,
    /// Fence token of that grant.
    pub token: u64,
    /// Last applied log index.
    pub applied: u64,
    /// Bindings in its replicated state.
    pub bindings: u64,
    /// Dialogs in its replicated state.
    pub dialogs: u64,
    /// Unfinished INVITEs in its replicated state.
    pub pending_invites: u64,
}

impl Status {
    /// Reads the JSON of `relevo status --json`.
    #[must_use]
    pub fn read(v: &Value) -> Status {
        // `leader` and `holder` may be a number, or an object with more about the node.
        let id =
            |v: &Value| v.as_u64().or_else(|| v.get("id").or_else(|| v.get("node")).and_then(Value::as_u64));
        Status {
            node: v["node"].as_u64().unwrap_or(0),
            active: v["active"].as_bool().unwrap_or(false),
            leader: id(&v["leader"]),
            holder: id(&v["holder"]),
            token: v["token"].as_u64().unwrap_or(0),
            applied: v["applied"].as_u64().unwrap_or(0),
            bindings: v["counts"]["bindings"].as_u64().unwrap_or(0),
            dialogs: v["counts"]["dialogs"].as_u64().unwrap_or(0),
            pending_invites: v["counts"]["pending_invites"].as_u64().unwrap_or(0),
        }
    }
}

/// Asks one node.
///
/// # Errors
/// It does not answer, or not with JSON.
pub fn ask(lab: &LabState, node: &Node) -> io::Result<Status> {
    let text = admin(lab, node, &["status", "--json"], ASK_LIMIT)?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|e| io::Error::other(format!("node {}: status is not JSON: {e}", node.id)))?;
    Ok(Status::read(&value))
}

/// Runs an administrative command of `relevo` against a node and returns what it printed.
///
/// # Errors
/// Non-zero exit (with what it said), or longer than `within`.
pub fn admin(lab: &LabState, node: &Node, args: &[&str], within: Duration) -> io::Result<String> {
    let mut command = Command::new(&lab.relevo);
    command.args(args).arg("--admin").arg(&node.admin);
    let out = run_bounded(command, "", within)?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    Err(io::Error::other(format!(
        "node {}: relevo {}: {}: {}",
        node.id,
        args.join(" "),
        out.status,
        String::from_utf8_lossy(&out.stderr).trim()
    )))
}

/// Waits until exactly one node is active, every node that has power answers, and all have applied what the
/// active one has.
///
/// # Errors
/// `TimedOut`, with what each node said last.
pub fn wait_ready(lab: &LabState, within: Duration) -> io::Result<Status> {
    wait(lab, within, false)
}

/// As [`wait_ready`], for nodes that were just started: one that ends by itself is an error at once.
///
/// # Errors
/// As [`wait_ready`], and a node that ended.
pub fn wait_first_ready(lab: &LabState, within: Duration) -> io::Result<Status> {
    wait(lab, within, true)
}

fn wait(lab: &LabState, within: Duration, none_may_end: bool) -> io::Result<Status> {
    let end = Instant::now() + within;
    loop {
        super::interrupt::check()?;
        let ended = lab.nodes.iter().find(|n| n.guard.is_some_and(|g| !g.alive()));
        if let Some(node) = ended.filter(|_| none_may_end) {
            return Err(io::Error::other(format!("node {} ended by itself", node.id)));
        }
        let said: Vec<(u64, Role, io::Result<Status>)> = lab
            .nodes
            .iter()
            .filter(|n| n.guard.is_some_and(|g| g.alive()))
            .map(|n| (n.id, n.role, ask(lab, n)))
            .collect();
        let mut active = said.iter().filter_map(|(_, _, s)| s.as_ref().ok()).filter(|s| s.active);
        if let (Some(first), None) = (active.next(), active.next()) {
            let caught_up = said.iter().all(|(_, _, s)| {
                // A log that moves on: a few entries behind a value read a moment earlier is still caught up.
                s.as_ref().is_ok_and(|s| s.holder == Some(first.node) && s.applied + 8 >= first.applied)
            });
            if caught_up {
                return Ok(first.clone());
            }
        }
        if Instant::now() >= end {
            let lines: Vec<String> = said
                .iter()
                .map(|(id, role, s)| match s {
                    Ok(s) => format!(
                        "node {id} ({}): active {}, leader {:?}, holder {:?}, applied {}",
                        role.word(),
                        s.active,
                        s.leader,
                        s.holder,
                        s.applied
                    ),
                    Err(e) => format!("node {id} ({}): {e}", role.word()),
                })
                .collect();
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the cluster was not ready after {within:?}\n  {}", lines.join("\n  ")),
            ));
        }
        std::thread::sleep(POLL);
    }
}

/// The node that is active now, if exactly one says so. A node whose agent is stopped says nothing and is not asked.
#[must_use]
pub fn active(lab: &LabState) -> Option<Status> {
    let mut found = lab
        .nodes
        .iter()
        .filter(|n| n.role == Role::Appliance && n.agent().is_some_and(|agent| !agent.stopped()))
        .filter_map(|n| ask(lab, n).ok())
        .filter(|s| s.active);
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_with_leader_as_number_or_null() {
        let v = serde_json::json!({"node": 2, "role": "appliance", "active": true, "leader": 2, "holder": null,
            "token": 7, "applied": 9, "counts": {"bindings": 3, "dialogs": 1, "pending_invites": 0}});
        let s = Status::read(&v);
        assert!(s.active);
        assert_eq!((s.node, s.leader, s.holder, s.applied, s.bindings), (2, Some(2), None, 9, 3));
    }
}
