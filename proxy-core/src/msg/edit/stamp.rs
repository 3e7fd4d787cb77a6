//! `received` and `rport` on the topmost Via: RFC 3261 §18.2.1 and RFC 3581 §4.

use super::{Edits, Text, place};
use crate::msg::{MAX_PARAMS, Message, Via};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

/// What to write on a request's topmost Via about where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ViaStamp {
    /// Source address.
    pub received: Option<IpAddr>,
    /// Source port.
    pub rport: Option<u16>,
}

impl ViaStamp {
    /// What the RFCs ask for: with `rport` in the Via both values, otherwise `received` if sent-by is not the source
    /// address.
    pub fn for_source(via: &Via<'_>, source: SocketAddr) -> Self {
        let ip = source.ip().to_canonical();
        if via.rport().is_some() {
            return Self { received: Some(ip), rport: Some(source.port()) };
        }
        let same = via.host.ip().is_some_and(|host| host.to_canonical() == ip);
        Self { received: (!same).then_some(ip), rport: None }
    }

    /// Whatever the Via asks for: answers always go back where the request came from (Kamailio's `force_rport`).
    pub fn forced(source: SocketAddr) -> Self {
        Self { received: Some(source.ip().to_canonical()), rport: Some(source.port()) }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.received.is_none() && self.rport.is_none()
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        // Writing to a Vec cannot fail.
        if let Some(ip) = self.received {
            let _ = write!(out, ";received={ip}");
        }
        if let Some(port) = self.rport {
            let _ = write!(out, ";rport={port}");
        }
    }

    /// Edits the topmost Via: what stood there under these names goes, as a sender could lie in it.
    pub(super) fn edit(self, message: &Message<'_>, edits: &mut Edits<'_>) {
        let Ok(via) = message.top_via() else { return };
        if self.is_empty() {
            return;
        }
        for param in via.params.iter().take(MAX_PARAMS) {
            let ours = (self.received.is_some() && param.name.eq_ignore_ascii_case("received"))
                || (self.rport.is_some() && param.name.eq_ignore_ascii_case("rport"));
            if !ours {
                continue;
            }
            let name = place(message, param.name.as_bytes());
            let start =
                message.raw.get(..name).and_then(|b| b.iter().rposition(|&b| b == b';')).unwrap_or(name);
            let mut end = match param.value {
                Some(value) => place(message, value.as_bytes()) + value.len(),
                None => name + param.name.len(),
            };
            // A quoted value was given without its quotes.
            if message.raw.get(end) == Some(&b'"') {
                end += 1;
            }
            edits.remove(start, end);
        }
        let end = place(message, via.raw) + via.raw.len();
        edits.replace(end, end, Text::Stamp(self));
    }
}
