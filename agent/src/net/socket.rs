//! The listening sockets: one per address, so that what leaves has the source address the peer knows.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use super::{NetError, RECEIVE_BUFFER_BYTES};

/// Opens a socket on `addr`. With `floating`, the address need not be there yet.
///
/// # Errors
/// Port in use, no such address, no permission.
pub fn open(addr: SocketAddr, floating: bool) -> Result<UdpSocket, NetError> {
    let fail = |why: io::Error| match why.kind() {
        io::ErrorKind::AddrInUse => NetError::PortInUse { addr },
        io::ErrorKind::PermissionDenied => {
            NetError::Bind { addr, why, cure: "ports below 1024 need the capability CAP_NET_BIND_SERVICE" }
        }
        _ => NetError::Bind { addr, why, cure: "see the addresses of this machine: ip address" },
    };
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP)).map_err(fail)?;
    let prepare = || -> io::Result<()> {
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if floating {
            if addr.is_ipv6() { socket.set_freebind_v6(true)? } else { socket.set_freebind_v4(true)? }
        }
        Ok(())
    };
    prepare().map_err(fail)?;
    // A smaller buffer than asked for only means that bursts are dropped earlier.
    if nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES)
        .is_err()
    {
        // Without CAP_NET_ADMIN: up to net.core.rmem_max.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    }
    socket.bind(&addr.into()).map_err(fail)?;
    let socket = UdpSocket::from(socket);
    // Without it failover waits for timer B.
    if let Err(e) = super::icmp::watch(&socket, addr) {
        tracing::warn!("ICMP errors on {addr} are not reported: {e}");
    }
    Ok(socket)
}

/// The addresses of this machine that SIP can be answered on: global ones first, then loopback, IPv4 before IPv6.
/// Link-local IPv6 addresses are left out: they mean nothing in a Via.
///
/// # Errors
/// There is none.
pub fn own_addresses() -> Result<Vec<IpAddr>, NetError> {
    let list = nix::ifaddrs::getifaddrs().map_err(|_| NetError::NoAddress)?;
    let mut found: Vec<IpAddr> = Vec::new();
    for entry in list {
        let Some(address) = entry.address else { continue };
        let ip = if let Some(v4) = address.as_sockaddr_in() {
            IpAddr::V4(v4.ip())
        } else if let Some(v6) = address.as_sockaddr_in6() {
            IpAddr::V6(SocketAddrV6::from(*v6).ip().to_owned())
        } else {
            continue;
        };
        let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if !link_local && !found.contains(&ip) {
            found.push(ip);
        }
    }
    found.sort_by_key(|ip| (ip.is_loopback(), ip.is_ipv6()));
    found.truncate(crate::config::MAX_ADDRESSES);
    if found.is_empty() { Err(NetError::NoAddress) } else { Ok(found) }
}
