//! Ctrl-C, SIGTERM and SIGHUP as a flag, so that the lab ends in order: phones, nodes, namespaces, folder.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};

/// Set by the first signal. One per process, as signals are.
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on the signals set a flag instead of ending the process; a second one ends it at once.
///
/// Call it before other threads are started: they inherit which signals are blocked. Children do not (the
/// standard library clears the mask between fork and exec).
///
/// # Errors
/// The kernel refuses to block signals.
pub fn install() -> io::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        while signals.wait().is_ok() {
            if REQUESTED.swap(true, Ordering::SeqCst) {
                // The user insists. What was started dies with us where it was told to.
                std::process::exit(130);
            }
        }
    })?;
    Ok(())
}

/// True once a signal came.
#[must_use]
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// An error if a signal came, for use with `?` between steps.
///
/// # Errors
/// `Interrupted`.
pub fn check() -> io::Result<()> {
    if requested() {
        return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
    }
    Ok(())
}
