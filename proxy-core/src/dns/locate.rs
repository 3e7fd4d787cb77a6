//! RFC 3263 §4: from host, port and transport to the addresses that are tried in order.
//!
//! | transport given | port given | host is | then |
//! |---|---|---|---|
//! | yes or no | yes or no | an address | that address, UDP unless another is given (§4.1, §4.2) |
//! | yes or no | yes | a name | A and AAAA, UDP unless another is given |
//! | yes | no | a name | SRV of that transport; without one A and AAAA, default port |
//! | no | no | a name | NAPTR; without one SRV of UDP, then of TCP; without any A and AAAA, UDP |
//!
//! Of the NAPTR records those count whose service is one of ours, in their order; the first that leads to SRV records
//! is taken. A question that fails counts as one without an answer, as a server that knows no NAPTR must not make a
//! domain unreachable; only if no address is found in the end, there is none.

use std::net::SocketAddr;

use super::{Answer, Cache, DnsConfig, Kind, MAX_DESTINATIONS, Question, Record, canonical_name, ordered};
use crate::state::Transport;
use crate::time::MonoTime;

/// Port of SIP over UDP and TCP.
const SIP_PORT: u16 = 5060;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// A name; addresses need no resolution.
    pub host: &'a str,
    /// The port, if the URI has one.
    pub port: Option<u16>,
    /// The transport, if the URI has one.
    pub transport: Option<Transport>,
}

/// What can be reached from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// There is an IPv4 listener.
    pub ipv4: bool,
    /// There is an IPv6 listener.
    pub ipv6: bool,
    /// TCP is used.
    pub tcp: bool,
}

/// Where a request may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// By which transport.
    pub transport: Transport,
    /// To which address.
    pub address: SocketAddr,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// Try these in order.
    Found(Vec<Destination>),
    /// These questions have to be answered first.
    Ask(Vec<Question>),
    /// There is no such server.
    Nowhere,
}

/// Finds the servers of a name with what is in the cache. `seed` decides the order among equals.
#[must_use]
pub fn locate(
    cache: &Cache,
    now: MonoTime,
    config: &DnsConfig,
    wanted: Wanted<'_>,
    reach: Reach,
    seed: u64,
) -> Located {
    let Some(host) = canonical_name(wanted.host).filter(|_| config.enabled) else { return Located::Nowhere };
    let mut walk = Walk { cache, now, reach, seed, open: Vec::new() };
    let found = match (wanted.transport, wanted.port) {
        (Some(Transport::Tcp), _) if !reach.tcp => Some(Vec::new()),
        (transport, Some(port)) => walk.addresses(&host, port, transport.unwrap_or(Transport::Udp)),
        (Some(transport), None) => walk.service(&host, transport),
        (None, None) => walk.domain(&host, config.naptr),
    };
    match found {
        Some(mut list) if walk.open.is_empty() => {
            let mut seen = Vec::with_capacity(list.len());
            list.retain(|d| {
                !seen.contains(d) && {
                    seen.push(*d);
                    true
                }
            });
            list.truncate(MAX_DESTINATIONS);
            if list.is_empty() { Located::Nowhere } else { Located::Found(list) }
        }
        _ if walk.open.is_empty() => Located::Nowhere,
        _ => Located::Ask(walk.open),
    }
}

struct Walk<'c> {
    cache: &'c Cache,
    now: MonoTime,
    reach: Reach,
    seed: u64,
    /// Questions without an answer so far.
    open: Vec<Question>,
}

