//! Digest against the examples of its RFCs, on both sides.

use proxy_core::digest::{
    Algorithm, Asked, Challenge, Credentials, Login, Password, Unanswerable, answer_challenge, challenges_of,
    ha1,
};
use proxy_core::msg::{HeaderName, Message};

/// RFC 7616 §3.9.1.
const NONCE: &str = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
const CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
const REALM: &str = "http-auth@example.org";
const MD5: &str = "8ca523f5e9506fed4657c9700eebdbec";
const SHA256: &str = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";

fn credentials(algorithm: &str, response: &str) -> String {
    format!(
        "Digest username=\"Mufasa\",\r\n realm=\"{REALM}\",\r\n uri=\"/dir/index.html\",\r\n \
         algorithm={algorithm},\r\n nonce=\"{NONCE}\",\r\n nc=00000001,\r\n cnonce=\"{CNONCE}\",\r\n qop=auth,\r\n \
         response=\"{response}\",\r\n opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
    )
}

fn proves(text: &str, password: &str, method: &str) -> bool {
    let c = Credentials::read(text.as_bytes()).expect("well-formed");
    let ha1 = c.algorithm.hash(&[c.username.as_bytes(), c.realm.as_bytes(), password.as_bytes()]);
    c.proves(&ha1, method)
}

#[test]
fn the_examples_of_md5_and_sha256_are_proven_rfc7616_3_9_1() {
    for (algorithm, response) in [("MD5", MD5), ("SHA-256", SHA256)] {
        let text = credentials(algorithm, response);
        assert!(proves(&text, "Circle of Life", "GET"), "{algorithm}");
        assert!(proves(&credentials(algorithm, &response.to_uppercase()), "Circle of Life", "GET"));
        assert!(!proves(&text, "Circle of life", "GET"), "{algorithm}");
        assert!(!proves(&text, "Circle of Life", "PUT"), "{algorithm}");
        let kept = ha1("Mufasa", REALM, "Circle of Life");
        let c = Credentials::read(text.as_bytes()).expect("well-formed");
        assert!(c.proves(&c.algorithm.ha1_of(&kept).expect("kept"), "GET"));
        assert_eq!(c.count, Some(1));
    }
}

#[test]
fn each_part_of_the_proof_counts_rfc7616_3_4_1() {
    for (from, to) in [
        ("nc=00000001", "nc=00000002"),
        ("/dir/index.html", "/dir/other.html"),
        (NONCE, "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0w"),
        (CNONCE, "x"),
        ("qop=auth,", ""),
        ("8ca523", "8ca524"),
    ] {
        let text = credentials("MD5", MD5).replace(from, to);
        assert!(!proves(&text, "Circle of Life", "GET"), "{from} -> {to}");
    }
}

#[test]
fn the_example_of_rfc2617_3_5_is_proven() {
    let text = "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", \
        nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", qop=auth, nc=00000001, \
        cnonce=\"0a4f113b\", response=\"6629fae49393a05397450978507c4ef1\", \
        opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"";
    assert!(proves(text, "Circle Of Life", "GET"));
}

#[test]
fn old_phones_without_qop_are_proven_rfc2069_2_4() {
    // With the response of RFC erratum 749.
    let text = "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", \
        nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", \
        response=\"1949323746fe6a43ef61f9606e7febea\"";
    assert!(proves(text, "CircleOfLife", "GET"));
    assert_eq!(Credentials::read(text.as_bytes()).expect("reads").count, None);
}

#[test]
fn credentials_that_say_too_little_or_ask_for_the_unknown_are_none() {
    let good = credentials("MD5", MD5);
    for (from, to) in [
        ("username=", "user="),
        ("realm=", "room="),
        ("nonce=", "once="),
        ("uri=", "url="),
        ("response=", "answer="),
        ("algorithm=MD5", "algorithm=MD4"),
        ("algorithm=MD5", "algorithm=MD5-sess"),
        ("qop=auth", "qop=auth-int"),
        ("nc=00000001", "nc=1"),
        ("nc=00000001", "nc=0000000g"),
        ("cnonce=", "xnonce="),
        ("Digest", "Basic"),
    ] {
        assert_ne!(good.replacen(from, to, 1), good);
        assert!(Credentials::read(good.replacen(from, to, 1).as_bytes()).is_none(), "{from} -> {to}");
    }
}

