//! Changes of a dialog.

use crate::state::index::dialog_bytes;
use crate::state::limits::{MAX_DIALOG_BYTES, MAX_DIALOGS, admits_bytes};
use crate::state::{DialogId, DialogRecord, SipResponse, SipState};
use crate::time::WallTime;

impl SipState {
    pub(super) fn dialog_updated(
        &mut self,
        id: &DialogId,
        caller_target: Option<&String>,
        callee_target: Option<&String>,
        expires_at: Option<WallTime>,
    ) -> SipResponse {
        let Some(old) = self.records.dialogs.get(id) else { return SipResponse::NotFound };
        let mut new = old.clone();
        if let Some(target) = caller_target {
            new.caller_target.clone_from(target);
        }
        if let Some(target) = callee_target {
            new.callee_target.clone_from(target);
        }
        if let Some(end) = expires_at {
            new.expires_at = end;
        }
        if dialog_bytes(&new) > MAX_DIALOG_BYTES.max(dialog_bytes(old)) {
            return SipResponse::Full;
        }
        self.put_dialog(new);
        SipResponse::Done
    }

    /// Remembers the dialog of a 2xx. A dialog that is there already stays, as it may have been updated since; one
    /// for which there is no room is left out: requests within it find their way by Record-Route, and to refuse the
    /// 2xx would be worse. (Room was reserved when the INVITE was admitted, so only the second and further 2xx of a
    /// fork can be hit.)
    pub(super) fn keep_dialog(&mut self, dialog: &DialogRecord) {
        let bytes = dialog_bytes(dialog);
        let fits = self.records.dialogs.len() < MAX_DIALOGS
            && bytes <= MAX_DIALOG_BYTES
            && admits_bytes(self.index.bytes, bytes as u64);
        if fits && !self.records.dialogs.contains_key(&dialog.id) {
            self.put_dialog(dialog.clone());
        }
    }

    /// The CSeq of requests to one side moves away from that of whoever writes them.
    pub(super) fn leg_shifted(&mut self, id: &DialogId, to_caller: bool, shift: u32) -> SipResponse {
        let Some(old) = self.records.dialogs.get(id) else { return SipResponse::NotFound };
        let mut new = old.clone();
        let leg = if to_caller { &mut new.backing.towards_caller } else { &mut new.backing.towards_callee };
        if shift <= leg.cseq_shift {
            return SipResponse::Superseded;
        }
        leg.cseq_shift = shift;
        self.put_dialog(new);
        SipResponse::Done
    }
}
