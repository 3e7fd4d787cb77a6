//! What the operator provisions: subscribers, domains, aliases, access lists; and the key of digest nonces.
//!
//! Kamailio keeps these in its tables `subscriber`, `domain`, `dbaliases` and `address`. Of a password only HA1 is
//! kept (RFC 7616 §3.4.2): with it requests can be judged, but nobody can read what the user typed elsewhere, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::pmap::PMap;
use crate::time::WallTime;

/// `H(username:realm:password)` by algorithm (RFC 7616 §3.4.2). At least one is there; an account that came from
/// Kamailio's `subscriber` table has only the first.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Ha1 {
    /// With MD5 (RFC 2617).
    #[cbor(n(0), with = "crate::wire::opt_bytes", has_nil)]
    pub md5: Option<[u8; 16]>,
    /// With SHA-256 (RFC 8760).
    #[cbor(n(1), with = "crate::wire::opt_bytes", has_nil)]
    pub sha256: Option<[u8; 32]>,
}

impl Ha1 {
    /// Whether no request could ever be accepted with it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.md5.is_none() && self.sha256.is_none()
    }
}

impl fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It is as good as the password, and debug output ends up in logs.
        write!(f, "Ha1 {{ md5: {}, sha256: {} }}", self.md5.is_some(), self.sha256.is_some())
    }
}

/// Who may register and call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Subscriber {
    /// As it stands in credentials, unescaped.
    #[n(0)]
    pub username: String,
    /// Lower case.
    #[n(1)]
    pub domain: String,
    /// For which the HA1 were made.
    #[n(2)]
    pub realm: String,
    /// What a password leaves behind.
    #[n(3)]
    pub ha1: Ha1,
}

/// A domain that counts as local beside the configured ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Domain {
    /// Lower case.
    #[n(0)]
    pub name: String,
    /// Realm of its challenges, where it is not the configured one or the name itself.
    #[n(1)]
    pub realm: Option<String>,
}

/// Source addresses: a row of Kamailio's `address` table but its tag.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Encode, Decode, CborLen,
)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct AclKey {
    /// `grp`.
    #[n(0)]
    pub group: u32,
    /// Network address; bits behind the prefix are 0, IPv4 is never written as IPv6.
    #[cbor(n(1), with = "crate::wire::ip")]
    pub address: IpAddr,
    /// Prefix length in bits.
    #[n(2)]
    pub prefix: u8,
    /// Source port; 0 is any.
    #[n(3)]
    pub port: u16,
}

impl AclKey {
    /// The same source, written the one way in which it is kept; `None` when the prefix is longer than the address.
    #[must_use]
    pub fn canonical(self) -> Option<Self> {
        let address = network(self.address, self.prefix)?;
        Some(Self { address, ..self })
    }
}

/// What nonces are made with: anybody who has it can make them, so that it is not shown in debug output.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", transparent)]
pub struct NonceSecret(#[cbor(n(0), with = "minicbor::bytes")] [u8; 32]);

impl NonceSecret {
    /// Wraps 32 bytes that nobody can foretell.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for NonceSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceSecret")
    }
}

/// A secret by which nonces are made and known again. Replicated, so that a challenge that was given before a
/// takeover is valid after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct NonceKey {
    /// Names it in a nonce; one more with each rotation.
    #[n(0)]
    pub id: u32,
    /// Drawn by the proposer.
    #[n(1)]
    pub secret: NonceSecret,
    /// When it was drawn.
    #[n(2)]
    pub made_at: WallTime,
}

/// All that is provisioned. Field order is the serialised form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Provision {
    /// By domain, then by the user part of the AOR.
    #[cbor(n(0), with = "crate::wire::map_of_maps", has_nil)]
    pub(super) subscribers: PMap<String, PMap<String, Subscriber>>,
    #[cbor(n(1), with = "crate::wire::map", has_nil)]
    pub(super) domains: PMap<String, Domain>,
    /// One more with each change of `domains`, so that an engine sees cheaply that it has to look again.
    #[n(2)]
    pub(super) domains_revision: u64,
    /// AOR to AOR, both canonical.
    #[cbor(n(3), with = "crate::wire::map", has_nil)]
    pub(super) aliases: PMap<String, String>,
    /// With tags.
    #[cbor(n(4), with = "crate::wire::map", has_nil)]
    pub(super) acl: PMap<AclKey, Option<String>>,
    /// The one that makes nonces, and the one before it.
    #[cbor(n(5), with = "crate::wire::opt", has_nil)]
    pub(super) nonce_key: Option<NonceKey>,
    #[cbor(n(6), with = "crate::wire::opt", has_nil)]
    pub(super) old_nonce_key: Option<NonceKey>,
}

impl Provision {
    /// The subscriber with this canonical AOR (`sip:user@domain`).
    #[must_use]
    pub fn subscriber(&self, aor: &str) -> Option<&Subscriber> {
        let (user, domain) = split_aor(aor)?;
        self.subscribers.get(domain)?.get(user)
    }

    /// All subscribers with their AOR, by domain, then by name.
    pub fn subscribers(&self) -> impl Iterator<Item = (String, &Subscriber)> {
        self.subscribers.iter().flat_map(|(domain, users)| {
            users.iter().map(move |(user, s)| (format!("sip:{user}@{domain}"), s))
        })
    }

