//! The stateless proxy (RFC 3261 §16.11): one copy, whose branch is a function of what came in, and nothing kept.

use super::passage::{Passage, Targets};
use crate::engine::{Cx, Engine};
use crate::location::Hop;
use crate::msg::Message;
use crate::proxy::build;
use crate::routing::{Mode, Stage};
use crate::state::{Flow, Renamed, Transport};

impl Engine {
    /// Whether requests are passed on without state.
    pub(super) fn is_stateless(&self) -> bool {
        self.settings.config.routing.mode == Mode::Stateless
    }

    /// Whether a CANCEL of nothing that is known goes the way of its INVITE.
    pub(super) fn passes_cancels(&self) -> bool {
        self.is_stateless() || !self.settings.config.routing.has(Stage::Cancel)
    }

    /// Sends a CANCEL that belongs to nothing here to all that its INVITE would be sent to (§16.10).
    pub(super) fn pass_cancel(&mut self, passage: &Passage<'_, '_>, targets: &Targets) {
        for branch in &targets.branches {
            let bytes = build::copy(&self.settings, passage.message, passage.flow, branch);
            self.transmit(branch.flow, &bytes);
        }
    }

    /// Sends the first copy. A retransmission takes the same way, as the order of targets is that of the replicated
    /// bindings.
    pub(super) fn relay_stateless(&mut self, passage: &Passage<'_, '_>, targets: &Targets) {
        let Some(branch) = targets.branches.first() else { return };
        let bytes = build::copy(&self.settings, passage.message, passage.flow, branch);
        self.transmit(branch.flow, &bytes);
    }

    /// Passes a response on by its second Via (§16.11, §18.1.2), with the CSeq number and the names that its
    /// request came with. Where that Via has no address, as somebody has taken away the `received` that we put there,
    /// its name is looked up (RFC 3263 §5): what is not known yet is asked, and the response goes on when it is
    /// repeated.
    pub(super) fn pass_response(
        &mut self,
        cx: Cx<'_>,
        flow: Flow,
        response: &Message<'_>,
        cseq: u32,
        renamed: Option<&Renamed>,
    ) -> bool {
        let Some(Ok(next)) = response.vias().nth(1) else { return false };
        let transport = match next.transport {
            crate::msg::Transport::Udp => Transport::Udp,
            crate::msg::Transport::Tcp => Transport::Tcp,
            _ => return false,
        };
        let to = match next.response_target() {
            Some(remote) => {
                let listen = &self.settings.config.listen;
                let local =
                    listen.iter().find(|l| l.is_ipv4() == remote.is_ipv4()).copied().unwrap_or(flow.local);
                Flow { transport, local, remote }
            }
            None => {
                let host = next.params.value("maddr").map_or_else(|| next.host.to_string(), str::to_owned);
                let hop = Hop::Name { host, port: next.port, transport: Some(transport) };
                // The order among equals is that of the transaction, as for its requests.
                let seed = self.settings.keys.transaction_digest(response);
                match self.flows_or_ask(cx, &hop, seed).and_then(|flows| flows.first().copied()) {
                    Some(to) => to,
                    None => return false,
                }
            }
        };
        let Some(bytes) = build::passed_back(response, to, cseq, renamed) else { return false };
        let bytes = crate::dialog::token::for_asker(&self.settings, bytes);
        self.transmit(to, &bytes);
        true
    }
}
