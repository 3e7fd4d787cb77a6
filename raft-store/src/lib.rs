//! raft-store
pub mod codec;
pub mod disk;
pub mod log;
pub mod snap;
