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
use super::marks::{MARKS_FD, Marks};
use super::notice::{Notice, encode};
use super::pause::{self, Known};
use super::pet::{Collar, DEATHS, GUARD_FD, PetInfo};
use super::question::{self, Word};
use super::suspects::{SUSPECTS, Suspects};
use super::{GuardConfig, HEALTHY_AFTER, IDLE_SILENCE};
use crate::os::lease::KernelLease;
use crate::os::rt;
use crate::os::vip::Addresses;
use crate::os::{OsError, os_error};
use crate::run::signals::{self, Wish};

/// Notices sent of one death: UDP loses some.
const NOTICES: u32 = 3;
/// Between two of them.
const NOTICE_PAUSE: Duration = Duration::from_millis(10);
/// Between two questions to the others whether they serve.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Answers to so many questions before the newest one are believed.
const LATE_ANSWERS: u64 = 3;
/// What the agent said of the others counts so long.
const TOLD_COUNTS: Duration = Duration::from_secs(1);
/// Deaths in a row of which each is told; later ones at powers of two.
const TOLD_DEATHS: u32 = 16;
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

    /// Whether an answer to one of the newest questions up to `number` is there that says that its node serves.
    fn hears_one_serve(&self, number: u64, config: &GuardConfig) -> bool {
        let Some(socket) = &self.socket else { return false };
        // One byte more than an answer: what is longer is none.
        let mut buffer = [0; question::BYTES + 1];
        let mut found = false;
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((n, _)) => {
                    if let Some(Word::Answer { from, number: of, serves }) =
                        question::verify(&buffer[..n], &config.key)
                    {
                        let is_new = of <= number && of + LATE_ANSWERS >= number;
                        found |= serves && is_new && from != config.place;
                    }
                }
                // A question that came to nothing: nobody listens there.
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return found,
            }
        }
    }

    fn tell(&self, datagram: &[u8], config: &GuardConfig) {
        for peer in self.socket.iter().flat_map(|s| config.peers.iter().map(move |p| (s, p))) {
            // Lost ones are made up for by the repetitions, and by the lease.
            drop(peer.0.send_to(datagram, peer.1));
        }
    }
}

/// What an agent is told when it starts.
struct Before<'a> {
    deaths: u32,
    marks: Option<&'a Marks>,
    suspects: &'a Suspects,
}

