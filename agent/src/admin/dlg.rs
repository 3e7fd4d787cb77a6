//! What can be asked about one call, and the call as JSON with the fields of Kamailio's `dlg.list`.
//!
//! `{"command":"dlg","ask":{"show":{"call_id":"…"}}}`, `{"command":"dlg","ask":{"end":{"call_id":"…"}}}`.

use proxy_core::state::{Backend, CallFacts, DialogRecord, Leg, SipState};
use proxy_core::time::WallTime;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::views;
use crate::accounting::line::utc;

/// One question or change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// All that is known of a call.
    Show {
        /// Which.
        call_id: String,
    },
    /// A call ends: BYE to both sides, or CANCEL if nobody has answered.
    End {
        /// Which.
        call_id: String,
    },
}

/// The dialogs of a call, and its INVITEs without an end. `None` if there is none of either.
#[must_use]
pub fn call(state: &SipState, call_id: &str, now: WallTime) -> Option<Value> {
    let dialogs: Vec<Value> = state.dialogs_of_call(call_id).map(|d| dialog(state, d, now)).collect();
    let pending: Vec<Value> =
        state.pending_invites().filter(|p| p.call_id == call_id).map(|p| views::invite(p, now)).collect();
    let found = !dialogs.is_empty() || !pending.is_empty();
    found.then(|| json!({ "call_id": call_id, "dialogs": dialogs, "pending_invites": pending }))
}

fn dialog(state: &SipState, d: &DialogRecord, now: WallTime) -> Value {
    let side = |tag: &str, contact: &str, cseq: u32, route: &[String], addr: String, leg: &Leg| {
        json!({
            "tag": tag,
            "contact": contact,
            "cseq": cseq,
            "route_set": route,
            "addr": addr,
            "trunk": leg.trunk,
        })
    };
    let (caller, callee) = (&d.caller_flow, &d.callee_flow);
    let flow = |f: &proxy_core::state::Flow| format!("{}:{}", f.transport.uri_name(), f.remote);
    json!({
        "state": views::state_of(d),
        "ack_awaited_s": d.ack_until.map(|until| now.secs_until(until)),
        "from_uri": d.from_uri,
        "to_uri": d.to_uri,
        "request_uri": d.request_uri,
        "init": utc(state.real(d.invited_at)),
        "start": utc(state.real(d.started_at)),
        "duration_s": d.started_at.until(now).as_secs(),
        "timeout": utc(state.real(d.expires_at)),
        "lifetime_s": d.started_at.until(d.expires_at).as_secs(),
        "session_timer": d.session.map(|s| json!({
            "interval_s": s.interval_s,
            "expires_in_s": now.secs_until(s.expires_at),
        })),
        "caller": side(&d.id.from_tag, &d.caller_target, d.caller_cseq, &d.caller_route, flow(caller), &d.backing.towards_caller),
        "callee": side(&d.id.to_tag, &d.callee_target, d.callee_cseq, &d.callee_route, flow(callee), &d.backing.towards_callee),
        "called": d.backing.called,
        "destination": match &d.backing.backend {
            Some(Backend::Destination { set, uri }) => json!({ "set": set, "uri": uri }),
            _ => Value::Null,
        },
        "user": d.facts.as_deref().map(user),
        "ended_by": d.ending.map(proxy_core::state::EndedBy::word),
    })
}

fn user(facts: &CallFacts) -> Value {
    json!({ "caller": facts.caller, "source": facts.src_ip.to_string(), "from_trunk": facts.from_trunk })
}
