//! Digest authentication: RFC 7616 with RFC 8760 for SIP, and what is left of RFC 2617 and RFC 2069 in phones.
//!
//! | file | does |
//! |---|---|
//! | `fields` | the comma list of parameters in challenges and credentials |
//! | `credentials` | Authorization and Proxy-Authorization: read, and held against HA1 |
//! | `nonce` | nonces: made with the replicated key, known again with it |
//! | `replay` | nonce counts: each is good once |
//! | `client` | answers to the challenges of others |
//!
//! Hashes are over the bytes as they came; a quoted value counts without its quotes and with its backslashes, as
//! phones and Kamailio count it.

mod client;
mod credentials;
mod fields;
mod nonce;
mod replay;

pub use client::{Asked, Challenge, Login, Password, Unanswerable, answer_challenge, challenges_of};
pub use credentials::Credentials;
pub(crate) use fields::quoted;
pub use nonce::Nonce;
pub use replay::Replay;

use std::fmt;
use std::fmt::Write as _;

use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};

use crate::state::Ha1;

/// A hash of RFC 8760 §2.4, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-512/256; only answered, never asked for: no HA1 of it is kept.
    Sha512T256,
    /// SHA-256.
    Sha256,
    /// MD5: broken for signatures, and all that most phones can do.
    Md5,
}

impl Algorithm {
    /// The token in the `algorithm` parameter.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Sha512T256 => "SHA-512-256",
            Self::Sha256 => "SHA-256",
            Self::Md5 => "MD5",
        }
    }

    /// Reads the token, in any case. Without the `-sess` variants.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        [Self::Sha512T256, Self::Sha256, Self::Md5]
            .into_iter()
            .find(|a| a.token().eq_ignore_ascii_case(token))
    }

    /// The hash of the parts with colons between them, in lower case hex.
    #[must_use]
    pub fn hash(self, parts: &[&[u8]]) -> String {
        match self {
            Self::Sha512T256 => hex(&run::<Sha512_256>(parts)),
            Self::Sha256 => hex(&run::<Sha256>(parts)),
            Self::Md5 => hex(&run::<Md5>(parts)),
        }
    }

    /// HA1 in hex, if an account has it for this algorithm.
    #[must_use]
    pub fn ha1_of(self, ha1: &Ha1) -> Option<String> {
        match self {
            Self::Sha512T256 => None,
            Self::Sha256 => ha1.sha256.map(|h| hex(&h)),
            Self::Md5 => ha1.md5.map(|h| hex(&h)),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// What is kept of a password (RFC 7616 §3.4.2), for both algorithms that are asked for.
#[must_use]
pub fn ha1(username: &str, realm: &str, password: &str) -> Ha1 {
    let parts = [username.as_bytes(), realm.as_bytes(), password.as_bytes()];
    Ha1 { md5: Some(run::<Md5>(&parts).into()), sha256: Some(run::<Sha256>(&parts).into()) }
}

fn run<H: Digest>(parts: &[&[u8]]) -> sha2::digest::Output<H> {
    let mut hasher = H::new();
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            hasher.update(b":");
        }
        hasher.update(part);
    }
    hasher.finalize()
}

/// The parts of a digest beside HA1 (RFC 7616 §3.4.1).
struct Proof<'a> {
    nonce: &'a str,
    /// qop, nc and cnonce as they stand in the header; `None` for RFC 2069.
    qop: Option<(&'a str, &'a str, &'a str)>,
    method: &'a str,
    uri: &'a str,
    /// Hashed for `auth-int` only.
    body: &'a [u8],
}

impl Proof<'_> {
    /// The `response` parameter.
    fn response(&self, algorithm: Algorithm, ha1: &str) -> String {
        let (method, uri) = (self.method.as_bytes(), self.uri.as_bytes());
        let ha2 = match self.qop {
            Some((qop, ..)) if qop.eq_ignore_ascii_case("auth-int") => {
                let body = algorithm.hash(&[self.body]);
                algorithm.hash(&[method, uri, body.as_bytes()])
            }
            _ => algorithm.hash(&[method, uri]),
        };
        let (ha1, ha2, nonce) = (ha1.as_bytes(), ha2.as_bytes(), self.nonce.as_bytes());
        match self.qop {
            None => algorithm.hash(&[ha1, nonce, ha2]),
            Some((qop, nc, cnonce)) => {
                algorithm.hash(&[ha1, nonce, nc.as_bytes(), cnonce.as_bytes(), qop.as_bytes(), ha2])
            }
        }
    }
}

/// Lower case hex.
fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// Reads hex of exactly `N` bytes, in any case.
#[must_use]
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |b: u8| char::from(b).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(out)
}

/// Whether both are equal, in a time that tells only their lengths: whoever measures it must not learn how much of
/// his guess was right.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    a.len() == b.len() && differing == 0
}
