//! A node on its own thread: "relevo-raft" runs openraft and the connections to the peers, and nothing else, so that
//! no SIP load can delay a heartbeat.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, mpsc};
use std::time::Duration;

use tokio::runtime::Handle;

use super::client::Clock;
use super::core::{CoreError, Peer};
use super::door::Door;
use super::handle::{Node, Shared};
use super::life::live;
use super::net::{Credentials, Endpoint, Server, ServerError, TcpTransport, Waits};
use super::patience::patiently;
use super::schedule::Schedule;
use super::scrub::Pace;
use super::store::{Found, Store, StoreError};
use super::types::Place;
use crate::disk::lacks_room;
use crate::log::{Durability, Ground};
use crate::time::BootId;

/// Time an orderly end may take.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// What a node needs to know.
#[derive(Clone)]
pub struct NodeConfig {
    /// This node.
    pub place: Place,
    /// All nodes, this one too.
    pub places: Vec<Peer>,
    /// Name of the cluster.
    pub cluster: String,
    /// Key of the cluster.
    pub key: [u8; 32],
    /// Data folder.
    pub data: PathBuf,
    /// Interval of heartbeats.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout; also the lease.
    pub election_max: Duration,
    /// Whether commits wait for the disk.
    pub durability: Durability,
    /// What this machine can tell about the end of the log.
    pub ground: Ground,
    /// How fast the log is read again.
    pub scrub: Pace,
    /// The clocks of this machine.
    pub clock: Clock,
    /// Which boot its CLOCK_BOOTTIME counts from.
    pub boot: BootId,
    /// Called first on the node's threads: the place to ask for real-time priority. All of them: a vote that waits for
    /// the disk, or a grant for being applied, waits for the slowest.
    pub on_threads: Option<OnThreads>,
    /// Called first on each thread whose work nobody waits for (a snapshot): the place to step back behind all others.
    pub on_background_thread: Option<fn()>,
    /// When snapshots are written.
    pub snapshots: Schedule,
}

/// What is called first on each of a node's threads.
#[derive(Debug, Clone, Copy)]
pub struct OnThreads {
    /// The one that runs Raft.
    pub raft: fn(),
    /// The one that writes the log.
    pub log: fn(),
    /// The one that applies entries; it should not keep the others waiting.
    pub apply: fn(),
    /// The one that reads the log again: behind everything else.
    pub scrub: fn(),
}

/// Why a node does not start. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration does not name this node.
    #[error("node {0} is not among the nodes of the cluster; add it as [[cluster.node]]")]
    Unlisted(Place),
    /// The data folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address for the other nodes.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// openraft.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A thread or the runtime.
    #[error("the system refuses a thread: {0}")]
    Thread(#[source] std::io::Error),
}

impl StartError {
    /// Whether it is only that the disk has no room.
    #[must_use]
    pub fn lacks_room(&self) -> bool {
        matches!(self, Self::Store(StoreError::Io { why, .. }) if lacks_room(why))
    }
}

fn lock_patiently(config: &NodeConfig) -> Result<Store, StoreError> {
    let lock = || Store::lock(&config.data, &config.cluster, config.place, config.durability);
    patiently("the data folder", lock, |e| matches!(e, StoreError::InUse { .. }))
}

impl Node {
    /// Opens the data folder, listens, and starts the node's thread. Returns as soon as errors that the operator must
    /// mend are excluded; the node may then still wait for its peers.
    pub fn start(config: NodeConfig) -> Result<Self, StartError> {
        let own = config.places.iter().find(|p| p.place == config.place).copied();
        let own = own.ok_or(StartError::Unlisted(config.place))?;
        let store = Arc::new(lock_patiently(&config)?.on(config.ground.clone()));
        let found = store.open()?;
        if let (Found::Damaged(damage), [_]) = (&found, &config.places[..]) {
            // Nobody could give it the state, and beginning anew would be a quiet loss of everything.
            return Err(StoreError::Damaged(damage.clone()).into());
        }
        // One message: started, or why not.
        let (tx, rx) = mpsc::sync_channel(1);
        let on_threads = config.on_threads;
        let run = move || {
            if let Some(threads) = on_threads {
                (threads.raft)();
            }
            run(config, own.addr, store, found, &tx);
        };
        let thread =
            std::thread::Builder::new().name("relevo-raft".into()).spawn(run).map_err(StartError::Thread)?;
        let node: Self = rx.recv().map_err(|e| StartError::Thread(std::io::Error::other(e)))??;
        *node.0.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(node)
    }
}

type Started = mpsc::SyncSender<Result<Node, StartError>>;

fn run(config: NodeConfig, addr: SocketAddr, store: Arc<Store>, found: Found, started: &Started) {
    // The receiver waits for exactly one message; if it is gone, so is the process that wanted the node.
    let say = |result| drop(started.send(result));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return say(Err(StartError::Thread(e))),
    };
    runtime.block_on(async {
        // The lease is part of the name: a leader that counts a longer one than its followers promise would own the
        // service beside its successor.
        let cluster = format!("{}, lease {} ms", config.cluster, config.election_max.as_millis());
        let who = Credentials::new(cluster, config.key, config.place);
        let server = match Server::bind(addr, who.clone()).await {
            Ok(server) => server,
            Err(e) => return say(Err(e.into())),
        };
        let known: Vec<_> = config.places.iter().map(|p| Endpoint { place: p.place, addr: p.addr }).collect();
        let transport = TcpTransport::new(who, Some(addr.ip()), &known, Waits::of_lease(config.election_max));
        transport.watch_paths();
        let shared = Arc::new(Shared::new(transport, Handle::current()));
        tokio::spawn(server.run(Arc::new(Door(shared.clone()))));
        say(Ok(Node(shared.clone())));
        tokio::select! {
            () = shared.stop.notified() => {}
            result = live(&config, &store, found, &shared) => {
                if let Err(e) = result {
                    shared.fail(e.to_string());
                }
                shared.stop.notified().await;
            }
        }
        if let Some(core) = shared.core()
            && tokio::time::timeout(SHUTDOWN_LIMIT, core.shutdown()).await.is_err()
        {
            tracing::warn!("Raft did not end in time");
        }
    });
    runtime.shutdown_timeout(SHUTDOWN_LIMIT);
}
