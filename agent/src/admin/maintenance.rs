//! What can be asked about maintenance: drain marks, pauses, planned switchovers.
//!
//! `{"command":"maintenance","ask":{"pause":{"for_s":1800,"reason":"new switch"}}}`. Times are seconds from now, so that
//! the clock of whoever asks is of no matter.

use serde::{Deserialize, Serialize};

/// Shortest pause, s.
pub const MIN_PAUSE_S: u64 = 10;

/// One order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// A node shall hold nothing, or may again.
    Drain {
        /// Which.
        node: u16,
        /// Drained or not.
        drained: bool,
    },
    /// No automatic takeover.
    Pause {
        /// For how long.
        for_s: u64,
        /// Why.
        #[serde(default)]
        reason: String,
    },
    /// Automatic takeover again.
    Resume {},
    /// A switchover at a given time.
    Plan {
        /// To whom; the best other appliance of now if absent.
        #[serde(default)]
        node: Option<u16>,
        /// When; negative: in the past.
        in_s: i64,
    },
    /// No planned switchover any more.
    Unplan {},
}
