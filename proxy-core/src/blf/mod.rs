//! Lamps: who watches the calls of our users (RFC 6665 as notifier, RFC 4235 as package).
//!
//! | file | what |
//! |---|---|
//! | `config` | who may, for how long |
//! | `subscribe` | SUBSCRIBE: accepted, refreshed, ended, refused |
//! | `picture` | the calls of a user out of the replicated state, and the document of them |
//! | `notify` | who is told when, one NOTIFY at a time |
//!
//! What a watcher was shown last is replicated before it is sent, and what is true now is read from the replicated
//! calls. So a change is found by comparison, on whichever node, and nobody is told twice in vain or not at all. Every
//! document is a full one: it heals whatever was lost before it.

mod config;
mod notify;
mod picture;
mod subscribe;

pub use config::{PresenceConfig, Watchers};
pub(crate) use notify::Memory;
pub use notify::REPEAT_AFTER;
pub(crate) use subscribe::event_of;

/// The packages that are answered here, for Allow-Events.
pub(crate) const ALLOW_EVENTS: &str = "dialog, message-summary";
/// The package of calls.
pub(crate) const DIALOG: &str = "dialog";
/// The package of voicemail.
pub(crate) const MESSAGE_SUMMARY: &str = "message-summary";
