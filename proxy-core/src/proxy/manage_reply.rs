//! Kamailio's MANAGE_REPLY: each 1xx and 2xx to an INVITE before it is passed on.

use super::call::Call;
use crate::engine::{Cx, Engine};
use crate::msg::{Message, Uri};
use crate::nat::{alias, detect};
use crate::routing::Stage;
use crate::state::{Branch, Flow};

impl Engine {
    /// The response (without our Via) as it goes to the caller: with the way back to a callee behind a NAT. Its SDP is that
    /// of the media proxy already (`media::answer`).
    pub(super) fn manage_reply(&mut self, _cx: Cx<'_>, call: &Call, index: usize, bytes: Vec<u8>) -> Vec<u8> {
        match call.branches.get(index) {
            Some(branch) => self.with_alias(bytes, &branch.record, branch.flow()),
            None => bytes,
        }
    }

    /// A response of whoever a branch went to by `flow`, with an alias in its Contact if that one is behind a NAT.
    /// With a proxy between, that proxy knows its clients.
    pub(super) fn with_alias(&self, bytes: Vec<u8>, branch: &Branch, flow: Flow) -> Vec<u8> {
        let is_on = self.settings.config.routing.has(Stage::ManageReply);
        if !is_on || !self.settings.config.nat.alias || !branch.route.is_empty() {
            return bytes;
        }
        let Ok(message) = Message::parse(&bytes) else { return bytes };
        let is_ours = |uri: &str| Uri::parse(uri).is_ok_and(|u| self.settings.is_own_hop(&u, flow.local));
        let first_hop = message.record_routes().flatten().next().is_none_or(|route| is_ours(route.uri));
        let natted = message.contacts().next().and_then(Result::ok).is_some_and(|contact| {
            contact.parse_uri().is_ok_and(|uri| detect::is_natted_answer(&uri, &branch.target, flow.remote))
        });
        if first_hop && natted { alias::added(&message, flow).unwrap_or(bytes) } else { bytes }
    }
}
