//! What the records of a log add up to.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::disk::DiskFile;

/// Name of the segment that begins at position `start`.
pub(super) fn segment_name(start: u64) -> String {
    format!("{start:016x}.seg")
}

/// One file of the log.
pub(super) struct Segment {
    /// Position of its first byte in the whole log.
    pub start: u64,
    /// Bytes written to it.
    pub len: u64,
    /// Bytes that its file was made with.
    pub size: u64,
    pub file: Arc<dyn DiskFile>,
    /// Highest index of an entry in it.
    pub max_index: Option<u64>,
}

/// Where the payload of an entry is.
#[derive(Clone, Copy)]
pub(super) struct Loc {
    pub pos: u64,
    pub len: u32,
}

#[derive(Default)]
pub(super) struct State {
    pub segments: Vec<Segment>,
    pub vote: Option<Vec<u8>>,
    pub committed: Option<Vec<u8>>,
    pub purged: Option<(u64, Vec<u8>)>,
    /// Index of the first entry present.
    pub first: u64,
    pub index: VecDeque<Loc>,
    /// Position behind the last record.
    pub end: u64,
    pub max_index: Option<u64>,
}

impl State {
    pub(super) fn next(&self) -> u64 {
        self.first + self.index.len() as u64
    }

    /// Index of the last entry, purged ones included.
    pub(super) fn last_index(&self) -> Option<u64> {
        let last = self.next().checked_sub(1).filter(|_| !self.index.is_empty());
        last.or(self.purged.as_ref().map(|(index, _)| *index))
    }

    /// Whether the entries begin right behind what was purged. `from_start`: nothing was written before.
    pub(super) fn follows_what_was_purged(&self, from_start: bool) -> bool {
        match &self.purged {
            Some((index, _)) => self.index.is_empty() || self.first <= index + 1,
            None => from_start,
        }
    }

    /// Highest index written since the last call: what must be purged before that segment may go.
    pub(super) fn take_max_index(&mut self) -> Option<u64> {
        self.max_index.take()
    }

    pub(super) fn push(&mut self, index: u64, pos: u64, len: u32) -> bool {
        if self.index.is_empty() {
            self.first = index;
        } else if index != self.next() {
            return false;
        }
        self.index.push_back(Loc { pos, len });
        self.max_index = self.max_index.max(Some(index));
        true
    }

    pub(super) fn truncate_from(&mut self, index: u64) {
        self.index.truncate(usize::try_from(index.saturating_sub(self.first)).unwrap_or(usize::MAX));
    }

    pub(super) fn purge(&mut self, index: u64, payload: &[u8]) {
        if self.purged.as_ref().is_some_and(|(old, _)| *old > index) {
            return;
        }
        self.purged = Some((index, payload.to_vec()));
        while self.first <= index && self.index.pop_front().is_some() {
            self.first += 1;
        }
    }
}
