//! `relevo history`: when the service moved, from whom to whom, why, and what it cost.

use std::process::ExitCode;

use proxy_core::time::RealTime;
use serde_json::Value;

use super::ask::show;
use super::print::{list, table_or, text};
use super::{Common, print};
use crate::accounting::line::utc;
use crate::admin::Request;

pub(super) fn history(common: &Common, last: Option<usize>) -> ExitCode {
    show(common, &Request::History { last }, |v| {
        let rows: Vec<Vec<String>> = list(&v["events"]).iter().map(row).collect();
        let head = ["WHEN", "EVENT", "FROM", "TO", "SILENT MS", "INVITES", "CALLS", "WHY"];
        table_or("nothing has happened to the service since this is kept", &head, &rows)
    })
}

fn row(e: &Value) -> Vec<String> {
    let at = e["at_ms"].as_u64().map_or_else(|| String::from("-"), |ms| utc(RealTime(ms)));
    let cells = ["kind", "from", "to", "silent_ms", "invites", "dialogs", "why"].map(|k| text(&e[k]));
    std::iter::once(at).chain(cells).map(|cell| print::printable(&cell)).collect()
}
