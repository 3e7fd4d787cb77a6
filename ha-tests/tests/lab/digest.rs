//! SHA-256 in the lab (RFC 7616, RFC 8760): challenges that one node has given are answered at the next one. Needs root
//! and the lab's packages; says so without.

use std::fs;

use crate::common::{all_agree, json, lab, lose_and_restart, say, until};
use crate::phone::{Phone, status};
use ha_tests::lab::config::DOMAIN;
use proxy_core::digest::{Asked, Login, Password, answer_challenge};
use proxy_core::msg::Message;

const PASSWORD: &str = "correct horse";
const BOTH: &str = "\n[auth]\nenabled = true\nalgorithms = [\"SHA-256\", \"MD5\"]\n";
const REGISTRAR: &str = "sip:lab.test";
const BOB: &str = "sip:bob@lab.test";

/// The header that proves who a phone is, in answer to this 401 or 407 (`count`: how often its nonce has been used).
fn proof(phone: &Phone, challenge: &str, method: &str, uri: &str, count: u32) -> String {
    let login = Login { username: &phone.user, password: Password::Text(PASSWORD) };
    let asked = Asked { method, uri, body: b"", cnonce: "c0ffee", count };
    let message = Message::parse(challenge.as_bytes()).expect("a message");
    let headers = answer_challenge(&message, &login, &asked).expect("a challenge that can be answered");
    let text: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    assert!(text.contains("algorithm=SHA-256,"), "the best comes first: {text}");
    let old = |l: &str| l.contains("-Authenticate:") && l.contains("algorithm=MD5");
    assert!(challenge.lines().any(old), "and old phones find theirs: {challenge}");
    text
}

fn register(phone: &mut Phone, cseq: u32, proof: &str) -> String {
    let uri = phone.uri();
    let headers = format!("From: <{uri}>;tag=r\r\nTo: <{uri}>\r\nExpires: 600\r\n{proof}");
    let call = format!("reg-{}", phone.user);
    let request = phone.request("REGISTER", REGISTRAR, &call, cseq, &headers, "");
    phone.ask(&request)
}

fn invite(phone: &Phone, cseq: u32, proof: &str) -> String {
    let headers = format!("From: <{}>;tag=i\r\nTo: <{BOB}>\r\n{proof}", phone.uri());
    phone.request("INVITE", BOB, "call", cseq, &headers, "")
}

#[test]
fn a_sha256_challenge_of_a_lost_node_is_answered_at_the_next_one_by_register_and_by_invite_rfc8760() {
    assert_eq!(REGISTRAR, format!("sip:{DOMAIN}"));
    let Some((mut guard, logs)) = lab(BOTH) else { return };
    let lab = &mut guard.lab;
    let file = logs.path().join("password");
    fs::write(&file, format!("{PASSWORD}\n")).expect("written");
    for user in ["alice", "bob"] {
        say(lab, &["subscriber", "add", user, "--password-file", file.to_str().expect("a path")]);
    }
    let (mut alice, mut bob) = (Phone::open(lab, "alice", 5071), Phone::open(lab, "bob", 5072));

    let challenge = register(&mut bob, 1, "");
    assert_eq!(status(&challenge), 401, "{challenge}");
    lose_and_restart(lab);
    let header = proof(&bob, &challenge, "REGISTER", REGISTRAR, 1);
    let answer = register(&mut bob, 2, &header);
    assert_eq!(status(&answer), 200, "{answer}");
    assert_eq!(json(lab, &["ul", "show"])["bindings"].as_array().map(Vec::len), Some(1));

    until("all nodes are the same", || all_agree(lab));
    lose_and_restart(lab);
    let header = proof(&bob, &challenge, "REGISTER", REGISTRAR, 2);
    let answer = register(&mut bob, 3, &header);
    assert_eq!(status(&answer), 200, "the next count of the same nonce: {answer}");

    until("all nodes are the same", || all_agree(lab));
    let first = invite(&alice, 1, "");
    let challenge = alice.ask(&first);
    assert_eq!(status(&challenge), 407, "{challenge}");
    lose_and_restart(lab);
    let call = invite(&alice, 2, &proof(&alice, &challenge, "INVITE", BOB, 1));
    alice.send(&call);
    let came = bob.asked("INVITE");
    assert!(!came.contains("Proxy-Authorization"), "the proof is for the proxy alone: {came}");
    bob.answer(&came, 200, "");
    let ok = alice.answer_to(&call);
    assert_eq!(status(&ok), 200, "{ok}");
    alice.send(&alice.within("ACK", &ok, 2, ""));
    bob.asked("ACK");
}
