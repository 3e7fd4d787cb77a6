//! What can be asked about the members of the cluster, the list of them as JSON, and where file and membership differ.
//!
//! `{"command":"members","ask":{"remove":{"node":3}}}`.

use std::net::SocketAddr;

use raft_store::node::members::{Done, Listed, Listing};
use raft_store::node::{self, place_of};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::{Config, Role};

/// One question or change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// All members.
    List {},
    /// One node more.
    Add {
        /// The newcomer.
        new: New,
    },
    /// One node less.
    Remove {
        /// Which.
        node: u16,
    },
    /// One node in the place of another.
    Replace {
        /// Which goes.
        node: u16,
        /// The newcomer.
        new: New,
    },
}

/// A node that is to be taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct New {
    /// Its id.
    pub node: u16,
    /// Where it listens for the other nodes; as in the configuration of the node that is asked, if absent.
    #[serde(default)]
    pub addr: Option<SocketAddr>,
    /// Whether it is a witness; as in that configuration, or as the node that it replaces, if absent.
    #[serde(default)]
    pub witness: Option<bool>,
    /// How long it may take to catch up (s).
    #[serde(default)]
    pub wait_s: Option<u32>,
    /// It may have an id from which a node was removed.
    #[serde(default)]
    pub again: bool,
}

/// Something in which the configuration file of this node and the membership differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// What, and what comes of it.
    pub what: String,
    /// What mends it.
    pub cure: String,
}

fn word(role: node::Role) -> &'static str {
    match role {
        node::Role::Appliance => "appliance",
        node::Role::Witness => "witness",
    }
}

/// Where the configuration of this node and the membership differ.
#[must_use]
pub fn drift(config: &Config, listing: &Listing) -> Vec<Drift> {
    // Before there is a membership nothing can differ.
    if listing.members.is_empty() || !config.is_cluster() {
        return Vec::new();
    }
    let file =
        config.file.as_ref().map_or_else(|| String::from("the configuration"), |f| f.display().to_string());
    let mut all = Vec::new();
    for m in &config.nodes {
        match listing.of(m.id) {
            None if listing.removed.contains(&m.id) => all.push(Drift {
                what: format!("node {} is in {file}, and was removed from the cluster", m.id),
                cure: String::from("take it out of [[cluster.node]] on all nodes"),
            }),
            None => all.push(Drift {
                what: format!("node {} is in {file}, and is no member: it does not vote", m.id),
                cure: format!(
                    "start it, then relevo members add {0} (or replace OLD {0}); or take it out of [[cluster.node]]",
                    m.id
                ),
            }),
            Some(member) if (member.member.role == node::Role::Witness) != (m.role == Role::Witness) => {
                all.push(Drift {
                    what: format!(
                        "node {} is {} in {file}, and {} in the membership",
                        m.id,
                        m.role.word(),
                        word(member.member.role)
                    ),
                    cure: String::from("correct [[cluster.node]] role: it says who may hold the service"),
                });
            }
            Some(_) => {}
        }
    }
    for member in listing.members.iter().filter(|m| !config.nodes.iter().any(|known| known.id == m.place)) {
        let does = if member.standing.votes() { "votes" } else { "is being taken in" };
        all.push(Drift {
            what: format!("node {} {does}, and is not in {file}", member.place),
            cure: format!(
                "if it is gone for good: relevo members remove {}; else add it to [[cluster.node]] on all nodes",
                member.place
            ),
        });
    }
    all
}

/// How many losses are borne, in words.
#[must_use]
pub fn losses_words(losses: Option<usize>) -> String {
    match losses {
        None => String::from("no majority is heard: there is no service"),
        Some(0) => String::from("no loss is borne: the next one ends the service"),
        Some(1) => String::from("1 loss is borne"),
        Some(n) => format!("{n} losses are borne"),
    }
}

fn drift_values(config: &Config, listing: &Listing) -> Vec<Value> {
    drift(config, listing).iter().map(|d| json!({ "what": d.what, "cure": d.cure })).collect()
}

/// Who votes, how many have to agree, and where file and membership differ: for `relevo status`.
#[must_use]
pub fn summary(config: &Config, listing: &Listing) -> Value {
    let mut voters: Vec<u16> =
        listing.members.iter().filter(|m| m.standing.votes()).map(|m| m.place).collect();
    voters.dedup();
    json!({
        "voters": voters,
        "majority": listing.majority(),
        "reached": listing.members.iter().filter(|m| m.standing.votes() && m.reached).count(),
        "losses": listing.losses(),
        "losses_words": losses_words(listing.losses()),
        "changing": listing.sets.len() > 1,
        "outside": listing.outside,
        "removed": listing.removed,
        "drift": drift_values(config, listing),
    })
}

