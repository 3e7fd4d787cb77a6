//! Room on the file system of the data folder: looked at twice a second by a thread of its own, because the question waits
//! where the disk hangs.
//!
//! | free bytes | then |
//! |---|---|
//! | [`Marks::low`] or more | all goes on; the reserve is (again) put by |
//! | less | this node is `full`: new calls, registrations and messages get 503, what exists goes on; one line at ERROR |
//! | less than [`Marks::last`] | the reserve is given up, too: it is for the log and a snapshot, after which the log is shorter |
//!
//! Two marks apart by `BACK`, so that it does not come and go. A log that waits for room says more than the free bytes do
//! (a quota, blocks for root only): the node is full then, too.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use raft_store::snap::newest_bytes;

use super::ailing::Ailing;
use crate::control::Ailment;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_millis(500);
/// Room is low below this many bytes (48 MiB) …
pub const LOW_BYTES: u64 = 48 << 20;
/// … or below this share of the file system, in percent, …
const LOW_PERCENT: u64 = 5;
/// … which counts up to this many bytes (1 GiB).
const LOW_MOST: u64 = 1 << 30;
/// Put by for the log and a snapshot when all else is full (16 MiB).
pub const RESERVE_BYTES: u64 = 16 << 20;
/// So many bytes more than [`Marks::low`] must be free until room is not low any more (8 MiB).
const BACK: u64 = 8 << 20;
/// The file of the reserve, in the data folder.
pub const RESERVE: &str = "reserve";

/// Bytes of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bytes {
    /// Free for this process.
    pub free: u64,
    /// All.
    pub total: u64,
}

/// From how many free bytes on something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// Below it nothing new is taken in.
    pub low: u64,
    /// Below it the reserve is given up.
    pub last: u64,
}

impl Marks {
    /// Of a file system of `total` bytes, for a state whose newest snapshot takes `snapshot` bytes.
    #[must_use]
    pub fn of(total: u64, snapshot: u64) -> Self {
        let share = (total / 100 * LOW_PERCENT).min(LOW_MOST);
        // A file system that is smaller than all that has its marks, too.
        let low = LOW_BYTES.max(share).saturating_add(2 * snapshot).min(total / 2);
        Self { low, last: low / 4 }
    }
}

/// What follows from a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Nothing new is taken in.
    pub full: bool,
    /// The reserve is to be there (`true`), to be given up (`false`), or as it is.
    pub reserve: Option<bool>,
}

/// What follows from `now`, after `full`. `waits`: the log waits for room.
#[must_use]
pub fn judge(now: Bytes, marks: Marks, full: bool, waits: bool) -> Verdict {
    let needed = if full { marks.low.saturating_add(BACK) } else { marks.low };
    let full = waits || now.free < needed;
    let reserve = match now.free {
        free if waits || free < marks.last => Some(false),
        free if free >= marks.low.saturating_add(RESERVE_BYTES) => Some(true),
        _ => None,
    };
    Verdict { full, reserve }
}

/// What others see of it.
#[derive(Debug, Default)]
pub struct Room {
    free: AtomicU64,
    low: AtomicU64,
    unwritten: AtomicU64,
}

impl Room {
    /// Free bytes at the last look, and below how many nothing new is taken in; `None` before the first.
    #[must_use]
    pub fn figures(&self) -> Option<(u64, u64)> {
        let low = self.low.load(Ordering::Acquire);
        (low != 0).then(|| (self.free.load(Ordering::Acquire), low))
    }

    /// Bytes of the log that wait for room; 0 where there is room.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        self.unwritten.load(Ordering::Acquire)
    }
}

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    _stop: SyncSender<()>,
    /// What it sees.
    pub room: Arc<Room>,
}

/// Says how many bytes of the log wait for room; `None`: there is room.
pub type Unwritten = Box<dyn Fn() -> Option<u64> + Send>;

