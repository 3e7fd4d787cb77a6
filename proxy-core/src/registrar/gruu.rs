//! Globally routable user agent URIs (RFC 5627): names of one phone of a user.
//!
//! | GRUU | is | valid |
//! |---|---|---|
//! | public | the address of record with `gr=` and the instance | while the instance is registered |
//! | temporary | `tgruu.` and a token, with an empty `gr` | until the instance registers with another Call-ID |
//!
//! A temporary one says nothing about whom it names. Its token holds the name of the registration under a mask, and is
//! signed, both with the cluster key: all nodes can read it, and nothing of it has to be replicated.

use crate::engine::keys::Keys;
use crate::msg::Uri;

/// Begins the user of a temporary GRUU.
const PREFIX: &str = "tgruu.";

/// Name of a registration, by which temporary GRUUs find it: another one with each Call-ID (RFC 5627 §3.1.2).
pub(crate) fn registration_name(
    keys: Keys,
    aor: &str,
    instance: &str,
    reg_id: Option<u32>,
    call_id: &str,
) -> u64 {
    let reg_id = reg_id.unwrap_or(0).to_be_bytes();
    keys.own_number("gruu", &[aor.as_bytes(), instance.as_bytes(), &reg_id, call_id.as_bytes()])
}

/// The public GRUU of an instance of a user. `None` for addresses of record that are no SIP URI.
pub(super) fn public(aor: &str, instance: &str) -> Option<String> {
    aor.starts_with("sip:").then(|| format!("{aor};gr={}", escaped(bare(instance))))
}

/// A temporary GRUU. Another one for each `salt`.
pub(super) fn temporary(keys: Keys, aor: &str, name: u64, salt: u64) -> Option<String> {
    let host = aor.strip_prefix("sip:")?.rsplit_once('@')?.1;
    let nonce = keys.own_number("gruu-nonce", &[&name.to_be_bytes(), &salt.to_be_bytes()]);
    let masked = name ^ mask(keys, nonce);
    Some(format!("sip:{PREFIX}{nonce:016x}{masked:016x}{:016x}@{host};gr", signature(keys, nonce, masked)))
}

/// What a URI with `gr` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    /// This instance of the user.
    Instance(String),
    /// The registration with this name.
    Registration(u64),
    /// Nobody: a temporary GRUU that is none of ours.
    Nobody,
}

/// `None` for URIs without `gr`.
pub(crate) fn named(keys: Keys, uri: &Uri<'_>) -> Option<Named> {
    let gr = uri.params.get("gr")?;
    if let Some(instance) = gr.value.filter(|v| !v.is_empty()) {
        return Some(Named::Instance(unescaped(instance)));
    }
    let name = uri.user.and_then(|user| user.strip_prefix(PREFIX)).and_then(|token| read(keys, token));
    Some(name.map_or(Named::Nobody, Named::Registration))
}

/// Whether this `+sip.instance` is the one that a public GRUU names.
pub(crate) fn is_instance(instance: &str, named: &str) -> bool {
    // URNs of UUIDs are compared without regard to case (RFC 4122 §3).
    bare(instance).eq_ignore_ascii_case(named)
}

fn read(keys: Keys, token: &str) -> Option<u64> {
    if token.len() != 48 || !token.is_ascii() {
        return None;
    }
    let part = |n: usize| u64::from_str_radix(token.get(16 * n..16 * (n + 1))?, 16).ok();
    let (nonce, masked) = (part(0)?, part(1)?);
    (part(2)? == signature(keys, nonce, masked)).then_some(masked ^ mask(keys, nonce))
}

fn mask(keys: Keys, nonce: u64) -> u64 {
    keys.own_number("gruu-mask", &[&nonce.to_be_bytes()])
}

fn signature(keys: Keys, nonce: u64, masked: u64) -> u64 {
    keys.own_number("gruu-sign", &[&nonce.to_be_bytes(), &masked.to_be_bytes()])
}

/// The URN without the angle brackets of the Contact parameter.
pub(crate) fn bare(instance: &str) -> &str {
    instance.strip_prefix('<').and_then(|i| i.strip_suffix('>')).unwrap_or(instance)
}

/// As the value of a URI parameter (RFC 3261 §25.1, paramchar).
fn escaped(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, b| {
        if b.is_ascii_alphanumeric() || b"-_.!~*'()[]/:&+$".contains(&b) {
            out.push(char::from(b));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{b:02X}");
        }
        out
    })
}

fn unescaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        let hex = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let mut ahead = bytes.clone();
        match (b, ahead.next().and_then(hex), ahead.next().and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                bytes = ahead;
            }
            _ => out.push(b),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AOR: &str = "sip:bob@lab.test";
    const INSTANCE: &str = "<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>";

    fn keys() -> Keys {
        Keys::new([7; 16])
    }

    #[test]
    fn a_temporary_gruu_is_read_by_who_has_the_key_and_by_nobody_else_rfc5627_3_1_2() {
        let name = registration_name(keys(), AOR, INSTANCE, None, "c1");
        let first = temporary(keys(), AOR, name, 1).expect("a GRUU");
        let second = temporary(keys(), AOR, name, 2).expect("a GRUU");
        assert_ne!(first, second);
        for text in [&first, &second] {
            let uri = Uri::parse(text).expect("a URI");
            assert_eq!(named(keys(), &uri), Some(Named::Registration(name)));
            assert_eq!(named(Keys::new([8; 16]), &uri), Some(Named::Nobody), "another cluster");
            assert!(!text.contains("bob") && !text.contains(&format!("{name:016x}")));
        }
        let forged = first.replacen("tgruu.", "tgruu.0", 1);
        assert_eq!(named(keys(), &Uri::parse(&forged).expect("a URI")), Some(Named::Nobody));
        assert_ne!(name, registration_name(keys(), AOR, INSTANCE, None, "c2"), "another Call-ID");
    }

    #[test]
    fn a_public_gruu_names_its_instance_rfc5627_3_1_1() {
        let text = public(AOR, INSTANCE).expect("a GRUU");
        assert_eq!(text, "sip:bob@lab.test;gr=urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF");
        let Some(Named::Instance(instance)) = named(keys(), &Uri::parse(&text).expect("a URI")) else {
            panic!("it names an instance")
        };
        assert!(is_instance(INSTANCE, &instance) && is_instance(&INSTANCE.to_lowercase(), &instance));
        let odd = public(AOR, "<urn:x;y=1>").expect("a GRUU");
        assert_eq!(odd, "sip:bob@lab.test;gr=urn:x%3By%3D1");
        let odd = named(keys(), &Uri::parse(&odd).expect("a URI"));
        assert_eq!(odd, Some(Named::Instance("urn:x;y=1".into())));
        assert_eq!(named(keys(), &Uri::parse(AOR).expect("a URI")), None);
    }
}
