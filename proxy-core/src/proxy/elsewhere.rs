//! A branch that goes on at another address of the same target (RFC 3263 §4.3): each branch by itself, while others
//! ring.
//!
//! | the branch | then |
//! |---|---|
//! | heard nothing for too long (`patience`, timer B), or its flow failed | the next flow of [`Branch::next`](crate::state::Branch::next), then of [`Branch::others`](crate::state::Branch::others) |
//! | was told 503 | the same, of the same contact; the 503 is acknowledged once that is safe |
//! | was told 430 by the proxy that keeps the flow of a phone | the same, or another flow of that phone (RFC 5626 §7) |
//! | has no flow left, was cancelled, its round is over, or another has declined with 6xx | fails as it did |
//! | waits for the verdict on its move when the call is decided | goes nowhere; its 503 is acknowledged |
//!
//! The move is committed (`BranchMoved`) before the INVITE leaves again. It is a request of its own, with a branch
//! parameter of its own; other requests move without a word, as nothing was promised for them.

use super::build;
use super::call::{Call, Final, Phase, Retired};
use super::exchange::Exchange;
use super::rename::ack_for_failure;
use crate::engine::ticket::Awaiting;
use crate::engine::{Client, Cx, Engine};
use crate::msg::Message;
use crate::state::{Branch, BranchState, Flow, SipCommand, SipResponse};
use crate::transaction::{IctAction, IctState, Nict, NictAction};

impl Engine {
    /// The flow of a branch has failed.
    pub(crate) fn on_branch_unreachable(&mut self, cx: Cx<'_>, id: u64, index: usize, flow: Flow) {
        self.with_call(cx, id, |engine, call| {
            engine.drill("unreachable", &call.call_id);
            let elsewhere = call.has_more_to_try();
            let Some(branch) = call.branches.get_mut(index).filter(|b| b.record.flow == flow) else { return };
            if let Some(cancel) = branch.cancel.as_mut() {
                cancel.on_transport_error();
            }
            let rings = branch.ict.as_ref().is_some_and(|ict| ict.state() == IctState::Proceeding);
            if rings && branch.outcome.is_none() {
                // The answer may come by another connection, if there is anybody left to give one.
                let record = branch.record.clone();
                engine.doubt(cx, &record);
            }
            let Some(branch) = call.branches.get_mut(index) else { return };
            let Some(ict) = branch.ict.as_mut() else { return };
            // After a takeover the phone's connection is gone, but what it says next comes by a new one.
            let rings = branch.rebuilt && matches!(branch.record.state, BranchState::Proceeding { .. });
            let may_fail = flow.transport.is_reliable() || branch.record.following().is_some() || elsewhere;
            if ict.state() != IctState::Calling || !may_fail {
                return;
            }
            if rings && branch.record.next.is_empty() {
                ict.on_response(cx.now.mono, 100);
                return;
            }
            if ict.on_transport_error() == IctAction::TransportError {
                engine.on_branch_made(cx, id, call, index, 503);
            }
        });
    }

    /// The branch has come to nothing in a way that another address may not. `true` if it goes on there.
    pub(super) fn goes_elsewhere(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        call: &mut Call,
        index: usize,
        refused: Option<Final>,
    ) -> bool {
        if call.phase != Phase::Open || call.deciding.is_some() || call.is_declined() {
            return false;
        }
        let Some(branch) = call.branches.get_mut(index) else { return false };
        let leads_on = match &refused {
            Some(end) => leads_on_after(&branch.record, end.status),
            None => branch.record.following().is_some(),
        };
        let usable = branch.outcome.is_none()
            && branch.answers.is_empty()
            && !branch.cancel_wanted
            && !branch.passed_over
            && leads_on;
        if !usable {
            return false;
        }
        branch.refused = refused;
        branch.moving = true;
        self.propose_move(cx, id, call, index);
        true
    }

    fn propose_move(&mut self, cx: Cx<'_>, id: u64, call: &mut Call, index: usize) {
        let Some(branch) = call.branches.get(index) else { return };
        let Some(to) = branch.record.following() else { return };
        let command = SipCommand::BranchMoved {
            key: call.key.clone(),
            branch: u16::try_from(index).unwrap_or(u16::MAX),
            from: branch.record.flow,
            via_branch: self.settings.keys.next_via_branch(&branch.record.via_branch, to),
        };
        if !self.propose(command, Awaiting::Moved { call: id, branch: index }) {
            call.retry_at = Some(cx.now.mono + self.settings.timers.t1());
        }
    }

