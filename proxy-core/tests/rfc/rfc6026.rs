//! RFC 6026: what happens to an INVITE that was accepted, in the proxy as a whole.

use std::time::Duration;

use crate::common::story::*;

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB2: &str = "10.77.0.202:5063";
const BOB_URI: &str = "sip:bob@lab.test";

fn ok(copy: &str, at: &str, tag: &str) -> String {
    respond(copy, 200, tag, &format!("Contact: <sip:bob@{at}>\r\n"))
}

#[test]
fn an_accepted_invite_that_comes_again_calls_nobody_again_rfc6026_7_1() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &ok(&at_bob, BOB, "b1"));
    w.expect(ALICE, "SIP/2.0 200 ");
    // Timer L is 32 s.
    for _ in 0..3 {
        w.pass(Duration::from_secs(10));
        w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
        w.expect_nothing(BOB);
        w.expect_nothing(ALICE);
    }
}

#[test]
fn every_2xx_of_every_fork_is_passed_on_while_its_branch_lives_rfc6026_7_2() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.register("bob", BOB2);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let (first, second) = (w.expect(BOB, "INVITE "), w.expect(BOB2, "INVITE "));
    w.send(BOB, &ok(&first, BOB, "b1"));
    w.send(BOB2, &ok(&second, BOB2, "b2"));
    let answers = w.take(ALICE);
    assert_eq!(answers.len(), 2, "{answers:#?}");
    w.pass(Duration::from_secs(4));
    w.send(BOB, &ok(&first, BOB, "b1"));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.send(BOB2, &ok(&second, BOB2, "b2"));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn the_proxy_does_not_repeat_a_2xx_by_itself_rfc6026_8_5() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &ok(&at_bob, BOB, "b1"));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.pass(Duration::from_secs(40));
    w.expect_nothing(ALICE);
}
