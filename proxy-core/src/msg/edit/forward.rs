//! Forwarding: the message as it came, with a few places changed (RFC 3261 §16.6, §16.7).

use super::{Edits, NewLine, Text, ViaStamp, end_line, place};
use crate::msg::inline::Inline;
use crate::msg::iter::ListItems;
use crate::msg::{HeaderName, Message, StartLine};

/// Header lines at the top that need no allocation: Via, two Record-Route, a Path of four, Max-Forwards.
const INLINE_TOP: usize = 8;

/// Collects changes to a message and writes the result. Everything else is copied byte for byte; bytes behind the body
/// are left out. Change each thing once: of two changes to one place the first one holds.
#[derive(Debug, Clone)]
pub struct Forward<'m, 'a, 'e> {
    message: &'m Message<'a>,
    uri: Option<&'e str>,
    top: Inline<NewLine<'e>, INLINE_TOP>,
    tail: Inline<NewLine<'e>, INLINE_TOP>,
    edits: Edits<'e>,
    routes_from_front: usize,
    routes_from_back: usize,
    body: Option<&'e [u8]>,
}

impl<'m, 'a, 'e> Forward<'m, 'a, 'e> {
    /// Starts with no change.
    pub fn new(message: &'m Message<'a>) -> Self {
        Self {
            message,
            uri: None,
            top: Inline::new(),
            tail: Inline::new(),
            edits: Edits::new(),
            routes_from_front: 0,
            routes_from_back: 0,
            body: None,
        }
    }

    /// Puts another Request-URI into the request line. No effect on a response.
    pub fn request_uri(&mut self, uri: &'e str) -> &mut Self {
        self.uri = Some(uri);
        self
    }

    /// Puts a Via on top; `value` as in `SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx`.
    pub fn push_via(&mut self, value: &'e str) -> &mut Self {
        self.add_top("Via", value)
    }

    /// Takes the topmost Via value away, also from within a comma list (§16.7 step 3).
    pub fn pop_via(&mut self) -> &mut Self {
        self.keep_items(HeaderName::Via, 1, 0);
        self
    }

    /// Writes `received` and `rport` on the Via that was topmost on arrival.
    pub fn stamp_via(&mut self, stamp: ViaStamp) -> &mut Self {
        stamp.edit(self.message, &mut self.edits);
        self
    }

    /// Sets Max-Forwards; inserts it if there is none.
    pub fn max_forwards(&mut self, value: u8) -> &mut Self {
        let text = Text::Number(value.into());
        match self.message.first_slot(HeaderName::MaxForwards) {
            Some((_, slot)) => self.edits.replace(slot.value_start.into(), slot.value_end.into(), text),
            None => self.top.push(NewLine { name: "Max-Forwards", value: text }),
        }
        self
    }

    /// Takes one more Route value from the top: once for each of our own addresses found there (§16.4).
    pub fn remove_first_route(&mut self) -> &mut Self {
        self.routes_from_front += 1;
        self
    }

    /// Takes the last Route value, when a strict router has put our address into the Request-URI (§16.4).
    pub fn remove_last_route(&mut self) -> &mut Self {
        self.routes_from_back += 1;
        self
    }

    /// Puts a Record-Route above the others; several calls: the first one is topmost. `value` with its angle brackets.
    pub fn record_route(&mut self, value: &'e str) -> &mut Self {
        self.add_top("Record-Route", value)
    }

    /// Puts Route values (a Path, say) above the others; several calls: the first one is topmost.
    pub fn prepend_route(&mut self, value: &'e str) -> &mut Self {
        self.add_top("Route", value)
    }

    /// Puts a Route value below all others (§16.6 step 6, when the next hop is a strict router).
    pub fn append_route(&mut self, value: &'e str) -> &mut Self {
        self.add_header("Route", value)
    }

    /// Gives the header this value; removes repetitions, adds it if there is none. Compact and long names are one.
    pub fn set_header(&mut self, name: &'e str, value: &'e str) -> &mut Self {
        let mut text = Some(Text::Bytes(value.as_bytes()));
        self.each_line(name, |edits, slot| match text.take() {
            Some(text) => edits.replace(slot.value_start.into(), slot.value_end.into(), text),
            None => edits.remove(slot.start.into(), slot.end.into()),
        });
        if let Some(value) = text {
            self.tail.push(NewLine { name, value });
        }
        self
    }

