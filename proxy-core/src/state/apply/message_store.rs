//! Changes of the messages that are kept.

use std::collections::{BTreeMap, BTreeSet};

use crate::state::limits::{
    MAX_EXPIRED_AT_ONCE, MAX_MESSAGE_BYTES, MAX_MESSAGES, MAX_MESSAGES_PER_USER, MAX_RECEIPTS, RECEIPT_BYTES,
    admits_bytes,
};
use crate::state::message_store::{
    MessageCommand, StoredMessage, message_bytes, registration as registration_of,
};
use crate::state::{SipResponse, SipState};
use crate::time::WallTime;

impl SipState {
    pub(super) fn message_changed(&mut self, command: &MessageCommand) -> SipResponse {
        match command {
            MessageCommand::Keep { aor, message, max_per_user, max_total } => {
                self.keep_message(aor, message, *max_per_user, *max_total)
            }
            MessageCommand::Failed { aor, number, registration, tries } => {
                let current: BTreeSet<String> = self.bindings(aor).iter().map(registration_of).collect();
                self.change_message(aor, *number, |message| {
                    // Without those that are no more: the list stays as short as that of the contacts.
                    message.tries.retain(|known, _| current.contains(known));
                    message.cseq = message.cseq.max(tries.cseq);
                    message.tries.insert(registration.clone(), tries.clone());
                })
            }
            MessageCommand::Forget { aor, number, registrations } => {
                self.change_message(aor, *number, |message| {
                    message.tries.retain(|known, _| !registrations.contains(known));
                })
            }
            MessageCommand::Remove { aor, number } => self.remove_message(aor, *number),
        }
    }

    fn keep_message(
        &mut self,
        aor: &str,
        message: &StoredMessage,
        max_per_user: u32,
        max_total: u64,
    ) -> SipResponse {
        let of_user = self.records.messages.users.get(aor);
        let is_here = of_user.is_some_and(|list| list.values().any(|m| m.receipt == message.receipt));
        if is_here || self.records.messages.receipts.contains_key(&message.receipt) {
            return SipResponse::Done;
        }
        let count = of_user.map_or(0, BTreeMap::len);
        let per_user = usize::try_from(max_per_user).unwrap_or(usize::MAX).min(MAX_MESSAGES_PER_USER);
        let bytes = message_bytes(message);
        if count >= per_user
            || self.index.messages.count >= max_total.min(MAX_MESSAGES)
            || bytes > MAX_MESSAGE_BYTES
            || !admits_bytes(self.index.bytes, (bytes + aor.len() + RECEIPT_BYTES) as u64)
        {
            return SipResponse::Full;
        }
        let mut list = of_user.cloned().unwrap_or_default();
        let number = self.records.messages.next;
        self.records.messages.next += 1;
        list.insert(number, message.clone());
        self.put_messages(aor, list);
        while self.records.messages.receipts.len() >= MAX_RECEIPTS {
            self.remove_first_receipt();
        }
        self.add_receipt(message.receipt, message.receipt_ends);
        if self.records.bindings.contains_key(aor) {
            // He has registered while it was on its way here: nothing else would tell that he can be reached.
            self.index.tell_contacts(aor);
        }
        SipResponse::Done
    }

    fn change_message(
        &mut self,
        aor: &str,
        number: u64,
        change: impl FnOnce(&mut StoredMessage),
    ) -> SipResponse {
        let Some(mut list) = self.records.messages.users.get(aor).cloned() else {
            return SipResponse::NotFound;
        };
        let Some(message) = list.get_mut(&number) else { return SipResponse::NotFound };
        change(message);
        self.put_messages(aor, list);
        SipResponse::Done
    }

    fn remove_message(&mut self, aor: &str, number: u64) -> SipResponse {
        let Some(mut list) = self.records.messages.users.get(aor).cloned() else {
            return SipResponse::NotFound;
        };
        if list.remove(&number).is_none() {
            return SipResponse::NotFound;
        }
        let more = !list.is_empty();
        self.put_messages(aor, list);
        if more && self.records.bindings.contains_key(aor) {
            // The next one may be another engine's, which has heard nothing of this one.
            self.index.tell_contacts(aor);
        }
        SipResponse::Done
    }

    /// Messages that nobody has come for.
    pub(super) fn expire_messages(&mut self, up_to: WallTime) {
        for _ in 0..MAX_EXPIRED_AT_ONCE {
            let first = self.index.messages.ends.first().filter(|(end, ..)| *end <= up_to);
            let Some((_, aor, number)) = first.cloned() else { break };
            self.remove_message(&aor, number);
        }
        for _ in 0..MAX_EXPIRED_AT_ONCE {
            if self.index.messages.receipts.first().is_none_or(|(end, _)| *end > up_to) {
                break;
            }
            self.remove_first_receipt();
        }
    }
}
