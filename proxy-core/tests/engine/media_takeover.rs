//! Calls whose media go through rtpengines, and what a node knows of them that takes over.

use std::time::Duration;

use crate::common::media::*;
use crate::common::story::*;
use proxy_core::media::DEAD_PING;
use proxy_core::state::{MediaCommand, SipCommand};

/// A node is lost after each step of a call; phones repeat what they have said last. Both get the SDP of the rtpengine
/// and nothing else, and in the end it is told.
#[test]
fn wherever_the_active_node_is_lost_phones_get_the_sdp_of_the_rtpengine_and_it_is_told_the_end() {
    // Steps: how many questions to rtpengines and verdicts go through before the node is lost.
    for lost_at in 0..8 {
        let mut m = world();
        m.only(ONE);
        m.w.register("bob", BOB);
        m.w.cluster = Cluster::Waits;
        let mut left = lost_at;
        let mut asked = Vec::new();
        // Says it, lets things happen one by one, and says it again until `heard` has got what it waits for.
        let mut say = |m: &mut Media, from: &str, text: &str, heard: &str, start: &str| {
            for _ in 0..4 {
                m.w.send(from, text);
                loop {
                    if left == 0 {
                        left = usize::MAX;
                        m.w.fail_over(Duration::from_millis(300));
                        break;
                    }
                    let is_question = !m.w.media.is_empty();
                    if is_question {
                        let rest = m.w.media.split_off(1);
                        asked.extend(m.serve_first());
                        m.w.media.extend(rest);
                    } else if !m.w.verdict() {
                        break;
                    }
                    m.w.settle();
                    left -= 1;
                }
                let got = m.w.take(heard).into_iter().rfind(|t| t.starts_with(start));
                if let Some(got) = got {
                    return got;
                }
                m.w.tick(Duration::from_millis(500));
            }
            panic!("{heard} never gets {start} when the node is lost at {lost_at}");
        };
        let invite = with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice");
        let got = say(&mut m, ALICE, &invite, BOB, "INVITE ");
        assert!(sdp(&got).contains("s=offer"), "{lost_at}: {got}");
        let early = with_sdp(&respond(&got, 183, "b", &contact(BOB)), "bob");
        let ringing = say(&mut m, BOB, &early, ALICE, "SIP/2.0 183 ");
        assert!(sdp(&ringing).contains("s=answer"), "{lost_at}: {ringing}");
        let ok = with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob");
        let ok = say(&mut m, BOB, &ok, ALICE, "SIP/2.0 200 ");
        assert!(sdp(&ok).contains("s=answer"), "{lost_at}: {ok}");
        say(&mut m, ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE), BOB, "ACK ");
        let bye = in_dialog_of_caller("BYE", 2, &ok, ALICE);
        let got = say(&mut m, ALICE, &bye, BOB, "BYE ");
        m.w.send(BOB, &respond(&got, 200, "b", ""));
        if lost_at % 2 == 1 {
            // Lost before the end is safe: alice, who has no answer, asks again, and bob answers again.
            m.serve();
            m.w.fail_over(Duration::from_millis(300));
            m.w.take(BOB);
            m.w.send(ALICE, &bye);
            let again = m.w.expect(BOB, "BYE ");
            m.w.send(BOB, &respond(&again, 200, "b", ""));
        }
        m.w.cluster = Cluster::Commits;
        m.w.settle();
        asked.extend(m.serve());
        assert!(asked.last().is_some_and(|q| q.starts_with("delete ac1>")), "{lost_at}: {asked:?}");
        assert_eq!(m.w.state.media_load(addr(ONE)), 0, "{lost_at}");
    }
}

