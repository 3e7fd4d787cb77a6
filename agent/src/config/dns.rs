//! `[dns]`: who is asked for names.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proxy_core::dns::DnsConfig;

use super::table::{Reader, Table};

/// Most servers.
const MAX_SERVERS: usize = 8;
/// Port of the DNS.
const PORT: u16 = 53;

/// The `[dns]` part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// What the engines need of it.
    pub config: DnsConfig,
    /// Servers; empty: those of /etc/resolv.conf.
    pub servers: Vec<SocketAddr>,
}

/// Reads and checks the section.
pub(super) fn read(root: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> Dns {
    let mut dns = Dns::default();
    let Some(mut t) = root.table(reader, "dns") else { return dns };
    let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
    let config = &mut dns.config;
    if let Some(at) = t.boolean(reader, "enabled") {
        config.enabled = at.value;
    }
    if let Some(at) = t.boolean(reader, "naptr") {
        config.naptr = at.value;
    }
    let patience = t.number(reader, "patience_ms", (100, 30_000), 4000);
    config.patience = Duration::from_millis(patience.unsigned_abs());
    let max = t.number(reader, "max_ttl_s", (1, 604_800), seconds(config.max_ttl));
    config.max_ttl = Duration::from_secs(max.unsigned_abs());
    let negative = t.number(reader, "max_negative_ttl_s", (1, 86_400), seconds(config.max_negative_ttl));
    config.max_negative_ttl = Duration::from_secs(negative.unsigned_abs());
    if let Some(list) = t.strings(reader, "servers") {
        if list.value.len() > MAX_SERVERS {
            reader.fault(list.line, "too many DNS servers", format!("at most {MAX_SERVERS}"));
        }
        for at in list.value.iter().take(MAX_SERVERS) {
            match server(&at.value) {
                Some(addr) => dns.servers.push(addr),
                None => reader.fault(
                    at.line,
                    format!("{:?} is no DNS server", at.value),
                    "write its address, as \"192.0.2.53\", or with a port \"192.0.2.53:5353\"",
                ),
            }
        }
    }
    t.done(reader);
    dns
}

fn server(text: &str) -> Option<SocketAddr> {
    let addr = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT))).ok()?;
    (addr.port() != 0 && !addr.ip().is_unspecified()).then_some(addr)
}
