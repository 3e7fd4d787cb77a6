//! `relevo-lab demo`: calls in every state survive every kind of loss, told as it happens.
//!
//! | module | what it tells |
//! |---|---|
//! | `teller` | lines with times, the closing table |
//! | `cast` | who plays: users, ports, the phones that stay through all rounds |
//! | `round` | one loss with stories 1 to 6 prepared at once |
//! | `strike` | the loss itself |
//! | `after` | the takeover, the silence, the way back |
//! | `moment` | stories 5 and 6: what was acknowledged in the last millisecond |
//! | `busy` | whether the machine was too busy for it |
//! | `planned` | story 7: a switchover under load |

mod after;
mod busy;
mod cast;
mod moment;
mod planned;
mod round;
mod strike;
mod teller;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::lab::cluster::{self, DownGuard};
use crate::lab::config::Options;
use crate::lab::{interrupt, net, status};
use crate::observe::{Names, Observer};
use teller::{Column, Teller};

/// A kind of loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Loss {
    /// Power loss of the active node.
    KillNode,
    /// SIGKILL to the active agent; its guard lives.
    KillAgent,
    /// SIGSTOP to the active agent.
    Stop,
}

impl Loss {
    /// All, in the order of the story.
    pub const ALL: [Loss; 3] = [Loss::KillNode, Loss::KillAgent, Loss::Stop];

    /// In the table's head.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Loss::KillNode => "node lost",
            Loss::KillAgent => "agent killed",
            Loss::Stop => "agent stopped",
        }
    }
}

/// What may be chosen.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Stories (1 to 7); empty = all.
    pub only: Vec<u8>,
    /// Losses; empty = all.
    pub losses: Vec<Loss>,
    /// Folder of the lab.
    pub dir: Option<PathBuf>,
    /// Where logs are copied; `None` = only if a story failed, to a fresh folder.
    pub keep_logs: Option<PathBuf>,
    /// The `relevo` program.
    pub relevo: Option<PathBuf>,
    /// A user namespace holds everything.
    pub rootless: bool,
}

/// Timer C of the demo, s: longer than every ringing story takes, short enough to wait for.
pub const TIMER_C_S: u64 = 14;
/// Time between two probes of the observer.
const PROBE_EVERY: Duration = Duration::from_millis(5);
/// Bound for a node that came back to catch up.
const RETURN_LIMIT: Duration = Duration::from_secs(30);

/// What all parts of the story share.
struct Stage {
    guard: DownGuard,
    observer: Observer,
    names: Names,
    teller: Teller,
    /// Stories to tell.
    wanted: BTreeSet<u8>,
    logs: PathBuf,
}

impl Stage {
    fn wants(&self, story: u8) -> bool {
        self.wanted.contains(&story)
    }
}

/// Tells the story. Exit 0 only if all of it held.
///
/// # Errors
/// The lab did not come up, or it was interrupted.
pub fn run(options: &DemoOptions) -> io::Result<ExitCode> {
    interrupt::install()?;
    check_phones()?;
    let teller = Teller::new();
    let wanted: BTreeSet<u8> =
        if options.only.is_empty() { (1..=7).collect() } else { options.only.iter().copied().collect() };
    if let Some(story) = wanted.iter().find(|s| !(1..=7).contains(*s)) {
        return Err(io::Error::other(format!("there is no story {story}; they are numbered 1 to 7")));
    }
    teller.say("two appliances and a witness come up");
    let lab = cluster::up(&Options {
        dir: options.dir.clone(),
        relevo: options.relevo.clone(),
        ephemeral: true,
        rootless: options.rootless,
        timer_c_s: TIMER_C_S,
        ..Options::default()
    })?;
    let logs = lab.dir.join("phones");
    fs::create_dir_all(&logs)?;
    let names = Names::of(&lab);
    let guard = DownGuard::new(lab);
    let observer = Observer::start(&guard.lab, PROBE_EVERY)?;
    let mut stage = Stage { guard, observer, names, teller, wanted, logs };
    let mut columns = Vec::new();
    let result = tell(&mut stage, options, &mut columns);
    stage.teller.table(&columns, &stage.wanted);
    let held = match &result {
        Ok(()) => {
            // The columns hold what was seen after each loss; here counts what was ever seen.
            columns.iter().all(Column::held) && stage.observer.timeline().two_owners().is_empty()
        }
        Err(e) => {
            stage.teller.say(&format!("the story broke off: {e}"));
            if e.kind() == io::ErrorKind::Interrupted && options.keep_logs.is_none() {
                return Ok(ExitCode::from(130));
            }
            false
        }
    };
    keep(&mut stage, options.keep_logs.as_deref(), held)?;
    let took = stage.teller.elapsed();
    drop(stage);
    say!("{} after {:.0} s", if held { "all of it held" } else { "NOT all of it held" }, took.as_secs_f64());
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(stage: &mut Stage, options: &DemoOptions, columns: &mut Vec<Column>) -> io::Result<()> {
    let active = status::wait_ready(&stage.guard.lab, RETURN_LIMIT)?;
    stage.teller.say(&format!(
        "node {} is active and answers on {} and {}",
        active.node,
        net::VIP4,
        net::VIP6
    ));
    let mut cast = cast::Cast::assemble(stage)?;
    if stage.wanted.iter().any(|s| *s < 7) {
        for loss in Loss::ALL {
            if options.losses.is_empty() || options.losses.contains(&loss) {
                interrupt::check()?;
                columns.push(round::play(stage, &mut cast, loss, columns.len())?);
            }
        }
    }
    if stage.wants(7) {
        columns.push(planned::play(stage)?);
    }
    Ok(())
}

fn check_phones() -> io::Result<()> {
    for (program, package) in [("sipp", "sip-tester"), ("baresip", "baresip-core")] {
        if cluster::in_path(program).is_none() {
            return Err(io::Error::other(format!("{program} is not installed; apt-get install {package}")));
        }
    }
    Ok(())
}

/// Copies logs of phones and nodes to where they outlive the lab.
fn keep(stage: &mut Stage, to: Option<&Path>, held: bool) -> io::Result<()> {
    let to = match (to, held) {
        (Some(to), _) => to.to_owned(),
        (None, true) => return Ok(()),
        (None, false) => std::env::temp_dir().join(format!("relevo-demo-{}", std::process::id())),
    };
    copy_tree(&stage.logs, &to.join("phones"))?;
    for node in &stage.guard.lab.nodes {
        let _ = fs::copy(&node.log, to.join(format!("node{}.log", node.id)));
    }
    stage.teller.say(&format!("logs of phones and nodes are in {}", to.display()));
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
