//! Processes the lab started: identity, bounded waiting, killing by pid.
//!
//! A pid alone is no identity (the kernel hands it out again), so every process is remembered together with its
//! start time; a signal is sent only to the very process that was started.

use std::io::{self, Read};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, SyncSender};
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// How often a condition is looked at while waiting for it.
pub const POLL: Duration = Duration::from_millis(5);

/// The unit of times in `/proc/PID/stat`: `USER_HZ`, which is 100 on every machine that Linux's C library knows.
const TICK: Duration = Duration::from_millis(10);

/// One process, told apart from a later one with the same pid by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proc {
    /// Process id as seen by the lab.
    pub pid: i32,
    /// Start time in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start: u64,
}

impl Proc {
    /// The process that has `pid` now; `None` if there is none.
    #[must_use]
    pub fn of(pid: i32) -> Option<Proc> {
        let stat = Stat::read(pid)?;
        Some(Proc { pid, start: stat.start })
    }

    /// True while this very process exists and is not a zombie.
    #[must_use]
    pub fn alive(&self) -> bool {
        Stat::read(self.pid).is_some_and(|s| s.start == self.start && s.state != 'Z' && s.state != 'X')
    }

    /// True when the process is stopped by a signal (state `T`).
    #[must_use]
    pub fn stopped(&self) -> bool {
        Stat::read(self.pid).is_some_and(|s| s.start == self.start && s.state == 'T')
    }

    /// Sends `sig` if the process is still there; returns whether it was.
    pub fn signal(&self, sig: Signal) -> bool {
        self.alive() && signal::kill(Pid::from_raw(self.pid), sig).is_ok()
    }

    /// SIGKILL, then waits until the process is gone or `within` has passed; returns whether it is gone.
    pub fn kill_and_wait(&self, within: Duration) -> bool {
        self.signal(Signal::SIGKILL);
        self.wait_gone(within)
    }

    /// Whether nothing of the process is left but what its parent may ask for. A zombie whose threads have not ended yet
    /// still holds its sockets and locks.
    fn is_gone(&self) -> bool {
        let threads = || std::fs::read_dir(format!("/proc/{}/task", self.pid)).map_or(0, Iterator::count);
        !self.alive() && (Stat::read(self.pid).is_none_or(|s| s.start != self.start) || threads() <= 1)
    }

    /// Waits until the process is gone; also reaps it when it is our own child.
    pub fn wait_gone(&self, within: Duration) -> bool {
        wait_until(within, || self.is_gone()) && {
            // An own child stays a zombie until it is asked for; that of another parent gives ECHILD, which is fine.
            let _ =
                nix::sys::wait::waitpid(Pid::from_raw(self.pid), Some(nix::sys::wait::WaitPidFlag::WNOHANG));
            true
        }
    }

    /// The direct children of this process, in pid order.
    #[must_use]
    pub fn children(&self) -> Vec<Proc> {
        let mut found = Vec::new();
        let Ok(entries) = std::fs::read_dir("/proc") else { return found };
        for entry in entries.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            if let Some(stat) = Stat::read(pid)
                && stat.ppid == self.pid
                && stat.state != 'Z'
            {
                found.push(Proc { pid, start: stat.start });
            }
        }
        found.sort_by_key(|p| p.pid);
        found
    }
}

/// The fields of `/proc/PID/stat` that the lab needs.
pub(crate) struct Stat {
    state: char,
    ppid: i32,
    start: u64,
    /// Processor time so far, in the process and in the kernel, all threads.
    pub(crate) busy: Duration,
}

impl Stat {
    /// That of a process; `None` if there is none.
    pub(crate) fn read(pid: i32) -> Option<Stat> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command name may hold spaces and brackets; the fields that count follow the last `)`.
        let rest = &text[text.rfind(')')? + 1..];
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some(Stat {
            state: fields.first()?.chars().next()?,
            ppid: fields.get(1)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
            busy: TICK * fields[11..=12].iter().map(|ticks| ticks.parse().unwrap_or(0)).sum::<u32>(),
        })
    }
}

