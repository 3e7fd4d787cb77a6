//! How far back the log is kept: to the older of the two snapshots, so that a damaged newest one costs nothing.
//!
//! openraft alone would keep a number of entries behind the newest snapshot. It is told to keep all of them, and what may
//! go is said here, whenever a new snapshot makes the former one the older one. After a start the older one is not known,
//! so that nothing goes until the next snapshot.

use openraft::async_runtime::WatchReceiver;

use super::types::Raft;

/// Entries that openraft keeps behind a snapshot of its own accord: all.
pub(super) const KEPT_ENTRIES: u64 = u64::MAX;

/// What may be purged when the newest snapshot is `now` and was `before`; both are the last index in it.
fn may_go(before: Option<u64>, now: Option<u64>) -> Option<u64> {
    before.filter(|before| now > Some(*before))
}

/// Has the log purged until Raft ends.
pub(super) async fn keep_back(raft: Raft) {
    let mut metrics = raft.metrics();
    let newest = |m: &openraft::RaftMetrics<super::types::TypeConfig>| m.snapshot.map(|last| last.index);
    let mut before = newest(&metrics.borrow_watched());
    while metrics.changed().await.is_ok() {
        let now = newest(&metrics.borrow_watched());
        if now == before {
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
        let gone: Vec<_> = snapshots.windows(2).map(|w| may_go(w[0], w[1])).collect();
        assert_eq!(gone, [None, None, Some(100), Some(250)]);
    }
}
