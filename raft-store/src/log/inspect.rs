//! What the files of a log hold, one by one; changes nothing.

use std::io;

use super::meta::{self, Identity};
use super::scan::{self, read_file};
use super::seal;
use super::state::segment_name;
use super::{OpenError, record};
use crate::disk::Disk;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// Its name in the log's folder.
    pub name: String,
    /// Whether all of it verifies.
    pub good: bool,
    /// What it holds, or what is wrong with it.
    pub what: String,
}

fn plain(e: OpenError) -> io::Error {
    match e {
        OpenError::Io(e) => e,
        other => io::Error::other(other),
    }
}

/// All files of the log in `disk`.
pub fn inspect(disk: &dyn Disk) -> io::Result<Vec<FileReport>> {
    let owner = meta::owner(disk);
    let mut out = Vec::new();
    let mut say = |name: &str, good, what: String| out.push(FileReport { name: name.to_owned(), good, what });
    for name in [meta::NAME, meta::COPY] {
        match owner.map(|owner| meta::check_one(disk, name, owner)) {
            Some(Ok(true)) => say(name, true, "whose log this is".into()),
            Some(Ok(false)) => say(name, false, "it is missing".into()),
            Some(Err(OpenError::Io(e))) => return Err(e),
            Some(Err(e)) => say(name, false, e.to_string()),
            None => say(name, false, "it does not verify".into()),
        }
    }
    let found = seal::read(disk)?;
    let until = found.newest.map_or("nothing".into(), |s| match s.mark.next.checked_sub(1) {
        Some(last) => format!("up to entry {last}"),
        None => "no entry yet".into(),
    });
    let clean = if found.newest.is_some_and(|s| s.clean) { ", closed in order" } else { "" };
    match found.unreadable {
        0 => say(seal::NAME, true, format!("what is durable: {until}{clean}")),
        n => say(
            seal::NAME,
            false,
            format!("{n} of its 2 copies cannot be read; the other says: {until}{clean}"),
        ),
    }
    for start in scan::starts(disk).map_err(plain)? {
        let name = segment_name(start);
        let bytes = read_file(&*disk.open(&name)?).map_err(plain)?;
        let (good, what) = segment(&bytes, start, owner);
        say(&name, good, what);
    }
    Ok(out)
}

fn segment(bytes: &[u8], start: u64, owner: Option<Identity>) -> (bool, String) {
    if record::is_zero(bytes) {
        return (true, "not begun".into());
    }
    let found = scan::records(bytes, start, owner);
    let entries = match (found.first, found.last) {
        (Some(first), Some(last)) => format!("entries {first} to {last}"),
        _ => "no entries".into(),
    };
    match found.bad {
        Some((at, why)) => (false, format!("at byte {at}: {why}; {entries} before that")),
        None if found.short => (false, format!("it is shorter than it was made; {entries}")),
        None => (true, format!("{entries}, {} of {} bytes", found.end, bytes.len())),
    }
}
