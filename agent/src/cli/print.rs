//! How answers look to people.

use std::io::Write;

use serde_json::{Value, json};

use raft_store::command::Versions;

use crate::config::{Config, ConfigError};
use crate::run::exposed;

/// Writes a line to standard output; a reader that is gone (`relevo … | head`) is no error.
pub(super) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// An error on standard error: what is wrong and why, then the cure.
pub(crate) fn complain(error: &str, cure: &str) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "relevo: {error}");
    if !cure.is_empty() {
        let _ = writeln!(err, "  cure: {cure}");
    }
}

pub(super) fn version(as_json: bool) {
    let version = env!("CARGO_PKG_VERSION");
    if as_json {
        line(&json!({ "version": version, "format": format() }).to_string())
    } else {
        line(&format!("relevo {version} ({})", format_words()))
    }
}

/// Which format of what is stored and sent this build writes, and which ones it reads.
pub(crate) fn format() -> Value {
    let Versions { first, last } = Versions::OURS;
    json!({ "writes": last, "reads": [first, last] })
}

fn format_words() -> String {
    format!("format version {}, reads {}", Versions::OURS.last, Versions::OURS)
}

pub(super) fn config_ok(config: &Config, as_json: bool) {
    let file = config.file.as_ref().map(|f| f.display().to_string());
    let mut warnings = config.warnings();
    warnings.extend(exposed(config));
    warnings.extend(crate::run::surroundings::missing(config));
    if as_json {
        let value = json!({ "ok": true, "file": file, "summary": config.summary(), "warnings": warnings, "format": format() });
        return line(&value.to_string());
    }
    line(&format!("OK: {}", file.unwrap_or_else(|| String::from("no file, the embedded default"))));
    line(&config.summary());
    line(&format_words());
    for warning in warnings {
        line(&format!("warning: {warning}"));
    }
}

pub(crate) fn config_error(error: &ConfigError, as_json: bool) {
    if as_json {
        let list: Vec<Value> =
            error.faults.iter().map(|f| json!({ "line": f.line, "what": f.what, "cure": f.cure })).collect();
        line(&json!({ "ok": false, "file": error.file.display().to_string(), "faults": list }).to_string());
    }
    complain(&error.to_string(), "");
}

/// A text of a JSON value without quotes; `-` for null.
pub(super) fn text(v: &Value) -> String {
    match v {
        Value::Null => String::from("-"),
        Value::String(s) => printable(s),
        other => other.to_string(),
    }
}

/// Text of strangers, as it may stand on a terminal: without what would move its cursor, or turn its lines round.
pub(super) fn printable(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let harmless = |c: char| c == '\t' || !(c.is_control() || turns(c));
    text.chars().map(|c| if harmless(c) { c } else { '\u{fffd}' }).collect()
}

/// Columns as wide as their widest cell.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|h| h.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let head: Vec<String> = head.iter().map(|h| (*h).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(c, w)| format!("{c:w$}")).collect();
        out += cells.join("  ").trim_end();
        out.push('\n');
    }
    out
}

/// The same, or a word for nothing: a heading alone leaves open whether the question was understood.
pub(super) fn table_or(nothing: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() { nothing.to_owned() } else { table(head, rows) }
}

pub(super) fn list(v: &Value) -> &[Value] {
    v.as_array().map_or(&[], Vec::as_slice)
}

/// Wall clocks that differ by more are shown.
const WRONG_CLOCK_MS: u64 = 2_000;

/// The verdict in one line.
pub(super) fn verdict(v: &Value) -> String {
    let verdict = &v["verdict"];
    let lasts = verdict["lasts_s"]
        .as_u64()
        .map_or_else(String::new, |s| format!(" (for {} as seen from here)", lasting(s)));
    format!("{}: {}{lasts}", text(&verdict["level"]), text(&verdict["words"]))
}

