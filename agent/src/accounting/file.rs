//! A file of lines as a sink.
//!
//! Its last complete line says how far it goes; a line that a crash has torn is cut off. So is what could not be made safe:
//! after a failed fsync the kernel takes pages for clean that are on no disk, and the next fsync says that all is well. When somebody has moved the file
//! away (logrotate without `copytruncate`), a new one is begun: nobody has to tell this program.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::line::{Line, csv_head};
use super::{Item, Sink};

/// Longest line, bytes: what is looked at from the end for the last complete one.
const MAX_LINE: u64 = 64 << 10;
/// Files beside it that are looked at for how far it went before it was moved away.
const MAX_SIBLINGS: usize = 1000;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// RFC 4180 with a head line.
    Csv,
}

impl Format {
    fn seq_of(self, line: &[u8]) -> Option<u64> {
        let rest = match self {
            Self::Json => line.strip_prefix(b"{\"seq\":")?,
            Self::Csv => line,
        };
        let digits = rest.split(|b| !b.is_ascii_digit()).next().filter(|d| !d.is_empty())?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }
}

/// Mode of a file of records: a group may be let in, whatever is usual in this process.
const FILE_MODE: u32 = 0o640;
/// Mode of the folders that are made for one.
const FOLDER_MODE: u32 = 0o755;

/// Makes a folder, and those above it, such that a group can get at the file in it.
fn make_readable(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        folder.ancestors().take_while(|f| !f.as_os_str().is_empty() && !f.exists()).collect();
    std::fs::create_dir_all(folder)?;
    missing.iter().try_for_each(|made| std::fs::set_permissions(made, Permissions::from_mode(FOLDER_MODE)))
}

/// A file of lines.
#[derive(Debug)]
pub struct LineFile {
    path: PathBuf,
    format: Format,
    /// None until it is opened, and after any failure.
    file: Option<File>,
    /// Could not be made safe behind this length, and is not cut back yet.
    doubtful: Option<(File, u64)>,
    /// Makes it safe; tests let it fail.
    sync: fn(&File) -> io::Result<()>,
}

impl LineFile {
    /// The file at this path; it is opened, and made, when it is needed.
    #[must_use]
    pub fn new(path: PathBuf, format: Format) -> Self {
        Self { path, format, file: None, doubtful: None, sync: File::sync_data }
    }

