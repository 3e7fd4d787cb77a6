//! Kamailio's RELAY: an INVITE is proposed before anything of it leaves, any other request is sent at once.

use super::Incoming;
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::msg::Method;
use crate::proxy::call::{Call, CallBranch, Phase, cost};
use crate::state::{Branch, SipCommand};
use crate::transaction::Ist;

impl Engine {
    /// Sends a request to its targets, or proposes to.
    pub(super) fn relay(
        &mut self,
        cx: Cx<'_>,
        incoming: &Incoming<'_, '_>,
        targets: Vec<Branch>,
        in_dialog: bool,
    ) {
        if incoming.method == Method::Invite {
            self.relay_invite(cx, incoming, targets, in_dialog);
            return;
        }
        let message = incoming.message;
        let opened = self.open_exchange(cx, incoming.key.clone(), incoming.flow, message, &targets, false);
        if opened.is_none() {
            self.reject_overload(incoming.flow, message.raw());
        }
    }

    fn relay_invite(
        &mut self,
        cx: Cx<'_>,
        incoming: &Incoming<'_, '_>,
        targets: Vec<Branch>,
        in_dialog: bool,
    ) {
        let message = incoming.message;
        let cost = cost(message.raw().len(), targets.len());
        if !self.has_room_for_call(cost) {
            self.reject_overload(incoming.flow, message.raw());
            return;
        }
        let timers = self.settings.timers;
        let timer_c = self.settings.config.timer_c;
        let call = Call {
            key: incoming.key.clone(),
            call_id: message.call_id().unwrap_or_default().to_owned(),
            cseq: message.cseq().map_or(0, |c| c.number),
            flow: incoming.flow,
            request: message.raw().into(),
            local_tag: self.settings.keys.local_tag(message),
            in_dialog,
            ist: Ist::new(&timers, false),
            phase: Phase::Admitting,
            branches: targets.into_iter().map(CallBranch::new).collect(),
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
            self.reject_overload(incoming.flow, message.raw());
        }
    }
}
