//! A message that outlives its datagram.

use super::{Message, ParseError};
use std::sync::Arc;

/// The bytes of a message that has been parsed once, shared. [`SharedMessage::view`] parses again: about a
/// microsecond, and cheaper than keeping a table of headers next to every stored message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SharedMessage {
    bytes: Arc<[u8]>,
}

impl SharedMessage {
    /// Keeps a copy of the message in `bytes`.
    ///
    /// # Errors
    /// As [`Message::parse`].
    pub fn new(bytes: &[u8]) -> Result<Self, ParseError> {
        Message::parse(bytes)?;
        Ok(Self { bytes: bytes.into() })
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The parsed message.
    ///
    /// # Errors
    /// None in practice, as the bytes were parsed when they were stored.
    pub fn view(&self) -> Result<Message<'_>, ParseError> {
        Message::parse(&self.bytes)
    }
}
