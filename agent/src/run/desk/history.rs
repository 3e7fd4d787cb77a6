//! `relevo history`: what has happened to the service.

use proxy_core::time::WallTime;
use raft_store::state::{Event, EventKind};
use serde_json::{Value, json};

use super::super::backend::Desk;
use crate::admin::Reply;
use crate::bridge::Cluster;

impl<C: Cluster> Desk<C> {
    pub(in crate::run) fn history(&self, last: Option<usize>) -> Reply {
        let mut events = self.cluster.history();
        if let Some(last) = last {
            events.drain(..events.len().saturating_sub(last));
        }
        let real = self.cluster.read(|state| {
            events
                .iter()
                .map(|e| (e.at > WallTime::default()).then(|| state.real(e.at).0))
                .collect::<Vec<_>>()
        });
        let list: Vec<Value> = events.iter().zip(real).map(|(e, at)| show(e, at)).collect();
        Reply::Ok { ok: json!({ "events": list, "now_ms": (self.clock)().real.0 }) }
    }
}

/// The name of a kind, as programs read it.
fn kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Moved => "moved",
        EventKind::Resumed => "resumed",
        EventKind::Refused => "refused",
        EventKind::Operator => "operator",
    }
}

fn show(e: &Event, at: Option<u64>) -> Value {
    json!({
        "token": e.token,
        "kind": kind(e.kind),
        "at_ms": at,
        "from": e.from,
        "to": e.to,
        "why": e.why,
        "silent_ms": e.silent_ms,
        "invites": e.invites,
        "dialogs": e.dialogs,
        "bindings": e.bindings,
    })
}
