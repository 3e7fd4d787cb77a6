//! The only way to change records: each change keeps the derived index right.

use std::collections::BTreeMap;

use super::dispatcher::Destination;
use super::message_store::StoredMessage;
use super::news::NewsItem;
use super::pmap::PMap;
use super::subscriptions::Subscription;
use super::trunk::Trunk;
use super::{Binding, CountUse, DialogId, DialogRecord, NonceCounts, PendingInvite, ServerKey, SipState};
use crate::time::WallTime;

impl SipState {
    /// Sets the contacts of an AOR; an empty list removes the AOR.
    pub(super) fn put_bindings(&mut self, aor: &str, list: Vec<Binding>) {
        if list.is_empty() {
            if let Some(old) = self.records.bindings.remove(aor) {
                self.index.remove_bindings(aor, &old);
            }
            return;
        }
        // In its place: taken out first, the tree would be put in order twice.
        if let Some(old) = self.records.bindings.get(aor) {
            self.index.remove_bindings(aor, old);
        }
        self.index.add_bindings(aor, &list);
        self.records.bindings.insert(aor.to_owned(), list);
        if self.records.messages.users.contains_key(aor) {
            self.index.tell_contacts(aor);
        }
    }

    /// Adds a pending INVITE, or replaces the one with the same key.
    pub(super) fn put_pending(&mut self, record: PendingInvite) {
        self.remove_pending(&record.key);
        self.index.add_pending(&record);
        self.records.pending.insert(record.key.clone(), record);
    }

    /// Changes a pending INVITE (but not its key).
    pub(super) fn change_pending(&mut self, key: &ServerKey, change: impl FnOnce(&mut PendingInvite)) {
        if let Some(record) = self.records.pending.get_mut(key) {
            self.index.remove_pending(record);
            change(record);
            self.index.add_pending(record);
        }
    }

    /// Removes a pending INVITE; `false` if it is not there.
    pub(super) fn remove_pending(&mut self, key: &ServerKey) -> bool {
        let old = self.records.pending.remove(key);
        if let Some(old) = &old {
            self.index.remove_pending(old);
        }
        old.is_some()
    }

    /// Adds a dialog, or replaces the one with the same id.
    pub(super) fn put_dialog(&mut self, record: DialogRecord) {
        self.remove_dialog(&record.id);
        self.index.add_dialog(&record);
        self.records.dialogs.insert(record.id.clone(), record);
    }

    /// Removes a dialog; `false` if it is not there.
    pub(super) fn remove_dialog(&mut self, id: &DialogId) -> bool {
        let old = self.records.dialogs.remove(id);
        if let Some(old) = &old {
            self.index.remove_dialog(old);
        }
        old.is_some()
    }

    /// Says that the media of a call are over, if the dialog that is gone was the last that had any.
    pub(super) fn tell_media_over(&mut self, gone: &DialogRecord) {
        let Some(session) = &gone.media else { return };
        let DialogId { call_id, from_tag, .. } = &gone.id;
        if self.dialogs_of_call(call_id).all(|d| d.media.is_none()) {
            let (call_id, from_tag) = (call_id.clone(), from_tag.clone());
            self.index.news.push(NewsItem::MediaOver { call_id, from_tag, node: session.node });
        }
    }

    /// Changes which destinations there are.
    pub(super) fn change_sets(&mut self, change: impl FnOnce(&mut PMap<u32, Vec<Destination>>)) {
        self.index.remove_dispatcher(&self.records.dispatcher);
        change(&mut self.records.dispatcher.sets);
        self.records.dispatcher.revision += 1;
        self.index.add_dispatcher(&self.records.dispatcher);
    }

    /// Adds a trunk. One of that name must not be there.
    pub(super) fn insert_trunk(&mut self, trunk: Trunk) {
        self.index.add_trunk(&trunk);
        self.records.trunks.trunks.insert(trunk.account.uuid.clone(), trunk);
    }

    /// Removes a trunk; `false` if it is not there.
    pub(super) fn remove_trunk(&mut self, uuid: &str) -> bool {
        let old = self.records.trunks.trunks.remove(uuid);
        if let Some(old) = &old {
            self.index.remove_trunk(old);
        }
        old.is_some()
    }

    /// Adds a subscription, or replaces the one with the same id.
    pub(super) fn put_subscription(&mut self, subscription: Subscription) {
        self.remove_subscription(&subscription.id);
        self.index.add_subscription(&subscription);
        self.records.subscriptions.all.insert(subscription.id.clone(), subscription);
    }

    /// Removes a subscription; `false` if it is not there.
    pub(super) fn remove_subscription(&mut self, id: &DialogId) -> bool {
        let old = self.records.subscriptions.all.remove(id);
        if let Some(old) = &old {
            self.index.remove_subscription(old);
        }
        old.is_some()
    }

    /// Sets the messages of a user; with none the user goes.
    pub(super) fn put_messages(&mut self, aor: &str, list: BTreeMap<u64, StoredMessage>) {
        if let Some(old) = self.records.messages.users.remove(aor) {
            self.index.remove_messages(aor, &old);
        }
        if !list.is_empty() {
            self.index.add_messages(aor, &list);
            self.records.messages.users.insert(aor.to_owned(), list);
        }
    }

    /// Takes note of a nonce count.
    pub(super) fn take_count(&mut self, using: &CountUse) {
        self.change_nonces(|nonces| {
            nonces.take(using);
        });
    }

    /// Removes what is known of nonces that are of no use any more.
    pub(super) fn forget_nonces(&mut self, now: WallTime) {
        self.change_nonces(|nonces| nonces.forget_dead(now));
    }

    fn change_nonces(&mut self, change: impl FnOnce(&mut NonceCounts)) {
        self.index.remove_nonces(self.records.nonces.len());
        change(&mut self.records.nonces);
        self.index.add_nonces(self.records.nonces.len());
    }

    /// Adds the receipt of a message that was taken. It must not be there.
    pub(super) fn add_receipt(&mut self, receipt: u64, ends: WallTime) {
        self.records.messages.receipts.insert(receipt, ends);
        self.index.add_receipt(receipt, ends);
    }

    /// Removes the receipt that ends first, if there is any.
    pub(super) fn remove_first_receipt(&mut self) {
        if let Some((_, receipt)) = self.index.remove_first_receipt() {
            self.records.messages.receipts.remove(&receipt);
        }
    }
}
