//! openraft's own lease, which stands before every proposal: a leader whose lease is over refuses what it is asked to write.
//!
//! openraft counts an answer to a heartbeat only while it waits for it. On a busy machine, or right after an election, its
//! lease may be over for a moment although the others follow. A proposal that is refused then is asked again by nobody
//! but the phone, after half a second. So proposals wait for the lease as long as it is not late for longer than
//! [`LATE_LEASE`].
//!
//! | openraft's lease | proposals |
//! |---|---|
//! | young, or this node needs nobody | are handed over, as many entries at once as may be |
//! | more than half over, or there is none yet in this term | one entry at a time, which can be taken back: it may be over when openraft looks |
//! | over for less than [`LATE_LEASE`] | wait |
//! | over for longer; or this node does not lead | are handed over, and refused |
//!
//! None of it is about safety: an entry needs a majority, whatever the lease says.

use std::time::Duration;

use openraft::rt::Instant as _;
use openraft::{RaftMetrics, ServerState};
use tokio::time::Instant;

use super::types::TypeConfig;

/// By how much openraft's lease may be late until what waits for it is refused.
pub const LATE_LEASE: Duration = Duration::from_millis(500);

/// Whether an entry may be handed to openraft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Any number of them.
    Open,
    /// One at a time, and openraft may refuse it though this node leads.
    Unsure,
    /// None, until something changes, or until then.
    Shut(Instant),
}

/// What is known of the lease.
#[derive(Debug)]
pub(super) struct Lease {
    lasts: Duration,
    /// The term in which nobody has acknowledged this leader yet, and when that was seen first.
    fresh: Option<(u64, Instant)>,
}

impl Lease {
    /// One that lasts for so long.
    pub(super) fn new(lasts: Duration) -> Self {
        Self { lasts, fresh: None }
    }

    /// Looks at it.
    pub(super) fn look(&mut self, metrics: &RaftMetrics<TypeConfig>, now: Instant) -> Gate {
        let leads = metrics.state == ServerState::Leader && metrics.vote.committed;
        let membership = metrics.membership_config.membership();
        let mut voters = membership.voter_ids();
        let is_alone = voters.next() == Some(metrics.id) && voters.next().is_none();
        if !leads || is_alone {
            return Gate::Open;
        }
        self.gate(metrics.current_term, metrics.last_quorum_acked.map(|at| at.elapsed()), now)
    }

    /// `age`: of the newest question that a quorum has answered.
    fn gate(&mut self, term: u64, age: Option<Duration>, now: Instant) -> Gate {
        let late = match age {
            Some(age) if age < self.lasts / 2 => return Gate::Open,
            Some(age) if age < self.lasts => return Gate::Unsure,
            Some(age) => age - self.lasts,
            None => {
                let fresh = self.fresh.filter(|(of, _)| *of == term).unwrap_or((term, now));
                self.fresh = Some(fresh);
                now.saturating_duration_since(fresh.1)
            }
        };
        if late < LATE_LEASE { Gate::Shut(now + (LATE_LEASE - late)) } else { Gate::Open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_millis(150);

    #[test]
    fn a_lease_that_is_late_is_waited_for_within_a_bound_and_a_young_one_asks_nobody_to_wait() {
        let mut lease = Lease::new(LASTS);
        let now = Instant::now();
        let mut gate = |ms| lease.gate(1, Some(Duration::from_millis(ms)), now);
        assert_eq!(gate(74), Gate::Open);
        assert_eq!([gate(75), gate(149)], [Gate::Unsure; 2]);
        assert_eq!(gate(150), Gate::Shut(now + LATE_LEASE));
        assert_eq!(gate(649), Gate::Shut(now + Duration::from_millis(1)));
        assert_eq!(gate(650), Gate::Open, "openraft refuses it");
    }

    #[test]
    fn a_new_leader_is_waited_for_from_the_first_look_in_its_term() {
        let mut lease = Lease::new(LASTS);
        let begun = Instant::now();
        let until = begun + LATE_LEASE;
        assert_eq!(lease.gate(4, None, begun), Gate::Shut(until));
        assert_eq!(lease.gate(4, None, begun + LASTS), Gate::Shut(until));
        assert_eq!(lease.gate(4, None, until), Gate::Open);
        assert_eq!(lease.gate(6, None, until), Gate::Shut(until + LATE_LEASE), "another term, another time");
    }
}
