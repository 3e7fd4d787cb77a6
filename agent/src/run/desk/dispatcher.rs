//! `relevo dispatcher`: the sets of backends.

use proxy_core::msg::Uri;
use proxy_core::state::dispatcher::{Attributes, Destination, DispatcherCommand, flag};
use proxy_core::state::{SipCommand, SipResponse};
use proxy_core::time::WallTime;
use serde_json::json;

use crate::admin::Reply;
use crate::admin::dispatcher::{Ask, sets};
use crate::bridge::Cluster;
use crate::run::backend::Desk;

/// The bits that an operator may give with a new destination.
const GIVEN_FLAGS: u32 = flag::STATES | flag::PROBING | flag::NO_DNS | flag::NO_PING;

impl<C: Cluster> Desk<C> {
    pub(crate) fn dispatcher(&self, ask: Ask) -> Reply {
        let now = (self.clock)().wall;
        match ask {
            Ask::List { set } => {
                let all = self.config.dispatcher.probe_all;
                Reply::Ok { ok: self.cluster.read(|s| sets(s, set, all, now)) }
            }
            Ask::Add { set, uri, flags, priority, attrs, description } => {
                let uri = match destination_uri(&uri) {
                    Ok(uri) => uri,
                    Err(reply) => return reply,
                };
                if flags.is_some_and(|f| f & !GIVEN_FLAGS != 0) {
                    let cure = "add up: 1 inactive, 2 trying, 4 disabled, 8 probing, 16 no DNS, 32 no ping";
                    return Reply::error("there are unknown bits in the flags", cure);
                }
                if let Some(wrong) = wrong_attribute(&attrs) {
                    return Reply::error(
                        format!("{wrong:?} is no attribute"),
                        "write it as weight=50 or maxload=100: a number behind it; several are parted by semicolons",
                    );
                }
                let old = self.cluster.read(|s| {
                    s.dispatcher().sets.get(&set).and_then(|l| l.iter().find(|d| d.uri == uri)).cloned()
                });
                let known = old.is_some();
                let destination = Destination {
                    uri: uri.clone(),
                    flags: flags.or(old.as_ref().map(|d| d.flags)).unwrap_or(0),
                    priority,
                    attrs: Attributes::parse(&attrs),
                    description,
                    count: old.as_ref().map_or(0, |d| d.count),
                    changed_at: old.as_ref().map_or(WallTime(0), |d| d.changed_at),
                    seen_at: old.as_ref().map_or(WallTime(0), |d| d.seen_at),
                };
                let command = DispatcherCommand::Put { set, destination: Box::new(destination) };
                self.dispatcher_change(command, set, json!({ "set": set, "uri": uri, "changed": known }))
            }
            Ask::Rm { set, uri } => {
                let ok = json!({ "set": set, "uri": uri });
                self.dispatcher_change(DispatcherCommand::Remove { set, uri }, set, ok)
            }
            Ask::SetState { set, uri, state } => {
                let Some(flags) = state_flags(&state) else {
                    return Reply::error(
                        format!("{state:?} is no state"),
                        "write a (active), i (inactive), t (trying) or d (disabled), and p behind it for probing",
                    );
                };
                let ok = json!({ "set": set, "uri": uri, "state": state });
                self.dispatcher_change(DispatcherCommand::SetState { set, uri, flags, at: now }, set, ok)
            }
        }
    }

    fn dispatcher_change(&self, command: DispatcherCommand, set: u32, ok: serde_json::Value) -> Reply {
        match self.commit(SipCommand::Dispatcher(command)) {
            Err(reply) => reply,
            Ok(SipResponse::Done) => Reply::Ok { ok },
            Ok(SipResponse::NotFound) => {
                let known = self.cluster.read(|s| s.dispatcher().sets.contains_key(&set));
                let what = match known {
                    true => format!("there is no such destination in set {set}"),
                    false => format!("there is no set {set}"),
                };
                Reply::error(what, "see what there is: relevo dispatcher list")
            }
            Ok(_) => Reply::error(
                "there is no room for it in the replicated state, or it is too long",
                "remove destinations that are not used any more: relevo dispatcher rm",
            ),
        }
    }
}

/// The first of the attributes that says a number and is none. Others than Relevo knows may stand there, as in
/// Kamailio's table.
fn wrong_attribute(attrs: &str) -> Option<&str> {
    let parts = attrs.split(';').map(str::trim);
    parts.filter(|part| !part.is_empty()).find(|part| match part.split_once('=') {
        Some((name, value)) => {
            matches!(name.trim(), "weight" | "maxload") && value.trim().parse::<u32>().is_err()
        }
        None => true,
    })
}

/// A destination as the operator wrote it, with the scheme that he may have left out.
fn destination_uri(text: &str) -> Result<String, Reply> {
    let uri = if text.contains(':') && Uri::parse(text).is_ok_and(|u| u.is_sip()) {
        text.to_owned()
    } else {
        format!("sip:{text}")
    };
    let fits = Uri::parse(&uri).is_ok_and(|u| u.is_sip()) && uri.bytes().all(|b| b > b' ' && b != 0x7f);
    if fits {
        Ok(uri)
    } else {
        Err(Reply::error(format!("{text:?} is no SIP URI"), "write it as sip:192.0.2.21:5060"))
    }
}

/// Kamailio's letters for `dispatcher.set_state`.
fn state_flags(text: &str) -> Option<u32> {
    let mut letters = text.chars().map(|c| c.to_ascii_lowercase());
    let state = match letters.next()? {
        'a' => 0,
        'i' => flag::INACTIVE,
        't' => flag::TRYING,
        'd' => flag::DISABLED,
        _ => return None,
    };
    match (letters.next(), letters.next()) {
        (None, None) => Some(state),
        (Some('p'), None) => Some(state | flag::PROBING),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_written_as_for_kamailio() {
        assert_eq!(state_flags("a"), Some(0));
        assert_eq!(state_flags("IP"), Some(flag::INACTIVE | flag::PROBING));
        assert_eq!(state_flags("dp"), Some(flag::DISABLED | flag::PROBING));
        for bad in ["", "x", "ax", "app"] {
            assert_eq!(state_flags(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_destination_may_be_written_without_its_scheme() {
        assert_eq!(destination_uri("192.0.2.1:5060").ok().as_deref(), Some("sip:192.0.2.1:5060"));
        assert_eq!(destination_uri("sip:[2001:db8::1]").ok().as_deref(), Some("sip:[2001:db8::1]"));
        assert!(destination_uri("sip:a b").is_err() && destination_uri("").is_err());
    }
}
