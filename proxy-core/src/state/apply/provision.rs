//! Provisioning: what is there is not added twice, what is not there is not changed.
//!
//! | command | nothing there | there |
//! |---|---|---|
//! | SubscriberAdd | `Done`, `Full`, `Malformed`; `IsAlias` where an alias has the name | `Exists` |
//! | SubscriberPassword | `NotFound` | `Done`, `Malformed` |
//! | SubscriberRemove | `NotFound` | `Done`; its aliases and contacts go with it |
//! | DomainAdd, AclAdd | `Done`, `Full`, `Malformed` | `Exists` |
//! | AliasAdd | `Done`, `Full`, `Malformed`; `IsSubscriber` where one has the name | `Exists` |
//! | DomainRemove, AliasRemove, AclRemove | `NotFound` | `Done` |
//! | NonceKey | `Done` | `Done`; `Superseded` where another key came first |

use crate::state::limits::{
    MAX_ACL, MAX_ALIASES, MAX_DOMAINS, MAX_PROVISION_TEXT, MAX_SUBSCRIBERS, admits_bytes,
};
use crate::state::provision::{acl_bytes, alias_bytes, domain_bytes, split_aor, subscriber_bytes};
use crate::state::{
    AclKey, Domain, NonceKey, NonceSecret, ProvisionAnswer, ProvisionCommand, SipResponse, SipState,
    Subscriber,
};
use crate::time::WallTime;

use ProvisionAnswer::{Done, Exists, Full, IsAlias, IsSubscriber, Malformed, NotFound, Superseded};

impl SipState {
    pub(super) fn provision_change(&mut self, command: &ProvisionCommand) -> SipResponse {
        let answer = match command {
            ProvisionCommand::SubscriberAdd { aor, subscriber } => self.add_subscriber(aor, subscriber),
            ProvisionCommand::SubscriberPassword { aor, realm, ha1 } => {
                let Some(old) = self.records.provision.subscriber(aor) else {
                    return SipResponse::Provisioned(NotFound);
                };
                let new = Subscriber { realm: realm.clone(), ha1: *ha1, ..old.clone() };
                if new.ha1.is_empty() || !fits(&new.realm) {
                    Malformed
                } else {
                    self.take_subscriber(aor);
                    self.put_subscriber(aor, new);
                    Done
                }
            }
            ProvisionCommand::SubscriberRemove { aor } => self.remove_subscriber(aor),
            ProvisionCommand::DomainAdd(domain) => self.add_domain(domain),
            ProvisionCommand::DomainRemove { name } => match self.records.provision.domains.remove(name) {
                Some(old) => {
                    self.index.bytes = self.index.bytes.saturating_sub(domain_bytes(&old));
                    self.records.provision.domains_revision += 1;
                    Done
                }
                None => NotFound,
            },
            ProvisionCommand::AliasAdd { alias, target } => self.add_alias(alias, target),
            ProvisionCommand::AliasRemove { alias } => {
                if self.take_alias(alias) {
                    Done
                } else {
                    NotFound
                }
            }
            ProvisionCommand::AclAdd { key, tag } => self.add_acl(key, tag.as_deref()),
            ProvisionCommand::AclRemove { key } => self.remove_acl(key),
            ProvisionCommand::NonceKey { replaces, secret, at } => {
                self.new_nonce_key(*replaces, *secret, *at)
            }
        };
        SipResponse::Provisioned(answer)
    }

    fn add_subscriber(&mut self, aor: &str, subscriber: &Subscriber) -> ProvisionAnswer {
        let s = subscriber;
        let Some((user, domain)) = split_aor(aor) else { return Malformed };
        let named = !user.is_empty() && !domain.is_empty() && !s.username.is_empty() && s.domain == domain;
        if !named || s.ha1.is_empty() || ![aor, &s.username, &s.realm].into_iter().all(fits) {
            return Malformed;
        }
        let provision = &self.records.provision;
        if provision.subscriber(aor).is_some() {
            return Exists;
        }
        if provision.aliases.contains_key(aor) {
            return IsAlias;
        }
        let room = self.index.provision.subscriber_count < MAX_SUBSCRIBERS
            && admits_bytes(self.index.bytes, subscriber_bytes(domain, user, s));
        if !room {
            return Full;
        }
        self.put_subscriber(aor, s.clone());
        Done
    }

    /// As `kamctl rm`: who is gone is not called by another name, and not reached where he registered.
    fn remove_subscriber(&mut self, aor: &str) -> ProvisionAnswer {
        if !self.take_subscriber(aor) {
            return NotFound;
        }
        let of = (aor.to_owned(), String::new());
        let aliases: Vec<String> = self
            .index
            .provision
            .aliases_of
            .range(of..)
            .take_while(|(target, _)| target == aor)
            .map(|(_, alias)| alias.clone())
            .collect();
        for alias in aliases {
            self.take_alias(&alias);
        }
        self.put_bindings(aor, Vec::new());
        Done
    }

