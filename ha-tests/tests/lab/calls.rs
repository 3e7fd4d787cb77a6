//! Calls between real phones of several makes, and over IPv6 and TCP, each with the active node lost in the middle. Needs
//! root and the lab's packages; says so without.

use std::time::Duration;

use crate::common::{PATIENCE, json, lab, lose_the_active_node};
use ha_tests::lab::cluster::in_path;
use ha_tests::lab::config::DOMAIN;
use ha_tests::lab::proc::{run_bounded, wait_until};
use ha_tests::lab::state::LabState;
use ha_tests::lab::{net, ns};
use ha_tests::phones::Place;
use ha_tests::phones::baresip::Baresip;
use ha_tests::phones::linphone::Linphone;
use ha_tests::phones::sipp::{Plan, Scenario, Sipp};
use proxy_core::state::Transport;

/// How long the phones are silent: the takeover comes in it.
const HOLD: Duration = Duration::from_secs(4);
const RUNNING: &str = "State: LinphoneCallStreamsRunning";
const NO_CALL: &str = "Reason: No current call available.";

fn there(program: &str) -> bool {
    let there = in_path(program).is_some();
    if !there {
        println!("skipped: the test needs {program}");
    }
    there
}

#[test]
fn linphone_and_baresip_call_each_other_and_hold_and_hang_up_after_the_active_node_is_lost() {
    if !there("linphone-daemon") || !there("baresip") {
        return;
    }
    let Some((mut guard, logs)) = lab("") else { return };
    let lab = &mut guard.lab;
    let logs = logs.path();
    let mut lin = Linphone::start(lab, logs, "lin", 5090).expect("linphone");
    let mut bob = Baresip::start(lab, logs, "bob", 5080).expect("baresip");
    lin.wait_for("register-status 1", "State: LinphoneRegistrationOk", PATIENCE).expect("registered");
    bob.wait_registered(PATIENCE).expect("registered");

    lin.command(&format!("call sip:bob@{}", net::VIP4)).expect("told");
    lin.wait_for("call-status", RUNNING, PATIENCE).expect("answered");
    bob.wait_for("CALL_ESTABLISHED", 1, PATIENCE).expect("established");
    lose_the_active_node(lab);
    for (command, event, count) in [
        ("call-pause", "Event: LinphoneCallPaused\n", 1),
        ("call-resume 1", "Event: LinphoneCallStreamsRunning\n", 2),
    ] {
        let before = bob.traced("\nACK sip:");
        lin.command(command).expect("told");
        bob.wait_trace("\nACK sip:", before + 1, PATIENCE).expect("the re-INVITE and its ACK arrive");
        let answered = || lin.count(event) >= count;
        assert!(wait_until(PATIENCE, answered), "the answer to {command} arrives");
    }
    bob.command("hangup", "").expect("told");
    lin.wait_for("call-status", NO_CALL, PATIENCE).expect("the BYE arrives");

    bob.command("dial", &format!("sip:lin@{DOMAIN}")).expect("told");
    bob.wait_for("CALL_ESTABLISHED", 2, PATIENCE).expect("linphone answers");
    lin.wait_for("call-status", RUNNING, PATIENCE).expect("the ACK arrives");
    let closed = bob.count("CALL_CLOSED");
    lin.command("terminate").expect("told");
    bob.wait_for("CALL_CLOSED", closed + 1, PATIENCE).expect("the BYE arrives");
}

/// Runs sipsak in the namespace of the phones until it has its final answer, or none.
fn sipsak(lab: &LabState, args: &[&str]) -> String {
    let mut command = ns::command_in(lab.client, "sipsak", true).expect("the namespace");
    command.args(["-vv", "-H", net::CLIENT4]).args(args);
    let out = run_bounded(command, "", PATIENCE).expect("sipsak");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{args:?}: {}: {text}", out.status);
    text
}

#[test]
fn sipsak_gets_its_answers_from_proxy_and_phone_while_the_active_node_is_lost() {
    if !there("sipsak") || !there("baresip") {
        return;
    }
    let Some((mut guard, logs)) = lab("") else { return };
    let lab = &mut guard.lab;
    let mut bob = Baresip::start(lab, logs.path(), "bob", 5080).expect("baresip");
    bob.wait_registered(PATIENCE).expect("registered");
    let proxy = format!("sip:{}", net::VIP4);
    let (phone, own) = (format!("sip:bob@{}", net::VIP4), format!("sip:sak@{}", net::VIP4));
    let contact = format!("sip:sak@{}:5096", net::CLIENT4);
    let register = ["-U", "-x", "300", "-C", &contact, "-s", &own];
    // The second time it asks into the gap, with nothing but its retransmissions.
    for round in 1..=2 {
        assert!(sipsak(lab, &["-s", &phone]).contains("baresip"), "the answer is that of the phone");
        assert!(sipsak(lab, &["-s", &proxy]).contains("Relevo"), "the answer is that of the proxy");
        sipsak(lab, &register);
        let bindings = json(lab, &["ul", "show"])["bindings"].clone();
        let mine = bindings.as_array().expect("a list").iter().filter(|b| b["contact"] == contact.as_str());
        assert_eq!(mine.count(), 1, "{bindings}");
        if round == 1 {
            lose_the_active_node(lab);
        }
    }
}

