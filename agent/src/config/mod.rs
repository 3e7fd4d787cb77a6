//! The configuration: what it is once it is right ([`Config`]), and how a file becomes one.
//!
//! Each section has a file of its own that reads and checks it by `table.rs`, which knows the line of every value; the
//! oldest ones (node, cluster, vip) are in `read.rs`. `check.rs` compares the sections with one another, `fault.rs` is
//! how a fault looks. With no file at all, [`Config::embedded`] is a registrar and
//! proxy on this machine.

mod accounting;
mod auth;
mod check;
mod dialog;
mod dispatcher;
mod dns;
mod doors;
mod failover;
mod fault;
mod hep;
pub mod keys;
mod log;
mod message_store;
mod nat;
mod presence;
mod read;
mod registrar;
mod route;
mod routing;
mod rtpengine;
mod sip;
mod table;
mod trunk;
mod values;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proxy_core::dispatch::DispatchConfig;
use proxy_core::nat::NatConfig;
use proxy_core::trunk::TrunkConfig;

pub use accounting::Accounting;
pub use auth::Auth;
pub use dialog::Dialog;
pub use dns::Dns;
pub use doors::{Door, Unsaid};
pub use fault::{ConfigError, Fault};
pub use log::{CURE as LOG_CURE, filter as log_filter};
pub use routing::Routing;
pub use sip::Sip;

/// Where the configuration is looked for when none is named; used only if it exists.
pub const DEFAULT_PATH: &str = "/etc/relevo/relevo.toml";
/// State directory of the embedded default, relative to the working directory.
pub const EMBEDDED_DATA: &str = "relevo-data";
/// File name of the admin socket inside the state directory, where the configuration names none.
pub const ADMIN_SOCKET: &str = "admin.sock";
/// Largest configuration file, bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// Most nodes of a cluster.
pub const MAX_NODES: usize = 9;
/// Most floating addresses, and most listen addresses.
pub const MAX_ADDRESSES: usize = 16;
/// Most local domains.
pub const MAX_DOMAINS: usize = 1000;
/// Shortest lease, ms: below it the granularity of kernel timers and one fsync decide, not the network.
pub const MIN_LEASE_MS: u64 = 50;

/// What a node is for (DESIGN §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Votes and may own the service.
    Appliance,
    /// Votes, never owns.
    Witness,
}

impl Role {
    /// The word in the configuration and in `relevo status`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Appliance => "appliance",
            Self::Witness => "witness",
        }
    }
}

/// When an entry counts as written (DESIGN §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After fsync, the default.
    Disk,
    /// Without fsync: a power loss of a majority loses what was acknowledged. The operator's choice.
    Memory,
}

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id, 1..=65535.
    pub id: u16,
    /// What it is for.
    pub role: Role,
    /// Its RPC address (TCP), also where it hears the notices of guards (UDP).
    pub addr: SocketAddr,
}

/// The floating IP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vip {
    /// Network interface, e.g. `eth0`.
    pub interface: String,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// A configuration that has passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file it was read from; `None` for the embedded default.
    pub file: Option<PathBuf>,
    /// The keys as they stand in the file; none for the embedded default.
    pub keys: keys::Keys,
    /// What is logged.
    pub log: String,
    /// Id of this node.
    pub id: u16,
    /// Role of this node.
    pub role: Role,
    /// State directory.
    pub data: PathBuf,
    /// Admin socket.
    pub admin: PathBuf,
    /// Name of the cluster; a data directory of another one is refused.
    pub cluster: String,
    /// Shared secret; `None` in a single node without configured key (one is made in the state directory).
    pub key: Option<[u8; 32]>,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout, which is also the lease.
    pub election_max: Duration,
    /// fsync or not.
    pub durability: Durability,
    /// All nodes, this one among them, in order of preference for ownership.
    pub nodes: Vec<Member>,
    /// The floating IP, if there is one.
    pub vip: Option<Vip>,
    /// SIP settings.
    pub sip: Sip,
    /// Stages and routes.
    pub routing: Routing,
    /// Who has to prove who he is.
    pub auth: Auth,
    /// How backends are chosen and probed.
    pub dispatcher: DispatchConfig,
    /// How long silence is borne.
    pub failover: proxy_core::failover::FailoverConfig,
    /// What holds for all trunks.
    pub trunk: TrunkConfig,
    /// Resolution of names.
    pub dns: Dns,
    /// Clients behind a NAT.
    pub nat: NatConfig,
    /// Copies for a collector, if there is one.
    pub hep: Option<crate::capture::HepConfig>,
    /// Where the records of calls are written.
    pub accounting: Accounting,
    /// How long calls may last, and how many there may be.
    pub dialog: Dialog,
    /// Path, outbound, GRUU.
    pub registrar: proxy_core::registrar::RegistrarConfig,
    /// SUBSCRIBE and PUBLISH.
    pub presence: proxy_core::blf::PresenceConfig,
    /// Messages for users without a phone.
    pub message_store: proxy_core::offline::MessageStoreConfig,
    /// Media proxies.
    pub media: proxy_core::media::MediaConfig,
}

