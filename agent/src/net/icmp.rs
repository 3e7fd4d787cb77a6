//! ICMP errors about datagrams sent before: ip(7), `IP_RECVERR`. They say which address leads nowhere, so that a
//! request need not wait for timer B when there is another address to try (RFC 3261 §18.4).

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

/// Errors fetched at once; what is beyond stays in the queue of the kernel.
const MAX_ERRORS: usize = 64;

/// Has the kernel keep such errors for a socket.
///
/// # Errors
/// What the kernel says.
pub fn watch(socket: &UdpSocket, local: SocketAddr) -> io::Result<()> {
    if local.is_ipv6() {
        setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
    }
    Ok(())
}

/// The destinations that could not be reached, as far as the kernel has been told.
#[must_use]
pub fn unreachable(socket: &UdpSocket) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for _ in 0..MAX_ERRORS {
        // Of the datagram itself nothing is needed; what does not fit is cut.
        let mut head = [0; 64];
        let mut parts = [IoSliceMut::new(&mut head)];
        let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let Ok(message) =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)
        else {
            break;
        };
        let errno = message.cmsgs().ok().and_then(|mut list| {
            list.find_map(|c| match c {
                ControlMessageOwned::Ipv4RecvErr(e, _) | ControlMessageOwned::Ipv6RecvErr(e, _) => {
                    i32::try_from(e.ee_errno).ok()
                }
                _ => None,
            })
        });
        // A message too long says nothing about who is there.
        if !errno.is_some_and(|e| matches!(e, libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH)) {
            continue;
        }
        let to = message.address.and_then(|a| {
            a.as_sockaddr_in()
                .map(|v4| SocketAddr::new(v4.ip().into(), v4.port()))
                .or_else(|| a.as_sockaddr_in6().map(|v6| SocketAddr::new(v6.ip().into(), v6.port())))
        });
        if let Some(to) = to.filter(|to| !found.contains(to)) {
            found.push(to);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_closed_port_is_reported_with_its_address() {
        for ip in ["127.0.0.1:0", "[::1]:0"] {
            let gone = {
                let closed = UdpSocket::bind(ip).expect("bind");
                closed.local_addr().expect("bound")
            };
            let socket = UdpSocket::bind(ip).expect("bind");
            watch(&socket, socket.local_addr().expect("bound")).expect("option");
            assert_eq!(unreachable(&socket), []);
            socket.send_to(b"x", gone).expect("sent");
            let end = Instant::now() + Duration::from_secs(5);
            loop {
                match unreachable(&socket).as_slice() {
                    [] => assert!(Instant::now() < end, "nothing reported for {ip}"),
                    list => break assert_eq!(list, [gone]),
                }
                std::thread::yield_now();
            }
        }
    }
}
