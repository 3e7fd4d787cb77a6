//! A call until it is decided: admission, provisional responses, answers and failures of branches, CANCEL, timers.

use super::build;
use super::call::{Answer, Call, Final, Phase, progress_of};
use crate::engine::limits::{MAX_ANSWERS_PER_BRANCH, MAX_PROGRESS_PER_BRANCH};
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::io::Refusal;
use crate::msg::Message;
use crate::routing::Stage;
use crate::state::{BranchState, Flow, MediaSession, SipCommand, SipResponse};
use crate::transaction::{Ict, IctAction, IctState, IstAction, NictAction, SharedBytes};

impl Engine {
    /// Sends what the server transaction says.
    pub(super) fn send_to_caller(&mut self, call: &Call, action: IstAction) {
        if let IstAction::Transmit(bytes) = action {
            self.transmit(call.flow, &bytes);
        }
    }

    /// Verdict on `InviteReceived`.
    pub(crate) fn on_admitted(&mut self, cx: Cx<'_>, id: u64, response: &SipResponse) {
        match response {
            SipResponse::Done => {}
            // Whoever proposed it, the record is what counts; its copies carry the same branches.
            SipResponse::Duplicate => {
                let Some(key) = self.with_call(cx, id, |_, call| call.key.clone()) else { return };
                let early_cancel = self.with_call(cx, id, |_, call| call.early_cancel.take()).flatten();
                self.remove_call(id);
                if let Some(record) = cx.state.pending(&key) {
                    self.rebuild(cx, record);
                }
                if let Some(exchange) = early_cancel {
                    self.cancel_again(cx, &key, exchange);
                }
                return;
            }
            SipResponse::LimitReached(key) => {
                if self.is_admitted_elsewhere(cx, id, key) {
                    return;
                }
                self.with_call(cx, id, |engine, call| {
                    engine.release_media(cx, call);
                    engine.refuse_for_limit(cx, call.flow, &call.request, call.facts.as_deref(), key);
                });
                self.remove_call(id);
                return;
            }
            _ => {
                self.refuse_call(cx, id);
                return;
            }
        }
        self.with_call(cx, id, |engine, call| {
            call.phase = Phase::Open;
            call.facts = None;
            let request = call.request.clone();
            let Ok(message) = Message::parse(&request) else { return };
            let trying = build::response(&engine.settings, &message, 100, "", "", &[]);
            let action = call.ist.send_response(cx.now.mono, 100, trying.into());
            engine.send_to_caller(call, action);
            if let Some(exchange) = call.early_cancel.take() {
                // Hung up before anybody was called: nobody will be.
                for branch in &mut call.branches {
                    branch.outcome = Some(Final { status: 487, response: Vec::new() });
                }
                engine.propose_cancel(id, call, exchange);
                return;
            }
            for index in 0..call.branches.len() {
                engine.send_invite(cx, call, &message, index);
            }
        });
    }

    /// Makes the client transaction of a branch and sends its INVITE.
    pub(super) fn send_invite(&mut self, cx: Cx<'_>, call: &mut Call, request: &Message<'_>, index: usize) {
        let Some(branch) = call.branches.get_mut(index) else { return };
        let flow = branch.record.flow;
        let bytes = build::copy(&self.settings, request, call.flow, &branch.record);
        let bytes = self.manage_branch(cx, call, index, bytes);
        self.transmit(flow, &bytes);
        if let Some(branch) = call.branches.get_mut(index) {
            let reliable = flow.transport.is_reliable();
            branch.ict = Some(Ict::new(cx.now.mono, &self.settings.timers, reliable, bytes.into()));
            self.start_patience(cx, branch);
        }
    }

    /// The INVITE cannot be taken: 503, and forgotten.
    fn refuse_call(&mut self, cx: Cx<'_>, id: u64) {
        self.with_call(cx, id, |engine, call| {
            engine.release_media(cx, call);
            engine.reject_overload(call.flow, &call.request);
        });
        self.remove_call(id);
    }

    /// `InviteReceived` was refused. Silence makes the caller try again, here or at whoever is active then.
    pub(crate) fn on_invite_refused(&mut self, cx: Cx<'_>, id: u64, why: Refusal) {
        let early = self.with_call(cx, id, |_, call| call.early_cancel.take()).flatten();
        if let Some(exchange) = early {
            self.remove_exchange(exchange);
        }
        // Who speaks by a stream does not repeat it.
        let repeats = self.with_call(cx, id, |_, call| !call.flow.transport.is_reliable()).unwrap_or(true);
        match why {
            Refusal::NotActive | Refusal::Unknown if repeats => self.remove_call(id),
            _ => self.refuse_call(cx, id),
        }
    }

