//! The wires: one bridge in the switch namespace, one veth pair per node and for the client, and the cuts.
//!
//! Bridge and ports are in a namespace of their own, so a lab adds nothing to the host's network and several labs
//! with the same addresses run side by side. Cuts are two nftables sets on the bridge: `mute` (frames coming from
//! that port are dropped) and `deaf` (frames going to it are dropped); the node itself notices nothing but silence.

use std::fs;
use std::io;

use super::ns;
use super::proc::{Proc, run_ok};

/// IPv4 prefix of the lab network (/24).
pub const NET4: &str = "10.77.0";
/// IPv6 prefix of the lab network (/64).
pub const NET6: &str = "fd77::";
/// The floating IPv4 address.
pub const VIP4: &str = "10.77.0.100";
/// The floating IPv6 address.
pub const VIP6: &str = "fd77::100";
/// IPv4 address of the client namespace.
pub const CLIENT4: &str = "10.77.0.200";
/// IPv6 address of the client namespace.
pub const CLIENT6: &str = "fd77::200";
/// Last byte of the client's MAC address.
pub const CLIENT_HOST: u8 = 200;

/// A MAC address: locally administered, last byte = host number, so that a frame tells who sent it.
pub type Mac = [u8; 6];

/// The MAC address of host `host`.
#[must_use]
pub fn mac_of(host: u8) -> Mac {
    [0x02, 0x77, 0, 0, 0, host]
}

/// `02:77:00:00:00:0b`.
#[must_use]
pub fn mac_text(mac: &Mac) -> String {
    mac.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
}

/// Host number of node `id`: 10.77.0.(10 + id).
#[must_use]
pub fn host_of(id: u64) -> u8 {
    u8::try_from(10 + id).unwrap_or(u8::MAX)
}

/// Name of the bridge port of node `id`.
#[must_use]
pub fn port_of(id: u64) -> String {
    format!("n{id}")
}

/// Name of the client's bridge port.
pub const CLIENT_PORT: &str = "client";

/// Makes bridge and cut rules in the switch namespace.
///
/// # Errors
/// `ip` or `nft` is missing or refuses.
pub fn make_switch(switch: Proc) -> io::Result<()> {
    // No spanning tree and no snooping: a frame must pass at once, also a neighbour solicitation.
    ip(
        switch,
        "link set lo up\n\
         link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
         link set br0 addrgenmode none\n\
         link set br0 up\n",
    )?;
    nft(
        switch,
        "table bridge cuts {\n\
           set mute { type ifname; }\n\
           set deaf { type ifname; }\n\
           map narrow { type ifname : verdict; }\n\
           chain forwarding {\n\
             type filter hook forward priority 0;\n\
             iifname @mute drop\n\
             oifname @deaf drop\n\
             iifname vmap @narrow\n\
           }\n\
         }\n",
    )
}

/// Connects the namespace of `holder` to the bridge: `eth0` there, `port` here, both addresses, up.
///
/// # Errors
/// `ip` refuses, for example because the port exists already.
pub fn plug(switch: Proc, holder: Proc, port: &str, host: u8) -> io::Result<()> {
    ip(switch, &format!("link add {port} type veth peer name eth0 netns {}\n", holder.pid))?;
    // Addresses are chosen by the lab: duplicate address detection would only delay them (a failure is harmless).
    ns::inside(holder, || {
        for conf in ["all", "default", "eth0"] {
            for (key, value) in [("accept_dad", "0"), ("accept_ra", "0"), ("router_solicitations", "0")] {
                let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{conf}/{key}"), value);
            }
            let _ = fs::write(format!("/proc/sys/net/ipv4/conf/{conf}/rp_filter"), "0");
        }
    })?;
    ip(
        holder,
        &format!(
            "link set lo up\n\
             link set eth0 address {mac}\n\
             addr add {NET4}.{host}/24 dev eth0\n\
             addr add {NET6}{host}/64 dev eth0 nodad\n\
             link set eth0 up\n",
            mac = mac_text(&mac_of(host)),
        ),
    )?;
    ip(switch, &format!("link set {port} addrgenmode none\nlink set {port} master br0\nlink set {port} up\n"))
}

