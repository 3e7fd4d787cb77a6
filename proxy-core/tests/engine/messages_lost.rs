//! Kept messages when an answer is lost with its node: no second copy, neither in the store nor at the phone
//! (RFC 3428 §7, RFC 3261 §17.1.2, RFC 3263 §4.3).

use std::time::Duration;

use crate::common::story::*;
use proxy_core::engine::Engine;
use proxy_core::io::{EngineConfig, Output};
use proxy_core::offline::MessageStoreConfig;
use proxy_core::state::limits::MAX_RECEIPTS;
use proxy_core::state::message_store::MessageCommand;
use proxy_core::state::{SipCommand, SipResponse};
use proxy_core::time::WallTime;

const ALICE: &str = "10.77.0.50:5070";
const BOB: &str = "10.77.0.60:5080";
const BOB_AOR: &str = "sip:bob@lab.test";
const TAKEOVER: Duration = Duration::from_millis(300);

fn stored() -> EngineConfig {
    let message_store =
        MessageStoreConfig { enabled: true, max_per_user: 20, ..MessageStoreConfig::default() };
    EngineConfig { message_store, ..config() }
}

fn message(call: &str, text: &str) -> String {
    request("MESSAGE", BOB_AOR, ALICE, call, "Content-Type: text/plain\r\n")
        .replace("Content-Length: 0\r\n\r\n", &format!("Content-Length: {}\r\n\r\n{text}", text.len()))
}

fn register_bob(w: &mut World, cseq: u32, expires: u32) {
    w.send(BOB, &register("bob", BOB, cseq, &format!("<sip:bob@{BOB}>;expires={expires}")));
}

/// What the phone got besides answers.
fn at_bob(w: &mut World) -> Vec<String> {
    w.take(BOB).into_iter().filter(|m| !m.starts_with("SIP/2.0 ")).collect()
}

