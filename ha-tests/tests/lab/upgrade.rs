//! What a cluster holds goes on with the next release. The form of the log has changed since the release before, so that it
//! goes by a backup; node by node is possible again between releases that read each other's log. Needs the program of the
//! release before (`make upgrade` builds it and names it in RELEVO_PREVIOUS), root and the lab's packages; says so without.

use std::path::{Path, PathBuf};
use std::process::Command;

use ha_tests::lab::cluster::{self, DownGuard, in_path};
use ha_tests::lab::config::Options;
use ha_tests::lab::net;
use ha_tests::lab::state::{LabState, Node};
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
    let out = Command::new(program).args(["version", "--json"]).output().expect("it runs");
    let said: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    said["format"].clone()
}

/// Ends a node as an operator would.
fn stop(lab: &LabState, index: usize) {
    let guard = lab.nodes[index].guard.expect("it runs");
    guard.signal(Signal::SIGTERM);
    assert!(guard.wait_gone(PATIENCE), "node {} ends", lab.nodes[index].id);
}

/// Runs a program on this machine with the configuration of a node.
fn run(program: &Path, node: &Node, args: &[&str]) {
    let out = Command::new(program).arg("--config").arg(&node.config).args(args).output().expect("it runs");
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn the_state_of_the_release_before_goes_on_from_a_backup_with_its_call() {
    let named = std::env::var_os("RELEVO_NEW").map(PathBuf::from);
    let (Some(old), Some(new)) = (previous(), named.or_else(relevo)) else { return };
    if !nix::unistd::geteuid().is_root() || in_path("baresip").is_none() {
        println!("skipped: the lab needs root and baresip");
        return;
    }
    println!("from {} to {}", format_of(&old), format_of(&new));
    let options = Options { relevo: Some(old.clone()), ephemeral: true, ..Options::default() };
    let mut guard = DownGuard::new(cluster::up(&options).expect("a lab"));
    let lab = &mut guard.lab;
    let logs = tempfile::tempdir().expect("a folder");
    let mut ann = Baresip::start(lab, logs.path(), "ann", 5080).expect("baresip");
    let mut bob = Baresip::start(lab, logs.path(), "bob", 5090).expect("baresip");
    ann.wait_registered(PATIENCE).expect("registered");
    bob.wait_registered(PATIENCE).expect("registered");
    ann.command("dial", &format!("sip:bob@{}", net::VIP4)).expect("told");
    bob.wait_for("CALL_ESTABLISHED", 1, PATIENCE).expect("established");

    let backup = logs.path().join("state");
    let backup = backup.to_str().expect("a name");
    run(&old, &active(lab), &["backup", backup]);
    for index in 0..lab.nodes.len() {
        stop(lab, index);
        // Its log has another form: this release does not read it, and says so.
        let raft = lab.nodes[index].data.join("raft");
        let refused = Command::new(&new).arg("--config").arg(&lab.nodes[index].config).arg("run").output();
        let refused = String::from_utf8_lossy(&refused.expect("it runs").stderr).into_owned();
        assert!(refused.contains("relevo backup") && refused.contains("relevo restore"), "{refused}");
        std::fs::rename(&raft, raft.with_extension("before")).expect("moved away");
    }
    new.clone_into(&mut lab.relevo);
    run(&new, &lab.nodes[0], &["restore", backup]);
    for index in 0..lab.nodes.len() {
        cluster::power_on(lab, index).expect("it starts");
    }
    until("one active node, and all with the same entries", || all_agree(lab));
    let known = json(lab, &["dlg", "list"]);
    assert_eq!(known["dialogs"].as_array().map(Vec::len), Some(1), "the call is known: {known}");
    let bindings = json(lab, &["ul", "show"]);
    assert_eq!(bindings["bindings"].as_array().map(Vec::len), Some(2), "{bindings}");
    ann.command("hangup", "").expect("told");
    bob.wait_for("CALL_CLOSED", 1, PATIENCE).expect("the BYE arrives");
    until("the end of the call is committed", || {
        json(lab, &["dlg", "list"])["dialogs"].as_array().is_some_and(Vec::is_empty)
    });
}
