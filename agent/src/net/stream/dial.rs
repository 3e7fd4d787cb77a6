//! Connections made here, from the address that the peer knows us by.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proxy_core::state::Flow;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::connection::{self, Held};
use super::listen::set_floating;
use super::{Inner, count};

/// Makes a connection whose first message is `bytes`, unless another engine has begun to since the caller looked.
pub(super) fn start(inner: &Arc<Inner>, flow: Flow, bytes: Vec<u8>) {
    let generation = *inner.generation.borrow();
    if generation.is_multiple_of(2) {
        // The service went elsewhere since the caller looked.
        return;
    }
    let inbox = {
        let mut table = inner.table();
        let Some(bytes) = table.push(flow, bytes) else { return };
        let inbox = table.insert(flow, &inner.limits);
        if let Some(inbox) = &inbox {
            // It is for somebody whom we have to tell something.
            inbox.spoke.store(true, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::net::mailbox::Mailbox;
    use crate::net::stream::{Limits, Streams};

    #[test]
    fn two_engines_that_send_first_to_the_same_peer_share_one_connection_and_none_hears_of_a_failure() {
        let peer = TcpListener::bind("127.0.0.1:0").expect("a port");
        let remote = peer.local_addr().expect("bound");
        let flow = super::super::flow("127.0.0.1:5060".parse().expect("an address"), remote);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let engines: Arc<[Arc<Mailbox>]> = (0..2).map(|_| Arc::default()).collect();
        let handle = runtime.handle().clone();
        let streams = Streams::start(Vec::new(), false, Limits::default(), Arc::clone(&engines), handle);
        let streams = streams.expect("started");
        streams.activate();
        // Both have looked and found no connection.
        start(&streams.0, flow, b"one".to_vec());
        start(&streams.0, flow, b"two".to_vec());
        let (mut stream, _) = peer.accept().expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a bound");
        let mut text = [0; 6];
        stream.read_exact(&mut text).expect("both messages");
        assert_eq!(&text, b"onetwo");
        assert_eq!((streams.figures().made, streams.figures().refused), (1, 0));
        for engine in engines.iter() {
            assert!(engine.take(Duration::ZERO).arrivals.is_empty(), "nothing has failed");
        }
    }
}
