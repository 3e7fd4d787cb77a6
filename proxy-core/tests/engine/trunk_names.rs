//! What a trunk is told of a call: number, caller, P-Asserted-Identity, Privacy; and what each side of the dialog reads.

use crate::common::auth;
use std::time::Duration;

use crate::common::story::*;
use crate::common::trunk::*;
use proxy_core::io::EngineConfig;
use proxy_core::routing::{Action, Match, Mode, RoutingConfig, Rule, Stage};
use proxy_core::state::trunk::Account;
use proxy_core::state::trunk_style::{Identity, Plus, Redirects, TrunkStyle};
use proxy_core::trunk::TrunkConfig;

const OUT: &str = "sip:0049301234@lab.test";

fn styled(style: TrunkStyle) -> Account {
    Account { expires_s: 0, style, ..account() }
}

/// From and To as the account and the number.
fn both() -> TrunkStyle {
    TrunkStyle { from: Identity::Account, to_number: true, ..TrunkStyle::default() }
}

fn names(message: &str) -> (String, String) {
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

/// Asks for passwords; alice has one, and 10.99.0.9 is trusted.
fn asking(style: TrunkStyle) -> World {
    let mut w = World::with(EngineConfig {
        trunk: TrunkConfig { pstn: Some(String::from("carrier")), ..TrunkConfig::default() },
        ..auth::asking()
    });
    w.settle();
    auth::subscribe(&mut w.state, "alice", "lab.test", "lab.test", "secret-a");
    auth::allow(&mut w.state, 1, "10.99.0.9", 32, 0);
    put(&mut w, styled(style));
    w
}

/// Alice calls out, with her password. Gives what the carrier gets.
fn proved(w: &mut World, call: &str) -> String {
    w.send(ALICE, call);
    let asked = w.expect(ALICE, "SIP/2.0 407 ");
    w.send(ALICE, &auth::answered(call, &asked, "alice", "secret-a"));
    w.expect(CARRIER, "INVITE ")
}

fn asserted(message: &str) -> Option<String> {
    header(message, "P-Asserted-Identity")
}

#[test]
fn a_trunk_is_told_who_has_proved_to_be_the_caller_whatever_he_says_himself_rfc3325_5() {
    let style = TrunkStyle { asserted: Some(Identity::Caller), ..both() };
    let mut w = asking(style);
    let lies = "P-Asserted-Identity: <sip:boss@lab.test>\r\nP-Preferred-Identity: <sip:boss@lab.test>\r\n\
                Remote-Party-ID: <sip:boss@lab.test>\r\n";
    let sent = proved(&mut w, &request("INVITE", OUT, ALICE, "c1", lies));
    assert_eq!(asserted(&sent).as_deref(), Some("<sip:alice@lab.test>"));
    assert!(!sent.contains("boss"), "{sent}");
}

#[test]
fn an_identity_can_be_a_number_made_of_the_user() {
    let uri = Identity::Uri(String::from("sip:+4930555{user}@carrier.test"));
    let mut w = asking(TrunkStyle { from: uri.clone(), asserted: Some(uri), ..TrunkStyle::default() });
    let sent = proved(&mut w, &invite(OUT, ALICE, "c1"));
    assert_eq!(names(&sent).0, "<sip:+4930555alice@carrier.test>");
    assert_eq!(asserted(&sent).as_deref(), Some("<sip:+4930555alice@carrier.test>"));
}

#[test]
fn what_a_trusted_source_asserts_goes_to_the_trunk_rfc3325_5() {
    let mut w = asking(TrunkStyle { asserted: Some(Identity::Caller), ..both() });
    let claim = "P-Asserted-Identity: \"PBX\" <sip:201@lab.test>\r\n";
    w.send(auth::OTHER, &request("INVITE", OUT, auth::OTHER, "c1", claim));
    let sent = w.expect(CARRIER, "INVITE ");
    assert_eq!(asserted(&sent).as_deref(), Some("\"PBX\" <sip:201@lab.test>"));
}

#[test]
fn who_wants_to_be_private_is_named_only_to_a_trunk_that_is_told_rfc3325_7() {
    let claim = "P-Asserted-Identity: <sip:201@lab.test>\r\nPrivacy: id\r\n";
    let call = request("INVITE", OUT, auth::OTHER, "c1", claim);
    for (told, expected) in [(None, None), (Some(Identity::Caller), Some("<sip:201@lab.test>"))] {
        let mut w = asking(TrunkStyle { asserted: told, ..both() });
        w.send(auth::OTHER, &call);
        let sent = w.expect(CARRIER, "INVITE ");
        assert_eq!(asserted(&sent).as_deref(), expected, "{sent}");
        assert_eq!(header(&sent, "Privacy").as_deref(), Some("id"));
    }
}

#[test]
fn an_anonymous_caller_stays_so_and_the_trunk_knows_whom_to_bill() {
    let mut w = asking(TrunkStyle { asserted: Some(Identity::Account), ..both() });
    let hidden = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";
    let call = request("INVITE", "sip:0049301234@lab.test", auth::OTHER, "c1", "")
        .replace("From: <sip:alice@lab.test>", &format!("From: {hidden}"));
    w.send(auth::OTHER, &call);
    let sent = w.expect(CARRIER, "INVITE ");
    assert_eq!(names(&sent).0, hidden);
    assert_eq!(asserted(&sent).as_deref(), Some("<sip:4930555@carrier.test>"));
    assert_eq!(header(&sent, "Privacy").as_deref(), Some("id"));
    // A stranger who hides himself is nobody of ours.
    let stranger = call.replace(auth::OTHER, ALICE).replace("c1", "c2");
    w.send(ALICE, &stranger);
    w.expect(ALICE, "SIP/2.0 403 ");
}

#[test]
fn of_an_anonymous_caller_a_trunk_that_is_not_told_reads_nothing_rfc3325_7() {
    let claims = "P-Asserted-Identity: <sip:201@lab.test>\r\nP-Preferred-Identity: <sip:201@lab.test>\r\n";
    for privacy in ["", "Privacy: id\r\n"] {
        let mut w = asking(both());
        let call = request("INVITE", OUT, auth::OTHER, "c1", &format!("{claims}{privacy}"))
            .replace("From: <sip:alice@lab.test>", "From: <sip:anonymous@anonymous.invalid>");
        w.send(auth::OTHER, &call);
        let sent = w.expect(CARRIER, "INVITE ");
        assert_eq!(header(&sent, "Privacy").as_deref(), Some("id"));
        assert!(!sent.contains("201@lab.test"), "{sent}");
    }
}

#[test]
fn a_stateless_proxy_tells_a_trunk_of_the_caller_what_a_stateful_one_does_rfc3325_7() {
    let claims = "P-Asserted-Identity: <sip:201@lab.test>\r\nP-Preferred-Identity: <sip:201@lab.test>\r\n";
    let private = format!("{claims}Privacy: id\r\n");
    let anonymous = ("From: <sip:alice@lab.test>", "From: <sip:anonymous@anonymous.invalid>");
    let as_is = ("", "");
    let account = Some(Identity::Account);
    for (told, extra, from) in [
        (None, claims, as_is),
        (None, private.as_str(), as_is),
        (None, claims, anonymous),
        (Some(Identity::Caller), private.as_str(), as_is),
        (account.clone(), claims, as_is),
        (account, "", anonymous),
    ] {
        let says = |mode: Mode| {
            let mut w = asking(TrunkStyle { asserted: told.clone(), ..TrunkStyle::default() });
            w.config.routing.mode = mode;
            w.fail_over(Duration::from_millis(300));
            let call = request("INVITE", OUT, auth::OTHER, "c1", extra).replace(from.0, from.1);
            w.send(auth::OTHER, &call);
            let sent = w.expect(CARRIER, "INVITE ");
            ["P-Asserted-Identity", "P-Preferred-Identity", "Privacy"].map(|name| header(&sent, name))
        };
        assert_eq!(says(Mode::Stateless), says(Mode::Proxy), "{told:?} {extra:?} {from:?}");
    }
}

#[test]
fn neither_a_cancel_nor_an_ack_names_the_caller_to_a_trunk_rfc3325_9_1() {
    let mut w = asking(TrunkStyle { asserted: Some(Identity::Account), ..TrunkStyle::default() });
    w.config.routing.mode = Mode::Stateless;
    w.fail_over(Duration::from_millis(300));
    w.send(auth::OTHER, &invite(OUT, auth::OTHER, "c1"));
    let sent = w.expect(CARRIER, "INVITE ");
    assert!(asserted(&sent).is_some(), "{sent}");
    w.send(auth::OTHER, &cancel(OUT, auth::OTHER, "c1"));
    let stop = w.expect(CARRIER, "CANCEL ");
    assert_eq!(asserted(&stop), None, "{stop}");
    w.send(CARRIER, &respond(&sent, 486, "k", ""));
    let busy = w.take(auth::OTHER).pop().expect("486");
    let ack = invite(OUT, auth::OTHER, "c1").replace("INVITE sip", "ACK sip").replace("1 INVITE", "1 ACK");
    let to = header(&busy, "To").expect("To");
    w.send(auth::OTHER, &ack.replace(&format!("To: <{OUT}>"), &format!("To: {to}")));
    let ack = w.expect(CARRIER, "ACK ");
    assert_eq!(asserted(&ack), None, "{ack}");
}

#[test]
fn a_call_in_keeps_what_its_trunk_asserts_but_for_who_wants_to_be_private_rfc3325_7() {
    for (privacy, expected) in [("", Some("<sip:+4989@carrier.test>")), ("Privacy: user;id\r\n", None)] {
        let mut w = asking(TrunkStyle::default());
        auth::subscribe(&mut w.state, "bob", "lab.test", "lab.test", "secret-b");
        auth::register_bob(&mut w);
        let claim = format!("P-Asserted-Identity: <sip:+4989@carrier.test>\r\n{privacy}");
        let call = request("INVITE", "sip:carrier@10.77.0.100:5060", CARRIER, "c1", &claim)
            .replace("alice@lab.test", "+4989@carrier.test");
        w.send(CARRIER, &call);
        w.expect(CARRIER, "SIP/2.0 100 ");
        let sent = w.expect(auth::BOB, "INVITE ");
        assert_eq!(asserted(&sent).as_deref(), expected, "{sent}");
    }
}

#[test]
fn who_wants_to_be_private_is_so_within_the_call_too_rfc3325_7() {
    let mut w = asking(TrunkStyle::default());
    auth::subscribe(&mut w.state, "bob", "lab.test", "lab.test", "secret-b");
    auth::register_bob(&mut w);
    let call = request("INVITE", "sip:carrier@10.77.0.100:5060", CARRIER, "c1", "")
        .replace("alice@lab.test", "anonymous@anonymous.invalid");
    w.send(CARRIER, &call);
    let sent = w.expect(auth::BOB, "INVITE ");
    w.take(CARRIER);
    w.send(auth::BOB, &respond(&sent, 200, "b", &format!("Contact: <sip:bob@{}>\r\n", auth::BOB)));
    let ok = w.expect(CARRIER, "SIP/2.0 200 ");
    w.send(CARRIER, &in_dialog_of_caller("ACK", 1, &ok, CARRIER));
    w.expect(auth::BOB, "ACK ");
    let claim = "P-Asserted-Identity: <sip:+4989@carrier.test>\r\nPrivacy: id\r\nContent-Length: ";
    let info = in_dialog_of_caller("INFO", 2, &ok, CARRIER).replace("Content-Length: ", claim);
    assert!(info.contains("+4989"), "{info}");
    w.send(CARRIER, &info);
    let sent = w.expect(auth::BOB, "INFO ");
    assert_eq!(asserted(&sent), None, "{sent}");
}

const CLAIMS: &str = "P-Asserted-Identity: <sip:boss@lab.test>\r\nP-Preferred-Identity: <sip:boss@lab.test>\r\n\
                      Remote-Party-ID: <sip:boss@lab.test>\r\n";

/// Bob is registered and asked for passwords, or nobody is. Somebody trusted calls him; gives the INVITE that he got.
fn bob_called(mode: Mode, asks: bool) -> (World, String) {
    let mut w = asking(TrunkStyle::default());
    auth::subscribe(&mut w.state, "bob", "lab.test", "lab.test", "secret-b");
    auth::register_bob(&mut w);
    w.config.routing.mode = mode;
    w.config.auth.enabled = asks;
    w.fail_over(Duration::from_millis(300));
    w.send(auth::OTHER, &invite("sip:bob@lab.test", auth::OTHER, "c1"));
    let sent = w.expect(auth::BOB, "INVITE ");
    w.take(auth::OTHER);
    (w, sent)
}

#[test]
fn what_an_untrusted_callee_asserts_in_an_answer_is_taken_out_rfc3325_5() {
    let contact = format!("Contact: <sip:bob@{}>\r\n", auth::BOB);
    for mode in [Mode::Proxy, Mode::Stateless] {
        for (status, takeover) in [(180, false), (200, false), (200, true), (486, false), (486, true)] {
            let (mut w, sent) = bob_called(mode, true);
            if takeover {
                w.fail_over(Duration::from_millis(300));
                w.take(auth::BOB);
            }
            w.send(auth::BOB, &respond(&sent, status, "b", &format!("{contact}{CLAIMS}")));
            let heard = w.take(auth::OTHER);
            assert!(!heard.is_empty() && heard.iter().all(|m| !m.contains("boss")), "{mode:?} {heard:#?}");
            assert!(heard.iter().any(|m| m.starts_with(&format!("SIP/2.0 {status} "))), "{heard:#?}");
        }
    }
    // Any other request.
    let (mut w, _) = bob_called(Mode::Proxy, true);
    w.send(auth::OTHER, &request("MESSAGE", "sip:bob@lab.test", auth::OTHER, "c2", ""));
    let got = w.take(auth::BOB).into_iter().find(|m| m.starts_with("MESSAGE ")).expect("MESSAGE");
    w.send(auth::BOB, &respond(&got, 200, "b", CLAIMS));
    let heard = w.expect(auth::OTHER, "SIP/2.0 200 ");
    assert!(!heard.contains("boss"), "{heard}");
    // Where nobody is asked, nobody is told from anybody, as in requests.
    let (mut w, sent) = bob_called(Mode::Proxy, false);
    w.send(auth::BOB, &respond(&sent, 180, "b", CLAIMS));
    assert!(w.expect(auth::OTHER, "SIP/2.0 180 ").contains(CLAIMS));
}

#[test]
fn what_a_trunk_or_a_trusted_callee_asserts_in_an_answer_goes_on_unless_it_is_to_be_kept_rfc3325_7() {
    let said = "P-Asserted-Identity: <sip:+4989@carrier.test>\r\n";
    let id = "<sip:+4989@carrier.test>";
    for (privacy, to_trusted, to_stranger) in [
        ("", Some(id), Some(id)),
        ("Privacy: id\r\n", Some(id), None),
        ("Privacy: user\r\n", Some(id), Some(id)),
    ] {
        for source in [true, false] {
            let mut w = asking(both());
            if !source {
                put(&mut w, Account { sources: Vec::new(), ..styled(both()) });
            }
            w.send(auth::OTHER, &invite(OUT, auth::OTHER, "c1"));
            let sent = w.expect(CARRIER, "INVITE ");
            w.take(auth::OTHER);
            w.send(CARRIER, &respond(&sent, 180, "k", &format!("{said}{privacy}")));
            assert_eq!(asserted(&w.expect(auth::OTHER, "SIP/2.0 180 ")).as_deref(), to_trusted);
            let sent = proved(&mut w, &invite(OUT, ALICE, "c2"));
            w.take(ALICE);
            w.send(CARRIER, &respond(&sent, 180, "k", &format!("{said}{privacy}")));
            let heard = w.expect(ALICE, "SIP/2.0 180 ");
            assert_eq!(asserted(&heard).as_deref(), to_stranger, "{heard}");
            assert_eq!(heard.contains("Privacy: "), !privacy.is_empty());
        }
    }
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
    for (number, bad) in [other, forged].iter().enumerate() {
        w.send(CARRIER, &bad.replace("z9hG4bKNOTIFY1", &format!("z9hG4bKbad{number}")));
        reads(&w.expect(ALICE, "NOTIFY "), turned(AT_CARRIER));
    }
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
