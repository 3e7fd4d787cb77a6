//! The life of a pending INVITE: states only move down in the order of [`InviteState`] and [`BranchState`].

use crate::state::index::{branch_state_bytes, pending_bytes};
use crate::state::limits::{
    MAX_BRANCHES, MAX_COUNT_KEYS, MAX_PENDING_BYTES, MAX_STEPS, admits_bytes, admits_invite,
};
use crate::state::{
    Backend, Branch, BranchState, CallLimit, CountKey, DialogRecord, EndedBy, InviteState, PendingInvite,
    ServerKey, SipResponse, SipState,
};
use crate::time::WallTime;

impl SipState {
    pub(super) fn invite_received(&mut self, record: &PendingInvite) -> SipResponse {
        if self.records.pending.contains_key(&record.key) {
            return SipResponse::Duplicate;
        }
        let limit = self.limit_reached(record).or_else(|| self.destination_full(&record.branches, None));
        if let Some(limit) = limit {
            return SipResponse::LimitReached(limit);
        }
        let bytes = pending_bytes(record);
        let full = !admits_invite(self.records.pending.len(), self.records.dialogs.len())
            || record.branches.len() > MAX_BRANCHES
            || record.plan.len() > MAX_STEPS
            || record.plan.iter().any(|s| s.branches.len() > MAX_BRANCHES)
            || bytes > MAX_PENDING_BYTES
            || record.facts.as_ref().is_some_and(|f| f.counted.len() > MAX_COUNT_KEYS)
            || !admits_bytes(self.index.bytes, bytes as u64);
        if full {
            return SipResponse::Full;
        }
        self.put_pending(record.clone());
        SipResponse::Done
    }

    /// The key under which there are as many calls as are allowed.
    fn limit_reached(&self, record: &PendingInvite) -> Option<CountKey> {
        let limits = record.facts.iter().flat_map(|f| &f.counted);
        limits.into_iter().find(|limit| self.calls_of(&limit.key) >= limit.most).map(|l| l.key.clone())
    }

    /// The destination among these that has as many calls as it may; one that has this call (`known`) already is not.
    fn destination_full(&self, branches: &[Branch], known: Option<&PendingInvite>) -> Option<CountKey> {
        branches.iter().find_map(|branch| {
            let (Some(backend @ Backend::Destination { set, uri }), Some(most)) =
                (&branch.backing.backend, branch.backing.most_calls)
            else {
                return None;
            };
            let is_there = known.is_some_and(|record| {
                let is_open = |b: &Branch| !matches!(b.state, BranchState::Final { .. });
                record.branches.iter().any(|b| is_open(b) && b.backing.backend.as_ref() == Some(backend))
            });
            let full = !is_there && self.load_of(*set, uri) >= most;
            full.then(|| CountKey::Destination { set: *set, uri: uri.clone() })
        })
    }

    pub(super) fn branch_progress(
        &mut self,
        key: &ServerKey,
        index: u16,
        state: &BranchState,
        timer_c_at: Option<WallTime>,
    ) -> SipResponse {
        let Some(record) = self.records.pending.get(key) else { return SipResponse::NotFound };
        let Some(branch) = record.branches.get(usize::from(index)) else { return SipResponse::NotFound };
        if is_known(&branch.state, state) {
            return SipResponse::Done;
        }
        if !may_follow(&branch.state, state) {
            return SipResponse::Superseded;
        }
        let open = is_open(record);
        let mut state = state.clone();
        if let BranchState::Final { response, .. } = &mut state {
            // Best-response selection is over, or there is no room: the status alone is still worth having.
            let others = pending_bytes(record) - branch_state_bytes(&branch.state);
            if !open || others + response.len() > MAX_PENDING_BYTES {
                response.clear();
            }
        }
        // Timer C only ever moves away (§16.7 step 2), so that a late command cannot end a call early.
        let timer_c_at = timer_c_at.filter(|at| open && *at > record.timer_c_at);
        self.change_pending(key, |record| {
            if let Some(branch) = record.branches.get_mut(usize::from(index)) {
                branch.state = state;
            }
            if let Some(at) = timer_c_at {
                record.timer_c_at = at;
            }
        });
        SipResponse::Done
    }

