//! `[dialog]` and `[limits]`: how long calls may last, and how many there may be at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use proxy_core::dialog::config::{CallLimits, DialogConfig};

use super::table::{Reader, Table};

/// The `[dialog]` and `[limits]` parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialog {
    /// Longest duration of a call.
    pub max_duration: Duration,
    /// Session timers and limits.
    pub config: DialogConfig,
}

impl Default for Dialog {
    fn default() -> Self {
        Self { max_duration: Duration::from_secs(12 * 3600), config: DialogConfig::default() }
    }
}

/// Reads and checks the sections.
pub(super) fn read(root: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> Dialog {
    let mut dialog = Dialog::default();
    if let Some(mut t) = root.table(reader, "dialog") {
        let seconds = t.number(reader, "max_duration_s", (10, 30 * 86_400), 12 * 3600);
        dialog.max_duration = Duration::from_secs(seconds.unsigned_abs());
        let config = &mut dialog.config;
        // RFC 4028 §5: nobody may ask for less than 90 seconds.
        let min = t.number(reader, "min_se_s", (90, 86_400), 90);
        let session = t.number(reader, "session_expires_s", (0, 86_400), 0);
        if session != 0
            && session < min
            && let Some(line) = t.line_of(reader, "session_expires_s")
        {
            let what = format!("session_expires_s = {session} is below min_se_s = {min}");
            reader.fault(line, what, format!("set session_expires_s to 0 (none) or at least {min}"));
        }
        // The callee repeats its 2xx for 64*T1 = 32 s (RFC 3261 §13.3.1.4): until then the ACK may come.
        let no_ack = t.number(reader, "no_ack_s", (0, 86_400), 60);
        if (1..33).contains(&no_ack)
            && let Some(line) = t.line_of(reader, "no_ack_s")
        {
            let what = format!("no_ack_s = {no_ack} would end calls whose ACK may still come (32 s)");
            reader.fault(line, what, "set no_ack_s to at least 33, or to 0 (never)");
        }
        config.no_ack = (no_ack > 0).then(|| Duration::from_secs(no_ack.unsigned_abs()));
        config.min_se_s = u32::try_from(min).unwrap_or(90);
        config.session_expires_s = u32::try_from(session).unwrap_or(0);
        t.done(reader);
    }
    if let Some(mut t) = root.table(reader, "limits") {
        dialog.config.limits = limits(&mut t, reader);
        t.done(reader);
    }
    dialog
}

fn limits(t: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> CallLimits {
    let mut limits = CallLimits::default();
    let most = |value: i64| u32::try_from(value).ok().filter(|n| *n > 0);
    limits.caller = most(t.number(reader, "calls_per_caller", (0, 1_000_000), 0));
    limits.callee = most(t.number(reader, "calls_per_callee", (0, 1_000_000), 0));
    limits.trunk = most(t.number(reader, "calls_per_trunk", (0, 1_000_000), 0));
    limits.source = most(t.number(reader, "calls_per_source", (0, 1_000_000), 0));
    let statuses = [
        ("caller_status", &mut limits.caller_status),
        ("callee_status", &mut limits.callee_status),
        ("trunk_status", &mut limits.trunk_status),
        ("source_status", &mut limits.source_status),
    ];
    for (key, status) in statuses {
        let value = t.number(reader, key, (400, 699), i64::from(*status));
        *status = u16::try_from(value).unwrap_or(*status);
    }
    limits.trunks = of_trunks(t, reader);
    limits
}

/// `[[limits.trunk]]`: what holds for one trunk.
fn of_trunks(t: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> BTreeMap<String, u32> {
    let mut list = BTreeMap::new();
    for mut trunk in t.tables(reader, "trunk", "[[limits.trunk]]") {
        let name = trunk.string(reader, "name");
        let calls = trunk.number(reader, "calls", (1, 1_000_000), 1);
        let has_calls = trunk.line_of(reader, "calls").is_some();
        trunk.done(reader);
        match name {
            Some(name) if has_calls => {
                if list.insert(name.value.clone(), u32::try_from(calls).unwrap_or(u32::MAX)).is_some() {
                    reader.fault(name.line, format!("trunk {:?} is named twice", name.value), "name it once");
                }
            }
            _ => reader.fault(
                trunk.line,
                "a trunk's limit needs its name and its calls",
                "write name = \"carrier\" and calls = 30",
            ),
        }
    }
    list
}
