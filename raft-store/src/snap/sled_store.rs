//! Generations in sled, one folder each: `gen-NNNNNNNNNNNNNNNN`.
//!
//! sled 0.34's `flush` does not fsync (a power cut lost everything it had acknowledged), so that the folder, `conf`
//! and `db` are synced here; see `docs/adr/0001-segment-log-and-sled.md`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::incoming::Unnamed;
use super::pieces::{PIECE_BYTES, Pieces, Sink};
use super::{
    Fill, Generation, Haste, Image, Incoming, KEPT, KEPT_BAD, MAX_META_BYTES, MAX_SNAPSHOT_BYTES, SnapStore,
    bad, check_meta, header,
};
use crate::disk::{create_durably, is_damage};

/// sled's page cache in bytes; a generation is written and read once.
const CACHE_BYTES: u64 = 8 << 20;

/// Longest wait for the lock of a generation (2 s); a process that starts holds it for less than a millisecond.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Pause between two attempts to take it.
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// Snapshots in sled.
pub struct SledSnaps {
    dir: PathBuf,
    /// Whoever writes a generation holds it.
    pub(super) writing: Mutex<()>,
    /// The generation that was given out last, while somebody has it.
    pub(super) reading: Mutex<Option<Reading>>,
    /// How many have begun to arrive.
    received: AtomicU64,
    /// How many were set aside.
    lost: AtomicU64,
}

pub(super) struct Reading {
    pub(super) number: u64,
    meta: Vec<u8>,
    pub(super) data: Weak<SledImage>,
}

fn sync_path(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// What the system refuses (no space, no memory, no permission) says nothing about the data: a good generation must not
/// be set aside for it. Everything else is damage, a sector that cannot be read among it.
fn unreadable(e: sled::Error) -> io::Error {
    match e {
        // A file of it that is missing, or is none, is damage, too.
        sled::Error::Io(e)
            if e.kind() == io::ErrorKind::NotFound || e.kind() == io::ErrorKind::IsADirectory =>
        {
            bad(e.to_string())
        }
        sled::Error::Io(e) if e.raw_os_error().is_some() && !is_damage(&e) => e,
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

/// Values of a generation: `m` and `s` with a number for the pieces of metadata and data.
fn key(prefix: u8, n: u64) -> Vec<u8> {
    [&[prefix], &n.to_be_bytes()[..]].concat()
}

struct To<'a> {
    db: &'a sled::Db,
    file: File,
}

impl Sink for To<'_> {
    fn piece(&mut self, n: u64, bytes: &[u8]) -> io::Result<()> {
        self.db.insert(key(b's', n), bytes).map(drop).map_err(io::Error::from)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.db.flush().map_err(io::Error::from)?;
        self.file.sync_data()
    }
}

/// Writes a generation; gives the size and the sum of its data.
fn write(path: &Path, meta: &[u8], haste: Haste, fill: Fill<'_>) -> io::Result<(u64, u32)> {
    let db = open_free(path)?;
    for (n, piece) in meta.chunks(PIECE_BYTES).enumerate() {
        db.insert(key(b'm', n as u64), piece).map_err(io::Error::from)?;
    }
    let mut pieces = Pieces::new(To { db: &db, file: File::open(path.join("db"))? }, haste);
    fill(&mut pieces)?;
    let (_, bytes, crc) = pieces.finish()?;
    db.insert("header", header(meta, bytes, crc)).map_err(io::Error::from)?;
    db.flush().map_err(io::Error::from)?;
    drop(db);
    sync_generation(path)?;
    Ok((bytes, crc))
}

/// A generation that is open; it stays readable when it is deleted meanwhile.
pub(super) struct SledImage {
    db: sled::Db,
    bytes: u64,
}

impl Image for SledImage {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let end = self.bytes.min(offset.saturating_add(most as u64));
        let mut out = Vec::with_capacity(most.min(2 * PIECE_BYTES));
        while offset + (out.len() as u64) < end {
            let at = offset + out.len() as u64;
            let (n, within) = (at / PIECE_BYTES as u64, (at % PIECE_BYTES as u64) as usize);
            let piece = self.db.get(key(b's', n)).map_err(unreadable)?;
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let part = piece.as_deref().and_then(|p| p.get(within..)).filter(|p| !p.is_empty());
            let part = part.ok_or_else(|| bad(format!("piece {n} is missing")))?;
            out.extend_from_slice(&part[..left.min(part.len())]);
        }
        Ok(out)
    }
}

/// Opens a generation and verifies all of it, piece by piece.
pub(super) fn read(path: &Path) -> io::Result<(Vec<u8>, SledImage)> {
    if !path.join("db").is_file() {
        return Err(bad("no database"));
    }
    let db = open_free(path)?;
    let mut meta = Vec::new();
    for item in db.scan_prefix(b"m") {
        let (_, value) = item.map_err(unreadable)?;
        meta.extend_from_slice(&value);
        if meta.len() as u64 > MAX_META_BYTES {
            return Err(bad("larger than metadata may be"));
        }
    }
    let (mut bytes, mut crc) = (0, 0);
    for item in db.scan_prefix(b"s") {
        let (_, value) = item.map_err(unreadable)?;
        bytes += value.len() as u64;
        crc = crc32c::crc32c_append(crc, &value);
        if bytes > MAX_SNAPSHOT_BYTES {
            return Err(bad("larger than a snapshot may be"));
        }
    }
    let head = db.get(b"header").map_err(unreadable)?.ok_or_else(|| bad("no header"))?;
    if header(&meta, bytes, crc)[..] != head[..] {
        return Err(bad("the checksum differs"));
    }
    Ok((meta, SledImage { db, bytes }))
}

