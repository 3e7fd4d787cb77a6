//! Each stage can be switched off: what is gone then, and what is left because RFC 3261 or the proxy's own safety demands
//! it. The stages that are merely skipped are in `engine_stages`.

use crate::common::media;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::media::{ALICE, BOB, BOB_URI, BOB2, Media, contact, sdp, with_sdp};
use crate::common::story::*;
use proxy_core::engine::Engine;
use proxy_core::io::EngineConfig;
use proxy_core::media::Usage;
use proxy_core::routing::{
    Action, FloodLimit, Line, Match, Mode, RoutingConfig, Rule, Screen, Stage, Voicemail,
};

/// Somebody behind a NAT.
const NATTED: &str = "203.0.113.9:42000";
const PBX: &str = "10.77.0.230:5060";

fn off(stages: &[Stage]) -> RoutingConfig {
    RoutingConfig { off: stages.iter().copied().collect::<BTreeSet<_>>(), ..RoutingConfig::default() }
}

fn without(stage: Stage) -> World {
    World::with(EngineConfig { routing: off(&[stage]), ..config() })
}

fn calls_only(action: Action) -> Rule {
    Rule {
        name: String::from("r"),
        matching: Match { methods: vec!["INVITE".into(), "CANCEL".into()], ..Match::default() },
        strip: 0,
        prefix: String::new(),
        require_auth: false,
        action,
        voicemail: None,
        ring: None,
        media: None,
    }
}

fn explain(w: &World, text: &str) -> Vec<Line> {
    Engine::explained(w.config.clone(), w.now, flow_of(addr(ALICE)), None, text.as_bytes(), &w.state)
}

/// A call to bob that was answered: what he got, and what alice got.
fn answered(w: &mut World, call: &str) -> (String, String) {
    w.send(ALICE, &invite(BOB_URI, ALICE, call));
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 200, "b", &contact(BOB)));
    let ok = w.take(ALICE).pop().expect("an answer");
    assert!(ok.starts_with("SIP/2.0 200 "), "{ok}");
    (got, ok)
}

#[test]
fn every_stage_has_a_name_in_the_configuration() {
    let names: Vec<&str> = Stage::names().collect();
    assert_eq!(names.len(), 18);
    for name in names {
        assert_eq!(Stage::by_name(name).map(Stage::name), Some(name));
    }
    assert_eq!(Stage::by_name("RELAY"), None);
}

#[test]
fn without_reqinit_floods_scanners_and_large_requests_come_in() {
    let limit = FloodLimit { requests: 2, ..FloodLimit::default() };
    let screen = Screen { flood: Some(limit), max_bytes: 500, max_uri_bytes: 40, ..Screen::default() };
    let routing = RoutingConfig { screen, ..off(&[Stage::Reqinit]) };
    let mut w = World::with(EngineConfig { routing, ..config() });
    w.register("bob", BOB);
    let user_agent = format!("User-Agent: friendly-scanner\r\nSubject: {}\r\n", "x".repeat(600));
    for n in 0..10 {
        w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, &format!("m{n}"), &user_agent));
        w.expect(BOB, "MESSAGE ");
    }
    let long = format!("sip:{}@lab.test", "x".repeat(60));
    w.send(ALICE, &request("MESSAGE", &long, ALICE, "long", ""));
    w.expect(ALICE, "SIP/2.0 404 ");
    // The keepalive is one of its services.
    w.send(ALICE, &request("OPTIONS", "sip:lab.test", ALICE, "o", ""));
    w.expect(ALICE, "SIP/2.0 484 ");
    let c = w.engine.counters();
    assert_eq!((c.dropped_flood, c.dropped_scanner), (0, 0));
}

