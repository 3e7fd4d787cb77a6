//! Engines, resources, control thread and admin socket around one cluster: everything of a node but Raft itself
//! and the process around it.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use proxy_core::io::EngineConfig;
use proxy_core::time::Clocks;

use super::ailing::Ailing;
use super::backend::Desk;
use super::chronicle::Chronicle;
use super::commits::Commits;
use super::driver::{Driver, End, Handle, MAX_MESSAGES, Message, Pet, insist};
use super::health;
use super::live::Live;
use super::overseer::{self, Overseer};
use super::pulse::Pulses;
use super::reload::Reloader;
use super::resources::{Address, Steps};
use super::room;
use super::setup;
use super::watch;
use crate::accounting::Sink;
use crate::accounting::file::{Format, LineFile};
use crate::accounting::writer::{self, Writer};
use crate::admin::server::Admin;
use crate::bridge::Cluster;
use crate::config::{Config, Role};
use crate::control::{Control, Settings};
use crate::guard::marks::Marks;
use crate::guard::suspects::Suspects;
use crate::net::NetError;
use crate::net::poison::Poison;
use crate::net::sip::{Listening, Sip};

/// The lease of a node that has neither others nor a floating IP: nobody else could serve, and nothing is to be renewed.
const LONE_LEASE: Duration = Duration::from_secs(8);
/// The folder of the snapshots in the data folder.
const SNAPSHOTS: &str = "raft/store/snap";

/// What has been opened before the node joined anything.
pub struct Opened {
    /// The admin socket.
    pub admin: Admin,
    /// The SIP sockets; none on a witness.
    pub listening: Option<Listening>,
    /// The floating IP, if there is one.
    pub address: Option<Box<dyn Address>>,
    /// What the interface of the floating IP is watched with.
    pub ears: Option<watch::Ears>,
    /// Told in each round of the control thread.
    pub pet: Option<Pet>,
    /// How often in a row the agent has died before this start.
    pub deaths: u32,
    /// What the guard has left to this process to note messages in.
    pub marks: Option<Marks>,
    /// The messages that former agents have died with.
    pub suspects: Suspects,
    /// Done by the control thread first: real-time priority.
    pub on_control_thread: Option<Box<dyn FnOnce() + Send>>,
}

