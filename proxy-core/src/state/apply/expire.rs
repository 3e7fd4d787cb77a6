//! What has come to its end goes. Only the index is looked through.

use crate::msg::reason_phrase;
use crate::state::index::dialog_forgotten;
use crate::state::{EndedBy, Ending, InviteState, SipResponse, SipState};
use crate::time::WallTime;

impl SipState {
    pub(super) fn expire(&mut self, up_to: WallTime) -> SipResponse {
        let mut bindings = 0u32;
        while let Some((end, aor)) = self.index.bindings.first()
            && *end <= up_to
        {
            let aor = aor.clone();
            let mut list = self.records.bindings.get(&aor).cloned().unwrap_or_default();
            let before = list.len();
            list.retain(|b| b.expires_at > up_to);
            bindings = bindings.saturating_add(count(before - list.len()));
            self.put_bindings(&aor, list);
        }
        let mut pending = 0u32;
        while let Some((end, key)) = self.index.pending.first()
            && *end <= up_to
        {
            let (end, key) = (*end, key.clone());
            if let Some(record) = self.records.pending.get(&key).cloned()
                && matches!(record.state, InviteState::Proceeding | InviteState::Cancelled)
            {
                // Nobody has ended it: what is known is when nobody waited for it any longer.
                self.account_failed(&record, (408, reason_phrase(408)), "", end, true);
            }
            self.remove_pending(&key);
            pending = pending.saturating_add(1);
        }
        let mut dialogs = 0u32;
        while let Some((end, id)) = self.index.dialogs.first()
            && dialog_forgotten(*end) <= up_to
        {
            let (end, id) = (*end, id.clone());
            self.dialog_ended(&id, &Ending { at: end, by: EndedBy::Lost, bye: None });
            dialogs = dialogs.saturating_add(1);
        }
        self.expire_subscriptions(up_to);
        self.expire_messages(up_to);
        self.forget_nonces(up_to);
        SipResponse::Expired { bindings, pending, dialogs }
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
