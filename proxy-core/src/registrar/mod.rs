//! The registrar: RFC 3261 §10.3, with Path (RFC 3327), Service-Route (RFC 3608), outbound (RFC 5626) and GRUU
//! (RFC 5627).
//!
//! [`judge`] turns a REGISTER into a command for the replicated state, or into a refusal; the order of requests and
//! the number of contacts are judged where the command is applied, as only there is it known what came before.
//! [`answer`] turns what came of the command into the response.
//!
//! | step of §10.3 | where |
//! |---|---|
//! | 1 domain, 3 and 4 authentication and authorisation | the route, before |
//! | 2 Require | [`judge`]: 420; a body: 415 as configured; Path and outbound as configured: 420, 421, 439 |
//! | 5 address of record | [`judge`]: 400 |
//! | 6 Contact, `*` | [`judge`]: 400 |
//! | 7 expiry, order | [`judge`]: 423; `SipState::apply`: 500 |
//! | 8 response | [`answer`] |

mod answer;
mod config;
mod contact;
mod date;
pub(crate) mod gruu;
mod judge;
mod methods;

pub use answer::{answer, answer_refusal};
pub use config::{OutboundMode, PathMode, RegistrarConfig};
pub use contact::contact_key;
pub(crate) use contact::delta_seconds;
pub use date::http_date;
pub use judge::{RegisterRejection, judge};
pub use methods::{names as method_names, takes};

/// Longest Contact URI, in bytes.
pub const MAX_CONTACT_BYTES: usize = 1024;
/// Longest address of record, in bytes.
pub const MAX_AOR_BYTES: usize = 512;
/// Longest `+sip.instance`, in bytes.
pub const MAX_INSTANCE_BYTES: usize = 256;
/// Bytes of a User-Agent that are kept.
pub const MAX_USER_AGENT_BYTES: usize = 128;
/// Path values in one REGISTER.
pub const MAX_PATH_HOPS: usize = 16;
/// Bytes of all Path values together.
pub const MAX_PATH_BYTES: usize = 4096;
/// Contacts in one REGISTER: more than any phone has.
pub const MAX_CONTACTS_PER_REGISTER: usize = 64;
/// Seconds that a client is told to wait when there is no room for its contacts.
pub const RETRY_AFTER_FULL_S: u32 = 60;
