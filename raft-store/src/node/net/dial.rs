//! How a connection to another node is made.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{Credentials, Waits, handshake};
use crate::node::client::Lane;
use crate::node::types::Place;

/// Whom to connect to, and as whom.
pub(super) struct Dial {
    pub(super) who: Credentials,
    /// Where connections come from.
    pub(super) source: Option<IpAddr>,
    pub(super) place: Place,
    pub(super) addr: SocketAddr,
    pub(super) waits: Waits,
}

impl Dial {
    /// Connects and authenticates. `segment`: the largest segment that either end may send, in bytes with its options;
    /// `None`: what the route allows.
    pub(super) async fn connect(
        &self,
        lane: Lane,
        segment: Option<u32>,
    ) -> io::Result<(TcpStream, handshake::Seals)> {
        match timeout(self.waits.connect, self.try_connect(lane, segment)).await {
            Ok(connected) => connected,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer")),
        }
    }

    async fn try_connect(
        &self,
        lane: Lane,
        segment: Option<u32>,
    ) -> io::Result<(TcpStream, handshake::Seals)> {
        let socket = if self.addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = self.source.filter(|s| s.is_ipv4() == self.addr.is_ipv4()) {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        if let Some(segment) = segment {
            // Before the connection is made: the peer is told of it, and sends no larger ones either.
            socket2::SockRef::from(&socket).set_tcp_mss(segment)?;
        }
        let mut stream = socket.connect(self.addr).await?;
        stream.set_nodelay(true)?;
        socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(self.waits.dead))?;
        let seals = handshake::connect(&mut stream, &self.who, self.place, lane).await?;
        Ok((stream, seals))
    }
}
