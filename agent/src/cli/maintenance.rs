//! `relevo drain`, `undrain`, `pause`, `resume`, and `switchover --at`: what is done before somebody works on a machine.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::ask::{Problem, show, tell};
use super::print::{list, text};
use super::{Common, EXIT_USAGE, ask, when};
use crate::admin::Request;
use crate::admin::maintenance::Ask;
use crate::clock;

/// A planned hand-over.
#[derive(Debug, Args)]
pub(super) struct Switchover {
    /// Id of the node that shall take over
    node: Option<u16>,
    /// Not now, but then: +10m, 03:30 (on the clock of this machine), 2030-01-31T03:30:00Z
    #[arg(long, value_name = "TIME", visible_alias = "scheduled")]
    at: Option<String>,
    /// Cancel the switchover that is planned
    #[arg(long, conflicts_with_all = ["node", "at"])]
    cancel: bool,
}

/// A pause.
#[derive(Debug, Args)]
pub(super) struct Pause {
    /// For how long: 30m, 90s, 1h30m; a day at most
    #[arg(long = "for", value_name = "TIME")]
    lasts: String,
    /// Why, for whoever looks at the status meanwhile
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

pub(super) fn switchover(common: &Common, asked: &Switchover) -> ExitCode {
    if asked.cancel {
        return order(common, Ask::Unplan {}, |v| {
            format!("the planned switchover to node {} is cancelled", v["to"])
        });
    }
    let Some(at) = &asked.at else { return ask::switchover(common, asked.node) };
    let now_s = i64::try_from(clock::now().real.0 / 1000).unwrap_or(i64::MAX);
    match when::from_now(at, now_s, |day, h, m| when::here(now_s, day, h, m)) {
        Ok(in_s) => order(common, Ask::Plan { node: asked.node, in_s }, |v| {
            let [at, s] = ["at", "in_s"].map(|k| text(&v[k]));
            format!(
                "the service goes to node {} at {at} (in {s} s); relevo switchover --cancel takes that back",
                v["to"]
            )
        }),
        Err(why) => usage(common, why),
    }
}

pub(super) fn drain(common: &Common, node: u16, drained: bool) -> ExitCode {
    order(common, Ask::Drain { node, drained }, |v| {
        let what = if v["drained"] == json!(true) { "drained" } else { "not drained" };
        let mut out = format!("node {} is {what} now", v["node"]);
        if v["moved"] == json!(true) {
            out += &format!("; the service is with node {}", v["holder"]);
        } else if v["paused"] == json!(true) && v["drained"] == json!(true) && v["holder"] == v["node"] {
            out += "; it keeps the service while automatic takeover is paused (relevo switchover, or relevo resume)";
        }
        out
    })
}

pub(super) fn pause(common: &Common, asked: &Pause) -> ExitCode {
    match when::duration(&asked.lasts) {
        Ok(lasts) => {
            let ask = Ask::Pause { for_s: lasts.as_secs(), reason: asked.reason.clone() };
            order(common, ask, |v| format!("{}\nrelevo resume ends it before", paused(v)))
        }
        Err(why) => usage(common, why),
    }
}

pub(super) fn resume(common: &Common) -> ExitCode {
    order(common, Ask::Resume {}, |v| {
        String::from(match v["was_paused"] == json!(true) {
            true => "automatic takeover is on again",
            false => "automatic takeover is on; it was not paused",
        })
    })
}

fn order(common: &Common, ask: Ask, human: impl FnOnce(&Value) -> String) -> ExitCode {
    show(common, &Request::Maintenance { ask }, human)
}

fn usage(common: &Common, error: String) -> ExitCode {
    tell(common, Err(Problem { code: EXIT_USAGE, error, cure: String::new() }), |_| String::new())
}

fn paused(v: &Value) -> String {
    let [until, s, reason] = ["until", "left_s", "reason"].map(|k| text(&v[k]));
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("PAUSED{why}\n  nobody takes over by itself until {until} ({s} s); a holder that dies stays dead")
}

/// What an operator has ordered, for the status; nothing where nothing is.
pub(super) fn status(v: &Value) -> String {
    let mut out = String::new();
    if !v["pause"].is_null() {
        out += &format!("{} (relevo resume ends it)\n", paused(&v["pause"]));
    }
    let planned = &v["planned_switchover"];
    if !planned.is_null() {
        let [to, at, s] = ["to", "at", "in_s"].map(|k| text(&planned[k]));
        out += &format!("PLANNED: the service goes to node {to} at {at} (in {s} s)");
        out += if planned["ailing"] == json!(true) { "; that node is ailing now\n" } else { "\n" };
    }
    for node in list(&v["fitness"]).iter().filter(|f| list(&f["reasons"]).contains(&json!("drained"))) {
        let id = text(&node["node"]);
        out += &format!("DRAINED: node {id} holds nothing while another can (relevo undrain {id})\n");
    }
    out
}
