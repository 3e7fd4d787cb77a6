//! `[presence]`: SUBSCRIBE and PUBLISH, and who watches whose calls.

use proxy_core::blf::{PresenceConfig, Watchers};

use super::table::{Reader, Table};

/// Reads and checks the section.
pub(super) fn read(root: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> PresenceConfig {
    let mut p = PresenceConfig::default();
    let Some(mut t) = root.table(reader, "presence") else { return p };
    p.enabled = t.boolean(reader, "enabled").is_some_and(|at| at.value);
    let words = [("users", Watchers::Users), ("anyone", Watchers::Anyone)];
    p.watchers = t.word(reader, "watchers", &words).unwrap_or_default();
    let seconds = |t: &mut Table<'_, '_>, reader: &mut Reader<'_>, key, default: u32| {
        u32::try_from(t.number(reader, key, (1, 86_400), i64::from(default))).unwrap_or(default)
    };
    let line = t.line_of(reader, "max_expires_s").or(t.line_of(reader, "min_expires_s"));
    p.min_expires_s = seconds(&mut t, reader, "min_expires_s", p.min_expires_s);
    p.max_expires_s = seconds(&mut t, reader, "max_expires_s", p.max_expires_s);
    if p.max_expires_s < p.min_expires_s {
        reader.fault(
            line.unwrap_or(t.line),
            format!("max_expires_s = {} is below min_expires_s = {}", p.max_expires_s, p.min_expires_s),
            "no subscription could be accepted: raise the one or lower the other",
        );
    }
    t.done(reader);
    p
}
