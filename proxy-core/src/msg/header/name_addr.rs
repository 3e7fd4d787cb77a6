//! From, To, Contact, Route, Record-Route, Path: RFC 3261 §20.10.

use crate::msg::scan::{is_lws, skip_quoted, trim};
use crate::msg::{Fault, Params, Uri};

/// `"Display" <uri>;params` or `uri;params`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// The whole value as it came.
    pub raw: &'a [u8],
    /// Display name as it came, quotes included; empty if there is none.
    pub display: &'a [u8],
    /// The URI as it came, without angle brackets.
    pub uri: &'a str,
    /// The header parameters (not those of the URI).
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// Reads one value. Without angle brackets every parameter is one of the header, and the URI may hold neither
    /// comma nor question mark (§20.10).
    ///
    /// # Errors
    /// [`Fault::Uri`] for quotes or brackets that do not close, and what else cannot be read. The URI itself is only
    /// looked through for characters that no URI has; [`NameAddr::parse_uri`] reads it.
    pub fn parse(value: &'a [u8]) -> Result<Self, Fault> {
        let raw = trim(value);
        let (display, uri, rest) = match open_bracket(raw)? {
            Some(open) => {
                let inside = raw.get(open + 1..).unwrap_or_default();
                let close = inside.iter().position(|&b| b == b'>').ok_or(Fault::Uri)?;
                let display = trim(raw.get(..open).unwrap_or_default());
                (
                    display,
                    inside.get(..close).unwrap_or_default(),
                    inside.get(close + 1..).unwrap_or_default(),
                )
            }
            None => {
                let end = raw.iter().position(|&b| b == b';').unwrap_or(raw.len());
                let (uri, rest) = raw.split_at(end);
                if uri.iter().any(|&b| b == b',' || b == b'?') {
                    return Err(Fault::Uri);
                }
                (&raw[..0], uri, rest)
            }
        };
        // White space just inside the brackets (RFC 4475 §3.1.2.14) is forgiven.
        let uri = trim(uri);
        let strange = |b: &u8| *b <= b' ' || matches!(*b, b'<' | b'>' | b'"' | 0x7f);
        if uri.is_empty() || uri.iter().any(strange) || !uri.contains(&b':') {
            return Err(Fault::Uri);
        }
        let uri = std::str::from_utf8(uri).map_err(|_| Fault::Uri)?;
        let rest = std::str::from_utf8(trim(rest)).map_err(|_| Fault::Uri)?;
        if !(rest.is_empty() || rest.starts_with(';')) {
            return Err(Fault::Uri);
        }
        Ok(Self { raw, display, uri, params: Params::new(rest) })
    }

    /// The URI, read.
    ///
    /// # Errors
    /// [`Fault::Uri`].
    pub fn parse_uri(&self) -> Result<Uri<'a>, Fault> {
        Uri::parse(self.uri)
    }

    /// The tag (From, To).
    pub fn tag(&self) -> Option<&'a str> {
        self.params.value("tag").filter(|t| !t.is_empty())
    }

    /// `expires` of a Contact in seconds. A number too large to hold is the largest that can be held; one that is no
    /// number is `None` (§10.2.1.1: it counts as 3600 by default).
    pub fn expires(&self) -> Option<u32> {
        let text = self.params.value("expires")?;
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(text.parse().unwrap_or(u32::MAX))
    }

    /// `q` of a Contact in thousandths, 0..=1000; 1000 when there is none.
    ///
    /// # Errors
    /// [`Fault::Uri`] when it is no qvalue (§25.1).
    pub fn q(&self) -> Result<u16, Fault> {
        let Some(q) = self.params.get("q") else { return Ok(1000) };
        let (whole, part) = match q.value.ok_or(Fault::Uri)?.split_once('.') {
            Some((whole, part)) => (whole, part),
            None => (q.value.unwrap_or_default(), ""),
        };
        if part.len() > 3 || !part.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Fault::Uri);
        }
        let thousandths =
            part.bytes().chain("000".bytes()).take(3).fold(0u16, |n, b| n * 10 + u16::from(b - b'0'));
        match (whole, thousandths) {
            ("0" | "", n) if !(whole.is_empty() && part.is_empty()) => Ok(n),
            ("1", 0) => Ok(1000),
            _ => Err(Fault::Uri),
        }
    }

    /// `+sip.instance` (RFC 5626 §4.1), with its angle brackets, without the quotes.
    pub fn instance(&self) -> Option<&'a str> {
        self.params.value("+sip.instance")
    }

    /// `reg-id` (RFC 5626 §4.2.1); `None` also when it is not a number above 0.
    pub fn reg_id(&self) -> Option<u32> {
        self.params.value("reg-id")?.parse().ok().filter(|n| *n > 0)
    }
}

/// Where the `<` of a name-addr stands; `None` for a bare addr-spec.
fn open_bracket(raw: &[u8]) -> Result<Option<usize>, Fault> {
    if raw.first() == Some(&b'"') {
        let mut at = skip_quoted(raw, 0).ok_or(Fault::Uri)?;
        while raw.get(at).is_some_and(|&b| is_lws(b)) {
            at += 1;
        }
        return if raw.get(at) == Some(&b'<') { Ok(Some(at)) } else { Err(Fault::Uri) };
    }
    // An unquoted display name has neither semicolon nor quote nor comma: what comes first decides.
    match raw.iter().position(|&b| matches!(b, b'<' | b';' | b'"' | b'>' | b',')) {
        Some(at) => match raw.get(at) {
            Some(b'<') => Ok(Some(at)),
            Some(b';') => Ok(None),
            _ => Err(Fault::Uri),
        },
        None => Ok(None),
    }
}
