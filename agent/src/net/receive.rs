//! One thread per socket: reads batches, cuts nothing, decides nothing but the engine a datagram belongs to.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use proxy_core::engine::shard_of;
use proxy_core::msg::call_id_of;
use proxy_core::state::{Flow, Transport};

use super::NetError;
use super::batch::Receiver;
use super::icmp;
use super::mailbox::{Arrival, Mailbox};

/// How long a receive thread waits at most before it looks whether it shall end.
const LOOK_UP: Duration = Duration::from_millis(200);

/// After how many batches of datagrams the queue of ICMP errors is looked at.
const ERRORS_EVERY: u32 = 16;

/// What the receive threads count.
#[derive(Debug, Default)]
pub struct Received {
    /// Datagrams read.
    pub datagrams: AtomicU64,
    /// Dropped: longer than the largest that is taken.
    pub oversized: AtomicU64,
    /// Without a Call-ID: garbage, for the most part.
    pub without_call_id: AtomicU64,
    /// Keepalives (RFC 5626 §3.5.1: CRLF only, or four zero bytes), dropped by design.
    pub keepalives: AtomicU64,
    /// ICMP errors about datagrams sent.
    pub unreachable: AtomicU64,
}

/// When a receive thread came round last. It does so every `LOOK_UP`, with or without datagrams.
#[derive(Debug)]
pub struct Round(Mutex<Instant>);

impl Default for Round {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Round {
    fn done(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long ago.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// Starts the thread of one socket; it ends soon after `stop` is set.
///
/// # Errors
/// The thread cannot be started.
pub fn start(
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    engines: Arc<[Arc<Mailbox>]>,
    counts: Arc<Received>,
    round: Arc<Round>,
    stop: Arc<AtomicBool>,
) -> Result<std::thread::JoinHandle<()>, NetError> {
    socket.set_read_timeout(Some(LOOK_UP)).map_err(NetError::Thread)?;
    std::thread::Builder::new()
        .name(String::from("relevo-udp"))
        .spawn(move || run(&socket, local, &engines, &counts, &round, &stop))
        .map_err(NetError::Thread)
}

fn run(
    socket: &UdpSocket,
    local: SocketAddr,
    engines: &[Arc<Mailbox>],
    counts: &Received,
    round: &Round,
    stop: &AtomicBool,
) {
    let shards = u16::try_from(engines.len()).unwrap_or(u16::MAX).max(1);
    let mut receiver = Receiver::new();
    let mut sorted: Vec<Vec<Arrival>> = engines.iter().map(|_| Vec::new()).collect();
    let mut batches = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        round.done();
        let result = receiver.receive(socket, |datagram| {
            counts.datagrams.fetch_add(1, Ordering::Relaxed);
            if datagram.truncated {
                counts.oversized.fetch_add(1, Ordering::Relaxed);
                return;
            }
            if datagram.bytes.iter().all(|b| matches!(b, 0 | b'\r' | b'\n')) {
                counts.keepalives.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let shard = match call_id_of(datagram.bytes) {
                Some(call_id) => usize::from(shard_of(call_id, shards)),
                None => {
                    // Garbage, or a request that deserves its 400: the first engine judges.
                    counts.without_call_id.fetch_add(1, Ordering::Relaxed);
                    0
                }
            };
            if let Some(list) = sorted.get_mut(shard) {
                let flow = Flow { transport: Transport::Udp, local, remote: datagram.from };
                list.push(Arrival::Message(flow, datagram.bytes.to_vec()));
            }
        });
        for (list, mailbox) in sorted.iter_mut().zip(engines) {
            if !list.is_empty() {
                mailbox.arrivals(list.drain(..));
            }
        }
        // A sender may have taken the error away from us, so the queue is looked at now and then even without one.
        batches = batches.wrapping_add(1);
        if result.is_err() || batches.is_multiple_of(ERRORS_EVERY) {
            for remote in icmp::unreachable(socket) {
                counts.unreachable.fetch_add(1, Ordering::Relaxed);
                let flow = Flow { transport: Transport::Udp, local, remote };
                engines.iter().for_each(|engine| engine.arrivals([Arrival::Failed(flow)]));
            }
        }
        match result {
            Ok(()) => {}
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                ) => {}
            // Something sent earlier has come to nothing.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::HostUnreachable
                        | io::ErrorKind::NetworkUnreachable
                ) => {}
            Err(e) => {
                tracing::warn!("receiving on {local}: {e}");
                std::thread::sleep(LOOK_UP);
            }
        }
    }
}
