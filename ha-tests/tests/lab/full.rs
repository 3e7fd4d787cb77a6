//! The disks of all nodes are full at once. What is new is refused, what exists goes on, no agent ends, and with room all
//! goes on by itself. Needs root and the lab's packages; says so without.

use std::time::Duration;

use crate::common::{active, all_agree, lab, until};
use crate::phone::{Phone, cseq, status, talk};
use ha_tests::lab::config::DOMAIN;
use ha_tests::lab::fault::{Fault, inflict};
use ha_tests::lab::state::{LabState, Node};
use ha_tests::lab::status::admin;
use ha_tests::phones::tiny::header;
use serde_json::Value;

/// A node that does not say how it is within this time is asked again.
const ASK: Duration = Duration::from_secs(3);
/// Bytes of a parameter that makes a registration large, so that the log fills its files soon.
const LARGE: usize = 400;
/// Refreshes that are sent between two looks.
const BURST: u32 = 200;

/// What a node says of its disk.
fn disk(lab: &LabState, node: &Node) -> Value {
    let said = admin(lab, node, &["status", "--json"], ASK).unwrap_or_default();
    serde_json::from_str::<Value>(&said).map_or(Value::Null, |v| v["disk"].clone())
}

fn each(lab: &LabState, mut is_so: impl FnMut(&Value) -> bool) -> bool {
    lab.nodes.iter().all(|node| is_so(&disk(lab, node)))
}

/// Processes that run the nodes.
fn agents(lab: &LabState) -> Vec<i32> {
    lab.nodes.iter().map(|n| n.agent().expect("an agent runs").pid).collect()
}

fn on_all(lab: &mut LabState, fault: Fault) {
    for index in 0..lab.nodes.len() {
        inflict(lab, index, fault).expect("it is done");
    }
}

/// The answer to a registration that begins something.
fn new_registration(phone: &mut Phone, call: &str) -> String {
    let headers = format!("From: <{0}>;tag=r\r\nTo: <{0}>\r\nExpires: 3600\r\n", phone.uri());
    let request = phone.request("REGISTER", &format!("sip:{DOMAIN}"), call, 1, &headers, "");
    phone.ask(&request)
}

/// A registration of many bytes, or its refresh.
fn large_registration(phone: &Phone, cseq: u32) -> String {
    let headers = format!("From: <{0}>;tag=r\r\nTo: <{0}>\r\nExpires: 3600\r\n", phone.uri());
    let request = phone.request("REGISTER", &format!("sip:{DOMAIN}"), "large", cseq, &headers, "");
    let contact = phone.contact();
    request.replace(&format!("<{contact}>"), &format!("<{contact};x={}>", "x".repeat(LARGE)))
}

/// The caller changes a call.
fn change(caller: &mut Phone, callee: &mut Phone, ok: &str, number: u32) {
    caller.send(&caller.within("INVITE", ok, number, ""));
    let came = callee.asked("INVITE");
    callee.answer(&came, 200, "");
    caller.wait("200", |m| status(m) == 200 && cseq(m) == number && m.contains("INVITE"));
    caller.send(&caller.within("ACK", ok, number, ""));
    callee.asked("ACK");
}

fn hang_up(caller: &mut Phone, callee: &mut Phone, ok: &str, number: u32) {
    let bye = caller.within("BYE", ok, number, "");
    caller.send(&bye);
    let end = callee.asked("BYE");
    callee.answer(&end, 200, "");
    assert_eq!(status(&caller.answer_to(&bye)), 200);
}

#[test]
fn full_disks_of_all_nodes_refuse_what_is_new_and_end_nothing_that_exists() {
    let Some((mut guard, _logs)) = lab("") else { return };
    let lab = &mut guard.lab;
    let (mut alice, mut bob) = (Phone::open(lab, "alice", 5071), Phone::open(lab, "bob", 5072));
    let mut carl = Phone::open(lab, "carl", 5073);
    bob.register(1, 3600);
    let (_, ok) = talk(&mut alice, &mut bob, "before", "", "");
    until("all nodes agree", || all_agree(lab));
    let before = agents(lab);

    on_all(lab, Fault::DiskFull);
    until("every node knows that all are full", || {
        each(lab, |disk| disk["full_nodes"].as_array().is_some_and(|full| full.len() == 3))
    });
    let answer = new_registration(&mut carl, "new-1");
    assert_eq!(status(&answer), 503, "{answer}");
    assert!(header(&answer, "Retry-After").is_some_and(|s| s.parse::<u32>().is_ok()), "{answer}");
    let call = alice.first("INVITE", &bob.uri(), "new", "", "");
    let answer = alice.ask(&call);
    assert!(status(&answer) == 503 && header(&answer, "Retry-After").is_some(), "{answer}");
    let shown = admin(lab, &active(lab), &["status"], ASK).expect("a status");
    assert!(shown.contains("DEGRADED"), "{shown}");
    bob.register(2, 3600);
    change(&mut alice, &mut bob, &ok, 2);
    hang_up(&mut alice, &mut bob, &ok, 3);
    assert_eq!(agents(lab), before, "no agent has ended");

    on_all(lab, Fault::Heal);
    until("there is room again", || {
        each(lab, |disk| disk["full_nodes"].as_array().is_some_and(Vec::is_empty))
    });
    let answer = new_registration(&mut carl, "new-2");
    assert_eq!(status(&answer), 200, "{answer}");
    talk(&mut alice, &mut bob, "after", "", "");
    assert_eq!(agents(lab), before, "no agent has ended");
}

#[test]
fn logs_of_all_nodes_that_have_no_byte_left_wait_and_go_on_by_themselves() {
    let Some((mut guard, _logs)) = lab("") else { return };
    let lab = &mut guard.lab;
    let (mut alice, mut bob) = (Phone::open(lab, "alice", 5071), Phone::open(lab, "bob", 5072));
    let (mut carl, mut dora) = (Phone::open(lab, "carl", 5073), Phone::open(lab, "dora", 5074));
    bob.register(1, 3600);
    let (_, ok) = talk(&mut alice, &mut bob, "before", "", "");
    let answer = dora.ask(&large_registration(&dora, 1));
    assert_eq!(status(&answer), 200, "{answer}");
    until("all nodes agree", || all_agree(lab));
    let before = agents(lab);

    on_all(lab, Fault::DiskFull);
    until("every node has given its reserve up", || {
        lab.nodes.iter().all(|node| !node.data.join("reserve").exists())
    });
    // That room, too.
    on_all(lab, Fault::DiskFull);
    let mut number = 1;
    until("the log of every node waits for room", || {
        for _ in 0..BURST {
            number += 1;
            dora.send(&large_registration(&dora, number));
        }
        each(lab, |disk| disk["unwritten_bytes"].as_u64().is_some_and(|bytes| bytes > 0))
    });
    println!("the logs wait after {number} refreshes");
    assert_eq!(agents(lab), before, "no agent has ended");
    assert!(each(lab, |disk| disk["trouble"].as_str().is_some_and(|t| t.contains("wait to be written"))));

    on_all(lab, Fault::Heal);
    until("all that waited is written", || each(lab, |disk| disk["unwritten_bytes"] == 0));
    until("all nodes agree", || all_agree(lab));
    until("there is room again", || {
        each(lab, |disk| disk["full_nodes"].as_array().is_some_and(Vec::is_empty))
    });
    let answer = new_registration(&mut carl, "new");
    assert_eq!(status(&answer), 200, "{answer}");
    bob.register(2, 3600);
    hang_up(&mut alice, &mut bob, &ok, 2);
    assert_eq!(agents(lab), before, "no agent has ended");
}
