//! A phone for the last millisecond: sends one request exactly when told, never repeats it, answers what it must.
//!
//! Requests are built with rsip.

use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rsip::headers::{
    CSeq, CallId, Contact, ContentLength, Expires, From as FromHeader, MaxForwards, To, UntypedHeader, Via,
};
use rsip::{Headers, Method, Request, Uri, Version};

use crate::lab::config::DOMAIN;
use crate::lab::state::LabState;
use crate::lab::{net, ns};

/// Longest datagram.
const DATAGRAM_MAX: usize = 65_535;

/// Time between two looks at the socket.
const LOOK_EVERY: Duration = Duration::from_micros(50);

/// A UDP phone.
#[derive(Debug)]
pub struct Tiny {
    socket: UdpSocket,
    port: u16,
    run: u32,
    vip: String,
}

/// A message that arrived.
#[derive(Debug, Clone)]
pub struct Message {
    /// The whole text.
    pub text: String,
    /// Status of a response; 0 for a request.
    pub status: u16,
    /// Method of a request, of the CSeq for a response.
    pub method: String,
    /// Call-ID.
    pub call_id: String,
}

impl Message {
    fn read(text: String) -> Option<Message> {
        let first = text.lines().next()?;
        let status = first.strip_prefix("SIP/2.0 ").map(|l| l.get(..3).and_then(|s| s.parse().ok()));
        let cseq_method = header(&text, "CSeq")?.split_whitespace().nth(1)?.to_owned();
        let (status, method) = match status {
            Some(status) => (status?, cseq_method),
            None => (0, first.split(' ').next()?.to_owned()),
        };
        let call_id = header(&text, "Call-ID")?.to_owned();
        Some(Message { status, method, call_id, text })
    }
}

/// The first value of a header.
#[must_use]
pub fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().take_while(|l| !l.is_empty()).find_map(|l| {
        let (n, v) = l.split_once(':')?;
        n.trim().eq_ignore_ascii_case(name).then(|| v.trim())
    })
}

fn all_headers<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines()
        .take_while(|l| !l.is_empty())
        .filter(move |l| l.split_once(':').is_some_and(|(n, _)| n.trim().eq_ignore_ascii_case(name)))
}

impl Tiny {
    /// A phone on its own port of the client namespace.
    ///
    /// # Errors
    /// The port is taken.
    pub fn open(lab: &LabState, port: u16) -> io::Result<Tiny> {
        let socket = ns::inside(lab.client, || UdpSocket::bind((net::CLIENT4, port)))??;
        let vip = format!("{}:{}", net::VIP4, lab.sip_port);
        socket.set_nonblocking(true)?;
        Ok(Tiny { socket, port, run: rand::random(), vip })
    }

    fn request(&self, method: Method, uri: &str, user: &str, cseq: u32) -> io::Result<Request> {
        let Tiny { port, run, .. } = self;
        let own = net::CLIENT4;
        let mut headers = Headers::default();
        let id = format!("{run:08x}-{user}-{method}");
        headers.push(Via::new(format!("SIP/2.0/UDP {own}:{port};branch=z9hG4bK-{id}-{cseq};rport")).into());
        headers.push(MaxForwards::new("70").into());
        headers.push(FromHeader::new(format!("<sip:tiny@{DOMAIN}>;tag={run:08x}{cseq}")).into());
        let to =
            if method == Method::Register { format!("<sip:{user}@{DOMAIN}>") } else { format!("<{uri}>") };
        headers.push(To::new(to).into());
        headers.push(CallId::new(id).into());
        headers.push(CSeq::new(format!("{cseq} {method}")).into());
        headers.push(Contact::new(format!("<sip:{user}@{own}:{port}>")).into());
        if method == Method::Register {
            headers.push(Expires::new("3600").into());
        }
        headers.push(ContentLength::new("0").into());
        let uri = Uri::try_from(uri).map_err(|e| io::Error::other(e.to_string()))?;
        Ok(Request { method, uri, version: Version::V2, headers, body: Vec::new() })
    }

    fn send(&self, request: &Request) -> io::Result<()> {
        self.socket.send_to(request.to_string().as_bytes(), &self.vip).map(drop)
    }

    /// Sends a REGISTER for `user`, once.
    ///
    /// # Errors
    /// The socket refuses.
    pub fn register(&self, user: &str) -> io::Result<()> {
        self.send(&self.request(Method::Register, &format!("sip:{DOMAIN}"), user, 1)?)
    }