#[test]
fn after_a_takeover_while_it_rings_the_answer_goes_through_the_same_rtpengine_and_the_end_is_told() {
    let mut m = world();
    m.only(ONE);
    let got = m.call("c1");
    m.w.send(BOB, &respond(&got, 180, "b", ""));
    m.w.take(ALICE);
    m.both();
    m.w.fail_over(Duration::from_millis(300));
    // A retransmission to the byte: the phone takes it for one.
    assert_eq!(m.w.expect(BOB, "INVITE "), got);
    m.w.send(BOB, &with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob"));
    assert_eq!(m.serve(), ["answer ac1>b at 10.77.0.41:2223"]);
    let ok = m.w.expect(ALICE, "SIP/2.0 200 ");
    assert!(sdp(&ok).contains("s=answer ac1>b"));
    m.w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    m.w.expect(BOB, "ACK ");
    m.w.fail_over(Duration::from_millis(300));
    m.w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    let bye = m.w.take(BOB).into_iter().find(|r| r.starts_with("BYE ")).expect("a BYE");
    m.w.send(BOB, &respond(&bye, 200, "b", ""));
    assert_eq!(m.serve(), ["delete ac1> at 10.77.0.41:2223"]);
}

#[test]
fn an_answer_that_the_last_owner_had_asked_for_is_asked_for_again() {
    let mut m = world();
    m.only(ONE);
    let got = m.call("c1");
    let ok = with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob");
    m.w.send(BOB, &ok);
    let first = m.w.media.pop_front().expect("a question").1;
    m.w.fail_over(Duration::from_millis(300));
    m.w.take(BOB);
    m.w.send(BOB, &ok);
    let second = m.w.media.front().cloned().expect("a question").1;
    assert_ne!(
        dict(&first).0,
        dict(&second).0,
        "another cookie: the rtpengine does not take it for the old one"
    );
    assert_eq!(m.serve(), ["answer ac1>b at 10.77.0.41:2223"]);
    assert!(sdp(&m.w.expect(ALICE, "SIP/2.0 200 ")).contains("s=answer"));
}

#[test]
fn after_a_takeover_with_the_ack_lost_the_2xx_still_has_the_sdp_of_the_rtpengine() {
    let mut m = world();
    m.only(ONE);
    let (got, _) = m.answered("c1");
    m.w.fail_over(Duration::from_millis(300));
    m.w.take(ALICE);
    m.w.take(BOB);
    m.w.send(BOB, &with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob"));
    m.serve();
    assert!(sdp(&m.w.expect(ALICE, "SIP/2.0 200 ")).contains("s=answer ac1>b"));
}

#[test]
fn a_cancelled_call_is_deleted_by_who_takes_over() {
    let mut m = world();
    m.only(ONE);
    let got = m.call("c1");
    m.w.send(BOB, &respond(&got, 180, "b", ""));
    m.w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    m.w.fail_over(Duration::from_millis(300));
    m.w.take(BOB);
    m.w.send(BOB, &respond(&got, 487, "b", ""));
    assert_eq!(m.serve(), ["delete ac1> at 10.77.0.41:2223"]);
    // Lost again, before the caller has acknowledged the failure: nobody knows whether the deletion has left.
    m.w.fail_over(Duration::from_millis(300));
    assert_eq!(m.serve(), ["delete ac1> at 10.77.0.41:2223"]);
}

/// Alice calls without SDP; bob offers in a reliable 183, which she answers in a PRACK. The INVITE as bob got it, and the
/// PRACK as she has sent it.
fn settled_by_prack(m: &mut Media) -> (String, String) {
    m.only(ONE);
    m.w.register("bob", BOB);
    m.w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let got = m.w.expect(BOB, "INVITE ");
    let reliable = format!("{}Require: 100rel\r\nRSeq: 1\r\n", contact(BOB));
    m.w.send(BOB, &with_sdp(&respond(&got, 183, "b", &reliable), "bob"));
    m.serve();
    let prack = with_sdp(&prack(&got, 2, 1), "alice");
    m.w.send(ALICE, &prack);
    assert_eq!(m.serve(), ["answer b>ac1 at 10.77.0.41:2223"]);
    m.w.take(ALICE);
    (got, prack)
}

fn prack(got: &str, cseq: u32, rseq: u32) -> String {
    in_dialog_of_caller("PRACK", cseq, &respond(got, 183, "b", &contact(BOB)), ALICE)
        .replace("Content-Length", &format!("RAck: {rseq} 1 INVITE\r\nContent-Length"))
}

#[test]
fn who_takes_over_knows_that_a_prack_has_answered_so_that_the_next_one_offers_rfc3262_5() {
    let mut m = world();
    let (got, first) = settled_by_prack(&mut m);
    m.w.fail_over(Duration::from_millis(300));
    m.w.take(BOB);
    // Nobody has answered the PRACK, so alice says it again: it is what it was.
    m.w.send(ALICE, &first);
    assert_eq!(m.serve(), ["answer b>ac1 at 10.77.0.41:2223"]);
    let at_bob = m.w.expect(BOB, "PRACK ");
    m.w.send(BOB, &respond(&at_bob, 200, "b", ""));
    m.w.expect(ALICE, "SIP/2.0 200 ");
    m.w.send(ALICE, &with_sdp(&prack(&got, 3, 2), "more"));
    assert_eq!(m.serve(), ["offer ac1>b at 10.77.0.41:2223"]);
    let at_bob = m.w.expect(BOB, "PRACK ");
    // Refused: what the first PRACK has settled holds, also here.
    m.told.clear();
    m.w.send(BOB, &respond(&at_bob, 488, "b", ""));
    m.serve();
    assert_eq!(m.told, ["offer bob", "answer alice"]);
    m.w.expect(ALICE, "SIP/2.0 488 ");
    m.w.send(BOB, &respond(&got, 200, "b", &contact(BOB)));
    m.w.expect(ALICE, "SIP/2.0 200 ");
    assert!(m.w.state.index_is_right());
}

#[test]
fn media_that_an_early_update_has_moved_are_found_by_who_takes_over_before_the_2xx() {
    let mut m = world();
    m.only(ONE);
    let got = m.call("c1");
    m.w.send(BOB, &with_sdp(&respond(&got, 183, "b", &contact(BOB)), "bob"));
    m.serve();
    m.w.take(ALICE);
    m.both();
    m.dead.insert(addr(ONE));
    m.w.send(BOB, &with_sdp(&in_dialog_of_callee("UPDATE", 7, &got, "b", BOB), "again"));
    m.pass(Duration::from_millis(1100));
    let update = m.w.take(ALICE).into_iter().find(|r| r.starts_with("UPDATE ")).expect("the UPDATE");
    m.w.send(ALICE, &with_sdp(&respond(&update, 200, "ac1", ""), "answer"));
    m.serve();
    assert_eq!((m.w.state.media_load(addr(ONE)), m.w.state.media_load(addr(TWO))), (0, 1));
    // The old one is back: the media are not there any more.
    m.dead.clear();
    m.w.fail_over(Duration::from_millis(300));
    m.serve();
    m.w.take(ALICE);
    m.w.take(BOB);
    m.w.send(BOB, &with_sdp(&in_dialog_of_callee("UPDATE", 8, &got, "b", BOB), "more"));
    assert_eq!(m.serve(), ["offer b>ac1 at 10.77.0.42:2223"]);
    let update = m.w.expect(ALICE, "UPDATE ");
    m.w.send(ALICE, &with_sdp(&respond(&update, 200, "ac1", ""), "answer"));
    assert_eq!(m.serve(), ["answer b>ac1 at 10.77.0.42:2223"]);
    m.w.take(BOB);
    m.w.send(BOB, &respond(&got, 200, "b", &contact(BOB)));
    m.w.take(ALICE).into_iter().find(|r| r.starts_with("SIP/2.0 200 ")).expect("a 200");
    let dialog = m.w.state.dialogs().next().expect("a dialog");
    assert_eq!(dialog.media.as_ref().map(|s| s.node), Some(addr(TWO)));
    assert!(m.w.state.index_is_right());
}

#[test]
fn media_that_an_early_update_has_moved_end_where_they_are_when_the_caller_gives_up_after_a_takeover() {
    let mut m = world();
    m.only(ONE);
    let got = m.call("c1");
    m.w.send(BOB, &with_sdp(&respond(&got, 183, "b", &contact(BOB)), "bob"));
    m.serve();
    m.both();
    m.dead.insert(addr(ONE));
    m.w.send(BOB, &with_sdp(&in_dialog_of_callee("UPDATE", 7, &got, "b", BOB), "again"));
    m.pass(Duration::from_millis(1100));
    let update = m.w.take(ALICE).into_iter().find(|r| r.starts_with("UPDATE ")).expect("the UPDATE");
    m.w.send(ALICE, &with_sdp(&respond(&update, 200, "ac1", ""), "answer"));
    m.serve();
    m.w.fail_over(Duration::from_millis(300));
    m.w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    m.w.send(BOB, &respond(&got, 487, "b", ""));
    assert!(m.serve().contains(&String::from("delete ac1> at 10.77.0.42:2223")));
}

/// Offers of new calls, so many that both rtpengines would get some.
fn offers(m: &mut Media, from: usize) -> Vec<String> {
    let mut asked = Vec::new();
    for n in from..from + 4 {
        m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, &format!("n{n}")), "alice"));
        asked.extend(m.serve());
    }
    asked
}

