//! The stories of a lost node, step by step: what the next owner does with what the cluster remembers.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::engine::{Engine, shard_of};
use proxy_core::io::{EngineConfig, Refusal};
use proxy_core::state::InviteState;

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB2: &str = "10.77.0.202:5063";
const BOB3: &str = "10.77.0.202:5064";
const BOB_URI: &str = "sip:bob@lab.test";
const OUTAGE: Duration = Duration::from_millis(300);

fn contact(at: &str) -> String {
    format!("Contact: <sip:bob@{at}>\r\n")
}

/// Alice calls, and the phones at these places ring. Gives their INVITEs.
fn ringing(w: &mut World, places: &[&str]) -> Vec<String> {
    for place in places {
        w.register("bob", place);
    }
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let invites: Vec<String> = places.iter().map(|p| w.expect(p, "INVITE ")).collect();
    for (place, invite) in places.iter().zip(&invites) {
        w.send(place, &respond(invite, 180, &format!("t{place}"), ""));
    }
    w.take(ALICE);
    invites
}

fn ack_of(busy: &str) -> String {
    invite(BOB_URI, ALICE, "c1")
        .replace("INVITE sip", "ACK sip")
        .replace("1 INVITE", "1 ACK")
        .replace(&format!("To: <{BOB_URI}>"), &format!("To: {}", header(busy, "To").expect("To")))
}

#[test]
fn story_1_an_answered_call_goes_on_with_reinvite_and_bye_from_either_side() {
    for from_caller in [true, false] {
        let mut w = World::new();
        let invites = ringing(&mut w, &[BOB]);
        w.send(BOB, &respond(&invites[0], 200, "b1", &contact(BOB)));
        let ok = w.expect(ALICE, "SIP/2.0 200 ");
        w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
        w.expect(BOB, "ACK ");
        w.fail_over(OUTAGE);
        w.expect_nothing(ALICE);
        w.expect_nothing(BOB);
        w.send(ALICE, &in_dialog_of_caller("INVITE", 2, &ok, ALICE));
        w.expect(ALICE, "SIP/2.0 100 ");
        let again = w.expect(BOB, "INVITE ");
        w.send(BOB, &respond(&again, 200, "b1", &contact(BOB)));
        w.expect(ALICE, "SIP/2.0 200 ");
        w.send(ALICE, &in_dialog_of_caller("ACK", 2, &ok, ALICE));
        w.expect(BOB, "ACK ");
        if from_caller {
            w.send(ALICE, &in_dialog_of_caller("BYE", 3, &ok, ALICE));
            let bye = w.expect(BOB, "BYE ");
            w.send(BOB, &respond(&bye, 200, "b1", ""));
            w.expect(ALICE, "SIP/2.0 200 ");
        } else {
            w.send(BOB, &in_dialog_of_callee("BYE", 1, &invites[0], "b1", BOB));
            let bye = w.expect(ALICE, "BYE ");
            w.send(ALICE, &respond(&bye, 200, "b1", ""));
            w.expect(BOB, "SIP/2.0 200 ");
        }
        assert_eq!(w.state.counts().dialogs, 0);
    }
}

#[test]
fn story_2_three_ringing_forks_one_answers_and_the_others_get_cancel() {
    let mut w = World::new();
    let invites = ringing(&mut w, &[BOB, BOB2, BOB3]);
    w.fail_over(OUTAGE);
    assert_eq!(w.engine.counters().rebuilt, 1);
    w.expect_nothing(ALICE);
    // Byte for byte what they have seen: a retransmission.
    for (place, invite) in [BOB, BOB2, BOB3].iter().zip(&invites) {
        assert_eq!(&w.expect(place, "INVITE "), invite);
        w.send(place, &respond(invite, 180, &format!("t{place}"), ""));
    }
    w.take(ALICE);
    w.send(BOB2, &respond(&invites[1], 200, "b2", &contact(BOB2)));
    w.expect(ALICE, "SIP/2.0 200 ");
    for (n, place) in [(0, BOB), (2, BOB3)] {
        let cancel = w.expect(place, "CANCEL ");
        w.send(place, &respond(&cancel, 200, "x", ""));
        w.send(place, &respond(&invites[n], 487, "x", ""));
        w.expect(place, "ACK ");
    }
    w.expect_nothing(ALICE);
}

