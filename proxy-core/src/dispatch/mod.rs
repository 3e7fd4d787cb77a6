//! The dispatcher: sets of backends, who of them gets a request, and whether they are alive.
//!
//! | file | what |
//! |---|---|
//! | `config` | what the operator chooses |
//! | `select` | which destinations, in which order |
//! | `probe` | OPTIONS, and what their outcomes say |
//! | `voices` | who has answered his last probe, whatever he said |
//! | `watch` | what failed calls say, and calls that are with a backend which has died |
//!
//! The first destination gets the request, the others stand in the plan of the call, so that a backend which does not
//! answer, or answers with a failure of its own, is followed by the next one, also on a node that takes over.

mod config;
mod probe;
mod select;
pub(crate) mod voices;
mod watch;

pub use config::{Algorithm, DispatchConfig};
pub(crate) use probe::Memory;
pub use select::{Choice, order};
pub use voices::Voices;
