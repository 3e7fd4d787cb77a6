//! Which rtpengine is asked: silent, full, dead, put aside, forged.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::common::media::*;
use crate::common::story::*;
use proxy_core::media::{DEAD_PING, MAX_WAITING, MediaConfig, OnFailure, Usage};
use proxy_core::state::{MediaCommand, SipCommand};

#[test]
fn a_question_is_repeated_with_its_cookie_and_then_another_rtpengine_is_asked() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    m.dead.insert(addr(ONE));
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    m.both();
    let first = m.w.media.front().cloned().expect("a question");
    m.w.pass(Duration::from_millis(950));
    let offers: Vec<_> = m.w.media.iter().filter(|(to, _)| *to == addr(ONE)).cloned().collect();
    let same = offers.iter().filter(|o| **o == first).count();
    assert_eq!(same, 4, "at 0, 100, 300 and 700 ms: {offers:?}");
    m.w.media.clear();
    m.w.pass(Duration::from_millis(100));
    assert_eq!(m.serve(), ["offer ac1> at 10.77.0.42:2223"]);
    assert!(sdp(&m.w.expect(BOB, "INVITE ")).contains(TWO));
    let pending = m.w.state.pending_invites().next().expect("pending");
    assert_eq!(pending.media.as_ref().map(|s| s.node), Some(addr(TWO)));
    assert_eq!(m.w.engine.counters().media_timeouts, 1);
    // It is not asked again, until it answers a ping.
    m.w.take(ALICE);
    for n in 2..6 {
        m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, &format!("c{n}")), "alice"));
        assert!(m.serve().iter().all(|q| q.contains(TWO)));
    }
    m.dead.clear();
    m.pass(DEAD_PING * 2);
    m.only(ONE);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c9"), "alice"));
    assert_eq!(m.serve(), ["offer ac9> at 10.77.0.41:2223"]);
}

#[test]
fn a_full_rtpengine_hands_the_call_to_the_next() {
    let mut m = world();
    m.refuses = Some("d6:result10:load limite");
    m.w.register("bob", BOB);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    let asked = m.serve();
    assert_eq!(asked.len(), 2, "each once: {asked:?}");
    assert_ne!(asked.first(), asked.last());
    // Kamailio's habit: better a call without media relay than none.
    assert!(sdp(&m.w.expect(BOB, "INVITE ")).contains("o=alice"));
    assert_eq!(m.w.state.pending_invites().next().expect("pending").media, None);
}

#[test]
fn without_any_rtpengine_a_request_passes_or_is_refused_as_configured() {
    let refused = "d12:error-reason3:bad6:result5:errore";
    let cases = [(None, "SIP/2.0 503 No Media Proxy"), (Some(refused), "SIP/2.0 488 ")];
    for (refuses, status) in cases {
        for on_failure in [OnFailure::Pass, OnFailure::Reject] {
            let mut m = with(MediaConfig { on_failure, ..media(Usage::Always) });
            // Refused calls leave records.
            m.w.config.accounting.refused_per_s = 20;
            m.w.fail_over(Duration::from_millis(300));
            m.w.register("bob", BOB);
            m.refuses = refuses;
            if refuses.is_none() {
                m.dead = [addr(ONE), addr(TWO)].into();
            }
            m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
            m.pass(Duration::from_millis(2500));
            assert_eq!(m.w.engine.counters().media_failed, 1);
            match on_failure {
                OnFailure::Pass => {
                    let all = m.w.take(BOB);
                    assert!(all.iter().all(|i| sdp(i).contains("o=alice")) && !all.is_empty(), "{all:?}");
                }
                OnFailure::Reject => {
                    m.w.expect(ALICE, status);
                    m.w.expect_nothing(BOB);
                    let codes: Vec<u16> = m.w.state.outbox().after(0).map(|r| r.code).collect();
                    assert_eq!(codes, [status[8..11].parse::<u16>().expect("a status")]);
                }
            }
        }
    }
}

