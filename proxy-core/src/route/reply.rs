//! Kamailio's reply_route: a response finds its branch by the top Via, which is ours (RFC 3261 §16.7 steps 1 and 2).

use crate::engine::{Client, Cx, Engine};
use crate::msg::{Message, Method};
use crate::state::Flow;

impl Engine {
    /// A response came.
    pub(crate) fn on_response(&mut self, cx: Cx<'_>, flow: Flow, response: &Message<'_>) {
        self.take_response(cx, flow, response, false);
    }

    /// The same; `treated` if its SDP has been through a media proxy, or cannot go through one.
    pub(crate) fn take_response(&mut self, cx: Cx<'_>, flow: Flow, response: &Message<'_>, treated: bool) {
        let Some(status) = response.status().filter(|_| response.check_response().is_ok()) else {
            self.counters.dropped_malformed += 1;
            return;
        };
        let Ok(via) = response.top_via() else { return };
        let is_ours = via
            .host
            .ip()
            .is_some_and(|ip| self.settings.is_own_address(ip, via.port_or_default(), flow.local));
        let Some(branch) = via.branch().filter(|_| is_ours) else {
            self.counters.dropped_stray += 1;
            return;
        };
        let client = self.client_of(branch);
        if let Some(bare) = self.without_claims_of_answer(cx, client, flow, response) {
            if let Ok(bare) = Message::parse(&bare) {
                self.take_response(cx, flow, &bare, treated);
            }
            return;
        }
        if !treated && self.answer_of_response(cx, client, flow, response, status) {
            return;
        }
        match (client, response.method()) {
            (Some(Client::Call(id, index)), Some(Method::Invite)) => {
                self.on_invite_response(cx, id, index, flow, response, status);
            }
            (Some(Client::Call(id, index)), Some(Method::Cancel)) => {
                self.on_cancel_response(cx, id, index, response, status);
            }
            (Some(Client::Exchange(id, index)), Some(method))
                if !matches!(method, Method::Invite | Method::Cancel) =>
            {
                self.on_plain_response(cx, id, index, response, status);
            }
            (Some(Client::Errand(id)), Some(_)) => self.on_errand_response(cx, id, response, status),
            (None, Some(method))
                if self.is_stateless() || (method == Method::Cancel && self.passes_cancels()) =>
            {
                let number = response.cseq().map_or(0, |c| c.number);
                if !self.pass_response(cx, flow, response, number, None) {
                    self.counters.dropped_stray += 1;
                }
            }
            (None, Some(Method::Invite)) if (200..300).contains(&status) => {
                self.pass_stray_answer(cx, flow, response);
            }
            _ => self.counters.dropped_stray += 1,
        }
    }

    /// A 2xx to an INVITE that nobody remembers. RFC 6026 §8.9 drops it, as its transaction is long over. Here it can
    /// also be that the call was confirmed under the last owner and the ACK was lost with that one: if the dialog is
    /// known, the 2xx goes on without state, and the caller acknowledges it again.
    fn pass_stray_answer(&mut self, cx: Cx<'_>, flow: Flow, response: &Message<'_>) {
        let known = crate::dialog::of(cx.state, response).map(|(dialog, from_caller)| {
            let backing = &dialog.backing;
            let leg = if from_caller { &backing.towards_callee } else { &backing.towards_caller };
            (leg.cseq_shift, crate::dialog::names_of(dialog, from_caller))
        });
        let passed = known.is_some_and(|(shift, names)| {
            let number = response.cseq().map_or(0, |c| c.number.saturating_sub(shift));
            self.pass_response(cx, flow, response, number, names.as_deref())
        });
        if !passed {
            self.counters.dropped_stray += 1;
        }
    }
}
