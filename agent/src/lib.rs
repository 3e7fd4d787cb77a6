//! The Relevo agent: everything between the pure SIP core, the replicated state and the operating system.

pub mod accounting;
pub mod admin;
pub mod bridge;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod control;
pub mod guard;
pub mod net;
pub mod os;
pub mod run;