#[test]
fn without_reqinit_what_rfc3261_16_3_demands_is_checked_all_the_same() {
    let mut w = without(Stage::Reqinit);
    w.register("bob", BOB);
    let first = invite(BOB_URI, ALICE, "c1");
    let table = [
        (first.replace("Max-Forwards: 70", "Max-Forwards: 0"), "SIP/2.0 483 "),
        (first.replace("Max-Forwards: 70", "Proxy-Require: x\r\nMax-Forwards: 70"), "SIP/2.0 420 "),
        (first.replace("CSeq: 1 INVITE", "CSeq: 1 BYE"), "SIP/2.0 400 "),
        (first.replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"), "SIP/2.0 505 "),
        (first.replace("Call-ID: c1", &format!("Call-ID: {}", "c".repeat(300))), "SIP/2.0 400 "),
    ];
    for (text, answer) in table {
        w.send(ALICE, &text);
        w.expect(ALICE, answer);
    }
    w.expect_nothing(BOB);
    let lines = explain(&w, &first);
    assert!(lines.iter().any(|l| l.stage == Stage::Reqinit && l.decision == "off"), "{lines:#?}");
}

#[test]
fn without_cancel_one_of_nothing_known_goes_the_way_of_its_invite_rfc3261_16_10() {
    let mut w = World::new();
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 481 ");

    let mut w = without(Stage::Cancel);
    w.register("bob", BOB);
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    w.expect_nothing(ALICE);
    let passed = w.expect(BOB, "CANCEL ");
    w.send(BOB, &respond(&passed, 200, "b", ""));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(header(&ok, "CSeq").as_deref(), Some("1 CANCEL"));
    // With the branch that its INVITE has.
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let branch = |m: &str| header(m, "Via").expect("Via").split(", ").next().expect("one").to_owned();
    assert_eq!(branch(&w.expect(BOB, "INVITE ")), branch(&passed));
    // No way around SIPOUT.
    w.take(ALICE);
    w.send(ALICE, &cancel("sip:x@192.0.2.9", ALICE, "c2"));
    w.expect(ALICE, "SIP/2.0 403 ");
}

#[test]
fn without_cancel_one_of_nothing_known_is_never_redirected_rfc3261_9_2() {
    let elsewhere = Action::Redirect { contacts: vec![format!("sip:bob@{PBX}")], permanent: false };
    let by_rule = RoutingConfig { rules: vec![calls_only(elsewhere)], ..off(&[Stage::Cancel]) };
    let stateless = RoutingConfig { mode: Mode::Stateless, off: BTreeSet::new(), ..by_rule.clone() };
    let server = |stages: &[Stage]| RoutingConfig { mode: Mode::Redirect, ..off(stages) };
    let both = server(&[Stage::Cancel, Stage::Relay]);
    for (n, routing) in [server(&[Stage::Cancel]), both, by_rule, stateless].into_iter().enumerate() {
        let mut w = World::with(EngineConfig { routing, ..config() });
        w.register("bob", BOB);
        w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
        w.expect(ALICE, "SIP/2.0 302 ");
        w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
        let answers = w.take(ALICE);
        assert!(answers.len() == 1 && answers[0].starts_with("SIP/2.0 481 "), "{n}: {answers:?}");
        // Nor is one of somebody who is not there.
        w.send(ALICE, &cancel("sip:carol@lab.test", ALICE, "c2"));
        let answers = w.take(ALICE);
        assert!(answers.len() == 1 && answers[0].starts_with("SIP/2.0 481 "), "{n}: {answers:?}");
        w.expect_nothing(BOB);
    }
}

#[test]
fn without_cancel_a_known_call_ends_also_after_a_takeover_rfc3261_16_10() {
    let mut w = without(Stage::Cancel);
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 180, "b", ""));
    w.take(ALICE);
    w.fail_over(Duration::from_millis(300));
    w.take(BOB);
    w.send(BOB, &respond(&got, 180, "b", ""));
    w.take(ALICE);
    w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.expect(BOB, "CANCEL ");
}