    /// Appends the branches of the next round. The branch parameter says what is the same copy, as it is a function
    /// of the call, the target and the round.
    pub(super) fn branches_added(
        &mut self,
        key: &ServerKey,
        branches: &[Branch],
        round: u16,
        steps_used: u16,
        (no_answer_at, timer_c_at): (Option<WallTime>, WallTime),
    ) -> SipResponse {
        let Some(record) = self.records.pending.get(key) else { return SipResponse::NotFound };
        if record.state != InviteState::Proceeding {
            return SipResponse::Superseded;
        }
        let is_there = |b: &Branch| record.branches.iter().any(|known| known.via_branch == b.via_branch);
        if record.round == round && branches.iter().all(is_there) {
            return SipResponse::Done;
        }
        if record.round.checked_add(1) != Some(round) {
            return SipResponse::Superseded;
        }
        let mut grown = record.clone();
        grown.round = round;
        grown.steps_used = grown.steps_used.max(steps_used);
        grown.no_answer_at = no_answer_at;
        grown.timer_c_at = grown.timer_c_at.max(timer_c_at);
        for branch in branches {
            if grown.branches.iter().any(|b| b.via_branch == branch.via_branch) {
                continue;
            }
            if grown.branches.len() >= MAX_BRANCHES {
                return SipResponse::Full;
            }
            grown.branches.push(Branch { round, ..branch.clone() });
        }
        let full = self.destination_full(branches, Some(record));
        if let Some(full) = full.or_else(|| self.count_anew(&mut grown, branches)) {
            return SipResponse::LimitReached(full);
        }
        let bytes = pending_bytes(&grown);
        let more = bytes.saturating_sub(pending_bytes(record));
        if (more > 0 && bytes > MAX_PENDING_BYTES) || !admits_bytes(self.index.bytes, more as u64) {
            return SipResponse::Full;
        }
        self.put_pending(grown);
        SipResponse::Done
    }

    /// A call counts under the trunk that carries it: that of the newest round. The key under which there are as many calls
    /// as are allowed, if any.
    fn count_anew(&self, grown: &mut PendingInvite, branches: &[Branch]) -> Option<CountKey> {
        let facts = grown.facts.as_mut()?;
        let before = facts.counted.clone();
        facts.count_under_trunk_of(branches);
        let is_new = |limit: &&CallLimit| !before.iter().any(|known| known.key == limit.key);
        let mut new = facts.counted.iter().filter(is_new);
        new.find(|limit| self.calls_of(&limit.key) >= limit.most).map(|limit| limit.key.clone())
    }

    pub(super) fn invite_cancelled(&mut self, key: &ServerKey) -> SipResponse {
        let Some(record) = self.records.pending.get(key) else { return SipResponse::NotFound };
        if !is_open(record) {
            return SipResponse::Superseded;
        }
        self.change_pending(key, |record| record.state = InviteState::Cancelled);
        SipResponse::Done
    }

    /// The active node will fail it. Who asked first is the one who is named.
    pub(super) fn invite_ending(&mut self, key: &ServerKey, by: EndedBy) -> SipResponse {
        let Some(record) = self.records.pending.get(key) else { return SipResponse::NotFound };
        if !is_open(record) {
            return SipResponse::Superseded;
        }
        if record.ending.is_none() {
            self.change_pending(key, |record| record.ending = Some(by));
        }
        SipResponse::Done
    }

    /// The first 2xx decides the call, also one that crossed a CANCEL (§9.1). Any further one makes a dialog, too,
    /// and is passed on by the engine (§16.7 step 5), but the entry keeps the first.
    pub(super) fn invite_answered(
        &mut self,
        key: &ServerKey,
        index: u16,
        response: &[u8],
        dialog: Option<&DialogRecord>,
        forget_at: WallTime,
    ) -> SipResponse {
        let Some(record) = self.records.pending.get(key).cloned() else { return SipResponse::NotFound };
        let Some(branch) = record.branches.get(usize::from(index)) else { return SipResponse::NotFound };
        match &record.state {
            InviteState::Failed { .. } => return SipResponse::Superseded,
            InviteState::Answered { branch: first, response: stored, .. } => {
                if *first == index && stored == response {
                    return SipResponse::Done;
                }
                // Seen before: the dialog was made then, and may have ended since.
                let known =
                    |s: &BranchState| matches!(s, BranchState::Final { response: r, .. } if r == response);
                if known(&branch.state) {
                    return SipResponse::Superseded;
                }
                if *first != index {
                    let state =
                        BranchState::Final { status: status_of(response), response: response.to_vec() };
                    self.set_branch(key, index, state);
                }
                self.make_dialog(&record, index, response, dialog);
                return SipResponse::Superseded;
            }
            InviteState::Proceeding | InviteState::Cancelled => {}
        }
        self.change_pending(key, |record| {
            for (i, branch) in record.branches.iter_mut().enumerate() {
                if i == usize::from(index) {
                    branch.state = BranchState::Final { status: status_of(response), response: Vec::new() };
                } else if let BranchState::Final { response, .. } = &mut branch.state {
                    // Nobody will choose among them any more.
                    *response = Vec::new();
                }
            }
            record.state = InviteState::Answered { branch: index, response: response.to_vec(), forget_at };
        });
        self.make_dialog(&record, index, response, dialog);
        SipResponse::Done
    }

