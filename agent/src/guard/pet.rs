//! What the agent tells its guard a few times per lease: that it lives, and what the guard must know if it dies.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Environment variable with the number of the inherited socket.
pub const GUARD_FD: &str = "RELEVO_GUARD_FD";
/// Environment variable with the number of deaths in a row before this start.
pub const DEATHS: &str = "RELEVO_DEATHS";

const BYTES: usize = 16;
/// The agent's end gets a number above all its other descriptors: the kernel closes those of a dead process from the
/// highest down, and waits tens of milliseconds at each packet socket. So the guard hears of a death at once.
const HIGH_FD: RawFd = 400;

/// The state of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PetInfo {
    /// Raft's term.
    pub term: u64,
    /// This node leads in it.
    pub leading: bool,
    /// The kernel's gate is open.
    pub lease_held: bool,
    /// Who should lead and hold if this agent dies.
    pub heir: Option<u16>,
    /// Another appliance holds the service, or is fit, heard and caught up.
    pub elsewhere: bool,
}

impl PetInfo {
    fn encode(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&self.term.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.heir.unwrap_or(0).to_le_bytes());
        bytes[10] = u8::from(self.leading);
        bytes[11] = u8::from(self.lease_held);
        bytes[12] = u8::from(self.elsewhere);
        bytes
    }

    fn decode(bytes: &[u8; BYTES]) -> Self {
        let (term, rest) =
            bytes.split_first_chunk::<8>().map_or((0, &bytes[..]), |(t, r)| (u64::from_le_bytes(*t), r));
        let heir = u16::from_le_bytes([rest[0], rest[1]]);
        Self {
            term,
            heir: (heir != 0).then_some(heir),
            leading: rest[2] == 1,
            lease_held: rest[3] == 1,
            elsewhere: rest[4] == 1,
        }
    }
}

/// The agent's end.
#[derive(Debug)]
pub struct Petter(OwnedFd);

impl Petter {
    /// Takes the socket that the guard has left to this process; `None` when there is no guard. To be called once.
    #[must_use]
    pub fn from_env() -> Option<Self> {
        let fd: RawFd = std::env::var(GUARD_FD).ok()?.parse().ok()?;
        // SAFETY: fcntl on any number is safe; it says whether that descriptor is open.
        if fd <= 2 || unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return None;
        }
        // SAFETY: the guard opened it for this process, which takes it exactly once, here.
        let given = unsafe { OwnedFd::from_raw_fd(fd) };
        die_with_guard(&given);
        // SAFETY: the descriptor is open; the result is checked before it becomes an owned one.
        let high = unsafe { libc::fcntl(given.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH_FD) };
        if high < 0 {
            return Some(Self(given));
        }
        // SAFETY: `high` was just opened and belongs to nobody else.
        Some(Self(unsafe { OwnedFd::from_raw_fd(high) }))
    }

    /// Says it. Never blocks; a guard that does not read needs no news.
    pub fn pet(&self, info: PetInfo) {
        let bytes = info.encode();
        // SAFETY: the buffer lives through the call and its length is right.
        unsafe {
            libc::send(
                self.0.as_raw_fd(),
                bytes.as_ptr().cast(),
                BYTES,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            );
        }
    }
}

/// Has the kernel kill this process when its guard ends. The guard has asked for that already, but the kernel forgets it
/// at the start of a program that has rights of its own (`setcap`, execve(2)).
fn die_with_guard(collar_end: &OwnedFd) {
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let mut byte = 0_u8;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the buffer lives through the call and its length is right.
    let got = unsafe { libc::recv(collar_end.as_raw_fd(), (&raw mut byte).cast(), 1, flags) };
    if got == 0 {
        // It has died before the line above; nothing has been begun here.
        std::process::abort();
    }
}

/// The guard's end.
#[derive(Debug)]
pub struct Collar {
    own: OwnedFd,
}

impl Collar {
    /// Makes both ends; the second is for the agent.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
        let flags = SockFlag::SOCK_CLOEXEC;
        let (own, child) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self { own }, child))
    }

    /// For poll.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.own.as_raw_fd()
    }

    /// The newest of what has arrived, if anything has.
    #[must_use]
    pub fn newest(&self) -> Option<PetInfo> {
        let mut newest = None;
        let mut bytes = [0_u8; BYTES];
        loop {
            // SAFETY: the buffer lives through the call and its length is right.
            let got = unsafe {
                libc::recv(self.own.as_raw_fd(), bytes.as_mut_ptr().cast(), BYTES, libc::MSG_DONTWAIT)
            };
            if got != BYTES as isize {
                return newest;
            }
            newest = Some(PetInfo::decode(&bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_hears_the_newest_of_what_was_said() {
        let (collar, child) = Collar::pair().expect("pair");
        assert_eq!(collar.newest(), None);
        let petter = Petter(child);
        petter.pet(PetInfo { term: 1, ..PetInfo::default() });
        let last = PetInfo { term: 7, leading: true, lease_held: true, heir: Some(2), elsewhere: true };
        petter.pet(last);
        assert_eq!(collar.newest(), Some(last));
        assert_eq!(collar.newest(), None);
    }

    #[test]
    fn the_kernel_is_asked_again_to_end_the_agent_with_its_guard() {
        let (_collar, child) = Collar::pair().expect("pair");
        let asked = || {
            let mut signal = 0;
            // SAFETY: the place lives through the call.
            assert_eq!(unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) }, 0);
            signal
        };
        assert_eq!(asked(), 0);
        die_with_guard(&child);
        let after = asked();
        // SAFETY: no pointers.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) };
        assert_eq!(after, libc::SIGKILL);
    }

    #[test]
    fn an_agent_whose_guard_does_not_read_is_not_held_up() {
        let (_collar, child) = Collar::pair().expect("pair");
        let petter = Petter(child);
        for term in 0..10_000 {
            petter.pet(PetInfo { term, ..PetInfo::default() });
        }
    }
}