fn response(headers: &str) -> String {
    format!("SIP/2.0 401 Unauthorized\r\n{headers}Content-Length: 0\r\n\r\n")
}

fn asked() -> Asked<'static> {
    Asked { method: "GET", uri: "/dir/index.html", body: b"", cnonce: CNONCE, count: 1 }
}

#[test]
fn the_client_gives_the_answers_of_the_rfc_rfc7616_3_9_1() {
    for (algorithm, want) in [("", MD5), (", algorithm=MD5", MD5), (", algorithm=sha-256", SHA256)] {
        let value = format!(
            "Digest realm=\"{REALM}\", qop=\"auth-int, auth\"{algorithm}, nonce=\"{NONCE}\", opaque=\"o\""
        );
        let challenge = Challenge::read(HeaderName::WwwAuthenticate, value.as_bytes()).expect("reads");
        let kept = ha1("Mufasa", REALM, "Circle of Life");
        for password in [Password::Text("Circle of Life"), Password::Ha1 { realm: REALM, ha1: &kept }] {
            let login = Login { username: "Mufasa", password };
            let answer = challenge.answer(&login, &asked()).expect("answers");
            assert!(answer.contains(&format!("response=\"{want}\"")), "{answer}");
            assert!(answer.contains("nc=00000001") && answer.contains("opaque=\"o\""), "{answer}");
            assert!(proves(&answer, "Circle of Life", "GET"));
        }
    }
}

#[test]
fn the_client_can_do_sha512_256_and_the_session_variants() {
    // The input of RFC 7616 §3.9.2. Its response was made with another hash (RFC erratum 4897): this one is what OpenSSL's
    // SHA-512/256 gives for the formula of §3.4.1.
    let challenge = Challenge {
        header: HeaderName::Authorization,
        realm: String::from("api@example.org"),
        nonce: String::from("5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK"),
        opaque: None,
        algorithm: Algorithm::Sha512T256,
        session: false,
        qop: Some("auth"),
        stale: false,
    };
    let login = Login { username: "J\u{e4}s\u{f8}n Doe", password: Password::Text("Secret, or not?") };
    let asked = Asked {
        method: "GET",
        uri: "/doe.json",
        body: b"",
        cnonce: "NTg6RKcb9boFIAS3KrFK9BGeh+niz/sm",
        count: 1,
    };
    let answer = challenge.answer(&login, &asked).expect("answers");
    let want = "7a4e1192babbba02e91182d2895bfdbf7adafc6e48d4e517ca301974843d840c";
    assert!(answer.contains(want), "{answer}");
    let session = Challenge::read(
        HeaderName::ProxyAuthenticate,
        b"Digest realm=\"r\", nonce=\"n\", algorithm=MD5-sess, qop=\"auth\", stale=TRUE",
    )
    .expect("reads");
    assert!(session.session && session.stale && session.header == HeaderName::ProxyAuthorization);
    let answer = session.answer(&login, &asked).expect("answers");
    let a1 = Algorithm::Md5.hash(&[login.username.as_bytes(), b"r", b"Secret, or not?"]);
    let a1 = Algorithm::Md5.hash(&[a1.as_bytes(), b"n", asked.cnonce.as_bytes()]);
    let a2 = Algorithm::Md5.hash(&[b"GET", b"/doe.json"]);
    let want = Algorithm::Md5.hash(&[
        a1.as_bytes(),
        b"n",
        b"00000001",
        asked.cnonce.as_bytes(),
        b"auth",
        a2.as_bytes(),
    ]);
    assert!(answer.contains(&want) && answer.contains("algorithm=MD5-sess"), "{answer}");
}

