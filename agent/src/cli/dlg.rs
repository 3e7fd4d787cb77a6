//! `relevo dlg`: calls, what `kamcmd dlg.list`, `dlg.dlg_list` and `dlg.end_dlg` did.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::Common;
use super::ask::show;
use super::print::{dialogs, list, text};
use crate::admin::Request;
use crate::admin::dlg::Ask;

/// Calls.
#[derive(Debug, Subcommand)]
pub(super) enum Dlg {
    /// List the calls: those that are answered, and those that are not yet
    List,
    /// Show all that is known of a call
    Show {
        /// Its Call-ID
        call_id: String,
    },
    /// End a call: BYE to both sides, or 480 to the caller and CANCEL to who rings if nobody has answered
    End {
        /// Its Call-ID
        call_id: String,
    },
}

pub(super) fn dlg(common: &Common, command: &Dlg) -> ExitCode {
    match command {
        Dlg::List => show(common, &Request::DlgList {}, dialogs),
        Dlg::Show { call_id } => {
            show(common, &Request::Dlg { ask: Ask::Show { call_id: call_id.clone() } }, whole)
        }
        Dlg::End { call_id } => {
            let request = Request::Dlg { ask: Ask::End { call_id: call_id.clone() } };
            show(common, &request, |v| {
                let what = match (v["ending"].as_u64(), v["ending_ringing"].as_u64()) {
                    (Some(0), _) => "480 goes to the caller, and CANCEL to who rings",
                    (_, Some(0)) => "BYE goes to both sides",
                    _ => "BYE goes to both sides, and CANCEL to who rings",
                };
                format!("ending {}: {what}", text(&v["call_id"]))
            })
        }
    }
}

fn whole(v: &Value) -> String {
    let mut out = format!("call {}\n", text(&v["call_id"]));
    for record in list(&v["dialogs"]).iter().chain(list(&v["pending_invites"])) {
        out.push('\n');
        lines(&mut out, record, 0);
    }
    out
}

/// One line per field, what is in it indented below; what is not there is left out.
fn lines(out: &mut String, v: &Value, depth: usize) {
    let Value::Object(fields) = v else { return };
    for (name, value) in fields {
        let indent = "  ".repeat(depth);
        match value {
            Value::Null => {}
            Value::Object(_) => {
                out.push_str(&format!("{indent}{name}\n"));
                lines(out, value, depth + 1);
            }
            Value::Array(items) => {
                for item in items {
                    if item.is_object() {
                        out.push_str(&format!("{indent}{name}\n"));
                        lines(out, item, depth + 1);
                    } else {
                        out.push_str(&format!("{indent}{name}: {}\n", text(item)));
                    }
                }
            }
            _ => out.push_str(&format!("{indent}{name}: {}\n", text(value))),
        }
    }
}
