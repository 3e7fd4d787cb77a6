//! What is derived from the records: who ends when, how many there are, how large they are.
//!
//! It is not serialised and does not count in comparisons; it is rebuilt on load. With it an `Expire` that finds
//! nothing due costs three look-ups, however many records there are; one that does costs by what it removes.

use std::collections::BTreeSet;

use super::limits::PENDING_GRACE_MS;
use super::provision::ProvisionIndex;
use super::{
    Binding, Branch, BranchState, DialogId, DialogRecord, InviteState, PendingInvite, Records, ServerKey,
};
use crate::time::WallTime;

/// Ends and sizes, derived from [`Records`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// Earliest end among the contacts of each AOR.
    pub(super) bindings: BTreeSet<(WallTime, String)>,
    /// End of each pending INVITE.
    pub(super) pending: BTreeSet<(WallTime, ServerKey)>,
    /// End of each dialog.
    pub(super) dialogs: BTreeSet<(WallTime, DialogId)>,
    /// Contacts over all AORs.
    pub(super) binding_count: u64,
    /// Bytes of text and messages in all records.
    pub(super) bytes: u64,
    /// Of what is provisioned.
    pub(super) provision: ProvisionIndex,
}

impl Index {
    pub(super) fn build(records: &Records) -> Self {
        let mut this = Self::default();
        records.bindings.iter().for_each(|(aor, list)| this.add_bindings(aor, list));
        records.pending.values().for_each(|p| this.add_pending(p));
        records.dialogs.values().for_each(|d| this.add_dialog(d));
        let (provision, bytes) = ProvisionIndex::build(&records.provision);
        this.provision = provision;
        this.bytes += bytes;
        this
    }

    pub(super) fn add_bindings(&mut self, aor: &str, list: &[Binding]) {
        if let Some(end) = earliest_end(list) {
            self.bindings.insert((end, aor.to_owned()));
        }
        self.binding_count += list.len() as u64;
        self.bytes += bindings_bytes(aor, list);
    }

    pub(super) fn remove_bindings(&mut self, aor: &str, list: &[Binding]) {
        if let Some(end) = earliest_end(list) {
            self.bindings.remove(&(end, aor.to_owned()));
        }
        self.binding_count = self.binding_count.saturating_sub(list.len() as u64);
        self.bytes = self.bytes.saturating_sub(bindings_bytes(aor, list));
    }

    pub(super) fn add_pending(&mut self, record: &PendingInvite) {
        self.pending.insert((pending_end(record), record.key.clone()));
        self.bytes += pending_bytes(record) as u64;
    }

    pub(super) fn remove_pending(&mut self, record: &PendingInvite) {
        self.pending.remove(&(pending_end(record), record.key.clone()));
        self.bytes = self.bytes.saturating_sub(pending_bytes(record) as u64);
    }

    pub(super) fn add_dialog(&mut self, record: &DialogRecord) {
        self.dialogs.insert((record.expires_at, record.id.clone()));
        self.bytes += dialog_bytes(record) as u64;
    }

    pub(super) fn remove_dialog(&mut self, record: &DialogRecord) {
        self.dialogs.remove(&(record.expires_at, record.id.clone()));
        self.bytes = self.bytes.saturating_sub(dialog_bytes(record) as u64);
    }
}

fn earliest_end(list: &[Binding]) -> Option<WallTime> {
    list.iter().map(|b| b.expires_at).min()
}

/// When a pending INVITE may be forgotten: when its answer needs no more care, or long after timer C.
fn pending_end(record: &PendingInvite) -> WallTime {
    match &record.state {
        InviteState::Proceeding | InviteState::Cancelled => {
            WallTime(record.timer_c_at.0.saturating_add(PENDING_GRACE_MS))
        }
        InviteState::Answered { forget_at, .. } | InviteState::Failed { forget_at, .. } => *forget_at,
    }
}

fn bindings_bytes(aor: &str, list: &[Binding]) -> u64 {
    if list.is_empty() { 0 } else { (aor.len() + list.iter().map(binding_bytes).sum::<usize>()) as u64 }
}

/// Bytes of text in a binding.
pub(super) fn binding_bytes(b: &Binding) -> usize {
    b.contact.len()
        + b.contact_key.len()
        + texts(&b.path)
        + b.call_id.len()
        + b.instance.as_ref().map_or(0, String::len)
        + b.user_agent.len()
}

/// Bytes of text and messages in a pending INVITE.
pub(super) fn pending_bytes(p: &PendingInvite) -> usize {
    let state = match &p.state {
        InviteState::Proceeding | InviteState::Cancelled => 0,
        InviteState::Answered { response, .. } | InviteState::Failed { response, .. } => response.len(),
    };
    let planned = p.plan.iter().flat_map(|step| &step.branches);
    let branches: usize = p.branches.iter().chain(planned).map(branch_bytes).sum();
    key_bytes(&p.key) + p.call_id.len() + p.request.len() + p.local_tag.len() + state + branches
}

fn branch_bytes(b: &Branch) -> usize {
    let headers: usize = b.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    b.target.len() + texts(&b.route) + b.via_branch.len() + headers + branch_state_bytes(&b.state)
}

/// Bytes of text and messages in the state of a branch.
pub(super) fn branch_state_bytes(state: &BranchState) -> usize {
    match state {
        BranchState::Trying => 0,
        BranchState::Proceeding { to_tag, .. } => to_tag.as_ref().map_or(0, String::len),
        BranchState::Final { response, .. } => response.len(),
    }
}

/// Bytes of text in a dialog.
pub(super) fn dialog_bytes(d: &DialogRecord) -> usize {
    d.id.call_id.len()
        + d.id.from_tag.len()
        + d.id.to_tag.len()
        + d.from_uri.len()
        + d.to_uri.len()
        + d.request_uri.len()
        + d.caller_target.len()
        + d.callee_target.len()
        + texts(&d.caller_route)
        + texts(&d.callee_route)
}

fn key_bytes(key: &ServerKey) -> usize {
    key.branch.len() + key.sent_by.len()
}

fn texts(list: &[String]) -> usize {
    list.iter().map(String::len).sum()
}
