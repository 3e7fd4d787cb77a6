//! Who else on the wire says that a floating IP is its own (RFC 5227 §2.4; RFC 4861 §7.2.5 for IPv6): two packet sockets
//! with a filter in the kernel, so that nothing else on the wire wakes this process.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::announce::{Mac as Bytes, mac_of};
use super::vip::{Vip, index_of};
use super::{OsError, os_error};

/// Bytes of a frame that are read: all that counts is before that.
const FRAME_BYTES: usize = 256;
/// Frames read at a time: the rest is read in the next round.
const MAX_FRAMES: usize = 64;

/// The hardware address of a network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac(pub Bytes);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Who says with a frame that which address is its own: the sender of an ARP packet, the subject of an advertisement.
#[must_use]
pub fn claim(frame: &[u8]) -> Option<(IpAddr, Mac)> {
    let kind = u16::from_be_bytes(*frame.get(12..)?.first_chunk()?);
    match i32::from(kind) {
        libc::ETH_P_ARP => {
            let mac = *frame.get(22..)?.first_chunk::<6>()?;
            let ip = Ipv4Addr::from(*frame.get(28..)?.first_chunk::<4>()?);
            Some((ip.into(), Mac(mac)))
        }
        // Next header ICMPv6, type neighbour advertisement.
        libc::ETH_P_IPV6 if *frame.get(20)? == 58 && *frame.get(54)? == 136 => {
            let ip = Ipv6Addr::from(*frame.get(62..)?.first_chunk::<16>()?);
            // Option "target link-layer address"; who answers a single host may leave it out.
            let option =
                frame.get(78..86).filter(|o| o[..2] == [2, 1]).and_then(|o| o[2..].first_chunk::<6>());
            let sender = frame.get(6..)?.first_chunk::<6>()?;
            Some((ip.into(), Mac(*option.unwrap_or(sender))))
        }
        _ => None,
    }
}

const fn step(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

const ALL: libc::sock_filter = step(libc::BPF_RET | libc::BPF_K, FRAME_BYTES as u32, 0, 0);
const NOTHING: libc::sock_filter = step(libc::BPF_RET | libc::BPF_K, 0, 0, 0);

/// ARP whose sender says that it has one of these addresses.
fn arp_filter(addresses: &[Ipv4Addr]) -> Vec<libc::sock_filter> {
    let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 28, 0, 0)];
    for ip in addresses {
        program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, u32::from(*ip), 0, 1));
        program.push(ALL);
    }
    program.push(NOTHING);
    program
}

/// Neighbour advertisements.
fn advertisement_filter() -> Vec<libc::sock_filter> {
    vec![
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 20, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 58, 0, 3),
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 54, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 136, 0, 1),
        ALL,
        NOTHING,
    ]
}

fn open(index: u32, protocol: i32, mut program: Vec<libc::sock_filter>) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Protocol 0: it hears nothing before the filter is there.
    // SAFETY: no pointers; the result is checked before it becomes an owned descriptor.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // A handful of steps for each address.
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program lives through the call, which copies it.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as u32,
        )
    };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: sockaddr_ll is plain data, for which zeroes are valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (protocol as u16).to_be();
    address.sll_ifindex = index.cast_signed();
    let length = size_of::<libc::sockaddr_ll>() as u32;
    // SAFETY: the address lives through the call and its length is right.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

/// The ears.
#[derive(Debug)]
pub struct Claims {
    sockets: Vec<OwnedFd>,
    addresses: Vec<IpAddr>,
    own: Mac,
}

impl Claims {
    /// Listens on the interface of `vip`.
    ///
    /// # Errors
    /// No such interface, no permission.
    pub fn listen(vip: &Vip) -> Result<Self, OsError> {
        let what = "listening for other owners of the floating IP";
        let index = index_of(&vip.interface)?;
        let addresses: Vec<IpAddr> = vip.addresses.iter().map(|(ip, _)| *ip).collect();
        let v4: Vec<Ipv4Addr> = addresses
            .iter()
            .filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None })
            .collect();
        let mut sockets = Vec::new();
        if !v4.is_empty() {
            sockets.push(open(index, libc::ETH_P_ARP, arp_filter(&v4)).map_err(os_error(what))?);
        }
        if v4.len() < addresses.len() {
            sockets.push(open(index, libc::ETH_P_IPV6, advertisement_filter()).map_err(os_error(what))?);
        }
        // One socket at least: there is no floating IP without an address.
        let own = match sockets.first() {
            Some(socket) => mac_of(socket, &vip.interface).map_err(os_error(what))?,
            None => Bytes::default(),
        };
        Ok(Self { sockets, addresses, own: Mac(own) })
    }

    /// For `poll`.
    pub fn fds(&self) -> impl Iterator<Item = i32> {
        self.sockets.iter().map(AsRawFd::as_raw_fd)
    }

    /// What others have claimed since.
    pub fn heard(&self) -> Vec<(IpAddr, Mac)> {
        let mut all = Vec::new();
        let mut buffer = [0_u8; FRAME_BYTES];
        for socket in &self.sockets {
            for _ in 0..MAX_FRAMES {
                // SAFETY: the buffer lives through the call and its length is right.
                let got = unsafe {
                    libc::recv(
                        socket.as_raw_fd(),
                        buffer.as_mut_ptr().cast(),
                        buffer.len(),
                        libc::MSG_DONTWAIT,
                    )
                };
                let Ok(got) = usize::try_from(got) else { break };
                let claimed = buffer.get(..got).and_then(claim);
                // What this machine says itself is heard, too.
                all.extend(claimed.filter(|(ip, mac)| *mac != self.own && self.addresses.contains(ip)));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_the_sender_of_an_arp_packet_or_the_subject_of_an_advertisement() {
        let frames =
            super::super::announce::frames(&["10.0.0.9".parse().expect("address")], [2, 0, 0, 0, 0, 7]);
        for frame in &frames {
            assert_eq!(claim(frame), Some(([10, 0, 0, 9].into(), Mac([2, 0, 0, 0, 0, 7]))));
        }
        let six = "fd77::100".parse().expect("address");
        for frame in super::super::announce::frames(&[six], [2, 0, 0, 0, 0, 8]) {
            assert_eq!(claim(&frame), Some((six, Mac([2, 0, 0, 0, 0, 8]))));
            assert_eq!(claim(&frame[..78]), Some((six, Mac([2, 0, 0, 0, 0, 8]))), "the sender of the frame");
            for length in 0..78 {
                assert_eq!(claim(&frame[..length]), None);
            }
        }
        for length in 0..32 {
            assert_eq!(claim(&frames[0][..length]), None);
        }
    }
}