/// The interface of the floating IP on nodes with a wire of its own.
pub const SERVICE_INTERFACE: &str = "svc0";

/// Name of the port at the other end of node `id`'s service wire.
#[must_use]
pub fn service_port_of(id: u64) -> String {
    format!("s{id}")
}

/// Gives node `id` a wire of its own for the floating IP: [`SERVICE_INTERFACE`] there, [`service_port_of`] here.
///
/// # Errors
/// `ip` refuses.
pub fn plug_service(switch: Proc, holder: Proc, id: u64) -> io::Result<()> {
    let port = service_port_of(id);
    // It is gone with its namespace, or will be in a moment.
    unplug(switch, &port);
    ip(switch, &format!("link add {port} type veth peer name {SERVICE_INTERFACE} netns {}\n", holder.pid))?;
    ip(holder, &format!("link set {SERVICE_INTERFACE} up\n"))?;
    port_up(switch, &port)
}

/// The cable of a port is in again.
///
/// # Errors
/// `ip` refuses.
pub fn port_up(switch: Proc, port: &str) -> io::Result<()> {
    ip(switch, &format!("link set {port} up\n"))
}

/// Takes the bridge port down at once, as when the machine behind it loses power.
///
/// One ioctl and no child process: what comes after it is not heard by anyone.
///
/// # Errors
/// The port does not exist.
pub fn port_down(switch: Proc, port: &str) -> io::Result<()> {
    ns::inside(switch, || set_down(port))?
}

fn set_down(port: &str) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: ifreq is plain data for which all-zero bytes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(port.bytes()) {
        *to = from.cast_signed();
    }
    // Flags 0: neither up nor running; a bridge port has no other flag that the lab set.
    request.ifr_ifru.ifru_flags = 0;
    // SAFETY: the descriptor is open and `request` is a valid ifreq for the time of the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Removes the veth of a node that is gone. It is no error if it vanished with its namespace.
pub fn unplug(switch: Proc, port: &str) {
    let _ = ip(switch, &format!("link del {port}\n"));
}

/// What a cut takes away from a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Neither sends nor receives.
    Both,
    /// Receives, but nobody hears it.
    SendOnly,
}

/// Cuts a port. Cutting twice is the same as once.
///
/// # Errors
/// `nft` refuses.
pub fn cut(switch: Proc, port: &str, what: Cut) -> io::Result<()> {
    let mut rules = format!("add element bridge cuts mute {{ \"{port}\" }}\n");
    if what == Cut::Both {
        rules += &format!("add element bridge cuts deaf {{ \"{port}\" }}\n");
    }
    nft(switch, &rules)
}

/// A black hole: what a node says to `to` in packets of more than `bytes` bytes is dropped without a word, `percent` of
/// them. Doing it again replaces what was there.
///
/// # Errors
/// `nft` or `ip` refuses.
pub fn narrow(switch: Proc, node: Proc, port: &str, to: &[u8], bytes: u32, percent: u8) -> io::Result<()> {
    // One packet for each segment: what passes a wire together must be seen apart here.
    ip(node, "link set eth0 gso_max_segs 1\n")?;
    let to: Vec<String> = to.iter().map(|host| mac_text(&mac_of(*host))).collect();
    // nft compares with less than what the numbers are below, and no more.
    let some = if percent < 100 { format!("numgen random mod 100 lt {percent}") } else { String::new() };
    nft(
        switch,
        &format!(
            "add chain bridge cuts narrow_{port}\n\
             flush chain bridge cuts narrow_{port}\n\
             add rule bridge cuts narrow_{port} ether daddr {{ {} }} meta length gt {bytes} \
               {some} drop\n\
             add element bridge cuts narrow {{ \"{port}\" : jump narrow_{port} }}\n",
            to.join(", ")
        ),
    )
}

