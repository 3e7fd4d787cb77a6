//! Kamailio's PSTN: calls out by a trunk, and in from it.

use super::passage::{Passage, Step, Way};
use crate::engine::{Cx, Engine};

impl Engine {
    /// A rule names a trunk; there is none yet.
    pub(super) fn stage_trunk(&mut self, _cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        match &passage.found.way {
            Some(Way::Trunk(_)) => Step::Reject(503, "Trunk Unavailable"),
            _ => Step::Next,
        }
    }
}
