//! `META`: whose folder this is. Written once, last of all when a log is made, so that its presence means a whole log.

use sha2::{Digest, Sha256};

use super::OpenError;
use crate::codec::{self, Kind};
use crate::disk::{Disk, read_all};

pub(super) const NAME: &str = "META";
const TEMPORARY: &str = "META.tmp";
const FORMAT: u32 = 1;
const LIMIT: u64 = 4096;

/// Who may use a data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Hash of the cluster's name.
    pub cluster: u64,
    /// Node id; never used again for a wiped node.
    pub node: u64,
}

impl Identity {
    /// The identity of `node` in the cluster called `cluster`.
    pub fn new(cluster: &str, node: u64) -> Self {
        let hash = Sha256::digest(cluster.as_bytes());
        let cluster = hash.iter().take(8).fold(0, |n, b| n << 8 | u64::from(*b));
        Self { cluster, node }
    }
}

fn corrupt(why: impl ToString) -> OpenError {
    OpenError::Corrupt { file: NAME.into(), offset: 0, why: why.to_string() }
}

pub(super) fn check(disk: &dyn Disk, identity: Identity) -> Result<(), OpenError> {
    let bytes = read_all(&*disk.open(NAME)?, LIMIT)?;
    let (crc, body) = bytes.split_at_checked(4).ok_or_else(|| corrupt("too short"))?;
    if crc32c::crc32c(body).to_le_bytes() != crc {
        return Err(corrupt("the checksum differs"));
    }
    let (format, cluster, node): (u32, u64, u64) = codec::decode(Kind::Meta, body).map_err(corrupt)?;
    let differs = |what, found: String, expected: String| Err(OpenError::Foreign { what, found, expected });
    if format != FORMAT {
        return differs("format version", format.to_string(), FORMAT.to_string());
    }
    if cluster != identity.cluster {
        return differs("cluster", format!("{cluster:016x}"), format!("{:016x}", identity.cluster));
    }
    if node != identity.node {
        return differs("node id", node.to_string(), identity.node.to_string());
    }
    Ok(())
}

pub(super) fn create(disk: &dyn Disk, identity: Identity) -> Result<(), OpenError> {
    let body = codec::encode(Kind::Meta, &(FORMAT, identity.cluster, identity.node)).map_err(corrupt)?;
    let mut bytes = crc32c::crc32c(&body).to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    if disk.list()?.iter().any(|n| n == TEMPORARY) {
        disk.remove(TEMPORARY)?;
    }
    let file = disk.create(TEMPORARY)?;
    file.write_at(0, &bytes)?;
    file.sync_data()?;
    disk.rename(TEMPORARY, NAME)?;
    disk.sync_dir()?;
    Ok(())
}
