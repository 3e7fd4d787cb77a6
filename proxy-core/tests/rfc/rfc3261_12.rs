//! RFC 3261 §12: dialogs that the proxy ends or is itself an end of. What it keeps of those of others is in
//! `engine_dialogs.rs`.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::blf::PresenceConfig;
use proxy_core::io::EngineConfig;
use proxy_core::state::{EndedBy, SipCommand};

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
/// Another proxy, on the side of the caller.
const NEAR: &str = "10.77.0.211:5060";
/// And one on the side of the callee.
const FAR: &str = "10.77.0.212:5060";
const BOB_URI: &str = "sip:bob@lab.test";

#[test]
fn the_bye_of_the_proxy_has_target_tags_and_routes_of_the_other_end_rfc3261_12_2_1_1() {
    let mut w = World::new();
    let by_far = register("bob", BOB, 1, &format!("<sip:bob@{BOB}>"));
    w.send(FAR, &by_far.replace("Max-Forwards", &format!("Path: <sip:{FAR};lr>\r\nMax-Forwards")));
    w.expect(FAR, "SIP/2.0 200 ");
    let route = format!("Record-Route: <sip:{NEAR};lr>\r\n");
    w.send(
        NEAR,
        &request("INVITE", BOB_URI, NEAR, "c1", &route)
            .replace(&format!("<sip:alice@{NEAR}>"), &format!("<sip:alice@{ALICE}?Subject=x>")),
    );
    let got = w.expect(FAR, "INVITE ");
    let contact = format!("Contact: <sip:bob@{BOB};ob>\r\n");
    // The proxy of the callee's side has added itself.
    let answer = respond(&got, 200, "b1", &contact).replacen(
        "Record-Route:",
        &format!("Record-Route: <sip:{FAR};lr>\r\nRecord-Route:"),
        1,
    );
    w.send(FAR, &answer);
    w.take(NEAR);
    let id = w.state.dialogs().next().expect("a dialog").id.clone();
    w.state.apply(&SipCommand::DialogEnding { id, by: EndedBy::Operator });
    w.pass(Duration::from_secs(1));
    let to_bob = w.take(FAR).remove(0);
    assert_eq!(uri_of(&to_bob), format!("sip:bob@{BOB};ob"));
    assert_eq!(header(&to_bob, "Route"), Some(format!("<sip:{FAR};lr>")), "{to_bob}");
    assert_eq!(header(&to_bob, "From").as_deref(), Some("<sip:alice@lab.test>;tag=ac1"));
    assert_eq!(header(&to_bob, "To").as_deref(), Some("<sip:bob@lab.test>;tag=b1"));
    let to_alice = w.take(NEAR).remove(0);
    assert_eq!(uri_of(&to_alice), format!("sip:alice@{ALICE}"), "a Request-URI has no headers");
    assert_eq!(header(&to_alice, "Route"), Some(format!("<sip:{NEAR};lr>")), "{to_alice}");
    assert_eq!(header(&to_alice, "From").as_deref(), Some("<sip:bob@lab.test>;tag=b1"));
    assert_eq!(header(&to_alice, "To").as_deref(), Some("<sip:alice@lab.test>;tag=ac1"));
    assert_eq!(header(&to_alice, "Call-ID").as_deref(), Some("c1"));
}

/// A refresh of the subscription that `ok` has confirmed.
fn refresh(ok: &str, cseq: u32) -> String {
    in_dialog_of_caller("SUBSCRIBE", cseq, ok, ALICE).replace("Max-Forwards", "Event: dialog\r\nMax-Forwards")
}

#[test]
fn a_request_out_of_order_to_the_proxy_itself_is_500_and_an_unknown_dialog_481_rfc3261_12_2_2() {
    let presence = PresenceConfig { enabled: true, ..PresenceConfig::default() };
    let mut w = World::with(EngineConfig { presence, ..config() });
    w.register("bob", BOB);
    let first =
        request("SUBSCRIBE", BOB_URI, ALICE, "c1", "Event: dialog\r\n").replace("CSeq: 1 ", "CSeq: 5 ");
    w.send(ALICE, &first);
    let ok = w.take(ALICE).into_iter().find(|m| m.starts_with("SIP/2.0 200 ")).expect("200");
    w.send(ALICE, &refresh(&ok, 4));
    w.expect(ALICE, "SIP/2.0 500 ");
    // Gaps are allowed.
    w.send(ALICE, &refresh(&ok, 9));
    assert!(w.take(ALICE).iter().any(|m| m.starts_with("SIP/2.0 200 ")));
    let unknown = refresh(&ok, 10).replace("Call-ID: c1", "Call-ID: c2");
    w.send(ALICE, &unknown);
    w.expect(ALICE, "SIP/2.0 481 ");
}