    /// Proposes again what was refused.
    pub(super) fn retry_moves(&mut self, cx: Cx<'_>, id: u64, call: &mut Call) {
        for index in 0..call.branches.len() {
            if call.branches.get(index).is_some_and(|b| b.moving) {
                self.propose_move(cx, id, call, index);
            }
        }
    }

    /// Verdict on `BranchMoved`.
    pub(crate) fn on_move_safe(&mut self, cx: Cx<'_>, id: u64, index: usize, response: &SipResponse) {
        self.with_call(cx, id, |engine, call| {
            let key = call.key.clone();
            let Some(branch) = call.branches.get_mut(index).filter(|b| b.moving) else { return };
            if branch.refused.is_none() && (!branch.answers.is_empty() || branch.outcome.is_some()) {
                // It has come to its end meanwhile: that counts, and nobody is called elsewhere.
                branch.moving = false;
                engine.weigh(cx, id, call, Some(index));
                return;
            }
            let moved = cx.state.pending(&key).and_then(|r| r.branches.get(index));
            let moved = moved.filter(|_| *response == SipResponse::Done).cloned();
            let Some(record) = moved else {
                if !engine.adopt(cx, call) {
                    engine.stays(cx, id, call, index);
                }
                return;
            };
            branch.moving = false;
            engine.retire(call, index);
            engine.set_aside(cx, call, index);
            engine.counters.moved += 1;
            let open = call.phase == Phase::Open && !call.is_declined();
            let elsewhere = call.has_more_to_try();
            let Some(branch) = call.branches.get_mut(index) else { return };
            let client = Client::Call(id, index);
            engine.unwatch(&branch.record.flow, client);
            let old = std::mem::replace(&mut branch.record, record).via_branch;
            if !branch.retired.iter().any(|r| r.via_branch == old) {
                // Nothing is heard from there any more: a 2xx after timer B is nobody's (RFC 6026 §8.9).
                engine.remove_client(&old, client);
            }
            branch.ict = None;
            let wanted = open && !branch.cancel_wanted && !branch.passed_over && branch.outcome.is_none();
            if !wanted {
                // Hung up, declined for all, or given up, meanwhile: nobody is called there.
                engine.fails_here(cx, id, call, index, 487);
                return;
            }
            engine.add_client(&branch.record.via_branch, id, index);
            engine.watch(&branch.record, elsewhere, Client::Call(id, index));
            let request = call.request.clone();
            let Ok(message) = Message::parse(&request) else { return };
            engine.send_invite(cx, call, &message, index);
        });
    }

    /// `BranchMoved` was refused: nobody sends anything again that would bring us here, so a timer does.
    pub(crate) fn on_move_refused(&mut self, cx: Cx<'_>, id: u64, index: usize) {
        self.with_call(cx, id, |engine, call| {
            if call.branches.get(index).is_some_and(|b| b.moving) {
                call.retry_at = Some(cx.now.mono + engine.settings.timers.t1());
            }
        });
    }

    /// The call is decided: branches on their way to another address stay where they are.
    pub(super) fn stop_moves(&mut self, cx: Cx<'_>, call: &mut Call) {
        for index in 0..call.branches.len() {
            let Some(branch) = call.branches.get_mut(index).filter(|b| b.moving) else { continue };
            branch.moving = false;
            branch.outcome.get_or_insert(Final { status: 503, response: Vec::new() });
            branch.acked = true;
            if branch.answers.is_empty() {
                branch.give_up(cx.now.mono);
            }
            self.retire(call, index);
        }
    }

    /// The branch goes nowhere, as the cluster knows something else of its call: what it was told counts as it would have
    /// without another address, and is acknowledged when that is safe.
    fn stays(&mut self, cx: Cx<'_>, id: u64, call: &mut Call, index: usize) {
        let Some(branch) = call.branches.get_mut(index) else { return };
        branch.moving = false;
        let Some(response) = branch.refused.take() else {
            branch.give_up(cx.now.mono);
            self.fails_here(cx, id, call, index, 503);
            return;
        };
        branch.outcome = Some(response);
        self.weigh(cx, id, call, Some(index));
    }