    /// A response to the INVITE of a branch.
    pub(crate) fn on_invite_response(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        index: usize,
        flow: Flow,
        response: &Message<'_>,
        status: u16,
    ) {
        self.with_call(cx, id, |engine, call| {
            if engine.is_of_retired(cx, id, call, index, response, status) {
                return;
            }
            let Some(branch) = call.branches.get_mut(index) else { return };
            branch.heard_on(flow);
            let Some(ict) = &mut branch.ict else {
                engine.counters.dropped_stray += 1;
                return;
            };
            let was_calling = ict.state() == IctState::Calling;
            let abandoned = branch.abandoned;
            match ict.on_response(cx.now.mono, status) {
                IctAction::Transmit(ack) => {
                    engine.counters.retransmissions_in += 1;
                    engine.transmit(branch.flow(), &ack);
                }
                IctAction::Pass => match status {
                    100..=199 => engine.on_provisional(cx, id, call, index, response, status, was_calling),
                    200..=299 => engine.on_answer(cx, id, call, index, response),
                    _ => engine.on_failure(cx, id, call, index, response, status),
                },
                _ => {
                    engine.counters.retransmissions_in += 1;
                    if status >= 300 && abandoned && call.is_end_known(index) {
                        engine.end_abandoned(call, index, response.raw());
                        return;
                    }
                    // The verdict on this failure was a refusal: now it is tried again.
                    let Some(branch) = call.branches.get_mut(index) else { return };
                    if status >= 300 && branch.outcome.is_some() && !branch.acked && !branch.final_waits {
                        engine.weigh(cx, id, call, Some(index));
                    }
                }
            }
        });
    }

    #[expect(clippy::too_many_arguments, reason = "one event with all that is known of it")]
    fn on_provisional(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        call: &mut Call,
        index: usize,
        response: &Message<'_>,
        status: u16,
        was_calling: bool,
    ) {
        let Some(branch) = call.branches.get_mut(index) else { return };
        if branch.abandoned {
            branch.has_spoken = true;
            self.cancel_abandoned(cx, call, index);
            return;
        }
        if branch.cancel_wanted {
            self.cancel_branch(cx, call, index, false);
            return;
        }
        branch.doubt_at = None;
        if status == 100 {
            self.begin_to_doubt(cx, branch);
            return;
        }
        if !call.is_undecided() {
            return;
        }
        if let Some(bytes) = build::passed_back(response, call.flow, call.cseq, call.names(index))
            && call.deciding.is_none()
        {
            let bytes = self.manage_reply(cx, call, index, bytes);
            let action = call.ist.send_response(cx.now.mono, status, bytes.into());
            self.send_to_caller(call, action);
        }
        self.remember_progress(cx, id, call, index, response, status, was_calling);
    }

    /// Replicates what is worth it of a provisional response that has been passed on already.
    #[expect(clippy::too_many_arguments, reason = "one event with all that is known of it")]
    fn remember_progress(
        &mut self,
        cx: Cx<'_>,
        _id: u64,
        call: &mut Call,
        index: usize,
        response: &Message<'_>,
        status: u16,
        was_calling: bool,
    ) {
        // §16.7 step 2: a provisional other than 100 sets timer C anew. The first one of a branch comes when there is
        // nothing to win, or when a takeover has asked for it again; and only every half timer C is it replicated.
        let timer_c = self.settings.config.timer_c;
        let left = call.timer_c_at.since(cx.now.mono);
        let extend = !was_calling && left < timer_c / 2 && call.deciding.is_none();
        if extend {
            call.timer_c_at = cx.now.mono + timer_c;
            call.timer_c_wall = cx.now.wall + timer_c;
            call.hard_end = call.timer_c_at + self.settings.timers.t1_64() * 3;
        }
        let news = progress_of(response, status);
        let key = call.key.clone();
        let timer_c_at = extend.then_some(call.timer_c_wall);
        let Some(branch) = call.branches.get_mut(index) else { return };
        branch.heard_ringing(response.to_tag());
        let is_news = match (&branch.record.state, &news) {
            (
                BranchState::Proceeding { status: old, to_tag: old_tag },
                BranchState::Proceeding { status: new, to_tag: new_tag },
            ) => old != new || (old_tag.is_none() && new_tag.is_some()),
            (BranchState::Trying, _) => true,
            _ => false,
        };
        let is_news = is_news && branch.progress_told < MAX_PROGRESS_PER_BRANCH;
        if !is_news && !extend {
            return;
        }
        if is_news {
            branch.progress_told += 1;
            branch.record.state = news;
        }
        let state = branch.record.state.clone();
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        self.propose(SipCommand::BranchProgress { key, branch: index, state, timer_c_at }, Awaiting::Nothing);
    }

