//! One Contact of a REGISTER: key, expiry, and whether a NAT stands before it.

use std::fmt::Write as _;

use crate::io::EngineConfig;
use crate::msg::{NameAddr, Uri};

/// The key by which contacts are told apart: equal texts for URIs that a phone would not mean to differ.
///
/// The rules are those of §19.1.4: the user by its unescaped characters, host and parameters without regard to case,
/// parameters in any order, a given port apart from an absent one. One rule cannot be had, as it is not transitive: a
/// parameter that stands in one URI only. It counts here, as it does in Kamailio: `rinstance=…` and the like are how
/// phones tell their contacts apart.
#[must_use]
pub fn contact_key(uri: &Uri<'_>) -> String {
    if !uri.is_sip() {
        return uri.raw.to_owned();
    }
    let mut key = format!("{}:{}", uri.scheme.as_str(), uri.aor_key());
    // Writing to a String cannot fail.
    if let Some(port) = uri.port {
        let _ = write!(key, ":{port}");
    }
    let mut params: Vec<String> = uri
        .params
        .iter()
        .map(|p| match p.value {
            Some(value) => format!(";{}={}", p.name, value).to_ascii_lowercase(),
            None => format!(";{}", p.name).to_ascii_lowercase(),
        })
        .collect();
    params.sort_unstable();
    params.iter().for_each(|p| key.push_str(p));
    if let Some(password) = uri.password {
        let _ = write!(key, ";:{password}");
    }
    if let Some(headers) = uri.headers {
        let _ = write!(key, "?{headers}");
    }
    key
}

/// What is wrong with the time a contact asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooBrief;

/// Seconds granted to a contact, 0 to remove it: its own `expires`, else the Expires header, else the default
/// (§10.3 step 7). A malformed value counts as the default (§10.2.1.1).
pub(super) fn granted_expires(
    contact: &NameAddr<'_>,
    header: Option<&[u8]>,
    config: &EngineConfig,
) -> Result<u32, TooBrief> {
    let asked = match (contact.params.has("expires"), header) {
        (true, _) => contact.expires(),
        (false, Some(value)) => delta_seconds(value),
        (false, None) => None,
    };
    let asked = asked.unwrap_or(config.default_expires_s);
    // 423 only for what is shorter than an hour, too (§10.3 step 7).
    if asked > 0 && asked < config.min_expires_s && asked < 3600 {
        return Err(TooBrief);
    }
    Ok(asked.min(config.max_expires_s))
}

/// A number of seconds; one too large to hold is the largest that can be held.
pub(crate) fn delta_seconds(value: &[u8]) -> Option<u32> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(std::str::from_utf8(value).ok()?.parse().unwrap_or(u32::MAX))
}