#[test]
fn without_retransmission_what_comes_again_is_neither_answered_nor_forked() {
    for stage in [Stage::Natdetect, Stage::Retransmission] {
        let is_on = stage != Stage::Retransmission;
        let mut w = without(stage);
        w.register("bob", BOB);
        w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
        w.expect(BOB, "INVITE ");
        w.expect(ALICE, "SIP/2.0 100 ");
        w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
        w.expect_nothing(BOB);
        assert_eq!(w.take(ALICE).len(), usize::from(is_on));
        w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "m1", ""));
        let got = w.expect(BOB, "MESSAGE ");
        w.send(BOB, &respond(&got, 200, "b", ""));
        w.expect(ALICE, "SIP/2.0 200 ");
        w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "m1", ""));
        w.expect_nothing(BOB);
        assert_eq!(w.take(ALICE).len(), usize::from(is_on));
        assert_eq!(w.engine.counters().retransmissions_in, 2);
    }
}

#[test]
fn without_retransmission_an_invite_of_before_the_takeover_is_not_forked_again() {
    let mut w = without(Stage::Retransmission);
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(BOB, "INVITE ");
    w.take(ALICE);
    w.fail_over(Duration::from_millis(300));
    w.expect(BOB, "INVITE ");
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect_nothing(BOB);
    w.expect_nothing(ALICE);
    assert_eq!(w.state.counts().pending_invites, 1);
}

#[test]
fn without_withindlg_the_proxy_leaves_the_path_of_calls() {
    let mut w = without(Stage::Withindlg);
    w.register("bob", BOB);
    let (got, ok) = answered(&mut w, "c1");
    assert_eq!(header(&got, "Record-Route"), None);
    assert_eq!(w.state.counts().dialogs, 0, "nobody would ever end it");
    // What comes all the same has lost its way, and an ACK is never answered.
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect_nothing(ALICE);
    w.expect_nothing(BOB);
    w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    w.expect(ALICE, "SIP/2.0 404 Not here");
    w.expect_nothing(BOB);
    // Its own transactions end as ever.
    w.send(ALICE, &invite(BOB_URI, ALICE, "c2"));
    let got = w.expect(BOB, "INVITE ");
    w.take(ALICE);
    w.send(BOB, &respond(&got, 486, "b", ""));
    let busy = w.expect(ALICE, "SIP/2.0 486 ");
    let ack = invite(BOB_URI, ALICE, "c2").replace("INVITE sip", "ACK sip").replace("1 INVITE", "1 ACK");
    let to = format!("To: {}", header(&busy, "To").expect("To"));
    w.send(ALICE, &ack.replace(&format!("To: <{BOB_URI}>"), &to));
    w.expect(BOB, "ACK ");
    w.pass(Duration::from_secs(4));
    w.expect_nothing(ALICE);
}

#[test]
fn without_withindlg_a_call_of_before_the_takeover_is_answered_without_a_dialog() {
    let mut w = without(Stage::Withindlg);
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let got = w.expect(BOB, "INVITE ");
    w.take(ALICE);
    w.fail_over(Duration::from_millis(300));
    assert_eq!(w.expect(BOB, "INVITE "), got);
    w.send(BOB, &respond(&got, 200, "b", &contact(BOB)));
    w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(w.state.counts().dialogs, 0);
}

