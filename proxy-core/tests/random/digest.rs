//! Random credentials and challenges: reading them ends well, and both sides of digest understand each other.

use proptest::prelude::*;
use proxy_core::digest::{Asked, Challenge, Credentials, Login, Password, ha1};
use proxy_core::msg::HeaderName;

/// The example of RFC 7616 §3.9.1, to be cut short and mixed with noise.
const WHOLE: &str = "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", algorithm=MD5, \
     nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, qop=auth, \
     cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", response=\"8ca523f5e9506fed4657c9700eebdbec\", \
     opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";

fn asked() -> Asked<'static> {
    Asked { method: "GET", uri: "/dir/index.html", body: b"", cnonce: "c", count: 1 }
}

proptest! {
    /// Whatever stands in a header, reading it ends, and ends well.
    #[test]
    fn any_header_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..400) {
        let mut mixed = WHOLE.as_bytes().to_vec();
        mixed.truncate(cut);
        mixed.extend(&bytes);
        for value in [&bytes, &mixed] {
            let _ = Credentials::realm_in(value);
            if let Some(c) = Credentials::read(value) {
                prop_assert!(!c.proves("", "GET"));
            }
            let _ = Challenge::read(HeaderName::WwwAuthenticate, value);
        }
    }

    /// What the client says is what the server reads, whatever the names, realms and nonces are made of.
    #[test]
    fn both_sides_understand_each_other(
        username in "[ -~\u{a0}-\u{ff}]{1,20}",
        realm in "[ -~]{1,20}",
        nonce in "[0-9a-f]{1,20}",
        password in "[ -~]{0,20}",
        count in 1u32..,
    ) {
        let written = realm.replace('\\', "\\\\").replace('"', "\\\"");
        let value = format!("Digest realm=\"{written}\", nonce=\"{nonce}\", qop=\"auth\", algorithm=SHA-256");
        let challenge = Challenge::read(HeaderName::ProxyAuthenticate, value.as_bytes()).expect("reads");
        prop_assert_eq!(&challenge.realm, &realm);
        let login = Login { username: &username, password: Password::Text(&password) };
        let answer = challenge.answer(&login, &Asked { count, ..asked() }).expect("answers");
        let c = Credentials::read(answer.as_bytes()).expect("reads");
        prop_assert_eq!((&c.username, c.count), (&username, Some(count)));
        let plain = !username.contains(['"', '\\']) && !realm.contains(['"', '\\']);
        if plain {
            let kept = ha1(&username, &realm, &password);
            prop_assert!(c.proves(&c.algorithm.ha1_of(&kept).expect("kept"), "GET"));
            let other = ha1(&username, &realm, "another, longer than any above");
            prop_assert!(!c.proves(&c.algorithm.ha1_of(&other).expect("kept"), "GET"));
        }
    }
}
