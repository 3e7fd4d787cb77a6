//! What happens to a request that is neither INVITE nor ACK once it is under way.

use super::best::{Best, best};
use super::build;
use super::call::Final;
use super::elsewhere::leads_on_after;
use super::exchange::{Exchange, ExchangeKey, PlainBranch};
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::io::Refusal;
use crate::msg::Message;
use crate::registrar;
use crate::route::passage::Targets;
use crate::state::{Branch, Flow, ServerKey, SipResponse};
use crate::transaction::{Nict, NictAction, Nist, NistAction, SharedBytes};

impl Engine {
    /// Remembers a request; `None` when there is no room. `request` is stamped.
    pub(crate) fn open_exchange(
        &mut self,
        cx: Cx<'_>,
        key: ServerKey,
        flow: Flow,
        request: &Message<'_>,
        targets: Vec<Branch>,
        waits: bool,
    ) -> Option<u64> {
        self.open_planned_exchange(cx, key, flow, request, Targets::now(targets), waits)
    }

    /// The same with something to try after that.
    pub(crate) fn open_planned_exchange(
        &mut self,
        cx: Cx<'_>,
        key: ServerKey,
        flow: Flow,
        request: &Message<'_>,
        Targets { branches: targets, plan, .. }: Targets,
        waits: bool,
    ) -> Option<u64> {
        let timers = self.settings.timers;
        let count = targets.len();
        // Room for every round that may come.
        let planned: usize = plan.iter().map(|step| step.branches.len()).sum();
        let mut branches = Vec::with_capacity(count);
        let mut copies: Vec<(Flow, SharedBytes)> = Vec::with_capacity(count);
        for record in targets {
            let bytes: SharedBytes = build::copy(&self.settings, request, flow, &record).into();
            copies.push((record.flow, bytes.clone()));
            let reliable = record.flow.transport.is_reliable();
            let nict = Nict::new(cx.now.mono, &timers, reliable, bytes);
            let silent_at = self.patience_of_copy(cx, &record, planned > 0);
            branches.push(PlainBranch { record, nict, outcome: None, next: None, challenges: 0, silent_at });
        }
        let id = self.insert_exchange(Exchange {
            key: ExchangeKey::new(key, request),
            cseq: request.cseq().map_or(0, |c| c.number),
            flow,
            request: Some(request.raw().into()),
            local_tag: self.settings.keys.local_tag(request),
            nist: Nist::new(&timers, flow.transport.is_reliable()),
            branches,
            plan: plan.into(),
            round_from: 0,
            held: None,
            waits,
            media: None,
            // Every machine in it ends within 64*T1; the rest is for the verdict.
            hard_end: cx.now.mono + timers.t1_64() * 3,
            cost: super::call::cost(request.raw().len(), count + planned),
        })?;
        for (flow, bytes) in copies {
            self.transmit(flow, &bytes);
        }
        Some(id)
    }

    fn send_to_client(&mut self, exchange: &Exchange, action: NistAction) {
        if let NistAction::Transmit(bytes) = action {
            self.transmit(exchange.flow, &bytes);
        }
    }

    /// The request came again.
    pub(crate) fn on_request_again(&mut self, cx: Cx<'_>, id: u64) {
        self.counters.retransmissions_in += 1;
        self.with_exchange(cx, id, |engine, exchange| {
            let action = exchange.nist.on_request_retransmit();
            if action != NistAction::None {
                engine.counters.retransmissions_out += 1;
            }
            engine.send_to_client(exchange, action);
        });
    }

    /// A response to one of its copies.
    pub(crate) fn on_plain_response(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        index: usize,
        response: &Message<'_>,
        status: u16,
    ) {
        self.with_exchange(cx, id, |engine, exchange| {
            let Some(branch) = exchange.branches.get_mut(index) else { return };
            if branch.nict.on_response(cx.now.mono, status) != NictAction::Pass {
                engine.counters.retransmissions_in += 1;
                return;
            }
            if status == 100 {
                return;
            }
            let cseq = exchange.cseq;
            let Some(bytes) =
                build::passed_back(response, exchange.flow, cseq, branch.record.backing.renamed())
            else {
                return;
            };
            // Of a SUBSCRIBE, an UPDATE and the like. A redirect's Contact is somebody else's address, not
            // that of the party which answers (RFC 3261 §8.1.3.4).
            let bytes = match status {
                ..300 => engine.for_asker(bytes, &branch.record, branch.record.flow),
                _ => bytes,
            };
            if status < 200 {
                let action = exchange.nist.send_response(cx.now.mono, status, bytes.into());
                engine.send_to_client(exchange, action);
                return;
            }
            if matches!(status, 401 | 407) && branch.is_to_trunk() {
                engine.on_plain_challenge(cx, id, exchange, index, response);
                return;
            }
            let leads_on = leads_on_after(&branch.record, status);
            if leads_on && engine.copy_goes_elsewhere(cx, id, exchange, index) {
                return;
            }
            let Some(branch) = exchange.branches.get_mut(index) else { return };
            branch.outcome = Some(Final { status, response: bytes });
            engine.weigh_exchange(cx, id, exchange, Some(response));
        });
    }

