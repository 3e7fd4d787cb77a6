//! Serial forking: what is tried next when a round of branches has failed, in one life and across the loss of a node.
//! RFC 3261 §16.5 to §16.7; Kamailio's failure_route, TOVOICEMAIL and failure_reply_mode 3.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::io::{EngineConfig, Refusal};
use proxy_core::routing::{Action, Fork, Match, Pattern, RoutingConfig, Rule, Voicemail};
use proxy_core::state::dispatcher::{Attributes, Destination, DispatcherCommand};
use proxy_core::state::{BranchState, PendingInvite, SipCommand};
use proxy_core::time::WallTime;

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB2: &str = "10.77.0.202:5063";
const MAILBOX: &str = "10.77.0.210:5060";
const BOB_URI: &str = "sip:bob@lab.test";
const OUTAGE: Duration = Duration::from_millis(300);
const RING: Duration = Duration::from_secs(20);

fn voicemail() -> Voicemail {
    Voicemail { server: format!("sip:{MAILBOX}"), after: Some(RING), on: vec![486, 408, 404] }
}

fn world() -> World {
    with_routing(RoutingConfig { voicemail: Some(voicemail()), ..RoutingConfig::default() })
}

fn by_q() -> World {
    with_routing(RoutingConfig {
        fork: Fork::ByQ,
        fork_after: Duration::from_secs(10),
        ..RoutingConfig::default()
    })
}

fn with_routing(routing: RoutingConfig) -> World {
    World::with(EngineConfig { routing, ..config() })
}

/// Route 500 leads to a set of two backends, at Bob's two addresses; the first by priority.
fn set_of_two() -> World {
    let users = vec![Pattern::glob("500").expect("a glob")];
    let rule = Rule {
        name: String::from("queue"),
        matching: Match { users, ..Match::default() },
        strip: 0,
        prefix: String::new(),
        require_auth: false,
        action: Action::Dispatcher(1),
        voicemail: None,
        ring: None,
        media: None,
    };
    let mut w = with_routing(RoutingConfig { rules: vec![rule], ..RoutingConfig::default() });
    for (at, priority) in [(BOB, 9), (BOB2, 1)] {
        let destination = Box::new(Destination {
            uri: format!("sip:{at}"),
            flags: 0,
            priority,
            attrs: Attributes::default(),
            description: String::new(),
            count: 0,
            changed_at: WallTime(0),
            seen_at: WallTime(0),
        });
        w.state.apply(&SipCommand::Dispatcher(DispatcherCommand::Put { set: 1, destination }));
    }
    w
}

fn contact(at: &str) -> String {
    format!("Contact: <sip:bob@{at}>\r\n")
}

/// Alice calls, Bob's phone rings. Gives its INVITE.
fn ringing(w: &mut World) -> String {
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 180, "b1", ""));
    w.take(ALICE);
    got
}

fn record(w: &World) -> PendingInvite {
    w.state.pending_invites().next().cloned().expect("a pending call")
}

fn ack_of(failure: &str) -> String {
    invite(BOB_URI, ALICE, "c1")
        .replace("INVITE sip", "ACK sip")
        .replace("1 INVITE", "1 ACK")
        .replace(&format!("To: <{BOB_URI}>"), &format!("To: {}", header(failure, "To").expect("To")))
}

