//! Trunks: accounts at other registrars. Registered by exactly one node, called out through with credentials, and
//! called in from.
//!
//! | file | what |
//! |---|---|
//! | `config` | what the operator chooses for all trunks |
//! | `dress` | what a trunk is told of number and caller |
//! | `credentials` | answers to challenges: of the registrar, and in calls |
//! | `probe` | whether they are there |
//! | `register` | the registrations |

mod config;
mod credentials;
mod dress;
mod probe;
mod register;

pub use config::TrunkConfig;
pub(crate) use credentials::{Challenged, answer};
pub(crate) use dress::{ASSERTED, Caller, PREFERRED, PRIVACY, dressed, is_anonymous, wants_id_kept};
pub(crate) use probe::Probes;
pub(crate) use register::Memory;
