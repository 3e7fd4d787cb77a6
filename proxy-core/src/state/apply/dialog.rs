//! Changes of a dialog.

use crate::state::index::dialog_bytes;
use crate::state::limits::{MAX_DIALOG_BYTES, MAX_DIALOGS, admits_bytes};
use crate::state::{DialogId, DialogRecord, EndedBy, Ending, SipCommand, SipResponse, SipState};
use crate::time::WallTime;

impl SipState {
    pub(super) fn dialog_updated(&mut self, command: &SipCommand) -> SipResponse {
        let SipCommand::DialogUpdated {
            id,
            caller_target,
            callee_target,
            expires_at,
            caller_cseq,
            callee_cseq,
            session,
        } = command
        else {
            return SipResponse::NotFound;
        };
        let Some(old) = self.records.dialogs.get(id) else { return SipResponse::NotFound };
        let mut new = old.clone();
        if let Some(target) = caller_target {
            new.caller_target.clone_from(target);
        }
        if let Some(target) = callee_target {
            new.callee_target.clone_from(target);
        }
        if let Some(end) = expires_at {
            new.expires_at = *end;
        }
        new.caller_cseq = new.caller_cseq.max(caller_cseq.unwrap_or(0));
        new.callee_cseq = new.callee_cseq.max(callee_cseq.unwrap_or(0));
        if let Some(session) = session {
            new.session = *session;
        }
        if dialog_bytes(&new) > MAX_DIALOG_BYTES.max(dialog_bytes(old)) {
            return SipResponse::Full;
        }
        self.put_dialog(new);
        SipResponse::Done
    }

    /// It is over, and accounted for.
    pub(super) fn dialog_ended(&mut self, id: &DialogId, ending: &Ending) -> SipResponse {
        let Some(dialog) = self.records.dialogs.get(id).cloned() else { return SipResponse::NotFound };
        self.remove_dialog(id);
        self.tell_media_over(&dialog);
        self.account_ended(&dialog, ending);
        SipResponse::Done
    }

    /// The active node will end it. Who asked first is the one who is named.
    pub(super) fn dialog_ending(&mut self, id: &DialogId, by: EndedBy) -> SipResponse {
        let Some(old) = self.records.dialogs.get(id) else { return SipResponse::NotFound };
        if old.ending.is_none() {
            self.put_dialog(DialogRecord { ending: Some(by), ..old.clone() });
        }
        SipResponse::Done
    }

    /// The caller has acknowledged the 2xx. When its end is due, the BYEs may have been sent: then it stays so.
    pub(super) fn dialog_acked(&mut self, id: &DialogId, at: WallTime) -> SipResponse {
        let Some(old) = self.records.dialogs.get(id) else { return SipResponse::NotFound };
        match old.ack_until {
            None => SipResponse::Done,
            Some(until) if at >= until => SipResponse::Superseded,
            Some(_) => {
                self.put_dialog(DialogRecord { ack_until: None, ..old.clone() });
                SipResponse::Done
            }
        }
    }

    /// Remembers the dialog of a 2xx. A dialog that is there already stays, as it may have been updated since; one
    /// for which there is no room is left out: requests within it find their way by Record-Route, and to refuse the
    /// 2xx would be worse. (Room was reserved when the INVITE was admitted, so only the second and further 2xx of a
    /// fork can be hit.) `false` if there was no room.
    pub(super) fn keep_dialog(&mut self, dialog: &DialogRecord) -> bool {
        let bytes = dialog_bytes(dialog);
        let fits = self.records.dialogs.len() < MAX_DIALOGS
            && bytes <= MAX_DIALOG_BYTES
            && admits_bytes(self.index.bytes, bytes as u64);
        let known = self.records.dialogs.contains_key(&dialog.id);
        if fits && !known {
            self.put_dialog(dialog.clone());
        }
        fits || known
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