#[test]
fn story_3_the_caller_hangs_up_after_the_loss() {
    let mut w = World::new();
    let invites = ringing(&mut w, &[BOB]);
    w.fail_over(OUTAGE);
    w.expect(BOB, "INVITE ");
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.send(BOB, &respond(&invites[0], 180, "b", ""));
    let at_bob = w.expect(BOB, "CANCEL ");
    w.send(BOB, &respond(&at_bob, 200, "b", ""));
    w.send(BOB, &respond(&invites[0], 487, "b", ""));
    w.expect(BOB, "ACK ");
    w.expect(ALICE, "SIP/2.0 487 ");
}

#[test]
fn story_4_nobody_answers_and_timer_c_fires_on_the_new_node_at_its_time() {
    let mut w = World::with(EngineConfig { timer_c: Duration::from_secs(14), ..config() });
    let invites = ringing(&mut w, &[BOB]);
    w.pass(Duration::from_secs(10));
    w.fail_over(Duration::from_secs(1));
    w.expect(BOB, "INVITE ");
    // The phone repeats itself, because it was asked again: that wins no time.
    w.send(BOB, &respond(&invites[0], 180, "b", ""));
    w.take(ALICE);
    w.pass(Duration::from_millis(2_900));
    w.expect_nothing(ALICE);
    w.pass(Duration::from_millis(200));
    w.expect(ALICE, "SIP/2.0 408 ");
    w.expect(BOB, "CANCEL ");
}

#[test]
fn story_5_an_acknowledged_registration_is_found() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.fail_over(OUTAGE);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(BOB, "INVITE ");
    // And one whose answer was lost is answered, not refused, when it comes again.
    let again = register("bob", BOB, 1, &format!("<sip:bob@{BOB}>"));
    w.send(BOB, &again);
    w.expect(BOB, "SIP/2.0 200 ");
}

#[test]
fn story_6_an_invite_with_its_100_is_completed_without_the_caller() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.cluster = Cluster::Waits;
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    assert!(w.verdict());
    // The 100 leaves, and the node is gone before the copy does.
    assert!(w.step());
    w.expect(ALICE, "SIP/2.0 100 ");
    w.cluster = Cluster::Commits;
    w.fail_over(OUTAGE);
    let at_bob = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&at_bob, 200, "b", &contact(BOB)));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn story_7_a_switchover_repeats_nothing_to_callers_whose_calls_are_settled() {
    let mut w = World::new();
    let invites = ringing(&mut w, &[BOB]);
    w.send(BOB, &respond(&invites[0], 200, "b1", &contact(BOB)));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(BOB, "ACK ");
    w.engine.deactivate();
    w.fail_over(Duration::from_millis(30));
    w.pass(Duration::from_secs(5));
    w.expect_nothing(ALICE);
    w.expect_nothing(BOB);
    assert_eq!(w.engine.counters().rebuilt, 0);
}

#[test]
fn an_invite_that_comes_again_after_the_loss_does_not_fork_twice() {
    let mut w = World::new();
    let invites = ringing(&mut w, &[BOB]);
    w.fail_over(OUTAGE);
    assert_eq!(w.expect(BOB, "INVITE "), invites[0]);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    w.expect_nothing(BOB);
}

#[test]
fn an_invite_that_was_not_committed_comes_again_with_the_same_branch() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.cluster = Cluster::Waits;
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.fail_over(OUTAGE);
    w.cluster = Cluster::Commits;
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let first = w.expect(BOB, "INVITE ");
    // As if nothing had been remembered on a third node: still the same copy.
    let key = w.state.pending_invites().next().expect("one").key.clone();
    w.state.apply(&proxy_core::state::SipCommand::InviteDone { key });
    w.fail_over(OUTAGE);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    assert_eq!(w.expect(BOB, "INVITE "), first);
}

#[test]
fn a_committed_answer_reaches_the_caller_from_the_new_node_and_the_losers_get_cancel() {
    let mut w = World::new();
    let invites = ringing(&mut w, &[BOB, BOB2]);
    w.cluster = Cluster::CommitsUnheard;
    w.send(BOB, &respond(&invites[0], 200, "b1", &contact(BOB)));
    w.expect_nothing(ALICE);
    w.cluster = Cluster::Commits;
    w.fail_over(OUTAGE);
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.expect_nothing(BOB);
    let cancel = w.expect(BOB2, "CANCEL ");
    w.send(BOB2, &respond(&cancel, 200, "x", ""));
    w.send(BOB2, &respond(&invites[1], 487, "x", ""));
    w.expect(BOB2, "ACK ");
    // The phone repeats its 2xx, the caller gets it, too; a retransmitted INVITE is absorbed.
    w.send(BOB, &respond(&invites[0], 200, "b1", &contact(BOB)));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect_nothing(ALICE);
    w.expect_nothing(BOB);
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(BOB, "ACK ");
    assert_eq!(w.state.counts().pending_invites, 0);
}

