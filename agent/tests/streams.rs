//! SIP over TCP with real sockets: framing, bounds, bridging to UDP, connections that come and go.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use agent::net::stream::Limits;
use common::node::{start, start_with};
use common::ua::Ua;
use common::until;

fn options(call_id: &str, extra: &str, body: &str) -> String {
    format!(
        "OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5;branch=z9hG4bK{call_id};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: {call_id}\r\n\
         CSeq: 1 OPTIONS\r\n{extra}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Everything until the other side closes, or nothing more comes for a while.
fn read_all(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset after the last word is an end, too.
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

fn call(alice: &mut Ua, bob: &mut Ua, call_id: &str) {
    let user = bob.user.clone();
    alice.invite(&user, call_id);
    assert_eq!(alice.receive().status(), 100);
    let invite = bob.expect("INVITE");
    bob.respond(&invite, "180 Ringing", "b");
    assert_eq!(alice.expect("180").status(), 180);
    bob.respond(&invite, "200 OK", "b");
    let ok = alice.expect("200");
    alice.in_dialog("ACK", &ok);
    bob.expect("ACK");
    alice.in_dialog("BYE", &ok);
    let bye = bob.expect("BYE");
    bob.respond(&bye, "200 OK", "b");
    alice.expect("200");
}

#[test]
fn a_call_over_tcp_over_ipv4_and_ipv6_and_one_from_udp_to_tcp_and_back() {
    for ip in ["127.0.0.1", "::1"] {
        let node = start(ip);
        let (mut alice, mut bob) = (Ua::tcp("alice", node.proxy), Ua::tcp("bob", node.proxy));
        assert_eq!(alice.register(300).status(), 200);
        assert_eq!(bob.register(300).status(), 200);
        call(&mut alice, &mut bob, "tcp-tcp");
        let mut carol = Ua::new("carol", node.proxy);
        assert_eq!(carol.register(300).status(), 200);
        call(&mut carol, &mut bob, "udp-tcp");
        call(&mut bob, &mut carol, "tcp-udp");
        assert_eq!(node.tcp("made"), 0, "the connections of the phones were used");
        assert_eq!(node.tcp("connections"), 2);
    }
}

#[test]
fn a_large_request_arrives_wherever_it_is_cut_and_a_large_invite_makes_a_call() {
    let node = start_with("127.0.0.1", |config| config.routing.engine.screen.max_bytes = 60_000);
    let (mut alice, mut bob) = (Ua::tcp("alice", node.proxy), Ua::tcp("bob", node.proxy));
    assert_eq!(bob.register(300).status(), 200);
    let body = "x".repeat(40_000);
    let text = |via: &str, method: &str, id: &str| {
        format!(
            "{method} sip:bob@{host} SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: <sip:alice@{host}>;tag=c\r\n\
             To: <sip:bob@{host}>\r\nCall-ID: {id}\r\nCSeq: 1 {method}\r\nContact: <sip:alice@h>\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len(),
            host = node.proxy,
        )
    };
    let whole = text(&alice.via(), "MESSAGE", "large-1000");
    let head = whole.find("\r\n\r\n").expect("head") + 4;
    // Each byte of the head, then here and there in the body.
    for cut in (1..=head + 2).chain([head + 1499, 20_000, 39_999, whole.len() - 1]) {
        let id = format!("large-{cut:04}");
        let whole = text(&alice.via(), "MESSAGE", &id);
        alice.send(&whole[..cut]);
        // So that the two parts are read apart.
        std::thread::sleep(Duration::from_millis(1));
        alice.send(&whole[cut..]);
        let message = bob.receive();
        assert!(message.text.ends_with(&body) && message.one("Call-ID") == id, "cut at {cut}");
        bob.respond(&message, "200 OK", "b");
        assert_eq!(alice.receive().status(), 200);
    }
    let via = alice.via();
    alice.send(&text(&via, "INVITE", "large-call"));
    alice.expect("100");
    let invite = bob.expect("INVITE");
    assert!(invite.text.ends_with(&body));
    bob.respond(&invite, "200 OK", "b");
    alice.expect("200");
}

#[test]
fn two_messages_and_keepalives_in_one_segment_are_told_apart_rfc5626_4_4_1() {
    let node = start("127.0.0.1");
    let mut stream = node.connect();
    let both = format!("\r\n\r\n{}{}\r\n\r\n", options("s1", "", ""), options("s2", "", "body"));
    stream.write_all(both.as_bytes()).expect("sent");
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while seen.matches("SIP/2.0 200").count() < 2 || node.tcp("pings") < 2 {
        let n = stream.read(&mut buffer).expect("an answer");
        assert!(n > 0, "closed after {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    assert!(seen.contains("Call-ID: s1") && seen.contains("Call-ID: s2"));
    assert_eq!(node.tcp("messages"), 2);
}

#[test]
fn garbage_before_a_message_is_skipped_and_garbage_without_end_closes() {
    let node = start("127.0.0.1");
    let mut stream = node.connect();
    stream.write_all(format!("HELO there\r\n{}", options("g1", "", "")).as_bytes()).expect("sent");
    let mut buffer = [0; 4096];
    let n = stream.read(&mut buffer).expect("an answer");
    assert!(buffer[..n].starts_with(b"SIP/2.0 200 "));
    let mut stream = node.connect();
    // It may be closed before all is written.
    let _ = stream.write_all(&b"no SIP at all\r\n".repeat(1000));
    assert_eq!(read_all(&mut stream), "");
    until("it is counted", || (node.tcp("garbage") == 1).then_some(()));
}

#[test]
fn a_message_whose_end_cannot_be_told_is_answered_with_400_and_the_connection_closed_rfc3261_18_3() {
    let node = start("127.0.0.1");
    for (wrong, status) in [
        (options("b1", "", "").replace("Content-Length: 0\r\n", ""), "400 Missing Content-Length"),
        (options("b2", "Content-Length: 7\r\n", ""), "400 Different Content-Lengths"),
        (options("b3", "", "").replace("Length: 0", "Length: -1"), "400 Bad Content-Length"),
        (options("b4", "", "").replace("Length: 0", "Length: 9999999"), "513 Message Too Large"),
    ] {
        let mut stream = node.connect();
        stream.write_all(wrong.as_bytes()).expect("sent");
        let answer = read_all(&mut stream);
        assert!(answer.starts_with(&format!("SIP/2.0 {status}\r\n")), "{answer}");
        assert!(answer.contains(";received=127.0.0.1;rport="), "{answer}");
    }
}

#[test]
fn too_many_connections_of_one_source_are_closed_and_the_others_live() {
    let node = start_with("127.0.0.1", |config| {
        config.sip.streams = Limits { per_source: 3, ..Limits::default() };
    });
    let mut alice = Ua::tcp("alice", node.proxy);
    assert_eq!(alice.register(300).status(), 200);
    let _others = [node.connect(), node.connect()];
    until("they are accepted", || (node.tcp("accepted") == 3).then_some(()));
    let mut fourth = node.connect();
    assert_eq!(read_all(&mut fourth), "");
    until("it is counted", || (node.tcp("refused") == 1).then_some(()));
    assert_eq!(alice.register(300).status(), 200);
}

#[test]
fn a_silent_connection_is_closed_after_the_idle_time() {
    let node = start_with("127.0.0.1", |config| {
        config.sip.streams = Limits { idle: Duration::from_millis(300), ..Limits::default() };
    });
    let mut alice = Ua::tcp("alice", node.proxy);
    assert_eq!(alice.register(300).status(), 200);
    alice.is_closed();
    until("it is counted", || (node.tcp("timed_out") == 1).then_some(()));
    assert_eq!(node.tcp("connections"), 0);
}

#[test]
fn a_peer_that_does_not_read_is_cut_off() {
    let node = start_with("127.0.0.1", |config| config.routing.engine.screen.max_bytes = 60_000);
    let mut bob = Ua::tcp("bob", node.proxy);
    assert_eq!(bob.register(300).status(), 200);
    let alice = Ua::new("alice", node.proxy);
    let body = "x".repeat(50_000);
    until("the connection is closed", || {
        for n in 0..20 {
            let id = format!("{n}-{:?}", std::time::Instant::now()).replace([' ', '{', '}', ':', ','], "");
            alice.send(&format!(
                "MESSAGE sip:bob@{host} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{id};rport\r\nMax-Forwards: 70\r\n\
                 From: <sip:alice@{host}>;tag=c\r\nTo: <sip:bob@{host}>\r\nCall-ID: {id}\r\nCSeq: 1 MESSAGE\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                alice.addr(),
                body.len(),
                host = node.proxy,
            ));
        }
        (node.tcp("slow") == 1).then_some(())
    });
}

#[test]
fn a_request_for_a_listener_opens_a_connection_from_the_address_of_the_proxy_and_uses_it_again() {
    let node = start("127.0.0.1");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let contact = listener.local_addr().expect("bound");
    let mut carol = Ua::new("carol", node.proxy);
    let via = carol.via();
    carol.send(&format!(
        "REGISTER sip:{host} SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: <sip:bob@{host}>;tag=r\r\nTo: <sip:bob@{host}>\r\n\
         Call-ID: reg\r\nCSeq: 1 REGISTER\r\nContact: <sip:bob@{contact};transport=tcp>\r\nContent-Length: 0\r\n\r\n",
        host = node.proxy
    ));
    assert_eq!(carol.receive().status(), 200);
    let mut alice = Ua::new("alice", node.proxy);
    alice.invite("bob", "c1");
    let (stream, from) = listener.accept().expect("a connection");
    assert_eq!(from.ip(), node.proxy.ip());
    let bob = Ua::with_stream("bob", node.proxy, stream);
    let invite = bob.expect("INVITE");
    bob.respond(&invite, "486 Busy Here", "b");
    bob.expect("ACK");
    alice.expect("486");
    alice.invite("bob", "c2");
    bob.expect("INVITE");
    assert_eq!(node.tcp("made"), 1);
}

#[test]
fn a_target_without_listener_fails_at_once_with_500_rfc3261_16_9() {
    let node = start("127.0.0.1");
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("an address");
    let mut carol = Ua::new("carol", node.proxy);
    let via = carol.via();
    carol.send(&format!(
        "REGISTER sip:{host} SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: <sip:bob@{host}>;tag=r\r\nTo: <sip:bob@{host}>\r\n\
         Call-ID: reg\r\nCSeq: 1 REGISTER\r\nContact: <sip:bob@{gone};transport=tcp>\r\nContent-Length: 0\r\n\r\n",
        host = node.proxy
    ));
    assert_eq!(carol.receive().status(), 200);
    let mut alice = Ua::new("alice", node.proxy);
    alice.invite("bob", "c1");
    alice.expect("500");
    assert_eq!(node.tcp("not_made"), 1);
}

#[test]
fn a_response_whose_connection_is_gone_goes_to_the_listener_of_the_via_rfc3261_18_2_2() {
    let node = start("127.0.0.1");
    let mut bob = Ua::new("bob", node.proxy);
    assert_eq!(bob.register(300).status(), 200);
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("bound").port();
    let mut stream = node.connect();
    let text =
        options("r1", "", "").replace("OPTIONS sip:127.0.0.1 ", &format!("OPTIONS sip:bob@{} ", node.proxy));
    stream.write_all(text.replace("127.0.0.1:5;", &format!("127.0.0.1:{port};")).as_bytes()).expect("sent");
    let request = bob.expect("OPTIONS");
    drop(stream);
    until("the connection is gone", || (node.tcp("connections") == 0).then_some(()));
    bob.respond(&request, "200 OK", "b");
    let (stream, _) = listener.accept().expect("a connection");
    let alice = Ua::with_stream("alice", node.proxy, stream);
    assert_eq!(alice.receive().status(), 200);
}

#[test]
fn a_request_too_large_for_udp_goes_by_tcp_and_by_udp_where_nobody_listens_rfc3261_18_1_1() {
    let node = start("127.0.0.1");
    let (mut alice, mut bob) = (Ua::new("alice", node.proxy), Ua::new("bob", node.proxy));
    assert_eq!(bob.register(300).status(), 200);
    let filler = format!("X-Filler: {}\r\nMax-Forwards", "x".repeat(1200));
    let via = alice.via();
    let text = format!(
        "INVITE sip:bob@{host} SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: <sip:alice@{host}>;tag=c\r\n\
         To: <sip:bob@{host}>\r\nCall-ID: big\r\nCSeq: 1 INVITE\r\nContact: <sip:alice@h>\r\nContent-Length: 0\r\n\r\n",
        host = node.proxy,
    );
    alice.send(&text.replace("Max-Forwards", &filler));
    let invite = bob.expect("INVITE");
    assert!(invite.one("Via").starts_with("SIP/2.0/UDP "), "{}", invite.text);
    assert_eq!((node.tcp("not_made"), node.status()["counters"]["moved"].as_u64()), (1, Some(1)));
    // One that does listen gets it by TCP.
    let listener = TcpListener::bind(bob.addr()).expect("bind");
    let second = start("127.0.0.1");
    let mut bob2 = Ua::new("bob2", second.proxy);
    assert_eq!(bob2.register(300).status(), 200);
    drop(listener);
    let listener = TcpListener::bind(bob2.addr()).expect("bind");
    let mut alice = Ua::new("alice", second.proxy);
    let via2 = alice.via();
    let text = text.replace(&via, &via2).replace("sip:bob@", "sip:bob2@");
    alice.send(
        &text.replace(&node.proxy.to_string(), &second.proxy.to_string()).replace("Max-Forwards", &filler),
    );
    let (stream, _) = listener.accept().expect("a connection");
    let invite = Ua::with_stream("bob2", second.proxy, stream).expect("INVITE");
    assert!(invite.one("Via").starts_with("SIP/2.0/TCP "), "{}", invite.text);
}

#[test]
fn keepalives_alone_hold_no_connection() {
    let node = start("127.0.0.1");
    let (mut silent, mut client) = (node.connect(), node.connect());
    client.write_all(options("k1", "", "").as_bytes()).expect("sent");
    let mut buffer = [0; 4096];
    assert!(client.read(&mut buffer).expect("an answer") > 0);
    let begun = std::time::Instant::now();
    // Who has sent a message keeps his connection by keepalives; who never has is closed as if he had said nothing.
    while node.tcp("timed_out") == 0 {
        let _ = (silent.write_all(b"\r\n\r\n"), client.write_all(b"\r\n\r\n"));
        // Each keepalive is answered, so that this takes its time without a sleep; a closed connection gives nothing.
        let _ = (silent.read(&mut buffer), client.read(&mut buffer));
        assert!(begun.elapsed() < Duration::from_secs(60), "the one without a message is never closed");
    }
    assert!(begun.elapsed() >= Duration::from_secs(29), "{:?}", begun.elapsed());
    client.write_all(options("k2", "", "").as_bytes()).expect("sent");
    until("the other one is served", || (node.tcp("messages") == 2).then_some(()));
}
