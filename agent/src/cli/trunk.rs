//! `relevo trunk`: what the table `uacreg` and `kamcmd uac.reg_*` did.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Common;
use super::ask::{Problem, ask, show, tell};
use super::print::{cut, list, table, table_or, text};
use super::provision::password::{PasswordFrom, secret_for, usage};
use crate::admin::Request;
use crate::admin::provision::Secret;
use crate::admin::trunk::{self, Ask, Style};

/// Accounts at other registrars.
#[derive(Debug, Subcommand)]
pub(super) enum Trunk {
    /// Add a trunk, or change it: what is not named stays as it is, and "" takes it away. The password of a new one is asked
    /// for, or read from standard input
    Add(Box<Add>),
    /// Change how calls out look there; what is not said stays, and no password is asked for
    Set {
        /// Name of the trunk
        name: String,
        #[command(flatten)]
        style: Box<Look>,
    },
    /// Remove a trunk; its registration runs out (to end it now, disable the trunk first)
    Rm {
        /// Name of the trunk
        name: String,
    },
    /// List all trunks with the state of their registrations
    List,
    /// Show all of a trunk but its secret
    Show {
        /// Name of the trunk
        name: String,
    },
    /// Switch a trunk on
    Enable {
        /// Name of the trunk
        name: String,
    },
    /// Switch a trunk off, and end its registration
    Disable {
        /// Name of the trunk
        name: String,
    },
    /// Register now
    Refresh {
        /// Name of the trunk
        name: String,
    },
}

/// A trunk.
#[derive(Debug, Args)]
pub(super) struct Add {
    /// Name of the trunk (l_uuid)
    name: String,
    /// The account there: user@domain
    remote: String,
    /// Our user that calls to the account go to: user@domain
    #[arg(long, value_name = "USER@DOMAIN")]
    local: Option<String>,
    /// User name in digests [default: the user of the account]
    #[arg(long)]
    auth_user: Option<String>,
    /// Realm that the password is for [default: the domain of the account]
    #[arg(long)]
    realm: Option<String>,
    /// Where requests are sent [default: the domain of the account]
    #[arg(long, value_name = "URI")]
    proxy: Option<String>,
    /// Expiry in seconds; 0: no registration [default: 3600]
    #[arg(long, value_name = "SECONDS")]
    expires: Option<u32>,
    /// User of the Contact [default: the name]
    #[arg(long, value_name = "USER")]
    contact_user: Option<String>,
    /// Address or network that calls of the trunk come from; may be given several times
    #[arg(long, value_name = "NET")]
    source: Vec<String>,
    /// The peer knows us by our address: there is no password
    #[arg(long, conflicts_with_all = ["password_file", "ha1"])]
    no_password: bool,
    /// Read the password from the first line of FILE (- is standard input) instead of asking for it
    #[arg(long, value_name = "FILE", conflicts_with = "ha1")]
    password_file: Option<PathBuf>,
    /// Take this HA1 in hex instead of a password: MD5 (32 digits) or SHA-256 (64 digits) of USER:REALM:PASSWORD, with the
    /// user name in digests and the realm of the carrier (--realm); may be given once each
    #[arg(long, value_name = "HEX")]
    ha1: Vec<String>,
    #[command(flatten)]
    style: Look,
}

/// How calls out look there.
#[derive(Debug, Args)]
pub(super) struct Look {
    /// Who is in From: account, caller, or a URI with {user} for the caller's user [default: account if the trunk registers,
    /// else caller]
    #[arg(long, value_name = "WHO")]
    from: Option<String>,
    /// What is in To: dialled (as it came), or number (as in the Request-URI) [default: dialled]
    #[arg(long, value_name = "WHAT")]
    to: Option<String>,
    /// Who is in P-Asserted-Identity: none, account, caller, or a URI with {user} [default: none]
    #[arg(long, value_name = "WHO")]
    pai: Option<String>,
    /// Characters to take off the number [default: 0]
    #[arg(long, value_name = "N")]
    strip: Option<u8>,
    /// How an international number begins, then: as-dialled, plus (+49), zeros (0049), bare (49) [default: as-dialled]
    #[arg(long, value_name = "HOW")]
    plus: Option<String>,
    /// What to put in front of the number, then
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prefix: Option<String>,
    /// Ask it by OPTIONS whether it is there: on, off [default: off]
    #[arg(long, value_name = "SWITCH")]
    probe: Option<String>,
    /// Where its 3xx may send a call: routing (as routing.follow_redirects), pass (to the caller), own (to itself), any
    /// [default: routing]
    #[arg(long, value_name = "WHERE")]
    redirects: Option<String>,
}

impl Look {
    fn asked(&self) -> Style {
        Style {
            from: self.from.clone(),
            to: self.to.clone(),
            pai: self.pai.clone(),
            strip: self.strip,
            plus: self.plus.clone(),
            prefix: self.prefix.clone(),
            probe: self.probe.clone(),
            redirects: self.redirects.clone(),
        }
    }
}

