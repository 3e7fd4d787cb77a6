//! `[dispatcher]`: how backends are chosen and probed. Which there are is replicated: `relevo dispatcher add`.

use std::time::Duration;

use proxy_core::dispatch::{Algorithm, DispatchConfig};
use proxy_core::msg::Uri;

use super::doors::{Door, Unsaid, tells_apart};
use super::table::{At, Reader, Table};
use super::values::cidrs;

/// Reads and checks the section. With it comes what is left unsaid of who may use the default set.
pub(super) fn read(root: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> (DispatchConfig, Option<Door>) {
    let mut d = DispatchConfig::default();
    let Some(mut t) = root.table(reader, "dispatcher") else { return (d, None) };
    let default_set = t.integer(reader, "default_set");
    d.default_set = default_set.as_ref().and_then(|at| set(reader, at));
    let guests = guests(&mut t, reader, &mut d);
    let door = default_set.filter(|_| !guests).map(|at| Door {
        line: at.line,
        name: format!("dispatcher.default_set = {}", at.value),
        rule: None,
        unsaid: Unsaid::Guests,
    });
    if let Some(at) = t.string(reader, "algorithm") {
        d.algorithm = algorithm(reader, &at).unwrap_or(d.algorithm);
    }
    for mut s in t.tables(reader, "set", "[[dispatcher.set]]") {
        let id = s.integer(reader, "id");
        let name = s.string(reader, "algorithm");
        match (id, name) {
            (Some(id), Some(name)) => {
                if let (Some(id), Some(algorithm)) = (set(reader, &id), algorithm(reader, &name))
                    && d.algorithms.insert(id, algorithm).is_some()
                {
                    let what = format!("set {id} is there twice");
                    reader.fault(s.line, what, "remove one of them: a set has one algorithm");
                }
            }
            _ => reader.fault(s.line, "[[dispatcher.set]] needs id and algorithm", "write both"),
        }
        s.done(reader);
    }
    let seconds = |t: &mut Table<'_, '_>, reader: &mut Reader<'_>, key, min, default: Duration| {
        let s = t.number(reader, key, (min, 86_400), i64::try_from(default.as_secs()).unwrap_or(0));
        Duration::from_secs(s.unsigned_abs())
    };
    d.probe_interval = seconds(&mut t, reader, "probe_interval_s", 0, d.probe_interval);
    d.probe_timeout = seconds(&mut t, reader, "probe_timeout_s", 1, d.probe_timeout);
    let patience = t.number(reader, "patience_ms", (0, 32_000), 3000);
    d.patience = Duration::from_millis(patience.unsigned_abs());
    if let Some(at) = t.string(reader, "probe_from") {
        if Uri::parse(&at.value).is_ok_and(|uri| uri.is_sip()) {
            d.probe_from = at.value;
        } else {
            let what = format!("probe_from {:?} is no SIP URI", at.value);
            reader.fault(at.line, what, "write it as \"sip:dispatcher@example.org\"");
        }
    }
    if let Some(all) = t.word(reader, "probe", &[("all", true), ("marked", false)]) {
        d.probe_all = all;
    }
    if let Some(list) = codes(&mut t, reader, "alive_codes") {
        d.alive = list;
    }
    if let Some(list) = codes(&mut t, reader, "failover_codes") {
        d.failover = list;
    }
    let count = |t: &mut Table<'_, '_>, reader: &mut Reader<'_>, key| {
        u32::try_from(t.number(reader, key, (1, 1000), 1)).unwrap_or(1)
    };
    d.failures = count(&mut t, reader, "inactive_after");
    d.successes = count(&mut t, reader, "active_after");
    d.passive = t.boolean(reader, "passive").is_none_or(|at| at.value);
    t.done(reader);
    (d, door)
}

/// Who may use the default set. Whether anything says so.
fn guests(t: &mut Table<'_, '_>, reader: &mut Reader<'_>, d: &mut DispatchConfig) -> bool {
    d.default_sources = cidrs(t, reader, "source");
    let open = t.boolean(reader, "open").filter(|at| at.value);
    let require_auth = t.boolean(reader, "require_auth").is_some_and(|at| at.value);
    d.default_open = open.is_some();
    if let Some(open) = open.filter(|_| require_auth) {
        reader.fault(open.line, "open lets in whom require_auth keeps out", "remove one of them");
    }
    if d.default_set.is_none() {
        for key in ["source", "open", "require_auth"] {
            if let Some(line) = t.line_of(reader, key) {
                let what = format!("{key} says who may use the default set, and there is none");
                reader.fault(line, what, "add default_set = 1, or remove it");
            }
        }
    }
    d.default_open || require_auth || tells_apart(&d.default_sources)
}

fn set(reader: &mut Reader<'_>, at: &At<i64>) -> Option<u32> {
    let id = u32::try_from(at.value).ok();
    if id.is_none() {
        reader.fault(at.line, format!("{} is no set", at.value), "write a number from 0 to 4294967295");
    }
    id
}

fn algorithm(reader: &mut Reader<'_>, at: &At<String>) -> Option<Algorithm> {
    let found = Algorithm::parse(&at.value);
    if found.is_none() {
        let all: Vec<String> =
            Algorithm::ALL.iter().map(|(_, name, n)| format!("\"{name}\" ({n})")).collect();
        let cure = format!("write one of {}", all.join(", "));
        reader.fault(at.line, format!("algorithm {:?} is unknown", at.value), cure);
    }
    found
}

/// Status codes, and classes of them: `[200, "4xx"]` is written `["200", "4xx"]`.
pub(super) fn codes(
    t: &mut Table<'_, '_>,
    reader: &mut Reader<'_>,
    key: &'static str,
) -> Option<Vec<(u16, u16)>> {
    let list = t.strings(reader, key)?;
    let mut ranges = Vec::new();
    for at in &list.value {
        let range = match (at.value.strip_suffix("xx"), at.value.parse::<u16>()) {
            (Some(class), _) => class
                .parse::<u16>()
                .ok()
                .map(|c| c.saturating_mul(100))
                .map(|from| (from, from.saturating_add(99))),
            (None, Ok(code)) => Some((code, code)),
            (None, Err(_)) => None,
        };
        match range.filter(|(from, _)| (200..700).contains(from)) {
            Some(range) => ranges.push(range),
            None => reader.fault(
                at.line,
                format!("{:?} in {key} is no final status", at.value),
                "write codes such as \"503\" and classes such as \"5xx\"",
            ),
        }
    }
    Some(ranges)
}