/// The list as JSON. `holder`: who holds the service.
#[must_use]
pub fn list(config: &Config, listing: &Listing, holder: Option<u16>) -> Value {
    let one = |m: &Listed| {
        json!({
            "node": m.place,
            "raft_id": m.id,
            "role": word(m.member.role),
            "addr": m.member.addr.to_string(),
            "standing": m.standing.word(),
            "votes": m.standing.votes(),
            "reached": m.reached,
            "heard_ms": m.heard.map(|age| age.as_millis() as u64),
            "behind": m.behind,
            "this": m.place == config.id,
            "leads": listing.leader == Some(m.place),
            "holds": holder == Some(m.place),
        })
    };
    let mut out = summary(config, listing);
    out["members"] = listing.members.iter().map(one).collect();
    out
}

/// What was done, as JSON. `file` and `nodes` say whether the operator has to go on with the configuration.
#[must_use]
pub fn done(done: &Done, what: &str) -> Value {
    let voters: Vec<u16> = done.voters.iter().map(|id| place_of(*id)).collect();
    json!({
        "done": what,
        "voters": voters,
        "silent": done.silent(),
        "losses": done.losses(),
        "losses_words": losses_words(Some(done.losses())),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use raft_store::node::Member;
    use raft_store::node::members::Standing;

    use super::*;

    fn config(nodes: &[(u16, Role)]) -> Config {
        let mut config = Config::embedded(Path::new("/tmp/none"));
        let member = |(id, role): &(u16, Role)| crate::config::Member {
            id: *id,
            role: *role,
            addr: SocketAddr::from(([10, 77, 0, 1], 7400 + id)),
        };
        config.nodes = nodes.iter().map(member).collect();
        config
    }

    fn listing(members: &[(u16, node::Role)]) -> Listing {
        let one = |(place, role): &(u16, node::Role)| Listed {
            place: *place,
            id: u64::from(*place),
            member: Member { addr: SocketAddr::from(([10, 77, 0, 1], 7400 + place)), role: *role },
            standing: Standing::Voter,
            heard: None,
            reached: *place != 3,
            behind: None,
        };
        let sets = vec![members.iter().map(|(place, _)| u64::from(*place)).collect()];
        Listing { members: members.iter().map(one).collect(), sets, ..Listing::default() }
    }

    #[test]
    fn a_node_in_the_file_that_is_no_member_and_a_voter_that_is_in_no_file_are_named_with_their_cures() {
        use node::Role::{Appliance, Witness};
        let file = config(&[(1, Role::Appliance), (2, Role::Appliance), (4, Role::Witness)]);
        let known = listing(&[(1, Appliance), (2, Appliance), (3, Witness)]);
        let all = drift(&file, &known);
        let said: Vec<String> = all.iter().map(|d| format!("{}: {}", d.what, d.cure)).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("node 4 is in") && said[0].contains("relevo members add 4"), "{said:?}");
        assert!(said[1].contains("node 3 votes") && said[1].contains("relevo members remove 3"), "{said:?}");
        assert_eq!(drift(&file, &Listing::default()), [], "before there is a membership");
        let same = listing(&[(1, Appliance), (2, Witness), (4, Witness)]);
        let roles = drift(&file, &same);
        assert!(roles.len() == 1 && roles[0].what.contains("appliance in"), "{roles:?}");
        let gone = Listing { removed: [4].into(), ..listing(&[(1, Appliance), (2, Appliance)]) };
        assert!(drift(&file, &gone)[0].what.contains("was removed"));
    }

    #[test]
    fn the_summary_says_who_votes_and_how_many_losses_are_borne() {
        use node::Role::Appliance;
        let file = config(&[(1, Role::Appliance), (2, Role::Appliance), (3, Role::Appliance)]);
        let v = summary(&file, &listing(&[(1, Appliance), (2, Appliance), (3, Appliance)]));
        assert_eq!((&v["voters"], &v["majority"], &v["losses"]), (&json!([1, 2, 3]), &json!(2), &json!(0)));
        assert!(v["losses_words"].as_str().is_some_and(|w| w.contains("next one ends the service")));
    }
}
