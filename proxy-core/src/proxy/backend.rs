//! Branches that go to a backend: given up when it says nothing or is found dead, and sent once more with credentials
//! when a trunk asks for them.
//!
//! | event | then |
//! |---|---|
//! | the destination becomes inactive before it has answered | the same, also with nobody else: then it has failed |
//! | a late reply of such a branch | a failure is acknowledged, a provisional cancelled, a 2xx taken if the call is open |
//! | 401 or 407 of a trunk | a further round: the same copy with the next CSeq and credentials |

use super::build;
use super::call::{Call, Final};
use super::exchange::Exchange;
use super::rename::ack_for_failure;
use crate::engine::ticket::Awaiting;
use crate::engine::{Client, Cx, Engine};
use crate::msg::Message;
use crate::state::{Backend, Branch, BranchState, SipCommand};
use crate::transaction::{IctAction, Nict, SharedBytes};
use crate::trunk::{Challenged, answer};

/// Challenges of one trunk that are answered in one call: the second one can be a stale nonce.
const MAX_CHALLENGES: u32 = 2;

impl Engine {
    /// Ends branches that wait for an answer of somebody who will not give one.
    pub(crate) fn abandon_branches(&mut self, cx: Cx<'_>, is_lost: impl Fn(&Branch) -> bool) {
        for id in self.call_ids() {
            self.with_call(cx, id, |engine, call| {
                for index in 0..call.branches.len() {
                    let lost = call.is_undecided()
                        && call.branches.get(index).is_some_and(|b| {
                            b.outcome.is_none() && b.answers.is_empty() && is_lost(&b.record)
                        });
                    if lost {
                        engine.abandon(cx, id, call, index);
                    }
                }
            });
        }
    }

    /// The branch counts as unreachable from now on. Its INVITE is not sent again; should anybody be there after all,
    /// he gets a CANCEL once that is safe: at once if he has said something, else when he does (§9.1).
    pub(super) fn abandon(&mut self, cx: Cx<'_>, id: u64, call: &mut Call, index: usize) {
        let Some(branch) = call.branches.get_mut(index) else { return };
        branch.give_up(cx.now.mono);
        branch.outcome = Some(Final { status: 408, response: Vec::new() });
        self.counters.abandoned += 1;
        self.weigh(cx, id, call, Some(index));
    }

    /// Tells a branch that was given up to stop, if it has said anything, once its end is safe.
    pub(super) fn cancel_abandoned(&mut self, cx: Cx<'_>, call: &mut Call, index: usize) {
        let wanted = call.branches.get(index).is_some_and(|b| b.abandoned && b.has_spoken && b.cancel_wanted);
        if wanted && call.is_end_known(index) {
            self.cancel_branch(cx, call, index, false);
        }
    }

    /// A failure of a branch that has been given up: nobody waits for it but its sender. Until it is safe that the branch
    /// has ended, he repeats himself.
    pub(super) fn end_abandoned(&mut self, call: &mut Call, index: usize, response: &[u8]) {
        let known = call.is_end_known(index);
        let Some(branch) = call.branches.get_mut(index) else { return };
        let flow = branch.flow();
        branch.cancel_wanted = false;
        if !known {
            return;
        }
        let Some(ict) = branch.ict.as_mut() else { return };
        let mut ack = Vec::new();
        if ack_for_failure(ict.request(), response, branch.record.backing.renamed(), &mut ack).is_ok()
            && let IctAction::Transmit(ack) = ict.acknowledge(ack.into())
        {
            self.transmit(flow, &ack);
        }
    }

    /// The copy that answers the challenge of a trunk: the only one of its round. None if there is no challenge, or no
    /// answer to it.
    pub(super) fn branches_with_credentials(&mut self, cx: Cx<'_>, call: &Call) -> Vec<Branch> {
        let mut round = call.branches.iter().filter(|b| b.record.round == call.round);
        let (Some(branch), None) = (round.next(), round.next()) else { return Vec::new() };
        let challenged = branch.outcome.as_ref().filter(|f| matches!(f.status, 401 | 407));
        let Some(outcome) = challenged else { return Vec::new() };
        let (Ok(request), Ok(response)) = (Message::parse(&call.request), Message::parse(&outcome.response))
        else {
            return Vec::new();
        };
        let asked =
            call.branches.iter().filter(|b| b.record.backing.backend == branch.record.backing.backend);
        if asked.count() > MAX_CHALLENGES as usize {
            return Vec::new();
        }
        match self.with_credentials(cx, &branch.record, &request, &response) {
            Ok(next) => {
                if call.in_dialog {
                    self.shift_leg(cx, &request, next.backing.cseq_shift);
                }
                vec![next]
            }
            Err(why) => {
                self.explain("gives up", || why);
                Vec::new()
            }
        }
    }