#[test]
fn a_dead_rtpengine_is_replaced_at_the_next_reinvite_of_either_side() {
    for by_callee in [false, true] {
        let mut m = world();
        m.only(ONE);
        let (got, ok) = m.answered("c1");
        m.both();
        m.dead.insert(addr(ONE));
        // It is not known yet that it is dead: the offer finds out, and goes on at the other.
        let (asker, answerer) = if by_callee { (BOB, ALICE) } else { (ALICE, BOB) };
        let again = match by_callee {
            true => in_dialog_of_callee("INVITE", 7, &got, "b", BOB),
            false => in_dialog_of_caller("INVITE", 2, &ok, ALICE),
        };
        m.w.send(asker, &with_sdp(&again, "again"));
        let asked = m.pass(Duration::from_millis(1100));
        let offer =
            if by_callee { "offer b>ac1 at 10.77.0.42:2223" } else { "offer ac1>b at 10.77.0.42:2223" };
        assert_eq!(asked.last().map(String::as_str), Some(offer));
        let again = m.w.take(answerer).into_iter().next().expect("the re-INVITE");
        assert!(again.starts_with("INVITE ") && sdp(&again).contains(TWO), "{again}");
        // SDP for the callee is as the callee wants it, whoever asks.
        assert!(sdp(&again).contains(if by_callee { "RTP/AVP\r" } else { "RTP/SAVPF" }), "{again}");
        m.w.take(asker);
        let extra = if by_callee { format!("Contact: <sip:alice@{ALICE}>\r\n") } else { contact(BOB) };
        m.w.send(answerer, &with_sdp(&respond(&again, 200, "x", &extra), "answer"));
        let asked = m.serve();
        let answer =
            if by_callee { "answer b>ac1 at 10.77.0.42:2223" } else { "answer ac1>b at 10.77.0.42:2223" };
        assert_eq!(asked.first().map(String::as_str), Some(answer));
        assert!(asked.contains(&String::from("delete ac1> at 10.77.0.41:2223")), "{asked:?}");
        assert!(sdp(&m.w.expect(asker, "SIP/2.0 200 ")).contains(TWO));
        let dialog = m.w.state.dialogs().next().expect("a dialog");
        let session = dialog.media.as_ref().expect("media");
        assert_eq!((session.node, session.to_caller.as_str()), (addr(TWO), "RTP/AVP"));
        assert_eq!((m.w.state.media_load(addr(ONE)), m.w.state.media_load(addr(TWO))), (0, 1));
        assert_eq!(m.w.engine.counters().media_moved, 1);
    }
}

#[test]
fn sdp_too_large_for_a_message_counts_as_a_refusal() {
    let mut m = world();
    let huge = "x".repeat(proxy_core::msg::MAX_MESSAGE_BYTES);
    let answer = format!("d6:result2:ok3:sdp{}:{huge}e", huge.len());
    m.refuses = Some(answer.leak());
    m.w.register("bob", BOB);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    m.serve();
    assert!(sdp(&m.w.expect(BOB, "INVITE ")).contains("o=alice"));
    assert_eq!(m.w.engine.counters().media_failed, 1);
}

/// A call is moved off an rtpengine that is dead; it is still being told so when the call goes on.
fn moved(m: &mut Media) -> String {
    m.only(ONE);
    let (_, ok) = m.answered("c1");
    m.both();
    m.dead.insert(addr(ONE));
    m.w.send(ALICE, &with_sdp(&in_dialog_of_caller("INVITE", 2, &ok, ALICE), "again"));
    m.pass(Duration::from_millis(1100));
    let again = m.w.take(BOB).into_iter().find(|r| r.starts_with("INVITE ")).expect("the re-INVITE");
    m.w.take(ALICE);
    m.w.send(BOB, &with_sdp(&respond(&again, 200, "b", &contact(BOB)), "answer"));
    let asked = m.serve();
    assert!(asked.contains(&String::from("delete ac1> at 10.77.0.41:2223")), "{asked:?}");
    let ok = m.w.expect(ALICE, "SIP/2.0 200 ");
    m.w.send(ALICE, &in_dialog_of_caller("ACK", 2, &ok, ALICE));
    m.w.expect(BOB, "ACK ");
    ok
}

#[test]
fn a_bye_is_told_to_the_new_rtpengine_while_the_old_one_has_not_said_that_it_forgets_the_call() {
    let mut m = world();
    let ok = moved(&mut m);
    m.w.send(ALICE, &in_dialog_of_caller("BYE", 3, &ok, ALICE));
    let bye = m.w.expect(BOB, "BYE ");
    m.w.send(BOB, &respond(&bye, 200, "b", ""));
    assert_eq!(m.serve(), ["delete ac1> at 10.77.0.42:2223"]);
    // The old one is asked until it answers, or does not in time.
    assert!(m.pass(Duration::from_millis(600)).contains(&String::from("delete ac1> at 10.77.0.41:2223")));
}

