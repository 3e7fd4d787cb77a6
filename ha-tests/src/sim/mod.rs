//! The simulator: whole clusters, with real openraft and the real stores, through faults drawn from a seed.
//!
//! Everything above the operating system is what an agent runs: openraft with `raft_store::node::core`, the segment
//! log and the snapshots (on disks that lose and tear what was not synced), `agent`'s control thread and the
//! resources, `proxy_core`'s engine. Simulated are network, disks, kernel, clocks, guard and phones. Every process has
//! a tokio runtime of its own whose time is moved by the world, so that it can be stopped, or die, at any
//! millisecond; one thread runs one world, and all chance comes from one seed.
//!
//! | file | what |
//! |---|---|
//! | `base` | numbers from a seed, the trace and its hash |
//! | `kernel` | clocks that drift, the gate of the floating IP |
//! | `net` | delay, loss, order, cuts |
//! | `process` | openraft and its store in a runtime of its own |
//! | `cluster` | the store as control thread and engine see it |
//! | `machine` | a machine with agent, guard, kernel and disks |
//! | `service` | the agent's control thread and SIP engine |
//! | `sip`, `phones` | phones that register and call |
//! | `plan` | which faults come, and when |
//! | `judge` | the invariants |
//! | `world` | all of it together, millisecond by millisecond |
//! | `world::faults`, `world::phases` | how faults come and go; phones, healing, the last comparison |
//! | `sweep` | many worlds at once, and their summary |

mod base;
mod cluster;
mod judge;
mod kernel;
mod machine;
mod net;
mod phones;
mod plan;
mod process;
mod service;
mod sip;
pub mod sweep;
mod world;

pub use machine::Mutation;
pub use plan::Fault;
pub use world::{Options, Outcome, run};
