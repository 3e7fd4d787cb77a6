//! A lab of three nodes for tests with real phones. Needs root and the lab's packages; says so without.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ha_tests::lab::cluster::{self, DownGuard, in_path};
use ha_tests::lab::config::Options;
use ha_tests::lab::fault::{Fault, inflict};
use ha_tests::lab::state::{LabState, Node};
use ha_tests::lab::status;
use serde_json::Value;

/// Bound of anything that is waited for; much longer than it takes.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// The program that this test was built beside.
pub fn relevo() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.parent()?.parent()?.join("relevo");
    if beside.is_file() { Some(beside) } else { in_path("relevo") }
}

/// A lab whose nodes have these sections more, and a folder for the logs of its phones.
pub fn lab(extra: &str) -> Option<(DownGuard, tempfile::TempDir)> {
    lab_with(Options { extra: extra.to_owned(), ..Options::default() })
}

/// A lab with these options.
pub fn lab_with(options: Options) -> Option<(DownGuard, tempfile::TempDir)> {
    if !nix::unistd::geteuid().is_root() || in_path("sipp").is_none() {
        println!("skipped: the lab needs root and sipp");
        return None;
    }
    let Some(relevo) = relevo() else {
        println!("skipped: no relevo; build it with cargo build -p agent");
        return None;
    };
    let options = Options { relevo: Some(relevo), ephemeral: true, ..options };
    let lab = cluster::up(&options).expect("a lab");
    Some((DownGuard::new(lab), tempfile::tempdir().expect("a folder")))
}

pub fn active(lab: &LabState) -> Node {
    let status = status::wait_ready(lab, PATIENCE).expect("one active node");
    lab.nodes.iter().find(|n| n.id == status.node).expect("it is of this lab").clone()
}

pub fn say(lab: &LabState, args: &[&str]) -> String {
    status::admin(lab, &active(lab), args, PATIENCE).expect("it is done")
}

pub fn json(lab: &LabState, args: &[&str]) -> Value {
    serde_json::from_str(&say(lab, &[args, &["--json"]].concat())).expect("JSON")
}

/// Waits until `what` is true. The condition is a question to a node: asking it takes longer than any pause between.
pub fn until(text: &str, mut what: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !what() {
        assert!(Instant::now() < end, "{text} did not come within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

pub fn lose_the_active_node(lab: &mut LabState) {
    lose(lab);
}

/// Power off for the active node. Says which it was.
fn lose(lab: &mut LabState) -> usize {
    let node = active(lab);
    let index = lab.nodes.iter().position(|n| n.id == node.id).expect("it is of this lab");
    inflict(lab, index, Fault::KillNode).expect("power off");
    index
}

/// Power off for the active node, another one takes over, and then it comes back as a standby.
pub fn lose_and_restart(lab: &mut LabState) {
    let index = lose(lab);
    active(lab);
    cluster::power_on(lab, index).expect("power on");
}

/// Whether every node runs and has applied what the others have.
pub fn all_agree(lab: &LabState) -> bool {
    let said: Vec<_> = lab.nodes.iter().filter_map(|n| status::ask(lab, n).ok()).collect();
    said.len() == lab.nodes.len()
        && said.iter().filter(|s| s.active).count() == 1
        && said.iter().all(|s| s.applied + 5 >= said[0].applied && said[0].applied + 5 >= s.applied)
}

/// What a command says that is refused: by the node, or by the command line.
pub fn refused(lab: &LabState, args: &[&str]) -> String {
    status::admin(lab, &active(lab), args, PATIENCE).expect_err("it is refused").to_string()
}
