//! `[sip]`: the registrar, timers, addresses and domains.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use proxy_core::msg::Host;

use super::table::{At, Reader, Table};
use super::{MAX_ADDRESSES, MAX_DOMAINS};
use crate::net::stream::Limits;

/// Where a request is too large for UDP when nobody knows the MTU (RFC 3261 §18.1.1).
const UDP_MAX_BYTES: usize = 1300;
/// Smallest bound of that kind that means something: what fits into any datagram of IPv4 (RFC 791).
const MIN_UDP_BYTES: i64 = 576;

/// The `[sip]` part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sip {
    /// UDP and TCP port.
    pub port: u16,
    /// Addresses to answer on where there is no floating IP; empty = all of this machine.
    pub listen: Vec<IpAddr>,
    /// The line of `listen`, if it is written.
    pub(super) listen_line: Option<usize>,
    /// Local domains besides the addresses, lower case.
    pub domains: Vec<String>,
    /// Any domain is local (the embedded default, and wherever no domain is configured).
    pub any_domain: bool,
    /// Timer C (RFC 3261 §16.6), seconds.
    pub timer_c_s: u32,
    /// Smallest expiry accepted, seconds.
    pub min_expires_s: u32,
    /// Largest expiry granted, seconds.
    pub max_expires_s: u32,
    /// Contacts per AOR.
    pub max_contacts: u16,
    /// Number of engines; 0 = one per core.
    pub engines: u16,
    /// TCP is used beside UDP.
    pub tcp: bool,
    /// Bounds of connections.
    pub streams: Limits,
    /// Requests larger than this many bytes are tried by TCP before UDP; 0: never.
    pub udp_max_bytes: usize,
}

impl Default for Sip {
    fn default() -> Self {
        Self {
            port: 5060,
            listen: Vec::new(),
            listen_line: None,
            domains: Vec::new(),
            any_domain: true,
            timer_c_s: 180,
            min_expires_s: 60,
            max_expires_s: 3600,
            max_contacts: 10,
            engines: 0,
            tcp: true,
            streams: Limits::default(),
            udp_max_bytes: UDP_MAX_BYTES,
        }
    }
}

/// Reads and checks the section.
pub(super) fn read(root: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> Sip {
    let mut s = Sip::default();
    let Some(mut t) = root.table(reader, "sip") else { return s };
    s.port = small(t.number(reader, "port", (1, 65535), i64::from(s.port)));
    let listen = t.strings(reader, "listen");
    let domains = t.strings(reader, "domains");
    s.timer_c_s = wide(t.number(reader, "timer_c_s", (1, 86_400), i64::from(s.timer_c_s)));
    let min = t.line_of(reader, "min_expires_s");
    let max = t.line_of(reader, "max_expires_s");
    s.min_expires_s = wide(t.number(reader, "min_expires_s", (1, 86_400), i64::from(s.min_expires_s)));
    s.max_expires_s = wide(t.number(reader, "max_expires_s", (1, 2_592_000), i64::from(s.max_expires_s)));
    s.max_contacts = small(t.number(reader, "max_contacts", (1, 100), i64::from(s.max_contacts)));
    s.engines = small(t.number(reader, "engines", (0, 256), 0));
    streams(&mut s, &mut t, reader);
    if s.max_expires_s < s.min_expires_s {
        reader.fault(
            max.or(min).unwrap_or(t.line),
            format!("max_expires_s = {} is below min_expires_s = {}", s.max_expires_s, s.min_expires_s),
            "no registration could be accepted: raise the one or lower the other",
        );
    }
    if let Some(list) = domains {
        if list.value.len() > MAX_DOMAINS {
            reader.fault(list.line, "too many domains", format!("at most {MAX_DOMAINS}"));
        }
        for at in list.value.iter().take(MAX_DOMAINS) {
            s.domains.extend(domain(reader, at));
        }
    }
    s.any_domain = s.domains.is_empty();
    if let Some(list) = listen {
        s.listen_line = Some(list.line);
        for at in list.value.iter().take(MAX_ADDRESSES) {
            match at.value.parse::<IpAddr>() {
                Ok(ip) if !ip.is_unspecified() => s.listen.push(ip),
                Ok(_) => reader.fault(
                    at.line,
                    "listen needs addresses, not 0.0.0.0 or ::",
                    "leave listen out to mean all",
                ),
                Err(_) => {
                    reader.fault(
                        at.line,
                        format!("{:?} is no address", at.value),
                        "write it as \"192.0.2.1\"",
                    );
                }
            }
        }
    }
    t.done(reader);
    s
}

fn streams(s: &mut Sip, t: &mut Table<'_, '_>, reader: &mut Reader<'_>) {
    if let Some(at) = t.boolean(reader, "tcp") {
        s.tcp = at.value;
    }
    let of = |v: usize| i64::try_from(v).unwrap_or(i64::MAX);
    let count = |v: i64| usize::try_from(v).unwrap_or(usize::MAX);
    let l = &mut s.streams;
    let line = t.line_of(reader, "tcp_connections_per_source");
    l.connections = count(t.number(reader, "tcp_connections", (1, 1_000_000), of(l.connections)));
    let most = of(l.connections.min(l.per_source));
    l.per_source = count(t.number(reader, "tcp_connections_per_source", (1, 1_000_000), most));
    if l.per_source > l.connections {
        reader.fault(
            line.unwrap_or(t.line),
            format!(
                "tcp_connections_per_source = {} is above tcp_connections = {}",
                l.per_source, l.connections
            ),
            "one source may not have more than all: lower the one or raise the other",
        );
    }
    let idle = t.number(reader, "tcp_idle_s", (10, 86_400), 3605);
    l.idle = Duration::from_secs(idle.unsigned_abs());
    let connect = t.number(reader, "tcp_connect_ms", (100, 30_000), 4000);
    l.connect = Duration::from_millis(connect.unsigned_abs());
    let line = t.line_of(reader, "udp_max_bytes");
    let most = t.number(reader, "udp_max_bytes", (0, 65_535), of(s.udp_max_bytes));
    if (1..MIN_UDP_BYTES).contains(&most) {
        reader.fault(
            line.unwrap_or(t.line),
            format!("udp_max_bytes = {most} would send nearly every request by TCP"),
            format!("write 0 for never, or at least {MIN_UDP_BYTES}"),
        );
    }
    s.udp_max_bytes = count(most);
}

/// A domain the way hosts of URIs are compared with it: lower case, IPv6 in brackets. With a scheme or a port, as in
/// Kamailio's `alias`, it would be equal to none.
pub(super) fn domain(reader: &mut Reader<'_>, at: &At<String>) -> Option<String> {
    let name = at.value.strip_suffix('.').unwrap_or(&at.value).to_ascii_lowercase();
    let name = if name.parse::<Ipv6Addr>().is_ok() { format!("[{name}]") } else { name };
    let host = Host::parse(&name).map(|host| host.to_string());
    if host.is_none() {
        let cure = "write it as \"example.org\", without sip: and without a port";
        reader.fault(at.line, format!("{:?} is no domain", at.value), cure);
    }
    host
}

fn small(v: i64) -> u16 {
    u16::try_from(v).unwrap_or(u16::MAX)
}

fn wide(v: i64) -> u32 {
    u32::try_from(v).unwrap_or(u32::MAX)
}
