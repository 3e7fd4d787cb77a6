//! How a call is decided, and the verdicts on what was proposed for it.
//!
//! A call is decided by the first 2xx that is safe, by the failure of all branches, or by timer C. While it is open a
//! branch's failure is acknowledged only when it is replicated; once the outcome is, it no longer matters how the
//! other branches ended, and their failures are acknowledged at once.

use super::best::{Best, best};
use super::build;
use super::call::{Call, CallBranch, Phase};
use super::rename::ack_for_failure;
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::msg::Message;
use crate::state::{BranchState, InviteState, SipCommand, SipResponse};
use crate::transaction::IctAction;

impl Engine {
    /// Looks at a call after something happened to its branches: decides it, or replicates what branch `index` said.
    pub(super) fn weigh(&mut self, cx: Cx<'_>, id: u64, call: &mut Call, index: Option<usize>) {
        if !call.is_undecided() {
            self.acknowledge_failures(call);
            return;
        }
        if call.deciding.is_some() {
            // Its verdict settles all branches.
            return;
        }
        let all_done = call.branches.iter().all(|b| b.outcome.is_some());
        if call.stepping {
            // Its verdict comes back here.
            return;
        }
        if all_done && !self.takes_next_step(cx, id, call, index) {
            self.decide_failure(cx, id, call);
        }
        if all_done {
            return;
        }
        self.remember_final(id, call, index);
    }

    /// Replicates how a branch failed, so that a successor need not ask again.
    pub(super) fn remember_final(&mut self, id: u64, call: &mut Call, index: Option<usize>) {
        let Some((index, branch)) = index.and_then(|i| Some((i, call.branches.get_mut(i)?))) else { return };
        let Some(outcome) = branch.outcome.as_ref().filter(|_| !branch.final_waits) else { return };
        let state = BranchState::Final { status: outcome.status, response: outcome.response.clone() };
        let command = SipCommand::BranchProgress {
            key: call.key.clone(),
            branch: u16::try_from(index).unwrap_or(u16::MAX),
            state,
            timer_c_at: None,
        };
        branch.final_waits = self.propose(command, Awaiting::BranchFinal { call: id, branch: index });
    }

    /// All branches have failed.
    fn decide_failure(&mut self, cx: Cx<'_>, id: u64, call: &mut Call) {
        let finals = call.finals();
        let chosen = if call.phase == Phase::Cancelled {
            // The caller has hung up and waits for nothing but this.
            finals
                .iter()
                .find(|f| f.status == 487 && f.can_be_passed())
                .map_or(Best::Made(487), |f| Best::Received(487, f.response.clone()))
        } else if finals.is_empty() && call.branches.iter().any(CallBranch::is_challenge_of_trunk) {
            // It asked us, and the caller has nothing to answer it with.
            Best::Made(503)
        } else {
            best(finals.iter().copied())
        };
        let (status, bytes) = match chosen {
            Best::Received(status, bytes) => (status, bytes),
            Best::Made(status) => (status, self.made_response(call, status)),
        };
        self.propose_failure(cx, id, call, status, bytes);
    }

    /// Nobody has answered in time: 408 for the caller, as Kamailio's `fr_inv_timer` does it, and CANCEL for the
    /// phones once that is safe. Who has hung up gets the 487 that is due.
    pub(super) fn on_timer_c(&mut self, cx: Cx<'_>, id: u64, call: &mut Call) {
        if call.retry_at.is_some_and(|at| at > cx.now.mono) {
            return;
        }
        if self.takes_step_after_silence(cx, id, call) {
            return;
        }
        let status = if call.phase == Phase::Cancelled { 487 } else { 408 };
        let bytes = self.made_response(call, status);
        self.propose_failure(cx, id, call, status, bytes);
    }

    pub(super) fn made_response(&self, call: &Call, status: u16) -> Vec<u8> {
        Message::parse(&call.request).map_or_else(
            |_| Vec::new(),
            |request| build::response(&self.settings, &request, status, "", &call.local_tag, &[]),
        )
    }

