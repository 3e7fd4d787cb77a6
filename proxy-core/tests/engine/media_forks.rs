//! Calls that ring at several phones, with rtpengines: whose SDP counts.

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
    let other = m.w.expect(ALICE, "SIP/2.0 200 ");
    m.w.send(ALICE, &in_dialog_of_caller("ACK", 1, &other, ALICE));
    m.w.send(ALICE, &in_dialog_of_caller("BYE", 2, &other, ALICE));
    let bye = m.w.take(BOB2).into_iter().find(|r| r.starts_with("BYE ")).expect("a BYE");
    m.w.send(BOB2, &respond(&bye, 200, "b2", ""));
    assert_eq!(m.serve(), Vec::<String>::new());
}

/// Each of the two is the other dialog of its call, until its own end is safe.
#[test]
fn a_caller_who_hangs_up_on_two_phones_at_the_same_moment_ends_the_media() {
    let mut m = world();
    let (one, two) = two_ring(&mut m);
    m.w.send(BOB, &with_sdp(&respond(&one, 200, "b1", &contact(BOB)), "one"));
    m.serve();
    m.w.send(BOB2, &with_sdp(&respond(&two, 200, "b2", &contact(BOB2)), "two"));
    let answers = m.w.take(ALICE);
    assert_eq!(answers.len(), 2, "{answers:#?}");
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
