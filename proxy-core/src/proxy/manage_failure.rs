//! Kamailio's MANAGE_FAILURE: what is tried when a round of branches has come to nothing (serial forking).
//!
//! | the round ended by | then |
//! |---|---|
//! | a 6xx | nothing more is tried (RFC 3261 §16.7 step 5) |
//! | the caller's CANCEL | nothing more is tried |
//! | a 3xx, where redirects are followed here | its contacts are the next round |
//! | anything else | the first step left in the plan whose condition fits is the next round; those before it are gone |
//! | the no-answer timer or timer C | the same; who still rings is cancelled once the next round is safe |
//!
//! Requests other than INVITE walk through their plan, too, by failures and transport errors only and without a commit:
//! nothing was promised for them.
//!
//! A round is committed (`BranchesAdded`) before any of it is sent. Of what failed, the caller hears the best of the
//! last round (Kamailio's `failure_reply_mode` 3), or of all rounds if nobody said anything in the last.

use super::best::winner;
use super::build;
use super::call::{Call, CallBranch, Final, Phase};
use super::exchange::{Exchange, PlainBranch};
use crate::engine::ticket::Awaiting;
use crate::engine::{Client, Cx, Engine};
use crate::msg::Message;
use crate::state::{Backend, Branch, CountKey, NextStep, ServerKey, SipCommand, SipResponse, When};
use crate::transaction::Nict;

/// How a round ended, as far as it matters for what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The best final response.
    Status(u16),
    /// Rang, and nobody took it.
    Silence,
    /// No reply at all, or the transport failed.
    Unreachable,
}

/// Whether one of the ends fits a condition.
fn fits(when: &When, ends: &[End]) -> bool {
    ends.iter().any(|end| match end {
        End::Status(status) => when.statuses.iter().any(|(from, to)| (from..=to).contains(&status)),
        End::Silence => when.timeout,
        End::Unreachable => when.timeout || when.unreachable,
    })
}

impl Call {
    /// Whether there is somebody else to try, should those that are tried now not be there.
    pub(super) fn has_step_for_unreachable(&self) -> bool {
        let left = self.plan.iter().skip(usize::from(self.steps_used));
        self.phase == Phase::Open && left.into_iter().any(|step| fits(&step.when, &[End::Unreachable]))
    }
}

impl Engine {
    /// All branches have failed. `true` if something else is tried, or will be once it can be remembered.
    pub(super) fn takes_next_step(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        call: &mut Call,
        index: Option<usize>,
    ) -> bool {
        let Some(ends) = ends_of_round(call) else { return false };
        self.names.at(cx.now.mono);
        let again = self.branches_with_credentials(cx, call);
        if !again.is_empty() {
            let (used, after) = (call.steps_used, call.no_answer.map(|(at, _)| at.since(cx.now.mono)));
            self.propose_round(cx, id, call, again, used, after, index);
            return true;
        }
        let redirected = self.branches_of_redirect(cx, call);
        if self.asks_for_names(cx) {
            // Looked at again until the DNS has answered; it counts as a failure of its own when it does not.
            call.retry_at = Some(cx.now.mono + self.settings.timers.t1());
            self.remember_final(id, call, index);
            return true;
        }
        if !redirected.is_empty() {
            let used = call.steps_used;
            self.propose_round(cx, id, call, redirected, used, None, index);
            return true;
        }
        self.takes_step(cx, id, call, &ends, index)
    }

    /// Nobody has answered in time. `true` if something else is tried.
    pub(super) fn takes_step_after_silence(&mut self, cx: Cx<'_>, id: u64, call: &mut Call) -> bool {
        let Some(mut ends) = ends_of_round(call) else { return false };
        ends.push(End::Silence);
        self.takes_step(cx, id, call, &ends, None)
    }

