//! What can be asked about subscribers, domains, aliases and access lists, and the records as JSON.
//!
//! `{"command":"provision","ask":{"subscriber_add":{"user":"alice@example.org",…}}}`. A password is never among it: who
//! asks has made HA1 of it.

use std::fmt;
use std::net::IpAddr;

use proxy_core::state::SipState;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::MAX_RECORDS;

/// One question or change. Users are `name@domain`, or `name` where there is one domain only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// User name, domain and realm that a password belongs to: HA1 is made of them.
    Identity {
        /// Whose.
        user: String,
    },
    /// A new subscriber.
    SubscriberAdd {
        /// Who.
        user: String,
        /// What the password left behind.
        secret: Secret,
    },
    /// Another password.
    SubscriberPasswd {
        /// Who.
        user: String,
        /// What the password left behind.
        secret: Secret,
    },
    /// A subscriber goes.
    SubscriberRm {
        /// Who.
        user: String,
    },
    /// All subscribers, or those of a domain.
    SubscriberList {
        /// Which domain.
        #[serde(default)]
        domain: Option<String>,
    },
    /// One more local domain.
    DomainAdd {
        /// Its name.
        name: String,
        /// Its realm, where that is another.
        #[serde(default)]
        realm: Option<String>,
    },
    /// A domain is not local any more.
    DomainRm {
        /// Its name.
        name: String,
    },
    /// All domains, the configured ones, too.
    DomainList {},
    /// Another name.
    AliasAdd {
        /// The name.
        alias: String,
        /// Whom it stands for.
        target: String,
    },
    /// A name goes.
    AliasRm {
        /// The name.
        alias: String,
    },
    /// All aliases, or those of a user.
    AliasList {
        /// Whom they stand for.
        #[serde(default)]
        target: Option<String>,
    },
    /// A source for a group.
    AclAdd {
        /// Which group.
        group: u32,
        /// Address, or network with prefix length.
        net: String,
        /// Source port; any if 0.
        #[serde(default)]
        port: u16,
        /// What to call it.
        #[serde(default)]
        tag: Option<String>,
    },
    /// A source goes.
    AclRm {
        /// From which group.
        group: u32,
        /// Address, or network with prefix length.
        net: String,
        /// Source port; any if 0.
        #[serde(default)]
        port: u16,
    },
    /// All sources, or those of a group.
    AclList {
        /// Which group.
        #[serde(default)]
        group: Option<u32>,
    },
    /// Whether a group covers a source.
    AclCheck {
        /// Which group.
        group: u32,
        /// The address.
        address: IpAddr,
        /// The port.
        #[serde(default)]
        port: u16,
    },
}

/// What a password left behind: HA1 in hex, for one realm.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// For which realm.
    pub realm: String,
    /// 32 hex digits.
    #[serde(default)]
    pub md5: Option<String>,
    /// 64 hex digits.
    #[serde(default)]
    pub sha256: Option<String>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As good as the password, and debug output ends up in logs.
        f.debug_struct("Secret").field("realm", &self.realm).finish_non_exhaustive()
    }
}

/// A list that is cut at [`MAX_RECORDS`].
fn list(name: &str, records: impl Iterator<Item = Value>) -> Value {
    let mut records: Vec<Value> = records.take(MAX_RECORDS + 1).collect();
    let truncated = records.len() > MAX_RECORDS;
    records.truncate(MAX_RECORDS);
    json!({ name: records, "truncated": truncated })
}

/// Subscribers, without their secrets.
#[must_use]
pub fn subscribers(state: &SipState, domain: Option<&str>) -> Value {
    let of = state.provision().subscribers().filter(|(_, s)| domain.is_none_or(|d| s.domain == d));
    list(
        "subscribers",
        of.map(|(aor, s)| {
            let mut algorithms = Vec::new();
            if s.ha1.sha256.is_some() {
                algorithms.push("SHA-256");
            }
            if s.ha1.md5.is_some() {
                algorithms.push("MD5");
            }
            json!({
                "aor": aor,
                "username": s.username,
                "domain": s.domain,
                "realm": s.realm,
                "algorithms": algorithms,
                "contacts": state.bindings(&aor).len(),
            })
        }),
    )
}

/// Domains: the configured ones first.
#[must_use]
pub fn domains(state: &SipState, configured: &[String], realm: impl Fn(&str) -> String) -> Value {
    let provision = state.provision();
    let row = |name: &str, source: &str| {
        let subscribers = provision.subscriber_count(name);
        json!({ "domain": name, "realm": realm(name), "subscribers": subscribers, "source": source })
    };
    let of_config = configured.iter().map(|d| row(d, "configuration"));
    let others = provision.domains().filter(|d| !configured.contains(&d.name));
    list("domains", of_config.chain(others.map(|d| row(&d.name, "state"))))
}

/// Aliases.
#[must_use]
pub fn aliases(state: &SipState, target: Option<&str>) -> Value {
    let of = state.provision().aliases().filter(|(_, t)| target.is_none_or(|x| x == *t));
    list("aliases", of.map(|(alias, target)| json!({ "alias": alias, "target": target })))
}

/// Access list entries.
#[must_use]
pub fn acl(state: &SipState, group: Option<u32>) -> Value {
    let of = state.provision().acl().filter(|(k, _)| group.is_none_or(|g| k.group == g));
    list("acl", of.map(|(key, tag)| acl_entry(key, tag)))
}

/// One access list entry.
#[must_use]
pub fn acl_entry(key: &proxy_core::state::AclKey, tag: Option<&str>) -> Value {
    json!({
        "group": key.group,
        "net": format!("{}/{}", key.address, key.prefix),
        "port": key.port,
        "tag": tag,
    })
}
