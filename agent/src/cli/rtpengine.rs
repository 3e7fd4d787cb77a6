//! `relevo rtpengine`: what `kamcmd rtpengine.show` and `rtpengine.enable` did.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::Common;
use super::ask::show;
use super::print::{list, table, text};
use crate::admin::Request;
use crate::admin::rtpengine::Ask;

/// Media proxies.
#[derive(Debug, Subcommand)]
pub(super) enum Rtpengine {
    /// List them, with their health as the active node sees it, and their calls
    List,
    /// Give an rtpengine no new calls (disabled), or take it back (enabled)
    SetState {
        /// enabled or disabled
        state: String,
        /// As in the configuration, or `all`
        addr: String,
    },
}

pub(super) fn rtpengine(common: &Common, command: &Rtpengine) -> ExitCode {
    let (ask, human): (Ask, fn(&Value) -> String) = match command {
        Rtpengine::List => (Ask::List {}, nodes),
        Rtpengine::SetState { state, addr } => {
            let addr = (addr != "all").then(|| addr.clone());
            (Ask::SetState { addr, state: state.clone() }, |v| {
                let all: Vec<String> = list(&v["nodes"]).iter().map(text).collect();
                format!("{} {} now", all.join(", "), text(&v["state"]))
            })
        }
    };
    show(common, &Request::Rtpengine { ask }, human)
}

fn nodes(v: &Value) -> String {
    let mut rows = Vec::new();
    for n in list(&v["nodes"]) {
        rows.push(
            ["set", "addr", "weight", "state", "health", "heard_s", "calls"]
                .map(|key| text(&n[key]))
                .to_vec(),
        );
    }
    let head = ["SET", "ADDR", "WEIGHT", "STATE", "HEALTH", "HEARD S", "CALLS"];
    let mut out = table(&head, &rows);
    if v["active"] != true {
        out.push_str("\nthis node is a standby: the active one knows their health");
    }
    out
}
