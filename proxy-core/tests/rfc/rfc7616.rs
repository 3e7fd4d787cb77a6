//! RFC 7616: digest authentication of requests. The arithmetic is in `digest_rfc.rs`, the ways of requests in
//! `engine_auth.rs` and `engine_nonces.rs`; here are the rules that those do not prove.

use crate::common::auth;
use crate::common::auth::{answered, answered_with, world};
use crate::common::story::*;

const BOB: &str = "10.77.0.202:5062";

fn reg(cseq: u32) -> String {
    register("bob", BOB, cseq, &format!("<sip:bob@{BOB}>"))
}

/// A REGISTER that has been challenged, and its credentials.
fn challenged(w: &mut World) -> (String, String) {
    w.send(BOB, &reg(1));
    let challenge = w.expect(BOB, "SIP/2.0 401 ");
    (reg(1), challenge)
}

#[test]
fn a_challenge_has_realm_nonce_qop_and_algorithm_rfc7616_3_3() {
    let mut w = world();
    let (_, challenge) = challenged(&mut w);
    let lines = header(&challenge, "WWW-Authenticate").unwrap_or_default();
    for algorithm in ["algorithm=SHA-256", "algorithm=MD5"] {
        assert!(lines.contains(algorithm), "{lines}");
    }
    assert_eq!(lines.matches("realm=\"lab.test\"").count(), 2, "{lines}");
    assert_eq!(lines.matches("qop=\"auth\"").count(), 2, "{lines}");
    assert_eq!(lines.matches("nonce=\"").count(), 2, "{lines}");
}

#[test]
fn a_nonce_count_that_is_no_eight_digits_is_no_proof_rfc7616_3_4() {
    let mut w = world();
    let (request, challenge) = challenged(&mut w);
    let right = answered(&request, &challenge, "bob", "secret-b");
    for wrong in ["nc=1", "nc=0000000g", "nc=000000001"] {
        w.send(BOB, &right.replace("nc=00000001", wrong));
        w.expect(BOB, "SIP/2.0 401 ");
    }
    w.send(BOB, &right);
    w.expect(BOB, "SIP/2.0 200 ");
}

#[test]
fn credentials_of_another_method_prove_nothing_rfc7616_3_4_3() {
    let mut w = world();
    let (request, challenge) = challenged(&mut w);
    // What was proven for an INVITE, sent with a REGISTER.
    let other = answered(&request.replace("REGISTER", "INVITE"), &challenge, "bob", "secret-b");
    w.send(BOB, &other.replace("INVITE", "REGISTER"));
    w.expect(BOB, "SIP/2.0 401 ");
}

#[test]
fn counts_may_come_in_any_order_but_each_once_rfc7616_3_4() {
    let mut w = world();
    let (request, challenge) = challenged(&mut w);
    for count in [3, 1, 2] {
        w.send(BOB, &answered_with(&request, &challenge, "bob", "secret-b", count));
        let answer = w.take(BOB).remove(0);
        // A REGISTER with a lower CSeq is too late, but it was proven.
        assert!(!answer.starts_with("SIP/2.0 401 "), "{count}: {answer}");
    }
    let again = answered_with(&request, &challenge, "bob", "secret-b", 2).replace("n3;rport", "again;rport");
    w.send(BOB, &again);
    let refused = w.expect(BOB, "SIP/2.0 401 ");
    assert!(refused.contains("stale=TRUE") || refused.contains("stale=true"), "{refused}");
}

/// Bob's REGISTER with credentials, in a world with these settings.
fn proven(w: &mut World) -> String {
    let (request, challenge) = challenged(w);
    answered(&request, &challenge, "bob", "secret-b")
}

fn world_of(set: impl FnOnce(&mut proxy_core::auth::AuthConfig)) -> World {
    let mut config = auth::asking();
    set(&mut config.auth);
    auth::world_with(config)
}

/// A quoted or plain parameter of a header.
fn param(value: &str, name: &str) -> Option<String> {
    let found = value.split(", ").find_map(|p| p.strip_prefix(name)?.strip_prefix('='))?;
    Some(found.trim_matches('"').to_owned())
}

#[test]
fn credentials_for_another_request_uri_are_400_where_that_is_looked_at_rfc7616_3_4_6() {
    let mut w = world_of(|auth| auth.check_uri = true);
    let right = proven(&mut w);
    let uri = uri_of(&right);
    // Proven for the domain, sent to a user of it: what an eavesdropper could do with a proof.
    let elsewhere = right.replacen(&format!("REGISTER {uri} "), "REGISTER sip:bob@lab.test ", 1);
    w.send(BOB, &elsewhere);
    let refused = w.expect(BOB, "SIP/2.0 400 ");
    assert!(refused.starts_with("SIP/2.0 400 Digest URI Mismatch\r\n"), "{refused}");
    assert!(w.state.bindings("sip:bob@lab.test").is_empty());
    // The same resource in other words (RFC 3261 §19.1.4).
    w.send(BOB, &right.replacen("REGISTER sip:lab.test ", "REGISTER SIP:LAB.test ", 1));
    w.expect(BOB, "SIP/2.0 200 ");
}

