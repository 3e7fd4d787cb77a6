//! The process around a node: what is opened in which order, and how it ends.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use raft_store::log::{BootId, Ground, Held};
use raft_store::node::schedule::Schedule;
use raft_store::node::scrub::Pace;
use raft_store::node::{CoreError, Node, NodeConfig, OnThreads, Peer, StartError, StoreError, patiently};

use super::driver::{End, Message, Pet, insist};
use super::notices::Notices;
use super::resources::Address;
use super::service::{self, Opened};
use super::setup::SetupError;
use super::watch::Ears;
use super::{faults, log, private, room, setup, signals, surroundings};
use crate::admin::server::{self, AdminError};
use crate::cli::{Common, EXIT_FAILED, EXIT_FATAL, EXIT_USAGE, complain, config_error};
use crate::clock;
use crate::cluster::Replicated;
use crate::config::{Config, Durability, Role};
use crate::guard::marks::Marks;
use crate::guard::pet::{DEATHS, GUARD_FD, PetInfo, Petter};
use crate::guard::suspects::{SUSPECTS, Suspects};
use crate::guard::{GuardConfig, held, notice, supervise};
use crate::net::{NetError, sip};
use crate::os::address::FloatingIp;
use crate::os::rt;
use crate::os::vip::Vip;

/// Folder of the replicated state inside the state directory.
pub(crate) const STORE: &str = "raft";

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
    if let Err(why) = log::start(&config.log) {
        complain(&why, crate::config::LOG_CURE);
        return ExitCode::from(EXIT_USAGE);
    }
    private::from_now_on();
    name_this_process();
    if let Err(e) = signals::block_harmless() {
        complain(&format!("the system refuses to hold signals back: {e}"), "");
        return ExitCode::from(EXIT_FAILED);
    }
    if std::env::var_os(GUARD_FD).is_none() {
        surroundings::wait_for(&config);
    }
    if std::env::var_os(GUARD_FD).is_none() && (config.is_cluster() || config.vip.is_some()) {
        return match guard(&config) {
            Ok(code) => ExitCode::from(code),
            Err(e) => {
                complain(&e.to_string(), "");
                exit_of(&*e)
            }
        };
    }
    match agent(&config) {
        Ok(End::Clean) => ExitCode::SUCCESS,
        Ok(End::Fatal(why)) => {
            complain(
                &why,
                "the node has given up the service; see the disk and the log, then start it again",
            );
            ExitCode::from(EXIT_FATAL)
        }
        Ok(End::Stuck(why)) => {
            complain(&why, "the guard ends what is left and starts the agent again; see the log");
            ExitCode::from(EXIT_FAILED)
        }
        Err(e) => {
            complain(&e.to_string(), "");
            exit_of(&*e)
        }
    }
}

/// The guard starts its agent as /proc/self/exe, which the process list would show as `exe`.
fn name_this_process() {
    // SAFETY: a string that ends with a zero byte and outlives the call; it names the calling thread, the first one.
    // A refusal leaves an ugly name.
    let _ = unsafe { libc::prctl(libc::PR_SET_NAME, c"relevo".as_ptr()) };
}

