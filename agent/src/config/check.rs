//! From raw values to a [`Config`]: ranges, formats, and what has to fit together. Each fault names its line and
//! its cure; a value that is wrong is replaced by its default so that the rest is still checked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::doors::Unsaid;
use super::fault::Fault;
use super::read::{Raw, RawNode, Sections};
use super::table::At;
use super::{
    ADMIN_SOCKET, Config, Durability, EMBEDDED_DATA, MAX_ADDRESSES, MAX_NODES, MIN_LEASE_MS, Member, Role,
    Vip,
};
use crate::control::times::{PRESETS, Times};

/// Longest path of a unix socket, bytes (`sun_path` without its NUL, unix(7)).
const SOCKET_PATH_MAX: usize = 107;
/// Longest name of a network interface, bytes (IFNAMSIZ without its NUL).
const INTERFACE_NAME_MAX: usize = 15;
/// Longest cluster name, bytes.
const NAME_MAX: usize = 64;

struct Faults<'f>(&'f mut Vec<Fault>);

impl Faults<'_> {
    fn add(&mut self, line: impl Into<Option<usize>>, what: impl Into<String>, cure: impl Into<String>) {
        self.0.push(Fault { line: line.into(), what: what.into(), cure: cure.into() });
    }

    /// A number between two bounds, or its default.
    fn number(&mut self, key: &str, raw: Option<&At<i64>>, (min, max): (i64, i64), default: i64) -> i64 {
        let Some(at) = raw else { return default };
        if (min..=max).contains(&at.value) {
            return at.value;
        }
        let cure = format!("write a number from {min} to {max}");
        self.add(at.line, format!("{key} = {} is out of range", at.value), cure);
        default
    }

    fn role(&mut self, raw: Option<&At<String>>) -> Role {
        match raw.map(|at| (at.line, at.value.as_str())) {
            None | Some((_, "appliance")) => Role::Appliance,
            Some((_, "witness")) => Role::Witness,
            Some((line, other)) => {
                self.add(line, format!("role {other:?} is unknown"), "write \"appliance\" or \"witness\"");
                Role::Appliance
            }
        }
    }
}

pub(super) fn check(raw: &Raw, sections: Sections, faults: &mut Vec<Fault>) -> Config {
    let mut f = Faults(faults);
    let data = raw.data.as_ref().map_or_else(|| PathBuf::from(EMBEDDED_DATA), |at| PathBuf::from(&at.value));
    let mut c = Config::embedded(&data);
    c.id = small(f.number("id", raw.id.as_ref(), (1, i64::from(u16::MAX)), 1));
    c.role = f.role(raw.role.as_ref());
    if let Some(at) = raw.data.as_ref().filter(|at| at.value.is_empty()) {
        f.add(at.line, "data is empty", "name the folder for the state, such as \"/var/lib/relevo\"");
    }
    c.admin = raw.admin.as_ref().map_or_else(|| data.join(ADMIN_SOCKET), |at| PathBuf::from(&at.value));
    if let Some(at) = raw.admin.as_ref().or(raw.data.as_ref())
        && !(1..=SOCKET_PATH_MAX).contains(&c.admin.as_os_str().len())
    {
        let what = format!("the admin socket {} is empty or too long a path", c.admin.display());
        f.add(at.line, what, format!("set node.admin to a path of at most {SOCKET_PATH_MAX} bytes"));
    }
    if let Some(at) = &raw.log {
        match super::log::filter(&at.value) {
            Ok(_) => c.log.clone_from(&at.value),
            Err(what) => f.add(at.line, format!("log = {:?}: {what}", at.value), super::log::CURE),
        }
    }
    timing(raw, &mut c, &mut f);
    cluster(raw, &mut c, &mut f);
    vip(raw, &mut c, &mut f);
    c.sip = sections.sip;
    c.routing = sections.routing;
    c.auth = sections.auth;
    let (dispatcher, default_set) = sections.dispatcher;
    c.dispatcher = dispatcher;
    c.routing.doors.extend(default_set);
    shut(&mut c);
    c.failover = sections.failover;
    c.trunk = sections.trunk;
    c.dns = sections.dns;
    c.nat = sections.nat;
    c.hep = sections.hep.map(|mut hep| {
        if hep.node.is_empty() {
            hep.node = format!("{}-{}", c.cluster, c.id);
        }
        if hep.capture_id == 0 {
            hep.capture_id = u32::from(c.id);
        }
        hep
    });
    c.accounting = sections.accounting.below(&c.data);
    if let Some(line) = c.accounting.same_file() {
        f.add(line, "json and csv are the same file", "name two files");
    }
    c.dialog = sections.dialog;
    c.registrar = sections.registrar;
    c.presence = sections.presence;
    c.message_store = sections.message_store;
    c.media = sections.media;
    if let Some(line) = c.sip.listen_line.filter(|_| c.vip.is_some()) {
        let cure = "remove listen: SIP is answered on the floating IP";
        f.add(line, "listen and [vip] exclude each other", cure);
    }
    c
}

