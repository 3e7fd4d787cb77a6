//! What of a URI may stand in a request line (RFC 3261 §19.1.1, table 1).

use std::borrow::Cow;

use super::Uri;

/// The only parameter that it forbids.
const METHOD: &str = "method";

impl Uri<'_> {
    /// `raw` as the Request-URI of a request that goes there: without headers and the parameter `method`, which a Contact
    /// may have (§16.6 step 2, §12.2.1.1). What is no URI stays as it is.
    #[must_use]
    pub fn for_request_line(raw: &str) -> Cow<'_, str> {
        let Ok(uri) = Uri::parse(raw) else { return Cow::Borrowed(raw) };
        // The question mark that begins the headers; there may be others in the user part.
        let bare = uri.headers.and_then(|h| raw.get(..raw.len().checked_sub(h.len() + 1)?)).unwrap_or(raw);
        if !uri.params.has(METHOD) {
            return Cow::Borrowed(bare);
        }
        // The user part may have semicolons, too; parameters come behind it.
        let behind = bare.rfind('@').map_or(0, |at| at + 1);
        let Some((front, rest)) = bare.split_at_checked(behind) else { return Cow::Borrowed(bare) };
        let is_kept = |part: &&str| {
            let name = part.split('=').next().unwrap_or_default();
            !name.trim().eq_ignore_ascii_case(METHOD)
        };
        let mut parts = rest.split(';');
        let host = parts.next().unwrap_or_default();
        let kept: String = parts.filter(is_kept).map(|part| format!(";{part}")).collect();
        Cow::Owned(format!("{front}{host}{kept}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_method_go_and_the_rest_stays_byte_for_byte_rfc3261_19_1_1() {
        let fit = |raw| Uri::for_request_line(raw).into_owned();
        for whole in
            ["sip:bob@h:5062;ob;line=a%3Bb", "sip:a?b;method=x@h", "tel:+112;phone-context=h", "none"]
        {
            assert_eq!(fit(whole), whole);
        }
        assert_eq!(fit("sip:bob@h?Subject=x&Route=%3Csip:e%3E"), "sip:bob@h");
        assert_eq!(fit("sip:a?b@h;METHOD=BYE;ob?x=y"), "sip:a?b@h;ob");
        assert_eq!(fit("sip:bob@[fd77::1]:5062;lr;method=INVITE"), "sip:bob@[fd77::1]:5062;lr");
        assert_eq!(fit("sip:h;method=INVITE"), "sip:h");
    }
}
