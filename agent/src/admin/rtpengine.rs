//! What can be asked about rtpengines, and the list of them as JSON.
//!
//! `{"command":"rtpengine","ask":{"set_state":{"addr":"192.0.2.9:2223","state":"disabled"}}}`.

use std::net::SocketAddr;

use proxy_core::media::{Health, MediaConfig, Node};
use proxy_core::state::SipState;
use proxy_core::time::Now;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One question or change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// All of them.
    List {},
    /// The operator puts one aside, or takes it back.
    SetState {
        /// As in the configuration; all if absent.
        #[serde(default)]
        addr: Option<String>,
        /// `enabled` or `disabled`.
        state: String,
    },
}

/// All rtpengines. `health` is what each engine of this node has noticed; without any (a standby) nobody has asked.
#[must_use]
pub fn list(
    config: &MediaConfig,
    state: &SipState,
    health: Option<&[Vec<(SocketAddr, Health)>]>,
    now: Now,
) -> Value {
    let nodes: Vec<Value> = config.nodes.iter().map(|n| node(n, state, health, now)).collect();
    json!({ "nodes": nodes, "active": health.is_some() })
}

fn node(n: &Node, state: &SipState, health: Option<&[Vec<(SocketAddr, Health)>]>, now: Now) -> Value {
    let disabled = state.media_nodes().disabled.get(&n.address);
    let of_engines = health
        .into_iter()
        .flatten()
        .flat_map(|of| of.iter().filter(|(a, _)| *a == n.address).map(|(_, h)| h));
    let seen: Vec<&Health> = of_engines.collect();
    // One engine that hears it knows more than another that has not asked again yet.
    let heard = seen.iter().filter_map(|h| h.heard_at).max();
    // A standby has asked nobody, and knows what the active node has said.
    let told = state.media_nodes().dead.contains_key(&n.address);
    let dead = if seen.is_empty() { told } else { seen.iter().all(|h| h.dead) };
    let known = if heard.is_some() { "alive" } else { "unknown" };
    json!({
        "addr": n.address.to_string(),
        "set": n.set,
        "weight": n.weight,
        "state": if disabled.is_some() { "disabled" } else { "enabled" },
        "disabled_s": disabled.map(|at| at.until(now.wall).as_secs()),
        "health": if dead { "dead" } else { known },
        "heard_s": heard.map(|at| now.mono.since(at).as_secs()),
        "calls": state.media_load(n.address),
    })
}
