//! The log of the agent: readable lines on standard error, where systemd and people look for them.

use tracing_subscriber::EnvFilter;

/// What is logged unless the environment variable `RELEVO_LOG` says otherwise. openraft warns at every heartbeat that a lost node does not answer.
const DEFAULT: &str = "info,openraft=error";

/// Starts logging; a second call does nothing.
pub fn start() {
    let filter = EnvFilter::try_from_env("RELEVO_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        .with_target(false)
        .with_writer(std::io::stderr)
        .try_init();
}
