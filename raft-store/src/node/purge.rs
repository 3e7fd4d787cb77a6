//! How far back the log is kept: to the older of the two snapshots, so that a damaged newest one costs nothing.
//!
//! openraft alone would keep a number of entries behind the newest snapshot. It is told to keep all of them, and what may
//! go is said here, whenever a new snapshot makes the former one the older one. Nothing goes where the former one is not
//! known, or may not be there any more: after a start, and after a snapshot was set aside, until the next but one.

use openraft::async_runtime::WatchReceiver;

use super::types::Raft;

/// Entries that openraft keeps behind a snapshot of its own accord: all.
pub(super) const KEPT_ENTRIES: u64 = u64::MAX;

/// The newest snapshot, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// The last index in it.
    newest: Option<u64>,
    /// How many were set aside when it was seen.
    lost: u64,
}

/// What may be purged when `now` is seen, and `before` was.
fn may_go(before: Seen, now: Seen) -> Option<u64> {
    before.newest.filter(|before| now.newest > Some(*before)).filter(|_| before.lost == now.lost)
}

/// Has the log purged until Raft ends. `lost` says how many snapshots were set aside until now.
pub(super) async fn keep_back(raft: Raft, lost: impl Fn() -> u64 + Send) {
    let mut metrics = raft.metrics();
    let newest = |m: &openraft::RaftMetrics<super::types::TypeConfig>| m.snapshot.map(|last| last.index);
    let mut before = Seen { newest: newest(&metrics.borrow_watched()), lost: lost() };
    while metrics.changed().await.is_ok() {
        let now = Seen { newest: newest(&metrics.borrow_watched()), lost: lost() };
        if now.newest == before.newest {
            continue;
        }
        if let Some(upto) = may_go(before, now)
            && raft.trigger().purge_log(upto).await.is_err()
        {
            return;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_kept_back_to_the_older_of_two_snapshots() {
        let snapshots = [None, Some(100), Some(100), Some(250), Some(400)];
        let seen = snapshots.map(|newest| Seen { newest, lost: 0 });
        let gone: Vec<_> = seen.windows(2).map(|w| may_go(w[0], w[1])).collect();
        assert_eq!(gone, [None, None, Some(100), Some(250)]);
    }

    #[test]
    fn a_snapshot_that_may_have_been_set_aside_lets_nothing_go() {
        let seen = |newest, lost| Seen { newest: Some(newest), lost };
        assert_eq!(may_go(seen(100, 0), seen(250, 1)), None, "the one before may be the one that is gone");
        assert_eq!(may_go(seen(250, 1), seen(400, 1)), Some(250));
    }
}
