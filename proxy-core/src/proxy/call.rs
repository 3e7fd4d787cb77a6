//! An INVITE in this engine: server transaction, branches, and where the call stands.
//!
//! | phase | left by | what is safe on a majority |
//! |---|---|---|
//! | Admitting | verdict on `InviteReceived` | nothing: nothing has been sent |
//! | Open | a decision | the request and its branches |
//! | Cancelled | a decision | that the caller has hung up |
//! | Answered | timers | the first 2xx, its dialog |
//! | Failed | timers | the failure |

use crate::engine::limits::{MAX_ANSWERS_PER_BRANCH, TRANSACTION_BYTES};
use crate::media::Treated;
use crate::msg::{HeaderName, Message};
use crate::state::{
    Backend, Branch, BranchState, CallFacts, EarlyMedia, Flow, MediaSession, NextStep, PendingInvite,
    Renamed, ServerKey,
};
use crate::time::{MonoTime, WallTime};
use crate::transaction::{Ict, IctState, Ist, Nict, SharedBytes};

/// Where a call stands; see the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Admitting,
    Open,
    Cancelled,
    Answered,
    Failed,
}

/// A final response of a branch.
#[derive(Debug, Clone)]
pub(crate) struct Final {
    pub(crate) status: u16,
    /// Without our Via; empty if it was made here.
    pub(crate) response: Vec<u8>,
}

impl Final {
    /// Whether it can go on to the caller: it was received, and says where to.
    pub(crate) fn can_be_passed(&self) -> bool {
        Message::parse(&self.response).is_ok_and(|m| m.has(HeaderName::Via))
    }
}

/// A 2xx of a branch; there are several if the call was forked further on.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) id: u64,
    pub(crate) to_tag: String,
    /// As it goes to the caller.
    pub(crate) response: Vec<u8>,
    /// Whether it has been passed on, so that repetitions may be, too.
    pub(crate) safe: bool,
}

/// One copy of the INVITE.
#[derive(Debug)]
pub(crate) struct CallBranch {
    pub(crate) record: Branch,
    /// None until it is sent, and once it is over.
    pub(crate) ict: Option<Ict>,
    /// The CANCEL.
    pub(crate) cancel: Option<Nict>,
    /// It is to be cancelled as soon as §9.1 allows.
    pub(crate) cancel_wanted: bool,
    pub(crate) outcome: Option<Final>,
    /// The final response waits for its verdict before it is acknowledged.
    pub(crate) final_waits: bool,
    pub(crate) acked: bool,
    /// A majority knows that it has ended.
    pub(crate) end_is_safe: bool,
    pub(crate) answers: Vec<Answer>,
    /// Proposals about provisional responses so far.
    pub(crate) progress_told: u8,
    /// Given up because it did not answer in time: it is being cancelled, and how it fails counts no more.
    pub(crate) passed_over: bool,
    /// When it is given up, unless it has said something by then.
    pub(crate) silent_at: Option<MonoTime>,
    /// When it is asked whether it is alive: it has said 100 and nothing more.
    pub(crate) doubt_at: Option<MonoTime>,
    /// When its INVITE left.
    pub(crate) silent_since: MonoTime,
    /// Given up because its backend is not there: if it speaks after all, it is told to stop.
    pub(crate) abandoned: bool,
    /// Given up, and it has said something, before or since.
    pub(crate) has_spoken: bool,
    /// Rebuilt at takeover: its peer may never have seen the INVITE.
    pub(crate) rebuilt: bool,
    /// It goes on at another address as soon as that is safe.
    pub(crate) moving: bool,
    /// The 503 or 430 that made it move, until it is acknowledged.
    pub(crate) refused: Option<Final>,
    /// Copies at addresses it has left, at most one per entry of `Branch::next` and `Branch::others`.
    pub(crate) retired: Vec<Retired>,
    /// 2xx that nobody waits for.
    pub(super) late: Vec<super::late::Late>,
    /// The connection by which its peer has spoken last, if that is another than the INVITE left by.
    pub(crate) heard_by: Option<Flow>,
    /// SDP that a media proxy has taken, and what came of it.
    pub(crate) treated: Vec<Treated>,
    /// To tags of its provisional responses that this node has heard: it may fork further on.
    pub(crate) rings_as: Vec<String>,
}