fn text_of(message: &str) -> &str {
    message.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// A message that is kept, whose 202 is lost with the node that had committed it.
fn kept_and_its_202_lost() -> World {
    let mut w = World::with(stored());
    w.send(ALICE, &message("m1", "one"));
    w.take(ALICE);
    w.fail_over(TAKEOVER);
    w
}

/// Bob comes, gets what there is and says that he has it.
fn bob_fetches(w: &mut World) {
    register_bob(w, 1, 3600);
    w.pass(Duration::from_millis(600));
    let all = at_bob(w);
    assert_eq!(all.iter().map(|m| text_of(m)).next(), Some("one"), "{all:#?}");
    w.send(BOB, &respond(&all[0], 200, "b", ""));
    assert_eq!(w.state.counts().messages, 0);
}

#[test]
fn a_message_whose_202_was_lost_is_answered_202_again_after_it_was_delivered_and_goes_nowhere() {
    let mut w = kept_and_its_202_lost();
    bob_fetches(&mut w);
    w.fail_over(TAKEOVER);
    w.send(ALICE, &message("m1", "one"));
    let answer = w.expect(ALICE, "SIP/2.0 202 Accepted");
    assert!(header(&answer, "To").is_some_and(|to| to.contains(";tag=rlv")), "{answer}");
    w.pass(Duration::from_secs(40));
    assert!(at_bob(&mut w).is_empty(), "the phone has it already");
    assert_eq!(w.state.counts().messages, 0);
}

#[test]
fn a_retransmission_that_comes_when_the_user_has_gone_again_is_not_kept_a_second_time() {
    let mut w = kept_and_its_202_lost();
    bob_fetches(&mut w);
    register_bob(&mut w, 2, 0);
    w.fail_over(TAKEOVER);
    w.send(ALICE, &message("m1", "one"));
    w.expect(ALICE, "SIP/2.0 202 ");
    assert_eq!(w.state.counts().messages, 0);
}

#[test]
fn a_retransmission_is_not_passed_to_the_phone_beside_the_copy_that_waits_for_it() {
    let mut w = kept_and_its_202_lost();
    register_bob(&mut w, 1, 3600);
    w.send(ALICE, &message("m1", "one"));
    w.expect(ALICE, "SIP/2.0 202 ");
    w.pass(Duration::from_millis(600));
    let mut all = at_bob(&mut w);
    all.dedup();
    assert_eq!(all.len(), 1, "{all:#?}");
}

#[test]
fn a_client_that_tries_another_server_with_a_new_branch_gets_202_and_no_second_copy_rfc3263_4_3() {
    let mut w = kept_and_its_202_lost();
    w.pass(Duration::from_secs(33));
    w.send(ALICE, &message("m1", "one").replace("z9hG4bKm1", "z9hG4bKother"));
    w.expect(ALICE, "SIP/2.0 202 ");
    assert_eq!(w.state.counts().messages, 1);
    bob_fetches(&mut w);
}

#[test]
fn a_message_that_was_committed_and_forgotten_is_known_when_it_comes_again() {
    let mut w = World::with(stored());
    w.cluster = Cluster::CommitsUnheard;
    w.send(ALICE, &message("m1", "one"));
    w.expect_nothing(ALICE);
    w.cluster = Cluster::Commits;
    w.send(ALICE, &message("m1", "one"));
    w.expect(ALICE, "SIP/2.0 202 ");
    assert_eq!(w.state.counts().messages, 1);
}

#[test]
fn the_next_message_of_a_conversation_and_one_for_somebody_else_are_no_repetitions() {
    let mut w = kept_and_its_202_lost();
    let next = message("m1", "two").replace("CSeq: 1 ", "CSeq: 2 ").replace("z9hG4bKm1", "z9hG4bKm1b");
    w.send(ALICE, &next);
    w.expect(ALICE, "SIP/2.0 202 ");
    // Forked by somebody before us: the same Call-ID, tag and CSeq for another user.
    w.send(ALICE, &message("m1", "one").replace("sip:bob@", "sip:ben@").replace("z9hG4bKm1", "z9hG4bKm1c"));
    w.expect(ALICE, "SIP/2.0 202 ");
    assert_eq!(w.state.counts().messages, 3);
}

#[test]
fn what_was_taken_is_remembered_for_twice_the_time_of_a_transaction_and_then_forgotten() {
    let mut w = kept_and_its_202_lost();
    bob_fetches(&mut w);
    register_bob(&mut w, 2, 0);
    assert_eq!(w.state.message_receipts(), 1);
    w.pass(Duration::from_secs(70));
    assert_eq!(w.state.message_receipts(), 0);
    assert_eq!(w.state.bytes(), 0, "nothing is left of it");
    w.send(ALICE, &message("m1", "one"));
    w.expect(ALICE, "SIP/2.0 202 ");
    assert_eq!(w.state.counts().messages, 1, "nobody repeats a request for so long: it is a new one");
}

#[test]
fn receipts_are_bounded_and_the_oldest_go_first() {
    let mut w = World::with(stored());
    w.send(ALICE, &message("m1", "one"));
    let Some(SipCommand::Message(MessageCommand::Keep { aor, message: kept, max_per_user, max_total })) =
        w.log.pop()
    else {
        panic!("kept")
    };
    let state = &mut w.state;
    for n in 0..=MAX_RECEIPTS as u64 {
        let mut message = kept.clone();
        (message.receipt, message.receipt_ends) = (n, WallTime(kept.receipt_ends.0 + 1 + n));
        let (aor, number) = (aor.clone(), n + 1);
        let keep = MessageCommand::Keep { aor: aor.clone(), message, max_per_user, max_total };
        assert_eq!(state.apply(&SipCommand::Message(keep)), SipResponse::Done);
        let delivered = SipCommand::Message(MessageCommand::Remove { aor, number });
        assert_eq!(state.apply(&delivered), SipResponse::Done);
    }
    assert_eq!(state.message_receipts(), MAX_RECEIPTS as u64);
    assert!(!state.has_taken_message(0) && !state.has_taken_message(kept.receipt), "the oldest two");
    assert!(state.has_taken_message(1) && state.has_taken_message(MAX_RECEIPTS as u64));
    assert!(state.index_is_right());
}

/// A node with so many engines that has just taken over, and what its engines send.
struct Node {
    engines: Vec<Engine>,
}

impl Node {
    fn takes_over(w: &World, engines: u16) -> Self {
        let make = |shard| {
            let mut engine = Engine::new(EngineConfig { shard, shards: engines, ..stored() });
            engine.activate(w.now, &w.state);
            engine
        };
        Self { engines: (0..engines).map(make).collect() }
    }

    /// Time passes; messages that leave, with the engine that sends each. What is proposed is committed.
    fn pass(&mut self, w: &mut World, d: Duration) -> Vec<(usize, String)> {
        let mut sent = Vec::new();
        let end = w.now.mono + d;
        loop {
            for (at, engine) in self.engines.iter_mut().enumerate() {
                settle(engine, w, |text| sent.push((at, text)));
            }
            let due = self.engines.iter().filter_map(Engine::poll_timeout).min().filter(|at| *at <= end);
            let Some(at) = due else { break };
            w.tick(at.since(w.now.mono));
            for engine in &mut self.engines {
                engine.handle_timeout(w.now, &w.state);
            }
        }
        w.tick(end.since(w.now.mono));
        sent
    }

    fn answer(&mut self, w: &World, engine: usize, answer: &str) {
        self.engines[engine].handle_datagram(w.now, flow_of(addr(BOB)), answer.as_bytes(), &w.state);
    }
}

fn settle(engine: &mut Engine, w: &mut World, mut sent: impl FnMut(String)) {
    while let Some(output) = engine.poll_output() {
        match output {
            Output::Transmit { bytes, .. } => {
                let text = String::from_utf8(bytes.clone()).expect("text");
                if text.starts_with("MESSAGE ") {
                    sent(text);
                }
            }
            Output::Propose { ticket, command } => {
                let response = w.state.apply(&command);
                engine.handle_committed(w.now, ticket, response, &w.state);
            }
            Output::Media { .. } | Output::Resolve { .. } => {}
        }
    }
}

#[test]
fn a_delivery_is_the_same_request_on_a_node_with_another_number_of_engines() {
    for n in 0..8 {
        let mut w = World::with(stored());
        w.send(ALICE, &message(&format!("m{n}"), "one"));
        register_bob(&mut w, 1, 3600);
        w.pass(Duration::from_millis(600));
        let mut first = at_bob(&mut w);
        first.dedup();
        // The phone has said 200 to it, and the node that should have heard it is gone.
        for engines in [2, 3, 4, 8] {
            let mut sent = Node::takes_over(&w, engines).pass(&mut w, Duration::from_millis(700));
            sent.dedup();
            let sent: Vec<String> = sent.into_iter().map(|(_, text)| text).collect();
            assert_eq!(sent, first, "{engines} engines: the phone knows it by Call-ID, CSeq and branch");
        }
    }
}

#[test]
fn the_messages_of_a_user_come_in_order_whichever_engines_they_belong_to() {
    let mut w = World::with(stored());
    for n in 0..12 {
        w.send(ALICE, &message(&format!("m{n}"), &n.to_string()));
        w.expect(ALICE, "SIP/2.0 202 ");
    }
    register_bob(&mut w, 1, 3600);
    w.take(BOB);
    let mut node = Node::takes_over(&w, 4);
    let (mut got, mut by) = (Vec::new(), std::collections::BTreeSet::new());
    for _ in 0..12 {
        let mut sent = node.pass(&mut w, Duration::from_millis(600));
        sent.dedup();
        let [(engine, text)] = sent.as_slice() else { panic!("one at a time: {sent:#?}") };
        got.push(text_of(text).to_owned());
        by.insert(*engine);
        node.answer(&w, *engine, &respond(text, 200, "b", ""));
    }
    assert!(node.pass(&mut w, Duration::from_secs(5)).is_empty());
    assert_eq!(got, (0..12).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(by.len() > 1, "several engines had a part in it");
    assert_eq!(w.state.counts().messages, 0);
}
