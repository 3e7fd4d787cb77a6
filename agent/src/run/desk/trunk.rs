//! `relevo trunk`: accounts at other registrars.

use std::io::Read;

use proxy_core::digest::unhex;
use proxy_core::msg::Uri;
use proxy_core::state::trunk::{Account, TrunkCommand, source};
use proxy_core::state::trunk_style::{Identity, TrunkStyle};
use proxy_core::state::{Ha1, SipCommand, SipResponse};
use serde_json::{Value, json};

use crate::admin::Reply;
use crate::admin::trunk::{Add, Ask, trunk, trunks};
use crate::bridge::Cluster;
use crate::run::backend::Desk;

impl<C: Cluster> Desk<C> {
    pub(crate) fn trunk(&self, ask: Ask) -> Reply {
        let at = (self.clock)().wall;
        match ask {
            Ask::List {} => Reply::Ok { ok: self.cluster.read(|s| trunks(s, at)) },
            Ask::Show { name } => match self.cluster.read(|s| s.trunk(&name).map(|t| trunk(t, at))) {
                Some(ok) => Reply::Ok { ok },
                None => nobody(&name),
            },
            Ask::Add(what) => {
                let old = self.cluster.read(|s| s.trunk(&what.name).map(|t| t.account.style.clone()));
                match account(*what, old).and_then(|a| Ok((a, call_id()?))) {
                    Err(reply) => reply,
                    Ok((mut account, call_id)) => {
                        let name = account.uuid.clone();
                        // What the operator has switched off stays so when he changes something else.
                        account.disabled =
                            self.cluster.read(|s| s.trunk(&name).is_some_and(|t| t.account.disabled));
                        let command = TrunkCommand::Put { account: Box::new(account), call_id, at };
                        self.trunk_change(command, &name, json!({ "trunk": name }))
                    }
                }
            }
            Ask::Set { name, style } => {
                let old = self.cluster.read(|s| s.trunk(&name).map(|t| t.account.style.clone()));
                let Some(old) = old else { return nobody(&name) };
                match style.applied(old) {
                    Err((what, cure)) => Reply::error(what, cure),
                    Ok(style) => {
                        let command = TrunkCommand::Style { uuid: name.clone(), style };
                        self.trunk_change(command, &name, json!({ "trunk": name }))
                    }
                }
            }
            Ask::Rm { name } => {
                let ok = json!({ "trunk": name, "removed": true });
                self.trunk_change(TrunkCommand::Remove { uuid: name.clone() }, &name, ok)
            }
            Ask::Enable { name, enabled } => {
                let ok = json!({ "trunk": name, "enabled": enabled });
                self.trunk_change(TrunkCommand::Enable { uuid: name.clone(), enabled, at }, &name, ok)
            }
            Ask::Refresh { name } => {
                let known = self.cluster.read(|s| s.trunk(&name).map(|t| t.account.registers()));
                match known {
                    Some(true) => {}
                    Some(false) => {
                        let cure =
                            "switch it on (relevo trunk enable), or give it an expiry (relevo trunk add)";
                        return Reply::error(format!("trunk '{name}' does not register"), cure);
                    }
                    None => return nobody(&name),
                }
                let ok = json!({ "trunk": name, "refreshing": true });
                self.trunk_change(TrunkCommand::Refresh { uuid: name.clone(), at }, &name, ok)
            }
        }
    }

    fn trunk_change(&self, command: TrunkCommand, name: &str, ok: Value) -> Reply {
        match self.commit(SipCommand::Trunk(command)) {
            Err(reply) => reply,
            Ok(SipResponse::Done) => Reply::Ok { ok },
            Ok(SipResponse::NotFound) => nobody(name),
            Ok(_) => Reply::error(
                "there is no room for it in the replicated state, or something of it is too long",
                "remove trunks that are not used any more: relevo trunk rm",
            ),
        }
    }
}

fn nobody(name: &str) -> Reply {
    Reply::error(format!("there is no trunk '{name}'"), "see what there is: relevo trunk list")
}

