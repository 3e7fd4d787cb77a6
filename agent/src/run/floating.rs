//! The floating IP by way of the system's tools (`ip`, `nft`) and raw frames.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use proxy_core::time::MonoTime;

use super::resources::Address;
use crate::config::Vip;

/// When the address is announced after it was added.
const ANNOUNCE_AT: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
];

/// The gate is renewed this often at least.
const RENEW: Duration = Duration::from_millis(50);

/// The floating IP of this node.
#[derive(Debug)]
pub struct Floating {
    vip: Vip,
    second_set: bool,
    added: Option<MonoTime>,
    announced: usize,
    renewed: Option<std::time::Instant>,
}

impl Floating {
    /// Makes the gate, closed.
    ///
    /// # Errors
    /// What `nft` said.
    pub fn install(vip: &Vip) -> Result<Self, String> {
        let v4: Vec<String> =
            vip.addresses.iter().filter(|(a, _)| a.is_ipv4()).map(|(a, _)| a.to_string()).collect();
        let v6: Vec<String> =
            vip.addresses.iter().filter(|(a, _)| a.is_ipv6()).map(|(a, _)| a.to_string()).collect();
        let mut text = String::from(
            "table inet relevo {}\ndelete table inet relevo\ntable arp relevo {}\ndelete table arp relevo\n",
        );
        let sets = |t: &str| {
            ["a", "b"].map(|s| format!(" set {s}{t} {{ type ipv{t}_addr; flags timeout; }}\n")).concat()
        };
        text += &format!(
            "table inet relevo {{\n{}{} chain in {{ type filter hook input priority -300; policy accept;\n",
            sets("4"),
            sets("6")
        );
        let rule = |family: &str, t: &str, side: &str, list: &[String]| {
            list.iter()
                .map(|a| {
                    format!("  {family} {side} {a} {family} {side} != @a{t} {family} {side} != @b{t} drop\n")
                })
                .collect::<String>()
        };
        text += &rule("ip", "4", "daddr", &v4);
        text += &rule("ip6", "6", "daddr", &v6);
        text += " }\n chain out { type filter hook output priority -300; policy accept;\n";
        text += &rule("ip", "4", "saddr", &v4);
        text += &rule("ip6", "6", "saddr", &v6);
        text += " }\n}\n";
        text += &format!(
            "table arp relevo {{\n{} chain in {{ type filter hook input priority -300; policy accept;\n",
            sets("4")
        );
        text += &rule("arp", "4", "daddr ip", &v4);
        text += " }\n chain out { type filter hook output priority -300; policy accept;\n";
        text += &rule("arp", "4", "saddr ip", &v4);
        text += " }\n}\n";
        nft(&text)?;
        let mut me = Self { vip: vip.clone(), second_set: false, added: None, announced: 0, renewed: None };
        // A former process may have left it.
        me.remove()?;
        Ok(me)
    }

    fn ip(&self, args: &[&str]) -> Result<(), String> {
        let out = Command::new("ip").args(args).output().map_err(|e| format!("ip: {e}"))?;
        if out.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&out.stderr).trim().to_owned())
        }
    }

    fn announce(&mut self, now: MonoTime) {
        let Some(added) = self.added else { return };
        let Some(at) = ANNOUNCE_AT.get(self.announced) else { return };
        if now.since(added) < *at {
            return;
        }
        self.announced += 1;
        for (address, _) in &self.vip.addresses {
            if let Err(e) = frames::announce(&self.vip.interface, *address) {
                tracing::warn!("announcing {address}: {e}");
            }
        }
    }
}

impl Address for Floating {
    fn open_gate(&mut self, left: Duration) -> Result<(), String> {
        if self.renewed.is_some_and(|at| at.elapsed() < RENEW) {
            return Ok(());
        }
        self.renewed = Some(std::time::Instant::now());
        let set = if self.second_set { "b" } else { "a" };
        self.second_set = !self.second_set;
        let mut text = format!(
            "flush set inet relevo {set}4\nflush set inet relevo {set}6\nflush set arp relevo {set}4\n"
        );
        for (a, _) in &self.vip.addresses {
            let ms = left.as_millis();
            if a.is_ipv4() {
                text += &format!(
                    "add element inet relevo {set}4 {{ {a} timeout {ms}ms }}\nadd element arp relevo {set}4 {{ {a} timeout {ms}ms }}\n"
                );
            } else {
                text += &format!("add element inet relevo {set}6 {{ {a} timeout {ms}ms }}\n");
            }
        }
        nft(&text)
    }

