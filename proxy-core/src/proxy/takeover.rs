//! A call out of its replicated record: at takeover, and when a message speaks of one that this engine has forgotten.
//!
//! | record | caller | branch without a final response | branch that has failed |
//! |---|---|---|---|
//! | Proceeding | nothing; a repeated INVITE gets a 100 | INVITE again: the phone repeats its last answer | ACK |
//! | Proceeding, past timer C | the 408 when that is safe | CANCEL then | ACK |
//! | Proceeding, a branch of an earlier round | nothing | CANCEL | ACK |
//! | any, an address that a branch has left | nothing | CANCEL | ACK |
//! | Proceeding, past the no-answer timer | what the next step of the plan brings | CANCEL when that is safe | ACK |
//! | Proceeding, a branch that was given up | nothing | nothing; CANCEL when it speaks after all | ACK |
//! | Proceeding, one branch with 6xx | nothing | CANCEL | ACK |
//! | Cancelled | nothing | CANCEL | ACK |
//! | Answered | the 2xx once | CANCEL; of the one that answered 2xx are passed on | ACK when it repeats itself |
//! | Failed | the failure until its ACK | CANCEL | ACK when it repeats itself |
//!
//! Nobody knows whether a phone has seen the INVITE of a branch without any answer. The CANCEL leaves all the same:
//! it stops the ringing of one that has, and the other says 481, which ends the branch.

use super::build;
use super::call::{Answer, Call, CallBranch, Final, Phase};
use super::rename::ack_for_failure;
use crate::engine::apart::name_of;
use crate::engine::{Cx, Engine};
use crate::msg::Message;
use crate::route::withindlg::Approach;
use crate::state::{BranchState, InviteState, PendingInvite};
use crate::transaction::{Ict, Ist, SharedBytes};

impl Engine {
    /// Makes the call of a record, and says what the last owner may have left unsaid. `false` if it is here already,
    /// or the record cannot be read.
    pub(crate) fn rebuild(&mut self, cx: Cx<'_>, record: &PendingInvite) -> bool {
        let before = self.mark();
        let rebuilt = self.contain_each(|| name_of(record), |engine| engine.rebuild_now(cx, record));
        if rebuilt.is_none() {
            self.go_back(before);
        }
        rebuilt.unwrap_or(false)
    }

    fn rebuild_now(&mut self, cx: Cx<'_>, record: &PendingInvite) -> bool {
        let now = cx.now.mono;
        if self.call_of_key(&record.key).is_some() {
            return false;
        }
        let Ok(request) = Message::parse(&record.request) else { return false };
        let timers = self.settings.timers;
        let timer_c_at = now + cx.now.wall.until(record.timer_c_at);
        let in_dialog = Approach::of(&self.settings, &request, record.flow.local).in_dialog;
        let mut call = Call {
            key: record.key.clone(),
            call_id: record.call_id.clone(),
            cseq: request.cseq().map_or(0, |c| c.number),
            flow: record.flow,
            request: record.request.as_slice().into(),
            local_tag: record.local_tag.clone(),
            facts: None,
            media: record.media.clone(),
            spoke_last: None,
            early_media: record.early_media.clone(),
            in_dialog,
            ist: Ist::new(&timers, record.flow.transport.is_reliable()),
            phase: match record.state {
                InviteState::Proceeding => Phase::Open,
                InviteState::Cancelled => Phase::Cancelled,
                InviteState::Answered { .. } => Phase::Answered,
                InviteState::Failed { .. } => Phase::Failed,
            },
            branches: record.branches.iter().cloned().map(CallBranch::new).collect(),
            timer_c_at,
            timer_c_wall: record.timer_c_at,
            plan: record.plan.clone(),
            steps_used: record.steps_used,
            round: record.round,
            no_answer: record.no_answer_at.map(|at| (now + cx.now.wall.until(at), at)),
            stepping: false,
            deciding: None,
            retry_at: None,
            early_cancel: None,
            cancel_owed: match &record.state {
                InviteState::Cancelled => true,
                InviteState::Failed { response, .. } => status_in(response) == Some(487),
                _ => false,
            },
            acked: false,
            done_told: false,
            hard_end: timer_c_at + timers.t1_64() * 3,
            next_answer: 0,
            cost: super::call::cost(record.request.len(), record.branches.len()),
        };
        self.resume_caller(cx, &mut call, &request, record);
        for index in 0..call.branches.len() {
            self.resume_branch(cx, &mut call, &request, record, index);
        }
        self.drill("rebuild", &record.call_id);
        let undecided = call.is_undecided();
        let id = self.insert_call(cx, call);
        if undecided {
            self.with_call(cx, id, |engine, call| engine.weigh(cx, id, call, None));
        }
        true
    }

