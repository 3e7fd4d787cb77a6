//! The other side: answers to the challenges of trunks (RFC 3261 §22.2 and §22.3, RFC 8760 §2.4).

use std::fmt::Write as _;

use super::fields::{Fields, quoted, unquoted};
use super::{Algorithm, Proof};
use crate::msg::{HeaderName, Message};
use crate::state::Ha1;

/// Challenges of one response that are looked at.
const MAX_CHALLENGES: usize = 16;

/// A challenge as it came, kept by who wants to answer it again with the next count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Where the answer goes: Authorization or Proxy-Authorization.
    pub header: HeaderName,
    /// Unquoted.
    pub realm: String,
    /// As it came, between its quotes.
    pub nonce: String,
    /// As it came, between its quotes.
    pub opaque: Option<String>,
    /// The hash it asks for.
    pub algorithm: Algorithm,
    /// A `-sess` variant: HA1 includes nonce and cnonce (RFC 7616 §3.4.2).
    pub session: bool,
    /// `auth` or `auth-int`; `None` for old servers (RFC 2069).
    pub qop: Option<&'static str>,
    /// The nonce before was too old, but the password is right. Without it a second challenge means that it is wrong.
    pub stale: bool,
}

/// Who answers.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// User name for the digest.
    pub username: &'a str,
    /// Its secret.
    pub password: Password<'a>,
}

/// A secret.
#[derive(Clone, Copy)]
pub enum Password<'a> {
    /// As it was given: good for every realm and algorithm.
    Text(&'a str),
    /// Made for one realm; good for the algorithms that it holds.
    Ha1 {
        /// The realm.
        realm: &'a str,
        /// What is kept of the password.
        ha1: &'a Ha1,
    },
}

impl std::fmt::Debug for Password<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

/// The request that is to be sent again.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its Request-URI.
    pub uri: &'a str,
    /// Its body, for `auth-int`.
    pub body: &'a [u8],
    /// Something that nobody can foretell; no quotes.
    pub cnonce: &'a str,
    /// How often the nonce has been used, this time included: from 1.
    pub count: u32,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswerable {
    /// No Digest challenge, or none with a known algorithm and qop.
    #[error("no challenge that can be answered")]
    NoChallenge,
    /// The secret is for another realm, or not for that algorithm.
    #[error("the secret is for another realm or algorithm")]
    NoSecret,
}

impl Challenge {
    /// Reads the value of WWW-Authenticate (answered in Authorization) or Proxy-Authenticate.
    #[must_use]
    pub fn read(header: HeaderName, value: &[u8]) -> Option<Self> {
        let header = match header {
            HeaderName::WwwAuthenticate => HeaderName::Authorization,
            HeaderName::ProxyAuthenticate => HeaderName::ProxyAuthorization,
            _ => return None,
        };
        let fields = Fields::read(value)?;
        let (algorithm, session) = match fields.get("algorithm") {
            None => (Algorithm::Md5, false),
            Some(token) => {
                let cut = token.len().saturating_sub("-sess".len());
                match token.split_at_checked(cut) {
                    Some((name, tail)) if tail.eq_ignore_ascii_case("-sess") => {
                        (Algorithm::from_token(name)?, true)
                    }
                    _ => (Algorithm::from_token(token)?, false),
                }
            }
        };
        let offers = |text: &str, qop: &str| text.split(',').any(|q| q.trim().eq_ignore_ascii_case(qop));
        let qop = match fields.get("qop") {
            None | Some("") => None,
            Some(text) if offers(text, "auth") => Some("auth"),
            Some(text) if offers(text, "auth-int") => Some("auth-int"),
            Some(_) => return None,
        };
        Some(Self {
            header,
            realm: unquoted(fields.get("realm")?),
            nonce: fields.get("nonce")?.to_owned(),
            opaque: fields.get("opaque").map(str::to_owned),
            algorithm,
            session,
            qop,
            stale: fields.get("stale").is_some_and(|s| s.eq_ignore_ascii_case("true")),
        })
    }

