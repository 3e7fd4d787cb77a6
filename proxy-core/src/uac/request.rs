//! Writes a request of our own (RFC 3261 §8.1.1).

use crate::msg::{DEFAULT_MAX_FORWARDS, Uri};

/// A request to be written. All values are taken as they are; line ends in them are left out, so that no value can
/// add a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnRequest {
    pub(crate) method: &'static str,
    /// Request-URI.
    pub(crate) uri: String,
    /// The From value with its tag.
    pub(crate) from: String,
    /// The To value, with a tag in a dialog.
    pub(crate) to: String,
    pub(crate) call_id: String,
    pub(crate) cseq: u32,
    /// What tells it from another one with the same names: in the branch, and nowhere else.
    pub(crate) thread: String,
    /// Route values, the first one topmost.
    pub(crate) routes: Vec<String>,
    /// Further header lines.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Content-Type and body.
    pub(crate) body: Option<(String, Vec<u8>)>,
}

impl OwnRequest {
    /// A request with From and To as `<uri>`, From with this tag.
    pub(crate) fn new(method: &'static str, uri: &str, from: &str, from_tag: &str, to: &str) -> Self {
        Self {
            method,
            uri: Uri::for_request_line(uri).into_owned(),
            from: format!("<{from}>;tag={from_tag}"),
            to: format!("<{to}>"),
            call_id: String::new(),
            cseq: 1,
            thread: String::new(),
            routes: Vec::new(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// Call-ID and CSeq number.
    pub(crate) fn numbered(mut self, call_id: &str, cseq: u32) -> Self {
        call_id.clone_into(&mut self.call_id);
        self.cseq = cseq;
        self
    }

    /// Told from others with the same names by this.
    pub(crate) fn on_thread(mut self, thread: impl Into<String>) -> Self {
        self.thread = thread.into();
        self
    }

    /// One more header line.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The whole message, with `via` as its only Via.
    pub(crate) fn write(&self, via: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(512 + self.body.as_ref().map_or(0, |(_, b)| b.len()));
        out.extend_from_slice(self.method.as_bytes());
        out.push(b' ');
        value(&mut out, &self.uri);
        out.extend_from_slice(b" SIP/2.0\r\n");
        line(&mut out, "Via", via);
        self.routes.iter().for_each(|route| line(&mut out, "Route", route));
        line(&mut out, "Max-Forwards", &DEFAULT_MAX_FORWARDS.to_string());
        line(&mut out, "From", &self.from);
        line(&mut out, "To", &self.to);
        line(&mut out, "Call-ID", &self.call_id);
        line(&mut out, "CSeq", &format!("{} {}", self.cseq, self.method));
        self.headers.iter().for_each(|(name, text)| line(&mut out, name, text));
        let body: &[u8] = match &self.body {
            Some((content_type, body)) => {
                line(&mut out, "Content-Type", content_type);
                body
            }
            None => &[],
        };
        line(&mut out, "Content-Length", &body.len().to_string());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
        out
    }
}

fn line(out: &mut Vec<u8>, name: &str, text: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    value(out, text);
    out.extend_from_slice(b"\r\n");
}

fn value(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().filter(|b| !matches!(b, b'\r' | b'\n' | 0)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg::Message;

    #[test]
    fn a_request_of_our_own_passes_our_own_checks() {
        let request = OwnRequest::new("OPTIONS", "sip:a@192.0.2.1", "sip:me@h", "t1", "sip:a@192.0.2.1")
            .numbered("id1@h", 7)
            .header("Contact", "<sip:me@192.0.2.9>");
        let bytes = request.write("SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKx");
        let message = Message::parse(&bytes).expect("a message");
        assert_eq!(message.check_request(), Ok(()));
        assert_eq!(message.call_id(), Some("id1@h"));
        assert_eq!(message.cseq().map(|c| c.number), Ok(7));
        assert_eq!(message.from_tag(), Some("t1"));
        assert_eq!(message.body(), b"");
    }

    #[test]
    fn no_value_can_add_a_header_line() {
        let request = OwnRequest::new("OPTIONS", "sip:a@h\r\nX: y", "sip:me@h", "t", "sip:a@h")
            .numbered("id\r\nEvil: 1", 1);
        let bytes = request.write("SIP/2.0/UDP h;branch=z9hG4bKx");
        let message = Message::parse(&bytes).expect("a message");
        assert_eq!((message.header_named("Evil"), message.header_named("X")), (None, None));
    }
}
