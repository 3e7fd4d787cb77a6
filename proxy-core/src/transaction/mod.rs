//! The four transaction machines of RFC 3261 §17, as RFC 6026 corrects them.
//!
//! | file | machine | made when | ends by |
//! |---|---|---|---|
//! | [`ict`] | INVITE client | a branch is forwarded | timers B, D, M |
//! | [`nict`] | non-INVITE client | any other request is forwarded, CANCEL included | timers F, K |
//! | [`ist`] | INVITE server | an INVITE comes in | timers H, I, L |
//! | [`nist`] | non-INVITE server | any other request but ACK comes in | timer J |
//!
//! Each machine is pure: events go in with `now`, one action comes out, and
//! `next_timeout` says when `on_timeout` is due. None of them matches messages, builds messages or knows
//! of other transactions; the engine does that. They keep the bytes that they may have to send again and
//! nothing else. A machine that [`is_terminated`](Ict::is_terminated) is to be dropped.
//!
//! A late `on_timeout` (the process was stopped) sends once and counts on from `now`: it never makes up for
//! missed retransmissions in a burst.

pub mod ict;
pub mod ist;
pub mod nict;
pub mod nist;
mod timers;

pub use ict::{Ict, IctAction, IctState};
pub use ist::{Ist, IstAction, IstState};
pub use nict::{Nict, NictAction, NictState};
pub use nist::{Nist, NistAction, NistState};
pub use timers::{TimerConfig, TimerQueue};

use std::sync::Arc;

/// Bytes of a message that may have to be sent again; cloning it copies nothing.
pub type SharedBytes = Arc<[u8]>;
