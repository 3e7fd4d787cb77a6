//! Telling the neighbours where the floating IP is now: gratuitous ARP (RFC 5227 §3, both forms, because devices differ
//! in which they believe) and unsolicited neighbour advertisements (RFC 4861 §7.2.6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use proxy_core::time::MonoTime;

use super::vip::index_of;
use super::{OsError, os_error};

/// When, after taking over: at once, again for what was lost, later for switches that were slow.
const BURST: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
];
/// And then for ever, for neighbours that have just been started.
const EVERY: Duration = Duration::from_secs(30);

/// When the next announcement is due.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    began: MonoTime,
    made: usize,
    next: MonoTime,
}

impl Schedule {
    /// Begins now.
    #[must_use]
    pub fn begin(now: MonoTime) -> Self {
        Self { began: now, made: 0, next: now }
    }

    /// Whether one is due; if so, it counts as made.
    pub fn due(&mut self, now: MonoTime) -> bool {
        if now < self.next {
            return false;
        }
        self.made += 1;
        self.next = match BURST.get(self.made) {
            Some(after) => self.began + *after,
            None => now + EVERY,
        };
        true
    }
}

/// A hardware address.
pub(super) type Mac = [u8; 6];
const BROADCAST: Mac = [0xff; 6];
/// 33:33 and the last four bytes of ff02::1.
const ALL_NODES: Mac = [0x33, 0x33, 0, 0, 0, 1];

fn arp(ip: Ipv4Addr, mac: Mac, reply: bool) -> Vec<u8> {
    let mut frame = [&BROADCAST[..], &mac, &[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0]].concat();
    frame.push(if reply { 2 } else { 1 });
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&ip.octets());
    frame.extend_from_slice(if reply { &BROADCAST } else { &[0; 6] });
    frame.extend_from_slice(&ip.octets());
    frame
}

fn advertisement(ip: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    // Type 136, override flag, target, option "target link-layer address".
    let mut icmp = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    icmp.extend_from_slice(&ip.octets());
    icmp.extend_from_slice(&[2, 1]);
    icmp.extend_from_slice(&mac);
    let len = icmp.len() as u16;
    let pseudo = [&ip.octets()[..], &to.octets(), &u32::from(len).to_be_bytes(), &[0, 0, 0, 58]].concat();
    let sum = checksum(&[&pseudo[..], &icmp].concat());
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [&ALL_NODES[..], &mac, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    frame.extend_from_slice(&len.to_be_bytes());
    frame.extend_from_slice(&[58, 255]);
    frame.extend_from_slice(&ip.octets());
    frame.extend_from_slice(&to.octets());
    frame.extend_from_slice(&icmp);
    frame
}

/// The Internet checksum (RFC 1071); `bytes` of even length.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | c.get(1).map_or(0, |b| u32::from(*b))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// What announces these addresses.
pub(super) fn frames(addresses: &[IpAddr], mac: Mac) -> Vec<Vec<u8>> {
    let of = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => vec![arp(*ip, mac, false), arp(*ip, mac, true)],
        IpAddr::V6(ip) => vec![advertisement(*ip, mac)],
    };
    addresses.iter().flat_map(of).collect()
}

/// Sends the announcements of the floating IPs on one interface.
#[derive(Debug)]
pub struct Announcer {
    socket: OwnedFd,
    index: u32,
    frames: Vec<Vec<u8>>,
}

pub(super) fn mac_of(socket: &OwnedFd, interface: &str) -> std::io::Result<Mac> {
    // SAFETY: ifreq is plain data, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    // SAFETY: the request lives through the call; the kernel fills in the hardware address.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR as _, &raw mut request) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: SIOCGIFHWADDR has set this member of the union.
    let data = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
    let mut mac = [0; 6];
    for (to, from) in mac.iter_mut().zip(data) {
        *to = from as u8;
    }
    Ok(mac)
}

impl Announcer {
    /// For `addresses` on `interface`.
    ///
    /// # Errors
    /// No such interface, no permission.
    pub fn new(interface: &str, addresses: &[IpAddr]) -> Result<Self, OsError> {
        let index = index_of(interface)?;
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Protocol 0: it receives nothing.
        // SAFETY: no pointers; the result is checked before it becomes an owned descriptor.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(os_error("announcing the floating IP")(std::io::Error::last_os_error()));
        }
        // SAFETY: `fd` was just opened and belongs to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let mac =
            mac_of(&socket, interface).map_err(os_error(format!("the hardware address of {interface}")))?;
        Ok(Self { socket, index, frames: frames(addresses, mac) })
    }

    /// Announces all addresses once. What cannot be sent now will be in the next round.
    pub fn announce(&self) {
        // SAFETY: sockaddr_ll is plain data, for which zeroes are valid.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = self.index as i32;
        to.sll_halen = 6;
        for frame in &self.frames {
            to.sll_protocol = u16::from_ne_bytes([frame[12], frame[13]]);
            to.sll_addr[..6].copy_from_slice(&frame[..6]);
            // SAFETY: frame and address live through the call and their lengths are right.
            let sent = unsafe {
                libc::sendto(
                    self.socket.as_raw_fd(),
                    frame.as_ptr().cast(),
                    frame.len(),
                    0,
                    (&raw const to).cast(),
                    size_of::<libc::sockaddr_ll>() as u32,
                )
            };
            if sent < 0 {
                tracing::warn!(error = %std::io::Error::last_os_error(), "an announcement was not sent");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_come_in_a_burst_and_then_now_and_then() {
        let at = |ms: u64| MonoTime(ms * 1_000_000);
        let mut schedule = Schedule::begin(at(1000));
        let due: Vec<u64> =
            (1000..70_000).step_by(10).filter(|ms| schedule.due(at(*ms))).map(|ms| ms - 1000).collect();
        assert_eq!(due, [0, 20, 100, 500, 2000, 32_000, 62_000]);
    }

    #[test]
    fn an_advertisement_carries_a_checksum_that_verifies_rfc4443_2_3() {
        let frame = advertisement("fd77::100".parse().expect("address"), [2, 0, 0, 0, 0, 1]);
        let (addresses, icmp) = (&frame[22..54], &frame[54..]);
        let pseudo = [addresses, &(icmp.len() as u32).to_be_bytes(), &[0, 0, 0, 58]].concat();
        assert_eq!(checksum(&[&pseudo[..], icmp].concat()), 0);
    }

    #[test]
    fn a_gratuitous_arp_names_the_address_twice_rfc5227_3() {
        let frame = arp([10, 0, 0, 9].into(), [2, 0, 0, 0, 0, 1], false);
        assert_eq!(frame.len(), 42);
        assert_eq!((&frame[28..32], &frame[38..42]), (&[10, 0, 0, 9][..], &[10, 0, 0, 9][..]));
    }
}
