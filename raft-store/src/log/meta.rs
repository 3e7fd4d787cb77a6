//! `META` and its copy: whose folder this is. Written once. `META` comes last of all when a log is made, so that its
//! presence means a whole log; either of the two is enough to open it.

use sha2::{Digest, Sha256};

use super::OpenError;
use crate::codec::{self, CodecError, Kind};
use crate::disk::{Disk, read_all};

pub(super) const NAME: &str = "META";
/// The second copy.
pub(super) const COPY: &str = "META.copy";
const TEMPORARY: &str = "META.tmp";
/// Format of a log's files. 2: segments of a fixed length, records with a closing byte, a seal.
pub const FORMAT: u32 = 2;
/// What differs where a log has another format.
pub const FORMAT_VERSION: &str = "format version";
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

/// Which copies verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is neither.
    Nothing,
    /// Both.
    Both,
    /// One; the other is missing or damaged.
    One {
        /// Name of the one that does not verify.
        damaged: &'static str,
    },
}

/// Whom the log's folder names, if one of the two copies verifies and this build can read it.
pub fn owner(disk: &dyn Disk) -> Option<Identity> {
    [NAME, COPY].into_iter().find_map(|name| {
        let bytes = read_all(&*disk.open(name).ok()?, LIMIT).ok()?;
        let (_, body) =
            bytes.split_at_checked(4).filter(|(crc, body)| crc32c::crc32c(body).to_le_bytes() == *crc)?;
        let (format, cluster, node): (u32, u64, u64) = codec::decode_fixed(Kind::Meta, body).ok()?;
        (format == FORMAT).then_some(Identity { cluster, node })
    })
}

fn corrupt(file: &str, why: impl ToString) -> OpenError {
    OpenError::Corrupt { file: file.into(), offset: 0, why: why.to_string() }
}

/// Looks at both copies. The errors are those of a copy that verifies, or damage of both.
pub(super) fn check(disk: &dyn Disk, identity: Identity) -> Result<Found, OpenError> {
    match [check_one(disk, NAME, identity), check_one(disk, COPY, identity)] {
        [Err(OpenError::Corrupt { .. }), Ok(false)] => {
            Err(corrupt(NAME, "it does not verify, and its copy is missing"))
        }
        [Err(damage @ OpenError::Corrupt { .. }), Err(OpenError::Corrupt { .. })] => Err(damage),
        [Err(e), _] | [_, Err(e)] if !matches!(e, OpenError::Corrupt { .. }) => Err(e),
        [Ok(false), Ok(false)] => Ok(Found::Nothing),
        [Ok(true), Ok(true)] => Ok(Found::Both),
        [Ok(true), _] => Ok(Found::One { damaged: COPY }),
        [_, Ok(true)] => Ok(Found::One { damaged: NAME }),
        [_, Err(damage)] | [Err(damage), _] => Err(damage),
    }
}

/// Whether the copy is there; if so, it verifies and is `identity`'s.
pub(super) fn check_one(disk: &dyn Disk, name: &str, identity: Identity) -> Result<bool, OpenError> {
    let file = match disk.open(name) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e.into()),
    };
    if file.len()? > LIMIT {
        return Err(corrupt(name, "it is too long"));
    }
    let bytes = read_all(&*file, LIMIT)?;
    let (crc, body) = bytes.split_at_checked(4).ok_or_else(|| corrupt(name, "it is too short"))?;
    if crc32c::crc32c(body).to_le_bytes() != crc {
        return Err(corrupt(name, "the checksum differs"));
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
        return differs(FORMAT_VERSION, format.to_string(), FORMAT.to_string());
    }
    if cluster != identity.cluster {
        return differs("cluster", format!("{cluster:016x}"), format!("{:016x}", identity.cluster));
    }
    if node != identity.node {
        return differs("node id", node.to_string(), identity.node.to_string());
    }
    Ok(true)
}

/// Writes both copies, `META` last.
pub(super) fn create(disk: &dyn Disk, identity: Identity) -> Result<(), OpenError> {
    write(disk, COPY, identity)?;
    write(disk, NAME, identity)
}

/// Writes `name` anew.
pub(super) fn write(disk: &dyn Disk, name: &str, identity: Identity) -> Result<(), OpenError> {
    let body = codec::encode_fixed(Kind::Meta, &(FORMAT, identity.cluster, identity.node));
    let body = body.map_err(|e| corrupt(name, e))?;
    let mut bytes = crc32c::crc32c(&body).to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    if disk.list()?.iter().any(|n| n == TEMPORARY) {
        disk.remove(TEMPORARY)?;
    }
    let file = disk.create(TEMPORARY)?;
    file.write_at(0, &bytes)?;
    file.sync_data()?;
    disk.rename(TEMPORARY, name)?;
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
        frame[0] = codec::FORMAT_VERSION + 1;
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
