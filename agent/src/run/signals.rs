//! SIGTERM and SIGINT: taken by one thread, blocked in all others.

use std::io;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};

/// Blocks the signals in this thread and in all it starts from here on. To be called before any thread is.
///
/// # Errors
/// The kernel refuses.
pub fn block() -> io::Result<SigSet> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(set)
}

/// Calls `ended` at the first of these signals, and ends the process at once when asked again: an operator who asks twice
/// does not want to wait.
///
/// A terminal's Ctrl-C reaches guard and agent, and the guard passes it on, too: the same question comes twice. So an
/// agent with a guard counts, for the second time, only what its guard says.
///
/// # Errors
/// The thread cannot be started, out of file descriptors.
pub fn watch(set: &SigSet, guard: Option<u32>, ended: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let signals = SignalFd::with_flags(set, SfdFlags::SFD_CLOEXEC)?;
    std::thread::Builder::new().name(String::from("relevo-signals")).spawn(move || {
        let (mut ended, mut asked) = (Some(ended), 0);
        while let Ok(signal) = next(&signals) {
            let name = Signal::try_from(signal.ssi_signo.cast_signed()).unwrap_or(Signal::SIGTERM);
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
