//! Subscribers, and phones that answer challenges.

#![allow(dead_code, reason = "each test file uses its part")]

use proxy_core::auth::AuthConfig;
use proxy_core::digest::{Algorithm, Asked, Login, Password, answer_challenge, ha1};
use proxy_core::io::EngineConfig;
use proxy_core::location::aor_of;
use proxy_core::msg::Message;
use proxy_core::state::{
    AclKey, NonceSecret, ProvisionAnswer, ProvisionCommand, SipCommand, SipResponse, SipState, Subscriber,
};

use crate::story::{World, config};

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
    let mut w = World::with(asking());
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