#[test]
fn an_offer_to_the_new_rtpengine_leaves_the_deletion_at_the_old_one_alone() {
    let mut m = world();
    let ok = moved(&mut m);
    m.w.send(ALICE, &with_sdp(&in_dialog_of_caller("UPDATE", 3, &ok, ALICE), "more"));
    assert_eq!(m.serve(), ["offer ac1>b at 10.77.0.42:2223"]);
    assert!(m.pass(Duration::from_millis(600)).contains(&String::from("delete ac1> at 10.77.0.41:2223")));
}

#[test]
fn an_update_that_is_refused_leaves_nothing_at_the_rtpengine_that_it_was_to_move_the_call_to() {
    for answer in [Some(488), None] {
        let mut m = world();
        m.only(ONE);
        let (_, ok) = m.answered("c1");
        m.both();
        m.dead.insert(addr(ONE));
        m.w.send(ALICE, &with_sdp(&in_dialog_of_caller("UPDATE", 2, &ok, ALICE), "again"));
        let asked = m.pass(Duration::from_millis(1100));
        assert_eq!(asked.last().map(String::as_str), Some("offer ac1>b at 10.77.0.42:2223"));
        let update = m.w.expect(BOB, "UPDATE ");
        let asked = match answer {
            Some(status) => {
                m.w.send(BOB, &respond(&update, status, "b", ""));
                m.serve()
            }
            None => m.pass(Duration::from_secs(33)),
        };
        assert!(asked.contains(&String::from("delete ac1> at 10.77.0.42:2223")), "{asked:?}");
        let dialog = m.w.state.dialogs().next().expect("a dialog");
        assert_eq!(dialog.media.as_ref().map(|s| s.node), Some(addr(ONE)));
    }
}

#[test]
fn an_early_update_that_finds_its_rtpengine_dead_takes_the_call_to_another() {
    let mut m = world();
    m.only(ONE);
    let got = m.call("c1");
    m.w.send(BOB, &with_sdp(&respond(&got, 183, "b", &contact(BOB)), "bob"));
    m.serve();
    m.w.take(ALICE);
    m.both();
    m.dead.insert(addr(ONE));
    m.w.send(BOB, &with_sdp(&in_dialog_of_callee("UPDATE", 7, &got, "b", BOB), "again"));
    let asked = m.pass(Duration::from_millis(1100));
    assert_eq!(asked.last().map(String::as_str), Some("offer b>ac1 at 10.77.0.42:2223"));
    let update = m.w.take(ALICE).into_iter().find(|r| r.starts_with("UPDATE ")).expect("the UPDATE");
    m.w.send(ALICE, &with_sdp(&respond(&update, 200, "ac1", ""), "answer"));
    let asked = m.serve();
    assert_eq!(asked.first().map(String::as_str), Some("answer b>ac1 at 10.77.0.42:2223"));
    assert!(asked.contains(&String::from("delete ac1> at 10.77.0.41:2223")), "{asked:?}");
    m.w.take(BOB);
    m.w.send(BOB, &respond(&got, 200, "b", &contact(BOB)));
    let ok = m.w.take(ALICE).into_iter().find(|r| r.starts_with("SIP/2.0 200 ")).expect("a 200");
    let dialog = m.w.state.dialogs().next().expect("a dialog");
    assert_eq!(dialog.media.as_ref().map(|s| s.node), Some(addr(TWO)));
    m.w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    m.w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    let bye = m.w.take(BOB).into_iter().find(|r| r.starts_with("BYE ")).expect("a BYE");
    m.w.send(BOB, &respond(&bye, 200, "b", ""));
    assert!(m.serve().contains(&String::from("delete ac1> at 10.77.0.42:2223")));
}

#[test]
fn an_offer_for_which_there_is_no_room_passes_or_is_refused_as_if_no_rtpengine_had_answered() {
    for on_failure in [OnFailure::Pass, OnFailure::Reject] {
        let mut m = with(MediaConfig { on_failure, ..media(Usage::Always) });
        m.w.register("bob", BOB);
        for n in 0..MAX_WAITING {
            m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, &format!("c{n}")), "alice"));
        }
        m.w.expect_nothing(ALICE);
        m.w.expect_nothing(BOB);
        m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "one-more"), "alice"));
        match on_failure {
            OnFailure::Pass => assert!(sdp(&m.w.expect(BOB, "INVITE ")).contains("o=alice")),
            OnFailure::Reject => {
                m.w.expect(ALICE, "SIP/2.0 503 No Media Proxy");
                m.w.expect_nothing(BOB);
            }
        }
        assert_eq!(m.w.engine.counters().media_failed, 1);
    }
}