#[test]
fn who_takes_over_does_not_ask_an_rtpengine_that_the_last_owner_knew_to_be_dead() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    m.dead.insert(addr(ONE));
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    m.both();
    m.pass(Duration::from_millis(1100));
    m.w.fail_over(Duration::from_millis(300));
    // It is asked at once whether it is back, so that one which only the last owner could not reach is used again soon.
    let pings = m.w.media.iter().filter(|(to, _)| *to == addr(ONE)).count();
    assert_eq!(pings, 1);
    assert!(offers(&mut m, 0).iter().all(|q| q.starts_with("offer") && q.contains(TWO)));
    let health = m.w.engine.media_health();
    assert!(health.iter().any(|(node, h)| *node == addr(ONE) && h.dead), "{health:?}");
    // A second takeover knows it, too.
    m.w.fail_over(Duration::from_millis(300));
    assert!(offers(&mut m, 10).iter().all(|q| q.contains(TWO)));
    // It is back: this node finds out, and the next one begins with it.
    m.dead.clear();
    m.pass(DEAD_PING * 2);
    m.w.fail_over(Duration::from_millis(300));
    m.w.media.clear();
    assert!(offers(&mut m, 20).iter().any(|q| q.contains(ONE)));
    assert!(m.w.state.index_is_right());
}

