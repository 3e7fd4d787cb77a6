//! Ways between nodes that drop large packets without a word, as a tunnel with a wrong MTU does: the service goes on, and
//! the way is named. Needs root and the lab's packages; says so without.

use std::time::{Duration, Instant};

use crate::common::{active, lab, lose_the_active_node, until};
use crate::phone::{Phone, status};
use ha_tests::lab::net::{host_of, narrow, port_of, widen};
use ha_tests::lab::state::{LabState, Node, Role};
use ha_tests::lab::status::admin;
use serde_json::Value;

/// What is promised of a request while a way is narrow.
const PROMISED: Duration = Duration::from_millis(500);
/// For a machine with two cores that has other work, and for packets that get lost again and again (30 % of them).
const MARGIN: Duration = Duration::from_millis(2500);
/// Bound of a request.
const LIMIT: Duration = PROMISED.saturating_add(MARGIN);
/// Time for an answer to a command.
const PATIENCE: Duration = Duration::from_secs(40);

fn status_of(lab: &LabState, node: &Node) -> Value {
    let text = admin(lab, node, &["status", "--json"], PATIENCE).expect("a status");
    serde_json::from_str(&text).expect("JSON")
}

/// What `node` says of the way between it and `other`.
fn path(lab: &LabState, node: &Node, other: &Node) -> Value {
    let status = status_of(lab, node);
    let peers = status["peers"].as_array().cloned().unwrap_or_default();
    peers.into_iter().find(|p| p["node"] == other.id).map_or(Value::Null, |p| p["path"].clone())
}

/// Of what `node` says to the others, `percent` of the packets over `bytes` get lost.
fn hole(lab: &LabState, node: &Node, bytes: u32, percent: u8) {
    let holder = node.holder.expect("it has power");
    let others: Vec<u8> = lab.nodes.iter().filter(|n| n.id != node.id).map(|n| host_of(n.id)).collect();
    narrow(lab.switch, holder, &port_of(node.id), &others, bytes, percent).expect("a black hole");
}

/// A call whose INVITE is larger than any packet, and a registration with this CSeq after it.
fn large_call(alice: &mut Phone, bob: &mut Phone, call: &str, cseq: u32) {
    let filler = format!("X-Large: {}\r\n", "y".repeat(80)).repeat(30);
    let begun = Instant::now();
    let invite = alice.first("INVITE", &bob.uri(), call, &filler, "");
    alice.send(&invite);
    let came = bob.asked("INVITE");
    assert!(begun.elapsed() < LIMIT, "{call}: after {:?}", begun.elapsed());
    bob.answer(&came, 486, "");
    assert_eq!(status(&alice.answer_to(&invite)), 486, "{call}");
    alice.register(cseq, 600);
    println!("{call}: {:?}", begun.elapsed());
}

#[test]
fn large_messages_pass_a_black_hole_in_small_packets_and_the_way_is_named_until_it_is_whole_again() {
    let Some((mut guard, _logs)) = lab("") else { return };
    let lab = &mut guard.lab;
    let mut alice = Phone::open(lab, "alice", 5061);
    let mut bob = Phone::open(lab, "bob", 5071);
    alice.register(1, 600);
    bob.register(1, 600);
    let holder = active(lab);
    let standby =
        lab.nodes.iter().find(|n| n.role == Role::Appliance && n.id != holder.id).expect("another").clone();
    // What the holder says: felt at once.
    for (cseq, bytes, percent) in [(2, 1300, 100), (3, 600, 100), (4, 1450, 100), (5, 1000, 30)] {
        hole(lab, &holder, bytes, percent);
        large_call(&mut alice, &mut bob, &format!("{percent}-percent-over-{bytes}"), cseq);
    }
    hole(lab, &holder, 1300, 100);
    until("both sides say which way drops packets of which size", || {
        let [to, from] = [path(lab, &holder, &standby), path(lab, &standby, &holder)];
        to["to"]["state"] == "narrow"
            && to["to"]["bytes"].as_u64().is_some_and(|b| (1100..=1300).contains(&b))
            && from["from"]["state"] == "narrow"
            && to["words"].as_str().is_some_and(|w| w.contains("MTU"))
    });
    widen(lab.switch, &port_of(holder.id)).expect("whole again");
    until("the way is whole again", || path(lab, &holder, &standby)["to"]["state"] == "whole");
    // What the standby says: felt only when it takes over, and known before.
    hole(lab, &standby, 1300, 100);
    until("the holder knows it", || path(lab, &holder, &standby)["from"]["state"] == "narrow");
    until("it is no target of a switchover", || {
        let asked = admin(lab, &holder, &["switchover", &standby.id.to_string()], PATIENCE);
        asked.is_err_and(|e| e.to_string().contains("path"))
    });
    assert_eq!(active(lab).id, holder.id, "nothing has changed");
    // Where nobody else is left it serves all the same.
    lose_the_active_node(lab);
    assert_eq!(active(lab).id, standby.id);
    large_call(&mut alice, &mut bob, "after-a-takeover", 6);
}
