//! A whole node but for Raft and disk: real sockets, real threads, a store in memory.

mod common;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use agent::admin::{Reply, Request, client, server};
use agent::config::Config;
use agent::net::sip;
use agent::run::driver::End;
use agent::run::service::{self, Opened, Service};
use agent::run::setup;
use common::memory::{Memory, clock};
use common::ua::Ua;
use common::{free_port, until};
use serde_json::Value;

struct Running {
    _dir: tempfile::TempDir,
    service: Service,
    admin: PathBuf,
    proxy: SocketAddr,
    cluster: Memory,
}

fn start(ip: &str, change: impl FnOnce(&mut Config)) -> Running {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut config = Config::embedded(&dir.path().join("data"));
    let ip: IpAddr = ip.parse().expect("address");
    config.sip.listen = vec![ip];
    config.sip.port = free_port();
    config.sip.engines = 2;
    change(&mut config);
    let addresses = setup::listen_addresses(&config).expect("addresses");
    let opened = Opened {
        admin: server::bind(&config.admin).expect("admin"),
        listening: Some(sip::listen(&addresses, false).expect("listen")),
        address: None,
        ears: None,
        pet: None,
        deaths: 0,
        marks: None,
        suspects: agent::guard::suspects::Suspects::default(),
        on_control_thread: None,
    };
    let engine = setup::engine_config(&config, &[1; 32]);
    let cluster = Memory::new();
    let service = service::start(&config, &engine, cluster.clone(), opened, clock).expect("start");
    let running = Running { _dir: dir, service, admin: config.admin, proxy: addresses[0], cluster };
    until("the node is active", || (running.status()["active"] == true).then_some(()));
    running
}

impl Running {
    fn ask(&self, request: &Request) -> Result<Value, (String, String)> {
        match client::ask(&self.admin, request).expect("an answer") {
            Reply::Ok { ok } => Ok(ok),
            Reply::Error { error, cure } => Err((error, cure)),
        }
    }

    fn status(&self) -> Value {
        self.ask(&Request::Status {}).expect("status")
    }
}

fn answered_call(ip: &str) {
    let node = start(ip, |_| {});
    let (mut alice, mut bob) = (Ua::new("alice", node.proxy), Ua::new("bob", node.proxy));
    assert_eq!(alice.register(300).status(), 200);
    assert_eq!(bob.register(300).status(), 200);
    assert_eq!(node.status()["counts"]["bindings"], 2);

    alice.invite("bob", "call-1");
    assert_eq!(alice.receive().status(), 100);
    let invite = bob.expect("INVITE");
    bob.respond(&invite, "180 Ringing", "b");
    assert_eq!(alice.expect("180").status(), 180);
    bob.respond(&invite, "200 OK", "b");
    let ok = alice.expect("200");
    alice.in_dialog("ACK", &ok);
    bob.expect("ACK");
    let calls = node.ask(&Request::DlgList {}).expect("calls");
    assert_eq!(calls["dialogs"][0]["call_id"], "call-1");

    alice.in_dialog("BYE", &ok);
    let bye = bob.expect("BYE");
    bob.respond(&bye, "200 OK", "b");
    alice.expect("200");
    until("the dialog is forgotten", || (node.status()["counts"]["dialogs"] == 0).then_some(()));
}

#[test]
fn a_call_is_set_up_and_ended_over_ipv4() {
    answered_call("127.0.0.1");
}

#[test]
fn a_call_is_set_up_and_ended_over_ipv6() {
    answered_call("::1");
}

#[test]
fn a_cancelled_call_stops_ringing_and_the_caller_gets_487() {
    let node = start("127.0.0.1", |_| {});
    let (mut alice, mut bob) = (Ua::new("alice", node.proxy), Ua::new("bob", node.proxy));
    assert_eq!(bob.register(300).status(), 200);
    let invite = alice.invite("bob", "call-2");
    let ringing = bob.expect("INVITE");
    bob.respond(&ringing, "180 Ringing", "b");
    alice.expect("180");
    alice.cancel(&invite);
    alice.expect("200");
    let cancel = bob.expect("CANCEL");
    bob.respond(&cancel, "200 OK", "b");
    bob.respond(&ringing, "487 Request Terminated", "b");
    let failed = alice.expect("487");
    alice.ack_failure(&invite, &failed);
    bob.expect("ACK");
}

#[test]
fn an_operator_sees_and_removes_contacts() {
    let node = start("127.0.0.1", |_| {});
    let mut bob = Ua::new("bob", node.proxy);
    bob.register(300);
    let all = node.ask(&Request::UlShow { aor: None }).expect("all");
    let aor = all["bindings"][0]["aor"].as_str().expect("aor").to_owned();
    assert_eq!(all["bindings"][0]["contact"], bob.contact().trim_matches(['<', '>']));
    let one = node.ask(&Request::UlShow { aor: Some(aor.clone()) }).expect("one");
    assert_eq!(one["bindings"].as_array().map(Vec::len), Some(1));
    node.ask(&Request::UlRm { aor: aor.clone(), contact: None }).expect("removed");
    assert_eq!(node.status()["counts"]["bindings"], 0);
    let (error, _) = node.ask(&Request::UlRm { aor, contact: None }).expect_err("gone");
    assert!(error.ends_with("has no contacts"), "{error}");
    let (error, cure) = node.ask(&Request::UlShow { aor: Some("not an aor".into()) }).expect_err("nonsense");
    assert!(error.contains("no address of record") && cure.contains("sip:user@domain"), "{error}; {cure}");
}