    fn takes_step(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        call: &mut Call,
        ends: &[End],
        index: Option<usize>,
    ) -> bool {
        let used = usize::from(call.steps_used);
        let next = call
            .plan
            .iter()
            .enumerate()
            .skip(used)
            .find(|(_, step)| fits(&step.when, ends) && !is_full(cx, &call.key, step));
        let Some((number, step)) = next else { return false };
        let (branches, after) = (step.branches.clone(), step.after);
        let used = u16::try_from(number + 1).unwrap_or(u16::MAX);
        self.propose_round(cx, id, call, branches, used, after, index);
        true
    }

    #[expect(clippy::too_many_arguments, reason = "one proposal with all that is in it")]
    fn propose_round(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        call: &mut Call,
        branches: Vec<Branch>,
        steps_used: u16,
        after: Option<std::time::Duration>,
        index: Option<usize>,
    ) {
        // How the last branch failed is worth knowing, too; it is acknowledged with its own verdict.
        self.remember_final(id, call, index);
        let command = SipCommand::BranchesAdded {
            key: call.key.clone(),
            branches,
            round: call.round.saturating_add(1),
            steps_used,
            no_answer_at: after.map(|after| cx.now.wall + after),
            timer_c_at: cx.now.wall + self.settings.config.timer_c,
        };
        if self.propose(command, Awaiting::Step { call: id }) {
            call.stepping = true;
            call.retry_at = None;
        } else {
            call.retry_at = Some(cx.now.mono + self.settings.timers.t1());
        }
    }

    /// Somebody else was faster at the trunk or the destination of a call that nobody has heard of yet: it is proposed anew with
    /// the next step of its plan that has room. `false` if there is none, or if it is not its backend that is full.
    pub(super) fn is_admitted_elsewhere(&mut self, cx: Cx<'_>, id: u64, full: &CountKey) -> bool {
        self.with_call(cx, id, |engine, call| {
            if !call.branches.iter().any(|branch| is_at(&branch.record, full)) {
                return false;
            }
            let next = call
                .plan
                .iter()
                .enumerate()
                .skip(usize::from(call.steps_used))
                .find(|(_, step)| fits(&step.when, &[End::Unreachable]) && !is_full(cx, &call.key, step));
            let Some((number, step)) = next else { return false };
            let step = step.clone();
            call.steps_used = u16::try_from(number + 1).unwrap_or(u16::MAX);
            call.no_answer = step.after.map(|after| (cx.now.mono + after, cx.now.wall + after));
            for (index, branch) in std::mem::take(&mut call.branches).into_iter().enumerate() {
                engine.unwatch(&branch.record.flow, Client::Call(id, index));
                engine.remove_client(&branch.record.via_branch, Client::Call(id, index));
            }
            if let Some(facts) = &mut call.facts {
                facts.count_under_trunk_of(&step.branches);
            }
            for (index, branch) in step.branches.into_iter().enumerate() {
                engine.add_client(&branch.via_branch, id, index);
                engine.watch(&branch, call.has_more_to_try(), Client::Call(id, index));
                call.branches.push(CallBranch::new(branch));
            }
            let record = call.record(cx.now.wall);
            engine.propose(SipCommand::InviteReceived(Box::new(record)), Awaiting::Invite { call: id })
        })
        .unwrap_or(false)
    }

    /// Verdict on `BranchesAdded`.
    pub(crate) fn on_step_safe(&mut self, cx: Cx<'_>, id: u64, response: &SipResponse) {
        self.with_call(cx, id, |engine, call| {
            call.stepping = false;
            if !call.is_undecided() {
                return;
            }
            if matches!(response, SipResponse::LimitReached(_)) {
                // Somebody else was faster: now it is seen that its trunk is full, and the step passed over.
                engine.weigh(cx, id, call, None);
                return;
            }
            if *response != SipResponse::Done {
                if !engine.adopt(cx, call) {
                    // There is no room, or the caller has hung up: with what is there it ends.
                    call.steps_used = u16::MAX;
                    engine.weigh(cx, id, call, None);
                }
                return;
            }
            engine.begin_round(cx, id, call);
        });
    }

