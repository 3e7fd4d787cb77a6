//! Trunks: accounts at other registrars, as Kamailio keeps them in its table `uacreg`.
//!
//! | registration | left by |
//! |---|---|
//! | Idle | it is due: `Registering` |
//! | Ongoing | a final response, or none: `Registered`, `Failed`; a node that takes over begins at once again |
//! | Registered | a refresh is due, or the operator asks for one |
//! | Failed | the back-off is over |
//!
//! The CSeq of a REGISTER is replicated before it is sent and only ever grows; Call-ID and Contact never change while
//! the trunk is there. So whichever node sends the next one, the registrar sees one client.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::pmap::PMap;
use super::provision::network;
use super::trunk_style::TrunkStyle;
use super::{CallId, Ha1};
use crate::msg::Uri;
use crate::time::WallTime;

/// All trunks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Trunks {
    /// By [`Account::uuid`].
    #[cbor(n(0), with = "crate::wire::map", has_nil)]
    pub trunks: PMap<String, Trunk>,
}

/// One trunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Trunk {
    /// What the operator said.
    #[n(0)]
    pub account: Account,
    /// How its registration stands.
    #[n(1)]
    pub registration: Registration,
    /// It does not answer probes.
    #[n(2)]
    pub down: bool,
}

/// A row of `uacreg`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Account {
    /// `l_uuid`: its name here.
    #[n(0)]
    pub uuid: String,
    /// `l_username`: our user that calls to the account go to; empty: the Request-URI says who.
    #[n(1)]
    pub local_user: String,
    /// `l_domain`: domain of that user; empty: our first one.
    #[n(2)]
    pub local_domain: String,
    /// `r_username`: the account there, in From and To of the REGISTER.
    #[n(3)]
    pub remote_user: String,
    /// `r_domain`: domain there, and Request-URI of the REGISTER.
    #[n(4)]
    pub remote_domain: String,
    /// `realm` of the secret.
    #[n(5)]
    pub realm: String,
    /// `auth_username`.
    #[n(6)]
    pub auth_user: String,
    /// `auth_ha1`: what is kept of the password.
    #[n(7)]
    pub ha1: Ha1,
    /// `auth_proxy`: where REGISTER and calls are sent; empty: to `remote_domain`.
    #[n(8)]
    pub proxy: String,
    /// `expires` that is asked for, seconds; 0: calls only, no registration.
    #[n(9)]
    pub expires_s: u32,
    /// User of the Contact; it is how the other side addresses us.
    #[n(10)]
    pub contact_user: String,
    /// Addresses (`10.0.0.1`, `10.0.0.0/24`) that calls of this trunk come from.
    #[cbor(n(11), with = "crate::wire::list", has_nil)]
    pub sources: Vec<String>,
    /// Switched off by the operator.
    #[n(12)]
    pub disabled: bool,
    /// How calls out look there.
    #[n(13)]
    pub style: TrunkStyle,
}

impl Account {
    /// Whether it is to be registered.
    #[must_use]
    pub fn registers(&self) -> bool {
        !self.disabled && self.expires_s > 0
    }

    /// Whether calls from this address are of the trunk.
    #[must_use]
    pub fn is_source(&self, address: IpAddr) -> bool {
        self.sources.iter().filter_map(|s| source(s)).any(|(n, prefix)| network(address, prefix) == Some(n))
    }

    /// Whether it registers at this address, and at it alone: a name may stand for others by the time that one calls.
    #[must_use]
    pub fn registers_at(&self, address: IpAddr) -> bool {
        let next = self.next_hop();
        let host = Uri::parse(&next).ok().and_then(|uri| uri.host.ip());
        self.registers() && host.is_some_and(|ip| ip.to_canonical() == address.to_canonical())
    }

    /// Its URI at the other side.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("sip:{}@{}", self.remote_user, self.remote_domain)
    }

    /// URI that requests of the trunk are sent to.
    #[must_use]
    pub fn next_hop(&self) -> String {
        if self.proxy.is_empty() { format!("sip:{}", self.remote_domain) } else { self.proxy.clone() }
    }
}

