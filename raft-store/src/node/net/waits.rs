//! For how long the connections between nodes wait. They go with the times of the cluster: what is slow in one building
//! is usual between two cities.

use std::time::Duration;

/// The lease for which the waits below are made (150 ms); a longer one makes them longer in proportion.
const USUAL_LEASE: Duration = Duration::from_millis(150);

/// The waits of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Time to connect and authenticate. A SYN lost in a partition must not cost a second once it has healed.
    pub(super) connect: Duration,
    /// On the control lane, a question unanswered for so long ends the connection: the next one goes by a fresh one.
    pub(super) stall: Duration,
    /// On the bulk lane, a connection is stuck if the peer's kernel has acknowledged nothing new for so long, although
    /// what is under way was sent again (the kernel does that after 200 ms).
    pub(super) stuck: Duration,
    /// A connection on which the peer's kernel acknowledges nothing for so long is dead (`TCP_USER_TIMEOUT`).
    pub(super) dead: Duration,
    /// A peer counts as heard if it answered something small within this time.
    pub(super) heard: Duration,
}

impl Waits {
    /// Those of a cluster with this lease.
    #[must_use]
    pub fn of_lease(lease: Duration) -> Self {
        let ms = |usual: u64| {
            let usual = Duration::from_millis(usual);
            usual.max(usual.mul_f64(lease.as_secs_f64() / USUAL_LEASE.as_secs_f64()))
        };
        Self { connect: ms(200), stall: ms(200), stuck: ms(250), dead: ms(500), heard: ms(250) }
    }
}

impl Default for Waits {
    fn default() -> Self {
        Self::of_lease(USUAL_LEASE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_with_the_lease_and_never_shrink() {
        let ms = Duration::from_millis;
        assert_eq!(Waits::of_lease(ms(50)), Waits::default());
        assert_eq!(Waits::default().connect, ms(200));
        assert_eq!(Waits::of_lease(ms(600)).stall, ms(800));
    }
}
