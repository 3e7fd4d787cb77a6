//! The verdict on a message that could be read: RFC 3261 §16.3 and §8.2, after the cases of RFC 4475.
//!
//! Only what a proxy or registrar relies on is judged. Headers that it merely passes on may hold anything.
//!
//! | judged | refusal |
//! |---|---|
//! | version | 505 |
//! | Request-URI: readable, no headers; scheme sip, sips or tel | 400; 416 |
//! | header lines, end of headers, Content-Length | 400 |
//! | Via, From, To, Call-ID, CSeq present and readable; single ones once | 400 |
//! | CSeq below 2^31 and of the request's method; Max-Forwards, Expires in range | 400 |
//! | Route, Record-Route; Contact of a REGISTER | 400 |
//!
//! Max-Forwards 0 (483) and Proxy-Require (420) are not faults of the message and left to the route.

use super::{Fault, HeaderName, Message, Method, Refusal, Scheme, StartLine, Uri};

impl Message<'_> {
    /// Judges a request.
    ///
    /// # Errors
    /// [`Refusal`] with the first fault found, and whether it may be answered. A response gets
    /// [`Fault::StartLine`], to be dropped.
    pub fn check_request(&self) -> Result<(), Refusal> {
        let StartLine::Request { method, .. } = self.start else {
            return Err(Refusal { fault: Fault::StartLine, answer: false });
        };
        self.request_fault(method).map_err(|fault| Refusal {
            fault,
            // An ACK is never answered (§17.1.1.3); without a Via nobody knows where to.
            answer: method != Method::Ack && self.top_via().is_ok(),
        })
    }

    /// Judges a response; a faulty one is dropped (§18.1.2, RFC 4475 §3.1.2.5).
    ///
    /// # Errors
    /// [`Refusal`] with the first fault found, never to be answered.
    pub fn check_response(&self) -> Result<(), Refusal> {
        let drop = |fault| Refusal { fault, answer: false };
        if self.is_request() {
            return Err(drop(Fault::StartLine));
        }
        self.common_fault().map_err(drop)?;
        self.cseq().map(drop_value).map_err(drop)
    }

    fn request_fault(&self, method: Method<'_>) -> Result<(), Fault> {
        // A message of another version is not judged by the rules of this one.
        if self.fault == Some(Fault::Version) {
            return Err(Fault::Version);
        }
        self.common_fault()?;
        let cseq = self.cseq()?;
        if cseq.method != method {
            return Err(Fault::CSeqMethod);
        }
        let uri = self.request_uri()?;
        if matches!(uri.scheme, Scheme::Other(_)) {
            return Err(Fault::Scheme);
        }
        if uri.headers.is_some() {
            return Err(Fault::RequestUri);
        }
        self.max_forwards()?;
        self.expires()?;
        for route in self.routes() {
            route?.parse_uri().map_err(|_| Fault::Bad(HeaderName::Route))?;
        }
        for route in self.record_routes() {
            route?;
        }
        if method == Method::Register {
            for contact in self.contacts() {
                contact.and_then(|c| c.parse_uri()).map_err(|_| Fault::Bad(HeaderName::Contact))?;
            }
        }
        Ok(())
    }

    /// What requests and responses have in common.
    fn common_fault(&self) -> Result<(), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let mut seen = [false; HeaderName::COUNT];
        for line in self.slots.iter() {
            let Some(before) = seen.get_mut(line.name as usize) else { continue };
            if *before && line.name.is_single() {
                return Err(Fault::Repeated(line.name));
            }
            *before = true;
        }
        let via = self.top_via()?;
        if via.version != "2.0" || !via.params.is_well_formed() {
            return Err(Fault::Bad(HeaderName::Via));
        }
        for (name, value) in [(HeaderName::From, self.from()?), (HeaderName::To, self.to()?)] {
            let readable = Uri::parse(value.uri).is_ok();
            if !readable || !value.params.is_well_formed() {
                return Err(Fault::Bad(name));
            }
        }
        if !self.has(HeaderName::CallId) {
            return Err(Fault::Missing(HeaderName::CallId));
        }
        if !self.call_id_is_word() {
            return Err(Fault::Bad(HeaderName::CallId));
        }
        Ok(())
    }
}

fn drop_value<T>(_: T) {}