/// A running node.
pub struct Service {
    control: Handle,
    reloader: Arc<Reloader>,
    live: Arc<Live>,
    ailing: Arc<Ailing>,
    thread: JoinHandle<End>,
    _health: health::Running,
    _overseeing: overseer::Running,
    _room: room::Running,
    _watch: Option<watch::Running>,
    // Removes the file of the socket at the end.
    _admin: Admin,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

/// Starts the threads.
///
/// # Errors
/// A thread cannot be started.
pub fn start<C: Cluster>(
    config: &Config,
    engine: &EngineConfig,
    cluster: C,
    opened: Opened,
    clock: fn() -> Clocks,
) -> Result<Service, NetError> {
    let (tx, messages) = sync_channel(MAX_MESSAGES);
    let control = Handle(tx);
    let listen = match &opened.listening {
        Some(listening) => listening.addresses().to_vec(),
        None => setup::floating_addresses(config),
    };
    let engine = EngineConfig { listen, ..engine.clone() };
    let poison = Arc::new(Poison::new(opened.marks, &opened.suspects, &config.data));
    let sip = match opened.listening {
        None => None,
        Some(listening) => {
            let kick = control.clone();
            let changed: Arc<dyn Fn() + Send + Sync> = Arc::new(move || kick.kick());
            Some(Arc::new(Sip::start(listening, &engine, &cluster, clock, &changed, &poison)?))
        }
    };
    let live: Arc<Live> = Arc::default();
    let ailing = Arc::new(Ailing::after_deaths(opened.deaths, clock().mono));
    let mut pulses = Pulses::default();
    for (name, waits) in sip.iter().flat_map(|sip| sip.pulses()) {
        pulses.watch(name, waits);
    }
    let appliances = config.nodes.iter().filter(|m| m.role == Role::Appliance).map(|m| m.id).collect();
    let is_lone = !config.is_cluster() && config.vip.is_none();
    let lease = if is_lone { LONE_LEASE } else { config.lease() };
    let driver = Driver {
        place: config.id,
        nodes: config.nodes.iter().map(|m| m.id).collect(),
        cluster: cluster.clone(),
        control: Control::new(Settings { place: config.id, appliances, lease }),
        steps: Steps::new(opened.address, sip.clone()),
        ailing: Arc::clone(&ailing),
        poison,
        pulses,
        commits: Commits::default(),
        chronicle: Chronicle::new(config.id),
        reported_at: None,
        live: Arc::clone(&live),
        messages,
        handle: control.clone(),
        pet: opened.pet,
        clock,
        lease,
    };
    let first = opened.on_control_thread;
    let thread = std::thread::Builder::new()
        .name(String::from("relevo-control"))
        .spawn(move || {
            if let Some(first) = first {
                first();
            }
            driver.run()
        })
        .map_err(NetError::Thread)?;
    let records = match config.role {
        Role::Appliance => Some(records(config, &cluster, clock).map_err(NetError::Thread)?),
        Role::Witness => None,
    };
    let rtpengines = engine.media.nodes.iter().map(|node| node.address).collect();
    let unwritten = {
        let cluster = cluster.clone();
        Box::new(move || cluster.facts().syncs.no_room)
    };
    let room = room::start(&config.data, config.data.join(SNAPSHOTS), Arc::clone(&ailing), unwritten)
        .map_err(NetError::Thread)?;
    let sight: Arc<watch::Sight> = Arc::default();
    let tell =
        watch::Tell { ailing: Arc::clone(&ailing), live: Arc::clone(&live), sight: Arc::clone(&sight) };
    let watch = opened.ears.map(|ears| watch::start(ears, tell, control.clone(), clock)).transpose();
    let watch = watch.map_err(NetError::Thread)?;
    let health = health::start(cluster.clone(), rtpengines, clock).map_err(NetError::Thread)?;
    let overseer = Overseer::new(config, lease, cluster.clone(), Arc::clone(&live), clock);
    let overseeing = overseer.start().map_err(NetError::Thread)?;
    let reloader = Arc::new(Reloader::new(config.clone(), engine, sip.clone()));
    let desk = Desk {
        config: config.clone(),
        reloader: Arc::clone(&reloader),
        cluster,
        live: Arc::clone(&live),
        control: control.clone(),
        sip,
        clock,
        records,
        room: Arc::clone(&room.room),
        sight,
        started: Instant::now(),
        overseer,
    };
    opened.admin.serve(Arc::new(desk)).map_err(NetError::Thread)?;
    Ok(Service {
        control,
        reloader,
        live,
        ailing,
        thread,
        _health: health,
        _overseeing: overseeing,
        _room: room,
        _watch: watch,
        _admin: opened.admin,
    })
}

/// Starts the thread that writes the records of calls.
fn records<C: Cluster>(config: &Config, cluster: &C, clock: fn() -> Clocks) -> io::Result<writer::Running> {
    let appliances = config.nodes.iter().filter(|m| m.role == Role::Appliance).map(|m| m.id).collect();
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    let files = [(&config.accounting.json, Format::Json), (&config.accounting.csv, Format::Csv)];
    for (path, format) in files {
        if let Some(path) = path {
            sinks.push(Box::new(LineFile::new(path.clone(), format)));
        }
    }
    writer::start(Writer::new(cluster.clone(), config.id, appliances, sinks, clock))
}

impl Service {
    /// For whoever has something to say to the control thread.
    #[must_use]
    pub fn control(&self) -> Handle {
        self.control.clone()
    }

    /// For whoever is told to read the configuration again.
    #[must_use]
    pub fn reloader(&self) -> Arc<Reloader> {
        Arc::clone(&self.reloader)
    }

    /// What the control thread shows.
    #[must_use]
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// For whoever finds out that something ails this node.
    #[must_use]
    pub fn ailing(&self) -> Arc<Ailing> {
        Arc::clone(&self.ailing)
    }

    /// Asks for a clean end: hand-over where possible, then stop.
    pub fn shutdown(&self) {
        insist(&self.control, Message::Shutdown);
    }

    /// Waits until the node has ended.
    ///
    /// # Errors
    /// The control thread died of a fault in this program.
    pub fn wait(self) -> io::Result<End> {
        self.thread.join().map_err(|_| io::Error::other("the control thread died; this is a fault of relevo"))
    }
}
