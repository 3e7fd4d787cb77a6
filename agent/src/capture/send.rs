//! The thread that sends copies: what does not fit into its queue is dropped and counted.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Packets that wait for the network.
pub const MAX_QUEUED: usize = 2048;

/// Counters of one sender.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// The way to the thread. The thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Sender {
    queue: SyncSender<Vec<u8>>,
    counts: Arc<Counts>,
}

impl Sender {
    /// Opens a socket to the collector and starts the thread.
    ///
    /// # Errors
    /// No socket, no way to the collector, no thread.
    pub(super) fn start(collector: SocketAddr) -> io::Result<Self> {
        let any = if collector.is_ipv4() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        // Not from the floating address, which the gate of a standby would not let out.
        let socket = UdpSocket::bind((any, 0))?;
        let (queue, packets) = sync_channel(MAX_QUEUED);
        let counts: Arc<Counts> = Arc::default();
        let counted = Arc::clone(&counts);
        std::thread::Builder::new()
            .name(String::from("relevo-hep"))
            .spawn(move || run(&socket, collector, &packets, &counted))?;
        Ok(Self { queue, counts })
    }

    /// Queues a packet, unless the queue is full. `None` of `packet` counts as dropped, too: it was too large.
    pub(super) fn send(&self, packet: impl FnOnce() -> Option<Vec<u8>>) {
        if packet().is_none_or(|p| self.queue.try_send(p).is_err()) {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sent, dropped, failed.
    pub(super) fn figures(&self) -> [u64; 3] {
        [&self.counts.sent, &self.counts.dropped, &self.counts.failed].map(|c| c.load(Ordering::Relaxed))
    }
}

fn run(socket: &UdpSocket, collector: SocketAddr, packets: &Receiver<Vec<u8>>, counts: &Counts) {
    for packet in packets {
        // A collector that is away is no reason to stop: it may come back. An ICMP error of an earlier packet is
        // reported once, in place of the next one.
        let sent = socket.send_to(&packet, collector).or_else(|_| socket.send_to(&packet, collector));
        let counter = if sent.is_ok() { &counts.sent } else { &counts.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