    fn put_subscriber(&mut self, aor: &str, subscriber: Subscriber) {
        let Some((user, domain)) = split_aor(aor) else { return };
        self.index.bytes += subscriber_bytes(domain, user, &subscriber);
        self.index.provision.subscriber_count += 1;
        let users = self.records.provision.subscribers.get_or_default(&domain.to_owned());
        users.insert(user.to_owned(), subscriber);
    }

    fn take_subscriber(&mut self, aor: &str) -> bool {
        let Some((user, domain)) = split_aor(aor) else { return false };
        let subscribers = &mut self.records.provision.subscribers;
        let Some(users) = subscribers.get_mut(domain) else { return false };
        let Some(old) = users.remove(user) else { return false };
        if users.is_empty() {
            // Equal states are equal bytes, whichever way they were come by.
            subscribers.remove(domain);
        }
        self.index.bytes = self.index.bytes.saturating_sub(subscriber_bytes(domain, user, &old));
        self.index.provision.subscriber_count = self.index.provision.subscriber_count.saturating_sub(1);
        true
    }

    fn add_domain(&mut self, domain: &Domain) -> ProvisionAnswer {
        if domain.name.is_empty() || !fits(&domain.name) || !domain.realm.as_deref().is_none_or(fits) {
            return Malformed;
        }
        let provision = &mut self.records.provision;
        if provision.domains.contains_key(&domain.name) {
            return Exists;
        }
        let bytes = domain_bytes(domain);
        if provision.domains.len() >= MAX_DOMAINS || !admits_bytes(self.index.bytes, bytes) {
            return Full;
        }
        provision.domains.insert(domain.name.clone(), domain.clone());
        provision.domains_revision += 1;
        self.index.bytes += bytes;
        Done
    }

    fn add_alias(&mut self, alias: &str, target: &str) -> ProvisionAnswer {
        if [alias, target].iter().any(|aor| split_aor(aor).is_none() || !fits(aor)) || alias == target {
            return Malformed;
        }
        let provision = &mut self.records.provision;
        if provision.aliases.contains_key(alias) {
            return Exists;
        }
        if provision.subscriber(alias).is_some() {
            return IsSubscriber;
        }
        let bytes = alias_bytes(alias, target);
        if provision.aliases.len() >= MAX_ALIASES || !admits_bytes(self.index.bytes, bytes) {
            return Full;
        }
        provision.aliases.insert(alias.to_owned(), target.to_owned());
        self.index.provision.aliases_of.insert((target.to_owned(), alias.to_owned()));
        self.index.bytes += bytes;
        Done
    }

    fn take_alias(&mut self, alias: &str) -> bool {
        let Some(target) = self.records.provision.aliases.remove(alias) else { return false };
        self.index.bytes = self.index.bytes.saturating_sub(alias_bytes(alias, &target));
        self.index.provision.aliases_of.remove(&((*target).clone(), alias.to_owned()));
        true
    }

    fn add_acl(&mut self, key: &AclKey, tag: Option<&str>) -> ProvisionAnswer {
        let Some(key) = key.canonical().filter(|_| tag.is_none_or(fits)) else { return Malformed };
        let acl = &mut self.records.provision.acl;
        if acl.contains_key(&key) {
            return Exists;
        }
        let bytes = acl_bytes(tag);
        if acl.len() >= MAX_ACL || !admits_bytes(self.index.bytes, bytes) {
            return Full;
        }
        acl.insert(key, tag.map(str::to_owned));
        self.index.provision.add_prefix(&key);
        self.index.bytes += bytes;
        Done
    }

    fn remove_acl(&mut self, key: &AclKey) -> ProvisionAnswer {
        let Some(key) = key.canonical() else { return Malformed };
        let Some(tag) = self.records.provision.acl.remove(&key) else { return NotFound };
        self.index.provision.remove_prefix(&key);
        self.index.bytes = self.index.bytes.saturating_sub(acl_bytes(tag.as_deref()));
        Done
    }

    /// Of two proposers that saw the same old key one wins, so that the old key stays known for its nonces.
    fn new_nonce_key(&mut self, replaces: Option<u32>, secret: NonceSecret, at: WallTime) -> ProvisionAnswer {
        let provision = &mut self.records.provision;
        if provision.nonce_key.map(|k| k.id) != replaces {
            return Superseded;
        }
        let id = replaces.map_or(1, |old| old.wrapping_add(1));
        provision.old_nonce_key = provision.nonce_key.replace(NonceKey { id, secret, made_at: at });
        Done
    }
}

fn fits(text: &str) -> bool {
    text.len() <= MAX_PROVISION_TEXT && !text.bytes().any(|b| b < b' ' || b == 0x7f)
}
