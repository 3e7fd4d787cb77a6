//! What comes of copies that nobody waits for any more: their servers were silent for too long, and are there after
//! all.
//!
//! | it says | then |
//! |---|---|
//! | a provisional response | CANCEL (RFC 3261 §9.1) |
//! | a failure | ACK, and again for each repetition |
//! | 2xx, while its branch may still be taken | it is taken (§16.7 step 5); the table of `backend` says when |
//! | 2xx, after the caller was told that the call has failed, or after the branch has gone on at another address | BYE, then ACK |
//! | the same, and it is the answer that the caller has got | passed on again |
//! | the same, to a re-INVITE | taken if the call is open, else dropped: a BYE would end the dialog that it belongs to |
//!
//! The caller has no transaction any more that could take such a 2xx (RFC 6026 §7.1), so that nobody but the proxy can
//! end what the callee takes for a call. The BYE goes first, and the ACK when it is over: should this node be lost in
//! between, the callee repeats its 2xx, and the successor, who listens for the same copies, does the same again
//! (§15: the caller's side may send BYE before the dialog is confirmed).

use super::build;
use super::call::{Call, Retired};
use crate::engine::limits::MAX_ANSWERS_PER_BRANCH;
use crate::engine::{Cx, Engine};
use crate::msg::{Message, Method, build_ack_for_failure, build_cancel};
use crate::state::{Branch, Flow, Place};
use crate::transaction::{Ict, IctAction, Nict, NictAction, SharedBytes};
use crate::uac::{Originated, Purpose};

/// A 2xx that nobody waits for, and how far its end has come.
#[derive(Debug)]
pub(super) struct Late {
    to_tag: String,
    /// To be sent for each repetition of the 2xx, once the BYE is over.
    ack: SharedBytes,
    flow: Flow,
    over: bool,
}

impl Engine {
    /// The copy at the address that the branch leaves now is listened for until it says no more.
    pub(super) fn set_aside(&mut self, cx: Cx<'_>, call: &mut Call, index: usize) {
        let Some(branch) = call.branches.get_mut(index) else { return };
        let Some(mut ict) = branch.ict.take().filter(Ict::is_open) else { return };
        let flow = branch.flow();
        let via_branch = branch.record.via_branch.clone();
        let rings = ict.state() == crate::transaction::IctState::Proceeding;
        // Not sent again, and gone after 64*T1.
        ict.on_response(cx.now.mono, 100);
        ict.on_cancel_sent(cx.now.mono);
        let mut retired = Retired { via_branch, flow, ict, cancel: None };
        if rings {
            self.cancel_retired(cx, &mut retired);
        }
        branch.retired.push(retired);
    }

    /// At takeover: the copies at the addresses that a branch has left. Nobody knows what they have said since, so
    /// that each gets a CANCEL, as the other open branches of a round that is over do.
    pub(super) fn resume_retired(
        &mut self,
        cx: Cx<'_>,
        call: &mut Call,
        request: &Message<'_>,
        index: usize,
    ) {
        let came_by = call.flow;
        let Some(branch) = call.branches.get_mut(index) else { return };
        let mut all = Vec::new();
        for (via_branch, place) in &branch.record.left {
            let Place { target, route, flow } = place.clone();
            let via_branch = via_branch.clone();
            let copy = Branch { via_branch, target, route, flow, ..branch.record.clone() };
            let bytes = build::copy(&self.settings, request, came_by, &copy).into();
            let mut ict = Ict::new(cx.now.mono, &self.settings.timers, flow.transport.is_reliable(), bytes);
            ict.on_response(cx.now.mono, 100);
            ict.on_cancel_sent(cx.now.mono);
            all.push(Retired { via_branch: copy.via_branch, flow, ict, cancel: None });
        }
        for retired in &mut all {
            self.cancel_retired(cx, retired);
        }
        branch.retired = all;
    }

