//! Kamailio's MANAGE_REPLY: each 1xx and 2xx to an INVITE before it is passed on.

use super::call::Call;
use crate::dialog::token;
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
            Some(branch) => self.for_asker(bytes, &branch.record, branch.flow()),
            None => bytes,
        }
    }

    /// A response of whoever a branch went to by `flow`, as it goes to who has asked: with the way back to the answerer,
    /// and what proves later that the asker is in a dialog with him.
    pub(super) fn for_asker(&self, bytes: Vec<u8>, branch: &Branch, flow: Flow) -> Vec<u8> {
        token::for_asker(&self.settings, self.with_alias(bytes, branch, flow))
    }

    /// A response of whoever a branch went to by `flow`, with an alias in its Contact if that one is behind a NAT.
    /// With a proxy between, that proxy knows its clients.
    fn with_alias(&self, bytes: Vec<u8>, branch: &Branch, flow: Flow) -> Vec<u8> {
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
