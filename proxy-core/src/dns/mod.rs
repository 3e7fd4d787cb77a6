//! Finding SIP servers by name: RFC 3263, pure.
//!
//! | file | what |
//! |---|---|
//! | `cache` | answers by question, for as long as their TTL says |
//! | `order` | the order of SRV records: priorities, then weights (RFC 2782) |
//! | `locate` | from a host, port and transport to addresses, or to the questions that are still open |
//!
//! Nothing here asks: `locate` says what it must know, the engine has it asked (`Output::Resolve`) and tries again
//! when the answers are in the cache. CNAMEs are the resolver's affair.

mod cache;
mod locate;
mod order;

use std::net::IpAddr;
use std::time::Duration;

pub use cache::{Cache, MAX_ANSWERS};
pub use locate::{Destination, Located, Reach, Wanted, locate};
pub use order::ordered;

/// Longest name that is asked for, in characters (RFC 1035 §2.3.4).
pub const MAX_NAME: usize = 253;
/// Records of one answer that are looked at; the rest is ignored.
pub const MAX_RECORDS: usize = 32;
/// Addresses that a name comes to at most.
pub const MAX_DESTINATIONS: usize = 8;

/// Type of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the variants are the record types themselves")]
pub enum Kind {
    Naptr,
    Srv,
    A,
    Aaaa,
}

/// What the DNS is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// Type.
    pub kind: Kind,
    /// Name in lower case, fully qualified, without the last dot.
    pub name: String,
}

/// An SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Srv {
    /// The lowest is tried first.
    pub priority: u16,
    /// Share among those of equal priority.
    pub weight: u16,
    /// Port.
    pub port: u16,
    /// Host, lower case, without the last dot; empty if there is decidedly no service.
    pub target: String,
}

/// A NAPTR record (RFC 3403), as far as RFC 3263 uses it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Naptr {
    /// The lowest is tried first.
    pub order: u16,
    /// The lowest of equal order is tried first.
    pub preference: u16,
    /// What the replacement is; `s` for SRV.
    pub flags: String,
    /// Such as `SIP+D2U`.
    pub service: String,
    /// Name to ask for next, lower case, without the last dot.
    pub replacement: String,
}

/// A record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A or AAAA.
    Address(IpAddr),
    /// SRV.
    Srv(Srv),
    /// NAPTR.
    Naptr(Naptr),
}

/// What the DNS answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Records of the type asked for.
    Records {
        /// In the order in which they came.
        records: Vec<Record>,
        /// Shortest time to live of them.
        ttl: Duration,
    },
    /// There is no such name, or it has no such record.
    Absent {
        /// How long that may be believed (RFC 2308 §5).
        ttl: Duration,
    },
    /// Nobody knows: timeout, SERVFAIL, refused.
    Failed,
}

/// How names are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsConfig {
    /// Names are resolved; without, only addresses are reached.
    pub enabled: bool,
    /// Ask for NAPTR records first, as RFC 3263 §4.1 says (Kamailio: `dns_try_naptr`, off).
    pub naptr: bool,
    /// How long a request waits for one answer.
    pub patience: Duration,
    /// Longest time an answer is believed, whatever its TTL.
    pub max_ttl: Duration,
    /// Longest time that the absence of a name is believed.
    pub max_negative_ttl: Duration,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            naptr: true,
            patience: Duration::from_secs(4),
            max_ttl: Duration::from_secs(24 * 3600),
            max_negative_ttl: Duration::from_secs(300),
        }
    }
}

/// The canonical form of a name in a question; `None` if it cannot be one.
#[must_use]
pub fn canonical_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let labels_fit = name.split('.').all(|label| (1..=63).contains(&label.len()));
    (name.len() <= MAX_NAME && labels_fit && name.bytes().all(fits)).then(|| name.to_ascii_lowercase())
}
