//! Subscribers, and phones that answer challenges.

use proxy_core::auth::AuthConfig;
use proxy_core::digest::{Algorithm, Asked, Login, Password, answer_challenge, ha1};
use proxy_core::io::EngineConfig;
use proxy_core::location::aor_of;
use proxy_core::msg::Message;
use proxy_core::state::{
    AclKey, NonceSecret, ProvisionAnswer, ProvisionCommand, SipCommand, SipResponse, SipState, Subscriber,
};

use crate::common::story::{World, config, header, register};

pub const ALICE: &str = "10.77.0.201:5061";
pub const BOB: &str = "10.77.0.202:5062";
pub const OTHER: &str = "10.99.0.9:5060";
pub const BOB_URI: &str = "sip:bob@lab.test";

/// With authentication.
pub fn asking() -> EngineConfig {
    EngineConfig {
        auth: AuthConfig {
            enabled: true,
            algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
            trusted_group: Some(1),
            seed: NonceSecret::new([5; 32]),
            ..AuthConfig::default()
        },
        ..config()
    }
}

pub fn provision(state: &mut SipState, command: ProvisionCommand) {
    let answer = state.apply(&SipCommand::Provision(command));
    assert_eq!(answer, SipResponse::Provisioned(ProvisionAnswer::Done));
}

pub fn subscribe(state: &mut SipState, username: &str, domain: &str, realm: &str, password: &str) {
    let subscriber = Subscriber {
        username: username.to_owned(),
        domain: domain.to_owned(),
        realm: realm.to_owned(),
        ha1: ha1(username, realm, password),
    };
    let aor = aor_of(username, domain).expect("a name");
    provision(state, ProvisionCommand::SubscriberAdd { aor, subscriber });
}

pub fn allow(state: &mut SipState, group: u32, net: &str, prefix: u8, port: u16) {
    let key = AclKey { group, address: net.parse().expect("an address"), prefix, port };
    provision(state, ProvisionCommand::AclAdd { key, tag: Some(String::from("test")) });
}

/// A world that asks, with alice and bob.
pub fn world() -> World {
    world_with(asking())
}

/// The same with other settings.
pub fn world_with(config: EngineConfig) -> World {
    let mut w = World::with(config);
    w.settle();
    subscribe(&mut w.state, "alice", "lab.test", "lab.test", "secret-a");
    subscribe(&mut w.state, "bob", "lab.test", "lab.test", "secret-b");
    w
}

/// The request again, with credentials for the challenge: another CSeq and branch, as RFC 3261 §22.2 wants it.
pub fn answered(request: &str, challenge: &str, username: &str, password: &str) -> String {
    answered_with(request, challenge, username, password, 1)
}

pub fn answered_with(request: &str, challenge: &str, username: &str, password: &str, count: u32) -> String {
    let response = Message::parse(challenge.as_bytes()).expect("a response");
    let message = Message::parse(request.as_bytes()).expect("a request");
    let asked = Asked {
        method: message.method().expect("a method").as_str(),
        uri: message.request_uri_str(),
        body: b"",
        cnonce: "c0ffee",
        count,
    };
    let login = Login { username, password: Password::Text(password) };
    let answers = answer_challenge(&response, &login, &asked).expect("an answer");
    let lines: String = answers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let cseq = message.cseq().expect("CSeq").number;
    let next = cseq + count;
    request
        .replace(&format!("CSeq: {cseq} "), &format!("CSeq: {next} "))
        .replace(";rport\r\n", &format!("n{next};rport\r\n{lines}"))
}

/// Alice's REGISTER.
pub fn reg() -> String {
    register("alice", ALICE, 1, &format!("<sip:alice@{ALICE}>"))
}

/// The challenge that this request gets at `at`.
pub fn challenge(w: &mut World, at: &str, text: &str) -> String {
    w.send(at, text);
    let answer = w.expect(at, "SIP/2.0 40");
    assert!(answer.starts_with("SIP/2.0 401 ") || answer.starts_with("SIP/2.0 407 "), "{answer}");
    answer
}

pub fn register_bob(w: &mut World) {
    let text = register("bob", BOB, 1, &format!("<sip:bob@{BOB}>"));
    let asked = challenge(w, BOB, &text);
    w.send(BOB, &answered(&text, &asked, "bob", "secret-b"));
    w.expect(BOB, "SIP/2.0 200 ");
}

pub fn stale(answer: &str) -> bool {
    let header = header(answer, "WWW-Authenticate").or_else(|| header(answer, "Proxy-Authenticate"));
    header.expect("a challenge").contains("stale=TRUE")
}

pub fn first_line(w: &mut World, at: &str) -> String {
    let all = w.take(at);
    assert_eq!(all.len(), 1, "{all:#?}");
    all[0].lines().next().expect("a line").trim_start_matches("SIP/2.0 ").to_owned()
}
