//! The interface of the floating IP: its cable, other machines that claim the address, and programs on our own machine
//! that change it. Needs root and the lab's packages; says so without.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::common::{PATIENCE, active, lab, lab_of, until};
use crate::phone::Phone;
use agent::os::announce::Announcer;
use agent::os::conflict::Claims;
use agent::os::vip::Vip;
use ha_tests::lab::config::Options;
use ha_tests::lab::net::{VIP4, mac_of, mac_text, port_down, port_up, service_port_of};
use ha_tests::lab::ns;
use ha_tests::lab::state::{LabState, Node, Role};
use ha_tests::lab::status::admin;
use serde_json::Value;

/// Time that the service is away at most when a cable is pulled, on a busy machine with two cores.
const MOVES_WITHIN: Duration = Duration::from_secs(3);

fn status_of(lab: &LabState, node: &Node) -> Value {
    let text = admin(lab, node, &["status", "--json"], PATIENCE).expect("a status");
    serde_json::from_str(&text).expect("JSON")
}

fn standby(lab: &LabState, holder: &Node) -> Node {
    lab.nodes.iter().find(|n| n.role == Role::Appliance && n.id != holder.id).expect("another").clone()
}

/// What `of` is said to ail from, on `node`.
fn ails(lab: &LabState, node: &Node, of: &Node, what: &str) -> bool {
    let status = status_of(lab, node);
    let list = status["fitness"].as_array().cloned().unwrap_or_default();
    list.iter().any(|f| f["node"] == of.id && f["reasons"].to_string().contains(what))
}

