//! RFC 5393: loops, and how many copies of a request there may be. Loops are in `engine_routing.rs`.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::io::EngineConfig;
use proxy_core::routing::{Fork, RoutingConfig};

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB2: &str = "10.77.0.202:5063";
const BOB3: &str = "10.77.0.202:5064";
const BOB_URI: &str = "sip:bob@lab.test";

fn breadth(message: &str) -> Option<String> {
    header(message, "Max-Breadth")
}

fn registered(places: &[&str]) -> World {
    let mut w = World::new();
    for place in places {
        w.register("bob", place);
    }
    w
}

#[test]
fn a_request_that_is_forked_shares_its_breadth_among_the_copies_rfc5393_5_3_3() {
    let mut w = registered(&[BOB, BOB2, BOB3]);
    for (call, extra, share) in
        [("c1", "", "20"), ("c2", "Max-Breadth: 7\r\n", "2"), ("c3", "Max-Breadth: x\r\n", "20")]
    {
        w.send(ALICE, &request("INVITE", BOB_URI, ALICE, call, extra));
        for place in [BOB, BOB2, BOB3] {
            let copy = w.expect(place, "INVITE ");
            assert_eq!(breadth(&copy).as_deref(), Some(share), "{copy}");
        }
    }
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "c4", "Max-Breadth: 4\r\n"));
    assert_eq!(breadth(&w.expect(BOB, "MESSAGE ")).as_deref(), Some("1"));
}

#[test]
fn a_single_copy_keeps_the_breadth_that_came_and_is_given_none_rfc5393_5_3_3() {
    let mut w = registered(&[BOB]);
    w.send(ALICE, &request("INVITE", BOB_URI, ALICE, "c1", "Max-Breadth: 1\r\n"));
    assert_eq!(breadth(&w.expect(BOB, "INVITE ")).as_deref(), Some("1"));
    w.send(ALICE, &request("INVITE", BOB_URI, ALICE, "c2", ""));
    assert_eq!(breadth(&w.expect(BOB, "INVITE ")), None);
}

#[test]
fn more_copies_than_the_breadth_allows_are_440_and_none_leaves_rfc5393_5_3_3_1() {
    let mut w = registered(&[BOB, BOB2]);
    for (call, breadth) in [("c1", 1), ("c2", 0)] {
        w.send(ALICE, &request("INVITE", BOB_URI, ALICE, call, &format!("Max-Breadth: {breadth}\r\n")));
        w.expect(ALICE, "SIP/2.0 440 Max-Breadth Exceeded");
        w.expect_nothing(BOB);
        w.expect_nothing(BOB2);
    }
    assert_eq!(w.state.counts().pending_invites, 0);
}

#[test]
fn rounds_one_after_the_other_have_the_whole_breadth_each_also_after_a_takeover_rfc5393_5_3_3_1() {
    let routing =
        RoutingConfig { fork: Fork::ByQ, fork_after: Duration::from_secs(10), ..RoutingConfig::default() };
    let mut w = World::with(EngineConfig { routing, ..config() });
    w.register_with("bob", BOB, ";q=0.9");
    w.register_with("bob", BOB2, ";q=0.5");
    w.register_with("bob", BOB3, ";q=0.5");
    w.send(ALICE, &request("INVITE", BOB_URI, ALICE, "c1", "Max-Breadth: 2\r\n"));
    let first = w.expect(BOB, "INVITE ");
    assert_eq!(breadth(&first).as_deref(), Some("2"));
    w.fail_over(Duration::from_millis(300));
    assert_eq!(w.expect(BOB, "INVITE "), first, "the same copy");
    w.pass(Duration::from_secs(11));
    for place in [BOB2, BOB3] {
        let copy = w.take(place).remove(0);
        assert_eq!(breadth(&copy).as_deref(), Some("1"), "{copy}");
    }
}

#[test]
fn a_breadth_above_our_own_maximum_is_overwritten_also_in_a_single_copy_rfc5393_5_3_3() {
    let mut w = registered(&[BOB]);
    for (n, (said, goes_on)) in [
        ("61", "60"),
        ("4294967295", "60"),
        ("99999999999999999999", "60"),
        ("x", "60"),
        ("-1", "60"),
        ("", "60"),
        ("0060", "60"),
        ("60", "60"),
        ("59", "59"),
        // Who says several things has the least of them.
        ("4294967295, 7", "7"),
        ("9\r\nMax-Breadth: 8", "8"),
    ]
    .into_iter()
    .enumerate()
    {
        let extra = format!("Max-Breadth: {said}\r\n");
        w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, &format!("c{n}"), &extra));
        assert_eq!(breadth(&w.expect(BOB, "MESSAGE ")).as_deref(), Some(goes_on), "{said:?}");
    }
    w.register("bob", BOB2);
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "d1", "Max-Breadth: 4294967295\r\n"));
    for place in [BOB, BOB2] {
        assert_eq!(breadth(&w.expect(place, "MESSAGE ")).as_deref(), Some("30"));
    }
}

#[test]
fn in_a_spiral_rounds_one_after_the_other_share_the_breadth_too_rfc5393() {
    let routing =
        RoutingConfig { fork: Fork::ByQ, fork_after: Duration::from_secs(10), ..RoutingConfig::default() };
    let mut w = World::with(EngineConfig { routing, ..config() });
    for (place, q) in [(BOB, "0.9"), (BOB2, "0.5"), (BOB3, "0.1")] {
        w.register_with("bob", place, &format!(";q={q}"));
    }
    // It has been here before, for somebody whose contact led back.
    let back = format!("Via: SIP/2.0/UDP {VIP};branch=z9hG4bKbefore\r\n");
    w.send(ALICE, &request("INVITE", BOB_URI, ALICE, "c1", &back));
    assert_eq!(breadth(&w.expect(BOB, "INVITE ")).as_deref(), Some("20"));
    w.send(ALICE, &request("INVITE", BOB_URI, ALICE, "c2", &format!("{back}Max-Breadth: 2\r\n")));
    let answers = w.take(ALICE);
    assert!(answers.iter().any(|m| m.starts_with("SIP/2.0 440 ")), "{answers:#?}");
    w.expect_nothing(BOB);
}
