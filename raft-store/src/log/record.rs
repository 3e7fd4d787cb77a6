//! One record: a 40-byte header and its payload.
//!
//! | bytes | field |
//! |---|---|
//! | 0–3 | magic |
//! | 4–7 | CRC-32C of bytes 8.. and the payload |
//! | 8–11 | payload length |
//! | 12 | kind |
//! | 13 | record version |
//! | 14–15 | zero |
//! | 16–23 | position of this record in the whole log |
//! | 24–31 | index |
//! | 32–39 | position up to which the log was durable when this was written |
//!
//! The position makes a stale or misplaced record invalid; `synced_upto` tells damage of acknowledged data from the
//! torn tail of what nobody was promised.

use super::MAX_RECORD_BYTES;

pub(super) const HEADER: usize = 40;
const MAGIC: [u8; 4] = *b"RLr\xa7";
const VERSION: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    Vote = 1,
    Entry = 2,
    /// `index` is the first removed one.
    Truncate = 3,
    /// `index` is the last removed one.
    Purge = 4,
    Committed = 5,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub kind: RecordKind,
    pub len: usize,
    pub index: u64,
    pub synced_upto: u64,
}

pub(super) fn write(
    out: &mut Vec<u8>,
    kind: RecordKind,
    pos: u64,
    index: u64,
    synced_upto: u64,
    payload: &[u8],
) {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&[kind as u8, VERSION, 0, 0]);
    for word in [pos, index, synced_upto] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(payload);
    let crc = crc32c::crc32c(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    b[at..at + 4].try_into().map_or(0, u32::from_le_bytes)
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    b[at..at + 8].try_into().map_or(0, u64::from_le_bytes)
}

/// The record that begins `bytes` and stands at `pos`, or why there is none.
pub(super) fn parse(bytes: &[u8], pos: u64) -> Result<Header, &'static str> {
    if bytes.len() < HEADER {
        return Err("a header is cut off");
    }
    if bytes[..4] != MAGIC {
        return Err("no record begins here");
    }
    if u64_at(bytes, 16) != pos {
        return Err("a record of another position");
    }
    let len = u32_at(bytes, 8) as usize;
    if len > MAX_RECORD_BYTES {
        return Err("a length beyond the limit");
    }
    let whole = bytes.get(8..HEADER + len).ok_or("a payload is cut off")?;
    if crc32c::crc32c(whole) != u32_at(bytes, 4) {
        return Err("the checksum differs");
    }
    if bytes[13] != VERSION {
        return Err("another record version");
    }
    let kind = match bytes[12] {
        1 => RecordKind::Vote,
        2 => RecordKind::Entry,
        3 => RecordKind::Truncate,
        4 => RecordKind::Purge,
        5 => RecordKind::Committed,
        _ => return Err("an unknown kind"),
    };
    Ok(Header { kind, len, index: u64_at(bytes, 24), synced_upto: u64_at(bytes, 32) })
}

/// What valid records behind a damaged place say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Behind {
    /// One of them says that the log was durable beyond that place.
    pub claimed: bool,
    /// Highest index of an entry among them.
    pub last_index: Option<u64>,
}

impl Behind {
    pub(super) fn and(self, other: Self) -> Self {
        Self { claimed: self.claimed || other.claimed, last_index: self.last_index.max(other.last_index) }
    }
}

/// Looks at all valid records behind byte `from` of a segment that begins at `start`; `beyond` is the damaged position.
pub(super) fn behind(bytes: &[u8], start: u64, from: usize, beyond: u64) -> Behind {
    let mut out = Behind::default();
    let mut at = from;
    while at + HEADER <= bytes.len() {
        if bytes[at..at + 4] == MAGIC
            && let Ok(header) = parse(&bytes[at..], start + at as u64)
        {
            out.claimed |= header.synced_upto > beyond;
            if header.kind == RecordKind::Entry {
                out.last_index = out.last_index.max(Some(header.index));
            }
            at += HEADER + header.len;
        } else {
            at += 1;
        }
    }
    out
}