    pub(super) fn propose_failure(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        call: &mut Call,
        status: u16,
        bytes: Vec<u8>,
    ) {
        let command = SipCommand::InviteFailed {
            key: call.key.clone(),
            response: bytes.clone(),
            to_tag: Message::parse(&bytes)
                .ok()
                .and_then(|m| m.to_tag().map(str::to_owned))
                .unwrap_or_default(),
            at: cx.now.wall,
            forget_at: cx.now.wall + self.settings.timers.t1_64(),
        };
        if self.propose(command, Awaiting::Failed { call: id }) {
            call.deciding = Some((status, bytes));
            call.retry_at = None;
        } else {
            call.retry_at = Some(cx.now.mono + self.settings.timers.t1());
        }
    }

    /// Verdict on `InviteFailed`.
    pub(crate) fn on_failure_safe(&mut self, cx: Cx<'_>, id: u64, response: &SipResponse) {
        self.with_call(cx, id, |engine, call| {
            let Some((status, bytes)) = call.deciding.take() else { return };
            if !call.is_undecided() {
                return;
            }
            if *response == SipResponse::Superseded && engine.adopt(cx, call) {
                return;
            }
            engine.close(cx, call, Phase::Failed, status, bytes);
        });
    }

    /// The outcome is safe: the caller hears of it, failures are acknowledged, and who still rings is told to stop.
    fn close(&mut self, cx: Cx<'_>, call: &mut Call, phase: Phase, status: u16, bytes: Vec<u8>) {
        call.phase = phase;
        call.deciding = None;
        if phase == Phase::Failed {
            self.release_media(cx, call);
        }
        let action = call.ist.send_response(cx.now.mono, status, bytes.into());
        self.send_to_caller(call, action);
        self.stop_moves(cx, call);
        self.acknowledge_failures(call);
        self.cancel_open_branches(cx, call, false);
        for index in 0..call.branches.len() {
            self.cancel_abandoned(cx, call, index);
        }
    }

    /// The cluster knows an outcome that this engine does not: of its commit nobody had heard. That one counts.
    pub(super) fn adopt(&mut self, cx: Cx<'_>, call: &mut Call) -> bool {
        let Some(record) = cx.state.pending(&call.key).filter(|_| call.is_undecided()) else { return false };
        match &record.state {
            InviteState::Answered { branch, response, .. } => {
                if let Some(branch) = call.branches.get_mut(usize::from(*branch)) {
                    super::takeover::resume_answer(branch, response);
                }
                let status = super::takeover::status_in(response).unwrap_or(200);
                self.close(cx, call, Phase::Answered, status, response.clone());
                true
            }
            InviteState::Failed { response, .. } => {
                let status = super::takeover::status_in(response).unwrap_or(500);
                self.close(cx, call, Phase::Failed, status, response.clone());
                true
            }
            InviteState::Proceeding | InviteState::Cancelled => false,
        }
    }

    /// `InviteFailed` was refused: nobody sends anything again that would bring us here, so a timer does.
    pub(crate) fn on_failure_refused(&mut self, cx: Cx<'_>, id: u64) {
        self.with_call(cx, id, |engine, call| {
            call.deciding = None;
            call.retry_at = Some(cx.now.mono + engine.settings.timers.t1());
        });
    }

    /// Sends the ACKs that are owed: what they end is safe.
    pub(super) fn acknowledge_failures(&mut self, call: &mut Call) {
        for index in 0..call.branches.len() {
            self.acknowledge(call, index);
        }
    }

    fn acknowledge(&mut self, call: &mut Call, index: usize) {
        let Some(branch) = call.branches.get_mut(index).filter(|b| !b.acked) else { return };
        let (Some(outcome), Some(ict)) = (&branch.outcome, &mut branch.ict) else { return };
        if outcome.status < 300 || outcome.response.is_empty() {
            return;
        }
        let mut ack = Vec::new();
        let names = branch.record.backing.renamed();
        if ack_for_failure(ict.request(), &outcome.response, names, &mut ack).is_err() {
            return;
        }
        if let IctAction::Transmit(ack) = ict.acknowledge(ack.into()) {
            branch.acked = true;
            let flow = branch.flow();
            self.transmit(flow, &ack);
        }
    }

