//! What can be asked about the dispatcher's sets, and the sets as JSON, in the words of Kamailio's `dispatcher.list`.
//!
//! `{"command":"dispatcher","ask":{"add":{"set":1,"uri":"sip:192.0.2.21"}}}`.

use proxy_core::state::SipState;
use proxy_core::state::dispatcher::Destination;
use proxy_core::time::WallTime;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::MAX_RECORDS;

/// One question or change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// All sets, or one.
    List {
        /// Which.
        #[serde(default)]
        set: Option<u32>,
    },
    /// A destination comes into a set, or is changed: what is not named stays as it is, and so does how it fares.
    Add {
        /// Which set.
        set: u32,
        /// Its URI.
        uri: String,
        /// Kamailio's bits.
        #[serde(default)]
        flags: Option<u32>,
        /// Higher is earlier.
        #[serde(default)]
        priority: Option<i32>,
        /// The column `attrs`: `weight=50;maxload=100;duid=a`.
        #[serde(default)]
        attrs: Option<String>,
        /// For the operator.
        #[serde(default)]
        description: Option<String>,
    },
    /// A destination goes, or a whole set.
    Rm {
        /// From which set.
        set: u32,
        /// Its URI; all if absent.
        #[serde(default)]
        uri: Option<String>,
    },
    /// The operator's word on a state.
    SetState {
        /// In which set.
        set: u32,
        /// Its URI; all if absent.
        #[serde(default)]
        uri: Option<String>,
        /// a, i, t or d, with p for probing: `ip`.
        state: String,
    },
}

/// The sets with their destinations in the order in which they are tried by priority.
#[must_use]
pub fn sets(state: &SipState, only: Option<u32>, probe_all: bool, now: WallTime) -> Value {
    let mut left = MAX_RECORDS;
    let mut truncated = false;
    let sets: Vec<Value> = state
        .dispatcher()
        .sets
        .iter()
        .filter(|(set, _)| only.is_none_or(|o| o == **set))
        .map(|(set, list)| {
            truncated |= list.len() > left;
            let targets: Vec<Value> =
                list.iter().take(left).map(|d| target(state, *set, d, probe_all, now)).collect();
            left -= targets.len();
            json!({ "id": set, "targets": targets })
        })
        .collect();
    json!({ "nrsets": sets.len(), "sets": sets, "truncated": truncated })
}

fn target(state: &SipState, set: u32, d: &Destination, probe_all: bool, now: WallTime) -> Value {
    json!({
        "uri": d.uri,
        "flags": d.letters(probe_all),
        "priority": d.priority,
        "attrs": {
            "body": d.attrs.body,
            "duid": d.attrs.duid,
            "maxload": d.attrs.max_load,
            "weight": d.attrs.weight,
        },
        "description": d.description,
        "dlgload": state.load_of(set, &d.uri),
        "probing_count": d.count,
        "since_s": if d.changed_at.0 == 0 { None } else { Some(d.changed_at.until(now).as_secs()) },
    })
}
