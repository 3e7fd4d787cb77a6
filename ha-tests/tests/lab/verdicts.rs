//! What an operator and his monitoring are told: the verdict of each node with its exit code, and the history of the
//! service. Needs root and the lab's packages; says so without.

use std::process::Command;

use serde_json::Value;

use crate::common::{active, lab, relevo, until};
use ha_tests::lab::cluster;
use ha_tests::lab::fault::{Fault, inflict};
use ha_tests::lab::state::{LabState, Node};

/// `relevo status --check` of a node: its code and its line.
fn check(node: &Node) -> (i32, String) {
    let relevo = relevo().expect("the lab runs with one");
    let out = Command::new(relevo).arg("--admin").arg(&node.admin).args(["status", "--check"]).output();
    let out = out.expect("it runs");
    (out.status.code().expect("a code"), String::from_utf8_lossy(&out.stdout).into_owned())
}

fn wait_for(node: &Node, code: i32, words: &str) {
    until(&format!("node {}: {code} {words}", node.id), || {
        let (got, line) = check(node);
        got == code && line.contains(words)
    });
}

fn history(node: &Node) -> Vec<Value> {
    let relevo = relevo().expect("the lab runs with one");
    let out = Command::new(relevo).arg("--admin").arg(&node.admin).args(["history", "--json"]).output();
    let answer: Value = serde_json::from_slice(&out.expect("it runs").stdout).expect("JSON");
    answer["events"].as_array().expect("a list").clone()
}

fn node(lab: &LabState, id: u64) -> Node {
    lab.nodes.iter().find(|n| n.id == id).expect("of this lab").clone()
}

fn index(lab: &LabState, id: u64) -> usize {
    lab.nodes.iter().position(|n| n.id == id).expect("of this lab")
}

/// The newest event of a node's history that is about this move.
fn moved(node: &Node, from: u64, to: u64) -> Value {
    let mut found = None;
    until("the move in the history", || {
        found = history(node)
            .into_iter()
            .rfind(|e| e["from"] == from && e["to"] == to && e["silent_ms"].is_u64());
        found.is_some()
    });
    found.expect("it was found")
}

#[test]
fn every_node_says_how_the_service_does_and_the_history_says_what_became_of_it() {
    let Some((mut guard, _logs)) = lab("") else { return };
    let lab = &mut guard.lab;
    let first = active(lab);
    let other =
        lab.nodes.iter().find(|n| n.role == first.role && n.id != first.id).expect("two appliances").clone();
    let witness = lab.nodes.iter().find(|n| n.role != first.role).expect("a witness").clone();
    for node in &lab.nodes {
        wait_for(node, 0, &format!("OK: node {} serves; the loss of one more node is borne", first.id));
    }

    // The agent dies: its guard says so, and the history has its word.
    inflict(lab, index(lab, first.id), Fault::KillAgent).expect("killed");
    let event = moved(&other, first.id, other.id);
    assert_eq!(event["why"], format!("the agent of node {} had died, said its guard", first.id));
    let silent = event["silent_ms"].as_u64().expect("a number");
    assert!(silent < 2_000, "{event}");
    wait_for(&witness, 0, &format!("node {} serves", other.id));

    // Power loss of the standby: no further loss is borne, and monitoring hears of it on both nodes that are left.
    inflict(lab, index(lab, first.id), Fault::KillNode).expect("power off");
    for node in [&other, &witness] {
        wait_for(node, 1, "the next loss ends the service: no other appliance could take over");
        wait_for(node, 1, &format!("node {} was not heard for", first.id));
    }

    // Nobody hears the last appliance: neither side looks healthy.
    inflict(lab, index(lab, other.id), Fault::Cut).expect("cut");
    wait_for(&node(lab, other.id), 2, "it hears 1 of 3 voters, itself among them, and 2 are needed");
    wait_for(&witness, 2, "NO SERVICE: nobody serves, as far as this node knows");
    inflict(lab, index(lab, other.id), Fault::Heal).expect("healed");
    wait_for(&witness, 1, &format!("node {} serves", other.id));
    until("what the cut has cost", || {
        history(&witness).last().is_some_and(|e| e["to"] == other.id && e["silent_ms"].as_u64() > Some(0))
    });

    cluster::power_on(lab, index(lab, first.id)).expect("power on");
    for node in &lab.nodes {
        wait_for(node, 0, &format!("OK: node {} serves; the loss of one more node is borne", other.id));
    }
    assert_eq!(history(&first), history(&witness), "the same on every node, also on one that was away");
    inflict(lab, index(lab, witness.id), Fault::KillNode).expect("power off");
    assert_eq!(check(&witness).0, 3, "a node that does not answer says nothing about the service");
}
