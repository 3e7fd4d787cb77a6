//! Connections made here, from the address that the peer knows us by.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use proxy_core::state::Flow;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::connection::{self, Held};
use super::listen::set_floating;
use super::{Inner, count};

/// Makes a connection whose first message is `bytes`.
pub(super) fn start(inner: &Arc<Inner>, flow: Flow, bytes: Vec<u8>) {
    let inbox = {
        let mut table = inner.table();
        let inbox = table.insert(flow, &inner.limits);
        if inbox.is_some() {
            // It is there now, so it takes the message.
            let _ = table.push(flow, bytes);
        }
        inbox
    };
    let Some(inbox) = inbox else {
        count(&inner.counts.refused);
        inner.failed(flow);
        return;
    };
    let generation = *inner.generation.borrow();
    let inner = Arc::clone(inner);
    inner.handle.clone().spawn(async move {
        let held = Held::new(&inner, flow, inbox.id);
        let mut turns = inner.generation.subscribe();
        let made = tokio::select! {
            made = tokio::time::timeout(inner.limits.connect, connect(&inner, flow)) => made,
            _ = turns.wait_for(|g| *g != generation) => return,
        };
        match made {
            Ok(Ok(stream)) => {
                count(&inner.counts.made);
                connection::run(&inner, stream, flow, inbox, generation, held).await;
            }
            Ok(Err(_)) | Err(_) => count(&inner.counts.not_made),
        }
    });
}

async fn connect(inner: &Inner, flow: Flow) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(flow.remote), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    set_floating(&socket, flow.local, inner.floating)?;
    // The port is chosen with the connection, so that one port serves many peers.
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::new(flow.local.ip(), 0).into())?;
    TcpSocket::from_std_stream(socket.into()).connect(flow.remote).await
}
