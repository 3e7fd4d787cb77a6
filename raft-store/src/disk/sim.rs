//! A disk in memory that forgets what was not synced: deterministic, for simulation and crash tests.
//!
//! A crash keeps each 512-byte sector written since the last sync, or loses it, as the seed says; names that no
//! [`Disk::sync_dir`] has made durable are lost. Handles opened before a crash fail from then on, as those of a dead
//! process do.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, read_around};

/// Bytes that a real disk writes as one.
pub const SECTOR: usize = 512;

#[derive(Default)]
struct Inode {
    live: Vec<u8>,
    /// Sectors that cannot be read before they are written again.
    bad_sectors: BTreeSet<usize>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Default)]
struct Inner {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    next: u64,
    epoch: u64,
    syncs: u64,
    fail_sync_in: Option<u64>,
    capacity: Option<u64>,
    quota: Option<u64>,
    fail_io: bool,
    lying: bool,
}

/// A simulated disk; clones share it.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<Inner>>);

struct SimFile {
    disk: SimDisk,
    inode: u64,
    epoch: u64,
}

/// SplitMix64: a whole generator in three lines, so that a seed means the same in every release.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn eio(what: &str) -> io::Error {
    io::Error::other(format!("simulated I/O error: {what}"))
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {name}"))
}

impl SimDisk {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power: unsynced sectors are kept or lost as `seed` says, unsynced names are lost.
    pub fn crash(&self, seed: u64) {
        let mut inner = self.lock();
        let mut rng = seed;
        let lying = inner.lying;
        inner.epoch += 1;
        inner.names = inner.durable_names.clone();
        let kept: BTreeSet<u64> = inner.names.values().copied().collect();
        inner.inodes.retain(|id, _| kept.contains(id));
        for inode in inner.inodes.values_mut() {
            let mut after = inode.durable.clone();
            if inode.live.len() != after.len() && !lying {
                let (low, high) = (after.len().min(inode.live.len()), after.len().max(inode.live.len()));
                let len = low + (next_random(&mut rng) as usize) % (high - low + 1);
                after.resize(len, 0);
            }
            for &sector in &inode.dirty {
                let start = sector * SECTOR;
                let end = (start + SECTOR).min(after.len()).min(inode.live.len());
                if start >= end {
                    continue;
                }
                if next_random(&mut rng).is_multiple_of(2) && !lying {
                    after[start..end].copy_from_slice(&inode.live[start..end]);
                }
            }
            inode.live.clone_from(&after);
            inode.durable = after;
            inode.dirty.clear();
        }
    }

    /// The `after`-th sync from now (0: the next one) fails, and so does every later one.
    pub fn fail_sync(&self, after: Option<u64>) {
        self.lock().fail_sync_in = after;
    }

    /// Bytes all files together may hold; `None`: no limit. A write beyond it fails with ENOSPC.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Bytes that may still be written, also where room was taken before; `None`: no limit. A write beyond it is made in
    /// part, up to a sector's end, and fails with EDQUOT.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.lock().quota = bytes;
    }

    /// A drive that says "done" of contents that are in its cache only; a crash loses them all.
    pub fn lie(&self, on: bool) {
        self.lock().lying = on;
    }

    /// The sector that holds byte `offset` of the file cannot be read any more, until it is written again.
    ///
    /// # Panics
    /// There is no such file.
    pub fn spoil_sector(&self, name: &str, offset: usize) {
        let mut inner = self.lock();
        let id = inner.names[name];
        let file = inner.inodes.get_mut(&id).expect("a name has its contents");
        file.bad_sectors.insert(offset / SECTOR);
    }

    /// Every read and write fails with an I/O error while set.
    pub fn fail_io(&self, on: bool) {
        self.lock().fail_io = on;
    }

    /// Whether a fault is set that has made a write or sync fail, or may do so.
    pub fn broken(&self) -> bool {
        let inner = self.lock();
        inner.fail_io || inner.fail_sync_in.is_some() || inner.capacity.is_some() || inner.quota.is_some()
    }

    /// Syncs (of contents or names) made so far.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Bytes in all files.
    pub fn used(&self) -> u64 {
        let inner = self.lock();
        inner.names.values().filter_map(|id| inner.inodes.get(id)).map(|i| i.live.len() as u64).sum()
    }

    /// A copy of this disk as it is now, faults and history apart.
    pub fn fork(&self) -> SimDisk {
        let inner = self.lock();
        let copy = |i: &Inode| Inode {
            live: i.live.clone(),
            durable: i.durable.clone(),
            dirty: i.dirty.clone(),
            ..Inode::default()
        };
        SimDisk(Arc::new(Mutex::new(Inner {
            inodes: inner.inodes.iter().map(|(id, i)| (*id, copy(i))).collect(),
            names: inner.names.clone(),
            durable_names: inner.durable_names.clone(),
            next: inner.next,
            ..Inner::default()
        })))
    }
}

impl Inner {
    fn sync(&mut self) -> io::Result<()> {
        match &mut self.fail_sync_in {
            Some(0) => return Err(eio("fsync")),
            Some(n) => *n -= 1,
            None => {}
        }
        self.syncs += 1;
        Ok(())
    }
}

