//! The sockets by which engines speak to rtpengines: one per family, from any address and port of this node. What comes
//! back goes to the engine that its cookie names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use proxy_core::media::ng::shard_of_answer;
use tokio::runtime::Handle;

use super::MAX_DATAGRAM_BYTES;
use super::mailbox::{Arrival, Mailbox};

/// Sends; what comes back is put into mailboxes.
#[derive(Debug, Clone)]
pub struct Media {
    v4: Arc<UdpSocket>,
    /// Missing where the machine has no IPv6.
    v6: Option<Arc<UdpSocket>>,
}

impl Media {
    /// Opens the sockets and begins to listen on them.
    ///
    /// # Errors
    /// The kernel gives no socket.
    pub fn start(mailboxes: &Arc<[Arc<Mailbox>]>, handle: &Handle) -> std::io::Result<Self> {
        let v4 = open(IpAddr::V4(Ipv4Addr::UNSPECIFIED), mailboxes, handle)?;
        let v6 = open(IpAddr::V6(Ipv6Addr::UNSPECIFIED), mailboxes, handle).ok();
        Ok(Self { v4, v6 })
    }

    /// Sends a datagram, if the kernel takes it at once; the engine repeats what is lost.
    pub fn send(&self, to: SocketAddr, bytes: &[u8]) -> bool {
        let socket = if to.is_ipv4() { Some(&self.v4) } else { self.v6.as_ref() };
        socket.is_some_and(|socket| socket.send_to(bytes, to).is_ok())
    }
}

fn open(any: IpAddr, mailboxes: &Arc<[Arc<Mailbox>]>, handle: &Handle) -> std::io::Result<Arc<UdpSocket>> {
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    let reader = socket.try_clone()?;
    let mailboxes = Arc::clone(mailboxes);
    let _guard = handle.enter();
    let reader = tokio::net::UdpSocket::from_std(reader)?;
    handle.spawn(async move {
        let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
        loop {
            // An error here speaks of a datagram that was sent: the engine notices by itself.
            let Ok((length, from)) = reader.recv_from(&mut buffer).await else { continue };
            let bytes = buffer.get(..length).unwrap_or_default();
            let mailbox = shard_of_answer(bytes).and_then(|shard| mailboxes.get(usize::from(shard)));
            if let Some(mailbox) = mailbox {
                mailbox.arrivals([Arrival::Media(from, bytes.to_vec())]);
            }
        }
    });
    Ok(Arc::new(socket))
}
