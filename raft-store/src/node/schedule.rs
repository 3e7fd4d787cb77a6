//! When a node writes a snapshot.
//!
//! A snapshot costs as many bytes as the state has. It is written when the log has grown by as many since the last one:
//! then all snapshots together hold no more bytes than the log does, however large the state is, and what has to be
//! applied again after a restart is bounded by the size of the state. A small state waits for a floor. What devices write for
//! that is another matter: see ADR 0010.
//!
//! Nodes apply the same entries, so that all of them would be due at the same entry. They take turns: entries are counted
//! off in slots, and a node begins in a slot of its own.

use std::sync::Arc;

use super::snapshot::Snapshots;
use super::types::{LogId, Raft};
use crate::log::LogWriter;

/// When snapshots are written, and when the whole state is compared.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Least growth of the log between two snapshots, in bytes.
    pub floor_bytes: u64,
    /// Entries in the slot of a node.
    pub slot_entries: u64,
    /// Behind every so many entries each node hashes its whole state, to be compared with the others'. Even.
    pub compare_entries: u64,
}

impl Default for Schedule {
    /// 8 MiB are read and applied within a fraction of a second at a start. 2,048 entries take some seconds at 500 commits
    /// a second, in which a node gets done with 100 MB. 65,536 take two minutes then; a million records are hashed in a
    /// second.
    fn default() -> Self {
        Self { floor_bytes: 8 << 20, slot_entries: 2_048, compare_entries: 1 << 16 }
    }
}

/// One node's turn among all of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    /// Its rank in the configuration, from 0.
    pub(super) rank: u64,
    /// How many nodes there are.
    pub(super) nodes: u64,
}

impl Schedule {
    /// Whether a node begins a snapshot after the entry `applied`: its last one has `snapshot_bytes`, and the log grew by
    /// `log_bytes` since. A node whose turn did not come while the log grew to twice the size (a slot of large entries
    /// is long) waits no longer, but for its share of a third time, so that not all begin at once then either.
    fn is_due(&self, turn: Turn, applied: u64, log_bytes: u64, snapshot_bytes: u64) -> bool {
        let enough = self.floor_bytes.max(snapshot_bytes);
        let nodes = turn.nodes.max(1);
        let slot = applied / self.slot_entries.max(1) % nodes;
        let late = enough.saturating_mul(2).saturating_add(enough.saturating_mul(turn.rank) / nodes);
        log_bytes >= enough && (slot == turn.rank || log_bytes >= late)
    }

    /// Has snapshots written until the state machine ends.
    pub(super) async fn run(self, turn: Turn, raft: Raft, log: LogWriter, snapshots: Arc<Snapshots>) {
        let mut applied = snapshots.applied();
        // Held, it would keep the channel open for ever.
        let snapshots = {
            let weak = Arc::downgrade(&snapshots);
            drop(snapshots);
            weak
        };
        let mut asked: Option<(Option<LogId>, u64)> = None;
        while applied.changed().await.is_ok() {
            let now = *applied.borrow_and_update();
            let Some(newest) = snapshots.upgrade().map(|s| s.known()) else { return };
            // One is being written, or could not be: not again before the next slot.
            if asked.is_some_and(|(of, at)| of == newest.last && now < at + self.slot_entries) {
                continue;
            }
            let behind = newest.last.map_or(0, |last| last.index + 1);
            let grown = log.with(|log| log.bytes_from(behind));
            if self.is_due(turn, now, grown, newest.bytes) {
                asked = Some((newest.last, now));
                if raft.trigger().snapshot().await.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule { floor_bytes: 10_000, slot_entries: 10, compare_entries: 1 << 16 };

    /// The entries after which each of three nodes begins a snapshot, while entries of 100 bytes are applied.
    fn begun(entries: u64, snapshot_bytes: u64) -> Vec<Vec<u64>> {
        let run = |rank| {
            let mut last = 0;
            let due = |n: &u64| {
                let due = SCHEDULE.is_due(Turn { rank, nodes: 3 }, *n, (n - last) * 100, snapshot_bytes);
                if due {
                    last = *n;
                }
                due
            };
            (1..=entries).filter(due).collect()
        };
        (0..3).map(run).collect()
    }

    #[test]
    fn snapshots_together_cost_no_more_than_the_log_whatever_the_size_of_the_state() {
        for snapshot_bytes in [0, 5_000, 100_000] {
            for times in begun(10_000, snapshot_bytes) {
                assert!(times.len() as u64 * snapshot_bytes <= 10_000 * 100);
                assert!(times.len() as u64 * SCHEDULE.floor_bytes <= 10_000 * 100);
                assert!(!times.is_empty());
            }
        }
    }

    #[test]
    fn nodes_that_apply_the_same_entries_do_not_begin_at_the_same_time() {
        for snapshot_bytes in [0, 70_000] {
            let all = begun(10_000, snapshot_bytes);
            for (rank, times) in all.iter().enumerate() {
                assert!(times.iter().all(|t| t / 10 % 3 == rank as u64), "node {rank}: {times:?}");
            }
        }
    }

    #[test]
    fn a_node_whose_turn_does_not_come_begins_when_the_log_has_grown_twice() {
        let turn = Turn { rank: 1, nodes: 3 };
        assert!(!SCHEDULE.is_due(turn, 15, 9_999, 0), "not enough");
        assert!(SCHEDULE.is_due(turn, 15, 10_000, 0), "its turn");
        assert!(!SCHEDULE.is_due(turn, 5, 23_332, 0), "not its turn");
        assert!(SCHEDULE.is_due(turn, 5, 23_333, 0));
    }
}
