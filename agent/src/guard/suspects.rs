//! The messages that an agent was at when it crashed, as its guard remembers them for the agents that follow.

use std::fmt::Write;

/// Environment variable in which an agent finds them: `fingerprint:deaths:moment`, in hexadecimal, separated by commas.
pub const SUSPECTS: &str = "RELEVO_SUSPECTS";
/// Most that are remembered; the oldest gives way.
pub const MAX_SUSPECTS: usize = 64;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspect {
    /// Of the message.
    pub fingerprint: u64,
    /// Agents of this guard that have died with it.
    pub deaths: u32,
    /// The last of these deaths, ms since 1970: names the death.
    pub moment: u64,
}

/// All of them, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspects(Vec<Suspect>);

impl Suspects {
    /// An agent has died at `moment` with this message in hand.
    pub fn add(&mut self, fingerprint: u64, moment: u64) {
        match self.0.iter_mut().find(|s| s.fingerprint == fingerprint) {
            Some(known) => {
                known.deaths = known.deaths.saturating_add(1);
                known.moment = moment;
            }
            None => {
                if self.0.len() == MAX_SUSPECTS {
                    self.0.remove(0);
                }
                self.0.push(Suspect { fingerprint, deaths: 1, moment });
            }
        }
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> &[Suspect] {
        &self.0
    }

    /// For [`SUSPECTS`].
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for s in &self.0 {
            // A String takes all that is written.
            let _ = write!(out, "{:x}:{:x}:{:x},", s.fingerprint, s.deaths, s.moment);
        }
        out
    }

    /// From [`SUSPECTS`]; what is not understood is left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let one = |part: &str| {
            let mut numbers = part.split(':').map(|n| u64::from_str_radix(n, 16).ok());
            let (fingerprint, deaths, moment) = (numbers.next()??, numbers.next()??, numbers.next()??);
            Some(Suspect { fingerprint, deaths: u32::try_from(deaths).unwrap_or(u32::MAX), moment })
        };
        Self(text.split(',').filter_map(one).take(MAX_SUSPECTS).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_back_from_their_text_and_are_bounded() {
        let mut suspects = Suspects::default();
        for n in 0..MAX_SUSPECTS as u64 + 3 {
            suspects.add(n + 1, 10 * n);
        }
        suspects.add(9, 77);
        assert_eq!(suspects.list().len(), MAX_SUSPECTS);
        let nine = suspects.list().iter().find(|s| s.fingerprint == 9).expect("kept");
        assert_eq!((nine.deaths, nine.moment), (2, 77));
        assert_eq!(suspects.list()[0].fingerprint, 4, "the oldest have gone");
        assert_eq!(Suspects::parse(&suspects.text()), suspects);
        assert_eq!(Suspects::parse("x,1:,1:2,:::,"), Suspects::default());
    }
}
