//! `relevo route explain`: a request goes through an engine of its own against the replicated state, and nothing of it
//! leaves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proxy_core::engine::Engine;
use proxy_core::io::EngineConfig;
use proxy_core::msg::{Message, Uri};
use proxy_core::state::{Flow, Transport};

use crate::admin::Reply;
use crate::admin::route::{Ask, explained};
use crate::bridge::Cluster;
use crate::run::backend::Desk;
use crate::run::setup;

/// Most header lines of a request to explain.
const MAX_HEADERS: usize = 50;
/// Where a request comes from if nobody says (RFC 5737, RFC 3849): an address that is nobody's.
const SOMEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5060);
const SOMEWHERE6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 5060);

impl<C: Cluster> Desk<C> {
    pub(in crate::run) fn route_explain(&self, ask: &Ask) -> Reply {
        match self.explain(ask) {
            Ok(reply) | Err(reply) => reply,
        }
    }

    fn explain(&self, ask: &Ask) -> Result<Reply, Reply> {
        let listen = setup::listen_addresses(&self.config)
            .map_err(|why| Reply::error(why.to_string(), "give this machine an address"))?;
        let source = source(ask, &listen)?;
        let Some(local) = listen.iter().find(|l| l.is_ipv4() == source.is_ipv4()).copied() else {
            return Err(Reply::error(
                format!("no SIP address of this node has the family of {source}"),
                "ask a node that answers SIP, or give a --source of the other family",
            ));
        };
        let text = message(ask, source)?;
        // The key only decides how branches and tags look.
        let config = EngineConfig {
            shards: 1,
            listen,
            ..setup::engine_config(&self.config, &self.config.key.unwrap_or_default())
        };
        let flow = Flow { transport: Transport::Udp, local, remote: source };
        let now = (self.clock)();
        let user = ask.user.clone();
        let lines =
            self.cluster.read(|state| Engine::explained(config, now, flow, user, text.as_bytes(), state));
        Ok(Reply::Ok { ok: explained(text.lines().next().unwrap_or_default(), &source.to_string(), &lines) })
    }
}

fn source(ask: &Ask, listen: &[SocketAddr]) -> Result<SocketAddr, Reply> {
    let Some(text) = &ask.source else {
        let has_v4 = listen.is_empty() || listen.iter().any(SocketAddr::is_ipv4);
        return Ok(if has_v4 { SOMEWHERE } else { SOMEWHERE6 });
    };
    let with_port = text.parse::<SocketAddr>().ok();
    with_port.or_else(|| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 5060))).ok_or_else(|| {
        Reply::error(format!("{text:?} is no source"), "write it as 192.0.2.7 or 192.0.2.7:5062")
    })
}

/// The request as it would come in.
fn message(ask: &Ask, source: SocketAddr) -> Result<String, Reply> {
    let mut words = ask.request.split_whitespace();
    let (method, uri) = match (words.next(), words.next()) {
        (Some(method), Some(uri)) => (method.to_ascii_uppercase(), uri),
        (Some(uri), None) => (String::from("INVITE"), uri),
        _ => ("".into(), ""),
    };
    let what = |text: &str| format!("{text:?} is no request");
    let cure = "write it as 'INVITE sip:bob@example.org'";
    let parsed = Uri::parse(uri).map_err(|_| Reply::error(what(&ask.request), cure))?;
    if !matches!(words.next(), None | Some("SIP/2.0")) || !method.bytes().all(|b| b.is_ascii_alphabetic()) {
        return Err(Reply::error(what(&ask.request), cure));
    }
    let from = ask.from.clone().unwrap_or_else(|| match &ask.user {
        Some(user) => format!("sip:{user}"),
        None => format!("sip:somebody@{}", parsed.host),
    });
    let from = if from.contains(':') { from } else { format!("sip:{from}") };
    let from_user = Uri::parse(&from)
        .map_err(|_| Reply::error(format!("{from:?} is no URI"), "write --from sip:alice@example.org"))?
        .user
        .unwrap_or("somebody");
    let mut text = format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {source};branch=z9hG4bKexplain;rport\r\nMax-Forwards: 70\r\n\
         From: <{from}>;tag=explain\r\nTo: <{to}>\r\nCall-ID: explain@{ip}\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:{from_user}@{source}>\r\n",
        to = if method == "REGISTER" { from.as_str() } else { uri },
        ip = source.ip(),
    );
    if ask.headers.len() > MAX_HEADERS {
        return Err(Reply::error("too many headers", format!("give at most {MAX_HEADERS}")));
    }
    for header in &ask.headers {
        if header.contains(['\r', '\n']) || !header.contains(':') {
            return Err(Reply::error(
                format!("{header:?} is no header"),
                "write it as --header 'X-Name: value'",
            ));
        }
        text += &format!("{}\r\n", header.trim());
    }
    text += "Content-Length: 0\r\n\r\n";
    if Message::parse(text.as_bytes()).is_err() {
        return Err(Reply::error(what(&ask.request), cure));
    }
    Ok(text)
}
