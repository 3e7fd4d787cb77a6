//! The configuration of an engine and the questions that are asked of it again and again.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::keys::Keys;
use crate::io::EngineConfig;
use crate::location::canonical_aor;
use crate::msg::{Host, Uri};
use crate::routing::Stage;
use crate::state::Provision;
use crate::transaction::TimerConfig;

/// Configuration with what follows from it.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) config: EngineConfig,
    pub(crate) timers: TimerConfig,
    pub(crate) keys: Keys,
    /// Domains of the replicated state, lower case.
    provisioned: BTreeSet<String>,
    /// As of which revision.
    seen_revision: u64,
}

impl Settings {
    pub(crate) fn new(config: EngineConfig) -> Self {
        Self {
            timers: TimerConfig::from(&config),
            keys: Keys::new(config.key),
            provisioned: BTreeSet::new(),
            seen_revision: 0,
            config,
        }
    }

    /// The same engine by another configuration.
    pub(crate) fn change(&mut self, config: EngineConfig) {
        // The provisioned domains are those of the state, whatever the configuration says.
        let (provisioned, seen_revision) = (std::mem::take(&mut self.provisioned), self.seen_revision);
        *self = Self { provisioned, seen_revision, ..Self::new(config.kept_from(&self.config)) };
    }

    /// Looks at the provisioned domains, if they have changed since the last time.
    pub(crate) fn look_at(&mut self, provision: &Provision) {
        if self.seen_revision != provision.domains_revision() {
            self.seen_revision = provision.domains_revision();
            self.provisioned = provision.domains().map(|d| d.name.clone()).collect();
        }
    }

    /// Whether every domain is taken for ours: nobody has named one.
    pub(crate) fn is_any(&self) -> bool {
        self.config.any_domain && self.provisioned.is_empty()
    }

    /// Whether this address is one that the proxy answers on. `local` is where the message at hand came in, which
    /// counts, too: an operator may have given a wildcard for the addresses.
    pub(crate) fn is_own_address(&self, ip: IpAddr, port: u16, local: SocketAddr) -> bool {
        let ip = ip.to_canonical();
        let is = |a: SocketAddr| a.ip().to_canonical() == ip && a.port() == port;
        is(local) || self.config.listen.iter().any(|a| is(*a))
    }

    fn is_domain(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.config.domains.iter().any(|d| d.eq_ignore_ascii_case(name))
            || (!self.provisioned.is_empty() && self.provisioned.contains(&name.to_ascii_lowercase()))
    }

    fn is_own_port(&self, port: u16, local: SocketAddr) -> bool {
        local.port() == port || self.config.listen.iter().any(|a| a.port() == port)
    }

    /// Whether a URI names this proxy as a hop: in Route, or by a strict router in the Request-URI.
    pub(crate) fn is_own_hop(&self, uri: &Uri<'_>, local: SocketAddr) -> bool {
        if !uri.is_sip() {
            return false;
        }
        match (uri.host.ip(), uri.host) {
            (Some(ip), host) => {
                self.is_own_address(ip, uri.port_or_default(), local)
                    || (self.is_named_address(host) && self.is_own_port(uri.port_or_default(), local))
            }
            (None, Host::Name(name)) => {
                self.is_domain(name) && self.is_own_port(uri.port_or_default(), local)
            }
            _ => false,
        }
    }

    /// Whether an operator has named this address as a domain, in the configuration or by command.
    fn is_named_address(&self, host: Host<'_>) -> bool {
        self.is_domain(&host.to_string())
    }

    /// Whether a Request-URI is for somebody here: its domain is ours, and no `maddr` leads elsewhere (RFC 3261 §16.4,
    /// §16.5). Not for From and To, which go nowhere.
    pub(crate) fn is_for_us(&self, uri: &Uri<'_>, local: SocketAddr) -> bool {
        self.is_local(uri, local) && self.leads_here(uri, local)
    }

    /// Whether no `maddr` leads elsewhere.
    pub(crate) fn leads_here(&self, uri: &Uri<'_>, local: SocketAddr) -> bool {
        let maddr = uri.params.value("maddr");
        maddr.is_none_or(|maddr| self.is_any() || self.is_own_maddr(maddr, local))
    }

    fn is_own_maddr(&self, maddr: &str, local: SocketAddr) -> bool {
        match Host::parse(maddr) {
            Some(host) => match (host.ip(), host) {
                (Some(ip), _) => self.config.is_own_ip(ip, Some(local)),
                (None, Host::Name(name)) => self.is_domain(name),
                _ => false,
            },
            None => false,
        }
    }

    /// The URI without a `maddr` of ours, its port and its transport, which have done their work when the request is here
    /// (RFC 3261 §16.4). `None` if it has none.
    pub(crate) fn without_own_maddr(&self, uri: &Uri<'_>, local: SocketAddr) -> Option<String> {
        let maddr = uri.params.value("maddr").filter(|_| uri.is_sip())?;
        let port_fits = uri.port.is_none_or(|p| self.is_own_port(p, local));
        (port_fits && self.is_own_maddr(maddr, local)).then(|| uri.without_maddr())
    }

    /// Whether whoever says that he is a user of ours has to prove it.
    pub(crate) fn asks(&self) -> bool {
        self.config.auth.enabled && self.config.routing.has(Stage::Auth)
    }

