//! The replicated state and the rules that need no engine: commands, the registrar, transactions.

#[path = "../common/mod.rs"]
mod common;

mod dispatcher;
mod invite;
mod provision;
mod register;
mod registrar;
mod transactions;
