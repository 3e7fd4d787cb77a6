//! `[auth]`: who has to prove who he is.

use std::time::Duration;

use proxy_core::auth::AuthConfig;
use proxy_core::digest::Algorithm;

use super::table::{Reader, Table};

/// Longest realm, bytes: as many as the replicated state takes.
const REALM_MAX: usize = proxy_core::state::limits::MAX_PROVISION_TEXT;

/// The `[auth]` part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// Whether REGISTER, and requests from users of our domains, need a password.
    pub enabled: bool,
    /// Realm of all domains that have none of their own; the name of the domain if absent.
    pub realm: Option<String>,
    /// What is offered, best first.
    pub algorithms: Vec<Algorithm>,
    /// How long a nonce may be used, seconds.
    pub nonce_lifetime_s: u32,
    /// Access list group whose sources need no password but for REGISTER; 0 = none.
    pub trusted_group: u32,
    /// Whether credentials count only for the Request-URI that they name.
    pub check_uri: bool,
    /// Whether the 200 to a REGISTER carries Authentication-Info.
    pub info: bool,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            enabled: false,
            realm: None,
            algorithms: AuthConfig::default().algorithms,
            nonce_lifetime_s: 300,
            trusted_group: 1,
            check_uri: false,
            info: false,
        }
    }
}

impl Auth {
    /// For the engines; the seed of nonce keys is filled in by who has one.
    #[must_use]
    pub fn for_engines(&self) -> AuthConfig {
        AuthConfig {
            enabled: self.enabled,
            realm: self.realm.clone(),
            algorithms: self.algorithms.clone(),
            nonce_life: Duration::from_secs(u64::from(self.nonce_lifetime_s)),
            trusted_group: Some(self.trusted_group).filter(|group| *group != 0),
            check_uri: self.check_uri,
            info: self.info,
            ..AuthConfig::default()
        }
    }
}

/// Reads and checks the section.
pub(super) fn read(root: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> Auth {
    let mut a = Auth::default();
    let Some(mut t) = root.table(reader, "auth") else { return a };
    a.enabled = t.boolean(reader, "enabled").is_some_and(|at| at.value);
    if let Some(at) = t.string(reader, "realm") {
        let fits =
            (1..=REALM_MAX).contains(&at.value.len()) && !at.value.bytes().any(|b| b < b' ' || b == 0x7f);
        if !fits {
            reader.fault(
                at.line,
                "the realm is empty, too long, or holds control characters",
                format!("write 1 to {REALM_MAX} bytes, or leave realm out to take the name of the domain"),
            );
        }
        a.realm = Some(at.value);
    }
    if let Some(list) = t.strings(reader, "algorithms") {
        a.algorithms.clear();
        for at in &list.value {
            match Algorithm::from_token(&at.value) {
                Some(Algorithm::Sha512T256) | None => reader.fault(
                    at.line,
                    format!("algorithm {:?} is not offered here", at.value),
                    "write \"SHA-256\" or \"MD5\"",
                ),
                Some(algorithm) if a.algorithms.contains(&algorithm) => {
                    reader.fault(at.line, format!("{algorithm} is there twice"), "remove one");
                }
                Some(algorithm) => a.algorithms.push(algorithm),
            }
        }
        if list.value.is_empty() {
            let cure = "write [\"SHA-256\", \"MD5\"], or leave algorithms out";
            reader.fault(list.line, "algorithms is empty: nobody could prove anything", cure);
        }
    }
    let seconds = t.number(reader, "nonce_lifetime_s", (5, 86_400), i64::from(a.nonce_lifetime_s));
    a.nonce_lifetime_s = u32::try_from(seconds).unwrap_or(a.nonce_lifetime_s);
    let group = t.number(reader, "trusted_group", (0, i64::from(u32::MAX)), i64::from(a.trusted_group));
    a.trusted_group = u32::try_from(group).unwrap_or(a.trusted_group);
    a.check_uri = t.boolean(reader, "check_uri").is_some_and(|at| at.value);
    a.info = t.boolean(reader, "info").is_some_and(|at| at.value);
    t.done(reader);
    a
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    #[test]
    fn the_check_of_the_uri_and_authentication_info_are_switched_on_by_name() {
        let read = |text: &str| Config::parse(Path::new("a.toml"), text).expect("right").auth;
        let engines = read("[auth]\ncheck_uri = true\ninfo = true\n").for_engines();
        assert!(engines.check_uri && engines.info);
        let engines = read("[auth]\nenabled = true\n").for_engines();
        assert!(!engines.check_uri && !engines.info, "as Kamailio's defaults");
    }
}
