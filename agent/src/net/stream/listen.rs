//! Listening sockets and who comes in by them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Inner, connection, count, flow};
use crate::net::NetError;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;
/// Pause when the process has no descriptors left.
const BREATHER: Duration = Duration::from_millis(100);

/// A bound socket that nobody accepts from yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local: SocketAddr,
}

/// Opens a listener on `addr`. With `floating`, the address need not be there yet.
///
/// # Errors
/// Port in use, no such address, no permission.
pub fn open(addr: SocketAddr, floating: bool) -> Result<Listener, NetError> {
    let fail = |why: io::Error| match why.kind() {
        io::ErrorKind::AddrInUse => NetError::TcpPortInUse { addr },
        io::ErrorKind::PermissionDenied => {
            NetError::BindTcp { addr, why, cure: "ports below 1024 need the capability CAP_NET_BIND_SERVICE" }
        }
        _ => NetError::BindTcp { addr, why, cure: "see the addresses of this machine: ip address" },
    };
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP)).map_err(fail)?;
    let prepare = || -> io::Result<()> {
        // Connections of a former run may still linger.
        socket.set_reuse_address(true)?;
        set_floating(&socket, addr, floating)?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)
    };
    prepare().map_err(fail)?;
    Ok(Listener { socket: socket.into(), local: addr })
}

/// Lets a socket be bound to an address that is not here (yet).
pub(super) fn set_floating(socket: &Socket, addr: SocketAddr, floating: bool) -> io::Result<()> {
    match (floating, addr.is_ipv6()) {
        (false, _) => Ok(()),
        (true, true) => socket.set_freebind_v6(true),
        (true, false) => socket.set_freebind_v4(true),
    }
}

/// Accepts until the runtime ends.
pub(super) fn start(inner: &Arc<Inner>, listener: Listener) -> io::Result<()> {
    let Listener { socket, local } = listener;
    let _guard = inner.handle.enter();
    let socket = tokio::net::TcpListener::from_std(socket)?;
    let inner = Arc::clone(inner);
    inner.handle.clone().spawn(async move {
        loop {
            match socket.accept().await {
                Ok((stream, remote)) => {
                    let flow = flow(local, remote);
                    let Some(inbox) = inner.table().insert(flow, &inner.limits) else {
                        count(&inner.counts.refused);
                        // A reset: the client need not wait for anything.
                        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                        continue;
                    };
                    count(&inner.counts.accepted);
                    connection::accepted(&inner, stream, flow, inbox);
                }
                Err(e) => {
                    tracing::warn!("accepting on {local}: {e}");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }
    });
    Ok(())
}
