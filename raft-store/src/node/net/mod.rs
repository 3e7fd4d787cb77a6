//! TCP between the nodes: authenticated, two connections per direction and pair (see [`super::client::Lane`]), and now
//! and then a third that only shows how large a packet may be.

mod client;
mod complaints;
mod dial;
mod frame;
mod handshake;
mod path;
mod probe;
mod progress;
mod server;

pub use client::TcpTransport;
pub use path::{Path, Way};
pub use server::{Server, ServerError};

use std::net::SocketAddr;

use super::types::Place;

/// What both ends of a connection must agree on, and who this end is.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Name of the cluster.
    pub cluster: String,
    /// Key of the cluster; knowing it is what makes a node a member.
    pub key: [u8; 32],
    /// This node.
    pub place: Place,
}

/// Where a node listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Which node.
    pub place: Place,
    /// Its address.
    pub addr: SocketAddr,
}
