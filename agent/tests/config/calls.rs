//! `[accounting]`, `[dialog]` and `[limits]`: what is right is read, what is wrong is named with its line and cure.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::config::Config;
use proxy_core::dialog::config::{CallLimits, DialogConfig};

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("c.toml"), text).map_err(|e| e.to_string())
}

#[test]
fn without_a_word_nothing_is_written_nothing_is_limited_and_calls_last_half_a_day() {
    let c = parse("").expect("right");
    assert_eq!((&c.accounting.json, &c.accounting.csv), (&None, &None));
    assert_eq!(c.accounting.engine.refused_per_s, 0);
    assert_eq!(c.dialog.max_duration, Duration::from_secs(43_200));
    assert_eq!(c.dialog.config, DialogConfig::default());
    assert_eq!(c.dialog.config.limits, CallLimits::default());
}

#[test]
fn every_key_of_the_sections_is_read() {
    let c = parse(
        r#"[node]
data = "/var/lib/relevo"
[accounting]
json = "cdr.jsonl"
csv = "/var/log/relevo/cdr.csv"
refused_per_s = 5
[dialog]
max_duration_s = 7200
no_ack_s = 90
min_se_s = 120
session_expires_s = 1800
[limits]
calls_per_caller = 2
calls_per_callee = 3
calls_per_trunk = 4
calls_per_source = 5
caller_status = 480
callee_status = 600
trunk_status = 486
source_status = 403
[[limits.trunk]]
name = "carrier"
calls = 30
[[limits.trunk]]
name = "other"
calls = 1
"#,
    )
    .expect("right");
    assert_eq!(c.accounting.json, Some(PathBuf::from("/var/lib/relevo/cdr.jsonl")), "below node.data");
    assert_eq!(c.accounting.csv, Some(PathBuf::from("/var/log/relevo/cdr.csv")));
    assert_eq!(c.accounting.engine.refused_per_s, 5);
    assert_eq!(c.dialog.max_duration, Duration::from_secs(7200));
    let dialog = &c.dialog.config;
    assert_eq!((dialog.min_se_s, dialog.session_expires_s), (120, 1800));
    assert_eq!(dialog.no_ack, Some(Duration::from_secs(90)));
    let limits = &dialog.limits;
    let most = [limits.caller, limits.callee, limits.trunk, limits.source];
    assert_eq!(most, [Some(2), Some(3), Some(4), Some(5)]);
    let said = [limits.caller_status, limits.callee_status, limits.trunk_status, limits.source_status];
    assert_eq!(said, [480, 600, 486, 403]);
    let trunks: Vec<(&str, u32)> = limits.trunks.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert_eq!(trunks, [("carrier", 30), ("other", 1)]);
}

#[test]
fn refused_calls_leave_records_without_a_word_only_where_a_file_takes_them() {
    for (text, per_s) in [
        ("[accounting]", 0),
        ("[accounting]\njson = \"x\"", 20),
        ("[accounting]\ncsv = \"x\"", 20),
        ("[accounting]\nrefused_per_s = 7", 7),
        ("[accounting]\njson = \"x\"\nrefused_per_s = 0", 0),
    ] {
        assert_eq!(parse(text).expect("right").accounting.engine.refused_per_s, per_s, "{text}");
    }
}

#[test]
fn nought_is_no_limit_and_no_session_timer() {
    let c = parse("[dialog]\nsession_expires_s = 0\nno_ack_s = 0\n[limits]\ncalls_per_caller = 0\n")
        .expect("right");
    assert_eq!((c.dialog.config.session_expires_s, c.dialog.config.limits.caller), (0, None));
    assert_eq!(c.dialog.config.no_ack, None);
}

