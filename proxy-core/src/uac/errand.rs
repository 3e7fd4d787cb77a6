//! A request of our own under way: a client transaction and what it is for.

use std::time::Duration;

use super::{Outcome, OwnRequest, Purpose};
use crate::engine::limits::{MAX_ERRANDS, MAX_HELD_BYTES, TRANSACTION_BYTES};
use crate::engine::{Client, Cx, Engine};
use crate::msg::Message;
use crate::state::Flow;
use crate::time::MonoTime;
use crate::transaction::{Nict, NictAction, SharedBytes};

/// A request to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Originated {
    /// The way it goes.
    pub(crate) flow: Flow,
    pub(crate) request: OwnRequest,
    /// Comes back with the outcome.
    pub(crate) purpose: Purpose,
    /// Give up after this time instead of 64*T1.
    pub(crate) patience: Option<Duration>,
}

/// One under way.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) via_branch: String,
    pub(crate) flow: Flow,
    nict: Nict,
    /// Gone once the outcome has been told.
    purpose: Option<Purpose>,
    give_up_at: Option<MonoTime>,
    pub(crate) cost: usize,
}

impl Errand {
    pub(crate) fn next_timeout(&self) -> Option<MonoTime> {
        let give_up = self.give_up_at.filter(|_| self.purpose.is_some());
        match (self.nict.next_timeout(), give_up) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.nict.is_terminated()
    }
}

impl Engine {
    /// Sends a request of our own. Its outcome comes to [`Engine::on_originated`], unless this node stops being active
    /// before. `false`: a bound is reached, or the Call-ID belongs to another engine, which would get the response;
    /// nothing was sent. If the very same request is under way already it is not sent again, and that is `true`; `false`,
    /// if it was answered a moment ago: what came of it has been told, and will not be again.
    pub(crate) fn originate(&mut self, cx: Cx<'_>, what: Originated) -> bool {
        let Originated { flow, request, purpose, patience } = what;
        if !self.is_own_shard(&request.call_id) {
            self.counters.originated_refused += 1;
            return false;
        }
        let via_branch = self.settings.keys.own_branch(purpose.label(), &request);
        if let Some(client) = self.client_of(&via_branch) {
            return !matches!(client, Client::Errand(id) if self.has_told(id));
        }
        let via = format!("SIP/2.0/{} {};branch={via_branch};rport", flow.transport.via_name(), flow.local);
        let bytes: SharedBytes = request.write(&via).into();
        let cost = TRANSACTION_BYTES + bytes.len();
        if self.errand_count() >= MAX_ERRANDS || self.held_bytes() + cost > MAX_HELD_BYTES {
            self.counters.originated_refused += 1;
            return false;
        }
        self.counters.originated += 1;
        self.insert_errand(Errand {
            via_branch,
            flow,
            nict: Nict::new(cx.now.mono, &self.settings.timers, flow.transport.is_reliable(), bytes.clone()),
            purpose: Some(purpose),
            give_up_at: patience.map(|p| cx.now.mono + p),
            cost,
        });
        self.transmit(flow, &bytes);
        true
    }

    /// Whether the outcome has been told.
    fn has_told(&mut self, id: u64) -> bool {
        self.with_errand(id, |_, errand| errand.purpose.is_none()).unwrap_or(true)
    }

    /// A response to a request of our own.
    pub(crate) fn on_errand_response(&mut self, cx: Cx<'_>, id: u64, response: &Message<'_>, status: u16) {
        let purpose = self.with_errand(id, |engine, errand| {
            if errand.nict.on_response(cx.now.mono, status) != NictAction::Pass {
                engine.counters.retransmissions_in += 1;
                return None;
            }
            if status < 200 { None } else { errand.purpose.take() }
        });
        if let Some(purpose) = purpose.flatten() {
            self.on_originated(cx, purpose, Outcome::Final(status, response));
        }
    }

    /// Fires what is due.
    pub(crate) fn on_errand_timeout(&mut self, cx: Cx<'_>, id: u64) {
        let now = cx.now.mono;
        let purpose = self.with_errand(id, |engine, errand| {
            if errand.give_up_at.is_some_and(|at| at <= now) && errand.nict.is_open() {
                errand.nict.on_transport_error();
                return errand.purpose.take();
            }
            match errand.nict.on_timeout(now) {
                NictAction::Transmit(bytes) => {
                    engine.counters.retransmissions_out += 1;
                    engine.transmit(errand.flow, &bytes);
                    None
                }
                NictAction::Timeout => errand.purpose.take(),
                _ => None,
            }
        });
        if let Some(purpose) = purpose.flatten() {
            self.counters.originated_timeouts += 1;
            self.on_originated(cx, purpose, Outcome::Timeout);
        }
    }

    /// The way of a request of our own is broken.
    pub(crate) fn on_errand_transport_failure(&mut self, cx: Cx<'_>, id: u64) {
        let purpose = self.with_errand(id, |_, errand| match errand.nict.on_transport_error() {
            NictAction::TransportError => errand.purpose.take(),
            // It has been answered.
            _ => None,
        });
        if let Some(purpose) = purpose.flatten() {
            self.on_originated(cx, purpose, Outcome::Transport);
        }
    }
}
