//! SIP over TCP: listeners, connections in both directions, and their bounds. On a small runtime of its own, which no
//! engine waits for.
//!
//! ```text
//! accept ─► connection ─ Framer ─► mailbox of the engine (by Call-ID); a full mailbox holds the reader up
//! engine ─► Streams::send ─► outbox of the connection ─► writer;  no connection: one is made, from the floating IP
//! a connection that ends, or cannot be made ─► Arrival::Failed to every engine, behind what came by it
//! ```
//!
//! | bound | then |
//! |---|---|
//! | connections of one source | a new one is closed at once |
//! | connections in all | one of the source that has the most gives way, or the new one is closed: see `table` |
//! | bytes that wait to be written to one peer | the peer is too slow: its connection is closed |
//! | nothing written for [`WRITE_LIMIT`] | the same |
//! | a message that does not end within [`MESSAGE_LIMIT`], or none at all in that time, but for keepalives | closed |
//! | nothing heard for the idle time | closed |
//! | the service goes elsewhere | all are closed, so that clients come back at once |

mod connection;
mod dial;
mod listen;
mod table;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proxy_core::msg::{Message, Via};
use proxy_core::state::{Flow, Transport};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::mailbox::{Arrival, Mailbox};
use table::Table;

pub use listen::{Listener, open};

/// Messages that wait to be written to one peer.
const MAX_QUEUED_MESSAGES: usize = 1024;
/// Bytes that wait to be written to one peer.
pub const MAX_QUEUED_BYTES: usize = 512 * 1024;
/// How long a peer may take nothing of what is written to it (Kamailio's `tcp_send_timeout`).
pub const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// How long a message may take from its first byte to its last, and a new connection until its first.
pub const MESSAGE_LIMIT: Duration = Duration::from_secs(30);
/// How long a connection that came before the service did is kept: the floating IP is here a little earlier.
const HOLD: Duration = Duration::from_secs(2);
/// How long a full engine holds up a reader before its connection is given up.
const FULL_LIMIT: Duration = Duration::from_secs(5);

/// What the operator may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all, both directions.
    pub connections: usize,
    /// Connections from and to one address.
    pub per_source: usize,
    /// Longest silence of a peer.
    pub idle: Duration,
    /// Longest time until a connection is made.
    pub connect: Duration,
}

impl Default for Limits {
    /// 2048 and 3605 s as Kamailio; a quarter of the connections for one address, as an office behind a NAT has one.
    fn default() -> Self {
        Self {
            connections: 2048,
            per_source: 512,
            idle: Duration::from_secs(3605),
            connect: Duration::from_secs(4),
        }
    }
}

/// What is counted of streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Connections now.
    pub connections: u64,
    /// Accepted so far.
    pub accepted: u64,
    /// Made so far.
    pub made: u64,
    /// That could not be made.
    pub not_made: u64,
    /// Refused: too many.
    pub refused: u64,
    /// Closed: the peer was too slow to read.
    pub slow: u64,
    /// Closed: no SIP, or the end of a message could not be told.
    pub garbage: u64,
    /// Closed: silent, or in the middle of a message for too long.
    pub timed_out: u64,
    /// Closed: its source had the most, and others had no place.
    pub gave_way: u64,
    /// Messages read.
    pub messages: u64,
    /// Keepalives answered.
    pub pings: u64,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    made: AtomicU64,
    not_made: AtomicU64,
    refused: AtomicU64,
    slow: AtomicU64,
    garbage: AtomicU64,
    timed_out: AtomicU64,
    gave_way: AtomicU64,
    messages: AtomicU64,
    pings: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

struct Inner {
    table: Mutex<Table>,
    limits: Limits,
    /// Connections may be made where the address is not here yet.
    floating: bool,
    engines: Arc<[Arc<Mailbox>]>,
    counts: Counts,
    /// Odd while the service is here; a connection belongs to one number and ends with it.
    generation: watch::Sender<u64>,
    handle: Handle,
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing that runs under this lock can panic half-way through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the engines that nothing can be sent by this flow.
    fn failed(&self, flow: Flow) {
        for mailbox in self.engines.iter() {
            mailbox.arrivals([Arrival::Failed(flow)]);
        }
    }
}

/// The streams of a node.
#[derive(Clone)]
pub struct Streams(Arc<Inner>);

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

