//! The comma list behind `Digest`: `name=token, name="quoted"`, in challenges and credentials (RFC 7235 §2.1).

use crate::msg::scan::{is_lws, is_token_byte, skip_quoted};

/// Parameters that are looked at in one header; more is not answered.
const MAX_FIELDS: usize = 32;

/// The parameters of one challenge or of one set of credentials, as they came.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    list: Vec<(&'a str, &'a str)>,
}

impl<'a> Fields<'a> {
    /// Reads the value of a header whose scheme is Digest; `None` for other schemes, and for what is not well-formed:
    /// a name that stands there twice could be read in two ways.
    pub(super) fn read(value: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let (scheme, rest) = text.split_at_checked("digest".len())?;
        if !scheme.eq_ignore_ascii_case("digest") || !rest.bytes().next().is_some_and(is_lws) {
            return None;
        }
        let mut list: Vec<(&'a str, &'a str)> = Vec::with_capacity(12);
        let mut rest = rest;
        loop {
            rest = rest.trim_start_matches([' ', '\t', '\r', '\n', ',']);
            if rest.is_empty() {
                return Some(Self { list });
            }
            let (name, value, after) = field(rest)?;
            if list.len() >= MAX_FIELDS || list.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
                return None;
            }
            list.push((name, value));
            rest = after;
        }
    }

    /// A value without its quotes; its backslashes are left.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.list.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// Name, value, and what follows the comma behind them.
fn field(text: &str) -> Option<(&str, &str, &str)> {
    let lws = [' ', '\t', '\r', '\n'];
    let (name, rest) = text.split_at(text.bytes().position(|b| !is_token_byte(b))?);
    let rest = rest.trim_start_matches(lws).strip_prefix('=')?.trim_start_matches(lws);
    let (value, rest) = if rest.starts_with('"') {
        let end = skip_quoted(rest.as_bytes(), 0)?;
        (rest.get(1..end - 1)?, rest.get(end..)?)
    } else {
        // Lenient: phones leave quotes out where the grammar asks for them, as in uri=sip:a@b.
        let end = rest.bytes().position(|b| b == b',' || is_lws(b)).unwrap_or(rest.len());
        rest.split_at(end)
    };
    let rest = rest.trim_start_matches(lws);
    if name.is_empty() || !(rest.is_empty() || rest.starts_with(',')) {
        return None;
    }
    Some((name, value, rest))
}

/// A quoted value as it was meant: `\x` is `x`.
pub(super) fn unquoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    out
}

/// The text between quotes that means `value`.
pub(crate) fn quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_quotes_folds_and_unknown_parameters_are_read_rfc3261_25_1() {
        let f = Fields::read(
            b"DIGEST\r\n username = \"a,\\\"b\", realm=\"x\" ,uri=sip:h , nc=00000001,qop=auth, ,future=\"?\"",
        )
        .expect("well-formed");
        assert_eq!(f.get("Username"), Some("a,\\\"b"));
        assert_eq!(unquoted("a,\\\"b"), "a,\"b");
        assert_eq!(quoted("a,\"b"), "a,\\\"b");
        assert_eq!(
            (f.get("uri"), f.get("nc"), f.get("future")),
            (Some("sip:h"), Some("00000001"), Some("?"))
        );
        assert_eq!(f.get("nonce"), None);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        for bad in [
            &b"Basic YTpi"[..],
            b"Digest",
            b"Digestive realm=\"x\"",
            b"Digest realm",
            b"Digest realm=\"x",
            b"Digest realm=\"x\" nonce=\"y\"",
            b"Digest realm=\"x\", REALM=\"y\"",
            b"Digest =\"x\"",
            b"Digest realm=\"\xff\"",
        ] {
            assert!(Fields::read(bad).is_none(), "{}", String::from_utf8_lossy(bad));
        }
        let many: String = (0..=MAX_FIELDS).map(|n| format!("p{n}=x,")).collect();
        assert!(Fields::read(format!("Digest {many}").as_bytes()).is_none());
    }
}
