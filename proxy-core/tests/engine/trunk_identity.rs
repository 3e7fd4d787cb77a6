//! Who the caller is, as far as a trunk and strangers may know (RFC 3325): P-Asserted-Identity, Privacy, and what is taken out.

use super::trunk_names::{OUT, both, names, styled};
use crate::common::auth;
use crate::common::story::*;
use crate::common::trunk::*;
use proxy_core::io::EngineConfig;
use proxy_core::routing::Mode;
use proxy_core::state::trunk::Account;
use proxy_core::state::trunk_style::{Identity, TrunkStyle};
use proxy_core::trunk::TrunkConfig;
use std::time::Duration;

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
