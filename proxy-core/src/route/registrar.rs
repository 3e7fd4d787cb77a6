//! Kamailio's REGISTRAR: REGISTER of our domains (RFC 3261 §10.3).

use super::Incoming;
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::registrar::{answer_refusal, judge};
use crate::state::SipCommand;

impl Engine {
    /// A REGISTER came. Its answer leaves when the bindings are replicated.
    pub(super) fn route_register(&mut self, cx: Cx<'_>, incoming: &Incoming<'_, '_>) {
        let message = incoming.message;
        let local = incoming.flow.local;
        // Step 1: we do not carry registrations to others.
        if !message.request_uri().is_ok_and(|uri| self.settings.is_local(&uri, local)) {
            self.reject(incoming, 403, "Not relaying");
            return;
        }
        let to = message.to().and_then(|to| to.parse_uri());
        // Step 5: the address of record is of a domain of ours, or unknown here.
        if to.as_ref().is_ok_and(|uri| !self.settings.is_local(uri, local)) {
            self.reject(incoming, 404, "");
            return;
        }
        let mut command = match judge(message, &self.settings.config, incoming.flow, cx.now) {
            Ok(command) => command,
            Err(why) => {
                let tag = self.settings.keys.local_tag(message);
                let mut out = Vec::new();
                let config = &self.settings.config;
                answer_refusal(message, &why, config, &tag, crate::msg::ViaStamp::default(), &mut out);
                self.counters.rejected += 1;
                self.transmit(incoming.flow, &out);
                return;
            }
        };
        if let Some(aor) = to.ok().and_then(|uri| self.settings.config.aor(&uri, Some(local))) {
            command.aor = aor;
        }
        let opened = self.open_exchange(cx, incoming.key.clone(), incoming.flow, message, &[], true);
        let proposed = opened
            .filter(|id| self.propose(SipCommand::Register(command), Awaiting::Register { exchange: *id }));
        if proposed.is_none() {
            if let Some(id) = opened {
                self.remove_exchange(id);
            }
            self.reject_overload(incoming.flow, message.raw());
        }
    }
}
