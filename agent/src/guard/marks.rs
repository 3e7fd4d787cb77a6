//! Where each engine thread notes which message it handles: a page that the guard holds, so that it outlives the agent.
//! After a death the guard reads from it which messages may have been the cause.
//!
//! One store to memory per message, no system call. The page is a memfd that the agent inherits.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Environment variable with the number of the inherited memfd.
pub const MARKS_FD: &str = "RELEVO_MARKS_FD";
/// Engine threads that have a place; those beyond it note nothing.
pub const MAX_MARKS: usize = 64;
const BYTES: NonZeroUsize = NonZeroUsize::new(MAX_MARKS * size_of::<AtomicU64>()).unwrap();

/// The page, shared by guard and agent.
#[derive(Debug)]
pub struct Marks {
    /// Kept open by the guard, which hands it to each agent.
    fd: Option<OwnedFd>,
    page: NonNull<[AtomicU64; MAX_MARKS]>,
}

// SAFETY: the page stays mapped as long as this lives, and is only touched through atomics.
unsafe impl Send for Marks {}
// SAFETY: as above.
unsafe impl Sync for Marks {}

impl Marks {
    fn map(fd: &OwnedFd) -> io::Result<NonNull<[AtomicU64; MAX_MARKS]>> {
        // SAFETY: a new mapping at an address that the kernel chooses touches no other memory.
        let page = unsafe {
            mmap(None, BYTES, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, fd, 0)
        };
        // Page-aligned and zeroed by the kernel: valid for atomics.
        Ok(page?.cast())
    }

    /// A page of its own, all zero.
    ///
    /// # Errors
    /// The kernel gives none.
    pub fn new() -> io::Result<Self> {
        let fd = memfd_create(c"relevo-marks", MFdFlags::MFD_CLOEXEC)?;
        nix::unistd::ftruncate(&fd, BYTES.get() as i64)?;
        let page = Self::map(&fd)?;
        Ok(Self { fd: Some(fd), page })
    }

    /// The page that the guard has left to this process; `None` when there is none. To be called once.
    #[must_use]
    pub fn from_env() -> Option<Self> {
        let fd: RawFd = std::env::var(MARKS_FD).ok()?.parse().ok()?;
        // SAFETY: fcntl on any number is safe; it says whether that descriptor is open.
        if fd <= 2 || unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return None;
        }
        // SAFETY: the guard opened it for this process, which takes it exactly once, here.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // A file that is shorter would be a fault of memory at the first touch.
        if nix::sys::stat::fstat(&fd).ok()?.st_size < BYTES.get() as i64 {
            return None;
        }
        Self::map(&fd).ok().map(|page| Self { fd: None, page })
    }

    /// For the child that shall inherit it.
    #[must_use]
    pub fn fd(&self) -> Option<RawFd> {
        self.fd.as_ref().map(AsRawFd::as_raw_fd)
    }

    fn all(&self) -> &[AtomicU64; MAX_MARKS] {
        // SAFETY: mapped as long as this lives; atomics may be shared with another process.
        unsafe { self.page.as_ref() }
    }

    /// Engine number `shard` handles the message with this fingerprint from here on; 0 for none.
    pub fn note(&self, shard: u16, fingerprint: u64) {
        if let Some(mark) = self.all().get(usize::from(shard)) {
            mark.store(fingerprint, Ordering::Release);
        }
    }

    /// Takes out what the dead agent has left: the messages that it was at.
    pub fn take(&self) -> impl Iterator<Item = u64> {
        self.all().iter().map(|mark| mark.swap(0, Ordering::AcqRel)).filter(|print| *print != 0)
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        // SAFETY: mapped by this and with this length; nobody has a reference any more.
        let _ = unsafe { munmap(self.page.cast(), BYTES.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_process_notes_the_other_takes_out_once() {
        let guard = Marks::new().expect("a page");
        let fd = guard.fd.as_ref().expect("its descriptor");
        let agent = Marks { fd: None, page: Marks::map(fd).expect("mapped") };
        agent.note(0, 7);
        agent.note(3, 9);
        agent.note(3, 0);
        agent.note(5, 11);
        agent.note(u16::MAX, 13);
        assert_eq!(guard.take().collect::<Vec<_>>(), [7, 11]);
        assert_eq!(guard.take().count(), 0);
    }
}
