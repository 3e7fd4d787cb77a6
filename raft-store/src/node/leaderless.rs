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

/// All answer, and those that can say how far they reach are a majority ([`super::doubt`]).
const SETTLING: &str = " Nobody has to come: the node that reaches furthest begins the cluster anew with its state by itself, \
                        within a few seconds. Only if this is said once more, a minute later, see `relevo store check` on \
                        each node";
/// They may be a majority when the silent ones are back.
const WAITING: &str = " As soon as all of them answer, the node that reaches furthest begins the cluster anew by itself. Only \
                       if a silent one is gone for good a person is needed: `relevo store check` on each node says up to \
                       where it goes, and `relevo store repair` on the one that has most begins from it";
/// Too many have lost what they are known to have promised.
const NEEDS_A_PERSON: &str = " What is whole is less than a majority, and cannot know whether it is the newest: nothing more \
                              happens by itself. `relevo store check` on each node says up to where it goes, and `relevo \
                              store repair` on the one that has most begins from it";

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
    if own.initialized && !silent.is_empty() && silent.len() == others().count() {
        let named: Vec<String> = silent.iter().map(|p| format!("--i-have-fenced {p}")).collect();
        let they = if silent.len() == 1 { "it is" } else { "they are" };
        let _ = write!(
            out,
            " Only if {they} gone for good a person is needed: cut the power there, then here `relevo promote {}`.",
            named.join(" ")
        );
    }
    let here = whole.len() + usize::from(own.initialized);
    let reaches = those(&|h| h.is_some_and(|h| h.reach.is_some())).len() + usize::from(own.reach.is_some());
    if here + silent.len() < need {
        out += match reaches + silent.len() >= need {
            true if silent.is_empty() => SETTLING,
            true => WAITING,
            false if here > 0 => NEEDS_A_PERSON,
            false => "",
        };
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
        assert!(said(&[]).contains("`relevo promote --i-have-fenced 2 --i-have-fenced 3`"), "{}", said(&[]));
        let one = said(&[(2, damaged.clone())]);
        assert!(
            one.contains("Node 2 cannot use its store") && one.contains("Node 3 does not answer"),
            "{one}"
        );
        assert!(!one.contains("promote"), "one of them answers: {one}");
        assert!(!one.contains("repair"), "node 3 may be whole: {one}");
        let lost = said(&[(2, damaged), (3, Hello::default())]);
        assert!(
            lost.contains("Node 3 has an empty store") && lost.contains("`relevo store repair`"),
            "{lost}"
        );
    }

    #[test]
    fn where_the_nodes_settle_it_by_themselves_no_person_is_called() {
        use super::super::doubt::Reach;
        let reach = Reach { term: 3, index: 12, doubtful: true, promised: None, proven: false };
        let doubtful = Hello { damaged: true, reach: Some(reach), ..Hello::default() };
        let own = Hello { reach: Some(Reach { doubtful: false, ..reach }), ..whole() };
        let said = |heard: &[(Place, Hello)]| words(1, &own, &heard.iter().cloned().collect(), &[1, 2, 3]);
        let all = said(&[(2, doubtful.clone()), (3, doubtful.clone())]);
        assert!(all.contains("Nobody has to come") && !all.contains("repair"), "{all}");
        let proven = Hello { damaged: true, ..Hello::default() };
        let two = said(&[(2, doubtful), (3, proven.clone())]);
        assert!(two.contains("Nobody has to come") && !two.contains("repair"), "{two}");
        let one = said(&[(2, proven.clone()), (3, proven)]);
        assert!(one.contains("nothing more happens by itself") && one.contains("repair"), "{one}");
    }

    #[test]
    fn it_is_said_after_five_seconds_and_once_a_minute() {
        let due: Vec<u32> = (0..130).filter(|n| is_due(*n)).collect();
        assert_eq!(due, [5, 65, 125]);
    }
}
