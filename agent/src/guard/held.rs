//! The page in which the log says up to where it is durable: the guard holds it, so that it outlives the agent.
//!
//! The guard never looks into it. Every agent inherits it under one fixed number, `HELD_FD`; the name of the memory
//! tells it from whatever else may have that number.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::memfd::{MFdFlags, memfd_create};
use raft_store::log::{HELD_BYTES, SharedPage};

/// Number of the descriptor in guard and agent: above those that either opens by itself before it takes this one.
const HELD_FD: RawFd = 390;
/// Name of the memory; the kernel shows it in `/proc/self/fd`.
const NAME: &str = "relevo-held";

/// The guard's part: makes the page, for all agents that it starts. Without one the log has only its seal.
#[must_use]
pub fn keep() -> Option<OwnedFd> {
    make().map_err(|e| tracing::warn!(error = %e, "the end of the log is not kept beside the agent")).ok()
}

fn make() -> io::Result<OwnedFd> {
    let page = memfd_create(NAME, MFdFlags::MFD_CLOEXEC)?;
    nix::unistd::ftruncate(&page, libc::off_t::try_from(HELD_BYTES).map_err(io::Error::other)?)?;
    // SAFETY: fcntl on open descriptors; the copy is inherited by the agents, and by nothing else that a guard starts.
    let copy = unsafe { libc::fcntl(page.as_raw_fd(), libc::F_DUPFD, HELD_FD) };
    if copy != HELD_FD {
        if copy >= 0 {
            // SAFETY: just opened, and nobody else knows it.
            drop(unsafe { OwnedFd::from_raw_fd(copy) });
            return Err(io::Error::other(format!("descriptor {HELD_FD} is taken")));
        }
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// The agent's part: the page that its guard has left to it, if there is one. Programs that the agent starts do not
/// inherit it.
#[must_use]
pub fn take() -> Option<SharedPage> {
    let link = std::fs::read_link(format!("/proc/self/fd/{HELD_FD}")).ok()?;
    if !link.to_string_lossy().starts_with(&format!("/memfd:{NAME}")) {
        return None;
    }
    // SAFETY: the guard opened it for this process, and nothing here uses the number but this function.
    let page = unsafe { OwnedFd::from_raw_fd(HELD_FD) };
    let mapped = SharedPage::map(std::os::fd::AsFd::as_fd(&page));
    // The mapping stays when the descriptor is closed, which happens here.
    mapped.map_err(|e| tracing::warn!(error = %e, "the guard's page cannot be used")).ok()
}

#[cfg(test)]
mod tests {
    use raft_store::log::{Held, Identity, Mark};

    use super::*;

    #[test]
    fn a_claim_is_there_for_the_next_agent_as_long_as_the_guard_holds_the_page() {
        let held = keep().expect("a page");
        let identity = Identity::new("lab", 1);
        let agent = |claim: Option<u64>| {
            // An agent has a descriptor of its own; here all are one process.
            let page = SharedPage::map(std::os::fd::AsFd::as_fd(&held)).expect("maps");
            let before = page.load(identity).map(|mark| mark.end);
            if let Some(end) = claim {
                page.begin(identity, Mark { end, next: 1 });
            }
            before
        };
        assert_eq!((agent(Some(40)), agent(Some(90)), agent(None)), (None, Some(40), Some(90)));
        let link = std::fs::read_link(format!("/proc/self/fd/{HELD_FD}")).expect("open");
        assert!(link.to_string_lossy().contains(NAME), "{link:?}");
    }
}
