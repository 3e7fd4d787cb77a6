//! `[accounting]`: where the records of calls are written.

use std::path::{Path, PathBuf};

use super::table::{Reader, Table};

/// The `[accounting]` part. Empty: this node writes no records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounting {
    /// File for JSON lines.
    pub json: Option<PathBuf>,
    /// File for CSV.
    pub csv: Option<PathBuf>,
}

impl Accounting {
    /// Paths that are not absolute are taken from the state folder.
    pub(super) fn below(mut self, data: &Path) -> Self {
        for path in [&mut self.json, &mut self.csv].into_iter().flatten() {
            *path = data.join(&path);
        }
        self
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
    if let (Some((_, json)), Some((line, csv))) = (&json, &csv)
        && json == csv
    {
        reader.fault(*line, "json and csv are the same file", "name two files");
    }
    accounting.json = json.map(|(_, path)| path);
    accounting.csv = csv.map(|(_, path)| path);
    t.done(reader);
    accounting
}
