//! Authentication in the lab: real SIPp and baresip prove who they are while the active node is lost. Needs root and the
//! lab's packages; says so without.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use ha_tests::lab::cluster::{self, DownGuard, in_path};
use ha_tests::lab::config::Options;
use ha_tests::lab::fault::{Fault, inflict};
use ha_tests::lab::proc::spawn;
use ha_tests::lab::state::{LabState, Node};
use ha_tests::lab::{net, ns, status};
use ha_tests::phones::baresip::Baresip;
use serde_json::Value;

/// Bound of anything that is waited for; much longer than it takes.
const PATIENCE: Duration = Duration::from_secs(40);
/// What the lab's baresip has for a password.
const BARESIP_PASSWORD: &str = "none";

/// The program that this test was built beside.
fn relevo() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.parent()?.parent()?.join("relevo");
    if beside.is_file() { Some(beside) } else { in_path("relevo") }
}

/// A lab that asks for passwords, with alice and bob, and a folder for the logs of its phones.
fn lab(phone: &str) -> Option<(DownGuard, tempfile::TempDir)> {
    if !nix::unistd::geteuid().is_root() || in_path(phone).is_none() {
        println!("skipped: the lab needs root and {phone}");
        return None;
    }
    let Some(relevo) = relevo() else {
        println!("skipped: no relevo; build it with cargo build -p agent");
        return None;
    };
    let extra = String::from("\n[auth]\nenabled = true\n");
    let options = Options { relevo: Some(relevo), extra, ephemeral: true, ..Options::default() };
    let guard = DownGuard::new(cluster::up(&options).expect("a lab"));
    let logs = tempfile::tempdir().expect("a folder");
    let file = logs.path().join("password");
    fs::write(&file, format!("{BARESIP_PASSWORD}\n")).expect("written");
    // On a standby: it goes to the leader by itself.
    let lab = &guard.lab;
    let holder = active(lab).id;
    let standby = lab.nodes.iter().find(|n| n.id != holder).expect("there are three");
    for user in ["alice", "bob"] {
        let args = ["subscriber", "add", user, "--password-file", file.to_str().expect("a path")];
        status::admin(lab, standby, &args, PATIENCE).expect("added");
    }
    Some((guard, logs))
}

fn active(lab: &LabState) -> Node {
    let status = status::wait_ready(lab, PATIENCE).expect("one active node");
    lab.nodes.iter().find(|n| n.id == status.node).expect("it is of this lab").clone()
}

fn contacts(lab: &LabState) -> usize {
    let text = status::admin(lab, &active(lab), &["ul", "show", "--json"], PATIENCE).expect("it answers");
    let v: Value = serde_json::from_str(&text).expect("JSON");
    v["bindings"].as_array().map_or(0, Vec::len)
}

