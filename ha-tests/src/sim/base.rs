//! What everything in a simulated world shares: numbers from one seed, and the trace of what happened.

use std::collections::VecDeque;

/// Nanoseconds in a millisecond.
pub const MS: u64 = 1_000_000;

/// Lines of the trace that are kept for whoever asks why; the hash covers all.
pub const KEPT_LINES: usize = 400;

/// SplitMix64: a seed means the same in every release of every crate.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator of its own for `label`: what others draw does not change what it draws.
    #[must_use]
    pub fn of(seed: u64, label: u64) -> Self {
        let mut first = Self(seed ^ label.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Self(first.draw())
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.draw() % (high.saturating_sub(low) + 1)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.draw() % 100 < percent
    }

    /// One of these; `None` if there are none.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let n = u64::try_from(from.len()).ok().filter(|n| *n > 0)?;
        from.get(usize::try_from(self.draw() % n).ok()?).copied()
    }
}

/// FNV-1a, 64 bits.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    mix(0xcbf2_9ce4_8422_2325, bytes)
}

fn mix(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// What happened, line by line.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    count: u64,
    kept: VecDeque<String>,
    print: bool,
    now_ms: u64,
}

impl Trace {
    /// An empty trace; `print` shows each line as it comes.
    #[must_use]
    pub fn new(print: bool) -> Self {
        Self { hash: hash(&[]), count: 0, kept: VecDeque::new(), print, now_ms: 0 }
    }

    /// Lines that follow happen at this time.
    pub fn at(&mut self, ms: u64) {
        self.now_ms = ms;
    }

    /// Adds a line.
    pub fn say(&mut self, what: impl AsRef<str>) {
        let line = format!("{:>6} {}", self.now_ms, what.as_ref());
        if self.print {
            say!("{line}");
        }
        self.hash = mix(self.hash, line.as_bytes());
        self.count += 1;
        if self.kept.len() == KEPT_LINES {
            self.kept.pop_front();
        }
        self.kept.push_back(line);
    }

    /// Hash over all lines so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Number of lines so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The newest lines.
    pub fn tail(&self, count: usize) -> impl Iterator<Item = &str> {
        self.kept.iter().skip(self.kept.len().saturating_sub(count)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_numbers_and_labels_draw_others() {
        let draws = |mut r: Rng| (0..4).map(|_| r.draw()).collect::<Vec<_>>();
        assert_eq!(draws(Rng::of(7, 1)), draws(Rng::of(7, 1)));
        assert_ne!(draws(Rng::of(7, 1)), draws(Rng::of(7, 2)));
        assert_ne!(draws(Rng::of(7, 1)), draws(Rng::of(8, 1)));
    }

    #[test]
    fn the_hash_covers_lines_that_are_not_kept() {
        let trace = |first: &str| {
            let mut trace = Trace::new(false);
            trace.say(first);
            (0..KEPT_LINES).for_each(|_| trace.say("more"));
            (trace.hash(), trace.tail(KEPT_LINES).all(|l| l.ends_with("more")))
        };
        assert!(trace("a").1);
        assert_ne!(trace("a").0, trace("b").0);
    }
}