/// Starts the thread. `data` is the data folder, `snapshots` the folder in it whose newest
/// snapshot says how large the state is.
///
/// # Errors
/// The thread cannot be started.
pub fn start(
    data: &Path,
    snapshots: PathBuf,
    ailing: Arc<Ailing>,
    unwritten: Unwritten,
) -> io::Result<Running> {
    let (stop, stopped) = sync_channel(1);
    let room: Arc<Room> = Arc::default();
    let shown = Arc::clone(&room);
    let data = data.to_owned();
    std::thread::Builder::new().name(String::from("relevo-room")).spawn(move || {
        let mut full = false;
        loop {
            match look(&data) {
                Ok(now) => {
                    let marks = marks(now, &snapshots);
                    let waits = unwritten();
                    let verdict = judge(now, marks, full, waits.is_some());
                    shown.unwritten.store(waits.map_or(0, |bytes| bytes.max(1)), Ordering::Release);
                    shown.free.store(now.free, Ordering::Release);
                    shown.low.store(marks.low.max(1), Ordering::Release);
                    if verdict.full != full {
                        full = verdict.full;
                        ailing.set(Ailment::Full, full);
                        tell(&data, full, now, marks, waits);
                    }
                    keep_reserve(&data.join(RESERVE), verdict.reserve);
                }
                // A folder that is gone, or a disk that fails: those who write find out, and say more.
                Err(e) => tracing::debug!(error = %e, "the room on the disk is unknown"),
            }
            if stopped.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    })?;
    Ok(Running { _stop: stop, room })
}

fn tell(data: &Path, full: bool, now: Bytes, marks: Marks, waits: Option<u64>) {
    let mib = |bytes: u64| bytes >> 20;
    if let (true, Some(bytes)) = (full, waits) {
        tracing::error!(
            "the disk of {} takes no more: {bytes} bytes of the log wait, {} MiB of {} are free; new calls and \
             registrations get 503 until there is room again",
            data.display(),
            mib(now.free),
            mib(now.total),
        );
    } else if full {
        tracing::error!(
            "the disk of {} is nearly full: {} MiB of {} are free, less than {}; new calls and registrations get 503 \
             until there is room again",
            data.display(),
            mib(now.free),
            mib(now.total),
            mib(marks.low)
        );
    } else {
        tracing::info!("the disk of {} has room again: {} MiB are free", data.display(), mib(now.free));
    }
}

/// Two times the newest snapshot must fit: one that is written, one that arrives. What was set aside after damage, or stays
/// of an older state, moves no mark.
fn marks(now: Bytes, snapshots: &Path) -> Marks {
    Marks::of(now.total, newest_bytes(snapshots))
}

fn look(data: &Path) -> io::Result<Bytes> {
    let stat = nix::sys::statvfs::statvfs(data)?;
    let unit = stat.fragment_size();
    Ok(Bytes { free: stat.blocks_available() * unit, total: stat.blocks() * unit })
}

/// Gives the reserve in the data folder up, for a store that finds no room to open. `false`: there is none.
#[must_use]
pub fn give_up_reserve(data: &Path) -> bool {
    let path = data.join(RESERVE);
    let there = path.exists();
    keep_reserve(&path, Some(false));
    there && !path.exists()
}

/// Puts the reserve by, or gives it up.
fn keep_reserve(path: &Path, wanted: Option<bool>) {
    let there = path.exists();
    let done = match wanted {
        Some(true) if !there => put_by(path),
        Some(false) if there => {
            tracing::error!("the reserve on the disk is given up: {}", path.display());
            std::fs::remove_file(path)
        }
        _ => Ok(()),
    };
    if let Err(e) = done {
        tracing::debug!(error = %e, "the reserve {}", path.display());
    }
}

fn put_by(path: &Path) -> io::Result<()> {
    let file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // Where the file system cannot do that, there is no reserve: a file with a hole holds no room.
    let length = i64::try_from(RESERVE_BYTES).unwrap_or(i64::MAX);
    nix::fcntl::posix_fallocate(&file, 0, length).map_err(|e| {
        // Half a reserve is in the way, no more.
        drop(std::fs::remove_file(path));
        io::Error::from(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn marks_fit_small_and_large_file_systems_and_leave_room_for_a_snapshot() {
        assert_eq!(Marks::of(240 * MIB, 0).low, LOW_BYTES);
        assert_eq!(Marks::of(240 * MIB, 10 * MIB).low, LOW_BYTES + 20 * MIB);
        assert_eq!(Marks::of(10 << 40, 0).low, LOW_MOST);
        assert_eq!(Marks::of(40 * MIB, 0).low, 20 * MIB, "not all of a small one");
    }

    #[test]
    fn what_was_set_aside_or_is_half_written_moves_no_mark() {
        let dir = tempfile::tempdir().expect("tempdir");
        let large = MIB as usize * 2;
        let folders = [("gen-0000000000000003", large), ("gen-0000000000000004", 1000), ("new", large)];
        let damaged = [("bad-0000000000000002", large), ("bad-0000000000000005", large)];
        for (name, size) in folders.into_iter().chain(damaged) {
            std::fs::create_dir(dir.path().join(name)).expect("made");
            std::fs::write(dir.path().join(name).join("db"), vec![7; size]).expect("written");
        }
        let disk = Bytes { free: 200 * MIB, total: 240 * MIB };
        assert_eq!(marks(disk, dir.path()).low, LOW_BYTES + 2 * 1000);
        assert_eq!(marks(disk, &dir.path().join("none")).low, LOW_BYTES);
    }

    #[test]
    fn it_is_full_below_the_mark_and_not_any_more_somewhat_above_it() {
        let marks = Marks { low: 48 * MIB, last: 12 * MIB };
        let at = |mib: u64, full| judge(Bytes { free: mib * MIB, total: 240 * MIB }, marks, full, false);
        assert_eq!(at(48, false), Verdict { full: false, reserve: None });
        assert_eq!(at(47, false), Verdict { full: true, reserve: None });
        assert!(at(55, true).full);
        assert!(!at(56, true).full);
        assert_eq!(at(11, true), Verdict { full: true, reserve: Some(false) });
        assert_eq!(at(64, false).reserve, Some(true));
    }

    #[test]
    fn a_log_that_waits_for_room_makes_it_full_whatever_is_free_and_gets_the_reserve() {
        let marks = Marks { low: 48 * MIB, last: 12 * MIB };
        let free = Bytes { free: 200 * MIB, total: 240 * MIB };
        assert_eq!(judge(free, marks, false, true), Verdict { full: true, reserve: Some(false) });
        assert_eq!(judge(free, marks, true, false), Verdict { full: false, reserve: Some(true) });
    }

    #[test]
    fn the_reserve_takes_its_room_and_gives_it_back() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join(RESERVE);
        keep_reserve(&path, Some(true));
        // A file system without fallocate has none.
        if let Ok(meta) = std::fs::metadata(&path) {
            assert_eq!(meta.len(), RESERVE_BYTES);
        }
        keep_reserve(&path, None);
        keep_reserve(&path, Some(false));
        assert!(!path.exists());
        assert!(!give_up_reserve(dir.path()), "there is none");
        std::fs::write(&path, "room").expect("written");
        assert!(give_up_reserve(dir.path()) && !path.exists());
    }
}
