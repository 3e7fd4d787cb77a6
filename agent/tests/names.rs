//! Names, asked of a real DNS server (dnsmasq): RFC 3263 from the Contact to the socket.

mod common;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::node::{Running, start_with};
use common::ua::Ua;
use common::{free_port, until};

/// A DNS server for the domain `test`.
struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start(addr: SocketAddr, ttl_s: u32, records: &[&str]) -> Self {
        let child = Command::new("dnsmasq")
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--no-resolv",
                "--no-hosts",
                "--bind-interfaces",
            ])
            .args(["--pid-file=", "--user=", "--group=", "--local=/test/", "--log-facility=-", "--no-ping"])
            .arg(format!("--listen-address={}", addr.ip()))
            .arg(format!("--port={}", addr.port()))
            .arg(format!("--local-ttl={ttl_s}"))
            .args(records)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq; apt-get install dnsmasq-base");
        let server = Self { child, addr };
        until("the DNS server answers", || std::net::TcpStream::connect(server.addr).ok());
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dns_addr() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// A node that asks this server, and bob registered at a name.
fn node_with(addr: SocketAddr, contact: &str) -> Running {
    let node = start_with("127.0.0.1", |config| {
        config.dns.servers = vec![addr];
        config.dns.config.patience = Duration::from_millis(1500);
    });
    let mut registrar = Ua::new("bob", node.proxy);
    let via = registrar.via();
    registrar.send(&format!(
        "REGISTER sip:{host} SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: <sip:bob@{host}>;tag=r\r\nTo: <sip:bob@{host}>\r\n\
         Call-ID: reg\r\nCSeq: 1 REGISTER\r\nContact: <{contact}>\r\nContent-Length: 0\r\n\r\n",
        host = node.proxy
    ));
    assert_eq!(registrar.receive().status(), 200);
    node
}

fn message(node: &Running, from: &mut Ua, id: &str) {
    let via = from.via();
    from.send(&format!(
        "MESSAGE sip:bob@{host} SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: <sip:alice@{host}>;tag=c\r\n\
         To: <sip:bob@{host}>\r\nCall-ID: {id}\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n",
        host = node.proxy
    ));
}

#[test]
fn naptr_and_srv_lead_to_the_server_and_a_dead_one_is_followed_by_the_next_rfc3263_4() {
    let addr = dns_addr();
    let (first, second) = (free_port(), free_port());
    let _dns = Server::start(
        addr,
        60,
        &[
            "--naptr-record=phone.test,10,10,S,SIP+D2U,,_sip._udp.phone.test",
            "--naptr-record=phone.test,20,10,S,SIP+D2T,,_sip._tcp.phone.test",
            &format!("--srv-host=_sip._udp.phone.test,alias.test,{first},10,1"),
            &format!("--srv-host=_sip._udp.phone.test,second.test,{second},20,1"),
            "--cname=alias.test,first.test",
            "--host-record=first.test,127.0.0.2",
            "--host-record=second.test,127.0.0.3",
        ],
    );
    let node = node_with(addr, "sip:bob@phone.test");
    let mut alice = Ua::new("alice", node.proxy);
    let bob = Ua::at("bob", node.proxy, &format!("127.0.0.2:{first}"));
    let invite = alice.invite("bob", "c1");
    alice.expect("100");
    let at_bob = bob.expect("INVITE sip:bob@phone.test ");
    bob.respond(&at_bob, "486 Busy Here", "b");
    let busy = alice.expect("486");
    alice.ack_failure(&invite, &busy);
    bob.expect("ACK");
    // Nobody is there any more: the ICMP error says so, and the second one gets the call at once.
    drop(bob);
    let bob = Ua::at("bob", node.proxy, &format!("127.0.0.3:{second}"));
    let begun = Instant::now();
    alice.invite("bob", "c2");
    let at_bob = bob.expect("INVITE");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    bob.respond(&at_bob, "200 OK", "b");
    let ok = alice.expect("200");
    alice.in_dialog("ACK", &ok);
    bob.expect("ACK");
    let counters = &node.status()["counters"];
    assert_eq!(counters["moved"], 1, "{counters}");
    assert!(counters["unreachable"].as_u64() > Some(0), "{counters}");
    assert_eq!(counters["dns"]["failed"], 0, "{counters}");
}

