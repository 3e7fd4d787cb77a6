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
//! | `setup` | the proxy's configuration, what an operator puts in, the zone of the DNS |
//! | `broken` | what is broken on purpose, to see that the judge finds it |
//! | `sip` | messages that phones write and read |
//! | `call` | kinds of calls: forks, one after the other, voicemail, PBXs, a trunk, names |
//! | `client`, `caller`, `callee` | what every phone repeats, and registrations; who calls; who is called |
//! | `lamps` | who watches the calls of others |
//! | `notes` | who writes MESSAGE to users without a phone, and their phones |
//! | `peers` | PBXs and the carrier of the trunk |
//! | `rtp` | rtpengines |
//! | `phones` | all of them together |
//! | `plan` | which faults come, and when |
//! | `judge`, `ledger` | the invariants: at every moment, and of calls when they are over |
//! | `laws` | the invariants of single features |
//! | `world` | all of it together, millisecond by millisecond |
//! | `world::faults`, `world::damage` | how faults come and go; damage to what was synced |
//! | `world::phases`, `world::post` | phones, healing, the last comparison; what travels |
//! | `sweep` | many worlds at once, and their summary |

mod base;
mod broken;
mod call;
mod callee;
mod caller;
mod client;
mod cluster;
mod distance;
mod judge;
mod kernel;
mod lamps;
mod laws;
mod ledger;
mod machine;
mod net;
mod notes;
mod peers;
mod phones;
mod plan;
mod process;
mod rtp;
mod service;
mod setup;
mod sip;
pub mod sweep;
mod world;

pub use broken::Mutation;
pub use distance::Distance;
pub use plan::Fault;
pub use rtp::MediaCounts;
pub use world::{Options, Outcome, run};
