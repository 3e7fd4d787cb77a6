//! A panic that is contained ([`proxy_core::contain`]), and who keeps what it came of.

use std::sync::OnceLock;

pub use proxy_core::contain::{contained, is_contained};

/// Keeps what should be sent in: the log index of an entry, and a text about a command of it.
pub type Witness = Box<dyn Fn(u64, &str) + Send + Sync>;

static WITNESS: OnceLock<Witness> = OnceLock::new();

/// Who keeps a command that could not be applied. Only the first of a process counts.
pub fn call_witness(witness: Witness) {
    drop(WITNESS.set(witness));
}

/// A command of the entry at `index` could not be applied.
pub(crate) fn witness(index: u64, text: &str) {
    if let Some(witness) = WITNESS.get() {
        witness(index, text);
    }
}
