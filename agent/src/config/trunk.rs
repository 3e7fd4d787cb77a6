//! `[trunk]`: what holds for all trunks. Which there are is replicated: `relevo trunk add`.

use std::time::Duration;

use proxy_core::trunk::TrunkConfig;

use super::table::{Reader, Table};

/// Reads and checks the section.
pub(super) fn read(root: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> TrunkConfig {
    let mut c = TrunkConfig::default();
    let Some(mut t) = root.table(reader, "trunk") else { return c };
    if let Some(at) = t.string(reader, "pstn") {
        if at.value.is_empty() {
            reader.fault(at.line, "pstn is empty", "name a trunk, or leave pstn out");
        }
        c.pstn = Some(at.value);
    }
    for at in t.strings(reader, "by_name").map(|list| list.value).unwrap_or_default() {
        if at.value.is_empty() {
            reader.fault(at.line, "a name in by_name is empty", "name a trunk (see: relevo trunk list)");
        }
        c.by_name.insert(at.value);
    }
    let retry = t.number(reader, "retry_s", (1, 3600), 10);
    let most = t.number(reader, "retry_max_s", (1, 86_400), 600);
    if most < retry
        && let Some(line) = t.line_of(reader, "retry_max_s").or_else(|| t.line_of(reader, "retry_s"))
    {
        let what = format!("retry_max_s = {most} is below retry_s = {retry}");
        reader.fault(line, what, format!("set retry_max_s to at least {retry}"));
    }
    c.retry = Duration::from_secs(retry.unsigned_abs());
    c.retry_max = Duration::from_secs(most.unsigned_abs());
    let patience = t.number(reader, "patience_ms", (0, 32_000), 4000);
    c.patience = Duration::from_millis(patience.unsigned_abs());
    if let Some(list) = super::dispatcher::codes(&mut t, reader, "failover_codes") {
        c.failover = list;
    }
    t.done(reader);
    c
}