impl Config {
    /// The configuration of a node that has no file: alone, no floating IP, state in `data`.
    #[must_use]
    pub fn embedded(data: &Path) -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            file: None,
            keys: keys::Keys::new(),
            log: String::from(log::DEFAULT),
            id: 1,
            role: Role::Appliance,
            data: data.to_path_buf(),
            admin: data.join(ADMIN_SOCKET),
            cluster: String::from("relevo"),
            key: None,
            heartbeat: Duration::from_millis(30),
            election_min: Duration::from_millis(75),
            election_max: Duration::from_millis(150),
            durability: Durability::Disk,
            nodes: vec![Member { id: 1, role: Role::Appliance, addr }],
            vip: None,
            sip: Sip::default(),
            routing: Routing::default(),
            auth: Auth::default(),
            dispatcher: DispatchConfig::default(),
            failover: proxy_core::failover::FailoverConfig::default(),
            trunk: TrunkConfig::default(),
            dns: Dns::default(),
            nat: NatConfig::default(),
            hep: None,
            accounting: Accounting::default(),
            dialog: Dialog::default(),
            registrar: proxy_core::registrar::RegistrarConfig::default(),
            presence: proxy_core::blf::PresenceConfig::default(),
            message_store: proxy_core::offline::MessageStoreConfig::default(),
            media: proxy_core::media::MediaConfig::default(),
        }
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file cannot be read, or everything that is wrong in it, each with its line and cure.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read_bounded(path).map_err(|e| ConfigError {
            file: path.to_path_buf(),
            faults: vec![Fault {
                line: None,
                what: format!("cannot be read: {e}"),
                cure: String::from("name a readable file with --config FILE"),
            }],
        })?;
        Self::parse(path, &text)
    }

    /// Checks a text that came from `path`.
    ///
    /// # Errors
    /// Everything that is wrong in it, each with its line and cure.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let (raw, sections, mut faults) = read::read(text);
        let config = check::check(&raw, sections, &mut faults);
        if faults.is_empty() {
            return Ok(Self { file: Some(path.to_path_buf()), keys: keys::keys(text), ..config });
        }
        faults.sort_by_key(|f| f.line);
        Err(ConfigError { file: path.to_path_buf(), faults })
    }

    /// This node as a member.
    #[must_use]
    pub fn myself(&self) -> Member {
        self.nodes.iter().find(|m| m.id == self.id).cloned().unwrap_or(Member {
            id: self.id,
            role: self.role,
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
        })
    }

    /// Whether there are other nodes.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.nodes.len() > 1
    }

    /// The lease: the longest election timeout (DESIGN §3).
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.election_max
    }

    /// Two lines for `relevo config check`.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |role| self.nodes.iter().filter(|m| m.role == role).count();
        let vip = match &self.vip {
            None => String::from("no floating IP"),
            Some(vip) => {
                let list: Vec<String> = vip.addresses.iter().map(|(a, p)| format!("{a}/{p}")).collect();
                format!("floating IP {} on {}", list.join(" and "), vip.interface)
            }
        };
        format!(
            "node {} ({}) of cluster {:?}: {} appliance(s), {} witness(es), {vip}, SIP port {}",
            self.id,
            self.role.word(),
            self.cluster,
            count(Role::Appliance),
            count(Role::Witness),
            self.sip.port
        )
    }

    /// Whether the file holds what nobody else must know.
    #[must_use]
    pub fn has_secrets(&self) -> bool {
        self.key.is_some() || self.hep.as_ref().is_some_and(|hep| hep.password.is_some())
    }

    /// What an operator should know although nothing is wrong.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut list = Vec::new();
        if self.file.is_none() {
            list.push(format!(
                "no configuration file: a registrar for everybody who reaches it, on loopback and private addresses only; \
                 write {DEFAULT_PATH}, or name a file with --config FILE"
            ));
        }
        if self.nodes.len() == 2 {
            list.push(String::from(
                "two nodes cannot fail over by themselves: neither is a majority without the other; add a witness",
            ));
        }
        if self.key == Some([0; 32]) {
            list.push(String::from(
                "cluster.key is that of the example, which everybody knows; make one with: openssl rand -hex 32",
            ));
        }
        if self.durability == Durability::Memory {
            list.push(String::from(
                "durability = \"memory\": a power loss of a majority loses acknowledged calls",
            ));
        }
        if self.is_cluster() && self.vip.is_none() {
            list.push(String::from("no [vip]: phones have no address that moves with the service"));
        }
        let off = self.routing.engine.off.iter();
        list.extend(off.filter_map(|stage| {
            let cost = stage.cost()?;
            Some(format!(
                "routing.off has {:?}: {cost}; remove it unless that is what you want",
                stage.name()
            ))
        }));
        let file = self.file.as_ref().map_or_else(String::new, |file| file.display().to_string());
        let doors = self.routing.doors.iter();
        list.extend(doors.map(|d| format!("{file}:{}: {}", d.line, d.warning(self.auth.enabled))));
        list
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::{Error, Read};
    let file = std::fs::File::open(path)?;
    let mut text = String::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}
