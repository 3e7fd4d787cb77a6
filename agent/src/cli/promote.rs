//! `relevo promote`: the manual way out where no majority can come back.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::ask::{Problem, ask, tell};
use super::print::{line, list, text};
use super::{Common, EXIT_FAILED};
use crate::admin::Request;

/// What `relevo promote` takes.
#[derive(Debug, Args)]
pub(super) struct Promote {
    /// A node that cannot come back by itself: its power is cut. Once for each other node that votes
    #[arg(long = "i-have-fenced", value_name = "NODE", required = true)]
    fenced: Vec<u16>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only check, and say what would come of it
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

pub(super) fn promote(common: &Common, asked: &Promote) -> ExitCode {
    tell(common, promoted(common, asked), |v| match v["promoted"] == json!(true) {
        true => done(v),
        false => outlook(v),
    })
}

fn promoted(common: &Common, asked: &Promote) -> Result<Value, Problem> {
    let request = |sure| Request::Promote { fenced: asked.fenced.clone(), sure };
    if asked.yes {
        return ask(common, &request(true));
    }
    let prospect = ask(common, &request(false))?;
    if asked.dry_run {
        return Ok(prospect);
    }
    let nothing = |why: String| Problem {
        code: EXIT_FAILED,
        error: why + "; nothing was changed",
        cure: String::from("to do it without a question: --yes"),
    };
    if common.json || !std::io::stdin().is_terminal() {
        return Err(nothing(String::from("nobody can be asked here")));
    }
    line(&outlook(&prospect));
    print!(
        "Is the power of node {} cut, and shall this node begin the cluster anew? [y/N] ",
        nodes(&prospect["fenced"])
    );
    // A question that is not seen is answered with no.
    let _ = std::io::stdout().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_err() || !matches!(answer.trim(), "y" | "Y" | "yes") {
        return Err(nothing(String::from("not confirmed")));
    }
    ask(common, &request(true))
}

fn nodes(v: &Value) -> String {
    list(v).iter().map(text).collect::<Vec<_>>().join(" and ")
}

/// What this node has, what may be missing, and what was seen.
fn outlook(v: &Value) -> String {
    let mut out = format!(
        "this node has all up to entry {}, of which it knows that all up to {} was acknowledged\n",
        text(&v["last"]),
        text(&v["committed"])
    );
    for said in list(&v["said"]) {
        out += &format!(
            "node {} said {} s ago that it had carried out all up to entry {}\n",
            text(&said["node"]),
            text(&said["s_ago"]),
            text(&said["applied"])
        );
    }
    out += match v["may_miss"] == json!(true) {
        true => {
            "the others were a majority without this node: what they acknowledged since it was last in touch is missing\n"
        }
        false => "nothing that was acknowledged is missing: this node had to agree to all of it\n",
    };
    for note in list(&v["seen"]) {
        out += &format!("{}\n", text(note));
    }
    if v["witness"] == json!(true) {
        out += "this node is a witness: it keeps the state and serves nobody, until an appliance joins it\n";
    }
    out
}

fn done(v: &Value) -> String {
    let names = nodes(&v["fenced"]);
    format!(
        "{}this node is the whole cluster now (after {} ms). When node {names} comes back it sets its state aside and joins by \
         itself; if it is gone for good, take it out of [[cluster.node]]",
        outlook(v),
        text(&v["ms"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_missing_and_what_was_seen_is_said_before_anything_is_done() {
        let v = json!({ "last": 9, "committed": 8, "may_miss": true, "fenced": [2, 3], "witness": false,
                        "said": [{ "node": 2, "applied": 7, "s_ago": 40 }], "seen": ["nothing answers on A (node 2)"] });
        let said = outlook(&v);
        for part in ["up to entry 9", "up to 8", "node 2 said 40 s ago", "is missing", "nothing answers on A"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        let pair = outlook(&json!({ "may_miss": false }));
        assert!(pair.contains("nothing that was acknowledged is missing"), "{pair}");
    }
}