#[test]
fn an_operator_finds_and_removes_a_user_by_the_own_address_too() {
    let node = start("127.0.0.1", |config| config.sip.domains = vec!["lab.test".into()]);
    let mut bob = Ua::new("bob", node.proxy);
    assert_eq!(bob.register(300).status(), 200);
    for aor in ["bob@127.0.0.1", "sip:bob@lab.test"] {
        let found = node.ask(&Request::UlShow { aor: Some(aor.into()) }).expect("found");
        assert_eq!(found["bindings"][0]["aor"], "sip:bob@lab.test", "{aor}");
    }
    node.ask(&Request::UlRm { aor: "bob@127.0.0.1".into(), contact: None }).expect("removed");
    assert_eq!(node.status()["counts"]["bindings"], 0);
}

#[test]
fn a_single_node_has_nobody_to_hand_over_to() {
    let node = start("127.0.0.1", |_| {});
    let (error, cure) = node.ask(&Request::Switchover { node: None }).expect_err("alone");
    assert!(error.contains("no other appliance") && !cure.is_empty(), "{error}; {cure}");
    let (error, _) = node.ask(&Request::Switchover { node: Some(9) }).expect_err("unknown");
    assert!(error.contains("only an appliance"), "{error}");
    assert_eq!(node.status()["active"], true, "nothing happened");
}

#[test]
fn garbage_is_dropped_and_counted_and_the_node_goes_on() {
    let node = start("127.0.0.1", |_| {});
    let mut bob = Ua::new("bob", node.proxy);
    let mut seed = 7u32;
    for length in (0..400).chain([9000, 60_000, 65_507]) {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                seed.to_be_bytes()[0]
            })
            .collect();
        bob.send_bytes(&bytes);
    }
    bob.send_bytes(b"\r\n\r\n");
    bob.send_bytes(b"INVITE sip:x SIP/2.0\r\nCall-ID: a\r\nContent-Length: 99999999999999999999\r\n\r\n");
    bob.send_bytes(
        format!("INVITE sip:x SIP/2.0\r\n{}\r\n", "Via: SIP/2.0/UDP a\r\n".repeat(3000)).as_bytes(),
    );
    // What was answered (with a 4xx) is not of interest here; that the node still works is.
    let mut carol = Ua::new("carol", node.proxy);
    assert_eq!(carol.register(300).status(), 200);
    // The engine that has them may be another one than carol's.
    until("the garbage is counted", || {
        let counters = node.status()["counters"].clone();
        let more = |name: &str, than: u64| counters[name].as_u64() > Some(than);
        (more("without_call_id", 100) && more("keepalives", 0) && more("dropped_malformed", 100))
            .then_some(())
    });
    bob.register(300);
}

#[test]
fn a_node_that_no_quorum_hears_stops_answering_and_goes_on_when_it_is_heard_again() {
    let node = start("127.0.0.1", |_| {});
    let mut bob = Ua::new("bob", node.proxy);
    assert_eq!(bob.register(300).status(), 200);
    node.cluster.isolate(true);
    until("the node is not active", || (node.status()["active"] == false).then_some(()));
    let dropped = |n: &Running| n.status()["counters"]["dropped_inactive"].as_u64().expect("a number");
    let before = dropped(&node);
    // The lease ends first, the engines hear of it within one round.
    until("requests are dropped", || {
        let via = bob.via();
        bob.send(&format!("OPTIONS sip:x SIP/2.0\r\n{via}Call-ID: lonely\r\nContent-Length: 0\r\n\r\n"));
        (dropped(&node) > before).then_some(())
    });
    node.cluster.isolate(false);
    until("the node is active again", || (node.status()["active"] == true).then_some(()));
    let mut carol = Ua::new("carol", node.proxy);
    assert_eq!(carol.register(300).status(), 200);
    assert_eq!(node.status()["takeovers"], 2);
}

#[test]
fn a_failed_disk_ends_the_service_and_the_node_and_says_why() {
    let node = start("127.0.0.1", |_| {});
    node.cluster.fail("the disk failed: no space");
    assert_eq!(node.service.wait().expect("no panic"), End::Fatal("the disk failed: no space".into()));
    assert!(!node.admin.exists());
}

#[test]
fn a_clean_end_stops_the_engines_and_removes_the_socket() {
    let node = start("127.0.0.1", |_| {});
    let mut bob = Ua::new("bob", node.proxy);
    assert_eq!(bob.register(300).status(), 200);
    node.service.shutdown();
    assert_eq!(node.service.wait().expect("no panic"), End::Clean);
    assert!(!node.admin.exists());
    assert!(std::net::UdpSocket::bind(node.proxy).is_err() || until_free(node.proxy));
}

/// The threads that read the sockets end with the last reference to the SIP side.
fn until_free(addr: SocketAddr) -> bool {
    until("the port is free", || std::net::UdpSocket::bind(addr).ok()).local_addr().is_ok()
}
