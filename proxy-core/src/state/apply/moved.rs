//! A branch that goes on at another address of the same target.

use crate::state::limits::MAX_PENDING_BYTES;
use crate::state::{BranchState, Flow, InviteState, ServerKey, SipResponse, SipState};

impl SipState {
    /// The branch takes the first of its other flows. Only while it may still be answered, and only from the flow that
    /// the proposer saw, so that the command moves it once however often it comes.
    pub(super) fn branch_moved(
        &mut self,
        key: &ServerKey,
        index: u16,
        from: Flow,
        via_branch: &str,
    ) -> SipResponse {
        let Some(record) = self.records.pending.get(key) else { return SipResponse::NotFound };
        let Some(branch) = record.branches.get(usize::from(index)) else { return SipResponse::NotFound };
        if branch.flow != from && branch.via_branch == via_branch {
            return SipResponse::Done;
        }
        let open = record.state == InviteState::Proceeding
            && branch.flow == from
            && !matches!(branch.state, BranchState::Final { .. });
        if !open || branch.next.is_empty() || via_branch.len() > MAX_PENDING_BYTES {
            return SipResponse::Superseded;
        }
        self.change_pending(key, |record| {
            if let Some(branch) = record.branches.get_mut(usize::from(index)) {
                let before = std::mem::replace(&mut branch.via_branch, via_branch.to_owned());
                branch.left.push((before, branch.flow));
                branch.flow = branch.next.remove(0);
                branch.state = BranchState::Trying;
            }
        });
        SipResponse::Done
    }
}
