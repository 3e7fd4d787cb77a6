//! A carrier, and a trunk to it.

use crate::common::story::*;
use proxy_core::digest::{Algorithm, Credentials, ha1};
use proxy_core::io::EngineConfig;
use proxy_core::msg::{HeaderName, Message};
use proxy_core::state::trunk::{Account, RegistrationState, TrunkCommand};
use proxy_core::state::trunk_style::TrunkStyle;
use proxy_core::state::{SipCommand, SipResponse};
use proxy_core::trunk::TrunkConfig;

pub const ALICE: &str = "10.77.0.201:5061";
pub const BOB: &str = "10.77.0.202:5062";
pub const CARRIER: &str = "10.77.0.220:5060";
pub const CALL_ID: &str = "trunk-call-id-1";
pub const CHALLENGE: &str = "Digest realm=\"carrier.test\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"";

pub fn account() -> Account {
    Account {
        uuid: String::from("carrier"),
        local_user: String::from("bob"),
        local_domain: String::from("lab.test"),
        remote_user: String::from("4930555"),
        remote_domain: String::from("carrier.test"),
        realm: String::from("carrier.test"),
        auth_user: String::from("4930555"),
        ha1: ha1("4930555", "carrier.test", "secret"),
        proxy: format!("sip:{CARRIER}"),
        expires_s: 600,
        contact_user: String::from("carrier"),
        sources: vec![String::from("10.77.0.220")],
        disabled: false,
        style: TrunkStyle::default(),
    }
}

pub fn command(w: &mut World, command: TrunkCommand) -> SipResponse {
    w.state.apply(&SipCommand::Trunk(command))
}

pub fn put(w: &mut World, account: Account) {
    let at = w.now.wall;
    let put = TrunkCommand::Put { account: Box::new(account), call_id: CALL_ID.to_owned(), at };
    assert_eq!(command(w, put), SipResponse::Done);
}

pub fn world(account: Account) -> World {
    let mut w = World::with(EngineConfig {
        trunk: TrunkConfig { pstn: Some(String::from("carrier")), ..TrunkConfig::default() },
        ..config()
    });
    put(&mut w, account);
    w
}

/// A trunk for calls only.
pub fn calling() -> World {
    world(Account { expires_s: 0, ..account() })
}

pub fn state(w: &World) -> RegistrationState {
    w.state.trunk("carrier").expect("the trunk").registration.state
}

pub fn cseq(message: &str) -> u32 {
    Message::parse(message.as_bytes()).expect("a message").cseq().expect("CSeq").number
}

/// Whether the credentials in this header are right for that request.
pub fn is_proved(request: &str, name: HeaderName) -> bool {
    let message = Message::parse(request.as_bytes()).expect("a message");
    let value = message.header(name).unwrap_or_default();
    let method = request.split(' ').next().unwrap_or_default();
    let secret = Algorithm::Md5.ha1_of(&ha1("4930555", "carrier.test", "secret")).expect("MD5");
    Credentials::read(value).is_some_and(|c| c.uri == uri_of(request) && c.proves(&secret, method))
}

pub fn challenge(request: &str, status: u16) -> String {
    let name = if status == 401 { "WWW-Authenticate" } else { "Proxy-Authenticate" };
    respond(request, status, "ch", &format!("{name}: {CHALLENGE}\r\n"))
}

/// What a side has got, with retransmissions of it.
pub fn one(w: &mut World, at: &str, start: &str) -> String {
    let all = w.take(at);
    assert!(!all.is_empty() && all.iter().all(|m| m == &all[0] && m.starts_with(start)), "{all:#?}");
    all[0].clone()
}

/// Plays the registrar: challenge, then 200 with this expiry. Gives the REGISTER with credentials.
pub fn grant(w: &mut World, expires: u32) -> String {
    let first = one(w, CARRIER, "REGISTER ");
    w.send(CARRIER, &challenge(&first, 401));
    let second = one(w, CARRIER, "REGISTER ");
    let contact = header(&second, "Contact").expect("Contact");
    w.send(CARRIER, &respond(&second, 200, "r", &format!("Contact: {contact};expires={expires}\r\n")));
    second
}

/// Alice calls a number, the carrier asks for credentials and answers. Gives the INVITE it took, and her 200.
pub fn called_out(w: &mut World) -> (String, String) {
    w.send(ALICE, &invite("sip:0049301234@lab.test", ALICE, "c1"));
    w.expect(ALICE, "SIP/2.0 100 ");
    let first = w.expect(CARRIER, "INVITE ");
    assert_eq!(uri_of(&first), "sip:+49301234@carrier.test");
    w.send(CARRIER, &challenge(&first, 407));
    let sent = w.take(CARRIER);
    assert!(sent[0].starts_with("ACK ") && sent.len() == 2, "{sent:#?}");
    let second = sent[1].clone();
    assert_eq!((cseq(&first), cseq(&second)), (1, 2));
    assert!(is_proved(&second, HeaderName::ProxyAuthorization), "{second}");
    w.send(CARRIER, &respond(&second, 180, "k", ""));
    assert_eq!(cseq(&w.expect(ALICE, "SIP/2.0 180 ")), 1);
    w.send(CARRIER, &respond(&second, 200, "k", &format!("Contact: <sip:gw@{CARRIER}>\r\n")));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(header(&ok, "CSeq").as_deref(), Some("1 INVITE"));
    (second, ok)
}

/// The same, and Alice has acknowledged the answer: the INVITE that the carrier took, and the 200.
pub fn talking(w: &mut World) -> (String, String) {
    let (at_carrier, ok) = called_out(w);
    w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    w.expect(CARRIER, "ACK ");
    (at_carrier, ok)
}

pub fn invite_of_carrier(uri: &str, from: &str, call: &str) -> String {
    invite(uri, from, call).replace("From: <sip:alice@lab.test>", "From: <sip:+4989@carrier.test>")
}
