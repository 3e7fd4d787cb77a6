//! The command line of `relevo`: what can be said, and how answers look. `run` itself is in [`crate::run`].

mod ask;
mod backup;
mod ban;
mod cdr;
mod dispatcher;
mod dlg;
mod history;
mod maintenance;
mod members;
pub(crate) mod print;
mod promote;
mod provision;
mod reload;
mod route;
mod rtpengine;
mod store;
mod trace;
mod trunk;
mod when;

pub(crate) use print::{complain, config_error};

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, DEFAULT_PATH, EMBEDDED_DATA};

/// Exit code for a configuration or a command line that cannot be used.
pub const EXIT_USAGE: u8 = 2;
/// Exit code for a command line of `relevo status` that cannot be used (`EX_USAGE` of sysexits): 0 to 3 are verdicts.
pub const EXIT_STATUS_USAGE: u8 = 64;
/// Exit code for anything else that went wrong.
pub const EXIT_FAILED: u8 = 1;
/// Exit code of an agent whose disk failed: it must not be started again before somebody has looked.
pub const EXIT_FATAL: u8 = 3;

/// A high-availability SIP proxy and registrar.
#[derive(Debug, Parser)]
#[command(name = "relevo", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Configuration file [default: /etc/relevo/relevo.toml if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// State folder of a node without configuration file [default: ./relevo-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Admin socket of the node to ask [default: from the configuration]
    #[arg(long, global = true, value_name = "SOCKET")]
    pub admin: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run this node (without a configuration file: a registrar and proxy on this machine)
    Run,
    /// Show how the service does, and the node's view of the cluster
    Status {
        /// For monitoring: one line, and 0 fine, 1 degraded, 2 no service, 3 cannot tell
        #[arg(long)]
        check: bool,
    },
    /// Show when the service moved, from whom to whom, why, and for how long nobody served
    History {
        /// Only the newest N events
        #[arg(long, short = 'n', value_name = "N")]
        last: Option<usize>,
    },
    /// Hand the service over as planned, to NODE or to the best other appliance
    Switchover(maintenance::Switchover),
    /// NODE shall hold nothing: a holder hands over, and it is never chosen while another one can be
    Drain {
        /// Id of the node
        node: u16,
    },
    /// Make this node the whole cluster, where the others are lost and fenced: a pair without a witness, or three of which two are gone
    Promote(promote::Promote),
    /// Who is in the cluster, who votes, and how many losses are borne
    Members {
        #[command(subcommand)]
        command: members::Members,
    },
    /// NODE may hold the service again
    Undrain {
        /// Id of the node
        node: u16,
    },
    /// No automatic takeover for a time, while somebody works on the machines or the network
    Pause(maintenance::Pause),
    /// Automatic takeover again
    Resume,
    /// Read the configuration file again, without dropping a call (as SIGHUP does)
    Reload,
    /// Registered contacts
    Ul {
        #[command(subcommand)]
        command: Ul,
    },
    /// Calls
    Dlg {
        #[command(subcommand)]
        command: dlg::Dlg,
    },
    /// How requests are routed
    Route {
        #[command(subcommand)]
        command: route::Route,
    },
    /// Subscribers: who may register and call
    Subscriber {
        #[command(subcommand)]
        command: provision::Subscriber,
    },
    /// Domains that are local beside the configured ones
    Domain {
        #[command(subcommand)]
        command: provision::Domain,
    },
    /// Other names of users
    Alias {
        #[command(subcommand)]
        command: provision::Alias,
    },
    /// Groups of source addresses
    Acl {
        #[command(subcommand)]
        command: provision::Acl,
    },
    /// Sets of backends
    Dispatcher {
        #[command(subcommand)]
        command: dispatcher::Dispatcher,
    },
    /// Media proxies
    Rtpengine {
        #[command(subcommand)]
        command: rtpengine::Rtpengine,
    },
    /// Addresses that the flood limit keeps out
    Ban {
        #[command(subcommand)]
        command: ban::Ban,
    },
    /// The SIP messages of a call, or of all, as this node has heard and said them
    Trace(trace::Trace),
    /// Accounts at other registrars
    Trunk {
        #[command(subcommand)]
        command: trunk::Trunk,
    },
    /// Records of calls
    Cdr {
        #[command(subcommand)]
        command: cdr::Cdr,
    },
    /// Copy the replicated state of a running node into FILE
    Backup {
        /// The file, on the machine of the node
        file: PathBuf,
        /// Replace a file that is there
        #[arg(long)]
        force: bool,
    },
    /// What this node has on its disk, while it is stopped
    Store {
        #[command(subcommand)]
        command: store::Store,
    },
    /// Begin the cluster anew with the state of a backup, on a node that does not run; the others join it
    Restore(backup::Restore),
    /// The configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the version
    Version,
}

