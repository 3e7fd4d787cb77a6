//! Makes the records of calls, and keeps the outbox within its bounds.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::msg::reason_phrase;
use crate::state::accounting::record_bytes;
use crate::state::limits::{
    MAX_COUNT_KEYS, MAX_OUTBOX_BYTES, MAX_OUTBOX_PLACES, MAX_OUTBOX_RECORDS, MAX_OUTBOX_UNCLAIMED,
    MAX_REFUSED_KNOWN,
};
use crate::state::parties::account_text;
use crate::state::{
    AccountRecord, AccountingCommand, BranchState, CallFacts, CallTimes, DialogRecord, EndedBy, Ending,
    InviteState, Outbox, PendingInvite, RecordKind, RefusedCall, SipResponse, SipState,
};
use crate::time::{WallOffset, WallTime};

impl SipState {
    pub(super) fn accounting_changed(&mut self, command: &AccountingCommand) -> SipResponse {
        let outbox = &mut self.records.outbox;
        match command {
            AccountingCommand::Open { place, itself } => {
                match outbox.places.get(place) {
                    Some(Some(_)) => return SipResponse::Done,
                    Some(None) if !itself => return SipResponse::Superseded,
                    None if outbox.places.len() >= MAX_OUTBOX_PLACES => return SipResponse::Full,
                    _ => {}
                }
                // All that still waits is for it, too.
                let first = outbox.records.keys().next().copied().unwrap_or(outbox.newest + 1);
                outbox.places.insert(*place, Some(first.saturating_sub(1)));
            }
            AccountingCommand::Close { place } => {
                if !outbox.places.contains_key(place) && outbox.places.len() >= MAX_OUTBOX_PLACES {
                    return SipResponse::Full;
                }
                outbox.places.insert(*place, None);
            }
            AccountingCommand::Forget { place } => {
                if outbox.places.remove(place).is_none() {
                    return SipResponse::NotFound;
                }
            }
            AccountingCommand::Refused(call) => return self.call_refused(call),
            AccountingCommand::Written { place, up_to } => {
                let newest = outbox.newest;
                let Some(Some(known)) = outbox.places.get_mut(place) else { return SipResponse::NotFound };
                if *up_to <= *known {
                    return SipResponse::Superseded;
                }
                *known = (*up_to).min(newest);
            }
        }
        self.trim_outbox();
        SipResponse::Done
    }

    /// A call was refused. Strangers can have as many refused as they like: such records take at most half of the room.
    fn call_refused(&mut self, call: &RefusedCall) -> SipResponse {
        let name = name_of(call);
        let outbox = &mut self.records.outbox;
        if self.index.refused.contains(&name) {
            return SipResponse::Superseded;
        }
        if outbox.records.len() >= most_records(outbox) / 2
            || self.index.outbox_bytes >= MAX_OUTBOX_BYTES / 2
            || call.facts.counted.len() > MAX_COUNT_KEYS
        {
            return SipResponse::Full;
        }
        outbox.refused.push_back(name);
        self.index.refused.insert(name);
        if outbox.refused.len() > MAX_REFUSED_KNOWN
            && let Some(oldest) = outbox.refused.pop_front()
        {
            self.index.refused.remove(&oldest);
        }
        let base = base(&call.facts, &call.call_id, &call.to_tag, call.at);
        let record = AccountRecord { code: call.code, reason: account_text(&call.reason), ..base };
        self.put_record(record, RecordKind::Failed);
        SipResponse::Done
    }