    /// `BranchesAdded` was refused: nobody sends anything again that would bring us here, so a timer does.
    pub(crate) fn on_step_refused(&mut self, cx: Cx<'_>, id: u64) {
        self.with_call(cx, id, |engine, call| {
            call.stepping = false;
            call.retry_at = Some(cx.now.mono + engine.settings.timers.t1());
        });
    }

    /// The next round is safe: its INVITEs leave, and who still rings from the one before is told to stop.
    fn begin_round(&mut self, cx: Cx<'_>, id: u64, call: &mut Call) {
        let Some(record) = cx.state.pending(&call.key) else { return };
        let first = call.branches.len();
        call.round = record.round;
        call.steps_used = record.steps_used;
        call.no_answer = record.no_answer_at.map(|at| (cx.now.mono + cx.now.wall.until(at), at));
        call.timer_c_at = cx.now.mono + cx.now.wall.until(record.timer_c_at);
        call.timer_c_wall = record.timer_c_at;
        call.hard_end = call.timer_c_at + self.settings.timers.t1_64() * 3;
        for branch in record.branches.iter().skip(first) {
            self.add_client(&branch.via_branch, id, call.branches.len());
            let client = Client::Call(id, call.branches.len());
            self.watch(branch, call.has_more_to_try(), client);
            call.branches.push(CallBranch::new(branch.clone()));
        }
        for index in 0..first {
            self.cancel_abandoned(cx, call, index);
            let Some(branch) = call.branches.get_mut(index).filter(|b| b.outcome.is_none()) else { continue };
            pass_over(branch);
            self.cancel_branch(cx, call, index, false);
        }
        if call.phase != Phase::Open {
            // Hung up meanwhile: nobody else is called.
            for branch in call.branches.iter_mut().skip(first) {
                branch.outcome = Some(Final { status: 487, response: Vec::new() });
            }
            self.weigh(cx, id, call, None);
            return;
        }
        let request = call.request.clone();
        let Ok(message) = Message::parse(&request) else { return };
        for index in first..call.branches.len() {
            self.send_invite(cx, call, &message, index);
        }
        if first == call.branches.len() {
            // Every one of them had been tried before.
            self.weigh(cx, id, call, None);
        }
    }
}

impl Engine {
    /// The same for a request that is no INVITE: all copies of its round have failed. `true` if something else is tried.
    /// When nobody has said a word until timer F, nothing is: by then the client has given up, too (RFC 4320 §4.2).
    pub(super) fn exchange_takes_next_step(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        exchange: &mut Exchange,
        request: &Message<'_>,
    ) -> bool {
        let round = exchange.branches.get(exchange.round_from..).unwrap_or_default();
        let end = match winner(round.iter().filter_map(|b| b.outcome.as_ref())) {
            None => return false,
            Some(Final { status: 408 | 503, response }) if response.is_empty() => End::Unreachable,
            Some(f) => End::Status(f.status),
        };
        let next = loop {
            match exchange.plan.pop_front() {
                Some(step) if fits(&step.when, &[end]) => break step,
                Some(_) => {}
                None => return false,
            }
        };
        let now = cx.now.mono;
        exchange.round_from = exchange.branches.len();
        exchange.hard_end = now + self.settings.timers.t1_64() * 3;
        for record in next.branches {
            let client = Client::Exchange(id, exchange.branches.len());
            let bytes = build::copy(&self.settings, request, exchange.flow, &record);
            self.transmit(record.flow, &bytes);
            self.put_client(&record.via_branch, client);
            self.watch(&record, !exchange.plan.is_empty(), client);
            let reliable = record.flow.transport.is_reliable();
            let nict = Nict::new(now, &self.settings.timers, reliable, bytes.into());
            let silent_at = self.patience_of_copy(cx, &record, !exchange.plan.is_empty());
            exchange.branches.push(PlainBranch {
                record,
                nict,
                outcome: None,
                next: None,
                challenges: 0,
                silent_at,
            });
        }
        true
    }
}

