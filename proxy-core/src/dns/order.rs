//! The order in which SRV records are tried: RFC 2782, with a seed in place of a random number.
//!
//! The same seed gives the same order, so that a request that comes again goes where it went before, on whichever node.

use super::Srv;

/// The records in the order to be tried: by priority, and within one priority drawn by weight.
#[must_use]
pub fn ordered(mut records: Vec<Srv>, seed: u64) -> Vec<Srv> {
    // The DNS gives records in any order; the draw must not depend on it. Within a priority, weight 0 comes first.
    records.sort();
    records.dedup();
    let mut draw = Draw(seed);
    let mut result = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let priority = first.priority;
        let same = records.iter().take_while(|r| r.priority == priority).count();
        let group = records.get(..same).unwrap_or_default();
        let sum: u64 = group.iter().map(|r| u64::from(r.weight)).sum();
        // Of the sums 0..=sum the record is taken whose running sum first reaches the draw.
        let drawn = draw.up_to(sum);
        let mut running = 0;
        let chosen = group.iter().position(|r| {
            running += u64::from(r.weight);
            running >= drawn
        });
        result.push(records.remove(chosen.unwrap_or(0)));
    }
    result
}

/// SplitMix64.
struct Draw(u64);

impl Draw {
    /// A number from 0 to `most`.
    fn up_to(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // Weights are of 16 bits and records few: the bias of the remainder does not show.
        z % most.saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn srv(priority: u16, weight: u16, target: &str) -> Srv {
        Srv { priority, weight, port: 5060, target: target.to_owned() }
    }

    #[test]
    fn a_lower_priority_always_comes_first_rfc2782() {
        for seed in 0..200 {
            let order = ordered(vec![srv(20, 100, "c"), srv(10, 0, "a"), srv(10, 50, "b")], seed);
            assert_eq!(order.last().map(|r| r.target.as_str()), Some("c"));
            assert_eq!(order.len(), 3);
        }
    }

    #[test]
    fn weights_share_the_load_in_their_proportion_rfc2782() {
        let mut first = [0u32; 2];
        for seed in 0..10_000 {
            let order = ordered(vec![srv(1, 30, "a"), srv(1, 10, "b")], seed * 7919);
            first[usize::from(order[0].target == "b")] += 1;
        }
        // 31 of 41 sums go to the first of weight 10, then 30: expected about 7300 to 7700.
        assert!((7_000..8_000).contains(&first[0]), "{first:?}");
    }

    #[test]
    fn weight_zero_is_rarely_but_sometimes_first_rfc2782() {
        let zero =
            (0..10_000).filter(|s| ordered(vec![srv(1, 99, "a"), srv(1, 0, "z")], *s)[0].target == "z");
        assert!((20..400).contains(&zero.count()));
    }

    #[test]
    fn the_same_seed_gives_the_same_order_however_the_answer_was_sorted() {
        let mut records: Vec<Srv> = (0..8).map(|n| srv(1, n * 3, &format!("h{n}"))).collect();
        let order = ordered(records.clone(), 42);
        records.reverse();
        assert_eq!(ordered(records.clone(), 42), order);
        assert!((0..50).any(|seed| ordered(records.clone(), seed) != order));
    }
}