/// Strangers do not come in where nobody has said that they may.
fn shut(c: &mut Config) {
    let doors = c.routing.doors.iter().filter(|door| door.unsaid == Unsaid::Guests);
    for number in doors.filter_map(|door| door.rule).filter(|_| c.auth.enabled) {
        if let Some(rule) = c.routing.engine.rules.get_mut(number) {
            rule.require_auth = true;
        }
    }
}

fn timing(raw: &Raw, c: &mut Config, f: &mut Faults<'_>) {
    let lease = MIN_LEASE_MS.cast_signed();
    let (_, usual) = PRESETS[0];
    let preset = raw.times.as_ref().and_then(|name| {
        let known = Times::named(&name.value);
        if known.is_none() {
            let names: Vec<String> = PRESETS.iter().map(|(name, _)| format!("{name:?}")).collect();
            f.add(
                Some(name.line),
                format!("times = {:?} is no name of times", name.value),
                format!("set it to one of {}", names.join(", ")),
            );
        }
        known
    });
    let preset = preset.unwrap_or(usual);
    let whole_ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    let heartbeat = whole_ms(preset.heartbeat);
    let heartbeat = f.number("heartbeat_ms", raw.heartbeat_ms.as_ref(), (5, 10_000), heartbeat);
    let (min, max) = (whole_ms(preset.election_min), whole_ms(preset.election_max));
    let min = f.number("election_min_ms", raw.election_min_ms.as_ref(), (10, 60_000), min);
    let max = f.number("election_max_ms", raw.election_max_ms.as_ref(), (lease, 60_000), max);
    let line = |a: &Option<At<i64>>, b: &Option<At<i64>>| a.as_ref().or(b.as_ref()).map(|at| at.line);
    if min < 2 * heartbeat {
        f.add(
            line(&raw.election_min_ms, &raw.heartbeat_ms),
            format!("election_min_ms = {min} is less than two heartbeats of {heartbeat} ms: one lost packet starts an election"),
            format!("set election_min_ms to at least {} or heartbeat_ms to at most {}", 2 * heartbeat, min / 2),
        );
    }
    if max <= min {
        f.add(
            line(&raw.election_max_ms, &raw.election_min_ms),
            format!(
                "election_max_ms = {max} is not above election_min_ms = {min}: nodes would campaign together"
            ),
            format!("set election_max_ms to {} or so", 2 * min),
        );
    }
    let ms = |v: i64| Duration::from_millis(v.unsigned_abs());
    (c.heartbeat, c.election_min, c.election_max) = (ms(heartbeat), ms(min), ms(max));
}

