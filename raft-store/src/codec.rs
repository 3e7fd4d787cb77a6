//! The frame around every value that goes to disk or to a peer: one byte of format version, one byte of kind, then the
//! value in its tagged form ([`crate::wire`]).
//!
//! The version of a frame is the lowest one that can say its value, so that a node of the version before reads all that
//! does not use what was added since. What a build reads it reads whole: a frame that holds more than was read is an
//! error, not a guess. ADR 0006 has the reasons; the golden files in `tests/golden` fail when somebody forgets a rule.

use std::cell::Cell;
use std::ops::RangeInclusive;

use proxy_core::wire::Memory;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::{FIRST_VERSION, Wire};

/// The newest version of frames that this build writes and reads. It is open: what is added needs it
/// (`since_version`), until its golden files have their list.
pub const FORMAT_VERSION: u8 = proxy_core::wire::NEWEST_VERSION;

/// The versions that this build reads.
pub const READS: RangeInclusive<u8> = FIRST_VERSION..=FORMAT_VERSION;

/// Most bytes that one decode may allocate or read (64 MiB): a damaged length must not take the memory of the node.
/// [`Kind::Snapshot`] alone has a bound of its own.
pub const MAX_DECODE_BYTES: usize = 64 << 20;

/// Most bytes of a snapshot's frame (2 GiB): the texts that the state may hold, and as much again for everything else
/// in its records.
pub const MAX_SNAPSHOT_BYTES: usize = 2 << 30;

/// What decoding a snapshot may allocate (4 GiB): records are larger in memory than in their frame, so that this must be
/// more than [`MAX_SNAPSHOT_BYTES`].
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
    /// What a backup says of itself.
    Backup = 9,
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
    /// Written in another format version.
    #[error("format version {found} found, this build reads {}: {}", versions(&READS), cure(*found))]
    Version {
        /// Version in the frame.
        found: u8,
    },
    /// The frame says something that this build has no word for, although it claims to read its version.
    #[error(
        "{kind:?} says what this build does not know ({why}): a newer version wrote it; upgrade this node, or use the \
         release that wrote it"
    )]
    Unknown {
        /// Kind asked for.
        kind: Kind,
        /// What is not known.
        why: String,
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
        /// The reason.
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
        /// The reason.
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

/// Some versions, in words.
#[must_use]
pub fn versions(range: &RangeInclusive<u8>) -> String {
    match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{} to {}", range.start(), range.end()),
    }
}

fn cure(found: u8) -> &'static str {
    match found {
        0..FIRST_VERSION => {
            "it was written before the first release, and nothing reads it any more; begin with an empty data folder"
        }
        _ if found > FORMAT_VERSION => {
            "a newer version wrote it; upgrade this node, or use the release that wrote it"
        }
        _ => "use a release in between, which reads it and writes it anew",
    }
}

/// What reading a value of `kind` may take of memory.
const fn memory(kind: Kind) -> usize {
    match kind {
        Kind::Snapshot => MAX_SNAPSHOT_DECODE,
        _ => MAX_DECODE_BYTES,
    }
}

/// Most bytes that a thread keeps to write in: more than an entry has.
const SCRATCH_BYTES: usize = 64 << 10;