/// Whether a step leads to a trunk or a destination that has as many calls as it may. The call itself has a place already
/// under the trunk that it came by, or that it was tried at last.
fn is_full(cx: Cx<'_>, call: &ServerKey, step: &NextStep) -> bool {
    let facts = cx.state.pending(call).and_then(|p| p.facts.as_deref());
    let has_place = |key: &CountKey| facts.is_some_and(|f| f.counted.iter().any(|c| c.key == *key));
    step.branches.iter().any(|branch| match (&branch.backing.backend, branch.backing.most_calls) {
        (Some(Backend::Trunk { uuid }), Some(most)) => {
            let key = CountKey::Trunk(uuid.clone());
            !has_place(&key) && cx.state.calls_of(&key) >= most
        }
        (Some(Backend::Destination { set, uri }), Some(most)) => cx.state.load_of(*set, uri) >= most,
        _ => false,
    })
}

/// Whether a copy is for the trunk or the destination of this key.
fn is_at(branch: &Branch, key: &CountKey) -> bool {
    match (&branch.backing.backend, key) {
        (Some(Backend::Trunk { uuid }), CountKey::Trunk(of)) => uuid == of,
        (Some(Backend::Destination { set, uri }), CountKey::Destination { set: of, uri: at }) => {
            set == of && uri == at
        }
        _ => false,
    }
}

/// A branch of a round that is over: how it ends counts no more.
pub(super) fn pass_over(branch: &mut CallBranch) {
    branch.passed_over = true;
    branch.outcome = Some(Final { status: 408, response: Vec::new() });
}

/// The best final response of the round so far.
pub(crate) fn winner_of_round(call: &Call) -> Option<&Final> {
    let of_round = call.branches.iter().filter(|b| b.record.round == call.round && !b.passed_over);
    winner(of_round.filter_map(|b| b.outcome.as_ref()))
}

/// How the round ended so far; `None` if nothing more may be tried.
fn ends_of_round(call: &Call) -> Option<Vec<End>> {
    if call.phase != Phase::Open {
        return None;
    }
    let finals = call.branches.iter().filter(|b| b.record.round == call.round && !b.passed_over);
    let finals = finals.filter_map(|b| b.outcome.as_ref());
    if finals.clone().any(|f| f.status >= 600) {
        return None;
    }
    Some(match winner(finals).map(|f| (f.status, f.response.is_empty())) {
        None => Vec::new(),
        // Only the caller's CANCEL makes one.
        Some((487, _)) => return None,
        Some((408 | 503, true)) => vec![End::Unreachable],
        Some((status, _)) => vec![End::Status(status)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_408_and_silence_of_the_peer_is_both() {
        let voicemail = When::statuses(&[486, 408]);
        assert!(fits(&voicemail, &[End::Status(486)]) && fits(&voicemail, &[End::Status(408)]));
        assert!(fits(&voicemail, &[End::Silence]) && fits(&voicemail, &[End::Unreachable]));
        assert!(!fits(&voicemail, &[End::Status(404)]) && !fits(&voicemail, &[]));
        let busy = When::statuses(&[486]);
        assert!(!fits(&busy, &[End::Silence]) && !fits(&busy, &[End::Unreachable]));
        let failover = When::backend_down(&[500]);
        assert!(fits(&failover, &[End::Status(503)]) && fits(&failover, &[End::Status(500)]));
        assert!(fits(&failover, &[End::Unreachable]) && !fits(&failover, &[End::Silence]));
        assert!(!fits(&failover, &[End::Status(486)]));
        let any = When::any();
        assert!([End::Status(302), End::Status(599), End::Silence].iter().all(|e| fits(&any, &[*e])));
        assert!(!fits(&any, &[End::Status(603)]), "RFC 3261 §16.7 step 5");
    }
}
