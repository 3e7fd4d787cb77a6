//! `relevo trace`: what this node has heard and said, as lines or as whole messages.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::ask::{ask, tell};
use super::{Common, print};
use crate::admin::Request;
use crate::admin::trace::Ask;

/// How often new messages are asked for.
const FOLLOW: Duration = Duration::from_millis(250);

/// What is shown.
#[derive(Debug, Clone, Args)]
pub(super) struct Trace {
    /// Only messages of this call [default: all that are remembered]
    #[arg(long, value_name = "ID")]
    call_id: Option<String>,
    /// Go on with what comes, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Show the messages as a whole
    #[arg(long, short)]
    verbose: bool,
}

pub(super) fn trace(common: &Common, wanted: &Trace) -> ExitCode {
    let mut after = 0;
    loop {
        let request = Request::Trace { ask: Ask { call_id: wanted.call_id.clone(), after } };
        let answer = ask(common, &request);
        let failed = answer.is_err();
        if let Ok(v) = &answer {
            after = v["last"].as_u64().unwrap_or(after);
        }
        if !wanted.follow || failed {
            return tell(common, answer, |v| {
                let text = human(v, wanted.verbose);
                if text.is_empty() { String::from("no message of it is remembered") } else { text }
            });
        }
        if let Ok(v) = &answer
            && v["messages"].as_array().is_some_and(|m| !m.is_empty())
        {
            print::line(if common.json { v.to_string() } else { human(v, wanted.verbose) }.trim_end());
        }
        std::thread::sleep(FOLLOW);
    }
}

fn human(v: &Value, verbose: bool) -> String {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let mut out = String::new();
    if v["active"] == false {
        out += "this node is a standby now; this is from when it was active\n";
    }
    for m in v["messages"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let (local, remote) = (text(&m["local"]), text(&m["remote"]));
        let whole = text(&m["text"]);
        let arrow = if m["direction"] == "in" { "──▶" } else { "◀──" };
        let first = text(&m["first_line"]);
        let first = first.strip_prefix("SIP/2.0 ").unwrap_or_else(|| first.trim_end_matches(" SIP/2.0"));
        out += &format!(
            "{}  {remote:>21} {arrow} {local:<21} {}  {}{}\n",
            text(&m["time"]),
            text(&m["transport"]),
            print::printable(first),
            header(&whole, "cseq").map_or_else(String::new, |c| format!("  ({})", print::printable(&c))),
        );
        if verbose {
            for line in whole.lines() {
                out += &format!("    {}\n", print::printable(line));
            }
            out.push('\n');
        }
    }
    out
}

fn header(text: &str, name: &str) -> Option<String> {
    let lines = text.lines().skip(1).take_while(|l| !l.is_empty());
    let mut found =
        lines.filter_map(|l| l.split_once(':')).filter(|(n, _)| n.trim().eq_ignore_ascii_case(name));
    found.next().map(|(_, v)| v.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_message_is_a_line_or_a_whole_and_tells_the_terminal_nothing() {
        let v = json!({ "active": true, "last": 2, "messages": [
            { "time": "09:00:00.001", "direction": "in", "transport": "udp", "local": "10.0.0.1:5060", "remote": "10.0.0.9:5062",
              "first_line": "INVITE sip:bob\u{1b}[2J SIP/2.0", "text": "INVITE sip:bob\u{1b}[2J SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\n" },
            { "time": "09:00:00.002", "direction": "out", "transport": "udp", "local": "10.0.0.1:5060", "remote": "10.0.0.9:5062",
              "first_line": "SIP/2.0 100 Trying", "text": "SIP/2.0 100 Trying\r\nCSeq: 1 INVITE\r\n\r\n" },
        ]});
        let text = human(&v, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines[0].contains("10.0.0.9:5062 ──▶ 10.0.0.1:5060") && lines[0].ends_with("(1 INVITE)"),
            "{text}"
        );
        assert!(lines[1].contains("◀──") && lines[1].contains("100 Trying"), "{text}");
        assert!(!text.contains('\u{1b}') && human(&v, true).contains("    CSeq: 1 INVITE"));
    }
}
