//! What can be wrong with a message, and what is to be done about it.

use super::HeaderName;
use thiserror::Error;

/// Why a datagram is no message at all. There is nothing to answer to: drop and count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ParseError {
    /// Nothing but line ends: a keepalive (RFC 5626 §3.5.1) or an empty datagram.
    #[error("nothing but line ends")]
    Keepalive,
    /// Longer than [`super::MAX_MESSAGE_BYTES`].
    #[error("message of {0} bytes is too long")]
    TooLong(usize),
    /// More than [`super::MAX_HEADERS`] header lines.
    #[error("too many header lines")]
    TooManyHeaders,
    /// The first line is neither a request line nor a status line.
    #[error("not a SIP message")]
    NotSip,
}

/// What RFC 3261 holds against a message that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Fault {
    /// The request line has stray white space or an impossible method (RFC 4475 §3.1.2.8, §3.1.2.9).
    #[error("malformed start line")]
    StartLine,
    /// Another version than SIP/2.0.
    #[error("version not supported")]
    Version,
    /// The Request-URI cannot be read, or carries headers, which §19.1.1 forbids there.
    #[error("malformed Request-URI")]
    RequestUri,
    /// The Request-URI has a scheme other than sip, sips and tel.
    #[error("unsupported URI scheme")]
    Scheme,
    /// A URI elsewhere cannot be read.
    #[error("malformed URI")]
    Uri,
    /// A line among the headers that is no header.
    #[error("malformed header line")]
    HeaderLine,
    /// The datagram ends before the empty line.
    #[error("no empty line after the headers")]
    Truncated,
    /// Content-Length promises more than has come.
    #[error("Content-Length exceeds the message")]
    BodyTooShort,
    /// A mandatory header is missing.
    #[error("missing {}", .0.as_str())]
    Missing(HeaderName),
    /// A header that may occur once occurs again.
    #[error("repeated {}", .0.as_str())]
    Repeated(HeaderName),
    /// A header whose value cannot be read or is out of range.
    #[error("malformed {}", .0.as_str())]
    Bad(HeaderName),
    /// The method in CSeq is not that of the request line (§8.1.1.5).
    #[error("CSeq method mismatch")]
    CSeqMethod,
    /// A status code outside 100..=699.
    #[error("status code out of range")]
    StatusCode,
}

impl Fault {
    /// Status code that answers a request with this fault.
    pub fn status(self) -> u16 {
        match self {
            Fault::Version => 505,
            Fault::Scheme => 416,
            _ => 400,
        }
    }

    /// Reason phrase that goes with [`Fault::status`], naming the fault.
    pub fn reason(self) -> &'static str {
        match self {
            Fault::StartLine => "Malformed Request Line",
            Fault::Version => "Version Not Supported",
            Fault::RequestUri => "Malformed Request-URI",
            Fault::Scheme => "Unsupported URI Scheme",
            Fault::Uri => "Malformed URI",
            Fault::HeaderLine => "Malformed Header",
            Fault::Truncated => "Incomplete Headers",
            Fault::BodyTooShort => "Content-Length Exceeds Message",
            Fault::CSeqMethod => "CSeq Method Mismatch",
            Fault::StatusCode => "Bad Status Code",
            Fault::Missing(name) => match name {
                HeaderName::Via => "Missing Via",
                HeaderName::From => "Missing From",
                HeaderName::To => "Missing To",
                HeaderName::CallId => "Missing Call-ID",
                HeaderName::CSeq => "Missing CSeq",
                _ => "Missing Header",
            },
            Fault::Repeated(_) => "Repeated Header",
            Fault::Bad(name) => match name {
                HeaderName::Via => "Bad Via",
                HeaderName::From => "Bad From",
                HeaderName::To => "Bad To",
                HeaderName::CallId => "Bad Call-ID",
                HeaderName::CSeq => "Bad CSeq",
                HeaderName::MaxForwards => "Bad Max-Forwards",
                HeaderName::ContentLength => "Bad Content-Length",
                HeaderName::Expires => "Bad Expires",
                HeaderName::Contact => "Bad Contact",
                HeaderName::Route => "Bad Route",
                HeaderName::RecordRoute => "Bad Record-Route",
                _ => "Bad Header",
            },
        }
    }
}

/// The verdict on a message that must not be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{fault}")]
pub struct Refusal {
    /// The first fault found.
    pub fault: Fault,
    /// Whether an answer can and may be sent. `false` means drop: it is a response, an ACK, or there is no Via that
    /// would say where to.
    pub answer: bool,
}