/// A copy at an address that its branch has left: it was refused there, or nobody said a word.
#[derive(Debug)]
pub(crate) struct Retired {
    pub(crate) via_branch: String,
    pub(crate) flow: Flow,
    pub(crate) ict: Ict,
    /// The CANCEL, should anybody have been there after all.
    pub(crate) cancel: Option<Nict>,
}

impl CallBranch {
    pub(crate) fn new(record: Branch) -> Self {
        Self {
            record,
            ict: None,
            cancel: None,
            cancel_wanted: false,
            outcome: None,
            final_waits: false,
            acked: false,
            end_is_safe: false,
            answers: Vec::new(),
            progress_told: 0,
            passed_over: false,
            silent_at: None,
            doubt_at: None,
            silent_since: MonoTime::default(),
            abandoned: false,
            has_spoken: false,
            rebuilt: false,
            moving: false,
            refused: None,
            retired: Vec::new(),
            late: Vec::new(),
            heard_by: None,
            treated: Vec::new(),
            rings_as: Vec::new(),
        }
    }

    /// Whether a provisional response of it had this To tag.
    pub(crate) fn rings_as(&self, to_tag: &str) -> bool {
        let in_record = matches!(&self.record.state,
            BranchState::Proceeding { to_tag: Some(tag), .. } if tag == to_tag);
        in_record || self.rings_as.iter().any(|tag| tag == to_tag)
    }

    /// Notes the To tag of a provisional response.
    pub(crate) fn heard_ringing(&mut self, to_tag: Option<&str>) {
        if let Some(tag) = to_tag
            && !self.rings_as.iter().any(|known| known == tag)
            && self.rings_as.len() < MAX_ANSWERS_PER_BRANCH
        {
            self.rings_as.push(tag.to_owned());
        }
    }

    /// Where ACK and CANCEL go.
    pub(crate) fn flow(&self) -> Flow {
        self.heard_by.unwrap_or(self.record.flow)
    }

    /// Notes the connection by which a response came.
    pub(crate) fn heard_on(&mut self, flow: Flow) {
        if flow.transport.is_reliable() {
            let other = flow != self.record.flow && flow.transport == self.record.flow.transport;
            self.heard_by = other.then_some(flow);
        }
    }

    /// Whether nothing more is expected of it.
    fn is_over(&self) -> bool {
        self.ict.as_ref().is_none_or(Ict::is_terminated)
            && self.cancel.as_ref().is_none_or(Nict::is_terminated)
            && !self.has_late_answer()
            && self
                .retired
                .iter()
                .all(|r| r.ict.is_terminated() && r.cancel.as_ref().is_none_or(Nict::is_terminated))
    }

    /// Whether it failed because a trunk asked for credentials: ours, so that it is not the caller's business.
    pub(crate) fn is_challenge_of_trunk(&self) -> bool {
        matches!(self.record.backing.backend, Some(Backend::Trunk { .. }))
            && self.outcome.as_ref().is_some_and(|f| matches!(f.status, 401 | 407))
    }

    /// Whether it waits for a final response, or for a 2xx that could not be made safe.
    fn may_still_be_heard(&self) -> bool {
        let answered = !self.answers.is_empty() && self.answers.iter().all(|a| a.safe);
        self.ict.as_ref().is_some_and(|ict| ict.is_open() || (ict.state() == IctState::Accepted && !answered))
    }

