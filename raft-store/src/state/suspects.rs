//! Messages with which engines have died, as the cluster remembers them.

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::node::Place;

/// Most messages that are remembered; the oldest gives way.
pub const MAX_SUSPECTS: usize = 64;
/// So many deaths prove that it was the message.
pub const DEATHS_THAT_PROVE: u32 = 2;

/// One message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Suspect {
    /// Of the message (`proxy_core::msg::fingerprint_of`).
    #[n(0)]
    pub fingerprint: u64,
    /// Where an engine has died with it, and the moment that names the death; at most [`DEATHS_THAT_PROVE`].
    #[cbor(n(1), with = "proxy_core::wire::list", has_nil)]
    pub deaths: Vec<(Place, u64)>,
}

impl Suspect {
    /// Whether it is proven.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.deaths.len() >= DEATHS_THAT_PROVE as usize
    }

    /// Whether there is no need to tell of that death (again).
    #[must_use]
    pub fn is_told(&self, place: Place, moment: u64) -> bool {
        self.is_proven() || self.deaths.contains(&(place, moment))
    }
}

/// One more death.
pub(super) fn add(all: &mut Vec<Suspect>, fingerprint: u64, place: Place, moment: u64) {
    let at = match all.iter().position(|s| s.fingerprint == fingerprint) {
        Some(at) => at,
        None => {
            if all.len() == MAX_SUSPECTS {
                all.remove(0);
            }
            all.push(Suspect { fingerprint, deaths: Vec::new() });
            all.len() - 1
        }
    };
    if let Some(suspect) = all.get_mut(at).filter(|s| !s.is_told(place, moment)) {
        suspect.deaths.push((place, moment));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_different_deaths_prove_it_and_one_that_is_told_twice_does_not() {
        let mut all = Vec::new();
        add(&mut all, 7, 1, 100);
        add(&mut all, 7, 1, 100);
        assert!(!all[0].is_proven());
        add(&mut all, 7, 2, 100);
        add(&mut all, 7, 2, 200);
        assert!(all[0].is_proven() && all[0].deaths.len() == 2);
    }

    #[test]
    fn they_are_bounded() {
        let mut all = Vec::new();
        (0..200).for_each(|n| add(&mut all, n, 1, n));
        assert_eq!((all.len(), all[0].fingerprint), (MAX_SUSPECTS, 200 - MAX_SUSPECTS as u64));
    }
}
