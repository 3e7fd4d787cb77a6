//! Subscribers, domains, aliases, access lists: each change is a proposal. Answered means committed; a node that does not
//! lead may show it a moment later.

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::sync_channel;

use proxy_core::auth::realm_of;
use proxy_core::digest::unhex;
use proxy_core::location::aor_of;
use proxy_core::msg::{Host, Uri};
use proxy_core::state::{
    AclKey, Domain, Ha1, ProvisionAnswer, ProvisionCommand, SipCommand, SipResponse, SipState, Subscriber,
};
use serde_json::{Value, json};

use crate::admin::Reply;
use crate::admin::provision::{self as views, Ask, Secret};
use crate::bridge::Cluster;
use crate::run::backend::{COMMIT_LIMIT, Desk};
use crate::run::refused::not_taken;

/// A user as the operator named him.
struct Named {
    username: String,
    domain: String,
    aor: String,
}

impl Named {
    fn text(&self) -> String {
        format!("{}@{}", self.username, self.domain)
    }
}

type Answer = Result<Value, Reply>;

impl<C: Cluster> Desk<C> {
    pub(in crate::run) fn provision(&self, ask: Ask) -> Reply {
        match self.answer_provision(ask) {
            Ok(ok) => Reply::Ok { ok },
            Err(reply) => reply,
        }
    }