    /// Whether every peer behind it knows how the call ended.
    fn is_settled(&self) -> bool {
        let finished = match &self.outcome {
            Some(f) if f.status < 300 => self.answers.iter().all(|a| a.safe),
            // Given up here, but its phone may still answer, or fail and wait for an ACK.
            Some(_) if (self.passed_over || self.abandoned) && self.may_still_be_heard() => false,
            Some(f) => self.acked || f.response.is_empty(),
            None => false,
        };
        let retired = self.retired.iter().any(|r| r.ict.is_open());
        finished
            && !retired
            && !self.has_late_answer()
            && !self.final_waits
            && self.cancel.as_ref().is_none_or(|c| !c.is_open())
    }
}

/// One INVITE.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) key: ServerKey,
    pub(crate) call_id: String,
    pub(crate) cseq: u32,
    pub(crate) flow: Flow,
    /// As received, with `received` and `rport`.
    pub(crate) request: SharedBytes,
    pub(crate) local_tag: String,
    /// Who calls whom, until it is admitted.
    pub(crate) facts: Option<Box<CallFacts>>,
    /// The media proxy; its SDP is in `request` already.
    pub(crate) media: Option<Box<MediaSession>>,
    /// The branch and tag whose SDP an rtpengine has taken last.
    pub(crate) spoke_last: Option<(usize, String)>,
    /// What callees have settled or changed of their media before the 2xx.
    pub(crate) early_media: Vec<EarlyMedia>,
    /// Within a dialog: it makes none.
    pub(crate) in_dialog: bool,
    pub(crate) ist: Ist,
    pub(crate) phase: Phase,
    pub(crate) branches: Vec<CallBranch>,
    pub(crate) timer_c_at: MonoTime,
    pub(crate) timer_c_wall: WallTime,
    /// What is tried when the branches of this round have failed.
    pub(crate) plan: Vec<NextStep>,
    /// How many entries of the plan have been used or passed over.
    pub(crate) steps_used: u16,
    /// The round of the newest branches.
    pub(crate) round: u16,
    /// When the branches of this round are given up.
    pub(crate) no_answer: Option<(MonoTime, WallTime)>,
    /// The next round waits for its verdict.
    pub(crate) stepping: bool,
    /// The final response that waits for its verdict.
    pub(crate) deciding: Option<(u16, Vec<u8>)>,
    /// A refused decision is tried again then.
    pub(crate) retry_at: Option<MonoTime>,
    /// The exchange of a CANCEL that came before the INVITE was safe.
    pub(crate) early_cancel: Option<u64>,
    /// The last owner may have owed an answer to the caller's CANCEL, so that it may come again.
    pub(crate) cancel_owed: bool,
    /// The caller has acknowledged the final response.
    pub(crate) acked: bool,
    pub(crate) done_told: bool,
    /// When it is forgotten, whatever it waits for.
    pub(crate) hard_end: MonoTime,
    pub(crate) next_answer: u64,
    /// Bytes it holds, as counted at admission.
    pub(crate) cost: usize,
}

/// Bytes that a request of this size with so many copies holds.
pub(crate) fn cost(request: usize, copies: usize) -> usize {
    TRANSACTION_BYTES + request * (1 + copies)
}

impl Call {
    /// Other names in From and To of a branch.
    pub(crate) fn names(&self, index: usize) -> Option<&Renamed> {
        self.branches.get(index)?.record.backing.renamed()
    }

