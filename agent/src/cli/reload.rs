//! `relevo reload`: what counts now, and what waits for a restart.

use std::process::ExitCode;

use serde_json::Value;

use super::Common;
use super::ask::show;
use super::print::{list, text};
use crate::admin::Request;

pub(super) fn reload(common: &Common) -> ExitCode {
    show(common, &Request::Reload {}, words)
}

fn words(v: &Value) -> String {
    let of = |value: &Value| if value.is_null() { String::from("the default") } else { text(value) };
    let row = |d: &Value| format!("  {}: {} -> {}\n", text(&d["key"]), of(&d["from"]), of(&d["to"]));
    let rows = |key: &str| list(&v[key]).iter().map(row).collect::<String>();
    let (changed, left) = (rows("changed"), rows("needs_restart"));
    let mut out = match changed.as_str() {
        "" => String::from("nothing has changed that counts without a restart\n"),
        changed => format!("these count now:\n{changed}"),
    };
    if !left.is_empty() {
        out.push_str("these count from the next start of this node on:\n");
        out.push_str(&left);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_says_what_counts_and_what_waits() {
        let one = |key: &str| json!({ "key": key, "from": null, "to": "3" });
        let said =
            words(&json!({ "changed": [one("sip.max_contacts")], "needs_restart": [one("sip.port")] }));
        assert!(said.contains("sip.max_contacts: the default -> 3") && said.contains("next start"), "{said}");
        let said = words(&json!({ "changed": [], "needs_restart": [] }));
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
