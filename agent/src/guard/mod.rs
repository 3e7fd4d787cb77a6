//! The guard: a small parent process that outlives its agent and takes the floating IP down when the agent cannot.
//!
//! | what happens | what the guard does |
//! |---|---|
//! | the agent dies by a signal, or exits as it should not | gate closed, address removed, peers told, agent started again |
//! | the agent holds the lease and is silent for one lease | SIGKILL, then the same |
//! | the agent is silent, but the guard was stopped, too | the agent gets its time again, once; the kernel closes the gate |
//! | the agent does not hold the lease and is silent for [`IDLE_SILENCE`] | SIGKILL, then the same |
//! | another relevo has a floating IP in this network namespace | one message, and nothing is changed |
//! | the agent dies again and again | it is started at once, unless another appliance serves meanwhile: see [`pause`] |
//! | the agent exits before it was ever ready | the same exit code, nothing started again: one clear message was said |
//! | the agent exits because its disk failed | the same exit code, nothing started again: it must not go on |
//! | SIGTERM, SIGINT, SIGHUP | passed on; the agent hands over and ends, then the guard |
//! | the guard itself is killed | the kernel kills the agent with it, and closes the gate when the lease ends |
//!
//! The guard has one thread, no tokio, real-time priority and locked memory where that is allowed. Between the death of
//! an agent and the removal of the floating IP it sends messages built beforehand and takes no memory.

pub mod alone;
pub mod held;
pub mod marks;
pub mod notice;
pub mod pause;
pub mod pet;
pub mod question;
mod supervise;
pub mod suspects;

pub use supervise::supervise;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::os::vip::Vip;

/// Silence of an agent that holds no lease until it counts as hung.
pub const IDLE_SILENCE: Duration = Duration::from_secs(5);
/// An agent that has lived for so long has earned an immediate restart.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// What the guard needs to know.
#[derive(Debug, Clone)]
pub struct GuardConfig {
    /// This node.
    pub place: u16,
    /// The lease.
    pub lease: Duration,
    /// The floating IP, if this node may hold one.
    pub vip: Option<Vip>,
    /// Key of the cluster, for notices to the peers.
    pub key: [u8; 32],
    /// This node's address for the other nodes.
    pub source: IpAddr,
    /// The Raft addresses of the other nodes; notices go to the same port by UDP.
    pub peers: Vec<SocketAddr>,
    /// Exit code of an agent that must not be started again (its disk failed).
    pub final_exit: u8,
}
