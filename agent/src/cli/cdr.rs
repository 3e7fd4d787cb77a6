//! `relevo cdr`: records of calls, what the tables `acc`, `missed_calls` and `acc_cdrs` hold in Kamailio.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::Common;
use super::ask::show;
use super::print::{list, table, text};
use crate::admin::Request;
use crate::admin::cdr::Ask;

/// Records of calls.
#[derive(Debug, Subcommand)]
pub(super) enum Cdr {
    /// Show the newest records
    List {
        /// How many
        #[arg(long, default_value_t = 20, value_name = "N")]
        last: usize,
        /// Only these: answered, failed, bye, missed, cdr or lost
        #[arg(long, value_name = "KIND", value_parser = ["answered", "failed", "bye", "missed", "cdr", "lost"])]
        kind: Option<String>,
    },
    /// Show how far every node has written, and what waits
    Status,
    /// Do not wait any longer for the files of a node that was removed from the cluster
    Forget {
        /// Id of the node
        node: u16,
    },
}

pub(super) fn cdr(common: &Common, command: &Cdr) -> ExitCode {
    let run = |ask: Ask, human: fn(&Value) -> String| show(common, &Request::Cdr { ask }, human);
    match command {
        Cdr::List { last, kind } => run(Ask::List { last: *last, kind: kind.clone() }, records),
        Cdr::Status => run(Ask::Status {}, status),
        Cdr::Forget { node } => {
            run(Ask::Forget { node: *node }, |v| format!("nobody waits for node {} any more", v["node"]))
        }
    }
}

fn records(v: &Value) -> String {
    let rows: Vec<Vec<String>> = list(&v["records"])
        .iter()
        .map(|r| {
            let to = ["to_trunk", "to_destination", "called"].iter().map(|k| &r[k]).find(|v| !v.is_null());
            vec![
                text(&r["seq"]),
                text(&r["time"]),
                text(&r["kind"]),
                format!("{}@{}", text(&r["src_user"]), text(&r["src_domain"])),
                format!("{}@{}", text(&r["dst_user"]), text(&r["dst_domain"])),
                to.map(text).unwrap_or_default(),
                text(&r["code"]),
                if r["kind"] == "cdr" { text(&r["duration_s"]) } else { String::new() },
                r["ended_by"].as_str().unwrap_or_default().to_owned(),
                text(&r["call_id"]),
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::from("no records");
    }
    let head = ["SEQ", "TIME", "KIND", "FROM", "TO", "BY WAY OF", "CODE", "SECONDS", "ENDED BY", "CALL-ID"];
    table(&head, &rows)
}

fn status(v: &Value) -> String {
    let mut out = format!(
        "newest record {}, {} wait for a node to write them ({} bytes), {} went before every node had written them\n",
        v["newest"], v["waiting"], v["waiting_bytes"], v["lost"]
    );
    let rows: Vec<Vec<String>> = list(&v["nodes"])
        .iter()
        .map(|n| {
            let far = if n["writes"] == true { text(&n["up_to"]) } else { String::from("writes none") };
            let behind = if n["writes"] == true { text(&n["behind"]) } else { String::new() };
            vec![text(&n["node"]), far, behind]
        })
        .collect();
    if !rows.is_empty() {
        out.push_str(&table(&["NODE", "WRITTEN UP TO", "BEHIND"], &rows));
    }
    for n in list(&v["nodes"]).iter().filter(|n| n["writes"] == true && n["appliance"] == false) {
        out.push_str(&format!(
            "\nnode {0} is no appliance of this cluster any more, and {1} records wait for it: relevo cdr forget {0}",
            n["node"], n["behind"]
        ));
    }
    let here = &v["here"];
    if !here.is_null() {
        let files: Vec<String> = list(&here["files"]).iter().map(text).collect();
        out.push_str(&format!(
            "\nhere: {}",
            if files.is_empty() { String::from("no file is configured") } else { files.join(", ") }
        ));
        if let Some(trouble) = here["trouble"].as_str() {
            out.push_str(&format!("\ntrouble: {trouble}"));
        }
    }
    out
}
