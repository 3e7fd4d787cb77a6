//! `relevo trunk`: accounts at other registrars.

use std::io::Read;

use proxy_core::digest::unhex;
use proxy_core::msg::Uri;
use proxy_core::state::trunk::{Account, TrunkCommand, source};
use proxy_core::state::trunk_style::{Identity, TrunkStyle};
use proxy_core::state::{Ha1, SipCommand, SipResponse};
use serde_json::{Value, json};

use crate::admin::Reply;
use crate::admin::provision::Secret;
use crate::admin::trunk::{Add, Ask, Style, trunk, trunks};
use crate::bridge::Cluster;
use crate::run::backend::Desk;

/// Expiry that is asked for where the operator names none, in seconds.
const DEFAULT_EXPIRES_S: u32 = 3600;

impl<C: Cluster> Desk<C> {
    pub(crate) fn trunk(&self, ask: Ask) -> Reply {
        let at = self.now().wall;
        match ask {
            Ask::List {} => Reply::Ok { ok: self.cluster.read(|s| trunks(s, at)) },
            Ask::Show { name } => match self.cluster.read(|s| s.trunk(&name).map(|t| trunk(t, at))) {
                Some(ok) => Reply::Ok { ok },
                None => nobody(&name),
            },
            Ask::Add(what) => {
                let old = self.cluster.read(|s| s.trunk(&what.name).map(|t| t.account.clone()));
                match account(*what, old.as_ref()).and_then(|a| Ok((a, call_id()?))) {
                    Err(reply) => reply,
                    Ok((account, call_id)) => {
                        let name = account.uuid.clone();
                        let mut ok = json!({ "trunk": name, "changed": old.is_some() });
                        if let Some(warning) = without_calls_in(&account) {
                            ok["warning"] = warning.into();
                        }
                        let command = TrunkCommand::Put { account: Box::new(account), call_id, at };
                        self.trunk_change(command, &name, ok)
                    }
                }
            }
            Ask::Set { style, .. } if style == Style::default() => {
                Reply::error("nothing says what is to change", "see what there is: relevo trunk set --help")
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

/// What to know of a trunk that registers, and whose calls in nothing proves.
fn without_calls_in(account: &Account) -> Option<String> {
    let proxy = Uri::parse(&account.proxy).ok();
    let has_address = proxy.is_some_and(|uri| uri.host.ip().is_some());
    (account.expires_s > 0 && account.sources.is_empty() && !has_address).then(|| {
        format!(
            "no call comes in by it: only an address proves that one is of the trunk; name those of the provider: \
             relevo trunk add {} … --source 192.0.2.0/24 (or list it in trunk.by_name, and anybody may call its local user)",
            account.uuid
        )
    })
}

fn nobody(name: &str) -> Reply {
    Reply::error(format!("there is no trunk '{name}'"), "see what there is: relevo trunk list")
}

/// Checks what the operator said, on top of what is known of the trunk.
fn account(what: Add, old: Option<&Account>) -> Result<Account, Reply> {
    let Add {
        name,
        remote,
        local,
        auth_user,
        secret,
        no_password,
        proxy,
        expires_s,
        contact_user,
        sources,
        style,
    } = what;
    let expires_s = expires_s.or(old.map(|old| old.expires_s)).unwrap_or(DEFAULT_EXPIRES_S);
    // Who has to register is known by his account; who is known by his address may speak for others.
    let from = if expires_s > 0 { Identity::Account } else { Identity::Caller };
    let known = old.map(|old| old.style.clone());
    let style = style.applied(known.unwrap_or(TrunkStyle { from, ..TrunkStyle::default() }));
    let style = style.map_err(|(what, cure)| Reply::error(what, cure))?;
    let contact_user = match contact_user {
        Some(user) if user.is_empty() => name.clone(),
        Some(user) => user,
        None => old.map_or_else(|| name.clone(), |old| old.contact_user.clone()),
    };
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
    let nobody = || (String::new(), String::new());
    let (local_user, local_domain) = match local.as_deref() {
        Some("") => nobody(),
        Some(local) => user_at_domain(local)?,
        None => old.map_or_else(nobody, |old| (old.local_user.clone(), old.local_domain.clone())),
    };
    let proxy = match proxy {
        Some(p) if p.is_empty() => p,
        Some(p) => proxy_uri(&p)?,
        None => old.map_or_else(String::new, |old| old.proxy.clone()),
    };
    let sources = match (sources.is_empty(), old) {
        (true, Some(old)) => old.sources.clone(),
        _ => sources.into_iter().filter(|s| !s.is_empty()).collect(),
    };
    if let Some(bad) = sources.iter().find(|s| source(s).is_none()) {
        return Err(Reply::error(
            format!("{bad:?} is neither an address nor a network"),
            "write it as 192.0.2.7 or 192.0.2.0/24",
        ));
    }
    let auth_user = match auth_user {
        Some(user) if user.is_empty() => remote_user.clone(),
        Some(user) => user,
        // Another account has another name in digests, unless that was set apart.
        None => match old {
            Some(old) if old.auth_user != old.remote_user => old.auth_user.clone(),
            _ => remote_user.clone(),
        },
    };
    let (realm, ha1) = match (&secret, old) {
        (Some(secret), _) => (secret.realm.clone(), ha1_of(secret)?),
        (None, Some(old)) if !no_password => {
            let known = old.ha1 != Ha1::default();
            let of_other = old.auth_user != auth_user
                || (old.realm == old.remote_domain && old.remote_domain != remote_domain);
            if known && of_other {
                return Err(Reply::error(
                    "the password is for another user name or realm, and only what is made of the three is kept",
                    "give the password, too: --password-file FILE has it in its first line (- is standard input)",
                ));
            }
            (old.realm.clone(), old.ha1)
        }
        _ => (String::new(), Ha1::default()),
    };
    if ha1 == Ha1::default() && expires_s > 0 {
        return Err(Reply::error(
            "a trunk that registers needs a password",
            "give one: --password-file FILE has it in its first line (- is standard input); or say that it shall not \
             register: --expires 0",
        ));
    }
    Ok(Account {
        uuid: name,
        local_user,
        local_domain,
        auth_user,
        remote_user,
        remote_domain,
        realm,
        ha1,
        proxy,
        expires_s,
        contact_user,
        sources,
        // What the operator has switched off stays so when he changes something else.
        disabled: old.is_some_and(|old| old.disabled),
        style,
    })
}

/// A proxy as the operator wrote it, with the scheme that he may have left out.
fn proxy_uri(text: &str) -> Result<String, Reply> {
    let bare = |scheme: &str| {
        let (typed, rest) = text.split_once(':')?;
        typed.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    if let Some(rest) = bare("sips") {
        return Err(Reply::error(
            format!("the proxy {text:?} asks for TLS, and trunks are reached by UDP or TCP"),
            format!("write it as sip:{rest}, or sip:{rest};transport=tcp"),
        ));
    }
    let uri = format!("sip:{}", bare("sip").unwrap_or(text));
    if Uri::parse(&uri).is_ok_and(|u| u.is_sip()) {
        Ok(uri)
    } else {
        Err(Reply::error(format!("{text:?} is no SIP URI"), "write it as sip:192.0.2.1:5060"))
    }
}

fn ha1_of(secret: &Secret) -> Result<Ha1, Reply> {
    let bad = || Reply::error("an HA1 is not hex of the right length", "try again");
    Ok(Ha1 {
        md5: secret.md5.as_deref().map(|h| unhex(h).ok_or_else(bad)).transpose()?,
        sha256: secret.sha256.as_deref().map(|h| unhex(h).ok_or_else(bad)).transpose()?,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn add(text: &str) -> Add {
        serde_json::from_str(text).expect("an Add")
    }

    fn first() -> Account {
        let text = r#"{"name":"carrier","remote":"user@carrier.test","proxy":"192.0.2.1","expires_s":600,
            "contact_user":"in","local":"100@lab.test","sources":["192.0.2.0/24"],
            "secret":{"realm":"carrier.test","md5":"00112233445566778899aabbccddeeff"}}"#;
        let mut account = account(add(text), None).unwrap_or_else(|_| panic!("it is right"));
        account.disabled = true;
        account
    }

    fn changed(text: &str) -> Account {
        account(add(text), Some(&first())).unwrap_or_else(|_| panic!("it is right: {text}"))
    }

    #[test]
    fn what_is_not_named_of_a_known_trunk_stays() {
        let old = first();
        assert_eq!(changed(r#"{"name":"carrier","remote":"user@carrier.test"}"#), old);
        let other =
            changed(r#"{"name":"carrier","remote":"user@carrier.test","expires_s":60,"proxy":"192.0.2.9"}"#);
        assert_eq!(other, Account { expires_s: 60, proxy: "sip:192.0.2.9".into(), ..old });
    }

    #[test]
    fn a_trunk_whose_calls_in_nothing_proves_is_named_when_it_is_added() {
        let known = Account { sources: Vec::new(), ..first() };
        for (proxy, sources, expires_s, is_named) in [
            ("sip:proxy.carrier.test", &[][..], 600, true),
            ("", &[], 600, true),
            ("sip:192.0.2.1", &[], 600, false),
            ("", &["192.0.2.0/24"], 600, false),
            ("", &[], 0, false),
        ] {
            let sources = sources.iter().map(|s| (*s).to_owned()).collect();
            let account = Account { proxy: proxy.to_owned(), sources, expires_s, ..known.clone() };
            let said = without_calls_in(&account);
            assert_eq!(said.is_some(), is_named, "{proxy:?}");
            assert!(said.is_none_or(|s| s.contains("--source")));
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_reached_is_refused_as_it_was_written_with_the_cure() {
        let refused = |proxy: &str| {
            let add = serde_json::json!({ "name": "carrier", "remote": "user@carrier.test", "proxy": proxy });
            match account(serde_json::from_value(add).expect("an Add"), Some(&first())) {
                Err(Reply::Error { error, cure }) => (error, cure),
                other => panic!("{proxy}: {other:?}"),
            }
        };
        let (error, cure) = refused("sips:h");
        assert_eq!(error, "the proxy \"sips:h\" asks for TLS, and trunks are reached by UDP or TCP");
        assert_eq!(cure, "write it as sip:h, or sip:h;transport=tcp");
        assert_eq!(refused("SIPS:h:5061").1, "write it as sip:h:5061, or sip:h:5061;transport=tcp");
        for proxy in ["192.0.2.1:port", "a b", "https://h"] {
            let (error, cure) = refused(proxy);
            assert_eq!(error, format!("{proxy:?} is no SIP URI"));
            assert_eq!(cure, "write it as sip:192.0.2.1:5060");
        }
    }

    #[test]
    fn a_proxy_may_be_written_with_its_scheme_or_without() {
        for proxy in ["h:5070", "sip:h:5070", "SIP:h:5070"] {
            let text = format!(r#"{{"name":"carrier","remote":"user@carrier.test","proxy":"{proxy}"}}"#);
            assert_eq!(changed(&text).proxy, "sip:h:5070");
        }
    }

    #[test]
    fn an_empty_text_takes_away_what_was_there() {
        let text = r#"{"name":"carrier","remote":"user@carrier.test","proxy":"","local":"","contact_user":"","sources":[""]}"#;
        let new = changed(text);
        assert!(new.proxy.is_empty() && new.local_user.is_empty() && new.sources.is_empty());
        assert_eq!(new.contact_user, "carrier");
        let new =
            changed(r#"{"name":"carrier","remote":"user@carrier.test","no_password":true,"expires_s":0}"#);
        assert_eq!(new.ha1, Ha1::default());
    }

    #[test]
    fn a_password_does_not_follow_to_another_account() {
        for remote in ["other@carrier.test", "user@elsewhere.test"] {
            let add = add(&format!(r#"{{"name":"carrier","remote":"{remote}"}}"#));
            assert!(account(add, Some(&first())).is_err(), "{remote}");
        }
        let none = account(add(r#"{"name":"new","remote":"user@carrier.test"}"#), None);
        assert!(none.is_err(), "who registers needs a password");
    }
}
