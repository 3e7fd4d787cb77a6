//! What others change on this machine and this node puts right: each thing is said at once, and then once a minute at
//! most, however often it comes back.

use std::time::Duration;

use proxy_core::time::MonoTime;

/// The same thing is said again after this time.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// Different things that are remembered; the oldest gives way.
const MAX_THINGS: usize = 16;

/// One thing that was put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amended {
    /// What it was, and what was done.
    pub what: String,
    /// How often since the start.
    pub times: u64,
    /// When last.
    pub at: MonoTime,
    said_at: MonoTime,
}

/// All of them, the one that was said longest ago first.
#[derive(Debug, Default)]
pub struct Amends(Vec<Amended>);

impl Amends {
    /// Takes note, and gives back the line that is due.
    pub fn note(&mut self, now: MonoTime, what: String) -> Option<String> {
        if let Some(known) = self.0.iter_mut().find(|a| a.what == what) {
            known.times += 1;
            known.at = now;
            if now.since(known.said_at) < SAY_EVERY {
                return None;
            }
            known.said_at = now;
            return Some(format!("{what} ({} times since the start)", known.times));
        }
        if self.0.len() >= MAX_THINGS {
            self.0.remove(0);
        }
        self.0.push(Amended { what: what.clone(), times: 1, at: now, said_at: now });
        Some(what)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Amended> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> MonoTime {
        MonoTime(s * 1_000_000_000)
    }

    #[test]
    fn what_comes_back_again_and_again_is_one_line_a_minute_with_its_number() {
        let mut amends = Amends::default();
        let said: Vec<String> =
            (0..=60).filter_map(|s| amends.note(at(s), String::from("removed"))).collect();
        assert_eq!(said, ["removed", "removed (61 times since the start)"]);
        assert_eq!(amends.note(at(61), String::from("another")), Some(String::from("another")));
        for n in 0..100 {
            amends.note(at(70), n.to_string());
        }
        assert_eq!(amends.all().len(), MAX_THINGS, "it takes no more room than that");
    }
}