    /// Adds a header line at the end.
    pub fn add_header(&mut self, name: &'e str, value: &'e str) -> &mut Self {
        self.tail.push(NewLine { name, value: Text::Bytes(value.as_bytes()) });
        self
    }

    /// Removes all lines of that header.
    pub fn remove_header(&mut self, name: &str) -> &mut Self {
        self.each_line(name, |edits, slot| edits.remove(slot.start.into(), slot.end.into()));
        self
    }

    /// Replaces the body and sets Content-Length to it.
    pub fn body(&mut self, body: &'e [u8]) -> &mut Self {
        let text = Text::Number(u32::try_from(body.len()).unwrap_or(u32::MAX));
        match self.message.first_slot(HeaderName::ContentLength) {
            Some((_, slot)) => self.edits.replace(slot.value_start.into(), slot.value_end.into(), text),
            None => self.tail.push(NewLine { name: "Content-Length", value: text }),
        }
        self.body = Some(body);
        self
    }

    /// Writes the message at the end of `out`, which is not cleared, so that it can be reused.
    pub fn write(&mut self, out: &mut Vec<u8>) {
        let raw = self.message.raw;
        if self.routes_from_front + self.routes_from_back > 0 {
            self.keep_items(HeaderName::Route, self.routes_from_front, self.routes_from_back);
            (self.routes_from_front, self.routes_from_back) = (0, 0);
        }
        match (self.uri, self.message.start) {
            (Some(uri), StartLine::Request { method, .. }) => {
                out.extend_from_slice(method.as_str().as_bytes());
                out.push(b' ');
                out.extend_from_slice(uri.as_bytes());
                out.extend_from_slice(b" SIP/2.0\r\n");
            }
            _ => out.extend_from_slice(raw.get(..self.message.head_start).unwrap_or_default()),
        }
        end_line(out);
        self.top.iter().for_each(|line| line.write(out));
        self.edits.copy(raw, self.message.head_start, self.message.head_end, out);
        end_line(out);
        self.tail.iter().for_each(|line| line.write(out));
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.body.unwrap_or(self.message.body));
    }

    fn add_top(&mut self, name: &'e str, value: &'e str) -> &mut Self {
        self.top.push(NewLine { name, value: Text::Bytes(value.as_bytes()) });
        self
    }

    /// Calls `f` for each line of the header `name`.
    fn each_line(&mut self, name: &str, mut f: impl FnMut(&mut Edits<'e>, super::super::parse::Slot)) {
        let known = HeaderName::from_bytes(name.as_bytes());
        for slot in self.message.slots.iter() {
            let same = slot.name == known
                && (known != HeaderName::Other
                    || self
                        .message
                        .raw
                        .get(usize::from(slot.start)..usize::from(slot.name_end))
                        .is_some_and(|n| n.eq_ignore_ascii_case(name.as_bytes())));
            if same {
                f(&mut self.edits, slot);
            }
        }
    }

    /// Removes the first `front` and the last `back` values of a list header, whole lines where nothing stays.
    fn keep_items(&mut self, name: HeaderName, front: usize, back: usize) {
        let last =
            if back == 0 { usize::MAX } else { self.message.values(name).count().saturating_sub(back) };
        let mut index = 0;
        for slot in self.message.slots.iter().filter(|s| s.name == name) {
            if index >= front && last == usize::MAX {
                return;
            }
            let (mut kept_start, mut kept_end) = (None, 0);
            let mut any = false;
            for item in ListItems::new(self.message.value(&slot)) {
                any = true;
                if index >= front && index < last {
                    let start = place(self.message, item);
                    kept_start.get_or_insert(start);
                    kept_end = start + item.len();
                }
                index += 1;
            }
            match kept_start {
                Some(start) => {
                    self.edits.remove(slot.value_start.into(), start);
                    if kept_end < usize::from(slot.value_end) {
                        self.edits.remove(kept_end, slot.value_end.into());
                    }
                }
                None if any => self.edits.remove(slot.start.into(), slot.end.into()),
                None => {}
            }
        }
    }
}