    fn close_gate(&mut self) -> Result<(), String> {
        self.renewed = None;
        nft(
            "flush set inet relevo a4\nflush set inet relevo a6\nflush set arp relevo a4\nflush set inet relevo b4\nflush set inet relevo b6\nflush set arp relevo b4\n",
        )
    }

    fn add(&mut self, now: MonoTime) -> Result<(), String> {
        for (a, prefix) in &self.vip.addresses {
            let text = format!("{a}/{prefix}");
            let mut args = vec!["addr", "replace", text.as_str(), "dev", self.vip.interface.as_str()];
            if a.is_ipv6() {
                args.push("nodad");
            }
            self.ip(&args)?;
        }
        self.added = Some(now);
        self.announced = 0;
        self.announce(now);
        Ok(())
    }

    fn keep(&mut self, now: MonoTime) -> Result<(), String> {
        self.announce(now);
        Ok(())
    }

    fn remove(&mut self) -> Result<(), String> {
        self.added = None;
        for (a, prefix) in &self.vip.addresses {
            // Not there is as good as removed.
            let _ = self.ip(&["addr", "del", &format!("{a}/{prefix}"), "dev", &self.vip.interface]);
        }
        Ok(())
    }
}

fn nft(text: &str) -> Result<(), String> {
    let run = || -> std::io::Result<std::process::Output> {
        let mut child = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(text.as_bytes())?;
        }
        child.wait_with_output()
    };
    let out = run().map_err(|e| format!("nft: {e}; install nftables and run as root"))?;
    if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).trim().to_owned()) }
}

mod frames {
    //! Gratuitous ARP and unsolicited neighbour advertisement.

    use std::io;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::os::fd::AsRawFd;

    use socket2::{Domain, Protocol, Socket, Type};

    pub(super) fn announce(interface: &str, address: IpAddr) -> io::Result<()> {
        let index = nix::net::if_::if_nametoindex(interface)?;
        let text = std::fs::read_to_string(format!("/sys/class/net/{interface}/address"))
            .or_else(|_| mac_by_ioctl(interface))?;
        let mut mac = [0; 6];
        for (to, part) in mac.iter_mut().zip(text.trim().split(':')) {
            *to = u8::from_str_radix(part, 16).map_err(io::Error::other)?;
        }
        let (frame, protocol) = match address {
            IpAddr::V4(v4) => (arp(mac, v4), libc::ETH_P_ARP),
            IpAddr::V6(v6) => (na(mac, v6), libc::ETH_P_IPV6),
        };
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        // SAFETY: sockaddr_ll is plain integers.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_protocol = (protocol as u16).to_be();
        to.sll_ifindex = index as i32;
        to.sll_halen = 6;
        // SAFETY: the name is a sockaddr_ll of this frame and has its size; the buffer lives through the call.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// sysfs may show another network namespace: getifaddrs knows.
    fn mac_by_ioctl(interface: &str) -> io::Result<String> {
        nix::ifaddrs::getifaddrs()?
            .filter(|i| i.interface_name == interface)
            .find_map(|i| Some(i.address?.as_link_addr()?.addr()?.map(|b| format!("{b:02x}")).join(":")))
            .ok_or_else(|| io::Error::other("no MAC"))
    }

    fn arp(mac: [u8; 6], ip: Ipv4Addr) -> Vec<u8> {
        let mut f = vec![0xff; 6];
        f.extend(mac);
        f.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        f.extend(mac);
        f.extend(ip.octets());
        f.extend([0xff; 6]);
        f.extend(ip.octets());
        f
    }

    fn na(mac: [u8; 6], ip: Ipv6Addr) -> Vec<u8> {
        let dst: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let mut icmp = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
        icmp.extend(ip.octets());
        icmp.extend([2, 1]);
        icmp.extend(mac);
        let mut pseudo: Vec<u8> = ip.octets().into_iter().chain(dst.octets()).collect();
        pseudo.extend((icmp.len() as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, 58]);
        pseudo.extend(&icmp);
        let mut sum: u32 =
            pseudo.chunks(2).map(|c| u32::from(u16::from_be_bytes([c[0], *c.get(1).unwrap_or(&0)]))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        icmp[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        let mut f = vec![0x33, 0x33, 0, 0, 0, 1];
        f.extend(mac);
        f.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        f.extend((icmp.len() as u16).to_be_bytes());
        f.extend([58, 255]);
        f.extend(ip.octets());
        f.extend(dst.octets());
        f.extend(icmp);
        f
    }
}
