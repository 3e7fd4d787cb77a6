//! The seal: a file of its own that says up to where the log is durable, for the end behind which nothing was written.
//!
//! | bytes of a slot | field |
//! |---|---|
//! | 0–3 | magic |
//! | 4–7 | CRC-32C of bytes 8..56 |
//! | 8–15 | number: the slot with the higher one counts |
//! | 16–31 | boot id of the machine |
//! | 32–39 | position up to which the log is durable |
//! | 40–47 | index behind the last entry |
//! | 48 | 1: the log was closed in order |
//!
//! Two slots are written in turn, each within one sector, so that a write that is cut off leaves the other one. Under
//! load each group of records is the claim for the one before, and the seal is not written.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Durability;
use crate::disk::{Disk, DiskFile};

pub(super) const NAME: &str = "SEAL";
const MAGIC: [u8; 4] = *b"RLs\xa7";
const BYTES: usize = 56;
/// Distance of the two slots: no page and no sector holds both.
const APART: u64 = 4096;

/// Time after a group of records until the seal is made, if nothing follows.
pub const SEAL_AFTER: Duration = Duration::from_millis(100);
/// With [`Durability::Memory`] the records themselves make no claim that survives: longest time between two seals.
pub const SEAL_EVERY_IN_MEMORY: Duration = Duration::from_secs(1);

/// Names one start of the machine (Linux: `/proc/sys/kernel/random/boot_id`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootId(pub [u8; 16]);

impl BootId {
    /// The present start of this machine.
    ///
    /// # Errors
    /// No `/proc`, or something unexpected in it.
    pub fn read() -> io::Result<Self> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let hex: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        u128::from_str_radix(&hex, 16).map(|n| Self(n.to_be_bytes())).map_err(io::Error::other)
    }
}

/// Up to where the log is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Position.
    pub end: u64,
    /// Index behind the last entry that may be durable.
    pub next: u64,
}

/// One slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    pub number: u64,
    pub boot: BootId,
    pub mark: Mark,
    pub clean: bool,
}

impl Seal {
    fn encode(&self) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.number.to_le_bytes());
        out[16..32].copy_from_slice(&self.boot.0);
        out[32..40].copy_from_slice(&self.mark.end.to_le_bytes());
        out[40..48].copy_from_slice(&self.mark.next.to_le_bytes());
        out[48] = u8::from(self.clean);
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let crc = crc32c::crc32c(&bytes[8..]).to_le_bytes();
        if bytes[..4] != MAGIC || bytes[4..8] != crc {
            return None;
        }
        let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        let mut boot = [0; 16];
        boot.copy_from_slice(&bytes[16..32]);
        let mark = Mark { end: word(32), next: word(40) };
        Some(Self { number: word(8), boot: BootId(boot), mark, clean: bytes[48] == 1 })
    }
}

/// What the seal's file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The newer slot that verifies.
    pub newest: Option<Seal>,
    /// Slots that do not verify, though one of the two must be whole at any time: 0 to 2.
    pub unreadable: usize,
}

/// Reads it. A file that is missing is one of which nothing verifies.
pub(super) fn read(disk: &dyn Disk) -> io::Result<Found> {
    let file = match disk.open(NAME) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found { newest: None, unreadable: 2 }),
        Err(e) => return Err(e),
    };
    let mut slots = [None; 2];
    for (slot, at) in slots.iter_mut().zip([0, APART]) {
        let mut bytes = [0; BYTES];
        let got = file.read_at(at, &mut bytes)?;
        *slot = Seal::decode(&bytes[..got]);
    }
    let newest = slots.into_iter().flatten().max_by_key(|s| s.number);
    Ok(Found { newest, unreadable: slots.iter().filter(|s| s.is_none()).count() })
}

/// A write of the seal that is still to be made, outside of any lock.
pub(super) struct Job {
    file: Arc<dyn DiskFile>,
    seal: Seal,
}

impl Job {
    pub(super) fn run(&self) -> io::Result<()> {
        self.file.write_at(self.seal.number % 2 * APART, &self.seal.encode())?;
        self.file.sync_data()
    }
}

/// The seal of an open log.
pub(super) struct Sealer {
    file: Arc<dyn DiskFile>,
    boot: BootId,
    number: u64,
    /// What the newest seal says; the log goes on behind it.
    sealed: Option<Mark>,
}

