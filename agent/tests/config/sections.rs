//! The configuration: what is right is read, what is wrong is named with its line and cure.

use std::path::Path;
use std::time::Duration;

use agent::config::{Config, Role};

/// A right configuration; the tests below break one line of it each. The line numbers count from here.
const GOOD: &str = r#"[node]
id = 1
role = "appliance"
data = "/var/lib/relevo"
admin = "/run/relevo/admin.sock"
[cluster]
name = "lab"
key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
heartbeat_ms = 30
election_min_ms = 75
election_max_ms = 150
[[cluster.node]]
id = 1
role = "appliance"
addr = "10.77.0.11:7400"
[[cluster.node]]
id = 2
role = "appliance"
addr = "10.77.0.12:7400"
[[cluster.node]]
id = 3
role = "witness"
addr = "10.77.0.13:7400"
[vip]
interface = "eth0"
addresses = ["10.77.0.100/24", "fd77::100/64"]
[sip]
port = 5060
domains = ["lab.test"]
timer_c_s = 180
min_expires_s = 60
max_expires_s = 3600
max_contacts = 10
engines = 0
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("r.toml"), text).map_err(|e| e.to_string())
}

#[test]
fn a_full_configuration_is_read() {
    let c = parse(GOOD).expect("right");
    assert_eq!((c.id, c.role, c.nodes.len()), (1, Role::Appliance, 3));
    assert_eq!(c.lease(), Duration::from_millis(150));
    assert_eq!(c.key.expect("key")[..3], [0, 1, 2]);
    assert_eq!(c.nodes[2].role, Role::Witness);
    assert_eq!(c.vip.as_ref().expect("vip").addresses.len(), 2);
    assert!(!c.sip.any_domain);
    assert!(c.summary().contains("2 appliance(s), 1 witness(es)"));
}

#[test]
fn an_empty_file_is_the_embedded_default() {
    let mut c = parse("").expect("right");
    assert_eq!(c.file.take().as_deref(), Some(Path::new("r.toml")));
    assert_eq!(c, Config::embedded(Path::new(agent::config::EMBEDDED_DATA)));
    assert!(!c.is_cluster() && c.sip.any_domain);
}

#[test]
fn the_role_may_be_left_to_the_node_table() {
    let c = parse(&GOOD.replacen("role = \"appliance\"\n", "", 1).replacen("id = 1", "id = 3", 1))
        .expect("right");
    assert_eq!(c.role, Role::Witness);
}

#[test]
fn each_fault_names_its_line_and_a_cure() {
    // What is replaced, by what, the line, and words of the message.
    let table: &[(&str, &str, usize, &[&str])] = &[
        ("heartbeat_ms = 30", "heartbeat_sm = 30", 9, &["unknown key", "did you mean heartbeat_ms?"]),
        ("[sip]\n", "[sipp]\n", 27, &["unknown key \"sipp\"", "did you mean sip?"]),
        ("port = 5060", "port = \"5060\"", 28, &["port is of the wrong type (string)", "an integer"]),
        ("port = 5060", "port = 0", 28, &["out of range", "from 1 to 65535"]),
        ("port = 5060", "port = 99999999999999999999", 28, &["port"]),
        ("[sip]\n", "sip = 3\n", 27, &["sip"]),
        ("name = \"lab\"", "name = 3", 7, &["wrong type", "string"]),
        ("name = \"lab\"", "name = \"\"", 7, &["name is empty"]),
        ("name = \"lab\"\n", "", 6, &["needs a name"]),
        ("key = \"0001", "key = \"zz01", 8, &["64 hex digits", "openssl rand -hex 32"]),
        ("key = \"0001", "key = \"01", 8, &["64 hex digits"]),
        ("election_min_ms = 75", "election_min_ms = 40", 10, &["two heartbeats", "60"]),
        ("election_max_ms = 150", "election_max_ms = 70", 11, &["not above election_min_ms"]),
        ("election_max_ms = 150", "election_max_ms = 49", 11, &["out of range", "from 50"]),
        (
            "election_max_ms = 150",
            "times = \"moon\"",
            11,
            &["no name of times", "\"lan\", \"metro\", \"wan\""],
        ),
        ("id = 1\nrole", "id = 7\nrole", 2, &["not among the [[cluster.node]] ids (1, 2, 3)"]),
        ("id = 2", "id = 1", 17, &["node id 1 is there already (line 12)"]),
        ("id = 2", "id = 0", 17, &["out of range"]),
        ("id = 2\n", "", 16, &["has no id"]),
        ("10.77.0.12:7400", "10.77.0.11:7400", 19, &["address 10.77.0.11:7400 is there already"]),
        ("10.77.0.12:7400", "10.77.0.12", 19, &["not address:port"]),
        ("10.77.0.12:7400", "0.0.0.0:7400", 19, &["cannot be reached"]),
        ("role = \"witness\"", "role = \"judge\"", 22, &["\"judge\" is unknown", "\"witness\""]),
        (
            "role = \"appliance\"\ndata",
            "role = \"witness\"\ndata",
            3,
            &["[[cluster.node]] 1 says \"appliance\""],
        ),
        ("interface = \"eth0\"\n", "", 24, &["[vip] has no interface", "ip link"]),
        ("interface = \"eth0\"", "interface = \"a-name-that-is-too-long\"", 25, &["no name of an interface"]),
        ("\"10.77.0.100/24\"", "\"10.77.0.100\"", 26, &["no address with prefix length", "/24"]),
        ("\"10.77.0.100/24\"", "\"10.77.0.100/33\"", 26, &["no address with prefix length"]),
        ("\"10.77.0.100/24\"", "3", 26, &["an entry of addresses is of the wrong type"]),
        ("fd77::100/64", "10.77.0.100/24", 26, &["there twice"]),
        ("10.77.0.100/24", "10.77.0.13/24", 24, &["the address of node 3"]),
        ("max_expires_s = 3600", "max_expires_s = 30", 32, &["below min_expires_s"]),
        ("lab.test", "lab test", 29, &["is no domain"]),
        ("timer_c_s = 180", "timer_c_s = -1", 30, &["out of range"]),
        ("timer_c_s = 180", "timer_c_s == 180", 30, &["not TOML"]),
        ("timer_c_s = 180", "port = 180", 30, &["not TOML"]),
        ("port = 5060", "port = 5060\ntcp = 1", 29, &["wrong type"]),
        ("port = 5060", "port = 5060\ntcp_connections = 0", 29, &["out of range"]),
        (
            "port = 5060",
            "port = 5060\ntcp_connections = 10\ntcp_connections_per_source = 11",
            30,
            &["is above tcp_connections = 10"],
        ),
        ("port = 5060", "port = 5060\nudp_max_bytes = 100", 29, &["nearly every request", "at least 576"]),
        ("[sip]", "[dns]\nservers = [\"dns.example\"]\n[sip]", 28, &["is no DNS server"]),
        ("[sip]", "[dns]\npatience_ms = 1\n[sip]", 28, &["out of range"]),
        ("port = 5060", "port = 5060\nlisten = [\"10.0.0.1\"]", 29, &["exclude each other"]),
    ];
    for (old, new, line, words) in table {
        assert!(GOOD.contains(old), "{old}");
        let said = parse(&GOOD.replacen(old, new, 1)).expect_err(new);
        let place = format!("r.toml:{line}: ");
        let named = said.lines().any(|l| l.starts_with(&place) && words.iter().all(|w| l.contains(w)));
        assert!(named, "{old:?} -> {new:?}: wanted {place}{words:?}, got\n{said}");
        assert!(said.lines().all(|l| l.contains("; ")), "a cure in every line:\n{said}");
    }
}