/// Seconds for people: two units at most.
fn lasting(s: u64) -> String {
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

pub(super) fn status(v: &Value) -> String {
    let own = if v["active"] == json!(true) {
        format!("ACTIVE (lease ends in {} ms)", text(&v["lease_ms_left"]))
    } else {
        String::from("standby")
    };
    let vip: Vec<String> = list(&v["floating_ip"]).iter().map(text).collect();
    let vip = if vip.is_empty() { String::from("none") } else { vip.join(" ") };
    let mut out = format!(
        "{}\nrelevo {}, up for {}; floating IP {vip}\nnode {} ({}): {own}\nholder {}  token {}  leader {}  term {}  applied {}\nbindings {}  dialogs {}  pending INVITEs {}\n",
        verdict(v),
        text(&v["version"]),
        lasting(v["uptime_s"].as_u64().unwrap_or(0)),
        text(&v["node"]),
        text(&v["role"]),
        text(&v["holder"]),
        text(&v["token"]),
        text(&v["leader"]),
        text(&v["term"]),
        text(&v["applied"]),
        text(&v["counts"]["bindings"]),
        text(&v["counts"]["dialogs"]),
        text(&v["counts"]["pending_invites"]),
    );
    out += &super::members::status_line(&v["membership"]);
    out += &super::maintenance::status(v);
    let rows: Vec<Vec<String>> = list(&v["peers"])
        .iter()
        .map(|p| {
            let columns =
                ["node", "role", "addr", "lag", "applied", "said_ms", "last_ack_ms", "round_trip_ms"];
            columns.iter().map(|k| text(&p[*k])).chain([range(&p["reads"])]).collect()
        })
        .collect();
    if !rows.is_empty() {
        out.push('\n');
        let head = [
            "PEER",
            "ROLE",
            "ADDRESS",
            "LAG",
            "APPLIED",
            "SAID MS AGO",
            "HEARD MS AGO",
            "ROUND TRIP MS",
            "READS",
        ];
        out += &table(&head, &rows);
        for words in list(&v["peers"]).iter().filter_map(|p| p["path"]["words"].as_str()) {
            out += &format!("{words}\n");
        }
    }
    if let Some(misfit) = v["times"]["misfit"].as_str() {
        out += &format!("{misfit}\n");
    }
    if !v["disk"]["trouble"].is_null() {
        out += &format!(
            "DEGRADED: the disk is {}; new calls and registrations get 503\n",
            text(&v["disk"]["trouble"])
        );
    }
    out += &floating_ip(&v["vip"]);
    let disk = &v["disk"];
    out += &format!(
        "disk: a sync takes {} ms, {} ms at most within the last minute",
        text(&disk["sync_typical_ms"]),
        text(&disk["sync_slowest_ms"])
    );
    out += &match disk["waiting_ms"].as_f64() {
        Some(ms) => format!("; one has been under way for {ms} ms\n"),
        None => String::from("\n"),
    };
    if !v["oldest_proposal_ms"].is_null() {
        out += &format!("the oldest proposal has waited for {} ms\n", text(&v["oldest_proposal_ms"]));
    }
    for peer in list(&v["peers"]).iter().filter(|p| p["unanswered_ms"].as_f64().is_some_and(|ms| ms >= 1e3)) {
        let (node, ms) = (text(&peer["node"]), text(&peer["unanswered_ms"]));
        out += &format!("node {node} has acknowledged no entries for {ms} ms\n");
    }
    for pulse in list(&v["pulses"]).iter().filter(|p| p["stopped"] == json!(true)) {
        let (thread, ms) = (text(&pulse["thread"]), text(&pulse["waits_ms"]));
        out += &format!("{thread} has work and has got no further for {ms} ms\n");
    }
    if let Some(rebirths) = v["rebirths"].as_u64().filter(|n| *n > 0) {
        out +=
            &format!("this cluster was begun anew {rebirths} times (relevo restore, relevo store repair)\n");
    }
    if let Some(waits) = v["waits"].as_str() {
        out += &format!("WAITING: {waits}\n");
    }
    for p in list(&v["peers"]) {
        let ahead = p["clock_ahead_ms"].as_i64().unwrap_or(0);
        if ahead.unsigned_abs() > WRONG_CLOCK_MS {
            let way = if ahead > 0 { "ahead of" } else { "behind" };
            let by = ahead.unsigned_abs() / 1000;
            out += &format!("the wall clock of node {} is {by} s {way} this node's\n", text(&p["node"]));
        }
    }
    let is_alone = list(&v["peers"]).is_empty();
    for node in list(&v["fitness"]).iter().filter(|n| worth_saying(n, is_alone)) {
        out += &format!("node {} {}\n", text(&node["node"]), text(&node["words"]));
    }
    out
}

/// Candidates are always told; of a witness, or where there is nobody else, what ails it.
fn worth_saying(node: &Value, is_alone: bool) -> bool {
    !(is_alone || node["rank"].is_null()) || !list(&node["reasons"]).is_empty()
}

/// What is wrong with the floating IP on this machine; nothing where nothing is.
fn floating_ip(v: &Value) -> String {
    let mut out = String::new();
    if v["link"] == json!("down") {
        let [interface, words, s] = ["interface", "link_words", "link_since_s"].map(|k| text(&v[k]));
        out += &format!("DEGRADED: the link of {interface} (floating IP) is {words} (for {s} s)\n");
    }
    for c in list(&v["conflicts"]) {
        let [mac, ip, since, times] = ["mac", "ip", "since_s", "times"].map(|k| text(&c[k]));
        out += &format!(
            "CONFLICT: {mac} says that the floating IP {ip} is its own ({times} times in {since} s); \
             take it from that machine\n"
        );
    }
    for a in list(&v["put_right"]) {
        let [what, times, age] = ["what", "times", "age_s"].map(|k| text(&a[k]));
        out += &format!("{what} ({times} times, the last one {age} s ago)\n");
    }
    out
}

/// The first and the last of some versions; `-` if they are not known.
fn range(v: &Value) -> String {
    match (&v[0], &v[1]) {
        (Value::Null, _) => String::from("-"),
        (first, last) if first == last => text(first),
        (first, last) => format!("{first} to {last}"),
    }
}

pub(super) fn bindings(v: &Value) -> String {
    let rows: Vec<Vec<String>> = list(&v["bindings"])
        .iter()
        .map(|b| {
            ["aor", "contact", "q", "expires_s", "received", "user_agent"]
                .iter()
                .map(|k| text(&b[*k]))
                .collect()
        })
        .collect();
    cut(
        table_or("no contacts", &["AOR", "CONTACT", "Q", "EXPIRES S", "RECEIVED FROM", "USER AGENT"], &rows),
        v,
    )
}

pub(super) fn dialogs(v: &Value) -> String {
    let mut rows: Vec<Vec<String>> = list(&v["dialogs"])
        .iter()
        .map(|d| {
            let [call_id, from, to, s] = ["call_id", "from", "to", "lasts_s"].map(|k| text(&d[k]));
            vec![call_id, text(&d["state"]), s, from, to, text(&d["callee"])]
        })
        .collect();
    for p in list(&v["pending_invites"]) {
        let [call_id, state, s, from, to] =
            ["call_id", "state", "since_s", "from", "to"].map(|k| text(&p[k]));
        let targets: Vec<String> = list(&p["branches"])
            .iter()
            .map(|b| format!("{} ({})", text(&b["target"]), b["status"]))
            .collect();
        rows.push(vec![call_id, state, s, from, to, targets.join(", ")]);
    }
    cut(table_or("no calls", &["CALL-ID", "STATE", "SECONDS", "FROM", "TO", "AT"], &rows), v)
}

pub(super) fn cut(mut out: String, v: &Value) -> String {
    if v["truncated"] == json!(true) {
        out += "(the list is cut; ask for one AOR, or see the counts in relevo status)\n";
    }
    out
}
