//! `relevo members`: who is in the cluster, and who shall be.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::Common;
use super::ask::show;
use super::print::{list, table, text};
use crate::admin::Request;
use crate::admin::members::{Ask, New};

/// Who votes.
#[derive(Debug, Subcommand)]
pub(super) enum Members {
    /// List them: who votes, who is heard, how far behind, and how many losses are borne
    List,
    /// Take NODE in, which runs with an empty data folder: it catches up first, and votes then
    Add {
        /// The newcomer
        #[command(flatten)]
        newcomer: Newcomer,
    },
    /// Take NODE out: it does not vote any more, and does not come back by itself
    #[command(visible_alias = "rm")]
    Remove {
        /// Its id
        node: u16,
    },
    /// Take NODE in, in the place of OLD, in one step (a witness or an appliance that is gone for good)
    Replace {
        /// The id of the one that goes
        old: u16,
        /// The newcomer
        #[command(flatten)]
        newcomer: Newcomer,
    },
}

/// What is said of a newcomer.
#[derive(Debug, Clone, Args)]
pub(super) struct Newcomer {
    /// Its id, one that was never used
    node: u16,
    /// Where it listens for the other nodes [default: from the configuration here]
    address: Option<SocketAddr>,
    /// Its role [default: from the configuration here; else of OLD, or appliance]
    #[arg(long, value_enum)]
    role: Option<Role>,
    /// Seconds that it may take to catch up; then it is taken out again [default: 60]
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u32>,
    /// The id was removed before, and the old machine is this one or gone for good
    #[arg(long)]
    again: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Appliance,
    Witness,
}

impl Newcomer {
    fn described(&self) -> New {
        New {
            node: self.node,
            addr: self.address,
            witness: self.role.map(|role| role == Role::Witness),
            wait_s: self.wait,
            again: self.again,
        }
    }
}

pub(super) fn members(common: &Common, command: &Members) -> ExitCode {
    let ask = match command {
        Members::List => return show(common, &Request::Members { ask: Ask::List {} }, listed),
        Members::Add { newcomer } => Ask::Add { new: newcomer.described() },
        Members::Remove { node } => Ask::Remove { node: *node },
        Members::Replace { old, newcomer } => Ask::Replace { node: *old, new: newcomer.described() },
    };
    show(common, &Request::Members { ask }, changed)
}

fn places(v: &Value) -> String {
    list(v).iter().map(text).collect::<Vec<_>>().join(" ")
}

fn changed(v: &Value) -> String {
    let mut out =
        format!("{}\nvoters {}: {}", text(&v["done"]), places(&v["voters"]), text(&v["losses_words"]));
    if !list(&v["silent"]).is_empty() {
        out += &format!("\nnot heard now: {}", places(&v["silent"]));
    }
    out + "\nLet [[cluster.node]] say the same on all nodes; relevo members list names what differs"
}

fn listed(v: &Value) -> String {
    let rows: Vec<Vec<String>> = list(&v["members"])
        .iter()
        .map(|m| {
            let is = |key: &str| m[key] == json!(true);
            let mut notes = Vec::new();
            notes.extend(is("holds").then_some("holds the service"));
            notes.extend(is("leads").then_some("leads"));
            let reached = match (is("this"), is("reached")) {
                (true, _) => "this node".to_owned(),
                (false, true) => format!("{} ms ago", text(&m["heard_ms"])),
                (false, false) => "NO".to_owned(),
            };
            let [node, role, standing] = ["node", "role", "standing"].map(|k| text(&m[k]));
            vec![node, role, standing, reached, text(&m["behind"]), text(&m["addr"]), notes.join(", ")]
        })
        .collect();
    if rows.is_empty() {
        return String::from("this node is part of no cluster yet: see relevo status");
    }
    let mut out = table(&["NODE", "ROLE", "IS", "HEARD", "BEHIND", "ADDRESS", ""], &rows);
    let voters = list(&v["voters"]).len();
    out += &format!(
        "{} of {voters} voters have to agree, {} are heard: {}\n",
        text(&v["majority"]),
        text(&v["reached"]),
        text(&v["losses_words"])
    );
    if v["changing"] == json!(true) {
        out += "a change is half done: the voters before it and after it have to agree\n";
    }
    if !list(&v["removed"]).is_empty() {
        out += &format!("removed before: {}\n", places(&v["removed"]));
    }
    out + &drift(v)
}

/// Where file and membership differ, a line and its cure each.
pub(super) fn drift(v: &Value) -> String {
    let mut out = String::new();
    if let Some(why) = v["outside"].as_str() {
        out += &format!("OUTSIDE: {why}\n");
    }
    for d in list(&v["drift"]) {
        out += &format!("DRIFT: {}\n  cure: {}\n", text(&d["what"]), text(&d["cure"]));
    }
    out
}

/// The line of `relevo status`.
pub(super) fn status_line(v: &Value) -> String {
    if list(&v["voters"]).is_empty() {
        return String::new();
    }
    format!(
        "voters {}  majority {}  heard {}: {}\n",
        places(&v["voters"]),
        text(&v["majority"]),
        text(&v["reached"]),
        text(&v["losses_words"])
    ) + &drift(v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_who_is_heard_how_many_losses_are_borne_and_what_differs() {
        let one = json!({ "node": 1, "role": "appliance", "standing": "voter", "reached": true, "this": true,
                          "holds": true, "leads": true, "behind": 0, "addr": "10.77.0.11:7400" });
        let lost = json!({ "node": 3, "role": "witness", "standing": "voter", "reached": false, "behind": null,
                           "addr": "10.77.0.13:7400" });
        let v = json!({ "members": [one, lost], "voters": [1, 2, 3], "majority": 2, "reached": 2,
                        "losses_words": "no loss is borne", "removed": [5], "drift":
                        [{ "what": "node 3 votes, and is not in FILE", "cure": "relevo members remove 3" }] });
        let text = listed(&v);
        for part in [
            "holds the service, leads",
            "NO",
            "2 of 3 voters have to agree, 2 are heard: no loss is borne",
            "removed before: 5",
            "DRIFT: node 3 votes",
            "cure: relevo members remove 3",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(status_line(&v).starts_with("voters 1 2 3  majority 2  heard 2: no loss is borne\n"));
        assert_eq!(status_line(&json!({})), "");
    }
}
