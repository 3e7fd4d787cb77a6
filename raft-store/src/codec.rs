//! The one place that names bincode: every byte that goes to disk or to a peer is framed here.
//!
//! A frame is one format-version byte, one kind byte, then the value in bincode's standard configuration
//! (little endian, variable-length integers). bincode cannot skip what it does not know, so that any change of a
//! stored type needs a new format version; the golden files in `tests/golden` fail when somebody forgets.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Version of every frame that this build writes and reads.
pub const FORMAT_VERSION: u8 = 2;

/// Most bytes that one decode may allocate or read (64 MiB): a damaged length must not take the memory of the node.
/// [`Kind::Snapshot`] alone has a bound of its own.
pub const MAX_DECODE_BYTES: usize = 64 << 20;

/// Most bytes of a snapshot's frame (2 GiB): the texts that the state may hold, and as much again for everything else
/// in its records.
pub const MAX_SNAPSHOT_BYTES: usize = 2 << 30;

/// What decoding a snapshot may allocate or read (4 GiB). bincode counts an integer with its size in memory, also where
/// its stored form is shorter, so that this must be more than [`MAX_SNAPSHOT_BYTES`].
const MAX_SNAPSHOT_DECODE: usize = 4 << 30;

// Whatever may be admitted to the state must fit its snapshot, with at least half of it left for what is not text.
const _: () = assert!(MAX_SNAPSHOT_BYTES as u64 >= 2 * proxy_core::state::limits::MAX_STATE_BYTES);

/// What a frame holds, so that a vote is never read as an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A Raft vote.
    Vote = 1,
    /// A Raft log entry.
    Entry = 2,
    /// A Raft log id (committed or purged mark).
    LogId = 3,
    /// The metadata of a snapshot.
    SnapshotMeta = 4,
    /// The data of a snapshot.
    Snapshot = 5,
    /// A message between nodes.
    Rpc = 6,
    /// A replicated command.
    Command = 7,
    /// The identity of a data folder.
    Meta = 8,
}

/// Why a value could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Fewer than the two framing bytes.
    #[error("frame of {len} bytes is shorter than its two framing bytes")]
    Short {
        /// Bytes found.
        len: usize,
    },
    /// Written by another format version.
    #[error("format version {found} found, this build reads {expected}: use the release that wrote the data")]
    Version {
        /// Version in the frame.
        found: u8,
        /// Version of this build.
        expected: u8,
    },
    /// A frame of another kind.
    #[error("kind {found} found, expected {expected:?} ({})", *expected as u8)]
    WrongKind {
        /// Kind byte in the frame.
        found: u8,
        /// Kind asked for.
        expected: Kind,
    },
    /// The frame is longer than one of its kind may be.
    #[error("frame of {len} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// Bytes found.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The value itself does not decode.
    #[error("{kind:?} does not decode: {why}")]
    Decode {
        /// Kind asked for.
        kind: Kind,
        /// bincode's reason.
        why: String,
    },
    /// Bytes are left over behind the value.
    #[error("{extra} bytes left over behind a {kind:?}")]
    Trailing {
        /// Kind asked for.
        kind: Kind,
        /// Bytes left over.
        extra: usize,
    },
    /// The value cannot be written.
    #[error("{kind:?} does not encode: {why}")]
    Encode {
        /// Kind asked for.
        kind: Kind,
        /// bincode's reason.
        why: String,
    },
}

/// Most bytes behind the two framing bytes of a frame of `kind`.
const fn limit(kind: Kind) -> usize {
    match kind {
        Kind::Snapshot => MAX_SNAPSHOT_BYTES,
        _ => MAX_DECODE_BYTES,
    }
}

impl From<CodecError> for std::io::Error {
    fn from(e: CodecError) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, e)
    }
}

/// Frames `value` as `kind`. What would be too large to be read is not written either.
pub fn encode<T: Serialize + ?Sized>(kind: Kind, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = vec![FORMAT_VERSION, kind as u8];
    bincode::serde::encode_into_std_write(value, &mut out, bincode::config::standard())
        .map_err(|e| CodecError::Encode { kind, why: e.to_string() })?;
    if out.len() - 2 > limit(kind) {
        return Err(CodecError::TooLarge { len: out.len() - 2, limit: limit(kind) });
    }
    Ok(out)
}

/// Bytes of `value` in a frame, without the two framing bytes. Takes no memory. More than
/// any frame may have for what cannot be written.
#[must_use]
pub fn size<T: Serialize + ?Sized>(value: &T) -> usize {
    let mut counted = bincode::enc::write::SizeWriter::default();
    match bincode::serde::encode_into_writer(value, &mut counted, bincode::config::standard()) {
        Ok(()) => counted.bytes_written,
        Err(_) => MAX_SNAPSHOT_BYTES + 1,
    }
}

/// Reads a frame of `kind`; the whole of `bytes` must be used up.
pub fn decode<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, CodecError> {
    let (head, body) = bytes.split_at_checked(2).ok_or(CodecError::Short { len: bytes.len() })?;
    if head[0] != FORMAT_VERSION {
        return Err(CodecError::Version { found: head[0], expected: FORMAT_VERSION });
    }
    if head[1] != kind as u8 {
        return Err(CodecError::WrongKind { found: head[1], expected: kind });
    }
    if body.len() > limit(kind) {
        return Err(CodecError::TooLarge { len: body.len(), limit: limit(kind) });
    }
    let standard = bincode::config::standard();
    let decoded = match kind {
        Kind::Snapshot => {
            bincode::serde::decode_from_slice(body, standard.with_limit::<MAX_SNAPSHOT_DECODE>())
        }
        _ => bincode::serde::decode_from_slice(body, standard.with_limit::<MAX_DECODE_BYTES>()),
    };
    let (value, used) = decoded.map_err(|e| CodecError::Decode { kind, why: e.to_string() })?;
    if used != body.len() {
        return Err(CodecError::Trailing { kind, extra: body.len() - used });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_larger_than_any_message_is_read_back() {
        let records: Vec<(u64, String)> = (0..20).map(|n| (n, "x".repeat(4 << 20))).collect();
        let bytes = encode(Kind::Snapshot, &records).expect("80 MiB are a snapshot");
        assert!(bytes.len() > MAX_DECODE_BYTES);
        assert_eq!(decode::<Vec<(u64, String)>>(Kind::Snapshot, &bytes).expect("reads"), records);
    }

    #[test]
    fn what_could_not_be_read_is_not_written() {
        let text = "x".repeat(MAX_DECODE_BYTES);
        assert!(matches!(encode(Kind::Rpc, &text), Err(CodecError::TooLarge { .. })));
        let fits = "x".repeat(MAX_DECODE_BYTES / 2);
        let bytes = encode(Kind::Rpc, &fits).expect("writes");
        assert_eq!(decode::<String>(Kind::Rpc, &bytes).expect("reads"), fits);
    }
}
