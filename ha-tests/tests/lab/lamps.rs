//! Lamps in the lab: a phone watches the calls of a user while one node after the other is lost. Needs root and the lab's
//! packages; says so without.

use std::collections::BTreeSet;

use crate::common::{all_agree, json, lab, lose_and_restart, until};
use crate::phone::{Phone, body, cseq, status, tag};
use ha_tests::lab::state::LabState;
use ha_tests::phones::tiny::header;

const LAMPS: &str = "\n[presence]\nenabled = true\n";
const BOB: &str = "sip:bob@lab.test";

/// A phone with one lamp.
struct Watcher {
    phone: Phone,
    call: String,
    /// The 200 to its SUBSCRIBE: what its dialog is made of.
    ok: String,
    /// CSeq numbers of the NOTIFYs so far.
    numbers: Vec<u32>,
}

/// A document: its calls with their states, in order of their names.
type Calls = Vec<(String, String)>;

fn attribute<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.split(&format!(" {name}=\"")).nth(1)?.split('"').next()
}

fn calls(document: &str) -> Calls {
    let one = |part: &str| {
        let id = part.split('"').next()?.to_owned();
        let state = part.split("<state>").nth(1)?.split("</state>").next()?.to_owned();
        Some((id, state))
    };
    document.split("<dialog id=\"").skip(1).filter_map(one).collect()
}

impl Watcher {
    fn new(lab: &LabState) -> Self {
        let mut phone = Phone::open(lab, "carol", 5073);
        let call = String::from("lamp");
        let request = phone.first("SUBSCRIBE", BOB, &call, "Event: dialog\r\nExpires: 3600\r\n", "");
        let ok = phone.ask(&request);
        assert_eq!((status(&ok), header(&ok, "Expires")), (200, Some("3600")), "{ok}");
        Self { phone, call, ok, numbers: Vec::new() }
    }

    /// Takes NOTIFYs until one shows these states. Each of them has to be in order.
    fn sees(&mut self, states: &[&str]) -> Calls {
        loop {
            let (notify, calls) = self.next();
            assert!(
                header(&notify, "Subscription-State").is_some_and(|s| s.starts_with("active;")),
                "{notify}"
            );
            if calls.iter().map(|(_, state)| state.as_str()).eq(states.iter().copied()) {
                return calls;
            }
        }
    }

    fn next(&mut self) -> (String, Calls) {
        let notify = self.phone.asked("NOTIFY");
        assert_eq!(header(&notify, "Call-ID"), Some(self.call.as_str()));
        assert_eq!(header(&notify, "Event"), Some("dialog"));
        assert_eq!((tag(&notify, "From"), tag(&notify, "To")), (tag(&self.ok, "To"), tag(&self.ok, "From")));
        let text = body(&notify).split_once("<dialog-info").expect("a document").1;
        let version: u32 = attribute(text, "version").and_then(|v| v.parse().ok()).expect("a version");
        let number = cseq(&notify);
        assert!(self.numbers.last().is_none_or(|last| number > *last), "{number} after {:?}", self.numbers);
        assert_eq!(version, number - 1, "versions and CSeq numbers go on together");
        assert_eq!((attribute(text, "state"), attribute(text, "entity")), (Some("full"), Some(BOB)));
        self.numbers.push(number);
        self.phone.answer(&notify, 200, "");
        (notify.clone(), calls(text))
    }
}

#[test]
fn a_lamp_goes_on_under_the_same_subscription_at_whichever_step_of_a_call_the_node_is_lost() {
    let Some((mut guard, _logs)) = lab(LAMPS) else { return };
    let lab = &mut guard.lab;
    let (mut alice, mut bob) = (Phone::open(lab, "alice", 5071), Phone::open(lab, "bob", 5072));
    bob.register(1, 3600);
    let mut watcher = Watcher::new(lab);
    watcher.sees(&[]);
    assert_eq!(watcher.numbers, [1], "the first document has version 0");

    // Idle, and the node is lost: told once, as nobody knows what he had been told.
    lose_and_restart(lab);
    watcher.sees(&[]);
    until("all nodes are the same", || all_agree(lab));

    // It rings, the node is lost, it still rings.
    let invite = alice.first("INVITE", BOB, "c1", "", "");
    alice.send(&invite);
    let came = bob.asked("INVITE");
    bob.answer(&came, 180, "");
    let ringing = watcher.sees(&["early"]);
    lose_and_restart(lab);
    assert_eq!(watcher.sees(&["early"]), ringing);
    until("all nodes are the same", || all_agree(lab));

    // It is answered, the node is lost, they still talk.
    bob.answer(&came, 200, "");
    let ok = alice.wait("200", |m| status(m) == 200 && header(m, "CSeq") == Some("1 INVITE"));
    alice.send(&alice.within("ACK", &ok, 1, ""));
    bob.asked("ACK");
    let talking = watcher.sees(&["confirmed"]);
    assert_eq!(talking[0].0, ringing[0].0, "the same call");
    lose_and_restart(lab);
    assert_eq!(watcher.sees(&["confirmed"]), talking);
    until("all nodes are the same", || all_agree(lab));

    // The end comes while the node is lost that was there at the beginning.
    let bye = alice.within("BYE", &ok, 2, "");
    alice.send(&bye);
    let end = bob.asked("BYE");
    lose_and_restart(lab);
    bob.answer(&end, 200, "");
    assert_eq!(status(&alice.answer_to(&bye)), 200);
    let over = watcher.sees(&["terminated"]);
    assert_eq!(over[0].0, ringing[0].0, "the same call");
    until("all nodes are the same", || all_agree(lab));

    // It is refreshed, and ended, at a node that has never seen it.
    let headers = "Event: dialog\r\nExpires: 3600\r\n";
    let again = watcher.phone.within("SUBSCRIBE", &watcher.ok, 2, headers);
    let ok = watcher.phone.ask(&again);
    assert_eq!(status(&ok), 200, "{ok}");
    watcher.sees(&[]);
    let last = watcher.phone.within("SUBSCRIBE", &watcher.ok, 3, "Event: dialog\r\nExpires: 0\r\n");
    assert_eq!(status(&watcher.phone.ask(&last)), 200);
    let (notify, _) = watcher.next();
    assert!(header(&notify, "Subscription-State").is_some_and(|s| s.starts_with("terminated")), "{notify}");
    until("it is forgotten", || json(lab, &["status"])["counts"]["subscriptions"] == 0);
    let numbers: BTreeSet<u32> = watcher.numbers.iter().copied().collect();
    assert_eq!(numbers.len(), watcher.numbers.len());
    assert_eq!(watcher.numbers.last().copied(), u32::try_from(numbers.len()).ok(), "no number was left out");
}

#[test]
fn a_watcher_who_is_gone_is_told_no_more_and_other_packages_are_refused_also_by_the_next_node() {
    let Some((mut guard, _logs)) = lab(LAMPS) else { return };
    let lab = &mut guard.lab;
    let mut watcher = Watcher::new(lab);
    watcher.sees(&[]);
    lose_and_restart(lab);
    // It was started anew and knows of nothing.
    let notify = watcher.phone.asked("NOTIFY");
    watcher.phone.answer(&notify, 481, "");
    until("it is forgotten", || json(lab, &["status"])["counts"]["subscriptions"] == 0);
    let presence = watcher.phone.first("SUBSCRIBE", BOB, "p1", "Event: presence\r\n", "");
    let refused = watcher.phone.ask(&presence);
    assert_eq!(status(&refused), 489);
    assert!(header(&refused, "Allow-Events").is_some_and(|e| e.contains("dialog")), "{refused}");
}