fn inside(node: &Node, program: &str, args: &[&str]) -> String {
    let holder = node.holder.expect("it has power");
    let out = ns::command_in(holder, program, true).expect("a command").args(args).output().expect("it ran");
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn has_address(node: &Node) -> bool {
    inside(node, "ip", &["-o", "addr", "show"]).contains(&format!(" {VIP4}/"))
}

#[test]
fn a_cable_that_is_pulled_out_of_the_service_network_moves_the_service_and_bars_the_way_back_until_it_is_in()
{
    let Some((guard, _logs)) = lab_of(Options { service_wire: true, ..Options::default() }) else { return };
    let lab = &guard.lab;
    let holder = active(lab);
    let other = standby(lab, &holder);
    let begun = Instant::now();
    port_down(lab.switch, &service_port_of(holder.id)).expect("pulled");
    until("the other one serves", || status_of(lab, &other)["active"] == true);
    println!("the service has moved after {:?}", begun.elapsed());
    assert!(begun.elapsed() < MOVES_WITHIN);
    let said = status_of(lab, &holder);
    assert_eq!(said["vip"]["link"], "down");
    until("all know why", || ails(lab, &other, &holder, "link"));
    let refused = admin(lab, &other, &["switchover", &holder.id.to_string()], PATIENCE);
    let refused = refused.expect_err("it has no link").to_string();
    assert!(refused.contains("link (the interface of its floating IP has no link)"), "{refused}");
    port_up(lab.switch, &service_port_of(holder.id)).expect("in again");
    until("it is fit again", || !ails(lab, &other, &holder, "link"));
    assert_eq!(status_of(lab, &other)["active"], true, "the service does not go back by itself");
    admin(lab, &other, &["switchover", &holder.id.to_string()], PATIENCE).expect("it may go back");
}

#[test]
fn without_any_cable_the_service_stays_where_it_is() {
    let Some((guard, _logs)) = lab_of(Options { service_wire: true, ..Options::default() }) else { return };
    let lab = &guard.lab;
    let holder = active(lab);
    let other = standby(lab, &holder);
    port_down(lab.switch, &service_port_of(other.id)).expect("pulled");
    until("the holder knows it", || ails(lab, &holder, &other, "link"));
    port_down(lab.switch, &service_port_of(holder.id)).expect("pulled");
    until("all know it", || ails(lab, &other, &holder, "link"));
    let status = status_of(lab, &holder);
    assert_eq!((&status["active"], &status["vip"]["link"]), (&true.into(), &"down".into()));
}

#[test]
fn what_others_change_on_a_standby_or_on_the_holder_is_put_right_and_said() {
    let Some((guard, _logs)) = lab("") else { return };
    let lab = &guard.lab;
    let mut alice = Phone::open(lab, "alice", 5061);
    let holder = active(lab);
    let other = standby(lab, &holder);
    // Another prefix, as somebody types it who is in a hurry.
    inside(&other, "nft", &["flush", "ruleset"]);
    inside(&other, "ip", &["addr", "add", &format!("{VIP4}/32"), "dev", "eth0"]);
    until("the address is gone", || !has_address(&other));
    until("the gate is there again", || {
        inside(&other, "nft", &["list", "ruleset"]).contains("table arp relevo")
    });
    until("both are said", || {
        let said = status_of(lab, &other)["vip"]["put_right"].to_string();
        said.contains("removed") && said.contains("made anew")
    });
    // A single rule that is gone opens the gate as well.
    inside(&other, "nft", &["flush", "chain", "inet", "relevo", "in"]);
    until("the rule is there again", || {
        inside(&other, "nft", &["list", "chain", "inet", "relevo", "in"]).contains("drop")
    });
    inside(&holder, "ip", &["addr", "del", &format!("{VIP4}/24"), "dev", "eth0"]);
    until("it is put back", || has_address(&holder));
    until("that is said", || status_of(lab, &holder)["vip"]["put_right"].to_string().contains("put back"));
    inside(&holder, "nft", &["flush", "ruleset"]);
    until("the gate of the holder is there again", || {
        inside(&holder, "nft", &["list", "ruleset"]).contains("table inet relevo")
    });
    alice.register(1, 600);
    assert_eq!(active(lab).id, holder.id);
}

#[test]
fn another_machine_that_claims_the_floating_ip_is_answered_at_once_and_named_with_its_mac() {
    let Some((guard, _logs)) = lab("") else { return };
    let lab = &guard.lab;
    let holder = active(lab);
    let ip: IpAddr = VIP4.parse().expect("address");
    let vip = Vip { interface: "eth0".into(), addresses: vec![(ip, 24)] };
    let client = mac_text(&mac_of(ha_tests::lab::net::CLIENT_HOST));
    let heard = ns::inside(lab.client, || {
        let ears = Claims::listen(&vip).expect("ears");
        let liar = Announcer::new("eth0", &[ip]).expect("a voice");
        let begun = Instant::now();
        let mut heard = Vec::new();
        // Claimed until the holder has seen it: a claim may get lost, and a new holder announces itself without one, too.
        let is_seen =
            || status_of(lab, &holder)["vip"]["conflicts"].as_array().is_some_and(|all| !all.is_empty());
        while begun.elapsed() < PATIENCE && (heard.is_empty() || !is_seen()) {
            drop(ears.heard());
            liar.announce();
            heard.clear();
            let claimed = Instant::now();
            while claimed.elapsed() < Duration::from_millis(300) && heard.is_empty() {
                heard = ears.heard();
                std::thread::yield_now();
            }
        }
        heard
    })
    .expect("inside");
    assert_eq!(heard[0].1.to_string(), mac_text(&mac_of(holder.host)), "the holder defends itself");
    let status = status_of(lab, &holder);
    let conflict = &status["vip"]["conflicts"][0];
    assert_eq!((&conflict["mac"], &conflict["ip"]), (&client.clone().into(), &VIP4.into()));
    let log = std::fs::read_to_string(&holder.log).expect("a log");
    assert_eq!(log.matches("says that the floating IP").count(), 1, "one line a minute");
    let shown = admin(lab, &holder, &["status"], PATIENCE).expect("for people");
    assert!(shown.contains(&format!("CONFLICT: {client}")), "{shown}");
    assert_eq!(status_of(lab, &standby(lab, &holder))["vip"]["conflicts"].as_array().map(Vec::len), Some(0));
}
