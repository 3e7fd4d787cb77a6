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

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CallId, Ha1};
use crate::time::WallTime;

/// All trunks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trunks {
    /// By [`Account::uuid`].
    pub trunks: BTreeMap<String, Trunk>,
}

/// One trunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trunk {
    /// What the operator said.
    pub account: Account,
    /// How its registration stands.
    pub registration: Registration,
}

/// A row of `uacreg`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// `l_uuid`: its name here.
    pub uuid: String,
    /// `l_username`: our user that calls to the account go to; empty: the Request-URI says who.
    pub local_user: String,
    /// `l_domain`: domain of that user; empty: our first one.
    pub local_domain: String,
    /// `r_username`: the account there, in From and To of the REGISTER.
    pub remote_user: String,
    /// `r_domain`: domain there, and Request-URI of the REGISTER.
    pub remote_domain: String,
    /// `realm` of the secret.
    pub realm: String,
    /// `auth_username`.
    pub auth_user: String,
    /// `auth_ha1`: what is kept of the password.
    pub ha1: Ha1,
    /// `auth_proxy`: where REGISTER and calls are sent; empty: to `remote_domain`.
    pub proxy: String,
    /// `expires` that is asked for, seconds; 0: calls only, no registration.
    pub expires_s: u32,
    /// User of the Contact; it is how the other side addresses us.
    pub contact_user: String,
    /// Addresses (`10.0.0.1`, `10.0.0.0/24`) that calls of this trunk come from.
    pub sources: Vec<String>,
    /// Switched off by the operator.
    pub disabled: bool,
}

impl Account {
    /// Whether it is to be registered.
    #[must_use]
    pub fn registers(&self) -> bool {
        !self.disabled && self.expires_s > 0
    }

    /// URI that requests of the trunk are sent to.
    #[must_use]
    pub fn next_hop(&self) -> String {
        if self.proxy.is_empty() { format!("sip:{}", self.remote_domain) } else { self.proxy.clone() }
    }
}

impl Trunk {
    /// Whether there is, or will be, a REGISTER to send: also the one that ends the registration of a trunk that has
    /// been switched off.
    #[must_use]
    pub fn wants_register(&self) -> bool {
        self.account.registers() || self.registration.state != RegistrationState::Idle
    }
}

/// How a registration stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Call-ID of all its REGISTERs.
    pub call_id: CallId,
    /// CSeq of the newest one.
    pub cseq: u32,
    /// Where it stands.
    pub state: RegistrationState,
    /// When the next REGISTER is due.
    pub next_at: WallTime,
    /// Until when the registrar has us; in the past: it has not.
    pub expires_at: WallTime,
    /// Failures in a row.
    pub failures: u32,
    /// Expiry the registrar wants at least (423), seconds.
    pub min_expires_s: u32,
    /// What happened last, for the operator.
    pub last: String,
}

/// See the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegistrationState {
    /// Not begun, or switched off.
    Idle,
    /// A REGISTER is under way.
    Ongoing,
    /// The registrar has us.
    Registered,
    /// The registrar, or the network, has refused.
    Failed,
}

/// A change of the trunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrunkCommand {
    /// Adds a trunk, or changes the one of that name. Its registration goes on, and is due at once.
    Put {
        /// What the operator said.
        account: Box<Account>,
        /// Call-ID of its registration, if it is new.
        call_id: CallId,
        /// Wall time of the proposer.
        at: WallTime,
    },
    /// Removes a trunk.
    Remove {
        /// Which.
        uuid: String,
    },
    /// Switches a trunk on or off.
    Enable {
        /// Which.
        uuid: String,
        /// On?
        enabled: bool,
        /// Wall time of the proposer.
        at: WallTime,
    },
    /// The next REGISTER is due now.
    Refresh {
        /// Which.
        uuid: String,
        /// Wall time of the proposer.
        at: WallTime,
    },
    /// A REGISTER with this CSeq is about to be sent. One that is not higher than the last is refused.
    Registering {
        /// Which.
        uuid: String,
        /// Its CSeq.
        cseq: u32,
        /// When another one is due, should nothing be heard of this one.
        next_at: WallTime,
    },
    /// What came of the REGISTER with this CSeq.
    Outcome {
        /// Which.
        uuid: String,
        /// Its CSeq: what came of an older one is no news.
        cseq: u32,
        /// What it is now.
        state: RegistrationState,
        /// When the next one is due.
        next_at: WallTime,
        /// Until when the registrar has us, if that changed.
        expires_at: Option<WallTime>,
        /// Expiry the registrar wants at least, if it said so.
        min_expires_s: Option<u32>,
        /// For the operator.
        last: String,
    },
}
