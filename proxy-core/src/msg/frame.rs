//! Messages out of a byte stream: RFC 3261 §18.3 and §7.5, keepalives of RFC 5626 §3.5.1.
//!
//! | at the start of a message stands | then |
//! |---|---|
//! | CRLF CRLF | [`Frame::Ping`] |
//! | a single CRLF | skipped: a pong, or what some clients put between messages |
//! | a line that is no start line of SIP | skipped, up to [`MAX_GARBAGE`] bytes, then [`Frame::Garbage`] |
//! | a head with one Content-Length | [`Frame::Message`] as soon as that many bytes have come |
//! | a head without, with a bad, or with two different Content-Lengths | [`Frame::Refused`] 400 |
//! | a head or body beyond [`MAX_MESSAGE_BYTES`] | [`Frame::Refused`] 513 |
//!
//! After `Refused` and `Garbage` nobody knows where the next message starts: the connection has to be closed.

use super::scan::{is_lws, is_token, number, trim};
use super::{MAX_MESSAGE_BYTES, Message, Method, Response, ViaStamp};
use std::net::SocketAddr;

/// Bytes that are no SIP and are skipped before a connection is given up.
pub const MAX_GARBAGE: usize = 4096;
/// Longest first line in bytes; without a line end until then it is garbage.
const MAX_START_LINE: usize = 8192;

/// What a stream held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A whole message, from its start line to the end of its body.
    Message(Vec<u8>),
    /// A keepalive that wants a CRLF for an answer.
    Ping,
    /// The end of this message cannot be told.
    Refused {
        /// What has come of it: start line and headers, and the empty line if there was one.
        head: Vec<u8>,
        /// Status for who sent it.
        status: u16,
        /// Reason phrase.
        reason: &'static str,
    },
    /// This is no SIP.
    Garbage,
}

/// Cuts one stream into messages.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Before it everything has been taken.
    start: usize,
    /// Before it no end of a head has been found.
    scanned: usize,
    /// Length of the message at `start`, once its head is complete.
    length: Option<usize>,
    /// The start line of the message at `start` has been judged.
    judged: bool,
    garbage: usize,
    closed: bool,
}