    /// A 2xx of a branch, the first or not.
    pub(super) fn on_answer(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        call: &mut Call,
        index: usize,
        response: &Message<'_>,
    ) {
        let to_tag = response.to_tag().unwrap_or_default();
        let Some(branch) = call.branches.get_mut(index) else { return };
        if let Some(known) = branch.answers.iter().find(|a| a.to_tag == to_tag) {
            self.counters.retransmissions_in += 1;
            if known.safe {
                // The caller has not acknowledged it, or the ACK was lost.
                let (answer, bytes): (_, SharedBytes) = (known.id, known.response.as_slice().into());
                self.lead_with_first(cx, call, answer);
                let action = call.ist.send_response(cx.now.mono, 200, bytes);
                self.send_to_caller(call, action);
            }
            return;
        }
        if call.phase == Phase::Failed {
            let flow = branch.flow();
            self.hang_up_late(cx, call, index, flow, response);
            return;
        }
        if branch.answers.len() >= MAX_ANSWERS_PER_BRANCH {
            self.counters.dropped_stray += 1;
            return;
        }
        let Some(bytes) = build::passed_back(response, call.flow, call.cseq, call.names(index)) else {
            return;
        };
        let bytes = self.manage_reply(cx, call, index, bytes);
        let agreed = crate::media::agreed_by(call, response);
        // What the caller is told is what the dialog is made of.
        let told = bytes.clone();
        let Ok(response) = &Message::parse(&told) else { return };
        let Some(branch) = call.branches.get_mut(index) else { return };
        let request = call.request.clone();
        let Ok(invite) = Message::parse(&request) else { return };
        let bytes = crate::dialog::session::with_timer(&invite, &branch.record, bytes);
        let told = bytes.clone();
        let response = &Message::parse(&told).unwrap_or_else(|_| response.clone());
        // Who is not on its path would never hear of its end.
        let on_path = self.settings.config.routing.has(Stage::Withindlg);
        let dialog = (!call.in_dialog && on_path)
            .then(|| {
                crate::dialog::made(
                    &self.settings,
                    &invite,
                    response,
                    call.flow,
                    branch.flow(),
                    branch.record.backing.of_dialog(),
                    cx.now.wall,
                )
            })
            .flatten();
        let dialog = dialog.map(|dialog| {
            let session =
                |session: &MediaSession| Box::new(MediaSession { agreed: agreed.clone(), ..session.clone() });
            crate::state::DialogRecord { media: call.media.as_deref().map(session), ..dialog }
        });
        if call.in_dialog {
            // Proposed when it was challenged, too; if that was refused, the ACK must not be the first to miss it.
            self.shift_leg(cx, &invite, branch.record.backing.cseq_shift);
        }
        call.next_answer += 1;
        let answer = call.next_answer;
        let command = SipCommand::InviteAnswered {
            key: call.key.clone(),
            branch: u16::try_from(index).unwrap_or(u16::MAX),
            response: bytes.clone(),
            dialog: dialog.map(Box::new),
            forget_at: cx.now.wall + self.settings.timers.t1_64(),
        };
        if !self.propose(command, Awaiting::Answer { call: id, branch: index, answer }) {
            return;
        }
        branch.answers.push(Answer { id: answer, to_tag: to_tag.to_owned(), response: bytes, safe: false });
        if call.in_dialog {
            if let Some(session) = call.media.as_deref() {
                self.move_media(cx, &invite, session.node, agreed);
            }
            self.refresh_dialog(cx, &invite, response);
        }
    }

    /// A 300-699 of a branch.
    fn on_failure(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        call: &mut Call,
        index: usize,
        response: &Message<'_>,
        status: u16,
    ) {
        let bytes = build::without_via(response, call.flow, call.cseq, call.names(index));
        let refused = Final { status, response: bytes.clone() };
        if matches!(status, 430 | 503) && self.goes_elsewhere(cx, id, call, index, Some(refused)) {
            return;
        }
        let Some(branch) = call.branches.get_mut(index) else { return };
        if branch.abandoned {
            self.end_abandoned(call, index, &bytes);
            return;
        }
        let record = branch.record.clone();
        self.on_backend_failure(cx, &record, status, false);
        let Some(branch) = call.branches.get_mut(index) else { return };
        if branch.outcome.is_none() || branch.rebuilt || branch.passed_over {
            branch.outcome = Some(Final { status, response: bytes });
        }
        branch.cancel_wanted = false;
        self.weigh(cx, id, call, Some(index));
    }