impl Walk<'_> {
    /// The records of a question; none if they are not known yet, which is noted.
    fn records(&mut self, kind: Kind, name: &str) -> Option<Vec<Record>> {
        let question = Question { kind, name: name.to_owned() };
        match self.cache.get(self.now, &question) {
            Some(Answer::Records { records, .. }) => Some(records.clone()),
            Some(Answer::Absent { .. } | Answer::Failed) => Some(Vec::new()),
            None => {
                if !self.open.contains(&question) {
                    self.open.push(question);
                }
                None
            }
        }
    }

    /// No port, no transport.
    fn domain(&mut self, host: &str, naptr: bool) -> Option<Vec<Destination>> {
        let rules = if naptr { self.rules(host)? } else { Vec::new() };
        for (transport, name) in rules {
            let found = self.by_srv(&name, transport)?;
            if !found.is_empty() {
                return Some(found);
            }
        }
        // Both questions leave at once; the answer of UDP counts first.
        let udp = self.by_srv(&service_name(Transport::Udp, host), Transport::Udp);
        let tcp = match self.reach.tcp {
            true => self.by_srv(&service_name(Transport::Tcp, host), Transport::Tcp),
            false => Some(Vec::new()),
        };
        let mut found = udp?;
        found.extend(tcp?);
        if found.is_empty() { self.addresses(host, SIP_PORT, Transport::Udp) } else { Some(found) }
    }

    /// A transport, no port.
    fn service(&mut self, host: &str, transport: Transport) -> Option<Vec<Destination>> {
        let name = service_name(transport, host);
        let found = self.by_srv(&name, transport)?;
        if !found.is_empty() || self.is_refused(&name) {
            return Some(found);
        }
        self.addresses(host, SIP_PORT, transport)
    }

    /// The usable NAPTR records: transport and SRV name, in order.
    fn rules(&mut self, host: &str) -> Option<Vec<(Transport, String)>> {
        let mut rules: Vec<_> = self
            .records(Kind::Naptr, host)?
            .into_iter()
            .filter_map(|record| match record {
                Record::Naptr(rule) if rule.flags.eq_ignore_ascii_case("s") => Some(rule),
                _ => None,
            })
            .collect();
        rules.sort();
        Some(
            rules
                .into_iter()
                .filter_map(|rule| {
                    let transport = match rule.service.to_ascii_uppercase().as_str() {
                        "SIP+D2U" => Transport::Udp,
                        "SIP+D2T" if self.reach.tcp => Transport::Tcp,
                        _ => return None,
                    };
                    Some((transport, canonical_name(&rule.replacement)?))
                })
                .collect(),
        )
    }

    /// Whether the only SRV record says that there is decidedly no such service (RFC 2782, target ".").
    fn is_refused(&mut self, name: &str) -> bool {
        let records = self.records(Kind::Srv, name).unwrap_or_default();
        matches!(records.as_slice(), [Record::Srv(srv)] if srv.target.is_empty())
    }

    /// The addresses behind an SRV name, in the order to be tried.
    fn by_srv(&mut self, name: &str, transport: Transport) -> Option<Vec<Destination>> {
        let records = self.records(Kind::Srv, name)?;
        let records = records.into_iter().filter_map(|record| match record {
            Record::Srv(srv) if srv.port != 0 => Some(srv),
            _ => None,
        });
        let mut found = Some(Vec::new());
        for srv in ordered(records.collect(), self.seed).into_iter().take(MAX_DESTINATIONS) {
            let Some(target) = canonical_name(&srv.target) else { continue };
            // All of them are asked for at once, so that one round answers them all.
            let addresses = self.addresses(&target, srv.port, transport);
            found = match (found, addresses) {
                (Some(mut list), Some(more)) => {
                    list.extend(more);
                    Some(list)
                }
                _ => None,
            };
        }
        found
    }

    /// The addresses of a host, IPv4 first as with Kamailio.
    fn addresses(&mut self, host: &str, port: u16, transport: Transport) -> Option<Vec<Destination>> {
        let v4 = if self.reach.ipv4 { self.records(Kind::A, host) } else { Some(Vec::new()) };
        let v6 = if self.reach.ipv6 { self.records(Kind::Aaaa, host) } else { Some(Vec::new()) };
        let (v4, v6) = (v4?, v6?);
        let mut list = Vec::with_capacity(v4.len() + v6.len());
        for (records, is_ipv4) in [(v4, true), (v6, false)] {
            let mut ips: Vec<_> = records
                .into_iter()
                .filter_map(|record| match record {
                    Record::Address(ip) if ip.is_ipv4() == is_ipv4 && !ip.is_unspecified() => Some(ip),
                    _ => None,
                })
                .collect();
            ips.sort_unstable();
            ips.dedup();
            if let Some(turn) = usize::try_from(self.seed).unwrap_or(0).checked_rem(ips.len()) {
                ips.rotate_left(turn);
            }
            list.extend(
                ips.into_iter().map(|ip| Destination { transport, address: SocketAddr::new(ip, port) }),
            );
        }
        Some(list)
    }
}

fn service_name(transport: Transport, host: &str) -> String {
    format!("_sip._{}.{host}", transport.uri_name())
}
