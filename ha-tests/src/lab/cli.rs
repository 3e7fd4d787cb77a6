//! The commands of `relevo-lab`. Their names, options and JSON are used by other programs and stay as they are.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::config::{self, Options};
use super::fault::{self, Fault};
use super::state::{self, LabState};
use super::{cluster, disk, interrupt, net, ns, rootless, status};
use crate::demo::{self, DemoOptions};
use crate::observe::bench::{self, BenchOptions};
use crate::observe::{self, ObserveOptions};

/// Relevo clusters on one machine: bring them up, break them, watch them.
#[derive(Debug, Parser)]
#[command(name = "relevo-lab", version)]
struct Cli {
    /// Folder of the lab (default: a fresh one for `up`, the only running one for the rest).
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Start a cluster and leave it running.
    Up(UpArgs),
    /// End a lab and remove every trace of it.
    Down {
        /// End all labs of this user.
        #[arg(long)]
        all: bool,
    },
    /// Print what `up` printed, with the process ids of now.
    Show {
        /// JSON (the only form; accepted for symmetry).
        #[arg(long)]
        json: bool,
    },
    /// Run a command in the namespace of a node, or of the client.
    Exec {
        /// Node number, or `client`.
        place: String,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
    /// Do something bad to a node (or undo it: heal, cont).
    Fault {
        /// What.
        #[arg(value_enum)]
        fault: Fault,
        /// Node number, or `active`.
        node: String,
    },
    /// Give power to a node again and wait until it has caught up.
    Start {
        /// Node number.
        node: String,
        /// Bound of the wait, s.
        #[arg(long, default_value_t = 30)]
        timeout_s: u64,
        /// Do not wait.
        #[arg(long)]
        no_wait: bool,
    },
    /// Probe the floating IP every few milliseconds and say who answered when; two owners at once is a failure.
    Observe {
        /// One JSON document at the end (otherwise readable lines).
        #[arg(long)]
        json: bool,
        /// How long; default: until interrupted.
        #[arg(long)]
        seconds: Option<f64>,
        /// Milliseconds between two probes of a kind.
        #[arg(long, default_value_t = 5)]
        every_ms: u64,
    },
    /// Measure silent gaps of the floating IP, keepalived's beside them, and registrations per second.
    Bench {
        /// Runs of each kind of loss.
        #[arg(long, default_value_t = 20)]
        runs: u32,
        /// Only these: kill-agent, kill-node, stop, switchover, keepalived, registrations, calls, state.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// For `state`: how many bindings there are while it is measured, in rising order.
        #[arg(long, value_delimiter = ',', default_values_t = [0, 100_000, 300_000, 1_000_000])]
        bindings: Vec<u64>,
        /// For `state`: answered calls of a last row, beside the most bindings; 0: no such row.
        #[arg(long, default_value_t = 50_000)]
        dialogs: u64,
        /// For `state`: calls per second, one rate after the other.
        #[arg(long, value_delimiter = ',', default_values_t = [200, 500])]
        rate: Vec<u32>,
        /// For `state`: how long calls are made at each size and rate, s.
        #[arg(long, default_value_t = 10)]
        seconds: u32,
        /// One JSON document at the end, too.
        #[arg(long)]
        json: bool,
        /// The `relevo` program.
        #[arg(long)]
        relevo: Option<PathBuf>,
    },
    /// Run whole clusters in simulated time, with faults drawn from a seed, and judge every step.
    Sim {
        /// The seed; the first of them, with `--seeds`.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// So many worlds, with a summary; without it, one.
        #[arg(long)]
        seeds: Option<u64>,
        /// How far the nodes are from each other, with the times of that name.
        #[arg(long, value_enum, default_value = "lan")]
        times: crate::sim::Distance,
        /// Show all that happens in the one world.
        #[arg(long, conflicts_with = "seeds")]
        trace: bool,
    },
    /// Tell the whole story: calls in every state survive every kind of loss.
    Demo {
        /// Only these stories, for example `1,5,7`.
        #[arg(long, value_delimiter = ',')]
        only: Vec<u8>,
        /// Only this kind of loss.
        #[arg(long, value_enum)]
        fault: Vec<demo::Loss>,
        /// Where the phones' logs stay (default: they are removed unless a story failed).
        #[arg(long)]
        keep_logs: Option<PathBuf>,
        /// The `relevo` program.
        #[arg(long)]
        relevo: Option<PathBuf>,
        /// Use a user namespace even as root.
        #[arg(long)]
        rootless: bool,
    },
}

#[derive(Debug, Args)]
struct UpArgs {
    /// Number of appliances (default 2).
    #[arg(long)]
    appliances: Option<u64>,
    /// With a witness (default, unless `--appliances` is given).
    #[arg(long)]
    witness: bool,
    /// Print the description as JSON.
    #[arg(long)]
    json: bool,
    /// The `relevo` program (default: beside this one, then PATH).
    #[arg(long)]
    relevo: Option<PathBuf>,
    /// Use a user namespace even as root.
    #[arg(long)]
    rootless: bool,
    /// Raft heartbeat, ms.
    #[arg(long, default_value_t = 30)]
    heartbeat_ms: u64,
    /// Shortest election timeout, ms.
    #[arg(long, default_value_t = 75)]
    election_min_ms: u64,
    /// Longest election timeout = lease, ms.
    #[arg(long, default_value_t = 150)]
    election_max_ms: u64,
    /// Timer C, s.
    #[arg(long, default_value_t = 180)]
    timer_c_s: u64,
    /// Bound of the start, s.
    #[arg(long, default_value_t = 30)]
    timeout_s: u64,
}

/// Entry point of the program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("relevo-lab: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> io::Result<ExitCode> {
    match cli.command {
        Task::Up(args) => up(cli.dir, &args),
        Task::Demo { only, fault, keep_logs, relevo, rootless } => {
            let inside = enter_for_new_lab(rootless)?;
            if !inside {
                rootless::own_mounts()?;
            }
            demo::run(&DemoOptions { only, losses: fault, dir: cli.dir, keep_logs, relevo, rootless: inside })
        }
        Task::Bench { runs, only, bindings, dialogs, rate, seconds, json, relevo } => {
            let inside = enter_for_new_lab(false)?;
            if !inside {
                rootless::own_mounts()?;
            }
            bench::run(&BenchOptions {
                runs: runs.max(1),
                only,
                size: bench::Size {
                    bindings,
                    dialogs,
                    rates: rate.into_iter().map(|rate| rate.max(1)).collect(),
                    seconds: seconds.max(1),
                },
                json,
                dir: cli.dir,
                relevo,
                rootless: inside,
            })
        }
        Task::Down { all } => down(cli.dir, all),
        Task::Show { json: _ } => {
            let lab = LabState::load(&state::find(cli.dir)?)?;
            say!("{:#}", config::describe(&lab));
            Ok(ExitCode::SUCCESS)
        }
        Task::Exec { place, command } => exec(cli.dir, &place, &command),
        Task::Fault { fault, node } => {
            let mut lab = open(cli.dir)?;
            let _lock = LabState::lock(&lab.dir)?;
            // Read again under the lock: another command may have changed it meanwhile.
            lab = LabState::load(&lab.dir)?;
            let index = resolve(&lab, &node)?;
            say!("{}", fault::inflict(&mut lab, index, fault)?);
            Ok(ExitCode::SUCCESS)
        }
        Task::Sim { seed, seeds, times, trace } => Ok(crate::sim::sweep::command(seed, seeds, times, trace)),
        Task::Start { node, timeout_s, no_wait } => start(cli.dir, &node, timeout_s, no_wait),
        Task::Observe { json, seconds, every_ms } => {
            let lab = open(cli.dir)?;
            observe::command(&lab, &ObserveOptions::new(seconds.map(Duration::from_secs_f64), every_ms), json)
        }
    }
}

