//! `[nat]`: clients behind a NAT.

use std::time::Duration;

use proxy_core::nat::{NatConfig, Ping};

use super::table::{Reader, Table};

/// Reads and checks the section.
pub(super) fn read(root: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> NatConfig {
    let mut nat = NatConfig::default();
    let Some(mut t) = root.table(reader, "nat") else { return nat };
    if let Some(at) = t.boolean(reader, "alias") {
        nat.alias = at.value;
    }
    let pings = [("off", Ping::Off), ("crlf", Ping::Crlf), ("options", Ping::Options)];
    if let Some(ping) = t.word(reader, "ping", &pings) {
        nat.ping = ping;
    }
    let interval = t.number(reader, "ping_interval_s", (5, 3600), 30);
    nat.ping_interval = Duration::from_secs(interval.unsigned_abs());
    if let Some(at) = t.boolean(reader, "ping_all") {
        nat.ping_all = at.value;
    }
    t.done(reader);
    nat
}
