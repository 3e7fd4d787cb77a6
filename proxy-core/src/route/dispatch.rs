//! Kamailio's `ds_select_dst`: a backend of a dispatcher set.

use super::passage::{Passage, Step, Way};
use crate::engine::{Cx, Engine};

impl Engine {
    /// A rule names a set; there is none yet.
    pub(super) fn stage_dispatch(&mut self, _cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        match passage.found.way {
            Some(Way::Dispatcher(_)) => Step::Reject(503, "No Backend Available"),
            _ => Step::Next,
        }
    }
}
