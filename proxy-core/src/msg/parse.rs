//! One walk over the datagram: the start line, where each header lies, and the body.
//!
//! The walk is lenient: what it can step over it steps over, and remembers the first fault for
//! [`Message::check_request`]. Line ends may be CRLF or LF; a CR alone is a fault, because others might take it
//! for a line end and see headers that we did not judge.

use super::inline::Inline;
use super::scan::{find_line_break, is_lws, is_token, number, trim};
use super::{Fault, HeaderName, INLINE_HEADERS, MAX_HEADERS, MAX_MESSAGE_BYTES, Method, ParseError};

/// No such header, in the index of first positions.
const NONE: u16 = u16::MAX;

/// Where one header (all its folded lines) lies in the datagram, in bytes from its start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slot {
    /// Which header.
    pub(crate) name: HeaderName,
    /// First byte of the name.
    pub(crate) start: u16,
    /// One behind the name.
    pub(crate) name_end: u16,
    /// First byte of the value, white space trimmed.
    pub(crate) value_start: u16,
    /// One behind the value, white space trimmed.
    pub(crate) value_end: u16,
    /// One behind the line end.
    pub(crate) end: u16,
}

/// The first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartLine<'a> {
    /// A request.
    Request {
        /// The method.
        method: Method<'a>,
        /// The Request-URI as it came.
        uri: &'a str,
    },
    /// A response.
    Response {
        /// Status code; 0 when it cannot be read or is not in 100..=699.
        status: u16,
        /// Reason phrase, which may be empty and need not be UTF-8.
        reason: &'a [u8],
    },
}

/// A message, borrowed from the datagram it came in.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    pub(crate) raw: &'a [u8],
    pub(crate) start: StartLine<'a>,
    /// One behind the start line's line end.
    pub(crate) head_start: usize,
    /// One behind the last header's line end (where the empty line starts).
    pub(crate) head_end: usize,
    pub(crate) slots: Inline<Slot, INLINE_HEADERS>,
    first: [u16; HeaderName::COUNT],
    pub(crate) body: &'a [u8],
    pub(crate) fault: Option<Fault>,
}

impl<'a> Message<'a> {
    /// Reads a datagram. Leading line ends are skipped (§7.5); a body longer than Content-Length is cut to it
    /// (§18.3), without Content-Length it is the rest of the datagram.
    ///
    /// # Errors
    /// Only for what is no message; see [`ParseError`]. What can be read but is not right is told by
    /// [`Message::check_request`] and [`Message::check_response`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let skip = bytes.iter().position(|&b| b != b'\r' && b != b'\n').ok_or(ParseError::Keepalive)?;
        let raw = bytes.get(skip..).unwrap_or_default();
        if raw.len() > MAX_MESSAGE_BYTES {
            return Err(ParseError::TooLong(raw.len()));
        }
        let mut fault = None;
        let first_line = Line::at(raw, 0);
        if first_line.bare_cr {
            return Err(ParseError::NotSip);
        }
        let start = start_line(raw.get(..first_line.end).unwrap_or_default(), &mut fault)?;
        let mut message = Self {
            raw,
            start,
            head_start: first_line.next,
            head_end: first_line.next,
            slots: Inline::new(),
            first: [NONE; HeaderName::COUNT],
            body: &[],
            fault,
        };
        let body_start = message.headers()?;
        message.find_body(body_start);
        Ok(message)
    }

    /// Walks over the headers; returns where the body starts.
    fn headers(&mut self) -> Result<usize, ParseError> {
        let raw = self.raw;
        let mut at = self.head_start;
        loop {
            let mut line = Line::at(raw, at);
            if line.end == at && !line.bare_cr {
                // An empty line, or the end of the datagram in place of one.
                if line.next == at {
                    self.note(Fault::Truncated);
                }
                self.head_end = at;
                return Ok(line.next);
            }
            let mut bare_cr = line.bare_cr;
            let colon = raw.get(at..line.end).and_then(|l| l.iter().position(|&b| b == b':'));
            // Folding (§7.3.1): lines that start with white space belong to the one before.
            while raw.get(line.next).is_some_and(|&b| b == b' ' || b == b'\t') {
                line = Line::at(raw, line.next);
                bare_cr |= line.bare_cr;
            }
            if self.slots.len() >= MAX_HEADERS {
                return Err(ParseError::TooManyHeaders);
            }
            let slot = self.slot(at, colon, &line);
            if bare_cr || (slot.name == HeaderName::Other && !self.is_header(&slot)) {
                self.note(Fault::HeaderLine);
            }
            if let Some(first) = self.first.get_mut(slot.name as usize)
                && *first == NONE
            {
                *first = self.slots.len() as u16;
            }
            self.slots.push(slot);
            at = line.next;
        }
    }

    /// Makes the slot of the header that starts at `at` and ends with `line`.
    #[inline]
    fn slot(&self, at: usize, colon: Option<usize>, line: &Line) -> Slot {
        let Some(colon) = colon else {
            // No header at all: kept so that it is forwarded, or blamed, as it came.
            let (at, end) = (at as u16, line.end as u16);
            return Slot {
                name: HeaderName::Other,
                start: at,
                name_end: at,
                value_start: end,
                value_end: end,
                end: line.next as u16,
            };
        };
        let colon = at + colon;
        let byte = |i: usize| self.raw.get(i).copied().unwrap_or(b':');
        let mut name_end = colon;
        while name_end > at && matches!(byte(name_end - 1), b' ' | b'\t') {
            name_end -= 1;
        }
        let mut value_start = colon + 1;
        while value_start < line.end && is_lws(byte(value_start)) {
            value_start += 1;
        }
        let mut value_end = line.end;
        while value_end > value_start && is_lws(byte(value_end - 1)) {
            value_end -= 1;
        }
        let name = HeaderName::from_bytes(self.raw.get(at..name_end).unwrap_or_default());
        // The length of `raw` was checked against 16 bits.
        Slot {
            name,
            start: at as u16,
            name_end: name_end as u16,
            value_start: value_start as u16,
            value_end: value_end as u16,
            end: line.next as u16,
        }
    }

    /// Whether a header that is not known by name has at least a token for one.
    fn is_header(&self, slot: &Slot) -> bool {
        is_token(self.raw.get(usize::from(slot.start)..usize::from(slot.name_end)).unwrap_or_default())
    }

    /// Cuts the body to Content-Length.
    fn find_body(&mut self, body_start: usize) {
        let rest = self.raw.get(body_start..).unwrap_or_default();
        self.body = rest;
        let Some(value) = self.header(HeaderName::ContentLength) else { return };
        match number(value) {
            None => self.note(Fault::Bad(HeaderName::ContentLength)),
            Some(length) => match rest.get(..length as usize) {
                Some(body) => self.body = body,
                None => self.note(Fault::BodyTooShort),
            },
        }
    }

    fn note(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// The first header of that name.
    #[inline]
    pub(crate) fn first_slot(&self, name: HeaderName) -> Option<(usize, Slot)> {
        let index = usize::from(*self.first.get(name as usize)?);
        Some((index, self.slots.get(index)?))
    }

    /// The value in `slot`, as it came (folds inside are left).
    #[inline]
    pub(crate) fn value(&self, slot: &Slot) -> &'a [u8] {
        self.raw.get(usize::from(slot.value_start)..usize::from(slot.value_end)).unwrap_or_default()
    }
}