#[test]
fn a_proxy_on_the_way_may_have_changed_the_request_uri_unless_that_is_looked_at_rfc3261_22_4() {
    let mut w = world();
    let right = proven(&mut w);
    w.send(BOB, &right.replacen("REGISTER sip:lab.test ", "REGISTER sip:10.77.0.100 ", 1));
    w.expect(BOB, "SIP/2.0 200 ");
}

#[test]
fn a_wrong_password_for_another_request_uri_is_challenged_and_not_told_apart_rfc7616_3_4_6() {
    let mut w = world_of(|auth| auth.check_uri = true);
    let (request, challenge) = challenged(&mut w);
    let wrong = answered(&request, &challenge, "bob", "guess");
    w.send(BOB, &wrong.replacen("REGISTER sip:lab.test ", "REGISTER sip:bob@lab.test ", 1));
    w.expect(BOB, "SIP/2.0 401 ");
}

#[test]
fn the_registrar_proves_that_it_knows_the_password_where_that_is_wanted_rfc7616_3_5() {
    let mut w = world_of(|auth| auth.info = true);
    let (request, challenge) = challenged(&mut w);
    w.send(BOB, &answered(&request, &challenge, "bob", "secret-b"));
    let accepted = w.expect(BOB, "SIP/2.0 200 ");
    let info = header(&accepted, "Authentication-Info").expect("a proof");
    let nonce = param(&header(&challenge, "WWW-Authenticate").expect("a challenge"), "nonce").expect("nonce");
    let sha = proxy_core::digest::Algorithm::Sha256;
    let a1 = sha.hash(&[b"bob", b"lab.test", b"secret-b"]);
    // A2 is the URI with nothing in place of the method.
    let a2 = sha.hash(&[b"", b"sip:lab.test"]);
    let parts: [&[u8]; 6] = [a1.as_bytes(), nonce.as_bytes(), b"00000001", b"c0ffee", b"auth", a2.as_bytes()];
    assert_eq!(param(&info, "rspauth"), Some(sha.hash(&parts)), "{info}");
    assert_eq!(param(&info, "qop").as_deref(), Some("auth"));
    assert_eq!(
        (param(&info, "cnonce").as_deref(), param(&info, "nc").as_deref()),
        (Some("c0ffee"), Some("00000001"))
    );
    assert_eq!(param(&info, "nextnonce"), None, "the nonce is young");
}

#[test]
fn a_nonce_past_half_its_life_is_followed_by_the_next_one_rfc7616_3_5() {
    let mut w = world_of(|auth| auth.info = true);
    let (request, challenge) = challenged(&mut w);
    w.pass(std::time::Duration::from_secs(150));
    w.send(BOB, &answered(&request, &challenge, "bob", "secret-b"));
    let accepted = w.expect(BOB, "SIP/2.0 200 ");
    let info = header(&accepted, "Authentication-Info").expect("a proof");
    let next = param(&info, "nextnonce").expect("the next nonce");
    // When the old one is long dead, the next one is still good, at a node that has taken over, too.
    w.pass(std::time::Duration::from_secs(200));
    w.fail_over(std::time::Duration::from_millis(300));
    let old = param(&header(&challenge, "WWW-Authenticate").expect("a challenge"), "nonce").expect("nonce");
    let again = reg(5);
    let challenge = challenge.replace(&old, &next);
    w.send(BOB, &answered(&again, &challenge, "bob", "secret-b"));
    w.expect(BOB, "SIP/2.0 200 ");
}

#[test]
fn who_has_not_asked_for_it_is_told_nothing_and_a_refusal_proves_nothing_rfc7616_3_5() {
    let mut w = world();
    let right = proven(&mut w);
    w.send(BOB, &right);
    assert_eq!(header(&w.expect(BOB, "SIP/2.0 200 "), "Authentication-Info"), None);
    let mut w = world_of(|auth| auth.info = true);
    let (request, challenge) = challenged(&mut w);
    w.send(BOB, &answered(&reg(5), &challenge, "bob", "secret-b"));
    assert!(header(&w.expect(BOB, "SIP/2.0 200 "), "Authentication-Info").is_some());
    // Proven as well, but too late: its CSeq is lower.
    w.send(BOB, &answered_with(&request, &challenge, "bob", "secret-b", 2));
    assert_eq!(header(&w.expect(BOB, "SIP/2.0 500 "), "Authentication-Info"), None);
}
