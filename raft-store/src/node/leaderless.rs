//! What a node says while nobody leads its cluster: who is missing, in which condition the others are, and what to do.
//!
//! A node whose own store is whole has no damage to report, and is where an operator looks first.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::inbound::Hello;
use super::types::Place;

/// Rounds of [`super::watch`] without a leader until it is said (s).
pub(super) const PATIENCE_ROUNDS: u32 = 5;
/// Rounds between two lines that say it (s).
const ROUNDS_PER_LINE: u32 = 60;

/// Whether a line is due after so many rounds without a leader.
pub(super) fn is_due(rounds: u32) -> bool {
    rounds >= PATIENCE_ROUNDS && (rounds - PATIENCE_ROUNDS).is_multiple_of(ROUNDS_PER_LINE)
}

fn nodes(places: &[Place]) -> String {
    let names: Vec<String> = places.iter().map(Place::to_string).collect();
    let word = if names.len() == 1 { "node" } else { "nodes" };
    format!("{word} {}", names.join(" and "))
}

/// Says why nobody leads, as far as a node can know that has heard `heard` of `places`.
pub(super) fn words(me: Place, own: &Hello, heard: &BTreeMap<Place, Hello>, places: &[Place]) -> String {
    let need = places.len() / 2 + 1;
    let others = || places.iter().copied().filter(|p| *p != me);
    let those =
        |is: &dyn Fn(Option<&Hello>) -> bool| others().filter(|p| is(heard.get(p))).collect::<Vec<_>>();
    let silent = those(&|h| h.is_none());
    let damaged = those(&|h| h.is_some_and(|h| h.damaged));
    let empty = those(&|h| h.is_some_and(|h| !h.damaged && !h.initialized));
    let whole = those(&|h| h.is_some_and(|h| !h.damaged && h.initialized));
    let mut out = format!("no node leads; {need} of {} with a whole store are needed.", places.len());
    let mut say = |who: &[Place], one: &str, many: &str| {
        if !who.is_empty() {
            // A String takes whatever is written to it.
            let _ = write!(out, " {}{}.", capital(&nodes(who)), if who.len() == 1 { one } else { many });
        }
    };
    say(
        &silent,
        " does not answer: start it, or mend the way to it",
        " do not answer: start them, or mend the way to them",
    );
    say(
        &damaged,
        " cannot use its store (its log names the file)",
        " cannot use their stores (their logs name the files)",
    );
    say(&empty, " has an empty store", " have empty stores");
    say(&whole, " has a whole store", " have whole stores");
    out += if own.initialized { " This node has a whole store." } else { " This node has an empty store." };
    let here = whole.len() + usize::from(own.initialized);
    if here + silent.len() < need && here > 0 {
        out += " What is whole is less than a majority, and cannot know whether it is the newest: `relevo store check` on \
                each node says up to where it goes, and `relevo store repair` on the one that has most begins from it";
    }
    out
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Hello {
        Hello { id: Some(1), initialized: true, applied: 43, ..Hello::default() }
    }

    #[test]
    fn who_is_silent_damaged_or_empty_is_named_with_what_to_do() {
        let said =
            |heard: &[(Place, Hello)]| words(1, &whole(), &heard.iter().cloned().collect(), &[1, 2, 3]);
        let damaged = Hello { damaged: true, ..Hello::default() };
        assert!(said(&[]).contains("Nodes 2 and 3 do not answer"), "{}", said(&[]));
        assert!(!said(&[]).contains("repair"), "who is only silent may come back");
        let one = said(&[(2, damaged.clone())]);
        assert!(
            one.contains("Node 2 cannot use its store") && one.contains("Node 3 does not answer"),
            "{one}"
        );
        assert!(!one.contains("repair"), "node 3 may be whole: {one}");
        let lost = said(&[(2, damaged), (3, Hello::default())]);
        assert!(
            lost.contains("Node 3 has an empty store") && lost.contains("`relevo store repair`"),
            "{lost}"
        );
    }

    #[test]
    fn it_is_said_after_five_seconds_and_once_a_minute() {
        let due: Vec<u32> = (0..130).filter(|n| is_due(*n)).collect();
        assert_eq!(due, [5, 65, 125]);
    }
}
