//! What REQINIT lets in.

use std::time::Duration;

use super::Cidr;
use crate::engine::limits::{MAX_REQUEST_BYTES, MAX_REQUEST_URI_BYTES};
use crate::msg::DEFAULT_MAX_FORWARDS;

/// Words in a User-Agent that scanners of SIP servers use (Kamailio's list); compared without regard to case.
const SCANNERS: [&str; 6] = ["friendly", "scanner", "sipcli", "sipvicious", "vaxsipuseragent", "pplsip"];

/// How many requests a source may send (Kamailio's `pike` and its `ipban` table). Counted over all engines of a node that
/// share their [`Bans`](super::Bans).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FloodLimit {
    /// Requests of one address per window; more bans it.
    pub requests: u32,
    /// Length of the window.
    pub window: Duration,
    /// How long a banned address is ignored, without a word.
    pub ban: Duration,
    /// Addresses that are never counted.
    pub exempt: Vec<Cidr>,
}

impl Default for FloodLimit {
    fn default() -> Self {
        Self {
            requests: 16,
            window: Duration::from_secs(2),
            ban: Duration::from_secs(300),
            exempt: Vec::new(),
        }
    }
}

/// The checks of REQINIT that can be tuned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screen {
    /// Flood limit; off by default, as in Kamailio.
    pub flood: Option<FloodLimit>,
    /// Words in a User-Agent, lower case, whose requests are dropped without a word.
    pub scanners: Vec<String>,
    /// Largest request in bytes; larger ones get a 513.
    pub max_bytes: usize,
    /// Longest Request-URI in bytes; longer ones get a 414.
    pub max_uri_bytes: usize,
    /// Max-Forwards given to requests that have none (RFC 3261 §16.6 step 3).
    pub max_forwards: u8,
    /// Answer OPTIONS to the proxy itself with 200; off: 483 and 404 decide like for any other request.
    pub keepalive: bool,
}

impl Default for Screen {
    fn default() -> Self {
        Self {
            flood: None,
            scanners: SCANNERS.map(str::to_owned).to_vec(),
            max_bytes: MAX_REQUEST_BYTES,
            max_uri_bytes: MAX_REQUEST_URI_BYTES,
            max_forwards: DEFAULT_MAX_FORWARDS,
            keepalive: true,
        }
    }
}
