//! `relevo run`: what is started in which order, and how it ends.
//!
//! | order | what | why there |
//! |---|---|---|
//! | 1 | configuration, state folder, key | a fault is one message and nothing has changed |
//! | 2 | admin socket, SIP sockets | a port in use is one message, before the node votes |
//! | 3 | kernel gate of the floating IP | closed before anything could open it |
//! | 4 | Raft | the node is part of the cluster from here on |
//! | 5 | engines, control thread | may own the service from here on |
//! | 6 | admin answers, guards' notices | all they speak of is there |

pub mod ailing;
pub mod amends;
pub mod backend;
pub mod candidates;
pub mod chronicle;
pub mod commits;
mod desk;
pub mod driver;
pub mod evidence;
pub mod faults;
mod health;
pub mod live;
pub mod log;
pub mod notices;
mod overseer;
mod private;
pub mod process;
pub mod pulse;
mod refused;
pub mod reload;
pub mod resources;
pub mod room;
pub mod service;
pub mod setup;
pub mod signals;
pub mod surroundings;
pub mod watch;
pub(crate) use desk::members::limit as members_limit;
pub(crate) use desk::promote::LIMIT as PROMOTE_LIMIT;
pub(crate) use private::exposed;
pub(crate) use process::STORE;
pub use process::main;
