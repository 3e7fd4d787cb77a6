//! Trunks: accounts at other registrars. Registered by exactly one node, called out through with credentials, and
//! called in from.
//!
//! | file | what |
//! |---|---|
//! | `config` | what the operator chooses for all trunks |
//! | `credentials` | answers to challenges: of the registrar, and in calls |
//! | `register` | the registrations |

mod config;
mod credentials;
mod register;

pub use config::TrunkConfig;
pub(crate) use credentials::{Challenged, answer};
pub(crate) use register::Memory;
