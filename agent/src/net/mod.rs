//! SIP over UDP: sockets, receive threads, engine threads.
//!
//! ```text
//! socket ─ recvmmsg ─► receive thread ─ shard_of(Call-ID) ─► mailbox ─► engine thread ─ sendmmsg ─► socket
//!                                                              ▲              │
//!                                                     verdict ─┘◄─ Store ◄────┘ proposal
//! ```
//! Sockets are bound when the process starts, also on a standby (`IP_FREEBIND`: the floating address need not be
//! there), so that a port in use is found at once and takeover only has to flip the engines.

pub mod batch;
pub mod dns;
#[cfg(debug_assertions)]
pub mod drill;
pub mod engine;
pub mod icmp;
pub mod mailbox;
pub mod media;
pub mod poison;
pub mod receive;
pub mod sip;
pub mod socket;
pub mod stream;
pub mod wake;

use std::net::SocketAddr;

/// Datagrams read or sent with one system call.
pub const BATCH: usize = 32;
/// Largest datagram taken, bytes: the largest a UDP datagram can be (RFC 3261 §18.1.1 asks for no less).
pub const MAX_DATAGRAM_BYTES: usize = 65_535;
/// Datagrams that wait for one engine; more are dropped and counted.
pub const MAX_QUEUED_DATAGRAMS: usize = 4096;
/// Bytes of datagrams that wait for one engine; more are dropped and counted.
pub const MAX_QUEUED_BYTES: usize = 16 << 20;
/// Receive buffer asked of the kernel for each socket, bytes.
pub const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Messages an engine handles while it holds the state for reading.
pub const MAX_TURN: usize = 64;

/// Why SIP cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Another program has the port.
    #[error(
        "UDP port {} on {} is in use by another program; stop it (see who: ss -lunp 'sport = :{}'), or set sip.port",
        addr.port(), addr.ip(), addr.port()
    )]
    PortInUse {
        /// The address.
        addr: SocketAddr,
    },
    /// The address cannot be bound.
    #[error("UDP {addr} cannot be bound: {why}; {cure}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the kernel said.
        why: std::io::Error,
        /// What may help.
        cure: &'static str,
    },
    /// Another program has the TCP port.
    #[error(
        "TCP port {} on {} is in use by another program; stop it (see who: ss -ltnp 'sport = :{}'), set sip.port, or set sip.tcp = false",
        addr.port(), addr.ip(), addr.port()
    )]
    TcpPortInUse {
        /// The address.
        addr: SocketAddr,
    },
    /// The address cannot be bound for TCP.
    #[error("TCP {addr} cannot be bound: {why}; {cure}")]
    BindTcp {
        /// The address.
        addr: SocketAddr,
        /// What the kernel said.
        why: std::io::Error,
        /// What may help.
        cure: &'static str,
    },
    /// The runtime for connections and names cannot be started.
    #[error(
        "connections cannot be served: {0}; raise the limits of processes and open files (ulimit -u, -n)"
    )]
    Streams(std::io::Error),
    /// No socket for rtpengines.
    #[error(
        "rtpengines cannot be spoken to: {0}; raise the limit of open files (ulimit -n), or remove [rtpengine]"
    )]
    Media(std::io::Error),
    /// This machine has no address to answer on.
    #[error("this machine has no usable IP address; configure one, or set sip.listen")]
    NoAddress,
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}; raise the limit of processes (ulimit -u)")]
    Thread(std::io::Error),
}
