//! A message for a user with two phones: each of them has its own tries.

use std::time::Duration;

use super::messages::{ALICE, BOB, at_bob, first_try, keep, message, register_bob, text_of, world};
use crate::common::story::*;

const OTHER: &str = "10.77.0.61:5080";

/// A message waits for bob, who comes with a phone and then with another; gives what the first one got. It is the one that
/// was seen last.
fn two_phones(w: &mut World) -> String {
    keep(w, "m1", "one");
    let first = first_try(w);
    let other = register("bob", OTHER, 1, &format!("<sip:bob@{OTHER}>")).replace("reg-bob", "reg-other");
    w.send(OTHER, &other);
    w.pass(Duration::from_millis(100));
    register_bob(w, 2);
    w.pass(Duration::from_millis(100));
    w.take(OTHER);
    w.take(BOB);
    first
}

/// What the other phone got.
fn at_other(w: &mut World) -> String {
    w.take(OTHER).into_iter().find(|m| m.starts_with("MESSAGE ")).expect("a message")
}

#[test]
fn a_message_that_one_phone_refuses_goes_to_the_next_at_once_whichever_was_seen_last() {
    let mut w = world();
    let first = two_phones(&mut w);
    w.send(BOB, &respond(&first, 480, "b", ""));
    w.pass(Duration::from_millis(600));
    let at_second = at_other(&mut w);
    assert_eq!(text_of(&at_second), "one");
    w.send(OTHER, &respond(&at_second, 486, "o", ""));
    // Each has its own pause from now on, and none is asked before it.
    w.pass(Duration::from_secs(13));
    assert!(at_bob(&mut w).is_empty() && w.take(OTHER).is_empty());
    w.pass(Duration::from_secs(2));
    let again = at_bob(&mut w).pop().expect("a message");
    w.send(BOB, &respond(&again, 480, "b", ""));
    w.pass(Duration::from_secs(1));
    let got = at_other(&mut w);
    w.send(OTHER, &respond(&got, 200, "o", ""));
    w.pass(Duration::from_secs(1));
    assert_eq!(w.state.counts().messages, 0);
}

#[test]
fn a_phone_that_can_never_take_a_message_does_not_keep_it_from_another() {
    for other in [200, 415] {
        let mut w = world();
        let first = two_phones(&mut w);
        w.send(BOB, &respond(&first, 405, "b", ""));
        w.pass(Duration::from_millis(600));
        assert_eq!(w.state.counts().messages, 1);
        let second = at_other(&mut w);
        w.send(OTHER, &respond(&second, other, "o", ""));
        w.pass(Duration::from_millis(600));
        assert_eq!(w.state.counts().messages, 0, "{other}: nobody is left who could take it");
    }
}

#[test]
fn a_phone_that_was_silent_gets_the_same_cseq_again_though_another_has_answered() {
    let mut w = world();
    let first = two_phones(&mut w);
    w.pass(Duration::from_secs(33));
    let got = at_other(&mut w);
    w.send(OTHER, &respond(&got, 486, "o", ""));
    at_bob(&mut w);
    w.pass(Duration::from_secs(15));
    let again = at_bob(&mut w).pop().expect("a message");
    assert_eq!(header(&again, "CSeq"), header(&first, "CSeq"), "it may have had it, and knows it then");
}

#[test]
fn a_node_that_takes_over_goes_on_with_the_phone_that_was_not_tried() {
    let mut w = world();
    let first = two_phones(&mut w);
    w.cluster = Cluster::Waits;
    w.send(BOB, &respond(&first, 480, "b", ""));
    w.cluster = Cluster::Commits;
    w.commit_all();
    w.take(OTHER);
    w.fail_over(Duration::from_millis(300));
    w.pass(Duration::from_millis(600));
    assert!(at_bob(&mut w).is_empty(), "it has its pause");
    assert_eq!(text_of(&at_other(&mut w)), "one");
}