#[test]
fn a_name_with_tcp_is_reached_by_tcp() {
    let addr = dns_addr();
    let listener = std::net::TcpListener::bind("127.0.0.4:0").expect("bind");
    let port = listener.local_addr().expect("bound").port();
    let srv = format!("--srv-host=_sip._tcp.stream.test,host.test,{port},10,1");
    let naptr = "--naptr-record=stream.test,10,10,s,SIP+D2T,,_sip._tcp.stream.test";
    let _dns = Server::start(addr, 60, &[naptr, &srv, "--host-record=host.test,127.0.0.4"]);
    let node = node_with(addr, "sip:bob@stream.test");
    let mut alice = Ua::new("alice", node.proxy);
    alice.invite("bob", "c1");
    let (stream, _) = listener.accept().expect("a connection");
    let invite = Ua::with_stream("bob", node.proxy, stream).expect("INVITE");
    assert!(invite.one("Via").starts_with("SIP/2.0/TCP "), "{}", invite.text);
}

#[test]
fn servers_of_equal_priority_share_the_requests_by_their_weights_rfc2782() {
    let addr = dns_addr();
    let (heavy, light) = (free_port(), free_port());
    let _dns = Server::start(
        addr,
        60,
        &[
            &format!("--srv-host=_sip._udp.shared.test,heavy.test,{heavy},1,90"),
            &format!("--srv-host=_sip._udp.shared.test,light.test,{light},1,30"),
            "--host-record=heavy.test,127.0.0.5",
            "--host-record=light.test,127.0.0.6",
        ],
    );
    let node = node_with(addr, "sip:bob@shared.test");
    let at_heavy = Ua::at("bob", node.proxy, &format!("127.0.0.5:{heavy}"));
    let at_light = Ua::at("bob", node.proxy, &format!("127.0.0.6:{light}"));
    let mut alice = Ua::new("alice", node.proxy);
    const REQUESTS: usize = 200;
    for n in 0..REQUESTS {
        message(&node, &mut alice, &format!("m{n}"));
    }
    // Each is answered, so that none comes twice.
    let serve = |ua: Ua| {
        std::thread::spawn(move || {
            let mut count = 0;
            while let Some(request) = ua.try_receive(Duration::from_millis(1500)) {
                ua.respond(&request, "200 OK", "b");
                count += 1;
            }
            count
        })
    };
    let (a, b) = (serve(at_heavy), serve(at_light));
    let (a, b) = (a.join().expect("counted"), b.join().expect("counted"));
    assert_eq!(a + b, REQUESTS);
    // Three quarters of 200, give or take five standard deviations.
    assert!((120..=180).contains(&a), "{a} and {b}");
}

#[test]
fn an_answer_is_believed_for_its_ttl_and_no_longer() {
    let addr = dns_addr();
    let port = free_port();
    let contact = format!("sip:bob@moving.test:{port}");
    let old = Server::start(addr, 2, &["--host-record=moving.test,127.0.0.7"]);
    let node = node_with(addr, &contact);
    let at_old = Ua::at("bob", node.proxy, &format!("127.0.0.7:{port}"));
    let at_new = Ua::at("bob", node.proxy, &format!("127.0.0.8:{port}"));
    let mut alice = Ua::new("alice", node.proxy);
    let asked = |node: &Running| node.status()["counters"]["dns"]["asked"].as_u64().expect("a counter");
    message(&node, &mut alice, "m1");
    let begun = Instant::now();
    let request = at_old.expect("MESSAGE");
    at_old.respond(&request, "200 OK", "b");
    let questions = asked(&node);
    drop(old);
    let _new = Server::start(addr, 2, &["--host-record=moving.test,127.0.0.8"]);
    message(&node, &mut alice, "m2");
    if begun.elapsed() < Duration::from_millis(1500) {
        let request = at_old.expect("MESSAGE");
        at_old.respond(&request, "200 OK", "b");
        assert_eq!(asked(&node), questions, "within the TTL nobody is asked");
    }
    until("the time to live is over", || (begun.elapsed() > Duration::from_millis(2100)).then_some(()));
    message(&node, &mut alice, "m3");
    let request = at_new.expect("MESSAGE");
    at_new.respond(&request, "200 OK", "b");
    assert!(asked(&node) > questions);
}

#[test]
fn a_name_that_does_not_exist_is_480_and_so_is_every_name_while_no_server_answers() {
    let addr = dns_addr();
    let dns = Server::start(addr, 60, &[]);
    let node = node_with(addr, "sip:bob@nobody.test");
    let mut alice = Ua::new("alice", node.proxy);
    alice.invite("bob", "c1");
    assert_eq!(alice.expect("480").status(), 480);
    drop(dns);
    let node = node_with(addr, "sip:bob@unknown.test");
    let mut alice = Ua::new("alice", node.proxy);
    alice.invite("bob", "c2");
    assert_eq!(alice.expect("480").status(), 480);
    assert!(node.status()["counters"]["dns"]["failed"].as_u64() > Some(0));
}