    fn resume_caller(&mut self, cx: Cx<'_>, call: &mut Call, request: &Message<'_>, record: &PendingInvite) {
        match &record.state {
            InviteState::Proceeding | InviteState::Cancelled => {
                let trying = build::response(&self.settings, request, 100, "", "", &[]);
                // Kept for a retransmission of the INVITE; who has seen the 100 need not see it again.
                call.ist.send_response(cx.now.mono, 100, trying.into());
            }
            InviteState::Answered { response, .. } | InviteState::Failed { response, .. } => {
                let status = status_in(response).unwrap_or(500);
                let action = call.ist.send_response(cx.now.mono, status, response.as_slice().into());
                self.send_to_caller(call, action);
            }
        }
    }

    fn resume_branch(
        &mut self,
        cx: Cx<'_>,
        call: &mut Call,
        request: &Message<'_>,
        record: &PendingInvite,
        index: usize,
    ) {
        let now = cx.now.mono;
        let timers = self.settings.timers;
        let undecided = call.is_undecided();
        let is_last = |b: &crate::state::Branch| b.round == record.round;
        let declined = record
            .branches
            .iter()
            .any(|b| is_last(b) && matches!(b.state, BranchState::Final { status: 600.., .. }));
        // Nobody is called any more: the record may be that of a call that its caller has given up.
        let expired =
            record.timer_c_at <= cx.now.wall || record.no_answer_at.is_some_and(|at| at <= cx.now.wall);
        self.resume_retired(cx, call, request, index);
        let Some(branch) = call.branches.get_mut(index) else { return };
        // Its round is over: another has begun since.
        let passed_over = undecided && !is_last(&branch.record);
        branch.rebuilt = true;
        let bytes: SharedBytes = build::copy(&self.settings, request, call.flow, &branch.record).into();
        let flow = branch.record.flow;
        let reliable = flow.transport.is_reliable();
        if let InviteState::Answered { branch: first, response, .. } = &record.state
            && usize::from(*first) == index
        {
            resume_answer(branch, response);
            branch.ict = Some(Ict::resume_accepted(now, &timers, reliable, bytes));
            return;
        }
        match &branch.record.state {
            BranchState::Final { status: 200..=299, response } => {
                let response = response.clone();
                resume_answer(branch, &response);
                branch.ict = Some(Ict::resume_accepted(now, &timers, reliable, bytes));
            }
            BranchState::Final { status, response } => {
                let mut ack = Vec::new();
                let names = branch.record.backing.renamed();
                let known =
                    !response.is_empty() && ack_for_failure(&bytes, response, names, &mut ack).is_ok();
                branch.outcome = Some(Final { status: *status, response: response.clone() });
                branch.acked = true;
                branch.end_is_safe = true;
                if known {
                    let ack: SharedBytes = ack.into();
                    self.transmit(flow, &ack);
                    branch.ict = Some(Ict::resume_completed(now, &timers, reliable, bytes, ack));
                } else {
                    // Of a call that is decided it may repeat its failure until somebody acknowledges it. Or it was given
                    // up by the last owner: should anybody be there after all, he is told to stop.
                    branch.acked = undecided;
                    branch.abandoned = undecided;
                    branch.cancel_wanted = true;
                    branch.ict = Some(listening(cx, &timers, reliable, bytes));
                }
            }
            BranchState::Trying | BranchState::Proceeding { .. }
                if call.phase == Phase::Open && !declined && !passed_over =>
            {
                let mut ict = Ict::new(now, &timers, reliable, bytes.clone());
                if expired {
                    ict.on_response(now, 100);
                } else {
                    self.transmit(flow, &bytes);
                    self.start_patience(cx, branch);
                }
                branch.ict = Some(ict);
            }
            BranchState::Trying | BranchState::Proceeding { .. } => {
                branch.ict = Some(Ict::new(now, &timers, reliable, bytes));
                if passed_over {
                    super::manage_failure::pass_over(branch);
                }
                self.cancel_branch(cx, call, index, true);
                if let Some(ict) = call.branches.get_mut(index).and_then(|b| b.ict.as_mut()) {
                    // No INVITE again: it would ring where it never has.
                    ict.on_response(now, 100);
                }
            }
        }
    }
}

/// A client transaction that sends nothing, waits for a final response, and ends by itself.
fn listening(
    cx: Cx<'_>,
    timers: &crate::transaction::TimerConfig,
    reliable: bool,
    request: SharedBytes,
) -> Ict {
    let mut ict = Ict::new(cx.now.mono, timers, reliable, request);
    ict.on_response(cx.now.mono, 100);
    ict.on_cancel_sent(cx.now.mono);
    ict
}

/// The branch has answered with this 2xx, and that is safe.
pub(super) fn resume_answer(branch: &mut CallBranch, response: &[u8]) {
    branch.outcome = Some(Final { status: 200, response: Vec::new() });
    if let Ok(message) = Message::parse(response) {
        let to_tag = message.to_tag().unwrap_or_default().to_owned();
        if let Some(known) = branch.answers.iter_mut().find(|a| a.to_tag == to_tag) {
            known.safe = true;
            return;
        }
        branch.answers.push(Answer { id: 0, to_tag, response: response.to_vec(), safe: true });
    }
}

/// Status of a response that is kept.
pub(super) fn status_in(response: &[u8]) -> Option<u16> {
    Message::parse(response).ok()?.status().filter(|s| *s > 0)
}
