//! Which destinations get a request, in which order.
//!
//! | algorithm | first | then |
//! |---|---|---|
//! | Call-ID, From user, To user | highest hash of (key, destination) | the next highest |
//! | round robin | the turn's | those after it, around |
//! | priority | the highest | the next highest |
//! | weight | the turn's, each `weight` turns of all | by weight |
//! | call load | fewest calls, those that wait for their commit included; those at their `maxload` not at all | the next fewest |
//!
//! The hash is taken with each destination and not modulo their number, so that one that dies gives away its own
//! calls and no others. Inactive and disabled ones are left out. Equal ones stand in the order of the set.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::Algorithm;
use crate::state::SipState;
use crate::state::dispatcher::Destination;

/// What the choice is made by.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'c> {
    /// How.
    pub algorithm: Algorithm,
    /// What is hashed: Call-ID, or a user.
    pub key: &'c str,
    /// Number of the turn, counted by whoever chooses.
    pub turn: u64,
    /// Calls at each destination that no load counts yet.
    pub ahead: &'c BTreeMap<String, u32>,
}

/// The destinations of a set that may be tried, in order.
#[must_use]
pub fn order<'s>(state: &'s SipState, set: u32, choice: Choice<'_>) -> Vec<&'s Destination> {
    let mut list: Vec<&Destination> =
        state.dispatcher().sets.get(&set).into_iter().flatten().filter(|d| d.is_eligible()).collect();
    match choice.algorithm {
        Algorithm::CallId | Algorithm::FromUser | Algorithm::ToUser => {
            list.sort_by_cached_key(|d| Reverse(hash(choice.key, &d.uri)));
        }
        Algorithm::RoundRobin => around(&mut list, choice.turn),
        // The set is in this order.
        Algorithm::Priority => {}
        Algorithm::Weight => by_weight(&mut list, choice.turn),
        Algorithm::CallLoad => {
            let ahead = |d: &Destination| choice.ahead.get(&d.uri).copied().unwrap_or(0);
            let load = |d: &Destination| state.load_of(set, &d.uri).saturating_add(ahead(d));
            list.retain(|d| d.attrs.max_load == 0 || load(d) < d.attrs.max_load);
            list.sort_by_cached_key(|d| load(d));
        }
    }
    list
}

fn hash(key: &str, uri: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(&(key.len() as u64).to_le_bytes());
    hasher.write(key.as_bytes());
    hasher.write(uri.as_bytes());
    hasher.finish()
}

fn around(list: &mut [&Destination], turn: u64) {
    let first = turn.checked_rem(list.len() as u64).unwrap_or(0);
    list.rotate_left(usize::try_from(first).unwrap_or(0));
}

