//! How a request of our own ended, and who hears of it.

use super::Purpose;
use crate::engine::{Cx, Engine};
use crate::msg::Message;

/// How a request of our own ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome<'o, 'm> {
    /// A final response with its status.
    Final(u16, &'o Message<'m>),
    /// Nobody answered in time.
    Timeout,
    /// It could not be sent.
    Transport,
}

impl Engine {
    /// A request of our own has ended.
    pub(crate) fn on_originated(&mut self, cx: Cx<'_>, purpose: Purpose, outcome: Outcome<'_, '_>) {
        match purpose {
            Purpose::TrunkProbe { uuid } => self.on_trunk_probed(cx, &uuid, &outcome),
            Purpose::Probe { set, destination } => self.on_probed(cx, set, &destination, &outcome),
            Purpose::DialogBye { id, to_caller } => self.on_bye_over(&id, to_caller),
            Purpose::TrunkRegister { attempt } => self.on_trunk_registered(cx, attempt, &outcome),
            Purpose::NatPing { .. } => {}
            Purpose::Notify { attempt } => self.on_notified(cx, attempt, &outcome),
            Purpose::LateBye { key, branch, to_tag } => self.on_late_bye_over(cx, &key, branch, &to_tag),
            Purpose::StoredMessage { attempt } => self.on_message_ended(cx, attempt, &outcome),
        }
    }
}
