//! Two who talk, somebody who is not one of them, and what he may send.

use crate::common::auth::{self, answered, challenge, register_bob};
use crate::common::story::*;

pub const ALICE: &str = "10.77.0.201:5061";
pub const BOB: &str = "10.77.0.202:5062";
pub const BOB_URI: &str = "sip:bob@lab.test";
/// A stranger.
pub const EVE: &str = "10.99.0.66:5060";
/// Whom he wants to reach.
pub const GATEWAY: &str = "10.77.0.9:5060";

/// A request with a To tag, by these routes, from a stranger.
pub fn made_up(method: &str, uri: &str, routes: &str, n: usize) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {EVE};branch=z9hG4bKeve{method}{n};rport\r\n{routes}\
         Max-Forwards: 70\r\nFrom: <sip:eve@evil.test>;tag=e\r\nTo: <sip:x@y.test>;tag=made-up\r\nCall-ID: eve{n}\r\n\
         CSeq: 1 {method}\r\nContact: <sip:eve@{EVE}>\r\nContent-Length: 0\r\n\r\n"
    )
}

/// From somewhere else, in another transaction.
pub fn moved(text: &str, from: &str, to: &str) -> String {
    text.replace(
        &format!("Via: SIP/2.0/UDP {from};branch=z9hG4bK"),
        &format!("Via: SIP/2.0/UDP {to};branch=z9hG4bKm"),
    )
}

/// With another Request-URI.
pub fn aimed(text: &str, uri: &str) -> String {
    text.replacen(&uri_of(text), uri, 1)
}

/// Bob answers, and Alice acknowledges: what he got, and what she heard.
fn answers(w: &mut World, cseq: u32) -> (String, String) {
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.take(ALICE).into_iter().find(|m| m.starts_with("SIP/2.0 200 ")).expect("200");
    w.send(ALICE, &in_dialog_of_caller("ACK", cseq, &ok, ALICE));
    w.expect(BOB, "ACK ");
    (got, ok)
}

/// Alice and Bob talk. The INVITE that Bob got and the 200 that Alice got.
pub fn talking() -> (World, String, String) {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let (got, ok) = answers(&mut w, 1);
    (w, got, ok)
}

/// The same, with passwords.
pub fn talking_with_passwords() -> (World, String, String) {
    let mut w = auth::world();
    register_bob(&mut w);
    let call = invite(BOB_URI, ALICE, "c1");
    let asked = challenge(&mut w, ALICE, &call);
    w.send(ALICE, &answered(&call, &asked, "alice", "secret-a"));
    let (got, ok) = answers(&mut w, 2);
    (w, got, ok)
}
