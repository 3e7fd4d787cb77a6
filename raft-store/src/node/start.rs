//! A node on its own thread: "relevo-raft" runs openraft and the connections to the peers, and nothing else, so that
//! no SIP load can delay a heartbeat.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openraft::async_runtime::WatchReceiver;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::batch::Done;
use super::client::Clock;
use super::core::{Core, CoreConfig, CoreError, Facts, Peer, start_core};
use super::inbound::{Hello, Inbound, ProposeRefused, Rpc, RpcReply};
use super::join::{self, Beginning};
use super::net::{Credentials, Endpoint, Server, ServerError, TcpTransport};
use super::store::{Opened, Store, StoreError};
use super::types::{Place, RaftId, place_of, raft_id};
use crate::command::Command;
use crate::log::{Durability, Mode};
use crate::state::ClusterState;

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
    /// CLOCK_BOOTTIME.
    pub clock: Clock,
    /// Called first on the node's thread: the place to ask for real-time priority.
    pub on_thread: Option<fn()>,
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

type Waker = Box<dyn Fn() + Send + Sync>;

struct Shared {
    core: OnceLock<Core<TcpTransport>>,
    transport: TcpTransport,
    empty: ClusterState,
    runtime: Handle,
    waker: OnceLock<Waker>,
    fatal: OnceLock<String>,
    stop: Notify,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The store was empty, or has been set aside: only then may peers be told so before the core exists.
    blank: AtomicBool,
}

/// A handle of the node of this process.
#[derive(Clone)]
pub struct Node(Arc<Shared>);

/// Answers peers before the core exists, too: "my store is empty", but only where it is. A node that is still opening
/// its store says nothing: after a power loss a wiped node would take two of them for the beginning of a new cluster,
/// and vote under the id of its former self.
struct Door(Arc<Shared>);

impl Inbound for Door {
    async fn handle(&self, from: Place, to: RaftId, rpc: Rpc) -> RpcReply {
        match (self.0.core.get(), rpc) {
            (Some(core), rpc) => core.handle(from, to, rpc).await,
            (None, Rpc::Hello) if self.0.blank.load(Ordering::SeqCst) => {
                RpcReply::Hello(Hello { id: None, initialized: false, leader: None })
            }
            (None, _) => RpcReply::Unavailable("it is starting".into()),
        }
    }
}

impl Node {
    /// Opens the data folder, listens, and starts the node's thread. Returns as soon as errors that the operator must
    /// mend are excluded; the node may then still wait for its peers.
    pub fn start(config: NodeConfig) -> Result<Self, StartError> {
        let own = config.places.iter().find(|p| p.place == config.place).copied();
        let own = own.ok_or(StartError::Unlisted(config.place))?;
        let store = Store::lock(&config.data, &config.cluster, config.place, config.durability)?;
        let opened = store.open()?;
        let (tx, rx) = mpsc::channel();
        let on_thread = config.on_thread;
        let run = move || {
            if let Some(f) = on_thread {
                f();
            }
            run(config, own.addr, store, opened, &tx);
        };
        let thread =
            std::thread::Builder::new().name("relevo-raft".into()).spawn(run).map_err(StartError::Thread)?;
        let node: Self = rx.recv().map_err(|e| StartError::Thread(std::io::Error::other(e)))??;
        *node.0.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(node)
    }

    /// Has commands committed, if this node leads. Never blocks; `done` is called once, on any thread, and must not
    /// block either. When it is called, [`Node::read`] shows the effect.
    pub fn propose(&self, commands: Vec<Command>, done: Done) {
        match self.0.core.get() {
            Some(core) => core.propose(commands, done),
            None => done(Err(ProposeRefused::NotLeader)),
        }
    }

    /// Like [`Node::propose`], but asks the leader if that is another node: for the operator's commands.
    pub fn propose_anywhere(&self, commands: Vec<Command>, done: Done) {
        match self.0.core.get() {
            Some(core) => {
                let _entered = self.0.runtime.enter();
                core.propose_anywhere(commands, done);
            }
            None => done(Err(ProposeRefused::NotLeader)),
        }
    }

