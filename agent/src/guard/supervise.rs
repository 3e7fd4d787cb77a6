//! The guard's loop.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::alone::Alone;
use super::notice::{Notice, encode};
use super::pet::{Collar, GUARD_FD, PetInfo};
use super::{GuardConfig, HEALTHY_AFTER, IDLE_SILENCE, RESTART_PAUSES};
use crate::os::lease::KernelLease;
use crate::os::rt;
use crate::os::vip::Addresses;
use crate::os::{OsError, os_error};

/// Notices sent of one death: UDP loses some.
const NOTICES: u32 = 3;
/// Between two of them.
const NOTICE_PAUSE: Duration = Duration::from_millis(10);
/// A guard that wakes up so late was stopped itself, and all the machine with it, perhaps.
const OVERSLEPT: Duration = Duration::from_millis(20);

/// Takes the floating IP down. Made before the agent starts, so that nothing can be missing when it has died.
struct Undertaker {
    floating: Option<(KernelLease, Addresses)>,
    socket: Option<UdpSocket>,
}

impl Undertaker {
    fn new(config: &GuardConfig) -> Result<Self, OsError> {
        let floating = match &config.vip {
            Some(vip) => {
                let ips: Vec<_> = vip.addresses.iter().map(|(ip, _)| *ip).collect();
                Some((KernelLease::attach(&ips)?, Addresses::new(vip)?))
            }
            None => None,
        };
        // Without it the peers wait for the lease: slower, and no less safe.
        let socket = UdpSocket::bind((config.source, 0)).and_then(|s| s.set_nonblocking(true).map(|()| s));
        let socket = socket.map_err(|e| tracing::warn!(error = %e, "no notices to the peers")).ok();
        Ok(Self { floating, socket })
    }

    /// Whether it is certain that the floating IP is down.
    fn take_down(&self) -> bool {
        let Some((lease, addresses)) = &self.floating else { return true };
        let closed = lease.clear();
        let removed = addresses.remove();
        if let Err(e) = closed.and(removed) {
            tracing::error!(error = %e, "the floating IP could not be taken down; the kernel does when the lease ends");
            return false;
        }
        true
    }

    fn tell(&self, datagram: &[u8], config: &GuardConfig) {
        for peer in self.socket.iter().flat_map(|s| config.peers.iter().map(move |p| (s, p))) {
            // Lost ones are made up for by the repetitions, and by the lease.
            drop(peer.0.send_to(datagram, peer.1));
        }
    }
}

fn start(collar_end: &OwnedFd) -> io::Result<Child> {
    let fd = collar_end.as_raw_fd();
    let parent = std::process::id();
    let mut command = Command::new("/proc/self/exe");
    command.args(std::env::args_os().skip(1)).env(GUARD_FD, fd.to_string());
    // SAFETY: only system calls that are safe between fork and exec.
    unsafe {
        command.pre_exec(move || {
            let inherit = libc::fcntl(fd, libc::F_SETFD, 0);
            if inherit < 0 || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The guard may have died before the line above.
            if libc::getppid() as u32 != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            // The signals that the guard has blocked stay so: one that comes before the agent listens waits for it.
            Ok(())
        });
    }
    command.spawn()
}

/// A descriptor that becomes readable when the process has ended.
fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: no pointers; the result is checked before it becomes an owned descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id() as libc::pid_t, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and belongs to nobody else; descriptors fit.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The agent, and what the guard knows it by.
struct Agent {
    child: Child,
    pid: OwnedFd,
    collar: Collar,
}

impl Agent {
    /// Starts one. None is left behind by an error.
    fn start() -> io::Result<Self> {
        let (collar, child_end) = Collar::pair()?;
        let mut child = start(&child_end)?;
        match pidfd(&child) {
            Ok(pid) => Ok(Self { child, pid, collar }),
            Err(e) => {
                child.kill()?;
                child.wait()?;
                Err(e)
            }
        }
    }
}