#[test]
fn an_rtpengine_that_answers_who_takes_over_is_used_within_a_round_trip() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    m.dead.insert(addr(ONE));
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    m.pass(Duration::from_millis(1100));
    m.w.take(BOB);
    m.dead.clear();
    m.w.fail_over(Duration::from_millis(300));
    m.serve();
    m.w.take(BOB);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c2"), "alice"));
    assert_eq!(m.serve(), ["offer ac2> at 10.77.0.41:2223"]);
}

#[test]
fn the_cluster_is_told_of_a_change_of_health_once() {
    let mut m = world();
    m.w.register("bob", BOB);
    m.only(ONE);
    m.dead.insert(addr(ONE));
    for n in 0..5 {
        m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, &format!("c{n}")), "alice"));
    }
    let told = |m: &Media, wanted| {
        let is = |c: &&SipCommand| matches!(c, SipCommand::Media(MediaCommand::Health { dead, .. }) if *dead == wanted);
        m.w.log.iter().filter(is).count()
    };
    m.pass(Duration::from_secs(20));
    assert_eq!((told(&m, true), told(&m, false)), (1, 0));
    m.dead.clear();
    m.pass(Duration::from_secs(20));
    assert_eq!((told(&m, true), told(&m, false)), (1, 1));
    assert!(m.w.state.media_nodes().dead.is_empty());
}
