//! What can be asked about trunks, and the trunks as JSON.
//!
//! `{"command":"trunk","ask":{"refresh":{"name":"carrier"}}}`. A password is never among it: who asks has made HA1 of it.

use proxy_core::state::SipState;
use proxy_core::state::trunk::{RegistrationState, Trunk};
use proxy_core::time::WallTime;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::MAX_RECORDS;
use super::provision::Secret;
pub use super::trunk_style::Style;
use super::trunk_style::style;

/// One question or change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// All trunks.
    List {},
    /// One trunk with all that is known of it but its secret.
    Show {
        /// Which.
        name: String,
    },
    /// A trunk, new or changed.
    Add(Box<Add>),
    /// Calls out by a trunk look otherwise; what is not said stays.
    Set {
        /// Which.
        name: String,
        /// How.
        style: Style,
    },
    /// A trunk goes.
    Rm {
        /// Which.
        name: String,
    },
    /// A trunk is switched on or off.
    Enable {
        /// Which.
        name: String,
        /// On?
        enabled: bool,
    },
    /// A trunk registers now.
    Refresh {
        /// Which.
        name: String,
    },
}

/// A trunk as the operator says it. Of one that is known, what is not said stays as it is; an empty text takes it away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// Its name (`l_uuid`).
    pub name: String,
    /// The account there: user@domain.
    pub remote: String,
    /// Our user that calls to the account go to: user@domain.
    #[serde(default)]
    pub local: Option<String>,
    /// User name in digests, where it is another.
    #[serde(default)]
    pub auth_user: Option<String>,
    /// What the password left behind; a trunk that knows its peer by address needs none.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// There is no password (any more).
    #[serde(default)]
    pub no_password: bool,
    /// Where requests are sent, if not to the domain.
    #[serde(default)]
    pub proxy: Option<String>,
    /// Expiry in seconds; 0: no registration.
    #[serde(default)]
    pub expires_s: Option<u32>,
    /// User of the Contact, if not the name.
    #[serde(default)]
    pub contact_user: Option<String>,
    /// Addresses and networks that its calls come from.
    #[serde(default)]
    pub sources: Vec<String>,
    /// How calls out look; what is not said stays.
    #[serde(default)]
    pub style: Style,
}

/// All trunks.
#[must_use]
pub fn trunks(state: &SipState, now: WallTime) -> Value {
    let mut list: Vec<Value> = state.trunks().take(MAX_RECORDS + 1).map(|t| trunk(t, now)).collect();
    let truncated = list.len() > MAX_RECORDS;
    list.truncate(MAX_RECORDS);
    json!({ "trunks": list, "truncated": truncated })
}

/// One trunk, in the words of Kamailio's `uac.reg_dump`. No secret is among them.
#[must_use]
pub fn trunk(t: &Trunk, now: WallTime) -> Value {
    let (a, r) = (&t.account, &t.registration);
    let algorithms: Vec<&str> = [("SHA-256", a.ha1.sha256.is_some()), ("MD5", a.ha1.md5.is_some())]
        .into_iter()
        .filter_map(|(name, is)| is.then_some(name))
        .collect();
    json!({
        "l_uuid": a.uuid,
        "l_username": a.local_user,
        "l_domain": a.local_domain,
        "r_username": a.remote_user,
        "r_domain": a.remote_domain,
        "realm": a.realm,
        "auth_username": a.auth_user,
        "auth_proxy": a.proxy,
        "ha1": algorithms,
        "expires": a.expires_s,
        "contact_user": a.contact_user,
        "sources": a.sources,
        "style": style(&a.style),
        "enabled": !a.disabled,
        "state": word(t, now),
        "callid": r.call_id,
        "cseq": r.cseq,
        "diff_expires": now.secs_until(r.expires_at),
        "timer_expires": if t.wants_register() { Some(now.secs_until(r.next_at)) } else { None },
        "failures": r.failures,
        "service_route": r.service_route,
        "reachable": if t.is_probed() { Some(!t.down) } else { None },
        "last": r.last,
    })
}

fn word(t: &Trunk, now: WallTime) -> &'static str {
    if t.account.disabled {
        return "disabled";
    }
    if t.account.expires_s == 0 {
        return "calls only";
    }
    match t.registration.state {
        // A refresh is under way while the registration is still good.
        RegistrationState::Ongoing if t.registration.expires_at > now => "registered",
        RegistrationState::Ongoing => "registering",
        RegistrationState::Registered => "registered",
        RegistrationState::Failed => "failed",
        RegistrationState::Idle => "waiting",
    }
}
