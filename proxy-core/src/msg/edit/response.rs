//! Responses to a request, RFC 3261 §8.2.6.

use super::{Edits, NewLine, Text, ViaStamp, end_line};
use crate::msg::inline::Inline;
use crate::msg::scan::push_number;
use crate::msg::{HeaderName, Message};

/// Extra header lines that need no allocation.
const INLINE_EXTRA: usize = 8;

/// Builds a response: Via lines, From, To, Call-ID, CSeq (and Timestamp in a 100) are copied from the request as far as
/// it has them, so that a broken request can be answered, too.
#[derive(Debug, Clone)]
pub struct Response<'m, 'a, 'e> {
    request: &'m Message<'a>,
    status: u16,
    reason: &'e str,
    to_tag: Option<&'e str>,
    stamp: ViaStamp,
    record_route: bool,
    extra: Inline<NewLine<'e>, INLINE_EXTRA>,
    body: &'e [u8],
}

impl<'m, 'a, 'e> Response<'m, 'a, 'e> {
    /// Starts a response; an empty `reason` takes the usual phrase of the status.
    pub fn new(request: &'m Message<'a>, status: u16, reason: &'e str) -> Self {
        let reason = if reason.is_empty() { reason_phrase(status) } else { reason };
        Self {
            request,
            status,
            reason,
            to_tag: None,
            stamp: ViaStamp::default(),
            record_route: false,
            extra: Inline::new(),
            body: &[],
        }
    }

    /// Tag for To, used if the request has none there. Needed for everything but a 100.
    pub fn to_tag(&mut self, tag: &'e str) -> &mut Self {
        self.to_tag = Some(tag);
        self
    }

    /// Writes `received` and `rport` on the topmost Via.
    pub fn stamp_via(&mut self, stamp: ViaStamp) -> &mut Self {
        self.stamp = stamp;
        self
    }

    /// Copies Record-Route, too: due in a response that makes a dialog (§12.1.1).
    pub fn copy_record_route(&mut self) -> &mut Self {
        self.record_route = true;
        self
    }

    /// Adds a header line.
    pub fn header(&mut self, name: &'e str, value: &'e str) -> &mut Self {
        self.extra.push(NewLine { name, value: Text::Bytes(value.as_bytes()) });
        self
    }

    /// Adds a header line with a number (Retry-After, Min-Expires, …).
    pub fn header_number(&mut self, name: &'e str, value: u32) -> &mut Self {
        self.extra.push(NewLine { name, value: Text::Number(value) });
        self
    }

    /// Gives the response a body.
    pub fn body(&mut self, content_type: &'e str, body: &'e [u8]) -> &mut Self {
        self.body = body;
        self.header("Content-Type", content_type)
    }

    /// Writes the response at the end of `out`, which is not cleared.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"SIP/2.0 ");
        push_number(out, self.status.into());
        out.push(b' ');
        out.extend_from_slice(self.reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        let mut edits = Edits::new();
        self.stamp.edit(self.request, &mut edits);
        if let Some(tag) = self.to_tag
            && let Some((_, to)) = self.request.first_slot(HeaderName::To)
            && self.request.to_tag().is_none()
        {
            let end = usize::from(to.value_end);
            edits.replace(end, end, Text::Tag(tag));
        }
        let raw = self.request.raw;
        let mut seen_single = [false; HeaderName::COUNT];
        for slot in self.request.slots.iter() {
            let due = match slot.name {
                HeaderName::Via => true,
                // A repeated one was refused; the answer holds the first.
                HeaderName::From | HeaderName::To | HeaderName::CallId | HeaderName::CSeq => {
                    seen_single.get_mut(slot.name as usize).is_some_and(|s| !std::mem::replace(s, true))
                }
                HeaderName::Timestamp => self.status == 100,
                HeaderName::RecordRoute => self.record_route,
                _ => false,
            };
            if due {
                edits.copy(raw, slot.start.into(), slot.end.into(), out);
                end_line(out);
            }
        }
        self.extra.iter().for_each(|line| line.write(out));
        out.extend_from_slice(b"Content-Length: ");
        push_number(out, u32::try_from(self.body.len()).unwrap_or(u32::MAX));
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(self.body);
    }
}

/// The usual reason phrase of a status code (RFC 3261 §21 and the IANA registry); of an unknown one that of its class.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        199 => "Early Dialog Terminated",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Conditional Request Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        417 => "Unknown Resource-Priority",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        424 => "Bad Location Information",
        425 => "Bad Alert Message",
        428 => "Use Identity Header",
        429 => "Provide Referrer Identity",
        430 => "Flow Failed",
        433 => "Anonymity Disallowed",
        436 => "Bad Identity Info",
        437 => "Unsupported Credential",
        438 => "Invalid Identity Header",
        439 => "First Hop Lacks Outbound Support",
        440 => "Max-Breadth Exceeded",
        469 => "Bad Info Package",
        470 => "Consent Needed",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        494 => "Security Agreement Required",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        555 => "Push Notification Service Not Supported",
        580 => "Precondition Failure",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        608 => "Rejected",
        _ => match status / 100 {
            1 => "Progress",
            2 => "Success",
            3 => "Redirection",
            4 => "Client Error",
            5 => "Server Error",
            _ => "Global Failure",
        },
    }
}
