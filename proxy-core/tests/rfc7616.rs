//! RFC 7616: digest authentication of requests. The arithmetic is in `digest_rfc.rs`, the ways of requests in
//! `engine_auth.rs` and `engine_nonces.rs`; here are the rules that those do not prove.

#[path = "common/auth.rs"]
mod auth;
#[path = "common/story.rs"]
mod story;

use auth::{answered, answered_with, world};
use story::*;

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
