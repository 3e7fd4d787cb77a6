//! Names in the lab, asked of a real DNS server (dnsmasq): the next server where one is dead, and calls that go on at
//! another node. Needs root and the lab's packages; says so without.

use std::process::{Child, Stdio};
use std::time::Duration;

use crate::common::{PATIENCE, lab, lose_and_restart, lose_the_active_node, until};
use crate::phone::{Phone, status};
use ha_tests::lab::cluster::in_path;
use ha_tests::lab::proc::{spawn, wait_until};
use ha_tests::lab::state::LabState;
use ha_tests::lab::{net, ns};
use ha_tests::phones::tiny::header;

/// Time between two sendings of a request without an answer (RFC 3261 §17.1.2.1: T1).
const AGAIN: Duration = Duration::from_millis(500);

/// A DNS server beside the phones.
struct Server(Child);

impl Server {
    fn start(lab: &LabState, records: &[String]) -> Self {
        let mut command = ns::command_in(lab.client, "dnsmasq", true).expect("the namespace");
        command
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--no-resolv",
                "--no-hosts",
                "--bind-interfaces",
            ])
            .args(["--pid-file=", "--user=", "--group=", "--local=/test/", "--log-facility=-", "--port=53"])
            .arg(format!("--listen-address={}", net::CLIENT4))
            .args(records)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = Self(spawn(command).expect("dnsmasq"));
        let there = || std::net::TcpStream::connect((net::CLIENT4, 53)).is_ok();
        let up = ns::inside(lab.client, || wait_until(PATIENCE, there)).expect("the namespace");
        assert!(up, "the DNS server does not answer");
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_call_to_a_name_goes_on_at_the_next_node_without_asking_again_and_its_dead_server_is_passed_by_rfc3263_4_3()
 {
    if in_path("dnsmasq").is_none() {
        println!("skipped: the test needs dnsmasq");
        return;
    }
    let Some((mut guard, _logs)) = lab(&format!("\n[dns]\nservers = [\"{}\"]\n", net::CLIENT4)) else {
        return;
    };
    let lab = &mut guard.lab;
    let dns = Server::start(
        lab,
        &[
            String::from("--naptr-record=phone.test,10,10,S,SIP+D2U,,_sip._udp.phone.test"),
            // Nobody listens on the first one's port.
            String::from("--srv-host=_sip._udp.phone.test,host.test,5079,10,1"),
            String::from("--srv-host=_sip._udp.phone.test,host.test,5072,20,1"),
            format!("--host-record=host.test,{}", net::CLIENT4),
        ],
    );
    let (mut alice, mut bob) = (Phone::open(lab, "alice", 5071), Phone::open(lab, "bob", 5072));
    let own = bob.contact();
    let headers = "From: <sip:bob@lab.test>;tag=r\r\nTo: <sip:bob@lab.test>\r\nExpires: 3600\r\n";
    let register = bob.request("REGISTER", "sip:lab.test", "reg-name", 1, headers, "");
    let ok = bob.ask(&register.replace(&format!("<{own}>"), "<sip:bob@phone.test>"));
    assert_eq!(status(&ok), 200, "{ok}");

    // A node that has never asked anything resolves the name anew.
    lose_and_restart(lab);
    let invite = alice.first("INVITE", "sip:bob@lab.test", "n1", "", "");
    alice.send(&invite);
    let came = bob.asked("INVITE");
    assert!(came.starts_with("INVITE sip:bob@phone.test "), "{came}");
    bob.answer(&came, 180, "");
    alice.wait("180", |m| status(m) == 180);
    // It rings; the node is lost, and nobody knows the name any more.
    drop(dns);
    lose_and_restart(lab);
    bob.answer(&came, 200, "");
    let ok = alice.answer_to(&invite);
    assert_eq!(status(&ok), 200, "{ok}");
    alice.send(&alice.within("ACK", &ok, 1, ""));
    let ack = bob.asked("ACK");
    assert_eq!(header(&ack, "Call-ID"), Some("n1"));
    lose_the_active_node(lab);
    let bye = bob.within_as_callee("BYE", &came, 1, "");
    let mut end = None;
    until("the BYE reaches her", || {
        bob.send(&bye);
        end = alice.within_time(AGAIN, |m| m.starts_with("BYE "));
        end.is_some()
    });
    let end = end.expect("it has come");
    alice.answer(&end, 200, "");
    assert_eq!(status(&bob.answer_to(&bye)), 200);
}
