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

impl Uri<'_> {
    /// A sip or sips URI without its port and its parameters `maddr` and `transport`: what is left when `maddr` names the
    /// proxy that has it before it (§16.4).
    #[must_use]
    pub fn without_maddr(&self) -> String {
        let raw = self.raw;
        let headers_at = self.headers.and_then(|h| raw.len().checked_sub(h.len() + 1)).unwrap_or(raw.len());
        let (bare, headers) = raw.split_at_checked(headers_at).unwrap_or((raw, ""));
        let behind = bare.find('@').map_or_else(|| bare.find(':').map_or(0, |at| at + 1), |at| at + 1);
        let (front, rest) = bare.split_at_checked(behind).unwrap_or(("", bare));
        let is_kept = |part: &&str| {
            let name = part.split('=').next().unwrap_or_default().trim();
            !["maddr", "transport"].iter().any(|gone| name.eq_ignore_ascii_case(gone))
        };
        let kept: String = rest.split(';').skip(1).filter(is_kept).map(|part| format!(";{part}")).collect();
        format!("{front}{}{kept}{headers}", self.host)
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

    #[test]
    fn maddr_goes_with_port_and_transport_and_the_rest_stays_rfc3261_16_4() {
        let bare = |raw: &str| Uri::parse(raw).expect("a URI").without_maddr();
        let cases = [
            ("sip:bob@a.test:5070;maddr=10.0.0.1;ob;transport=tcp?x=y", "sip:bob@a.test;ob?x=y"),
            ("sips:a;b:pw@[fd77::1]:5061;MADDR=h", "sips:a;b:pw@[fd77::1]"),
            ("sip:a.test;maddr=10.0.0.1", "sip:a.test"),
            ("sip:bob@a.test;lr", "sip:bob@a.test;lr"),
        ];
        for (raw, want) in cases {
            assert_eq!(bare(raw), want);
        }
    }
}
