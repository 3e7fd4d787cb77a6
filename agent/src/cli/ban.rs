//! `relevo ban`: the addresses that the flood limit keeps out, and how to let them in again (Kamailio's `ipban` table).

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::Common;
use super::ask::show;
use super::print::{list, table, text};
use crate::admin::Request;
use crate::admin::ban::Ask;

/// Banned addresses.
#[derive(Debug, Subcommand)]
pub(super) enum Ban {
    /// List them: how long they are ignored yet, and how many requests of theirs were dropped
    List,
    /// Let an address in again
    Clear {
        /// The address, or `all`
        address: String,
    },
}

pub(super) fn ban(common: &Common, command: &Ban) -> ExitCode {
    match command {
        Ban::List => show(common, &Request::Ban { ask: Ask::List {} }, bans),
        Ban::Clear { address } => {
            let address = (address != "all").then(|| address.clone());
            show(common, &Request::Ban { ask: Ask::Clear { address } }, |v| {
                format!("{} let in again", text(&v["cleared"]))
            })
        }
    }
}

fn bans(v: &Value) -> String {
    let rows: Vec<Vec<String>> = list(&v["bans"])
        .iter()
        .map(|b| ["address", "left_s", "dropped"].map(|key| text(&b[key])).to_vec())
        .collect();
    let mut out = if rows.is_empty() {
        String::from("nobody is banned")
    } else {
        table(&["ADDRESS", "LEFT S", "DROPPED"], &rows)
    };
    if v["limit"] != true {
        out.push_str("\nthere is no flood limit: nobody will be, without [flood] in the configuration");
    }
    if v["active"] != true {
        out.push_str("\nthis node is a standby: the active one knows who sends it too much");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_says_who_and_where_else_to_look() {
        let one = json!({ "address": "192.0.2.7", "left_s": 299, "dropped": 15 });
        let text = bans(&json!({ "bans": [one], "active": true, "limit": true }));
        assert!(text.contains("192.0.2.7") && text.contains("299") && text.lines().count() == 2, "{text}");
        let text = bans(&json!({ "bans": [], "active": false, "limit": false }));
        assert!(
            text.contains("nobody is banned") && text.contains("[flood]") && text.contains("standby"),
            "{text}"
        );
    }
}
