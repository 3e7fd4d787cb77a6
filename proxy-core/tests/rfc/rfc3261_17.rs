//! RFC 3261 §17: which messages are of one transaction. The machines themselves are in `transaction_timers.rs`.

use crate::common::story::*;

const ALICE: &str = "10.77.0.201:5061";
const OTHER: &str = "10.77.0.203:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB_URI: &str = "sip:bob@lab.test";

#[test]
fn the_same_branch_of_another_sent_by_is_another_transaction_rfc3261_17_2_3() {
    let mut w = World::new();
    w.register("bob", BOB);
    let one = request("MESSAGE", BOB_URI, ALICE, "c1", "");
    w.send(ALICE, &one);
    w.expect(BOB, "MESSAGE ");
    w.send(ALICE, &one);
    w.expect_nothing(BOB);
    w.send(OTHER, &one.replace(ALICE, OTHER));
    w.expect(BOB, "MESSAGE ");
}

#[test]
fn a_response_whose_cseq_names_another_method_is_of_no_transaction_rfc3261_17_1_3() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(
        BOB,
        &respond(&at_bob, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")).replace("1 INVITE", "1 BYE"),
    );
    w.expect_nothing(ALICE);
    w.send(BOB, &respond(&at_bob, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn another_method_with_the_branch_of_an_invite_is_a_transaction_of_its_own_rfc3261_17_2_3() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    w.expect(BOB, "INVITE ");
    let message = request("MESSAGE", BOB_URI, ALICE, "c1", "").replace("c1MESSAGE", "c1INVITE");
    w.send(ALICE, &message);
    w.expect(BOB, "MESSAGE ");
}