/// Prepares this process for making a lab; returns whether a user namespace holds it.
fn enter_for_new_lab(forced: bool) -> io::Result<bool> {
    let rootless = forced || !rootless::is_root();
    if rootless {
        rootless::become_root_inside()?;
    }
    Ok(rootless)
}

/// Loads a lab for a command that acts on it, inside its user namespace if it has one.
fn open(dir: Option<PathBuf>) -> io::Result<LabState> {
    let lab = LabState::load(&state::find(dir)?)?;
    if lab.rootless {
        rootless::join(lab.switch)?;
    }
    Ok(lab)
}

fn resolve(lab: &LabState, node: &str) -> io::Result<usize> {
    if node == "active" {
        let active = status::active(lab).ok_or_else(|| io::Error::other("no node is active now"))?;
        return lab.index_of(&active.node.to_string());
    }
    lab.index_of(node)
}

fn up(dir: Option<PathBuf>, args: &UpArgs) -> io::Result<ExitCode> {
    let rootless = enter_for_new_lab(args.rootless)?;
    interrupt::install()?;
    let options = Options {
        appliances: args.appliances.unwrap_or(2),
        witness: args.witness || args.appliances.is_none(),
        dir,
        relevo: args.relevo.clone(),
        ephemeral: false,
        rootless,
        heartbeat_ms: args.heartbeat_ms,
        election_min_ms: args.election_min_ms,
        election_max_ms: args.election_max_ms,
        timer_c_s: args.timer_c_s,
        timeout_s: args.timeout_s,
        service_wire: false,
        extra: String::new(),
        disk_bytes: disk::DISK_BYTES,
    };
    let lab = cluster::up(&options)?;
    if args.json {
        say!("{}", config::describe(&lab));
    } else {
        say!(
            "lab in {}, floating IP {} and {}, SIP port {}",
            lab.dir.display(),
            net::VIP4,
            net::VIP6,
            lab.sip_port
        );
        for node in &lab.nodes {
            say!("  node {} ({}) at {}", node.id, node.role.word(), node.addr);
        }
        if let Some(active) = status::active(&lab) {
            say!("node {} is active; end with: relevo-lab down --dir {}", active.node, lab.dir.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn down(dir: Option<PathBuf>, all: bool) -> io::Result<ExitCode> {
    let dirs = if all { state::known() } else { vec![state::find(dir)?] };
    for dir in dirs {
        let lab = LabState::load(&dir)?;
        // A lab whose holder is gone has no namespace left to enter; its processes and folder can still go.
        if lab.rootless && lab.switch.alive() {
            down_rootless(&lab)?;
        } else {
            cluster::down(&lab);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A process enters at most one user namespace, so each such lab is ended by a child of its own.
fn down_rootless(lab: &LabState) -> io::Result<()> {
    const CHILD: &str = "RELEVO_LAB_DOWN_CHILD";
    if std::env::var_os(CHILD).is_some() {
        rootless::join(lab.switch)?;
        cluster::down(lab);
        return Ok(());
    }
    let status = Command::new(std::env::current_exe()?)
        .args(["down", "--dir"])
        .arg(&lab.dir)
        .env(CHILD, "1")
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("the lab could not be ended")) }
}

fn exec(dir: Option<PathBuf>, place: &str, command: &[OsString]) -> io::Result<ExitCode> {
    let lab = open(dir)?;
    let holder = if place == "client" {
        lab.client
    } else {
        let node = &lab.nodes[resolve(&lab, place)?];
        node.holder.ok_or_else(|| io::Error::other(format!("node {place} has no power")))?
    };
    ns::enter(holder)?;
    let Some((program, arguments)) = command.split_first() else {
        return Err(io::Error::other("no command given"));
    };
    // Becomes the command: its exit code, signals and terminal are then those of this process.
    Err(Command::new(program).args(arguments).exec())
}

fn start(dir: Option<PathBuf>, node: &str, timeout_s: u64, no_wait: bool) -> io::Result<ExitCode> {
    let mut lab = open(dir)?;
    let index = resolve(&lab, node)?;
    {
        let _lock = LabState::lock(&lab.dir)?;
        lab = LabState::load(&lab.dir)?;
        let was_off = cluster::power_on(&mut lab, index)?;
        say!("node {node}: {}", if was_off { "started" } else { "was running" });
    }
    if !no_wait {
        let ready = status::wait_ready(&lab, Duration::from_secs(timeout_s))?;
        say!("all nodes have caught up; node {} is active", ready.node);
    }
    Ok(ExitCode::SUCCESS)
}
