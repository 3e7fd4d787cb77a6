//! The floating IP on its interface, with a lifetime: whole seconds, and the second line of defence behind the gate of
//! [`super::lease`].

use std::net::IpAddr;
use std::time::Duration;

use super::link::{self, Found};
use super::netlink::{Messages, Socket};
use super::{OsError, os_error};

/// Addresses and the interface they belong on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vip {
    /// Name of the interface.
    pub interface: String,
    /// Addresses with the length of their prefix.
    pub addresses: Vec<(IpAddr, u8)>,
}

const IFA_F_NODAD: u32 = 0x02;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;

/// Bytes of the address.
#[must_use]
pub fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Index of an interface in this network namespace.
///
/// # Errors
/// [`OsError::NoInterface`].
pub fn index_of(interface: &str) -> Result<u32, OsError> {
    nix::net::if_::if_nametoindex(interface).map_err(|_| OsError::NoInterface(interface.to_owned()))
}

fn family(ip: IpAddr) -> u8 {
    // Both fit by far.
    (if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn address_header(ip: IpAddr, prefix: u8, index: u32) -> Vec<u8> {
    let mut header = vec![family(ip), prefix, 0, 0];
    header.extend_from_slice(&index.to_ne_bytes());
    header
}

fn add_message(ip: IpAddr, prefix: u8, index: u32, valid_s: u32) -> Vec<u8> {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE | libc::NLM_F_ACK;
    // Preferred for no time at all: the kernel never chooses it as source by itself; who wants it binds it.
    let mut cache = 0_u32.to_ne_bytes().to_vec();
    cache.extend_from_slice(&valid_s.to_ne_bytes());
    cache.extend_from_slice(&[0; 8]);
    Messages::default()
        .begin(libc::RTM_NEWADDR, flags as u16, &address_header(ip, prefix, index))
        .attr(libc::IFA_LOCAL, &octets(ip))
        .attr(libc::IFA_ADDRESS, &octets(ip))
        .attr(libc::IFA_CACHEINFO, &cache)
        // No duplicate address detection: the cluster has decided, and a second of waiting is a second of silence.
        .attr(libc::IFA_FLAGS, &(IFA_F_NODAD | IFA_F_NOPREFIXROUTE).to_ne_bytes())
        .end()
        .finish()
}

fn remove_message(ip: IpAddr, prefix: u8, index: u32) -> Vec<u8> {
    Messages::default()
        .begin(libc::RTM_DELADDR, libc::NLM_F_ACK as u16, &address_header(ip, prefix, index))
        .attr(libc::IFA_LOCAL, &octets(ip))
        .attr(libc::IFA_ADDRESS, &octets(ip))
        .end()
        .finish()
}

/// Puts the addresses on the interface and takes them away.
#[derive(Debug)]
pub struct Addresses {
    socket: Socket,
    index: u32,
    addresses: Vec<(IpAddr, u8)>,
    removal: Vec<Vec<u8>>,
}

impl Addresses {
    /// For the addresses of `vip`; touches nothing yet.
    ///
    /// # Errors
    /// No such interface, no netlink.
    pub fn new(vip: &Vip) -> Result<Self, OsError> {
        let index = index_of(&vip.interface)?;
        let socket = Socket::open(libc::NETLINK_ROUTE).map_err(os_error("netlink"))?;
        let removal = vip.addresses.iter().map(|&(ip, prefix)| remove_message(ip, prefix, index)).collect();
        Ok(Self { socket, index, addresses: vip.addresses.clone(), removal })
    }

    /// Adds the addresses, or makes them live longer: `valid_for` from now, rounded up to seconds.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add(&self, valid_for: Duration) -> Result<(), OsError> {
        let valid_s = u32::try_from(valid_for.as_secs_f64().ceil() as u64).unwrap_or(u32::MAX - 1).max(1);
        for &(ip, prefix) in &self.addresses {
            self.socket
                .send(&add_message(ip, prefix, self.index, valid_s), &[])
                .map_err(os_error(format!("adding the address {ip}/{prefix}")))?;
        }
        Ok(())
    }

    /// Where the addresses stand on this machine, on whatever interface.
    ///
    /// # Errors
    /// The kernel's.
    pub fn standing(&self) -> Result<Vec<Found>, OsError> {
        let ours = |ip| self.addresses.iter().any(|(own, _)| *own == ip);
        link::standing(&self.socket, ours).map_err(os_error("listing the addresses"))
    }

    /// Those that are missing on the interface, where `standing` is what there is.
    pub fn missing<'a>(&'a self, standing: &'a [Found]) -> impl Iterator<Item = IpAddr> + 'a {
        let there = move |ip: IpAddr| standing.iter().any(|f| f.ip == ip && f.index == self.index);
        self.addresses.iter().map(|(ip, _)| *ip).filter(move |ip| !there(*ip))
    }

    /// Whether an address is on the interface of the floating IP.
    #[must_use]
    pub fn is_own(&self, found: &Found) -> bool {
        found.index == self.index
    }

    /// Removes one that somebody else has put there; it is no error when it is not there any more.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_found(&self, found: &Found) -> Result<(), OsError> {
        let message = remove_message(found.ip, found.prefix, found.index);
        self.socket
            .send(&message, &[libc::EADDRNOTAVAIL, libc::ENODEV])
            .map_err(os_error(format!("removing the address {}", found.ip)))
    }

    /// Removes the addresses; it is no error when they are not there. All are tried. Takes no memory.
    ///
    /// # Errors
    /// The first of the kernel's.
    pub fn remove(&self) -> Result<(), std::io::Error> {
        let remove = |m: &Vec<u8>| self.socket.send(m, &[libc::EADDRNOTAVAIL, libc::ENODEV]);
        self.removal.iter().map(remove).fold(Ok(()), Result::and)
    }
}