/// The mailbox answers, Alice and it talk and hang up, and nothing is left.
fn mailbox_takes_it(w: &mut World, got: &str) {
    w.send(MAILBOX, &respond(got, 200, "vm", &contact(MAILBOX)));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    assert!(header(&ok, "To").expect("To").ends_with("tag=vm"));
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(MAILBOX, "ACK ");
    w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    let bye = w.expect(MAILBOX, "BYE ");
    w.send(MAILBOX, &respond(&bye, 200, "vm", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.pass(Duration::from_secs(120));
    assert_eq!(w.engine.load(), (0, 0, 0));
    assert_eq!(w.state.counts().pending_invites, 0);
}

/// Bob's phone stops ringing.
fn phone_stops(w: &mut World, got: &str) {
    let cancel = w.expect(BOB, "CANCEL ");
    w.send(BOB, &respond(&cancel, 200, "b1", ""));
    w.send(BOB, &respond(got, 487, "b1", ""));
    w.expect(BOB, "ACK ");
}

#[test]
fn a_busy_phone_sends_the_call_to_voicemail_with_the_dialled_user_and_the_reason() {
    let mut w = world();
    let got = ringing(&mut w);
    assert_eq!(record(&w).plan.len(), 1, "the plan is replicated with the INVITE");
    w.send(BOB, &respond(&got, 486, "b1", ""));
    w.expect(BOB, "ACK ");
    w.expect_nothing(ALICE);
    let vm = w.expect(MAILBOX, "INVITE sip:bob@10.77.0.210:5060 ");
    assert_eq!(header(&vm, "Diversion").as_deref(), Some("<sip:bob@lab.test>;reason=no-answer"));
    assert_ne!(header(&vm, "Via"), header(&got, "Via"), "a branch of its own");
    let record = record(&w);
    assert_eq!((record.round, record.steps_used, record.branches.len()), (1, 1, 2));
    assert!(matches!(record.branches[0].state, BranchState::Final { status: 486, .. }));
    mailbox_takes_it(&mut w, &vm);
}

#[test]
fn nobody_answers_in_time_and_the_phone_stops_ringing_only_when_the_next_round_is_safe() {
    let mut w = world();
    let got = ringing(&mut w);
    w.pass(RING - Duration::from_millis(1));
    w.expect_nothing(BOB);
    w.cluster = Cluster::Waits;
    w.pass(Duration::from_millis(2));
    w.expect_nothing(BOB);
    w.expect_nothing(MAILBOX);
    w.cluster = Cluster::Commits;
    w.settle();
    let vm = w.expect(MAILBOX, "INVITE ");
    phone_stops(&mut w, &got);
    w.expect_nothing(ALICE);
    mailbox_takes_it(&mut w, &vm);
}

#[test]
fn a_user_without_a_phone_goes_to_voicemail_at_once() {
    let mut w = world();
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let vm = w.expect(MAILBOX, "INVITE sip:bob@");
    assert!(header(&vm, "Diversion").expect("Diversion").ends_with("reason=unavailable"));
    mailbox_takes_it(&mut w, &vm);
}

#[test]
fn a_failure_that_is_not_on_the_list_goes_back_to_the_caller() {
    let mut w = world();
    let got = ringing(&mut w);
    w.send(BOB, &respond(&got, 480, "b1", ""));
    w.expect(ALICE, "SIP/2.0 480 ");
    w.expect_nothing(MAILBOX);
}

#[test]
fn a_6xx_stops_the_plan_rfc3261_16_7_5() {
    let mut w = with_routing(RoutingConfig {
        voicemail: Some(Voicemail { on: (400..600).collect(), ..voicemail() }),
        ..RoutingConfig::default()
    });
    let got = ringing(&mut w);
    w.send(BOB, &respond(&got, 603, "b1", ""));
    w.expect(ALICE, "SIP/2.0 603 ");
    w.expect_nothing(MAILBOX);
}

#[test]
fn the_caller_hears_how_the_last_round_failed_as_in_failure_reply_mode_3() {
    let mut w = world();
    let got = ringing(&mut w);
    w.send(BOB, &respond(&got, 486, "b1", ""));
    w.take(BOB);
    let vm = w.expect(MAILBOX, "INVITE ");
    w.send(MAILBOX, &respond(&vm, 503, "vm", ""));
    let failed = w.expect(ALICE, "SIP/2.0 500 ");
    w.send(ALICE, &ack_of(&failed));
}

#[test]
fn a_last_round_in_which_nobody_said_anything_does_not_hide_what_a_phone_said() {
    let mut w = world();
    let got = ringing(&mut w);
    w.send(BOB, &respond(&got, 486, "b1", ""));
    w.take(BOB);
    w.expect(MAILBOX, "INVITE ");
    w.pass(Duration::from_secs(33));
    assert!(w.take(ALICE).iter().all(|m| m.starts_with("SIP/2.0 486 ")), "not a 408 made here");
}

#[test]
fn a_cancel_in_a_later_round_reaches_who_rings_then_rfc3261_9_2() {
    let mut w = world();
    let got = ringing(&mut w);
    w.send(BOB, &respond(&got, 486, "b1", ""));
    w.expect(BOB, "ACK ");
    let vm = w.expect(MAILBOX, "INVITE ");
    w.send(MAILBOX, &respond(&vm, 180, "vm", ""));
    w.take(ALICE);
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 200 ");
    let stop = w.expect(MAILBOX, "CANCEL ");
    w.send(MAILBOX, &respond(&stop, 200, "vm", ""));
    w.send(MAILBOX, &respond(&vm, 487, "vm", ""));
    w.expect(MAILBOX, "ACK ");
    w.expect(ALICE, "SIP/2.0 487 ");
    w.expect_nothing(BOB);
}

#[test]
fn a_cancel_that_is_safe_before_the_next_round_leaves_the_mailbox_alone() {
    let mut w = world();
    let got = ringing(&mut w);
    w.cluster = Cluster::Waits;
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    w.send(BOB, &respond(&got, 486, "b1", ""));
    // First the CANCEL, then the failure and the round.
    assert!(matches!(w.waiting.front(), Some((_, SipCommand::InviteCancelled { .. }))));
    assert!(matches!(w.waiting.back(), Some((_, SipCommand::BranchesAdded { .. }))));
    w.commit_all();
    w.commit_all();
    w.expect_nothing(MAILBOX);
    let all = w.take(ALICE);
    assert!(all.iter().any(|m| m.starts_with("SIP/2.0 487 ")), "{all:#?}");
}

#[test]
fn a_cancel_while_the_next_round_is_under_way_ends_that_one_too() {
    let mut w = world();
    let got = ringing(&mut w);
    w.cluster = Cluster::Waits;
    w.send(BOB, &respond(&got, 486, "b1", ""));
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    w.commit_all();
    w.cluster = Cluster::Commits;
    w.settle();
    let to_mailbox = w.take(MAILBOX);
    let vm = to_mailbox.iter().find(|m| m.starts_with("INVITE ")).expect("the round was safe first").clone();
    w.send(MAILBOX, &respond(&vm, 100, "", ""));
    let stop = w.expect(MAILBOX, "CANCEL ");
    w.send(MAILBOX, &respond(&stop, 200, "vm", ""));
    w.send(MAILBOX, &respond(&vm, 487, "vm", ""));
    let all = w.take(ALICE);
    assert!(all.iter().any(|m| m.starts_with("SIP/2.0 487 ")), "{all:#?}");
}

#[test]
fn a_phone_that_answers_while_it_is_being_cancelled_still_gets_the_call_rfc3261_9_1() {
    let mut w = world();
    let got = ringing(&mut w);
    w.pass(RING);
    w.expect(BOB, "CANCEL ");
    let vm = w.expect(MAILBOX, "INVITE ");
    w.send(MAILBOX, &respond(&vm, 180, "vm", ""));
    w.take(ALICE);
    w.send(BOB, &respond(&got, 200, "b1", &contact(BOB)));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    assert!(header(&ok, "To").expect("To").ends_with("tag=b1"));
    w.expect(MAILBOX, "CANCEL ");
}

#[test]
fn a_round_that_was_refused_is_tried_again() {
    for (why, applied) in [(Refusal::Overloaded, false), (Refusal::Unknown, false), (Refusal::Unknown, true)]
    {
        let mut w = world();
        let got = ringing(&mut w);
        w.cluster = if applied { Cluster::CommitsUnheard } else { Cluster::Refuses(why) };
        w.send(BOB, &respond(&got, 486, "b1", ""));
        w.expect_nothing(MAILBOX);
        w.cluster = Cluster::Commits;
        w.pass(Duration::from_millis(600));
        let vm = w.expect(MAILBOX, "INVITE ");
        assert_eq!(record(&w).branches.len(), 2, "once");
        // The phone repeats what nobody has acknowledged.
        w.send(BOB, &respond(&got, 486, "b1", ""));
        w.expect(BOB, "ACK ");
        mailbox_takes_it(&mut w, &vm);
    }
}

#[test]
fn story_1_the_node_is_lost_while_the_phone_rings_and_the_next_one_keeps_the_deadline() {
    let mut w = world();
    let got = ringing(&mut w);
    w.pass(Duration::from_secs(15));
    w.fail_over(OUTAGE);
    assert_eq!(w.expect(BOB, "INVITE "), got, "a retransmission");
    w.send(BOB, &respond(&got, 180, "b1", ""));
    w.pass(Duration::from_millis(4600));
    w.expect_nothing(MAILBOX);
    w.pass(Duration::from_millis(200));
    let vm = w.expect(MAILBOX, "INVITE ");
    phone_stops(&mut w, &got);
    w.take(ALICE);
    mailbox_takes_it(&mut w, &vm);
}

#[test]
fn story_2_the_deadline_passes_while_nobody_is_active() {
    let mut w = world();
    let got = ringing(&mut w);
    w.pass(Duration::from_secs(19));
    w.fail_over(Duration::from_secs(2));
    w.pass(Duration::from_millis(1));
    let vm = w.expect(MAILBOX, "INVITE ");
    let to_bob = w.take(BOB);
    assert!(to_bob.iter().all(|m| m.starts_with("CANCEL ")), "it is not called again: {to_bob:#?}");
    let stop = to_bob.first().expect("it is cancelled");
    w.send(BOB, &respond(stop, 200, "b1", ""));
    w.send(BOB, &respond(&got, 487, "b1", ""));
    w.expect(BOB, "ACK ");
    mailbox_takes_it(&mut w, &vm);
}

#[test]
fn story_3_the_failure_is_committed_and_the_node_is_lost_before_the_next_round() {
    let mut w = world();
    let got = ringing(&mut w);
    w.cluster = Cluster::Waits;
    w.send(BOB, &respond(&got, 486, "b1", ""));
    assert!(w.verdict(), "the failure of the branch");
    w.cluster = Cluster::Commits;
    w.fail_over(OUTAGE);
    let vm = w.expect(MAILBOX, "INVITE ");
    assert!(w.take(BOB).iter().all(|m| m.starts_with("ACK ")), "it is not called again");
    mailbox_takes_it(&mut w, &vm);
}

#[test]
fn story_4_the_next_round_is_committed_and_the_node_is_lost_before_it_sends() {
    let mut w = world();
    let got = ringing(&mut w);
    w.cluster = Cluster::CommitsUnheard;
    w.send(BOB, &respond(&got, 486, "b1", ""));
    w.expect_nothing(MAILBOX);
    w.cluster = Cluster::Commits;
    w.fail_over(OUTAGE);
    let vm = w.expect(MAILBOX, "INVITE ");
    mailbox_takes_it(&mut w, &vm);
}

#[test]
fn story_5_the_node_is_lost_while_the_mailbox_is_called_and_the_phone_is_being_cancelled() {
    let mut w = world();
    let got = ringing(&mut w);
    w.pass(RING);
    let vm = w.expect(MAILBOX, "INVITE ");
    w.expect(BOB, "CANCEL ");
    // Its 487 is lost with the node.
    w.fail_over(OUTAGE);
    assert_eq!(w.expect(MAILBOX, "INVITE "), vm, "a retransmission");
    let again = w.expect(BOB, "CANCEL ");
    w.send(BOB, &respond(&again, 200, "b1", ""));
    w.send(BOB, &respond(&got, 487, "b1", ""));
    w.expect(BOB, "ACK ");
    w.expect_nothing(ALICE);
    mailbox_takes_it(&mut w, &vm);
}

#[test]
fn story_6_a_decline_of_a_phone_that_was_passed_over_does_not_stop_the_mailbox() {
    let mut w = world();
    let got = ringing(&mut w);
    w.pass(RING);
    let vm = w.expect(MAILBOX, "INVITE ");
    w.send(MAILBOX, &respond(&vm, 180, "vm", ""));
    w.take(ALICE);
    w.take(BOB);
    w.send(BOB, &respond(&got, 603, "b1", ""));
    w.expect(BOB, "ACK ");
    w.expect_nothing(MAILBOX);
    w.fail_over(OUTAGE);
    assert_eq!(w.expect(MAILBOX, "INVITE "), vm);
    mailbox_takes_it(&mut w, &vm);
}

#[test]
fn story_7_the_caller_hangs_up_after_the_loss_in_a_later_round() {
    let mut w = world();
    let got = ringing(&mut w);
    w.send(BOB, &respond(&got, 486, "b1", ""));
    w.take(BOB);
    let vm = w.expect(MAILBOX, "INVITE ");
    w.send(MAILBOX, &respond(&vm, 180, "vm", ""));
    w.take(ALICE);
    w.fail_over(OUTAGE);
    w.expect(MAILBOX, "INVITE ");
    w.send(MAILBOX, &respond(&vm, 180, "vm", ""));
    w.take(ALICE);
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 200 ");
    let stop = w.expect(MAILBOX, "CANCEL ");
    w.send(MAILBOX, &respond(&stop, 200, "vm", ""));
    w.send(MAILBOX, &respond(&vm, 487, "vm", ""));
    w.expect(ALICE, "SIP/2.0 487 ");
    w.take(BOB);
}

#[test]
fn contacts_are_called_by_descending_q_and_those_of_equal_q_at_once_rfc3261_16_6() {
    let mut w = by_q();
    w.register_with("bob", BOB, ";q=0.5");
    w.register_with("bob", BOB2, ";q=1.0");
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let first = w.expect(BOB2, "INVITE ");
    w.expect_nothing(BOB);
    w.send(BOB2, &respond(&first, 180, "b2", ""));
    w.pass(Duration::from_secs(9));
    w.expect_nothing(BOB);
    w.pass(Duration::from_secs(1));
    let second = w.expect(BOB, "INVITE ");
    w.expect(BOB2, "CANCEL ");
    w.send(BOB, &respond(&second, 200, "b1", &contact(BOB)));
    assert!(w.take(ALICE).iter().any(|m| m.starts_with("SIP/2.0 200 ")));
}

#[test]
fn the_lowest_q_rings_until_timer_c_as_there_is_nobody_after_it() {
    let mut w = by_q();
    w.register_with("bob", BOB, ";q=0.5");
    w.register_with("bob", BOB2, ";q=1.0");
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let first = w.expect(BOB2, "INVITE ");
    w.send(BOB2, &respond(&first, 486, "b2", ""));
    let second = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&second, 180, "b1", ""));
    w.take(ALICE);
    w.pass(Duration::from_secs(170));
    w.expect_nothing(ALICE);
    w.send(BOB, &respond(&second, 200, "b1", &contact(BOB)));
    w.expect(ALICE, "SIP/2.0 200 ");
}

