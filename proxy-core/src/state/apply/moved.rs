//! A branch that goes on at another address of the same target, or by another flow of the same phone.

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
        if branch.via_branch == via_branch {
            return SipResponse::Done;
        }
        let open = record.state == InviteState::Proceeding
            && branch.flow == from
            // Two flows of a phone may go by the same proxy.
            && !branch.left.iter().any(|(before, _)| before == via_branch)
            && !matches!(branch.state, BranchState::Final { .. });
        if !open || branch.following().is_none() || via_branch.len() > MAX_PENDING_BYTES {
            return SipResponse::Superseded;
        }
        self.change_pending(key, |record| {
            if let Some(branch) = record.branches.get_mut(usize::from(index)) {
                branch.left.push((branch.via_branch.clone(), branch.place()));
                branch.follow(via_branch.to_owned());
                branch.state = BranchState::Trying;
            }
        });
        SipResponse::Done
    }
}
