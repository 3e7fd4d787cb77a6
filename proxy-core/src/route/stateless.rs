//! The stateless proxy (RFC 3261 §16.11): one copy, whose branch is a function of what came in, and nothing kept.

use super::passage::{Passage, Targets};
use crate::engine::Engine;
use crate::msg::Message;
use crate::proxy::build;
use crate::routing::Mode;
use crate::state::{Flow, Renamed, Transport};

impl Engine {
    /// Whether requests are passed on without state.
    pub(super) fn is_stateless(&self) -> bool {
        self.settings.config.routing.mode == Mode::Stateless
    }

    /// Sends the first copy. A retransmission takes the same way, as the order of targets is that of the replicated
    /// bindings.
    pub(super) fn relay_stateless(&mut self, passage: &Passage<'_, '_>, targets: &Targets) {
        let Some(branch) = targets.branches.first() else { return };
        let bytes = build::copy(&self.settings, passage.message, passage.flow, branch);
        self.transmit(branch.flow, &bytes);
    }

    /// Passes a response on by its second Via (§16.11, §18.1.2), with the CSeq number and the names that its
    /// request came with.
    pub(super) fn pass_response(
        &mut self,
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
        let Some(remote) = next.response_target() else { return false };
        let listen = &self.settings.config.listen;
        let local = listen.iter().find(|l| l.is_ipv4() == remote.is_ipv4()).copied().unwrap_or(flow.local);
        let to = Flow { transport, local, remote };
        let Some(bytes) = build::passed_back(response, to, cseq, renamed) else { return false };
        self.transmit(to, &bytes);
        true
    }
}