fn start(collar_end: &OwnedFd, before: &Before<'_>) -> io::Result<Child> {
    let fd = collar_end.as_raw_fd();
    let parent = std::process::id();
    let mut command = Command::new("/proc/self/exe");
    command.arg0("relevo");
    command.args(std::env::args_os().skip(1)).env(GUARD_FD, fd.to_string());
    command.env(DEATHS, before.deaths.to_string()).env(SUSPECTS, before.suspects.text());
    let marks = before.marks.and_then(Marks::fd);
    if let Some(marks) = marks {
        command.env(MARKS_FD, marks.to_string());
    }
    // SAFETY: only system calls that are safe between fork and exec.
    unsafe {
        command.pre_exec(move || {
            let inherit = libc::fcntl(fd, libc::F_SETFD, 0);
            let marks = marks.map_or(0, |marks| libc::fcntl(marks, libc::F_SETFD, 0));
            if inherit < 0 || marks < 0 || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
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
    fn start(before: &Before<'_>) -> io::Result<Self> {
        let (collar, child_end) = Collar::pair()?;
        let mut child = start(&child_end, before)?;
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
    died: Instant,
    /// It said shortly before its death that another appliance could take over.
    elsewhere: bool,
    /// The peers have been told already.
    announced: bool,
}

fn readable(fds: &[PollFd<'_>], n: usize) -> bool {
    fds.get(n).and_then(PollFd::any).unwrap_or(false)
}

/// Lives one life of the agent: to its death, which is certain when this returns.
fn live(config: &GuardConfig, asked: &SignalFd, undertaker: &Undertaker, agent: Agent) -> io::Result<Life> {
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
            PollFd::new(asked.as_fd(), PollFlags::POLLIN),
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
            let died = Instant::now();
            if let Some(info) = collar.newest() {
                (last, heard) = (Some(info), died);
            }
            let status = child.wait()?;
            let elsewhere =
                last.is_some_and(|info| info.elsewhere) && died.duration_since(heard) < TOLD_COUNTS;
            let lasted = died.duration_since(born);
            return Ok(Life { status, last, asked_to_end, lasted, died, elsewhere, announced });
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
        while let Ok(Some(signal)) = asked.read_signal() {
            let signal = signals::name(&signal);
            match signals::wish(signal) {
                Wish::End => asked_to_end = true,
                Wish::Reload => {}
                Wish::Nothing => {
                    signals::tell_nothing(signal);
                    continue;
                }
            }
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
    let _alone = config.vip.as_ref().map(|_| Alone::take_when_free()).transpose()?;
    let _page = super::held::keep();
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
    let mut deaths = 0_u32;
    let mut number = first_number();
    let mut lives = 0_u64;
    let marks = Marks::new();
    let marks = marks.map_err(|e| tracing::warn!(error = %e, "no marks of messages are kept")).ok();
    let mut suspects = Suspects::default();
    loop {
        let before = Before { deaths, marks: marks.as_ref(), suspects: &suspects };
        let agent = match Agent::start(&before) {
            Ok(agent) => agent,
            Err(e) if lives == 0 => return Err(os_error("starting the agent")(e)),
            // Memory is short, perhaps; that may be why the last one has died.
            Err(e) => {
                deaths = deaths.saturating_add(1);
                if is_told(deaths) {
                    tracing::error!(error = %e, deaths, "the agent cannot be started");
                }
                let rest = Rest { deaths, died: Instant::now(), told: false };
                if rest.until_needed(config, &undertaker, &signals, &mut number) {
                    return Ok(0);
                }
                continue;
            }
        };
        lives += 1;
        let life = live(config, &signals, &undertaker, agent).map_err(os_error("running the agent"))?;
        if !life.announced {
            announce(config, &undertaker, life.last);
        }
        let code = life.status.code().map(|c| u8::try_from(c).unwrap_or(u8::MAX));
        let never_ready = life.last.is_none() && lives == 1;
        if let Some(code) = code
            && (code == 0 || life.asked_to_end || code == config.final_exit || never_ready)
        {
            return Ok(code);
        }
        if life.asked_to_end {
            return Ok(u8::MAX);
        }
        let at_hand = marks.iter().flat_map(Marks::take);
        if is_crash(life.status) {
            let moment = now_ms();
            at_hand.for_each(|fingerprint| suspects.add(fingerprint, moment));
        } else {
            // Who was killed from outside did not die of what it had in hand.
            at_hand.for_each(drop);
        }
        deaths = if life.lasted >= HEALTHY_AFTER { 1 } else { deaths.saturating_add(1) };
        if is_told(deaths) {
            tracing::error!(
                signal = life.status.signal(),
                code = life.status.code(),
                deaths,
                "the agent has died and is started again"
            );
        }
        let rest = Rest { deaths, died: life.died, told: life.elsewhere };
        if rest.until_needed(config, &undertaker, &signals, &mut number) {
            return Ok(0);
        }
    }
}

/// Whether the agent ended by a fault of its own.
fn is_crash(status: ExitStatus) -> bool {
    const FAULTS: [Signal; 6] =
        [Signal::SIGABRT, Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGTRAP];
    status.signal().is_some_and(|signal| FAULTS.iter().any(|fault| *fault as i32 == signal))
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// An agent that dies ten times in a second fills no log.
fn is_told(deaths: u32) -> bool {
    deaths <= TOLD_DEATHS || deaths.is_power_of_two()
}

/// Another one in each guard, so that answers to a former one say nothing.
fn first_number() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // Half of the range is left to count on.
    std::collections::hash_map::RandomState::new().build_hasher().finish() >> 1
}

/// The time between two lives of the agent.
#[derive(Clone, Copy)]
struct Rest {
    deaths: u32,
    died: Instant,
    told: bool,
}

impl Rest {
    /// Waits as long as [`pause::left`] says; `true` if a signal asks for the end. `number` is that of the next question.
    fn until_needed(
        self,
        config: &GuardConfig,
        undertaker: &Undertaker,
        signals: &SignalFd,
        number: &mut u64,
    ) -> bool {
        let (mut heard, mut asked): (Option<Instant>, Option<Instant>) = (None, None);
        loop {
            let known = Known {
                deaths: self.deaths,
                since: self.died.elapsed(),
                told: self.told,
                serving: heard.map(|at| at.elapsed()),
            };
            let left = pause::left(&known);
            if left.is_zero() {
                return false;
            }
            if asked.is_none_or(|at| at.elapsed() >= ASK_EVERY) {
                *number += 1;
                let question = Word::Question { from: config.place, number: *number };
                undertaker.tell(&question::encode(question, &config.key), config);
                asked = Some(Instant::now());
            }
            let socket = undertaker.socket.as_ref().map(AsFd::as_fd);
            if wait_or_signal(signals, socket, left.min(ASK_EVERY)) {
                return true;
            }
            if undertaker.hears_one_serve(*number, config) {
                heard = Some(Instant::now());
            }
        }
    }
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

/// Waits, or until something can be read from `socket`; `true` if a signal asks for the end.
fn wait_or_signal(asked: &SignalFd, socket: Option<BorrowedFd<'_>>, pause: Duration) -> bool {
    let ears = socket.unwrap_or(asked.as_fd());
    let mut fds = [PollFd::new(asked.as_fd(), PollFlags::POLLIN), PollFd::new(ears, PollFlags::POLLIN)];
    // Rounded up: a poll that returns early would spin.
    let wait = PollTimeout::try_from(pause.as_millis() + 1).unwrap_or(PollTimeout::MAX);
    let spoke = matches!(poll(&mut fds, wait), Ok(n) if n > 0) && readable(&fds, 0);
    // An agent that is yet to start reads the newest configuration anyway.
    spoke
        && std::iter::from_fn(|| asked.read_signal().ok().flatten())
            .any(|signal| signals::wish(signals::name(&signal)) == Wish::End)
}
