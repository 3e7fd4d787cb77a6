//! The observer: asks again and again who has the floating IP, and says for every moment who answered.
//!
//! `frames` builds and reads the bytes, `probe` owns the sockets, `timeline` is the pure judgement, `report` words it.

pub mod bench;
pub mod frames;
pub mod probe;
pub mod report;
pub mod timeline;

use std::io;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub use probe::Observer;
pub use report::Names;

use crate::lab::interrupt;
use crate::lab::state::LabState;

/// How to observe.
#[derive(Debug, Clone)]
pub struct ObserveOptions {
    /// How long; `None` = until interrupted.
    pub length: Option<Duration>,
    /// Time between two probes of a kind.
    pub every: Duration,
}

impl ObserveOptions {
    /// `every_ms` of 0 is taken as 1.
    #[must_use]
    pub fn new(length: Option<Duration>, every_ms: u64) -> ObserveOptions {
        ObserveOptions { length, every: Duration::from_millis(every_ms.max(1)) }
    }
}

/// The command `relevo-lab observe`: exit 0 if there never were two owners.
///
/// # Errors
/// The lab is gone, or raw sockets are not permitted.
pub fn command(lab: &LabState, options: &ObserveOptions, json: bool) -> io::Result<ExitCode> {
    interrupt::install()?;
    let observer = Observer::start(lab, options.every)?;
    let names = Names::of(lab);
    let (mut told, mut turn) = (0, 0u64);
    while !observer.ended() && !interrupt::requested() {
        if options.length.is_some_and(|l| u128::from(observer.now()) >= l.as_nanos()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        turn += 1;
        // Looking through the whole timeline holds it up for a moment, so not at every turn.
        if !json && turn % 10 == 0 {
            told = report::tell_new(&observer.timeline(), &names, told);
        }
    }
    observer.stopper().store(true, Ordering::Relaxed);
    let length = observer.now();
    let timeline = observer.finish()?;
    let evidence = timeline.two_owners();
    if json {
        say!("{}", report::json(&timeline, &names, length));
    } else {
        say_part!("{}", report::summary(&timeline, &names));
    }
    Ok(if evidence.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
