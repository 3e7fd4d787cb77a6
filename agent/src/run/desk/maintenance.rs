//! `relevo drain`, `undrain`, `pause`, `resume`, `switchover --at`: what an operator does before he works on a machine.

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use proxy_core::io::Refusal;
use proxy_core::time::{RealTime, WallTime};
use raft_store::command::{Command, Response};
use raft_store::state::{MAX_AHEAD_MS, MAX_PAUSE_MS, MAX_REASON_BYTES};
use serde_json::{Value, json};

use crate::accounting::line::utc;
use crate::admin::Reply;
use crate::admin::maintenance::{Ask, MIN_PAUSE_S};
use crate::bridge::Cluster;
use crate::config::Role;
use crate::control::{Ailment, Facts, HAND_OVER_LIMIT, Pause, Place, Planned, WORD_AGE};
use crate::run::backend::{COMMIT_LIMIT, Desk};
use crate::run::refused::not_taken;

/// How often it is looked whether a drained holder has handed over.
const LOOK: Duration = Duration::from_millis(10);
/// Pause before an order is given again.
const AGAIN: Duration = Duration::from_millis(100);
/// Time for the others' words and the proof of the chosen node before a hand-over begins.
const BEGIN_LIMIT: Duration = Duration::from_secs(3);

impl<C: Cluster> Desk<C> {
    pub(in crate::run) fn maintenance(&self, ask: &Ask) -> Reply {
        let done = match ask {
            Ask::Drain { node, drained } => self.drain(*node, *drained),
            Ask::Pause { for_s, reason } => self.pause(*for_s, reason),
            Ask::Resume {} => self.resume(),
            Ask::Plan { node, in_s } => self.plan(*node, *in_s),
            Ask::Unplan {} => self.unplan(),
        };
        done.map_or_else(|refused| refused, |ok| Reply::Ok { ok })
    }

    fn appliances(&self) -> Vec<Place> {
        self.config.nodes.iter().filter(|m| m.role == Role::Appliance).map(|m| m.id).collect()
    }

    fn must_be_appliance(&self, node: Place) -> Result<(), Reply> {
        let appliances = self.appliances();
        if appliances.contains(&node) {
            return Ok(());
        }
        let list: Vec<String> = appliances.iter().map(Place::to_string).collect();
        Err(Reply::error(
            format!("node {node} is no appliance of this cluster: only an appliance can hold the service"),
            format!("name one of: {}", list.join(", ")),
        ))
    }

    /// Whether a node is this one, or has answered a moment ago.
    pub(in crate::run) fn answers(&self, node: Place) -> bool {
        let now = (self.clock)().mono;
        let is_young = |s: &crate::bridge::Said| s.place == node && now.since(s.at) <= WORD_AGE;
        node == self.config.id || self.cluster.said().iter().any(is_young)
    }

    /// Has an order committed. Each can be given twice without harm, so that it is given again where its leader was lost.
    fn order(&self, command: &Command) -> Result<Response, Reply> {
        let begun = Instant::now();
        loop {
            let (tx, rx) = sync_channel(1);
            // The receiver may have given up waiting.
            self.cluster.order(command.clone(), Box::new(move |outcome| drop(tx.try_send(outcome))));
            match rx.recv_timeout(COMMIT_LIMIT) {
                Ok(Err(Refusal::Unknown | Refusal::NotActive)) if begun.elapsed() < COMMIT_LIMIT => {
                    std::thread::sleep(AGAIN);
                }
                Ok(outcome) => return outcome.map_err(not_taken),
                Err(_) => {
                    return Err(Reply::error(
                        "the cluster did not answer in time: the change may still come",
                        "see relevo status: is there a leader? then try again",
                    ));
                }
            }
        }
    }

    fn drain(&self, node: Place, drained: bool) -> Result<Value, Reply> {
        self.must_be_appliance(node)?;
        let facts = self.cluster.facts();
        let is_drained = |p: Place| facts.fitness_of(p).has(Ailment::Drained);
        let holder = facts.grant.map(|g| g.holder);
        if drained {
            let others: Vec<Place> = self.appliances().into_iter().filter(|p| *p != node).collect();
            if others.iter().all(|p| is_drained(*p)) {
                let cure = match others.first() {
                    Some(other) => format!("take another one back first: relevo undrain {other}"),
                    None => String::from("add another appliance first; to end the service stop the node"),
                };
                return Err(Reply::error(
                    format!("node {node} is the last one that may hold the service: all others are drained"),
                    cure,
                ));
            }
            if holder == Some(node) && !others.iter().any(|p| !is_drained(*p) && self.answers(*p)) {
                return Err(Reply::error(
                    format!(
                        "node {node} holds the service, and no other appliance answers that could take it"
                    ),
                    "start another one and wait until relevo status shows it; to end the service stop the node",
                ));
            }
        }
        let changed = is_drained(node) != drained;
        self.order(&Command::Drain { place: node, drained })?;
        let moves = drained && holder == Some(node) && facts.pause.is_none();
        let begun = Instant::now();
        let mut now_held_by = holder;
        while moves && begun.elapsed() < HAND_OVER_LIMIT + BEGIN_LIMIT {
            let facts = self.cluster.facts();
            now_held_by = facts.grant.map(|g| g.holder);
            if now_held_by != Some(node) && facts.leader == now_held_by {
                break;
            }
            std::thread::sleep(LOOK);
        }
        if moves && now_held_by == Some(node) {
            return Err(Reply::error(
                format!(
                    "node {node} is drained, but the service has not left it: nobody else could take it in time"
                ),
                "see relevo status for what ails the others; it goes as soon as one of them can take it",
            ));
        }
        Ok(json!({
            "node": node, "drained": drained, "changed": changed, "holder": now_held_by,
            "moved": moves && now_held_by != Some(node), "paused": facts.pause.is_some(),
        }))
    }

