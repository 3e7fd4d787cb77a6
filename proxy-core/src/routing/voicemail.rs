//! Where unanswered calls go.

use std::time::Duration;

use crate::state::When;

/// Kamailio's TOVOICEMAIL: the call goes on to `sip:user@server` with the user that was dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voicemail {
    /// A SIP URI without user: `sip:192.0.2.9:5060`.
    pub server: String,
    /// How long the phones ring before; only timer C if `None`.
    pub after: Option<Duration>,
    /// Failures that lead there, 400..=599; 404 stands for a user without a phone, 408 for no answer. Kamailio: 486, 408.
    pub on: Vec<u16>,
}

impl Voicemail {
    /// How the round before has to end.
    #[must_use]
    pub fn when(&self) -> When {
        let mut when = When::statuses(&self.on);
        // Who sets a time wants it to lead somewhere.
        when.timeout |= self.after.is_some();
        when
    }

    /// Where the call goes for this user.
    #[must_use]
    pub fn target(&self, user: &str) -> Option<String> {
        let (scheme, host) = self.server.split_once(':')?;
        Some(format!("{scheme}:{user}@{host}"))
    }
}
