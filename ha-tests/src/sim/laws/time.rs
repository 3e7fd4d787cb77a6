//! Invariant 17: of the time of the cluster.
//!
//! | what is committed | is right if |
//! |---|---|
//! | a stamp | it is no earlier than the one before, and no later than the world allows |
//! | an expiry | the world allows that time: nothing ends before its time, whatever wall clocks show |
//! | a CDR | it counts no longer than the call has been there |
//!
//! The world allows as much as has passed in it since the first stamp, a little more for fast oscillators, and what a leader has
//! added for an outage of all nodes, which is bounded. That the time is not late by much is not judged: takeovers lengthen.

use proxy_core::state::{AccountRecord, SipCommand};
use proxy_core::time::WallTime;
use raft_store::time::{MAX_OUTAGE, Stamp};

use crate::sim::base::MS;

/// A stamp is on its way for some time before it is committed, ms.
const SLACK_MS: u64 = 1_000;
/// Oscillators are fast by up to so much of a thousand.
const FAST_PERMILLE: u64 = 8;
/// So much of an outage added by wall clocks that are set as they like is more than the phones of a world bear, ms.
const MUCH_MS: u64 = 20_000;

/// What is known of the time.
#[derive(Debug, Default)]
pub struct Law {
    /// Time of the world, ns.
    pub now: u64,
    /// Time of the world (ms) and of the cluster at the first stamp.
    first: Option<(u64, u64)>,
    newest: u64,
    skipped: u64,
    last_skip: u64,
}

impl Law {
    /// So late it may be in the cluster; nothing is known before the first stamp.
    fn latest(&self) -> Option<u64> {
        let (world, time) = self.first?;
        let passed = (self.now / MS).saturating_sub(world);
        Some(time + passed + passed * FAST_PERMILLE / 1000 + SLACK_MS + self.skipped)
    }

    /// A stamp is committed. What is wrong with it.
    pub fn stamped(&mut self, stamp: &Stamp) -> Option<String> {
        self.first.get_or_insert((self.now / MS, stamp.time.0));
        // It is repeated until the leader knows that it was heard.
        if stamp.skipped_ms != self.last_skip {
            self.last_skip = stamp.skipped_ms;
            self.skipped += stamp.skipped_ms;
        }
        let most = self.latest().unwrap_or(u64::MAX);
        self.newest = self.newest.max(stamp.time.0);
        if stamp.skipped_ms > most_skipped(self.now) {
            return Some(format!("goes forward by {} ms at once", stamp.skipped_ms));
        }
        (stamp.time.0 > most).then(|| format!("is at {}, and cannot be later than {most}", stamp.time.0))
    }

    /// An expiry is committed. What is wrong with it.
    #[must_use]
    pub fn expires(&self, command: &SipCommand) -> Option<String> {
        let (SipCommand::Expire { up_to: WallTime(up_to) }, Some(latest)) = (command, self.latest()) else {
            return None;
        };
        (*up_to > latest).then(|| format!("lets end what ends at {up_to}, and it is no later than {latest}"))
    }

    /// What is wrong with the times of a CDR whose call began at `begun`, ns of the world.
    #[must_use]
    pub fn of_record(&self, record: &AccountRecord, begun: u64) -> Option<String> {
        let times = record.times?;
        let passed = self.now.saturating_sub(begun) / MS;
        let most = passed + passed * FAST_PERMILLE / 1000 + SLACK_MS + self.skipped;
        let counted = times.duration_ms() + times.setup_ms();
        (counted > most)
            .then(|| format!("counts {counted} ms for {}, which has been there for {passed}", record.call_id))
    }

    /// Whether an outage of all nodes has taken so much from what was under way that calls and registrations may have ended.
    #[must_use]
    pub fn has_skipped_much(&self) -> bool {
        self.skipped > MUCH_MS
    }
}

/// What a leader may add: the bound, or what it has counted by itself since the world began.
fn most_skipped(now: u64) -> u64 {
    u64::try_from(MAX_OUTAGE.as_millis()).unwrap_or(u64::MAX) + now / MS
}