impl Trunk {
    /// Whether it is asked by OPTIONS whether it is there.
    #[must_use]
    pub fn is_probed(&self) -> bool {
        self.account.style.probe && !self.account.disabled
    }

    /// Whether there is, or will be, a REGISTER to send: also the one that ends the registration of a trunk that has
    /// been switched off.
    #[must_use]
    pub fn wants_register(&self) -> bool {
        self.account.registers() || self.registration.state != RegistrationState::Idle
    }
}

/// An entry of [`Account::sources`]: the network and its prefix length. `None` if it is neither an address nor a block.
#[must_use]
pub fn source(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address = address.parse::<IpAddr>().ok()?.to_canonical();
    let prefix = prefix.unwrap_or(if address.is_ipv4() { 32 } else { 128 });
    Some((network(address, prefix)?, prefix))
}

/// Ways back to the trunks, derived from them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TrunkIndex {
    /// When the next REGISTER of each is due.
    pub(super) due: BTreeSet<(WallTime, String)>,
    by_contact: BTreeSet<(String, String)>,
    by_source: BTreeSet<(u8, IpAddr, String)>,
    /// How many entries of `by_source` there are by prefix length: those are looked up.
    prefixes: BTreeMap<u8, u32>,
    /// Grows whenever a trunk that is down comes in.
    pub(super) losses: Losses,
}

/// How often a trunk was found dead: history, which the records do not tell, so that any two are as good as equal.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Losses(pub(super) u64);

impl PartialEq for Losses {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Losses {}

impl TrunkIndex {
    pub(super) fn add(&mut self, trunk: &Trunk) {
        let uuid = &trunk.account.uuid;
        self.losses.0 += u64::from(trunk.down);
        if trunk.wants_register() {
            self.due.insert((trunk.registration.next_at, uuid.clone()));
        }
        self.by_contact.insert((trunk.account.contact_user.clone(), uuid.clone()));
        for (network, prefix) in trunk.account.sources.iter().filter_map(|s| source(s)) {
            if self.by_source.insert((prefix, network, uuid.clone())) {
                *self.prefixes.entry(prefix).or_default() += 1;
            }
        }
    }

    pub(super) fn remove(&mut self, trunk: &Trunk) {
        let uuid = &trunk.account.uuid;
        self.due.remove(&(trunk.registration.next_at, uuid.clone()));
        self.by_contact.remove(&(trunk.account.contact_user.clone(), uuid.clone()));
        for (network, prefix) in trunk.account.sources.iter().filter_map(|s| source(s)) {
            if self.by_source.remove(&(prefix, network, uuid.clone()))
                && let Some(count) = self.prefixes.get_mut(&prefix)
            {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.prefixes.remove(&prefix);
                }
            }
        }
    }

    /// Trunks with this user in their Contact.
    pub(super) fn with_contact<'s>(&'s self, user: &'s str) -> impl Iterator<Item = &'s str> {
        let from = (user.to_owned(), String::new());
        self.by_contact.range(from..).take_while(move |(u, _)| u == user).map(|(_, uuid)| uuid.as_str())
    }

    /// Trunks whose calls come from this address, the longest prefix first.
    pub(super) fn with_source(&self, address: IpAddr) -> impl Iterator<Item = &str> {
        self.prefixes.keys().rev().flat_map(move |prefix| {
            let network = network(address, *prefix);
            let from = network.map(|n| (*prefix, n, String::new()));
            let range = from.map(|from| self.by_source.range(from..));
            range
                .into_iter()
                .flatten()
                .take_while(move |(p, n, _)| p == prefix && Some(*n) == network)
                .map(|(_, _, uuid)| uuid.as_str())
        })
    }
}

