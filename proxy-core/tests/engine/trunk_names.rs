//! What a trunk is told of a call: number and names; and what each side of the dialog reads.

use std::time::Duration;

use crate::common::story::*;
use crate::common::trunk::*;
use proxy_core::io::EngineConfig;
use proxy_core::routing::{Action, Match, RoutingConfig, Rule, Stage};
use proxy_core::state::trunk::Account;
use proxy_core::state::trunk_style::{Identity, Plus, Redirects, TrunkStyle};

pub(super) const OUT: &str = "sip:0049301234@lab.test";

pub(super) fn styled(style: TrunkStyle) -> Account {
    Account { expires_s: 0, style, ..account() }
}

/// From and To as the account and the number.
pub(super) fn both() -> TrunkStyle {
    TrunkStyle { from: Identity::Account, to_number: true, ..TrunkStyle::default() }
}

pub(super) fn names(message: &str) -> (String, String) {
    let name = |h: &str| header(message, h).expect(h).split(";tag=").next().unwrap_or_default().to_owned();
    (name("From"), name("To"))
}

const AT_ALICE: (&str, &str) = ("<sip:alice@lab.test>", "<sip:0049301234@lab.test>");
const AT_CARRIER: (&str, &str) = ("<sip:4930555@carrier.test>", "<sip:+49301234@carrier.test>");

#[track_caller]
fn reads(message: &str, (from, to): (&str, &str)) {
    assert_eq!(names(message), (from.to_owned(), to.to_owned()), "{message}");
}

fn turned((from, to): (&'static str, &'static str)) -> (&'static str, &'static str) {
    (to, from)
}