#[test]
fn the_lowest_q_gives_way_to_voicemail_when_its_time_is_over() {
    let mut w = with_routing(RoutingConfig {
        fork: Fork::ByQ,
        fork_after: Duration::from_secs(10),
        voicemail: Some(Voicemail { after: Some(Duration::from_secs(25)), ..voicemail() }),
        ..RoutingConfig::default()
    });
    w.register_with("bob", BOB, ";q=0.5");
    w.register_with("bob", BOB2, ";q=1.0");
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let first = w.expect(BOB2, "INVITE ");
    w.send(BOB2, &respond(&first, 180, "b2", ""));
    w.pass(Duration::from_secs(10));
    let second = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&second, 180, "b1", ""));
    w.pass(Duration::from_secs(24));
    w.expect_nothing(MAILBOX);
    w.pass(Duration::from_secs(1));
    w.expect(MAILBOX, "INVITE ");
}

#[test]
fn a_round_begins_when_the_one_before_has_failed_without_waiting_for_its_time() {
    let mut w = by_q();
    w.register_with("bob", BOB, ";q=0.5");
    w.register_with("bob", BOB2, ";q=1.0");
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let first = w.expect(BOB2, "INVITE ");
    w.send(BOB2, &respond(&first, 404, "b2", ""));
    w.expect(BOB2, "ACK ");
    let second = w.expect(BOB, "INVITE ");
    w.take(ALICE);
    w.send(BOB, &respond(&second, 486, "b1", ""));
    w.expect(ALICE, "SIP/2.0 486 ");
}