    /// The same copy with the next CSeq and with credentials (RFC 3261 §22.2).
    pub(super) fn with_credentials(
        &self,
        cx: Cx<'_>,
        branch: &Branch,
        request: &Message<'_>,
        response: &Message<'_>,
    ) -> Result<Branch, String> {
        let Some(Backend::Trunk { uuid }) = &branch.backing.backend else {
            return Err(String::from("not a trunk"));
        };
        let trunk = cx.state.trunk(uuid).ok_or_else(|| format!("trunk {uuid} is gone"))?;
        let cseq_shift = branch.backing.cseq_shift.saturating_add(1);
        let number = request.cseq().map_or(0, |c| c.number);
        let before = (cseq_shift > 1).then(|| build::shifted(number, cseq_shift - 1));
        let cseq = build::shifted(number, cseq_shift);
        let challenged = Challenged {
            method: request.method().map_or("", |m| m.as_str()),
            uri: &branch.target,
            body: request.body(),
            call_id: request.call_id().unwrap_or_default(),
            cseq,
        };
        let credentials = answer(&self.settings.keys, &trunk.account, response, challenged)?;
        let mut next = branch.clone();
        next.state = BranchState::Trying;
        next.left.clear();
        next.via_branch = self.settings.keys.moved_branch(&branch.via_branch, before, cseq);
        next.backing.cseq_shift = cseq_shift;
        next.headers.retain(|(name, _)| !credentials.iter().any(|(n, _)| n == name));
        next.headers.extend(credentials.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Ok(next)
    }

    /// Has the CSeq of all later requests to that side of the dialog moved, before this one is sent.
    pub(super) fn shift_leg(&mut self, cx: Cx<'_>, request: &Message<'_>, shift: u32) {
        if let Some((dialog, from_caller)) = crate::dialog::of(cx.state, request) {
            let backing = &dialog.backing;
            let leg = if from_caller { &backing.towards_callee } else { &backing.towards_caller };
            if leg.cseq_shift >= shift {
                return;
            }
            let id = dialog.id.clone();
            self.propose(SipCommand::LegShifted { id, to_caller: !from_caller, shift }, Awaiting::Nothing);
        }
    }

    /// A trunk asks for credentials with a request other than INVITE. Within a dialog the new CSeq is replicated before
    /// it is sent; else it concerns nobody but this request.
    pub(super) fn on_plain_challenge(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        exchange: &mut Exchange,
        index: usize,
        response: &Message<'_>,
    ) {
        let Some(request) = exchange.request.clone() else { return };
        let Ok(request) = Message::parse(&request) else { return };
        let Some(branch) = exchange.branches.get_mut(index) else { return };
        let next = (branch.challenges < MAX_CHALLENGES)
            .then(|| self.with_credentials(cx, &branch.record, &request, response).ok())
            .flatten();
        let Some(next) = next else {
            self.give_up_plain(cx, id, exchange, index);
            return;
        };
        branch.challenges += 1;
        let shift = next.backing.cseq_shift;
        branch.next = Some(Box::new(next));
        match crate::dialog::of(cx.state, &request) {
            None => self.send_plain_again(cx, id, exchange, index),
            Some((dialog, from_caller)) => {
                let command =
                    SipCommand::LegShifted { id: dialog.id.clone(), to_caller: !from_caller, shift };
                if !self.propose(command, Awaiting::Credentials { exchange: id, branch: index }) {
                    self.give_up_plain(cx, id, exchange, index);
                }
            }
        }
    }

    /// No credentials, or none that the trunk likes. Its challenge is none of the client's business.
    fn give_up_plain(&mut self, cx: Cx<'_>, id: u64, exchange: &mut Exchange, index: usize) {
        if let Some(branch) = exchange.branches.get_mut(index) {
            branch.next = None;
            branch.outcome = Some(Final { status: 503, response: Vec::new() });
            self.weigh_exchange(cx, id, exchange, None);
        }
    }

    fn send_plain_again(&mut self, cx: Cx<'_>, id: u64, exchange: &mut Exchange, index: usize) {
        let Some(request) = exchange.request.clone() else { return };
        let Ok(request) = Message::parse(&request) else { return };
        let Some(branch) = exchange.branches.get_mut(index) else { return };
        let Some(next) = branch.next.take() else { return };
        let bytes: SharedBytes = build::copy(&self.settings, &request, exchange.flow, &next).into();
        let client = Client::Exchange(id, index);
        self.unwatch(&branch.record.flow, client);
        self.remove_client(&branch.record.via_branch, client);
        let flow = next.flow;
        branch.nict =
            Nict::new(cx.now.mono, &self.settings.timers, flow.transport.is_reliable(), bytes.clone());
        branch.record = *next;
        branch.silent_at = self.patience_of_copy(cx, &branch.record, !exchange.plan.is_empty());
        self.put_client(&branch.record.via_branch, client);
        self.watch(&branch.record, false, client);
        self.transmit(flow, &bytes);
    }

    /// Verdict on `LegShifted` for a request other than INVITE.
    pub(crate) fn on_credentials_safe(&mut self, cx: Cx<'_>, id: u64, index: usize) {
        self.with_exchange(cx, id, |engine, exchange| engine.send_plain_again(cx, id, exchange, index));
    }

    /// It was refused: the client hears that it did not work.
    pub(crate) fn on_credentials_refused(&mut self, cx: Cx<'_>, id: u64, index: usize) {
        self.with_exchange(cx, id, |engine, exchange| engine.give_up_plain(cx, id, exchange, index));
    }
}
