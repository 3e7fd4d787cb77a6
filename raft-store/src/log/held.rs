//! The claim that outlives a process: a page of memory that the guard holds and hands to each of its agents.
//!
//! The log stores in it up to where it is durable, after each sync and without a system call. It is exact when a process
//! has died, and gone after a power cut, where the seal is what is left.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Identity, Mark};

/// Bytes of the page.
pub const HELD_BYTES: usize = 4096;
const MAGIC: u64 = u64::from_le_bytes(*b"RLheld01");

/// Words of the page: magic, cluster, node, position, index. The magic is written last and taken away first.
const WORDS: usize = 5;

/// A claim kept outside of the process.
pub trait Held: Send + Sync {
    /// What the process before this one stored for the log of `identity`.
    fn load(&self, identity: Identity) -> Option<Mark>;
    /// From now on it is about the log of `identity`, durable up to `mark`.
    fn begin(&self, identity: Identity, mark: Mark);
    /// The log is durable up to `mark`.
    fn store(&self, mark: Mark);
}

/// [`Held`] in shared memory.
pub struct SharedPage {
    words: NonNull<[AtomicU64; WORDS]>,
}

// SAFETY: the memory is shared with the guard by design, and only touched through atomics.
unsafe impl Send for SharedPage {}
// SAFETY: as above.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// Maps the page behind `fd`, which must have [`HELD_BYTES`].
    ///
    /// # Errors
    /// It is shorter, or cannot be mapped.
    pub fn map(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let stat = nix::sys::stat::fstat(fd)?;
        if u64::try_from(stat.st_size).unwrap_or(0) < HELD_BYTES as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the guard's page is too short"));
        }
        let (read_write, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice; the result is checked.
        let at =
            unsafe { libc::mmap(std::ptr::null_mut(), HELD_BYTES, read_write, shared, fd.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let words = NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Self { words })
    }

    fn words(&self) -> &[AtomicU64; WORDS] {
        // SAFETY: mapped, aligned and zeroed by the kernel; unmapped only by drop.
        unsafe { self.words.as_ref() }
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and nothing borrows it any more.
        unsafe { libc::munmap(self.words.as_ptr().cast(), HELD_BYTES) };
    }
}

impl Held for SharedPage {
    fn load(&self, identity: Identity) -> Option<Mark> {
        let [magic, cluster, node, end, next] = self.words();
        let own = magic.load(Ordering::Acquire) == MAGIC
            && cluster.load(Ordering::Relaxed) == identity.cluster
            && node.load(Ordering::Relaxed) == identity.node;
        own.then(|| Mark { end: end.load(Ordering::Relaxed), next: next.load(Ordering::Relaxed) })
    }

    fn begin(&self, identity: Identity, mark: Mark) {
        let [magic, cluster, node, ..] = self.words();
        magic.store(0, Ordering::SeqCst);
        cluster.store(identity.cluster, Ordering::Relaxed);
        node.store(identity.node, Ordering::Relaxed);
        self.store(mark);
        magic.store(MAGIC, Ordering::Release);
    }

    fn store(&self, mark: Mark) {
        let [_, _, _, end, next] = self.words();
        // The index first: a process may die between the two, and the position is what counts.
        next.store(mark.next, Ordering::Release);
        end.store(mark.end, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_page_keeps_the_claim_of_one_log_for_the_next_process() {
        let file = tempfile::tempfile().expect("a file");
        assert!(SharedPage::map(file.as_fd()).is_err(), "too short");
        file.set_len(HELD_BYTES as u64).expect("as long");
        let (one, other) = (Identity::new("lab", 1), Identity::new("lab", 2));
        let page = SharedPage::map(file.as_fd()).expect("maps");
        assert_eq!(page.load(one), None);
        page.begin(one, Mark { end: 10, next: 1 });
        page.store(Mark { end: 50, next: 3 });
        drop(page);
        let page = SharedPage::map(file.as_fd()).expect("maps again");
        assert_eq!(page.load(one), Some(Mark { end: 50, next: 3 }));
        assert_eq!(page.load(other), None, "another log's claim says nothing");
    }
}
