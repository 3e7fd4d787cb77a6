//! `relevo route explain`: a request goes through an engine of its own against the replicated state, and nothing of it
//! leaves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proxy_core::engine::Engine;
use proxy_core::io::EngineConfig;
use proxy_core::msg::{HeaderName, Message, Uri};
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
        let home = self.running().config.sip.domains.first().cloned().unwrap_or_else(|| match local.ip() {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        });
        let text = message(ask, source, &home)?;
        // The key only decides how branches and tags look.
        let config = EngineConfig { shards: 1, listen, ..self.running().engine.clone() };
        let flow = Flow { transport: Transport::Udp, local, remote: source };
        let now = self.now();
        let user = ask.user.as_deref().map(|user| self.subscriber_named(user)).transpose()?;
        let bans = self.sip.as_ref().map(|sip| sip.bans().clone()).unwrap_or_default();
        let lines = self
            .cluster
            .read(|state| Engine::explained_among(config, bans, now, flow, user, text.as_bytes(), state));
        Ok(Reply::Ok { ok: explained(text.lines().next().unwrap_or_default(), &source.to_string(), &lines) })
    }
}

impl<C: Cluster> Desk<C> {
    /// The subscriber that `--as` names, as `name@domain`.
    fn subscriber_named(&self, user: &str) -> Result<String, Reply> {
        let aor = self.canonical(user)?;
        if self.cluster.read(|state| state.provision().subscriber(&aor).is_none()) {
            return Err(Reply::error(
                format!("there is no subscriber {user:?}: nobody can prove to be him"),
                "relevo subscriber list names all; leave --as out to ask as a stranger",
            ));
        }
        Ok(aor.strip_prefix("sip:").unwrap_or(&aor).to_owned())
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

/// Methods that are known here (RFC 3261, 3262, 3311, 3428, 3515, 3903, 6086, 6665); any other token is one, too.
const METHODS: [&str; 14] = [
    "INVITE",
    "ACK",
    "CANCEL",
    "BYE",
    "OPTIONS",
    "REGISTER",
    "UPDATE",
    "INFO",
    "MESSAGE",
    "NOTIFY",
    "SUBSCRIBE",
    "REFER",
    "PRACK",
    "PUBLISH",
];

/// The method as it was written: methods are case sensitive (RFC 3261 §7.1), so `invite` is another one, which nobody
/// means.
fn method(word: &str) -> Result<&str, Reply> {
    match METHODS.iter().find(|known| known.eq_ignore_ascii_case(word) && **known != word) {
        None => Ok(word),
        Some(known) => Err(Reply::error(
            format!("{word:?} is no method that anybody knows: methods are case sensitive (RFC 3261 §7.1)"),
            format!("write {known}"),
        )),
    }
}

/// The request as it would come in. `home` is the domain of a sender that nobody names, where the Request-URI has none.
fn message(ask: &Ask, source: SocketAddr, home: &str) -> Result<String, Reply> {
    let mut words = ask.request.split_whitespace();
    let (method, uri) = match (words.next(), words.next()) {
        (Some(word), Some(uri)) => (method(word)?, uri),
        (Some(uri), None) => ("INVITE", uri),
        _ => ("", ""),
    };
    let what = |text: &str| format!("{text:?} is no request");
    let cure = "write it as 'INVITE sip:bob@example.org'";
    let parsed = Uri::parse(uri).map_err(|_| Reply::error(what(&ask.request), cure))?;
    if !matches!(words.next(), None | Some("SIP/2.0")) {
        return Err(Reply::error(what(&ask.request), cure));
    }
    let from = ask.from.clone().unwrap_or_else(|| match &ask.user {
        Some(user) => format!("sip:{user}"),
        // A tel: URI has no domain.
        None if parsed.is_sip() => format!("sip:somebody@{}", parsed.host),
        None => format!("sip:somebody@{home}"),
    });
    let from = if from.contains(':') { from } else { format!("sip:{from}") };
    let from_user = Uri::parse(&from)
        .map_err(|_| Reply::error(format!("{from:?} is no URI"), "write --from sip:alice@example.org"))?
        .user
        .unwrap_or("somebody");
    let to = if method == "REGISTER" { from.as_str() } else { uri };
    let usual = [
        ("Via", format!("SIP/2.0/UDP {source};branch=z9hG4bKexplain;rport")),
        ("Max-Forwards", String::from("70")),
        ("From", format!("<{from}>;tag=explain")),
        ("To", format!("<{to}>")),
        ("Call-ID", format!("explain@{}", source.ip())),
        ("CSeq", format!("1 {method}")),
        ("Contact", format!("<sip:{from_user}@{source}>")),
        ("Content-Length", String::from("0")),
    ];
    if ask.headers.len() > MAX_HEADERS {
        return Err(Reply::error("too many headers", format!("give at most {MAX_HEADERS}")));
    }
    let mut given: Vec<(&str, &str)> = Vec::new();
    for header in &ask.headers {
        let parts = header.split_once(':').map(|(name, value)| (name.trim(), value.trim()));
        match parts.filter(|(name, _)| !name.is_empty() && !header.contains(['\r', '\n'])) {
            Some(parts) => given.push(parts),
            None => {
                let cure = "write it as --header 'X-Name: value'";
                return Err(Reply::error(format!("{header:?} is no header"), cure));
            }
        }
    }
    // What is given takes the place of the usual one; by its compact name, too.
    let is_given = |name: &str| {
        let known = HeaderName::from_bytes(name.as_bytes());
        given.iter().any(|(other, _)| HeaderName::from_bytes(other.as_bytes()) == known)
    };
    let kept = usual.iter().filter(|(name, _)| !is_given(name)).map(|(name, value)| (*name, value.as_str()));
    let lines: String =
        kept.chain(given.iter().copied()).map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let text = format!("{method} {uri} SIP/2.0\r\n{lines}\r\n");
    if Message::parse(text.as_bytes()).is_err() {
        return Err(Reply::error(what(&ask.request), cure));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(request: &str, headers: &[&str]) -> Result<String, String> {
        let headers = headers.iter().map(|h| (*h).to_owned()).collect();
        let ask = Ask { request: request.into(), headers, ..Ask::default() };
        message(&ask, SOMEWHERE, "lab.test").map_err(|reply| format!("{reply:?}"))
    }

    fn count(text: &str, start: &str) -> usize {
        text.lines().filter(|l| l.starts_with(start)).count()
    }

    #[test]
    fn a_header_that_is_given_takes_the_place_of_the_usual_one_also_by_its_compact_name() {
        let given = ["Max-Forwards: 0", "t: <sip:bob@lab.test>;tag=x", "X-Y: 1", "X-Y: 2", "l: 0"];
        let text = made("BYE sip:bob@lab.test", &given).expect("a request");
        assert_eq!((count(&text, "Max-Forwards: "), count(&text, "Max-Forwards: 0")), (1, 1), "{text}");
        assert_eq!((count(&text, "To:"), count(&text, "t: <sip:bob@lab.test>;tag=x")), (0, 1), "{text}");
        assert_eq!((count(&text, "Content-Length"), count(&text, "X-Y")), (0, 2), "{text}");
        let message = Message::parse(text.as_bytes()).expect("it can be read");
        assert!(message.check_request().is_ok(), "{text}");
        assert!(made("sip:bob@lab.test", &["nonsense"]).expect_err("no header").contains("is no header"));
    }

    #[test]
    fn a_method_is_taken_as_it_is_written_rfc3261_7_1() {
        assert!(made("sip:bob@lab.test", &[]).is_ok_and(|t| t.starts_with("INVITE sip:bob@lab.test ")));
        let said = made("invite sip:bob@lab.test", &[]).expect_err("another method");
        assert!(said.contains("case sensitive") && said.contains("write INVITE"), "{said}");
        let own = made("X-my.Method sip:bob@lab.test", &[]).expect("an extension");
        assert!(own.starts_with("X-my.Method sip") && own.contains("CSeq: 1 X-my.Method\r\n"), "{own}");
    }

    #[test]
    fn a_number_without_a_domain_is_asked_for_by_somebody_of_ours_rfc3966() {
        let text = made("INVITE tel:+4930123456", &[]).expect("a request");
        assert!(text.contains("From: <sip:somebody@lab.test>;tag=explain\r\n"), "{text}");
        assert!(text.contains("To: <tel:+4930123456>\r\n"), "{text}");
    }
}
