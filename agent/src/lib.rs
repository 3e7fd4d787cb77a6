//! The Relevo agent: everything between the pure SIP core, the replicated state and the operating system.

pub mod config;
pub mod control;
