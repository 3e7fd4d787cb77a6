//! Authentication-Info: the registrar proves that it knows the password, too, and hands out the next nonce (RFC 7616
//! §3.5; Kamailio's `add_authinfo_hdr`).
//!
//! | credentials | the 200 says |
//! |---|---|
//! | with qop | `qop`, `rspauth`, `cnonce`, `nc` |
//! | whose nonce has lived for half of its life | `nextnonce`, so that the next REGISTER need not be challenged |
//! | without qop (RFC 2069), with a young nonce | nothing |
//!
//! All of it is made of the request and the replicated state when the answer leaves: nothing is kept meanwhile.

use super::judge::{Court, Subscribed};
use crate::digest::{Credentials, Nonce};
use crate::msg::{HeaderName, Message, Method};
use crate::state::Flow;

impl Court<'_> {
    /// The value of Authentication-Info in the 200 to a REGISTER. `None` where it is switched off or says nothing.
    pub(crate) fn authentication_info(&self, request: &Message<'_>, flow: Flow) -> Option<String> {
        if !self.config().info || request.method() != Some(Method::Register) {
            return None;
        }
        let (_, domain, realm) = self.identity(request, flow);
        let offered = Credentials::of(request, HeaderName::Authorization, &realm);
        let (Subscribed { ha1, .. }, credentials) = offered.iter().find_map(|credentials| {
            let proven = self.prove(credentials, Method::Register, &realm, &domain)?;
            Some((proven, credentials))
        })?;
        let next =
            self.next_nonce(request, credentials, &realm).map(|nonce| format!("nextnonce=\"{nonce}\""));
        let parts: Vec<String> = next.into_iter().chain(credentials.mutual(&ha1)).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// A fresh nonce in place of one that is past half of its life.
    fn next_nonce(&self, request: &Message<'_>, used: &Credentials<'_>, realm: &str) -> Option<String> {
        let made_at = Nonce::read(used.nonce)?.made_at;
        let key = self.state.provision().nonce_key()?;
        let is_old = made_at + self.config().nonce_life / 2 <= self.now;
        let salt = self.settings.keys.transaction_digest(request);
        is_old.then(|| Nonce::make(key, realm, self.now, salt))
    }
}
