//! SIGTERM and SIGINT: taken by one thread, blocked in all others.

use std::io;

use nix::sys::signal::{SigSet, Signal};

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

/// Calls `ended` at the first of these signals, and ends the process at once at the second: an operator who asks twice
/// does not want to wait.
///
/// # Errors
/// The thread cannot be started.
pub fn watch(set: SigSet, ended: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(String::from("relevo-signals")).spawn(move || {
        if let Ok(signal) = set.wait() {
            tracing::info!("{signal}: handing over and stopping");
            ended();
        }
        if set.wait().is_ok() {
            std::process::exit(i32::from(crate::cli::EXIT_FAILED));
        }
    })?;
    Ok(())
}
