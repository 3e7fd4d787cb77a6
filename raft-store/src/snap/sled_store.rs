//! Generations in sled, one folder each: `gen-NNNNNNNNNNNNNNNN`.
//!
//! sled 0.34's `flush` does not fsync (a power cut lost everything it had acknowledged), so that the folder, `conf`
//! and `db` are synced here; see `docs/adr/0001-segment-log-and-sled.md`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{KEPT, KEPT_BAD, MAX_SNAPSHOT_BYTES, SnapStore, Stored, bad, check_size, header};
use crate::disk::create_durably;

/// Bytes per value (256 KiB): sled keeps larger ones in files of their own, which it does not sync either.
const CHUNK: usize = 256 << 10;

/// sled's page cache in bytes; a generation is written and read once.
const CACHE_BYTES: u64 = 8 << 20;

/// Longest wait for the lock of a generation (2 s); a process that starts holds it for less than a millisecond.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Pause between two attempts to take it.
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// Snapshots in sled.
pub struct SledSnaps {
    dir: PathBuf,
}

fn sync_path(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// What the system refuses (no space, no memory, no permission) says nothing about the data: a good generation must not
/// be set aside for it. Everything else is damage.
fn unreadable(e: sled::Error) -> io::Error {
    match e {
        sled::Error::Io(e) if e.raw_os_error().is_some() => e,
        e => bad(e.to_string()),
    }
}

fn open(path: &Path) -> io::Result<sled::Db> {
    let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    config.open().map_err(unreadable)
}

fn sync_generation(path: &Path) -> io::Result<()> {
    for name in ["conf", "db"] {
        sync_path(&path.join(name))?;
    }
    let blobs = path.join("blobs");
    if blobs.is_dir() {
        for blob in fs::read_dir(&blobs)? {
            sync_path(&blob?.path())?;
        }
        sync_path(&blobs)?;
    }
    sync_path(path)
}

/// Opens, waiting while somebody else holds sled's lock on `db`. A process that this one is starting at the same moment
/// holds it too, from fork to exec; that must not make a good generation look like a damaged one.
fn open_free(path: &Path) -> io::Result<sled::Db> {
    let end = Instant::now() + LOCK_WAIT;
    loop {
        match open(path) {
            // sled says it in words only.
            Err(e) if e.to_string().contains("could not acquire lock") => {
                if Instant::now() >= end {
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, e));
                }
                std::thread::sleep(LOCK_PAUSE);
            }
            result => return result,
        }
    }
}

fn fill(path: &Path, meta: &[u8], data: &[u8]) -> io::Result<()> {
    let db = open_free(path)?;
    let put = |key: Vec<u8>, value: &[u8]| db.insert(key, value).map(drop).map_err(io::Error::from);
    for (n, chunk) in meta.chunks(CHUNK).enumerate() {
        put([b"m", &(n as u64).to_be_bytes()[..]].concat(), chunk)?;
    }
    for (n, chunk) in data.chunks(CHUNK).enumerate() {
        put([b"s", &(n as u64).to_be_bytes()[..]].concat(), chunk)?;
    }
    put(b"header".to_vec(), &header(meta, data))?;
    db.flush().map_err(io::Error::from)?;
    drop(db);
    sync_generation(path)
}

fn read(path: &Path) -> io::Result<Stored> {
    if !path.join("db").is_file() {
        return Err(bad("no database"));
    }
    let db = open_free(path)?;
    let part = |prefix: &[u8]| -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        for item in db.scan_prefix(prefix) {
            let (_, value) = item.map_err(unreadable)?;
            if (out.len() + value.len()) as u64 > MAX_SNAPSHOT_BYTES {
                return Err(bad("larger than a snapshot may be"));
            }
            out.extend_from_slice(&value);
        }
        Ok(out)
    };
    let (meta, data) = (part(b"m")?, part(b"s")?);
    let head = db.get(b"header").map_err(unreadable)?.ok_or_else(|| bad("no header"))?;
    if header(&meta, &data)[..] != head[..] {
        return Err(bad("the checksum differs"));
    }
    Ok((meta, data))
}

impl SledSnaps {
    /// Uses the folder `dir`, making it where it is missing; what an interrupted write left is removed.
    pub fn open(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        create_durably(&dir)?;
        let temporary = dir.join("new");
        if temporary.exists() {
            fs::remove_dir_all(&temporary)?;
        }
        Ok(Self { dir })
    }

    fn numbers(&self, prefix: &str) -> io::Result<Vec<u64>> {
        let mut out = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            if let Some(hex) = name.to_str().and_then(|n| n.strip_prefix(prefix)) {
                out.extend(u64::from_str_radix(hex, 16).ok());
            }
        }
        out.sort_unstable();
        Ok(out)
    }

    fn path(&self, prefix: &str, number: u64) -> PathBuf {
        self.dir.join(format!("{prefix}{number:016x}"))
    }

    fn keep(&self, prefix: &str, count: usize) -> io::Result<()> {
        let all = self.numbers(prefix)?;
        for &number in &all[..all.len().saturating_sub(count)] {
            fs::remove_dir_all(self.path(prefix, number))?;
        }
        Ok(())
    }
}

impl SnapStore for SledSnaps {
    fn write(&mut self, meta: &[u8], data: &[u8]) -> io::Result<()> {
        check_size(meta, data)?;
        // Beyond those set aside as well: a number given twice would make the order of what is kept a lie.
        let newest = self.numbers("gen-")?.last().max(self.numbers("bad-")?.last()).copied();
        let number = newest.map_or(0, |n| n.saturating_add(1));
        let temporary = self.dir.join("new");
        if temporary.exists() {
            fs::remove_dir_all(&temporary)?;
        }
        fill(&temporary, meta, data)?;
        let back = read(&temporary)?;
        if back.0 != meta || back.1 != data {
            return Err(bad("the snapshot reads back differently"));
        }
        // Reading opened the database, which may have written to it again.
        sync_generation(&temporary)?;
        fs::rename(&temporary, self.path("gen-", number))?;
        sync_path(&self.dir)?;
        self.keep("gen-", KEPT)
    }

    fn latest(&mut self) -> io::Result<Option<Stored>> {
        for number in self.numbers("gen-")?.into_iter().rev() {
            let path = self.path("gen-", number);
            match read(&path) {
                Ok(stored) => return Ok(Some(stored)),
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    tracing::error!(path = %path.display(), error = %e, "a snapshot is set aside");
                    let aside = self.path("bad-", number);
                    if aside.exists() {
                        fs::remove_dir_all(&aside)?;
                    }
                    fs::rename(&path, aside)?;
                    self.keep("bad-", KEPT_BAD)?;
                    sync_path(&self.dir)?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }
}