thread_local! {
    /// What grows while a value is written has grown already for the one before it.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Frames `value` as `kind`. What would be too large to be read is not written either.
pub fn encode<T: Wire>(kind: Kind, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = SCRATCH.try_with(Cell::take).unwrap_or_default();
    out.clear();
    out.extend([value.since(), kind as u8]);
    value.put(&mut out).map_err(|e| CodecError::Encode { kind, why: e.to_string() })?;
    if out.len() - 2 > limit(kind) {
        return Err(CodecError::TooLarge { len: out.len() - 2, limit: limit(kind) });
    }
    if out.capacity() > SCRATCH_BYTES {
        return Ok(out);
    }
    let framed = out.as_slice().to_vec();
    // A thread that ends has none any more.
    let _ = SCRATCH.try_with(|scratch| scratch.set(out));
    Ok(framed)
}

/// Like [`encode`], to where the bytes go: nothing of the size of `value` is in memory for it. Its length is not looked
/// at here.
///
/// # Errors
/// Those of `to`.
pub fn encode_to<T: Wire + minicbor::Encode<Memory>>(
    kind: Kind,
    value: &T,
    to: &mut dyn std::io::Write,
) -> std::io::Result<()> {
    to.write_all(&[value.since(), kind as u8])?;
    crate::wire::write_to(value, to)
}

/// Bytes of `value` in a frame, without the two framing bytes. Takes no memory.
#[must_use]
pub fn size<T: Wire>(value: &T) -> usize {
    value.len()
}

/// The bytes behind a head that says `kind` and a version that this build reads.
fn body(kind: Kind, bytes: &[u8]) -> Result<&[u8], CodecError> {
    let (head, body) = bytes.split_at_checked(2).ok_or(CodecError::Short { len: bytes.len() })?;
    if !READS.contains(&head[0]) {
        return Err(CodecError::Version { found: head[0] });
    }
    if head[1] != kind as u8 {
        return Err(CodecError::WrongKind { found: head[1], expected: kind });
    }
    if body.len() > limit(kind) {
        return Err(CodecError::TooLarge { len: body.len(), limit: limit(kind) });
    }
    Ok(body)
}

/// Reads a frame of `kind`; the whole of `bytes` must be used up, and nothing in it may be unknown.
pub fn decode<T: Wire>(kind: Kind, bytes: &[u8]) -> Result<T, CodecError> {
    let body = body(kind, bytes)?;
    let (value, used) = T::get(body, memory(kind)).map_err(|e| match proxy_core::wire::is_unknown(&e) {
        true => CodecError::Unknown { kind, why: e.to_string() },
        false => CodecError::Decode { kind, why: e.to_string() },
    })?;
    if used != body.len() {
        return Err(CodecError::Trailing { kind, extra: body.len() - used });
    }
    // The tagged form passes over fields that it has no place for. Each value has one form, so that one which was read
    // whole is as long again: anything else had such a field.
    let known = value.len();
    if known != used {
        return Err(CodecError::Unknown { kind, why: format!("{known} of {used} bytes are known") });
    }
    Ok(value)
}

/// Frames what never changes its shape, in bincode's positional form: a change needs another kind.
pub fn encode_fixed<T: Serialize>(kind: Kind, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = vec![FIRST_VERSION, kind as u8];
    bincode::serde::encode_into_std_write(value, &mut out, bincode::config::standard())
        .map_err(|e| CodecError::Encode { kind, why: e.to_string() })?;
    Ok(out)
}

/// Reads what [`encode_fixed`] has framed.
pub fn decode_fixed<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, CodecError> {
    let body = body(kind, bytes)?;
    let limited = bincode::config::standard().with_limit::<MAX_DECODE_BYTES>();
    let (value, used) = bincode::serde::decode_from_slice(body, limited)
        .map_err(|e| CodecError::Decode { kind, why: e.to_string() })?;
    if used != body.len() {
        return Err(CodecError::Trailing { kind, extra: body.len() - used });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use minicbor::{CborLen, Decode, Encode};
    use proxy_core::wire::Room;

    use super::*;
    use crate::tagged;

    /// A record of today.
    #[derive(Debug, PartialEq, Encode, Decode, CborLen)]
    #[cbor(context_bound = "Room")]
    struct Today {
        #[n(0)]
        name: String,
        #[cbor(n(1), with = "proxy_core::wire::opt", has_nil)]
        means: Option<Means>,
    }

    #[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
    #[cbor(context_bound = "Room", flat)]
    enum Means {
        #[n(0)]
        Phone,
        #[n(1)]
        Number(#[n(0)] u64),
    }

    /// The same record in the next version: with fields, and with a variant.
    #[derive(Debug, Default, PartialEq, Encode, Decode, CborLen)]
    #[cbor(context_bound = "Room")]
    struct Tomorrow {
        #[n(0)]
        name: String,
        #[cbor(n(1), with = "proxy_core::wire::opt", has_nil)]
        means: Option<MoreMeans>,
        #[cbor(n(2), with = "proxy_core::wire::added", has_nil)]
        weight: u32,
        #[cbor(n(3), with = "proxy_core::wire::list", has_nil)]
        notes: Vec<String>,
    }

    #[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
    #[cbor(context_bound = "Room", flat)]
    enum MoreMeans {
        #[n(0)]
        Phone,
        #[n(1)]
        Number(#[n(0)] u64),
        #[n(2)]
        Letter(#[n(0)] String, #[n(1)] String),
    }

    impl Tomorrow {
        fn since_version(&self) -> u8 {
            let is_new = self.weight != 0
                || !self.notes.is_empty()
                || matches!(self.means, Some(MoreMeans::Letter(..)));
            if is_new { FORMAT_VERSION + 1 } else { FIRST_VERSION }
        }
    }

    tagged! {
        Today;
        Tomorrow, since Tomorrow::since_version;
        Records;
        Text;
    }

    #[derive(Debug, PartialEq, Encode, Decode, CborLen)]
    #[cbor(context_bound = "Room", transparent)]
    struct Records(#[cbor(n(0), with = "proxy_core::wire::list")] Vec<Text>);

    #[derive(Debug, PartialEq, Encode, Decode, CborLen)]
    #[cbor(context_bound = "Room")]
    struct Text(#[n(0)] u64, #[n(1)] String);

    fn today() -> Vec<u8> {
        encode(Kind::Command, &Today { name: "a".into(), means: Some(Means::Number(7)) }).expect("writes")
    }

    #[test]
    fn the_next_version_reads_what_this_one_wrote() {
        let read: Tomorrow = decode(Kind::Command, &today()).expect("reads");
        let means = Some(MoreMeans::Number(7));
        assert_eq!(read, Tomorrow { name: "a".into(), means, ..Tomorrow::default() });
    }

    #[test]
    fn this_version_reads_what_the_next_one_writes_without_its_new_words() {
        let value = Tomorrow { name: "a".into(), means: Some(MoreMeans::Number(7)), ..Tomorrow::default() };
        let bytes = encode(Kind::Command, &value).expect("writes");
        assert_eq!(bytes, today());
    }

    #[test]
    fn this_version_refuses_the_new_words_of_the_next_one_by_the_head_of_the_frame() {
        let value = Tomorrow { name: "a".into(), weight: 3, ..Tomorrow::default() };
        let bytes = encode(Kind::Command, &value).expect("writes");
        let refused = decode::<Today>(Kind::Command, &bytes).expect_err("refused");
        assert!(matches!(refused, CodecError::Version { found } if found == FORMAT_VERSION + 1), "{refused}");
        assert!(refused.to_string().contains("upgrade this node"), "{refused}");
    }

    #[test]
    fn a_new_field_or_variant_under_a_version_that_is_read_is_an_error_and_no_guess() {
        let added = Tomorrow { name: "a".into(), weight: 3, ..Tomorrow::default() };
        let variant = Tomorrow {
            name: "a".into(),
            means: Some(MoreMeans::Letter("b".into(), "c".into())),
            ..Tomorrow::default()
        };
        for value in [added, variant] {
            let mut bytes = encode(Kind::Command, &value).expect("writes");
            bytes[0] = FORMAT_VERSION;
            let refused = decode::<Today>(Kind::Command, &bytes).expect_err("refused");
            assert!(matches!(refused, CodecError::Unknown { .. }), "{value:?}: {refused}");
        }
    }

    #[test]
    fn a_length_that_is_damaged_takes_no_memory() {
        // 2^32 items in a frame of a few bytes; then as many empty ones as a frame may have bytes.
        let head = [FORMAT_VERSION, Kind::Command as u8];
        let long = [&head[..], &[0x9b, 0, 0, 0, 1, 0, 0, 0, 0, 0x80]].concat();
        assert!(matches!(decode::<Records>(Kind::Command, &long), Err(CodecError::Decode { .. })));
        let count = u32::try_from(MAX_DECODE_BYTES / 2).expect("small");
        let mut many = [&head[..], &[0x9a], &count.to_be_bytes()].concat();
        many.resize(MAX_DECODE_BYTES / 2 + 16, 0x80);
        assert!(matches!(decode::<Records>(Kind::Command, &many), Err(CodecError::Decode { .. })));
    }

    #[test]
    fn a_snapshot_larger_than_any_message_is_read_back() {
        let records = Records((0..20).map(|n| Text(n, "x".repeat(4 << 20))).collect());
        let bytes = encode(Kind::Snapshot, &records).expect("80 MiB are a snapshot");
        assert!(bytes.len() > MAX_DECODE_BYTES);
        assert_eq!(decode::<Records>(Kind::Snapshot, &bytes).expect("reads"), records);
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
