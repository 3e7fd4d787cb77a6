//! `relevo subscriber | domain | alias | acl`: what `kamctl add`, `domain`, `alias_db` and `address` did.

pub(super) mod password;
mod show;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::ask::{ask, tell};
use super::{Common, EXIT_USAGE};
use crate::admin::Request;
use crate::admin::provision::Ask;
use crate::cli::ask::Problem;
use password::PasswordFrom;

/// Who may register and call.
#[derive(Debug, Subcommand)]
pub(super) enum Subscriber {
    /// Add USER (name@domain); the password is asked for, or read from standard input
    Add {
        /// name@domain, or name where there is one domain only
        user: String,
        #[command(flatten)]
        from: PasswordFrom,
    },
    /// Give USER another password
    Passwd {
        /// name@domain, or name where there is one domain only
        user: String,
        #[command(flatten)]
        from: PasswordFrom,
    },
    /// Remove USER with all aliases and contacts
    Rm {
        /// name@domain, or name where there is one domain only
        user: String,
    },
    /// List all subscribers, or those of DOMAIN
    List {
        /// Only these
        domain: Option<String>,
    },
}

/// Domains that are local beside the configured ones.
#[derive(Debug, Subcommand)]
pub(super) enum Domain {
    /// Make a domain local
    Add {
        /// Its name
        domain: String,
        /// Realm of its challenges [default: auth.realm, or the name of the domain]
        #[arg(long)]
        realm: Option<String>,
    },
    /// Make a domain foreign again; its subscribers stay
    Rm {
        /// Its name
        domain: String,
    },
    /// List all domains, the configured ones, too
    List,
}

/// Other names of users.
#[derive(Debug, Subcommand)]
pub(super) enum Alias {
    /// Let ALIAS stand for USER
    Add {
        /// The new name: name@domain
        alias: String,
        /// Whom it stands for: name@domain
        user: String,
    },
    /// Remove ALIAS
    Rm {
        /// name@domain
        alias: String,
    },
    /// List all aliases, or those of USER
    List {
        /// Only these
        user: Option<String>,
    },
}

/// Groups of source addresses; those of the trusted group (auth.trusted_group) need no password.
#[derive(Debug, Subcommand)]
pub(super) enum Acl {
    /// Add an address or network to GROUP
    Add {
        /// Number of the group
        group: u32,
        /// 192.0.2.7, 192.0.2.0/24, 2001:db8::/32
        net: String,
        /// Only from this source port
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        port: u16,
        /// What to call it
        #[arg(long)]
        tag: Option<String>,
    },
    /// Remove an address or network from GROUP
    Rm {
        /// Number of the group
        group: u32,
        /// As it was added
        net: String,
        /// As it was added
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        port: u16,
    },
    /// List all entries, or those of GROUP
    List {
        /// Only these
        group: Option<u32>,
    },
    /// Say which entry of GROUP covers ADDRESS; fail if none does
    Check {
        /// Number of the group
        group: u32,
        /// 192.0.2.7, or 192.0.2.7:5060
        address: String,
    },
}

pub(super) fn subscriber(common: &Common, command: &Subscriber) -> ExitCode {
    match command {
        Subscriber::Add { user, from } => {
            let answer = password::secret(common, user, true, from).and_then(|(user, secret)| {
                ask(common, &Request::Provision { ask: Ask::SubscriberAdd { user, secret } })
            });
            tell(common, answer, |v| format!("new user {} added", show::quoted(&v["user"])))
        }
        Subscriber::Passwd { user, from } => {
            let answer = password::secret(common, user, false, from).and_then(|(user, secret)| {
                ask(common, &Request::Provision { ask: Ask::SubscriberPasswd { user, secret } })
            });
            tell(common, answer, |_| String::from("password change succeeded"))
        }
        Subscriber::Rm { user } => run(common, Ask::SubscriberRm { user: user.clone() }, |v| {
            format!("user {} removed", show::quoted(&v["user"]))
        }),
        Subscriber::List { domain } => {
            run(common, Ask::SubscriberList { domain: domain.clone() }, show::subscribers)
        }
    }
}

pub(super) fn domain(common: &Common, command: &Domain) -> ExitCode {
    match command {
        Domain::Add { domain, realm } => {
            let ask = Ask::DomainAdd { name: domain.clone(), realm: realm.clone() };
            run(common, ask, |v| {
                format!("domain {} added, realm {}", show::quoted(&v["domain"]), show::quoted(&v["realm"]))
            })
        }
        Domain::Rm { domain } => run(common, Ask::DomainRm { name: domain.clone() }, show::domain_removed),
        Domain::List => run(common, Ask::DomainList {}, show::domains),
    }
}

pub(super) fn alias(common: &Common, command: &Alias) -> ExitCode {
    match command {
        Alias::Add { alias, user } => {
            let ask = Ask::AliasAdd { alias: alias.clone(), target: user.clone() };
            run(common, ask, |v| {
                let added =
                    format!("alias {} added, for {}", show::quoted(&v["alias"]), show::quoted(&v["target"]));
                match v["warning"].as_str() {
                    Some(warning) => format!("{added}\nwarning: {warning}"),
                    None => added,
                }
            })
        }
        Alias::Rm { alias } => run(common, Ask::AliasRm { alias: alias.clone() }, |v| {
            format!("alias {} removed", show::quoted(&v["alias"]))
        }),
        Alias::List { user } => run(common, Ask::AliasList { target: user.clone() }, show::aliases),
    }
}

pub(super) fn acl(common: &Common, command: &Acl) -> ExitCode {
    match command {
        Acl::Add { group, net, port, tag } => {
            let ask = Ask::AclAdd { group: *group, net: net.clone(), port: *port, tag: tag.clone() };
            run(common, ask, |v| format!("{} added to group {}", show::source(v), v["group"]))
        }
        Acl::Rm { group, net, port } => {
            let ask = Ask::AclRm { group: *group, net: net.clone(), port: *port };
            run(common, ask, |v| format!("{} removed from group {}", show::source(v), v["group"]))
        }
        Acl::List { group } => run(common, Ask::AclList { group: *group }, show::acl),
        Acl::Check { group, address } => {
            let answer = source(address).and_then(|(address, port)| {
                ask(common, &Request::Provision { ask: Ask::AclCheck { group: *group, address, port } })
            });
            tell(common, answer, |v| format!("covered by {} of group {}", show::source(v), v["group"]))
        }
    }
}

fn run(common: &Common, what: Ask, human: impl FnOnce(&Value) -> String) -> ExitCode {
    tell(common, ask(common, &Request::Provision { ask: what }), human)
}

fn source(text: &str) -> Result<(IpAddr, u16), Problem> {
    let bare = text.trim_matches(['[', ']']);
    if let Ok(ip) = bare.parse() {
        return Ok((ip, 0));
    }
    text.parse::<SocketAddr>().map(|a| (a.ip(), a.port())).map_err(|_| Problem {
        code: EXIT_USAGE,
        error: format!("{text:?} is no address"),
        cure: String::from("write it as 192.0.2.7 or 192.0.2.7:5060"),
    })
}
