//! A cluster goes to the next release node by node, and back, with calls running. Needs the program of the release before
//! (`make upgrade` builds it and names it in RELEVO_PREVIOUS), root and the lab's packages; says so without.

use std::path::{Path, PathBuf};

use ha_tests::lab::cluster::{self, DownGuard, in_path};
use ha_tests::lab::config::Options;
use ha_tests::lab::net;
use ha_tests::lab::state::LabState;
use ha_tests::lab::status;
use ha_tests::phones::baresip::Baresip;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::{PATIENCE, active, all_agree, json, relevo, until};

/// The program of the release before.
fn previous() -> Option<PathBuf> {
    let named = std::env::var_os("RELEVO_PREVIOUS").map(PathBuf::from);
    if named.is_none() {
        println!("skipped: needs the release before; make upgrade builds it");
    }
    named
}

/// What a program says of its versions.
fn format_of(program: &Path) -> Value {
    let out = std::process::Command::new(program).args(["version", "--json"]).output().expect("it runs");
    let said: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    said["format"].clone()
}

/// Ends a node as an operator would, and starts it again with another program.
fn change(lab: &mut LabState, index: usize, program: &Path) {
    let guard = lab.nodes[index].guard.expect("it runs");
    guard.signal(Signal::SIGTERM);
    assert!(guard.wait_gone(PATIENCE), "node {} ends", lab.nodes[index].id);
    program.clone_into(&mut lab.relevo);
    cluster::power_on(lab, index).expect("it starts");
    until("one active node, and all with the same entries", || all_agree(lab));
    let node = lab.nodes[index].clone();
    let said = status::admin(lab, &node, &["status", "--json"], PATIENCE).expect("it answers");
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(said["format"], format_of(program), "node {}", node.id);
}

/// Standby, witness, and the active node last.
fn order(lab: &LabState) -> Vec<usize> {
    let first = active(lab).id;
    let mut order: Vec<usize> = (0..lab.nodes.len()).collect();
    let is_witness = |i: &usize| !lab.nodes[*i].role.word().starts_with("app");
    order.sort_by_key(|i| (lab.nodes[*i].id == first, is_witness(i)));
    order
}

/// The first `count` nodes of the order go to another program.
fn change_some(lab: &mut LabState, program: &Path, count: usize, mut between: impl FnMut(&LabState)) {
    for index in order(lab).into_iter().take(count) {
        change(lab, index, program);
        between(lab);
    }
}

#[test]
fn a_cluster_goes_to_the_next_release_and_back_node_by_node_and_no_call_is_lost() {
    let named = std::env::var_os("RELEVO_NEW").map(PathBuf::from);
    let (Some(old), Some(new)) = (previous(), named.or_else(relevo)) else { return };
    if !nix::unistd::geteuid().is_root() || in_path("baresip").is_none() {
        println!("skipped: the lab needs root and baresip");
        return;
    }
    println!("from {} to {}, back, and for good", format_of(&old), format_of(&new));
    let options = Options { relevo: Some(old.clone()), ephemeral: true, ..Options::default() };
    let mut guard = DownGuard::new(cluster::up(&options).expect("a lab"));
    let lab = &mut guard.lab;
    let logs = tempfile::tempdir().expect("a folder");
    let mut ann = Baresip::start(lab, logs.path(), "ann", 5080).expect("baresip");
    let mut bob = Baresip::start(lab, logs.path(), "bob", 5090).expect("baresip");
    ann.wait_registered(PATIENCE).expect("registered");
    bob.wait_registered(PATIENCE).expect("registered");

    // As long as one node is of the release before, nothing is written that it cannot read, and the others can go back. With the
    // last one the cluster begins to write what is new.
    let all = lab.nodes.len();
    for (round, (program, count)) in [(&new, all - 1), (&old, all - 1), (&new, all)].into_iter().enumerate() {
        ann.command("dial", &format!("sip:bob@{}", net::VIP4)).expect("told");
        bob.wait_for("CALL_ESTABLISHED", round + 1, PATIENCE).expect("established");
        change_some(lab, program, count, |lab| {
            let known = json(lab, &["dlg", "list"]);
            assert_eq!(known["dialogs"].as_array().map(Vec::len), Some(1), "the call is known: {known}");
            let bindings = json(lab, &["ul", "show"]);
            assert_eq!(bindings["bindings"].as_array().map(Vec::len), Some(2), "{bindings}");
        });
        assert_eq!(bob.count("CALL_CLOSED"), round, "nobody has ended it");
        ann.command("hangup", "").expect("told");
        bob.wait_for("CALL_CLOSED", round + 1, PATIENCE).expect("the BYE arrives");
        until("the end of the call is committed", || {
            json(lab, &["dlg", "list"])["dialogs"].as_array().is_some_and(Vec::is_empty)
        });
    }
}
