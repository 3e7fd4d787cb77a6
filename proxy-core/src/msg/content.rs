//! What a request brings and takes, as far as one who answers it must look: RFC 3261 §8.2.3, §20.1, §20.11.

use super::{HeaderName, Message, Params};

impl Message<'_> {
    /// Whether there is a body that its receiver must understand, and refuse with 415 if it does not (§8.2.3): one whose
    /// Content-Disposition does not say `handling=optional`. Without a word it is required (§20.11).
    #[must_use]
    pub fn has_required_content(&self) -> bool {
        if self.body().is_empty() {
            return false;
        }
        let value = self.header_named("Content-Disposition").and_then(|v| std::str::from_utf8(v).ok());
        let params = value.and_then(|v| v.find(';').and_then(|at| v.get(at..))).map(Params::new);
        let handling = params.and_then(|p| p.value("handling"));
        !handling.is_some_and(|h| h.eq_ignore_ascii_case("optional"))
    }

    /// Whether its sender takes an answer or a body of the type `kind`/`subtype` (lower case). Without Accept it is for the
    /// method or event package to say, and true here; an empty one takes nothing (§20.1).
    #[must_use]
    pub fn accepts(&self, kind: &str, subtype: &str) -> bool {
        if !self.has(HeaderName::Accept) {
            return true;
        }
        self.tokens(HeaderName::Accept).any(|range| {
            let (media, params) = range.split_at(range.find(';').unwrap_or(range.len()));
            // "q=0": not that one.
            let is_wanted = Params::new(params).value("q").is_none_or(|q| q.parse() != Ok(0.0));
            let (a, b) = media.split_once('/').map_or((media, ""), |(a, b)| (a.trim(), b.trim()));
            is_wanted
                && (a == "*" || a.eq_ignore_ascii_case(kind))
                && (b == "*" || b.eq_ignore_ascii_case(subtype))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(headers: &str, body: &str, look: impl FnOnce(&Message<'_>) -> T) -> T {
        let text = format!("SUBSCRIBE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h\r\n{headers}\r\n{body}");
        look(&Message::parse(text.as_bytes()).expect("parses"))
    }

    #[test]
    fn a_body_is_required_unless_it_says_that_it_is_optional_rfc3261_20_11() {
        let required = |headers: &str, body: &str| with(headers, body, |m| m.has_required_content());
        assert!(!required("", ""));
        assert!(required("", "x"));
        assert!(required("Content-Disposition: session\r\n", "x"));
        assert!(required("Content-Disposition: x;handling=required\r\n", "x"));
        assert!(!required("Content-Disposition: x ; Handling=Optional\r\n", "x"));
    }

    #[test]
    fn accept_is_read_with_its_wildcards_and_its_q_rfc3261_20_1() {
        let takes = |headers: &str| with(headers, "", |m| m.accepts("application", "dialog-info+xml"));
        for yes in [
            "",
            "Accept: application/dialog-info+xml\r\n",
            "Accept: text/plain, Application/Dialog-Info+XML;q=0.5\r\n",
            "Accept: */*\r\n",
            "Accept: text/plain\r\nAccept: application/*\r\n",
        ] {
            assert!(takes(yes), "{yes}");
        }
        for no in ["Accept: \r\n", "Accept: text/plain\r\n", "Accept: application/dialog-info+xml;q=0\r\n"] {
            assert!(!takes(no), "{no}");
        }
    }
}