    fn answer_provision(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Identity { user } => {
                let named = self.named(&user)?;
                let realm = self.realm(&named.domain);
                let exists = self.cluster.read(|s| s.provision().subscriber(&named.aor).is_some());
                Ok(json!({
                    "user": named.text(),
                    "username": named.username,
                    "realm": realm,
                    "exists": exists,
                }))
            }
            Ask::SubscriberAdd { user, secret } => self.subscriber_add(&user, &secret),
            Ask::SubscriberPasswd { user, secret } => self.subscriber_passwd(&user, &secret),
            Ask::SubscriberRm { user } => self.subscriber_rm(&user),
            Ask::SubscriberList { domain } => {
                let domain = domain.as_deref().map(domain_name).transpose()?;
                Ok(self.cluster.read(|s| views::subscribers(s, domain.as_deref())))
            }
            Ask::DomainAdd { name, realm } => self.domain_add(&name, realm),
            Ask::DomainRm { name } => self.domain_rm(&name),
            Ask::DomainList {} => {
                let realm = |s: &SipState, d: &str| realm_of(s.provision(), &self.running().engine.auth, d);
                Ok(self
                    .cluster
                    .read(|s| views::domains(s, &self.running().config.sip.domains, |d| realm(s, d))))
            }
            Ask::AliasAdd { alias, target } => self.alias_add(&alias, &target),
            Ask::AliasRm { alias } => {
                let alias = self.named(&alias)?;
                let command = ProvisionCommand::AliasRemove { alias: alias.aor.clone() };
                match self.change(command)? {
                    ProvisionAnswer::NotFound => Err(Reply::error(
                        format!("there is no alias '{}'", alias.text()),
                        "see what there is: relevo alias list",
                    )),
                    answer => plain(answer, json!({ "alias": alias.aor })),
                }
            }
            Ask::AliasList { target } => {
                let target = target.map(|t| self.named(&t)).transpose()?;
                Ok(self.cluster.read(|s| views::aliases(s, target.as_ref().map(|t| t.aor.as_str()))))
            }
            Ask::AclAdd { group, net, port, tag } => self.acl_add(group, &net, port, tag),
            Ask::AclRm { group, net, port } => self.acl_rm(group, &net, port),
            Ask::AclList { group } => Ok(self.cluster.read(|s| views::acl(s, group))),
            Ask::AclCheck { group, address, port } => self.acl_check(group, address, port),
        }
    }

    fn subscriber_add(&self, user: &str, secret: &Secret) -> Answer {
        let named = self.named(user)?;
        let ha1 = self.ha1(&named, secret)?;
        self.must_be_local(&named.domain)?;
        let subscriber = Subscriber {
            username: named.username.clone(),
            domain: named.domain.clone(),
            realm: secret.realm.clone(),
            ha1,
        };
        let command = ProvisionCommand::SubscriberAdd { aor: named.aor.clone(), subscriber };
        match self.change(command)? {
            ProvisionAnswer::Exists => Err(Reply::error(
                format!("user '{}' already exists", named.text()),
                format!("give it another password: relevo subscriber passwd {}", named.text()),
            )),
            ProvisionAnswer::IsAlias => Err(Reply::error(
                format!("'{}' is an alias of somebody", named.text()),
                format!("remove the alias first: relevo alias rm {}", named.text()),
            )),
            answer => plain(answer, json!({ "user": named.text(), "realm": secret.realm })),
        }
    }

    fn subscriber_passwd(&self, user: &str, secret: &Secret) -> Answer {
        let named = self.named(user)?;
        let ha1 = self.ha1(&named, secret)?;
        let realm = secret.realm.clone();
        let command = ProvisionCommand::SubscriberPassword { aor: named.aor.clone(), realm, ha1 };
        match self.change(command)? {
            ProvisionAnswer::NotFound => Err(nobody(&named)),
            answer => plain(answer, json!({ "user": named.text(), "realm": secret.realm })),
        }
    }

    fn subscriber_rm(&self, user: &str) -> Answer {
        let named = self.named(user)?;
        match self.change(ProvisionCommand::SubscriberRemove { aor: named.aor.clone() })? {
            ProvisionAnswer::NotFound => Err(nobody(&named)),
            answer => plain(answer, json!({ "user": named.text() })),
        }
    }

    fn domain_add(&self, name: &str, realm: Option<String>) -> Answer {
        let name = domain_name(name)?;
        if self.running().config.sip.domains.contains(&name) && realm.is_none() {
            return Err(Reply::error(
                format!("domain '{name}' is in the configuration (sip.domains)"),
                "nothing is to be done",
            ));
        }
        if realm.as_deref() == Some("") {
            return Err(Reply::error(
                "the realm is empty",
                "leave --realm out to take the name of the domain",
            ));
        }
        let next = realm
            .clone()
            .or_else(|| self.running().config.auth.realm.clone())
            .unwrap_or_else(|| name.clone());
        let other = self.cluster.read(|s| {
            s.provision().subscribers_of(&name).find(|(_, u)| u.realm != next).map(|(_, u)| u.realm.clone())
        });
        if let Some(other) = other {
            return Err(Reply::error(
                format!("subscribers of '{name}' have passwords for the realm '{other}', not for '{next}'"),
                format!("keep it (--realm {other}), or remove them first: relevo subscriber list {name}"),
            ));
        }
        match self.change(ProvisionCommand::DomainAdd(Domain { name: name.clone(), realm }))? {
            ProvisionAnswer::Exists => Err(Reply::error(
                format!("domain '{name}' already exists"),
                "nothing is to be done; for another realm, remove it first: relevo domain rm",
            )),
            answer => plain(answer, json!({ "domain": name, "realm": next })),
        }
    }

    fn domain_rm(&self, name: &str) -> Answer {
        let name = domain_name(name)?;
        match self.change(ProvisionCommand::DomainRemove { name: name.clone() })? {
            ProvisionAnswer::NotFound if self.running().config.sip.domains.contains(&name) => {
                Err(Reply::error(
                    format!("domain '{name}' is in the configuration, not in the replicated state"),
                    "take it out of sip.domains on every node, and start them again one by one",
                ))
            }
            ProvisionAnswer::NotFound => Err(Reply::error(
                format!("there is no domain '{name}'"),
                "see what there is: relevo domain list",
            )),
            answer => {
                let left = self.cluster.read(|s| s.provision().subscriber_count(&name));
                plain(answer, json!({ "domain": name, "subscribers_left": left }))
            }
        }
    }

    fn alias_add(&self, alias: &str, target: &str) -> Answer {
        let alias = self.named(alias)?;
        let target = self.named(target)?;
        self.must_be_local(&alias.domain)?;
        if alias.aor == target.aor {
            return Err(Reply::error(
                format!("'{}' would stand for itself", alias.text()),
                "name the user that it is to stand for",
            ));
        }
        let command = ProvisionCommand::AliasAdd { alias: alias.aor.clone(), target: target.aor.clone() };
        match self.change(command)? {
            ProvisionAnswer::Exists => {
                let of = self.cluster.read(|s| s.provision().alias(&alias.aor).map(str::to_owned));
                Err(Reply::error(
                    format!("alias '{}' already exists, for {}", alias.text(), of.unwrap_or_default()),
                    format!("remove it first: relevo alias rm {}", alias.text()),
                ))
            }
            ProvisionAnswer::IsSubscriber => Err(Reply::error(
                format!("'{}' is a subscriber", alias.text()),
                "take a name that nobody has, or remove the subscriber first",
            )),
            answer => {
                let ours = self.must_be_local(&target.domain).is_ok();
                let known = self.cluster.read(|s| {
                    let p = s.provision();
                    let aor = target.aor.as_str();
                    p.subscriber(aor).is_some() || p.alias(aor).is_some() || !s.bindings(aor).is_empty()
                });
                let warning = (ours && !known).then(|| {
                    format!(
                        "'{0}' is no subscriber and has no phone: calls to the alias lead nowhere until it is there \
                         (relevo subscriber add {0})",
                        target.text()
                    )
                });
                plain(answer, json!({ "alias": alias.aor, "target": target.aor, "warning": warning }))
            }
        }
    }

    fn acl_add(&self, group: u32, net: &str, port: u16, tag: Option<String>) -> Answer {
        let key = source(group, net, port)?;
        match self.change(ProvisionCommand::AclAdd { key, tag: tag.clone() })? {
            ProvisionAnswer::Exists => Err(Reply::error(
                format!("{} is in group {group} already", shown(&key)),
                "nothing is to be done; for another tag, remove it first: relevo acl rm",
            )),
            answer => plain(answer, views::acl_entry(&key, tag.as_deref())),
        }
    }

    fn acl_rm(&self, group: u32, net: &str, port: u16) -> Answer {
        let key = source(group, net, port)?;
        match self.change(ProvisionCommand::AclRemove { key })? {
            ProvisionAnswer::NotFound => Err(Reply::error(
                format!("{} is not in group {group}", shown(&key)),
                "see what there is: relevo acl list",
            )),
            answer => plain(answer, views::acl_entry(&key, None)),
        }
    }

    fn acl_check(&self, group: u32, address: IpAddr, port: u16) -> Answer {
        let found =
            self.cluster.read(|s| s.acl_match(group, address, port).map(|(k, t)| views::acl_entry(k, t)));
        found.ok_or_else(|| {
            let on_a_port = self.cluster.read(|s| {
                let address = address.to_canonical();
                let covers = |key: &AclKey| AclKey { address, ..*key }.canonical() == Some(*key);
                let keys = s.provision().acl().map(|(key, _)| *key);
                keys.filter(|key| key.group == group && key.port != 0).find(covers)
            });
            match on_a_port {
                Some(key) => Reply::error(
                    format!("group {group} covers {address} from port {} only", key.port),
                    format!("name the port: relevo acl check {group} {}", SocketAddr::new(address, key.port)),
                ),
                None => Reply::error(
                    format!("group {group} does not cover {address}"),
                    format!("add it: relevo acl add {group} {address}"),
                ),
            }
        })
    }

    /// Has a change committed, by way of the leader if that is another node.
    fn change(&self, command: ProvisionCommand) -> Result<ProvisionAnswer, Reply> {
        let (tx, rx) = sync_channel(1);
        // The receiver may have given up waiting.
        let done = Box::new(move |outcome| drop(tx.try_send(outcome)));
        self.cluster.operate(SipCommand::Provision(command), done);
        match rx.recv_timeout(COMMIT_LIMIT) {
            Ok(Ok(SipResponse::Provisioned(answer))) => Ok(answer),
            Ok(Ok(other)) => Err(Reply::error(
                format!("the cluster gave an answer of another kind ({other:?})"),
                "do all nodes run the same release? see relevo version",
            )),
            Ok(Err(why)) => Err(not_taken(why)),
            Err(_) => Err(Reply::error(
                "the cluster did not answer in time: the change may still come",
                "see relevo status: is there a leader? then try again",
            )),
        }
    }

    fn realm(&self, domain: &str) -> String {
        self.cluster.read(|s| realm_of(s.provision(), &self.running().engine.auth, domain))
    }

    /// Reads `name@domain`, or `name` where only one domain can be meant.
    fn named(&self, text: &str) -> Result<Named, Reply> {
        let bare = text.strip_prefix("sip:").unwrap_or(text);
        let (username, domain) = match bare.rsplit_once('@') {
            Some((username, domain)) => (username, domain_name(domain)?),
            None => (bare, self.own_domain(bare)?),
        };
        // The addresses of the proxy are other names of its first domain.
        let aor = aor_of(username, &domain).filter(|_| !username.is_empty());
        let aor = aor.and_then(|aor| self.running().engine.aor(&Uri::parse(&aor).ok()?, None));
        let domain = aor.as_deref().and_then(|a| Some(a.rsplit_once('@')?.1.to_owned())).unwrap_or(domain);
        let control = username.bytes().any(|b| b < b' ' || b == 0x7f);
        match aor {
            Some(aor) if !control => Ok(Named { username: username.to_owned(), domain, aor }),
            _ => Err(Reply::error(format!("{text:?} is no user"), "write it as name@domain")),
        }
    }

    /// The domain that is meant where none is named.
    pub(in crate::run) fn own_domain(&self, user: &str) -> Result<String, Reply> {
        let provisioned =
            self.cluster.read(|s| s.provision().domains().take(2).map(|d| d.name.clone()).collect());
        let provisioned: Vec<String> = provisioned;
        match (self.running().config.sip.domains.first(), provisioned.as_slice()) {
            (Some(first), _) => Ok(first.clone()),
            (None, [only]) => Ok(only.clone()),
            _ => Err(Reply::error(
                format!("the domain of '{user}' is not clear"),
                format!("write it with its domain: {user}@example.org"),
            )),
        }
    }

    /// An account in a domain that is not ours could never be used.
    fn must_be_local(&self, domain: &str) -> Result<(), Reply> {
        let running = self.running();
        let sip = &running.config.sip;
        let known = sip.domains.iter().any(|d| d == domain);
        let is_address = domain.starts_with('[') || domain.parse::<IpAddr>().is_ok();
        let provisioned = |s: &SipState| {
            s.provision().domain(domain).is_some()
                || (sip.any_domain && (is_address || s.counts().domains == 0))
        };
        if known || self.cluster.read(provisioned) {
            return Ok(());
        }
        Err(Reply::error(
            format!("domain '{domain}' is not one of this proxy"),
            format!("add it first: relevo domain add {domain}"),
        ))
    }

    fn ha1(&self, named: &Named, secret: &Secret) -> Result<Ha1, Reply> {
        let realm = self.realm(&named.domain);
        if secret.realm != realm {
            return Err(Reply::error(
                format!("the password was made for the realm '{}', but it is '{realm}' now", secret.realm),
                "try again",
            ));
        }
        let bad =
            |what: &str| Reply::error(format!("the {what} HA1 is not hex of the right length"), "try again");
        let ha1 = Ha1 {
            md5: secret.md5.as_deref().map(|h| unhex(h).ok_or_else(|| bad("MD5"))).transpose()?,
            sha256: secret.sha256.as_deref().map(|h| unhex(h).ok_or_else(|| bad("SHA-256"))).transpose()?,
        };
        if ha1.is_empty() {
            return Err(Reply::error("there is no HA1", "give a password, or --ha1"));
        }
        Ok(ha1)
    }
}