    /// Reads the replicated state; keep it short.
    pub fn read<R>(&self, f: impl FnOnce(&ClusterState) -> R) -> R {
        match self.0.core.get() {
            Some(core) => core.view().read(f),
            None => f(&self.0.empty),
        }
    }

    /// What Raft knows now. Cheap.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.0.core.get().map(Core::facts).unwrap_or_default()
    }

    /// Has `f` called, on the node's thread, whenever term, leader, grant or membership change, when a quorum has
    /// first acknowledged this node's leadership, and when the node fails. It must not block. Only the first counts.
    pub fn on_change(&self, f: Waker) {
        if self.0.waker.set(f).is_err() {
            tracing::error!("only one listener for changes is possible");
        }
    }

    /// Hands leadership to `to`; from this call on `facts().transfer_tried_in` says so.
    pub fn transfer_leadership(&self, to: Place) {
        let _entered = self.0.runtime.enter();
        if let Some(core) = self.0.core.get() {
            core.transfer_leadership(to);
        }
    }

    /// A verified notice of a guard: see [`Core::leader_is_dead`].
    pub fn leader_is_dead(&self, dead: Place, term: u64, heir: Place) {
        if let Some(core) = self.0.core.get().cloned() {
            self.0.runtime.spawn(async move { core.leader_is_dead(dead, term, heir).await });
        }
    }

    /// Campaigns now: see [`Core::campaign`].
    pub fn campaign(&self) {
        if let Some(core) = self.0.core.get().cloned() {
            self.0.runtime.spawn(async move { core.campaign().await });
        }
    }

    /// Why this node must give up ownership and exit, once it must.
    #[must_use]
    pub fn fatal(&self) -> Option<String> {
        self.0.fatal.get().cloned()
    }

    /// Ends the node and waits for its thread. To be called once, from outside of it.
    pub fn shutdown(&self) {
        self.0.stop.notify_one();
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the Raft thread panicked");
        }
    }
}

impl Shared {
    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker();
        }
    }

    fn fail(&self, why: String) {
        tracing::error!(%why, "the node cannot go on");
        // The first reason counts.
        drop(self.fatal.set(why));
        self.wake();
    }
}

type Started = mpsc::Sender<Result<Node, StartError>>;

fn run(config: NodeConfig, addr: SocketAddr, store: Store, opened: Option<Opened>, started: &Started) {
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
        let who = Credentials { cluster, key: config.key, place: config.place };
        let server = match Server::bind(addr, who.clone()).await {
            Ok(server) => server,
            Err(e) => return say(Err(e.into())),
        };
        let known: Vec<_> = config.places.iter().map(|p| Endpoint { place: p.place, addr: p.addr }).collect();
        let shared = Arc::new(Shared {
            core: OnceLock::new(),
            transport: TcpTransport::new(who, Some(addr.ip()), &known),
            empty: ClusterState::default(),
            runtime: Handle::current(),
            waker: OnceLock::new(),
            fatal: OnceLock::new(),
            stop: Notify::new(),
            thread: Mutex::new(None),
            blank: AtomicBool::new(opened.is_none()),
        });
        tokio::spawn(server.run(Arc::new(Door(shared.clone()))));
        say(Ok(Node(shared.clone())));
        tokio::select! {
            () = shared.stop.notified() => {}
            result = live(&config, &store, opened, &shared) => {
                if let Err(e) = result {
                    shared.fail(e.to_string());
                }
                shared.stop.notified().await;
            }
        }
        if let Some(core) = shared.core.get()
            && tokio::time::timeout(SHUTDOWN_LIMIT, core.shutdown()).await.is_err()
        {
            tracing::warn!("Raft did not end in time");
        }
    });
    runtime.shutdown_timeout(SHUTDOWN_LIMIT);
}

fn core_config(config: &NodeConfig, id: u64, silent: bool) -> CoreConfig {
    CoreConfig {
        id,
        places: config.places.clone(),
        heartbeat: config.heartbeat,
        election_min: config.election_min,
        election_max: config.election_max,
        silent,
        mode: Mode::Thread,
    }
}