/// The guard and systemd must not start again and again what only a person can mend.
fn exit_of(e: &(dyn std::error::Error + Send + Sync + 'static)) -> ExitCode {
    ExitCode::from(if needs_a_person(e) { EXIT_FATAL } else { EXIT_FAILED })
}

/// Whether a start fails for a reason that does not go away by itself.
fn needs_a_person(e: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let start = e.downcast_ref().is_some_and(|e| match e {
        StartError::Unlisted(_)
        | StartError::Store(StoreError::Damaged(_) | StoreError::Foreign { .. } | StoreError::Older { .. })
        | StartError::Core(CoreError::Timing(_) | CoreError::Incomplete(_)) => true,
        // A process that ends, a disk that is mounted, a thread that there is memory for: a later start may find them.
        StartError::Store(StoreError::Io { .. } | StoreError::InUse { .. })
        | StartError::Core(CoreError::Snapshots(_) | CoreError::Raft(_))
        | StartError::Server(_)
        | StartError::Thread(_) => false,
    });
    start || matches!(e.downcast_ref(), Some(SetupError::Gone { .. } | SetupError::Key { .. }))
}

/// Opens what SIP comes in by.
fn sip_sockets(config: &Config, addresses: &[SocketAddr]) -> Result<sip::Listening, NetError> {
    let listening = sip::listen(addresses, config.vip.is_some())?
        .with_dns(config.dns.servers.clone())
        .with_copies(config.hep.clone());
    if config.sip.tcp { listening.with_streams(config.sip.streams) } else { Ok(listening) }
}

fn agent(config: &Config) -> Result<End, Fault> {
    let signals = signals::block()?;
    // Before any program is started, which shall not inherit the guard's socket.
    let petter = Petter::from_env();
    private::folder(&config.data)?;
    let marks = Marks::from_env();
    let ground = ground();
    faults::end_on_panic();
    faults::keep_poison(&config.data);
    for warning in config.warnings().into_iter().chain(private::exposed(config)) {
        tracing::warn!("{warning}");
    }
    let addresses = setup::listen_addresses(config)?;
    // The admin socket first: it also says whether another relevo uses this folder.
    let admin = patiently(
        "the admin socket",
        || server::bind(&config.admin),
        |e| matches!(e, AdminError::InUse { .. }),
    )?;
    let listening = match config.role {
        Role::Appliance => Some(patiently(
            "a SIP port",
            || sip_sockets(config, &addresses),
            |e| matches!(e, NetError::PortInUse { .. } | NetError::TcpPortInUse { .. }),
        )?),
        Role::Witness => None,
    };
    let key = setup::cluster_key(config)?;
    let (address, ears) = match vip(config) {
        Some(vip) => {
            (Some(Box::new(FloatingIp::install(&vip)?) as Box<dyn Address>), Some(Ears::open(&vip)?))
        }
        None => (None, None),
    };
    let node = match start_raft(config, key, ground.clone()) {
        Err(e) if e.lacks_room() && room::give_up_reserve(&config.data) => start_raft(config, key, ground)?,
        node => node?,
    };
    let cluster = Replicated::new(node.clone());
    let on_control_thread: Option<Box<dyn FnOnce() + Send>> = match config.is_cluster() {
        true => Some(Box::new(|| rt::realtime_or_say(rt::CONTROL_PRIORITY, "control"))),
        false => None,
    };
    let guard = petter.as_ref().map(|_| std::os::unix::process::parent_id());
    let deaths = deaths_before();
    let opened = Opened {
        admin,
        listening,
        address,
        ears,
        pet: petter.map(pet),
        deaths,
        marks,
        suspects: suspects(),
        on_control_thread,
    };
    let mut engine = setup::engine_config(config, &key);
    engine.auth.seed = setup::nonce_seed()?;
    let service = service::start(config, &engine, cluster, opened, clock::now)?;
    let control = service.control();
    let end = {
        let control = control.clone();
        move || insist(&control, Message::Shutdown)
    };
    let reloader = service.reloader();
    // It tells the log what came of it.
    signals::watch(&signals, guard, end, move || drop(reloader.reload()))?;
    let folders = vec![config.data.clone(), config.data.join(STORE)];
    let _around = surroundings::watch(guard, folders, {
        let control = control.clone();
        move |why| insist(&control, Message::Fatal(why))
    })?;
    node.on_change({
        // Term, leader, grant, or a failed disk: in each case the control thread has to look now.
        Box::new(move || control.kick())
    });
    if config.is_cluster() {
        let own = config.myself().addr;
        let places = config.nodes.iter().map(|m| m.id).collect();
        let notices = Notices::new(node.clone(), config.id, places, config.election_min);
        let live = service.live();
        let serves = move || live.picture().active(clock::now().mono);
        notice::listen(own, key, config.id, move |n| notices.hear(n), serves).map_err(|e| {
            format!("cannot hear the other guards on {own} (UDP): {e}; is another relevo running?")
        })?;
    }
    tracing::info!("{}", config.summary());
    let end = service.wait()?;
    node.shutdown();
    Ok(end)
}

/// How often in a row the guard has seen its agent die; 0 without a guard.
fn deaths_before() -> u32 {
    std::env::var(DEATHS).ok().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The messages that former agents of this guard have died with.
fn suspects() -> Suspects {
    std::env::var(SUSPECTS).map(|text| Suspects::parse(&text)).unwrap_or_default()
}

/// The floating IP of this node, if it may ever hold one.
fn vip(config: &Config) -> Option<Vip> {
    let vip = config.vip.as_ref().filter(|_| config.role == Role::Appliance)?;
    Some(Vip { interface: vip.interface.clone(), addresses: vip.addresses.clone() })
}

/// What this machine can tell about the end of the log.
fn ground() -> Ground {
    // A machine that cannot be asked counts as started anew each time: with `durability = "memory"` that forgets.
    let boot = BootId::read().unwrap_or_else(|e| {
        tracing::warn!(error = %e, "the machine does not say when it was started");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        BootId(now.map_or(0, |d| d.as_nanos()).to_be_bytes())
    });
    let held = held::take().map(|page| Arc::new(page) as Arc<dyn Held>);
    Ground { boot, held, ..Ground::default() }
}

fn start_raft(config: &Config, key: [u8; 32], ground: Ground) -> Result<Node, StartError> {
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
        ground,
        scrub: Pace::default(),
        clock: Arc::new(clock::now),
        boot: clock::boot(),
        on_threads: config.is_cluster().then_some(OnThreads {
            raft: || rt::realtime_or_say(rt::RAFT_PRIORITY, "Raft"),
            log: || rt::realtime_or_say(rt::RAFT_PRIORITY, "log"),
            apply: || rt::realtime_or_say(rt::APPLY_PRIORITY, "apply"),
            scrub: rt::step_back,
        }),
        on_background_thread: Some(rt::step_back),
        snapshots: Schedule::default(),
    })
}

/// The parent: starts this program again as the agent, and takes the floating IP down when that dies.
fn guard(config: &Config) -> Result<u8, Fault> {
    let signals = signals::block()?;
    private::folder(&config.data)?;
    let myself = config.myself();
    let others = config.nodes.iter().filter(|m| m.id != config.id).map(|m| m.addr);
    let guard = GuardConfig {
        place: config.id,
        lease: config.lease(),
        vip: vip(config),
        key: setup::cluster_key(config)?,
        source: myself.addr.ip(),
        peers: others.collect(),
        final_exit: EXIT_FATAL,
    };
    Ok(supervise(&guard, &signals)?)
}

/// How the control thread tells the guard.
fn pet(petter: Petter) -> Pet {
    Box::new(move |facts| {
        petter.pet(PetInfo {
            term: facts.term,
            leading: facts.leading,
            lease_held: facts.lease_until.is_some(),
            heir: facts.heir,
            elsewhere: facts.elsewhere,
        });
    })
}
