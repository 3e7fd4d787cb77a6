//! Kamailio's AUTH: who may send what. `found.auth_required` is set by a rule, which comes later: it calls
//! [`Engine::require_auth`].

use super::passage::{Passage, Step};
use crate::engine::{Cx, Engine};

impl Engine {
    /// Nothing is asked for without subscribers.
    pub(super) fn stage_auth(&mut self, _cx: Cx<'_>, _passage: &mut Passage<'_, '_>) -> Step {
        Step::Next
    }

    /// A rule wants to know who it is. Nobody can be known without subscribers, so that nobody gets in.
    pub(super) fn require_auth(&mut self, _cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        passage.found.auth_required = true;
        if passage.found.user.is_some() || passage.found.trusted {
            return Step::Next;
        }
        Step::Reject(403, "Not allowed")
    }
}
