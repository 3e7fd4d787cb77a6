//! Invariants of one feature each, of which the judge is told what is committed and what leaves the proxy.

pub mod lamps;
pub mod media;
pub mod notes;
