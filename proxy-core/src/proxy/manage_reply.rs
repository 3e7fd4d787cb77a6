//! Kamailio's MANAGE_REPLY: each 1xx and 2xx to an INVITE before it is passed on.

use super::call::Call;
use crate::engine::{Cx, Engine};

impl Engine {
    /// The response (without our Via) as it goes to the caller. Media proxies are told here; without one it leaves as
    /// it is.
    pub(super) fn manage_reply(
        &mut self,
        _cx: Cx<'_>,
        _call: &Call,
        _index: usize,
        bytes: Vec<u8>,
    ) -> Vec<u8> {
        bytes
    }
}