/// What one life of the agent came to.
struct Life {
    status: ExitStatus,
    last: Option<PetInfo>,
    asked_to_end: bool,
    lasted: Duration,
    /// The peers have been told already.
    announced: bool,
}

fn readable(fds: &[PollFd<'_>], n: usize) -> bool {
    fds.get(n).and_then(PollFd::any).unwrap_or(false)
}

/// Lives one life of the agent: to its death, which is certain when this returns.
fn live(config: &GuardConfig, signals: &SignalFd, undertaker: &Undertaker, agent: Agent) -> io::Result<Life> {
    let Agent { mut child, pid, collar } = agent;
    let born = Instant::now();
    let (mut last, mut heard, mut asked_to_end): (Option<PetInfo>, _, _) = (None, born, false);
    let (mut hung_up, mut announced, mut excused) = (false, false, false);
    loop {
        let limit = match last {
            None => None,
            Some(info) if info.lease_held => Some(config.lease),
            Some(_) => Some(IDLE_SILENCE),
        };
        let now = Instant::now();
        let left = limit.map(|l| (heard + l).saturating_duration_since(now));
        // Rounded up: a poll that returns early would spin.
        let wait = left.map_or(PollTimeout::NONE, |d| {
            PollTimeout::try_from(d.as_millis() + 1).unwrap_or(PollTimeout::MAX)
        });
        // SAFETY: the collar lives longer than this borrow.
        let collar_fd = unsafe { BorrowedFd::borrow_raw(collar.fd()) };
        let mut fds = [
            PollFd::new(pid.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(collar_fd, PollFlags::POLLIN),
        ];
        let watched = if hung_up { 2 } else { 3 };
        match poll(&mut fds[..watched], wait) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        if readable(&fds, 0) {
            // Before anything else: it is dead, and the floating IP must go.
            undertaker.take_down();
            last = collar.newest().or(last);
            let status = child.wait()?;
            return Ok(Life { status, last, asked_to_end, lasted: born.elapsed(), announced });
        }
        let overslept = left.is_some_and(|left| now.elapsed() > left + OVERSLEPT);
        let end = fds[2].revents().is_some_and(|r| r.contains(PollFlags::POLLHUP));
        if let Some(info) = collar.newest() {
            (last, heard, excused) = (Some(info), Instant::now(), false);
        } else if overslept && !excused {
            // What stopped the guard may have stopped the agent, too, which gets its time again, once. The gate does not
            // wait for that: the kernel has closed it when the lease ended.
            (heard, excused) = (Instant::now(), true);
        } else if limit.is_some_and(|l| heard.elapsed() >= l) {
            // std's kill: it cannot hit another process, because the child has not been waited for.
            child.kill()?;
            // The end shows on the pidfd; an agent that the kernel cannot end holds nothing once the gate is closed.
            undertaker.take_down();
            // Only now: a log that nobody reads may hold up who writes it.
            tracing::error!(
                silent_ms = heard.elapsed().as_millis() as u64,
                "the agent is silent and was killed"
            );
            (heard, last) = (Instant::now(), last.map(|info| PetInfo { lease_held: false, ..info }));
        }
        if end && !hung_up {
            // The kernel closes the descriptors of a process when its last thread is past its last instruction, and
            // needs tens of milliseconds more until the process counts as ended (it waits for packet sockets). An agent
            // that ends as it should says before that it leads no more.
            hung_up = true;
            if last.is_some_and(|info| info.leading) {
                // A no-op for one that is dying already; certainty for one that has only lost its control thread.
                child.kill()?;
                announced = announce(config, undertaker, last);
            }
        }
        while let Ok(Some(signal)) = signals.read_signal() {
            asked_to_end = true;
            let signal = Signal::try_from(signal.ssi_signo as i32).unwrap_or(Signal::SIGTERM);
            // It may just have ended.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), signal);
        }
    }
}

/// Starts the agent (this program again, with the same arguments), again and again, until it ends as it should;
/// returns the exit code for this process: that of the last agent.
/// `signals` must have been blocked in this thread, and no other thread may have been started.
///
/// # Errors
/// The floating IP's interface is missing, a right is missing, or the agent cannot be started.
pub fn supervise(config: &GuardConfig, signals: &SigSet) -> Result<u8, OsError> {
    // Whoever started this may have left it ignored. The kernel would then bury the agent itself, and its process id could
    // be another's when the guard means the agent.
    // SAFETY: no handler is installed.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.map_err(|e| os_error("SIGCHLD")(e.into()))?;
    let _alone = config.vip.as_ref().map(|_| Alone::take()).transpose()?;
    let undertaker = Undertaker::new(config)?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(signals, flags).map_err(|e| os_error("signals")(e.into()))?;
    if let Err(e) = rt::lock_memory() {
        tracing::info!(error = %e, "the guard's memory is not locked: it may be slow when the machine swaps");
    }
    if let Err(e) = rt::spare_when_memory_is_short() {
        tracing::info!(error = %e, "guard and agent are not spared when memory is short");
    }
    rt::realtime_or_say(rt::GUARD_PRIORITY, "guard");
    let mut restarts = 0;
    loop {
        let agent = match Agent::start() {
            Ok(agent) => agent,
            Err(e) if restarts == 0 => return Err(os_error("starting the agent")(e)),
            // Memory is short, perhaps; that may be why the last one has died.
            Err(e) => {
                let pause = next_pause(&mut restarts);
                tracing::error!(error = %e, pause_ms = pause.as_millis() as u64, "the agent cannot be started");
                if wait_or_signal(&signals, pause) {
                    return Ok(0);
                }
                continue;
            }
        };
        let life = live(config, &signals, &undertaker, agent).map_err(os_error("running the agent"))?;
        if !life.announced {
            announce(config, &undertaker, life.last);
        }
        let code = life.status.code().map(|c| u8::try_from(c).unwrap_or(u8::MAX));
        let never_ready = life.last.is_none() && restarts == 0;
        if let Some(code) = code
            && (code == 0 || life.asked_to_end || code == config.final_exit || never_ready)
        {
            return Ok(code);
        }
        if life.asked_to_end {
            return Ok(u8::MAX);
        }
        if life.lasted >= HEALTHY_AFTER {
            restarts = 0;
        }
        let pause = next_pause(&mut restarts);
        tracing::error!(
            signal = life.status.signal(),
            code = life.status.code(),
            pause_ms = pause.as_millis() as u64,
            "the agent has died and is started again"
        );
        if wait_or_signal(&signals, pause) {
            return Ok(0);
        }
    }
}

/// The pause before a restart, after this many.
fn next_pause(restarts: &mut usize) -> Duration {
    let pause = RESTART_PAUSES[(*restarts).min(RESTART_PAUSES.len() - 1)];
    *restarts += 1;
    pause
}

/// Tells the peers, if they would otherwise wait for a leader that is dead and holds nothing.
fn announce(config: &GuardConfig, undertaker: &Undertaker, last: Option<PetInfo>) -> bool {
    let Some(PetInfo { term, leading: true, heir, .. }) = last else { return false };
    let Some(heir) = heir else {
        tracing::info!(
            term,
            "the agent knew of nobody who could follow: the peers wait for their election timeout"
        );
        return false;
    };
    // Again, and now it counts: nothing may be said unless the floating IP is certainly down.
    if !undertaker.take_down() {
        return false;
    }
    let datagram = encode(Notice { dead: config.place, term, heir }, &config.key);
    for n in 0..NOTICES {
        if n > 0 {
            std::thread::park_timeout(NOTICE_PAUSE);
        }
        undertaker.tell(&datagram, config);
    }
    true
}

/// Waits; `true` if a signal asks for the end.
fn wait_or_signal(signals: &SignalFd, pause: Duration) -> bool {
    let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    let wait = PollTimeout::try_from(pause.as_millis()).unwrap_or(PollTimeout::MAX);
    matches!(poll(&mut fds, wait), Ok(n) if n > 0)
}
