//! Header names: the ones that this proxy looks at or that have a compact form.

/// A header name. Everything that is not listed is [`HeaderName::Other`] and passes through untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[expect(missing_docs, reason = "the variants are the header names themselves")]
#[repr(u8)]
pub enum HeaderName {
    Via,
    From,
    To,
    CallId,
    CSeq,
    MaxForwards,
    ContentLength,
    ContentType,
    Contact,
    Route,
    RecordRoute,
    Require,
    ProxyRequire,
    Supported,
    Unsupported,
    Expires,
    MinExpires,
    Path,
    ServiceRoute,
    Allow,
    AllowEvents,
    UserAgent,
    Server,
    Authorization,
    ProxyAuthorization,
    WwwAuthenticate,
    ProxyAuthenticate,
    Event,
    SubscriptionState,
    ReferTo,
    ReferredBy,
    Replaces,
    SessionExpires,
    MinSe,
    RAck,
    RSeq,
    RetryAfter,
    Warning,
    Reason,
    Timestamp,
    Subject,
    Accept,
    ContentEncoding,
    Date,
    Identity,
    IdentityInfo,
    RequestDisposition,
    AcceptContact,
    RejectContact,
    /// A header without a meaning here.
    #[default]
    Other,
}

impl HeaderName {
    /// Number of variants: size of an array indexed by name.
    pub(crate) const COUNT: usize = Self::Other as usize + 1;

