//! Calls that ring at several phones, with rtpengines: whose SDP counts.

use std::time::Duration;

use crate::common::media::*;
use crate::common::story::*;

#[test]
fn forks_have_one_offer_and_an_answer_each() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    m.w.send(BOB2, &register("bob", BOB2, 1, &format!("<sip:bob@{BOB2}>")));
    m.w.take(BOB2);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    assert_eq!(m.serve(), ["offer ac1> at 10.77.0.41:2223"]);
    let (one, two) = (m.w.expect(BOB, "INVITE "), m.w.expect(BOB2, "INVITE "));
    assert_eq!(sdp(&one), sdp(&two));
    m.w.send(BOB, &with_sdp(&respond(&one, 183, "b1", &contact(BOB)), "one"));
    m.w.send(BOB2, &with_sdp(&respond(&two, 183, "b2", &contact(BOB2)), "two"));
    assert_eq!(m.serve(), ["answer ac1>b1 at 10.77.0.41:2223", "answer ac1>b2 at 10.77.0.41:2223"]);
    let early = m.w.take(ALICE);
    assert_eq!(early.iter().filter(|r| r.starts_with("SIP/2.0 183 ")).count(), 2, "{early:?}");
    m.w.send(BOB2, &with_sdp(&respond(&two, 200, "b2", &contact(BOB2)), "two"));
    m.serve();
    assert!(sdp(&m.w.expect(ALICE, "SIP/2.0 200 ")).contains("ac1>b2"));
    // The loser ends; the call of the winner goes on, and its media.
    let cancel = m.w.expect(BOB, "CANCEL ");
    m.w.send(BOB, &respond(&cancel, 200, "b1", ""));
    m.w.send(BOB, &respond(&one, 487, "b1", ""));
    assert_eq!(m.serve(), Vec::<String>::new());
}

#[test]
fn the_fork_that_answers_is_named_last_also_when_its_sdp_is_known() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    m.w.send(BOB2, &register("bob", BOB2, 1, &format!("<sip:bob@{BOB2}>")));
    m.w.take(BOB2);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    m.serve();
    let (one, two) = (m.w.expect(BOB, "INVITE "), m.w.expect(BOB2, "INVITE "));
    m.w.send(BOB, &with_sdp(&respond(&one, 183, "b1", &contact(BOB)), "one"));
    m.w.send(BOB2, &with_sdp(&respond(&two, 183, "b2", &contact(BOB2)), "two"));
    m.serve();
    // The second one has spoken since: the rtpengine would send alice's voice there.
    m.w.send(BOB, &with_sdp(&respond(&one, 200, "b1", &contact(BOB)), "one"));
    assert_eq!(m.serve(), ["answer ac1>b1 at 10.77.0.41:2223"]);
}

/// Two phones that ring, and their INVITEs.
fn two_ring(m: &mut Media) -> (String, String) {
    m.only(ONE);
    m.w.register("bob", BOB);
    m.w.send(BOB2, &register("bob", BOB2, 1, &format!("<sip:bob@{BOB2}>")));
    m.w.take(BOB2);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    m.serve();
    m.w.expect(ALICE, "SIP/2.0 100 ");
    (m.w.expect(BOB, "INVITE "), m.w.expect(BOB2, "INVITE "))
}

/// rtpengine sends the caller's voice to whoever has answered last: that must not be one whom the caller hangs up on
/// (RFC 3261 §13.2.2.4).
#[test]
fn a_second_phone_that_answers_does_not_take_the_media_from_the_first() {
    let mut m = world();
    let (one, two) = two_ring(&mut m);
    m.w.send(BOB, &with_sdp(&respond(&one, 200, "b1", &contact(BOB)), "one"));
    // Both at the same moment: the second has to wait for the first, and says it again.
    let second = with_sdp(&respond(&two, 200, "b2", &contact(BOB2)), "two");
    m.w.send(BOB2, &second);
    m.w.expect_nothing(ALICE);
    assert_eq!(m.serve(), ["answer ac1>b1 at 10.77.0.41:2223"]);
    assert!(sdp(&m.w.expect(ALICE, "SIP/2.0 200 ")).contains("ac1>b1"));
    m.w.send(BOB2, &second);
    assert_eq!(m.serve(), Vec::<String>::new());
    // The caller is told of it all the same, and hangs up: that does not end the media of the other.
    let other = m.w.take(ALICE).pop().expect("the second answer");
    assert!(sdp(&other).contains("o=two"), "{other}");
    m.w.send(ALICE, &in_dialog_of_caller("ACK", 1, &other, ALICE));
    m.w.send(ALICE, &in_dialog_of_caller("BYE", 2, &other, ALICE));
    let bye = m.w.take(BOB2).into_iter().find(|r| r.starts_with("BYE ")).expect("a BYE");
    m.w.send(BOB2, &respond(&bye, 200, "b2", ""));
    assert_eq!(m.serve(), Vec::<String>::new());
}

