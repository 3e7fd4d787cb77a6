//! RFC 3261 §18: what the transport does with datagrams. The rules that the other stories do not prove.

use crate::common::story::*;

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB_URI: &str = "sip:bob@lab.test";

fn with_body(text: &str, length: usize, body: &str) -> String {
    text.replace("Content-Length: 0\r\n\r\n", &format!("Content-Length: {length}\r\n\r\n{body}"))
}

#[test]
fn a_response_whose_top_via_is_not_ours_is_dropped_rfc3261_18_1_2() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    let answer = respond(&at_bob, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n"));
    w.send(BOB, &answer.replacen("SIP/2.0/UDP 10.77.0.100:5060", "SIP/2.0/UDP 10.77.0.99:5060", 1));
    w.expect_nothing(ALICE);
    w.send(BOB, &answer);
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn a_via_with_a_name_gets_received_and_the_answer_goes_to_the_source_rfc3261_18_2_1() {
    let mut w = World::new();
    w.register("bob", BOB);
    let text = request("MESSAGE", BOB_URI, ALICE, "c1", "");
    w.send(ALICE, &text.replace(&format!("UDP {ALICE};"), "UDP phone.alice.example:5061;"));
    let at_bob = w.expect(BOB, "MESSAGE ");
    assert!(
        at_bob.contains("UDP phone.alice.example:5061;") && at_bob.contains("received=10.77.0.201"),
        "{at_bob}"
    );
    w.send(BOB, &respond(&at_bob, 200, "b1", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn what_follows_the_body_of_a_datagram_is_dropped_rfc3261_18_3() {
    let mut w = World::new();
    w.register("bob", BOB);
    let text = request("MESSAGE", BOB_URI, ALICE, "c1", "");
    w.send(ALICE, &with_body(&text, 5, "hello, and more"));
    let at_bob = w.expect(BOB, "MESSAGE ");
    assert!(at_bob.ends_with("\r\n\r\nhello"), "{at_bob}");
}

#[test]
fn a_datagram_that_ends_before_its_body_is_400_and_such_a_response_is_dropped_rfc3261_18_3() {
    let mut w = World::new();
    w.register("bob", BOB);
    let text = request("MESSAGE", BOB_URI, ALICE, "c1", "");
    w.send(ALICE, &with_body(&text, 50, "hello"));
    w.expect(ALICE, "SIP/2.0 400 ");
    w.expect_nothing(BOB);
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "c2", ""));
    let at_bob = w.expect(BOB, "MESSAGE ");
    w.send(BOB, &with_body(&respond(&at_bob, 200, "b1", ""), 50, "hello"));
    w.expect_nothing(ALICE);
}