/// One line: where it ends and where the next begins.
struct Line {
    /// At the CR or LF, or at the end of the datagram.
    end: usize,
    /// Start of the next line; the end of the datagram if there is none.
    next: usize,
    /// A CR without LF stands in it.
    bare_cr: bool,
}

impl Line {
    #[inline]
    fn at(raw: &[u8], from: usize) -> Self {
        let mut bare_cr = false;
        let mut look = from;
        loop {
            match find_line_break(raw, look) {
                None => return Self { end: raw.len(), next: raw.len(), bare_cr },
                Some(end) if raw.get(end) == Some(&b'\n') => return Self { end, next: end + 1, bare_cr },
                Some(end) if raw.get(end + 1) == Some(&b'\n') => return Self { end, next: end + 2, bare_cr },
                Some(end) => {
                    bare_cr = true;
                    look = end + 1;
                }
            }
        }
    }
}

/// Reads the first line, noting what is wrong with it.
fn start_line<'a>(line: &'a [u8], fault: &mut Option<Fault>) -> Result<StartLine<'a>, ParseError> {
    if line.get(..4).is_some_and(|v| v.eq_ignore_ascii_case(b"SIP/")) {
        return Ok(status_line(line, fault));
    }
    // RFC 4475 §3.1.2.10: trailing white space is harmless, so it is forgiven.
    let line = trim(line);
    let (Some(first), Some(last)) =
        (line.iter().position(|&b| b == b' '), line.iter().rposition(|&b| b == b' '))
    else {
        return Err(ParseError::NotSip);
    };
    let method = line.get(..first).unwrap_or_default();
    let version = line.get(last + 1..).unwrap_or_default();
    let is_version = version.get(..4).is_some_and(|v| v.eq_ignore_ascii_case(b"SIP/"));
    if first == last || !is_version || !is_token(method) {
        return Err(ParseError::NotSip);
    }
    let between = line.get(first + 1..last).unwrap_or_default();
    let uri = std::str::from_utf8(trim(between)).unwrap_or_default();
    if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        fault.get_or_insert(Fault::Version);
    }
    if uri.len() != between.len() || uri.bytes().any(is_lws) {
        fault.get_or_insert(Fault::StartLine);
    }
    let method = Method::from_token(std::str::from_utf8(method).unwrap_or_default());
    Ok(StartLine::Request { method, uri })
}

fn status_line<'a>(line: &'a [u8], fault: &mut Option<Fault>) -> StartLine<'a> {
    let version_end = line.iter().position(|&b| b == b' ').unwrap_or(line.len());
    if !line.get(..version_end).unwrap_or_default().eq_ignore_ascii_case(b"SIP/2.0") {
        fault.get_or_insert(Fault::Version);
    }
    let rest = line.get(version_end + 1..).unwrap_or_default();
    let code_end = rest.iter().position(|&b| b == b' ').unwrap_or(rest.len());
    let code = rest.get(..code_end).unwrap_or_default();
    let status = number(code).filter(|n| code.len() == 3 && (100..700).contains(n)).unwrap_or(0);
    if status == 0 {
        fault.get_or_insert(Fault::StatusCode);
    }
    StartLine::Response { status: status as u16, reason: rest.get(code_end + 1..).unwrap_or_default() }
}
