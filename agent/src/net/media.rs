//! The sockets by which engines speak to rtpengines: one per family, from any address and port of this node. What comes
//! back goes to the engine that its cookie names.
//!
//! SIP leaves by the floating IP, whose gate the kernel closes at the end of the lease. Here the end is looked at before
//! each datagram: a process that was stopped for seconds finds INVITEs in its sockets which its successor has answered
//! long ago, and its offers would be calls at an rtpengine that nobody ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proxy_core::media::ng::shard_of_answer;
use proxy_core::time::MonoTime;
use tokio::runtime::Handle;

use super::MAX_DATAGRAM_BYTES;
use super::mailbox::{Arrival, Mailbox};

/// Sends; what comes back is put into mailboxes.
#[derive(Debug, Clone)]
pub struct Media {
    v4: Arc<UdpSocket>,
    /// Missing where the machine has no IPv6.
    v6: Option<Arc<UdpSocket>>,
    /// End of the lease, ns of the monotonic clock; 0 while the service is not here.
    until: Arc<AtomicU64>,
}

impl Media {
    /// Opens the sockets and begins to listen on them.
    ///
    /// # Errors
    /// The kernel gives no socket.
    pub fn start(mailboxes: &Arc<[Arc<Mailbox>]>, handle: &Handle) -> std::io::Result<Self> {
        let v4 = open(IpAddr::V4(Ipv4Addr::UNSPECIFIED), mailboxes, handle)?;
        let v6 = open(IpAddr::V6(Ipv6Addr::UNSPECIFIED), mailboxes, handle).ok();
        Ok(Self { v4, v6, until: Arc::default() })
    }

    /// The service is here until then; `None`: it is not.
    pub fn lease(&self, until: Option<MonoTime>) {
        self.until.store(until.map_or(0, |at| at.0), Ordering::Release);
    }

    /// Sends a datagram, if the lease has not ended by `now` and the kernel takes it at once; the engine repeats what is
    /// lost.
    pub fn send(&self, now: MonoTime, to: SocketAddr, bytes: &[u8]) -> bool {
        if now.0 >= self.until.load(Ordering::Acquire) {
            return false;
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn nothing_is_said_to_an_rtpengine_without_a_lease_or_after_its_end() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let media = Media::start(&Arc::default(), runtime.handle()).expect("sockets");
        let engine = UdpSocket::bind("127.0.0.1:0").expect("a port");
        engine.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let to = engine.local_addr().expect("an address");
        assert!(!media.send(MonoTime(1), to, b"never"));
        media.lease(Some(MonoTime(10)));
        assert!(!media.send(MonoTime(10), to, b"late"));
        assert!(media.send(MonoTime(9), to, b"in time"));
        media.lease(None);
        assert!(!media.send(MonoTime(9), to, b"down"));
        let mut buffer = [0; 64];
        let (length, _) = engine.recv_from(&mut buffer).expect("a datagram");
        assert_eq!(&buffer[..length], b"in time");
    }
}
