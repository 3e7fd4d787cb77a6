//! The process around a node: what is opened in which order, and how it ends.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use raft_store::node::{Node, NodeConfig, Peer, StartError};

use super::driver::{End, Message, insist};
use super::resources::Address;
use super::service::{self, Opened};
use super::{log, setup, signals};
use crate::admin::server;
use crate::cli::{Common, EXIT_FAILED, EXIT_USAGE, complain, config_error};
use crate::clock;
use crate::cluster::Replicated;
use crate::config::{Config, Durability, Role};
use crate::net::sip;
use crate::os::address::FloatingIp;
use crate::os::rt;
use crate::os::vip::Vip;

/// Folder of the replicated state inside the state directory.
const STORE: &str = "raft";

/// What keeps a node from running: said once, then the process ends.
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// `relevo run`.
#[must_use]
pub fn main(common: &Common) -> ExitCode {
    let config = match common.load() {
        Ok(config) => config,
        Err(e) => {
            config_error(&e, common.json);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    log::start();
    if std::env::var_os("RELEVO_GUARD_FD").is_none() && config.is_cluster() {
        return interim_guard();
    }
    match agent(&config) {
        Ok(End::Clean) => ExitCode::SUCCESS,
        Ok(End::Fatal(why)) => {
            complain(
                &why,
                "the node has given up the service; see the disk and the log, then start it again",
            );
            ExitCode::from(EXIT_FAILED)
        }
        Err(e) => {
            complain(&e.to_string(), "");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn agent(config: &Config) -> Result<End, Fault> {
    let signals = signals::block()?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let addresses = setup::listen_addresses(config)?;
    // The admin socket first: it also says whether another relevo uses this folder.
    let admin = server::bind(&config.admin)?;
    let listening = match config.role {
        Role::Appliance => Some(sip::listen(&addresses, config.vip.is_some())?),
        Role::Witness => None,
    };
    let key = setup::cluster_key(config)?;
    let address = match vip(config) {
        Some(vip) => Some(Box::new(FloatingIp::install(&vip)?) as Box<dyn Address>),
        None => None,
    };
    let node = start_raft(config, key)?;
    let cluster = Replicated::new(node.clone());
    let on_control_thread: Option<Box<dyn FnOnce() + Send>> = match config.is_cluster() {
        true => Some(Box::new(|| rt::realtime_or_say(rt::CONTROL_PRIORITY, "control"))),
        false => None,
    };
    let opened = Opened { admin, listening, address, pet: None, on_control_thread };
    let service = service::start(config, &setup::engine_config(config, &key), cluster, opened, clock::now)?;
    let control = service.control();
    signals::watch(signals, {
        let control = control.clone();
        move || insist(&control, Message::Shutdown)
    })?;
    node.on_change({
        // Term, leader, grant, or a failed disk: in each case the control thread has to look now.
        Box::new(move || control.kick())
    });
    tracing::info!("{}", config.summary());
    let end = service.wait()?;
    node.shutdown();
    Ok(end)
}

/// The floating IP of this node, if it may ever hold one.
fn vip(config: &Config) -> Option<Vip> {
    let vip = config.vip.as_ref().filter(|_| config.role == Role::Appliance)?;
    Some(Vip { interface: vip.interface.clone(), addresses: vip.addresses.clone() })
}

fn start_raft(config: &Config, key: [u8; 32]) -> Result<Node, StartError> {
    let role = |role| match role {
        Role::Appliance => raft_store::node::Role::Appliance,
        Role::Witness => raft_store::node::Role::Witness,
    };
    let places =
        config.nodes.iter().map(|m| Peer { place: m.id, role: role(m.role), addr: m.addr }).collect();
    Node::start(NodeConfig {
        place: config.id,
        places,
        cluster: config.cluster.clone(),
        key,
        data: config.data.join(STORE),
        heartbeat: config.heartbeat,
        election_min: match config.role {
            Role::Appliance => config.election_min,
            // A witness that wins an election only has to hand it on: it lets the appliances try first.
            Role::Witness => config.election_max.saturating_sub(Duration::from_millis(1)),
        },
        election_max: config.election_max,
        durability: match config.durability {
            Durability::Disk => raft_store::log::Durability::Disk,
            Durability::Memory => raft_store::log::Durability::Memory,
        },
        clock: Arc::new(|| clock::now().mono),
        on_thread: config.is_cluster().then_some(|| rt::realtime_or_say(rt::RAFT_PRIORITY, "Raft")),
    })
}

/// Starts the agent as a child that dies with this process, and waits for it.
fn interim_guard() -> ExitCode {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    let Ok(signals) = signals::block() else { return ExitCode::from(EXIT_FAILED) };
    let mut command = std::process::Command::new("/proc/self/exe");
    command.args(std::env::args_os().skip(1)).env("RELEVO_GUARD_FD", "-1");
    // SAFETY: prctl and sigprocmask are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            nix::sys::signal::SigSet::all().thread_unblock()?;
            Ok(())
        });
    }
    let Ok(mut child) = command.spawn() else { return ExitCode::from(EXIT_FAILED) };
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
    let forwarded = std::thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            let _ = nix::sys::signal::kill(pid, signal);
        }
    });
    let status = child.wait();
    drop(forwarded);
    let code = status.map_or(i32::from(EXIT_FAILED), |s| s.code().unwrap_or(128 + s.signal().unwrap_or(0)));
    ExitCode::from(u8::try_from(code).unwrap_or(EXIT_FAILED))
}