/// Alice has called out; both sides know each other by the names they are to know.
fn answered(w: &mut World) -> (String, String) {
    w.send(ALICE, &invite(OUT, ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let first = w.expect(CARRIER, "INVITE ");
    reads(&first, AT_CARRIER);
    w.send(CARRIER, &challenge(&first, 407));
    let sent = w.take(CARRIER);
    reads(&sent[0], AT_CARRIER);
    let at_carrier = sent[1].clone();
    reads(&at_carrier, AT_CARRIER);
    w.send(CARRIER, &respond(&at_carrier, 183, "k", &format!("Contact: <sip:gw@{CARRIER}>\r\n")));
    reads(&w.expect(ALICE, "SIP/2.0 183 "), AT_ALICE);
    w.send(CARRIER, &respond(&at_carrier, 200, "k", &format!("Contact: <sip:gw@{CARRIER}>\r\n")));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    reads(&ok, AT_ALICE);
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    reads(&w.expect(CARRIER, "ACK "), AT_CARRIER);
    (at_carrier, ok)
}

#[test]
fn a_bye_of_the_caller_after_a_takeover_has_the_names_that_the_trunk_knows() {
    let mut w = world(styled(both()));
    let (_, ok) = answered(&mut w);
    w.fail_over(Duration::from_millis(300));
    w.take(ALICE);
    w.take(CARRIER);
    w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    let bye = w.expect(CARRIER, "BYE ");
    reads(&bye, AT_CARRIER);
    w.send(CARRIER, &challenge(&bye, 407));
    let bye = w.expect(CARRIER, "BYE ");
    reads(&bye, AT_CARRIER);
    w.send(CARRIER, &respond(&bye, 200, "k", ""));
    reads(&w.expect(ALICE, "SIP/2.0 200 "), AT_ALICE);
    assert_eq!(w.state.counts().dialogs, 0);
}

#[test]
fn a_bye_of_the_trunk_after_a_takeover_has_the_names_that_the_caller_knows() {
    let mut w = world(styled(both()));
    let (at_carrier, _) = answered(&mut w);
    w.fail_over(Duration::from_millis(300));
    w.take(ALICE);
    w.take(CARRIER);
    w.send(CARRIER, &in_dialog_of_callee("BYE", 77, &at_carrier, "k", CARRIER));
    let bye = w.expect(ALICE, "BYE ");
    reads(&bye, turned(AT_ALICE));
    w.send(ALICE, &respond(&bye, 200, "a", ""));
    reads(&w.expect(CARRIER, "SIP/2.0 200 "), turned(AT_CARRIER));
    assert_eq!(w.state.counts().dialogs, 0);
}

#[test]
fn a_reinvite_of_either_side_has_the_names_that_the_other_knows() {
    let mut w = world(styled(both()));
    let (at_carrier, ok) = answered(&mut w);
    w.send(CARRIER, &in_dialog_of_callee("INVITE", 70, &at_carrier, "k", CARRIER));
    w.take(CARRIER);
    let again = w.expect(ALICE, "INVITE ");
    reads(&again, turned(AT_ALICE));
    w.send(ALICE, &respond(&again, 486, "a", ""));
    let ack = w.expect(ALICE, "ACK ");
    reads(&ack, turned(AT_ALICE));
    reads(&w.expect(CARRIER, "SIP/2.0 486 "), turned(AT_CARRIER));
    w.send(ALICE, &in_dialog_of_caller("INVITE", 2, &ok, ALICE));
    let again = w.expect(CARRIER, "INVITE ");
    reads(&again, AT_CARRIER);
    w.take(ALICE);
    w.send(CARRIER, &respond(&again, 200, "k", &format!("Contact: <sip:gw@{CARRIER}>\r\n")));
    reads(&w.expect(ALICE, "SIP/2.0 200 "), AT_ALICE);
}

#[test]
fn a_takeover_while_it_rings_answers_with_the_names_of_each_side() {
    let mut w = world(styled(both()));
    w.send(ALICE, &invite(OUT, ALICE, "c1"));
    let at_carrier = w.expect(CARRIER, "INVITE ");
    w.send(CARRIER, &respond(&at_carrier, 180, "k", ""));
    w.take(ALICE);
    w.fail_over(Duration::from_millis(300));
    assert_eq!(w.expect(CARRIER, "INVITE "), at_carrier);
    w.send(CARRIER, &respond(&at_carrier, 486, "k", ""));
    reads(&w.expect(CARRIER, "ACK "), AT_CARRIER);
    reads(&w.expect(ALICE, "SIP/2.0 486 "), AT_ALICE);
}

#[test]
fn a_cancel_and_an_update_before_the_answer_have_the_names_that_the_other_side_knows() {
    let mut w = world(styled(both()));
    w.send(ALICE, &invite(OUT, ALICE, "c1"));
    let at_carrier = w.expect(CARRIER, "INVITE ");
    w.take(ALICE);
    w.send(CARRIER, &respond(&at_carrier, 183, "k", &format!("Contact: <sip:gw@{CARRIER}>\r\n")));
    w.expect(ALICE, "SIP/2.0 183 ");
    w.send(CARRIER, &in_dialog_of_callee("UPDATE", 7, &at_carrier, "k", CARRIER));
    let update = w.expect(ALICE, "UPDATE ");
    reads(&update, turned(AT_ALICE));
    w.send(ALICE, &respond(&update, 200, "a", ""));
    reads(&w.expect(CARRIER, "SIP/2.0 200 "), turned(AT_CARRIER));
    w.send(ALICE, &cancel(OUT, ALICE, "c1"));
    reads(&w.expect(CARRIER, "CANCEL "), AT_CARRIER);
    reads(&w.expect(ALICE, "SIP/2.0 200 "), AT_ALICE);
}

#[test]
fn a_bye_of_the_proxy_has_the_names_that_each_side_knows() {
    let mut w = world(styled(both()));
    answered(&mut w);
    let id = w.state.dialogs().next().expect("a dialog").id.clone();
    let by = proxy_core::state::EndedBy::Operator;
    w.state.apply(&proxy_core::state::SipCommand::DialogEnding { id, by });
    w.pass(Duration::from_secs(1));
    reads(&one(&mut w, CARRIER, "BYE "), AT_CARRIER);
    reads(&one(&mut w, ALICE, "BYE "), turned(AT_ALICE));
}

#[test]
fn a_display_name_stays_and_numbers_are_written_as_the_trunk_wants() {
    let style = TrunkStyle { plus: Plus::Bare, prefix: String::from("77"), ..both() };
    let mut w = world(styled(style));
    let call = invite(OUT, ALICE, "c1").replace("From: <sip:alice", "From: \"Alice A.\" <sip:alice");
    w.send(ALICE, &call);
    let sent = w.expect(CARRIER, "INVITE ");
    assert_eq!(uri_of(&sent), "sip:7749301234@carrier.test");
    reads(&sent, ("\"Alice A.\" <sip:4930555@carrier.test>", "<sip:7749301234@carrier.test>"));
}

#[test]
fn without_a_word_of_the_operator_a_call_goes_out_as_it_came() {
    let mut w = world(styled(TrunkStyle::default()));
    let call = request("INVITE", OUT, ALICE, "c1", "P-Asserted-Identity: <sip:x@lab.test>\r\n");
    w.send(ALICE, &call);
    let sent = w.expect(CARRIER, "INVITE ");
    reads(&sent, AT_ALICE);
    assert_eq!(header(&sent, "P-Asserted-Identity").as_deref(), Some("<sip:x@lab.test>"));
}

/// SUBSCRIBE and REFER go out by the trunk.
fn subscribing() -> World {
    let rule = Rule {
        name: String::from("out"),
        matching: Match { methods: vec!["SUBSCRIBE".into(), "REFER".into()], ..Match::default() },
        strip: 0,
        prefix: String::new(),
        require_auth: false,
        action: Action::Trunk(vec![String::from("carrier")]),
        voicemail: None,
        ring: None,
        media: None,
    };
    let routing = RoutingConfig { rules: vec![rule], ..RoutingConfig::default() };
    let mut w = World::with(EngineConfig { routing, ..config() });
    put(&mut w, styled(TrunkStyle { plus: Plus::Plus, ..both() }));
    w
}

/// A request of the carrier within the dialog that `request` of alice has begun, by the routes that came with it.
fn of_carrier(method: &str, cseq: u32, request: &str, extra: &str) -> String {
    let routes = header(request, "Record-Route").expect("Record-Route");
    format!(
        "{method} sip:alice@{ALICE} SIP/2.0\r\nVia: SIP/2.0/UDP {CARRIER};branch=z9hG4bK{method}{cseq};rport\r\n\
         Route: {routes}\r\nMax-Forwards: 70\r\nFrom: {};tag=k\r\nTo: {}\r\nCall-ID: {}\r\n\
         CSeq: {cseq} {method}\r\nContact: <sip:gw@{CARRIER}>\r\n{extra}Content-Length: 0\r\n\r\n",
        header(request, "To").expect("To"),
        header(request, "From").expect("From"),
        header(request, "Call-ID").expect("Call-ID"),
    )
}

const ACTIVE: &str = "Event: presence\r\nSubscription-State: active;expires=600\r\n";

fn tag(message: &str, name: &str) -> Option<String> {
    header(message, name).and_then(|value| Some(value.split_once(";tag=")?.1.to_owned()))
}

#[test]
fn the_notifys_of_a_subscription_by_a_trunk_carry_the_names_each_side_knows_also_after_a_takeover_rfc6665() {
    for (method, extra) in [("SUBSCRIBE", "Event: presence\r\n"), ("REFER", "Refer-To: <sip:x@lab.test>\r\n")]
    {
        for takeover in [false, true] {
            let mut w = subscribing();
            let contact = format!("Contact: <sip:alice@{ALICE}>\r\n");
            w.send(ALICE, &request(method, OUT, ALICE, "s1", &format!("{extra}{contact}")));
            let asked = w.expect(CARRIER, method);
            reads(&asked, AT_CARRIER);
            w.send(CARRIER, &challenge(&asked, 407));
            let sent = w.expect(CARRIER, method);
            reads(&sent, AT_CARRIER);
            // The NOTIFY may come before the 200.
            w.send(CARRIER, &of_carrier("NOTIFY", 1, &sent, ACTIVE));
            let told = w.expect(ALICE, "NOTIFY ");
            reads(&told, turned(AT_ALICE));
            assert_eq!((tag(&told, "From"), tag(&told, "To")), (Some("k".into()), tag(&sent, "From")));
            w.send(ALICE, &respond(&told, 200, "", ""));
            let heard = w.expect(CARRIER, "SIP/2.0 200 ");
            reads(&heard, turned(AT_CARRIER));
            w.send(CARRIER, &respond(&sent, 200, "k", &format!("Contact: <sip:gw@{CARRIER}>\r\n")));
            let ok = w.expect(ALICE, "SIP/2.0 200 ");
            reads(&ok, AT_ALICE);
            if takeover {
                w.fail_over(Duration::from_millis(300));
            }
            // It is refreshed, and ended, by the names that the carrier knows.
            w.send(ALICE, &in_dialog_of_caller("SUBSCRIBE", 3, &ok, ALICE));
            let again = w.expect(CARRIER, "SUBSCRIBE ");
            reads(&again, AT_CARRIER);
            assert_eq!(tag(&again, "To").as_deref(), Some("k"));
            w.send(CARRIER, &respond(&again, 200, "k", ""));
            reads(&w.expect(ALICE, "SIP/2.0 200 "), AT_ALICE);
            for (number, from) in [(2, &sent), (3, &again)] {
                let mut notify = of_carrier("NOTIFY", number, from, ACTIVE);
                notify = notify.replace(";tag=k;tag=k", ";tag=k");
                w.send(CARRIER, &notify);
                reads(&w.expect(ALICE, "NOTIFY "), turned(AT_ALICE));
            }
        }
    }
}

#[test]
fn names_that_somebody_else_wrote_or_that_are_of_another_dialog_are_not_taken_rfc6665() {
    let mut w = subscribing();
    w.send(ALICE, &request("SUBSCRIBE", OUT, ALICE, "s1", "Event: presence\r\n"));
    let sent = w.expect(CARRIER, "SUBSCRIBE ");
    let right = of_carrier("NOTIFY", 1, &sent, ACTIVE);
    let other = right.replace("Call-ID: s1", "Call-ID: s2");
    let (_, after) = right.split_once("alice").expect("a name");
    assert!(after.contains("alice%40lab.test"), "{right}");
    let forged = right.replace("alice%40lab.test", "eve%40lab.test");
    w.send(CARRIER, &forged.replace("z9hG4bKNOTIFY1", "z9hG4bKforged"));
    reads(&w.expect(ALICE, "NOTIFY "), turned(AT_CARRIER));
    // There is no such dialog.
    w.send(CARRIER, &other.replace("z9hG4bKNOTIFY1", "z9hG4bKother"));
    w.expect_nothing(ALICE);
}

#[test]
fn a_subscription_whose_names_could_not_be_taken_back_keeps_them_rfc6665() {
    // Too long for a Record-Route.
    let mut w = subscribing();
    let long = format!("sip:alice{}@lab.test", "x".repeat(800));
    let text = request("SUBSCRIBE", OUT, ALICE, "s1", "Event: presence\r\n");
    w.send(ALICE, &text.replace("From: <sip:alice@lab.test>", &format!("From: <{long}>")));
    let sent = w.expect(CARRIER, "SUBSCRIBE ");
    assert_eq!(names(&sent), (format!("<{long}>"), format!("<{OUT}>")));
    // The proxy is not on the path of dialogs.
    w.config.routing.off.insert(Stage::Withindlg);
    w.fail_over(Duration::from_millis(300));
    w.send(ALICE, &request("SUBSCRIBE", OUT, ALICE, "s2", "Event: presence\r\n"));
    let sent = w.take(CARRIER).pop().expect("SUBSCRIBE");
    reads(&sent, AT_ALICE);
}

const GATEWAY: &str = "10.77.0.230:5060";

/// The message of that kind that a side has got, whatever else it has.
#[track_caller]
fn heard(w: &mut World, at: &str, start: &str) -> String {
    let all = w.take(at);
    all.iter().find(|m| m.starts_with(start)).cloned().unwrap_or_else(|| panic!("no {start} in {all:#?}"))
}

/// The trunk sends a call on to itself and to a gateway that knows everybody by the names of the caller; both ring. The
/// INVITE of each.
fn both_ring(w: &mut World) -> (String, String) {
    w.send(ALICE, &invite(OUT, ALICE, "c1"));
    let first = w.expect(CARRIER, "INVITE ");
    let contacts = format!("Contact: <sip:99@carrier.test>;q=1, <sip:99@{GATEWAY}>;q=0.5\r\n");
    w.send(CARRIER, &respond(&first, 302, "x", &contacts));
    let at_carrier = heard(w, CARRIER, "INVITE ");
    let at_gateway = heard(w, GATEWAY, "INVITE ");
    reads(&at_carrier, AT_CARRIER);
    reads(&at_gateway, AT_ALICE);
    for (at, got, tag) in [(CARRIER, &at_carrier, "k"), (GATEWAY, &at_gateway, "g")] {
        w.send(at, &respond(got, 183, tag, &format!("Contact: <sip:gw@{at}>\r\n")));
    }
    w.take(ALICE);
    (at_carrier, at_gateway)
}

#[test]
fn before_the_answer_requests_of_each_fork_have_the_names_that_it_knows_rfc3311_rfc3262() {
    for lost in [false, true] {
        let mut w = world(styled(TrunkStyle { redirects: Redirects::Any, ..both() }));
        let (at_carrier, at_gateway) = both_ring(&mut w);
        if lost {
            w.fail_over(Duration::from_millis(300));
            for at in [CARRIER, GATEWAY, ALICE] {
                w.take(at);
            }
        }
        let forks = [(CARRIER, at_carrier, "k", AT_CARRIER), (GATEWAY, at_gateway, "g", AT_ALICE)];
        for (number, (at, got, tag, names)) in (7..).zip(forks) {
            w.send(at, &in_dialog_of_callee("UPDATE", number, &got, tag, at));
            let update = heard(&mut w, ALICE, "UPDATE ");
            reads(&update, turned(AT_ALICE));
            w.send(ALICE, &respond(&update, 200, "a", ""));
            reads(&heard(&mut w, at, "SIP/2.0 200 "), turned(names));
            // What the caller sends to this one.
            let ringing = respond(&got, 183, tag, &format!("Contact: <sip:gw@{at}>\r\n"));
            let ringing =
                [("From", AT_ALICE.0), ("To", AT_ALICE.1)].iter().fold(ringing, |text, (name, goes)| {
                    let old = header(&text, name).expect("a name");
                    let tag = old.split(";tag=").nth(1).expect("a tag");
                    text.replace(&format!("{name}: {old}"), &format!("{name}: {goes};tag={tag}"))
                });
            let prack = in_dialog_of_caller("PRACK", number, &ringing, ALICE);
            w.send(ALICE, &prack.replace("Content-Length", "RAck: 1 1 INVITE\r\nContent-Length"));
            let prack = heard(&mut w, at, "PRACK ");
            reads(&prack, names);
            w.send(at, &respond(&prack, 200, tag, ""));
            reads(&heard(&mut w, ALICE, "SIP/2.0 200 "), AT_ALICE);
        }
    }
}

#[test]
fn a_branch_that_rings_with_several_tags_is_known_by_each_of_them() {
    let mut w = world(styled(TrunkStyle { redirects: Redirects::Any, ..both() }));
    let (at_carrier, _) = both_ring(&mut w);
    for tag in ["k2", "k3"] {
        w.send(CARRIER, &respond(&at_carrier, 183, tag, &format!("Contact: <sip:gw@{CARRIER}>\r\n")));
    }
    w.take(ALICE);
    for (number, tag) in (20..).zip(["k", "k2", "k3"]) {
        w.send(CARRIER, &in_dialog_of_callee("UPDATE", number, &at_carrier, tag, CARRIER));
        reads(&heard(&mut w, ALICE, "UPDATE "), turned(AT_ALICE));
        w.take(CARRIER);
    }
}
