//! The judgement on one request. Pure: the answer leaves elsewhere.

use std::time::Duration;

use super::{AuthConfig, Claim};
use crate::digest::{Algorithm, Credentials, Nonce, Replay};
use crate::engine::settings::Settings;
use crate::location::aor_of;
use crate::msg::{HeaderName, Message, Method, Uri};
use crate::state::{Count, CountUse, Flow, NonceId, Provision, SipState, Subscriber};
use crate::time::WallTime;

/// What a request is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// By its source address. The tag of the access list entry.
    Trusted { tag: Option<String> },
    /// The subscriber with this AOR sent it, for this realm.
    Proven { aor: String, realm: String },
    /// It has to prove it first; with `stale` its password is known to be right.
    Challenge { realm: String, stale: bool },
    /// Proven, but it speaks for somebody else.
    OtherIdentity { aor: String },
    /// Proven, but the proof was made for another Request-URI.
    OtherUri,
    /// Nobody of ours.
    Stranger,
    /// No nonce can be made yet: the first key is on its way.
    NotReady,
}

/// Everything that a judgement is made of.
pub(crate) struct Court<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) state: &'a SipState,
    pub(crate) replay: &'a Replay,
    pub(crate) now: WallTime,
}

/// Who has proven to be whom.
pub(super) struct Subscribed {
    /// His canonical AOR.
    pub(super) aor: String,
    /// HA1 of the algorithm that he used, hex.
    pub(super) ha1: String,
}

/// The header that holds the credentials of a request (RFC 3261 §22.2, §22.3).
pub(crate) fn credentials_header(method: Method<'_>) -> HeaderName {
    if method == Method::Register { HeaderName::Authorization } else { HeaderName::ProxyAuthorization }
}