    /// The subscribers of one domain with the user part of their AOR, by name.
    pub fn subscribers_of(&self, domain: &str) -> impl Iterator<Item = (&str, &Subscriber)> {
        self.subscribers.get(domain).into_iter().flatten().map(|(user, s)| (user.as_str(), s))
    }

    /// How many subscribers a domain has. Costs one look-up.
    #[must_use]
    pub fn subscriber_count(&self, domain: &str) -> usize {
        self.subscribers.get(domain).map_or(0, PMap::len)
    }

    /// A domain, by its name in lower case.
    #[must_use]
    pub fn domain(&self, name: &str) -> Option<&Domain> {
        self.domains.get(name)
    }

    /// All domains by name.
    pub fn domains(&self) -> impl Iterator<Item = &Domain> {
        self.domains.values()
    }

    /// Changes with the domains.
    #[must_use]
    pub fn domains_revision(&self) -> u64 {
        self.domains_revision
    }

    /// Whom a canonical AOR stands for.
    #[must_use]
    pub fn alias(&self, aor: &str) -> Option<&str> {
        self.aliases.get(aor).map(String::as_str)
    }

    /// All aliases and what they stand for, by alias.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, &str)> {
        self.aliases.iter().map(|(a, t)| (a.as_str(), t.as_str()))
    }

    /// All access list entries with their tags, by group.
    pub fn acl(&self) -> impl Iterator<Item = (&AclKey, Option<&str>)> {
        self.acl.iter().map(|(k, tag)| (k, tag.as_deref()))
    }

    /// The key that makes nonces; none before the first was proposed.
    #[must_use]
    pub fn nonce_key(&self) -> Option<&NonceKey> {
        self.nonce_key.as_ref()
    }

    /// The key that a nonce names: the newest or the one before.
    #[must_use]
    pub fn nonce_key_of(&self, id: u32) -> Option<&NonceKey> {
        [&self.nonce_key, &self.old_nonce_key].into_iter().flatten().find(|k| k.id == id)
    }
}

/// User and domain of a canonical AOR.
pub(super) fn split_aor(aor: &str) -> Option<(&str, &str)> {
    aor.strip_prefix("sip:")?.rsplit_once('@')
}

/// `address` without the bits behind `prefix`; `None` when there are not so many bits. An IPv4 address in IPv6 form
/// becomes IPv4; `prefix` is counted in that form then.
pub(super) fn network(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32u32.checked_sub(u32::from(prefix))?).unwrap_or(0);
            Some(IpAddr::V4((v4.to_bits() & mask).into()))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128u32.checked_sub(u32::from(prefix))?).unwrap_or(0);
            Some(IpAddr::V6((v6.to_bits() & mask).into()))
        }
    }
}

/// What is derived from [`Provision`]: counts, sizes, and the ways back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ProvisionIndex {
    pub(super) subscriber_count: u64,
    /// Target and alias.
    pub(super) aliases_of: BTreeSet<(String, String)>,
    /// How many entries a group has by family and prefix length: those lengths are looked up.
    pub(super) prefixes: BTreeMap<(u32, bool, u8), u32>,
}

impl ProvisionIndex {
    /// The index, and the bytes of text in all records.
    pub(super) fn build(records: &Provision) -> (Self, u64) {
        let mut this = Self::default();
        let mut bytes = 0;
        for (domain, users) in &records.subscribers {
            this.subscriber_count += users.len() as u64;
            bytes += users.iter().map(|(user, s)| subscriber_bytes(domain, user, s)).sum::<u64>();
        }
        bytes += records.domains.values().map(domain_bytes).sum::<u64>();
        for (alias, target) in &records.aliases {
            this.aliases_of.insert((target.clone(), alias.clone()));
            bytes += alias_bytes(alias, target);
        }
        for (key, tag) in &records.acl {
            this.add_prefix(key);
            bytes += acl_bytes(tag.as_deref());
        }
        (this, bytes)
    }

    pub(super) fn add_prefix(&mut self, key: &AclKey) {
        *self.prefixes.entry((key.group, key.address.is_ipv6(), key.prefix)).or_default() += 1;
    }

    pub(super) fn remove_prefix(&mut self, key: &AclKey) {
        let of = (key.group, key.address.is_ipv6(), key.prefix);
        if let Some(count) = self.prefixes.get_mut(&of) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.prefixes.remove(&of);
            }
        }
    }
}

/// Bytes of a subscriber, with its place.
pub(super) fn subscriber_bytes(domain: &str, user: &str, s: &Subscriber) -> u64 {
    let ha1 = s.ha1.md5.map_or(0, |h| h.len()) + s.ha1.sha256.map_or(0, |h| h.len());
    (domain.len() + user.len() + s.username.len() + s.domain.len() + s.realm.len() + ha1) as u64
}

/// Bytes of a domain, with its key.
pub(super) fn domain_bytes(d: &Domain) -> u64 {
    (2 * d.name.len() + d.realm.as_ref().map_or(0, String::len)) as u64
}

/// Bytes of an alias.
pub(super) fn alias_bytes(alias: &str, target: &str) -> u64 {
    (alias.len() + target.len()) as u64
}

/// Bytes of an access list entry: its key, and its tag.
pub(super) fn acl_bytes(tag: Option<&str>) -> u64 {
    (size_of::<AclKey>() + tag.map_or(0, str::len)) as u64
}