    fn cancel_retired(&mut self, cx: Cx<'_>, retired: &mut Retired) {
        let mut bytes = Vec::new();
        if retired.cancel.is_some() || build_cancel(retired.ict.request(), &[], &mut bytes).is_err() {
            return;
        }
        self.transmit(retired.flow, &bytes);
        let reliable = retired.flow.transport.is_reliable();
        retired.cancel = Some(Nict::new(cx.now.mono, &self.settings.timers, reliable, bytes.into()));
    }

    /// A response to a copy at an address that its branch has left. `true` if it is one.
    pub(super) fn is_of_retired(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        call: &mut Call,
        index: usize,
        response: &Message<'_>,
        status: u16,
    ) -> bool {
        let Some(branch) = call.branches.get_mut(index).filter(|b| !b.retired.is_empty()) else {
            return false;
        };
        let via_branch = response.top_via().ok().and_then(|via| via.branch()).unwrap_or_default();
        if branch.record.via_branch == via_branch {
            return false;
        }
        let Some(at) = branch.retired.iter().position(|r| r.via_branch == via_branch) else {
            self.counters.dropped_stray += 1;
            return true;
        };
        let mut retired = branch.retired.swap_remove(at);
        if response.method() == Some(Method::Cancel) {
            if let Some(cancel) = &mut retired.cancel {
                cancel.on_response(cx.now.mono, status);
            }
        } else {
            self.on_retired_response(cx, id, call, index, &mut retired, response, status);
        }
        if let Some(branch) = call.branches.get_mut(index) {
            branch.retired.push(retired);
        }
        true
    }

    #[expect(clippy::too_many_arguments, reason = "one event with all that is known of it")]
    fn on_retired_response(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        call: &mut Call,
        index: usize,
        retired: &mut Retired,
        response: &Message<'_>,
        status: u16,
    ) {
        match (retired.ict.on_response(cx.now.mono, status), status) {
            (IctAction::Transmit(ack), _) => {
                self.counters.retransmissions_in += 1;
                self.transmit(retired.flow, &ack);
            }
            (IctAction::Pass, ..200) => self.cancel_retired(cx, retired),
            (IctAction::Pass, ..300) => {
                if self.repeats_answer(cx, call, response) {
                    return;
                }
                if call.in_dialog && call.is_undecided() {
                    self.answer_elsewhere(cx, id, call, index, response);
                    return;
                }
                self.hang_up_late(cx, call, index, retired.flow, response);
            }
            (IctAction::Pass, _) => {
                let mut ack = Vec::new();
                if build_ack_for_failure(retired.ict.request(), response.raw(), &mut ack).is_ok()
                    && let IctAction::Transmit(ack) = retired.ict.acknowledge(ack.into())
                {
                    self.transmit(retired.flow, &ack);
                }
            }
            _ => self.counters.dropped_stray += 1,
        }
    }

    /// The answer of the call can have come from an address that its branch has left: it crossed the move, and it comes
    /// again after a takeover, or by both addresses. `true` if this is it.
    fn repeats_answer(&mut self, cx: Cx<'_>, call: &mut Call, response: &Message<'_>) -> bool {
        let to_tag = response.to_tag().unwrap_or_default();
        let mut answers = call.branches.iter().flat_map(|b| &b.answers);
        let Some(known) = answers.find(|a| a.to_tag == to_tag) else { return false };
        self.counters.retransmissions_in += 1;
        if known.safe {
            let (answer, bytes): (_, SharedBytes) = (known.id, known.response.as_slice().into());
            self.lead_with_first(cx, call, answer);
            let action = call.ist.send_response(cx.now.mono, 200, bytes);
            self.send_to_caller(call, action);
        }
        true
    }

    /// A re-INVITE is answered from an address that its branch has left: whichever way it took, it is the same callee.
    fn answer_elsewhere(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        call: &mut Call,
        index: usize,
        response: &Message<'_>,
    ) {
        self.on_answer(cx, id, call, index, response);
        if let Some(branch) = call.branches.get_mut(index).filter(|b| !b.answers.is_empty()) {
            branch.give_up(cx.now.mono);
        }
    }

