//! Which backends have answered their last probe with anything at all.
//!
//! A backend that refuses new requests (503 to OPTIONS, RFC 3261 §21.5.4) gets none, and keeps the calls that it has. Only
//! one that is silent has lost them. All engines of a node share what the one that probes has heard.
//!
//! | the last probe | heard | calls that wait or ring there |
//! |---|---|---|
//! | was answered | a voice | stay |
//! | was not, or 408 or 504 came: somebody in front of it says that it is silent | silence | go on as their plan says |
//! | there was none since this node answers | nothing | those that ring wait for it |

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Whose voice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whose {
    /// A destination, by its set and its URI.
    Destination(u32, String),
    /// A trunk, by its name.
    Trunk(String),
}

/// What was heard. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Voices(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    /// By backend; bounded by those that are probed.
    spoke: BTreeMap<Whose, bool>,
    /// Moves with each change, so that an engine sees that there was one.
    revision: u64,
}

impl Voices {
    // Nothing in there panics halfway; and what is a little wrong must not end the service.
    fn with<R>(&self, f: impl FnOnce(&mut Heard) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A probe has ended.
    pub(crate) fn note(&self, whose: Whose, spoke: bool) {
        self.with(|heard| {
            if heard.spoke.insert(whose, spoke) != Some(spoke) {
                heard.revision += 1;
            }
        });
    }

    /// Whether it answered its last probe; `None` if there was none.
    pub(crate) fn of(&self, whose: &Whose) -> Option<bool> {
        self.with(|heard| heard.spoke.get(whose).copied())
    }

    /// Moves with each change.
    pub(crate) fn revision(&self) -> u64 {
        self.with(|heard| heard.revision)
    }

    /// Forgets whom `is_there` does not know.
    pub(crate) fn retain(&self, is_there: impl Fn(&Whose) -> bool) {
        self.with(|heard| heard.spoke.retain(|whose, _| is_there(whose)));
    }

    /// Forgets all: another node answers now.
    pub(crate) fn clear(&self) {
        self.with(|heard| {
            heard.spoke.clear();
            heard.revision += 1;
        });
    }
}

/// Whether the answer to a probe is a voice of the backend itself.
#[must_use]
pub(crate) fn is_voice(status: u16) -> bool {
    !matches!(status, 408 | 504)
}