#[test]
fn what_is_wrong_is_named_with_its_line_and_its_cure() {
    let cases = [
        // Accounting.
        ("[accounting]\njson = 1", "c.toml:2:", "json"),
        ("[accounting]\njson = \"/\"", "c.toml:2: \"/\" names no file", "cdr.jsonl"),
        ("[accounting]\ncsv = \"\"", "c.toml:2: \"\" names no file", "cdr.csv"),
        ("[accounting]\njson = \"a/..\"", "c.toml:2: \"a/..\" names no file", "cdr.jsonl"),
        ("[accounting]\njson = \"x\"\ncsv = \"x\"", "c.toml:3: json and csv are the same file", "two files"),
        (
            "[accounting]\njson = \"x\"\ncsv = \"./x\"",
            "c.toml:3: json and csv are the same file",
            "two files",
        ),
        (
            "[node]\ndata = \"/d\"\n[accounting]\njson = \"/d/x\"\ncsv = \"x\"",
            "c.toml:5: json and csv are the same file",
            "two files",
        ),
        ("[accounting]\nxml = \"x\"", "c.toml:2:", "xml"),
        ("[accounting]\nrefused_per_s = 1001", "c.toml:2:", "0 to 1000"),
        ("accounting = true", "c.toml:1:", "accounting"),
        // Dialogs.
        ("[dialog]\nmax_duration_s = 9", "c.toml:2:", "10 to 2592000"),
        ("[dialog]\nmax_duration_s = 2592001", "c.toml:2:", "10 to 2592000"),
        ("[dialog]\nmax_duration_s = \"12h\"", "c.toml:2:", "max_duration_s"),
        ("[dialog]\nmin_se_s = 89", "c.toml:2:", "90 to 86400"),
        ("[dialog]\nsession_expires_s = -1", "c.toml:2:", "0 to 86400"),
        (
            "[dialog]\nsession_expires_s = 60",
            "c.toml:2: session_expires_s = 60 is below min_se_s = 90",
            "at least 90",
        ),
        (
            "[dialog]\nmin_se_s = 600\n\nsession_expires_s = 500",
            "c.toml:4: session_expires_s = 500 is below min_se_s = 600",
            "set session_expires_s to 0",
        ),
        ("[dialog]\nno_ack_s = 32", "c.toml:2: no_ack_s = 32 would end calls", "at least 33"),
        ("[dialog]\nno_ack_s = 86401", "c.toml:2:", "0 to 86400"),
        ("[dialog]\nmax_duration = 60", "c.toml:2:", "max_duration"),
        // Limits.
        ("[limits]\ncalls_per_caller = -1", "c.toml:2:", "0 to 1000000"),
        ("[limits]\ncalls_per_trunk = 1000001", "c.toml:2:", "0 to 1000000"),
        ("[limits]\ncaller_status = 200", "c.toml:2:", "400 to 699"),
        ("[limits]\nsource_status = 302", "c.toml:2:", "400 to 699"),
        ("[limits]\ncalls_per_user = 1", "c.toml:2:", "calls_per_user"),
        (
            "[limits]\n[[limits.trunk]]\nname = \"a\"",
            "c.toml:2: a trunk's limit needs its name and its calls",
            "calls = 30",
        ),
        (
            "[limits]\n[[limits.trunk]]\ncalls = 3",
            "c.toml:2: a trunk's limit needs its name and its calls",
            "name = ",
        ),
        ("[limits]\n[[limits.trunk]]\nname = \"a\"\ncalls = 0", "c.toml:4:", "1 to 1000000"),
        (
            "[limits]\n[[limits.trunk]]\nname = \"a\"\ncalls = 1\n[[limits.trunk]]\nname = \"a\"\ncalls = 2",
            "c.toml:6: trunk \"a\" is named twice",
            "once",
        ),
        ("[limits]\ntrunk = 3", "c.toml:2: trunk is of the wrong type", "array of tables"),
    ];
    for (text, what, cure) in cases {
        match parse(text) {
            Ok(_) => panic!("{text} is accepted"),
            Err(error) => assert!(error.contains(what) && error.contains(cure), "{text}: {error}"),
        }
    }
}
