//! What has come to its end goes, what ended first before the rest, and so much at once that nobody waits long for it.
//! Only the index is looked through.

use crate::msg::reason_phrase;
use crate::state::index::dialog_forgotten;
use crate::state::limits::MAX_EXPIRED_AT_ONCE;
use crate::state::{EndedBy, Ending, InviteState, SipResponse, SipState};
use crate::time::WallTime;

impl SipState {
    pub(super) fn expire(&mut self, up_to: WallTime) -> SipResponse {
        let mut bindings = 0u32;
        for _ in 0..MAX_EXPIRED_AT_ONCE {
            let Some((_, aor)) = self.index.bindings.first().filter(|(end, _)| *end <= up_to) else { break };
            let aor = aor.clone();
            let mut list = self.records.bindings.get(&aor).cloned().unwrap_or_default();
            let before = list.len();
            list.retain(|b| b.expires_at > up_to);
            bindings = bindings.saturating_add(count(before - list.len()));
            self.put_bindings(&aor, list);
        }
        let mut pending = 0u32;
        for _ in 0..MAX_EXPIRED_AT_ONCE {
            let first = self.index.pending.first().filter(|(end, _)| *end <= up_to);
            let Some((end, key)) = first.cloned() else { break };
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
        for _ in 0..MAX_EXPIRED_AT_ONCE {
            let first = self.index.dialogs.first().filter(|(end, _)| dialog_forgotten(*end) <= up_to);
            let Some((end, id)) = first.cloned() else { break };
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
