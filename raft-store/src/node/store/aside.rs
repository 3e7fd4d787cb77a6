//! Stores that are out of use: kept for whoever wants to look into them, and not for ever.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Store, StoreError, io_error};

/// What their names begin with.
const PREFIX: &str = "set-aside-";
/// How many are kept once the node is a voter again; older ones are deleted.
pub const KEPT_ASIDE: usize = 2;

impl Store {
    /// Moves the store out of the way. It is never deleted before the node is whole again.
    pub fn set_aside(&self, why: &str) -> Result<PathBuf, StoreError> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut to = self.data.join(format!("{PREFIX}{seconds:010}"));
        let mut n = 1;
        while to.exists() {
            to = self.data.join(format!("{PREFIX}{seconds:010}-{n}"));
            n += 1;
        }
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
        all.sort();
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