    fn fails_here(&mut self, cx: Cx<'_>, id: u64, call: &mut Call, index: usize, status: u16) {
        if let Some(branch) = call.branches.get_mut(index) {
            branch.outcome.get_or_insert(Final { status, response: Vec::new() });
            branch.acked = true;
        }
        self.weigh(cx, id, call, Some(index));
    }

    /// What the branch was before goes aside; a 503 is acknowledged, also when it comes again.
    fn retire(&mut self, call: &mut Call, index: usize) {
        let Some(branch) = call.branches.get_mut(index) else { return };
        let Some(refused) = branch.refused.take() else { return };
        let Some(mut ict) = branch.ict.take() else { return };
        let mut ack = Vec::new();
        if ack_for_failure(ict.request(), &refused.response, branch.record.backing.renamed(), &mut ack)
            .is_err()
        {
            return;
        }
        let flow = branch.record.flow;
        let via_branch = branch.record.via_branch.clone();
        if let IctAction::Transmit(ack) = ict.acknowledge(ack.into()) {
            branch.retired.push(Retired { via_branch, flow, ict, cancel: None });
            self.transmit(flow, &ack);
        }
    }

    /// The flow of a copy of another request has failed.
    pub(crate) fn on_copy_unreachable(&mut self, cx: Cx<'_>, id: u64, index: usize, flow: Flow) {
        self.with_exchange(cx, id, |engine, exchange| {
            let Some(branch) = exchange.branches.get_mut(index).filter(|b| b.record.flow == flow) else {
                return;
            };
            if branch.nict.on_transport_error() != NictAction::TransportError {
                return;
            }
            if !engine.copy_goes_elsewhere(cx, id, exchange, index) {
                if let Some(branch) = exchange.branches.get_mut(index) {
                    branch.outcome = Some(Final { status: 503, response: Vec::new() });
                }
                engine.weigh_exchange(cx, id, exchange, None);
            }
        });
    }

    /// Sends a copy to the next address of its target. `false` if there is none.
    pub(super) fn copy_goes_elsewhere(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        exchange: &mut Exchange,
        index: usize,
    ) -> bool {
        let incoming = exchange.flow;
        let Some(request) = exchange.request.clone().filter(|_| exchange.nist.is_open()) else {
            return false;
        };
        let Ok(request) = Message::parse(&request) else { return false };
        let Some(branch) = exchange.branches.get_mut(index) else { return false };
        let Some(to) = branch.record.following().filter(|_| branch.outcome.is_none()) else { return false };
        let client = Client::Exchange(id, index);
        self.unwatch(&branch.record.flow, client);
        self.remove_client(&branch.record.via_branch, client);
        let via_branch = self.settings.keys.next_via_branch(&branch.record.via_branch, to);
        branch.record.follow(via_branch);
        let bytes = build::copy(&self.settings, &request, incoming, &branch.record);
        self.counters.moved += 1;
        self.transmit(to, &bytes);
        branch.nict = Nict::new(cx.now.mono, &self.settings.timers, to.transport.is_reliable(), bytes.into());
        branch.silent_at = self.patience_of_copy(cx, &branch.record, !exchange.plan.is_empty());
        self.put_client(&branch.record.via_branch, client);
        let elsewhere = !exchange.plan.is_empty();
        self.watch(&branch.record, elsewhere, client);
        true
    }

    /// The caller speaks by another connection than before: answers go there.
    pub(crate) fn caller_is_at(&mut self, cx: Cx<'_>, id: u64, flow: Flow) {
        if flow.transport.is_reliable() {
            self.with_call(cx, id, |_, call| {
                if call.flow.transport == flow.transport {
                    call.flow = flow;
                }
            });
        }
    }
}

/// Whether a branch that was refused with this status goes on by what is left to it. A 503 is of the server at one
/// address; of a phone it is an answer, and its other flows would lead to the same phone (RFC 5626 §7). A 430 says that
/// a flow is dead.
pub(super) fn leads_on_after(branch: &Branch, status: u16) -> bool {
    match status {
        503 => !branch.next.is_empty(),
        430 => !branch.others.is_empty(),
        _ => false,
    }
}
