//! SIGHUP and `relevo reload`: what counts at once, what is refused, and what no signal does.

mod common;

use std::fs;
use std::process::Command;

use common::lone::Node;
use common::ua::Ua;
use common::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn status(node: &Node) -> Value {
    let output = node.say(&["status", "--json"]);
    assert!(output.status.success(), "{output:?}\n{}", node.log());
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn pid(node: &Node) -> Pid {
    let id = status(node)["pid"].as_i64().expect("a pid");
    Pid::from_raw(i32::try_from(id).expect("a pid"))
}

fn rewrite(node: &Node, from: &str, to: &str) {
    let text = fs::read_to_string(node.file()).expect("read");
    assert!(text.contains(from), "{text}");
    fs::write(node.file(), text.replace(from, to)).expect("written");
}

#[test]
fn sighup_reads_the_file_again_and_a_registration_outlives_it() {
    let node = Node::start(&["a.test"], "[limits]\ncalls_per_caller = 0\n");
    let mut phone = Ua::new("alice", node.proxy);
    let granted = phone.register(600).one("Contact");
    assert!(granted.contains("expires=600"), "{granted}");
    let before = pid(&node);
    rewrite(&node, "domains = [\"a.test\"]", "domains = [\"a.test\"]\nmax_expires_s = 120");
    kill(before, Signal::SIGHUP).expect("told");
    until("the log says what has changed", || node.log().contains("reload: sip.max_expires_s").then_some(()));
    let mut other = Ua::new("bob", node.proxy);
    // The order was before this request in the queue of the engine.
    let granted = other.register(600).one("Contact");
    assert!(granted.contains("expires=120"), "{granted}");
    assert_eq!(pid(&node), before, "the same process");
    let shown = String::from_utf8(node.say(&["ul", "show"]).stdout).expect("text");
    assert!(shown.contains("alice@"), "{shown}");
}

#[test]
fn a_broken_file_changes_nothing_and_says_file_line_and_cure() {
    let node = Node::start(&["a.test"], "");
    rewrite(&node, "domains = [\"a.test\"]", "domains = [\"b.test\"]\nmax_contact = 3");
    let output = node.say(&["reload", "--admin", &socket(&node)]);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("r.toml:6: ") && said.contains("config check"), "{said}");
    rewrite(&node, "\nmax_contact = 3", "\nmax_contacts = 3");
    rewrite(&node, "engines = 1", "engines = 2");
    let output = node.say(&["reload", "--json"]);
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["changed"][0]["key"], "sip.domains", "{said}");
    assert_eq!(said["changed"][1]["to"], "3", "{said}");
    assert_eq!(said["needs_restart"][0]["key"], "sip.engines", "{said}");
}

#[test]
fn no_signal_kills_by_accident() {
    let node = Node::start(&["a.test"], "");
    let before = pid(&node);
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGPIPE, Signal::SIGHUP] {
        kill(before, signal).expect("told");
    }
    until("the last one is answered", || node.log().contains("reload: nothing has changed").then_some(()));
    assert_eq!(pid(&node), before);
    assert!(node.log().contains("SIGUSR1 does nothing here"), "{}", node.log());
    let name = fs::read_to_string(format!("/proc/{before}/comm")).expect("a process");
    assert_eq!(name.trim(), "relevo");
}

#[test]
fn a_log_level_that_is_none_is_a_usage_error() {
    let dir = tempfile::tempdir().expect("tempdir");
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relevo"));
        command.args(args).env("RELEVO_LOG", "garbage").current_dir(dir.path()).output().expect("relevo runs")
    };
    let output = run(&["run", "--data", "data"]);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("\"garbage\" is no level") && said.contains("debug"), "{said}");
    let output = run(&["run", "--config", "missing.toml"]);
    assert_eq!(output.status.code(), Some(2), "a file that is named has to be there");
}

fn socket(node: &Node) -> String {
    node.file().with_file_name("data").join("admin.sock").display().to_string()
}