    /// Answers when that can be done: at the first 2xx or 6xx, or when nothing more will come.
    pub(super) fn weigh_exchange(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        exchange: &mut Exchange,
        response: Option<&Message<'_>>,
    ) {
        if !exchange.nist.is_open() || exchange.held.is_some() {
            return;
        }
        let decisive = exchange
            .branches
            .iter()
            .filter_map(|b| b.outcome.as_ref())
            .find(|f| matches!(f.status, 200..=299 | 600..))
            .cloned();
        let all_done = exchange.branches.iter().all(|b| b.outcome.is_some() || !b.nict.is_open());
        if decisive.is_none() && !all_done {
            return;
        }
        let Some(request) = exchange.request.clone() else { return };
        let Ok(request) = Message::parse(&request) else { return };
        let (status, bytes) = match decisive {
            Some(f) => (f.status, f.response),
            None => {
                if self.exchange_takes_next_step(cx, id, exchange, &request) {
                    return;
                }
                let finals = exchange.finals();
                // What was given up in favour of others has not answered either.
                if finals.iter().all(|f| f.status == 408 && f.response.is_empty()) {
                    // RFC 4320 §4.2: a 408 would come when nobody waits for it any more.
                    self.on_silence(cx, &request);
                    if let Some(session) = &exchange.media {
                        self.release_offer(cx, &request, session, true);
                    }
                    return;
                }
                match best(finals.into_iter()) {
                    Best::Received(status, bytes) => (status, bytes),
                    Best::Made(status) => (
                        status,
                        build::response(&self.settings, &request, status, "", &exchange.local_tag, &[]),
                    ),
                }
            }
        };
        let bytes: SharedBytes = bytes.into();
        match exchange.key.method.as_str() {
            "BYE" => self.finish_bye(cx, id, exchange, &request, status, bytes),
            method => {
                let action = exchange.nist.send_response(cx.now.mono, status, bytes);
                self.send_to_client(exchange, action);
                match exchange.media.as_deref() {
                    Some(session) if status >= 300 => self.release_offer(cx, &request, session, true),
                    Some(session) => self.move_media(cx, &request, session.node, session.agreed.clone()),
                    None => {}
                }
                if let Some(response) = response.filter(|_| method == "UPDATE" && status < 300) {
                    self.refresh_dialog(cx, &request, response);
                }
            }
        }
    }

    /// Replicates what a 2xx to a target refresh (re-INVITE, UPDATE) changes in its dialog (§12.2).
    pub(super) fn refresh_dialog(&mut self, cx: Cx<'_>, request: &Message<'_>, response: &Message<'_>) {
        if let Some(command) = crate::dialog::refreshed(cx.state, request, response, cx.now.wall) {
            self.propose(command, Awaiting::Nothing);
        }
    }

    /// A BYE ends its dialog, whatever the peer says to it: who has sent it has hung up (§15.1.1), unless he is asked for
    /// his password and says it again. A peer that refuses it may be in the dialog still, as a BYE can be written so that it
    /// is refused; then the proxy ends the dialog itself, with a BYE to both. The answer waits until that is safe.
    fn finish_bye(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        exchange: &mut Exchange,
        request: &Message<'_>,
        status: u16,
        bytes: SharedBytes,
    ) {
        let ends = !matches!(status, 401 | 407);
        let Some((dialog, from_caller)) = crate::dialog::of(cx.state, request).filter(|_| ends) else {
            let action = exchange.nist.send_response(cx.now.mono, status, bytes);
            self.send_to_client(exchange, action);
            return;
        };
        let command = match status {
            // 481: there is no such dialog any more (§12.2.1.2).
            ..300 | 481 => {
                self.end_media(cx, dialog);
                crate::dialog::ended_by_bye(dialog, from_caller, status, cx.now.wall)
            }
            _ => crate::dialog::to_be_ended(dialog, from_caller),
        };
        if self.propose(command, Awaiting::Bye { exchange: id }) {
            exchange.held = Some((status, bytes));
            return;
        }
        // As if refused: the BYE comes again, or is told to.
        exchange.hard_end = cx.now.mono;
        if exchange.flow.transport.is_reliable() {
            self.reject_overload(exchange.flow, request.raw());
        }
    }

    /// Nobody answers a request. Of a BYE that is an end, too, which the proxy brings about.
    fn on_silence(&mut self, cx: Cx<'_>, request: &Message<'_>) {
        if request.method() == Some(crate::msg::Method::Bye)
            && let Some((dialog, from_caller)) = crate::dialog::of(cx.state, request)
        {
            self.propose(crate::dialog::to_be_ended(dialog, from_caller), Awaiting::Nothing);
        }
    }