#[test]
fn all_faults_are_named_at_once_in_the_order_of_their_lines() {
    let text = GOOD
        .replacen("port = 5060", "port = 0", 1)
        .replacen("heartbeat_ms = 30", "hartbeat_ms = 30", 1)
        .replacen("id = 2", "id = 1", 1);
    let said = parse(&text).expect_err("three faults");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[0].starts_with("r.toml:9: ") && lines[1].starts_with("r.toml:17: "), "{said}");
    assert!(lines[2].starts_with("r.toml:28: "), "{said}");
}

#[test]
fn a_wrong_key_is_not_repeated_in_the_message() {
    let said = parse(&GOOD.replacen("key = \"0001", "key = \"s3cr3t", 1)).expect_err("bad key");
    assert!(!said.contains("s3cr3t"), "{said}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let said = Config::load(Path::new("/nonexistent/relevo.toml")).expect_err("missing").to_string();
    assert!(said.contains("/nonexistent/relevo.toml: cannot be read") && said.contains("--config"), "{said}");
}

#[test]
fn two_nodes_without_witness_are_warned_about() {
    let at = GOOD.find("[[cluster.node]]\nid = 3").expect("third node");
    let end = GOOD.find("[vip]").expect("vip");
    let c = parse(&format!("{}{}", &GOOD[..at], &GOOD[end..])).expect("right");
    assert!(c.warnings().iter().any(|w| w.contains("witness")), "{:?}", c.warnings());
}

#[test]
fn a_stage_that_is_switched_off_at_the_cost_of_a_promise_is_warned_about() {
    let off = |list: &str| parse(&format!("{GOOD}\n[routing]\noff = [{list}]\n")).expect("right").warnings();
    let said = off("\"manage_failure\", \"withindlg\", \"presence\"");
    let about = |name: &str| said.iter().filter(|w| w.contains(&format!("routing.off has {name:?}"))).count();
    assert_eq!((about("manage_failure"), about("withindlg"), about("presence")), (1, 1, 0), "{said:?}");
    assert!(said.iter().any(|w| w.contains("a backend dies")), "{said:?}");
    assert!(off("").is_empty());
}

#[test]
fn a_stage_that_there_is_not_is_refused_with_the_names_of_all() {
    let fault = parse(&format!("{GOOD}\n[routing]\noff = [\"RELAY\"]\n")).expect_err("no name").to_string();
    assert!(fault.contains("\"RELAY\" is no stage") && fault.contains("relay, manage_branch"), "{fault}");
}