/// The answers that mean the same for all records.
fn plain(answer: ProvisionAnswer, ok: Value) -> Answer {
    match answer {
        ProvisionAnswer::Done => Ok(ok),
        ProvisionAnswer::Full => Err(Reply::error(
            "there is no room for more of them in the replicated state",
            "remove what is not needed any more; relevo status counts them",
        )),
        _ => Err(Reply::error(
            "a name is empty, too long, or holds control characters",
            "write names of at most 255 bytes",
        )),
    }
}

fn nobody(named: &Named) -> Reply {
    Reply::error(format!("non-existent user '{}'", named.text()), "see who there is: relevo subscriber list")
}

/// A domain the way it is kept: lower case, without the dot of the root.
fn domain_name(text: &str) -> Result<String, Reply> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    Host::parse(&name)
        .filter(|_| !name.is_empty())
        .map(|host| host.to_string())
        .ok_or_else(|| Reply::error(format!("{text:?} is no domain"), "write it as example.org"))
}

/// An address or network of the operator, and its group.
fn source(group: u32, net: &str, port: u16) -> Result<AclKey, Reply> {
    let bad = || {
        Reply::error(
            format!("{net:?} is no address or network"),
            "write it as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32",
        )
    };
    let (address, prefix) = match net.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (net, None),
    };
    let address: IpAddr = address.trim_matches(['[', ']']).parse().map_err(|_| bad())?;
    let address = address.to_canonical();
    let most: u8 = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map_or(Ok(most), |p| p.parse().map_err(|_| bad()))?;
    AclKey { group, address, prefix, port }.canonical().ok_or_else(bad)
}

fn shown(key: &AclKey) -> String {
    match key.port {
        0 => format!("{}/{}", key.address, key.prefix),
        port => format!("{}/{} port {port}", key.address, key.prefix),
    }
}