#[test]
fn without_relay_nothing_goes_through_and_what_is_answered_here_is() {
    let mut w = without(Stage::Relay);
    w.register("bob", BOB);
    for method in ["INVITE", "MESSAGE", "OPTIONS"] {
        w.send(ALICE, &request(method, BOB_URI, ALICE, "c1", ""));
        w.expect(ALICE, "SIP/2.0 403 Not relaying");
    }
    w.send(ALICE, &invite("sip:nobody@lab.test", ALICE, "c2"));
    w.expect(ALICE, "SIP/2.0 404 ");
    w.send(ALICE, &request("OPTIONS", "sip:lab.test", ALICE, "o", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
    w.expect_nothing(BOB);
    assert_eq!(w.state.counts().pending_invites, 0);
    let lines = explain(&w, &invite(BOB_URI, ALICE, "c1"));
    let is_refused = |l: &Line| l.stage == Stage::Relay && l.decision == "answers 403 Not relaying";
    assert!(lines.iter().any(is_refused), "{lines:#?}");
}

#[test]
fn without_one_of_its_stages_no_call_uses_an_rtpengine() {
    for stage in [Stage::Withindlg, Stage::ManageBranch, Stage::ManageReply] {
        let media = media::media(Usage::Always);
        let w = World::with(EngineConfig { media, routing: off(&[stage]), ..config() });
        let mut m = Media { w, dead: BTreeSet::new(), refuses: None, told: Vec::new() };
        m.w.register("bob", BOB);
        let offer = with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice");
        m.w.send(ALICE, &offer);
        let got = m.w.expect(BOB, "INVITE ");
        assert_eq!(sdp(&got), sdp(&offer), "{stage}");
        m.w.take(ALICE);
        let answer = with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob");
        m.w.send(BOB, &answer);
        assert_eq!(sdp(&m.w.expect(ALICE, "SIP/2.0 200 ")), sdp(&answer), "{stage}");
        assert_eq!(m.serve(), Vec::<String>::new(), "{stage}");
    }
}

#[test]
fn without_manage_reply_the_contact_of_a_callee_behind_a_nat_stays_as_it_was() {
    for (stage, aliased) in [(Stage::Natdetect, true), (Stage::ManageReply, false)] {
        let mut w = without(stage);
        w.send(NATTED, &register("bob", NATTED, 1, "<sip:bob@192.168.9.9:5060>"));
        w.expect(NATTED, "SIP/2.0 200 ");
        w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
        let got = w.expect(NATTED, "INVITE ");
        w.take(ALICE);
        w.send(NATTED, &respond(&got, 200, "b", "Contact: <sip:bob@192.168.9.9:5060>\r\n"));
        let ok = w.expect(ALICE, "SIP/2.0 200 ");
        let contact = header(&ok, "Contact").expect("a contact");
        assert_eq!(contact.contains(";alias="), aliased, "{stage}: {contact}");
    }
}

#[test]
fn without_manage_failure_the_first_round_decides_also_after_a_takeover() {
    let voicemail = Voicemail {
        server: format!("sip:{PBX}"),
        after: Some(Duration::from_secs(5)),
        on: vec![486, 408, 404],
    };
    let routing =
        RoutingConfig { voicemail: Some(voicemail), follow_redirects: true, ..off(&[Stage::ManageFailure]) };
    let mut w = World::with(EngineConfig { routing, ..config() });
    w.register("bob", BOB);
    w.register("bob", BOB2);
    for (n, (status, headers)) in
        [(486, String::new()), (302, format!("Contact: <sip:x@{PBX}>\r\n"))].into_iter().enumerate()
    {
        w.send(ALICE, &invite(BOB_URI, ALICE, &format!("c{n}")));
        let (one, two) = (w.expect(BOB, "INVITE "), w.expect(BOB2, "INVITE "));
        w.take(ALICE);
        if n == 0 {
            w.fail_over(Duration::from_millis(300));
            w.take(BOB);
            w.take(BOB2);
            // Voicemail would have taken it by now.
            w.send(BOB, &respond(&one, 180, "b", ""));
            w.pass(Duration::from_secs(6));
            w.expect(ALICE, "SIP/2.0 180 ");
        }
        w.send(BOB, &respond(&one, status, "b", &headers));
        w.send(BOB2, &respond(&two, status, "b", &headers));
        w.expect(ALICE, &format!("SIP/2.0 {status} "));
        w.expect_nothing(PBX);
        w.take(BOB);
        w.take(BOB2);
        w.pass(Duration::from_secs(40));
        w.take(ALICE);
    }
    // Who has no phone at all is sent there by TOVOICEMAIL, which is on.
    w.send(ALICE, &invite("sip:carol@lab.test", ALICE, "c9"));
    w.expect(PBX, "INVITE sip:carol@");
    let lines = explain(&w, &invite(BOB_URI, ALICE, "c8"));
    assert!(lines.iter().any(|l| l.decision == "without MANAGE_FAILURE"), "{lines:#?}");
}
