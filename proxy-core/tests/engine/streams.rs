//! TCP through one engine: what reliable transports change, connections that are gone, and branches that go on at
//! another address.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::io::{EngineConfig, Refusal, TransportConfig};
use proxy_core::state::{Flow, SipCommand, Transport};

const ALICE: &str = "10.77.0.201:5061";
/// Bob's connection, and where he listens.
const BOB: &str = "10.77.0.202:40002";
const BOB_LISTENS: &str = "10.77.0.202:5062";
const BOB_URI: &str = "sip:bob@lab.test";

fn tcp(remote: &str) -> Flow {
    Flow { transport: Transport::Tcp, ..flow_of(addr(remote)) }
}

fn over_tcp(w: &mut World, from: &str, text: &str) {
    let text = text.replace("SIP/2.0/UDP 10.77.0.2", "SIP/2.0/TCP 10.77.0.2");
    w.engine.handle_datagram(w.now, tcp(from), text.as_bytes(), &w.state);
    w.settle();
}

fn fail(w: &mut World, flow: Flow) {
    w.engine.handle_transport_failure(w.now, flow, &w.state);
    w.settle();
}

/// Bob registers by a connection; he listens as well.
fn register_bob(w: &mut World, connection: &str, cseq: u32) {
    let contact = format!("<sip:bob@{BOB_LISTENS};transport=tcp>");
    over_tcp(w, connection, &register("bob", BOB_LISTENS, cseq, &contact));
    w.expect(connection, "SIP/2.0 200 ");
}

/// Bob registers by his connection, and Alice calls him: what he gets there.
fn called(w: &mut World) -> String {
    register_bob(w, BOB, 1);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    w.expect(BOB, "INVITE ")
}

fn last_flow(w: &World) -> Flow {
    *w.flows.last().expect("something was sent")
}

fn contact_of_bob() -> String {
    format!("Contact: <sip:bob@{BOB_LISTENS};transport=tcp>\r\n")
}

#[test]
fn a_call_from_udp_to_tcp_has_both_transports_in_record_route_and_each_side_its_own_via() {
    let mut w = World::new();
    let at_bob = called(&mut w);
    assert_eq!(last_flow(&w), tcp(BOB));
    assert!(at_bob.contains("\r\nVia: SIP/2.0/TCP 10.77.0.100:5060;branch="), "{at_bob}");
    let routes = format!("<sip:{VIP};transport=tcp;lr>, <sip:{VIP};lr>");
    assert_eq!(header(&bare(&at_bob), "Record-Route"), Some(routes));
    over_tcp(&mut w, BOB, &respond(&at_bob, 200, "b1", &contact_of_bob()));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(last_flow(&w), flow_of(addr(ALICE)));
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    let ack = w.expect(BOB, "ACK ");
    assert_eq!(header(&ack, "Route"), None);
    let bye = in_dialog_of_callee("BYE", 1, &at_bob, "b1", BOB_LISTENS);
    over_tcp(&mut w, BOB, &bye);
    let bye = w.expect(ALICE, "BYE ");
    assert!(bye.contains("\r\nVia: SIP/2.0/UDP 10.77.0.100:5060;branch="), "{bye}");
    w.send(ALICE, &respond(&bye, 200, "", ""));
    w.expect(BOB, "SIP/2.0 200 ");
}

