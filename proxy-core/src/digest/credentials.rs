//! What a client says to prove itself: Authorization and Proxy-Authorization (RFC 7616 §3.4, RFC 3261 §22).

use super::fields::{Fields, unquoted};
use super::{Algorithm, Proof, same};
use crate::msg::{HeaderName, Message, Uri};

/// Sets of credentials in one request that are looked at.
const MAX_CREDENTIALS: usize = 16;

/// One set of credentials, as it came.
#[derive(Debug, Clone)]
pub struct Credentials<'a> {
    /// As it was typed into the phone: `\x` is `x`.
    pub username: String,
    /// For which challenge.
    pub realm: &'a str,
    /// From the challenge.
    pub nonce: &'a str,
    /// Request-URI as the client saw it; a proxy before us may have changed the one of the request (RFC 3261 §22.4).
    pub uri: &'a str,
    /// The proof, in hex.
    pub response: &'a str,
    /// MD5 where nothing is said (RFC 7616 §3.4).
    pub algorithm: Algorithm,
    /// qop, nc and cnonce; `None` for old phones (RFC 2069).
    qop: Option<(&'a str, &'a str, &'a str)>,
    /// Value of `nc`.
    pub count: Option<u32>,
}

impl<'a> Credentials<'a> {
    /// Reads the value of one header. `None` for other schemes, other algorithms and qop values than are asked for,
    /// and for what is not well-formed.
    #[must_use]
    pub fn read(value: &'a [u8]) -> Option<Self> {
        let fields = Fields::read(value)?;
        let algorithm = fields.get("algorithm").map_or(Some(Algorithm::Md5), Algorithm::from_token)?;
        let (qop, count) = match fields.get("qop") {
            None => (None, None),
            Some(qop) if qop.eq_ignore_ascii_case("auth") => {
                let nc = fields.get("nc").filter(|nc| nc.len() == 8)?;
                let count = u32::from_str_radix(nc, 16).ok()?;
                (Some((qop, nc, fields.get("cnonce")?)), Some(count))
            }
            Some(_) => return None,
        };
        Some(Self {
            username: unquoted(fields.get("username")?),
            realm: fields.get("realm")?,
            nonce: fields.get("nonce")?,
            uri: fields.get("uri")?,
            response: fields.get("response")?,
            algorithm,
            qop,
            count,
        })
    }

    /// The realm of the Digest credentials in the value of one header, whatever else is wrong with them.
    #[must_use]
    pub fn realm_in(value: &'a [u8]) -> Option<String> {
        Fields::read(value)?.get("realm").map(unquoted)
    }

    /// All that a request holds for one realm, in order. `name` is Authorization or Proxy-Authorization: these do not
    /// join with commas (RFC 3261 §7.3.1).
    pub fn of(message: &Message<'a>, name: HeaderName, realm: &str) -> Vec<Self> {
        message
            .header_lines()
            .filter(|line| line.name == name)
            .take(MAX_CREDENTIALS)
            .filter_map(|line| Self::read(line.value))
            .filter(|c| unquoted(c.realm) == realm)
            .collect()
    }

    /// Whether they were made for the Request-URI of this request (RFC 7616 §3.4.6, RFC 3261 §19.1.4).
    #[must_use]
    pub fn is_for(&self, request: &Message<'_>) -> bool {
        match (request.request_uri(), Uri::parse(self.uri)) {
            (Ok(asked), Ok(proven)) => asked.raw == proven.raw || asked.equivalent(&proven),
            _ => false,
        }
    }

    /// The proof of the server that it knows `ha1` (hex), too: the fields of Authentication-Info (RFC 7616 §3.5).
    /// `None` for clients that have sent no cnonce, or one that cannot be repeated in a header.
    #[must_use]
    pub fn mutual(&self, ha1: &str) -> Option<String> {
        let (qop, nc, cnonce) = self.qop?;
        if cnonce.bytes().any(|b| b < b' ' || b == 0x7f) {
            return None;
        }
        // As the client's, with nothing in place of the method.
        let proof = Proof { nonce: self.nonce, qop: self.qop, method: "", uri: self.uri, body: &[] };
        let rspauth = proof.response(self.algorithm, ha1);
        Some(format!("qop={qop}, rspauth=\"{rspauth}\", cnonce=\"{cnonce}\", nc={nc}"))
    }

    /// Whether the client knew the password behind `ha1` (hex). Takes the same time whatever the answer.
    #[must_use]
    pub fn proves(&self, ha1: &str, method: &str) -> bool {
        let proof = Proof { nonce: self.nonce, qop: self.qop, method, uri: self.uri, body: &[] };
        let want = proof.response(self.algorithm, ha1);
        same(want.as_bytes(), self.response.to_ascii_lowercase().as_bytes())
    }
}