    fn open(&self) -> io::Result<File> {
        if let Some(folder) = self.path.parent() {
            make_readable(folder)?;
        }
        // Who calls whom is nobody's business; a group may be let in.
        let made = !self.path.exists();
        let file =
            OpenOptions::new().read(true).append(true).create(true).mode(FILE_MODE).open(&self.path)?;
        if made {
            file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        }
        if made && let Some(folder) = self.path.parent().filter(|f| !f.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        let end = complete_end(&file)?;
        if end < file.metadata()?.len() {
            tracing::warn!("{}: the last line was torn and is cut off", self.path.display());
            file.set_len(end)?;
        }
        Ok(file)
    }

    /// Whether the path leads to another file, or to none, since it was opened.
    fn was_moved(&self, file: &File) -> io::Result<bool> {
        let mine = file.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(there) => Ok((there.dev(), there.ino()) != (mine.dev(), mine.ino())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// Cuts off what was written and could not be made safe: it is written again.
    fn cut_back(&mut self) -> io::Result<()> {
        if let Some((file, end)) = &self.doubtful {
            file.set_len(*end)?;
            (self.sync)(file)?;
            tracing::warn!("{}: cut back to the last record that is safe", self.path.display());
            self.doubtful = None;
        }
        Ok(())
    }

    fn write_lines(&mut self, items: &[Item]) -> io::Result<()> {
        self.cut_back()?;
        let file = match self.file.take() {
            Some(file) if !self.was_moved(&file)? => file,
            _ => self.open()?,
        };
        let mut text = String::new();
        if self.format == Format::Csv && file.metadata()?.len() == 0 {
            text.push_str(&csv_head());
        }
        for item in items {
            let line = Line::from(item);
            text.push_str(&match self.format {
                Format::Json => line.json(),
                Format::Csv => line.csv(),
            });
        }
        let end = file.metadata()?.len();
        if let Err(e) = (&file).write_all(text.as_bytes()).and_then(|()| (self.sync)(&file)) {
            self.doubtful = Some((file, end));
            // At once, so that a crash finds it done; if that fails, too, it is the first thing of the next try.
            return self.cut_back().and(Err(e));
        }
        // Kept only when all is well: after a failure the file itself says how far it goes.
        self.file = Some(file);
        Ok(())
    }
}

impl Sink for LineFile {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn last(&mut self) -> io::Result<Option<u64>> {
        self.cut_back()?;
        let file = match self.file.take() {
            Some(file) => file,
            None => self.open()?,
        };
        // What is said to be there is told to the cluster, which forgets it then: a process that died between writing and
        // making it safe has left it to the page cache.
        (self.sync)(&file)?;
        let last = last_line(&file)?.and_then(|line| self.format.seq_of(&line));
        self.file = Some(file);
        match last {
            Some(last) => Ok(Some(last)),
            // Moved away just before a crash: the one that was moved knows.
            None => Ok(last_of_siblings(&self.path, self.format)),
        }
    }

    fn write(&mut self, items: &[Item]) -> io::Result<()> {
        self.write_lines(items)
    }
}

/// The last lines of a JSON file, at most `most` and at most `bytes` of them, oldest first.
///
/// # Errors
/// The file cannot be read. One that does not exist has no lines.
pub fn tail(path: &Path, most: usize, bytes: u64) -> io::Result<Vec<serde_json::Value>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let end = complete_end(&file)?;
    let from = end.saturating_sub(bytes);
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    file.take(end - from).read_to_end(&mut text)?;
    let mut lines = text.split(|b| *b == b'\n');
    if from > 0 {
        // It begins somewhere in a line.
        lines.next();
    }
    let all: Vec<&[u8]> = lines.filter(|l| !l.is_empty()).collect();
    let first = all.len().saturating_sub(most);
    Ok(all.iter().skip(first).filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

/// Where the last complete line ends.
fn complete_end(file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut block = vec![0; 4096];
    while end > 0 {
        let from = end.saturating_sub(block.len() as u64);
        let part = block.get_mut(..usize::try_from(end - from).unwrap_or(0)).unwrap_or_default();
        file.read_exact_at(part, from)?;
        if let Some(at) = part.iter().rposition(|b| *b == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

/// The last complete line, without its end.
fn last_line(file: &File) -> io::Result<Option<Vec<u8>>> {
    let end = complete_end(file)?;
    if end == 0 {
        return Ok(None);
    }
    let from = end.saturating_sub(MAX_LINE);
    let mut text = vec![0; usize::try_from(end - 1 - from).unwrap_or(0)];
    file.read_exact_at(&mut text, from)?;
    Ok(text.rsplit(|b| *b == b'\n').next().map(<[u8]>::to_vec))
}

/// The highest number at the end of files whose names begin as this one's.
fn last_of_siblings(path: &Path, format: Format) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let stem = path.file_stem()?.to_str()?;
    std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter(|entry| {
            entry.file_name().to_str().is_some_and(|n| {
                n != name
                    && (n.starts_with(&format!("{name}."))
                        || n.starts_with(&format!("{stem}-"))
                        || n.starts_with(&format!("{name}-")))
            })
        })
        .take(MAX_SIBLINGS)
        .filter_map(|entry| last_line(&File::open(entry.path()).ok()?).ok()?)
        .filter_map(|line| format.seq_of(&line))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(n: u64) -> Item {
        Item::Gap { from: n, to: n }
    }

    #[test]
    fn a_file_says_how_far_it_goes_and_a_torn_line_is_cut() {
        for format in [Format::Json, Format::Csv] {
            let dir = tempfile::tempdir().expect("a folder");
            let path = dir.path().join("cdr");
            let mut file = LineFile::new(path.clone(), format);
            assert_eq!(file.last().expect("opens"), None);
            file.write(&[gap(1), gap(2)]).expect("writes");
            assert_eq!(file.last().expect("reads"), Some(2));
            let whole = std::fs::read(&path).expect("there");
            file.write(&[gap(30)]).expect("writes");
            let longer = std::fs::read(&path).expect("there");
            // Every way in which a crash can have torn the last line.
            for cut in whole.len()..longer.len() {
                std::fs::write(&path, &longer[..cut]).expect("writes");
                let mut again = LineFile::new(path.clone(), format);
                assert_eq!(again.last().expect("opens"), Some(2), "{format:?} {cut}");
                again.write(&[gap(30)]).expect("writes");
                assert_eq!(std::fs::read(&path).expect("there"), longer, "{format:?} {cut}");
            }
        }
    }

    #[test]
    fn a_torn_first_line_and_a_torn_head_leave_an_empty_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("cdr.csv");
        std::fs::write(&path, "seq,id,ki").expect("writes");
        let mut file = LineFile::new(path.clone(), Format::Csv);
        assert_eq!(file.last().expect("opens"), None);
        file.write(&[gap(4)]).expect("writes");
        let text = std::fs::read_to_string(&path).expect("there");
        assert_eq!(text.lines().count(), 2);
        assert!(text.starts_with(&csv_head()));
    }

    #[test]
    fn a_file_that_was_moved_away_is_followed_by_a_new_one() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("cdr.jsonl");
        let mut file = LineFile::new(path.clone(), Format::Json);
        file.write(&[gap(1)]).expect("writes");
        std::fs::rename(&path, dir.path().join("cdr.jsonl.1")).expect("moves");
        // A crash at this moment: the new file is empty, and the old one says how far it went.
        assert_eq!(LineFile::new(path.clone(), Format::Json).last().expect("opens"), Some(1));
        file.write(&[gap(2)]).expect("writes");
        assert_eq!(tail(&path, 10, 1 << 20).expect("reads").len(), 1);
        assert_eq!(tail(&dir.path().join("cdr.jsonl.1"), 10, 1 << 20).expect("reads").len(), 1);
    }

    #[test]
    fn what_could_not_be_made_safe_is_cut_off_and_written_again() {
        for format in [Format::Json, Format::Csv] {
            for safe in [vec![], vec![gap(1), gap(2)]] {
                let dir = tempfile::tempdir().expect("a folder");
                let path = dir.path().join("cdr");
                let mut file = LineFile::new(path.clone(), format);
                if !safe.is_empty() {
                    file.write(&safe).expect("writes");
                }
                let before = std::fs::read(&path).unwrap_or_default();
                file.sync = |_| Err(io::Error::other("no"));
                assert!(file.write(&[gap(3), gap(4)]).is_err());
                // It is moved away in the meantime: it is the file that is cut, not its name.
                let moved = dir.path().join("cdr.1");
                if !safe.is_empty() {
                    std::fs::rename(&path, &moved).expect("moves");
                }
                assert!(file.last().is_err(), "as long as the disk fails, nobody knows");
                file.sync = File::sync_data;
                let last = (!safe.is_empty()).then_some(2);
                assert_eq!(file.last().expect("reads"), last, "{format:?}");
                let cut = if safe.is_empty() { &path } else { &moved };
                assert_eq!(std::fs::read(cut).expect("there"), before, "{format:?}");
                file.write(&[gap(3), gap(4)]).expect("writes");
                assert_eq!(file.last().expect("reads"), Some(4));
                let text = std::fs::read_to_string(&path).expect("there");
                assert_eq!(text.lines().filter(|l| format.seq_of(l.as_bytes()) == Some(3)).count(), 1);
            }
        }
    }

    #[test]
    fn the_tail_gives_the_last_lines_oldest_first() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("cdr.jsonl");
        assert!(tail(&path, 10, 1 << 20).expect("no file has no lines").is_empty());
        let mut file = LineFile::new(path.clone(), Format::Json);
        file.write(&(1..=100).map(gap).collect::<Vec<_>>()).expect("writes");
        let seqs = |most, bytes| -> Vec<u64> {
            let lines = tail(&path, most, bytes).expect("reads");
            lines.iter().filter_map(|l| l["seq"].as_u64()).collect()
        };
        assert_eq!(seqs(3, 1 << 20), [98, 99, 100]);
        assert_eq!(seqs(1000, 1 << 20).len(), 100);
        assert!(seqs(1000, 100).len() < 5, "no more than so many bytes are read");
        assert_eq!(seqs(1000, 100).last(), Some(&100));
    }
}