#[test]
fn nothing_is_repeated_on_a_stream_and_its_transactions_end_at_once_rfc3261_17() {
    let mut w = World::new();
    register_bob(&mut w, BOB, 1);
    assert_eq!(w.engine.load().1, 0, "timer J is zero");
    let mut text = request("MESSAGE", BOB_URI, ALICE, "m1", "");
    text = text.replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    over_tcp(&mut w, ALICE, &text);
    let at_bob = w.expect(BOB, "MESSAGE ");
    w.pass(Duration::from_secs(10));
    w.expect_nothing(BOB);
    over_tcp(&mut w, BOB, &respond(&at_bob, 200, "b", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(w.engine.load(), (0, 0, 0), "timers J and K are zero");
    over_tcp(&mut w, ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    w.pass(Duration::from_secs(10));
    w.expect_nothing(BOB);
    over_tcp(&mut w, BOB, &respond(&at_bob, 486, "b", ""));
    w.expect(BOB, "ACK ");
    w.expect(ALICE, "SIP/2.0 486 ");
    w.pass(Duration::from_secs(10));
    w.expect_nothing(ALICE);
    let ack = invite(BOB_URI, ALICE, "c1").replace("INVITE sip", "ACK sip").replace("1 INVITE", "1 ACK");
    over_tcp(&mut w, ALICE, &ack);
    assert_eq!(w.engine.load(), (0, 0, 0), "timers D and I are zero");
}

#[test]
fn who_speaks_by_a_stream_is_told_when_nothing_could_be_remembered() {
    let mut w = World::new();
    w.cluster = Cluster::Refuses(Refusal::Unknown);
    over_tcp(&mut w, BOB, &register("bob", BOB_LISTENS, 1, "<sip:bob@h>"));
    let sorry = w.expect(BOB, "SIP/2.0 503 ");
    assert!(header(&sorry, "Retry-After").is_some());
    w.send(ALICE, &register("alice", ALICE, 1, "<sip:alice@h>"));
    w.expect_nothing(ALICE);
    w.cluster = Cluster::Commits;
    register_bob(&mut w, BOB, 2);
    w.cluster = Cluster::Refuses(Refusal::NotActive);
    over_tcp(&mut w, ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 503 ");
}

#[test]
fn a_failure_on_a_stream_that_could_not_be_remembered_is_remembered_later() {
    let mut w = World::new();
    register_bob(&mut w, BOB, 1);
    w.register("bob", "10.77.0.203:5060");
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let at_bob = w.expect(BOB, "INVITE ");
    let ringing = w.expect("10.77.0.203:5060", "INVITE ");
    w.send("10.77.0.203:5060", &respond(&ringing, 180, "r", ""));
    w.take(ALICE);
    w.cluster = Cluster::Refuses(Refusal::Unknown);
    over_tcp(&mut w, BOB, &respond(&at_bob, 486, "b", ""));
    w.expect_nothing(BOB);
    w.cluster = Cluster::Commits;
    w.pass(Duration::from_secs(1));
    w.expect(BOB, "ACK ");
}

#[test]
fn a_connection_that_is_gone_gives_way_to_the_contact_if_nothing_stands_between_rfc3263_4_3() {
    let mut w = World::new();
    register_bob(&mut w, BOB, 1);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let first = w.expect(BOB, "INVITE ");
    w.cluster = Cluster::Waits;
    fail(&mut w, tcp(BOB));
    w.expect_nothing(BOB_LISTENS);
    assert!(
        matches!(w.waiting.front(), Some((_, SipCommand::BranchMoved { .. }))),
        "committed before it leaves"
    );
    w.commit_all();
    let second = w.expect(BOB_LISTENS, "INVITE ");
    assert_eq!(last_flow(&w), tcp(BOB_LISTENS));
    assert_ne!(header(&first, "Via"), header(&second, "Via"), "a transaction of its own");
    assert_eq!(w.engine.counters().moved, 1);
    w.cluster = Cluster::Commits;
    over_tcp(&mut w, BOB_LISTENS, &respond(&second, 200, "b", &contact_of_bob()));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn a_branch_whose_last_address_fails_counts_as_503_and_the_caller_hears_500_rfc3261_16_9() {
    let mut w = World::new();
    called(&mut w);
    fail(&mut w, tcp(BOB));
    w.expect(BOB_LISTENS, "INVITE ");
    fail(&mut w, tcp(BOB_LISTENS));
    w.expect(ALICE, "SIP/2.0 500 ");
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "m1", ""));
    w.expect(BOB, "MESSAGE ");
    fail(&mut w, tcp(BOB));
    w.expect(BOB_LISTENS, "MESSAGE ");
    fail(&mut w, tcp(BOB_LISTENS));
    w.expect(ALICE, "SIP/2.0 500 ");
}

#[test]
fn a_connection_that_breaks_while_it_rings_does_not_end_the_call() {
    let mut w = World::new();
    let at_bob = called(&mut w);
    over_tcp(&mut w, BOB, &respond(&at_bob, 180, "b", &contact_of_bob()));
    w.expect(ALICE, "SIP/2.0 180 ");
    fail(&mut w, tcp(BOB));
    w.expect_nothing(ALICE);
    // §18.2.2: the phone sends its answer by a new connection, where it also gets the ACK.
    let again = "10.77.0.202:40099";
    over_tcp(&mut w, again, &respond(&at_bob, 486, "b", ""));
    w.expect(again, "ACK ");
    w.expect(ALICE, "SIP/2.0 486 ");
}

#[test]
fn a_503_moves_the_branch_and_is_acknowledged_when_that_is_safe() {
    let mut w = World::new();
    register_bob(&mut w, BOB, 1);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let first = w.expect(BOB, "INVITE ");
    w.cluster = Cluster::Waits;
    over_tcp(&mut w, BOB, &respond(&first, 503, "b", ""));
    w.expect_nothing(BOB);
    w.commit_all();
    w.expect(BOB, "ACK ");
    let second = w.expect(BOB_LISTENS, "INVITE ");
    w.cluster = Cluster::Commits;
    over_tcp(&mut w, BOB_LISTENS, &respond(&second, 603, "c", ""));
    w.expect(BOB_LISTENS, "ACK ");
    w.expect(ALICE, "SIP/2.0 603 ");
}

#[test]
fn a_move_that_was_refused_is_tried_again_and_a_cancelled_call_moves_nowhere() {
    let mut w = World::new();
    called(&mut w);
    w.cluster = Cluster::Refuses(Refusal::Unknown);
    fail(&mut w, tcp(BOB));
    w.expect_nothing(BOB_LISTENS);
    w.cluster = Cluster::Commits;
    w.pass(Duration::from_secs(1));
    w.expect(BOB_LISTENS, "INVITE ");
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 200 ");
    fail(&mut w, tcp(BOB_LISTENS));
    w.expect(ALICE, "SIP/2.0 487 ");
}

#[test]
fn a_branch_moves_nowhere_once_another_has_declined_for_all_rfc3261_16_7_5() {
    const DESK: &str = "10.77.0.203:5063";
    let mut w = World::new();
    register_bob(&mut w, BOB, 1);
    w.send(DESK, &register("bob", DESK, 1, &format!("<sip:bob@{DESK}>")));
    w.take(DESK);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let first = w.expect(BOB, "INVITE ");
    let second = w.expect(DESK, "INVITE ");
    w.cluster = Cluster::Waits;
    over_tcp(&mut w, BOB, &respond(&first, 503, "b", ""));
    w.send(DESK, &respond(&second, 603, "d", ""));
    w.commit_all();
    w.expect_nothing(BOB_LISTENS);
    w.expect(BOB, "ACK ");
    w.expect(DESK, "ACK ");
    w.expect(ALICE, "SIP/2.0 603 ");
    // The other way round: who has been told so does not even ask.
    w.cluster = Cluster::Commits;
    w.send(ALICE, &invite(BOB_URI, ALICE, "c2"));
    w.take(ALICE);
    let first = w.expect(BOB, "INVITE ");
    let second = w.expect(DESK, "INVITE ");
    w.cluster = Cluster::Waits;
    w.send(DESK, &respond(&second, 603, "d", ""));
    over_tcp(&mut w, BOB, &respond(&first, 503, "b", ""));
    w.commit_all();
    w.expect_nothing(BOB_LISTENS);
    w.expect(ALICE, "SIP/2.0 603 ");
}

#[test]
fn a_503_of_a_branch_whose_move_was_refused_is_acknowledged_when_the_call_is_over() {
    let mut w = World::with(EngineConfig { timer_c: Duration::from_secs(10), ..config() });
    register_bob(&mut w, BOB, 1);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let first = w.expect(BOB, "INVITE ");
    w.cluster = Cluster::Waits;
    over_tcp(&mut w, BOB, &respond(&first, 503, "b", ""));
    w.pass(Duration::from_millis(10_100));
    // The verdict on the move comes last and is a refusal: by then timer C has ended the call.
    let (ticket, moved) = w.waiting.pop_front().expect("a proposal");
    assert!(matches!(moved, SipCommand::BranchMoved { .. }), "{moved:?}");
    w.commit_all();
    w.expect(ALICE, "SIP/2.0 408 ");
    w.engine.handle_refused(w.now, ticket, Refusal::Unknown, &w.state);
    w.cluster = Cluster::Commits;
    w.settle();
    w.expect(BOB, "ACK ");
    w.expect_nothing(BOB_LISTENS);
}

#[test]
fn a_takeover_goes_on_where_the_branch_was_moved_to_and_moves_on_from_there() {
    let mut w = World::new();
    called(&mut w);
    fail(&mut w, tcp(BOB));
    let moved = w.expect(BOB_LISTENS, "INVITE ");
    w.fail_over(Duration::from_millis(500));
    let again = w.expect(BOB_LISTENS, "INVITE ");
    assert_eq!(header(&again, "Via"), header(&moved, "Via"), "a retransmission for the phone");
    fail(&mut w, tcp(BOB_LISTENS));
    w.expect(ALICE, "SIP/2.0 500 ");
}

#[test]
fn a_ringing_phone_whose_connection_died_with_the_last_owner_may_still_answer() {
    let mut w = World::new();
    // Its contact is its connection: there is nothing else to try.
    let contact = format!("<sip:bob@{BOB};transport=tcp>");
    over_tcp(&mut w, BOB, &register("bob", BOB, 1, &contact));
    w.take(BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let at_bob = w.expect(BOB, "INVITE ");
    over_tcp(&mut w, BOB, &respond(&at_bob, 180, "b", ""));
    w.take(ALICE);
    w.fail_over(Duration::from_millis(500));
    w.expect(BOB, "INVITE ");
    fail(&mut w, tcp(BOB));
    w.pass(Duration::from_secs(60));
    w.expect_nothing(ALICE);
    let again = "10.77.0.202:40099";
    over_tcp(&mut w, again, &respond(&at_bob, 200, "b", &format!("Contact: {contact}\r\n")));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn a_caller_that_comes_back_by_another_connection_gets_its_answers_there() {
    let mut w = World::new();
    register_bob(&mut w, BOB, 1);
    let (old, new) = ("10.77.0.201:41000", "10.77.0.201:42000");
    over_tcp(&mut w, old, &invite(BOB_URI, old, "c1"));
    w.expect(old, "SIP/2.0 100 ");
    let at_bob = w.expect(BOB, "INVITE ");
    over_tcp(&mut w, BOB, &respond(&at_bob, 180, "b", ""));
    w.expect(old, "SIP/2.0 180 ");
    over_tcp(&mut w, new, &cancel(BOB_URI, old, "c1"));
    w.expect(new, "SIP/2.0 200 ");
    let at_bob2 = w.expect(BOB, "CANCEL ");
    over_tcp(&mut w, BOB, &respond(&at_bob2, 200, "b", ""));
    over_tcp(&mut w, BOB, &respond(&at_bob, 487, "b", ""));
    w.expect(new, "SIP/2.0 487 ");
}

#[test]
fn a_request_within_a_dialog_finds_the_connection_of_the_newest_registration() {
    let mut w = World::new();
    let at_bob = called(&mut w);
    over_tcp(&mut w, BOB, &respond(&at_bob, 200, "b1", &contact_of_bob()));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(BOB, "ACK ");
    w.fail_over(Duration::from_millis(500));
    w.take(BOB);
    let again = "10.77.0.202:40099";
    register_bob(&mut w, again, 2);
    w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    w.expect(again, "BYE ");
    fail(&mut w, tcp(again));
    w.expect(BOB, "BYE ");
    fail(&mut w, tcp(BOB));
    let bye = w.expect(BOB_LISTENS, "BYE ");
    over_tcp(&mut w, BOB_LISTENS, &respond(&bye, 200, "", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn an_ack_follows_the_call_to_where_it_was_answered_and_on_from_a_connection_that_is_gone() {
    let mut w = World::new();
    called(&mut w);
    fail(&mut w, tcp(BOB));
    let at_bob = w.expect(BOB_LISTENS, "INVITE ");
    over_tcp(&mut w, BOB_LISTENS, &respond(&at_bob, 200, "b1", &contact_of_bob()));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(BOB_LISTENS, "ACK ");
    w.expect_nothing(BOB);
    // It has registered by another connection since, which is gone by now.
    w.tick(Duration::from_secs(1));
    let again = "10.77.0.202:40099";
    register_bob(&mut w, again, 2);
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE).replace("z9hG4bKACK1", "z9hG4bKACK2"));
    w.expect(again, "ACK ");
    fail(&mut w, tcp(again));
    w.expect(BOB_LISTENS, "ACK ");
    fail(&mut w, tcp(BOB_LISTENS));
    w.expect_nothing(BOB_LISTENS);
}

fn large(text: &str) -> String {
    text.replace("Max-Forwards", &format!("X-Filler: {}\r\nMax-Forwards", "x".repeat(1200)))
}

fn switching() -> World {
    World::with(proxy_core::io::EngineConfig {
        transport: TransportConfig { tcp: true, udp_max_bytes: 1300 },
        ..config()
    })
}

#[test]
fn a_request_too_large_for_udp_goes_by_tcp_and_back_to_udp_where_that_is_refused_rfc3261_18_1_1() {
    let mut w = switching();
    w.register("bob", BOB_LISTENS);
    w.send(ALICE, &large(&request("MESSAGE", BOB_URI, ALICE, "m1", "")));
    let by_tcp = w.expect(BOB_LISTENS, "MESSAGE ");
    assert_eq!(last_flow(&w), tcp(BOB_LISTENS));
    assert!(by_tcp.contains("\r\nVia: SIP/2.0/TCP "), "{by_tcp}");
    fail(&mut w, tcp(BOB_LISTENS));
    let by_udp = w.expect(BOB_LISTENS, "MESSAGE ");
    assert!(by_udp.contains("\r\nVia: SIP/2.0/UDP "), "{by_udp}");
    w.send(BOB_LISTENS, &respond(&by_udp, 200, "b", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
    // That it has no TCP is remembered for a while.
    w.send(ALICE, &large(&invite(BOB_URI, ALICE, "c1")));
    w.take(ALICE);
    w.expect(BOB_LISTENS, "INVITE ");
    assert_eq!(last_flow(&w), flow_of(addr(BOB_LISTENS)));
    w.pass(Duration::from_secs(700));
    w.take(BOB_LISTENS);
    w.take(ALICE);
    w.send(ALICE, &large(&request("MESSAGE", BOB_URI, ALICE, "m2", "")));
    assert_eq!(last_flow(&w), tcp(BOB_LISTENS));
}

#[test]
fn a_small_request_and_one_for_a_phone_behind_a_nat_stay_with_udp() {
    let mut w = switching();
    w.register("bob", BOB_LISTENS);
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "m1", ""));
    assert_eq!(last_flow(&w), flow_of(addr(BOB_LISTENS)));
    let text = register("carol", "192.168.1.9:5060", 1, "<sip:carol@192.168.1.9>");
    w.send("10.77.0.209:33333", &text);
    w.take("10.77.0.209:33333");
    w.send(ALICE, &large(&request("MESSAGE", "sip:carol@lab.test", ALICE, "m2", "")));
    assert_eq!(last_flow(&w), flow_of(addr("10.77.0.209:33333")));
}

#[test]
fn an_icmp_error_counts_only_where_there_is_something_else_to_try() {
    let mut w = World::new();
    w.register("bob", BOB_LISTENS);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    w.expect(BOB_LISTENS, "INVITE ");
    fail(&mut w, flow_of(addr(BOB_LISTENS)));
    w.expect_nothing(ALICE);
    w.pass(Duration::from_secs(1));
    w.expect(BOB_LISTENS, "INVITE ");
}

#[test]
fn a_datagram_without_content_length_gets_one_in_a_stream_rfc3261_18_3() {
    let mut w = World::new();
    register_bob(&mut w, BOB, 1);
    let text = request("MESSAGE", BOB_URI, ALICE, "m1", "").replace("Content-Length: 0\r\n\r\n", "\r\nhello");
    w.send(ALICE, &text);
    let at_bob = w.expect(BOB, "MESSAGE ");
    assert!(at_bob.contains("Content-Length: 5\r\n") && at_bob.ends_with("\r\n\r\nhello"), "{at_bob}");
    let text = request("MESSAGE", "sip:carol@lab.test", BOB, "m2", "");
    w.register("carol", ALICE);
    over_tcp(&mut w, BOB, &text);
    let at_alice = w.expect(ALICE, "MESSAGE ");
    let answer = respond(&at_alice, 200, "a", "").replace("Content-Length: 0\r\n\r\n", "\r\n");
    w.send(ALICE, &answer);
    assert!(w.expect(BOB, "SIP/2.0 200 ").contains("Content-Length: 0\r\n"));
}

#[test]
fn without_tcp_in_the_configuration_nothing_goes_by_it() {
    let mut w = World::with(proxy_core::io::EngineConfig {
        transport: TransportConfig { tcp: false, udp_max_bytes: 1300 },
        ..config()
    });
    let contact = format!("<sip:bob@{BOB_LISTENS};transport=tcp>");
    w.send(BOB_LISTENS, &register("bob", BOB_LISTENS, 1, &contact));
    w.take(BOB_LISTENS);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 480 ");
}

#[test]
fn a_503_of_a_branch_that_may_not_move_is_not_acknowledged_before_that_is_safe() {
    let mut w = World::new();
    register_bob(&mut w, BOB, 1);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.take(ALICE);
    let first = w.expect(BOB, "INVITE ");
    // The caller has hung up: that is known to the cluster, but not here.
    w.cluster = Cluster::CommitsUnheard;
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    w.expect_nothing(ALICE);
    w.cluster = Cluster::Waits;
    over_tcp(&mut w, BOB, &respond(&first, 503, "b", ""));
    let moved = w.waiting.len();
    assert!(w.verdict());
    while w.step() {}
    assert_eq!((moved, w.waiting.len()), (1, 1), "how it failed is not known to a majority yet");
    w.expect_nothing(BOB);
    w.commit_all();
    w.expect(BOB, "ACK ");
    w.expect_nothing(BOB_LISTENS);
}
