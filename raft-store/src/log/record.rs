//! One record: a 40-byte header, its payload, and one closing byte.
//!
//! | bytes | field |
//! |---|---|
//! | 0–3 | magic |
//! | 4–7 | CRC-32C of bytes 8.., the payload and the closing byte |
//! | 8–11 | payload length |
//! | 12 | kind |
//! | 13 | record version |
//! | 14–15 | check of the other header fields: a flipped length must not look like a longer record |
//! | 16–23 | position of this record in the whole log |
//! | 24–31 | index |
//! | 32–39 | position up to which the log was durable when this was written |
//! | 40.. | payload |
//! | last | closing byte, never zero |
//!
//! The position makes a stale or misplaced record invalid; `synced_upto` tells damage of acknowledged data from the
//! torn tail of what nobody was promised.
//!
//! A record is written over zeros, and a disk writes a sector of 512 bytes wholly or not at all. A write that was cut
//! off therefore leaves a sector of it zero; magic and closing byte see to it that no written sector at its ends is.

use super::MAX_RECORD_BYTES;

const HEADER: usize = 40;
/// Bytes of a record in front of its payload.
pub(super) const BEFORE: usize = HEADER;
const MAGIC: [u8; 4] = *b"RLr\xa7";
const VERSION: u8 = 2;
const CLOSING: u8 = 0xa7;
/// Bytes that a disk writes wholly or not at all.
const SECTOR: usize = 512;

/// Bytes of a record with a payload of `payload` bytes.
pub(super) const fn size(payload: usize) -> usize {
    HEADER + payload + 1
}

/// The least bytes that a record takes.
pub(super) const SMALLEST: usize = size(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    Vote = 1,
    Entry = 2,
    /// `index` is the first removed one.
    Truncate = 3,
    /// `index` is the last removed one.
    Purge = 4,
    Committed = 5,
    /// The first of a segment: how long its file was made, and whose it is.
    Begin = 6,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub kind: RecordKind,
    /// Bytes of the payload.
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
    let check = header_check(&out[start..]);
    out[start + 14..start + 16].copy_from_slice(&check);
    out.extend_from_slice(payload);
    out.push(CLOSING);
    let crc = crc32c::crc32c(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

fn header_check(header: &[u8]) -> [u8; 2] {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[8..14]), &header[16..HEADER]);
    [crc.to_le_bytes()[0], crc.to_le_bytes()[1]]
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
    let whole = bytes.get(8..size(len)).ok_or("a payload is cut off")?;
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
        6 => RecordKind::Begin,
        _ => return Err("an unknown kind"),
    };
    Ok(Header { kind, len, index: u64_at(bytes, 24), synced_upto: u64_at(bytes, 32) })
}

/// Bytes of the record that begins `bytes`, by its own word; `None` where that is not to be trusted.
pub(super) fn claimed_size(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..HEADER)?;
    let len = u32_at(header, 8) as usize;
    (header[..4] == MAGIC && header[14..16] == header_check(header) && len <= MAX_RECORD_BYTES)
        .then(|| size(len))
}

/// The payload of the record that begins `bytes`, of which `header` was read.
pub(super) fn payload(bytes: &[u8], header: Header) -> &[u8] {
    bytes.get(HEADER..HEADER + header.len).unwrap_or_default()
}

/// Whether `bytes`, which begin at byte `offset` of their file and are no valid record, are the rest of a write that
/// was cut off: a sector's part of the record is still zero.
pub(super) fn unfinished(bytes: &[u8], offset: usize, pos: u64) -> bool {
    let mut end = HEADER.min(bytes.len());
    let whole_header = bytes.len() >= HEADER && bytes[..4] == MAGIC && bytes[14..16] == header_check(bytes);
    if whole_header && u64_at(bytes, 16) == pos {
        let len = u32_at(bytes, 8) as usize;
        if len <= MAX_RECORD_BYTES && size(len) <= bytes.len() {
            end = size(len);
        }
    }
    let mut from = 0;
    while from < end {
        let to = (from + SECTOR - (offset + from) % SECTOR).min(end);
        if is_zero(&bytes[from..to]) {
            return true;
        }
        from = to;
    }
    false
}

pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| *b == 0)
}

/// What valid records behind a damaged place say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Behind {
    /// Position up to which one of them says that the log was durable.
    pub claimed: u64,
    /// Highest index of an entry among them.
    pub last_index: Option<u64>,
}

impl Behind {
    pub(super) fn and(self, other: Self) -> Self {
        Self { claimed: self.claimed.max(other.claimed), last_index: self.last_index.max(other.last_index) }
    }
}

/// Looks at all valid records behind byte `from` of a segment that begins at `start`.
pub(super) fn behind(bytes: &[u8], start: u64, from: usize) -> Behind {
    let mut out = Behind::default();
    let mut at = from;
    while at + SMALLEST <= bytes.len() {
        let Some(next) = bytes[at..].iter().position(|b| *b == MAGIC[0]) else { break };
        at += next;
        if bytes[at..].starts_with(&MAGIC)
            && let Ok(header) = parse(&bytes[at..], start + at as u64)
        {
            out.claimed = out.claimed.max(header.synced_upto);
            if header.kind == RecordKind::Entry {
                out.last_index = out.last_index.max(Some(header.index));
            }
            at += size(header.len);
        } else {
            at += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of `payload` bytes `fill` at byte `offset` of its file, with the sectors named by `lost` still zero.
    fn with_lost(payload: usize, fill: u8, offset: usize, lost: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, RecordKind::Entry, 7_000, 3, 6_000, &vec![fill; payload]);
        for &sector in lost {
            let from = (sector * SECTOR).saturating_sub(offset).min(bytes.len());
            let to = ((sector + 1) * SECTOR).saturating_sub(offset).min(bytes.len());
            bytes[from..to].fill(0);
        }
        bytes
    }

    #[test]
    fn a_write_that_lacks_any_of_its_sectors_is_told_from_a_flipped_bit() {
        for (payload, offset) in [(0, 0), (0, 490), (3, 470), (460, 500), (471, 0), (1500, 511), (1500, 40)] {
            let whole = with_lost(payload, b'x', offset, &[]);
            let sectors = offset / SECTOR..=(offset + whole.len() - 1) / SECTOR;
            for sector in sectors {
                let torn = with_lost(payload, b'x', offset, &[sector]);
                assert!(parse(&torn, 7_000).is_err());
                assert!(unfinished(&torn, offset, 7_000), "{payload} bytes at {offset} without {sector}");
            }
        }
        // A payload of zeros only is the hardest case where a whole sector lies inside of it; texts are not.
        for (payload, offset) in [(0, 0), (0, 490), (3, 470), (460, 500), (471, 0)] {
            let whole = with_lost(payload, 0, offset, &[]);
            for bit in 0..whole.len() * 8 {
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(parse(&bytes, 7_000).is_err(), "bit {bit}");
                assert!(!unfinished(&bytes, offset, 7_000), "{payload} bytes at {offset}, bit {bit}");
            }
        }
    }
}
