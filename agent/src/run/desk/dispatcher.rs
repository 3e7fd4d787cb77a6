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

/// Largest weight: percent.
const MAX_WEIGHT: u32 = 100;

impl<C: Cluster> Desk<C> {
    pub(crate) fn dispatcher(&self, ask: Ask) -> Reply {
        let now = self.now().wall;
        match ask {
            Ask::List { set } => {
                let all = self.running().config.dispatcher.probe_all;
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
                let idle = match attrs.as_deref().map_or(Ok(Vec::new()), attributes) {
                    Ok(idle) => idle,
                    Err((what, cure)) => return Reply::error(what, cure),
                };
                let old = self.cluster.read(|s| {
                    s.dispatcher().sets.get(&set).and_then(|l| l.iter().find(|d| d.uri == uri)).cloned()
                });
                let known = old.is_some();
                let old = old.unwrap_or_else(|| Destination {
                    uri: uri.clone(),
                    flags: 0,
                    priority: 0,
                    attrs: Attributes::default(),
                    description: String::new(),
                    count: 0,
                    changed_at: WallTime(0),
                    seen_at: WallTime(0),
                });
                let destination = Destination {
                    flags: flags.unwrap_or(old.flags),
                    priority: priority.unwrap_or(old.priority),
                    attrs: attrs.as_deref().map_or_else(|| old.attrs.clone(), Attributes::parse),
                    description: description.unwrap_or_else(|| old.description.clone()),
                    ..old
                };
                let command = DispatcherCommand::Put { set, destination: Box::new(destination) };
                let ok = json!({ "set": set, "uri": uri, "changed": known, "without_effect": idle });
                self.dispatcher_change(command, set, ok)
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

/// Attributes of Kamailio's table that do nothing here, and do no harm.
const WITHOUT_EFFECT: [&str; 9] =
    ["rweight", "socket", "sockname", "ping_socket", "ping_from", "obproxy", "cc", "latency", "ocmin"];

/// Reads what the operator gave as attributes: those that have no effect here, or what is wrong and its cure.
fn attributes(attrs: &str) -> Result<Vec<String>, (String, &'static str)> {
    let mut seen: Vec<&str> = Vec::new();
    let mut idle = Vec::new();
    for part in attrs.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let Some((name, value)) = part.split_once('=').map(|(name, value)| (name.trim(), value.trim()))
        else {
            return Err((format!("{part:?} is no attribute"), "write it as weight=50;maxload=100;duid=a"));
        };
        match name {
            "weight" if !value.parse::<u32>().is_ok_and(|n| n <= MAX_WEIGHT) => {
                let cure = "write a number from 0 to 100: its share of the calls, in percent, as in Kamailio's table";
                return Err((format!("weight={value} is out of range"), cure));
            }
            "maxload" if value.parse::<u32>().is_err() => {
                let cure = "write how many calls it may have at a time, such as maxload=100; 0 is no limit";
                return Err((format!("maxload={value} is no number of calls"), cure));
            }
            "weight" | "maxload" | "duid" => {}
            _ if WITHOUT_EFFECT.contains(&name) => idle.push(name.to_owned()),
            _ => {
                let cure = "there are weight=0–100 (share), maxload=N (calls at a time) and duid=NAME, parted by semicolons";
                return Err((format!("nobody knows an attribute {name:?}"), cure));
            }
        }
        if seen.contains(&name) {
            return Err((format!("{name} stands twice"), "give it once"));
        }
        seen.push(name);
    }
    Ok(idle)
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
    fn attributes_that_nobody_knows_or_that_cannot_be_are_refused() {
        for good in ["", "weight=50", "weight=0;maxload=1000;duid=a", " weight = 100 ; "] {
            assert_eq!(attributes(good), Ok(Vec::new()), "{good:?}");
        }
        assert_eq!(attributes("socket=udp:192.0.2.1:5060;weight=1"), Ok(vec![String::from("socket")]));
        let bad = [
            "wieght=50",
            "weight=500",
            "weight=-1",
            "weight=",
            "maxload=many",
            "weight",
            "weight=1;weight=2",
        ];
        for bad in bad {
            assert!(attributes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_destination_may_be_written_without_its_scheme() {
        assert_eq!(destination_uri("192.0.2.1:5060").ok().as_deref(), Some("sip:192.0.2.1:5060"));
        assert_eq!(destination_uri("sip:[2001:db8::1]").ok().as_deref(), Some("sip:[2001:db8::1]"));
        assert!(destination_uri("sip:a b").is_err() && destination_uri("").is_err());
    }
}