/// Starts the core, with a store that exists or a new one, and reports on it for ever.
async fn live(
    config: &NodeConfig,
    store: &Store,
    opened: Option<Opened>,
    shared: &Arc<Shared>,
) -> Result<(), StartError> {
    let mut old = opened;
    let (core, writer) = loop {
        let silent = old.is_some();
        let opened = match old.take() {
            Some(opened) => opened,
            None => create(config, store, shared).await?,
        };
        let writer = opened.log.writer().clone();
        let core = core_config(config, opened.id, silent);
        let started = start_core(
            core,
            shared.transport.clone(),
            config.clock.clone(),
            opened.log,
            Box::new(opened.snaps),
        );
        match started.await {
            Ok(core) => break (core, writer),
            Err(CoreError::Incomplete(why)) if silent => {
                drop(writer);
                store.set_aside(&why)?;
                shared.blank.store(true, Ordering::SeqCst);
            }
            Err(e) => return Err(e.into()),
        }
    };
    // Set once, here.
    drop(shared.core.set(core.clone()));
    shared.wake();
    let entering = core.clone();
    tokio::spawn(async move { join::enter(&entering).await });
    let mut disk = writer.fatal();
    drop(writer);
    let mut metrics = core.raft().metrics();
    let mut grant = core.view().grant();
    let mut last = None;
    loop {
        let now = {
            let m = metrics.borrow_watched();
            if let Err(e) = &m.running_state {
                shared.fail(e.to_string());
                return Ok(());
            }
            let acknowledged = m.last_quorum_acked.is_some();
            (m.current_term, m.current_leader, m.state, acknowledged, *m.membership_config.log_id())
        };
        if last.as_ref() != Some(&now) {
            last = Some(now);
            shared.wake();
        }
        tokio::select! {
            changed = metrics.changed() => {
                if changed.is_err() {
                    shared.fail("Raft has ended".into());
                    return Ok(());
                }
            }
            changed = grant.changed() => {
                if changed.is_ok() {
                    shared.wake();
                }
            }
            Ok(()) = disk.changed() => {
                let why = disk.borrow_and_update().clone();
                if let Some(why) = why {
                    shared.fail(format!("the disk failed: {why}"));
                    return Ok(());
                }
            }
        }
    }
}

/// An empty store: find out whether the cluster begins or goes on, and choose the id accordingly.
async fn create(config: &NodeConfig, store: &Store, shared: &Arc<Shared>) -> Result<Opened, StartError> {
    let beginning = join::find_beginning(&shared.transport, config.place, &config.places).await;
    let incarnation = match beginning {
        Beginning::First => 0,
        Beginning::Exists => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(now.as_millis()).unwrap_or(1).max(1)
        }
    };
    let id = raft_id(incarnation, config.place);
    debug_assert_eq!(place_of(id), config.place);
    tracing::info!(id, ?beginning, "a new store");
    Ok(store.create(id)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn hello_while_starting(blank: bool) -> RpcReply {
        let who = Credentials { cluster: "lab".into(), key: [7; 32], place: 1 };
        let shared = Shared {
            core: OnceLock::new(),
            transport: TcpTransport::new(who, None, &[]),
            empty: ClusterState::default(),
            runtime: Handle::current(),
            waker: OnceLock::new(),
            fatal: OnceLock::new(),
            stop: Notify::new(),
            thread: Mutex::new(None),
            blank: AtomicBool::new(blank),
        };
        Door(Arc::new(shared)).handle(2, raft_id(0, 1), Rpc::Hello).await
    }

    #[tokio::test]
    async fn a_node_that_still_opens_its_store_does_not_say_that_it_is_empty() {
        assert!(matches!(hello_while_starting(false).await, RpcReply::Unavailable(_)));
    }

    #[tokio::test]
    async fn an_empty_node_says_so_before_it_has_begun() {
        let answer = hello_while_starting(true).await;
        assert!(matches!(answer, RpcReply::Hello(Hello { id: None, initialized: false, leader: None })));
    }
}
