//! Stores that are out of use: kept for whoever wants to look into them, and not for ever.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Store, StoreError, io_error};

/// What their names begin with.
const PREFIX: &str = "set-aside-";
/// How many are kept once the node is a voter again; older ones are deleted.
pub const KEPT_ASIDE: usize = 2;

/// The number in the name of such a folder; 0 for what somebody else has named so.
fn number(path: &Path) -> u64 {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix(PREFIX).and_then(|rest| rest.parse().ok()).unwrap_or(0)
}

impl Store {
    /// Moves the store out of the way. It is never deleted before the node is whole again.
    pub fn set_aside(&self, why: &str) -> Result<PathBuf, StoreError> {
        // The wall time in seconds tells people when it was; whatever that clock shows, a later store has a higher number.
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let newest = self.asides()?.last().map(|path| number(path));
        let number = newest.map_or(seconds, |newest| seconds.max(newest.saturating_add(1)));
        let to = self.data.join(format!("{PREFIX}{number:010}"));
        tracing::error!(%why, to = %to.display(), "the store is set aside");
        fs::rename(self.root(), &to).map_err(io_error(&to))?;
        self.sync()?;
        Ok(to)
    }

    /// The folders of stores that were set aside, oldest first.
    fn asides(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.data).map_err(io_error(&self.data))? {
            let entry = entry.map_err(io_error(&self.data))?;
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                all.push(entry.path());
            }
        }
        all.sort_by_key(|path| number(path));
        Ok(all)
    }

    /// The newest store that was set aside.
    pub(super) fn newest_aside(&self) -> Result<Option<PathBuf>, StoreError> {
        Ok(self.asides()?.pop())
    }

    /// The node is whole again: of the stores that were set aside, only the newest [`KEPT_ASIDE`] stay.
    pub(in crate::node) fn forget_old_asides(&self) {
        let all = self.asides().unwrap_or_default();
        for old in &all[..all.len().saturating_sub(KEPT_ASIDE)] {
            match fs::remove_dir_all(old) {
                Ok(()) => tracing::info!(folder = %old.display(), "a store that was set aside is deleted"),
                Err(e) => {
                    tracing::warn!(folder = %old.display(), error = %e, "a store that was set aside stays")
                }
            }
        }
    }
}