#[test]
fn timer_c_ends_the_last_round_with_408_and_each_round_has_its_own() {
    let mut w = with_routing(RoutingConfig {
        voicemail: Some(Voicemail { after: None, ..voicemail() }),
        ..RoutingConfig::default()
    });
    let got = ringing(&mut w);
    w.pass(Duration::from_secs(180));
    let vm = w.expect(MAILBOX, "INVITE ");
    w.send(MAILBOX, &respond(&vm, 180, "vm", ""));
    phone_stops(&mut w, &got);
    w.take(ALICE);
    w.pass(Duration::from_secs(170));
    w.expect_nothing(ALICE);
    w.pass(Duration::from_secs(12));
    let timeouts = w.take(ALICE);
    assert!(timeouts.first().is_some_and(|m| m.starts_with("SIP/2.0 408 ")), "{timeouts:#?}");
}

#[test]
fn a_message_for_a_set_goes_to_the_next_backend_when_the_first_is_out_of_service() {
    let mut w = set_of_two();
    w.send(ALICE, &request("MESSAGE", "sip:500@lab.test", ALICE, "m1", ""));
    let first = w.expect(BOB, "MESSAGE ");
    w.send(BOB, &respond(&first, 503, "b1", ""));
    w.expect_nothing(ALICE);
    let second = w.expect(BOB2, "MESSAGE ");
    assert_ne!(header(&first, "Via"), header(&second, "Via"));
    w.send(BOB2, &respond(&second, 202, "b2", ""));
    w.expect(ALICE, "SIP/2.0 202 ");
    w.pass(Duration::from_secs(60));
    assert_eq!(w.engine.load(), (0, 0, 0));
}

#[test]
fn a_message_that_every_backend_refuses_gets_the_last_ones_answer() {
    let mut w = set_of_two();
    w.send(ALICE, &request("MESSAGE", "sip:500@lab.test", ALICE, "m1", ""));
    let first = w.expect(BOB, "MESSAGE ");
    w.send(BOB, &respond(&first, 503, "b1", ""));
    let second = w.expect(BOB2, "MESSAGE ");
    w.send(BOB2, &respond(&second, 404, "b2", ""));
    w.expect(ALICE, "SIP/2.0 404 ");
}

#[test]
fn a_refusal_that_is_no_failure_of_the_backend_is_the_answer_to_a_message() {
    let mut w = set_of_two();
    w.send(ALICE, &request("MESSAGE", "sip:500@lab.test", ALICE, "m1", ""));
    let first = w.expect(BOB, "MESSAGE ");
    w.send(BOB, &respond(&first, 404, "b1", ""));
    w.expect(ALICE, "SIP/2.0 404 ");
    w.expect_nothing(BOB2);
}