impl SimFile {
    fn with<T>(&self, f: impl FnOnce(&mut Inner, u64) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.disk.lock();
        if inner.epoch != self.epoch {
            return Err(eio("the handle was opened before the crash"));
        }
        if inner.fail_io {
            return Err(eio("injected"));
        }
        f(&mut inner, self.inode)
    }
}

fn inode(inner: &mut Inner, id: u64) -> io::Result<&mut Inode> {
    inner.inodes.get_mut(&id).ok_or_else(|| eio("inode gone"))
}

impl DiskFile for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|inner, id| {
            let start = usize::try_from(offset).map_err(io::Error::other)?;
            let left = inner.quota.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
            let (bytes, rest) = match start.saturating_add(left) / SECTOR * SECTOR {
                _ if left >= bytes.len() => (bytes, &[][..]),
                whole => bytes.split_at(whole.saturating_sub(start)),
            };
            if let Some(left) = &mut inner.quota {
                *left -= bytes.len() as u64;
            }
            let used: u64 = inner.inodes.values().map(|i| i.live.len() as u64).sum();
            let capacity = inner.capacity;
            let file = inode(inner, id)?;
            let grow = (start + bytes.len()).saturating_sub(file.live.len()) as u64;
            if capacity.is_some_and(|c| used + grow > c) && grow > 0 {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            if file.live.len() < start + bytes.len() {
                file.live.resize(start + bytes.len(), 0);
            }
            file.live[start..start + bytes.len()].copy_from_slice(bytes);
            if !bytes.is_empty() {
                let written = start / SECTOR..=(start + bytes.len() - 1) / SECTOR;
                file.bad_sectors.retain(|sector| !written.contains(sector));
                file.dirty.extend(written);
            }
            if rest.is_empty() { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EDQUOT)) }
        })
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.with(|inner, id| {
            let file = inode(inner, id)?;
            let start = usize::try_from(offset).map_err(io::Error::other)?.min(file.live.len());
            let len = file.live.len();
            let read = |at: u64, buf: &mut [u8]| {
                let at = usize::try_from(at).map_err(io::Error::other)?.min(len);
                let n = buf.len().min(len - at);
                if n > 0 && file.bad_sectors.range(at / SECTOR..=(at + n - 1) / SECTOR).next().is_some() {
                    return Err(io::Error::from_raw_os_error(libc::EIO));
                }
                buf[..n].copy_from_slice(&file.live[at..at + n]);
                Ok(n)
            };
            let file = Path::new("a file of the simulated disk");
            read_around(file, read, len as u64, start as u64, buf)
        })
    }
    fn sync_data(&self) -> io::Result<()> {
        self.with(|inner, id| {
            inner.sync()?;
            let lying = inner.lying;
            let file = inode(inner, id)?;
            if lying {
                return Ok(());
            }
            file.durable.resize(file.live.len(), 0);
            for sector in std::mem::take(&mut file.dirty) {
                let start = (sector * SECTOR).min(file.live.len());
                let end = (start + SECTOR).min(file.live.len());
                file.durable[start..end].copy_from_slice(&file.live[start..end]);
            }
            Ok(())
        })
    }
    fn len(&self) -> io::Result<u64> {
        self.with(|inner, id| Ok(inode(inner, id)?.live.len() as u64))
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.with(|inner, id| {
            let len = usize::try_from(len).map_err(io::Error::other)?;
            let used: u64 = inner.inodes.values().map(|i| i.live.len() as u64).sum();
            let capacity = inner.capacity;
            let file = inode(inner, id)?;
            let grow = len.saturating_sub(file.live.len()) as u64;
            if capacity.is_some_and(|c| used + grow > c) && grow > 0 {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            if file.live.len() < len {
                file.live.resize(len, 0);
            }
            Ok(())
        })
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.with(|inner, id| {
            let len = usize::try_from(len).map_err(io::Error::other)?;
            let file = inode(inner, id)?;
            let shorter = len < file.live.len();
            file.live.resize(len, 0);
            if shorter {
                // What comes there again is new.
                file.dirty.insert(len / SECTOR);
            }
            Ok(())
        })
    }
}

impl Disk for SimDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.lock();
        let inode = *inner.names.get(name).ok_or_else(|| missing(name))?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode, epoch: inner.epoch }))
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock();
        if inner.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = inner.next;
        inner.next += 1;
        inner.inodes.insert(id, Inode::default());
        inner.names.insert(name.to_owned(), id);
        Ok(Arc::new(SimFile { disk: self.clone(), inode: id, epoch: inner.epoch }))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock();
        let id = inner.names.remove(from).ok_or_else(|| missing(from))?;
        inner.names.insert(to.to_owned(), id);
        Ok(())
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.lock().names.remove(name).map(|_| ()).ok_or_else(|| missing(name))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }
    fn sync_dir(&self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.sync()?;
        inner.durable_names = inner.names.clone();
        let kept: BTreeSet<u64> = inner.names.values().copied().collect();
        inner.inodes.retain(|id, _| kept.contains(id));
        Ok(())
    }
}
