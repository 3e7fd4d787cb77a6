//! `relevo dispatcher`: what `kamctl dispatcher` and `kamcmd dispatcher.list` did.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::Common;
use super::ask::{show, tell};
use super::print::{cut, list, table, text};
use super::provision::password::usage;
use crate::admin::Request;
use crate::admin::dispatcher::Ask;

/// Sets of backends.
#[derive(Debug, Subcommand)]
pub(super) enum Dispatcher {
    /// List all sets, or SET, with the state of each destination (A, I, T, D; P: probed, X: not)
    List {
        /// Only this one
        set: Option<u32>,
    },
    /// Add a destination to SET, or change it: what is not named stays as it is
    Add {
        /// Number of the set
        set: u32,
        /// SIP URI, such as sip:192.0.2.21:5060
        uri: String,
        /// Higher is tried earlier [default: 0]
        #[arg(long, allow_hyphen_values = true)]
        priority: Option<i32>,
        /// All attributes: weight=50;maxload=100;duid=a
        #[arg(long)]
        attrs: Option<String>,
        /// Bits: 1 inactive, 2 trying, 4 disabled, 8 probing, 16 no DNS, 32 no ping
        #[arg(long)]
        flags: Option<u32>,
        /// What to call it
        #[arg(long)]
        description: Option<String>,
    },
    /// Remove a destination from SET, or the whole set
    Rm {
        /// Number of the set
        set: u32,
        /// As it was added, or `all` for the whole set
        #[arg(value_name = "URI|all")]
        uri: Option<String>,
    },
    /// Set the state of a destination: a (active), i (inactive), t (trying), d (disabled), each with p (probing)
    SetState {
        /// The letters
        state: String,
        /// Number of the set
        set: u32,
        /// As it was added, or `all`
        #[arg(value_name = "URI|all")]
        uri: String,
    },
}

pub(super) fn dispatcher(common: &Common, command: &Dispatcher) -> ExitCode {
    if let Dispatcher::List { set: Some(set) } = command {
        let request = Request::Dispatcher { ask: Ask::List { set: Some(*set) } };
        return show(common, &request, |v| match list(&v["sets"]) {
            [] => format!("No Destination Set {set}"),
            _ => sets(v),
        });
    }
    if let Dispatcher::Rm { set, uri: None } = command {
        // A set with all its backends does not go because a word was forgotten.
        let cure = format!(
            "name one: relevo dispatcher rm {set} URI (see relevo dispatcher list {set}); the whole set goes with: \
             relevo dispatcher rm {set} all"
        );
        return tell(common, Err(usage("nothing says which destination is to go", &cure)), |_| String::new());
    }
    let (ask, human): (Ask, fn(&Value) -> String) = match command {
        Dispatcher::List { set } => (Ask::List { set: *set }, sets),
        Dispatcher::Add { set, uri, priority, attrs, flags, description } => {
            let ask = Ask::Add {
                set: *set,
                uri: uri.clone(),
                flags: *flags,
                priority: *priority,
                attrs: attrs.clone(),
                description: description.clone(),
            };
            (ask, |v| {
                let verb = if v["changed"] == true { "changed in" } else { "added to" };
                let idle: Vec<String> = list(&v["without_effect"]).iter().map(text).collect();
                let idle = match idle.as_slice() {
                    [] => String::new(),
                    idle => format!("\nwithout effect here: {}", idle.join(", ")),
                };
                format!("{} {verb} set {}{idle}", text(&v["uri"]), v["set"])
            })
        }
        Dispatcher::Rm { set, uri } => {
            (Ask::Rm { set: *set, uri: uri.as_deref().and_then(one) }, |v| match &v["uri"] {
                Value::Null => format!("set {} removed", v["set"]),
                uri => format!("{} removed from set {}", text(uri), v["set"]),
            })
        }
        Dispatcher::SetState { state, set, uri } => {
            let ask = Ask::SetState { set: *set, uri: one(uri), state: state.clone() };
            (ask, |v| {
                let who = if v["uri"].is_null() { String::from("all") } else { text(&v["uri"]) };
                format!("state of {who} in set {} is {} now", v["set"], text(&v["state"]))
            })
        }
    };
    show(common, &Request::Dispatcher { ask }, human)
}

/// Kamailio's word for all of a set.
fn one(uri: &str) -> Option<String> {
    (uri != "all").then(|| uri.to_owned())
}

fn sets(v: &Value) -> String {
    let mut rows = Vec::new();
    for set in list(&v["sets"]) {
        for d in list(&set["targets"]) {
            let attrs = &d["attrs"];
            rows.push(vec![
                text(&set["id"]),
                text(&d["uri"]),
                text(&d["flags"]),
                text(&d["priority"]),
                text(&attrs["weight"]),
                text(&d["dlgload"]),
                text(&attrs["maxload"]),
                text(&d["since_s"]),
                text(&d["description"]),
            ]);
        }
    }
    if rows.is_empty() {
        return String::from("No Destination Sets");
    }
    let head = ["SET", "URI", "FLAGS", "PRIORITY", "WEIGHT", "CALLS", "MAXLOAD", "SINCE S", "DESCRIPTION"];
    cut(table(&head, &rows), v)
}