impl Court<'_> {
    pub(super) fn config(&self) -> &AuthConfig {
        &self.settings.config.auth
    }

    /// Judges a request that starts something, and whose From makes this claim. A subscriber who is `presumed` (`name@domain`, in an explanation) has proven
    /// who he is. With the judgement comes the nonce count that it has used.
    pub(crate) fn judge(
        &self,
        message: &Message<'_>,
        (method, claim): (Method<'_>, &Claim),
        flow: Flow,
        presumed: Option<&str>,
    ) -> (Judgement, Option<CountUse>) {
        let mut used = None;
        let judgement = self.judge_counting(message, (method, claim), flow, presumed, &mut used);
        (judgement, used)
    }

    fn judge_counting(
        &self,
        message: &Message<'_>,
        (method, claim): (Method<'_>, &Claim),
        flow: Flow,
        presumed: Option<&str>,
        used: &mut Option<CountUse>,
    ) -> Judgement {
        let is_register = method == Method::Register;
        if !is_register
            && let Some(group) = self.config().trusted_group
            && let Some((_, tag)) = self.state.acl_match(group, flow.remote.ip(), flow.remote.port())
        {
            return Judgement::Trusted { tag: tag.map(str::to_owned) };
        }
        if !is_register && *claim == Claim::Other {
            return Judgement::Stranger;
        }
        let (own, domain, realm) = self.identity(message, flow);
        let domain = domain.as_str();
        if self.state.provision().nonce_key().is_none() {
            return Judgement::NotReady;
        }
        let known = |aor: &str| self.state.provision().subscriber(aor).is_some_and(|s| s.realm == realm);
        let aor = match presumed.map(|user| format!("sip:{user}")).filter(|aor| known(aor)) {
            Some(aor) => aor,
            None => match self.proven_by_password(message, method, (&realm, domain), used) {
                Ok(aor) => aor,
                Err(judgement) => return judgement,
            },
        };
        let names_him = |uri: Result<Uri<'_>, _>| {
            uri.ok()
                .and_then(|u| self.settings.config.aor(&u, Some(flow.local)))
                .is_some_and(|named| named == aor)
        };
        let is_he = own == aor
            && match method {
                Method::Register => names_him(message.to().and_then(|to| to.parse_uri())),
                Method::Publish => names_him(message.request_uri()),
                _ => true,
            };
        if is_he { Judgement::Proven { aor, realm } } else { Judgement::OtherIdentity { aor } }
    }

    /// Whose password is behind the credentials of a request; else what they are worth.
    fn proven_by_password(
        &self,
        message: &Message<'_>,
        method: Method<'_>,
        (realm, domain): (&str, &str),
        used: &mut Option<CountUse>,
    ) -> Result<String, Judgement> {
        let offered = Credentials::of(message, credentials_header(method), realm);
        let mut proven = None;
        // Without a break: the time must not tell which of several was right.
        for credentials in &offered {
            if let Some(subscriber) = self.prove(credentials, method, realm, domain) {
                proven = proven.or(Some((subscriber, credentials)));
            }
        }
        let challenge = |stale| Judgement::Challenge { realm: realm.to_owned(), stale };
        let Some((Subscribed { aor, .. }, credentials)) = proven else { return Err(challenge(false)) };
        if self.config().check_uri && !credentials.is_for(message) {
            return Err(Judgement::OtherUri);
        }
        match self.fresh(credentials, realm, message) {
            Freshness::Stale => return Err(challenge(true)),
            Freshness::Uncounted => {}
            Freshness::Counted(using) => *used = Some(using),
        }
        Ok(aor)
    }

    /// Who the request says it is from (the canonical AOR, empty if there is none), of which domain, and the realm of
    /// that domain.
    pub(crate) fn identity(&self, message: &Message<'_>, flow: Flow) -> (String, String, String) {
        let from = message.from().and_then(|from| from.parse_uri());
        let own = from.ok().and_then(|uri| self.settings.config.aor(&uri, Some(flow.local)));
        let own = own.unwrap_or_default();
        let domain = own.rsplit_once('@').map_or_else(|| self.settings.config.home(), |(_, d)| d.to_owned());
        let realm = realm_of(self.state.provision(), self.config(), &domain);
        (own, domain, realm)
    }

    /// The subscriber, if his password is behind the credentials.
    pub(super) fn prove(
        &self,
        credentials: &Credentials<'_>,
        method: Method<'_>,
        realm: &str,
        domain: &str,
    ) -> Option<Subscribed> {
        let algorithm = credentials.algorithm;
        let aor = aor_of(&credentials.username, domain);
        let subscriber = aor.as_deref().and_then(|aor| self.state.provision().subscriber(aor));
        let is_usable = |s: &&Subscriber| s.realm == realm && s.username == credentials.username;
        let ha1 = subscriber.filter(is_usable).and_then(|s| algorithm.ha1_of(&s.ha1));
        let is_known = ha1.is_some() && self.config().algorithms.contains(&algorithm);
        // Nobody's: so that the way is as long for an account that is not there.
        let ha1 = ha1.unwrap_or_else(|| algorithm.hash(&[b"nobody"]));
        let is_right = credentials.proves(&ha1, method.as_str());
        aor.filter(|_| is_known && is_right).map(|aor| Subscribed { aor, ha1 })
    }

    /// Whether the nonce is one of ours that lives, and its count was not used.
    fn fresh(&self, credentials: &Credentials<'_>, realm: &str, message: &Message<'_>) -> Freshness {
        let life = self.config().nonce_life;
        let Some(nonce) = Nonce::read(credentials.nonce) else { return Freshness::Stale };
        let key = self.state.provision().nonce_key_of(nonce.key_id);
        if !key.is_some_and(|key| nonce.is_made_with(key, realm)) || !nonce.is_alive(self.now, life) {
            return Freshness::Stale;
        }
        // Old phones count nothing: what they say is good for as long as its nonce.
        let Some(count) = credentials.count else { return Freshness::Uncounted };
        let using = CountUse {
            nonce: NonceId { made_at: nonce.made_at, salt: nonce.salt, key_id: nonce.key_id },
            count,
            by: self.settings.keys.request_digest(message),
            at: self.now,
            ends: nonce.made_at + kept(life),
        };
        // What another node has taken, and what this one has.
        if self.state.nonce_counts().is_used(&using) || self.replay.take(&using) == Count::Used {
            return Freshness::Stale;
        }
        Freshness::Counted(using)
    }
}

/// What a nonce and its count are worth.
enum Freshness {
    Stale,
    /// Old phones count nothing.
    Uncounted,
    Counted(CountUse),
}

/// How long a count is remembered: a nonce from a clock that is ahead lives longer here than its life.
fn kept(life: Duration) -> Duration {
    life * 2
}

/// The realm of a domain (lower case): its own, or the one for all, or its name.
#[must_use]
pub fn realm_of(provision: &Provision, config: &AuthConfig, domain: &str) -> String {
    let own = provision.domain(domain).and_then(|d| d.realm.clone());
    own.or_else(|| config.realm.clone()).unwrap_or_else(|| domain.to_owned())
}

/// The challenges of one answer, best first (RFC 8760 §2.4): names and values of headers.
pub(crate) fn challenge_headers(
    config: &AuthConfig,
    is_register: bool,
    realm: &str,
    nonce: &str,
    stale: bool,
) -> Vec<(&'static str, String)> {
    let name = if is_register { HeaderName::WwwAuthenticate } else { HeaderName::ProxyAuthenticate }.as_str();
    let stale = if stale { ", stale=TRUE" } else { "" };
    let offered = config.algorithms.iter().filter(|a| **a != Algorithm::Sha512T256);
    offered
        .map(|algorithm| {
            let value = format!(
                "Digest realm=\"{}\", nonce=\"{nonce}\", qop=\"auth\", algorithm={algorithm}{stale}",
                crate::digest::quoted(realm)
            );
            (name, value)
        })
        .collect()
}
