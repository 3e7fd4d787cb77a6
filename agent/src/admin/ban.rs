//! What can be asked about banned addresses, and the list of them as JSON.
//!
//! `{"command":"ban","ask":{"clear":{"address":"192.0.2.7"}}}`.

use std::net::IpAddr;

use proxy_core::routing::{Ban, counted_as};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One question or change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// All that are banned now.
    List {},
    /// Lets one in again, or all.
    Clear {
        /// Which; all if absent.
        #[serde(default)]
        address: Option<String>,
    },
}

/// A banned source as people write it: an address, or the /64 that is one source of IPv6.
#[must_use]
pub fn name(source: IpAddr) -> String {
    match source {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("{v6}/64"),
    }
}

/// The source that somebody means: an address, also with the `/64` that [`name`] writes.
#[must_use]
pub fn source(text: &str) -> Option<IpAddr> {
    let bare = text.strip_suffix("/64").filter(|t| t.contains(':')).unwrap_or(text);
    bare.parse().ok().map(counted_as)
}

/// The list as JSON. `active`: whether requests come to this node at all; `limited`: whether there is a limit.
#[must_use]
pub fn list(bans: &[Ban], active: bool, limited: bool) -> Value {
    let bans: Vec<Value> = bans
        .iter()
        .map(|b| json!({ "address": name(b.source), "left_s": b.left.as_secs(), "dropped": b.dropped }))
        .collect();
    json!({ "bans": bans, "active": active, "limit": limited })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_said_as_it_is_listed_or_as_an_address_of_it() {
        for text in ["2001:db8::/64", "2001:db8::", "2001:db8::7"] {
            assert_eq!(source(text).map(name).as_deref(), Some("2001:db8::/64"), "{text}");
        }
        assert_eq!(source("192.0.2.7").map(name).as_deref(), Some("192.0.2.7"));
        assert_eq!(source("::ffff:192.0.2.7").map(name).as_deref(), Some("192.0.2.7"));
        for text in ["192.0.2.0/64", "192.0.2.0/24", "example.org", ""] {
            assert_eq!(source(text), None, "{text}");
        }
    }
}