    fn pause(&self, for_s: u64, reason: &str) -> Result<Value, Reply> {
        let most = MAX_PAUSE_MS / 1000;
        if !(MIN_PAUSE_S..=most).contains(&for_s) {
            return Err(Reply::error(
                format!("a pause of {for_s} s is out of bounds: {MIN_PAUSE_S} s to {} h", most / 3600),
                "name the time that the work takes, such as --for 30m; a pause can be made longer by another one",
            ));
        }
        if reason.len() > MAX_REASON_BYTES {
            return Err(Reply::error(
                format!("the reason has {} bytes, at most {MAX_REASON_BYTES} are kept", reason.len()),
                "write a shorter one",
            ));
        }
        let at = self.now().wall;
        let until = at + Duration::from_secs(for_s);
        let pause = Pause { at, until, reason: reason.to_owned() };
        self.order(&Command::Pause(pause.clone()))?;
        Ok(self.pause_words(&pause))
    }

    fn resume(&self) -> Result<Value, Reply> {
        let was_paused = self.cluster.facts().pause.is_some();
        self.order(&Command::Resume)?;
        Ok(json!({ "was_paused": was_paused }))
    }

    fn plan(&self, node: Option<Place>, in_s: i64) -> Result<Value, Reply> {
        let Ok(ahead) = u64::try_from(in_s) else {
            return Err(Reply::error(
                format!("that time is {} s in the past", in_s.unsigned_abs()),
                "name one to come (+10m, 03:30, 2030-01-31T03:30:00Z), or leave --at out for a switchover now",
            ));
        };
        if ahead > MAX_AHEAD_MS / 1000 {
            let most = MAX_AHEAD_MS / 1000 / 86_400;
            return Err(Reply::error(
                format!("that time is {} days ahead, at most {most} are allowed", ahead / 86_400),
                "plan it when it is nearer",
            ));
        }
        let facts = self.cluster.facts();
        let holder = facts.grant.map(|g| g.holder);
        let to = match node {
            Some(node) => node,
            None => {
                let others = self.appliances().into_iter().filter(|p| Some(*p) != holder);
                others.min_by_key(|p| facts.fitness_of(*p)).ok_or_else(|| {
                    Reply::error("there is no other appliance", "add one to [[cluster.node]]")
                })?
            }
        };
        self.must_be_appliance(to)?;
        if holder == Some(to) {
            return Err(Reply::error("that node holds the service already", "name another one"));
        }
        let at = self.now().wall + Duration::from_secs(ahead);
        self.order(&Command::Plan { to, at })?;
        Ok(self.planned_words(Planned { id: 0, to, at }, &facts))
    }

    fn unplan(&self) -> Result<Value, Reply> {
        let Some(planned) = self.cluster.facts().planned else {
            return Err(Reply::error(
                "no switchover is planned",
                "relevo status shows one that is; relevo switchover --at TIME plans one",
            ));
        };
        self.order(&Command::Unplan { id: planned.id })?;
        Ok(json!({ "cancelled": true, "to": planned.to }))
    }

    /// A time of the cluster on the clock of people.
    fn people(&self, at: WallTime) -> String {
        let now = self.now().wall;
        let real = (self.clock)().real.0;
        utc(RealTime(real.saturating_add(at.0).saturating_sub(now.0)))
    }

    /// A pause for the status.
    pub(in crate::run) fn pause_words(&self, pause: &Pause) -> Value {
        json!({
            "until": self.people(pause.until),
            "left_s": self.now().wall.secs_until(pause.until),
            "reason": pause.reason,
        })
    }

    /// A planned switchover for the status.
    pub(in crate::run) fn planned_words(&self, planned: Planned, facts: &Facts) -> Value {
        json!({
            "to": planned.to,
            "at": self.people(planned.at),
            "in_s": self.now().wall.secs_until(planned.at),
            "ailing": facts.fitness_of(planned.to).is_grave(),
        })
    }
}