    /// Verdict on the failure of one branch.
    pub(crate) fn on_final_safe(&mut self, cx: Cx<'_>, id: u64, index: usize) {
        self.with_call(cx, id, |engine, call| {
            let Some(branch) = call.branches.get_mut(index) else { return };
            branch.final_waits = false;
            branch.end_is_safe = true;
            let declined = !branch.passed_over && branch.outcome.as_ref().is_some_and(|f| f.status >= 600);
            engine.acknowledge(call, index);
            engine.cancel_abandoned(cx, call, index);
            if declined && call.phase == Phase::Open {
                // §16.7 step 5: nobody else is to answer.
                engine.cancel_open_branches(cx, call, false);
            }
        });
    }

    /// The failure of a branch was not replicated: the phone says it again, unless it speaks by a stream.
    pub(crate) fn on_final_refused(&mut self, cx: Cx<'_>, id: u64, index: usize) {
        self.with_call(cx, id, |engine, call| {
            let Some(branch) = call.branches.get_mut(index) else { return };
            branch.final_waits = false;
            if branch.record.flow.transport.is_reliable() || branch.abandoned {
                call.retry_at = Some(cx.now.mono + engine.settings.timers.t1());
            }
        });
    }

    /// Proposes again how branches failed whose peers do not repeat themselves.
    pub(super) fn retry_finals(&mut self, cx: Cx<'_>, id: u64, call: &mut Call) {
        if call.deciding.is_some() || !call.is_undecided() {
            return;
        }
        for index in 0..call.branches.len() {
            let waits = call.branches.get(index).is_some_and(|b| {
                let unheard = b.record.flow.transport.is_reliable() || (b.abandoned && !b.end_is_safe);
                unheard && b.outcome.is_some() && !b.acked && !b.final_waits
            });
            if waits {
                self.weigh(cx, id, call, Some(index));
            }
        }
    }

    /// Verdict on a 2xx.
    pub(crate) fn on_answer_safe(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        index: usize,
        answer: u64,
        response: &SipResponse,
    ) {
        self.with_call(cx, id, |engine, call| {
            let failed = cx
                .state
                .pending(&call.key)
                .is_some_and(|record| matches!(record.state, InviteState::Failed { .. }));
            let Some(branch) = call.branches.get_mut(index) else { return };
            let Some(entry) = branch.answers.iter_mut().find(|a| a.id == answer) else { return };
            if failed || call.phase == Phase::Failed || *response == SipResponse::Full {
                // The caller has been told otherwise, or will be.
                branch.answers.retain(|a| a.id != answer);
                engine.counters.dropped_stray += 1;
                return;
            }
            let bytes = entry.response.clone();
            if *response == SipResponse::NotFound && call.phase == Phase::Answered {
                // A further one, when nobody remembers the call any more: it would be a call without a record.
                let flow = branch.flow();
                branch.answers.retain(|a| a.id != answer);
                if let Ok(message) = Message::parse(&bytes) {
                    engine.hang_up_late(cx, call, index, flow, &message);
                }
                return;
            }
            if std::mem::replace(&mut entry.safe, true) {
                return;
            }
            branch.outcome = Some(super::call::Final { status: 200, response: Vec::new() });
            let status = super::takeover::status_in(&bytes).unwrap_or(200);
            engine.lead_with_first(cx, call, answer);
            engine.close(cx, call, Phase::Answered, status, bytes);
        });
    }

    /// A 2xx is about to go to the caller: if it is that of a further fork, and the caller has acknowledged none, the first
    /// one goes before it once more. The rtpengine knows the first one only, and the caller keeps the one that it hears
    /// first (RFC 3261 §13.2.2.4): where that was lost on its way, it would keep a call without sound.
    pub(super) fn lead_with_first(&mut self, cx: Cx<'_>, call: &mut Call, answer: u64) {
        if call.media.is_none() || call.acked {
            return;
        }
        let safe = call.branches.iter().flat_map(|b| &b.answers).filter(|a| a.safe);
        let Some(first) = safe.min_by_key(|a| a.id).filter(|a| a.id != answer) else { return };
        let action = call.ist.send_response(cx.now.mono, 200, first.response.as_slice().into());
        self.counters.retransmissions_out += 1;
        self.send_to_caller(call, action);
    }

    /// A 2xx was not replicated: the phone says it again.
    pub(crate) fn on_answer_refused(&mut self, cx: Cx<'_>, id: u64, index: usize, answer: u64) {
        self.with_call(cx, id, |_, call| {
            if let Some(branch) = call.branches.get_mut(index) {
                branch.answers.retain(|a| a.id != answer);
            }
        });
    }
}