/// Checks what the operator said.
fn account(what: Add, old: Option<TrunkStyle>) -> Result<Account, Reply> {
    let Add { name, remote, local, auth_user, secret, proxy, expires_s, contact_user, sources, style } = what;
    // Who has to register is known by his account; who is known by his address may speak for others.
    let from = if expires_s > 0 { Identity::Account } else { Identity::Caller };
    let style = style.applied(old.unwrap_or(TrunkStyle { from, ..TrunkStyle::default() }));
    let style = style.map_err(|(what, cure)| Reply::error(what, cure))?;
    let contact_user = contact_user.unwrap_or_else(|| name.clone());
    for word in [&name, &contact_user] {
        // It becomes the user of a URI, and nothing in it shall need an escape.
        let fits = !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+'));
        if !fits {
            let cure = "write letters, digits, and - _ . +";
            return Err(Reply::error(format!("{word:?} cannot be a name of a trunk"), cure));
        }
    }
    let (remote_user, remote_domain) = user_at_domain(&remote)?;
    let (local_user, local_domain) = match local.as_deref().map(user_at_domain).transpose()? {
        Some((user, domain)) => (user, domain),
        None => (String::new(), String::new()),
    };
    let proxy =
        proxy.map_or_else(String::new, |p| if p.starts_with("sip:") { p } else { format!("sip:{p}") });
    if !proxy.is_empty() && !Uri::parse(&proxy).is_ok_and(|u| u.is_sip()) {
        return Err(Reply::error(format!("{proxy:?} is no SIP URI"), "write it as sip:192.0.2.1:5060"));
    }
    if let Some(bad) = sources.iter().find(|s| source(s).is_none()) {
        return Err(Reply::error(
            format!("{bad:?} is neither an address nor a network"),
            "write it as 192.0.2.7 or 192.0.2.0/24",
        ));
    }
    if secret.is_none() && expires_s > 0 {
        return Err(Reply::error(
            "a trunk that registers needs a password",
            "give one, or say that it shall not register: --expires 0",
        ));
    }
    let realm = secret.as_ref().map_or_else(String::new, |s| s.realm.clone());
    let bad = || Reply::error("an HA1 is not hex of the right length", "try again");
    let mut ha1 = Ha1::default();
    if let Some(secret) = &secret {
        ha1.md5 = secret.md5.as_deref().map(|h| unhex(h).ok_or_else(bad)).transpose()?;
        ha1.sha256 = secret.sha256.as_deref().map(|h| unhex(h).ok_or_else(bad)).transpose()?;
    }
    Ok(Account {
        uuid: name,
        local_user,
        local_domain,
        auth_user: auth_user.unwrap_or_else(|| remote_user.clone()),
        remote_user,
        remote_domain,
        realm,
        ha1,
        proxy,
        expires_s,
        contact_user,
        sources,
        disabled: false,
        style,
    })
}

fn user_at_domain(text: &str) -> Result<(String, String), Reply> {
    let bare = text.strip_prefix("sip:").unwrap_or(text);
    let uri = format!("sip:{bare}");
    let parsed = Uri::parse(&uri).ok().filter(|u| u.is_sip());
    match parsed.and_then(|u| Some((u.user?.to_owned(), bare.rsplit_once('@')?.1.to_owned()))) {
        Some((user, domain)) if !user.is_empty() => Ok((user, domain)),
        _ => Err(Reply::error(format!("{text:?} is no account"), "write it as user@domain")),
    }
}

/// A Call-ID that nobody has had before: it stays with the trunk.
fn call_id() -> Result<String, Reply> {
    let mut bytes = [0u8; 16];
    std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes)).map_err(|e| {
        Reply::error(format!("the kernel gives no random bytes: {e}"), "see that /dev/urandom is there")
    })?;
    Ok(format!("rlv-trunk-{:032x}", u128::from_be_bytes(bytes)))
}
