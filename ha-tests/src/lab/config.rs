//! Texts the lab writes: a node's configuration file and the JSON that `up` prints.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::net;
use super::state::{LabState, Node, Role};

/// What may be chosen at `up`.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of appliances (1 to 7).
    pub appliances: u64,
    /// Whether there is a witness.
    pub witness: bool,
    /// Folder of the lab; `None` = a fresh one.
    pub dir: Option<PathBuf>,
    /// The `relevo` program; `None` = beside this program, then in PATH.
    pub relevo: Option<PathBuf>,
    /// Everything dies with this process.
    pub ephemeral: bool,
    /// A user namespace holds everything.
    pub rootless: bool,
    /// Raft heartbeat, ms.
    pub heartbeat_ms: u64,
    /// Shortest election timeout, ms.
    pub election_min_ms: u64,
    /// Longest election timeout, which is also the lease, ms.
    pub election_max_ms: u64,
    /// Timer C, s.
    pub timer_c_s: u64,
    /// Bound of the whole `up`, s.
    pub timeout_s: u64,
    /// Further sections of every node's configuration file.
    pub extra: String,
    /// The floating IP is on a wire of its own (`svc0`), which no other traffic uses and no client is on.
    pub service_wire: bool,
    /// Size of each node's disk, bytes.
    pub disk_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            appliances: 2,
            witness: true,
            dir: None,
            relevo: None,
            ephemeral: false,
            rootless: false,
            heartbeat_ms: 30,
            election_min_ms: 75,
            election_max_ms: 150,
            timer_c_s: 180,
            timeout_s: 30,
            extra: String::new(),
            service_wire: false,
            disk_bytes: super::disk::DISK_BYTES,
        }
    }
}

/// SIP port of the floating IP.
pub const SIP_PORT: u16 = 5060;
/// Raft port of every node.
pub const RAFT_PORT: u16 = 7400;
/// The domain the lab's phones belong to.
pub const DOMAIN: &str = "lab.test";

/// The configuration file of one node.
#[must_use]
pub fn node_toml(node: &Node, all: &[Node], key: &str, o: &Options) -> String {
    use std::fmt::Write;
    let mut text = format!(
        "# Written by relevo-lab.\n\
         [node]\nid = {id}\nrole = \"{role}\"\ndata = \"{data}\"\nadmin = \"{admin}\"\n\n\
         [cluster]\nname = \"lab\"\nkey = \"{key}\"\nheartbeat_ms = {hb}\nelection_min_ms = {min}\n\
         election_max_ms = {max}\n",
        id = node.id,
        role = node.role.word(),
        data = node.data.display(),
        admin = node.admin.display(),
        hb = o.heartbeat_ms,
        min = o.election_min_ms,
        max = o.election_max_ms,
    );
    for peer in all {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n[[cluster.node]]\nid = {}\nrole = \"{}\"\naddr = \"{}\"\n",
            peer.id,
            peer.role.word(),
            peer.addr
        );
    }
    let _ = write!(
        text,
        "\n[vip]\ninterface = \"{}\"\naddresses = [\"{}/24\", \"{}/64\"]\n\n\
         [sip]\nport = {SIP_PORT}\ndomains = [\"{DOMAIN}\"]\ntimer_c_s = {}\n",
        if o.service_wire { net::SERVICE_INTERFACE } else { "eth0" },
        net::VIP4,
        net::VIP6,
        o.timer_c_s
    );
    text.push_str(&o.extra);
    text
}

/// The nodes a lab with these options has, not yet running.
#[must_use]
pub fn plan_nodes(dir: &std::path::Path, o: &Options) -> Vec<Node> {
    let count = o.appliances + u64::from(o.witness);
    (1..=count)
        .map(|id| {
            let home = dir.join(format!("n{id}"));
            let host = net::host_of(id);
            Node {
                id,
                role: if id <= o.appliances { Role::Appliance } else { Role::Witness },
                addr: format!("{}.{host}:{RAFT_PORT}", net::NET4),
                host,
                service_wire: o.service_wire,
                holder: None,
                guard: None,
                config: home.join("relevo.toml"),
                admin: home.join("admin.sock"),
                disk: home.join("disk"),
                data: home.join("disk").join("data"),
                log: home.join("log"),
            }
        })
        .collect()
}

/// What `up --json` prints. Other programs read it: fields are added, never renamed.
#[must_use]
pub fn describe(lab: &LabState) -> Value {
    let pid = |p: Option<super::proc::Proc>| p.filter(super::proc::Proc::alive).map(|p| p.pid);
    json!({
        "dir": lab.dir,
        "vip4": net::VIP4,
        "vip6": net::VIP6,
        "sip_port": lab.sip_port,
        "rootless": lab.rootless,
        "client": { "ns_pid": lab.client.pid, "addr4": net::CLIENT4, "addr6": net::CLIENT6 },
        "nodes": lab.nodes.iter().map(|n| json!({
            "id": n.id,
            "role": n.role.word(),
            "ns_pid": pid(n.holder),
            "addr": n.addr,
            "mac": net::mac_text(&net::mac_of(n.host)),
            "admin": n.admin,
            "data": n.data,
            "config": n.config,
            "log": n.log,
            "agent_pid": pid(n.agent()),
            "guard_pid": pid(n.guard),
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_valid_toml_and_names_every_node() {
        let o = Options { timer_c_s: 12, ..Options::default() };
        let nodes = plan_nodes(std::path::Path::new("/l"), &o);
        let text = node_toml(&nodes[2], &nodes, &"0".repeat(64), &o);
        let parsed: toml::Table = toml::from_str(&text).expect("valid TOML");
        assert_eq!(parsed["node"]["role"].as_str(), Some("witness"));
        assert_eq!(parsed["cluster"]["node"].as_array().map(Vec::len), Some(3));
        assert_eq!(parsed["cluster"]["node"][1]["addr"].as_str(), Some("10.77.0.12:7400"));
        assert_eq!(parsed["sip"]["timer_c_s"].as_integer(), Some(12));
    }

    #[test]
    fn the_default_shape_is_two_appliances_and_a_witness() {
        let nodes = plan_nodes(std::path::Path::new("/l"), &Options::default());
        let roles: Vec<Role> = nodes.iter().map(|n| n.role).collect();
        assert_eq!(roles, [Role::Appliance, Role::Appliance, Role::Witness]);
    }
}
