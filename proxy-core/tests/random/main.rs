//! Random input: whatever comes, nothing panics, grows or is lost. `make fuzz` runs these again and again.

#[path = "../common/mod.rs"]
mod common;

mod digest;
mod engine;
mod framing;
mod media;
mod msg;
mod registrar;
mod round_trip;
mod state;
mod transaction;
