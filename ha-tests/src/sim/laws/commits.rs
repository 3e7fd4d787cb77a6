//! Invariant 15: nobody stays active for long while nothing that it proposes is committed, and another node could do it.

use raft_store::node::Place;

use crate::sim::base::MS;
use crate::sim::distance::Distance;

/// Time in which a holder that cannot commit, while another node could, must have given up, ns: beyond its own bound, and
/// beyond the pause after it has given up in vain.
const GRACE: u64 = 1_500 * MS;

/// Since when it has been so.
#[derive(Debug)]
pub struct Law {
    grace: u64,
    since: Option<(Place, u64)>,
}

impl Default for Law {
    fn default() -> Self {
        Self::of(Distance::Lan)
    }
}

impl Law {
    /// For nodes that are so far from each other.
    #[must_use]
    pub fn of(distance: Distance) -> Self {
        Self { grace: GRACE * distance.patience(), since: None }
    }

    /// `late`: who is active, if nothing of it has been committed for longer than its bound; `could`: another node is
    /// whole, and hears and is heard by a majority. What is wrong, if anything.
    pub fn look(&mut self, now: u64, late: Option<Place>, could: bool) -> Option<String> {
        let Some(place) = late.filter(|_| could) else {
            self.since = None;
            return None;
        };
        let since = match self.since {
            Some((who, since)) if who == place => since,
            _ => self.since.insert((place, now)).1,
        };
        (now - since > self.grace).then(|| {
            format!("invariant 15: node {place} stays active and commits nothing, and another node could")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_stays_too_long_is_accused_and_only_while_another_could() {
        let mut law = Law::default();
        for now in 0..1_500 {
            assert_eq!(law.look(now * MS, Some(1), now % 1_000 != 999), None, "{now}");
        }
        assert_eq!(law.look(1_500 * MS, None, true), None);
        assert_eq!(law.look(1_501 * MS, Some(1), true), None);
        assert!(law.look(3_002 * MS, Some(1), true).is_some());
        assert_eq!(law.look(3_003 * MS, Some(2), true), None, "another one");
    }
}