/// Caller and callee, registered at the port that the callee has.
fn call(lab: &LabState, logs: &std::path::Path, callee: &Plan<'_>, caller: &Plan<'_>) -> [Sipp; 2] {
    let name = format!("register-{}", callee.name);
    let register = Plan { name: &name, scenario: Scenario::Register, ..callee.clone() };
    Sipp::start(lab, logs, &register).expect("sipp").finish().expect("registered");
    let mut answers = Sipp::start(lab, logs, callee).expect("sipp");
    answers.wait_bound(callee.port).expect("its port");
    let calls = Sipp::start(lab, logs, caller).expect("sipp");
    [answers, calls]
}

fn established(calls: &[[Sipp; 2]]) {
    for [callee, caller] in calls {
        caller.wait_for("200", PATIENCE, |e| e.iter().any(|e| e.got("200", "INVITE"))).expect("answered");
        callee.wait_for("ACK", PATIENCE, |e| e.iter().any(|e| e.asked("ACK"))).expect("acknowledged");
    }
}

#[test]
fn calls_over_ipv6_are_held_and_ended_by_either_side_after_the_active_node_is_lost() {
    let Some((mut guard, logs)) = lab("") else { return };
    let lab = &mut guard.lab;
    let v6 = |name, scenario, port, user| {
        let mut plan = Plan::new(name, scenario, port, user);
        (plan.v6, plan.hold, plan.limit) = (true, HOLD, PATIENCE);
        plan
    };
    let caller_ends = [
        v6("six-a", Scenario::CalleeListens, 5071, "six-a"),
        v6("caller-a", Scenario::CallerSpeaks, 5072, "six-a"),
    ];
    let callee_ends = [
        v6("six-b", Scenario::CalleeSpeaks, 5073, "six-b"),
        v6("caller-b", Scenario::CallerListens, 5074, "six-b"),
    ];
    let mut calls =
        [caller_ends, callee_ends].map(|[callee, caller]| call(lab, logs.path(), &callee, &caller));
    established(&calls);
    lose_the_active_node(lab);
    for phone in calls.as_flattened_mut() {
        phone.finish().expect("re-INVITE and BYE pass");
    }
}

/// The ends of the phones' connections with the proxy, by their ports.
fn connections(lab: &LabState) -> Vec<u16> {
    let text = std::fs::read_to_string(format!("/proc/{}/net/tcp", lab.client.pid)).expect("a table");
    let to_proxy = format!(":{:04X}", lab.sip_port);
    let port = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (local, remote, state) = (words.get(1)?, words.get(2)?, words.get(3)?);
        let established = remote.ends_with(&to_proxy) && *state == "01";
        established.then(|| u16::from_str_radix(local.rsplit(':').next()?, 16).ok()).flatten()
    };
    text.lines().filter_map(port).collect()
}

#[test]
fn phones_on_tcp_learn_at_the_takeover_that_their_connections_are_gone_and_go_on_by_new_ones() {
    if !there("baresip") {
        return;
    }
    let Some((mut guard, logs)) = lab("") else { return };
    let lab = &mut guard.lab;
    let logs = logs.path();
    let place = Place { holder: lab.client, ip: net::CLIENT4.parse().expect("an address") };
    let mut alice = Baresip::start_at(lab, logs, "alice", 5080, place, Transport::Tcp).expect("baresip");
    let mut bob = Baresip::start(lab, logs, "bob", 5084).expect("baresip");
    for phone in [&mut alice, &mut bob] {
        phone.wait_registered(PATIENCE).expect("registered");
    }
    alice.command("dial", &format!("sip:bob@{DOMAIN}")).expect("told");
    alice.wait_for("CALL_ESTABLISHED", 1, PATIENCE).expect("answered");
    bob.wait_for("CALL_ESTABLISHED", 1, PATIENCE).expect("established");
    let before = connections(lab);
    assert_eq!(before.len(), 1, "the connection of alice");
    lose_the_active_node(lab);
    let gone = || connections(lab).iter().all(|port| !before.contains(port));
    assert!(wait_until(PATIENCE, gone), "the old connection ends though alice has said nothing");
    for command in ["hold", "resume"] {
        let before = bob.traced("\nACK sip:");
        alice.command(command, "").expect("told");
        bob.wait_trace("\nACK sip:", before + 1, PATIENCE).expect("the re-INVITE and its ACK arrive");
    }
    let closed = bob.count("CALL_CLOSED");
    alice.command("hangup", "").expect("told");
    bob.wait_for("CALL_CLOSED", closed + 1, PATIENCE).expect("the BYE arrives");
}