    /// Whether a URI in From names a user of ours. Its port says nothing: addresses of record have none (RFC 3261 §10.3).
    pub(crate) fn is_our_user(&self, uri: &Uri<'_>, local: SocketAddr) -> bool {
        uri.is_sip() && (self.is_any() || self.is_our_host(uri.host, local))
    }

    /// Whether the proxy is responsible for the domain of a URI (RFC 3261 §16.5). A port that is given has to be one
    /// of ours; `tel` numbers are ours to look up.
    pub(crate) fn is_local(&self, uri: &Uri<'_>, local: SocketAddr) -> bool {
        if !uri.is_sip() {
            return matches!(uri.scheme, crate::msg::Scheme::Tel);
        }
        if self.is_any() {
            return true;
        }
        let port_fits = uri.port.is_none_or(|p| self.is_own_port(p, local));
        port_fits && self.is_our_host(uri.host, local)
    }

    fn is_our_host(&self, host: Host<'_>, local: SocketAddr) -> bool {
        match (host.ip(), host) {
            (Some(ip), host) => self.config.is_own_ip(ip, Some(local)) || self.is_named_address(host),
            (None, Host::Name(name)) => self.is_domain(name),
            _ => false,
        }
    }
}

impl EngineConfig {
    /// The same, but for what an engine cannot change while it runs: its place among the engines, its addresses and
    /// transports, its keys, and its media proxies are those of `old`.
    #[must_use]
    pub fn kept_from(self, old: &Self) -> Self {
        Self {
            shard: old.shard,
            shards: old.shards,
            listen: old.listen.clone(),
            key: old.key,
            transport: old.transport,
            media: old.media.clone(),
            auth: crate::auth::AuthConfig { seed: old.auth.seed, ..self.auth },
            ..self
        }
    }

    /// The key of the location service for a URI (RFC 3261 §10.3 step 5): [`canonical_aor`], except that the addresses
    /// of the proxy are other names of its first domain (without domains: of its first address), so that
    /// `bob@192.0.2.1` is who registered as `bob@example.com`. `local` is where the message at hand came in, if there
    /// is one. `None` for schemes that have no addresses of record.
    #[must_use]
    pub fn aor(&self, uri: &Uri<'_>, local: Option<SocketAddr>) -> Option<String> {
        let aor = canonical_aor(uri)?;
        if !uri.is_sip() || !uri.host.ip().is_some_and(|ip| self.is_own_ip(ip, local)) {
            return Some(aor);
        }
        match aor.rsplit_once('@') {
            Some((user, _)) => Some(format!("{user}@{}", self.home())),
            None => Some(aor),
        }
    }

    /// Host of addresses of record that name the proxy by one of its addresses.
    #[must_use]
    pub fn home(&self) -> String {
        match (self.domains.first(), self.listen.first()) {
            (Some(domain), _) => domain.to_ascii_lowercase(),
            (None, Some(SocketAddr::V6(v6))) => format!("[{}]", v6.ip()),
            (None, Some(SocketAddr::V4(v4))) => v4.ip().to_string(),
            (None, None) => String::from("localhost"),
        }
    }

    fn is_own_ip(&self, ip: IpAddr, local: Option<SocketAddr>) -> bool {
        let ip = ip.to_canonical();
        self.listen.iter().chain(&local).any(|a| a.ip().to_canonical() == ip) || self.names_address(ip)
    }

    /// Whether the configuration names this address among the domains: phones know the proxy by one that this machine does not
    /// have, such as that of a NAT in front of it.
    fn names_address(&self, ip: IpAddr) -> bool {
        let host = match ip {
            IpAddr::V4(ip) => Host::V4(ip),
            IpAddr::V6(ip) => Host::V6(ip),
        };
        let host = host.to_string();
        self.domains.iter().any(|d| d.eq_ignore_ascii_case(&host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aor(domains: &[&str], listen: &[&str], uri: &str) -> Option<String> {
        let config = EngineConfig {
            domains: domains.iter().map(|d| (*d).to_owned()).collect(),
            listen: listen.iter().map(|a| a.parse().expect("address")).collect(),
            ..EngineConfig::default()
        };
        config.aor(&Uri::parse(uri).expect("URI"), None)
    }

    #[test]
    fn the_own_addresses_are_other_names_of_the_first_domain() {
        let listen = ["10.77.0.100:5060", "[fd77::100]:5060"];
        for host in ["10.77.0.100", "10.77.0.100:5060", "[fd77::100]", "[::ffff:10.77.0.100]", "lab.test"] {
            let key = aor(&["Lab.test", "other.test"], &listen, &format!("sip:alice@{host}"));
            assert_eq!(key.as_deref(), Some("sip:alice@lab.test"), "{host}");
        }
    }

    #[test]
    fn without_domains_all_own_addresses_are_names_of_the_first() {
        let listen = ["[fd77::100]:5060", "10.77.0.100:5060"];
        assert_eq!(aor(&[], &listen, "sip:alice@10.77.0.100").as_deref(), Some("sip:alice@[fd77::100]"));
    }

    #[test]
    fn other_hosts_and_numbers_keep_their_name() {
        let listen = ["10.77.0.100:5060"];
        for same in ["sip:alice@10.77.0.9", "sip:alice@other.test", "sip:10.77.0.100", "tel:+49301234"] {
            assert_eq!(aor(&["lab.test"], &listen, same).as_deref(), Some(same));
        }
        assert_eq!(aor(&["lab.test"], &listen, "mailto:alice@10.77.0.100"), None);
    }
}
