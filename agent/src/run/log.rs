//! The log of the agent: readable lines on standard error, where systemd and people look for them.

use std::os::linux::fs::MetadataExt;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

use crate::config::log_filter;

/// The environment variable that says what is logged, whatever the configuration says.
const VARIABLE: &str = "RELEVO_LOG";
/// Where systemd says to which stream the journal listens: `device:inode`.
const JOURNAL: &str = "JOURNAL_STREAM";

/// Changes what is logged.
static SET: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// Starts logging by `RELEVO_LOG`, or else by what the configuration says; a second call does nothing.
///
/// # Errors
/// `RELEVO_LOG` cannot be used: what is wrong with it.
pub fn start(configured: &str) -> Result<(), String> {
    let text = match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => {
            log_filter(&text).map_err(|why| format!("{VARIABLE}={text:?}: {why}"))?
        }
        Ok(_) | Err(std::env::VarError::NotPresent) => log_filter(configured)?,
        Err(e) => return Err(format!("{VARIABLE}: {e}")),
    };
    let filter = EnvFilter::try_new(&text).map_err(|e| format!("{VARIABLE}={text:?}: {e}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .with_writer(std::io::stderr);
    if to_journal() {
        // The journal has the time of each line.
        let builder = builder.without_time().with_filter_reloading();
        let handle = builder.reload_handle();
        let _ = SET.set(Box::new(move |filter| drop(handle.reload(filter))));
        let _ = builder.try_init();
    } else {
        let builder = builder.with_filter_reloading();
        let handle = builder.reload_handle();
        let _ = SET.set(Box::new(move |filter| drop(handle.reload(filter))));
        let _ = builder.try_init();
    }
    Ok(())
}

/// Logs by this from here on, unless `RELEVO_LOG` says what is logged.
pub fn set_level(configured: &str) {
    if std::env::var_os(VARIABLE).is_some_and(|text| !text.is_empty()) {
        return;
    }
    // A configuration that was read has a filter that can be used.
    if let (Some(set), Ok(text)) = (SET.get(), log_filter(configured))
        && let Ok(filter) = EnvFilter::try_new(text)
    {
        set(filter);
    }
}

/// Whether standard error is the journal's.
fn to_journal() -> bool {
    let Ok(named) = std::env::var(JOURNAL) else { return false };
    // Not the file name of a terminal: what this process has open, whatever that is.
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|m| named == format!("{}:{}", m.st_dev(), m.st_ino()))
}