/// Waits until `what` is true. The condition reads a file or asks a node, which takes longer than any pause between.
fn until(text: &str, mut what: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !what() {
        assert!(Instant::now() < end, "{text} did not come within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

fn lose_the_active_node(lab: &mut LabState) {
    let node = active(lab);
    let index = lab.nodes.iter().position(|n| n.id == node.id).expect("it is of this lab");
    inflict(lab, index, Fault::KillNode).expect("power off");
}

/// One request of alice's: challenged, a pause in which the node that challenged is lost, then with credentials.
fn scenario(method: &str, uri: &str, challenge: u16, end: u16, acknowledge: bool) -> String {
    let request = |cseq: u32, extra: &str| {
        format!(
            "<send retrans=\"500\"><![CDATA[\n{method} {uri} SIP/2.0\nVia: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]\n\
             From: <sip:alice@lab.test>;tag=[call_number]\nTo: <{to}>\nCall-ID: [call_id]\nCSeq: {cseq} {method}\n\
             Contact: <sip:alice@[local_ip]:[local_port]>\nMax-Forwards: 70\n{extra}Content-Length: 0\n\n]]></send>\n",
            to = if method == "REGISTER" { "sip:alice@lab.test" } else { uri },
        )
    };
    let ack = |cseq: u32| {
        if !acknowledge {
            return String::new();
        }
        format!(
            "<send><![CDATA[\nACK {uri} SIP/2.0\n[last_Via:]\nFrom: <sip:alice@lab.test>;tag=[call_number]\n\
             [last_To:]\nCall-ID: [call_id]\nCSeq: {cseq} ACK\nMax-Forwards: 70\nContent-Length: 0\n\n]]></send>\n"
        )
    };
    let credentials = format!("[authentication username=alice password={BARESIP_PASSWORD}]\n");
    format!(
        "<?xml version=\"1.0\" encoding=\"ISO-8859-1\" ?>\n<scenario name=\"{method}\">\n{}\
         <recv response=\"{challenge}\" auth=\"true\"/>\n{}<pause milliseconds=\"5000\"/>\n{}\
         <recv response=\"{end}\"/>\n{}</scenario>\n",
        request(1, ""),
        ack(1),
        request(2, &credentials),
        ack(2),
    )
}

struct Sipp(Child);

impl Sipp {
    fn start(lab: &LabState, logs: &Path, name: &str, text: &str, port: u16) -> Self {
        fs::write(logs.join(format!("{name}.xml")), text).expect("written");
        let program = in_path("sipp").expect("checked before");
        let mut command = ns::command_in(lab.client, program, true).expect("the namespace");
        command.current_dir(logs).args(["-sf", &format!("{name}.xml"), "-m", "1", "-nostdin", "-trace_msg"]);
        command.args(["-message_file", &format!("{name}.msg"), "-i", net::CLIENT4, "-p", &port.to_string()]);
        command.arg(format!("{}:5060", net::VIP4));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(spawn(command).expect("sipp starts"))
    }

    fn finish(&mut self, logs: &Path, name: &str) {
        let mut status = None;
        until("the end of sipp", || {
            status = self.0.try_wait().expect("a child");
            status.is_some()
        });
        let trace = fs::read_to_string(logs.join(format!("{name}.msg"))).unwrap_or_default();
        assert!(status.is_some_and(|s| s.success()), "{trace}");
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn said(logs: &Path, name: &str, text: &str) -> bool {
    fs::read_to_string(logs.join(format!("{name}.msg"))).is_ok_and(|t| t.contains(text))
}

#[test]
fn a_challenge_of_a_node_that_is_lost_is_answered_to_the_next_by_sipp() {
    let Some((mut guard, logs)) = lab("sipp") else { return };
    let lab = &mut guard.lab;
    let logs = logs.path();
    let register = scenario("REGISTER", "sip:lab.test", 401, 200, false);
    let call = scenario("INVITE", "sip:nobody@lab.test", 407, 404, true);
    let mut phones =
        [Sipp::start(lab, logs, "register", &register, 5071), Sipp::start(lab, logs, "call", &call, 5072)];
    until("both are challenged", || said(logs, "register", " 401 ") && said(logs, "call", " 407 "));
    assert_eq!(contacts(lab), 0);
    let first = active(lab).id;
    lose_the_active_node(lab);
    assert_ne!(active(lab).id, first);
    assert!(!said(logs, "register", "Authorization: Digest"), "the answer goes to the next node");
    for (phone, name) in phones.iter_mut().zip(["register", "call"]) {
        phone.finish(logs, name);
    }
    assert_eq!(contacts(lab), 1);
}

#[test]
fn baresip_registers_and_calls_with_its_password_before_and_after_the_active_node_is_lost() {
    let Some((mut guard, logs)) = lab("baresip") else { return };
    let lab = &mut guard.lab;
    let logs = logs.path();
    let mut bob = Baresip::start(lab, logs, "bob", 5081).expect("bob");
    let mut alice = Baresip::start(lab, logs, "alice", 5091).expect("alice");
    for phone in [&mut bob, &mut alice] {
        phone.wait_registered(PATIENCE).expect("registered with a password");
    }
    assert!(alice.traced("401 Unauthorized") > 0 && alice.traced("Authorization: Digest") > 0);
    assert_eq!(contacts(lab), 2);
    for round in 1..=2 {
        alice.command("dial", "sip:bob@lab.test").expect("dials");
        alice.wait_for("CALL_ESTABLISHED", round, PATIENCE).expect("bob answers");
        assert_eq!(alice.traced("407 Proxy Authentication Required"), round, "challenged, and then known");
        if round == 1 {
            lose_the_active_node(lab);
            active(lab);
        }
        alice.command("hangup", "").expect("hangs up");
        bob.wait_for("CALL_CLOSED", round, PATIENCE).expect("the call has an end");
    }
    assert_eq!(bob.traced("Proxy-Authorization"), 0, "credentials stay at the proxy");
}
