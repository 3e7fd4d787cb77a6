//! Calls by trunks in the lab, out and in, over the loss of the active node: who reads which names, and what becomes of a
//! call whose first server says nothing. Needs root and the lab's packages; says so without.

use std::time::{Duration, Instant};

use crate::common::{PATIENCE, active, all_agree, lab, lose_and_restart, lose_the_active_node, say, until};
use crate::phone::{Phone, status};
use ha_tests::lab::net;
use ha_tests::lab::state::LabState;
use ha_tests::phones::sipp::{Plan, Scenario, Sipp};
use ha_tests::phones::tiny::header;

const NUMBER: &str = "sip:004930123456@lab.test";
const AT_ALICE: [&str; 2] = ["<sip:alice@lab.test>", "<sip:004930123456@lab.test>"];
const AT_GATE: [&str; 2] = ["<sip:us@carrier.test>", "<sip:+4930123456@carrier.test>"];

#[track_caller]
fn reads(message: &str, [from, to]: [&str; 2]) {
    let name =
        |h| header(message, h).expect("the header").split(";tag=").next().unwrap_or_default().to_owned();
    assert_eq!([name("From"), name("To")], [from, to], "{message}");
}

fn turned([from, to]: [&'static str; 2]) -> [&'static str; 2] {
    [to, from]
}

/// A trunk without a password at this port.
fn trunk(lab: &LabState, name: &str, port: u16, more: &[&str]) {
    let proxy = format!("sip:{}:{port}", net::CLIENT4);
    let first =
        ["trunk", "add", name, "us@carrier.test", "--proxy", &proxy, "--expires", "0", "--no-password"];
    say(lab, &[&first[..], more].concat());
}

fn answer_of(phone: &mut Phone, call: &str, code: u16) -> String {
    phone.wait("its answer", |m| status(m) == code && header(m, "Call-ID") == Some(call))
}

/// Alice calls out, and the gateway answers. What each of them has got.
fn out(alice: &mut Phone, gate: &mut Phone, call: &str) -> (String, String) {
    alice.send(&alice.first("INVITE", NUMBER, call, "", ""));
    let invite = gate.asked("INVITE");
    reads(&invite, AT_GATE);
    assert_eq!(header(&invite, "P-Asserted-Identity"), Some("<sip:alice@lab.test>"));
    gate.answer(&invite, 200, "");
    let ok = answer_of(alice, call, 200);
    reads(&ok, AT_ALICE);
    alice.send(&alice.within("ACK", &ok, 1, ""));
    reads(&gate.asked("ACK"), AT_GATE);
    (invite, ok)
}

#[test]
fn each_side_of_a_call_out_reads_the_names_it_knows_when_the_active_node_is_lost() {
    let Some((mut guard, _logs)) = lab("\n[trunk]\npstn = \"gate\"\n") else { return };
    let lab = &mut guard.lab;
    trunk(lab, "gate", 5072, &["--from", "account", "--to", "number"]);
    say(lab, &["trunk", "set", "gate", "--pai", "caller", "--plus", "plus"]);
    let (mut alice, mut gate) = (Phone::open(lab, "alice", 5071), Phone::open(lab, "gate", 5072));

    let (_, ok) = out(&mut alice, &mut gate, "c1");
    lose_and_restart(lab);
    let bye = alice.within("BYE", &ok, 2, "");
    alice.send(&bye);
    let came = gate.asked("BYE");
    reads(&came, AT_GATE);
    gate.answer(&came, 200, "");
    reads(&alice.answer_to(&bye), AT_ALICE);

    until("all nodes are the same", || all_agree(lab));
    let (invite, _) = out(&mut alice, &mut gate, "c2");
    lose_the_active_node(lab);
    // A datagram to nobody would be lost: the gateway speaks when somebody listens again.
    active(lab);
    let bye = gate.within_as_callee("BYE", &invite, 9, "");
    gate.send(&bye);
    let came = alice.asked("BYE");
    reads(&came, turned(AT_ALICE));
    alice.answer(&came, 200, "");
    reads(&gate.answer_to(&bye), turned(AT_GATE));
}

#[test]
fn a_call_in_by_contact_user_or_by_source_goes_on_when_the_active_node_is_lost_ringing_and_answered() {
    let Some((mut guard, _logs)) = lab("\n[trunk]\nby_name = [\"named\"]\n") else { return };
    let lab = &mut guard.lab;
    trunk(lab, "named", 5072, &["--contact-user", "4711", "--local", "bob@lab.test"]);
    let (mut bob, mut gate) = (Phone::open(lab, "bob", 5071), Phone::open(lab, "gate", 5072));
    bob.register(1, 3600);
    for (call, user) in [("by-user", "4711"), ("by-source", "bob")] {
        if call == "by-source" {
            trunk(
                lab,
                "sourced",
                5072,
                &["--source", net::CLIENT4.to_string().as_str(), "--local", "x@lab.test"],
            );
        }
        let uri = format!("sip:{user}@{}:{}", net::VIP4, lab.sip_port);
        let invite = gate.first("INVITE", &uri, call, "", "");
        gate.send(&invite);
        let came = bob.asked("INVITE");
        assert!(came.starts_with(&format!("INVITE {} ", bob.contact())), "{came}");
        bob.answer(&came, 180, "");
        answer_of(&mut gate, call, 180);
        lose_and_restart(lab);
        bob.answer(&came, 200, "");
        let ok = answer_of(&mut gate, call, 200);
        gate.send(&gate.within("ACK", &ok, 1, ""));
        bob.asked("ACK");
        until("all nodes are the same", || all_agree(lab));
        lose_and_restart(lab);
        let bye = bob.within_as_callee("BYE", &came, 9, "");
        bob.send(&bye);
        let end = gate.asked("BYE");
        gate.answer(&end, 200, "");
        assert_eq!(status(&bob.answer_to(&bye)), 200);
        until("all nodes are the same", || all_agree(lab));
    }
}

#[test]
fn a_server_that_says_nothing_is_followed_after_fr_timer_also_when_the_active_node_is_lost() {
    let extra = "\n[dispatcher]\ndefault_set = 1\nalgorithm = \"priority\"\nprobe_interval_s = 0\n\
                 patience_ms = 0\n[failover]\nfr_timer_ms = 4000\n";
    let Some((mut guard, logs)) = lab(extra) else { return };
    let lab = &mut guard.lab;
    let logs = logs.path();
    let mut silent = Phone::open(lab, "silent", 5091);
    let mut plan = Plan::new("pbx", Scenario::Pbx, 5092, "pbx");
    (plan.answer, plan.calls, plan.limit) = (Duration::from_millis(300), 100, Duration::from_secs(120));
    let mut pbx = Sipp::start(lab, logs, &plan).expect("sipp");
    pbx.wait_bound(5092).expect("its port");
    let [first, second] = [5091, 5092].map(|port| format!("sip:{}:{port}", net::CLIENT4));
    say(lab, &["dispatcher", "add", "1", &first, "--priority", "9"]);
    say(lab, &["dispatcher", "add", "1", &second]);
    for (name, port, lost) in [("one", 5061, false), ("two", 5062, true)] {
        let since = Instant::now();
        let mut caller =
            Sipp::start(lab, logs, &Plan::new(name, Scenario::CallerWaits, port, "100")).expect("sipp");
        silent.asked("INVITE");
        if lost {
            lose_the_active_node(lab);
        }
        let answered = |e: &[ha_tests::phones::sipp::Event]| e.iter().any(|e| e.got("200", "INVITE"));
        caller.wait_for("200", PATIENCE, answered).expect("the second answers");
        let after = since.elapsed();
        assert!((4.0..20.0).contains(&after.as_secs_f64()), "after {after:?}, and not after timer B");
        caller.finish().expect("the call ends");
    }
}
