//! Messages for users without a phone, in the lab: kept by one node, delivered once by another. Needs root and the lab's
//! packages; says so without.

use std::time::Duration;

use crate::common::{all_agree, json, lab, lose_and_restart, lose_the_active_node, until};
use crate::phone::{Phone, body, cseq, status};
use ha_tests::lab::state::LabState;
use ha_tests::phones::tiny::header;

const STORE: &str = "\n[message_store]\nenabled = true\nmax_per_user = 4\n";

fn kept(lab: &LabState) -> u64 {
    json(lab, &["status"])["counts"]["messages"].as_u64().expect("a number")
}

fn say(from: &mut Phone, to: &str, call: &str, text: &str) -> u16 {
    let request = from.first("MESSAGE", to, call, "Content-Type: text/plain\r\n", text);
    status(&from.ask(&request))
}

#[test]
fn messages_kept_by_a_node_that_is_lost_are_delivered_once_and_in_order_by_the_next() {
    let Some((mut guard, _logs)) = lab(STORE) else { return };
    let lab = &mut guard.lab;
    let (mut alice, mut bob) = (Phone::open(lab, "alice", 5071), Phone::open(lab, "bob", 5072));
    let one = alice.first("MESSAGE", "sip:bob@lab.test", "m1", "Content-Type: text/plain\r\n", "one");
    assert_eq!(status(&alice.ask(&one)), 202);
    for (call, text) in [("m2", "two"), ("m3", "three")] {
        assert_eq!(say(&mut alice, "sip:bob@lab.test", call, text), 202);
    }
    assert_eq!(kept(lab), 3);
    lose_and_restart(lab);
    assert_eq!(kept(lab), 3, "what got 202 is there");

    // The first one is on its way, and nobody hears what the phone says to it: that node is lost.
    bob.register(1, 3600);
    let first = bob.asked("MESSAGE");
    assert_eq!(body(&first), "one");
    until("all nodes are the same", || all_agree(lab));
    lose_and_restart(lab);
    // Alice has not heard the 202 of the first one either: it is neither kept again nor passed to Bob.
    assert_eq!(status(&alice.ask(&one)), 202);
    bob.answer(&first, 200, "");
    // The second: its answer is heard, and that node is lost at once.
    let second = bob.asked("MESSAGE");
    assert_eq!(body(&second), "two", "the first is not said again as something new");
    until("all nodes are the same", || all_agree(lab));
    bob.answer(&second, 200, "");
    lose_the_active_node(lab);
    let third = bob.asked("MESSAGE");
    assert_eq!(body(&third), "three");
    bob.answer(&third, 200, "");
    until("none is left", || kept(lab) == 0);
    assert_eq!((status(&alice.ask(&one)), kept(lab)), (202, 0), "taken, and delivered long ago");
    let more = bob.within_time(Duration::from_secs(3), |m| m.starts_with("MESSAGE "));
    assert!(more.is_none(), "{more:#?}");
    for message in [&first, &second, &third] {
        assert!(header(message, "Date").is_some() && cseq(message) == 1, "{message}");
        assert!(
            header(message, "From").is_some_and(|f| f.starts_with("<sip:alice@lab.test>;tag=")),
            "{message}"
        );
    }
}

#[test]
fn what_could_not_be_delivered_is_tried_again_by_the_next_node_and_no_more_is_kept_than_allowed() {
    let Some((mut guard, _logs)) = lab(STORE) else { return };
    let lab = &mut guard.lab;
    let (mut alice, mut bob) = (Phone::open(lab, "alice", 5071), Phone::open(lab, "bob", 5072));
    for n in 0..4 {
        assert_eq!(say(&mut alice, "sip:bob@lab.test", &format!("m{n}"), &format!("text {n}")), 202);
    }
    assert_eq!(say(&mut alice, "sip:bob@lab.test", "m4", "too many"), 480, "as if there were no store");
    assert_eq!(kept(lab), 4);
    bob.register(1, 3600);
    let first = bob.asked("MESSAGE");
    bob.answer(&first, 486, "");
    lose_the_active_node(lab);
    // Fifteen seconds after the refusal, by the node that has never seen it.
    let again = bob.asked("MESSAGE");
    assert_eq!((body(&again), cseq(&again)), ("text 0", 2));
    assert_eq!(header(&again, "Call-ID"), header(&first, "Call-ID"));
    bob.answer(&again, 200, "");
    for n in 1..4 {
        let next = bob.asked("MESSAGE");
        assert_eq!(body(&next), format!("text {n}"));
        bob.answer(&next, 200, "");
    }
    until("none is left", || kept(lab) == 0);
    // Who has a phone gets his messages there, and nothing is kept.
    let direct = alice.first("MESSAGE", "sip:bob@lab.test", "m9", "", "now");
    alice.send(&direct);
    let now = bob.asked("MESSAGE");
    bob.answer(&now, 200, "");
    assert_eq!(status(&alice.answer_to(&direct)), 200);
    assert_eq!((header(&now, "Call-ID"), kept(lab)), (Some("m9"), 0));
}