pub(super) fn trunk(common: &Common, command: &Trunk) -> ExitCode {
    let run = |ask: Ask, human: fn(&Value) -> String| show(common, &Request::Trunk { ask }, human);
    match command {
        Trunk::Add(what) => add(common, what),
        Trunk::Set { name, style } => run(Ask::Set { name: name.clone(), style: style.asked() }, |v| {
            format!("trunk '{}' changed; see relevo trunk show {0}", text(&v["trunk"]))
        }),
        Trunk::Rm { name } => {
            run(Ask::Rm { name: name.clone() }, |v| format!("trunk '{}' removed", text(&v["trunk"])))
        }
        Trunk::List => run(Ask::List {}, trunks),
        Trunk::Show { name } => run(Ask::Show { name: name.clone() }, one),
        Trunk::Enable { name } => run(Ask::Enable { name: name.clone(), enabled: true }, |v| {
            format!("trunk '{}' is on", text(&v["trunk"]))
        }),
        Trunk::Disable { name } => run(Ask::Enable { name: name.clone(), enabled: false }, |v| {
            format!("trunk '{}' is off", text(&v["trunk"]))
        }),
        Trunk::Refresh { name } => run(Ask::Refresh { name: name.clone() }, |v| {
            format!("trunk '{}' registers now; see relevo trunk show {0}", text(&v["trunk"]))
        }),
    }
}

fn add(common: &Common, what: &Add) -> ExitCode {
    let bare = what.remote.strip_prefix("sip:").unwrap_or(&what.remote);
    let (user, domain) = bare.rsplit_once('@').unwrap_or((bare, ""));
    if user.is_empty() || domain.is_empty() {
        // Before anybody types a password for it.
        let error = format!("{:?} is no account", what.remote);
        return tell(common, Err(usage(&error, "write it as user@domain")), |_| String::new());
    }
    let secret = secret(common, what, user, domain);
    let answer = secret.and_then(|secret| {
        let add = trunk::Add {
            name: what.name.clone(),
            remote: what.remote.clone(),
            local: what.local.clone(),
            auth_user: what.auth_user.clone(),
            secret,
            no_password: what.no_password,
            proxy: what.proxy.clone(),
            expires_s: what.expires,
            contact_user: what.contact_user.clone(),
            sources: what.source.clone(),
            style: what.style.asked(),
        };
        ask(common, &Request::Trunk { ask: Ask::Add(Box::new(add)) })
    });
    tell(common, answer, |v| {
        let verb = if v["changed"] == true { "changed" } else { "added" };
        let done = format!("trunk '{}' {verb}; see relevo trunk show {0}", text(&v["trunk"]));
        match v["warning"].as_str() {
            Some(warning) => format!("{done}\nwarning: {warning}"),
            None => done,
        }
    })
}

/// What the password leaves behind; none if there is none, or if that of a known trunk stays.
fn secret(common: &Common, what: &Add, user: &str, domain: &str) -> Result<Option<Secret>, Problem> {
    if what.no_password {
        return Ok(None);
    }
    let from = PasswordFrom { password_file: what.password_file.clone(), ha1: what.ha1.clone() };
    let trunks = ask(common, &Request::Trunk { ask: Ask::List {} })?;
    let old = list(&trunks["trunks"]).iter().find(|t| t["l_uuid"] == what.name.as_str());
    let is_given = !from.ha1.is_empty() || from.password_file.is_some() || what.realm.is_some();
    if old.is_some() && !is_given {
        return Ok(None);
    }
    let known = |key: &str| old.and_then(|t| t[key].as_str()).filter(|s| !s.is_empty());
    let set_apart = known("auth_username").filter(|name| known("r_username") != Some(name));
    let username = what.auth_user.as_deref().filter(|name| !name.is_empty()).or(set_apart).unwrap_or(user);
    let realm_apart = known("realm").filter(|realm| known("r_domain") != Some(realm));
    let realm = what.realm.as_deref().filter(|realm| !realm.is_empty()).or(realm_apart).unwrap_or(domain);
    secret_for(&from, &what.name, username, realm.to_owned()).map(Some)
}

fn trunks(v: &Value) -> String {
    let rows: Vec<Vec<String>> = list(&v["trunks"])
        .iter()
        .map(|t| {
            let remote = format!("{}@{}", text(&t["r_username"]), text(&t["r_domain"]));
            let [name, state, expires, next, last] =
                ["l_uuid", "state", "diff_expires", "timer_expires", "last"].map(|k| text(&t[k]));
            vec![name, remote, state, expires, next, last]
        })
        .collect();
    cut(table_or("no trunks", &["TRUNK", "ACCOUNT", "STATE", "EXPIRES S", "NEXT S", "LAST ANSWER"], &rows), v)
}

fn one(v: &Value) -> String {
    let rows: Vec<Vec<String>> = v
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            let shown = match value {
                Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(" "),
                Value::Object(map) => {
                    map.iter().map(|(k, v)| format!("{k}={}", text(v))).collect::<Vec<_>>().join(" ")
                }
                other => text(other),
            };
            vec![key.clone(), shown]
        })
        .collect();
    table(&["FIELD", "VALUE"], &rows)
}
