//! Invariants of one subject each, of which the judge is told what is committed and what is said.

pub mod commits;
pub mod lamps;
pub mod liveness;
pub mod media;
pub mod memory;
pub mod notes;
pub mod time;
pub mod votes;