    /// The dialog of a 2xx that had not been seen before. `record` is as it was before.
    fn make_dialog(
        &mut self,
        record: &PendingInvite,
        index: u16,
        response: &[u8],
        dialog: Option<&DialogRecord>,
    ) {
        let Some(dialog) = dialog else { return };
        if self.records.dialogs.contains_key(&dialog.id) {
            return;
        }
        let dialog = DialogRecord {
            invited_at: record.received_at,
            facts: record.facts.clone(),
            ending: record.ending,
            ..dialog.clone()
        };
        let kept = self.keep_dialog(&dialog);
        let said = (status_of(response), reason_of(response));
        self.account_answered(record, index, &dialog, said, kept);
    }

    pub(super) fn invite_failed(
        &mut self,
        key: &ServerKey,
        response: &[u8],
        to_tag: &str,
        at: WallTime,
        forget_at: WallTime,
    ) -> SipResponse {
        let Some(record) = self.records.pending.get(key).cloned() else { return SipResponse::NotFound };
        match &record.state {
            InviteState::Answered { .. } => return SipResponse::Superseded,
            InviteState::Failed { response: stored, .. } => {
                return if stored == response { SipResponse::Done } else { SipResponse::Superseded };
            }
            InviteState::Proceeding | InviteState::Cancelled => {}
        }
        self.change_pending(key, |record| {
            for branch in &mut record.branches {
                if let BranchState::Final { response, .. } = &mut branch.state {
                    *response = Vec::new();
                }
            }
            record.state = InviteState::Failed { response: response.to_vec(), forget_at };
        });
        let code = status_line(response).0.filter(|s| (300..700).contains(s)).unwrap_or(500);
        self.account_failed(&record, (code, reason_of(response)), to_tag, at, false);
        SipResponse::Done
    }

    fn set_branch(&mut self, key: &ServerKey, index: u16, state: BranchState) {
        self.change_pending(key, |record| {
            if let Some(branch) = record.branches.get_mut(usize::from(index)) {
                branch.state = state;
            }
        });
    }
}

/// Status of a stored response that answered a call; 200 if it cannot be read.
fn status_of(response: &[u8]) -> u16 {
    status_line(response).0.filter(|s| (200..300).contains(s)).unwrap_or(200)
}

/// Reason phrase of a stored response.
fn reason_of(response: &[u8]) -> &str {
    status_line(response).1
}

/// Status and reason phrase, as far as they can be read.
fn status_line(response: &[u8]) -> (Option<u16>, &str) {
    let Some(rest) = response.strip_prefix(b"SIP/2.0 ") else { return (None, "") };
    let line = rest.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
    let (digits, reason) = line.split_at(line.len().min(3));
    let status = std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok());
    (status, std::str::from_utf8(reason).unwrap_or_default().trim())
}

/// Whether the call waits for a final answer.
fn is_open(record: &PendingInvite) -> bool {
    matches!(record.state, InviteState::Proceeding | InviteState::Cancelled)
}

/// Whether the branch has that final response already, if only by its status.
fn is_known(old: &BranchState, new: &BranchState) -> bool {
    match (old, new) {
        (BranchState::Final { status, response }, BranchState::Final { status: s, response: r }) => {
            status == s && (response.is_empty() || response == r)
        }
        _ => false,
    }
}

/// Whether a branch may go from one state to the other. One provisional may follow another.
fn may_follow(old: &BranchState, new: &BranchState) -> bool {
    match (old, new) {
        (BranchState::Final { .. }, _) | (BranchState::Proceeding { .. }, BranchState::Trying) => false,
        (BranchState::Trying | BranchState::Proceeding { .. }, _) => true,
    }
}
