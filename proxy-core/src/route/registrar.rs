//! Kamailio's REGISTRAR: REGISTER of our domains (RFC 3261 §10.3).

use super::passage::{Passage, Step};
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::msg::Method;
use crate::registrar::gruu::registration_name;
use crate::registrar::{answer_refusal, judge};
use crate::state::{Binding, RegisterChange, RegisterCommand, SipCommand};

/// Whether the REGISTER brings a contact that is not `known`; a refresh and a removal do not.
fn adds(known: &[Binding], command: &RegisterCommand) -> bool {
    let RegisterChange::Contacts(contacts) = &command.change else { return false };
    let is_known = |new: &Binding| {
        let same_phone = |b: &Binding| {
            b.contact_key == new.contact_key
                || new.instance.is_some() && (&b.instance, b.reg_id) == (&new.instance, new.reg_id)
        };
        known.iter().any(same_phone)
    };
    contacts.iter().any(|new| new.expires_at > command.at && !is_known(new))
}

impl Engine {
    /// A REGISTER came. Its answer leaves when the bindings are replicated.
    pub(super) fn stage_registrar(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        if passage.method != Method::Register {
            return Step::Next;
        }
        let message = passage.message;
        let local = passage.flow.local;
        // Step 1: we do not carry registrations to others.
        if !message.request_uri().is_ok_and(|uri| self.settings.is_local(&uri, local)) {
            return Step::Reject(403, "Not relaying");
        }
        let to = message.to().and_then(|to| to.parse_uri());
        // Step 5: the address of record is of a domain of ours, or unknown here.
        if to.as_ref().is_ok_and(|uri| !self.settings.is_local(uri, local)) {
            return Step::Reject(404, "");
        }
        let mut command = match judge(message, &self.settings.config, passage.flow, cx.now) {
            Ok(command) => command,
            Err(why) => {
                let tag = self.settings.keys.local_tag(message);
                let mut out = Vec::new();
                let config = &self.settings.config;
                answer_refusal(message, &why, config, &tag, crate::msg::ViaStamp::default(), &mut out);
                self.counters.rejected += 1;
                self.explain("refuses it", || format!("{why:?}"));
                self.transmit(passage.flow, &out);
                return Step::Answered;
            }
        };
        if let Some(aor) = to.ok().and_then(|uri| self.settings.config.aor(&uri, Some(local))) {
            command.aor = aor;
        }
        if self.no_room && adds(cx.state.bindings(&command.aor), &command) {
            self.reject_no_room(passage.flow, message);
            return Step::Answered;
        }
        self.name_registrations(&mut command);
        let opened = self.open_exchange(cx, passage.key.clone(), passage.flow, message, Vec::new(), true);
        let proposed = opened
            .filter(|id| self.propose(SipCommand::Register(command), Awaiting::Register { exchange: *id }));
        if proposed.is_none() {
            if let Some(id) = opened {
                self.remove_exchange(id);
            }
            self.reject_overload(passage.flow, message.raw());
        }
        Step::Answered
    }

    /// Names what temporary GRUUs lead to (RFC 5627 §3.1.2).
    fn name_registrations(&self, command: &mut RegisterCommand) {
        if !self.settings.config.registrar.gruu {
            return;
        }
        let (aor, call_id) = (&command.aor, &command.call_id);
        if let RegisterChange::Contacts(bindings) = &mut command.change {
            for binding in bindings {
                binding.gruu = binding.instance.as_ref().map(|instance| {
                    registration_name(self.settings.keys, aor, instance, binding.reg_id, call_id)
                });
            }
        }
    }
}