#[test]
fn a_committed_failure_is_repeated_to_the_caller_until_its_ack() {
    let mut w = World::new();
    let invites = ringing(&mut w, &[BOB]);
    w.cluster = Cluster::CommitsUnheard;
    w.send(BOB, &respond(&invites[0], 486, "b1", ""));
    w.expect_nothing(ALICE);
    w.cluster = Cluster::Commits;
    w.fail_over(OUTAGE);
    let busy = w.expect(ALICE, "SIP/2.0 486 ");
    w.pass(Duration::from_millis(500));
    assert_eq!(w.expect(ALICE, "SIP/2.0 486 "), busy);
    w.take(BOB);
    // Bob was never acknowledged and says so.
    w.send(BOB, &respond(&invites[0], 486, "b1", ""));
    w.expect(BOB, "ACK ");
    w.send(ALICE, &ack_of(&busy));
    w.pass(Duration::from_secs(100));
    w.expect_nothing(ALICE);
    assert_eq!(w.engine.load().0, 0);
    assert_eq!(w.state.counts().pending_invites, 0);
}

#[test]
fn a_committed_hanging_up_stops_the_ringing_from_the_new_node() {
    for (told, answer) in [(true, 487), (false, 481)] {
        let mut w = World::new();
        w.register("bob", BOB);
        w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
        w.take(ALICE);
        let at_bob = w.expect(BOB, "INVITE ");
        if told {
            w.send(BOB, &respond(&at_bob, 180, "b", ""));
            w.take(ALICE);
        }
        w.cluster = Cluster::CommitsUnheard;
        w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
        w.expect_nothing(ALICE);
        w.cluster = Cluster::Commits;
        w.fail_over(OUTAGE);
        // Nothing rings again.
        let cancel_at_bob = w.expect(BOB, "CANCEL ");
        assert_eq!(
            header(&cancel_at_bob, "Via"),
            header(&at_bob, "Via").map(|v| v.split(", ").next().expect("top").to_owned())
        );
        w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
        w.expect(ALICE, "SIP/2.0 200 ");
        if answer == 487 {
            w.send(BOB, &respond(&cancel_at_bob, 200, "b", ""));
            w.send(BOB, &respond(&at_bob, 487, "b", ""));
            w.expect(BOB, "ACK ");
        } else {
            // This phone never saw the INVITE.
            w.send(BOB, &respond(&cancel_at_bob, 481, "b", ""));
        }
        w.expect(ALICE, "SIP/2.0 487 ");
    }
}

#[test]
fn a_branch_that_failed_is_acknowledged_by_the_new_node_and_not_called_again() {
    let mut w = World::new();
    let invites = ringing(&mut w, &[BOB, BOB2]);
    w.cluster = Cluster::CommitsUnheard;
    w.send(BOB, &respond(&invites[0], 486, "b1", ""));
    w.expect_nothing(BOB);
    w.cluster = Cluster::Commits;
    w.fail_over(OUTAGE);
    w.expect(BOB, "ACK ");
    w.expect(BOB2, "INVITE ");
    w.send(BOB, &respond(&invites[0], 486, "b1", ""));
    w.expect(BOB, "ACK ");
    w.send(BOB2, &respond(&invites[1], 404, "b2", ""));
    w.expect(ALICE, "SIP/2.0 486 ");
}

#[test]
fn a_2xx_whose_ack_was_lost_with_the_old_node_is_passed_on() {
    let mut w = World::new();
    let invites = ringing(&mut w, &[BOB]);
    let answer = respond(&invites[0], 200, "b1", &contact(BOB));
    w.send(BOB, &answer);
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.take(BOB);
    w.fail_over(OUTAGE);
    w.send(BOB, &answer);
    assert_eq!(w.expect(ALICE, "SIP/2.0 200 "), ok);
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(BOB, "ACK ");
    // A 2xx of no dialog goes nowhere.
    w.send(BOB, &answer.replace("tag=b1", "tag=b9"));
    w.expect_nothing(ALICE);
}

