//! A network behind a NAT: a router with one foot on the lab's bridge, and a network namespace behind it.
//!
//! ```text
//!   br0 ── 10.77.0.N  router  192.168.N.1 ── 192.168.N.2  inside
//!              nftables: masquerade, other ports; whatever nobody inside has asked for is dropped
//! ```

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::net::{self, ip, nft};
use super::ns;
use super::proc::{Proc, run_ok};
use super::state::LabState;

/// Bound for a killed process to be gone.
const DEATH_LIMIT: Duration = Duration::from_secs(5);
/// Ports outside, so that a phone is never found at the port that it knows of.
const OUTSIDE_PORTS: &str = "40000-49999";

/// A NAT with its network; all of it is gone when dropped, phones included.
#[derive(Debug)]
pub struct Nat {
    switch: Proc,
    port: String,
    router: Proc,
    /// Holds the network namespace behind it.
    pub inside: Proc,
    /// The router's address on the bridge.
    pub outer: Ipv4Addr,
    /// The address of the phones behind it.
    pub inner: Ipv4Addr,
}

/// One way through a NAT, as its router remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Port of the phone.
    pub inside: u16,
    /// Port that it seems to have, seen from the bridge.
    pub outside: u16,
    /// What is left of it if nothing more passes.
    pub left: Duration,
}

impl Nat {
    /// Makes one. `host` is the last byte of its address on the bridge, as yet unused; an entry without traffic is
    /// forgotten after `udp_timeout` (whole seconds).
    ///
    /// # Errors
    /// A tool refuses, or the kernel has no connection tracking; nothing is left behind then.
    pub fn make(lab: &LabState, host: u8, udp_timeout: Duration) -> io::Result<Self> {
        let router = ns::hold_new(true)?;
        let inside = ns::hold_new(true).inspect_err(|_| {
            router.kill_and_wait(DEATH_LIMIT);
        })?;
        let [a, b, c, _] = net::CLIENT4.parse::<Ipv4Addr>().map_err(io::Error::other)?.octets();
        let nat = Self {
            switch: lab.switch,
            port: format!("nat{host}"),
            router,
            inside,
            outer: Ipv4Addr::new(a, b, c, host),
            inner: Ipv4Addr::new(192, 168, host, 2),
        };
        nat.connect(host, udp_timeout)?;
        Ok(nat)
    }

    fn connect(&self, host: u8, udp_timeout: Duration) -> io::Result<()> {
        net::plug(self.switch, self.router, &self.port, host)?;
        ip(
            self.router,
            &format!(
                "link add lan0 type veth peer name eth0 netns {}\n\
                 addr add 192.168.{host}.1/24 dev lan0\n\
                 link set lan0 up\n",
                self.inside.pid
            ),
        )?;
        ip(
            self.inside,
            &format!(
                "link set lo up\n\
                 addr add {}/24 dev eth0\n\
                 link set eth0 up\n\
                 route add default via 192.168.{host}.1\n",
                self.inner
            ),
        )?;
        nft(
            self.router,
            &format!(
                "table ip nat {{\n\
                   chain out {{\n\
                     type nat hook postrouting priority 100;\n\
                     ip protocol udp oifname \"eth0\" masquerade to :{OUTSIDE_PORTS}\n\
                     oifname \"eth0\" masquerade\n\
                   }}\n\
                 }}\n\
                 table inet filter {{\n\
                   chain to_router {{\n\
                     type filter hook input priority 0;\n\
                     iifname \"eth0\" meta l4proto {{ tcp, udp }} counter drop\n\
                   }}\n\
                   chain through {{\n\
                     type filter hook forward priority 0;\n\
                     iifname \"eth0\" ct state new drop\n\
                   }}\n\
                 }}\n"
            ),
        )?;
        let seconds = udp_timeout.as_secs().to_string();
        ns::inside(self.router, || {
            fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            for name in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
                fs::write(format!("/proc/sys/net/netfilter/{name}"), &seconds)?;
            }
            Ok(())
        })?
    }

    /// The ways of UDP that are open now.
    ///
    /// # Errors
    /// The tool `conntrack` is missing or refuses.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut command = ns::command_in(self.router, "conntrack", true)?;
        command.args(["-L", "-p", "udp"]);
        Ok(run_ok(command, "")?.lines().filter_map(entry).collect())
    }

    /// Packets that came from outside for nobody.
    ///
    /// # Errors
    /// The tool `nft` refuses.
    pub fn dropped(&self) -> io::Result<u64> {
        let mut command = ns::command_in(self.router, "nft", true)?;
        command.args(["list", "chain", "inet", "filter", "to_router"]);
        let text = run_ok(command, "")?;
        let packets =
            text.split("counter packets ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        packets.ok_or_else(|| io::Error::other(format!("no counter: {text}")))
    }

    /// The way of the phone at this port, if it is open.
    ///
    /// # Errors
    /// As [`Nat::entries`].
    pub fn entry_of(&self, inside: u16) -> io::Result<Option<Entry>> {
        Ok(self.entries()?.into_iter().find(|e| e.inside == inside))
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        for process in [self.inside, self.router].into_iter().flat_map(ns::members) {
            process.signal(Signal::SIGKILL);
        }
        self.inside.kill_and_wait(DEATH_LIMIT);
        self.router.kill_and_wait(DEATH_LIMIT);
        if self.switch.alive() {
            net::unplug(self.switch, &self.port);
        }
    }
}

/// `udp 17 9 src=192.168.221.2 dst=10.77.0.100 sport=5070 dport=5060 src=10.77.0.100 dst=10.77.0.221 sport=5060
/// dport=40123 …`.
fn entry(line: &str) -> Option<Entry> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ports = |name: &str| -> Vec<u16> {
        words.iter().filter_map(|w| w.strip_prefix(name)?.parse().ok()).collect()
    };
    let seconds = words.get(2)?.parse().ok()?;
    Some(Entry {
        inside: *ports("sport=").first()?,
        outside: *ports("dport=").get(1)?,
        left: Duration::from_secs(seconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_kernel_is_read_with_the_port_that_the_phone_seems_to_have() {
        let line = "udp      17 9 src=192.168.221.2 dst=10.77.0.100 sport=5070 dport=5060 [UNREPLIED] \
                    src=10.77.0.100 dst=10.77.0.221 sport=5060 dport=40123 mark=0 use=1";
        assert_eq!(entry(line), Some(Entry { inside: 5070, outside: 40123, left: Duration::from_secs(9) }));
        assert_eq!(entry("conntrack v1.4.7 (conntrack-tools): 0 flow entries have been shown."), None);
    }
}