    /// Verdict on `DialogEnded`.
    pub(crate) fn on_bye_safe(&mut self, cx: Cx<'_>, id: u64) {
        self.with_exchange(cx, id, |engine, exchange| {
            let Some((status, bytes)) = exchange.held.take() else { return };
            let action = exchange.nist.send_response(cx.now.mono, status, bytes);
            engine.send_to_client(exchange, action);
        });
    }

    /// Verdict on a REGISTER.
    pub(crate) fn on_registered(&mut self, cx: Cx<'_>, id: u64, outcome: &SipResponse) {
        self.with_exchange(cx, id, |engine, exchange| {
            let Some(request) = exchange.request.clone() else { return };
            let Ok(request) = Message::parse(&request) else { return };
            let mut out = Vec::new();
            let stamp = crate::msg::ViaStamp::default();
            let config = &engine.settings.config;
            let times = (cx.now, cx.state.real(cx.now.wall));
            let status =
                registrar::answer(&request, outcome, config, times, &exchange.local_tag, stamp, &mut out);
            if status >= 300 {
                engine.counters.rejected += 1;
            } else {
                out = engine.with_authentication_info(cx, &request, exchange.flow, out);
            }
            exchange.waits = false;
            let action = exchange.nist.send_response(cx.now.mono, status, out.into());
            engine.send_to_client(exchange, action);
        });
    }

    /// What this request waited for was refused. It is forgotten, so that its retransmission is a new request; an
    /// overload is said to who registers, and anything to who speaks by a stream and will not repeat itself.
    pub(crate) fn on_exchange_refused(&mut self, cx: Cx<'_>, id: u64, why: Refusal) {
        self.with_exchange(cx, id, |engine, exchange| {
            let Some(request) = exchange.request.clone() else { return };
            // Asked for again it would be refused again: no retransmission helps.
            let overload = why == Refusal::Poisoned
                || why == Refusal::Overloaded
                    && matches!(exchange.key.method.as_str(), "REGISTER" | "SUBSCRIBE" | "MESSAGE");
            if overload || exchange.flow.transport.is_reliable() {
                engine.reject_overload(exchange.flow, &request);
            }
        });
        self.remove_exchange(id);
    }

    /// The same when nothing could even be asked.
    pub(super) fn give_up_exchange(&mut self, id: u64) {
        if let Some((flow, request)) = self.request_of_exchange(id).filter(|(f, _)| f.transport.is_reliable())
        {
            self.reject_overload(flow, &request);
        }
        self.remove_exchange(id);
    }

    /// Answers a request that has waited for a verdict, with what `make` makes of the engine, the request, its flow and
    /// the tag of the answer.
    pub(crate) fn answer_with(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        status: u16,
        make: impl FnOnce(&Self, &Message<'_>, Flow, &str) -> Vec<u8>,
    ) {
        self.with_exchange(cx, id, |engine, exchange| {
            let Some(request) = exchange.request.clone() else { return };
            let Ok(request) = Message::parse(&request) else { return };
            let bytes = make(engine, &request, exchange.flow, &exchange.local_tag);
            if status >= 300 {
                engine.counters.rejected += 1;
            }
            exchange.waits = false;
            let action = exchange.nist.send_response(cx.now.mono, status, bytes.into());
            engine.send_to_client(exchange, action);
        });
    }

    /// Answers a CANCEL.
    pub(crate) fn answer_cancel(&mut self, cx: Cx<'_>, id: u64, status: u16) {
        self.with_exchange(cx, id, |engine, exchange| {
            let Some(request) = exchange.request.clone() else { return };
            let Ok(request) = Message::parse(&request) else { return };
            let bytes = build::response(&engine.settings, &request, status, "", &exchange.local_tag, &[]);
            exchange.waits = false;
            let action = exchange.nist.send_response(cx.now.mono, status, bytes.into());
            engine.send_to_client(exchange, action);
        });
    }

    /// Fires what is due in an exchange.
    pub(crate) fn on_exchange_timeout(&mut self, cx: Cx<'_>, id: u64) {
        let now = cx.now.mono;
        self.with_exchange(cx, id, |engine, exchange| {
            engine.drill("exchange", &exchange.key.key.branch);
            exchange.nist.on_timeout(now);
            let mut timed_out = engine.check_patience_of_copies(cx, id, exchange);
            for branch in &mut exchange.branches {
                if branch.nict.next_timeout().is_none_or(|at| at > now) {
                    continue;
                }
                match branch.nict.on_timeout(now) {
                    NictAction::Transmit(bytes) => {
                        engine.counters.retransmissions_out += 1;
                        engine.transmit(branch.record.flow, &bytes);
                    }
                    NictAction::Timeout => timed_out = true,
                    _ => {}
                }
            }
            if timed_out {
                engine.weigh_exchange(cx, id, exchange, None);
            }
        });
    }
}