/// Each destination has as many of the slots as its weight says, and each turn takes a slot far from the last one: in
/// as many turns as there are slots each destination comes exactly as often as it should. Without any weight all are
/// equal.
fn by_weight(list: &mut Vec<&Destination>, turn: u64) {
    let slots: u64 = list.iter().map(|d| u64::from(d.attrs.weight)).sum();
    if slots == 0 {
        around(list, turn);
        return;
    }
    // Next to the golden section: turns that follow one another are spread over all slots.
    let mut stride = (slots * 618 / 1000).max(1);
    while gcd(stride, slots) != 1 {
        stride += 1;
    }
    let mut slot = u64::try_from(u128::from(turn) * u128::from(stride) % u128::from(slots)).unwrap_or(0);
    let chosen = list.iter().position(|d| {
        let weight = u64::from(d.attrs.weight);
        let hit = slot < weight;
        slot = slot.saturating_sub(weight);
        hit
    });
    let first = chosen.map(|index| list.remove(index));
    list.sort_by_key(|d| Reverse(d.attrs.weight));
    if let Some(first) = first {
        list.insert(0, first);
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::SipCommand;
    use crate::state::dispatcher::{Attributes, DispatcherCommand, flag};
    use crate::time::WallTime;

    fn set(list: &[(&str, i32, &str)]) -> SipState {
        let mut state = SipState::default();
        for (uri, priority, attrs) in list {
            let destination = Box::new(Destination {
                uri: (*uri).to_owned(),
                flags: 0,
                priority: *priority,
                attrs: Attributes::parse(attrs),
                description: String::new(),
                count: 0,
                changed_at: WallTime(0),
                seen_at: WallTime(0),
            });
            state.apply(&SipCommand::Dispatcher(DispatcherCommand::Put { set: 1, destination }));
        }
        state
    }

    fn mark(state: &mut SipState, uri: &str, flags: u32) {
        let command =
            DispatcherCommand::SetState { set: 1, uri: Some(uri.to_owned()), flags, at: WallTime(5) };
        state.apply(&SipCommand::Dispatcher(command));
    }

    fn uris(state: &SipState, algorithm: Algorithm, key: &str, turn: u64) -> Vec<String> {
        order(state, 1, Choice { algorithm, key, turn, ahead: &BTreeMap::new() })
            .iter()
            .map(|d| d.uri.clone())
            .collect()
    }

    #[test]
    fn round_robin_takes_turns_among_the_living_and_fails_over_around() {
        let mut state = set(&[("sip:a", 0, ""), ("sip:b", 0, ""), ("sip:c", 0, "")]);
        assert_eq!(uris(&state, Algorithm::RoundRobin, "", 1), ["sip:b", "sip:c", "sip:a"]);
        mark(&mut state, "sip:b", flag::INACTIVE);
        assert_eq!(uris(&state, Algorithm::RoundRobin, "", 1), ["sip:c", "sip:a"]);
        mark(&mut state, "sip:b", flag::TRYING);
        mark(&mut state, "sip:a", flag::DISABLED);
        assert_eq!(uris(&state, Algorithm::RoundRobin, "", 0), ["sip:b", "sip:c"]);
    }

    #[test]
    fn a_set_that_is_empty_or_not_there_has_nobody() {
        let mut state = set(&[("sip:a", 0, "")]);
        mark(&mut state, "sip:a", flag::INACTIVE);
        for (algorithm, _, _) in Algorithm::ALL {
            assert!(uris(&state, algorithm, "k", 7).is_empty());
        }
        assert!(
            order(
                &state,
                9,
                Choice { algorithm: Algorithm::Weight, key: "", turn: 3, ahead: &BTreeMap::new() }
            )
            .is_empty()
        );
    }

    #[test]
    fn a_hash_gives_the_same_call_the_same_destination_and_a_death_moves_only_its_own() {
        let mut state = set(&[("sip:a", 0, ""), ("sip:b", 0, ""), ("sip:c", 0, "")]);
        let keys: Vec<String> = (0..300).map(|n| format!("call-{n}")).collect();
        let before: Vec<Vec<String>> = keys.iter().map(|k| uris(&state, Algorithm::CallId, k, 0)).collect();
        mark(&mut state, "sip:b", flag::INACTIVE);
        for (key, old) in keys.iter().zip(&before) {
            let new = uris(&state, Algorithm::CallId, key, 1);
            let expected: Vec<&String> = old.iter().filter(|u| *u != "sip:b").collect();
            assert_eq!(new.iter().collect::<Vec<_>>(), expected);
        }
        let at_b = before.iter().filter(|o| o[0] == "sip:b").count();
        assert!((60..140).contains(&at_b), "{at_b} of 300");
    }

    #[test]
    fn weights_are_shares_exactly_and_spread() {
        let state = set(&[("sip:a", 0, "weight=70"), ("sip:b", 0, "weight=20"), ("sip:c", 0, "weight=10")]);
        let mut count: BTreeMap<String, u32> = BTreeMap::new();
        for turn in 0..100 {
            *count.entry(uris(&state, Algorithm::Weight, "", turn)[0].clone()).or_default() += 1;
        }
        assert_eq!(count.values().copied().collect::<Vec<_>>(), [70, 20, 10]);
        let first: Vec<String> = (0..10).map(|t| uris(&state, Algorithm::Weight, "", t)[0].clone()).collect();
        assert!(first.iter().any(|u| u != "sip:a"), "{first:?}");
        assert_eq!(uris(&set(&[("sip:a", 0, ""), ("sip:b", 0, "")]), Algorithm::Weight, "", 1)[0], "sip:b");
    }

    #[test]
    fn priority_is_the_highest_first() {
        let state = set(&[("sip:low", 1, ""), ("sip:high", 9, ""), ("sip:mid", 5, "")]);
        assert_eq!(uris(&state, Algorithm::Priority, "", 3), ["sip:high", "sip:mid", "sip:low"]);
    }

    #[test]
    fn algorithms_are_known_by_name_and_by_kamailios_number() {
        assert_eq!(Algorithm::parse("weight"), Some(Algorithm::Weight));
        assert_eq!(Algorithm::parse("10"), Some(Algorithm::CallLoad));
        assert_eq!(Algorithm::parse("3"), None);
        assert_eq!(Algorithm::CallLoad.name(), "call-load");
    }
}