/// Both phones answer; what Alice gets of them.
fn two_answer(m: &mut Media) -> Vec<String> {
    let (one, two) = two_ring(m);
    m.w.send(BOB, &with_sdp(&respond(&one, 200, "b1", &contact(BOB)), "one"));
    m.serve();
    m.w.send(BOB2, &with_sdp(&respond(&two, 200, "b2", &contact(BOB2)), "two"));
    let mut answers = m.w.take(ALICE);
    assert_eq!(answers.len(), 3, "the first, and once more before the second: {answers:#?}");
    assert_eq!(answers.remove(0), answers[0]);
    answers
}

/// The first answer is lost on its way, or dropped by the kernel because the lease was over: were the other phone's the first
/// that the caller hears, the caller would talk to one of whom the rtpengine knows nothing.
#[test]
fn a_caller_who_may_have_lost_the_first_answer_hears_it_again_before_that_of_another_phone() {
    let mut m = world();
    let (one, two) = two_ring(&mut m);
    m.w.send(BOB, &with_sdp(&respond(&one, 200, "b1", &contact(BOB)), "one"));
    m.serve();
    let first = m.w.expect(ALICE, "SIP/2.0 200 ");
    let other = with_sdp(&respond(&two, 200, "b2", &contact(BOB2)), "two");
    for time in ["at once", "when the other phone repeats itself"] {
        m.w.send(BOB2, &other);
        let got = m.w.take(ALICE);
        assert_eq!((got.len(), &got[0]), (2, &first), "{time}: {got:#?}");
        assert!(sdp(&got[1]).contains("o=two"), "{time}: {got:#?}");
    }
    m.w.send(ALICE, &in_dialog_of_caller("ACK", 1, &first, ALICE));
    m.w.send(BOB2, &other);
    let got = m.w.take(ALICE);
    assert!(got.len() == 1 && sdp(&got[0]).contains("o=two"), "the caller has it: {got:#?}");
}

/// Each of the two is the other dialog of its call, until its own end is safe.
#[test]
fn a_caller_who_hangs_up_on_two_phones_at_the_same_moment_ends_the_media() {
    let mut m = world();
    let answers = two_answer(&mut m);
    let mut byes = Vec::new();
    for (answer, phone) in answers.iter().zip([BOB, BOB2]) {
        m.w.send(ALICE, &in_dialog_of_caller("ACK", 1, answer, ALICE));
        m.w.send(ALICE, &in_dialog_of_caller("BYE", 2, answer, ALICE));
        byes.push(m.w.take(phone).into_iter().find(|r| r.starts_with("BYE ")).expect("a BYE"));
    }
    m.w.cluster = Cluster::Waits;
    m.w.send(BOB, &respond(&byes[0], 200, "b1", ""));
    assert_eq!(m.serve(), Vec::<String>::new());
    m.w.send(BOB2, &respond(&byes[1], 200, "b2", ""));
    assert_eq!(m.serve(), ["delete ac1> at 10.77.0.41:2223"]);
    m.w.commit_all();
    assert_eq!(m.w.state.dialogs().count(), 0);
    assert_eq!(m.serve(), Vec::<String>::new());
}

/// The first end is proposed in one spell of the node's service, and safe in the next one, after the second has come.
#[test]
fn ends_that_are_safe_only_after_the_lease_was_lost_and_regained_end_the_media() {
    let mut m = world();
    let answers = two_answer(&mut m);
    let hang_up = |m: &mut Media, answer: &str, phone: &str, tag: &str| {
        m.w.send(ALICE, &in_dialog_of_caller("BYE", 2, answer, ALICE));
        let bye = m.w.take(phone).into_iter().rfind(|r| r.starts_with("BYE ")).expect("a BYE");
        m.w.send(phone, &respond(&bye, 200, tag, ""));
    };
    for (answer, phone) in answers.iter().zip([BOB, BOB2]) {
        m.w.send(ALICE, &in_dialog_of_caller("ACK", 1, answer, ALICE));
        m.w.take(phone);
    }
    m.w.cluster = Cluster::Waits;
    hang_up(&mut m, &answers[0], BOB, "b1");
    m.w.regain();
    hang_up(&mut m, &answers[1], BOB2, "b2");
    m.serve();
    m.w.commit_all();
    assert_eq!(m.w.state.dialogs().count(), 0);
    assert_eq!(m.serve(), ["delete ac1> at 10.77.0.41:2223"]);
}

#[test]
fn early_media_of_another_fork_do_not_take_the_media_from_who_answers() {
    let mut m = world();
    let (one, two) = two_ring(&mut m);
    m.w.send(BOB, &with_sdp(&respond(&one, 200, "b1", &contact(BOB)), "one"));
    m.w.send(BOB2, &with_sdp(&respond(&two, 183, "b2", &contact(BOB2)), "two"));
    assert_eq!(m.serve(), ["answer ac1>b1 at 10.77.0.41:2223"]);
    assert!(sdp(&m.w.expect(ALICE, "SIP/2.0 200 ")).contains("ac1>b1"));
}