impl Streams {
    /// Starts accepting on `listeners`; nothing is read before [`Streams::activate`].
    ///
    /// # Errors
    /// The runtime does not take a listener.
    pub fn start(
        listeners: Vec<Listener>,
        floating: bool,
        limits: Limits,
        engines: Arc<[Arc<Mailbox>]>,
        handle: Handle,
    ) -> std::io::Result<Self> {
        let streams = Self(Arc::new(Inner {
            table: Mutex::default(),
            limits,
            floating,
            engines,
            counts: Counts::default(),
            generation: watch::Sender::new(0),
            handle,
        }));
        for listener in listeners {
            listen::start(&streams.0, listener)?;
        }
        Ok(streams)
    }

    /// The service is here.
    pub fn activate(&self) {
        self.0.generation.send_modify(|g| *g += 1 + *g % 2);
    }

    /// The service is not here: every connection is closed.
    pub fn deactivate(&self) {
        self.0.generation.send_modify(|g| *g += *g % 2);
    }

    /// Sends a message by its connection, or by one that is made for it. Never waits. A response whose connection is
    /// gone goes to where its Via says that the client listens (RFC 3261 §18.2.2).
    pub fn send(&self, flow: Flow, bytes: Vec<u8>) {
        let inner = &self.0;
        if inner.generation.borrow().is_multiple_of(2) {
            return;
        }
        let Some(bytes) = inner.table().push(flow, bytes) else { return };
        let flow = match response_address(&bytes) {
            Response::No => flow,
            Response::To(remote) if remote != flow.remote => Flow { remote, ..flow },
            Response::To(_) | Response::Nowhere => return,
        };
        let Some(bytes) = inner.table().push(flow, bytes) else { return };
        dial::start(inner, flow, bytes);
    }

    /// Figures for the status.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let of = |a: &AtomicU64| a.load(Ordering::Relaxed);
        let counts = &self.0.counts;
        Figures {
            connections: self.0.table().len() as u64,
            accepted: of(&counts.accepted),
            made: of(&counts.made),
            not_made: of(&counts.not_made),
            refused: of(&counts.refused),
            gave_way: of(&counts.gave_way),
            slow: of(&counts.slow),
            garbage: of(&counts.garbage),
            timed_out: of(&counts.timed_out),
            messages: of(&counts.messages),
            pings: of(&counts.pings),
        }
    }
}

enum Response {
    /// It is a request.
    No,
    /// A response for who listens there.
    To(SocketAddr),
    /// A response for nobody knows whom.
    Nowhere,
}

/// Where a response goes whose connection is gone: the source address of its request, at the port that the client says
/// it listens on.
fn response_address(bytes: &[u8]) -> Response {
    if !bytes.starts_with(b"SIP/2.0 ") {
        return Response::No;
    }
    let address = |via: &Via<'_>| {
        let ip = via.received().or_else(|| via.host.ip())?;
        Some(SocketAddr::new(ip.to_canonical(), via.port_or_default()))
    };
    match Message::parse(bytes).ok().and_then(|m| address(&m.top_via().ok()?)) {
        Some(to) => Response::To(to),
        None => Response::Nowhere,
    }
}

/// The flow of a connection: `local` is the listening address, also of one made here.
fn flow(local: SocketAddr, remote: SocketAddr) -> Flow {
    Flow {
        transport: Transport::Tcp,
        local,
        remote: SocketAddr::new(remote.ip().to_canonical(), remote.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_without_its_connection_goes_to_the_source_at_the_port_of_the_via_rfc3261_18_2_2() {
        let to =
            |via: &str| match response_address(format!("SIP/2.0 200 OK\r\nVia: {via}\r\n\r\n").as_bytes()) {
                Response::To(to) => Some(to.to_string()),
                _ => None,
            };
        let via = "SIP/2.0/TCP 10.0.0.5:5070;branch=z9hG4bK1;received=192.0.2.9;rport=40001";
        assert_eq!(to(via).as_deref(), Some("192.0.2.9:5070"));
        assert_eq!(to("SIP/2.0/TCP 10.0.0.5;branch=z9hG4bK1").as_deref(), Some("10.0.0.5:5060"));
        assert_eq!(to("SIP/2.0/TCP phone.test;branch=z9hG4bK1"), None);
        assert!(matches!(response_address(b"OPTIONS sip:x SIP/2.0\r\n\r\n"), Response::No));
    }
}
