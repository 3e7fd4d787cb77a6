//! ACK. That of a failure ends here; that of a 2xx is a request of its own and goes on without any state
//! (RFC 3261 §16.11 as far as it goes: its branch is derived, not drawn).

use super::Incoming;
use super::withindlg::Approach;
use crate::engine::{Cx, Engine};
use crate::proxy::build;

impl Engine {
    /// An ACK came.
    pub(super) fn route_ack(&mut self, cx: Cx<'_>, incoming: &Incoming<'_, '_>) {
        if let Some(call) = self.call_of_key(&incoming.key)
            && self.is_of_call(call, incoming.message.call_id().unwrap_or_default())
            && !self.on_ack(cx, call)
        {
            return;
        }
        let message = incoming.message;
        // What the proxy answered itself is acknowledged to the proxy, and nothing follows from it.
        if message.to_tag().is_some_and(|tag| tag == self.settings.keys.local_tag(message)) {
            return;
        }
        let approach = Approach::of(&self.settings, message, incoming.flow.local);
        if !approach.in_dialog {
            // Kamailio discards it, too: there is no dialog through us that it could belong to.
            self.counters.dropped_stray += 1;
            return;
        }
        let Ok(targets) = self.targets_in_dialog(cx, incoming, &approach) else {
            self.counters.dropped_stray += 1;
            return;
        };
        if let Some(target) = targets.first() {
            let bytes = build::copy(&self.settings, message, incoming.flow, target);
            self.transmit(target.flow, &bytes);
        }
        if let (Some(call_id), Ok(cseq)) = (message.call_id(), message.cseq())
            && let Some(call) = self.call_of_cseq(call_id, cseq.number)
        {
            self.on_answer_acked(cx, call);
        }
    }
}
