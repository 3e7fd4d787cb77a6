//! Host parts: names, IPv4 and bracketed IPv6 addresses.

use crate::msg::scan::trim_str;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The host of a URI or of a sent-by.
#[derive(Debug, Clone, Copy)]
pub enum Host<'a> {
    /// A name, as it came; names are equal without regard to case.
    Name(&'a str),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, written in brackets.
    V6(Ipv6Addr),
}

impl<'a> Host<'a> {
    /// Reads a host.
    pub fn parse(text: &'a str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            return inner.strip_suffix(']')?.parse().ok().map(Self::V6);
        }
        if let Ok(v4) = text.parse() {
            return Some(Self::V4(v4));
        }
        // The underscore is not in the grammar, but in the names of many a Windows machine.
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        (!text.is_empty() && text.bytes().all(fits)).then_some(Self::Name(text))
    }

    /// Reads `host[:port]`; white space around the colon is allowed, as in a Via.
    pub fn with_port(text: &'a str) -> Option<(Self, Option<u16>)> {
        let colon = match text.strip_prefix('[') {
            Some(inner) => {
                inner.find(']').and_then(|close| text.get(close + 2..)?.find(':').map(|c| c + close + 2))
            }
            None => text.find(':'),
        };
        let Some(colon) = colon else { return Some((Self::parse(trim_str(text))?, None)) };
        let host = Self::parse(trim_str(text.get(..colon)?))?;
        let port = trim_str(text.get(colon + 1..)?);
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some((host, Some(port.parse().ok()?)))
    }

    /// The address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(v4) => Some(IpAddr::V4(*v4)),
            Self::V6(v6) => Some(IpAddr::V6(*v6)),
        }
    }
}

impl PartialEq for Host<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => a.eq_ignore_ascii_case(b),
            _ => self.ip().is_some() && self.ip() == other.ip(),
        }
    }
}

impl Eq for Host<'_> {}

/// Names in lower case, addresses in their canonical form, IPv6 in brackets.
impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        match self {
            Self::Name(name) => name.chars().try_for_each(|c| f.write_char(c.to_ascii_lowercase())),
            Self::V4(v4) => v4.fmt(f),
            Self::V6(v6) => write!(f, "[{v6}]"),
        }
    }
}