#[test]
fn where_only_auth_int_is_offered_the_body_counts_rfc7616_3_4_3() {
    let value = b"Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\"";
    let challenge = Challenge::read(HeaderName::WwwAuthenticate, value).expect("reads");
    let login = Login { username: "u", password: Password::Text("p") };
    let of = |body| challenge.answer(&login, &Asked { body, ..asked() }).expect("answers");
    assert_ne!(of(b"one"), of(b"two"));
    let ha1 = Algorithm::Md5.hash(&[b"u", b"r", b"p"]);
    let body = Algorithm::Md5.hash(&[b"one"]);
    let ha2 = Algorithm::Md5.hash(&[b"GET", b"/dir/index.html", body.as_bytes()]);
    let want = Algorithm::Md5.hash(&[
        ha1.as_bytes(),
        b"n",
        b"00000001",
        CNONCE.as_bytes(),
        b"auth-int",
        ha2.as_bytes(),
    ]);
    assert!(of(b"one").contains(&want));
}

#[test]
fn of_several_challenges_the_topmost_known_one_of_each_realm_is_answered_rfc8760_2_4() {
    let text = response(
        "WWW-Authenticate: Digest realm=\"a\", nonce=\"1\", algorithm=SHA-3, qop=\"auth\"\r\n\
         WWW-Authenticate: Digest realm=\"a\", nonce=\"2\", algorithm=SHA-256, qop=\"auth\"\r\n\
         WWW-Authenticate: Digest realm=\"a\", nonce=\"3\", algorithm=MD5, qop=\"auth\"\r\n\
         WWW-Authenticate: Basic realm=\"a\"\r\n\
         Proxy-Authenticate: Digest realm=\"b\", nonce=\"4\", qop=\"auth\"\r\n",
    );
    let message = Message::parse(text.as_bytes()).expect("parses");
    let found: Vec<(&str, String)> =
        challenges_of(&message).into_iter().map(|c| (c.header.as_str(), c.nonce)).collect();
    assert_eq!(found, [("Authorization", "2".to_owned()), ("Proxy-Authorization", "4".to_owned())]);
    let login = Login { username: "u", password: Password::Text("p") };
    assert_eq!(answer_challenge(&message, &login, &asked()).expect("answers").len(), 2);
    // With HA1 of one realm only that one is answered.
    let kept = ha1("u", "b", "p");
    let login = Login { username: "u", password: Password::Ha1 { realm: "b", ha1: &kept } };
    let answers = answer_challenge(&message, &login, &asked()).expect("answers");
    assert_eq!(answers.iter().map(|a| a.0).collect::<Vec<_>>(), ["Proxy-Authorization"]);
}

#[test]
fn what_cannot_be_answered_is_said() {
    let login = Login { username: "u", password: Password::Text("p") };
    let kept = ha1("u", "x", "p");
    let elsewhere = Login { username: "u", password: Password::Ha1 { realm: "x", ha1: &kept } };
    for headers in ["", "WWW-Authenticate: Basic realm=\"a\"\r\n", "WWW-Authenticate: Digest realm=\"a\"\r\n"]
    {
        let text = response(headers);
        let message = Message::parse(text.as_bytes()).expect("parses");
        assert_eq!(answer_challenge(&message, &login, &asked()), Err(Unanswerable::NoChallenge), "{headers}");
    }
    let text = response("WWW-Authenticate: Digest realm=\"a\", nonce=\"1\"\r\n");
    let message = Message::parse(text.as_bytes()).expect("parses");
    assert_eq!(answer_challenge(&message, &elsewhere, &asked()), Err(Unanswerable::NoSecret));
}

#[test]
fn quotes_and_backslashes_in_names_survive_the_way_there_rfc3261_25_1() {
    let value = br#"Digest realm="a\"b", nonce="n", qop="auth""#;
    let challenge = Challenge::read(HeaderName::WwwAuthenticate, value).expect("reads");
    assert_eq!(challenge.realm, "a\"b");
    let login = Login { username: "x\\y\"z", password: Password::Text("p") };
    let answer = challenge.answer(&login, &asked()).expect("answers");
    let back = Credentials::read(answer.as_bytes()).expect("reads");
    assert_eq!(back.username, "x\\y\"z");
    assert_eq!(Credentials::realm_in(answer.as_bytes()).as_deref(), Some("a\"b"));
}