    /// Sends an INVITE to `user`, once.
    ///
    /// # Errors
    /// The socket refuses.
    pub fn invite(&self, user: &str) -> io::Result<()> {
        self.send(&self.request(Method::Invite, &format!("sip:{user}@{DOMAIN}"), user, 1)?)
    }

    /// Sends an OPTIONS to `user`, once; `cseq` tells a second try from the first.
    ///
    /// # Errors
    /// The socket refuses.
    pub fn options(&self, user: &str, cseq: u32) -> io::Result<()> {
        self.send(&self.request(Method::Options, &format!("sip:{user}@{DOMAIN}"), user, cseq)?)
    }

    /// After a 200 to the INVITE: its ACK, and the BYE that ends the call.
    ///
    /// # Errors
    /// The answer lacks a Contact, or the socket refuses.
    pub fn acknowledge(&self, answer: &Message, method: Method, cseq: u32) -> io::Result<()> {
        let contact = header(&answer.text, "Contact").unwrap_or_default();
        let target = contact.split(['<', '>']).nth(1).unwrap_or(contact);
        let mut request = self.request(method, target, "x", cseq)?;
        let keep = |name: &str| header(&answer.text, name).unwrap_or_default().to_owned();
        request.headers.retain(|h| {
            !matches!(
                h,
                rsip::Header::From(_) | rsip::Header::To(_) | rsip::Header::CallId(_) | rsip::Header::CSeq(_)
            )
        });
        request.headers.push(FromHeader::new(keep("From")).into());
        request.headers.push(To::new(keep("To")).into());
        request.headers.push(CallId::new(keep("Call-ID")).into());
        request.headers.push(CSeq::new(format!("{cseq} {method}")).into());
        // RFC 3261 §12.1.2: the caller's route set is the Record-Route in reverse order.
        let mut routes: Vec<String> = all_headers(&answer.text, "Record-Route")
            .filter_map(|l| l.split_once(':').map(|(_, v)| v.trim().to_owned()))
            .collect();
        routes.reverse();
        for route in routes {
            request.headers.push(rsip::Header::Route(rsip::headers::Route::new(route)));
        }
        self.send(&request)
    }

    /// The next message, or `None` after `within`.
    ///
    /// Looks again and again instead of blocking: a socket's timeout is rounded up to the kernel's tick (4 ms), which
    /// is longer than the moments this phone is made for.
    ///
    /// # Errors
    /// The socket failed.
    pub fn next(&self, within: Duration) -> io::Result<Option<Message>> {
        let end = Instant::now() + within;
        let mut buffer = vec![0u8; DATAGRAM_MAX];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((n, _)) => {
                    if let Some(message) = Message::read(String::from_utf8_lossy(&buffer[..n]).into_owned()) {
                        return Ok(Some(message));
                    }
                }
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
                Err(_) if Instant::now() >= end => return Ok(None),
                Err(_) => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    /// Answers a request with 200.
    ///
    /// # Errors
    /// The socket refuses.
    pub fn answer(&self, request: &Message) -> io::Result<()> {
        let mut text = "SIP/2.0 200 OK\r\n".to_owned();
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            for line in all_headers(&request.text, name) {
                text += line;
                if name == "To" && !line.contains(";tag=") {
                    text += ";tag=tiny";
                }
                text += "\r\n";
            }
        }
        text += "Content-Length: 0\r\n\r\n";
        self.socket.send_to(text.as_bytes(), &self.vip).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_read_with_its_status_and_the_method_it_answers() {
        let text = "SIP/2.0 100 Trying\r\nVia: a\r\nCall-ID: x1\r\nCSeq: 1 INVITE\r\n\r\n".to_owned();
        let m = Message::read(text).expect("a message");
        assert_eq!((m.status, m.method.as_str(), m.call_id.as_str()), (100, "INVITE", "x1"));
    }

    #[test]
    fn a_request_is_read_with_status_zero_and_garbage_is_not_read() {
        let text = "OPTIONS sip:a SIP/2.0\r\nCall-ID: x1\r\nCSeq: 1 OPTIONS\r\n\r\n".to_owned();
        assert_eq!(Message::read(text).map(|m| (m.status, m.method)), Some((0, "OPTIONS".to_owned())));
        assert!(Message::read("\r\n\r\n".to_owned()).is_none());
    }
}
