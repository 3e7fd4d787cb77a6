//! Kamailio's NATDETECT: whether the client is behind a NAT.

use super::passage::{Passage, Step};
use crate::engine::{Cx, Engine};

impl Engine {
    /// Nothing yet: the binding remembers the flow it was registered by, which is enough for the registrar.
    pub(super) fn stage_natdetect(&mut self, _cx: Cx<'_>, _passage: &mut Passage<'_, '_>) -> Step {
        Step::Next
    }
}