impl Framer {
    /// A stream at its begin.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && (self.start == self.buffer.len() || self.start >= MAX_MESSAGE_BYTES) {
            self.buffer.drain(..self.start);
            self.scanned -= self.start.min(self.scanned);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that wait for the rest of their message.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Whether a message has begun and not ended.
    #[must_use]
    pub fn is_within_message(&self) -> bool {
        self.rest().iter().any(|b| !matches!(b, b'\r' | b'\n'))
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// The next thing in the stream; `None` until more has come.
    #[expect(clippy::should_implement_trait, reason = "it ends and goes on: an iterator would be fused")]
    pub fn next(&mut self) -> Option<Frame> {
        if self.closed {
            return None;
        }
        loop {
            if let Some(length) = self.length {
                let message = self.rest().get(..length)?.to_vec();
                self.skip(length);
                self.garbage = 0;
                return Some(Frame::Message(message));
            }
            if !self.judged {
                match self.begin() {
                    Begin::More => return None,
                    Begin::Again => continue,
                    Begin::Ping => return Some(Frame::Ping),
                    Begin::Garbage => {
                        self.closed = true;
                        return Some(Frame::Garbage);
                    }
                    Begin::Message => self.judged = true,
                }
            }
            let Some(head) = self.head_length().filter(|head| *head <= MAX_MESSAGE_BYTES) else {
                return (self.waiting() > MAX_MESSAGE_BYTES).then(|| self.refuse(513, "Message Too Large"));
            };
            match content_length(self.rest().get(..head).unwrap_or_default()) {
                Ok(body) if head + body <= MAX_MESSAGE_BYTES => self.length = Some(head + body),
                Ok(_) => return Some(self.refuse(513, "Message Too Large")),
                Err(reason) => return Some(self.refuse(400, reason)),
            }
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.buffer.len());
        self.scanned = self.start;
        self.length = None;
        self.judged = false;
    }

    fn refuse(&mut self, status: u16, reason: &'static str) -> Frame {
        self.closed = true;
        let end = self.head_length().unwrap_or(self.waiting()).min(MAX_MESSAGE_BYTES);
        Frame::Refused { head: self.rest().get(..end).unwrap_or_default().to_vec(), status, reason }
    }

    /// Looks at what stands where a message should begin.
    fn begin(&mut self) -> Begin {
        match self.rest() {
            [] | [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return Begin::More,
            [b'\r', b'\n', b'\r', b'\n', ..] => {
                self.skip(4);
                return Begin::Ping;
            }
            [b'\r', b'\n', ..] => {
                self.skip(2);
                return Begin::Again;
            }
            [b'\r' | b'\n', ..] => {
                self.skip(1);
                return Begin::Again;
            }
            _ => {}
        }
        let rest = self.rest();
        let Some(end) = rest.iter().take(MAX_START_LINE).position(|&b| b == b'\n') else {
            return if rest.len() >= MAX_START_LINE { Begin::Garbage } else { Begin::More };
        };
        if is_start_line(rest.get(..end).unwrap_or_default()) {
            return Begin::Message;
        }
        self.garbage += end + 1;
        self.skip(end + 1);
        if self.garbage > MAX_GARBAGE { Begin::Garbage } else { Begin::Again }
    }

    /// Bytes up to and with the empty line behind the headers.
    fn head_length(&mut self) -> Option<usize> {
        // An empty line may have begun in what was looked at before.
        let from = self.scanned.saturating_sub(3).max(self.start);
        let unseen = self.buffer.get(from..).unwrap_or_default();
        for (at, _) in unseen.iter().enumerate().filter(|(_, b)| **b == b'\n') {
            let end = match unseen.get(at + 1..) {
                Some([b'\n', ..]) => at + 2,
                Some([b'\r', b'\n', ..]) => at + 3,
                _ => continue,
            };
            return Some(from + end - self.start);
        }
        self.scanned = self.buffer.len();
        None
    }
}

enum Begin {
    More,
    Again,
    Ping,
    Garbage,
    Message,
}

/// Whether a message of SIP may begin so: `token SP something SP SIP/…`, or `SIP/…`.
fn is_start_line(line: &[u8]) -> bool {
    let is_version = |v: &[u8]| v.get(..4).is_some_and(|v| v.eq_ignore_ascii_case(b"SIP/"));
    let line = trim(line);
    if is_version(line) {
        return true;
    }
    let mut parts = line.split(|b| *b == b' ');
    let method = parts.next().unwrap_or_default();
    is_token(method) && parts.next_back().is_some_and(is_version)
}

/// The one Content-Length of a head.
fn content_length(head: &[u8]) -> Result<usize, &'static str> {
    let mut found: Option<usize> = None;
    let mut lines = head.split(|b| *b == b'\n').skip(1).peekable();
    while let Some(line) = lines.next() {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let name = trim(line.get(..colon).unwrap_or_default());
        let ours = name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"l");
        if !ours || line.first().is_some_and(|b| is_lws(*b)) {
            continue;
        }
        let mut value = line.get(colon + 1..).unwrap_or_default().to_vec();
        while let Some(fold) = lines.next_if(|l| matches!(l.first(), Some(b' ' | b'\t'))) {
            value.extend_from_slice(fold);
        }
        let length = number(trim(&value)).ok_or("Bad Content-Length")? as usize;
        if found.is_some_and(|known| known != length) {
            return Err("Different Content-Lengths");
        }
        found = Some(length);
    }
    found.ok_or("Missing Content-Length")
}

