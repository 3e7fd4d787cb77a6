//! Kamailio's PRESENCE: PUBLISH and SUBSCRIBE that are for the proxy itself. Those for our users go to their phones.

use super::passage::{Passage, Step};
use crate::engine::{Cx, Engine};

impl Engine {
    /// There is no presence server here: everything goes on.
    pub(super) fn stage_presence(&mut self, _cx: Cx<'_>, _passage: &mut Passage<'_, '_>) -> Step {
        Step::Next
    }
}