#[derive(Debug, Subcommand)]
enum Ul {
    /// Show the contacts of AOR (sip:user@domain), or all
    Show {
        /// Address of record
        aor: Option<String>,
    },
    /// Remove all contacts of AOR, or one
    Rm {
        /// Address of record
        aor: String,
        /// Contact URI as `ul show` prints it
        contact: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check FILE (or the one that `run` would use) and say everything that is wrong with it
    Check {
        /// The file
        file: Option<PathBuf>,
    },
}

impl Common {
    /// The configuration that `relevo run` would use.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(&self) -> Result<Config, crate::config::ConfigError> {
        let default = PathBuf::from(DEFAULT_PATH);
        let mut config = match &self.config {
            Some(file) => Config::load(file)?,
            None if self.data.is_none() && default.exists() => Config::load(&default)?,
            None => {
                let data = self.data.clone().unwrap_or_else(|| PathBuf::from(EMBEDDED_DATA));
                // Relative to here, but a node may change its folder later on.
                Config::embedded(&std::path::absolute(&data).unwrap_or(data))
            }
        };
        if let Some(admin) = &self.admin {
            config.admin.clone_from(admin);
        }
        Ok(config)
    }
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return not_understood(&e, std::env::args_os().skip(1)),
    };
    let common = &cli.common;
    match &cli.command {
        Command::Run => crate::run::main(common),
        Command::Version => {
            print::version(common.json);
            ExitCode::SUCCESS
        }
        Command::Config { command: ConfigCommand::Check { file } } => check(common, file.clone()),
        Command::Status { check: false } => ask::status(common),
        Command::Status { check: true } => ask::check(common),
        Command::History { last } => history::history(common, *last),
        Command::Promote(asked) => promote::promote(common, asked),
        Command::Members { command } => members::members(common, command),
        Command::Switchover(asked) => maintenance::switchover(common, asked),
        Command::Drain { node } => maintenance::drain(common, *node, true),
        Command::Undrain { node } => maintenance::drain(common, *node, false),
        Command::Pause(asked) => maintenance::pause(common, asked),
        Command::Resume => maintenance::resume(common),
        Command::Reload => reload::reload(common),
        Command::Ul { command: Ul::Show { aor } } => ask::ul_show(common, aor.clone()),
        Command::Ul { command: Ul::Rm { aor, contact } } => ask::ul_rm(common, aor, contact.clone()),
        Command::Dlg { command } => dlg::dlg(common, command),
        Command::Route { command } => route::route(common, command),
        Command::Subscriber { command } => provision::subscriber(common, command),
        Command::Domain { command } => provision::domain(common, command),
        Command::Alias { command } => provision::alias(common, command),
        Command::Acl { command } => provision::acl(common, command),
        Command::Dispatcher { command } => dispatcher::dispatcher(common, command),
        Command::Rtpengine { command } => rtpengine::rtpengine(common, command),
        Command::Ban { command } => ban::ban(common, command),
        Command::Trace(wanted) => trace::trace(common, wanted),
        Command::Trunk { command } => trunk::trunk(common, command),
        Command::Cdr { command } => cdr::cdr(common, command),
        Command::Backup { file, force } => backup::backup(common, file, *force),
        Command::Store { command } => store::store(common, command),
        Command::Restore(asked) => backup::restore(common, asked),
    }
}

/// Help, or what is wrong with the command line. What asks for the status gets a code of its own: monitoring takes 2 for a
/// service that is down.
fn not_understood(e: &clap::Error, mut args: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    // Nothing can be done about a standard error that is closed.
    let _ = e.print();
    match e.use_stderr() {
        false => ExitCode::SUCCESS,
        true if args.any(|arg| arg == "status") => ExitCode::from(EXIT_STATUS_USAGE),
        true => ExitCode::from(EXIT_USAGE),
    }
}

fn check(common: &Common, file: Option<PathBuf>) -> ExitCode {
    let asked = Common { config: file.or_else(|| common.config.clone()), ..common.clone() };
    match asked.load() {
        Ok(config) => {
            print::config_ok(&config, common.json);
            ExitCode::SUCCESS
        }
        Err(e) => {
            print::config_error(&e, common.json);
            ExitCode::from(EXIT_USAGE)
        }
    }
}
