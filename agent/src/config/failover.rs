//! `[failover]`: how long silence is borne.

use std::time::Duration;

use proxy_core::failover::FailoverConfig;

use super::table::{Reader, Table};

/// Timer B, after which nobody is waited for in any case, ms.
const TIMER_B_MS: i64 = 32_000;

/// Reads and checks the section.
pub(super) fn read(root: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> FailoverConfig {
    let mut f = FailoverConfig::default();
    let Some(mut t) = root.table(reader, "failover") else { return f };
    let fr_timer = t.number(reader, "fr_timer_ms", (0, TIMER_B_MS), 0);
    let next = t.number(reader, "next_address_ms", (0, TIMER_B_MS), 3000);
    let doubt = t.number(reader, "doubt_ms", (0, 60_000), 2000);
    if fr_timer > 0
        && fr_timer < next
        && let Some(line) = t.line_of(reader, "fr_timer_ms").or_else(|| t.line_of(reader, "next_address_ms"))
    {
        let what = format!("fr_timer_ms = {fr_timer} ends a call before next_address_ms = {next}");
        reader.fault(line, what, format!("set fr_timer_ms to at least {next}, or next_address_ms lower"));
    }
    f.fr_timer = (fr_timer > 0).then(|| Duration::from_millis(fr_timer.unsigned_abs()));
    f.next_address = Duration::from_millis(next.unsigned_abs());
    f.doubt = Duration::from_millis(doubt.unsigned_abs());
    f.ringing = t.boolean(reader, "ringing").is_none_or(|at| at.value);
    t.done(reader);
    f
}
