//! `{"command":"trace","ask":{"call_id":"a@b","after":0}}`: messages that this node has heard and said.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::capture::{Direction, Entry};
use proxy_core::registrar::http_date;
use proxy_core::state::Transport;
use proxy_core::time::RealTime;

/// Which messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Of this call; of all if absent.
    #[serde(default)]
    pub call_id: Option<String>,
    /// With a number above this: what came since an earlier answer.
    #[serde(default)]
    pub after: u64,
}

/// The messages as JSON.
#[must_use]
pub fn told(entries: &[Entry], active: bool) -> Value {
    let last = entries.last().map(|e| e.number);
    let messages: Vec<Value> = entries.iter().map(message).collect();
    json!({ "active": active, "last": last, "messages": messages })
}

fn message(e: &Entry) -> Value {
    let transport = match e.flow.transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    };
    let text = String::from_utf8_lossy(&e.bytes);
    json!({
        "number": e.number,
        "ms": e.at.0,
        "time": clock_of(e.at),
        "direction": match e.direction { Direction::In => "in", Direction::Out => "out" },
        "transport": transport,
        "local": e.flow.local.to_string(),
        "remote": e.flow.remote.to_string(),
        "first_line": text.trim_start().lines().next().unwrap_or_default(),
        "text": text,
    })
}

/// `09:12:44.031` (UTC).
fn clock_of(at: RealTime) -> String {
    let date = http_date(at);
    let clock = date.split(' ').nth(4).unwrap_or_default();
    format!("{clock}.{:03}", at.0 % 1000)
}
