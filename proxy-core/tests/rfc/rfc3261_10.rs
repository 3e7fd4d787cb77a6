//! RFC 3261 §10: the registrar. The rules that the other stories do not prove.

use crate::common::story::*;
use proxy_core::io::EngineConfig;

const BOB: &str = "10.77.0.202:5062";

fn contact() -> String {
    format!("<sip:bob@{BOB}>")
}

#[test]
fn a_register_without_contact_asks_and_changes_nothing_rfc3261_10_2_3() {
    let mut w = World::new();
    w.register("bob", BOB);
    let before = w.state.clone();
    let question = register("bob", BOB, 2, "x").replace("Contact: x\r\n", "");
    w.send(BOB, &question);
    let answer = w.expect(BOB, "SIP/2.0 200 ");
    assert_eq!(header(&answer, "Contact"), Some(format!("{};expires=3600", contact())));
    assert_eq!(w.state, before);
}

#[test]
fn record_route_in_a_register_is_ignored_rfc3261_10_3() {
    let mut w = World::new();
    let text = register("bob", BOB, 1, &contact());
    w.send(BOB, &text.replace("Max-Forwards", "Record-Route: <sip:10.77.0.9;lr>\r\nMax-Forwards"));
    let answer = w.expect(BOB, "SIP/2.0 200 ");
    assert_eq!(header(&answer, "Record-Route"), None);
}

#[test]
fn a_to_of_another_domain_is_404_rfc3261_10_3_step_5() {
    let mut w = World::new();
    let text = register("bob", BOB, 1, &contact());
    w.send(BOB, &text.replace("To: <sip:bob@lab.test>", "To: <sip:bob@elsewhere.org>"));
    w.expect(BOB, "SIP/2.0 404 ");
}

#[test]
fn a_minimum_above_an_hour_refuses_nobody_who_asks_for_an_hour_rfc3261_10_3_step_7() {
    let mut w = World::with(EngineConfig { min_expires_s: 7200, max_expires_s: 86_400, ..config() });
    w.send(BOB, &register("bob", BOB, 1, &format!("{};expires=3600", contact())));
    let answer = w.expect(BOB, "SIP/2.0 200 ");
    assert_eq!(header(&answer, "Contact"), Some(format!("{};expires=3600", contact())));
    w.send(BOB, &register("bob", BOB, 2, &format!("{};expires=3599", contact())));
    let refused = w.expect(BOB, "SIP/2.0 423 ");
    assert_eq!(header(&refused, "Min-Expires").as_deref(), Some("7200"));
}

#[test]
fn one_contact_that_cannot_be_leaves_all_others_as_they_were_rfc3261_10_3() {
    let mut w = World::new();
    w.register("bob", BOB);
    let before = w.state.clone();
    let two = format!("<sip:bob@10.77.0.202:5070>, {};expires=1", contact());
    w.send(BOB, &register("bob", BOB, 2, &two));
    w.expect(BOB, "SIP/2.0 423 ");
    assert_eq!(w.state, before, "all or nothing");
}
