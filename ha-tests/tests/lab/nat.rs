//! Phones behind NATs of the kernel (nftables, one network namespace each): real baresip and SIPp, calls in both
//! directions, and the loss of the active node. Needs root and the lab's packages; says so without.
//!
//! What keeps the ways open is looked up in the routers: the port of a phone as seen from outside is the same before and
//! after, and without pings it is gone.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{PATIENCE, lab, lose_the_active_node};
use ha_tests::lab::cluster::in_path;
use ha_tests::lab::config::DOMAIN;
use ha_tests::lab::nat::Nat;
use ha_tests::lab::proc::wait_until;
use ha_tests::lab::state::LabState;
use ha_tests::phones::Place;
use ha_tests::phones::baresip::Baresip;
use ha_tests::phones::sipp::{Plan, Scenario, Sipp};
use proxy_core::state::Transport;

/// After this time without traffic the routers forget a way. Two pings fit into it.
const FORGET: Duration = Duration::from_secs(12);
/// Between two looks into the routers.
const LOOK: Duration = Duration::from_millis(200);
/// Hosts of the routers on the bridge.
const ROUTERS: [u8; 2] = [221, 222];

fn nats(lab: &LabState) -> [Nat; 2] {
    ROUTERS.map(|host| Nat::make(lab, host, FORGET).expect("a NAT"))
}

fn has_baresip() -> bool {
    let there = in_path("baresip").is_some() && in_path("conntrack").is_some();
    if !there {
        println!("skipped: the test needs baresip and conntrack");
    }
    there
}

/// The port of the phone as seen from outside; its way has to be open.
fn outside(nat: &Nat, port: u16) -> u16 {
    let entry = nat.entry_of(port).expect("conntrack").expect("the way is open");
    assert_ne!(entry.outside, port, "another port than the phone knows of");
    entry.outside
}

/// Every way stays as it is, with nothing but pings, for longer than the routers would remember it.
fn stays(ways: &[(&Nat, u16, u16)]) {
    let end = Instant::now() + FORGET + FORGET / 4;
    while Instant::now() < end {
        stays_open(ways);
        std::thread::sleep(LOOK);
    }
}

fn stays_open(ways: &[(&Nat, u16, u16)]) {
    for (nat, port, seen) in ways {
        assert_eq!(outside(nat, *port), *seen, "the way of the phone at {}:{port}", nat.inner);
    }
}

fn dial(from: &mut Baresip, to: &mut Baresip) {
    let before = [from.count("CALL_ESTABLISHED"), to.count("CALL_ESTABLISHED")];
    from.command("dial", &format!("sip:{}@{DOMAIN}", to.user)).expect("dials");
    from.wait_for("CALL_ESTABLISHED", before[0] + 1, PATIENCE).expect("answered");
    to.wait_for("CALL_ESTABLISHED", before[1] + 1, PATIENCE).expect("answers");
}

/// A re-INVITE, seen by the other side up to its ACK.
fn reinvite(who: &mut Baresip, other: &mut Baresip, command: &str) {
    let before = other.traced("\nACK sip:");
    who.command(command, "").expect("told");
    other.wait_trace("\nACK sip:", before + 1, PATIENCE).expect("the re-INVITE and its ACK arrive");
}

fn hang_up(who: &mut Baresip, other: &mut Baresip) {
    let before = other.count("CALL_CLOSED");
    who.command("hangup", "").expect("told");
    other.wait_for("CALL_CLOSED", before + 1, PATIENCE).expect("the BYE arrives");
}

#[test]
fn baresips_behind_two_nats_call_each_other_and_one_outside_and_are_called_after_the_active_node_is_lost() {
    let Some((mut guard, logs)) =
        has_baresip().then(|| lab("\n[nat]\nping = \"options\"\nping_interval_s = 5\n")).flatten()
    else {
        return;
    };
    let lab = &mut guard.lab;
    let logs = logs.path();
    let [left, right] = nats(lab);
    let mut alice =
        Baresip::start_at(lab, logs, "alice", 5060, Place::behind(&left), Transport::Udp).expect("alice");
    let mut bob =
        Baresip::start_at(lab, logs, "bob", 5060, Place::behind(&right), Transport::Udp).expect("bob");
    let mut carol = Baresip::start(lab, logs, "carol", 5080).expect("carol");
    for phone in [&mut alice, &mut bob, &mut carol] {
        phone.wait_registered(PATIENCE).expect("registered");
    }
    let ways = [(&left, 5060, outside(&left, 5060)), (&right, 5060, outside(&right, 5060))];

    dial(&mut alice, &mut bob);
    lose_the_active_node(lab);
    stays(&ways);
    reinvite(&mut alice, &mut bob, "hold");
    reinvite(&mut bob, &mut alice, "hold");
    hang_up(&mut bob, &mut alice);

    dial(&mut carol, &mut alice);
    reinvite(&mut carol, &mut alice, "hold");
    reinvite(&mut alice, &mut carol, "hold");
    hang_up(&mut alice, &mut carol);
    dial(&mut bob, &mut carol);
    reinvite(&mut carol, &mut bob, "hold");
    hang_up(&mut carol, &mut bob);
    stays_open(&ways);
}

