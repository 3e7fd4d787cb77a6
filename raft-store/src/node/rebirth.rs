//! A cluster that is begun anew from a state: of a backup, or of the newest that verifies in a damaged store.
//!
//! The node becomes the only voter, under a new incarnation. All others come back as learners: their ids are not in its
//! membership. What tells the newborn cluster from the former one is its **birth**, the upper half of every term:
//!
//! ```text
//! term = rebirths (16 bits) | salt (16 bits) | elections since (32 bits)
//! ```
//!
//! Raft's order of terms is then also the order of births, and no message, file or state needs a field for it. The salt
//! is drawn, so that two clusters begun from the same backup on two nodes differ. A node that hears of a later birth
//! than its own sets its store aside and joins there; see `watch`.
//!
//! | | former cluster | newborn |
//! |---|---|---|
//! | term | t | birth of t + 1, whatever t was |
//! | index | i | i + [`INDEX_GAP`]: more entries than any backup is behind |
//!
//! A fence token is an index, so that tokens go on growing.

use super::store::{Opened, StoreError};
use super::types::{LogId, Member, RaftId, StoredMembership, TypeConfig, Vote};
use crate::codec::{self, Kind};
use crate::snap::SnapStore;
use crate::state::ClusterState;

/// By how much the newborn's first index is beyond the last known one (10¹² entries: at 10,000 a second three years).
pub const INDEX_GAP: u64 = 1_000_000_000_000;

/// Bits of a term that count elections.
const ELECTION_BITS: u32 = 32;
/// Bits of a birth that are drawn.
const SALT_BITS: u32 = 16;

/// Which beginning of the cluster a term belongs to; a later one is larger. 0: the first.
#[must_use]
pub const fn birth_of(term: u64) -> u64 {
    term >> ELECTION_BITS
}

/// How often the cluster of `term` was begun anew.
#[must_use]
pub const fn rebirths_of(term: u64) -> u64 {
    birth_of(term) >> SALT_BITS
}

/// A place in the history of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Term, of the newest vote or entry.
    pub term: u64,
    /// Index of the last entry.
    pub index: u64,
}

impl Position {
    /// Where a cluster begins that follows one which was here at least. Only the lower 16 bits of `salt` count.
    #[must_use]
    pub const fn reborn(self, salt: u16) -> Self {
        let birth = (rebirths_of(self.term) + 1) << SALT_BITS | salt as u64;
        Self { term: birth << ELECTION_BITS, index: self.index.saturating_add(INDEX_GAP) }
    }
}

/// Fills an empty store: a snapshot of `state` at `at`, a log that begins behind it, and `id` as the only voter.
pub(super) fn fill(
    opened: Opened,
    state: &ClusterState,
    at: Position,
    member: Member,
) -> Result<(), StoreError> {
    let Opened { id, log, snaps, .. } = opened;
    let write = || -> std::io::Result<()> {
        let last = LogId::new_term_index(at.term, at.index);
        let vote = codec::encode(Kind::Vote, &Vote::new(at.term, id))?;
        let mark = codec::encode(Kind::LogId, &last)?;
        let voters = std::iter::once((id, member)).collect::<std::collections::BTreeMap<RaftId, Member>>();
        let membership = openraft::Membership::new(vec![std::iter::once(id).collect()], voters)
            .map_err(std::io::Error::other)?;
        let meta = openraft::SnapshotMeta {
            last_log_id: Some(last),
            last_membership: StoredMembership::new(Some(last), membership),
        };
        let meta: openraft::type_config::alias::SnapshotMetaOf<TypeConfig> = meta;
        snaps.write(&codec::encode(Kind::SnapshotMeta, &meta)?, &codec::encode(Kind::Snapshot, state)?)?;
        log.writer().with(|log| {
            log.save_vote(&vote)?;
            log.purge(at.index, &mark)?;
            log.sync()
        })
    };
    write().map_err(StoreError::newborn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newborn_cluster_is_beyond_the_former_one_whatever_that_did_since() {
        let old = Position { term: 7, index: 433 };
        let new = old.reborn(5);
        assert!(new.term > old.term + 1_000_000 && new.index == 433 + INDEX_GAP);
        assert_eq!((rebirths_of(old.term), rebirths_of(new.term)), (0, 1));
        // Elections do not change the birth, and two from one backup differ.
        assert_eq!(birth_of(new.term), birth_of(new.term + 4_000_000_000));
        assert_ne!(birth_of(new.term), birth_of(old.reborn(6).term));
        let third = Position { term: new.term + 9, index: new.index + 9 }.reborn(0);
        assert!(birth_of(third.term) > birth_of(new.term) && third.index > new.index);
        // Exact also where somebody reads it as a number of 53 bits, for the first 31 of them.
        assert!(new.term < 1 << 53);
    }
}