    /// An INVITE has come to nothing.
    pub(super) fn account_failed(
        &mut self,
        record: &PendingInvite,
        (code, reason): (u16, &str),
        to_tag: &str,
        at: WallTime,
        lost: bool,
    ) {
        let Some(facts) = record.facts.as_deref() else { return };
        let by = match (&record.state, code) {
            _ if lost => EndedBy::Lost,
            (InviteState::Cancelled, _) => EndedBy::Caller,
            (_, 480) => record.ending.unwrap_or(EndedBy::Callee),
            (_, 408) => EndedBy::Timeout,
            _ => EndedBy::Callee,
        };
        // Who was tried last, for a call that went to one backend after the other.
        let to = record.branches.last().and_then(|b| b.backing.backend.clone());
        let called = record.branches.iter().find_map(|b| b.backing.called.clone());
        let mut base = base(facts, &record.call_id, to_tag, at);
        (base.code, base.reason, base.to, base.called) = (code, account_text(reason), to, called);
        self.put_record(base.clone(), RecordKind::Failed);
        self.account_missed(record, &base, u16::MAX, None);
        base.times =
            Some(CallTimes { started_at: record.received_at, answered_at: None, ended_at: at, ended_by: by });
        self.put_record(base, RecordKind::Cdr);
    }

    /// Our users who were called before `round` and are not the one who answered.
    fn account_missed(
        &mut self,
        record: &PendingInvite,
        base: &AccountRecord,
        round: u16,
        answered: Option<&str>,
    ) {
        let mut missed: BTreeMap<&str, u16> = BTreeMap::new();
        let last = record.branches.iter().map(|b| b.round).max();
        for branch in record.branches.iter().filter(|b| b.round < round) {
            let Some(called) = branch.backing.called.as_deref().filter(|c| Some(*c) != answered) else {
                continue;
            };
            let code = match branch.state {
                BranchState::Final { status, .. } => status,
                _ if record.state == InviteState::Cancelled => 487,
                // What ends the call is not replicated by itself: it is in what the caller has got.
                _ if Some(branch.round) == last && base.code >= 300 => base.code,
                _ => 408,
            };
            // Of several phones: the one that said the most, as in the choice of the response for the caller.
            missed.entry(called).and_modify(|known| *known = better(*known, code)).or_insert(code);
        }
        let missed: Vec<(String, u16)> = missed.into_iter().map(|(c, code)| (c.to_owned(), code)).collect();
        for (called, code) in missed {
            let reason = String::from(reason_phrase(code));
            let record = AccountRecord { code, reason, called: Some(called), ..base.clone() };
            self.put_record(record, RecordKind::Missed);
        }
    }

    /// A 2xx has made this dialog: `kept`, or there was no room for it.
    pub(super) fn account_answered(
        &mut self,
        record: &PendingInvite,
        index: u16,
        dialog: &DialogRecord,
        (code, reason): (u16, &str),
        kept: bool,
    ) {
        let Some(facts) = record.facts.as_deref() else { return };
        let branch = record.branches.get(usize::from(index));
        let mut base = base(facts, &record.call_id, &dialog.id.to_tag, dialog.started_at);
        (base.code, base.reason) = (code, account_text(reason));
        base.to.clone_from(&dialog.backing.backend);
        base.called = branch.and_then(|b| b.backing.called.clone());
        self.put_record(base.clone(), RecordKind::Invite);
        if !matches!(record.state, InviteState::Answered { .. }) {
            let answered = base.called.clone();
            self.account_missed(record, &base, branch.map_or(0, |b| b.round), answered.as_deref());
        }
        if !kept {
            base.times = Some(CallTimes {
                started_at: record.received_at,
                answered_at: Some(dialog.started_at),
                ended_at: dialog.started_at,
                ended_by: EndedBy::Lost,
            });
            self.put_record(base, RecordKind::Cdr);
        }
    }

    /// A dialog is over.
    pub(super) fn account_ended(&mut self, dialog: &DialogRecord, ending: &Ending) {
        let Some(facts) = dialog.facts.as_deref() else { return };
        let mut base = base(facts, &dialog.id.call_id, &dialog.id.to_tag, ending.at);
        base.to.clone_from(&dialog.backing.backend);
        base.called.clone_from(&dialog.backing.called);
        if let Some(code) = ending.bye {
            let bye = AccountRecord { code, reason: String::from(reason_phrase(code)), ..base.clone() };
            self.put_record(bye, RecordKind::Bye);
        }
        (base.code, base.reason) = (200, String::from(reason_phrase(200)));
        base.times = Some(CallTimes {
            started_at: dialog.invited_at,
            answered_at: Some(dialog.started_at),
            ended_at: ending.at,
            ended_by: ending.by,
        });
        self.put_record(base, RecordKind::Cdr);
    }

