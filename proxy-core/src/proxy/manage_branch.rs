//! Kamailio's MANAGE_BRANCH: each copy of an INVITE before it leaves.

use super::call::Call;
use crate::engine::{Cx, Engine};

impl Engine {
    /// The copy as it is to be sent. Media proxies have been told by then (`media::offer`): their SDP is in the request
    /// that is replicated, so that a node that takes over sends the same bytes without asking anybody.
    pub(super) fn manage_branch(
        &mut self,
        _cx: Cx<'_>,
        _call: &Call,
        _index: usize,
        bytes: Vec<u8>,
    ) -> Vec<u8> {
        bytes
    }
}
