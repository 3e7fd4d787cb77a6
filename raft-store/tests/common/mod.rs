//! Clusters of real nodes on loopback, each with its own data folder.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use proxy_core::state::{SipCommand, SipResponse};
use proxy_core::time::{Clocks, MonoTime, RealTime, WallTime};
use raft_store::command::{Command, GrantReason, Response};
use raft_store::log::{Durability, Ground};
use raft_store::node::schedule::Schedule;
use raft_store::node::scrub::Pace;
use raft_store::node::{Facts, Node, NodeConfig, Peer, Place, Refused, Role, StartError};

/// Longest wait for a condition; a healthy cluster needs a hundredth of it.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn clock() -> MonoTime {
    let t = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).expect("clock");
    MonoTime(t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
}

pub fn until<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = f() {
            return value;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Looks again and again whether `f` holds for so long: for what must not happen, where there is nothing to wait for.
pub fn throughout(time: Duration, what: &str, f: impl Fn() -> bool) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        assert!(f(), "it does not stay so: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Where a node may listen: below the ephemeral ports, so that no connection which another test opens before
/// the node starts can take it, and given to nobody else in this process.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 10_000 + u16::try_from(std::process::id() % 200).expect("small") * 100;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 1000;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

pub struct Cluster {
    dir: tempfile::TempDir,
    places: Vec<Peer>,
    pub nodes: Vec<Option<Node>>,
}

impl Cluster {
    /// Folders and ports for `n` nodes, none of them started.
    pub fn prepare(n: u16) -> Self {
        let places =
            (1..=n).map(|place| Peer { place, role: Role::Appliance, addr: free_address() }).collect();
        // RUST_LOG=info shows what the nodes say; a second call in the same process changes nothing.
        drop(
            tracing_subscriber::fmt()
                .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
                .with_writer(std::io::stderr)
                .try_init(),
        );
        let dir = tempfile::tempdir().expect("folder");
        Self { dir, places, nodes: vec![None; n.into()] }
    }

    pub fn start(n: u16) -> Self {
        let mut cluster = Self::prepare(n);
        for place in 1..=n {
            cluster.up(place);
        }
        cluster
    }

    pub fn data(&self, place: Place) -> PathBuf {
        self.dir.path().join(place.to_string())
    }

    pub fn config(&self, place: Place) -> NodeConfig {
        NodeConfig {
            place,
            places: self.places.clone(),
            cluster: "test".into(),
            key: [7; 32],
            data: self.data(place),
            // Slow enough for a busy machine with two cores.
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1000),
            durability: Durability::Disk,
            ground: Ground::default(),
            scrub: Pace::default(),
            clock: Arc::new(|| Clocks { mono: clock(), real: RealTime(clock().millis()) }),
            boot: u64::from(place),
            on_threads: None,
            on_background_thread: None,
            snapshots: Schedule { floor_bytes: 256 << 10, slot_entries: 64, compare_entries: 256 },
        }
    }

    pub fn try_up(&self, place: Place) -> Result<Node, StartError> {
        Node::start(self.config(place))
    }

    pub fn up(&mut self, place: Place) {
        let node = self.try_up(place).expect("the node starts");
        self.nodes[usize::from(place) - 1] = Some(node);
    }

    pub fn down(&mut self, place: Place) {
        if let Some(node) = self.nodes[usize::from(place) - 1].take() {
            node.shutdown();
        }
    }

    pub fn node(&self, place: Place) -> &Node {
        self.nodes[usize::from(place) - 1].as_ref().expect("running")
    }

    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    /// Waits for a leader with a quorum, and that all running nodes know.
    pub fn leader(&self) -> Place {
        until("a leader", || {
            let facts: Vec<Facts> = self.running().map(Node::facts).collect();
            let leader = facts.iter().find(|f| f.leading && f.quorum_ack_at.is_some())?.leader?;
            facts.iter().all(|f| f.leader == Some(leader)).then_some(leader)
        })
    }

    /// Proposes on the leader until it is committed.
    pub fn commit(&self, command: &Command) -> Response {
        until("a commit", || propose(self.node(self.leader()), command).ok())
    }

    /// Waits until all running nodes have applied the same and hold the same state.
    pub fn settle(&self) {
        until("equal states", || {
            let states: Vec<_> = self.running().map(|n| n.read(Clone::clone)).collect();
            states.windows(2).all(|w| w[0] == w[1]).then_some(())
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.iter().flatten() {
            node.shutdown();
        }
    }
}

pub fn propose(node: &Node, command: &Command) -> Result<Response, Refused> {
    let (tx, rx) = mpsc::channel();
    node.propose(vec![command.clone()], Box::new(move |r| drop(tx.send(r))));
    rx.recv_timeout(PATIENCE).expect("every proposal is answered").map(|mut r| r.remove(0))
}

pub fn grant(holder: Place) -> Command {
    Command::Grant { holder, reason: GrantReason::Switchover, at: WallTime(1) }
}

/// A registration of one contact for `user`.
pub fn register(user: &str, cseq: u32) -> Command {
    use proxy_core::state::{Binding, Flow, RegisterChange, RegisterCommand, Transport};
    let aor = format!("{user}@test");
    let flow = Flow {
        transport: Transport::Udp,
        local: "127.0.0.1:5060".parse().expect("address"),
        remote: "127.0.0.1:5070".parse().expect("address"),
    };
    let binding = Binding {
        contact: format!("sip:{user}@127.0.0.1:5070"),
        contact_key: format!("sip:{user}@127.0.0.1:5070"),
        flow,
        natted: false,
        path: vec![],
        q: 1000,
        expires_at: WallTime(10_000_000),
        call_id: format!("{user}-call"),
        cseq,
        instance: None,
        reg_id: None,
        user_agent: String::new(),
        updated_at: WallTime(1),
        methods: None,
        outbound: false,
        gruu: None,
    };
    Command::Sip(SipCommand::Register(RegisterCommand {
        aor,
        call_id: format!("{user}-call"),
        cseq,
        change: RegisterChange::Contacts(vec![binding]),
        max_contacts: 10,
        at: WallTime(1),
    }))
}

pub fn registered(response: &Response) -> bool {
    matches!(response, Response::Sip(SipResponse::Registered(b)) if b.len() == 1)
}
