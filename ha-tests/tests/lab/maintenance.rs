//! Drain, pause and planned switchovers on real nodes. Needs root and the lab's packages; says so without.

use std::time::Duration;

use crate::common::{PATIENCE, active, lab, lose_the_active_node, refused, until};
use crate::phone::Phone;
use ha_tests::lab::cluster;
use ha_tests::lab::state::{LabState, Node, Role};
use ha_tests::lab::status::admin;
use serde_json::Value;

fn ask(lab: &LabState, node: &Node, args: &[&str]) -> Value {
    let text = admin(lab, node, &[args, &["--json"]].concat(), PATIENCE).expect("it is done");
    serde_json::from_str(&text).expect("JSON")
}

fn standby(lab: &LabState, holder: &Node) -> Node {
    lab.nodes.iter().find(|n| n.role == Role::Appliance && n.id != holder.id).expect("another").clone()
}

fn witness(lab: &LabState) -> Node {
    lab.nodes.iter().find(|n| n.role == Role::Witness).expect("a witness").clone()
}

#[test]
fn a_drained_holder_hands_over_takes_nothing_back_and_the_last_candidate_cannot_be_drained() {
    let Some((mut guard, _logs)) = lab("") else { return };
    let lab = &mut guard.lab;
    let mut alice = Phone::open(lab, "alice", 5061);
    alice.register(1, 600);
    let holder = active(lab);
    let other = standby(lab, &holder);
    let (id, other_id) = (holder.id.to_string(), other.id.to_string());
    let said = refused(lab, &["drain", "9"]);
    assert!(said.contains("node 9 is no appliance") && said.contains("name one of: 1, 2"), "{said}");
    let done = ask(lab, &holder, &["drain", &id]);
    assert_eq!((&done["moved"], &done["holder"]), (&true.into(), &other.id.into()), "{done}");
    alice.register(2, 600);
    let said = refused(lab, &["drain", &other_id]);
    assert!(said.contains("the last one that may hold the service"), "{said}");
    let said = refused(lab, &["switchover", &id]);
    assert!(said.contains("drained"), "{said}");
    let shown = admin(lab, &witness(lab), &["status"], PATIENCE).expect("for people");
    assert!(shown.contains(&format!("DRAINED: node {id}")), "{shown}");
    // The lowest serves when it is the last.
    lose_the_active_node(lab);
    assert_eq!(active(lab).id, holder.id);
    alice.register(3, 600);
    let index = lab.nodes.iter().position(|n| n.id == other.id).expect("it is of this lab");
    cluster::power_on(lab, index).expect("power on");
    until("the other one has it again, for it is fit", || active(lab).id == other.id);
    ask(lab, &witness(lab), &["undrain", &id]);
    until("all have heard it", || {
        let shown = admin(lab, &other, &["status"], PATIENCE).expect("for people");
        !shown.contains("DRAINED")
    });
    assert_eq!(active(lab).id, other.id, "it does not go back by itself");
}

#[test]
fn in_a_pause_a_dead_holder_stays_dead_and_has_the_service_again_when_it_is_back_and_resume_lets_others_take_it()
 {
    let Some((mut guard, _logs)) = lab("") else { return };
    let lab = &mut guard.lab;
    let mut alice = Phone::open(lab, "alice", 5061);
    let holder = active(lab);
    let other = standby(lab, &holder);
    for (args, why) in [
        (&["pause", "--for", "3s"][..], "out of bounds"),
        (&["pause", "--for", "2d"], "out of bounds"),
        (&["pause", "--for", "soon"], "write it as 30m"),
    ] {
        let said = refused(lab, args);
        assert!(said.contains(why), "{said}");
    }
    ask(lab, &other, &["pause", "--for", "30m", "--reason", "new switch"]);
    let shown = admin(lab, &holder, &["status"], PATIENCE).expect("for people");
    assert!(
        shown.contains("PAUSED: new switch") && shown.contains("a holder that dies stays dead"),
        "{shown}"
    );
    lose_the_active_node(lab);
    until("another one leads", || {
        ask(lab, &other, &["status"])["leader"].as_u64().is_some_and(|l| l != holder.id)
    });
    // A takeover comes within a second; this is many times longer, and asks all the time.
    let end = std::time::Instant::now() + Duration::from_secs(4);
    while std::time::Instant::now() < end {
        let status = ask(lab, &other, &["status"]);
        assert_eq!((&status["active"], &status["holder"]), (&false.into(), &holder.id.into()), "{status}");
    }
    let index = lab.nodes.iter().position(|n| n.id == holder.id).expect("it is of this lab");
    cluster::power_on(lab, index).expect("power on");
    assert_eq!(active(lab).id, holder.id, "it has the service again");
    alice.register(1, 600);
    lose_the_active_node(lab);
    until("another one leads", || {
        ask(lab, &other, &["status"])["leader"].as_u64().is_some_and(|l| l != holder.id)
    });
    ask(lab, &other, &["resume"]);
    until("the other one takes it at once", || ask(lab, &other, &["status"])["active"] == true);
    alice.register(2, 600);
}

#[test]
fn a_switchover_that_was_planned_comes_at_its_time_after_a_change_of_leader_too_and_can_be_cancelled() {
    let Some((mut guard, _logs)) = lab("") else { return };
    let lab = &mut guard.lab;
    let holder = active(lab);
    let other = standby(lab, &holder);
    for (args, why) in [
        (&["switchover", "--at", "2020-01-01T00:00:00Z"][..], "in the past"),
        (&["switchover", "--at", "+8d"], "7 are allowed"),
        (&["switchover", "--at", "later"], "write it as +10m"),
        (&["switchover", "--cancel"], "no switchover is planned"),
        (&["switchover", "9", "--at", "+1m"], "no appliance"),
    ] {
        let said = refused(lab, args);
        assert!(said.contains(why), "{said}");
    }
    ask(lab, &holder, &["switchover", "--at", "+10m"]);
    let shown = admin(lab, &other, &["status"], PATIENCE).expect("for people");
    assert!(shown.contains(&format!("PLANNED: the service goes to node {}", other.id)), "{shown}");
    ask(lab, &witness(lab), &["switchover", "--cancel"]);
    until("it is cancelled", || ask(lab, &holder, &["status"])["planned_switchover"].is_null());
    ask(lab, &holder, &["switchover", &other.id.to_string(), "--at", "+3s"]);
    until("it has come", || active(lab).id == other.id);
    until("it is struck out", || ask(lab, &other, &["status"])["planned_switchover"].is_null());
    // Whoever leads when its time comes has it in its state.
    ask(lab, &other, &["switchover", &holder.id.to_string(), "--at", "+10s"]);
    ask(lab, &other, &["switchover", &holder.id.to_string()]);
    ask(lab, &holder, &["switchover", &other.id.to_string()]);
    until("it has come all the same", || active(lab).id == holder.id);
    until("it is struck out", || ask(lab, &holder, &["status"])["planned_switchover"].is_null());
}
