//! The SIP proxy core of Relevo: pure. It takes bytes, verdicts and `now`, and returns what is to be done.
//!
//! No sockets, no clocks, no randomness of its own; it knows nothing of how state is replicated. Read
//! [`io`] first: it is the contract with the shell.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::iter_over_hash_type)]

pub mod accounting;
pub mod auth;
pub mod blf;
pub mod contain;
pub mod dialog;
pub mod digest;
pub mod dispatch;
pub mod dns;
pub mod engine;
pub mod failover;
pub mod io;
pub mod location;
pub mod media;
pub mod msg;
pub mod nat;
pub mod offline;
mod proxy;
pub mod registrar;
mod route;
pub mod routing;
pub mod state;
pub mod time;
pub mod transaction;
pub mod trunk;
mod uac;
pub mod wire;
