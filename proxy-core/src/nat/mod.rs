//! Clients behind a NAT: how they are told, how requests within their dialogs find back, and how the way stays open.
//!
//! | file | what |
//! |---|---|
//! | `detect` | which client is behind a NAT |
//! | `alias` | the `alias` parameter of Contact: where its requests really come from (Kamailio's `add_contact_alias`) |
//! | `ping` | datagrams that keep the NAT's entries alive, sent by the active node only |
//!
//! Responses always go back to the source of the request (`rport`, RFC 3581), and a registered contact remembers its
//! flow; neither needs any of this.

pub(crate) mod alias;
pub(crate) mod detect;
pub(crate) mod ping;

use std::time::Duration;

/// What keeps the entry of a NAT alive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ping {
    /// Nothing.
    Off,
    /// An empty double line: the smallest that reaches the phone, which does not answer (RFC 5626 §3.5.1 form).
    #[default]
    Crlf,
    /// OPTIONS: the phone answers, so that the way back stays open, too.
    Options,
}

/// What concerns NAT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatConfig {
    /// Whether Contact gets an `alias` where its client is behind a NAT.
    pub alias: bool,
    /// How entries are kept alive.
    pub ping: Ping,
    /// Time between two pings to one contact.
    pub ping_interval: Duration,
    /// Ping every contact registered over UDP, not just those behind a NAT.
    pub ping_all: bool,
}

impl Default for NatConfig {
    fn default() -> Self {
        Self { alias: true, ping: Ping::default(), ping_interval: Duration::from_secs(30), ping_all: false }
    }
}
