//! The replicated state of Relevo, and the Raft node that keeps it: log and snapshots on disk, openraft between
//! the nodes. `state`, `command` and `time` are pure; `node` is what an agent runs.

pub mod backup;
pub mod codec;
pub mod command;
pub mod contain;
pub mod disk;
pub mod log;
pub mod node;
pub mod snap;
pub mod state;
pub mod time;
pub mod wire;
