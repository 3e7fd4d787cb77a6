//! Which node may be given the service next, after whom, and why: the order of [`crate::control`], for people.

use serde_json::{Value, json};

use crate::control::{Fitness, Place};

/// What is known of a node.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Which.
    pub place: Place,
    /// It is an appliance; a witness holds nothing.
    pub appliance: bool,
    /// It is this one, or has answered a moment ago.
    pub answers: bool,
    /// It is being taken in, and does not vote.
    pub learns: bool,
    /// What ails it.
    pub fitness: Fitness,
}

impl Known {
    /// What keeps it from being named now.
    fn bar(&self, holder: Option<Place>, paused: bool) -> Option<&'static str> {
        let rows = [
            (!self.appliance, "it is a witness, which holds nothing"),
            (!self.answers, "it does not answer"),
            (self.learns, "it is being taken in, and does not vote yet"),
            (paused && holder.is_some_and(|h| h != self.place), "automatic takeover is paused"),
        ];
        rows.into_iter().find(|(bars, _)| *bars).map(|(_, why)| why)
    }
}

/// All nodes, appliances first and the fittest of them first; `nodes` is in the order of the configuration, which decides
/// among equals.
#[must_use]
pub fn list(nodes: &[Known], holder: Option<Place>, paused: bool) -> Vec<Value> {
    let mut sorted: Vec<&Known> = nodes.iter().collect();
    // Stable: of equals the order of the configuration.
    sorted.sort_by_key(|k| (!k.appliance, k.fitness));
    let mut before: Vec<Place> = Vec::new();
    let mut all = Vec::new();
    for (rank, known) in sorted.into_iter().enumerate() {
        let holds = holder == Some(known.place);
        let bar = known.bar(holder, paused);
        let ailments: Vec<&str> = known.fitness.ailments().map(|a| a.meaning()).collect();
        let reasons: Vec<String> = known.fitness.ailments().map(|a| a.to_string()).collect();
        let place = match bar {
            _ if holds => String::from("holds the service"),
            Some(why) => format!("is not named: {why}"),
            None if before.is_empty() => String::from("may be named next"),
            None => {
                let names: Vec<String> = before.iter().map(|p| format!("node {p}")).collect();
                format!("may be named after {}", names.join(" and "))
            }
        };
        let words = match ailments.is_empty() {
            true => place,
            false => format!("{place}; {}", ailments.join(", ")),
        };
        all.push(json!({
            "node": known.place,
            "rank": known.appliance.then_some(rank + 1),
            "reasons": reasons,
            "may_be_named": bar.is_none(),
            "after": if bar.is_none() && !holds { before.clone() } else { Vec::new() },
            "words": words,
        }));
        if bar.is_none() && !holds {
            before.push(known.place);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Ailment;

    fn known(place: Place, fitness: Fitness) -> Known {
        Known { place, appliance: true, answers: true, learns: false, fitness }
    }

    fn words(nodes: &[Known], paused: bool) -> Vec<String> {
        let said = |v: &Value| format!("{} {}", v["node"], v["words"].as_str().unwrap_or_default());
        list(nodes, Some(1), paused).iter().map(said).collect()
    }

    #[test]
    fn each_node_is_told_whether_it_may_be_named_after_whom_and_why() {
        let drained = Fitness::FIT.with(Ailment::Drained);
        let full = Fitness::FIT.with(Ailment::Full);
        let mut nodes = [
            known(1, full),
            known(2, drained),
            known(3, Fitness::FIT),
            known(4, Fitness::FIT),
            known(9, Fitness::FIT),
        ];
        nodes[3].answers = false;
        nodes[4].appliance = false;
        assert_eq!(
            words(&nodes, false),
            [
                "3 may be named next",
                "4 is not named: it does not answer",
                "1 holds the service; its disk has little room left",
                "2 may be named after node 3; it is drained",
                "9 is not named: it is a witness, which holds nothing",
            ]
        );
        assert_eq!(list(&nodes, Some(1), false)[3]["after"], json!([3]));
        let paused = words(&nodes, true);
        assert_eq!(paused[0], "3 is not named: automatic takeover is paused");
        assert_eq!(paused[2], "1 holds the service; its disk has little room left");
        nodes[2].learns = true;
        assert_eq!(
            words(&nodes, false)[3],
            "2 may be named next; it is drained",
            "the lowest serves when it is the last"
        );
    }
}
