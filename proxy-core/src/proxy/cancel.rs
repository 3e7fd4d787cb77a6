//! CANCEL: from the caller, whose 200 waits until it is safe, and to the phones (RFC 3261 §9, §16.10).

use super::call::{Call, Phase};
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::msg::{Message, build_cancel};
use crate::state::{ServerKey, SipCommand, SipResponse};
use crate::transaction::{Ict, IctState, Nict, NictAction};

/// Said to the phones that did not get the call (RFC 3326), so that they do not show it as missed.
const ANSWERED_ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

impl Engine {
    /// Asks that the hanging up be remembered; `exchange` is its CANCEL.
    pub(crate) fn propose_cancel(&mut self, id: u64, call: &Call, exchange: u64) {
        let command = SipCommand::InviteCancelled { key: call.key.clone() };
        if !self.propose(command, Awaiting::Cancel { call: id, exchange }) {
            self.give_up_exchange(exchange);
        }
    }

    /// The CANCEL in `exchange` is for this call.
    pub(crate) fn cancel_call(&mut self, cx: Cx<'_>, id: u64, exchange: u64) {
        let phase = self.with_call(cx, id, |engine, call| {
            match call.phase {
                // Not safe yet: it waits with the INVITE.
                Phase::Admitting => match call.early_cancel {
                    None => call.early_cancel = Some(exchange),
                    Some(_) => engine.remove_exchange(exchange),
                },
                Phase::Open => engine.propose_cancel(id, call, exchange),
                _ => {}
            }
            call.phase
        });
        match phase {
            Some(Phase::Admitting | Phase::Open) => {}
            // §9.2: too late, or once more; either way the transaction is known.
            Some(_) => {
                self.answer_cancel(cx, exchange, 200);
                self.with_call(cx, id, |_, call| call.cancel_owed = false);
            }
            None => self.answer_cancel(cx, exchange, 481),
        }
    }

    /// Verdict on `InviteCancelled`.
    pub(crate) fn on_cancel_safe(&mut self, cx: Cx<'_>, id: u64, exchange: u64, response: &SipResponse) {
        let status = if *response == SipResponse::NotFound { 481 } else { 200 };
        self.answer_cancel(cx, exchange, status);
        self.with_call(cx, id, |engine, call| {
            if *response != SipResponse::Done {
                engine.adopt(cx, call);
                return;
            }
            if call.phase != Phase::Open {
                return;
            }
            call.phase = Phase::Cancelled;
            engine.cancel_open_branches(cx, call, false);
            engine.weigh(cx, id, call, None);
        });
    }

    /// Sends the CANCEL of a branch when it may be sent (§9.1: not before a provisional). `now_or_never` sends it at
    /// once: at takeover nobody knows whether the phone has answered, and a CANCEL for nothing does no harm.
    pub(super) fn cancel_branch(&mut self, cx: Cx<'_>, call: &mut Call, index: usize, now_or_never: bool) {
        let elsewhere = [("Reason", ANSWERED_ELSEWHERE)];
        let extra: &[(&str, &str)] = if call.phase == Phase::Answered { &elsewhere } else { &[] };
        let Some(branch) = call.branches.get_mut(index) else { return };
        let Some(ict) = branch.ict.as_mut().filter(|i| i.is_open()) else { return };
        branch.cancel_wanted = true;
        if branch.cancel.is_some() || (ict.state() == IctState::Calling && !now_or_never) {
            return;
        }
        let mut bytes = Vec::new();
        if build_cancel(ict.request(), extra, &mut bytes).is_err() {
            return;
        }
        ict.on_cancel_sent(cx.now.mono);
        let flow = branch.flow();
        self.transmit(flow, &bytes);
        let reliable = flow.transport.is_reliable();
        branch.cancel = Some(Nict::new(cx.now.mono, &self.settings.timers, reliable, bytes.into()));
    }

    pub(super) fn cancel_open_branches(&mut self, cx: Cx<'_>, call: &mut Call, now_or_never: bool) {
        for index in 0..call.branches.len() {
            if call.branches.get(index).is_some_and(|b| b.outcome.is_none() && b.answers.is_empty()) {
                self.cancel_branch(cx, call, index, now_or_never);
            }
        }
    }

    /// A response to the CANCEL of a branch.
    pub(crate) fn on_cancel_response(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        index: usize,
        response: &Message<'_>,
        status: u16,
    ) {
        self.with_call(cx, id, |engine, call| {
            if engine.is_of_retired(cx, id, call, index, response, status) {
                return;
            }
            let Some(branch) = call.branches.get_mut(index) else { return };
            let Some(cancel) = &mut branch.cancel else {
                engine.counters.dropped_stray += 1;
                return;
            };
            let action = cancel.on_response(cx.now.mono, status);
            let never_seen = action == NictAction::Pass
                && status == 481
                && branch.rebuilt
                && branch.ict.as_ref().is_some_and(Ict::is_open);
            if never_seen {
                branch.ict = None;
                engine.on_branch_made(cx, id, call, index, 487);
            }
        });
    }

    /// An exchange that holds a CANCEL for an INVITE whose record turned out to be there already.
    pub(super) fn cancel_again(&mut self, cx: Cx<'_>, key: &ServerKey, exchange: u64) {
        match self.call_of_key(key) {
            Some(call) => self.cancel_call(cx, call, exchange),
            None => self.answer_cancel(cx, exchange, 481),
        }
    }
}
