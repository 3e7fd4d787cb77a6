//! `META`: whose folder this is. Written once, last of all when a log is made, so that its presence means a whole log.

use sha2::{Digest, Sha256};

use super::OpenError;
use crate::codec::{self, CodecError, Kind};
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

/// Whom `META` names, if it verifies and this build can read it.
pub fn owner(disk: &dyn Disk) -> Option<Identity> {
    let bytes = read_all(&*disk.open(NAME).ok()?, LIMIT).ok()?;
    let (_, body) =
        bytes.split_at_checked(4).filter(|(crc, body)| crc32c::crc32c(body).to_le_bytes() == *crc)?;
    let (format, cluster, node): (u32, u64, u64) = codec::decode_fixed(Kind::Meta, body).ok()?;
    (format == FORMAT).then_some(Identity { cluster, node })
}

pub(super) fn check(disk: &dyn Disk, identity: Identity) -> Result<(), OpenError> {
    let bytes = read_all(&*disk.open(NAME)?, LIMIT)?;
    let (crc, body) = bytes.split_at_checked(4).ok_or_else(|| corrupt("too short"))?;
    if crc32c::crc32c(body).to_le_bytes() != crc {
        return Err(corrupt("the checksum differs"));
    }
    let differs = |what, found: String, expected: String| Err(OpenError::Foreign { what, found, expected });
    // The checksum holds, so that what does not decode is no damage: another version wrote it, and it must not be set
    // aside as if it were broken.
    let (format, cluster, node): (u32, u64, u64) = match codec::decode_fixed(Kind::Meta, body) {
        Ok(meta) => meta,
        Err(CodecError::Version { found }) => {
            return differs("format version", found.to_string(), codec::versions(&codec::READS));
        }
        Err(e) => return differs("format version", format!("unknown ({e})"), FORMAT.to_string()),
    };
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
    let body =
        codec::encode_fixed(Kind::Meta, &(FORMAT, identity.cluster, identity.node)).map_err(corrupt)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;

    fn refusal(body: &[u8]) -> OpenError {
        let disk = SimDisk::new();
        let bytes = [&crc32c::crc32c(body).to_le_bytes()[..], body].concat();
        disk.create(NAME).and_then(|f| f.write_at(0, &bytes)).expect("writes");
        check(&disk, Identity::new("lab", 1)).expect_err("refused")
    }

    #[test]
    fn a_folder_of_another_version_is_foreign_and_not_corrupt() {
        let id = Identity::new("lab", 1);
        let good = codec::encode_fixed(Kind::Meta, &(FORMAT, id.cluster, id.node)).expect("encodes");
        let mut frame = good.clone();
        frame[0] += 1;
        let format = codec::encode_fixed(Kind::Meta, &(FORMAT + 1, id.cluster, id.node)).expect("encodes");
        let longer = [&good[..], b"more"].concat();
        for body in [frame, format, longer] {
            match refusal(&body) {
                OpenError::Foreign { what: "format version", .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