    fn put_record(&mut self, mut record: AccountRecord, kind: RecordKind) {
        let outbox = &mut self.records.outbox;
        outbox.newest += 1;
        record.seq = outbox.newest;
        record.kind = kind;
        record.wall_offset = self.records.wall_offset;
        record.id = id_of(&record);
        self.index.outbox_bytes += record_bytes(&record) as u64;
        outbox.records.insert(record.seq, record);
        self.trim_outbox();
    }

    /// What all have written goes; so does the oldest when there is no more room.
    fn trim_outbox(&mut self) {
        let outbox = &mut self.records.outbox;
        let written = outbox.written_by_all();
        let most = most_records(outbox);
        while let Some(first) = outbox.records.first_key_value().map(|(number, _)| *number) {
            let done = written.is_some_and(|w| first <= w);
            let full = self.index.outbox_bytes > MAX_OUTBOX_BYTES || outbox.records.len() > most;
            if !done && !full {
                break;
            }
            let Some(record) = outbox.records.remove(&first) else { break };
            let bytes = record_bytes(&record) as u64;
            self.index.outbox_bytes = self.index.outbox_bytes.saturating_sub(bytes);
            if !done && written.is_some() {
                outbox.lost += 1;
            }
        }
    }
}

/// Records for which there is room.
fn most_records(outbox: &Outbox) -> usize {
    if outbox.written_by_all().is_some() { MAX_OUTBOX_RECORDS } else { MAX_OUTBOX_UNCLAIMED }
}

fn base(facts: &CallFacts, call_id: &str, to_tag: &str, at: WallTime) -> AccountRecord {
    AccountRecord {
        seq: 0,
        id: [0; 16],
        kind: RecordKind::Cdr,
        at,
        call_id: account_text(call_id),
        from_tag: facts.from_tag.clone(),
        to_tag: account_text(to_tag),
        code: 0,
        reason: String::new(),
        src_user: facts.src_user.clone(),
        src_domain: facts.src_domain.clone(),
        src_ip: Some(facts.src_ip),
        dst_ouser: facts.dst_ouser.clone(),
        dst_user: facts.dst_user.clone(),
        dst_domain: facts.dst_domain.clone(),
        from_trunk: facts.from_trunk.clone(),
        to: None,
        called: None,
        times: None,
        wall_offset: WallOffset(0),
    }
}

/// The same event has the same id. Parts go in with their lengths, so that no two lists of parts are the same bytes.
fn id_of(record: &AccountRecord) -> [u8; 16] {
    let mut hash = Sha256::new();
    // A call that failed has no tag of its own before it is answered: what comes later is another INVITE, at another time.
    let at = match (record.kind, &record.times) {
        (RecordKind::Cdr, Some(times)) => times.started_at,
        _ => record.at,
    };
    let called = record.called.as_deref().filter(|_| record.kind == RecordKind::Missed).unwrap_or_default();
    let parts = [record.kind.word(), &record.call_id, &record.from_tag, &record.to_tag, called];
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.update(at.0.to_le_bytes());
    let mut id = [0; 16];
    id.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    id
}

/// The same INVITE has the same name, whenever it comes.
fn name_of(call: &RefusedCall) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in [&call.call_id, &call.facts.from_tag] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.update(call.facts.cseq.to_le_bytes());
    let mut name = [0; 16];
    name.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    name
}

/// Of two failures the one that says more: a 6xx, else the lower class, and a phone that speaks rather than silence.
fn better(a: u16, b: u16) -> u16 {
    let rank = |code: u16| match code {
        600.. => (0, code),
        408 => (9, code),
        _ => (code / 100, code),
    };
    if rank(b) < rank(a) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_failures_the_one_that_says_more_counts() {
        assert_eq!(better(408, 486), 486);
        assert_eq!(better(486, 603), 603);
        assert_eq!(better(480, 503), 480);
        assert_eq!(better(404, 404), 404);
    }
}
