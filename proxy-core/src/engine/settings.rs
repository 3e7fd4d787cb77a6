//! The configuration of an engine and the questions that are asked of it again and again.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::keys::Keys;
use crate::io::EngineConfig;
use crate::location::canonical_aor;
use crate::msg::{Host, Uri};
use crate::state::Provision;
use crate::transaction::TimerConfig;

/// Configuration with what follows from it.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) config: EngineConfig,
    pub(crate) timers: TimerConfig,
    pub(crate) keys: Keys,
    /// Host of addresses of record that name the proxy by one of its addresses.
    home: String,
    /// Domains of the replicated state, lower case.
    provisioned: BTreeSet<String>,
    /// As of which revision.
    seen_revision: u64,
}

impl Settings {
    pub(crate) fn new(config: EngineConfig) -> Self {
        let home = match (config.domains.first(), config.listen.first()) {
            (Some(domain), _) => domain.to_ascii_lowercase(),
            (None, Some(SocketAddr::V6(v6))) => format!("[{}]", v6.ip()),
            (None, Some(SocketAddr::V4(v4))) => v4.ip().to_string(),
            (None, None) => String::from("localhost"),
        };
        Self {
            timers: TimerConfig::from(&config),
            keys: Keys::new(config.key),
            home,
            provisioned: BTreeSet::new(),
            seen_revision: 0,
            config,
        }
    }

    /// The domain of addresses of record that name the proxy by one of its addresses.
    pub(crate) fn home(&self) -> &str {
        &self.home
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
            (Some(ip), _) => self.is_own_address(ip, uri.port_or_default(), local),
            (None, Host::Name(name)) => {
                self.is_domain(name) && self.is_own_port(uri.port_or_default(), local)
            }
            _ => false,
        }
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
        match (uri.host.ip(), uri.host) {
            (Some(ip), _) => {
                let ip = ip.to_canonical();
                let is = |a: &SocketAddr| a.ip().to_canonical() == ip;
                port_fits && (is(&local) || self.config.listen.iter().any(is))
            }
            (None, Host::Name(name)) => port_fits && self.is_domain(name),
            _ => false,
        }
    }

    /// The key of the location service for a URI of ours. The addresses of the proxy are other names of its first
    /// domain, so that `bob@192.0.2.1` is who registered as `bob@example.com`.
    pub(crate) fn aor(&self, uri: &Uri<'_>, local: SocketAddr) -> Option<String> {
        let aor = canonical_aor(uri)?;
        let Some(ip) = uri.host.ip().filter(|_| uri.is_sip()) else { return Some(aor) };
        let ip = ip.to_canonical();
        let is = |a: &SocketAddr| a.ip().to_canonical() == ip;
        if !is(&local) && !self.config.listen.iter().any(is) {
            return Some(aor);
        }
        match aor.rsplit_once('@') {
            Some((user, _)) => Some(format!("{user}@{}", self.home)),
            None => Some(aor),
        }
    }
}
