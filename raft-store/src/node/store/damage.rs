//! What is said of a store that does not verify.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::log::Forgotten;
use crate::node::doubt::Reach;

/// The commands that go on from a damaged store.
pub const CURES: &str = "`relevo store check` says what verifies, up to which entry; `relevo store repair` begins from the newest state \
     that does, and says what is missing; `relevo restore` begins from a backup";

/// What is said of what is behind a damage of which only the place is known.
const LOST: &str = "what was stored behind that is lost here";

/// Where a store is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file, or the folder where the whole of it is meant.
    pub file: PathBuf,
    /// Byte in it.
    pub offset: u64,
    /// What is wrong there.
    pub why: String,
    /// What is lost with it.
    pub lost: String,
    /// How far the store verifies, if that is known.
    pub reach: Option<Reach>,
}

impl Damage {
    /// Damage of which only the place is known.
    #[must_use]
    pub fn new(file: PathBuf, offset: u64, why: impl Into<String>) -> Self {
        Self { file, offset, why: why.into(), lost: LOST.into(), reach: None }
    }

    /// Damage to the log in the folder `log`.
    pub(super) fn of_log(log: &Path, forgotten: Forgotten, reach: Option<Reach>) -> Self {
        let lost = forgotten.loss();
        Self { file: log.join(&forgotten.file), offset: forgotten.offset, why: forgotten.why, lost, reach }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, why, lost, .. } = self;
        write!(f, "{} at byte {offset}: {why}; {lost}", file.display())
    }
}
