//! Kamailio's MANAGE_BRANCH: each copy of an INVITE before it leaves.

use super::call::Call;
use crate::engine::{Cx, Engine};

impl Engine {
    /// The copy as it is to be sent. Media proxies are told here; without one it leaves as it is.
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
