//! Via, RFC 3261 §20.42.

use crate::msg::scan::{is_lws, is_token, trim_str};
use crate::msg::{Fault, HeaderName, Host, Params};
use std::net::{IpAddr, SocketAddr};

/// Transport of a Via.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the variants are the transport names themselves")]
pub enum Transport<'a> {
    Udp,
    Tcp,
    Tls,
    Sctp,
    Ws,
    Wss,
    /// Any other token: allowed in all Vias but ours.
    Other(&'a str),
}

impl<'a> Transport<'a> {
    /// Reads a transport name (case-insensitive).
    pub fn from_token(name: &'a str) -> Self {
        let known = [
            ("UDP", Self::Udp),
            ("TCP", Self::Tcp),
            ("TLS", Self::Tls),
            ("SCTP", Self::Sctp),
            ("WS", Self::Ws),
            ("WSS", Self::Wss),
        ];
        known.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or(Self::Other(name), |(_, t)| t)
    }
}

/// One Via value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via<'a> {
    /// The whole value as it came.
    pub raw: &'a [u8],
    /// Protocol version, `2.0` in all that this proxy may answer.
    pub version: &'a str,
    /// Transport.
    pub transport: Transport<'a>,
    /// Host of sent-by.
    pub host: Host<'a>,
    /// Port of sent-by, if it is given.
    pub port: Option<u16>,
    /// Host and port as they came.
    pub sent_by: &'a str,
    /// Parameters.
    pub params: Params<'a>,
}

impl<'a> Via<'a> {
    /// Reads one value.
    ///
    /// # Errors
    /// [`Fault::Bad`] Via. Parameters are read past, not judged (see [`Params::is_well_formed`]), and any version is
    /// taken, so that a request of another version can be answered with 505.
    pub fn parse(value: &'a [u8]) -> Result<Self, Fault> {
        Self::read(value).ok_or(Fault::Bad(HeaderName::Via))
    }

    fn read(value: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let (protocol, rest) = text.split_once('/')?;
        let (version, rest) = rest.split_once('/')?;
        let version = trim_str(version);
        if !trim_str(protocol).eq_ignore_ascii_case("SIP") || !is_token(version.as_bytes()) {
            return None;
        }
        let rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let space = rest.bytes().position(is_lws)?;
        let (transport, rest) = (rest.get(..space)?, rest.get(space..)?);
        if !is_token(transport.as_bytes()) {
            return None;
        }
        let params_at = rest.find(';').unwrap_or(rest.len());
        let sent_by = trim_str(rest.get(..params_at)?);
        let (host, port) = Host::with_port(sent_by)?;
        Some(Self {
            raw: value,
            version,
            transport: Transport::from_token(transport),
            host,
            port,
            sent_by,
            params: Params::new(rest.get(params_at..)?),
        })
    }

    /// Port of sent-by, or the default of the transport (§18.1.1).
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(match self.transport {
            Transport::Tls => 5061,
            Transport::Ws => 80,
            Transport::Wss => 443,
            _ => 5060,
        })
    }

    /// Where a response with this Via on top goes over UDP: to maddr if there is one, else to `received` and `rport`, else
    /// to sent-by (§18.2.2, RFC 3581 §4). `None` when that takes a name to be resolved.
    pub fn response_target(&self) -> Option<SocketAddr> {
        if let Some(maddr) = self.params.value("maddr") {
            return Some(SocketAddr::new(Host::parse(maddr)?.ip()?, self.port_or_default()));
        }
        let ip = self.received().or_else(|| self.host.ip())?;
        // `rport` says where the request came from, so it counts with `received` only.
        let rport = self.rport().flatten().filter(|_| self.received().is_some());
        Some(SocketAddr::new(ip, rport.unwrap_or_else(|| self.port_or_default())))
    }

    /// The branch.
    pub fn branch(&self) -> Option<&'a str> {
        self.params.value("branch").filter(|b| !b.is_empty())
    }

    /// The branch if it begins with the magic cookie and is more than that (§8.1.1.7; a bare cookie, RFC 4475
    /// §3.2.1, identifies nothing).
    pub fn rfc3261_branch(&self) -> Option<&'a str> {
        self.branch().filter(|b| {
            b.len() > 7 && b.get(..7).is_some_and(|cookie| cookie.eq_ignore_ascii_case("z9hG4bK"))
        })
    }

    /// The `received` address; brackets around an IPv6 address are taken (RFC 5118 §4.5).
    pub fn received(&self) -> Option<IpAddr> {
        let text = self.params.value("received")?;
        text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text).parse().ok()
    }

    /// `rport` (RFC 3581): `None` without it, `Some(None)` for the request's empty one, `Some(Some(port))` once
    /// filled in.
    pub fn rport(&self) -> Option<Option<u16>> {
        let param = self.params.get("rport")?;
        Some(param.value.and_then(|v| v.parse().ok()))
    }
}