    /// Whether the final response is not yet safe.
    pub(crate) fn is_undecided(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Cancelled)
    }

    /// Whether a majority knows that a branch has ended, or that it does not matter any more how it ends.
    pub(crate) fn is_end_known(&self, index: usize) -> bool {
        let known = |b: &CallBranch| b.end_is_safe || b.record.round < self.round;
        !self.is_undecided() || self.branches.get(index).is_some_and(known)
    }

    /// Whether its plan holds something that has not been tried.
    pub(crate) fn has_more_to_try(&self) -> bool {
        usize::from(self.steps_used) < self.plan.len()
    }

    /// Whether somebody has declined for all of this round (RFC 3261 §16.7 step 5): nobody else is called.
    pub(crate) fn is_declined(&self) -> bool {
        let mut of_round = self.branches.iter().filter(|b| b.record.round == self.round && !b.passed_over);
        of_round.any(|b| b.outcome.as_ref().is_some_and(|f| f.status >= 600))
    }

    /// Whether all that is left is to absorb repetitions, so that a successor need not know of the call.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Answered | Phase::Failed)
            && self.acked
            && !self.cancel_owed
            && self.branches.iter().all(CallBranch::is_settled)
    }

    /// The final responses among which that for the caller is chosen: of the last round (Kamailio's
    /// `failure_reply_mode` 3), or of all rounds if nobody said anything in the last or the caller has hung up. What
    /// trunks ask of us is not among them.
    pub(crate) fn finals(&self) -> Vec<&Final> {
        let finals = |last: bool| {
            let counts = self
                .branches
                .iter()
                .filter(move |b| !b.passed_over && (!last || b.record.round == self.round))
                .filter(|b| !b.is_challenge_of_trunk());
            counts.filter_map(|b| b.outcome.as_ref()).collect::<Vec<_>>()
        };
        let of_last = finals(true);
        let heard = of_last.iter().any(|f| !f.response.is_empty());
        if heard && self.phase == Phase::Open { of_last } else { finals(false) }
    }

    /// Whether it may be forgotten here.
    pub(crate) fn is_over(&self, now: MonoTime) -> bool {
        now >= self.hard_end || (self.ist.is_terminated() && self.branches.iter().all(CallBranch::is_over))
    }

    /// When nobody will be waited for any longer: timer C, or the no-answer timer of this round.
    pub(crate) fn given_up_at(&self) -> MonoTime {
        let no_answer = self.no_answer.map(|(at, _)| at).filter(|_| self.phase == Phase::Open);
        no_answer.map_or(self.timer_c_at, |at| at.min(self.timer_c_at))
    }

    pub(crate) fn next_timeout(&self) -> MonoTime {
        let mut at = self.hard_end;
        let mut take = |t: Option<MonoTime>| {
            if let Some(t) = t {
                at = at.min(t);
            }
        };
        take(self.ist.next_timeout());
        for branch in &self.branches {
            take(branch.ict.as_ref().and_then(Ict::next_timeout));
            take(branch.cancel.as_ref().and_then(Nict::next_timeout));
            take(branch.patience_ends());
            take(branch.doubt_at);
            for retired in &branch.retired {
                take(retired.ict.next_timeout());
                take(retired.cancel.as_ref().and_then(Nict::next_timeout));
            }
        }
        if self.is_undecided() && self.deciding.is_none() && !self.stepping {
            take(Some(self.retry_at.unwrap_or(self.given_up_at())));
        }
        at
    }

    /// The record that is replicated before anything of the call leaves.
    pub(crate) fn record(&self, received_at: WallTime) -> PendingInvite {
        PendingInvite {
            key: self.key.clone(),
            call_id: self.call_id.clone(),
            request: self.request.to_vec(),
            flow: self.flow,
            received_at,
            timer_c_at: self.timer_c_wall,
            local_tag: self.local_tag.clone(),
            branches: self.branches.iter().map(|b| b.record.clone()).collect(),
            state: crate::state::InviteState::Proceeding,
            plan: self.plan.clone(),
            steps_used: self.steps_used,
            round: self.round,
            no_answer_at: self.no_answer.map(|(_, at)| at),
            facts: self.facts.clone(),
            media: self.media.clone(),
            ending: None,
            early_media: self.early_media.clone(),
        }
    }
}

/// What a provisional response says about a branch.
pub(crate) fn progress_of(response: &Message<'_>, status: u16) -> BranchState {
    BranchState::Proceeding { status, to_tag: response.to_tag().map(str::to_owned) }
}