    /// The long form of the name; empty for [`HeaderName::Other`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Via => "Via",
            Self::From => "From",
            Self::To => "To",
            Self::CallId => "Call-ID",
            Self::CSeq => "CSeq",
            Self::MaxForwards => "Max-Forwards",
            Self::ContentLength => "Content-Length",
            Self::ContentType => "Content-Type",
            Self::Contact => "Contact",
            Self::Route => "Route",
            Self::RecordRoute => "Record-Route",
            Self::Require => "Require",
            Self::ProxyRequire => "Proxy-Require",
            Self::Supported => "Supported",
            Self::Unsupported => "Unsupported",
            Self::Expires => "Expires",
            Self::MinExpires => "Min-Expires",
            Self::Path => "Path",
            Self::ServiceRoute => "Service-Route",
            Self::Allow => "Allow",
            Self::AllowEvents => "Allow-Events",
            Self::UserAgent => "User-Agent",
            Self::Server => "Server",
            Self::Authorization => "Authorization",
            Self::ProxyAuthorization => "Proxy-Authorization",
            Self::WwwAuthenticate => "WWW-Authenticate",
            Self::ProxyAuthenticate => "Proxy-Authenticate",
            Self::Event => "Event",
            Self::SubscriptionState => "Subscription-State",
            Self::ReferTo => "Refer-To",
            Self::ReferredBy => "Referred-By",
            Self::Replaces => "Replaces",
            Self::SessionExpires => "Session-Expires",
            Self::MinSe => "Min-SE",
            Self::RAck => "RAck",
            Self::RSeq => "RSeq",
            Self::RetryAfter => "Retry-After",
            Self::Warning => "Warning",
            Self::Reason => "Reason",
            Self::Timestamp => "Timestamp",
            Self::Subject => "Subject",
            Self::Accept => "Accept",
            Self::ContentEncoding => "Content-Encoding",
            Self::Date => "Date",
            Self::Identity => "Identity",
            Self::IdentityInfo => "Identity-Info",
            Self::RequestDisposition => "Request-Disposition",
            Self::AcceptContact => "Accept-Contact",
            Self::RejectContact => "Reject-Contact",
            Self::Other => "",
        }
    }

    /// Reads a name in its long or compact form, in any case (RFC 3261 §7.3.1, §7.3.3 and the IANA registry).
    pub fn from_bytes(name: &[u8]) -> Self {
        // By length first: at most a handful of comparisons remain.
        let candidates: &[Self] = match name.len() {
            1 => {
                return match name.first().map(u8::to_ascii_lowercase) {
                    Some(b'v') => Self::Via,
                    Some(b'f') => Self::From,
                    Some(b't') => Self::To,
                    Some(b'i') => Self::CallId,
                    Some(b'l') => Self::ContentLength,
                    Some(b'c') => Self::ContentType,
                    Some(b'm') => Self::Contact,
                    Some(b'k') => Self::Supported,
                    Some(b'u') => Self::AllowEvents,
                    Some(b'o') => Self::Event,
                    Some(b'r') => Self::ReferTo,
                    Some(b'b') => Self::ReferredBy,
                    Some(b'x') => Self::SessionExpires,
                    Some(b's') => Self::Subject,
                    Some(b'e') => Self::ContentEncoding,
                    Some(b'y') => Self::Identity,
                    Some(b'n') => Self::IdentityInfo,
                    Some(b'd') => Self::RequestDisposition,
                    Some(b'a') => Self::AcceptContact,
                    Some(b'j') => Self::RejectContact,
                    _ => Self::Other,
                };
            }
            2 => &[Self::To],
            3 => &[Self::Via],
            4 => &[Self::From, Self::CSeq, Self::Path, Self::RAck, Self::RSeq, Self::Date],
            5 => &[Self::Route, Self::Allow, Self::Event],
            6 => &[Self::Server, Self::MinSe, Self::Reason, Self::Accept],
            7 => &[Self::CallId, Self::Contact, Self::Require, Self::Expires, Self::Warning, Self::Subject],
            8 => &[Self::ReferTo, Self::Replaces, Self::Identity],
            9 => &[Self::Supported, Self::Timestamp],
            10 => &[Self::UserAgent],
            11 => &[Self::Unsupported, Self::MinExpires, Self::ReferredBy, Self::RetryAfter],
            12 => &[Self::MaxForwards, Self::ContentType, Self::RecordRoute, Self::AllowEvents],
            13 => &[Self::ProxyRequire, Self::ServiceRoute, Self::Authorization, Self::IdentityInfo],
            14 => &[Self::ContentLength, Self::AcceptContact, Self::RejectContact],
            15 => &[Self::SessionExpires],
            16 => &[Self::WwwAuthenticate, Self::ContentEncoding],
            18 => &[Self::ProxyAuthenticate, Self::SubscriptionState],
            19 => &[Self::ProxyAuthorization, Self::RequestDisposition],
            _ => &[],
        };
        let known = candidates.iter().find(|c| c.as_str().as_bytes().eq_ignore_ascii_case(name));
        known.copied().unwrap_or(Self::Other)
    }

    /// Whether RFC 3261 allows the header only once in a message. (Lists, and headers unknown here, may repeat.)
    pub const fn is_single(self) -> bool {
        matches!(
            self,
            Self::From
                | Self::To
                | Self::CallId
                | Self::CSeq
                | Self::MaxForwards
                | Self::ContentLength
                | Self::ContentType
                | Self::Expires
                | Self::MinExpires
                | Self::Event
                | Self::ReferTo
                | Self::ReferredBy
                | Self::Replaces
                | Self::SessionExpires
                | Self::MinSe
                | Self::RAck
                | Self::RSeq
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_and_long_names_in_any_case_are_one_header_rfc3261_7_3_3() {
        let pairs = [
            ("v", "Via"),
            ("f", "From"),
            ("t", "To"),
            ("i", "Call-ID"),
            ("l", "Content-Length"),
            ("c", "Content-Type"),
            ("m", "Contact"),
            ("k", "Supported"),
            ("u", "Allow-Events"),
            ("o", "Event"),
            ("r", "Refer-To"),
            ("b", "Referred-By"),
            ("x", "Session-Expires"),
            ("s", "Subject"),
            ("e", "Content-Encoding"),
            ("y", "Identity"),
            ("n", "Identity-Info"),
            ("d", "Request-Disposition"),
            ("a", "Accept-Contact"),
            ("j", "Reject-Contact"),
        ];
        for (short, long) in pairs {
            let name = HeaderName::from_bytes(long.as_bytes());
            assert_ne!(name, HeaderName::Other, "{long}");
            assert_eq!(name.as_str(), long);
            assert_eq!(HeaderName::from_bytes(short.as_bytes()), name);
            assert_eq!(HeaderName::from_bytes(short.to_uppercase().as_bytes()), name);
            assert_eq!(HeaderName::from_bytes(long.to_uppercase().as_bytes()), name);
        }
        for other in ["", "q", "X-Via", "Vi", "Call ID", "C%6Fntact"] {
            assert_eq!(HeaderName::from_bytes(other.as_bytes()), HeaderName::Other, "{other}");
        }
    }
}