    /// The CANCELs of copies at addresses that the branch has left.
    pub(super) fn on_retired_timeout(&mut self, cx: Cx<'_>, call: &mut Call, index: usize) {
        let now = cx.now.mono;
        let Some(branch) = call.branches.get_mut(index) else { return };
        let mut again = Vec::new();
        for retired in &mut branch.retired {
            if retired.ict.next_timeout().is_some_and(|at| at <= now) {
                retired.ict.on_timeout(now);
            }
            if let Some(cancel) = retired.cancel.as_mut()
                && cancel.next_timeout().is_some_and(|at| at <= now)
                && let NictAction::Transmit(bytes) = cancel.on_timeout(now)
            {
                again.push((retired.flow, bytes));
            }
        }
        for (flow, bytes) in again {
            self.counters.retransmissions_out += 1;
            self.transmit(flow, &bytes);
        }
    }

    /// Ends what the callee takes for a call: see the table above.
    pub(super) fn hang_up_late(
        &mut self,
        cx: Cx<'_>,
        call: &mut Call,
        index: usize,
        flow: Flow,
        response: &Message<'_>,
    ) {
        if call.in_dialog {
            // A BYE would end the dialog of the two, not only what this INVITE has come to. Without an ACK the callee
            // ends it (RFC 3261 §13.3.1.4), unless the caller has done so (§14.1).
            self.counters.dropped_stray += 1;
            return;
        }
        let to_tag = response.to_tag().unwrap_or_default();
        let Some(branch) = call.branches.get_mut(index) else { return };
        if let Some(late) = branch.late.iter().find(|l| l.to_tag == to_tag) {
            self.counters.retransmissions_in += 1;
            if late.over {
                let (flow, ack) = (late.flow, late.ack.clone());
                self.transmit(flow, &ack);
            }
            return;
        }
        let request = call.request.clone();
        let Ok(invite) = Message::parse(&request) else { return };
        let backing = branch.record.backing.of_dialog();
        let made =
            crate::dialog::made(&self.settings, &invite, response, call.flow, flow, backing, cx.now.wall);
        let Some(dialog) = made.filter(|_| branch.late.len() < MAX_ANSWERS_PER_BRANCH) else {
            self.counters.dropped_stray += 1;
            return;
        };
        let (bye, ack) = crate::dialog::end::bye_and_ack(&dialog);
        let parts: [&[u8]; 2] = [dialog.id.call_id.as_bytes(), to_tag.as_bytes()];
        let ack_branch = self.settings.keys.own_tag("late-ack", &parts);
        let via = format!("SIP/2.0/{} {};branch=z9hG4bK{ack_branch}", flow.transport.via_name(), flow.local);
        let ack: SharedBytes = ack.write(&via).into();
        let purpose = Purpose::LateBye { key: call.key.clone(), branch: index, to_tag: to_tag.to_owned() };
        if !self.originate(cx, Originated { flow, request: bye, purpose, patience: None }) {
            // It repeats itself, and is heard again.
            return;
        }
        self.counters.late_answers += 1;
        branch.late.push(Late { to_tag: to_tag.to_owned(), ack, flow, over: false });
    }

    /// The BYE is over, whatever came of it: the callee may stop repeating its 2xx.
    pub(crate) fn on_late_bye_over(
        &mut self,
        cx: Cx<'_>,
        key: &crate::state::ServerKey,
        index: usize,
        to_tag: &str,
    ) {
        let Some(id) = self.call_of_key(key) else { return };
        self.with_call(cx, id, |engine, call| {
            let Some(branch) = call.branches.get_mut(index) else { return };
            let Some(late) = branch.late.iter_mut().find(|l| l.to_tag == to_tag) else { return };
            late.over = true;
            let (flow, ack) = (late.flow, late.ack.clone());
            engine.transmit(flow, &ack);
        });
    }
}

impl super::call::CallBranch {
    /// Whether a late 2xx is still being ended.
    pub(super) fn has_late_answer(&self) -> bool {
        self.late.iter().any(|l| !l.over)
    }
}
