//! `relevo-lab bench`: how long the floating IP is silent, how many registrations are committed per second, what a call
//! costs, and what a large state costs.
//!
//! Figures are printed, never asserted: they belong to the machine. keepalived and Kamailio are measured on the same
//! bridge in the same run, so that all saw the same machine.

mod calls;
mod gaps;
mod keepalived;
mod registrations;
mod servers;
mod state;

pub use state::Size;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::cluster::{self, DownGuard};
use crate::lab::config::Options;
use crate::lab::{interrupt, status};

/// Time between two probes of a kind: the resolution of the figures.
const PROBE_EVERY: Duration = Duration::from_millis(1);

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// Runs of each kind.
    pub runs: u32,
    /// Only these; empty = all.
    pub only: Vec<String>,
    /// How large the state is made for `state`.
    pub size: Size,
    /// Print JSON at the end.
    pub json: bool,
    /// Folder of the lab.
    pub dir: Option<PathBuf>,
    /// The `relevo` program.
    pub relevo: Option<PathBuf>,
    /// A user namespace holds everything.
    pub rootless: bool,
}

/// Everything that can be asked for with `--only`.
const PARTS: [&str; 8] =
    ["kill-agent", "kill-node", "stop", "switchover", "keepalived", "registrations", "calls", "state"];

/// Silences of many runs, ms.
#[derive(Debug, Clone, Default)]
struct Series {
    name: String,
    /// By ARP: when the address itself moves.
    arp: Vec<f64>,
    /// By SIP: when calls are served again. Empty for keepalived, which serves no SIP.
    sip: Vec<f64>,
    /// Runs that ended without another owner in time, with what was seen.
    failed: Vec<String>,
}

/// The value below which `part` (0 to 1) of the values lie; they need not be sorted.
fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(index.saturating_sub(1)).or(sorted.last()).copied().unwrap_or(f64::NAN)
}

impl Series {
    fn print(&self) {
        let cell = |values: &[f64]| {
            if values.is_empty() {
                format!("{:>9}{:>9}", "-", "-")
            } else {
                format!("{:>9.1}{:>9.1}", percentile(values, 0.5), percentile(values, 1.0))
            }
        };
        say!("{:<38}{:>6}{}{}", self.name, self.arp.len(), cell(&self.arp), cell(&self.sip));
        for failure in &self.failed {
            say!("    a run did not end: {failure}");
        }
    }

    fn json(&self) -> Value {
        let side = |values: &[f64]| json!({"p50": percentile(values, 0.5), "max": percentile(values, 1.0), "all": values});
        json!({"name": self.name, "arp_ms": side(&self.arp), "sip_ms": side(&self.sip), "failed": self.failed})
    }
}

/// Measures and prints.
///
/// # Errors
/// The lab does not come up, or it was interrupted.
pub fn run(options: &BenchOptions) -> io::Result<ExitCode> {
    interrupt::install()?;
    if let Some(unknown) = options.only.iter().find(|o| !PARTS.contains(&o.as_str())) {
        return Err(io::Error::other(format!(
            "nothing is called {unknown}; there are: {}",
            PARTS.join(", ")
        )));
    }
    let wants = |part: &str| options.only.is_empty() || options.only.iter().any(|o| o == part);
    let lab = cluster::up(&Options {
        dir: options.dir.clone(),
        relevo: options.relevo.clone(),
        ephemeral: true,
        rootless: options.rootless,
        disk_bytes: if wants("state") { state::DISK_BYTES } else { Options::default().disk_bytes },
        ..Options::default()
    })?;
    let mut guard = DownGuard::new(lab);
    let mut report = serde_json::Map::new();
    if wants("registrations") {
        status::wait_ready(&guard.lab, Duration::from_secs(30))?;
        report.insert("registrations".to_owned(), registrations::measure(&guard.lab)?);
    }
    if wants("calls") {
        status::wait_ready(&guard.lab, Duration::from_secs(30))?;
        report.insert("calls".to_owned(), calls::measure(&guard.lab)?);
    }
    if wants("keepalived") || gaps::How::ALL.iter().any(|how| wants(how.word())) {
        say!(
            "\n{:<38}{:>6}{:>18}{:>18}",
            "silent gap of the floating IP, ms",
            "runs",
            "ARP p50 / max",
            "SIP p50 / max"
        );
    }
    let mut all = Vec::new();
    for how in gaps::How::ALL {
        if wants(how.word()) {
            let series = gaps::measure(&mut guard.lab, how, options.runs)?;
            series.print();
            all.push(series);
        }
    }
    if wants("keepalived") {
        for tuning in keepalived::Tuning::ALL {
            let series = keepalived::measure(&guard.lab, tuning, options.runs)?;
            series.print();
            all.push(series);
        }
    }
    // Last: what it leaves behind would be part of the other figures.
    if wants("state") {
        report.insert("state".to_owned(), state::measure(&mut guard.lab, &options.size)?);
    }
    let complete = all.iter().all(|s| s.failed.is_empty());
    report.insert("gaps".to_owned(), all.iter().map(Series::json).collect());
    drop(guard);
    if options.json {
        say!("{}", Value::Object(report));
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values = [5.0, 1.0, 3.0, 2.0, 4.0];
        assert_eq!(percentile(&values, 0.5), 3.0);
        assert_eq!(percentile(&values, 1.0), 5.0);
        assert_eq!(percentile(&values, 0.99), 5.0);
        assert!(percentile(&[], 0.5).is_nan());
    }
}
