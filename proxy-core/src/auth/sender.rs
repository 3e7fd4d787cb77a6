//! Who sends a request: what its From says, and what proves it. Made once, before the stages; asked by all of them.
//!
//! | From | says that he is |
//! |---|---|
//! | `sip:` or `sips:` of a domain or an address of ours, whatever its port, case, escapes, dot at its end | that user of ours |
//! | the same without a user | one of ours, whom no password can prove |
//! | `tel:`, any other scheme, any other domain | nobody of ours |
//!
//! A port is no other name space: `alice@our.domain:9999` rings as alice, so that it is alice who has to prove it. A number
//! has no domain and thus nobody who could vouch for it (Kamailio's `from_uri==myself` says the same of it).
//!
//! | proved by | he is known | he is trusted: speaks for whom he likes | he is that user |
//! |---|---|---|---|
//! | a password (RFC 3261 §22) | yes | no | yes |
//! | the access list, by his address | yes | yes | if From says so |
//! | an address of a trunk (`--source`) | yes | yes | no: a trunk has no users of ours |
//! | the address that a trunk registers at | yes | no | no |
//! | nothing, and nobody is asked | no | no | if From says so |
//! | nothing | no | no | no |
//!
//! Nobody is asked where authentication is off. ACK and CANCEL cannot be asked (§22.1): they are worth what their INVITE was.

use std::net::SocketAddr;

use crate::engine::settings::Settings;
use crate::msg::{Message, Method};

/// What From says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Claim {
    /// He is the user of ours with this canonical address of record.
    Ours(String),
    /// He is somebody else.
    #[default]
    Other,
}

impl Claim {
    /// Of a message that came in at `local`.
    pub(crate) fn of(settings: &Settings, message: &Message<'_>, local: SocketAddr) -> Self {
        let from = message.from().and_then(|from| from.parse_uri());
        let ours = from.ok().filter(|uri| settings.is_our_user(uri, local));
        ours.and_then(|uri| settings.config.aor(&uri, Some(local))).map_or(Self::Other, Self::Ours)
    }

    /// The address of record, if it is of ours.
    pub(crate) fn aor(&self) -> Option<&str> {
        match self {
            Self::Ours(aor) => Some(aor),
            Self::Other => None,
        }
    }
}

/// The sender of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sender {
    claim: Claim,
    /// Whoever says that he is of ours has to prove it.
    asked: bool,
    /// Proved by password: `user@domain`.
    user: Option<String>,
    /// Proved by address: this trunk.
    trunk: Option<String>,
    trusted: bool,
}

impl Default for Sender {
    /// Nobody.
    fn default() -> Self {
        Self { claim: Claim::Other, asked: true, user: None, trunk: None, trusted: false }
    }
}

impl Sender {
    /// Of a request of which nothing is proved yet.
    pub(crate) fn of(
        settings: &Settings,
        message: &Message<'_>,
        method: Method<'_>,
        local: SocketAddr,
    ) -> Self {
        let asked = settings.asks() && !matches!(method, Method::Ack | Method::Cancel);
        Self { claim: Claim::of(settings, message, local), asked, ..Self::default() }
    }

    /// Of a copy of a call that came by this trunk.
    pub(crate) fn by_trunk(trunk: Option<String>) -> Self {
        Self { trunk, ..Self::default() }
    }

    /// His address is one of a trunk; `vouched` if an operator has said so.
    pub(crate) fn is_trunk(&mut self, uuid: String, vouched: bool) {
        self.trunk = Some(uuid);
        self.trusted |= vouched;
    }

    /// His address is on the access list.
    pub(crate) fn is_listed(&mut self) {
        self.trusted = true;
    }

    /// He has proved by password to be the user with this canonical address of record. That says more than where he is.
    pub(crate) fn is_user(&mut self, aor: &str) {
        self.user = Some(aor.strip_prefix("sip:").unwrap_or(aor).to_owned());
        if !self.trusted {
            self.trunk = None;
        }
    }

    /// What From says.
    pub(crate) fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Who he has proved to be by password: `user@domain`.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The trunk that he has proved to be by his address.
    pub(crate) fn trunk(&self) -> Option<&str> {
        self.trunk.as_deref()
    }

    /// Whether he may speak for whom he likes.
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// Whether those who say that they are of ours have to prove it.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked
    }

    /// Whether anything proves who he is.
    pub(crate) fn is_known(&self) -> bool {
        self.user.is_some() || self.trusted || self.trunk.is_some()
    }

    /// Whether he is a stranger where others have to prove who they are.
    pub(crate) fn is_stranger(&self) -> bool {
        self.asked && !self.is_known()
    }

    /// Whether From may be believed without a password.
    pub(crate) fn is_believed(&self) -> bool {
        self.trusted || (!self.asked && self.claim != Claim::Other)
    }

    /// Whether he is a user of ours, or somebody who may speak for one and does.
    pub(crate) fn is_of_ours(&self) -> bool {
        self.user.is_some() || (self.is_believed() && self.claim != Claim::Other)
    }

    /// The user of ours whom his calls count for: the canonical address of record.
    pub(crate) fn aor(&self) -> Option<String> {
        match &self.user {
            Some(user) => Some(format!("sip:{user}")),
            None if self.trunk.is_some() => None,
            None => self.claim.aor().filter(|_| self.is_believed()).map(str::to_owned),
        }
    }

    /// Whether he has proved by password to be the user with this canonical address of record.
    pub(crate) fn has_proved(&self, aor: &str) -> bool {
        self.user().is_some_and(|user| aor.strip_prefix("sip:").unwrap_or(aor) == user)
    }

    /// Whether he is the user with this canonical address of record, or somebody trusted who brings no calls of others.
    pub(crate) fn may_read(&self, aor: &str) -> bool {
        self.has_proved(aor) || (self.trusted && self.trunk.is_none())
    }
}