#[test]
fn a_bye_whose_answer_was_not_committed_goes_through_again() {
    let mut w = World::new();
    let invites = ringing(&mut w, &[BOB]);
    w.send(BOB, &respond(&invites[0], 200, "b1", &contact(BOB)));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.take(BOB);
    let bye = in_dialog_of_caller("BYE", 2, &ok, ALICE);
    w.send(ALICE, &bye);
    let at_bob = w.expect(BOB, "BYE ");
    w.cluster = Cluster::Refuses(Refusal::Unknown);
    w.send(BOB, &respond(&at_bob, 200, "b1", ""));
    w.expect_nothing(ALICE);
    w.cluster = Cluster::Commits;
    w.send(ALICE, &bye);
    assert_eq!(w.expect(BOB, "BYE "), at_bob);
    w.send(BOB, &respond(&at_bob, 200, "b1", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(w.state.counts().dialogs, 0);
}

#[test]
fn a_bye_for_a_call_that_its_phone_has_forgotten_ends_it_before_the_481_goes_back() {
    let mut w = World::new();
    let invites = ringing(&mut w, &[BOB]);
    w.send(BOB, &respond(&invites[0], 200, "b1", &contact(BOB)));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.take(BOB);
    let bye = in_dialog_of_caller("BYE", 2, &ok, ALICE);
    w.send(ALICE, &bye);
    let at_bob = w.expect(BOB, "BYE ");
    w.cluster = Cluster::Waits;
    w.send(BOB, &respond(&at_bob, 481, "b1", ""));
    w.expect_nothing(ALICE);
    // Lost with the node: the BYE comes again, so that the call does have its end.
    w.fail_over(Duration::from_millis(300));
    w.cluster = Cluster::Commits;
    w.send(ALICE, &bye);
    w.expect(BOB, "BYE ");
    w.send(BOB, &respond(&at_bob, 481, "b1", ""));
    w.expect(ALICE, "SIP/2.0 481 ");
    assert_eq!(w.state.counts().dialogs, 0);
}

#[test]
fn only_the_calls_of_the_shard_are_rebuilt() {
    let mut w = World::new();
    ringing(&mut w, &[BOB]);
    let owner = shard_of(b"c1", 4);
    for shard in 0..4 {
        let mut engine = Engine::new(EngineConfig { shard, shards: 4, ..config() });
        engine.activate(w.now, &w.state);
        assert_eq!(engine.counters().rebuilt, u64::from(shard == owner));
    }
}

#[test]
fn timer_c_is_replicated_when_ringing_goes_on_and_on() {
    let mut w = World::with(EngineConfig { timer_c: Duration::from_secs(100), ..config() });
    let invites = ringing(&mut w, &[BOB]);
    let before = w.log.len();
    for _ in 0..50 {
        w.pass(Duration::from_secs(4));
        w.send(BOB, &respond(&invites[0], 180, &format!("t{BOB}"), ""));
    }
    assert!(w.log.len() - before <= 4, "{}", w.log.len() - before);
    assert!(w.take(ALICE).iter().all(|m| m.starts_with("SIP/2.0 180 ")));
    w.fail_over(OUTAGE);
    w.send(BOB, &respond(&invites[0], 180, &format!("t{BOB}"), ""));
    w.take(ALICE);
    let end = w.state.pending_invites().next().expect("one").timer_c_at;
    w.pass(w.now.wall.until(end) + Duration::from_millis(100));
    w.expect(ALICE, "SIP/2.0 408 ");
    assert!(matches!(w.state.pending_invites().next().expect("one").state, InviteState::Failed { .. }));
}

#[test]
fn what_the_caller_has_not_acknowledged_is_said_again_by_the_next_node() {
    for status in [200, 486] {
        let mut w = World::new();
        let invites = ringing(&mut w, &[BOB]);
        w.send(BOB, &respond(&invites[0], status, "b1", &contact(BOB)));
        // Sent, and lost on the way together with the node.
        let lost = w.expect(ALICE, &format!("SIP/2.0 {status} "));
        w.take(BOB);
        w.fail_over(OUTAGE);
        assert_eq!(w.expect(ALICE, &format!("SIP/2.0 {status} ")), lost);
    }
}
