//! `[accounting]`: where the records of calls are written.

use std::path::{Path, PathBuf};

use proxy_core::accounting::AccountingConfig;
use proxy_core::state::limits::MAX_REFUSED_PER_S;

use super::table::{Reader, Table};

/// Refused calls that leave a record in a second, where nothing is said and a file takes them.
const REFUSED_PER_S: i64 = 20;

/// The `[accounting]` part. Empty: this node writes no records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounting {
    /// File for JSON lines.
    pub json: Option<PathBuf>,
    /// File for CSV.
    pub csv: Option<PathBuf>,
    /// Records of refused calls.
    pub engine: AccountingConfig,
    /// Where the latter stands in the configuration file.
    pub(super) csv_line: Option<usize>,
}

impl Accounting {
    /// Paths that are not absolute are taken from the state folder; a `.` in them is left out.
    pub(super) fn below(mut self, data: &Path) -> Self {
        for path in [&mut self.json, &mut self.csv].into_iter().flatten() {
            *path = data.join(&path).components().collect();
        }
        self
    }

    /// The line that names the same file a second time, if one does: two writers would tear each other's lines.
    pub(super) fn same_file(&self) -> Option<usize> {
        self.csv_line.filter(|_| self.json == self.csv)
    }
}

/// Reads and checks the section.
pub(super) fn read(root: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> Accounting {
    let mut accounting = Accounting::default();
    let Some(mut t) = root.table(reader, "accounting") else { return accounting };
    let mut file = |reader: &mut Reader<'_>, key, example: &str| {
        let at = t.string(reader, key)?;
        let path = PathBuf::from(&at.value);
        if path.file_name().is_none() {
            reader.fault(
                at.line,
                format!("{:?} names no file", at.value),
                format!("write {key} = \"{example}\""),
            );
            return None;
        }
        Some((at.line, path))
    };
    let json = file(reader, "json", "/var/lib/relevo/cdr.jsonl");
    let csv = file(reader, "csv", "/var/lib/relevo/cdr.csv");
    accounting.csv_line = csv.as_ref().map(|(line, _)| *line);
    accounting.json = json.map(|(_, path)| path);
    accounting.csv = csv.map(|(_, path)| path);
    // Each costs a commit: where no file takes them they are not worth it.
    let usual = if accounting.json.is_some() || accounting.csv.is_some() { REFUSED_PER_S } else { 0 };
    let per_s = t.number(reader, "refused_per_s", (0, i64::from(MAX_REFUSED_PER_S)), usual);
    accounting.engine.refused_per_s = u32::try_from(per_s).unwrap_or(0);
    t.done(reader);
    accounting
}
