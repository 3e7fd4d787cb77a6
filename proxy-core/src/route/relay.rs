//! Kamailio's RELAY: an INVITE is proposed before anything of it leaves, any other request is sent at once.

use super::breadth;
use super::passage::{Passage, Step, Targets};
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::msg::Method;
use crate::proxy::call::{Call, CallBranch, Phase, cost};
use crate::routing::{Mode, Stage};
use crate::state::SipCommand;
use crate::transaction::Ist;

impl Engine {
    /// Sends a request to its targets, or proposes to.
    pub(super) fn stage_relay(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        if let Some(step) = self.offer_of_request(cx, passage) {
            return step;
        }
        let Some(mut targets) = passage.found.targets.take() else { return Step::Next };
        for stage in Stage::COPIES {
            if !self.settings.config.routing.has(stage) {
                self.explain(&format!("without {stage}"), || {
                    String::from("switched off in the configuration")
                });
            }
        }
        if !self.settings.config.routing.has(Stage::ManageFailure) {
            // The round that is sent now decides; it may ring as long as a route says, not as long as voicemail wants.
            targets.plan.clear();
            targets.after = None;
        }
        if passage.found.ring.is_some() {
            targets.after = passage.found.ring;
        }
        let again = self.has_been_here(passage.flow, passage.message);
        if !breadth::share(passage.message, &mut targets, again) {
            self.give_offer_up(cx, passage);
            return Step::Reject(440, "");
        }
        if self.is_stateless() {
            self.relay_stateless(passage, &targets);
            return Step::Answered;
        }
        if self.settings.config.routing.mode == Mode::Redirect && !passage.found.in_dialog {
            let contacts: Vec<String> = targets.branches.into_iter().map(|b| b.target).collect();
            return self.redirect_to_contacts(passage, &contacts, 302);
        }
        if passage.method == Method::Cancel {
            self.pass_cancel(passage, &targets);
            return Step::Answered;
        }
        if !self.has_room_for_stranger(cx, passage) {
            self.give_offer_up(cx, passage);
            return Step::Answered;
        }
        if passage.method == Method::Invite {
            self.relay_invite(cx, passage, targets);
            return Step::Answered;
        }
        let message = passage.message;
        let opened =
            self.open_planned_exchange(cx, passage.key.clone(), passage.flow, message, targets, false);
        match (opened, passage.found.media.session()) {
            (Some(id), Some(session)) => {
                self.media.offers_in(id, message.call_id().unwrap_or_default());
                self.with_exchange(cx, id, |_, exchange| exchange.media = Some(session));
            }
            (Some(_), None) => {}
            (None, _) => {
                self.give_offer_up(cx, passage);
                self.reject_overload(passage.flow, message.raw());
            }
        }
        Step::Answered
    }

    /// In place of it: nothing goes through. Who is to be redirected is, as nothing is relayed for that.
    pub(super) fn refuse_to_relay(&mut self, passage: &mut Passage<'_, '_>) -> Step {
        let Some(targets) = passage.found.targets.take() else { return Step::Next };
        if self.settings.config.routing.mode == Mode::Redirect && !passage.found.in_dialog {
            let contacts: Vec<String> = targets.branches.into_iter().map(|b| b.target).collect();
            return self.redirect_to_contacts(passage, &contacts, 302);
        }
        Step::Reject(403, "Not relaying")
    }

    fn relay_invite(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>, targets: Targets) {
        let message = passage.message;
        if self.no_room && !passage.found.in_dialog {
            self.give_offer_up(cx, passage);
            self.reject_no_room(passage.flow, message);
            return;
        }
        // Room for every round that may come.
        let planned: usize = targets.plan.iter().map(|step| step.branches.len()).sum();
        let cost = cost(message.raw().len(), targets.branches.len() + planned);
        if !self.has_room_for_call(cost) {
            self.give_offer_up(cx, passage);
            self.reject_overload(passage.flow, message.raw());
            return;
        }
        let facts = (!passage.found.in_dialog).then(|| Box::new(self.facts_of(passage, &targets)));
        let timers = self.settings.timers;
        let timer_c = self.settings.config.timer_c;
        let call = Call {
            key: passage.key.clone(),
            call_id: message.call_id().unwrap_or_default().to_owned(),
            cseq: message.cseq().map_or(0, |c| c.number),
            flow: passage.flow,
            request: message.raw().into(),
            local_tag: self.settings.keys.local_tag(message),
            facts,
            media: passage.found.media.session(),
            spoke_last: None,
            early_media: Vec::new(),
            in_dialog: passage.found.in_dialog,
            ist: Ist::new(&timers, passage.flow.transport.is_reliable()),
            phase: Phase::Admitting,
            branches: targets.branches.into_iter().map(CallBranch::new).collect(),
            plan: targets.plan,
            steps_used: 0,
            round: 0,
            no_answer: targets.after.map(|after| (cx.now.mono + after, cx.now.wall + after)),
            stepping: false,
            timer_c_at: cx.now.mono + timer_c,
            timer_c_wall: cx.now.wall + timer_c,
            deciding: None,
            retry_at: None,
            early_cancel: None,
            cancel_owed: false,
            acked: false,
            done_told: false,
            hard_end: cx.now.mono + timer_c + timers.t1_64() * 3,
            next_answer: 0,
            cost,
        };
        let record = call.record(cx.now.wall);
        let id = self.insert_call(cx, call);
        if !self.propose(SipCommand::InviteReceived(Box::new(record)), Awaiting::Invite { call: id }) {
            self.remove_call(id);
            self.give_offer_up(cx, passage);
            self.reject_overload(passage.flow, message.raw());
            return;
        }
        self.is_on_its_way(id);
    }

    /// A request goes nowhere after all: the rtpengine that has taken its offer is told.
    fn give_offer_up(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>) {
        if let Some(session) = passage.found.media.session() {
            self.release_offer(cx, passage.message, &session, passage.found.in_dialog);
        }
    }
}
