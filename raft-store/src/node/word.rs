//! What the others' disks do, by their own word: a leader asks while its proposals do not commit, because another node is
//! a better leader only if a majority could write what that one proposes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use proxy_core::time::MonoTime;

use super::client::{Lane, Transport};
use super::core::Core;
use super::inbound::{DiskWord, Rpc, RpcReply};
use super::types::RaftId;
use crate::log::Syncs;

/// Pause between two rounds of questions.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// The others are asked while the oldest proposal has been waiting for longer than this.
const ASK_AFTER: Duration = Duration::from_millis(400);
/// A word counts for this long.
const WORD_COUNTS: Duration = Duration::from_secs(1);

/// The newest words, and when they came.
#[derive(Debug, Default)]
pub(super) struct Words(Mutex<BTreeMap<RaftId, (MonoTime, DiskWord)>>);

impl Words {
    fn note(&self, from: RaftId, at: MonoTime, word: DiskWord) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(from, (at, word));
    }

    /// The word of `peer`, if it is young enough to count.
    pub(super) fn of(&self, peer: RaftId, now: MonoTime) -> Option<DiskWord> {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        words.get(&peer).filter(|(at, _)| now.since(*at) < WORD_COUNTS).map(|(_, word)| *word)
    }

    /// Whether a majority of every voter set could write what another leader proposes. `own`: the disk of `me` does.
    pub(super) fn majority(&self, me: RaftId, own: bool, voters: &[BTreeSet<RaftId>], now: MonoTime) -> bool {
        let writes = |id: &&RaftId| {
            if **id == me { own } else { self.of(**id, now).is_some_and(|word| word.goes_on) }
        };
        voters.iter().all(|set| set.iter().filter(writes).count() > set.len() / 2)
    }
}

impl From<Syncs> for DiskWord {
    fn from(syncs: Syncs) -> Self {
        let us = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        Self {
            goes_on: syncs.go_on(),
            slowest_us: us(syncs.slowest),
            waiting_us: syncs.waiting.map_or(0, |waiting| us(waiting).max(1)),
        }
    }
}

impl<T: Transport> Core<T> {
    /// Asks the others how their disks do, for as long as this node leads and its proposals do not commit. Ends with
    /// Raft: a core that has retired must not be kept by it.
    pub(super) async fn ask_for_words(self) {
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            if self.raft().metrics().borrow_watched().running_state.is_err() {
                return;
            }
            let is_late = self.oldest().is_some_and(|oldest| oldest.since.elapsed() >= ASK_AFTER);
            if !is_late {
                continue;
            }
            let membership = self.raft().metrics().borrow_watched().membership_config.clone();
            for (&peer, &member) in membership.nodes().filter(|(peer, _)| **peer != self.config().id) {
                let core = self.clone();
                tokio::spawn(async move {
                    let clients = core.clients();
                    let asked = (clients.clock)().mono;
                    let call = clients.transport.call(peer, member, Lane::Control, Rpc::Disk, ASK_EVERY);
                    if let Ok(RpcReply::Disk(word)) = call.await {
                        core.words().note(peer, asked, word);
                    }
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_for_a_second_and_a_majority_needs_disks_that_write() {
        let at = |ms: u64| MonoTime(ms * 1_000_000);
        let word = |goes_on| DiskWord { goes_on, slowest_us: 1, waiting_us: 0 };
        let words = Words::default();
        let three = [BTreeSet::from([1, 2, 3])];
        assert!(!words.majority(1, true, &three, at(0)), "nobody has said anything");
        words.note(2, at(0), word(true));
        assert!(words.majority(1, true, &three, at(999)));
        assert!(!words.majority(1, true, &three, at(1_000)), "too old");
        assert!(!words.majority(1, false, &three, at(500)));
        words.note(3, at(400), word(true));
        assert!(words.majority(1, false, &three, at(500)), "the others alone");
        words.note(2, at(500), word(false));
        assert!(!words.majority(1, false, &three, at(500)));
    }
}