/// A SIPp behind a NAT (or outside), registered at the port that it will use.
fn registered(lab: &LabState, logs: &Path, user: &str, port: u16, nat: Option<&Nat>) {
    let name = format!("register-{user}");
    let mut plan = Plan::new(&name, Scenario::Register, port, user);
    (plan.limit, plan.place) = (PATIENCE, nat.map(Place::behind));
    Sipp::start(lab, logs, &plan).expect("sipp").finish().expect("registered");
}

#[test]
fn sipps_behind_nats_find_each_other_in_their_dialogs_after_a_silence_with_nothing_but_pings() {
    let Some((mut guard, logs)) = has_baresip().then(|| lab("\n[nat]\nping_interval_s = 5\n")).flatten()
    else {
        return;
    };
    let lab = &mut guard.lab;
    let logs = logs.path();
    let [left, right] = nats(lab);
    // Who calls whom, and which side has something to say after the silence.
    let calls = [
        ("in", None, Some(&left), 5071, Scenario::CallerSpeaks, Scenario::CalleeListens),
        ("both", Some(&right), Some(&left), 5072, Scenario::CallerSpeaks, Scenario::CalleeListens),
        ("back", Some(&right), Some(&left), 5073, Scenario::CallerListens, Scenario::CalleeSpeaks),
    ];
    let mut phones = Vec::new();
    for (name, from, to, port, caller, callee) in calls {
        let (caller_name, callee_name) = (format!("{name}-caller"), format!("{name}-callee"));
        registered(lab, logs, &callee_name, port, to);
        registered(lab, logs, &caller_name, port + 10, from);
        let plan = |name, scenario, port, user, nat: Option<&Nat>| {
            let mut plan = Plan::new(name, scenario, port, user);
            (plan.hold, plan.limit) = (FORGET + FORGET / 4, PATIENCE);
            plan.place = nat.map(Place::behind);
            plan
        };
        let mut answers =
            Sipp::start(lab, logs, &plan(&callee_name, callee, port, &callee_name, to)).expect("sipp");
        answers.wait_bound(port).expect("its port");
        let calls = Sipp::start(lab, logs, &plan(&caller_name, caller, port + 10, &callee_name, from));
        phones.push((calls.expect("sipp"), answers));
    }
    for (caller, callee) in &phones {
        caller.wait_for("200", PATIENCE, |e| e.iter().any(|e| e.got("200", "INVITE"))).expect("answered");
        callee.wait_for("ACK", PATIENCE, |e| e.iter().any(|e| e.asked("ACK"))).expect("acknowledged");
    }
    let ways = [5071, 5072, 5073].map(|port| (&left, port, outside(&left, port)));
    lose_the_active_node(lab);
    for (caller, callee) in &mut phones {
        caller.finish().expect("re-INVITE and BYE pass");
        callee.finish().expect("re-INVITE and BYE pass");
    }
    stays_open(&ways);
}

#[test]
fn without_pings_the_way_through_the_nat_closes_and_the_phone_cannot_be_called() {
    let Some((guard, logs)) = has_baresip().then(|| lab("\n[nat]\nping = \"off\"\n")).flatten() else {
        return;
    };
    let (lab, logs) = (&guard.lab, logs.path());
    let nat = Nat::make(lab, ROUTERS[0], FORGET).expect("a NAT");
    let mut alice =
        Baresip::start_at(lab, logs, "alice", 5060, Place::behind(&nat), Transport::Udp).expect("alice");
    alice.wait_registered(PATIENCE).expect("registered");
    outside(&nat, 5060);
    let end = Instant::now() + PATIENCE;
    while nat.entry_of(5060).expect("conntrack").is_some() {
        assert!(Instant::now() < end, "the router forgets the way");
        std::thread::sleep(LOOK);
    }
    let before = nat.dropped().expect("a counter");
    let nobody =
        Sipp::start(lab, logs, &Plan::new("nobody", Scenario::CallerWaits, 5082, "alice")).expect("sipp");
    // The INVITE and a retransmission.
    let dropped = || nat.dropped().expect("a counter") >= before + 2;
    assert!(wait_until(PATIENCE, dropped), "the router drops what comes for the phone");
    assert_eq!(alice.traced("\nINVITE "), 0, "nothing reached the phone");
    drop(nobody);
    // As soon as it says something itself, it can be called.
    drop(alice);
    let mut alice =
        Baresip::start_at(lab, logs, "alice", 5060, Place::behind(&nat), Transport::Udp).expect("alice");
    alice.wait_registered(PATIENCE).expect("registered again");
    let mut plan = Plan::new("again", Scenario::CallerWaits, 5083, "alice");
    plan.limit = PATIENCE;
    Sipp::start(lab, logs, &plan).expect("sipp").finish().expect("answered");
}