    /// A branch has come to nothing without a word of its phone.
    pub(super) fn on_branch_made(&mut self, cx: Cx<'_>, id: u64, call: &mut Call, index: usize, status: u16) {
        let moves = matches!(status, 408 | 503) && self.goes_elsewhere(cx, id, call, index, None);
        if moves {
            return;
        }
        let Some(branch) = call.branches.get_mut(index) else { return };
        if branch.outcome.is_none() {
            branch.outcome = Some(Final { status, response: Vec::new() });
            let record = branch.record.clone();
            self.on_backend_failure(cx, &record, status, true);
        }
        let Some(branch) = call.branches.get_mut(index) else { return };
        branch.acked = true;
        self.weigh(cx, id, call, Some(index));
    }

    /// The INVITE came again.
    pub(crate) fn on_invite_again(&mut self, cx: Cx<'_>, id: u64) {
        self.counters.retransmissions_in += 1;
        self.with_call(cx, id, |engine, call| {
            let action = call.ist.on_request_retransmit();
            if action != IstAction::None {
                engine.counters.retransmissions_out += 1;
            }
            engine.send_to_caller(call, action);
        });
    }

    /// An ACK that belongs to the server transaction. `true` if it is for the callee.
    pub(crate) fn on_ack(&mut self, cx: Cx<'_>, id: u64) -> bool {
        self.with_call(cx, id, |_, call| {
            if matches!(call.phase, Phase::Answered | Phase::Failed) {
                call.acked = true;
            }
            call.ist.on_ack(cx.now.mono) == IstAction::Pass
        })
        .unwrap_or(false)
    }

    /// The ACK of a 2xx of this INVITE passed through.
    pub(crate) fn on_answer_acked(&mut self, cx: Cx<'_>, id: u64) {
        self.with_call(cx, id, |_, call| {
            if call.phase == Phase::Answered {
                call.acked = true;
            }
        });
    }

    /// Fires what is due in a call.
    pub(crate) fn on_call_timeout(&mut self, cx: Cx<'_>, id: u64) {
        let now = cx.now.mono;
        self.with_call(cx, id, |engine, call| {
            engine.drill("timer", &call.call_id);
            if call.ist.next_timeout().is_some_and(|at| at <= now)
                && let IstAction::Transmit(bytes) = call.ist.on_timeout(now)
            {
                engine.counters.retransmissions_out += 1;
                engine.transmit(call.flow, &bytes);
            }
            for index in 0..call.branches.len() {
                engine.on_branch_timeout(cx, id, call, index);
            }
            if call.is_undecided() && call.deciding.is_none() && !call.stepping {
                if now >= call.given_up_at() {
                    engine.on_timer_c(cx, id, call);
                } else if call.retry_at.is_some_and(|at| at <= now) {
                    call.retry_at = None;
                    engine.retry_moves(cx, id, call);
                    engine.retry_finals(cx, id, call);
                    engine.weigh(cx, id, call, None);
                }
            }
        });
    }

    fn on_branch_timeout(&mut self, cx: Cx<'_>, id: u64, call: &mut Call, index: usize) {
        self.check_patience(cx, id, call, index);
        self.check_doubt(cx, call, index);
        self.on_retired_timeout(cx, call, index);
        let now = cx.now.mono;
        let Some(branch) = call.branches.get_mut(index) else { return };
        let flow = branch.flow();
        if let Some(cancel) = branch.cancel.as_mut()
            && cancel.next_timeout().is_some_and(|at| at <= now)
            && let NictAction::Transmit(bytes) = cancel.on_timeout(now)
        {
            self.counters.retransmissions_out += 1;
            self.transmit(flow, &bytes);
        }
        let Some(ict) = branch.ict.as_mut().filter(|i| i.next_timeout().is_some_and(|at| at <= now)) else {
            return;
        };
        match ict.on_timeout(now) {
            IctAction::Transmit(bytes) => {
                self.counters.retransmissions_out += 1;
                self.transmit(flow, &bytes);
            }
            IctAction::Timeout => self.on_branch_made(cx, id, call, index, 408),
            _ => {}
        }
    }
}
