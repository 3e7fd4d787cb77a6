//! Signals: taken by one thread, blocked in all others. None kills by accident.
//!
//! | signal | what it does |
//! |---|---|
//! | SIGTERM, SIGINT | hands over and stops; the second one ends at once |
//! | SIGHUP | reads the configuration again |
//! | SIGUSR1, SIGUSR2 | nothing, and says so |
//! | SIGPIPE | nothing: the runtime ignores it |

use std::io;
use std::sync::mpsc::sync_channel;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To stop.
    End,
    /// To read the configuration again.
    Reload,
    /// Nothing that there is.
    Nothing,
}

/// What this signal asks for.
#[must_use]
pub fn wish(signal: Signal) -> Wish {
    match signal {
        Signal::SIGHUP => Wish::Reload,
        Signal::SIGTERM | Signal::SIGINT => Wish::End,
        _ => Wish::Nothing,
    }
}

/// The name of what was read.
#[must_use]
pub fn name(signal: &siginfo) -> Signal {
    i32::try_from(signal.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok()).unwrap_or(Signal::SIGTERM)
}

/// Says that a signal does nothing, and which one does.
pub fn tell_nothing(signal: Signal) {
    tracing::info!(
        "{signal} does nothing here; SIGHUP (relevo reload) reads the configuration, SIGTERM stops"
    );
}

/// Blocks those that end nothing, before anything is waited for: what comes meanwhile waits for [`watch`]. A start that waits
/// is ended as ever.
///
/// # Errors
/// The kernel refuses.
pub fn block_harmless() -> io::Result<()> {
    let set: SigSet = [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2].into_iter().collect();
    Ok(set.thread_block()?)
}

/// Blocks the signals in this thread and in all it starts from here on. To be called before any thread is.
///
/// # Errors
/// The kernel refuses.
pub fn block() -> io::Result<SigSet> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(set)
}

/// Calls `ended` at the first signal that asks for the end, and ends the process at once when asked again: an operator who
/// asks twice does not want to wait. Calls `reload` at SIGHUP, on a thread of its own: a file may take its time.
///
/// A terminal's Ctrl-C reaches guard and agent, and the guard passes it on, too: the same question comes twice. So an
/// agent with a guard counts, for the second time, only what its guard says.
///
/// # Errors
/// A thread cannot be started, out of file descriptors.
pub fn watch(
    set: &SigSet,
    guard: Option<u32>,
    ended: impl FnOnce() + Send + 'static,
    reload: impl Fn() + Send + 'static,
) -> io::Result<()> {
    let signals = SignalFd::with_flags(set, SfdFlags::SFD_CLOEXEC)?;
    // One that waits stands for all that come before it begins.
    let (again, wanted) = sync_channel::<()>(1);
    std::thread::Builder::new().name(String::from("relevo-reload")).spawn(move || {
        while wanted.recv().is_ok() {
            reload();
        }
    })?;
    std::thread::Builder::new().name(String::from("relevo-signals")).spawn(move || {
        let (mut ended, mut asked) = (Some(ended), 0);
        while let Ok(signal) = next(&signals) {
            let name = name(&signal);
            match wish(name) {
                Wish::End => {}
                Wish::Reload => {
                    let _ = again.try_send(());
                    continue;
                }
                Wish::Nothing => {
                    tell_nothing(name);
                    continue;
                }
            }
            if let Some(ended) = ended.take() {
                tracing::info!("{name}: handing over and stopping");
                ended();
            }
            asked += u32::from(guard.is_none_or(|guard| signal.ssi_pid == guard));
            if asked >= 2 {
                std::process::exit(i32::from(crate::cli::EXIT_FAILED));
            }
        }
    })?;
    Ok(())
}

fn next(signals: &SignalFd) -> io::Result<siginfo> {
    loop {
        match signals.read_signal() {
            Ok(Some(signal)) => return Ok(signal),
            Ok(None) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
