//! What must be true of all calls, of what accounting says of them, and of the trunk, when a world has come to its end.

use std::collections::BTreeSet;

use proxy_core::state::{AccountRecord, RecordKind};

use super::base::MS;
use super::call::Call;
use super::judge::Judge;
use super::phones::Phones;

/// What datagrams of phones lost may do for so long afterwards, ns: a backend that was thought dead is probed again.
const AFTER_LOSS: u64 = 5_000 * MS;

/// Invariant 8: each call that was promised has the one end that it should have, and nobody is left ringing or talking.
/// `losses`: when datagrams of phones were lost, from and until, ns.
pub fn calls(judge: &mut Judge, phones: &Phones, losses: &[(u64, u64)]) {
    for call in &phones.calls {
        let caller = &call.caller;
        if let Some(callee) = call.callees.iter().find(|c| c.rang > 1) {
            judge.accuse(format!("invariant 2: {} rang twice at one phone: {callee:?}", call.id));
        }
        if caller.bye_answer.is_some_and(|s| s != 200) {
            judge.accuse(format!("invariant 2: the dialog of {} is lost: {caller:?}", call.id));
        }
        if caller.told.len() > 1 {
            judge.accuse(format!("invariant 8: {} is told to end as {:?}", call.id, caller.told));
        }
        if let Some(callee) = call.callees.iter().find(|c| c.is_ringing()) {
            judge.accuse(format!("invariant 8: {} is over, and {} rings on: {callee:?}", call.id, callee.at));
        }
        if !caller.gave_up
            && !caller.stays()
            && let Some(callee) = call.callees.iter().find(|c| c.is_talking())
        {
            judge.accuse(format!("invariant 8: {} is over, and {} talks on: {callee:?}", call.id, callee.at));
        }
        if call.must_be_answered
            && caller.promised
            && !was_unlucky(call, losses)
            && caller.outcome != Some(200)
        {
            let kind = call.kind;
            judge.accuse(format!(
                "invariant 8: nobody answers {}, a call of kind {kind:?}: {call:?}",
                call.id
            ));
        }
    }
}

/// Whether datagrams of its phones may have been lost: who says nothing in time is not called any more.
fn was_unlucky(call: &Call, losses: &[(u64, u64)]) -> bool {
    let (Some(begun), Some(ended)) = (call.begun, call.caller.ended) else { return true };
    losses.iter().any(|(from, until)| *from <= ended && begun <= until + AFTER_LOSS)
}

/// Invariant 9: accounting says everything once.
pub fn records(judge: &mut Judge, phones: &Phones) {
    let state = judge.sip();
    let records: Vec<&AccountRecord> = state.outbox().after(0).collect();
    let of = |kind| records.iter().filter(move |r| r.kind == kind);
    let ids: BTreeSet<[u8; 16]> = records.iter().map(|r| r.id).collect();
    let legs: BTreeSet<(&str, &str)> =
        of(RecordKind::Cdr).map(|r| (r.call_id.as_str(), r.to_tag.as_str())).collect();
    let was_answered = |r: &AccountRecord| r.times.is_some_and(|t| t.answered_at.is_some());
    let answered = of(RecordKind::Cdr).filter(|r| was_answered(r)).count();
    let cdrs = of(RecordKind::Cdr).count();
    let live = state.dialogs().count();
    let mut wrong = Vec::new();
    if ids.len() != records.len() || legs.len() != cdrs {
        wrong.push(String::from("something is accounted for twice"));
    }
    if !(1..).zip(&records).all(|(n, r)| r.seq == n) {
        wrong.push(String::from("numbers of records have gaps"));
    }
    if answered + live != of(RecordKind::Invite).count()
        || cdrs - answered != of(RecordKind::Failed).count()
        || of(RecordKind::Bye).count() > answered
    {
        wrong.push(format!("{cdrs} CDRs, {answered} of answered calls, {live} dialogs do not add up"));
    }
    let mut late = None;
    for call in &phones.calls {
        let caller = &call.caller;
        let of_call: Vec<_> = of(RecordKind::Cdr).filter(|r| r.call_id == call.id).collect();
        let right = match caller.outcome {
            Some(200) if caller.bye_answer == Some(200) => {
                let tag = caller.answered_by().unwrap_or_default();
                of_call.iter().filter(|r| r.to_tag == tag && was_answered(r)).count() == 1
            }
            Some(status) if status >= 300 && caller.promised => {
                of_call.len() == 1 && of_call.iter().all(|r| r.code == status && !was_answered(r))
            }
            _ => true,
        };
        let begun = call.begun.unwrap_or(0);
        late = late.or_else(|| of_call.iter().find_map(|r| judge.time.of_record(r, begun)));
        if !right {
            wrong.push(format!("{} ended as {:?} and has {of_call:?}", call.id, caller.outcome));
        }
    }
    let first = wrong.into_iter().next();
    if let Some(late) = late {
        judge.accuse(format!("invariant 17: accounting {late}"));
    }
    if let Some(first) = first {
        judge.accuse(format!("invariant 9: {first}"));
    }
}

/// Invariant 10: the carrier knows one client, registered now.
pub fn trunk(judge: &mut Judge, phones: &Phones, now: u64) {
    let carrier = &phones.carrier;
    if carrier.until <= now {
        judge.accuse("invariant 10: the trunk is not registered after healing");
    }
    if carrier.clients.len() != 1 {
        judge.accuse(format!("invariant 10: the carrier knows {:?}", carrier.clients));
    }
}