/// The response to a [`Frame::Refused`] that came from `source`; `None` for responses, ACKs and what has no Via.
#[must_use]
pub fn refusal(head: &[u8], source: SocketAddr, status: u16, reason: &str, tag: &str) -> Option<Vec<u8>> {
    let request = Message::parse(head).ok().filter(Message::is_request)?;
    if request.method() == Some(Method::Ack) || request.top_via().is_err() {
        return None;
    }
    let mut out = Vec::with_capacity(512);
    let mut response = Response::new(&request, status, reason);
    response.to_tag(tag).stamp_via(ViaStamp::forced(source));
    response.write(&mut out);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "v=0\r\n\r\nINVITE sip:x SIP/2.0\r\n";

    fn request(extra: &str, body: &str) -> String {
        format!("INVITE sip:bob@lab.test SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\n{extra}\r\n{body}")
    }

    fn whole() -> String {
        request(&format!("Content-Length: {}\r\n", BODY.len()), BODY)
    }

    fn frames(framer: &mut Framer) -> Vec<Frame> {
        std::iter::from_fn(|| framer.next()).collect()
    }

    fn all(bytes: &[u8]) -> Vec<Frame> {
        let mut framer = Framer::new();
        framer.push(bytes);
        frames(&mut framer)
    }

    #[test]
    fn a_message_is_found_wherever_the_stream_is_cut_rfc3261_18_3() {
        let text = format!("{}{}", whole(), whole());
        let want = vec![Frame::Message(whole().into_bytes()); 2];
        for cut in 0..=text.len() {
            let mut framer = Framer::new();
            framer.push(&text.as_bytes()[..cut]);
            let mut got = frames(&mut framer);
            framer.push(&text.as_bytes()[cut..]);
            got.extend(frames(&mut framer));
            assert_eq!(got, want, "cut at {cut}");
            assert_eq!(framer.waiting(), 0);
        }
    }

    #[test]
    fn bytes_one_by_one_give_the_same_messages_and_keepalives() {
        let text = format!("\r\n\r\n{}\r\n{}\r\n\r\n", whole(), whole());
        let mut framer = Framer::new();
        let mut got = Vec::new();
        for byte in text.as_bytes() {
            framer.push(&[*byte]);
            got.extend(frames(&mut framer));
        }
        let message = Frame::Message(whole().into_bytes());
        assert_eq!(got, [Frame::Ping, message.clone(), message, Frame::Ping]);
        assert!(!framer.is_within_message());
    }

    #[test]
    fn compact_folded_and_repeated_equal_lengths_are_read() {
        for extra in ["l: 0\r\n", "CONTENT-LENGTH :\r\n 0\r\n", "Content-Length: 0\r\nl:0\r\n"] {
            let text = request(extra, "");
            assert_eq!(all(text.as_bytes()), [Frame::Message(text.clone().into_bytes())], "{extra:?}");
        }
        let text = request("l: 0\r\n", "").replace("\r\n", "\n");
        assert_eq!(all(text.as_bytes()), [Frame::Message(text.into_bytes())]);
    }

    #[test]
    fn a_head_without_a_usable_length_is_refused_and_nothing_after_it_is_read() {
        for (extra, reason) in [
            ("", "Missing Content-Length"),
            ("Content-Length: -999\r\n", "Bad Content-Length"),
            ("Content-Length: 0, 0\r\n", "Bad Content-Length"),
            ("Content-Length: 99999999999999999999\r\n", "Bad Content-Length"),
            ("Content-Length: 0\r\nl: 5\r\n", "Different Content-Lengths"),
            ("Subject: x\r\n Content-Length: 0\r\n", "Missing Content-Length"),
        ] {
            let got = all(format!("{}{}", request(extra, ""), whole()).as_bytes());
            let [Frame::Refused { head, status: 400, reason: said }] = got.as_slice() else {
                panic!("{extra:?}: {got:?}")
            };
            assert_eq!((*said, head.as_slice()), (reason, request(extra, "").as_bytes()));
        }
    }

    #[test]
    fn a_message_beyond_the_bound_is_refused_before_its_body_has_come() {
        let text = request("Content-Length: 65536\r\n", "");
        assert!(matches!(all(text.as_bytes()).as_slice(), [Frame::Refused { status: 513, .. }]));
        let endless = request(&"X: y\r\n".repeat(20_000), "");
        assert!(matches!(all(endless.as_bytes()).as_slice(), [Frame::Refused { status: 513, .. }]));
    }

    #[test]
    fn garbage_is_skipped_to_the_next_message_and_ends_the_stream_when_it_does_not_end() {
        let text = format!("GET / HTTP/1.1\r\nHost: x\r\n\r\n{}", whole());
        let got = all(text.as_bytes());
        assert_eq!(got.last(), Some(&Frame::Message(whole().into_bytes())), "{got:?}");
        assert_eq!(all("x\r\n".repeat(5000).as_bytes()), [Frame::Garbage]);
        assert_eq!(all(&[0x16; 9000]), [Frame::Garbage]);
        assert_eq!(all(b"\x16\x03\x01 not yet a line"), []);
    }

    #[test]
    fn the_refusal_answers_requests_and_nothing_else() {
        let source = SocketAddr::from(([192, 0, 2, 1], 4711));
        let text = refusal(request("", "").as_bytes(), source, 400, "Missing Content-Length", "t");
        let text = String::from_utf8(text.expect("a response")).expect("text");
        assert!(text.starts_with("SIP/2.0 400 Missing Content-Length\r\nVia: SIP/2.0/TCP h;"), "{text}");
        assert!(text.contains(";received=192.0.2.1;rport=4711"), "{text}");
        let ack = request("", "").replace("INVITE", "ACK");
        assert_eq!(refusal(ack.as_bytes(), source, 400, "", "t"), None);
        assert_eq!(refusal(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP h\r\n\r\n", source, 400, "", "t"), None);
    }
}
