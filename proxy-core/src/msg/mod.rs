//! The message layer: bytes in, borrowed views out, and edited bytes back.
//!
//! [`Message::parse`] walks a datagram once and remembers where each header lies; nothing is copied and, for
//! messages of up to [`INLINE_HEADERS`] headers, nothing is allocated. Typed views ([`Via`], [`NameAddr`],
//! [`CSeq`], [`Uri`]) are made on demand and borrow from the datagram. [`Forward`], [`Response`],
//! [`build_cancel`] and [`build_ack_for_failure`] write new messages into a buffer that the caller reuses; bytes
//! that nobody asked to change are copied as they came.
//!
//! Judging is separate from reading: `parse` fails only for what is no SIP message at all, and
//! [`Message::check_request`] / [`Message::check_response`] say what RFC 3261 and RFC 4475 hold against it,
//! so that a broken request can still be answered.

mod bare;
mod call_id;
mod check;
mod content;
mod edit;
mod error;
mod fingerprint;
pub mod frame;
mod header;
mod inline;
mod iter;
mod method;
mod name;
mod owned;
mod params;
mod parse;
pub(crate) mod scan;
mod uri;
mod view;

pub use bare::bare_refusal;
pub use call_id::call_id_of;
pub use edit::{Forward, Response, ViaStamp, build_ack_for_failure, build_cancel, reason_phrase};
pub use error::{Fault, ParseError, Refusal};
pub use fingerprint::fingerprint_of;
pub use header::{CSeq, NameAddr, Transport, Via};
pub use iter::{HeaderLine, HeaderLines, ListItems, Values};
pub use method::Method;
pub use name::HeaderName;
pub use owned::SharedMessage;
pub use params::{Param, Params};
pub use parse::{Message, StartLine};
pub use uri::{Host, Scheme, Uri};

/// Longest message that is read, in bytes: what a UDP datagram can carry. Offsets are kept in 16 bits.
pub const MAX_MESSAGE_BYTES: usize = 65_535;
/// Most header lines (folded lines count once) in a message; more is an error, so that work per datagram is
/// bounded.
pub const MAX_HEADERS: usize = 256;
/// Header lines that need no allocation; a longer message costs one growing vector.
pub const INLINE_HEADERS: usize = 32;
/// Most parameters of a Via, From, To or URI that are looked at: each look-up walks over all of them.
pub const MAX_PARAMS: usize = 64;
/// Largest CSeq number, RFC 3261 §8.1.1.5.
pub const MAX_CSEQ: u32 = (1 << 31) - 1;
/// Max-Forwards that a message built here starts with, RFC 3261 §8.1.1.6.
pub const DEFAULT_MAX_FORWARDS: u8 = 70;
