//! Lets clients notice that their TCP connection is gone: it ended with the node that had it, and nobody has told them.
//!
//! A segment with an impossible number makes the client's kernel say where it is (RFC 9293 §3.10.7.4, RFC 5961 §4.2); ours
//! knows of no such connection, and answers with a reset that the client believes, as it carries its own number. So the
//! client connects again now, and not when it next has something to say, which would be lost.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Length of a TCP header without options, bytes.
const HEADER: usize = 20;
/// Where the checksum stands in it.
const CHECKSUM: usize = 16;
/// Data offset (5 words) and the flag ACK.
const FLAGS: [u8; 2] = [5 << 4, 0x10];

/// Sends segments in the name of one address.
#[derive(Debug)]
pub struct Tickler {
    socket: Socket,
    local: SocketAddr,
}

impl Tickler {
    /// For connections that clients had with `local`, which has to be an address of this machine by now.
    ///
    /// # Errors
    /// No right to send raw segments (CAP_NET_RAW), no such address.
    pub fn new(local: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(local), Type::RAW, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        // Nothing is ever read: what comes meanwhile is not worth keeping.
        socket.set_recv_buffer_size(1)?;
        socket.bind(&SockAddr::from(SocketAddr::new(local.ip(), 0)))?;
        Ok(Self { socket, local })
    }

    /// Lets one client notice. What is lost on the way is not repeated.
    ///
    /// # Errors
    /// Another family of addresses; what the kernel says.
    pub fn tickle(&self, remote: SocketAddr) -> io::Result<()> {
        let segment = segment(self.local, remote).ok_or(io::ErrorKind::InvalidInput)?;
        // The port is in the segment; raw IPv6 sockets want none here.
        self.socket.send_to(&segment, &SockAddr::from(SocketAddr::new(remote.ip(), 0))).map(drop)
    }
}

/// A bare ACK with the numbers 0 and 0; `None` for addresses of two families.
fn segment(local: SocketAddr, remote: SocketAddr) -> Option<[u8; HEADER]> {
    let mut segment = [0; HEADER];
    let (ports, rest) = segment.split_at_mut(4);
    ports.copy_from_slice(&[local.port().to_be_bytes(), remote.port().to_be_bytes()].concat());
    rest.get_mut(8..10)?.copy_from_slice(&FLAGS);
    let addresses = match (local.ip(), remote.ip()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => [a.octets(), b.octets()].concat(),
        (IpAddr::V6(a), IpAddr::V6(b)) => [a.octets(), b.octets()].concat(),
        _ => return None,
    };
    // The pseudo header (RFC 9293 §3.1): addresses, protocol, length.
    let pseudo = [addresses.as_slice(), &[0, 6, 0, HEADER as u8]].concat();
    let sum = checksum(pseudo.iter().chain(&segment));
    segment.get_mut(CHECKSUM..CHECKSUM + 2)?.copy_from_slice(&sum.to_be_bytes());
    Some(segment)
}

/// RFC 1071, of an even number of bytes.
fn checksum<'a>(bytes: impl Iterator<Item = &'a u8>) -> u16 {
    let mut sum = 0_u32;
    for (n, byte) in bytes.enumerate() {
        sum += u32::from(*byte) << (8 * (1 - n % 2));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_segment_is_a_bare_ack_from_our_port_to_the_clients_whose_checksum_is_right() {
        for (local, remote) in
            [("10.77.0.100:5060", "10.77.0.200:45326"), ("[fd77::100]:5060", "[fd77::200]:45326")]
        {
            let (local, remote): (SocketAddr, SocketAddr) =
                (local.parse().expect("an address"), remote.parse().expect("an address"));
            let segment = segment(local, remote).expect("one family");
            assert_eq!(segment[..4], [0x13, 0xc4, 0xb1, 0x0e]);
            assert_eq!(segment[4..12], [0; 8], "numbers that no connection expects");
            assert_eq!(segment[12..14], FLAGS);
            let ip = |a: SocketAddr| match a.ip() {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            let all = [ip(local), ip(remote), vec![0, 6, 0, 20], segment.to_vec()].concat();
            assert_eq!(checksum(all.iter()), 0, "with its checksum the sum is zero");
        }
        let mixed = segment("10.0.0.1:1".parse().expect("v4"), "[::1]:1".parse().expect("v6"));
        assert_eq!(mixed, None);
    }
}
