//! RFC 3581: symmetric response routing.

use crate::common::story::*;

const ALICE: &str = "10.77.0.201:5061";
const NAT: &str = "10.77.0.250:61234";
const BOB: &str = "10.77.0.202:5062";
const BOB6: &str = "[fd77::202]:5062";
const BOB_URI: &str = "sip:bob@lab.test";

#[test]
fn the_answer_goes_to_the_port_it_was_asked_from_with_received_and_rport_rfc3581_4() {
    let mut w = World::new();
    // With rport as the RFC has it, and without, as everybody is treated here (force_rport).
    for (call, rport) in [("c1", ";rport"), ("c2", "")] {
        let text = request("OPTIONS", "sip:lab.test", ALICE, call, "").replace(";rport", rport);
        w.send(NAT, &text);
        let answer = w.expect(NAT, "SIP/2.0 200 ");
        let via = header(&answer, "Via").unwrap_or_default();
        assert!(via.contains("received=10.77.0.250") && via.contains("rport=61234"), "{via}");
        w.expect_nothing(ALICE);
    }
}

#[test]
fn received_is_said_also_where_it_is_the_sent_by_rfc3581_4() {
    let mut w = World::new();
    w.send(ALICE, &request("OPTIONS", "sip:lab.test", ALICE, "c1", ""));
    let answer = w.expect(ALICE, "SIP/2.0 200 ");
    let via = header(&answer, "Via").unwrap_or_default();
    assert!(via.contains("received=10.77.0.201") && via.contains("rport=5061"), "{via}");
}

#[test]
fn a_response_leaves_by_the_address_its_request_came_to_rfc3581_4() {
    let mut w = World::new();
    w.register("bob", BOB6);
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "c1", ""));
    let at_bob = w.expect(BOB6, "MESSAGE ");
    w.send(BOB6, &respond(&at_bob, 200, "b1", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(w.flows.last().map(|flow| flow.local), Some(addr(VIP)));
    w.register("carl", BOB);
    w.send(BOB, &request("MESSAGE", "sip:bob@lab.test", BOB, "c2", ""));
    assert_eq!(w.flows.last().map(|flow| flow.local), Some(addr(VIP6)));
}
