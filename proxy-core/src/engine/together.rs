//! What all engines of a node know together, besides the replicated state: what one source sends, or what a backend
//! answers, meets all of them.

use crate::dispatch::Voices;
use crate::routing::Strangers;

/// It. Clones share what they know.
#[derive(Debug, Clone, Default)]
pub struct Together {
    /// How much is kept for sources that have proved nothing.
    pub strangers: Strangers,
    /// Which backends have answered their last probe, whatever they said.
    pub voices: Voices,
}
