//! The replicated records as JSON, for `relevo ul show` and `relevo dlg list`.

use proxy_core::msg::{Message, NameAddr};
use proxy_core::state::{Binding, BranchState, DialogRecord, InviteState, PendingInvite, SipState};
use proxy_core::time::WallTime;
use serde_json::{Value, json};

use super::MAX_RECORDS;

/// Bindings of one AOR, or of all. Expired ones that are not swept yet are left out.
#[must_use]
pub fn bindings(state: &SipState, aor: Option<&str>, now: WallTime) -> Value {
    let mut records = Vec::new();
    let mut truncated = false;
    let mut add = |aor: &str, list: &[Binding]| {
        for b in list.iter().filter(|b| b.expires_at > now) {
            if records.len() >= MAX_RECORDS {
                truncated = true;
                return;
            }
            records.push(binding(aor, b, now));
        }
    };
    match aor {
        Some(aor) => add(aor, state.bindings(aor)),
        None => state.aors().for_each(|(aor, list)| add(aor, list)),
    }
    json!({ "bindings": records, "truncated": truncated })
}

fn binding(aor: &str, b: &Binding, now: WallTime) -> Value {
    json!({
        "aor": aor,
        "contact": b.contact,
        "q": f64::from(b.q) / 1000.0,
        "expires_s": now.secs_until(b.expires_at),
        "received": b.flow.remote.to_string(),
        "local": b.flow.local.to_string(),
        "natted": b.natted,
        "path": b.path,
        "call_id": b.call_id,
        "cseq": b.cseq,
        "instance": b.instance,
        "reg_id": b.reg_id,
        "user_agent": b.user_agent,
    })
}

/// Confirmed dialogs and INVITEs without an end.
#[must_use]
pub fn dialogs(state: &SipState, now: WallTime) -> Value {
    let dialogs: Vec<Value> = state.dialogs().take(MAX_RECORDS).map(|d| dialog(d, now)).collect();
    let pending: Vec<Value> = state.pending_invites().take(MAX_RECORDS).map(|p| invite(p, now)).collect();
    let counts = state.counts();
    let truncated = counts.dialogs > MAX_RECORDS as u64 || counts.pending_invites > MAX_RECORDS as u64;
    json!({ "dialogs": dialogs, "pending_invites": pending, "truncated": truncated })
}

/// Where a dialog stands: Kamailio's states 3 and 4, and what it has no word for.
pub(super) fn state_of(d: &DialogRecord) -> &'static str {
    match (d.ending, d.ack_until) {
        (Some(_), _) => "ending",
        (None, Some(_)) => "confirmed-no-ack",
        (None, None) => "confirmed",
    }
}

fn dialog(d: &DialogRecord, now: WallTime) -> Value {
    json!({
        "call_id": d.id.call_id,
        "from_tag": d.id.from_tag,
        "to_tag": d.id.to_tag,
        "state": state_of(d),
        "from": d.from_uri,
        "to": d.to_uri,
        "request_uri": d.request_uri,
        "caller": d.caller_target,
        "callee": d.callee_target,
        "caller_addr": d.caller_flow.remote.to_string(),
        "callee_addr": d.callee_flow.remote.to_string(),
        "lasts_s": d.started_at.until(now).as_secs(),
        "ends_in_s": now.secs_until(d.expires_at),
    })
}

pub(super) fn invite(p: &PendingInvite, now: WallTime) -> Value {
    let state = match &p.state {
        InviteState::Proceeding | InviteState::Cancelled if p.ending.is_some() => "ending",
        InviteState::Proceeding => "proceeding",
        InviteState::Cancelled => "cancelled",
        InviteState::Answered { .. } => "answered",
        InviteState::Failed { .. } => "failed",
    };
    let is_early = |s: &BranchState| matches!(s, BranchState::Proceeding { to_tag: Some(_), .. });
    let early = p.branches.iter().any(|b| is_early(&b.state));
    let branches: Vec<Value> = p
        .branches
        .iter()
        .map(|b| {
            let status = match &b.state {
                BranchState::Trying => 100,
                BranchState::Proceeding { status, .. } | BranchState::Final { status, .. } => *status,
            };
            json!({ "target": b.target, "addr": b.flow.remote.to_string(), "status": status })
        })
        .collect();
    // As it was received, so that it can be read again.
    let request = Message::parse(&p.request).ok();
    let uri = |side: Option<NameAddr<'_>>| side.map(|s| s.uri.to_owned());
    json!({
        "call_id": p.call_id,
        "state": state,
        "from": uri(request.as_ref().and_then(|m| m.from().ok())),
        "to": uri(request.as_ref().and_then(|m| m.to().ok())),
        "request_uri": request.as_ref().map(Message::request_uri_str),
        "dialog_state": if early { "early" } else { "unconfirmed" },
        "called": p.branches.iter().find_map(|b| b.backing.called.as_ref()),
        "caller_addr": p.flow.remote.to_string(),
        "since_s": p.received_at.until(now).as_secs(),
        "timer_c_s": now.secs_until(p.timer_c_at),
        "branches": branches,
    })
}
