//! URIs: RFC 3261 §19.1, with `tel:` (RFC 3966) and others as far as a proxy must look.

mod compare;
mod host;
mod request;

pub use host::Host;

use super::Fault;
use super::params::Params;

/// URI scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the variants are the schemes themselves")]
pub enum Scheme<'a> {
    Sip,
    Sips,
    Tel,
    /// Any other, as it came.
    Other(&'a str),
}

/// A URI, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uri<'a> {
    /// The whole URI as it came.
    pub raw: &'a str,
    /// Scheme.
    pub scheme: Scheme<'a>,
    /// User part (sip, sips; still escaped) or number (tel).
    pub user: Option<&'a str>,
    /// Password, still escaped.
    pub password: Option<&'a str>,
    /// Host; an empty name for schemes that have none.
    pub host: Host<'a>,
    /// Port, if it is given.
    pub port: Option<u16>,
    /// Parameters.
    pub params: Params<'a>,
    /// Headers: what follows the question mark.
    pub headers: Option<&'a str>,
}

impl<'a> Uri<'a> {
    /// Reads a URI. Of a scheme that is not sip, sips or tel only the scheme is read.
    ///
    /// # Errors
    /// [`Fault::Uri`].
    pub fn parse(raw: &'a str) -> Result<Self, Fault> {
        Self::read(raw).ok_or(Fault::Uri)
    }

    fn read(raw: &'a str) -> Option<Self> {
        if raw.bytes().any(|b| b <= b' ' || matches!(b, b'<' | b'>' | b'"' | 0x7f)) {
            return None;
        }
        let (scheme, rest) = raw.split_once(':')?;
        let scheme = Scheme::read(scheme)?;
        let bare = Self {
            raw,
            scheme,
            user: None,
            password: None,
            host: Host::Name(""),
            port: None,
            params: Params::default(),
            headers: None,
        };
        match scheme {
            Scheme::Other(_) => (!rest.is_empty()).then_some(bare),
            Scheme::Tel => {
                let (number, params) = rest.split_at(rest.find(';').unwrap_or(rest.len()));
                (!number.is_empty()).then_some(Self {
                    user: Some(number),
                    params: Params::new(params),
                    ..bare
                })
            }
            Scheme::Sip | Scheme::Sips => bare.read_sip(rest),
        }
    }

    fn read_sip(self, rest: &'a str) -> Option<Self> {
        // A user part may hold ; ? / and more, but no @. A second @ is refused: parsers would disagree on the host.
        let (user_info, rest) = match rest.split_once('@') {
            Some((user_info, rest)) => (Some(user_info), rest),
            None => (None, rest),
        };
        if rest.contains('@') {
            return None;
        }
        let (user, password) = match user_info {
            None => (None, None),
            Some(info) => match info.split_once(':') {
                Some((user, password)) => (Some(user), Some(password)),
                None => (Some(info), None),
            },
        };
        if user == Some("") || !escapes_are_whole(user_info.unwrap_or_default()) {
            return None;
        }
        let (rest, headers) = match rest.split_once('?') {
            Some((rest, headers)) => (rest, Some(headers)),
            None => (rest, None),
        };
        let (host_port, params) = rest.split_at(rest.find(';').unwrap_or(rest.len()));
        let (host, port) = Host::with_port(host_port)?;
        Some(Self { user, password, host, port, params: Params::new(params), headers, ..self })
    }

    /// The port, or the default of scheme and transport (§19.1.2): 5061 with TLS, otherwise 5060.
    pub fn port_or_default(&self) -> u16 {
        let tls =
            self.scheme == Scheme::Sips || self.transport().is_some_and(|t| t.eq_ignore_ascii_case("tls"));
        self.port.unwrap_or(if tls { 5061 } else { 5060 })
    }

    /// Whether it is a sip or sips URI.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// Whether it has the `lr` parameter: a loose router (§19.1.1).
    pub fn is_loose_router(&self) -> bool {
        self.params.has("lr")
    }

    /// The `transport` parameter as it came.
    pub fn transport(&self) -> Option<&'a str> {
        self.params.value("transport")
    }
}

impl<'a> Scheme<'a> {
    fn read(name: &'a str) -> Option<Self> {
        if name.eq_ignore_ascii_case("sip") {
            return Some(Self::Sip);
        }
        if name.eq_ignore_ascii_case("sips") {
            return Some(Self::Sips);
        }
        if name.eq_ignore_ascii_case("tel") {
            return Some(Self::Tel);
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
        (begins && name.bytes().all(fits)).then_some(Self::Other(name))
    }

    /// The scheme as text, in lower case where it is known.
    pub fn as_str(&self) -> &'a str {
        match self {
            Self::Sip => "sip",
            Self::Sips => "sips",
            Self::Tel => "tel",
            Self::Other(name) => name,
        }
    }
}

/// Whether each `%` is followed by two hex digits.
fn escapes_are_whole(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().filter(|(_, b)| **b == b'%').all(|(i, _)| {
        matches!(bytes.get(i + 1..i + 3), Some([a, b]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
    })
}
