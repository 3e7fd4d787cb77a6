//! REGISTER, RFC 3261 §10.3 steps 6 to 8, all or nothing.

use std::cmp::Ordering;

use crate::state::index::binding_bytes;
use crate::state::limits::{
    MAX_BINDING_BYTES, MAX_BINDINGS_PER_AOR, MAX_CHANGES_PER_REGISTER, admits_contacts,
};
use crate::state::{Binding, RegisterChange, RegisterCommand, RegisterRefusal, SipResponse, SipState};

impl SipState {
    pub(super) fn register(&mut self, command: &RegisterCommand) -> SipResponse {
        // What has ended is as good as gone, whether or not an Expire has come by.
        let current: Vec<Binding> =
            self.bindings(&command.aor).iter().filter(|b| b.expires_at > command.at).cloned().collect();
        let next = match &command.change {
            RegisterChange::Query => return SipResponse::Registered(current),
            RegisterChange::RemoveAll => {
                if current.iter().any(|b| order(b, command) != Order::Newer) {
                    return SipResponse::RegisterRefused(RegisterRefusal::OutOfOrder);
                }
                Vec::new()
            }
            RegisterChange::Contacts(changes) => match changed(&current, changes, command) {
                Ok(next) => next,
                Err(refused) => return refused,
            },
        };
        if next.len() > current.len() && next.len() > usize::from(command.max_contacts) {
            return SipResponse::RegisterRefused(RegisterRefusal::TooManyContacts);
        }
        if !self.has_room(&current, &next) {
            return SipResponse::Full;
        }
        self.put_bindings(&command.aor, next.clone());
        SipResponse::Registered(next)
    }

    pub(super) fn unregister(&mut self, aor: &str, contact: Option<&str>) -> SipResponse {
        let Some(list) = self.records.bindings.get(aor) else { return SipResponse::NotFound };
        let mut rest = list.clone();
        match contact {
            None => rest.clear(),
            Some(uri) => rest.retain(|b| b.contact != uri && b.contact_key != uri),
        }
        if rest.len() == list.len() {
            return SipResponse::NotFound;
        }
        self.put_bindings(aor, rest);
        SipResponse::Done
    }

    /// Whether the bounds allow the AOR to go from `old` to `new`. Refreshing and removing always fit.
    fn has_room(&self, old: &[Binding], new: &[Binding]) -> bool {
        let bytes = |list: &[Binding]| list.iter().map(|b| binding_bytes(b) as u64).sum::<u64>();
        let more = (new.len() as u64).saturating_sub(old.len() as u64);
        let more_bytes = bytes(new).saturating_sub(bytes(old));
        (more == 0 || new.len() <= MAX_BINDINGS_PER_AOR)
            && (more_bytes == 0 || new.iter().all(|b| binding_bytes(b) <= MAX_BINDING_BYTES))
            && admits_contacts(self.index.binding_count, more, self.index.bytes, more_bytes)
    }
}

/// How a request stands to a binding that is there (§10.3 step 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Another Call-ID, or a higher CSeq: the binding gives way.
    Newer,
    /// The very request that wrote the binding, it seems.
    Same,
    /// Overtaken.
    Older,
}

fn order(binding: &Binding, command: &RegisterCommand) -> Order {
    if binding.call_id != command.call_id || command.cseq > binding.cseq {
        Order::Newer
    } else if command.cseq == binding.cseq {
        Order::Same
    } else {
        Order::Older
    }
}

/// The contacts after all changes, in order, or why nothing changes.
fn changed(
    current: &[Binding],
    changes: &[Binding],
    command: &RegisterCommand,
) -> Result<Vec<Binding>, SipResponse> {
    if changes.len() > MAX_CHANGES_PER_REGISTER {
        return Err(SipResponse::Full);
    }
    let mut kept = current.to_vec();
    // Written by this request: a contact that is named twice in it is not out of order with itself.
    let mut written: Vec<Binding> = Vec::new();
    for change in changes {
        let new = Binding {
            call_id: command.call_id.clone(),
            cseq: command.cseq,
            updated_at: command.at,
            ..change.clone()
        };
        let is_removal = new.expires_at <= command.at;
        let mut repeated = None;
        for old in kept.iter().filter(|old| is_same_contact(old, &new)) {
            match order(old, command) {
                Order::Newer => {}
                Order::Same if is_retransmission(old, &new) => repeated = Some(old.clone()),
                Order::Same | Order::Older => {
                    return Err(SipResponse::RegisterRefused(RegisterRefusal::OutOfOrder));
                }
            }
        }
        kept.retain(|old| !is_same_contact(old, &new));
        written.retain(|old| !is_same_contact(old, &new));
        if !is_removal {
            // A retransmission leaves the binding as it is, also its end: it was counted from the first copy.
            written.push(repeated.unwrap_or(new));
        }
    }
    kept.append(&mut written);
    kept.sort_by(precedence);
    Ok(kept)
}

/// Highest q first, then newest; the rest only makes the order of a list a function of what is in it.
fn precedence(a: &Binding, b: &Binding) -> Ordering {
    (b.q, b.updated_at)
        .cmp(&(a.q, a.updated_at))
        .then_with(|| (&a.contact_key, &a.instance, a.reg_id).cmp(&(&b.contact_key, &b.instance, b.reg_id)))
}

/// Whether both are one binding: the same flow of the same instance (RFC 5626 §6), or else the same contact. Two
/// flows of an instance are two bindings, though their contacts be equal.
fn is_same_contact(a: &Binding, b: &Binding) -> bool {
    match (flow_id(a), flow_id(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a.contact_key == b.contact_key,
    }
}

fn flow_id(b: &Binding) -> Option<(&str, u32)> {
    Some((b.instance.as_deref()?, b.reg_id?))
}

/// Whether `new` asks again for what `old` is. Ends are absolute and set when the request came, so what is compared
/// is the time that was asked for.
fn is_retransmission(old: &Binding, new: &Binding) -> bool {
    let asked = |b: &Binding| b.expires_at.0.saturating_sub(b.updated_at.0);
    asked(old) == asked(new)
        && (&old.contact, &old.contact_key, &old.flow, &old.natted, &old.path)
            == (&new.contact, &new.contact_key, &new.flow, &new.natted, &new.path)
        && (old.q, &old.instance, old.reg_id, &old.user_agent)
            == (new.q, &new.instance, new.reg_id, &new.user_agent)
        && (old.methods, old.outbound, old.gruu) == (new.methods, new.outbound, new.gruu)
}