/// Undoes [`narrow`].
///
/// # Errors
/// `nft` refuses.
pub fn widen(switch: Proc, port: &str) -> io::Result<()> {
    nft(switch, &format!("add chain bridge cuts narrow_{port}\nflush chain bridge cuts narrow_{port}\n"))
}

/// Takes every cut of a port away.
///
/// # Errors
/// `nft` refuses.
pub fn heal(switch: Proc, port: &str) -> io::Result<()> {
    // Adding first makes the deletion succeed whether it was cut or not; both in one transaction.
    let rules: String = ["mute", "deaf"]
        .iter()
        .map(|set| {
            format!(
                "add element bridge cuts {set} {{ \"{port}\" }}\n\
                 delete element bridge cuts {set} {{ \"{port}\" }}\n"
            )
        })
        .collect();
    nft(switch, &rules)
}

pub(super) fn ip(holder: Proc, batch: &str) -> io::Result<()> {
    let mut command = ns::command_in(holder, "ip", false)?;
    command.args(["-batch", "-"]);
    run_ok(command, batch).map(drop)
}

pub(super) fn nft(holder: Proc, rules: &str) -> io::Result<()> {
    let mut command = ns::command_in(holder, "nft", false)?;
    command.args(["-f", "-"]);
    run_ok(command, rules).map(drop)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;

    /// A switch and two plugged namespaces; all gone when dropped.
    struct Wires {
        switch: Proc,
        hosts: [(Proc, UdpSocket); 2],
    }

    impl Drop for Wires {
        fn drop(&mut self) {
            for holder in [self.switch, self.hosts[0].0, self.hosts[1].0] {
                holder.kill_and_wait(Duration::from_secs(5));
            }
        }
    }

    impl Wires {
        fn new() -> Wires {
            let switch = ns::hold_new(true).expect("namespace");
            make_switch(switch).expect("bridge");
            let hosts = [1, 2].map(|id| {
                let holder = ns::hold_new(true).expect("namespace");
                plug(switch, holder, &port_of(id), host_of(id)).expect("wire");
                let address = format!("{NET4}.{}:5000", host_of(id));
                let socket = ns::inside(holder, || UdpSocket::bind(address)).expect("inside").expect("bound");
                socket.set_read_timeout(Some(Duration::from_millis(200))).expect("timeout");
                (holder, socket)
            });
            Wires { switch, hosts }
        }

        /// Whether a datagram from host index `from` reaches the other one.
        fn passes(&self, from: usize) -> bool {
            let other = &self.hosts[1 - from].1;
            let to = other.local_addr().expect("address");
            let mut buffer = [0u8; 8];
            // The first one may wait for a neighbour that ARP still has to find.
            (0..5)
                .any(|_| self.hosts[from].1.send_to(b"x", to).is_ok() && other.recv_from(&mut buffer).is_ok())
        }
    }

    #[test]
    fn cuts_silence_the_right_direction_and_heal_undoes_them() {
        if !crate::lab::rootless::is_root() {
            // Namespaces need root, or a process with a single thread, which a test is not.
            return;
        }
        let w = Wires::new();
        let port = port_of(1);
        assert!(w.passes(0) && w.passes(1), "before any cut");
        cut(w.switch, &port, Cut::SendOnly).expect("cut");
        assert!(!w.passes(0), "host 1 is not heard");
        // It still receives, but ARP is not answered: the neighbour entries are fresh from before.
        assert!(w.passes(1), "host 1 still hears");
        cut(w.switch, &port, Cut::Both).expect("cut");
        assert!(!w.passes(0) && !w.passes(1));
        heal(w.switch, &port).expect("healed");
        assert!(w.passes(0) && w.passes(1), "healed");
        heal(w.switch, &port).expect("healing twice is the same as once");
        port_down(w.switch, &port).expect("down");
        assert!(!w.passes(0) && !w.passes(1), "without power");
    }
}
