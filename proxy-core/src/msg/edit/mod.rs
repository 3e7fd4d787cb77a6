//! Writing messages: forwarding with edits, responses, and the requests a transaction makes by itself.

mod derive;
mod forward;
mod response;
mod stamp;

pub use derive::{build_ack_for_failure, build_cancel};
pub use forward::Forward;
pub use response::{Response, reason_phrase};
pub use stamp::ViaStamp;

use super::Message;
use super::inline::Inline;
use super::scan::push_number;

/// Edits that need no allocation.
const INLINE_EDITS: usize = 16;

/// What takes the place of an edited range.
#[derive(Debug, Clone, Copy, Default)]
enum Text<'e> {
    /// Nothing: the range goes.
    #[default]
    Nothing,
    /// These bytes.
    Bytes(&'e [u8]),
    /// A decimal number.
    Number(u32),
    /// A To tag with its semicolon.
    Tag(&'e str),
    /// Via parameters, RFC 3581.
    Stamp(ViaStamp),
}

impl Text<'_> {
    fn write(self, out: &mut Vec<u8>) {
        match self {
            Text::Nothing => {}
            Text::Bytes(bytes) => out.extend_from_slice(bytes),
            Text::Number(n) => push_number(out, n),
            Text::Tag(tag) => {
                out.extend_from_slice(b";tag=");
                out.extend_from_slice(tag.as_bytes());
            }
            Text::Stamp(stamp) => stamp.write(out),
        }
    }
}

/// A header line that is added.
#[derive(Debug, Clone, Copy, Default)]
struct NewLine<'e> {
    name: &'e str,
    value: Text<'e>,
}

impl NewLine<'_> {
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(b": ");
        self.value.write(out);
        out.extend_from_slice(b"\r\n");
    }
}

/// Bytes `start..end` of the message are replaced.
#[derive(Debug, Clone, Copy, Default)]
struct Edit<'e> {
    start: usize,
    end: usize,
    text: Text<'e>,
}

/// A bounded set of edits, applied in the order of their places.
#[derive(Debug, Clone)]
struct Edits<'e> {
    list: Inline<Edit<'e>, INLINE_EDITS>,
}

impl<'e> Edits<'e> {
    fn new() -> Self {
        Self { list: Inline::new() }
    }

    fn replace(&mut self, start: usize, end: usize, text: Text<'e>) {
        self.list.push(Edit { start, end, text });
    }

    fn remove(&mut self, start: usize, end: usize) {
        self.replace(start, end, Text::Nothing);
    }

    /// Copies `raw[from..to]` with the edits that lie in it. Where ranges overlap, the first one writes its text.
    fn copy(&mut self, raw: &[u8], from: usize, to: usize, out: &mut Vec<u8>) {
        self.list.sort_by_key(|e| (e.start, e.end));
        let mut at = from;
        for edit in self.list.iter() {
            if edit.start < from || edit.end > to || (edit.start < at && edit.end <= at) {
                continue;
            }
            if edit.start >= at {
                out.extend_from_slice(raw.get(at..edit.start).unwrap_or_default());
                edit.text.write(out);
            }
            at = edit.end;
        }
        out.extend_from_slice(raw.get(at..to).unwrap_or_default());
    }
}

/// Ends the line that was copied last, should the datagram have ended without doing so.
fn end_line(out: &mut Vec<u8>) {
    if out.last() != Some(&b'\n') {
        out.extend_from_slice(b"\r\n");
    }
}

/// Position in the message of a slice borrowed from it.
fn place(message: &Message<'_>, part: &[u8]) -> usize {
    super::scan::offset_in(message.raw, part)
}