fn cluster(raw: &Raw, c: &mut Config, f: &mut Faults<'_>) {
    if let Some(at) = &raw.name {
        if at.value.is_empty() || at.value.len() > NAME_MAX {
            f.add(at.line, "the cluster name is empty or too long", format!("write 1 to {NAME_MAX} bytes"));
        }
        c.cluster.clone_from(&at.value);
    }
    match raw.durability.as_ref().map(|at| (at.line, at.value.as_str())) {
        None | Some((_, "disk")) => {}
        Some((_, "memory")) => c.durability = Durability::Memory,
        Some((line, other)) => {
            f.add(line, format!("durability {other:?} is unknown"), "write \"disk\" or \"memory\"");
        }
    }
    if let Some(at) = &raw.key {
        c.key = hex32(&at.value);
        if c.key.is_none() {
            // The value itself is a secret and is not repeated.
            f.add(at.line, "key is not 64 hex digits", "make one with: openssl rand -hex 32");
        }
    }
    if raw.nodes.is_empty() {
        if c.role == Role::Witness {
            let line = raw.role.as_ref().map(|at| at.line);
            f.add(line, "a witness alone owns nothing", "add the [[cluster.node]] tables of all nodes");
        }
        c.nodes = vec![Member { id: c.id, role: c.role, addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) }];
        return;
    }
    members(raw, c, f);
    if c.nodes.len() > 1 && raw.key.is_none() {
        f.add(
            raw.cluster_line,
            "a cluster of several nodes needs a key",
            "add key = \"…\" (openssl rand -hex 32)",
        );
    }
    if c.nodes.len() > 1 && raw.name.is_none() {
        f.add(
            raw.cluster_line,
            "a cluster of several nodes needs a name",
            "add name = \"…\", equal on all nodes",
        );
    }
}

fn members(raw: &Raw, c: &mut Config, f: &mut Faults<'_>) {
    if raw.nodes.len() > MAX_NODES {
        let what = format!("{} nodes are too many", raw.nodes.len());
        f.add(raw.nodes.first().map(|n| n.line), what, format!("a cluster has at most {MAX_NODES}"));
    }
    let mut nodes: Vec<(usize, Member)> = Vec::new();
    for node in raw.nodes.iter().take(MAX_NODES) {
        let Some(member) = member(node, f) else { continue };
        if let Some((line, _)) = nodes.iter().find(|(_, m)| m.id == member.id) {
            let what = format!("node id {} is there already (line {line})", member.id);
            f.add(node.id.as_ref().map_or(node.line, |at| at.line), what, "give each node an id of its own");
        }
        if let Some((line, _)) = nodes.iter().find(|(_, m)| m.addr == member.addr) {
            let what = format!("address {} is there already (line {line})", member.addr);
            f.add(
                node.addr.as_ref().map_or(node.line, |at| at.line),
                what,
                "give each node an address of its own",
            );
        }
        nodes.push((node.line, member));
    }
    let id_line = raw.id.as_ref().map(|at| at.line);
    match nodes.iter().find(|(_, m)| m.id == c.id) {
        Some((_, m)) if m.role != c.role && raw.role.is_some() => {
            let line = raw.role.as_ref().map(|at| at.line);
            let what = format!(
                "node.role is {:?}, but [[cluster.node]] {} says {:?}",
                c.role.word(),
                c.id,
                m.role.word()
            );
            f.add(line, what, "make them equal, or leave node.role out");
        }
        Some((_, m)) => c.role = m.role,
        // A node table that is itself faulty has been named already.
        None if nodes.len() == raw.nodes.len() => {
            let ids: Vec<String> = nodes.iter().map(|(_, m)| m.id.to_string()).collect();
            let what =
                format!("node.id = {} is not among the [[cluster.node]] ids ({})", c.id, ids.join(", "));
            f.add(id_line.or(raw.cluster_line), what, "set node.id to one of them, or add this node");
        }
        None => {}
    }
    if nodes.len() == raw.nodes.len() && nodes.iter().all(|(_, m)| m.role == Role::Witness) {
        f.add(
            raw.cluster_line,
            "no node is an appliance: nobody could own the service",
            "make one an appliance",
        );
    }
    c.nodes = nodes.into_iter().map(|(_, m)| m).collect();
}

