//! Invariant 14: while a majority runs and hears each other, with an appliance in it, nobody serves for no longer than
//! `bound`.
//!
//! The bound is what an operator is promised: the lease of a holder that is gone, three elections, and the time in which
//! the service comes up. While a disk takes time, or a way drops large messages, it does not
//! count: a leader that cannot commit gives up after its own bound (`laws::commits`). A node that has given up counts again when
//! its silence is over; one whose disk has not a byte left, when there is room again. Nor does time count while a node leads whose
//! control thread does not run and whose guard, which would kill it for that, is stopped, too.
//!
//! A set counts only while none of it hears a node that does not hear it: the simulated network carries what such a node
//! says for as long as the cut lasts. Between real nodes a connection without answers is closed after 200 ms, and no new one
//! is made without both directions.

use raft_store::node::Place;

use crate::sim::base::MS;
use crate::sim::distance::Distance;

/// Time in which whoever was granted the service brings it up, ns, with the rounds of the control thread and the delays
/// of the network in it.
const START: u64 = 400 * MS;
/// Rounds of messages from the loss of a holder to the first answer of the next one: pre-votes, votes, the first entry, the
/// transfer and its vote, the grant.
const ROUND_TRIPS: u64 = 8;

/// Longest time without service, ns. The longest election timeout is as long as the lease.
fn bound(distance: Distance) -> u64 {
    let lease = u64::try_from(distance.lease().as_nanos()).unwrap_or(u64::MAX);
    let round_trip = distance.delay_ms().map_or(0, |(_, most)| 2 * most * MS);
    4 * lease + START + ROUND_TRIPS * round_trip
}

/// What the law is told of one node.
#[derive(Debug, Clone)]
pub struct Node {
    /// Which.
    pub place: Place,
    /// It may hold the service.
    pub appliance: bool,
    /// It runs, has run for a while, and nothing stops it.
    pub able: bool,
    /// Whom it hears and is heard by, without loss or delay.
    pub near: Vec<Place>,
    /// Whom it hears without being heard.
    pub unheard_by: Vec<Place>,
}

/// Since when sets of nodes are able, and when somebody served last.
#[derive(Debug)]
pub struct Law {
    bound: u64,
    /// By set, as bits in the order of the nodes.
    since: Vec<Option<u64>>,
    served: Option<u64>,
    /// The longest time without service while there was a majority, ns.
    pub longest: u64,
}

impl Default for Law {
    fn default() -> Self {
        Self::of(Distance::Lan)
    }
}

impl Law {
    /// For nodes that are so far from each other.
    pub fn of(distance: Distance) -> Self {
        Self { bound: bound(distance), since: Vec::new(), served: None, longest: 0 }
    }

    /// One moment. The places of a majority that has waited for too long.
    pub fn tick(&mut self, now: u64, nodes: &[Node], serves: bool) -> Option<Vec<Place>> {
        if serves {
            self.served = Some(now);
        }
        // Before the first service the cluster is not complete.
        let served = self.served?;
        self.since.resize(1 << nodes.len(), None);
        let mut late = None;
        for (set, since) in self.since.iter_mut().enumerate() {
            let members = || nodes.iter().enumerate().filter(|(bit, _)| set & 1 << bit != 0).map(|(_, n)| n);
            let all_hear = |node: &Node| {
                members().all(|other| other.place == node.place || node.near.contains(&other.place))
            };
            let can = 2 * members().count() > nodes.len()
                && members().any(|n| n.appliance)
                && members().all(|n| n.able && all_hear(n) && n.unheard_by.is_empty());
            if !can {
                *since = None;
                continue;
            }
            let waited = now - (*since.get_or_insert(now)).max(served);
            self.longest = self.longest.max(waited);
            if waited > self.bound {
                late.get_or_insert_with(|| members().map(|n| n.place).collect());
            }
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: u64 = 1_000 * MS;

    fn nodes(able: [bool; 3]) -> Vec<Node> {
        let near = |place| (1..=3).filter(|p| *p != place).collect();
        let node = |(place, able)| Node {
            place,
            appliance: place < 3,
            able,
            near: near(place),
            unheard_by: Vec::new(),
        };
        (1..).zip(able).map(node).collect()
    }

    #[test]
    fn only_a_majority_that_was_able_all_the_time_is_blamed() {
        let mut law = Law::default();
        assert_eq!(law.tick(0, &nodes([true; 3]), true), None);
        assert_eq!(law.tick(BOUND, &nodes([true; 3]), false), None);
        assert!(
            law.tick(BOUND + 1, &nodes([false, true, true]), false).is_some(),
            "two were there all the time"
        );
        assert_eq!(
            law.tick(BOUND + 2, &nodes([true, false, false]), false),
            None,
            "one alone can do nothing"
        );
        assert_eq!(law.tick(2 * BOUND, &nodes([true; 3]), false), None, "it begins anew");
        assert_eq!(law.tick(2 * BOUND + 1, &nodes([true; 3]), true), None);
    }

    #[test]
    fn a_majority_without_an_appliance_cannot_serve() {
        let mut law = Law::default();
        let mut all = nodes([true; 3]);
        assert_eq!(law.tick(0, &all, true), None);
        all.iter_mut().for_each(|n| n.appliance = false);
        assert_eq!(law.tick(9 * BOUND, &all, false), None);
    }
}
