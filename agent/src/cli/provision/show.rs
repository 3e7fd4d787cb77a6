//! How subscribers, domains, aliases and access lists look.

use serde_json::Value;

use crate::cli::print::{cut, list, table_or, text};

/// In the quotes that `kamctl` has always put round names.
pub(super) fn quoted(v: &Value) -> String {
    format!("'{}'", text(v))
}

pub(super) fn subscribers(v: &Value) -> String {
    let rows = rows(&v["subscribers"], |s| {
        let algorithms: Vec<String> = list(&s["algorithms"]).iter().map(text).collect();
        let [user, domain, realm, contacts] =
            ["username", "domain", "realm", "contacts"].map(|k| text(&s[k]));
        vec![user, domain, realm, algorithms.join(" "), contacts]
    });
    cut(table_or("no subscribers", &["USERNAME", "DOMAIN", "REALM", "HA1", "CONTACTS"], &rows), v)
}

pub(super) fn domains(v: &Value) -> String {
    let rows = rows(&v["domains"], |d| {
        ["domain", "realm", "subscribers", "source"].iter().map(|k| text(&d[*k])).collect()
    });
    cut(table_or("no domains: every domain is ours", &["DOMAIN", "REALM", "SUBSCRIBERS", "FROM"], &rows), v)
}

pub(super) fn domain_removed(v: &Value) -> String {
    let left = v["subscribers_left"].as_u64().unwrap_or(0);
    let mut out = format!("domain {} removed", quoted(&v["domain"]));
    if left > 0 {
        out +=
            &format!("; {left} subscriber(s) of it are left (relevo subscriber list {})", text(&v["domain"]));
    }
    out
}

pub(super) fn aliases(v: &Value) -> String {
    let rows = rows(&v["aliases"], |a| vec![text(&a["alias"]), text(&a["target"])]);
    cut(table_or("no aliases", &["ALIAS", "STANDS FOR"], &rows), v)
}

pub(super) fn acl(v: &Value) -> String {
    let rows = rows(&v["acl"], |a| {
        let port = if a["port"] == 0 { String::from("any") } else { text(&a["port"]) };
        vec![text(&a["group"]), text(&a["net"]), port, text(&a["tag"])]
    });
    cut(table_or("no entries", &["GROUP", "NETWORK", "PORT", "TAG"], &rows), v)
}

/// `192.0.2.0/24 port 5060 (office)`.
pub(super) fn source(v: &Value) -> String {
    let mut out = text(&v["net"]);
    if v["port"] != 0 {
        out += &format!(" port {}", v["port"]);
    }
    if let Some(tag) = v["tag"].as_str() {
        out += &format!(" ({tag})");
    }
    out
}

fn rows(records: &Value, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    list(records).iter().map(row).collect()
}
