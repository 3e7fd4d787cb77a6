//! ACK. That of a failure ends here; that of a 2xx is a request of its own and goes on without any state
//! (RFC 3261 §16.11 as far as it goes: its branch is derived, not drawn).

use super::passage::{Passage, Step};
use super::withindlg::Approach;
use crate::engine::{Cx, Engine};
use crate::proxy::build;

impl Engine {
    /// An ACK came.
    pub(super) fn route_ack(
        &mut self,
        cx: Cx<'_>,
        passage: &mut Passage<'_, '_>,
        approach: &Approach<'_>,
    ) -> Step {
        let message = passage.message;
        if let Some(call) = self.call_of_key(&passage.key)
            && self.is_of_call(call, message.call_id().unwrap_or_default())
            && !self.on_ack(cx, call)
        {
            self.explain("absorbs it", || String::from("it acknowledges a failure"));
            return Step::Answered;
        }
        // What the proxy answered itself is acknowledged to the proxy, and nothing follows from it.
        if message.to_tag().is_some_and(|tag| tag == self.settings.keys.local_tag(message)) {
            self.explain("absorbs it", || String::from("it acknowledges an answer of the proxy"));
            return Step::Answered;
        }
        if !approach.in_dialog {
            if self.is_stateless() {
                // Of a failure that passed here: it goes the way of its INVITE.
                return Step::Next;
            }
            // Kamailio discards it, too: there is no dialog through us that it could belong to.
            self.counters.dropped_stray += 1;
            self.explain("drops it", || String::from("it belongs to no dialog that goes through here"));
            return Step::Answered;
        }
        match self.look_at_standing(cx, passage, approach) {
            None => {}
            // Without state nobody knows whether it acknowledges a failure, which goes the way of its INVITE.
            Some(Step::Rewritten(bytes)) if self.is_stateless() => {
                passage.found.foreign = false;
                return Step::Rewritten(bytes);
            }
            Some(step @ Step::Again(_)) => return step,
            Some(_) => {
                // Nobody is asked for his password by an ACK (§22.1).
                self.counters.dropped_stray += 1;
                self.explain("drops it", || String::from("nothing shows that it belongs to its dialog"));
                return Step::Answered;
            }
        }
        if self.confirm_first(cx, passage) {
            self.explain("waits", || String::from("a majority has to know that the call is confirmed"));
            return Step::Answered;
        }
        let targets = self.targets_in_dialog(cx, passage, approach);
        if self.names.is_waiting() {
            return Step::Answered;
        }
        let Ok(mut targets) = targets else {
            self.counters.dropped_stray += 1;
            self.explain("drops it", || String::from("its destination cannot be reached"));
            return Step::Answered;
        };
        if self.answer_of_ack(cx, passage) {
            return Step::Answered;
        }
        self.fit_to_leg(cx, message, &mut targets);
        if let Some(target) = targets.first() {
            let bytes = build::copy(&self.settings, message, passage.flow, target);
            self.transmit(target.flow, &bytes);
            self.keep_ack(cx.now.mono, message, passage.flow, target);
        }
        if let (Some(call_id), Ok(cseq)) = (message.call_id(), message.cseq())
            && let Some(call) = self.call_of_cseq(call_id, cseq.number)
        {
            self.on_answer_acked(cx, call);
        }
        Step::Answered
    }
}