fn member(node: &RawNode, f: &mut Faults<'_>) -> Option<Member> {
    let role = f.role(node.role.as_ref());
    let Some(id) = &node.id else {
        f.add(node.line, "a [[cluster.node]] has no id", "add id = 1 (each node its own)");
        return None;
    };
    let Ok(number) = u16::try_from(id.value) else {
        f.add(id.line, format!("id = {} is out of range", id.value), "write a number from 1 to 65535");
        return None;
    };
    if number == 0 {
        f.add(id.line, "id = 0 is out of range", "write a number from 1 to 65535");
        return None;
    }
    let Some(addr) = &node.addr else {
        f.add(node.line, format!("node {number} has no addr"), "add addr = \"10.0.0.1:7400\"");
        return None;
    };
    let Ok(parsed) = addr.value.parse::<SocketAddr>() else {
        let what = format!("addr {:?} is not address:port", addr.value);
        f.add(addr.line, what, "write it as \"10.0.0.1:7400\" or \"[fd00::1]:7400\"");
        return None;
    };
    if parsed.port() == 0 || parsed.ip().is_unspecified() {
        let what = format!("addr {parsed} cannot be reached by the other nodes");
        f.add(addr.line, what, "name the node's own address and a port above 0");
        return None;
    }
    Some(Member { id: number, role, addr: parsed })
}

fn vip(raw: &Raw, c: &mut Config, f: &mut Faults<'_>) {
    let Some(line) = raw.vip_line else { return };
    let interface = match &raw.interface {
        Some(at) => {
            let name = &at.value;
            if name.is_empty() || name.len() > INTERFACE_NAME_MAX || name.contains(['/', ' ']) {
                f.add(at.line, format!("{name:?} is no name of an interface"), "see the names in: ip link");
            }
            name.clone()
        }
        None => {
            f.add(line, "[vip] has no interface", "add interface = \"eth0\" (see: ip link)");
            String::new()
        }
    };
    let mut addresses: Vec<(IpAddr, u8)> = Vec::new();
    match &raw.addresses {
        Some(list) if !list.value.is_empty() => {
            if list.value.len() > MAX_ADDRESSES {
                f.add(list.line, "too many addresses", format!("at most {MAX_ADDRESSES}"));
            }
            for at in list.value.iter().take(MAX_ADDRESSES) {
                match prefixed(&at.value) {
                    Some(a) if addresses.iter().any(|(ip, _)| *ip == a.0) => {
                        f.add(at.line, format!("{} is there twice", a.0), "remove one");
                    }
                    Some(a) => addresses.push(a),
                    None => {
                        let what = format!("{:?} is no address with prefix length", at.value);
                        f.add(at.line, what, "write it as \"10.0.0.100/24\" or \"fd00::100/64\"");
                    }
                }
            }
        }
        Some(list) => f.add(list.line, "addresses is empty", "add one, such as \"10.0.0.100/24\""),
        None => f.add(line, "[vip] has no addresses", "add addresses = [\"10.0.0.100/24\"]"),
    }
    for node in &c.nodes {
        if addresses.iter().any(|(ip, _)| *ip == node.addr.ip()) {
            let what = format!("{} is a floating IP and the address of node {}", node.addr.ip(), node.id);
            f.add(line, what, "a floating IP is an address that no node has");
        }
    }
    c.vip = Some(Vip { interface, addresses });
}

fn small(v: i64) -> u16 {
    u16::try_from(v).unwrap_or(u16::MAX)
}

fn prefixed(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, prefix) = text.split_once('/')?;
    let ip: IpAddr = ip.parse().ok()?;
    let prefix: u8 = prefix.parse().ok()?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let usable = !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback();
    (usable && (1..=most).contains(&prefix)).then_some((ip, prefix))
}

fn hex32(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; 32];
    for (i, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(key)
}
