//! Who may ask: Kamailio's AUTH block without its answers, which are in `crate::route`.
//!
//! | request | judged |
//! |---|---|
//! | not REGISTER, from a source in the trusted group | `Judgement::Trusted` |
//! | REGISTER, or From of a user of ours (`Sender`), with credentials that prove its user | `Judgement::Proven` |
//! | the same, without | `Judgement::Challenge` |
//! | proven, but From (REGISTER: To, PUBLISH: Request-URI) is somebody else | `Judgement::OtherIdentity` |
//! | proven, but for another Request-URI, where that is looked at | `Judgement::OtherUri` |
//! | From of others | `Judgement::Stranger` |
//!
//! A user that is not there is judged like a wrong password, in the same time: nobody learns who has an account.

mod counts;
mod info;
mod judge;
mod key;
mod sender;
mod strip;

pub use judge::realm_of;
pub(crate) use judge::{Court, Judgement, challenge_headers, credentials_header};
pub(crate) use sender::{Claim, Sender};
pub(crate) use strip::without_credentials;

use std::time::Duration;

use crate::digest::Algorithm;
use crate::state::NonceSecret;

/// The `[auth]` part of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// Whether anybody is asked. Off, every caller is taken for who he says he is.
    pub enabled: bool,
    /// Realm of all domains that have none of their own; the name of the domain if absent.
    pub realm: Option<String>,
    /// What is offered, best first; SHA-512/256 is passed over. MD5 alone by default, as in Kamailio: phones with an older
    /// libre (baresip 1.0) give up when they see another algorithm, also beside MD5.
    pub algorithms: Vec<Algorithm>,
    /// How long a nonce may be used.
    pub nonce_life: Duration,
    /// How long new nonces are made with the same key; at least twice the life of a nonce.
    pub key_life: Duration,
    /// Access list group whose sources are not asked (Kamailio's `allow_source_address`: 1).
    pub trusted_group: Option<u32>,
    /// Whether credentials count only for the Request-URI that they name (RFC 7616 §3.4.6). Off by default, as in
    /// Kamailio: a proxy before this one may have changed it (RFC 3261 §22.4).
    pub check_uri: bool,
    /// Whether the 200 to a REGISTER proves that the registrar knows the password, too, and hands out the next nonce
    /// (RFC 7616 §3.5; Kamailio's `add_authinfo_hdr`).
    pub info: bool,
    /// What this process draws keys of nonces from; of no use when it is not from the kernel's generator.
    pub seed: NonceSecret,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            realm: None,
            algorithms: vec![Algorithm::Md5],
            nonce_life: Duration::from_secs(300),
            key_life: Duration::from_secs(24 * 3600),
            trusted_group: None,
            check_uri: false,
            info: false,
            seed: NonceSecret::new([0; 32]),
        }
    }
}