/// How a registration stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Registration {
    /// Call-ID of all its REGISTERs.
    #[n(0)]
    pub call_id: CallId,
    /// CSeq of the newest one.
    #[n(1)]
    pub cseq: u32,
    /// Where it stands.
    #[n(2)]
    pub state: RegistrationState,
    /// When the next REGISTER is due.
    #[n(3)]
    pub next_at: WallTime,
    /// Until when the registrar has us; in the past: it has not.
    #[n(4)]
    pub expires_at: WallTime,
    /// Failures in a row.
    #[n(5)]
    pub failures: u32,
    /// Expiry the registrar wants at least (423), seconds.
    #[n(6)]
    pub min_expires_s: u32,
    /// What happened last, for the operator.
    #[n(7)]
    pub last: String,
    /// Service-Route of the registrar (RFC 3608): the Route of calls out.
    #[cbor(n(8), with = "crate::wire::list", has_nil)]
    pub service_route: Vec<String>,
}

/// See the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", index_only)]
pub enum RegistrationState {
    /// Not begun, or switched off.
    #[n(0)]
    Idle,
    /// A REGISTER is under way.
    #[n(1)]
    Ongoing,
    /// The registrar has us.
    #[n(2)]
    Registered,
    /// The registrar, or the network, has refused.
    #[n(3)]
    Failed,
}

/// A change of the trunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", flat)]
pub enum TrunkCommand {
    /// Adds a trunk, or changes the one of that name. Its registration goes on, and is due at once.
    #[n(0)]
    Put {
        /// What the operator said.
        #[n(0)]
        account: Box<Account>,
        /// Call-ID of its registration, if it is new.
        #[n(1)]
        call_id: CallId,
        /// Wall time of the proposer.
        #[n(2)]
        at: WallTime,
    },
    /// Removes a trunk.
    #[n(1)]
    Remove {
        /// Which.
        #[n(0)]
        uuid: String,
    },
    /// Switches a trunk on or off.
    #[n(2)]
    Enable {
        /// Which.
        #[n(0)]
        uuid: String,
        /// On?
        #[n(1)]
        enabled: bool,
        /// Wall time of the proposer.
        #[n(2)]
        at: WallTime,
    },
    /// The next REGISTER is due now.
    #[n(3)]
    Refresh {
        /// Which.
        #[n(0)]
        uuid: String,
        /// Wall time of the proposer.
        #[n(1)]
        at: WallTime,
    },
    /// A REGISTER with this CSeq is about to be sent. One that is not higher than the last is refused, and so is one that is
    /// not due any more: what came of the last one was committed meanwhile.
    #[n(4)]
    Registering {
        /// Which.
        #[n(0)]
        uuid: String,
        /// Its CSeq.
        #[n(1)]
        cseq: u32,
        /// When another one is due, should nothing be heard of this one.
        #[n(2)]
        next_at: WallTime,
        /// Wall time of the proposer.
        #[n(3)]
        at: WallTime,
    },
    /// What came of the REGISTER with this CSeq.
    #[n(5)]
    Outcome {
        /// Which.
        #[n(0)]
        uuid: String,
        /// Its CSeq: what came of an older one is no news.
        #[n(1)]
        cseq: u32,
        /// What it is now.
        #[n(2)]
        state: RegistrationState,
        /// When the next one is due.
        #[n(3)]
        next_at: WallTime,
        /// Until when the registrar has us, if that changed.
        #[n(4)]
        expires_at: Option<WallTime>,
        /// Expiry the registrar wants at least, if it said so.
        #[n(5)]
        min_expires_s: Option<u32>,
        /// The routes that calls out take, if it said so.
        #[cbor(n(6), with = "crate::wire::opt_list", has_nil)]
        service_route: Option<Vec<String>>,
        /// For the operator.
        #[n(7)]
        last: String,
    },
    /// Probes have found it there, or not.
    #[n(6)]
    Probed {
        /// Which.
        #[n(0)]
        uuid: String,
        /// There?
        #[n(1)]
        up: bool,
    },
    /// Calls out look otherwise from now on; its registration does not care.
    #[n(7)]
    Style {
        /// Which.
        #[n(0)]
        uuid: String,
        /// How.
        #[n(1)]
        style: TrunkStyle,
    },
}
