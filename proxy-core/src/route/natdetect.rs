//! Kamailio's NATDETECT: a client behind a NAT gets an `alias` in its Contact, so that requests to it find the way back.
//!
//! | request | then |
//! |---|---|
//! | REGISTER | nothing here: its binding keeps the flow |
//! | has passed another proxy (more than one Via) | nothing: that one knows its clients |
//! | anything else with a Contact that cannot be reached | the Contact gets the alias |

use super::passage::{Passage, Step};
use crate::engine::{Cx, Engine};
use crate::msg::Method;
use crate::nat::{alias, detect};

impl Engine {
    /// Looks at Contact and Via.
    pub(super) fn stage_natdetect(&mut self, _cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        let message = passage.message;
        let source = passage.flow.remote;
        if matches!(passage.method, Method::Register | Method::Cancel)
            || message.vias().nth(1).is_some()
            || !self.settings.config.nat.alias
        {
            return Step::Next;
        }
        let (Ok(via), Some(Ok(contact))) = (message.top_via(), message.contacts().next()) else {
            return Step::Next;
        };
        if !contact.parse_uri().is_ok_and(|uri| detect::is_natted(&uri, &via, source)) {
            return Step::Next;
        }
        self.explain("note", || format!("the client is behind a NAT, requests to it go to {source}"));
        alias::added(message, passage.flow).map_or(Step::Next, Step::Rewritten)
    }
}
