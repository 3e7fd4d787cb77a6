//! `{"command":"route_explain","ask":{"request":"INVITE sip:bob@example.org"}}`: what would become of a request.

use proxy_core::routing::Line;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The request to explain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Method and Request-URI; the method is INVITE if it is left out.
    pub request: String,
    /// From URI; somebody at the domain of the Request-URI if absent.
    #[serde(default)]
    pub from: Option<String>,
    /// Source address, perhaps with a port; an address of documentation if absent.
    #[serde(default)]
    pub source: Option<String>,
    /// Further header lines, `Name: value`.
    #[serde(default)]
    pub headers: Vec<String>,
    /// As if this user (`name@domain`) had authenticated.
    #[serde(default)]
    pub user: Option<String>,
}

/// The decisions as JSON.
#[must_use]
pub fn explained(request: &str, source: &str, lines: &[Line]) -> Value {
    let steps: Vec<Value> = lines
        .iter()
        .map(|l| json!({ "stage": l.stage.title(), "decision": l.decision, "why": l.why }))
        .collect();
    json!({ "request": request, "source": source, "steps": steps })
}
