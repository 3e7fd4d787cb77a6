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
mod waits;

pub use client::TcpTransport;
pub use path::{Path, Way};
pub use server::{Server, ServerError};
pub use waits::Waits;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::types::Place;
use crate::command::Versions;

/// What both ends of a connection must agree on, and who this end is.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Name of the cluster.
    pub cluster: String,
    /// Key of the cluster; knowing it is what makes a node a member.
    pub key: [u8; 32],
    /// This node.
    pub place: Place,
    /// The format versions that it reads.
    pub reads: Versions,
    /// What the others have said that they read.
    pub heard: Heard,
}

impl Credentials {
    /// For a node of this build.
    #[must_use]
    pub fn new(cluster: impl Into<String>, key: [u8; 32], place: Place) -> Self {
        Self { cluster: cluster.into(), key, place, reads: Versions::OURS, heard: Heard::default() }
    }
}

/// The format versions that other nodes have said they read when they last connected; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Heard(Arc<Mutex<BTreeMap<Place, Versions>>>);

impl Heard {
    /// Those of `place`, if it has said so to this process.
    #[must_use]
    pub fn of(&self, place: Place) -> Option<Versions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&place).copied()
    }

    fn note(&self, place: Place, versions: Versions) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < crate::state::MAX_PLACES || all.contains_key(&place) {
            all.insert(place, versions);
        }
    }
}

/// Where a node listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Which node.
    pub place: Place,
    /// Its address.
    pub addr: SocketAddr,
}