    /// The value of the header [`Challenge::header`].
    ///
    /// # Errors
    /// [`Unanswerable::NoSecret`].
    pub fn answer(&self, login: &Login<'_>, asked: &Asked<'_>) -> Result<String, Unanswerable> {
        let username = quoted(login.username);
        let realm = quoted(&self.realm);
        let ha1 = match login.password {
            Password::Text(password) => {
                self.algorithm.hash(&[username.as_bytes(), realm.as_bytes(), password.as_bytes()])
            }
            Password::Ha1 { realm, ha1 } if realm == self.realm => {
                self.algorithm.ha1_of(ha1).ok_or(Unanswerable::NoSecret)?
            }
            Password::Ha1 { .. } => return Err(Unanswerable::NoSecret),
        };
        let ha1 = if self.session {
            self.algorithm.hash(&[ha1.as_bytes(), self.nonce.as_bytes(), asked.cnonce.as_bytes()])
        } else {
            ha1
        };
        let nc = format!("{:08x}", asked.count);
        let qop = self.qop.map(|qop| (qop, nc.as_str(), asked.cnonce));
        let proof = Proof { nonce: &self.nonce, qop, method: asked.method, uri: asked.uri, body: asked.body };
        let response = proof.response(self.algorithm, &ha1);
        let mut out = format!(
            "Digest username=\"{username}\", realm=\"{realm}\", nonce=\"{}\", uri=\"{}\", response=\"{response}\"",
            self.nonce, asked.uri,
        );
        // Writing to a String cannot fail.
        let session = if self.session { "-sess" } else { "" };
        let _ = write!(out, ", algorithm={}{session}", self.algorithm);
        match self.qop {
            Some(qop) => {
                let _ = write!(out, ", qop={qop}, nc={nc}, cnonce=\"{}\"", asked.cnonce);
            }
            None if self.session => {
                let _ = write!(out, ", cnonce=\"{}\"", asked.cnonce);
            }
            None => {}
        }
        if let Some(opaque) = &self.opaque {
            let _ = write!(out, ", opaque=\"{opaque}\"");
        }
        Ok(out)
    }
}

/// The challenges of a 401 or 407 that can be answered: for each realm the first one, which is the one its server
/// likes best (RFC 8760 §2.4). A response that several proxies had a hand in may hold several realms.
#[must_use]
pub fn challenges_of(response: &Message<'_>) -> Vec<Challenge> {
    let mut list: Vec<Challenge> = Vec::new();
    let lines = response
        .header_lines()
        .filter(|line| matches!(line.name, HeaderName::WwwAuthenticate | HeaderName::ProxyAuthenticate));
    for challenge in lines.take(MAX_CHALLENGES).filter_map(|l| Challenge::read(l.name, l.value)) {
        if !list.iter().any(|c| c.header == challenge.header && c.realm == challenge.realm) {
            list.push(challenge);
        }
    }
    list
}

/// The headers that answer a 401 or 407: names and values, to be put into the request when it is sent again with the
/// next CSeq (RFC 3261 §22.2). A realm for which there is no secret is passed over if another is answered.
///
/// # Errors
/// [`Unanswerable`] when there is nothing to answer, or nothing to answer with.
pub fn answer_challenge(
    response: &Message<'_>,
    login: &Login<'_>,
    asked: &Asked<'_>,
) -> Result<Vec<(&'static str, String)>, Unanswerable> {
    let challenges = challenges_of(response);
    if challenges.is_empty() {
        return Err(Unanswerable::NoChallenge);
    }
    let answers: Vec<(&'static str, String)> =
        challenges.iter().filter_map(|c| Some((c.header.as_str(), c.answer(login, asked).ok()?))).collect();
    if answers.is_empty() { Err(Unanswerable::NoSecret) } else { Ok(answers) }
}