#[test]
fn who_spoke_last_is_who_was_asked_about_last_in_whatever_order_the_rtpengine_answers() {
    let mut m = world();
    let (one, two) = two_ring(&mut m);
    m.w.send(BOB, &with_sdp(&respond(&one, 183, "b1", &contact(BOB)), "one"));
    m.w.send(BOB2, &with_sdp(&respond(&two, 183, "b2", &contact(BOB2)), "two"));
    m.w.media.swap(0, 1);
    m.serve();
    m.w.take(ALICE);
    m.w.send(BOB, &with_sdp(&respond(&one, 200, "b1", &contact(BOB)), "one"));
    assert_eq!(m.serve(), ["answer ac1>b1 at 10.77.0.41:2223"]);
}

/// The first phone answers, then the second, whose 2xx goes on as it is; alice acknowledges the first one only, and the
/// node is lost. The answers that she has got.
fn two_answer_and_the_node_is_lost(m: &mut Media, one: &str, two: &str) -> (String, String) {
    m.w.send(BOB, &with_sdp(&respond(one, 200, "b1", &contact(BOB)), "one"));
    m.serve();
    let first = m.w.expect(ALICE, "SIP/2.0 200 ");
    m.w.send(BOB2, &with_sdp(&respond(two, 200, "b2", &contact(BOB2)), "two"));
    assert_eq!(m.serve(), Vec::<String>::new());
    let second = m.w.take(ALICE).pop().expect("the second answer");
    assert!(sdp(&second).contains("o=two"), "{second}");
    m.w.send(ALICE, &in_dialog_of_caller("ACK", 1, &first, ALICE));
    m.w.expect(BOB, "ACK ");
    // One who has spoken is cancelled, too late.
    for cancel in m.w.take(BOB2).iter().filter(|r| r.starts_with("CANCEL ")) {
        m.w.send(BOB2, &respond(cancel, 200, "b2", ""));
    }
    assert_eq!(m.w.state.pending_invites().count(), 0, "nobody remembers the INVITE");
    m.w.fail_over(Duration::from_millis(300));
    m.serve();
    for phone in [ALICE, BOB, BOB2] {
        m.w.take(phone);
    }
    (first, second)
}

/// The 2xx of both come again after a takeover: that of the winner goes through the rtpengine, that of the loser does not.
fn both_repeat_what_they_have_said(m: &mut Media, one: &str, two: &str, first: &str, second: &str) {
    m.w.send(BOB2, &with_sdp(&respond(two, 200, "b2", &contact(BOB2)), "two"));
    assert_eq!(m.serve(), Vec::<String>::new());
    assert_eq!(m.w.expect(ALICE, "SIP/2.0 200 "), second);
    m.w.send(BOB, &with_sdp(&respond(one, 200, "b1", &contact(BOB)), "one"));
    assert_eq!(m.serve(), ["answer ac1>b1 at 10.77.0.41:2223"]);
    assert_eq!(m.w.expect(ALICE, "SIP/2.0 200 "), first);
}

#[test]
fn after_a_takeover_a_second_phone_that_says_its_answer_again_does_not_take_the_media_from_the_first() {
    let mut m = world();
    let (one, two) = two_ring(&mut m);
    let (first, second) = two_answer_and_the_node_is_lost(&mut m, &one, &two);
    both_repeat_what_they_have_said(&mut m, &one, &two, &first, &second);
}

#[test]
fn after_a_takeover_early_media_of_a_second_phone_do_not_make_its_answer_one_of_the_rtpengine() {
    let mut m = world();
    let (one, two) = two_ring(&mut m);
    m.w.send(BOB2, &with_sdp(&respond(&two, 183, "b2", &contact(BOB2)), "two"));
    assert_eq!(m.serve(), ["answer ac1>b2 at 10.77.0.41:2223"]);
    m.w.take(ALICE);
    let (first, second) = two_answer_and_the_node_is_lost(&mut m, &one, &two);
    both_repeat_what_they_have_said(&mut m, &one, &two, &first, &second);
}

/// What the rtpengine has refused once went on as it came, and does so again.
#[test]
fn after_a_takeover_an_answer_that_the_rtpengine_has_refused_is_not_asked_about_again() {
    let mut m = world();
    m.only(ONE);
    let got = m.call("c1");
    let ok = with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob");
    m.refuses = Some("d6:result5:error12:error-reason2:noe");
    m.w.send(BOB, &ok);
    assert_eq!(m.serve(), ["answer ac1>b at 10.77.0.41:2223"]);
    m.refuses = None;
    let told = m.w.expect(ALICE, "SIP/2.0 200 ");
    m.w.send(ALICE, &in_dialog_of_caller("ACK", 1, &told, ALICE));
    m.w.expect(BOB, "ACK ");
    m.w.fail_over(Duration::from_millis(300));
    m.w.take(ALICE);
    m.w.send(BOB, &ok);
    assert_eq!(m.serve(), Vec::<String>::new());
    assert_eq!(m.w.expect(ALICE, "SIP/2.0 200 "), told);
}
