//! Network namespaces: made by holder processes, entered per thread or per child.
//!
//! A namespace lives as long as a process in it. The holder is a `sleep infinity` that did `unshare(CLONE_NEWNET)`
//! before it started, so there is nothing to mount and nothing to remove: kill the holder and the namespace, its
//! interfaces, neighbours and nftables are gone. That is also what makes a power loss.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::proc::{self, Proc};

/// Starts a process that holds a new network namespace.
///
/// With `die_with_lab` it gets SIGKILL when this process ends; without, it stays until `down`.
///
/// # Errors
/// No permission for a namespace (neither root nor user namespaces), or no `sleep` program.
pub fn hold_new(die_with_lab: bool) -> io::Result<Proc> {
    let mut command = Command::new("sleep");
    command.arg("infinity").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: the closure runs between fork and exec and only makes system calls (async-signal-safe, no allocation).
    unsafe {
        command.pre_exec(move || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            own_session(die_with_lab)
        });
    }
    // `spawn` returns after the exec, so the namespace is there when it does.
    started(proc::spawn(command)?)
}

/// A command that will run inside the network namespace of `holder`, in a session of its own.
///
/// # Errors
/// The holder is gone or its namespace may not be opened.
pub fn command_in(
    holder: Proc,
    program: impl AsRef<std::ffi::OsStr>,
    die_with_lab: bool,
) -> io::Result<Command> {
    let ns = open_net(holder)?;
    let mut command = Command::new(program);
    // SAFETY: as above: only setns, setsid and prctl between fork and exec.
    unsafe {
        command.pre_exec(move || {
            setns(ns.as_fd(), CloneFlags::CLONE_NEWNET)?;
            own_session(die_with_lab)
        });
    }
    Ok(command)
}

/// Runs `work` on a thread that has entered the network namespace of `holder`.
///
/// Sockets made there stay in that namespace wherever they are used later.
///
/// # Errors
/// The holder is gone, or the kernel refuses to enter.
///
/// # Panics
/// Passes on a panic of `work`.
pub fn inside<T: Send>(holder: Proc, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let ns = open_net(holder)?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || -> io::Result<T> {
            setns(ns.as_fd(), CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Moves the calling process into the network namespace of `holder` (for `exec`, which becomes the command).
///
/// # Errors
/// The holder is gone, or the kernel refuses to enter.
pub fn enter(holder: Proc) -> io::Result<()> {
    Ok(setns(open_net(holder)?.as_fd(), CloneFlags::CLONE_NEWNET)?)
}

/// The process behind a child that was just started; the handle is let go (the pid is kept with its start time).
///
/// # Errors
/// The child has already ended.
pub fn started(child: std::process::Child) -> io::Result<Proc> {
    Proc::of(child.id().cast_signed()).ok_or_else(|| io::Error::other("the child ended at once"))
}

fn open_net(holder: Proc) -> io::Result<File> {
    if !holder.alive() {
        return Err(io::Error::other(format!("namespace holder {} is gone", holder.pid)));
    }
    File::open(format!("/proc/{}/ns/net", holder.pid))
}

fn own_session(die_with_lab: bool) -> io::Result<()> {
    nix::unistd::setsid()?;
    if die_with_lab {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
    }
    Ok(())
}

/// All processes in the network namespace of `holder`, itself included; none if it is gone.
#[must_use]
pub fn members(holder: Proc) -> Vec<Proc> {
    let ns_of = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    if !holder.alive() {
        return Vec::new();
    }
    let Some(wanted) = ns_of(holder.pid) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| ns_of(*pid).as_ref() == Some(&wanted))
        .filter_map(Proc::of)
        .collect()
}
