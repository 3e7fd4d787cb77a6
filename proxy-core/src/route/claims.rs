//! Who somebody says he is, besides From: P-Asserted-Identity is believed only from those who are trusted (RFC 3325 §5).

use crate::engine::{Cx, Engine};
use crate::msg::{Forward, Message};
use crate::state::Flow;
use crate::trunk::{ASSERTED, PREFERRED};

/// The header of a draft that providers still read.
const REMOTE_PARTY: &str = "Remote-Party-ID";

impl Engine {
    /// The request without the claims of somebody who is not trusted; `None` if there are none, or he is: by the access
    /// list or as the source of a trunk. Without authentication nobody is told from anybody, and all pass.
    pub(super) fn without_claims(&self, cx: Cx<'_>, flow: Flow, stamped: &[u8]) -> Option<Vec<u8>> {
        let auth = &self.settings.config.auth;
        if !auth.enabled {
            return None;
        }
        let message = Message::parse(stamped).ok()?;
        let claims = [ASSERTED, PREFERRED, REMOTE_PARTY];
        if !claims.iter().any(|name| message.header_named(name).is_some()) {
            return None;
        }
        let (address, port) = (flow.remote.ip(), flow.remote.port());
        let listed =
            auth.trusted_group.is_some_and(|group| cx.state.acl_match(group, address, port).is_some());
        if listed || cx.state.trunks_with_source(address).any(|t| !t.account.disabled) {
            return None;
        }
        let mut out = Vec::with_capacity(stamped.len());
        let mut forward = Forward::new(&message);
        for name in claims {
            forward.remove_header(name);
        }
        forward.write(&mut out);
        Some(out)
    }
}
