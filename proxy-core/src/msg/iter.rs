//! Iteration over headers and over the values of comma lists.

use super::parse::Slot;
use super::scan::{skip_quoted, trim};
use super::{HeaderName, Message};

/// One header line as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderLine<'a> {
    /// Which header.
    pub name: HeaderName,
    /// The name as written (long, compact, any case).
    pub raw_name: &'a [u8],
    /// The value, trimmed; folds inside are left.
    pub value: &'a [u8],
}

/// All header lines of a message in order.
#[derive(Debug, Clone)]
pub struct HeaderLines<'m, 'a> {
    message: &'m Message<'a>,
    next: usize,
}

impl<'m, 'a> HeaderLines<'m, 'a> {
    pub(crate) fn new(message: &'m Message<'a>) -> Self {
        Self { message, next: 0 }
    }
}

impl<'a> Iterator for HeaderLines<'_, 'a> {
    type Item = HeaderLine<'a>;

    fn next(&mut self) -> Option<HeaderLine<'a>> {
        let slot = self.message.slots.get(self.next)?;
        self.next += 1;
        let raw_name =
            self.message.raw.get(usize::from(slot.start)..usize::from(slot.name_end)).unwrap_or_default();
        Some(HeaderLine { name: slot.name, raw_name, value: self.message.value(&slot) })
    }
}

/// The values of one comma list, trimmed. Commas in quotes and in angle brackets do not part; empty values are
/// skipped.
#[derive(Debug, Clone)]
pub struct ListItems<'a> {
    rest: &'a [u8],
}

impl<'a> ListItems<'a> {
    /// Reads the value of one header.
    pub fn new(value: &'a [u8]) -> Self {
        Self { rest: value }
    }
}

impl<'a> Iterator for ListItems<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = list_item_end(self.rest);
            let item = trim(self.rest.get(..end).unwrap_or_default());
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if !item.is_empty() {
                return Some(item);
            }
        }
        None
    }
}

/// Index of the first comma that parts, or the length.
fn list_item_end(bytes: &[u8]) -> usize {
    let mut i = 0;
    let mut in_brackets = false;
    while let Some(&b) = bytes.get(i) {
        match b {
            b'"' if !in_brackets => {
                // A quote that never closes swallows the rest; the parser of the value will refuse it.
                i = skip_quoted(bytes, i).unwrap_or(bytes.len());
                continue;
            }
            b'<' => in_brackets = true,
            b'>' => in_brackets = false,
            b',' if !in_brackets => return i,
            _ => {}
        }
        i += 1;
    }
    bytes.len()
}

/// The values of all headers of one name, through all their comma lists, in order.
#[derive(Debug, Clone)]
pub struct Values<'m, 'a> {
    message: &'m Message<'a>,
    name: HeaderName,
    slot: usize,
    items: ListItems<'a>,
}

impl<'m, 'a> Values<'m, 'a> {
    pub(crate) fn new(message: &'m Message<'a>, name: HeaderName) -> Self {
        let slot = message.first_slot(name).map_or(usize::MAX, |(index, _)| index);
        Self { message, name, slot, items: ListItems::new(&[]) }
    }
}

impl<'a> Iterator for Values<'_, 'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if let Some(item) = self.items.next() {
                return Some(item);
            }
            let slot: Slot = self.message.slots.get(self.slot)?;
            self.slot += 1;
            if slot.name == self.name {
                self.items = ListItems::new(self.message.value(&slot));
            }
        }
    }
}