/// Bytes that the files of a generation have.
fn disk_bytes(path: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        let found = entry?.metadata()?;
        sum += if found.is_file() { found.len() } else { 0 };
    }
    Ok(sum)
}

/// Bytes that the newest generation in the folder `dir` takes on the disk; 0 where there is none. Those before it, what
/// was set aside and what is being written do not count: how large the next one will be is not to be learned from them.
#[must_use]
pub fn newest_bytes(dir: &Path) -> u64 {
    let mut numbers = numbers_in(dir, "gen-").unwrap_or_default();
    // One may get another name, or go, meanwhile.
    while let Some(number) = numbers.pop() {
        if let Ok(bytes) = disk_bytes(&numbered(dir, "gen-", number)) {
            return bytes;
        }
    }
    0
}

/// Numbers of the folders in `dir` whose names begin with `prefix`, lowest first.
fn numbers_in(dir: &Path, prefix: &str) -> io::Result<Vec<u64>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if let Some(hex) = name.to_str().and_then(|n| n.strip_prefix(prefix)) {
            out.extend(u64::from_str_radix(hex, 16).ok());
        }
    }
    out.sort_unstable();
    Ok(out)
}

fn numbered(dir: &Path, prefix: &str, number: u64) -> PathBuf {
    dir.join(format!("{prefix}{number:016x}"))
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
        Ok(Self {
            dir,
            writing: Mutex::new(()),
            reading: Mutex::new(None),
            received: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        })
    }

    pub(super) fn numbers(&self, prefix: &str) -> io::Result<Vec<u64>> {
        numbers_in(&self.dir, prefix)
    }

    pub(super) fn path(&self, prefix: &str, number: u64) -> PathBuf {
        numbered(&self.dir, prefix, number)
    }

    /// Gives a generation that does not verify another name.
    pub(super) fn set_aside(&self, number: u64) -> io::Result<()> {
        let aside = self.path("bad-", number);
        if aside.exists() {
            fs::remove_dir_all(&aside)?;
        }
        fs::rename(self.path("gen-", number), aside)?;
        self.lost.fetch_add(1, Ordering::SeqCst);
        self.keep("bad-", KEPT_BAD)?;
        sync_path(&self.dir)
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
    fn put(&self, meta: &[u8], haste: Haste, fill: Fill<'_>) -> io::Result<u64> {
        check_meta(meta)?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let temporary = self.dir.join("new");
        if temporary.exists() {
            fs::remove_dir_all(&temporary)?;
        }
        let written = write(&temporary, meta, haste, fill);
        if written.is_err() {
            // The log may need the room that half a generation takes. It is removed again before the next one.
            drop(fs::remove_dir_all(&temporary));
        }
        let (bytes, _) = written?;
        // What is read back has the sum that is in the header, so that it is the same data.
        let (back, image) = read(&temporary)?;
        if back != meta || image.bytes != bytes {
            return Err(bad("the snapshot reads back differently"));
        }
        drop(image);
        // Reading opened the database, which may have written to it again.
        sync_generation(&temporary)?;
        let on_disk = disk_bytes(&temporary)?;
        // Beyond those set aside as well: a number given twice would make the order of what is kept a lie.
        let newest = self.numbers("gen-")?.last().max(self.numbers("bad-")?.last()).copied();
        let number = newest.map_or(0, |n| n.saturating_add(1));
        fs::rename(&temporary, self.path("gen-", number))?;
        sync_path(&self.dir)?;
        self.keep("gen-", KEPT)?;
        Ok(on_disk)
    }

    fn receive(&self) -> io::Result<Box<dyn Incoming>> {
        // A name of its own: two may arrive at once, from two that take themselves for the leader.
        let number = self.received.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Unnamed::create(&self.dir.join(format!("incoming-{number:016x}")))?))
    }

    fn newest(&self) -> io::Result<Option<Generation>> {
        // One at a time: sled opens a database once.
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        for number in self.numbers("gen-")?.into_iter().rev() {
            let open = reading.as_ref().filter(|r| r.number == number);
            if let Some((open, data)) = open.and_then(|r| Some((r, r.data.upgrade()?))) {
                return Ok(Some(Generation { meta: open.meta.clone(), data }));
            }
            let path = self.path("gen-", number);
            match read(&path) {
                Ok((meta, image)) => {
                    let data = Arc::new(image);
                    *reading = Some(Reading { number, meta: meta.clone(), data: Arc::downgrade(&data) });
                    return Ok(Some(Generation { meta, data }));
                }
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    tracing::error!(path = %path.display(), error = %e, "a snapshot is set aside");
                    self.set_aside(number)?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    fn lost(&self) -> u64 {
        self.lost.load(Ordering::SeqCst)
    }
}
