//! The `alias` parameter of a Contact: `;alias=198.51.100.7~31000~1`, the address, port and transport from which its
//! client really comes, in Kamailio's form. Whoever calls the contact sends it back in the Request-URI; the proxy goes
//! there and takes the parameter away again, so that the phone sees the contact it wrote.

use std::net::{IpAddr, SocketAddr};

use crate::msg::{Forward, HeaderName, Message, Params, Uri};
use crate::state::{Flow, Transport};

/// Name of the parameter.
const NAME: &str = "alias";

/// Where the alias among the parameters of a URI leads.
pub(crate) fn place(params: &Params<'_>) -> Option<(SocketAddr, Transport)> {
    let mut parts = params.value(NAME)?.split('~');
    let (ip, port, transport) = (parts.next()?, parts.next()?, parts.next()?);
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    let ip: IpAddr = ip.parse().ok()?;
    let port: u16 = port.parse().ok().filter(|p| *p > 0)?;
    let transport = match transport {
        "1" => Transport::Udp,
        "2" => Transport::Tcp,
        _ => return None,
    };
    parts.next().is_none().then_some((SocketAddr::new(ip, port), transport))
}

/// The URI without its alias; `None` if it has none that leads anywhere.
pub(crate) fn removed(uri: &Uri<'_>) -> Option<String> {
    place(&uri.params)?;
    let value = uri.params.value(NAME)?;
    // The user part may hold the same letters; parameters come behind it.
    let behind = uri.raw.rfind('@').map_or(0, |at| at + 1);
    let (front, rest) = uri.raw.split_at_checked(behind)?;
    let lower = rest.to_ascii_lowercase();
    let text = format!(";{NAME}={}", value.to_ascii_lowercase());
    let at = lower.find(&text)?;
    Some(format!("{front}{}{}", rest.get(..at)?, rest.get(at + text.len()..)?))
}

/// The message with an alias for `flow` in its Contact; `None` where there is no single Contact, or one with an alias
/// of somebody before us.
pub(crate) fn added(message: &Message<'_>, flow: Flow) -> Option<Vec<u8>> {
    let mut contacts = message.contacts();
    let contact = contacts.next()?.ok()?;
    if contacts.next().is_some() || Uri::parse(contact.uri).ok()?.params.has(NAME) {
        return None;
    }
    let value = std::str::from_utf8(message.header(HeaderName::Contact)?).ok()?;
    let transport = match flow.transport {
        Transport::Udp => 1,
        Transport::Tcp => 2,
    };
    let remote = flow.remote;
    let ip = match remote.ip().to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let with = with_param(contact.uri, &format!(";{NAME}={ip}~{}~{transport}", remote.port()))?;
    let bracketed = format!("<{}>", contact.uri);
    let value = match value.rfind(&bracketed) {
        Some(at) => {
            format!("{}<{with}>{}", value.get(..at)?, value.get(at + bracketed.len()..)?)
        }
        // Without brackets the parameters behind it are the header's (RFC 3261 §20), so that it needs some now.
        None => value.replacen(contact.uri, &format!("<{with}>"), 1),
    };
    let mut out = Vec::with_capacity(message.raw().len() + 48);
    Forward::new(message).set_header("Contact", &value).write(&mut out);
    Some(out)
}

/// The URI with one more parameter, before its headers.
fn with_param(uri: &str, param: &str) -> Option<String> {
    let headers = Uri::parse(uri).ok()?.headers.map_or(0, |h| h.len() + 1);
    let (front, back) = uri.split_at_checked(uri.len() - headers)?;
    Some(format!("{front}{param}{back}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(remote: &str) -> Flow {
        let local = "192.0.2.1:5060".parse().expect("an address");
        Flow { transport: Transport::Udp, local, remote: remote.parse().expect("an address") }
    }

    fn contact_after(contact: &str, remote: &str) -> Option<String> {
        let text = format!("INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h\r\n{contact}\r\nX: y\r\n\r\nbody");
        let message = Message::parse(text.as_bytes()).expect("a message");
        let bytes = added(&message, flow(remote))?;
        let text = String::from_utf8(bytes).expect("text");
        assert!(text.ends_with("X: y\r\n\r\nbody"), "{text}");
        text.lines().nth(2).map(str::to_owned)
    }

    #[test]
    fn the_alias_stands_in_the_uri_and_nothing_else_is_touched() {
        for (before, after) in [
            (
                "Contact: \"A;<b>\" <sip:a@10.0.0.1:5060;ob>;q=0.5",
                "Contact: \"A;<b>\" <sip:a@10.0.0.1:5060;ob;alias=198.51.100.7~31000~1>;q=0.5",
            ),
            ("m: sip:a@10.0.0.1;q=0.5", "m: <sip:a@10.0.0.1;alias=198.51.100.7~31000~1>;q=0.5"),
            (
                "Contact: <sip:a@10.0.0.1?Replaces=x>",
                "Contact: <sip:a@10.0.0.1;alias=198.51.100.7~31000~1?Replaces=x>",
            ),
        ] {
            assert_eq!(contact_after(before, "198.51.100.7:31000").as_deref(), Some(after));
        }
    }

    #[test]
    fn several_contacts_and_an_alias_of_another_proxy_are_left_alone() {
        let remote = "198.51.100.7:31000";
        assert_eq!(contact_after("Contact: <sip:a@h>, <sip:b@h>", remote), None);
        assert_eq!(contact_after("Contact: <sip:a@h;alias=10.0.0.1~5~1>", remote), None);
        assert_eq!(contact_after("Contact: *", remote), None);
        assert_eq!(contact_after("X-No-Contact: 1", remote), None);
    }

    #[test]
    fn what_was_added_leads_back_and_is_taken_away_again() {
        for remote in ["198.51.100.7:31000", "[2001:db8::7]:31000"] {
            let line = contact_after("Contact: <sip:alias=1@10.0.0.1;ob?A=b>", remote).expect("added");
            let uri = line.trim_start_matches("Contact: <").trim_end_matches('>');
            let uri = Uri::parse(uri).expect("a URI");
            assert_eq!(place(&uri.params), Some((flow(remote).remote, Transport::Udp)));
            assert_eq!(removed(&uri).as_deref(), Some("sip:alias=1@10.0.0.1;ob?A=b"));
        }
    }

    #[test]
    fn an_alias_that_leads_nowhere_is_none() {
        for alias in ["", "10.0.0.1", "10.0.0.1~5", "10.0.0.1~0~1", "h~5~1", "10.0.0.1~5~9", "10.0.0.1~5~1~2"]
        {
            let text = format!("sip:a@h;alias={alias}");
            let uri = Uri::parse(&text).expect("a URI");
            assert_eq!((place(&uri.params), removed(&uri)), (None, None), "{alias}");
        }
    }
}
