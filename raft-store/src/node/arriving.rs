//! A snapshot that comes in parts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use openraft::raft::SnapshotResponse;
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};

use super::client::Transport;
use super::core::Core;
use super::inbound::RpcReply;
use super::snapshot::Data;
use super::types::{Place, TypeConfig, Vote};
use crate::snap::MAX_SNAPSHOT_BYTES;

/// What has come so far, by sender.
pub(super) type Arriving = Mutex<BTreeMap<Place, Parts>>;

/// What has come of one snapshot.
pub(super) struct Parts {
    transfer: u64,
    bytes: Vec<u8>,
}

/// One part of it.
pub(super) struct Part {
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMetaOf<TypeConfig>,
    pub(super) transfer: u64,
    pub(super) offset: u64,
    pub(super) data: Vec<u8>,
    pub(super) last: bool,
}

impl<T: Transport> Core<T> {
    /// Takes a part of a snapshot; the last one answers for all.
    pub(super) async fn snapshot_part(&self, from: Place, part: Part) -> Result<RpcReply, String> {
        let bytes = {
            let mut all = self.0.parts.lock().unwrap_or_else(PoisonError::into_inner);
            let parts = all.entry(from).or_insert(Parts { transfer: part.transfer, bytes: Vec::new() });
            if parts.transfer != part.transfer {
                *parts = Parts { transfer: part.transfer, bytes: Vec::new() };
            }
            if parts.bytes.len() as u64 != part.offset {
                all.remove(&from);
                return Err(format!("part at byte {} of a snapshot does not follow", part.offset));
            }
            if part.offset + part.data.len() as u64 > MAX_SNAPSHOT_BYTES {
                all.remove(&from);
                return Err("the snapshot is too large".into());
            }
            parts.bytes.extend_from_slice(&part.data);
            if !part.last {
                return Ok(RpcReply::SnapshotPart);
            }
            all.remove(&from).map(|p| p.bytes).unwrap_or_default()
        };
        let snapshot = SnapshotOf::<TypeConfig, Data> { meta: part.meta, snapshot: Arc::new(bytes) };
        let reply: SnapshotResponse<TypeConfig> =
            self.0.raft.install_full_snapshot(part.vote, snapshot).await.map_err(|e| e.to_string())?;
        Ok(RpcReply::Snapshot(reply))
    }
}