#[test]
fn two_phones_that_get_the_same_cseq_do_not_stand_in_each_others_way() {
    let mut w = world();
    let first = two_phones(&mut w);
    w.send(BOB, &respond(&first, 480, "b", ""));
    w.pass(Duration::from_secs(12));
    let at_second = at_other(&mut w);
    w.send(OTHER, &respond(&at_second, 486, "o", ""));
    w.pass(Duration::from_secs(4));
    let again = at_bob(&mut w).pop().expect("a message");
    assert_eq!(header(&again, "CSeq"), header(&at_second, "CSeq"));
    assert_ne!(header(&again, "Via"), header(&at_second, "Via"));
    w.send(BOB, &respond(&again, 200, "b", ""));
    w.pass(Duration::from_millis(600));
    assert_eq!(w.state.counts().messages, 0);
}

#[test]
fn a_late_answer_of_one_phone_is_not_taken_for_that_of_another() {
    let mut w = world();
    let first = two_phones(&mut w);
    w.pass(Duration::from_secs(33));
    // What stands before the silent phone has given up, too, and says so.
    w.send(BOB, &respond(&first, 408, "b", ""));
    let got = at_other(&mut w);
    w.send(OTHER, &respond(&got, 200, "o", ""));
    w.pass(Duration::from_millis(600));
    assert_eq!(w.state.counts().messages, 0);
    w.pass(Duration::from_secs(60));
    assert!(w.take(OTHER).is_empty(), "it has it");
}

#[test]
fn each_contact_of_one_register_has_its_own_tries() {
    let mut w = world();
    keep(&mut w, "m1", "one");
    w.send(BOB, &register("bob", BOB, 1, &format!("<sip:bob@{BOB}>, <sip:bob@{OTHER}>")));
    w.pass(Duration::from_millis(600));
    let (at_bob, at_other) = (w.take(BOB), w.take(OTHER));
    let is_message = |m: &&String| m.starts_with("MESSAGE ");
    let (mine, yours) = (at_bob.iter().find(is_message), at_other.iter().find(is_message));
    let (first, to, next) = match (mine, yours) {
        (Some(first), None) => (first, BOB, OTHER),
        (None, Some(first)) => (first, OTHER, BOB),
        both => panic!("one of them: {both:?}"),
    };
    w.send(to, &respond(first, 405, "b", ""));
    w.pass(Duration::from_millis(600));
    assert!(w.take(next).iter().any(|m| text_of(m) == "one"));
}

#[test]
fn a_message_that_one_phone_can_never_take_waits_for_the_other_that_is_away_for_a_moment() {
    let mut w = world();
    let first = two_phones(&mut w);
    w.send(BOB, &respond(&first, 405, "b", ""));
    w.pass(Duration::from_millis(600));
    let got = at_other(&mut w);
    w.send(OTHER, &respond(&got, 480, "o", ""));
    let at_other_again = |cseq, expires| {
        register("bob", OTHER, cseq, &format!("<sip:bob@{OTHER}>{expires}")).replace("reg-bob", "reg-other")
    };
    w.send(OTHER, &at_other_again(2, ";expires=0"));
    register_bob(&mut w, 3);
    w.pass(Duration::from_secs(5));
    assert_eq!(w.state.counts().messages, 1);
    w.take(OTHER);
    w.send(OTHER, &at_other_again(3, ""));
    w.pass(Duration::from_secs(15));
    assert_eq!(text_of(&at_other(&mut w)), "one");
}

#[test]
fn the_next_message_goes_on_when_the_one_before_expires_during_its_try() {
    let mut w = world();
    let short = message("m1", "one").replace("Content-Type", "Expires: 20\r\nContent-Type");
    assert!(short.contains("Expires"), "{short}");
    w.send(ALICE, &short);
    w.expect(ALICE, "SIP/2.0 202 ");
    keep(&mut w, "m2", "two");
    first_try(&mut w);
    w.pass(Duration::from_secs(33));
    let all = at_bob(&mut w);
    assert!(all.iter().any(|m| text_of(m) == "two"), "{all:#?}");
}