/// Looks at `condition` until it holds or `within` has passed; returns whether it held.
pub fn wait_until(within: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + within;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// Commands that wait for the starting thread; whoever has one more waits, too.
const MAX_JOBS: usize = 16;

/// A command handed to the starting thread, and where its result goes.
type Job = (Command, SyncSender<io::Result<std::process::Child>>);

/// Starts a child from a thread that lives as long as this process.
///
/// `PR_SET_PDEATHSIG` fires when the *thread* that started the child ends, so children that shall die with the lab
/// must not be started by a short-lived thread.
///
/// # Errors
/// Whatever `Command::spawn` says.
pub fn spawn(command: Command) -> io::Result<std::process::Child> {
    static STARTER: OnceLock<SyncSender<Job>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (tx, rx) = mpsc::sync_channel::<Job>(MAX_JOBS);
        std::thread::spawn(move || {
            for (mut command, reply) in rx {
                let _ = reply.send(command.spawn());
            }
        });
        tx
    });
    let (tx, rx) = mpsc::sync_channel(1);
    starter.send((command, tx)).map_err(|_| io::Error::other("the starting thread is gone"))?;
    rx.recv().map_err(|_| io::Error::other("the starting thread gave no answer"))?
}

/// Runs a command to its end, but no longer than `within`; then it is killed.
///
/// # Errors
/// The command cannot be started, or it did not end in time (`TimedOut`).
pub fn run_bounded(mut command: Command, stdin: &str, within: Duration) -> io::Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let what = format!("{command:?}");
    let mut child = spawn(command)?;
    if let Some(mut pipe) = child.stdin.take() {
        // A child that does not read its input is no error of ours.
        let _ = io::Write::write_all(&mut pipe, stdin.as_bytes());
    }
    let out = reader(child.stdout.take());
    let err = reader(child.stderr.take());
    let end = Instant::now() + within;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= end {
            let _ = child.kill();
            let _ = child.wait();
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{what} took longer than {within:?}"),
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let collect = |h: std::thread::JoinHandle<Vec<u8>>| h.join().unwrap_or_default();
    Ok(Output { status, stdout: collect(out), stderr: collect(err) })
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut all);
        }
        all
    })
}

/// Runs a command that must succeed; the error holds what it printed.
///
/// # Errors
/// As [`run_bounded`], and a non-zero exit.
pub fn run_ok(command: Command, stdin: &str) -> io::Result<String> {
    /// Tools like `ip` and `nft` are done in milliseconds; this only ends a hang.
    const TOOL_LIMIT: Duration = Duration::from_secs(10);
    let what = format!("{command:?}");
    let out = run_bounded(command, stdin, TOOL_LIMIT)?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    Err(io::Error::other(format!("{what}: {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_process_is_seen_as_gone_and_its_pid_is_not_signalled_again() {
        let mut sleep = Command::new("sleep");
        sleep.arg("1000");
        let mut child = spawn(sleep).expect("sleep starts");
        let proc = Proc::of(i32::try_from(child.id()).expect("small pid")).expect("it runs");
        assert!(proc.alive());
        assert!(proc.kill_and_wait(Duration::from_secs(5)));
        assert!(!proc.signal(Signal::SIGKILL));
        // Reaped already, which is an error here and fine.
        let _ = child.wait();
        let other = Proc { pid: std::process::id().cast_signed(), start: proc.start.wrapping_add(1_000_000) };
        assert!(!other.alive(), "another start time is another process");
    }

    #[test]
    fn a_command_that_hangs_is_ended_at_its_limit() {
        let mut sleep = Command::new("sleep");
        sleep.arg("1000");
        let err = run_bounded(sleep, "", Duration::from_millis(50)).expect_err("too slow");
        assert_eq!(err.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn the_children_of_a_process_are_found() {
        let mut sleep = Command::new("sleep");
        sleep.arg("1000");
        let mut child = spawn(sleep).expect("sleep starts");
        let me = Proc::of(std::process::id().cast_signed()).expect("we run");
        assert!(me.children().iter().any(|p| p.pid == child.id().cast_signed()));
        child.kill().expect("killed");
        child.wait().expect("reaped");
    }
}