#[test]
fn an_rtpengine_that_is_put_aside_keeps_its_calls() {
    let mut m = world();
    m.only(ONE);
    let (_, ok) = m.answered("c1");
    m.only(TWO);
    m.w.send(ALICE, &with_sdp(&in_dialog_of_caller("INVITE", 2, &ok, ALICE), "again"));
    assert_eq!(m.serve(), ["offer ac1>b at 10.77.0.41:2223"]);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c2"), "alice"));
    assert_eq!(m.serve(), ["offer ac2> at 10.77.0.42:2223"]);
}

#[test]
fn strangers_and_garbage_answer_nothing() {
    let mut m = world();
    m.w.register("bob", BOB);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    let (to, bytes) = m.w.media.front().cloned().expect("a question");
    let (cookie, _) = dict(&bytes);
    let answer = format!("{cookie} d6:result2:ok3:sdp5:v=0\r\ne");
    let forged: [(SocketAddr, Vec<u8>); 4] = [
        (addr("10.77.0.66:2223"), answer.clone().into_bytes()),
        (to, format!("0_1_0000000000000000 {}", &answer[cookie.len() + 1..]).into_bytes()),
        (to, b"\xff\xfe".to_vec()),
        (to, format!("{cookie} garbage").into_bytes()),
    ];
    for (from, bytes) in forged {
        m.w.engine.handle_media(m.w.now, from, &bytes, &m.w.state);
    }
    m.w.settle();
    m.w.expect_nothing(BOB);
    assert_eq!(m.w.engine.counters().dropped_stray, 4);
    m.w.engine.handle_media(m.w.now, to, answer.as_bytes(), &m.w.state);
    m.w.settle();
    assert_eq!(sdp(&m.w.expect(BOB, "INVITE ")), "v=0\r\n");
}

#[test]
fn two_nodes_choose_the_same_and_calls_are_shared() {
    let at = |id: &str| {
        let mut m = world();
        m.w.register("bob", BOB);
        m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, id), "alice"));
        m.serve()
    };
    let mut seen = BTreeSet::new();
    for n in 0..16 {
        let id = format!("call{n}");
        assert_eq!(at(&id), at(&id));
        seen.extend(at(&id).into_iter().filter_map(|q| q.rsplit(' ').next().map(str::to_owned)));
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    // The one with fewer calls gets the next.
    let mut m = world();
    m.w.register("bob", BOB);
    for n in 0..8 {
        m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, &format!("c{n}")), "alice"));
        m.serve();
    }
    assert_eq!((m.w.state.media_load(addr(ONE)), m.w.state.media_load(addr(TWO))), (4, 4));
}

#[test]
fn a_dead_rtpengine_that_is_not_configured_any_more_is_forgotten_by_the_cluster() {
    let stale = |m: &mut Media| {
        for node in [ONE, "10.77.0.49:2223"] {
            let at = m.w.now.wall;
            let command = MediaCommand::Health { node: addr(node), dead: true, at };
            m.w.state.apply(&SipCommand::Media(command));
        }
    };
    let mut m = world();
    m.dead.insert(addr(ONE));
    stale(&mut m);
    m.pass(Duration::from_secs(2));
    let left: Vec<_> = m.w.state.media_nodes().dead.keys().copied().collect();
    assert_eq!(left, [addr(ONE)], "one that is configured stays until it answers");
    let told = m.w.log.iter().filter(|c| matches!(c, SipCommand::Media(_))).count();
    assert_eq!(told, 1);
    // Also where none is configured; and what the operator has put aside is the operator's.
    let mut m = with(MediaConfig::default());
    stale(&mut m);
    let node = addr(ONE);
    m.w.state.apply(&SipCommand::Media(MediaCommand::SetDisabled { node, disabled: true, at: m.w.now.wall }));
    m.pass(Duration::from_secs(2));
    assert!(m.w.state.media_nodes().dead.is_empty());
    assert!(m.w.state.media_nodes().disabled.contains_key(&node));
    // One engine tells the cluster, not each.
    let mut m = world();
    m.w.config.shards = 2;
    m.w.config.shard = 1;
    m.w.fail_over(Duration::from_millis(300));
    stale(&mut m);
    m.pass(Duration::from_secs(2));
    assert!(m.w.state.media_nodes().dead.contains_key(&addr("10.77.0.49:2223")));
}
