//! The keys of a file as they stand there, one by one: what a reload has changed, and in what two nodes differ.

use std::collections::BTreeMap;

/// Keys with their values as TOML. Tables in lists are numbered from 1: `route[1].name`.
pub type Keys = BTreeMap<String, String>;

/// Shown in place of what nobody else must know.
pub const SECRET: &str = "(secret)";

/// What is read once, when a node starts. A name that ends with a dot or with `_` stands for all that begin so.
const AT_START: [&str; 16] = [
    "node.",
    "cluster.",
    "vip.",
    "sip.port",
    "sip.listen",
    "sip.engines",
    "sip.tcp",
    "sip.tcp_",
    "sip.udp_max_bytes",
    "dns.servers",
    "dns.patience_ms",
    "hep.",
    "accounting.json",
    "accounting.csv",
    "rtpengine.",
    "rtpengine[",
];
/// Of these, what counts at once all the same.
const AT_ONCE: [&str; 1] = ["node.log"];
/// Last parts of the names of secrets.
const SECRETS: [&str; 3] = ["key", "password", "secret"];

/// The keys of a text that is TOML; of anything else, none.
#[must_use]
pub fn keys(text: &str) -> Keys {
    let mut found = Keys::new();
    if let Ok(table) = text.parse::<toml::Table>() {
        flatten("", &toml::Value::Table(table), &mut found);
    }
    found
}

fn flatten(name: &str, value: &toml::Value, found: &mut Keys) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(&name, value, found);
            }
        }
        toml::Value::Array(list) if list.iter().any(toml::Value::is_table) => {
            for (n, value) in list.iter().enumerate() {
                flatten(&format!("{name}[{}]", n + 1), value, found);
            }
        }
        other => drop(found.insert(name.to_owned(), other.to_string())),
    }
}

/// Whether a key is read only when a node starts.
#[must_use]
pub fn needs_restart(key: &str) -> bool {
    let is = |name: &&str| match name.ends_with(['.', '_', '[']) {
        true => key.starts_with(*name),
        false => key == *name,
    };
    AT_START.iter().any(is) && !AT_ONCE.contains(&key)
}

/// The value as others may see it.
#[must_use]
pub fn shown(key: &str, value: &str) -> String {
    let last = key.rsplit('.').next().unwrap_or(key);
    if SECRETS.contains(&last) { SECRET.to_owned() } else { value.to_owned() }
}

/// One key in which two files differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: String,
    /// What it was; `None`: the default.
    pub from: Option<String>,
    /// What it is.
    pub to: Option<String>,
}

impl Difference {
    /// As people read it, without secrets.
    #[must_use]
    pub fn words(&self) -> String {
        let of = |value: &Option<String>| {
            value.as_ref().map_or_else(|| String::from("the default"), |v| shown(&self.key, v))
        };
        format!("{}: {} -> {}", self.key, of(&self.from), of(&self.to))
    }
}

/// What differs, in the order of the keys.
#[must_use]
pub fn differences(from: &Keys, to: &Keys) -> Vec<Difference> {
    let all: std::collections::BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    all.into_iter()
        .filter(|key| from.get(*key) != to.get(*key))
        .map(|key| Difference { key: key.clone(), from: from.get(key).cloned(), to: to.get(key).cloned() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_one_by_one_and_secrets_are_not_said() {
        let old = keys("[cluster]\nkey = \"aa\"\n[[route]]\nname = \"a\"\n[auth]\nenabled = true\n");
        let new = keys("[cluster]\nkey = \"bb\"\n[[route]]\nname = \"b\"\n[[route]]\nname = \"c\"\n");
        let said: Vec<String> = differences(&old, &new).iter().map(Difference::words).collect();
        assert_eq!(
            said,
            [
                "auth.enabled: true -> the default",
                "cluster.key: (secret) -> (secret)",
                "route[1].name: \"a\" -> \"b\"",
                "route[2].name: the default -> \"c\"",
            ]
        );
        assert!(differences(&new, &new).is_empty());
        assert!(keys("this is no toml").is_empty());
    }

    #[test]
    fn what_is_read_at_the_start_is_known_by_name() {
        for key in ["node.id", "cluster.node[2].addr", "sip.tcp", "sip.tcp_idle_s", "rtpengine[1].addr"] {
            assert!(needs_restart(key), "{key}");
        }
        for key in ["node.log", "sip.domains", "route[1].name", "auth.enabled", "dns.naptr", "flood.requests"]
        {
            assert!(!needs_restart(key), "{key}");
        }
    }
}