impl Sealer {
    /// Makes the file where it is missing. Its name is durable after a sync of the folder.
    pub(super) fn open(disk: &dyn Disk, boot: BootId) -> io::Result<Self> {
        let Found { newest, unreadable } = read(disk)?;
        if newest.is_some() && unreadable > 0 {
            tracing::warn!(
                file = NAME,
                "one of the two copies in a file of the log was damaged; it is made anew"
            );
        }
        let file = match disk.open(NAME) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => disk.create(NAME)?,
            file => file?,
        };
        Ok(Self { file, boot, number: newest.map_or(0, |s| s.number), sealed: None })
    }

    /// Whether the newest seal says less than `mark`.
    pub(super) fn lags(&self, mark: Mark) -> bool {
        self.sealed.is_none_or(|s| s.end < mark.end)
    }

    /// The next write; it counts as made.
    pub(super) fn job(&mut self, mark: Mark, clean: bool) -> Job {
        self.number += 1;
        self.sealed = Some(mark);
        Job { file: self.file.clone(), seal: Seal { number: self.number, boot: self.boot, mark, clean } }
    }

    /// The last job was not carried out, or in part: the next one goes to the same slot, as the other one may be the
    /// only whole one.
    pub(super) fn take_back(&mut self) {
        self.number -= 1;
        self.sealed = None;
    }
}

/// How long to wait until a seal is to be made: pure, the times are since any one moment. `unsealed`: something became
/// durable since the last seal; `last_group` and `last_seal`: when.
pub(super) fn due_in(
    durability: Durability,
    unsealed: bool,
    now: Duration,
    last_group: Duration,
    last_seal: Duration,
) -> Option<Duration> {
    if !unsealed {
        return None;
    }
    let quiet = last_group.saturating_add(SEAL_AFTER);
    let at = match durability {
        Durability::Disk => quiet,
        Durability::Memory => quiet.min(last_seal.saturating_add(SEAL_EVERY_IN_MEMORY)),
    };
    Some(at.saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_newer_slot_counts_and_the_older_one_where_the_newer_is_damaged() {
        let disk = SimDisk::new();
        assert_eq!(read(&disk).expect("reads"), Found { newest: None, unreadable: 2 });
        let mut sealer = Sealer::open(&disk, BootId([7; 16])).expect("opens");
        for end in 1..=3 {
            sealer.job(Mark { end, next: end * 2 }, end == 3).run().expect("written");
        }
        let ends =
            || read(&disk).expect("reads").newest.map(|s| (s.mark.end, s.mark.next, s.clean, s.boot.0[0]));
        assert_eq!(ends(), Some((3, 6, true, 7)));
        let file = disk.open(NAME).expect("there");
        // Number 3 is in the second slot.
        for bit in 0..BYTES * 8 {
            let at = APART + bit as u64 / 8;
            let mut byte = [0];
            file.read_at(at, &mut byte).expect("read");
            file.write_at(at, &[byte[0] ^ 1 << (bit % 8)]).expect("damaged");
            assert_eq!(ends(), Some((2, 4, false, 7)), "bit {bit}");
            file.write_at(at, &byte).expect("mended");
        }
        let mut again = Sealer::open(&disk, BootId::default()).expect("opens again");
        again.job(Mark { end: 4, next: 8 }, false).run().expect("written");
        assert_eq!(ends(), Some((4, 8, false, 0)), "it goes on behind the newest number");
    }

    #[test]
    fn a_seal_is_due_when_nothing_follows_and_in_memory_also_under_load() {
        let due = |durability, unsealed, now: u32, group: u32, seal: u32| {
            due_in(durability, unsealed, MS * now, MS * group, MS * seal)
        };
        use Durability::{Disk, Memory};
        assert_eq!(due(Disk, false, 900, 100, 0), None);
        assert_eq!(due(Disk, true, 150, 100, 0), Some(MS * 50));
        assert_eq!(due(Disk, true, 200, 100, 0), Some(Duration::ZERO));
        assert_eq!(due(Disk, true, 5_000, 4_990, 0), Some(MS * 90), "the next group is the claim");
        assert_eq!(due(Memory, true, 5_000, 4_990, 0), Some(Duration::ZERO));
        assert_eq!(due(Memory, true, 1_000, 990, 10), Some(MS * 10));
    }
}
