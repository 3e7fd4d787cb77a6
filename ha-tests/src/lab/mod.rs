//! Clusters on one machine: every node in a network namespace of its own, clients in another.
//!
//! ```text
//!   switch namespace:   br0 ── n1 ── n2 ── n3 ── client          (nftables: who is cut)
//!                              │     │     │       │
//!   node namespaces:         eth0  eth0  eth0    eth0  ◄ client namespace
//!                           10.77.0.11  .12  .13   .200          floating IP: .100, fd77::100
//! ```
//!
//! | module | reason to change |
//! |---|---|
//! | `proc` | how processes are told apart, awaited, killed |
//! | `ns`, `rootless` | how namespaces are made and entered |
//! | `net` | wires and cuts |
//! | `nat` | networks behind a NAT |
//! | `disk` | the node's small disk |
//! | `config` | texts: a node's configuration, the JSON of `up` |
//! | `state` | what is remembered about a lab, and where |
//! | `cluster` | up, start, down |
//! | `fault` | what can be done to a node |
//! | `status` | what the nodes say |
//! | `cli` | the commands |

pub mod cli;
pub mod cluster;
pub mod config;
pub mod disk;
pub mod fault;
pub mod interrupt;
pub mod nat;
pub mod net;
pub mod ns;
pub mod proc;
pub mod rootless;
pub mod state;
pub mod status;
