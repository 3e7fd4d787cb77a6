//! A message for a user with two phones: each of them has its own tries.

use std::time::Duration;

use super::messages::{BOB, at_bob, first_try, keep, register_bob, text_of, world};
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
