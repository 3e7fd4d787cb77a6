//! The story, told as it happens.
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// A kind of loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Loss {
    /// Power loss of the active node.
    KillNode,
    /// SIGKILL to the active agent.
    KillAgent,
    /// SIGSTOP to the active agent.
    Stop,
}

/// What may be chosen.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Stories; empty = all.
    pub only: Vec<u8>,
    /// Losses; empty = all.
    pub losses: Vec<Loss>,
    /// Folder of the lab.
    pub dir: Option<PathBuf>,
    /// Where logs stay.
    pub keep_logs: Option<PathBuf>,
    /// The `relevo` program.
    pub relevo: Option<PathBuf>,
    /// A user namespace holds everything.
    pub rootless: bool,
}

/// Tells it.
///
/// # Errors
/// The lab did not come up.
pub fn run(_options: &DemoOptions) -> io::Result<ExitCode> {
    Err(io::Error::other("not yet"))
}
